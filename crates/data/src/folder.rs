//! Folders of images on disk.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::decode;
use crate::error::{Error, Result};
use crate::image_name::is_image_name;
use crate::labels::Labels;
use crate::split::train_test_split;

/// One image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The image file.
    pub path: PathBuf,
}

/// A file or folder that is not an image of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The file or folder.
    pub path: PathBuf,
    /// The reason, in words.
    pub reason: &'static str,
}

/// The images of a folder of class folders, as names and labels without pixels.
///
/// `root/<class>/<image>`. Classes are sorted by code point, as by Python's `sorted`, and numbered in that
/// order; samples are sorted by class, then by file name. A class folder may be a symbolic link.
///
/// # Examples
///
/// ```
/// use firstsight_data::ImageFolder;
///
/// # let root = tempfile::tempdir().unwrap();
/// # for name in ["ants/1.png", "ants/2.png", "bees/1.png", "bees/notes.txt"] {
/// #     let path = root.path().join(name);
/// #     std::fs::create_dir_all(path.parent().unwrap()).unwrap();
/// #     image::GrayImage::new(4, 3).save(path.with_extension("png")).unwrap();
/// #     std::fs::rename(path.with_extension("png"), path).unwrap();
/// # }
/// # let root = root.path();
/// let folder = ImageFolder::scan(root)?;
/// assert_eq!(folder.classes(), ["ants", "bees"]);
/// assert_eq!(folder.counts(), [2, 1]);
/// assert_eq!(folder.skipped()[0].path, root.join("bees/notes.txt"));
/// assert_eq!(folder.dimensions()?, [(4, 3); 3]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Arc<[String]>,
    samples: Vec<Sample>,
    /// One for each sample.
    labels: Labels,
    skipped: Vec<Skipped>,
}

impl ImageFolder {
    /// Lists the images of a folder of class folders.
    ///
    /// Hidden files, files without an image's extension, and folders inside class folders are skipped and listed
    /// in [`skipped`](Self::skipped).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a folder cannot be listed, [`Error::NoClasses`], [`Error::OneClass`],
    /// [`Error::EmptyClass`], [`Error::SymlinkLoop`], [`Error::NotUnicode`].
    pub fn scan(root: &Path) -> Result<Self> {
        let folder = Self::scan_classes(root)?;
        match &*folder.classes {
            [class] => Err(Error::OneClass { class: class.clone(), path: root.to_owned() }),
            _ => Ok(folder),
        }
    }

    /// As [`scan`](Self::scan), but accepts a single class.
    fn scan_classes(root: &Path) -> Result<Self> {
        let mut skipped = Vec::new();
        let mut classes = Vec::new();
        for (name, path) in list(root)? {
            if is_hidden(&name) {
                skipped.push(Skipped { path, reason: "hidden" });
            } else if is_class_folder(root, &path)? {
                let class = name.into_string().map_err(|_| Error::NotUnicode { path: path.clone() })?;
                classes.push((class, path));
            } else {
                skipped.push(Skipped { path, reason: "not a class folder" });
            }
        }
        if classes.is_empty() {
            return Err(Error::NoClasses { path: root.to_owned() });
        }

        let found = classes
            .par_iter()
            .map(|(class, path)| {
                let (images, skipped) = list_images(path)?;
                if images.is_empty() {
                    return Err(Error::EmptyClass { class: class.clone(), path: path.clone() });
                }
                Ok((images, skipped))
            })
            .collect::<Vec<Result<_>>>();
        let (mut samples, mut labels) = (Vec::new(), Vec::new());
        for (label, found) in (0..).zip(found) {
            let (images, skipped_there) = found?;
            labels.resize(labels.len() + images.len(), label);
            samples.extend(images.into_iter().map(|path| Sample { path }));
            skipped.extend(skipped_there);
        }
        let classes = classes.into_iter().map(|(class, _)| class).collect();
        Ok(Self { root: root.to_owned(), classes, samples, labels: Labels::Class(labels), skipped })
    }

