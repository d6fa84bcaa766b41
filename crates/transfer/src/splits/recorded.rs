//! `split.csv` of a run: which file was in which split, so that what was set aside stays set aside.

use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io::{self, Write};
use std::path::Path;

use super::contents::images;
use super::{Split, Splits, label, relative};
use crate::{ContentHash, Error, Result, files};

const HEADER: [&str; 4] = ["file", "sha256", "label", "split"];

/// The images of a training by split: one row for each image, training, validation, test.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SplitRecord {
    rows: Vec<Row>,
    /// The rows' files, one after the other.
    files: String,
    /// By first appearance.
    labels: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    /// Where its file ends, and the next one's begins.
    file_end: usize,
    sha256: Option<ContentHash>,
    label: u32,
    split: Split,
}

/// An image of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedImage<'a> {
    /// The file, relative to the data set's folder, with `/` between folders.
    pub file: &'a str,
    /// Hash of its content; none for a file that could not be read.
    pub sha256: Option<ContentHash>,
    /// The name of its class.
    pub label: &'a str,
    /// The split that it was in.
    pub split: Split,
}

impl SplitRecord {
    /// The images of splits.
    pub fn new(splits: &Splits) -> Self {
        let (mut record, mut labels) = (Self::default(), HashMap::new());
        record.rows.reserve_exact(splits.parts().iter().map(|(_, folder)| folder.len()).sum());
        let all: Result<(), Infallible> = splits.each_row(|row| {
            record.push(row, &mut labels);
            Ok(())
        });
        let Ok(()) = all;
        record.files.shrink_to_fit();
        record
    }

    /// Adds a row; `labels` has the numbers of those that there are.
    fn push(&mut self, image: RecordedImage<'_>, labels: &mut HashMap<String, u32>) {
        let RecordedImage { file, sha256, label, split } = image;
        let number = labels.get(label).copied().unwrap_or_else(|| {
            self.labels.push(label.to_owned());
            let number = labels.len() as u32;
            labels.insert(label.to_owned(), number);
            number
        });
        self.files.push_str(file);
        self.rows.push(Row { file_end: self.files.len(), sha256, label: number, split });
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The image in a row.
    ///
    /// # Panics
    ///
    /// If `row` is not less than [`len`](Self::len).
    pub fn row(&self, row: usize) -> RecordedImage<'_> {
        let start = row.checked_sub(1).map_or(0, |before| self.rows[before].file_end);
        let Row { file_end, sha256, label, split } = self.rows[row];
        let label = &self.labels[label as usize];
        RecordedImage { file: &self.files[start..file_end], sha256, label, split }
    }

