#![doc = include_str!("../README.md")]

mod answers;
mod augmentation;
mod cli;
mod commands;
mod context;
mod data;
pub mod device;
mod hub;
mod interrupt;
mod json;
mod memory;
mod network;
mod output;
mod process;
mod processes;
mod progress;
mod reading;
mod splitting;
pub mod values;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, FromArgMatches as _, Subcommand};
use firstsight_train::{Alone, Communicator};
use firstsight_transfer::{Interrupted, Smaller, WriteError};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

pub use cli::{Command, Program};
pub use context::Context;

/// Runs the command `firstsight`: reads the arguments, runs a command and says how it went.
///
/// The exit code is 0, 2 for bad input, 1 for files left out because they could not be read, for classes that `dataset check` finds
/// unfit or for output that could not be written, 130 after Ctrl-C.
pub fn main() -> ExitCode {
    main_with::<Command>(&Program::INSTALLED, |command, context| command.run(context))
}

/// Runs a program whose commands are `C`, as [`main`] does with [`Command`].
pub fn main_with<C: Subcommand>(program: &Program, run: impl FnOnce(&C, &Context) -> Result<()>) -> ExitCode {
    process::reset_sigpipe();
    process::tune_glibc_malloc();
    process::limit_candle_spin();
    if let Err(error) = firstsight_transfer::register_networks() {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    let command = with_negative_numbers(cli::Args::<C>::command());
    let command = command.name(program.name).bin_name(program.name);
    let args = match cli::Args::<C>::from_arg_matches(&command.clone().get_matches()) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    let filter = std::env::var("RUST_LOG").ok().and_then(|directives| directives.parse().ok());
    // `tune` itself says how each trial ended.
    let usual = || {
        Targets::new()
            .with_default(LevelFilter::WARN)
            .with_target("firstsight_hpo::outcomes", LevelFilter::OFF)
            .with_target("firstsight_hpo::waiting", LevelFilter::INFO)
    };
    let filter: Targets = filter.unwrap_or_else(usual);
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    tracing_subscriber::registry().with(log.with_filter(filter)).init();
    let end = |communicator: &dyn Communicator, error: &anyhow::Error| {
        processes::end_all(communicator, &describe(error), exit_code(error))
    };
    let context = match args.common.context(program, command) {
        Ok(context) => context,
        Err(error) => return end(&Alone, &error),
    };
    match run(&args.command, &context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&*context.runtime.communicator, &error),
    }
}

/// A command whose options take negative numbers, so that the message is about the number, not about an unknown option.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| match arg.get_action().takes_values() && !arg.is_positional() {
            true => arg.allow_negative_numbers(true),
            false => arg,
        })
        .mut_subcommands(with_negative_numbers)
}

/// The error and its causes, each once: a library's message may contain its cause's.
fn describe(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    let smaller = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(firstsight_transfer::Error::Memory { smaller, .. }) => Some(*smaller),
        _ => None,
    });
    text.push_str(match smaller {
        Some(Smaller::Batch) => " (`--batch-size`, `--input`)",
        Some(Smaller::DataSet) | None => "",
    });
    text
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Interrupted>()) {
        130
    } else if error.is::<reading::SomeUnreadable>()
        || error.is::<reading::UnfitClasses>()
        || error.chain().any(is_about_output)
    {
        1
    } else {
        2
    }
}

/// Whether the cause is an output that cannot be written: a full or read-only disk, a quota.
fn is_about_output(cause: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull, WriteZero};
    let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    cause.is::<WriteError>()
        || matches!(kind, Some(FileTooLarge | QuotaExceeded | ReadOnlyFilesystem | StorageFull | WriteZero))
}
