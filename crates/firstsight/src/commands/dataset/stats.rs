//! `dataset stats`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use firstsight_data::{DatasetFolder, Exif, ImageFolder, Labels, Reading, Task};
use firstsight_report::number;
use firstsight_transfer::check::{CheckDocument, CheckResult, DataCheck, HeaderCounts, Looker};
use firstsight_transfer::{Duplicates, FileNote};
use serde::Serialize;

use super::check;
use crate::{
    context::Context,
    data::{self, LabelArgs},
    reading::SomeUnreadable,
    stdio::OutputError,
};

#[derive(Serialize)]
struct Stats {
    #[serde(skip)]
    task: Task,
    classes: Vec<String>,
    splits: Vec<SplitStats>,
    /// What lies beside the splits.
    skipped: Vec<FileNote>,
    remarks: Vec<String>,
    /// Images that are in two splits or have two labels, in words.
    duplicates: Vec<String>,
    headers: HeaderCounts,
}

#[derive(Serialize)]
struct SplitStats {
    split: &'static str,
    n: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    per_class: Vec<usize>,
    /// The numbers, of images with a number each.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Values>,
    height: Extent,
    width: Extent,
    unreadable: Vec<FileNote>,
    skipped: Vec<FileNote>,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    stats: &'a Stats,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<CheckDocument<'a>>,
}

/// Numbers of images.
#[derive(Serialize)]
struct Values {
    n: usize,
    min: f32,
    median: f32,
    max: f32,
}

impl Values {
    fn of(folder: &ImageFolder) -> Option<Self> {
        let Labels::Value(values) = folder.targets() else { return None };
        let mut values = values.clone();
        values.sort_by(f32::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { n: values.len(), min, median, max })
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

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images: a folder, a table, Parquet files or tar shards
    #[arg(value_name = "DATA")]
    data: PathBuf,
    #[command(flatten)]
    labels: LabelArgs,
    /// Also decode every file, and name broken ones, copies and what differs between classes: `check --quick`
    #[arg(long)]
    check: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn stats(args: &Args, context: &Context) -> Result<()> {
    let path = &args.data;
    let dataset = data::scan(path, &args.labels, &context.runtime)?;
    let stats = Stats {
        task: dataset.splits().next().map_or(Task::SingleLabel, |(_, folder)| folder.targets().task()),
        classes: dataset.classes().to_vec(),
        splits: dataset.splits().map(|(name, folder)| split_stats(name, folder)).collect(),
        skipped: dataset.skipped.iter().map(FileNote::from).collect(),
        remarks: dataset.remarks(),
        duplicates: Duplicates::of(&dataset, &context.runtime).sentences(&dataset.root),
        headers: HeaderCounts::of(&dataset),
    };
    let checked = args.check.then(|| quick(&dataset, context)).transpose()?;
    let denied = data::denied_folders(dataset.left_out());
    let unreadable: usize = stats.splits.iter().map(|split| split.unreadable.len()).sum();
    let n: usize = stats.splits.iter().map(|split| split.n).sum();
    if args.json {
        let check = checked.as_ref().map(CheckResult::document);
        out!("{}", serde_json::to_string_pretty(&Document { stats: &stats, check })?)?;
    } else {
        stats.print(path)?;
        if let Some(checked) = &checked {
            out!("")?;
            check::print(checked)?;
        }
    }
    match &checked {
        Some(checked) => check::verdict(checked),
        None => SomeUnreadable::check(unreadable + denied, n + denied),
    }
}

/// Decodes everything, without a network.
fn quick(dataset: &DatasetFolder, context: &Context) -> Result<CheckResult> {
    let settings = DataCheck { looker: Looker::None, reading: Reading::viewer(), seed: context.seed };
    Ok(settings.run(dataset, &context.runtime)?)
}

impl Stats {
    fn print(&self, path: &Path) -> Result<(), OutputError> {
        let (path, n) = (path.display(), self.classes.len());
        let label = match self.task {
            Task::SingleLabel => "class",
            Task::MultiLabel => "label",
            Task::Regression => "number",
        };
        match self.task {
            Task::SingleLabel => out!("{path}: {}", number::of(n, "class"))?,
            Task::MultiLabel => out!("{path}: {}", number::of(n, "label"))?,
            Task::Regression => out!("{path}: numbers, {}", self.classes.join(", "))?,
        }
        for s in &self.splits {
            let Extent { min, median, max } = s.height;
            out!(
                "{}: {}, height {min} to {max} (median {median}), width {} to {} (median {})",
                s.split,
                number::of(s.n, "image"),
                s.width.min,
                s.width.max,
                s.width.median
            )?;
            for file in &s.unreadable {
                out!("  unreadable: {}", file.reason)?;
            }
            for file in &s.skipped {
                out!("  skipped {}: {}", file.path, file.reason)?;
            }
        }
        for file in &self.skipped {
            out!("skipped {}: {}", file.path, file.reason)?;
        }
        for sentence in self.duplicates.iter().chain(&self.headers.sentences()) {
            out!("{sentence}")?;
        }
        if self.task == Task::Regression {
            out!("split\tn\tminimum\tmedian\tmaximum")?;
            for s in &self.splits {
                if let Some(Values { n, min, median, max }) = s.values {
                    out!("{}\t{n}\t{min}\t{median}\t{max}", s.split)?;
                }
            }
            return Ok(());
        }
        let header: Vec<&str> = self.splits.iter().map(|s| s.split).collect();
        out!("{label}\t{}", header.join("\t"))?;
        for (i, class) in self.classes.iter().enumerate() {
            let counts: Vec<String> = self.splits.iter().map(|s| s.per_class[i].to_string()).collect();
            out!("{class}\t{}", counts.join("\t"))?;
        }
        Ok(())
    }
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
                .push(FileNote { path: sample.path().display().to_string(), reason: error.to_string() }),
        }
    }
    let values = Values::of(folder);
    SplitStats {
        split,
        n: folder.len(),
        per_class: if values.is_some() { Vec::new() } else { folder.counts() },
        values,
        height: Extent::of(heights),
        width: Extent::of(widths),
        unreadable,
        skipped: folder.skipped().iter().map(FileNote::from).collect(),
    }
}
