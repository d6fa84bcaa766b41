//! The commands about data sets.

mod check;
mod convert;
mod make;
mod stats;

use std::path::PathBuf;

use anyhow::Result;

use crate::context::Context;

pub(crate) use make::make;

#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Counts and sizes of images
    Stats(stats::Args),
    /// What is wrong with a data set: broken files, duplicates, wrong labels, outliers, leaks. Nothing is changed
    Check(check::Args),
    /// Write an official archive (CASIA-HWDB's .gnt, MNIST's IDX, CIFAR's binary version) as folders of PNG images
    Convert(convert::Args),
    /// Generate handwriting: 55 characters, train and test by different writers
    Make {
        /// Folder to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Share of the lecture's number of images per class, in (0, 1]
        #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
        scale: f64,
    },
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    match args {
        Args::Stats(args) => stats::stats(args, context),
        Args::Check(args) => check::check(args, context),
        Args::Convert(args) => convert::convert(args, context),
        Args::Make { out, scale } => {
            make(out, *scale, context)?;
            out!("{}", out.display())?;
            Ok(())
        }
    }
}
