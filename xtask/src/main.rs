//! Firstsight inside a clone: every command of `firstsight`, and those for developers. `cargo xtask help` lists them.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bench;

use std::path::PathBuf;
use std::process::ExitCode;

use firstsight::Program;

/// A command.
#[derive(Debug, clap::Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one is made in a process")]
enum Command {
    #[command(flatten)]
    Product(firstsight::Command),
    /// Time the training steps and forward passes of six networks, compared with PyTorch where a Python with torch is given
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let program = Program { name: "cargo xtask", workspace: Some(workspace()) };
    firstsight::main_with::<Command>(&program, |command, context| match command {
        Command::Product(command) => command.run(context),
        Command::Bench(args) => bench::run(args, context),
    })
}

/// The workspace, by cargo's variable for the package that runs; else the current folder.
fn workspace() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .and_then(|package| PathBuf::from(package).parent().map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("."))
}
