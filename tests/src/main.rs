//! The command line as inside a clone, for tests: cargo gives them the path of their own package's binaries only.

use std::path::PathBuf;
use std::process::ExitCode;

use firstsight::{Command, Program};
use firstsight_models::{Error, ModelInfo, registry};

/// A network that cannot be built: every training of it fails.
static UNBUILDABLE: ModelInfo = ModelInfo::new("unbuildable", |_| {
    Err(Error::Setting { model: "unbuildable", rule: "it is never built", found: "an attempt".to_owned() })
});

fn main() -> ExitCode {
    if std::env::var_os("FIRSTSIGHT_TESTS_UNBUILDABLE").is_some() && registry::register(&UNBUILDABLE).is_err()
    {
        return ExitCode::FAILURE;
    }
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let workspace = package.and_then(|package| package.parent().map(PathBuf::from));
    let program =
        Program { name: "cargo xtask", workspace: Some(workspace.unwrap_or_else(|| PathBuf::from("."))) };
    firstsight::main_with::<Command>(&program, |command, context| command.run(context))
}
