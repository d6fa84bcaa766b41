//! `predictions.csv` of several labels and of numbers.

use std::path::Path;

use firstsight_data::ImageDataset;

use crate::{Result, files};

/// Writes a row for each image: its file relative to `root`, or its number, then the cells of `row`.
pub(super) fn write<'a>(
    path: &Path,
    root: &Path,
    images: &ImageDataset,
    header: impl IntoIterator<Item = &'a str>,
    row: impl Fn(usize) -> Vec<String>,
) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let unwritable = |e: csv::Error| crate::Error::io("write", path)(std::io::Error::other(e));
    writer.write_record(header).map_err(unwritable)?;
    for i in 0..images.len() {
        let file =
            images.paths().get(i).map(|file| file.strip_prefix(root).unwrap_or(file).display().to_string());
        let cells = std::iter::once(file.unwrap_or_else(|| i.to_string())).chain(row(i));
        writer.write_record(cells).map_err(unwritable)?;
    }
    let bytes = writer.into_inner().map_err(|e| crate::Error::io("write", path)(e.into_error()))?;
    Ok(files::write(path, &bytes)?)
}
