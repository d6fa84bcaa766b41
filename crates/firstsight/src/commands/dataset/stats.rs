//! `dataset stats`.

use std::path::Path;

use anyhow::Result;
use firstsight_data::{Exif, ImageFolder, Skipped};
use firstsight_transfer::Duplicates;
use serde::Serialize;

use crate::{context::Context, data};

#[derive(Serialize)]
struct Stats {
    classes: Vec<String>,
    splits: Vec<SplitStats>,
    /// What lies beside the splits.
    skipped: Vec<LeftOut>,
    remarks: Vec<String>,
    /// Images that are in two splits or have two labels, in words.
    duplicates: Vec<String>,
}

#[derive(Serialize)]
struct SplitStats {
    split: &'static str,
    n: usize,
    per_class: Vec<usize>,
    height: Extent,
    width: Extent,
    unreadable: Vec<LeftOut>,
    skipped: Vec<LeftOut>,
}

/// A file that isn't used.
#[derive(Serialize)]
struct LeftOut {
    path: String,
    reason: String,
}

impl From<&Skipped> for LeftOut {
    fn from(Skipped { path, reason }: &Skipped) -> Self {
        Self { path: path.display().to_string(), reason: reason.to_string() }
    }
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

pub(crate) fn stats(path: &Path, json: bool, context: &Context) -> Result<()> {
    let dataset = data::scan(path, &context.runtime)?;
    let stats = Stats {
        classes: dataset.classes().to_vec(),
        splits: dataset.splits().map(|(name, folder)| split_stats(name, folder)).collect(),
        skipped: dataset.skipped.iter().map(LeftOut::from).collect(),
        remarks: dataset.remarks(),
        duplicates: Duplicates::of(&dataset, &context.runtime).sentences(path),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&stats)?);
        return Ok(());
    }
    println!("{}: {} classes", path.display(), stats.classes.len());
    for s in &stats.splits {
        let Extent { min, median, max } = s.height;
        println!(
            "{}: {} images, height {min} to {max} (median {median}), width {} to {} (median {})",
            s.split, s.n, s.width.min, s.width.max, s.width.median
        );
        for file in &s.unreadable {
            println!("  unreadable: {}", file.reason);
        }
        for file in &s.skipped {
            println!("  skipped {}: {}", file.path, file.reason);
        }
    }
    for file in &stats.skipped {
        println!("skipped {}: {}", file.path, file.reason);
    }
    for sentence in &stats.duplicates {
        println!("{sentence}");
    }
    let header: Vec<&str> = stats.splits.iter().map(|s| s.split).collect();
    println!("class\t{}", header.join("\t"));
    for (i, class) in stats.classes.iter().enumerate() {
        let counts: Vec<String> = stats.splits.iter().map(|s| s.per_class[i].to_string()).collect();
        println!("{class}\t{}", counts.join("\t"));
    }
    Ok(())
}

fn split_stats(split: &'static str, folder: &ImageFolder) -> SplitStats {
    let (mut heights, mut widths, mut unreadable) = (vec![], vec![], vec![]);
    for (sample, dimensions) in folder.samples().iter().zip(folder.each_dimensions(Exif::Apply)) {
        match dimensions {
            Ok((width, height)) => {
                heights.push(height);
                widths.push(width);
            }
            Err(error) => unreadable
                .push(LeftOut { path: sample.path.display().to_string(), reason: error.to_string() }),
        }
    }
    SplitStats {
        split,
        n: folder.len(),
        per_class: folder.counts(),
        height: Extent::of(heights),
        width: Extent::of(widths),
        unreadable,
        skipped: folder.skipped().iter().map(LeftOut::from).collect(),
    }
}
