//! The command line as inside a clone, for tests: cargo gives them the path of their own package's binaries only.

use std::path::PathBuf;
use std::process::ExitCode;

use firstsight::{Command, Program};

fn main() -> ExitCode {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let workspace = package.and_then(|package| package.parent().map(PathBuf::from));
    let program =
        Program { name: "cargo xtask", workspace: Some(workspace.unwrap_or_else(|| PathBuf::from("."))) };
    firstsight::main_with::<Command>(&program, |command, context| command.run(context))
}
