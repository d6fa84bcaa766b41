//! A data set with its splits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::listing::{Listing, split_of};
use super::skipped::summary;
use super::sniff::not_an_image;
use super::walk::{Kind, list};
use super::{ImageFolder, ScanOptions, SkipReason, Skipped};
use crate::error::{Error, Result};

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
/// let (train, test) = (data.train.unwrap(), data.test.unwrap());
/// assert_eq!(train.classes(), ["cat", "dog"]);
/// assert_eq!(test.classes(), ["cat", "dog"]);
/// assert_eq!(test.labels(), [1]);
/// assert!(data.val.is_none());
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DatasetFolder {
    /// What was scanned, for messages: a folder, a table or an archive.
    pub path: PathBuf,
    /// The folder, or that of a table's paths.
    pub root: PathBuf,
    /// The training images, or all images if the folder has no split.
    pub train: Option<ImageFolder>,
    /// The validation images, with the same classes.
    pub val: Option<ImageFolder>,
    /// The test images, with the same classes.
    pub test: Option<ImageFolder>,
    /// What lies beside the splits.
    pub skipped: Vec<Skipped>,
    /// How it was read.
    pub options: ScanOptions,
    notes: Vec<String>,
}

impl DatasetFolder {
    /// Scans a folder with `train`, `val` and `test`, or only some of them, each a folder of class folders; or a
    /// folder of class folders. The names of splits are Hugging Face's, in any letter case: also `training`,
    /// `valid`, `validation`, `dev`, `testing`, `eval`, `evaluation`.
    ///
    /// A folder called `train` that directly holds images is a class. Where a folder holds nothing but one folder
    /// with the class folders, as archives often unpack, that one is scanned; [`remarks`](Self::remarks) says so.
    /// An empty class folder of the validation or test images is a missing class.
    ///
    /// In the place of a folder of class folders there may be:
    ///
    /// - a table, CSV or JSON lines, with a column `path`, `label` and, where wanted, `split` (train, val or test). Other
    ///   columns are kept: [`Sample::cell`](crate::Sample::cell). A folder's `metadata.csv` or `metadata.jsonl` is such a table.
    /// - a Parquet file of Hugging Face's with columns `image` and `label`, or a folder of such files with the split in
    ///   their names. Classes have the names of the files' metadata, the same in all of them.
    /// - a tar archive as WebDataset makes it (`key.jpg` with `key.cls`, `key.json` or `key.txt`), or a folder of such.
    ///   A `classes.txt` beside it names the classes 0, 1, …, one a line. Where no image has such a label, the folders in
    ///   the archive are the classes.
    ///
    /// # Errors
    ///
    /// Those of [`ImageFolder::scan`]; [`Error::UnknownClasses`] if validation or test has a class that training
    /// lacks (not the other way round); [`Error::AmbiguousSplit`] for both `Train` and `train`; [`Error::Csv`] with the
    /// line of a table; [`Error::Archive`]; [`Error::NoImages`].
    pub fn scan(path: &Path) -> Result<Self> {
        Self::scan_with(path, &ScanOptions::default())
    }

    /// As [`scan`](Self::scan), for data that do not say everything themselves.
    ///
    /// # Errors
    ///
    /// Those of [`scan`](Self::scan), and [`Error::Invalid`] for a pattern that is no regular expression with a group,
    /// or that does not match every image, and for options that the data have no use for.
    pub fn scan_with(path: &Path, options: &ScanOptions) -> Result<Self> {
        Ok(Self { options: options.clone(), ..Self::read(path, options)? })
    }

