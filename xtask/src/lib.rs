//! Firstsight's command line and the lecture. `cargo xtask help` lists the commands.

mod augmentation;
mod bench;
mod cli;
mod commands;
mod device;
mod env;
mod files;
mod fine_tuning;
mod fine_tuning_page;
mod hub;
mod images;
mod interrupt;
mod json;
mod lecture;
mod network;
mod pages;
mod process;
mod progress;
mod run;
mod search_pages;
mod training;
mod values;
mod visualization;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::interrupt::Interrupted;

/// Reads the arguments, runs the command and says how it went: 0, 2 for bad input, 1 for output that could not be
/// written, 130 after Ctrl-C.
pub fn main() -> ExitCode {
    process::end_quietly_with_the_reader();
    process::keep_what_is_freed();
    process::let_candle_s_threads_rest();
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
            eprintln!("error: {}", describe(&error));
            exit_code(&error)
        }
    }
}

/// The error and its causes, each said once: a library's message may hold its cause's already.
fn describe(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Interrupted>() {
        ExitCode::from(130)
    } else if error.chain().any(is_about_output) {
        ExitCode::from(1)
    } else {
        ExitCode::from(2)
    }
}

/// Whether the cause is a place that can't be written to: a full disk, a read-only one, a limit.
fn is_about_output(cause: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull, WriteZero};
    let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    cause.is::<files::Unwritable>()
        || matches!(kind, Some(FileTooLarge | QuotaExceeded | ReadOnlyFilesystem | StorageFull | WriteZero))
}
