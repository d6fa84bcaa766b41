//! Answers of several labels and of numbers.

use anyhow::Result;
use firstsight_data::{Sample, Task};
use firstsight_transfer::task::{LabelAnswer, TaskAnswer, TaskRow};
use firstsight_transfer::{Classifier, RowFormat, TaskAnswerJson};

use super::json_rows::JsonRows;
use super::output::Output;
use super::{Args, Tally};
use crate::{context::Context, stdio::OutputError};

/// Prints the labels or the number of each image.
pub(super) fn run(
    args: &Args,
    classifier: &Classifier,
    images: Vec<Sample>,
    context: &Context,
) -> Result<()> {
    args.answers.check_task(classifier)?;
    let is_root = context.runtime.is_root();
    let mut rows = is_root.then(|| Rows::begin(args, classifier, &images)).transpose()?;
    let mut tally = Tally::begin(args, rows.as_ref().and_then(Rows::output), context)?;
    let rest = images.into_iter().skip(tally.n);
    let done = tally.watched(args, context, |tally, report| {
        classifier.predict_task(rest, |row| {
            tally.count(row.answer.as_ref().err(), context)?;
            if let Some(rows) = &mut rows {
                rows.print(&row)?;
            }
            report(tally.n);
            anyhow::Ok(())
        })
    });
    let ended = rows.map_or(Ok(()), Rows::end);
    done.and(ended)?;
    if is_root { tally.end() } else { Ok(()) }
}

/// The rows as they are printed.
enum Rows {
    Text,
    Csv(Output, usize),
    JsonLines(Output),
    Json(JsonRows),
}

impl Rows {
    fn begin(args: &Args, classifier: &Classifier, images: &[Sample]) -> Result<Self> {
        if args.json {
            return Ok(Self::Json(JsonRows::begin()?));
        }
        if args.jsonl.is_some() {
            return Ok(Self::JsonLines(Output::begin(args, RowFormat::JsonLines, classifier, images)?));
        }
        if args.csv.is_none() && args.parquet.is_none() {
            return Ok(Self::Text);
        }
        let labels = (classifier.target.task() == Task::MultiLabel).then(|| "labels".to_owned());
        let header: Vec<String> = labels.into_iter().chain(classifier.label_names.iter().cloned()).collect();
        let n = header.len();
        let header = std::iter::once("image".to_owned()).chain(header);
        let header = header.chain(["error".to_owned(), "note".to_owned()]).collect();
        let is_number = |name: &str| classifier.label_names.iter().any(|label| label == name);
        Ok(Self::Csv(Output::table(args, header, is_number, classifier, images)?, n))
    }

    fn output(&self) -> Option<&Output> {
        match self {
            Self::Text | Self::Json(_) => None,
            Self::Csv(output, _) | Self::JsonLines(output) => Some(output),
        }
    }

    fn print(&mut self, row: &TaskRow) -> Result<()> {
        match self {
            Self::Text => text(row)?,
            Self::Csv(output, n) => {
                let mut cells = row.answer.as_ref().map(cells).unwrap_or_default();
                cells.resize(*n, String::new());
                let error = row.answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
                let note = row.note.clone().unwrap_or_default();
                let image = row.image.display().to_string();
                output.csv(std::iter::once(image).chain(cells).chain([error, note]))?;
            }
            Self::JsonLines(output) => output.json(&TaskAnswerJson::from(row))?,
            Self::Json(rows) => rows.print(&TaskAnswerJson::from(row))?,
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        match self {
            Self::Text => Ok(()),
            Self::Json(rows) => rows.end(),
            Self::Csv(output, _) | Self::JsonLines(output) => output.end(),
        }
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
fn text(row: &TaskRow) -> Result<(), OutputError> {
    out!("{}", row.image.display())?;
    if let Some(note) = &row.note {
        out!("  {note}")?;
    }
    match &row.answer {
        Err(error) => out!("  not read: {error}")?,
        Ok(TaskAnswer::Value { label, value }) => out!("  {value}  {label}")?,
        Ok(TaskAnswer::Labels { labels }) => {
            let mut labels: Vec<&LabelAnswer> = labels.iter().collect();
            labels.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            for LabelAnswer { label, probability, threshold, present } in labels {
                let mark = if *present { '+' } else { '-' };
                out!("  {mark} {probability:.4}  {label} (threshold {threshold:.4})")?;
            }
        }
    }
    Ok(())
}
