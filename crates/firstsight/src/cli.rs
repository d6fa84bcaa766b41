//! The arguments of all commands; each command resolves its own.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use firstsight_data::CacheFolder;
use firstsight_transfer::Runtime;

use crate::{
    commands,
    context::Context,
    device::{self, DeviceName},
    interrupt, memory, processes, progress, values,
};

/// A program that offers the commands.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name in help and errors.
    pub name: &'static str,
    /// The clone that it works in, whose `datasets` holds data sets and caches. An installed program uses the user's
    /// cache folder.
    pub workspace: Option<PathBuf>,
}

impl Program {
    /// The installed command.
    pub const INSTALLED: Self = Self { name: "firstsight", workspace: None };
}

/// Image classification in Rust on candle: the lecture, training, evaluation, prediction.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Args<C: Subcommand> {
    #[command(subcommand)]
    pub(crate) command: C,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Flags of every command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// Device: cpu, cuda, cuda:N or metal [default: the best one built in]
    #[arg(long, global = true, value_name = "DEVICE")]
    device: Option<DeviceName>,
    /// Seed of initial weights, shuffling and generated data
    #[arg(long, global = true, default_value_t = 123, value_parser = values::seed, value_name = "N")]
    seed: u64,
    /// Number of threads [default: that of the processor]
    #[arg(long, global = true, value_parser = values::threads, value_name = "N")]
    threads: Option<usize>,
    /// Folder for decoded images and generated data [default: the user's cache folder; in a clone, datasets/cache]
    #[arg(long, global = true, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Most bytes that decoded images and features may take in the cache, such as 20GB or 500MB; the longest unused go first
    #[arg(long, global = true, default_value = "20GB", value_parser = values::bytes, value_name = "SIZE")]
    cache_limit: u64,
    /// Keep no decoded images and features: images are decoded whenever they are used
    #[arg(long, global = true)]
    no_cache: bool,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the lecture and write it as one report
    ReproduceLecture(commands::reproduce_lecture::Args),
    /// Print a model's layers, output shapes and parameters
    Summary(commands::summary::Args),
    /// List the models
    Models(commands::models::Args),
    /// Train a model from scratch on a folder of images
    Train(commands::train::Args),
    /// Fine-tune a pretrained network on a folder of images
    FineTune(commands::fine_tune::Args),
    /// Measure a run: loss, accuracy, precision, recall, F1, confusions, calibration
    Evaluate(commands::evaluate::Args),
    /// Show runs beside each other: figures, whether they differ by more than chance, curves
    Compare(commands::compare::Args),
    /// Label images with probabilities
    Predict(commands::predict::Args),
    /// Teach a network by examples on a page, or answer over HTTP with a run's
    Serve(commands::serve::Args),
    /// Write the features of images, for other programs
    Embed(commands::embed::Args),
    /// Write a run as an ONNX file, or check one
    Export(commands::export::Args),
    /// Visualize what a network's layers respond to
    Visualize(commands::visualize::Args),
    /// Search settings of a training or a fine-tuning
    Tune(commands::tune::Args),
    /// Count, measure and make data sets
    #[command(subcommand)]
    Dataset(commands::dataset::Args),
    /// Show the folder of decoded images and features, or empty it
    Cache(commands::cache::Args),
    /// Print the completions of a shell
    Completions(commands::completions::Args),
    /// Print a man page
    Man(commands::completions::ManArgs),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Bad input, or output that cannot be written.
    pub fn run(&self, context: &Context) -> Result<()> {
        let is_shared =
            matches!(self, Self::Train(_) | Self::FineTune(_) | Self::Evaluate(_) | Self::Predict(_));
        if context.runtime.communicator.size() > 1 && !is_shared {
            bail!(
                "train, fine-tune, evaluate and predict share work out among processes; this command runs in one"
            );
        }
        match self {
            Self::ReproduceLecture(args) => commands::reproduce_lecture::run(args, context),
            Self::Summary(args) => commands::summary::run(args, context),
            Self::Models(args) => commands::models::run(args),
            Self::Train(args) => commands::train::run(args, context),
            Self::FineTune(args) => commands::fine_tune::run(args, context),
            Self::Evaluate(args) => commands::evaluate::run(args, context),
            Self::Compare(args) => commands::compare::run(args),
            Self::Predict(args) => commands::predict::run(args, context),
            Self::Serve(args) => commands::serve::run(args, context),
            Self::Embed(args) => commands::embed::run(args, context),
            Self::Export(args) => commands::export::run(args, context),
            Self::Visualize(args) => commands::visualize::run(args, context),
            Self::Tune(args) => commands::tune::run(args, context),
            Self::Dataset(args) => commands::dataset::run(args, context),
            Self::Cache(args) => commands::cache::run(args, context),
            Self::Completions(args) => commands::completions::run(args, context),
            Self::Man(args) => commands::completions::man(args, context),
        }
    }
}

impl Common {
    pub(crate) fn context(self, program: &Program, command: clap::Command) -> Result<Context> {
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        }
        let device = device::open(self.device)?;
        let (datasets, cache) = match (&program.workspace, self.cache) {
            (Some(workspace), cache) => {
                let datasets = workspace.join("datasets");
                let cache = cache.unwrap_or_else(|| datasets.join("cache"));
                (datasets, Some(cache))
            }
            // A user without a home has no cache.
            (None, cache) => match cache.or_else(|| Some(dirs::cache_dir()?.join("firstsight"))) {
                Some(cache) => (cache.join("datasets"), Some(cache.join("images"))),
                None => (PathBuf::from("datasets"), None),
            },
        };
        #[cfg(feature = "cuda-kernels")]
        if let Some(cache) = &cache {
            firstsight_ops::cache_kernels(&cache.with_file_name("cuda-kernels"));
        }
        let name = device::describe(&device);
        let communicator = processes::communicator(&device)?;
        let (terminal, is_root) = (progress::Terminal::default(), communicator.rank() == 0);
        let mut runtime = Runtime::new(device)
            .device_name(name)
            .available_memory(memory::available)
            .interrupt(interrupt::install(is_root)?)
            .communicator(communicator)
            .progress(move |event| {
                if is_root {
                    terminal.show(event);
                }
            });
        runtime.cache = cache
            .filter(|_| !self.no_cache)
            .map(|folder| CacheFolder::new(folder).limit(Some(self.cache_limit)));
        Ok(Context { command, runtime, seed: self.seed, threads: self.threads, datasets })
    }
}
