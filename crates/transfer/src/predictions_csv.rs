//! `predictions.csv`: what a network says of each image, and `confusion.csv`.

use std::io::{self, Write};
use std::path::Path;

use crate::row_file::as_text;
use crate::{Error, Evaluation, Result, TaskEvaluation, files};

/// Writes a row for each image of each split: its path relative to `root`, split, truth, prediction, the probability of the
/// prediction and of the truth, and a note where the file was repaired or couldn't be read. Probabilities are calibrated where
/// there is a temperature, as in `predict`.
///
/// # Errors
///
/// [`Error::Write`] for a file that cannot be written.
pub fn write_predictions(path: &Path, root: &Path, splits: &[(&str, &Evaluation)]) -> Result<()> {
    let row = |measured: &Evaluation, i: usize| {
        let (classes, calibrated) = (measured.images.classes(), measured.calibrated());
        let (class, probability) = calibrated.top(i);
        vec![
            classes[measured.predictions.labels[i] as usize].clone(),
            classes[class as usize].clone(),
            probability.to_string(),
            calibrated.of_label(i).to_string(),
        ]
    };
    write_answers(path, root, splits, &["probability", "truth_probability"], row)
}

/// Writes a row for each image of each split, between path and note the cells of `row`: truth, prediction, and `more`. Images that
/// couldn't be read have none of these. Cells that spreadsheets would take for formulas become text.
pub(crate) fn write_answers<E: TaskEvaluation>(
    path: &Path,
    root: &Path,
    splits: &[(&str, &E)],
    more: &[&str],
    row: impl Fn(&E, usize) -> Vec<String>,
) -> Result<()> {
    let write = |file: &mut dyn Write| -> io::Result<()> {
        let mut table = csv::Writer::from_writer(file);
        let mut write = |path: &str, split: &str, cells: &[String], note: &str| {
            let front = [path, split].into_iter();
            let cells = front.chain(cells.iter().map(String::as_str)).chain([note]);
            table.write_record(cells.map(|cell| as_text(cell.as_bytes())))
        };
        let more: Vec<String> =
            ["truth", "prediction"].iter().chain(more).map(|&column| column.to_owned()).collect();
        write("path", "split", &more, "note")?;
        let relative = |file: &Path| file.strip_prefix(root).unwrap_or(file).display().to_string();
        for (split, measured) in splits {
            let images = measured.images();
            for i in 0..images.len() {
                let path = images.path(i).map_or_else(|| i.to_string(), |file| relative(&file));
                write(&path, split, &row(measured, i), images.note(i).unwrap_or_default())?;
            }
            let none = vec![String::new(); more.len()];
            for (file, reason) in images.excluded() {
                write(&relative(file), split, &none, reason)?;
            }
        }
        table.flush()
    };
    Ok(files::write_with(path, write)?)
}

/// Writes the confusion matrix with the classes' names: a row for each true class.
///
/// # Errors
///
/// [`Error::Write`] for a file that cannot be written.
pub fn write_confusion(path: &Path, measured: &Evaluation) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let unusable = |e: csv::Error| Error::Config { path: path.to_path_buf(), reason: e.to_string() };
    let classes = measured.images.classes();
    let header = std::iter::once("true class, predicted class").chain(classes.iter().map(String::as_str));
    table.write_record(header.map(|name| as_text(name.as_bytes()))).map_err(unusable)?;
    for (class, row) in classes.iter().zip(measured.predictions.confusion().chunks(classes.len().max(1))) {
        let counts = row.iter().map(usize::to_string);
        let class = as_text(class.as_bytes()).into_owned();
        table.write_record(std::iter::once(class).chain(counts.map(String::into_bytes))).map_err(unusable)?;
    }
    let bytes =
        table.into_inner().map_err(|e| Error::Config { path: path.to_path_buf(), reason: e.to_string() })?;
    Ok(files::write(path, &bytes)?)
}