    /// The images, row by row.
    pub fn rows(&self) -> impl Iterator<Item = RecordedImage<'_>> {
        (0..self.len()).map(|row| self.row(row))
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Run`] for a file that is no such table.
    pub fn read(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
        let unusable = |line: u64, found: String| Error::Run {
            path: path.to_path_buf(),
            reason: format!("line {line}: expected {}, found {found}", HEADER.join(",")),
        };
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(file);
        let (mut rows, mut labels) = (Self::default(), HashMap::new());
        for (line, record) in (1..).zip(reader.records()) {
            let record = record.map_err(|e| unusable(line, e.to_string()))?;
            let fields: Vec<&str> = record.iter().collect();
            if line == 1 {
                match fields == HEADER {
                    true => continue,
                    false => return Err(unusable(line, format!("{:?}", fields.join(",")))),
                }
            }
            let found = || unusable(line, format!("{:?}", fields.join(",")));
            let &[file, sha256, label, split] = fields.as_slice() else { return Err(found()) };
            let sha256 = if sha256.is_empty() { None } else { Some(sha256.parse().map_err(|()| found())?) };
            let split =
                [Split::Train, Split::Val, Split::Test].into_iter().find(|known| known.name() == split);
            let split = split.ok_or_else(found)?;
            rows.push(RecordedImage { file, sha256, label, split }, &mut labels);
        }
        // Every training has images.
        match rows.is_empty() {
            true => Err(unusable(2, "the end of the file".to_owned())),
            false => Ok(rows),
        }
    }

    /// Writes a file.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] for a file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write(path, |writer| self.rows().try_for_each(|row| writer.row(row)))
    }

    /// How other images differ from these, in words; `None` if they are the same.
    pub fn changes(&self, now: &Self) -> Option<String> {
        if self == now {
            return None;
        }
        let before: HashMap<&str, RecordedImage<'_>> = self.rows().map(|row| (row.file, row)).collect();
        let after: HashSet<&str> = now.rows().map(|row| row.file).collect();
        let present: HashSet<ContentHash> = now.rows().filter_map(|row| row.sha256).collect();
        let gone: Vec<RecordedImage<'_>> = self.rows().filter(|row| !after.contains(row.file)).collect();
        let is_here = |row: &RecordedImage<'_>| row.sha256.is_some_and(|hash| present.contains(&hash));
        let moved: Vec<RecordedImage<'_>> = gone.iter().filter(|row| is_here(row)).copied().collect();
        let moved_contents: HashSet<ContentHash> = moved.iter().filter_map(|row| row.sha256).collect();
        let is_moved =
            |row: &RecordedImage<'_>| row.sha256.is_some_and(|hash| moved_contents.contains(&hash));
        let new = now.rows().filter(|row| !before.contains_key(row.file) && !is_moved(row));
        let differing = |differs: fn(&RecordedImage<'_>, &RecordedImage<'_>) -> bool| {
            let differs = |row: &RecordedImage<'_>| before.get(row.file).is_some_and(|old| differs(old, row));
            listed(now.rows().filter(differs))
        };
        let kinds = [
            ("added", listed(new)),
            ("removed", listed(gone.iter().copied().filter(|row| !is_here(row)))),
            ("moved or renamed", listed(moved.iter().copied())),
            ("changed", differing(|old, row| old.sha256 != row.sha256)),
            ("with another label", differing(|old, row| old.label != row.label)),
        ];
        let said: Vec<String> = kinds
            .into_iter()
            .filter_map(|(what, list)| {
                list.map(|(n, first)| format!("{} {what} (first: {first})", images(n)))
            })
            .collect();
        if !said.is_empty() {
            return Some(said.join(", "));
        }
        Some(match differing(|old, row| old.split != row.split) {
            Some((n, first)) => format!("{} in another split (first: {first})", images(n)),
            None => "another order of the images".to_owned(),
        })
    }
}

/// The rows of a [`SplitRecord`] that is not held in memory.
impl Splits {
    fn each_row<E>(&self, mut each: impl FnMut(RecordedImage<'_>) -> Result<(), E>) -> Result<(), E> {
        for (split, folder) in self.parts() {
            for (i, sample) in folder.samples().iter().enumerate() {
                let (file, sha256) = (relative(&self.root, &sample.path()), self.contents.get(sample));
                each(RecordedImage { file: &file, sha256, label: &label(folder, i), split })?;
            }
        }
        Ok(())
    }

    /// Writes the [`SplitRecord`] of these images.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] for a file that cannot be written.
    pub fn write_record(&self, path: &Path) -> Result<()> {
        write(path, |writer| self.each_row(|row| writer.row(row)))
    }

    /// A hash of the files' content, their labels and their splits, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let all: Result<(), Infallible> = self.each_row(|row| {
            hash.update(format!("{row:?}"));
            Ok(())
        });
        let Ok(()) = all;
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Writes `split.csv` with the rows that `rows` gives.
fn write(path: &Path, rows: impl FnOnce(&mut Table<'_>) -> io::Result<()>) -> Result<()> {
    let write = |file: &mut dyn Write| -> io::Result<()> {
        let mut table = Table(csv::Writer::from_writer(file));
        table.0.write_record(HEADER)?;
        rows(&mut table)?;
        table.0.flush()
    };
    Ok(files::write_with(path, write)?)
}

struct Table<'a>(csv::Writer<&'a mut dyn Write>);

impl Table<'_> {
    fn row(&mut self, row: RecordedImage<'_>) -> io::Result<()> {
        let sha256 = row.sha256.map(|hash| hash.to_string()).unwrap_or_default();
        Ok(self.0.write_record([row.file, &sha256, row.label, row.split.name()])?)
    }
}

/// How many rows there are, and the first one's file.
fn listed<'a>(rows: impl Iterator<Item = RecordedImage<'a>>) -> Option<(usize, &'a str)> {
    rows.fold(None, |listed, row| match listed {
        None => Some((1, row.file)),
        Some((n, first)) => Some((n + 1, first)),
    })
}