    fn read(path: &Path, options: &ScanOptions) -> Result<Self> {
        if let Some(listing) = Listing::of_file(path, options, true)? {
            return listing.into_dataset(options);
        }
        if path.is_file() {
            let is_zip = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("zip"));
            return Err(Error::Archive {
                path: path.to_owned(),
                expected: "a folder, a table (.csv, .tsv, .jsonl), a Parquet file or a tar archive"
                    .to_owned(),
                found: if is_zip { "a ZIP archive: unpack it" } else { "another file" }.to_owned(),
            });
        }
        if options.label_from.is_some() {
            return Listing::of_names(path)?.into_dataset(options);
        }
        match Self::of_folder(path, options.all_classes) {
            Err(error @ Error::NoClasses { .. }) => match Listing::of_folder(path, options, true)? {
                Some(listing) => listing.into_dataset(options),
                None => Err(error),
            },
            Ok(found) => {
                options.check_class_folders(path)?;
                Ok(found)
            }
            error => error,
        }
    }

    fn of_folder(root: &Path, all_classes: bool) -> Result<Self> {
        let level = Level::read(root)?;
        let mut dataset = match level.splits()? {
            Some(splits) => Self::of_splits(root, &level, splits, all_classes)?,
            None => match level.inner()? {
                Some(inner) => {
                    let mut dataset = Self::of_folder(&inner, all_classes)?;
                    dataset.notes.insert(0, inner_note(root, &inner));
                    dataset
                }
                None => Self {
                    path: root.to_owned(),
                    root: root.to_owned(),
                    train: Some(ImageFolder::scan(root)?),
                    val: None,
                    test: None,
                    skipped: Vec::new(),
                    options: ScanOptions::default(),
                    notes: Vec::new(),
                },
            },
        };
        dataset.path = root.to_owned();
        dataset.root = root.to_owned();
        Ok(dataset)
    }

    fn of_splits(
        root: &Path,
        level: &Level,
        splits: BTreeMap<&'static str, PathBuf>,
        all_classes: bool,
    ) -> Result<Self> {
        let mut notes = Vec::new();
        let mut scan = |split: &str| -> Result<Option<ImageFolder>> {
            let Some(path) = splits.get(split) else { return Ok(None) };
            let inner = Level::read(path)?.inner()?;
            match ImageFolder::scan(inner.as_ref().unwrap_or(path)) {
                Ok(mut folder) => {
                    folder.note(inner.map(|inner| inner_note(path, &inner)));
                    Ok(Some(folder))
                }
                Err(Error::NoClasses { found, .. }) if split != "train" || splits.len() > 1 => {
                    notes.push(format!("{} has no class folders with images: found {found}", path.display()));
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        };
        let parts = [scan("train")?, scan("val")?, scan("test")?];
        let mut skipped = level.skipped.clone();
        let beside = level.folders.iter().map(|(_, path)| path);
        let beside = beside.filter(|path| !splits.values().any(|split| split == *path));
        skipped.extend(
            beside
                .chain(&level.files)
                .map(|path| Skipped { path: path.clone(), reason: SkipReason::NoSplit }),
        );
        skipped.sort();
        Self::of_parts(root, root.to_owned(), parts, skipped, notes, all_classes)
    }

    /// Training, validation and test images with the same classes; `path` is named in errors.
    pub(super) fn of_parts(
        path: &Path,
        root: PathBuf,
        [train, val, test]: [Option<ImageFolder>; 3],
        skipped: Vec<Skipped>,
        notes: Vec<String>,
        all_classes: bool,
    ) -> Result<Self> {
        let (classes, trained) = match &train {
            Some(train) if !all_classes => (train.classes().to_vec(), train.root().to_owned()),
            _ => {
                let all = [&train, &val, &test].into_iter().flatten().flat_map(ImageFolder::classes);
                (all.cloned().collect::<BTreeSet<_>>().into_iter().collect(), root.clone())
            }
        };
        if classes.is_empty() {
            return Err(Error::NoClasses { path: path.to_owned(), found: notes.join("; ") });
        }
        let labeled = |split: &'static str, folder: Option<ImageFolder>| -> Result<Option<ImageFolder>> {
            let Some(folder) = folder else { return Ok(None) };
            let of_table = folder.root() == trained;
            let path = if of_table { path } else { folder.root() }.to_owned();
            match folder.with_classes(&classes) {
                (folder, unknown) if unknown.is_empty() => Ok(Some(folder)),
                (_, unknown) => {
                    let alike = unknown.iter().find_map(|class| {
                        let same = |known: &&String| known.to_lowercase() == class.to_lowercase();
                        classes.iter().find(same).cloned()
                    });
                    let train = (!of_table).then(|| trained.clone());
                    Err(Error::UnknownClasses { split, path, train, unknown, alike })
                }
            }
        };
        let (train, val, test) = (labeled("train", train)?, labeled("val", val)?, labeled("test", test)?);
        let (path, options) = (path.to_owned(), ScanOptions::default());
        Ok(Self { path, root, train, val, test, skipped, options, notes })
    }

    /// The splits that are present, each with its name: `train`, `val`, `test`.
    pub fn splits(&self) -> impl Iterator<Item = (&'static str, &ImageFolder)> {
        let all = [("train", &self.train), ("val", &self.val), ("test", &self.test)];
        all.into_iter().filter_map(|(name, folder)| Some((name, folder.as_ref()?)))
    }

    /// All that is left out: in the splits, then beside them.
    pub fn left_out(&self) -> impl Iterator<Item = &Skipped> {
        self.splits().flat_map(|(_, folder)| folder.skipped()).chain(&self.skipped)
    }

    /// The class names, by label.
    pub fn classes(&self) -> &[String] {
        self.splits().next().map_or(&[], |(_, folder)| folder.classes())
    }

    /// Checks that a classifier can be trained on it.
    ///
    /// # Errors
    ///
    /// [`Error::NoTraining`], and those of [`ImageFolder::check_for_training`].
    pub fn check_for_training(&self) -> Result<()> {
        match &self.train {
            Some(train) => train.check_for_training(),
            None => {
                let found = self.splits().map(|(name, _)| name).collect();
                Err(Error::NoTraining { path: self.path.clone(), found })
            }
        }
    }

    /// What the user should know about the folder before work starts, in sentences: what is left out, counted by
    /// reason and class, and what was understood in another way than it lies there.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = self.notes.clone();
        let n_images = self.splits().map(|(_, folder)| folder.len()).sum();
        remarks.extend(summary(&self.root, n_images, &self.skipped));
        remarks.extend(self.splits().flat_map(|(_, folder)| folder.remarks()));
        remarks
    }
}

