//! Firstsight inside a clone: every command of `firstsight`, and those for developers. `cargo xtask help` lists them.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod torture;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use firstsight::{Program, say};

/// A command.
#[derive(Debug, clap::Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one is made in a process")]
enum Command {
    #[command(flatten)]
    Product(firstsight::Command),
    /// Time the training steps and forward passes of ten networks, compared with PyTorch where a Python with torch is given
    Bench(bench::Args),
    /// Kill trainings, searches and other commands at random moments, and compare what they leave with undisturbed calls
    Torture(TortureArgs),
}

fn main() -> ExitCode {
    let program = Program { name: "cargo xtask", workspace: Some(workspace()) };
    firstsight::main_with::<Command>(&program, |command, context| match command {
        Command::Product(command) => command.run(context),
        Command::Bench(args) => bench::run(args, context),
        Command::Torture(args) => torture(args),
    })
}

#[derive(Debug, clap::Args)]
struct TortureArgs {
    /// Least number of kills of each command
    #[arg(long, default_value_t = 200, value_name = "N")]
    kills: usize,
    /// Commands whose names contain this
    #[arg(long, default_value = "", value_name = "TEXT")]
    only: String,
    /// Folder to work in, which must not be there [default: target/torture]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Database on a PostgreSQL server, for studies there: postgresql://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, value_name = "ADDRESS")]
    postgresql: Option<String>,
    /// Seed of the moments
    #[arg(long, default_value_t = 1, value_name = "N")]
    kill_seed: u64,
}

fn torture(args: &TortureArgs) -> anyhow::Result<()> {
    let folder = args.folder.clone().unwrap_or_else(|| workspace().join("target/torture"));
    std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    let torture = torture::Torture {
        program: std::env::current_exe()?,
        folder: folder.clone(),
        kills: args.kills,
        seed: args.kill_seed,
        postgresql: args.postgresql.clone(),
    };
    let ended = torture.run(&args.only, &mut |outcome| {
        let torture::Outcome { task, kills, lives, read } = outcome;
        say!("{task}: {kills} kills in {lives} lives, {read} files read after them");
    });
    match ended {
        Ok(()) => Ok(std::fs::remove_dir_all(&folder)?),
        Err(error) => anyhow::bail!("{error} ({} is left)", folder.display()),
    }
}

/// The workspace, by cargo's variable for the package that runs; else the current folder.
fn workspace() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .and_then(|package| PathBuf::from(package).parent().map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("."))
}
