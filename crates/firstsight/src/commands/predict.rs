mod json_rows;
mod like;
mod output;
mod task;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use firstsight_data::{OnError, Sample, scan_images_with};
use firstsight_transfer::{
    AnswerJson, Classifier, Interrupted, PredictOptions, Row, RowFormat, Target, Thresholds,
};

use self::json_rows::JsonRows;
use self::output::Output;
use crate::{
    answers::AnswerArgs,
    context::Context,
    data::{self, TableArgs},
    exit,
    network::NetworkArgs,
    output as output_file,
    reading::{OnErrorArgs, SomeUnreadable},
    stdio::OutputError,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    on_error: OnErrorArgs,
    #[command(flatten)]
    answers: AnswerArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Print CSV, or write it to a file: the image, the name and probability of each top label, why a file has none, and what
    /// was done to read it
    #[arg(long, conflicts_with = "json", num_args = 0..=1, require_equals = true, default_missing_value = STDOUT, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Print JSON lines, or write them to a file: the rows of --json
    #[arg(long, conflicts_with_all = ["json", "csv"], num_args = 0..=1, require_equals = true, default_missing_value = STDOUT, value_name = "FILE")]
    jsonl: Option<PathBuf>,
    /// Write a Parquet file: the columns of --csv, probabilities as numbers, null where a cell is empty
    #[arg(long, conflicts_with_all = ["json", "csv", "jsonl"], value_name = "FILE")]
    parquet: Option<PathBuf>,
    /// Go on with the file of --csv or --jsonl after an interruption: the rows that it has are kept
    #[arg(long)]
    resume: bool,
    /// Rank the images by how like they are to this photo, or to the nearest of several, and print the first --top: search without
    /// training, by the angle between features (may be repeated; a folder stands for its photos)
    #[arg(long, conflicts_with_all = ["reject", "temperature", "csv", "jsonl", "parquet", "resume"], value_name = "PHOTO")]
    like: Vec<PathBuf>,
    #[command(flatten)]
    table: TableArgs,
    /// Image files, folders, tables, Parquet files or tar shards of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

/// The file that stands for standard output.
const STDOUT: &str = "-";

impl Args {
    /// The file that rows are written to, if it is not standard output.
    fn file(&self) -> Option<&Path> {
        let lines = self.csv.as_deref().or(self.jsonl.as_deref()).filter(|file| *file != Path::new(STDOUT));
        lines.or(self.parquet.as_deref())
    }

    fn check(&self) -> Result<()> {
        if self.resume && self.parquet.is_some() {
            bail!(
                "--resume goes on with --csv=FILE or --jsonl=FILE: a Parquet file ends with its index, so no row can be added"
            );
        }
        if self.resume && self.file().is_none() {
            bail!("--resume needs the file to go on with: --csv=FILE or --jsonl=FILE");
        }
        let flag = if self.csv.is_some() { "--csv" } else { "--jsonl" };
        match &self.images[..] {
            [first, _, ..] if self.csv.is_some() || self.jsonl.is_some() => {
                let is_rows = first.extension().is_some_and(|end| end == "csv" || end == "jsonl");
                if is_rows && !first.exists() {
                    bail!("{0} is not there: a file for the rows is written {flag}={0}", first.display());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    args.check()?;
    if let Some(file) = args.file().filter(|file| file.is_file()) {
        output_file::check_apart(file, &args.images)?;
        args.network.check_apart(file)?;
    }
    let mut classifier = args.network.open(context)?;
    classifier.temperature = args.answers.temperature.or(classifier.temperature);
    let found = scan_images_with(&args.images, &args.table.options())?;
    data::say(&found.remarks, &context.runtime);
    if let Some(file) = args.file().filter(|file| file.is_file()) {
        output_file::check_apart_from_images(file, &found.samples)?;
    }
    if !args.like.is_empty() {
        return like::run(args, &classifier, found.samples, context);
    }
    if classifier.target != Target::Class {
        return task::run(args, &classifier, found.samples, context);
    }
    let reject = thresholds(args, &classifier, context)?;
    // Of several processes, the first gets the rows.
    let is_root = context.runtime.is_root();
    let mut rows = is_root.then(|| Rows::begin(args, &classifier, &found.samples)).transpose()?;
    let mut tally = Tally::begin(args, rows.as_ref().and_then(Rows::output), context)?;
    let options = PredictOptions { top: args.answers.top, reject };
    let rest = found.samples.into_iter().skip(tally.n);
    let done = tally.watched(args, context, |tally, report| {
        classifier.predict_images(rest, &options, |row| {
            tally.count(row.answer.as_ref().err(), context)?;
            if let Some(rows) = &mut rows {
                rows.print(&row, &classifier)?;
            }
            report(tally.n);
            anyhow::Ok(())
        })
    });
    let ended = rows.map_or(Ok(()), Rows::end);
    done.and(ended)?;
    if is_root { tally.end() } else { Ok(()) }
}

/// Counts files, and those that could not be read.
struct Tally {
    on_error: OnError,
    n: usize,
    /// All files.
    total: usize,
    unreadable: usize,
    /// Why the machine did not give the first file that it should have, if there was one.
    refused: Option<std::io::Error>,
    /// The file of the rows, if there is one.
    file: Option<PathBuf>,
    can_resume: bool,
}

impl Tally {
    fn begin(args: &Args, output: Option<&Output>, context: &Context) -> Result<Self> {
        let (n, total, unreadable) = output.map_or((0, 0, 0), Output::begun);
        // All processes go on with the same image.
        let mut first = (n as u64).to_le_bytes().to_vec();
        context.runtime.communicator.broadcast(&mut first)?;
        let n = first.iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte));
        let on_error = args.on_error.policy(OnError::Skip);
        Ok(Self {
            on_error,
            n,
            total,
            unreadable,
            refused: None,
            file: args.file().map(Path::to_path_buf),
            can_resume: args.parquet.is_none(),
        })
    }

    /// Does the work until Ctrl-C; where rows go to a file, with reports of the number of images.
    fn watched(
        &mut self,
        args: &Args,
        context: &Context,
        work: impl FnOnce(&mut Self, &dyn Fn(usize)) -> Result<()>,
    ) -> Result<()> {
        let (runtime, total) = (&context.runtime, self.total);
        runtime.interrupt.with_graceful_interrupt(|_| match args.file() {
            None => work(self, &|_| ()),
            Some(_) => runtime.counted("images", |report| work(self, &|done| report(done, total))),
        })
    }

    /// Counts a file, with the error of reading it if there was one. Refuses to go on after Ctrl-C, so that what is printed
    /// ends as a whole.
    fn count(&mut self, error: Option<&firstsight_data::Error>, context: &Context) -> Result<()> {
        if context.runtime.interrupt.is_raised() {
            let n = self.n;
            return Err(Interrupted(match &self.file {
                None => format!("the answers for {n} images are printed"),
                Some(file) if self.can_resume => {
                    format!("{} has the rows so far: --resume goes on with them", file.display())
                }
                Some(file) => format!("{} has the rows so far", file.display()),
            })
            .into());
        }
        self.n += 1;
        if let Some(error) = error {
            self.refused = self.refused.take().or_else(|| exit::system_error(error));
            if self.on_error == OnError::Fail {
                let said = format!("{error}: --on-error skip gives it a row and goes on");
                return Err(exit::caused(said, self.refused.take()));
            }
            self.unreadable += 1;
            context.runtime.message(&format!("not read: {error}"));
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        let Self { n, unreadable, refused, .. } = self;
        if unreadable == n {
            return Err(exit::caused(format!("none of {n} files could be read as an image"), refused));
        }
        SomeUnreadable::check(unreadable, n)
    }
}

/// The thresholds of `--reject`.
fn thresholds(args: &Args, classifier: &Classifier, context: &Context) -> Result<Option<Thresholds>> {
    if args.answers.reject.is_some()
        && let [first, ..] = &args.images[..]
        && !first.exists()
        && first.to_str().is_some_and(|text| text.parse::<f64>().is_ok())
    {
        bail!("{} is no image: a coverage is written --reject={}", first.display(), first.display());
    }
    args.answers.thresholds(classifier, &context.runtime)
}

/// The rows as they are printed.
enum Rows {
    Text,
    Csv { output: Output, top: usize, reject: bool },
    JsonLines { output: Output, reject: bool },
    Json { rows: JsonRows, reject: bool },
}

impl Rows {
    fn begin(args: &Args, classifier: &Classifier, images: &[Sample]) -> Result<Self> {
        let reject = args.answers.reject.is_some();
        if args.json {
            return Ok(Self::Json { rows: JsonRows::begin()?, reject });
        }
        if args.jsonl.is_some() {
            let output = Output::begin(args, RowFormat::JsonLines, classifier, images)?;
            return Ok(Self::JsonLines { output, reject });
        }
        if args.csv.is_none() && args.parquet.is_none() {
            return Ok(Self::Text);
        }
        let top = args.answers.top.min(classifier.label_names.len());
        let labels = (1..=top).flat_map(|i| [format!("label_{i}"), format!("probability_{i}")]);
        let rejected = reject.then(|| "rejected".to_owned());
        let header = std::iter::once("image".to_owned()).chain(labels).chain(rejected);
        let header = header.chain(["error".to_owned(), "note".to_owned()]).collect();
        let is_number = |name: &str| name.starts_with("probability_");
        let output = Output::table(args, header, is_number, classifier, images)?;
        Ok(Self::Csv { output, top, reject })
    }

    fn output(&self) -> Option<&Output> {
        match self {
            Self::Text | Self::Json { .. } => None,
            Self::Csv { output, .. } | Self::JsonLines { output, .. } => Some(output),
        }
    }

    fn print(&mut self, row: &Row, classifier: &Classifier) -> Result<()> {
        match self {
            Self::Text => text(row)?,
            Self::Csv { output, top, reject } => output.csv(record(row, *top, *reject))?,
            Self::JsonLines { output, reject } => output.json(&AnswerJson::new(row, classifier, *reject))?,
            Self::Json { rows, reject } => rows.print(&AnswerJson::new(row, classifier, *reject))?,
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        match self {
            Self::Text => Ok(()),
            Self::Json { rows, .. } => rows.end(),
            Self::Csv { output, .. } | Self::JsonLines { output, .. } => output.end(),
        }
    }
}

fn text(row: &Row) -> Result<(), OutputError> {
    out!("{}", row.image.display())?;
    match &row.answer {
        Err(error) => out!("  not read: {error}")?,
        Ok(answer) => {
            if let Some(note) = &answer.note {
                out!("  {note}")?;
            }
            match answer.rejection {
                Some(reason) => out!("  none of these: {reason}")?,
                None => {
                    for guess in &answer.predictions {
                        out!("  {:.4}  {}", guess.probability, guess.label)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// The cells of a row. One without an answer has empty ones.
fn record(row: &Row, top: usize, reject: bool) -> Vec<String> {
    let mut cells = vec![row.image.display().to_string()];
    let (mut rejected, mut error, mut note) = (String::new(), String::new(), String::new());
    match &row.answer {
        Ok(answer) => {
            cells
                .extend(answer.predictions.iter().flat_map(|g| [g.label.clone(), g.probability.to_string()]));
            rejected = answer.rejection.map(|reason| reason.to_string()).unwrap_or_default();
            note = answer.note.clone().unwrap_or_default();
        }
        Err(reason) => error = reason.to_string(),
    }
    cells.resize(1 + 2 * top, String::new());
    cells.extend(reject.then_some(rejected));
    cells.extend([error, note]);
    cells
}
