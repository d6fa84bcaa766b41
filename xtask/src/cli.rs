//! The arguments as typed; each command resolves its own.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use firstsight_models::ModelKind;

use crate::commands;
use crate::device::{self, DeviceKind};
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
    /// Measure a run on a split: loss, top-1, top-5, per class
    Evaluate(commands::evaluate::Args),
    /// Label images with probabilities
    Predict(commands::predict::Args),
    /// Search for a good learning rate, batch size and model
    Tune(commands::tune::Args),
    /// Count, measure and make data sets
    #[command(subcommand)]
    Dataset(commands::dataset::Args),
}

/// What every command runs with.
pub(crate) struct Env {
    pub(crate) device: candle_core::Device,
    pub(crate) seed: u64,
    /// Generated and downloaded data sets.
    pub(crate) datasets: PathBuf,
    /// Decoded images.
    pub(crate) cache: PathBuf,
    pub(crate) ctrl_c: CtrlC,
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
        Command::Evaluate(args) => commands::evaluate::run(&args, &env),
        Command::Predict(args) => commands::predict::run(&args, &env),
        Command::Tune(args) => commands::tune::run(&args, &env),
        Command::Dataset(args) => commands::dataset::run(&args, &env),
    }
}

/// The workspace under `cargo xtask`, else the current folder.
fn workspace() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .and_then(|package| PathBuf::from(package).parent().map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("."))
}

/// Height, width and channels, typed as `HxWxC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InputSize {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl std::str::FromStr for InputSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || format!("'{text}' is not HxWxC, such as 80x60x1");
        let numbers: Vec<usize> =
            text.split('x').map(|n| n.parse().map_err(|_| rule())).collect::<Result<_, _>>()?;
        let [height, width, channels] = numbers[..] else { return Err(rule()) };
        if !(1..=10_000).contains(&height) || !(1..=10_000).contains(&width) {
            return Err(format!("height and width must lie in 1..=10000, found {height} and {width}"));
        }
        if channels != 1 && channels != 3 {
            return Err(format!("channels must be 1 (grey) or 3 (RGB), found {channels}"));
        }
        Ok(Self { height, width, channels })
    }
}

impl std::fmt::Display for InputSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// A whole number of at least 1.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n >= 1 => Ok(n),
        _ => Err(format!("'{text}' is not a whole number of at least 1")),
    }
}

/// A learning rate: above 0 and finite.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err(format!("'{text}' is not a number above 0")),
    }
}

/// A model's name.
pub(crate) fn model(name: &str) -> Result<ModelKind, firstsight_models::Error> {
    name.parse()
}
