//! Where rows go: to standard output, or to a file that can be gone on with.

use std::io::Write as _;

use anyhow::Result;
use firstsight_data::Sample;
use firstsight_transfer::training::evaluation_batch;
use firstsight_transfer::{Classifier, RowFile, RowFormat, csv_row, files};
use serde::Serialize;

use super::Args;

pub(super) struct Output {
    file: Option<RowFile>,
    images: usize,
}

impl Output {
    /// Standard output, or the file of the arguments, with the rows that it has if it is resumed.
    pub(super) fn begin(
        args: &Args,
        format: RowFormat,
        classifier: &Classifier,
        images: &[Sample],
    ) -> Result<Self> {
        let file = match (args.file(), args.resume) {
            (None, _) => None,
            (Some(path), resume) => {
                files::check_writable(path)?;
                let batch = evaluation_batch(&classifier.input);
                Some(match resume {
                    true => RowFile::resume(path, &format, images, batch)?,
                    false => RowFile::create(path, &format)?,
                })
            }
        };
        let mut output = Self { file, images: images.len() };
        if let (RowFormat::Csv(header), None) = (format, &output.file) {
            output.row(&csv_row(header)?)?;
        }
        Ok(output)
    }

    /// Images before the first that is answered, all images, and those of the first that could not be read.
    pub(super) fn begun(&self) -> (usize, usize, usize) {
        let file = self.file.as_ref();
        (file.map_or(0, RowFile::next_image), self.images, file.map_or(0, RowFile::unreadable))
    }

    pub(super) fn csv(&mut self, cells: impl IntoIterator<Item = String>) -> Result<()> {
        self.row(&csv_row(cells)?)
    }

    pub(super) fn json(&mut self, row: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        self.row(&line)
    }

    fn row(&mut self, row: &[u8]) -> Result<()> {
        match &mut self.file {
            Some(file) => file.push(row)?,
            None => {
                let mut out = std::io::stdout().lock();
                out.write_all(row)?;
                out.flush()?;
            }
        }
        Ok(())
    }
}
