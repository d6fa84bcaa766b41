//! `predictions.csv`: what a network says of each image, and `confusion.csv`.

use std::io::{self, Write};
use std::path::Path;

use crate::row_file::as_text;
use crate::{Error, Evaluation, Result, files};

/// Writes a row for each image of each split: its path relative to `root`, split, truth, prediction, the probability of the
/// prediction and of the truth, and a note where the file was repaired or couldn't be read. Probabilities are calibrated where
/// there is a temperature, as in `predict`.
///
/// # Errors
///
/// [`Error::Write`] for a file that cannot be written.
pub fn write_predictions(path: &Path, root: &Path, splits: &[(&str, &Evaluation)]) -> Result<()> {
    let columns = ["path", "split", "truth", "prediction", "probability", "truth_probability", "note"];
    let write = |file: &mut dyn Write| -> io::Result<()> {
        let mut table = csv::Writer::from_writer(file);
        table.write_record(columns)?;
        for (split, measured) in splits {
            let (classes, calibrated) = (measured.images.classes(), measured.calibrated());
            for (i, &label) in measured.predictions.labels.iter().enumerate() {
                let (class, probability) = calibrated.top(i);
                let path = measured.path(i, root).unwrap_or_else(|| i.to_string());
                let cells = [
                    path.as_str(),
                    split,
                    &classes[label as usize],
                    &classes[class as usize],
                    &probability.to_string(),
                    &calibrated.of_label(i).to_string(),
                    measured.images.note(i).unwrap_or_default(),
                ];
                table.write_record(cells.map(|cell| as_text(cell.as_bytes()).into_owned()))?;
            }
            for (file, reason) in measured.images.excluded() {
                let file = file.strip_prefix(root).unwrap_or(file).display().to_string();
                table.write_record([
                    &*as_text(file.as_bytes()),
                    split.as_bytes(),
                    b"",
                    b"",
                    b"",
                    b"",
                    reason.as_bytes(),
                ])?;
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
