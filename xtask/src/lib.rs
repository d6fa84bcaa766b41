//! Firstsight's command line and the lecture. `cargo xtask help` lists the commands.

mod cli;
mod commands;
mod device;
mod env;
mod files;
mod images;
mod interrupt;
mod json;
mod lecture;
mod memory;
mod pages;
mod progress;
mod run;
mod training;
mod values;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::interrupt::Interrupted;

/// Reads the arguments, runs the command and says how it went: 0, 2 for bad input, 1 for output that could not be
/// written, 130 after Ctrl-C.
pub fn main() -> ExitCode {
    memory::keep_what_is_freed();
    let args = cli::Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match cli::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            exit_code(&error)
        }
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Interrupted>() {
        ExitCode::from(130)
    } else if error.chain().any(|cause| cause.is::<files::Unwritable>()) {
        ExitCode::from(1)
    } else {
        ExitCode::from(2)
    }
}
