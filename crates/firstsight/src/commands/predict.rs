use std::path::PathBuf;

use anyhow::Result;
use firstsight_data::scan_images;

use crate::{
    context::Context,
    data,
    json::{GuessJson, PredictionJson},
    network::NetworkArgs,
    values,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    /// Number of top labels per image
    #[arg(long, default_value_t = 5, value_parser = values::positive, value_name = "K")]
    top: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Print CSV: the image, then the name and probability of each top label
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Image files, or folders of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let classifier = args.network.open(context)?;
    let found = scan_images(&args.images)?;
    data::say(&found.remarks, &context.runtime);
    let paths: Vec<PathBuf> = found.samples.into_iter().map(|sample| sample.path).collect();
    let predictions = classifier.predict_all(&paths)?;
    let ranked = |i| classifier.ranked(&predictions, i, args.top).into_iter().map(GuessJson::from).collect();
    let results: Vec<PredictionJson> = paths
        .iter()
        .enumerate()
        .map(|(i, path)| PredictionJson { image: path.display().to_string(), predictions: ranked(i) })
        .collect();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
        return Ok(());
    }
    if args.csv {
        print!("{}", csv(&results)?);
        return Ok(());
    }
    for result in &results {
        println!("{}", result.image);
        for guess in &result.predictions {
            println!("  {:.4}  {}", guess.probability, guess.label);
        }
    }
    Ok(())
}

/// A row per image: its path, then the best labels, each with its probability.
fn csv(results: &[PredictionJson]) -> Result<String> {
    let n = results.iter().map(|result| result.predictions.len()).max().unwrap_or(0);
    let header = (1..=n).flat_map(|i| [format!("label_{i}"), format!("probability_{i}")]);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(std::iter::once("image".to_owned()).chain(header))?;
    for result in results {
        let guesses = result.predictions.iter().flat_map(|g| [g.label.clone(), g.probability.to_string()]);
        writer.write_record(std::iter::once(result.image.clone()).chain(guesses))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
