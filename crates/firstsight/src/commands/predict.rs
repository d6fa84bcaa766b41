mod json_rows;
mod task;

use std::path::PathBuf;

use anyhow::{Result, bail};
use firstsight_data::{OnError, scan_images_with};
use firstsight_transfer::{Classifier, Interrupted, PredictOptions, Row, Target, Thresholds};

use self::json_rows::JsonRows;
use crate::{
    context::Context,
    data::{self, TableArgs},
    json::AnswerJson,
    network::NetworkArgs,
    reading::SomeUnreadable,
    values,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    /// Number of top labels per image
    #[arg(long, default_value_t = 5, value_parser = values::positive, value_name = "K")]
    top: usize,
    /// Answer 'none of these' for images that are none of the run's classes, such that this share of images of the classes
    /// is accepted [default: 0.95]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "0.95", value_name = "COVERAGE")]
    reject: Option<f64>,
    /// Temperature of the probabilities; 1 gives the network's own [default: the run's, from its validation images; 1 where
    /// none helps]
    #[arg(long, value_parser = values::rate, value_name = "T")]
    temperature: Option<f64>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Print CSV: the image, the name and probability of each top label, why a file has none, and what was done to read it
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    table: TableArgs,
    /// Image files, folders, tables, Parquet files or tar shards of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let mut classifier = args.network.open(context)?;
    classifier.temperature = args.temperature.or(classifier.temperature);
    let found = scan_images_with(&args.images, &args.table.options())?;
    data::say(&found.remarks, &context.runtime);
    let mut tally = Tally { on_error: args.network.reading.on_error(OnError::Skip), n: 0, unreadable: 0 };
    if classifier.target != Target::Class {
        return task::run(args, &classifier, found.samples, tally, context);
    }
    let reject = thresholds(args, &classifier, context)?;
    let mut rows = Rows::begin(args, classifier.label_names.len())?;
    let options = PredictOptions { top: args.top, reject };
    let done = context.runtime.interrupt.with_graceful_interrupt(|_| {
        classifier.predict_images(found.samples, &options, |row| {
            tally.count(row.answer.as_ref().err(), context)?;
            rows.print(&row, &classifier)
        })
    });
    rows.end()?;
    done?;
    tally.end()
}

/// Counts files, and those that could not be read.
struct Tally {
    on_error: OnError,
    n: usize,
    unreadable: usize,
}

impl Tally {
    /// Counts a file, with the error of reading it if there was one. Refuses to go on after Ctrl-C, so that what is printed
    /// ends as a whole.
    fn count(&mut self, error: Option<&firstsight_data::Error>, context: &Context) -> Result<()> {
        if context.runtime.interrupt.is_raised() {
            return Err(Interrupted(format!("the answers for {} images are printed", self.n)).into());
        }
        self.n += 1;
        if let Some(error) = error {
            if self.on_error == OnError::Fail {
                bail!("{error}: --on-error skip gives it a row and goes on");
            }
            self.unreadable += 1;
            context.runtime.message(&format!("not read: {error}"));
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        let Self { n, unreadable, .. } = self;
        if unreadable == n {
            bail!("none of {n} files could be read as an image");
        }
        SomeUnreadable::check(unreadable, n)
    }
}

/// The thresholds of `--reject`, and what they promise.
fn thresholds(args: &Args, classifier: &Classifier, context: &Context) -> Result<Option<Thresholds>> {
    let Some(coverage) = args.reject else { return Ok(None) };
    if let [first, ..] = &args.images[..]
        && !first.exists()
        && first.to_str().is_some_and(|text| text.parse::<f64>().is_ok())
    {
        bail!("{} is no image: a coverage is written --reject={}", first.display(), first.display());
    }
    let Some(reject) = &classifier.reject else {
        bail!(
            "--reject needs what a run learned from its validation images, and {} has no reject.safetensors: train it again",
            classifier.origin
        );
    };
    let thresholds = reject.thresholds(coverage)?;
    let (images, accepted) = (thresholds.images, thresholds.coverage);
    if accepted < coverage {
        context.runtime.message(&format!(
            "{images} validation images support a coverage of at most {:.4}, not {coverage}: more of them are needed",
            (accepted * 1e4).floor() / 1e4
        ));
    }
    context.runtime.message(&format!(
        "of new images of the run's classes, at least {:.1} % are accepted, by {images} validation images",
        100.0 * accepted
    ));
    Ok(Some(thresholds))
}

/// The rows as they are printed.
enum Rows {
    Text,
    Csv { table: Box<csv::Writer<std::io::Stdout>>, top: usize, reject: bool },
    Json { rows: JsonRows, reject: bool },
}

impl Rows {
    fn begin(args: &Args, n_classes: usize) -> Result<Self> {
        let reject = args.reject.is_some();
        if args.json {
            return Ok(Self::Json { rows: JsonRows::begin(), reject });
        }
        if !args.csv {
            return Ok(Self::Text);
        }
        let top = args.top.min(n_classes);
        let mut table = Box::new(csv::Writer::from_writer(std::io::stdout()));
        let labels = (1..=top).flat_map(|i| [format!("label_{i}"), format!("probability_{i}")]);
        let rejected = reject.then(|| "rejected".to_owned());
        let header = std::iter::once("image".to_owned()).chain(labels).chain(rejected);
        table.write_record(header.chain(["error".to_owned(), "note".to_owned()]))?;
        Ok(Self::Csv { table, top, reject })
    }

    fn print(&mut self, row: &Row, classifier: &Classifier) -> Result<()> {
        match self {
            Self::Text => text(row),
            Self::Csv { table, top, reject } => {
                table.write_record(record(row, *top, *reject))?;
                table.flush()?;
            }
            Self::Json { rows, reject } => rows.print(&AnswerJson::new(row, classifier, *reject))?,
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match self {
            Self::Text => {}
            Self::Csv { table, .. } => table.flush()?,
            Self::Json { rows, .. } => rows.end(),
        }
        Ok(())
    }
}

fn text(row: &Row) {
    println!("{}", row.image.display());
    match &row.answer {
        Err(error) => println!("  not read: {error}"),
        Ok(answer) => {
            if let Some(note) = &answer.note {
                println!("  {note}");
            }
            match answer.rejection {
                Some(reason) => println!("  none of these: {reason}"),
                None => answer
                    .predictions
                    .iter()
                    .for_each(|guess| println!("  {:.4}  {}", guess.probability, guess.label)),
            }
        }
    }
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
