//! `dataset stats`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use firstsight_data::{DatasetFolder, ImageFolder};
use serde::Serialize;

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

pub(crate) fn stats(data: &Path, json: bool) -> Result<()> {
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
