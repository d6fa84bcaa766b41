use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use firstsight_data::{DecodeSettings, ImageDataset, OnError, Task};
use firstsight_models::ImageClassifier;
use firstsight_report::number;
use firstsight_transfer::{
    Evaluation, EvaluationFigures, FileNotes, LabelsEvaluation, Measured, RunConfig, RunFolder, Runtime,
    Selection, TaskEvaluation, ValueEvaluation, decode, files,
};
use serde::Serialize;

use crate::{
    context::Context,
    data::{self, LabelArgs},
    output,
    process::return_freed_memory,
    reading::{OnErrorArgs, ReadingArgs, SomeUnreadable},
    stdio::OutputError,
    values,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run to measure, and images of its classes: a folder, a table, Parquet files or tar shards
    #[arg(num_args = 0..=2, value_names = ["RUN", "DATA"])]
    paths: Vec<PathBuf>,
    /// Run to measure, as a flag
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// Images, as a flag
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// What to measure [default: of the folder that the run was trained on, its test images or else its validation
    /// images; of another folder all]
    #[arg(long, value_parser = values::measured(), value_name = "NAME")]
    split: Option<Measured>,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    on_error: OnErrorArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Write what the run says of each image to a CSV file
    #[arg(long, visible_alias = "csv", value_name = "FILE")]
    predictions: Option<PathBuf>,
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
struct EvaluateJson<'a, F> {
    split: &'static str,
    #[serde(flatten)]
    figures: &'a F,
    /// Images of classes that the run doesn't know.
    left_out: Vec<LeftOut<'a>>,
    /// Images of the split that the run has recorded and the folder lacks.
    missing: usize,
    /// Images that the run has not seen and that are not measured.
    new: usize,
    n_unreadable: usize,
    #[serde(flatten)]
    files: &'a FileNotes,
}

#[derive(Serialize)]
struct LeftOut<'a> {
    label: &'a str,
    n: usize,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let (run, path) = args.paths()?;
    if let (Some(file), true) = (&args.predictions, context.runtime.is_root()) {
        output::check_apart_from_runs(file, &[run])?;
        output::check_apart(file, &[path.to_owned()])?;
        files::check_writable(file)?;
    }
    let run = RunFolder::open(run)?;
    let (network, config) = run.load(&context.runtime.device)?;
    let labels = args.labels.of_task(config.target.task());
    let dataset = data::scan_as_recorded(path, &labels, &config.options, &context.runtime)?;
    if let Some(file) = args.predictions.as_ref().filter(|file| file.is_file()) {
        output::check_apart_from_dataset(file, &dataset)?;
    }
    let selection = Selection::new(&run, &config, &dataset, args.split, &context.runtime)?;
    return_freed_memory();
    data::say(&selection.notes, &context.runtime);
    let task = format!("{} images", selection.measured.name());
    let reading = args.reading.over(config.pretrained_cfg.reading);
    let on_error = args.on_error.policy(OnError::Skip);
    let settings = DecodeSettings { reading, on_error, ..config.pretrained_cfg.decode_settings() };
    let images = decode(&selection.images, &task, &settings, &context.runtime)?;
    let skipped = || selection.images.skipped().iter().chain(&dataset.skipped);
    let denied = data::denied_folders(skipped());
    let complete = SomeUnreadable::check(images.excluded().len() + denied, selection.images.len() + denied);
    let files = FileNotes::of_skipped(skipped()).decoded(&images);
    let measuring = Measuring {
        args,
        run,
        root: &dataset.root,
        network,
        config,
        selection,
        files,
        runtime: &context.runtime,
    };
    match measuring.config.target.task() {
        Task::SingleLabel => measuring.show::<Evaluation>(images)?,
        Task::MultiLabel => measuring.show::<LabelsEvaluation>(images)?,
        Task::Regression => measuring.show::<ValueEvaluation>(images)?,
    }
    // The first process says it for all.
    if context.runtime.is_root() { complete } else { Ok(()) }
}

/// A network and what it is measured on.
struct Measuring<'a> {
    args: &'a Args,
    run: RunFolder,
    /// The data's folder.
    root: &'a Path,
    network: ImageClassifier,
    config: RunConfig,
    selection: Selection,
    files: FileNotes,
    runtime: &'a Runtime,
}

impl Measuring<'_> {
    fn show<E: Print>(&self, images: ImageDataset) -> Result<()> {
        let Self { args, run, root, network, config, selection, files, runtime } = self;
        let measured: E = run.measure((network, config), images, runtime)?;
        if !runtime.is_root() {
            return Ok(());
        }
        if let Some(file) = &args.predictions {
            E::write_predictions(file, root, &[(selection.measured.name(), &measured)])?;
        }
        if !args.json {
            out!("{}: {}", selection.title, number::of(measured.images().len(), "image"))?;
            measured.print()?;
            return Ok(());
        }
        let document = EvaluateJson {
            split: selection.measured.name(),
            figures: &measured.all_figures(),
            left_out: selection.left_out.iter().map(|(label, n)| LeftOut { label, n: *n }).collect(),
            missing: selection.missing,
            new: selection.new,
            n_unreadable: files.unreadable.len(),
            files,
        };
        out!("{}", files::json(&document)?)?;
        Ok(())
    }
}

/// Figures as they are printed, by task.
trait Print: TaskEvaluation {
    fn print(&self) -> Result<(), OutputError>;
}

impl Print for Evaluation {
    fn print(&self) -> Result<(), OutputError> {
        print(&self.figures())?;
        let (names, pairs) = (self.images.classes(), self.predictions.confused_pairs());
        if !pairs.is_empty() {
            out!("most confused (true, predicted, images):")?;
        }
        for (n, truth, guess) in pairs.into_iter().take(10) {
            out!("{}\t{}\t{n}", names[truth], names[guess])?;
        }
        Ok(())
    }
}

impl Print for LabelsEvaluation {
    fn print(&self) -> Result<(), OutputError> {
        out!("{}", self.line())?;
        out!("label\timages\taverage precision\tthreshold\tprecision\trecall\tF1")?;
        for f in self.all_figures().per_label {
            let [ap, precision, recall, f1] = [f.average_precision, f.precision, f.recall, f.f1].map(figure);
            out!("{}\t{}\t{ap}\t{:.4}\t{precision}\t{recall}\t{f1}", f.label, f.n, f.threshold)?;
        }
        Ok(())
    }
}

impl Print for ValueEvaluation {
    fn print(&self) -> Result<(), OutputError> {
        out!("{}", self.line())
    }
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

/// The figures of all images, then a row for each class.
fn print(result: &EvaluationFigures) -> Result<(), OutputError> {
    out!("{}", result.figures)?;
    out!(
        "balanced accuracy {:.4}  macro F1 {:.4}  calibration error {:.4}",
        result.balanced_accuracy,
        result.macro_f1,
        result.expected_calibration_error
    )?;
    if let Some(calibrated) = &result.calibrated {
        out!(
            "at the run's temperature {:.3}: loss {:.4}  calibration error {:.4}",
            calibrated.temperature,
            calibrated.loss,
            calibrated.expected_calibration_error
        )?;
    }
    out!("class\timages\tprecision\trecall\tF1")?;
    for class in &result.per_class {
        let (label, n) = (&class.label, class.n);
        out!("{label}\t{n}\t{}\t{}\t{}", figure(class.precision), figure(class.recall), figure(class.f1))?;
    }
    Ok(())
}