fn inner_note(outer: &Path, inner: &Path) -> String {
    format!("{} holds nothing but the folder {}: that is scanned", outer.display(), inner.display())
}

/// The entries of one folder.
struct Level {
    path: PathBuf,
    /// Names and paths, without those that never count.
    folders: Vec<(String, PathBuf)>,
    files: Vec<PathBuf>,
    skipped: Vec<Skipped>,
}

impl Level {
    fn read(path: &Path) -> Result<Self> {
        let mut level = Self { path: path.to_owned(), folders: vec![], files: vec![], skipped: vec![] };
        for (name, path) in list(path)? {
            match Kind::of(&name, &path)? {
                Kind::Folder | Kind::LinkedFolder => {
                    level.folders.push((name.to_string_lossy().into_owned(), path));
                }
                Kind::File => level.files.push(path),
                Kind::Skipped(reason) => level.skipped.push(Skipped { path, reason }),
            }
        }
        Ok(level)
    }

    fn has_images(&self) -> bool {
        self.files.iter().any(|path| not_an_image(path).is_none())
    }

    /// Whether it can be a folder of class folders.
    fn has_only_folders(&self) -> bool {
        !self.folders.is_empty() && !self.has_images()
    }

    /// The folders of the splits, if it is a folder of those.
    fn splits(&self) -> Result<Option<BTreeMap<&'static str, PathBuf>>> {
        let named: Vec<(&'static str, &PathBuf)> =
            self.folders.iter().filter_map(|(name, path)| Some((split_of(name)?, path))).collect();
        let mut of_classes = BTreeSet::new();
        for (split, path) in &named {
            if Level::read(path)?.has_only_folders() {
                of_classes.insert(*split);
            }
        }
        let train_is_a_class = named.iter().any(|(split, path)| {
            *split == "train" && Level::read(path).is_ok_and(|level| level.has_images())
        });
        let only_splits = named.len() == self.folders.len() && (!of_classes.is_empty() || named.len() > 1);
        if !only_splits && (train_is_a_class || !of_classes.contains("train")) {
            return Ok(None);
        }
        let mut splits = BTreeMap::new();
        for (split, path) in named {
            if let Some(first) = splits.insert(split, path.clone()) {
                return Err(Error::AmbiguousSplit { split, first, second: path.clone() });
            }
        }
        Ok(Some(splits))
    }

    /// The only folder in it, if that holds the class folders or the splits.
    fn inner(&self) -> Result<Option<PathBuf>> {
        let [(name, path)] = &*self.folders else { return Ok(None) };
        if self.has_images() {
            return Ok(None);
        }
        let inner = Level::read(path)?;
        let same_name = self.path.file_name().is_some_and(|outer| outer == name.as_str());
        let holds_classes = inner.has_only_folders()
            && (same_name
                || inner.folders.len() > 1
                || inner.splits()?.is_some()
                || inner.inner()?.is_some());
        Ok(holds_classes.then(|| path.clone()))
    }
}
