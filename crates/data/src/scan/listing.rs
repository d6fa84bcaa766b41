//! Images with labels in words, from whatever names them, as a data set.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::Regex;
use unicode_normalization::is_nfc;

use super::folder::composed;
use super::sniff::START;
use super::walk::{Tree, Walker, list};
use super::{DatasetFolder, ImageFolder, ScanOptions, Skipped, parquet, shards, table};
use crate::decode::stand_in;
use crate::error::{Error, Result};
use crate::labels::{Labels, Task};
use crate::sample::{Sample, Samples, refuse_special};

/// An image, what is said of it, and where.
pub(super) struct Entry {
    pub(super) sample: Sample,
    /// A cell for each label column. Images of one class may share them.
    pub(super) labels: Arc<[String]>,
    /// All training images where nothing is said.
    pub(super) split: Option<&'static str>,
    /// The line or row in the file that names it.
    pub(super) line: u64,
}

/// Images in the order in which they are named.
pub(super) struct Listing {
    /// What was read, for messages.
    pub(super) path: PathBuf,
    /// The folder of the images.
    pub(super) root: PathBuf,
    /// Whether it is a table, whose paths [`ScanOptions::images`] may hold.
    pub(super) is_table: bool,
    /// The label columns.
    pub(super) columns: Vec<String>,
    pub(super) entries: Vec<Entry>,
    /// Names of the classes by the numbers that stand for them among the labels, where those are given.
    pub(super) classes: Vec<String>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) notes: Vec<String>,
}

