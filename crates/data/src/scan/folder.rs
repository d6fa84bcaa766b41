//! A folder of class folders.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use unicode_normalization::UnicodeNormalization as _;

use super::skipped::{counted, summary};
use super::walk::Tree;
use super::{SkipReason, Skipped};
use crate::decode;
use crate::error::{Error, Result};
use crate::labels::{Labels, Task};
use crate::reading::Exif;
use crate::sample::{Sample, Samples};
use crate::split::train_test_split;

/// The images of a folder of class folders, as names and labels without pixels.
///
/// `root/<class>/…/<image>`. Classes are sorted by code point, as by Python's `sorted`, and numbered in that order;
/// samples are sorted by class, then by path. Class names are in Unicode's composed form (NFC), so a folder has the
/// same classes on every system.
///
/// A file is an image by its first bytes, whatever its name. A file that is named like an image but is none stays a
/// sample, and decoding reports it. Hidden files and those that systems leave behind never count. Symbolic links are
/// followed, but no folder is counted twice.
///
/// # Examples
///
/// ```
/// use firstsight_data::{Exif, ImageFolder, SkipReason};
///
/// # let root = tempfile::tempdir().unwrap();
/// # for name in ["ants/1.png", "ants/2.png", "bees/1.png"] {
/// #     let path = root.path().join(name);
/// #     std::fs::create_dir_all(path.parent().unwrap()).unwrap();
/// #     image::GrayImage::new(4, 3).save(path).unwrap();
/// # }
/// # std::fs::write(root.path().join("bees/notes.txt"), "seen in June").unwrap();
/// # let root = root.path();
/// let folder = ImageFolder::scan(root)?;
/// assert_eq!(folder.classes(), ["ants", "bees"]);
/// assert_eq!(folder.counts(), [2, 1]);
/// assert_eq!(folder.skipped()[0].path, root.join("bees/notes.txt"));
/// assert_eq!(folder.skipped()[0].reason, SkipReason::NotAnImage);
/// assert_eq!(folder.dimensions(Exif::Apply)?, [(4, 3); 3]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Arc<[String]>,
    samples: Arc<[Sample]>,
    /// One for each sample.
    labels: Arc<Labels>,
    skipped: Vec<Skipped>,
    empty_classes: Vec<(String, PathBuf)>,
    notes: Vec<String>,
}

impl ImageFolder {
    /// Lists the images of a folder of class folders.
    ///
    /// One class alone is allowed; [`check_for_training`](Self::check_for_training) asks for two. A class folder
    /// without images is listed in [`empty_classes`](Self::empty_classes).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the folder cannot be listed, [`Error::NoClasses`], [`Error::NotUnicode`].
    pub fn scan(root: &Path) -> Result<Self> {
        Self::of_tree(root, Tree::walk(root)?)
    }

    pub(super) fn of_tree(root: &Path, tree: Tree) -> Result<Self> {
        #[derive(Default)]
        struct Class {
            folders: BTreeMap<PathBuf, usize>,
            images: Vec<PathBuf>,
        }
        let Tree { images, folders, mut skipped } = tree;
        let mut classes: BTreeMap<String, Class> = BTreeMap::new();
        for folder in folders.into_iter().filter(|folder| folder.parent() == Some(root)) {
            let class = folder.file_name().and_then(OsStr::to_str).map(composed);
            let class = class.ok_or_else(|| Error::NotUnicode { path: folder.clone() })?;
            classes.entry(class).or_default().folders.insert(folder, 0);
        }
        for path in images {
            let mut below = path.strip_prefix(root).unwrap_or(&path).components();
            let folder = below.next().map(|first| root.join(first)).filter(|_| below.next().is_some());
            let class = folder.as_deref().and_then(Path::file_name).and_then(OsStr::to_str).map(composed);
            match (folder, class.and_then(|class| classes.get_mut(&class))) {
                (Some(folder), Some(class)) => {
                    *class.folders.entry(folder).or_default() += 1;
                    class.images.push(path);
                }
                _ => skipped.push(Skipped { path, reason: SkipReason::NoClass }),
            }
        }
        skipped.sort();

        let (mut names, mut samples, mut labels) = (vec![], Samples::default(), vec![]);
        let (mut notes, mut empty_classes) = (vec![], vec![]);
        for (class, Class { folders, images }) in classes {
            if images.is_empty() {
                empty_classes.extend(folders.into_keys().map(|folder| (class.clone(), folder)));
                continue;
            }
            if folders.len() > 1 {
                notes.push(format!(
                    "{} folders in {} have the same name in Unicode's composed form: they are one class, {class}",
                    folders.len(),
                    root.display()
                ));
            }
            labels.resize(labels.len() + images.len(), names.len() as u32);
            images.iter().for_each(|path| samples.file(path));
            names.push(class);
        }
        if names.is_empty() {
            let mut found = counted(root, &skipped);
            if !empty_classes.is_empty() {
                let folders = if empty_classes.len() == 1 { "folder" } else { "folders" };
                let comma = if found.is_empty() { "" } else { ", " };
                found = format!("{} {folders} without images{comma}{found}", empty_classes.len());
            }
            let found = if found.is_empty() { "nothing".to_owned() } else { found };
            return Err(Error::NoClasses { path: root.to_owned(), found });
        }
        let (classes, samples) = (names.into(), samples.finish().collect());
        let labels = Labels::Class(labels).into();
        Ok(Self { root: root.to_owned(), classes, samples, labels, skipped, empty_classes, notes })
    }

