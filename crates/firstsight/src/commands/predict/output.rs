//! Where rows go: to standard output, or to a file that can be gone on with.

use anyhow::Result;
use firstsight_data::{ParquetColumn, ParquetTable, Sample};
use firstsight_transfer::training::evaluation_batch;
use firstsight_transfer::{Classifier, RowFile, RowFormat, csv_row, files};
use serde::Serialize;

use super::Args;
use crate::stdio;

pub(super) struct Output {
    sink: Sink,
    images: usize,
}

enum Sink {
    Stdout,
    Lines(RowFile),
    Parquet(Box<ParquetTable>),
}

impl Output {
    /// Standard output, or the file of the arguments, with the rows that it has if it is resumed.
    pub(super) fn begin(
        args: &Args,
        format: RowFormat,
        classifier: &Classifier,
        images: &[Sample],
    ) -> Result<Self> {
        let sink = match (args.file(), args.resume) {
            (None, _) => Sink::Stdout,
            (Some(path), resume) => {
                files::check_writable(path)?;
                let batch = evaluation_batch(&classifier.input);
                Sink::Lines(match resume {
                    true => RowFile::resume(path, &format, images, batch)?,
                    false => RowFile::create(path, &format)?,
                })
            }
        };
        let mut output = Self { sink, images: images.len() };
        if let (RowFormat::Csv(header), Sink::Stdout) = (format, &output.sink) {
            output.row(&csv_row(header)?)?;
        }
        Ok(output)
    }

    /// Rows of cells, as CSV or in a Parquet file, where the columns that `is_number` names hold numbers.
    pub(super) fn table(
        args: &Args,
        header: Vec<String>,
        is_number: impl Fn(&str) -> bool,
        classifier: &Classifier,
        images: &[Sample],
    ) -> Result<Self> {
        let Some(path) = &args.parquet else {
            return Self::begin(args, RowFormat::Csv(header), classifier, images);
        };
        let kind = |name| if is_number(name) { ParquetColumn::Float } else { ParquetColumn::Text };
        let columns: Vec<(&str, ParquetColumn)> = header.iter().map(|name| (&**name, kind(name))).collect();
        let table = ParquetTable::create(path, &columns)?;
        Ok(Self { sink: Sink::Parquet(Box::new(table)), images: images.len() })
    }

    /// Images before the first that is answered, all images, and those of the first that could not be read.
    pub(super) fn begun(&self) -> (usize, usize, usize) {
        let (next, unreadable) = match &self.sink {
            Sink::Lines(file) => (file.next_image(), file.unreadable()),
            Sink::Stdout | Sink::Parquet(_) => (0, 0),
        };
        (next, self.images, unreadable)
    }

    pub(super) fn csv(&mut self, cells: impl IntoIterator<Item = String>) -> Result<()> {
        match &mut self.sink {
            Sink::Parquet(table) => {
                let cells: Vec<String> = cells.into_iter().collect();
                Ok(table.push(cells.iter().map(String::as_str))?)
            }
            Sink::Stdout | Sink::Lines(_) => self.row(&csv_row(cells)?),
        }
    }

    pub(super) fn json(&mut self, row: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        self.row(&line)
    }

    fn row(&mut self, row: &[u8]) -> Result<()> {
        match &mut self.sink {
            Sink::Lines(file) => file.push(row)?,
            Sink::Stdout => stdio::write(row)?,
            // Its rows are cells.
            Sink::Parquet(_) => {}
        }
        Ok(())
    }

    /// Completes the file.
    pub(super) fn end(self) -> Result<()> {
        match self.sink {
            Sink::Parquet(table) => Ok(table.finish()?),
            Sink::Stdout | Sink::Lines(_) => Ok(()),
        }
    }
}
