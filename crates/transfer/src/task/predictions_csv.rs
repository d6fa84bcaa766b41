//! `predictions.csv` of several labels and of numbers.

use std::path::{Path, PathBuf};

use super::TaskEvaluation;
use crate::{Result, files};

/// Writes a row for each image of each split: its file relative to `root`, or its number, the split, then the cells of `row`.
pub(super) fn write<'a, E: TaskEvaluation>(
    path: &Path,
    root: &Path,
    splits: &[(&str, &E)],
    header: impl IntoIterator<Item = &'a str>,
    row: impl Fn(&E, usize) -> Vec<String>,
) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let unwritable = |e: csv::Error| crate::Error::io("write", path)(std::io::Error::other(e));
    let front = ["path", "split", "truth", "prediction"];
    writer.write_record(front.into_iter().chain(header)).map_err(unwritable)?;
    for (split, measured) in splits {
        let images = measured.images();
        let relative = |file: PathBuf| file.strip_prefix(root).unwrap_or(&file).display().to_string();
        for i in 0..images.len() {
            let file = images.path(i).map_or_else(|| i.to_string(), relative);
            let cells = [file, (*split).to_owned()].into_iter().chain(row(measured, i));
            writer.write_record(cells).map_err(unwritable)?;
        }
    }
    let bytes = writer.into_inner().map_err(|e| crate::Error::io("write", path)(e.into_error()))?;
    Ok(files::write(path, &bytes)?)
}
