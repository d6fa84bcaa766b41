use std::path::PathBuf;

use anyhow::Result;
use firstsight_transfer::{Comparison, files};

use crate::output;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Runs to compare, two or more
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// File for the page
    #[arg(long, default_value = "compare.html", value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    output::check_apart_from_runs(&args.out, &args.runs)?;
    files::check_writable(&args.out)?;
    let comparison = Comparison::open(&args.runs)?;
    comparison.report().write(&args.out)?;
    if args.json {
        out!("{}", serde_json::to_string_pretty(&comparison)?)?;
        return Ok(());
    }
    let names = comparison.names();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    for (run, name) in comparison.runs.iter().zip(&names) {
        let figures = ["accuracy", "mean_average_precision", "mean_absolute_error", "loss"]
            .into_iter()
            .filter_map(|key| Some(format!("  {} {:.4}", key.replace('_', " "), run.figures.get(key)?)));
        let difference = run.against_best.map(|difference| format!("  p {}", difference.p_in_words()));
        out!("{name:width$}{}{}", figures.collect::<String>(), difference.unwrap_or_default())?;
    }
    if !comparison.same_images {
        out!("the runs are not known to be measured on the same images")?;
    }
    out!("{} has the page", args.out.display())?;
    Ok(())
}
