use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use firstsight_data::{DecodeSettings, OnError};
use firstsight_transfer::{Evaluation, EvaluationFigures, Measured, RunFolder, Selection, decode, files};
use serde::Serialize;

use crate::{
    context::Context,
    data,
    reading::{ReadingArgs, SomeUnreadable},
    values,
};

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
    /// What to measure [default: of the folder that the run was trained on, its test images or else its validation
    /// images; of another folder all]
    #[arg(long, value_parser = values::measured(), value_name = "NAME")]
    split: Option<Measured>,
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

/// The document of `evaluate --json`.
#[derive(Serialize)]
struct EvaluateJson<'a> {
    split: &'static str,
    #[serde(flatten)]
    figures: &'a EvaluationFigures,
    /// Images of classes that the run doesn't know.
    left_out: Vec<LeftOut<'a>>,
    /// Images of the split that the run has recorded and the folder lacks.
    missing: usize,
    /// Images that the run has not seen and that are not measured.
    new: usize,
    unreadable: usize,
}

#[derive(Serialize)]
struct LeftOut<'a> {
    label: &'a str,
    n: usize,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let (run, path) = args.paths()?;
    let run = RunFolder::open(run)?;
    let (network, config) = run.load(&context.runtime.device)?;
    let dataset = data::scan_to_measure(path, &context.runtime)?;
    let selection = Selection::new(&run, &config, &dataset, args.split, &context.runtime)?;
    data::say(&selection.notes, &context.runtime);
    let names = selection.images.classes().to_vec();
    let task = format!("{} images", selection.measured.name());
    let reading = args.reading.over(config.pretrained_cfg.reading);
    let on_error = args.reading.on_error(OnError::Skip);
    let settings = DecodeSettings { reading, on_error, ..config.pretrained_cfg.decode_settings() };
    let images = decode(&selection.images, &task, &settings, &context.runtime)?;
    let complete = SomeUnreadable::check(images.excluded().len(), selection.images.len());
    let measured = Evaluation::measure(&network, images, &config.pretrained_cfg, &context.runtime.device)?;
    let result = EvaluationFigures::new(&measured.metrics, &measured.predictions, &names);
    if args.json {
        let document = EvaluateJson {
            split: selection.measured.name(),
            figures: &result,
            left_out: selection.left_out.iter().map(|(label, n)| LeftOut { label, n: *n }).collect(),
            missing: selection.missing,
            new: selection.new,
            unreadable: measured.images.excluded().len(),
        };
        println!("{}", files::json(&document)?);
        return complete;
    }
    println!("{}: {} images", selection.title, result.figures.n);
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
