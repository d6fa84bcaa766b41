//! `predictions.csv` of several labels and of numbers.

use std::io::{self, Write};
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
    let write = |file: &mut dyn Write| -> io::Result<()> {
        let mut table = csv::Writer::from_writer(file);
        let front = ["path", "split", "truth", "prediction"];
        table.write_record(front.into_iter().chain(header))?;
        for (split, measured) in splits {
            let images = measured.images();
            let relative = |file: PathBuf| file.strip_prefix(root).unwrap_or(&file).display().to_string();
            for i in 0..images.len() {
                let file = images.path(i).map_or_else(|| i.to_string(), relative);
                let cells = [file, (*split).to_owned()].into_iter().chain(row(measured, i));
                table.write_record(cells)?;
            }
        }
        table.flush()
    };
    Ok(files::write_with(path, write)?)
}