    /// The folder that was scanned.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names of the classes, by label; for numbers, the one name of what they are.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The images, by class and file name, or in the order of the indices given to [`subset`](Self::subset).
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The class of each sample; empty for other tasks than one class per image: see [`targets`](Self::targets).
    pub fn labels(&self) -> &[u32] {
        self.labels.classes()
    }

    /// The labels of the samples, of whatever task.
    pub fn targets(&self) -> &Labels {
        &self.labels
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are no images, which is only so for an empty [`subset`](Self::subset).
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The number of images of each class, by label.
    pub fn counts(&self) -> Vec<usize> {
        self.labels.counts(self.classes.len())
    }

    /// The files and folders that are not images of a class.
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
        Self { samples, labels: self.labels.subset(indices), ..self.clone() }
    }

    /// The width and height of each image in pixels, from the files' headers, read in parallel.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::NotAnImage`] or [`Error::Undecodable`], naming the first such file.
    pub fn dimensions(&self) -> Result<Vec<(u32, u32)>> {
        let sizes: Vec<Result<_>> =
            self.samples.par_iter().map(|s| decode::read_dimensions(&s.path)).collect();
        sizes.into_iter().collect()
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

    /// Numbers the classes as in `train`.
    fn relabel(self, train: &Self) -> Result<Self> {
        let known: BTreeMap<&str, u32> = train.classes.iter().map(String::as_str).zip(0..).collect();
        let unknown: Vec<String> =
            self.classes.iter().filter(|c| !known.contains_key(c.as_str())).cloned().collect();
        if !unknown.is_empty() {
            return Err(Error::UnknownClasses { path: self.root, train: train.root.clone(), unknown });
        }
        let to_train: Vec<u32> = self.classes.iter().map(|class| known[class.as_str()]).collect();
        let to_train = |label: &u32| to_train[*label as usize];
        let labels = match self.labels {
            Labels::Class(labels) => Labels::Class(labels.iter().map(to_train).collect()),
            Labels::MultiLabel(labels) => Labels::MultiLabel(
                labels
                    .iter()
                    .map(|labels| {
                        let mut labels: Vec<u32> = labels.iter().map(to_train).collect();
                        labels.sort_unstable();
                        labels
                    })
                    .collect(),
            ),
            Labels::Value(labels) => Labels::Value(labels),
        };
        Ok(Self { classes: train.classes.clone(), labels, ..self })
    }
}

/// A data set on disk, with or without a split into train, validation and test.
///
/// # Examples
///
/// ```
/// use firstsight_data::DatasetFolder;
///
/// # let root = tempfile::tempdir().unwrap();
/// # for name in ["Train/cat/1.png", "Train/dog/1.png", "Test/dog/2.png"] {
/// #     let path = root.path().join(name);
/// #     std::fs::create_dir_all(path.parent().unwrap()).unwrap();
/// #     std::fs::write(path, []).unwrap();
/// # }
/// # let root = root.path();
/// let data = DatasetFolder::scan(root)?;
/// let test = data.test.unwrap();
/// assert_eq!(data.train.classes(), ["cat", "dog"]);
/// assert_eq!(test.classes(), ["cat", "dog"]);
/// assert_eq!(test.labels(), [1]);
/// assert!(data.val.is_none());
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DatasetFolder {
    /// The training images, or all of them if the folder has no split.
    pub train: ImageFolder,
    /// The validation images, labeled by the training folder's classes.
    pub val: Option<ImageFolder>,
    /// The test images, labeled by the training folder's classes.
    pub test: Option<ImageFolder>,
}

impl DatasetFolder {
    /// Scans a folder with `train` and optionally `val` (or `validation`, `valid`) and `test`, in any letter case,
    /// each a folder of class folders; or a folder of class folders.
    ///
    /// A folder called `train` that directly holds images is a class. Files and folders other than the splits are
    /// listed in the training folder's [`skipped`](ImageFolder::skipped).
    ///
    /// # Errors
    ///
    /// Those of [`ImageFolder::scan`]; [`Error::UnknownClasses`] if validation or test has a class that training
    /// lacks (not the other way round); [`Error::AmbiguousSplit`] for both `Train` and `train`.
    pub fn scan(root: &Path) -> Result<Self> {
        let mut splits: BTreeMap<&str, PathBuf> = BTreeMap::new();
        let mut beside = Vec::new();
        for (name, path) in list(root)? {
            let split = match name.to_string_lossy().to_lowercase().as_str() {
                "train" => "train",
                "val" | "valid" | "validation" => "val",
                "test" => "test",
                _ if is_hidden(&name) => {
                    beside.push(Skipped { path, reason: "hidden" });
                    continue;
                }
                _ => {
                    beside.push(Skipped { path, reason: "not a split folder" });
                    continue;
                }
            };
            if let Some(first) = splits.insert(split, path.clone()) {
                return Err(Error::AmbiguousSplit { split, first, second: path });
            }
        }
        let train = match splits.get("train") {
            Some(path) if path.is_dir() && list_images(path)?.0.is_empty() => path,
            _ => return Ok(Self { train: ImageFolder::scan(root)?, val: None, test: None }),
        };

        let mut train = ImageFolder::scan(train)?;
        train.skipped.extend(beside);
        let held_out = |split| match splits.get(split) {
            Some(path) => ImageFolder::scan_classes(path)?.relabel(&train).map(Some),
            None => Ok(None),
        };
        let (val, test) = (held_out("val")?, held_out("test")?);
        Ok(Self { train, val, test })
    }
}

/// The entries of a folder, by name.
fn list(folder: &Path) -> Result<Vec<(OsString, PathBuf)>> {
    let read = || -> io::Result<Vec<_>> {
        let mut entries = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| (entry.file_name(), entry.path())))
            .collect::<io::Result<Vec<_>>>()?;
        // UTF-8 sorts as its code points do.
        entries.sort_by(|a, b| a.0.as_encoded_bytes().cmp(b.0.as_encoded_bytes()));
        Ok(entries)
    };
    read().map_err(Error::io("list", folder))
}

