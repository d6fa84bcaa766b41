//! The arguments as typed; each command resolves its own.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::commands;
use crate::device::{self, DeviceKind};
use crate::env::Env;
use crate::interrupt::CtrlC;
use crate::lecture;

/// Image classification in Rust on candle: the lecture, training, evaluation, prediction.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// cpu, cuda or metal [default: the best one built in]
    #[arg(long, global = true, value_name = "DEVICE")]
    device: Option<DeviceKind>,
    /// Seed of initial weights, shuffling and generated data
    #[arg(long, global = true, default_value_t = 123, value_name = "N")]
    pub(crate) seed: u64,
    /// Where decoded images are kept between runs [default: datasets/cache of the workspace]
    #[arg(long, global = true, value_name = "DIR")]
    cache: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the lecture and write it as one report
    ReproduceLecture(lecture::Args),
    /// Print a model's layers, output shapes and parameters
    Summary(commands::summary::Args),
    /// Train a model from scratch on a folder of images
    Train(commands::train::Args),
    /// Fine-tune a pretrained network on a folder of images
    FineTune(commands::fine_tune::Args),
    /// Measure a run on a split: loss, top-1, top-5, per class
    Evaluate(commands::evaluate::Args),
    /// Label images with probabilities
    Predict(commands::predict::Args),
    /// Draw what a network's layers see
    Visualize(commands::visualize::Args),
    /// Search for a good learning rate, batch size and model
    Tune(commands::tune::Args),
    /// Count, measure and make data sets
    #[command(subcommand)]
    Dataset(commands::dataset::Args),
    /// Time the steps of six networks, beside PyTorch where a Python with torch is given
    Bench(commands::bench::Args),
}

pub(crate) fn run(args: Args) -> Result<()> {
    let datasets = workspace().join("datasets");
    let env = Env {
        device: device::open(args.common.device)?,
        seed: args.common.seed,
        cache: args.common.cache.unwrap_or_else(|| datasets.join("cache")),
        datasets,
        ctrl_c: CtrlC::install()?,
    };
    match args.command {
        Command::ReproduceLecture(args) => lecture::run(&args, &env),
        Command::Summary(args) => commands::summary::run(&args, &env),
        Command::Train(args) => commands::train::run(&args, &env),
        Command::FineTune(args) => commands::fine_tune::run(&args, &env),
        Command::Evaluate(args) => commands::evaluate::run(&args, &env),
        Command::Predict(args) => commands::predict::run(&args, &env),
        Command::Visualize(args) => commands::visualize::run(&args, &env),
        Command::Tune(args) => commands::tune::run(&args, &env),
        Command::Dataset(args) => commands::dataset::run(&args, &env),
        Command::Bench(args) => commands::bench::run(&args, &env),
    }
}

/// The workspace under `cargo xtask`, else the current folder.
pub(crate) fn workspace() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .and_then(|package| PathBuf::from(package).parent().map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("."))
}