    /// Images that something else than class folders names.
    pub(super) fn listed(
        root: PathBuf,
        classes: Arc<[String]>,
        samples: Arc<[Sample]>,
        labels: Labels,
    ) -> Self {
        let labels = labels.into();
        Self { root, classes, samples, labels, skipped: vec![], empty_classes: vec![], notes: vec![] }
    }

    /// The same images with only those classes that they have.
    pub(super) fn with_found_classes(self) -> Self {
        let found = self.classes.iter().zip(self.counts()).filter(|(_, n)| *n > 0);
        let found: Vec<String> = found.map(|(class, _)| class.clone()).collect();
        self.with_classes(&found).0
    }

    /// Checks that a classifier can be trained on the classes.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyClass`] for a class folder without images, [`Error::OneClass`].
    pub fn check_for_training(&self) -> Result<()> {
        if let Some((class, path)) = self.empty_classes.first() {
            return Err(Error::EmptyClass { class: class.clone(), path: path.clone() });
        }
        match &*self.classes {
            [class] if self.labels.task() == Task::SingleLabel => {
                Err(Error::OneClass { class: class.clone(), path: self.root.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The images labeled by a network's classes, matched by name, and the names of classes that are not among them.
    ///
    /// Images of those are left out: they become [`skipped`](Self::skipped) as [`SkipReason::UnknownClass`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let root = tempfile::tempdir().unwrap();
    /// # for name in ["bees/1.png", "wasps/1.png"] {
    /// #     let path = root.path().join(name);
    /// #     std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    /// #     image::GrayImage::new(4, 3).save(path).unwrap();
    /// # }
    /// # let root = root.path();
    /// let network = ["ants".to_owned(), "bees".to_owned()];
    /// let (folder, unknown) = firstsight_data::ImageFolder::scan(root)?.with_classes(&network);
    /// assert_eq!((folder.labels(), folder.counts()), (&[1][..], vec![0, 1]));
    /// assert_eq!(unknown, ["wasps"]);
    /// # Ok::<(), firstsight_data::Error>(())
    /// ```
    pub fn with_classes(self, classes: &[String]) -> (Self, Vec<String>) {
        let known: BTreeMap<String, u32> = classes.iter().map(|class| composed(class)).zip(0..).collect();
        let to_known: Vec<Option<u32>> =
            self.classes.iter().map(|class| known.get(&composed(class)).copied()).collect();
        let unknown: Vec<String> = self
            .classes
            .iter()
            .zip(&to_known)
            .filter(|(_, to)| to.is_none())
            .map(|(class, _)| class.clone())
            .collect();
        let of = |i: usize| match &*self.labels {
            Labels::Class(labels) => to_known[labels[i] as usize].is_some(),
            Labels::MultiLabel(labels) => labels[i].iter().all(|label| to_known[*label as usize].is_some()),
            Labels::Value(_) => true,
        };
        let left_out: Vec<usize> = (0..self.len()).filter(|&i| !of(i)).collect();
        let kept = match left_out.is_empty() {
            true => None,
            false => Some((0..self.len()).filter(|&i| of(i)).collect::<Vec<_>>()),
        };
        let Self { root, mut samples, mut labels, mut skipped, empty_classes, notes, .. } = self;
        skipped.extend(
            left_out
                .into_iter()
                .map(|i| Skipped { path: samples[i].path(), reason: SkipReason::UnknownClass }),
        );
        skipped.sort();
        if let Some(kept) = kept {
            samples = kept.iter().map(|&i| samples[i].clone()).collect();
            labels = labels.subset(&kept).into();
        }
        if to_known.iter().zip(0..).any(|(known, label)| *known != Some(label)) {
            let labels_of = Arc::unwrap_or_clone(labels);
            labels = labels_of.renumbered(|label| to_known[label as usize].unwrap_or_default()).into();
        }
        (Self { root, classes: classes.into(), samples, labels, skipped, empty_classes, notes }, unknown)
    }

    /// Class folders without images, each with its name.
    pub fn empty_classes(&self) -> &[(String, PathBuf)] {
        &self.empty_classes
    }

    /// What the user should know about the folder, in sentences: what was left out, and what was understood in
    /// another way than it lies there.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = self.notes.clone();
        for (class, path) in &self.empty_classes {
            remarks.push(format!("class {class} has no image in {}", path.display()));
        }
        remarks.extend(summary(&self.root, self.samples.len(), &self.skipped));
        remarks
    }

    pub(super) fn note(&mut self, note: Option<String>) {
        self.notes.splice(0..0, note);
    }

    /// The folder that was scanned.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names of the classes, by label; for numbers, the one name of what they are.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The images, by class and path, or in the order of the indices given to [`subset`](Self::subset).
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    pub(crate) fn shared_samples(&self) -> Arc<[Sample]> {
        self.samples.clone()
    }

    /// The class of each sample; empty for other tasks than one class per image: see [`targets`](Self::targets).
    pub fn labels(&self) -> &[u32] {
        self.labels.classes()
    }

    /// The labels of the samples, of whatever task.
    pub fn targets(&self) -> &Labels {
        &self.labels
    }

    pub(crate) fn shared_targets(&self) -> Arc<Labels> {
        self.labels.clone()
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The number of images of each class, by label.
    pub fn counts(&self) -> Vec<usize> {
        self.labels.counts(self.classes.len())
    }

    /// The files and folders that are left out, by path.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The samples at `indices`, in this order, with the same classes.
    ///
    /// # Panics
    ///
    /// If an index is not less than [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> Self {
        let samples = indices.iter().map(|&i| self.samples[i].clone()).collect();
        Self { samples, labels: self.labels.subset(indices).into(), ..self.clone() }
    }

    /// These images, then those of another split of the same data set.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for other classes or labels of another task.
    pub fn joined(mut self, other: &Self) -> Result<Self> {
        if self.classes != other.classes {
            return Err(Error::invalid("classes", self.classes.join(", "), other.classes.join(", ")));
        }
        self.samples = self.samples.iter().chain(&*other.samples).cloned().collect();
        self.labels = Arc::unwrap_or_clone(self.labels).joined(&other.labels)?.into();
        self.skipped.extend(other.skipped.iter().cloned());
        Ok(self)
    }

    /// The width and height of each image in pixels, from the files' headers, read in parallel; of the upright image where
    /// `exif` is applied.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::NotAnImage`] or [`Error::Undecodable`], naming the first such file.
    pub fn dimensions(&self, exif: Exif) -> Result<Vec<(u32, u32)>> {
        self.each_dimensions(exif).into_iter().map(|found| found.map_err(|error| *error)).collect()
    }

    /// As [`dimensions`](Self::dimensions), with an error in the place of each image whose header cannot be read.
    pub fn each_dimensions(&self, exif: Exif) -> Vec<Result<(u32, u32), Box<Error>>> {
        let dimensions = |sample| decode::read_dimensions(sample, exif).map_err(Box::new);
        self.samples.par_iter().map(dimensions).collect()
    }

    /// Shuffles and splits into train and test exactly as scikit-learn does: see [`train_test_split`].
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if `test_size` leaves one side without images.
    pub fn split(&self, test_size: f64, random_state: u32) -> Result<(Self, Self)> {
        let (train, test) = train_test_split(self.len(), test_size, random_state)?;
        Ok((self.subset(&train), self.subset(&test)))
    }
}

/// Unicode's composed form.
pub(super) fn composed(name: &str) -> String {
    name.nfc().collect()
}