impl Listing {
    /// The images that a table, a Parquet file or an archive names; `None` for another file or a folder.
    pub(super) fn of_file(path: &Path, options: &ScanOptions, labeled: bool) -> Result<Option<Self>> {
        if path.is_dir() {
            return Ok(None);
        }
        let root = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let files = [path.to_owned()];
        let is_listing = table::is_table(path) || parquet::is_parquet(path) || shards::is_archive(path);
        if is_listing && path.exists() {
            check_file(path)?;
        }
        if table::is_table(path) {
            table::read(path, options, labeled).map(Some)
        } else if parquet::is_parquet(path) {
            parquet::read(root, &files, options, labeled).map(Some)
        } else if shards::is_archive(path) {
            shards::read(root, &files, options, labeled).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The images that the Parquet files, archives or the `metadata` table of a folder name.
    pub(super) fn of_folder(root: &Path, options: &ScanOptions, labeled: bool) -> Result<Option<Self>> {
        for name in ["metadata.csv", "metadata.jsonl"] {
            let path = root.join(name);
            if path.is_file() {
                check_file(&path)?;
                return table::read(&path, options, labeled).map(Some);
            }
        }
        let mut walker = Walker::default();
        walker.walk(root)?;
        let files = walker.files();
        let of =
            |kind: fn(&Path) -> bool| files.iter().filter(|path| kind(path)).cloned().collect::<Vec<_>>();
        let (parquets, archives) = (of(parquet::is_parquet), of(shards::is_archive));
        parquets.iter().chain(&archives).try_for_each(|path| check_file(path))?;
        if !parquets.is_empty() {
            parquet::read(root, &parquets, options, labeled).map(Some)
        } else if !archives.is_empty() {
            shards::read(root, &archives, options, labeled).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The images of a folder, whose names hold their labels. Where folders below it are splits, they are those.
    pub(super) fn of_names(root: &Path) -> Result<Self> {
        let Tree { images, skipped, .. } = Tree::walk(root)?;
        let has_splits = list(root)?
            .iter()
            .any(|(name, path)| path.is_dir() && name.to_str().is_some_and(|name| split_of(name).is_some()));
        let labels: Arc<[String]> = [String::new()].into();
        let mut samples = Samples::default();
        images.iter().for_each(|path| samples.file(path));
        let split = |path: &PathBuf| {
            path.parent().filter(|_| has_splits).and_then(|folder| split_of_folder(root, folder))
        };
        let entries = samples.finish().zip(&images).map(|(sample, path)| Entry {
            sample,
            labels: labels.clone(),
            split: split(path),
            line: 0,
        });
        Ok(Self {
            path: root.to_owned(),
            root: root.to_owned(),
            is_table: false,
            columns: vec!["label".to_owned()],
            entries: entries.collect(),
            classes: vec![],
            skipped,
            notes: vec![],
        })
    }

    /// Takes the labels from names.
    fn label_from(&mut self, pattern: &str) -> Result<()> {
        let wrong = |expected: &str, found: String| Error::invalid("label from", expected, found);
        let regex = Regex::new(pattern).ok().filter(|regex| regex.captures_len() > 1).ok_or_else(|| {
            wrong("a regular expression with a group, such as ^(.+)_[0-9]+", pattern.to_owned())
        })?;
        let mut unmatched = Vec::new();
        for entry in &mut self.entries {
            let path = entry.sample.path();
            let below = path.strip_prefix(&self.root).unwrap_or(&path);
            let below = below.to_string_lossy().replace('\\', "/");
            let name = below.rsplit('/').next().unwrap_or(&below);
            let text = if pattern.contains('/') { &below } else { name };
            match regex.captures(text).and_then(|found| found.get(1)) {
                Some(label) => entry.labels = [label.as_str().to_owned()].into(),
                None => unmatched.push(below.clone()),
            }
        }
        match unmatched.first() {
            None => Ok(()),
            Some(first) => Err(wrong(
                &format!("a pattern that matches every image, not {pattern}"),
                format!(
                    "{} of {} that it doesn't match, such as {first}",
                    unmatched.len(),
                    self.entries.len()
                ),
            )),
        }
    }

    pub(super) fn into_dataset(mut self, options: &ScanOptions) -> Result<DatasetFolder> {
        options.check_label_from()?;
        if !self.is_table {
            options.check_images(&self.path)?;
        }
        if let Some(pattern) = &options.label_from {
            self.label_from(pattern)?;
            self.columns = vec!["label".to_owned()];
            self.classes.clear();
        }
        if self.entries.is_empty() {
            return Err(Error::NoImages { path: self.path, found: "none".to_owned() });
        }
        // A name may hold the signs that separate labels in a cell.
        let one = options.label_from.as_ref().map(|_| Task::SingleLabel);
        let (names, labels) = self.labels(options.task.or(one))?;
        let numbers = || names.iter().all(|name| name.parse::<f64>().is_ok());
        if options.task.is_none()
            && labels.task() == Task::SingleLabel
            && names.len() > 2
            && 2 * names.len() > self.entries.len()
            && numbers()
        {
            self.notes.push(format!(
                "the classes in {} are numbers with one image each: --task regression learns numbers as such",
                self.path.display()
            ));
        }
        let Self { path, root, entries, skipped, notes, columns, .. } = self;
        let mut parts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, entry) in entries.iter().enumerate() {
            parts.entry(entry.split.unwrap_or("train")).or_default().push(i);
        }
        let names: Arc<[String]> = names.into();
        let samples: Arc<[Sample]> = entries.into_iter().map(|entry| entry.sample).collect();
        let all = ImageFolder::listed(root.clone(), names, samples, labels);
        let mut part = |split| {
            let indices = parts.remove(split)?;
            let part = if indices.len() == all.len() { all.clone() } else { all.subset(&indices) };
            Some(if columns.len() == 1 { part.with_found_classes() } else { part })
        };
        let (train, val, test) = (part("train"), part("val"), part("test"));
        DatasetFolder::of_parts(&path, root, [train, val, test], skipped, notes, options.all_classes)
    }

    fn labels(&self, task: Option<Task>) -> Result<(Vec<String>, Labels)> {
        let cell = |row: usize, column: usize| self.entries[row].labels[column].as_str();
        let found = match &*self.columns {
            [column] => {
                let mut cells: Vec<&str> = (0..self.entries.len()).map(|row| cell(row, 0)).collect();
                let others: Vec<(usize, String)> = (0..)
                    .zip(&cells)
                    .filter(|(_, cell)| !is_nfc(cell))
                    .map(|(row, cell)| (row, composed(cell)))
                    .collect();
                others.iter().for_each(|(row, cell)| cells[*row] = cell);
                Labels::from_column(column, &cells, task)
            }
            columns => {
                if let Some(task) = task.filter(|task| *task != Task::MultiLabel) {
                    let expected = format!("{} for the columns {}", Task::MultiLabel, columns.join(", "));
                    return Err(Error::invalid("task", expected, task));
                }
                let names: Vec<&str> = columns.iter().map(String::as_str).collect();
                let rows: Vec<Vec<&str>> =
                    self.entries.iter().map(|e| e.labels.iter().map(String::as_str).collect()).collect();
                Labels::from_flags(&names, &rows)
            }
        };
        let (names, labels) = found.map_err(|error| {
            let Entry { sample, line, .. } = &self.entries[error.row];
            let container = sample.container();
            Error::Csv {
                path: if container == sample.path() { self.path.clone() } else { container },
                line: *line,
                column: self.columns[error.column].clone(),
                expected: error.expected.to_owned(),
                found: cell(error.row, error.column).to_owned(),
            }
        })?;
        if self.classes.is_empty() || labels.task() == Task::Regression {
            return Ok((names, labels));
        }
        let known = told_apart(self.classes.iter().map(|class| composed(class)).collect());
        let mut meant = Vec::with_capacity(names.len());
        for (name, label) in names.iter().zip(0..) {
            meant.push(match name.parse::<f64>().ok().filter(|number| number.is_finite()) {
                None => name,
                Some(number) => known
                    .get(number as usize)
                    .filter(|_| number >= 0.0 && number.fract() == 0.0)
                    .ok_or_else(|| self.unnamed(&labels, label, name))?,
            });
        }
        let found: BTreeSet<&String> = meant.iter().copied().collect();
        let mut order: Vec<String> = known.iter().filter(|class| found.contains(class)).cloned().collect();
        order.extend(found.into_iter().filter(|name| !known.contains(name)).cloned());
        let to: BTreeMap<&String, u32> = order.iter().zip(0..).collect();
        let labels = labels.renumbered(|label| to[meant[label as usize]]);
        Ok((order, labels))
    }

    /// The error of the first image whose label is a number that no name of a class has.
    fn unnamed(&self, labels: &Labels, label: u32, name: &str) -> Error {
        let row = match labels {
            Labels::Class(labels) => labels.iter().position(|class| *class == label),
            Labels::MultiLabel(rows) => rows.iter().position(|row| row.contains(&label)),
            Labels::Value(_) => None,
        };
        Error::Archive {
            path: row.map_or_else(|| self.path.clone(), |row| self.entries[row].sample.path()),
            expected: format!("the name of a class or a number from 0 to {}", self.classes.len() - 1),
            found: name.to_owned(),
        }
    }
}

/// The names of classes, those that several have with their numbers: of ImageNet's, crane (134) is a bird and crane (517) a machine.
fn told_apart(names: Vec<String>) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    names.iter().for_each(|name| *counts.entry(name).or_default() += 1);
    let told = |(number, name): (usize, &String)| match counts[name.as_str()] {
        1 => name.clone(),
        _ => format!("{name} ({number})"),
    };
    names.iter().enumerate().map(told).collect()
}

/// Refuses what is no file, and what a download has left in the place of one.
fn check_file(path: &Path) -> Result<()> {
    let mut start = Vec::new();
    refuse_special(path)
        .and_then(|()| File::open(path)?.take(START).read_to_end(&mut start))
        .map_err(Error::io("read", path))?;
    match stand_in(&start) {
        None => Ok(()),
        Some(found) => Err(Error::Archive {
            path: path.to_owned(),
            expected: "a table, a Parquet file or a tar archive".to_owned(),
            found: found.to_owned(),
        }),
    }
}

/// The split that a name means.
pub(super) fn split_of(name: &str) -> Option<&'static str> {
    match name.trim().to_lowercase().as_str() {
        "train" | "training" => Some("train"),
        "val" | "valid" | "validation" | "dev" => Some("val"),
        "test" | "testing" | "eval" | "evaluation" => Some("test"),
        _ => None,
    }
}

/// The split that one of the folders below `root` is called.
fn split_of_folder(root: &Path, folder: &Path) -> Option<&'static str> {
    let below = folder.strip_prefix(root).ok()?;
    below.components().find_map(|part| split_of(&part.as_os_str().to_string_lossy()))
}

/// The split in the words of a file's name or of the folders that hold it below `root`, as Hugging Face tells it.
pub(super) fn split_of_path(root: &Path, path: &Path) -> Option<&'static str> {
    let below = path.strip_prefix(root).unwrap_or(path);
    let names: Vec<String> =
        below.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    names.iter().rev().find_map(|name| name.split(|sign: char| !sign.is_alphanumeric()).find_map(split_of))
}
