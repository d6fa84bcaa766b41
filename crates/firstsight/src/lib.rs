#![doc = include_str!("../README.md")]
// Output may be full or closed, which `println!` and `eprintln!` answer by a panic: `stdio` has the ways to print.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
pub mod stdio;

mod answers;
mod augmentation;
mod cli;
mod commands;
mod context;
mod data;
pub mod device;
mod exit;
mod hub;
mod interrupt;
mod json;
mod logs;
mod memory;
mod network;
mod output;
mod process;
mod processes;
mod progress;
mod reading;
mod splitting;
pub mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, FromArgMatches as _, Subcommand};
use firstsight_train::{Alone, Communicator};
use firstsight_transfer::Smaller;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

pub use cli::{Command, Program};
pub use context::Context;

/// Runs the command `firstsight`: reads the arguments, runs a command and says how it went.
///
/// The exit code is 0 where the work is done, 1 where the machine failed it, 2 for wrong arguments or data, 130 after Ctrl-C.
pub fn main() -> ExitCode {
    main_with::<Command>(&Program::INSTALLED, |command, context| command.run(context))
}

/// As [`main`], with these arguments, the first of which names the program. Returns the exit code. For programs that have the
/// command within them; once in a process.
pub fn main_from(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    code_of::<Command>(&Program::INSTALLED, arguments, |command, context| command.run(context))
}

/// Runs a program whose commands are `C`, as [`main`] does with [`Command`]. To be called first in the program's own `main`: a
/// variable of the environment is set, which no other thread may read at that time.
pub fn main_with<C: Subcommand>(program: &Program, run: impl FnOnce(&C, &Context) -> Result<()>) -> ExitCode {
    process::limit_candle_spin();
    ExitCode::from(code_of(program, std::env::args_os(), run))
}

fn code_of<C: Subcommand>(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
    run: impl FnOnce(&C, &Context) -> Result<()>,
) -> u8 {
    process::tune_glibc_malloc();
    if let Err(error) = firstsight_transfer::register_networks() {
        log!("error: {error}");
        return exit::FAILED;
    }
    let command = with_negative_numbers(cli::Args::<C>::command());
    let command = command.name(program.name).bin_name(program.name);
    let parsed = command.clone().try_get_matches_from(arguments);
    let parsed = parsed.and_then(|found| cli::Args::<C>::from_arg_matches(&found));
    let args = match parsed {
        Ok(args) => args,
        Err(error) => return without_work(&error),
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
    let log = tracing_subscriber::fmt::layer().with_writer(|| stdio::Log).with_target(false);
    tracing_subscriber::registry().with(log.with_filter(filter)).init();
    let end = |communicator: &dyn Communicator, error: &anyhow::Error| {
        let (code, speaks) = exit::code(error);
        processes::end_all(communicator, speaks.then(|| describe(error)).as_deref(), code)
    };
    let context = match args.common.context(program, command) {
        Ok(context) => context,
        Err(error) => return end(&Alone, &error),
    };
    match run(&args.command, &context).and_then(|()| Ok(stdio::check_said()?)) {
        Ok(()) => 0,
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

/// Prints help or the version, or what is wrong with the arguments.
fn without_work(parsed: &clap::Error) -> u8 {
    let text = parsed.render();
    if parsed.use_stderr() {
        log!("{}", text.to_string().trim_end());
        return exit::WRONG;
    }
    let Err(error) = stdio::write(text.to_string().as_bytes()).map_err(anyhow::Error::from) else {
        return 0;
    };
    let (code, speaks) = exit::code(&error);
    if speaks {
        log!("error: {error}");
    }
    code
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
