//! `dataset check`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use firstsight_data::Task;
use firstsight_models::ModelInfo;
use firstsight_report::number;
use firstsight_transfer::Pretrained;
use firstsight_transfer::check::{CheckResult, DataCheck, Finding, FindingKind, Looker};

use crate::context::Context;
use crate::data::{self, LabelArgs};
use crate::hub;
use crate::output;
use crate::reading::{ReadingArgs, SomeUnreadable, UnfitClasses};
use crate::values;

/// Findings of a kind that are printed.
const SHOWN: usize = 10;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images: a folder, a table, Parquet files or tar shards
    #[arg(value_name = "DATA")]
    data: PathBuf,
    #[command(flatten)]
    labels: LabelArgs,
    /// Pretrained weights whose features find wrong labels, outliers and more near duplicates: a hub repository
    /// (owner/name), a folder with model.safetensors and config.json, or a file [default: a small network is trained on
    /// thumbnails, which looks for wrong labels only, not for outliers]
    #[arg(long, value_name = "HUB_ID, FOLDER or FILE")]
    weights: Option<String>,
    /// Network of a file of weights
    #[arg(long, requires = "weights", value_parser = values::model, value_name = "MODEL")]
    backbone: Option<&'static ModelInfo>,
    /// Run whose network's features are used instead. What it was trained on may hide wrong labels from it
    #[arg(long, conflicts_with = "weights", value_name = "RUN")]
    run: Option<PathBuf>,
    /// Use no network: wrong labels and outliers are not looked for
    #[arg(long, conflicts_with_all = ["weights", "run"])]
    quick: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// CSV file of all findings
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// HTML file with pictures
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// CSV file of what could be done, one line a file: action (remove, move, look), file, class to move to, reason
    #[arg(long, value_name = "FILE")]
    fix_list: Option<PathBuf>,
    /// CSV file of each image's probabilities by networks that were not trained on it
    #[arg(long, conflicts_with = "quick", value_name = "FILE")]
    probabilities: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
}

pub(super) fn check(args: &Args, context: &Context) -> Result<()> {
    let runtime = &context.runtime;
    let outputs = [&args.csv, &args.fix_list, &args.probabilities, &args.report];
    let outputs: Vec<&Path> = outputs.into_iter().filter_map(|path| path.as_deref()).collect();
    output::check(&outputs, std::slice::from_ref(&args.data))?;
    let folder = data::scan(&args.data, &args.labels, runtime)?;
    outputs.iter().try_for_each(|file| output::check_apart_from_dataset(file, &folder))?;
    let looker = match (&args.weights, &args.run) {
        (Some(weights), _) => {
            Looker::Features(Box::new(hub::locate_any(args.backbone, Some(weights), None, runtime)?))
        }
        (None, Some(run)) => Looker::Features(Box::new(Pretrained::folder(run)?)),
        (None, None) if args.quick => Looker::None,
        (None, None) => Looker::Small,
    };
    let settings = DataCheck { looker, reading: args.reading.reading(), seed: context.seed };
    let result = settings.run(&folder, runtime)?;
    if let Some(path) = &args.csv {
        result.write_csv(path)?;
    }
    if let Some(path) = &args.fix_list {
        result.write_fix_list(path)?;
    }
    if let Some(path) = &args.probabilities {
        result.write_probabilities(path)?;
    }
    if let Some(path) = &args.report {
        result.report()?.write(path)?;
    }
    if args.json {
        out!("{}", serde_json::to_string_pretty(&result.document())?)?;
    } else {
        print(&result)?;
        for path in outputs {
            out!("{}", path.display())?;
        }
    }
    verdict(&result)
}

/// An error where a file is broken or no training takes the classes: exit code 1.
pub(super) fn verdict(result: &CheckResult) -> Result<()> {
    SomeUnreadable::check(result.n_broken(), result.images.len())?;
    let classes = result.of_kind(FindingKind::UnfitClass).map(|finding| finding.reason.clone());
    UnfitClasses::check(classes.collect())
}

/// A summary: what was found, by kind, with all broken files and the first of the others.
pub(super) fn print(result: &CheckResult) -> Result<()> {
    let images: Vec<String> = result.splits().iter().map(|(split, n)| format!("{n} {split}")).collect();
    let labels = match result.task {
        Task::SingleLabel => number::of(result.classes.len(), "class"),
        Task::MultiLabel => number::of(result.classes.len(), "label"),
        Task::Regression => format!("numbers: {}", result.classes.join(", ")),
    };
    out!("{}: {} images, {labels}", result.data, images.join(", "))?;
    let counts = result.counts();
    if counts.is_empty() {
        out!("nothing was found")?;
    }
    for (kind, n) in counts {
        let across = result.of_kind(kind).filter(|finding| finding.is_across_splits()).count();
        let across = if across > 0 { format!(", {across} across splits") } else { String::new() };
        out!("\n{n} {kind}: {}{across}", kind.meaning())?;
        let shown = if kind == FindingKind::Broken { n } else { SHOWN };
        for finding in result.of_kind(kind).take(shown) {
            out!("  {}", line(finding))?;
        }
        if n > shown {
            out!("  and {} more: `dataset check --csv FILE` lists all", n - shown)?;
        }
    }
    Ok(out!("\n{}", result.labels.how)?)
}

fn line(finding: &Finding) -> String {
    let Some(path) = &finding.path else { return finding.reason.clone() };
    let class = match (finding.kind, &finding.class) {
        (FindingKind::SuspectedLabel | FindingKind::ConflictingLabels, Some(class)) => format!(" ({class})"),
        _ => String::new(),
    };
    // A decoder's message names the file itself.
    match finding.reason.contains(path.as_str()) {
        true => finding.reason.clone(),
        false => format!("{path}{class}: {}", finding.sentence()),
    }
}
