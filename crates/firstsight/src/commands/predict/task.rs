//! Answers of several labels and of numbers.

use anyhow::{Result, bail};
use firstsight_data::{Sample, Task};
use firstsight_transfer::Classifier;
use firstsight_transfer::task::{LabelAnswer, TaskAnswer, TaskRow};
use serde::Serialize;

use super::json_rows::JsonRows;
use super::{Args, Tally};
use crate::context::Context;

/// Prints the labels or the number of each image.
pub(super) fn run(
    args: &Args,
    classifier: &Classifier,
    images: Vec<Sample>,
    mut tally: Tally,
    context: &Context,
) -> Result<()> {
    for (is_given, flag) in
        [(args.reject.is_some(), "--reject"), (args.temperature.is_some(), "--temperature")]
    {
        if is_given {
            bail!(
                "{flag} is for one class per image, and {} is for {}",
                classifier.origin,
                classifier.target.task()
            );
        }
    }
    let mut rows = Rows::begin(args, classifier)?;
    let done = context.runtime.interrupt.with_graceful_interrupt(|_| {
        classifier.predict_task(images, |row| {
            tally.count(row.answer.as_ref().err(), context)?;
            rows.print(&row)
        })
    });
    rows.end()?;
    done?;
    tally.end()
}

/// An image with its answer.
#[derive(Serialize)]
struct RowJson<'a> {
    image: String,
    #[serde(flatten)]
    answer: Option<&'a TaskAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The rows as they are printed.
enum Rows {
    Text,
    Csv(Box<csv::Writer<std::io::Stdout>>, usize),
    Json(JsonRows),
}

impl Rows {
    fn begin(args: &Args, classifier: &Classifier) -> Result<Self> {
        if args.json {
            return Ok(Self::Json(JsonRows::begin()));
        }
        if !args.csv {
            return Ok(Self::Text);
        }
        let names = classifier.label_names.iter().map(String::as_str);
        let labels = (classifier.target.task() == Task::MultiLabel).then_some("labels");
        let header: Vec<&str> = labels.into_iter().chain(names).collect();
        let n = header.len();
        let mut table = csv::Writer::from_writer(std::io::stdout());
        table.write_record(std::iter::once("image").chain(header).chain(["error", "note"]))?;
        Ok(Self::Csv(Box::new(table), n))
    }

    fn print(&mut self, row: &TaskRow) -> Result<()> {
        match self {
            Self::Text => text(row),
            Self::Csv(table, n) => {
                let mut cells = row.answer.as_ref().map(cells).unwrap_or_default();
                cells.resize(*n, String::new());
                let error = row.answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
                let note = row.note.clone().unwrap_or_default();
                let image = row.image.display().to_string();
                table.write_record(std::iter::once(image).chain(cells).chain([error, note]))?;
                table.flush()?;
            }
            Self::Json(rows) => rows.print(&RowJson {
                image: row.image.display().to_string(),
                answer: row.answer.as_ref().ok(),
                repaired: row.note.as_deref(),
                error: row.answer.as_ref().err().map(ToString::to_string),
            })?,
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match self {
            Self::Text => {}
            Self::Csv(table, _) => table.flush()?,
            Self::Json(rows) => rows.end(),
        }
        Ok(())
    }
}

/// The labels that the image has, then each label's probability; or the number.
fn cells(answer: &TaskAnswer) -> Vec<String> {
    match answer {
        TaskAnswer::Labels { labels } => {
            let present: Vec<&str> = labels.iter().filter(|l| l.present).map(|l| l.label.as_str()).collect();
            let probabilities = labels.iter().map(|label| label.probability.to_string());
            std::iter::once(present.join("|")).chain(probabilities).collect()
        }
        TaskAnswer::Value { value, .. } => vec![value.to_string()],
    }
}

/// Labels that the image has are marked by `+`; the most probable stand first.
fn text(row: &TaskRow) {
    println!("{}", row.image.display());
    if let Some(note) = &row.note {
        println!("  {note}");
    }
    match &row.answer {
        Err(error) => println!("  not read: {error}"),
        Ok(TaskAnswer::Value { label, value }) => println!("  {value}  {label}"),
        Ok(TaskAnswer::Labels { labels }) => {
            let mut labels: Vec<&LabelAnswer> = labels.iter().collect();
            labels.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            for LabelAnswer { label, probability, threshold, present } in labels {
                let mark = if *present { '+' } else { '-' };
                println!("  {mark} {probability:.4}  {label} (threshold {threshold:.4})");
            }
        }
    }
}
