//! A program that offers the commands of `firstsight` and says the seed first.

use std::process::ExitCode;

use firstsight::{Command, Program};

fn main() -> ExitCode {
    firstsight::main_with::<Command>(&Program::INSTALLED, |command, context| {
        eprintln!("seed {}", context.seed);
        command.run(context)
    })
}
