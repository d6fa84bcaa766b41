use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::context::Context;
use crate::values;
use firstsight_transfer::EvaluationFigures;
use firstsight_transfer::training;
use firstsight_transfer::{self as images, Split, Splits};
use firstsight_transfer::{RunConfig, RunFolder};

/// Of folders without validation images, for a run whose configuration states no other.
const SPLIT_SEED: u32 = 123;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// Folder of images of the run's classes
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The split to measure [default: test, or else val]
    #[arg(long, value_parser = values::split(), value_name = "NAME")]
    split: Option<Split>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let (network, config) = RunFolder::open(&args.run)?.load(&context.runtime.device)?;
    let split_seed = config.training.map_or(SPLIT_SEED, |training| training.split_seed);
    let folders = Splits::scan(&args.data, split_seed)?;
    let split = args.split.unwrap_or(if folders.test.is_some() { Split::Test } else { Split::Val });
    let folder = folders.get(split)?;
    let names = class_names(&config, folder.classes(), &args.data)?;
    let images = images::decode(
        &folder,
        &format!("{} images", split.name()),
        &config.pretrained_cfg,
        &context.runtime,
    )?;
    let (metrics, predictions) =
        training::measure(&network, &images, &config.pretrained_cfg, &context.runtime.device)?;
    let result = EvaluationFigures::new(&metrics, &predictions, &names);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&result)?);
        return Ok(());
    }
    let f = result.figures;
    println!("{} split of {}: {} images", split.name(), args.data.display(), f.n);
    println!("loss {:.4}  accuracy {:.4}  top-5 {:.4}", f.loss, f.accuracy, f.top5_accuracy);
    for class in &result.per_class {
        match class.accuracy {
            Some(accuracy) => println!("{}\t{}\t{accuracy:.4}", class.label, class.n),
            None => println!("{}\t0\t-", class.label),
        }
    }
    let pairs = predictions.confused_pairs();
    if !pairs.is_empty() {
        println!("most confused (true, predicted, images):");
    }
    for (n, truth, guess) in pairs.into_iter().take(10) {
        println!("{}\t{}\t{n}", names[truth], names[guess]);
    }
    Ok(())
}

/// The names of the network's outputs: the run's, or, where timm wrote it without names, the folder's in their order.
fn class_names(config: &RunConfig, found: &[String], data: &Path) -> Result<Vec<String>> {
    if !config.named && found.len() == config.num_classes {
        return Ok(found.to_vec());
    }
    if found != config.label_names {
        bail!(
            "{} holds other classes than the run: expected {}, found {}",
            data.display(),
            config.label_names.join(", "),
            found.join(", ")
        );
    }
    Ok(config.label_names.clone())
}
