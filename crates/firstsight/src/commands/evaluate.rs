use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use firstsight_data::{DecodeSettings, OnError};
use firstsight_transfer::{
    Evaluation, EvaluationFigures, RunConfig, RunFolder, Split, SplitConfig, Splits, decode, files,
};

use crate::{
    context::Context,
    data,
    reading::{ReadingArgs, SomeUnreadable},
    values,
};

/// Seed of the split of a folder without validation images, for a run whose configuration states none.
const SPLIT_SEED: u32 = 123;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run to measure, and a folder of images of its classes
    #[arg(num_args = 0..=2, value_names = ["RUN", "DATA"])]
    paths: Vec<PathBuf>,
    /// Run to measure, as a flag
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// Folder of images, as a flag
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Split to measure [default: test, or else val]
    #[arg(long, value_parser = values::split(), value_name = "NAME")]
    split: Option<Split>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The run and the data, each an argument or a flag.
    fn paths(&self) -> Result<(&Path, &Path)> {
        let mut arguments = self.paths.iter();
        let run = self.run.as_ref().or_else(|| arguments.next());
        let data = self.data.as_ref().or_else(|| arguments.next());
        match (run, data, arguments.next()) {
            (Some(run), Some(data), None) => Ok((run, data)),
            _ => bail!("expected one run and one folder of images: evaluate RUN DATA"),
        }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let (run, path) = args.paths()?;
    let (network, config) = RunFolder::open(run)?.load(&context.runtime.device)?;
    let split_seed = config.training.map_or(SPLIT_SEED, |training| training.split_seed);
    let dataset = data::scan(path, &context.runtime)?;
    let split = args.split.unwrap_or(if dataset.test.is_some() { Split::Test } else { Split::Val });
    let given = match split {
        Split::Test => dataset.test.clone(),
        Split::Val => dataset.val.clone(),
        Split::Train => None,
    };
    let folder = match given {
        Some(folder) => folder,
        None => {
            Splits::new(path, dataset, SplitConfig::stratified(split_seed), &context.runtime)?.get(split)?
        }
    };
    let names = class_names(&config, folder.classes(), path)?;
    let task = format!("{} images", split.name());
    let reading = args.reading.over(config.pretrained_cfg.reading);
    let on_error = args.reading.on_error(OnError::Skip);
    let settings = DecodeSettings { reading, on_error, ..config.pretrained_cfg.decode_settings() };
    let images = decode(&folder, &task, &settings, &context.runtime)?;
    let complete = SomeUnreadable::check(images.excluded().len(), folder.len());
    let measured = Evaluation::measure(&network, images, &config.pretrained_cfg, &context.runtime.device)?;
    let result = EvaluationFigures::new(&measured.metrics, &measured.predictions, &names);
    if args.json {
        println!("{}", files::json(&result)?);
        return complete;
    }
    println!("{} split of {}: {} images", split.name(), path.display(), result.figures.n);
    print(&result);
    let pairs = measured.predictions.confused_pairs();
    if !pairs.is_empty() {
        println!("most confused (true, predicted, images):");
    }
    for (n, truth, guess) in pairs.into_iter().take(10) {
        println!("{}\t{}\t{n}", names[truth], names[guess]);
    }
    complete
}

/// The figures of all images, then a row for each class.
fn print(result: &EvaluationFigures) {
    println!("{}", result.figures);
    println!(
        "balanced accuracy {:.4}  macro F1 {:.4}  calibration error {:.4}",
        result.balanced_accuracy, result.macro_f1, result.expected_calibration_error
    );
    println!("class\timages\tprecision\trecall\tF1");
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    for class in &result.per_class {
        let (label, n) = (&class.label, class.n);
        println!("{label}\t{n}\t{}\t{}\t{}", figure(class.precision), figure(class.recall), figure(class.f1));
    }
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
