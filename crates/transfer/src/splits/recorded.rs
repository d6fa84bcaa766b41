//! `split.csv` of a run: which file was in which split, so that what was set aside stays set aside.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use firstsight_data::{ImageFolder, Labels};
use sha2::{Digest as _, Sha256};

use super::contents::images;
use super::{Contents, Split, Splits, label, relative};
use crate::{ContentHash, Error, Result, files};

const HEADER: [&str; 4] = ["file", "sha256", "label", "split"];

/// The images of a training by split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitRecord {
    /// One row for each image: training, validation, test.
    pub rows: Vec<RecordedImage>,
}

/// An image of a training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedImage {
    /// The file, relative to the data set's folder, with `/` between folders.
    pub file: Box<str>,
    /// Hash of its content; none for a file that could not be read.
    pub sha256: Option<ContentHash>,
    /// The name of its class.
    pub label: Arc<str>,
    /// The split that it was in.
    pub split: Split,
}

impl SplitRecord {
    /// The images of splits.
    pub fn new(splits: &Splits) -> Self {
        let parts = splits.parts();
        let mut all = Vec::with_capacity(parts.iter().map(|(_, folder)| folder.len()).sum());
        for (split, folder) in parts {
            all.extend(rows(split, folder, &splits.root, &splits.contents));
        }
        Self { rows: all }
    }

    /// A hash of the files' content, their labels and their splits, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for row in &self.rows {
            hash.update(format!("{row:?}"));
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
        let (mut rows, mut labels) = (Vec::new(), HashMap::<String, Arc<str>>::new());
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
            rows.push(RecordedImage {
                file: file.into(),
                sha256: if sha256.is_empty() { None } else { Some(sha256.parse().map_err(|()| found())?) },
                label: labels
                    .entry(label.to_owned())
                    .or_insert_with_key(|label| label.as_str().into())
                    .clone(),
                split: [Split::Train, Split::Val, Split::Test]
                    .into_iter()
                    .find(|known| known.name() == split)
                    .ok_or_else(found)?,
            });
        }
        // Every training has images.
        match rows.is_empty() {
            true => Err(unusable(2, "the end of the file".to_owned())),
            false => Ok(Self { rows }),
        }
    }

    /// Writes a file.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] for a file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let write = |file: &mut dyn Write| -> io::Result<()> {
            let mut writer = csv::Writer::from_writer(file);
            writer.write_record(HEADER)?;
            for row in &self.rows {
                let sha256 = row.sha256.map(|hash| hash.to_string()).unwrap_or_default();
                writer.write_record([&*row.file, &*sha256, &*row.label, row.split.name()])?;
            }
            writer.flush()
        };
        Ok(files::write_with(path, write)?)
    }

    /// How other images differ from these, in words; `None` if they are the same.
    pub fn changes(&self, now: &Self) -> Option<String> {
        if self == now {
            return None;
        }
        let before: HashMap<&str, &RecordedImage> = self.rows.iter().map(|row| (&*row.file, row)).collect();
        let after: HashMap<&str, &RecordedImage> = now.rows.iter().map(|row| (&*row.file, row)).collect();
        let present: HashSet<ContentHash> = now.rows.iter().filter_map(|row| row.sha256).collect();
        let gone: Vec<&RecordedImage> =
            self.rows.iter().filter(|row| !after.contains_key(&*row.file)).collect();
        let is_here = |row: &&&RecordedImage| row.sha256.is_some_and(|hash| present.contains(&hash));
        let moved: Vec<&RecordedImage> = gone.iter().filter(is_here).copied().collect();
        let moved_contents: HashSet<ContentHash> = moved.iter().filter_map(|row| row.sha256).collect();
        let is_moved = |row: &RecordedImage| row.sha256.is_some_and(|hash| moved_contents.contains(&hash));
        let new = now.rows.iter().filter(|row| !before.contains_key(&*row.file) && !is_moved(row));
        let differing = |differs: fn(&RecordedImage, &RecordedImage) -> bool| {
            let differs = |row: &&RecordedImage| before.get(&*row.file).is_some_and(|old| differs(old, row));
            listed(now.rows.iter().filter(differs))
        };
        let kinds = [
            ("added", listed(new)),
            ("removed", listed(gone.iter().filter(|row| !is_here(row)).copied())),
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

/// How many rows there are, and the first one's file.
fn listed<'a>(rows: impl Iterator<Item = &'a RecordedImage>) -> Option<(usize, &'a str)> {
    rows.fold(None, |listed, row| match listed {
        None => Some((1, &*row.file)),
        Some((n, first)) => Some((n + 1, first)),
    })
}

fn rows(
    split: Split,
    folder: &ImageFolder,
    root: &Path,
    contents: &Contents,
) -> impl Iterator<Item = RecordedImage> {
    // Images of a class share its name.
    let classes: Vec<Arc<str>> = folder.classes().iter().map(|class| class.as_str().into()).collect();
    let row = move |(i, sample): (usize, &firstsight_data::Sample)| RecordedImage {
        file: relative(root, &sample.path).into(),
        sha256: contents.get(sample),
        label: match folder.targets() {
            Labels::Class(labels) => classes[labels[i] as usize].clone(),
            Labels::MultiLabel(_) | Labels::Value(_) => label(folder, i).into(),
        },
        split,
    };
    folder.samples().iter().enumerate().map(row)
}
