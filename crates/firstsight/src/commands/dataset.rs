use std::path::{Path, PathBuf};

use anyhow::Result;
use firstsight_data::{DatasetFolder, ImageFolder};
use serde::Serialize;

use crate::context::Context;

#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Counts and sizes of an image folder
    Stats {
        /// Folder of images
        #[arg(value_name = "DIR")]
        data: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
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
        Args::Stats { data, json } => stats(data, *json),
        Args::Make { out, scale } => {
            make(out, *scale, context)?;
            println!("{}", out.display());
            Ok(())
        }
    }
}

/// Draws the handwriting into `out`, unless it is there already.
pub(crate) fn make(out: &Path, scale: f64, context: &Context) -> Result<()> {
    let settings = firstsight_handwriting::Settings { seed: context.seed, scale };
    context
        .runtime
        .counted("drawing characters", |report| firstsight_handwriting::generate(out, &settings, report))?;
    Ok(())
}

#[derive(Serialize)]
struct Stats {
    classes: Vec<String>,
    splits: Vec<SplitStats>,
}

#[derive(Serialize)]
struct SplitStats {
    split: &'static str,
    n: usize,
    per_class: Vec<usize>,
    height: Extent,
    width: Extent,
    skipped: Vec<PathBuf>,
}

/// Pixels.
#[derive(Serialize)]
struct Extent {
    min: u32,
    median: u32,
    max: u32,
}

impl Extent {
    fn of(mut sizes: Vec<u32>) -> Self {
        sizes.sort_unstable();
        let at = |i: usize| sizes.get(i).copied().unwrap_or(0);
        Self { min: at(0), median: at(sizes.len() / 2), max: at(sizes.len().saturating_sub(1)) }
    }
}

fn stats(data: &Path, json: bool) -> Result<()> {
    let dataset = DatasetFolder::scan(data)?;
    let classes = dataset.train.classes().to_vec();
    let folders = [("train", Some(dataset.train)), ("val", dataset.val), ("test", dataset.test)];
    let mut splits = Vec::new();
    for (name, folder) in folders {
        if let Some(folder) = folder {
            splits.push(split_stats(name, &folder)?);
        }
    }
    let stats = Stats { classes, splits };
    if json {
        println!("{}", serde_json::to_string_pretty(&stats)?);
        return Ok(());
    }
    println!("{}: {} classes", data.display(), stats.classes.len());
    for s in &stats.splits {
        let Extent { min, median, max } = s.height;
        println!(
            "{}: {} images, height {min} to {max} (median {median}), width {} to {} (median {})",
            s.split, s.n, s.width.min, s.width.max, s.width.median
        );
        for path in &s.skipped {
            println!("  skipped {}", path.display());
        }
    }
    let header: Vec<&str> = stats.splits.iter().map(|s| s.split).collect();
    println!("class\t{}", header.join("\t"));
    for (i, class) in stats.classes.iter().enumerate() {
        let counts: Vec<String> = stats.splits.iter().map(|s| s.per_class[i].to_string()).collect();
        println!("{class}\t{}", counts.join("\t"));
    }
    Ok(())
}

fn split_stats(split: &'static str, folder: &ImageFolder) -> Result<SplitStats> {
    let sizes = folder.dimensions()?;
    Ok(SplitStats {
        split,
        n: folder.len(),
        per_class: folder.counts(),
        height: Extent::of(sizes.iter().map(|size| size.1).collect()),
        width: Extent::of(sizes.iter().map(|size| size.0).collect()),
        skipped: folder.skipped().iter().map(|skipped| skipped.path.clone()).collect(),
    })
}