/// The image files of a class folder, and its other files and folders.
fn list_images(folder: &Path) -> Result<(Vec<PathBuf>, Vec<Skipped>)> {
    let (mut images, mut skipped) = (Vec::new(), Vec::new());
    for (name, path) in list(folder)? {
        let reason = if is_hidden(&name) {
            "hidden"
        } else if !is_image_name(&path) {
            if path.is_dir() { "a folder inside a class folder" } else { "not an image's extension" }
        } else if !path.is_file() {
            "named like an image, but not a file"
        } else {
            images.push(path);
            continue;
        };
        skipped.push(Skipped { path, reason });
    }
    Ok((images, skipped))
}

fn is_hidden(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether `path` is a folder, following symbolic links.
///
/// A link that leads to itself or to a folder above it is an error.
fn is_class_folder(root: &Path, path: &Path) -> Result<bool> {
    let is_link = fs::symlink_metadata(path).map_err(Error::io("read", path))?.is_symlink();
    let is_folder = match fs::metadata(path) {
        Ok(metadata) => metadata.is_dir(),
        // A link to nowhere or to an inaccessible path keeps its error; any other is a link that does not end.
        Err(source)
            if is_link
                && !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
        {
            return Err(Error::SymlinkLoop { path: path.to_owned() });
        }
        Err(source) => return Err(Error::io("read", path)(source)),
    };
    if is_link && is_folder {
        let target = fs::canonicalize(path).map_err(Error::io("read", path))?;
        let root = fs::canonicalize(root).map_err(Error::io("read", root))?;
        if root.starts_with(&target) {
            return Err(Error::SymlinkLoop { path: path.to_owned() });
        }
    }
    Ok(is_folder)
}
