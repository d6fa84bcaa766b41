use std::path::PathBuf;

use anyhow::{Result, bail};
use firstsight_data::DatasetFolder;

use crate::env::Env;
use crate::images::{self, Folders, Split};
use crate::json::EvaluationJson;
use crate::run::RunFolder;
use crate::training;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// Folder of images of the run's classes
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The split to measure [default: test, or else val]
    #[arg(long, value_name = "NAME")]
    split: Option<Split>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, env: &Env) -> Result<()> {
    let (network, config) = RunFolder::open(&args.run)?.load(&env.device)?;
    let folders = Folders::new(DatasetFolder::scan(&args.data)?, config.training.split_seed)?;
    let split = args.split.unwrap_or(if folders.test.is_some() { Split::Test } else { Split::Val });
    let folder = folders.get(split)?;
    if folder.classes() != config.label_names {
        bail!(
            "{} holds other classes than the run: expected {}, found {}",
            args.data.display(),
            config.label_names.join(", "),
            folder.classes().join(", ")
        );
    }
    let images =
        images::decode(&folder, &format!("{} images", split.name()), &config.pretrained_cfg, &env.cache)?;
    let (metrics, predictions) = training::measure(&network, &images, &config.pretrained_cfg, &env.device)?;
    let result = EvaluationJson::new(&metrics, &predictions, &config.label_names);
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
        println!("{}\t{}\t{n}", config.label_names[truth], config.label_names[guess]);
    }
    Ok(())
}
