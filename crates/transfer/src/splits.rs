//! A folder of images as training, validation and test images.

mod config;
mod contents;
mod file_notes;
mod known_hashes;
mod recorded;
mod selection;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};

use candle_core::Device;
use firstsight_data::{
    AugmentationConfig, Crops, DatasetFolder, DecodeOptions, DecodeSettings, Groups, ImageDataset,
    ImageFolder, InputSpec, Labels, Loader, LoaderConfig, OnError, Sampling, ScanOptions, SkipReason,
    Skipped, check_folds,
};
use fnv::FnvHasher;

pub use config::{GroupBy, SplitConfig, SplitMethod};
pub use contents::{Across, ContentHash, Contents, Duplicates};
pub use file_notes::{FileNote, FileNotes};
pub use recorded::{RecordedImage, SplitRecord};
pub use selection::{Measured, Selection};

use crate::task::Target;
use crate::{Error, Result, Runtime};

/// Share of the training images that is set aside for validation where the folder has no validation split.
pub const VALIDATION_SHARE: f64 = 0.2;

/// Batches prepared ahead.
const PREFETCH: usize = 4;

/// The image files of a data set, by split.
#[derive(Debug, Clone)]
pub struct Splits {
    /// What was scanned, for people: a folder, a table or an archive.
    pub path: PathBuf,
    /// The data set's folder.
    pub root: PathBuf,
    /// Training images.
    pub train: ImageFolder,
    /// Validation images.
    pub val: ImageFolder,
    /// Test images.
    pub test: Option<ImageFolder>,
    /// The number of the fold that the validation images are, and of how many.
    pub fold: Option<(usize, usize)>,
    /// Whether the validation images were set aside from the training images, rather than given.
    pub val_is_split_off: bool,
    /// How they were.
    pub config: SplitConfig,
    /// What is in the files.
    pub contents: Contents,
    /// Files and folders that aren't used.
    pub skipped: Vec<Skipped>,
    /// How labels and images were found.
    pub options: ScanOptions,
}

impl Splits {
    /// Scans a folder with `Train`/`Test` or `train`/`val`/`test` of class folders, or one folder of class folders.
    /// Without validation images, a fifth of each class is set aside.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a folder without classes or images.
    pub fn scan(root: &Path, split_seed: u32) -> Result<Self> {
        Self::scan_with(root, SplitConfig::stratified(split_seed), &Runtime::new(Device::Cpu))
    }

    /// As [`scan`](Self::scan), with the validation images set aside by `config`, and reports of progress.
    ///
    /// # Errors
    ///
    /// Those of [`Splits::new`].
    pub fn scan_with(root: &Path, config: SplitConfig, runtime: &Runtime) -> Result<Self> {
        Self::new(root, DatasetFolder::scan(root)?, config, runtime)
    }

    /// The splits of a folder that has been scanned. Every file is read once, so that equal images are known.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a data set without training images, with one class or with an empty one, and for too few
    /// images to set some aside; [`Error::Setting`] for groups that cannot be told, and for groups that are in two of the
    /// splits that the folder has.
    pub fn new(root: &Path, dataset: DatasetFolder, config: SplitConfig, runtime: &Runtime) -> Result<Self> {
        dataset.check_for_training()?;
        let skipped = dataset.left_out().cloned().collect();
        let DatasetFolder { path, train, val, test, options, .. } = dataset;
        let train = train.ok_or_else(|| no_training(root))?;
        let parts = parts_of(&train, val.as_ref(), test.as_ref());
        // Before the files are read.
        config.check_groups(root, &parts)?;
        let groups = match val {
            Some(_) => Groups::single(train.len()),
            None => config.groups(root, &train)?,
        };
        let contents = Contents::read(&folders(&parts), runtime);
        let val_is_split_off = val.is_none();
        let (train, val) = match val {
            Some(val) => (train, val),
            None => config.split(&train, &groups.joined(&contents.groups(&train)))?,
        };
        Ok(Self {
            path,
            root: root.to_path_buf(),
            train,
            val,
            test,
            fold: None,
            val_is_split_off,
            config,
            contents,
            skipped,
            options,
        })
    }

    /// The `k` folds of a scanned folder for cross-validation: its training and validation images together are divided
    /// into `k` parts, each of which is once the validation images. Each class is spread evenly, groups and equal images
    /// stay together. Test images stay apart.
    ///
    /// # Errors
    ///
    /// Those of [`Splits::new`], but for groups that are in training and in validation; [`Error::Data`] for more folds than
    /// groups of images, and [`Error::Dataset`] for a class whose images are all in one fold.
    pub fn folds(
        root: &Path,
        dataset: DatasetFolder,
        config: &SplitConfig,
        k: usize,
        runtime: &Runtime,
    ) -> Result<Vec<Self>> {
        dataset.check_for_training()?;
        let skipped: Vec<Skipped> = dataset.left_out().cloned().collect();
        let DatasetFolder { path, train, val, test, options, .. } = dataset;
        let train = train.ok_or_else(|| no_training(root))?;
        let images = match val {
            Some(val) => train.joined(&val)?,
            None => train,
        };
        let parts = parts_of(&images, None, test.as_ref());
        // Before the files are read.
        config.check_groups(root, &parts)?;
        let groups = config.groups(root, &images)?;
        check_folds(&groups, k)?;
        let contents = Contents::read(&folders(&parts), runtime);
        let folds = config.folds(&images, &groups.joined(&contents.groups(&images)), k)?;
        let of_fold = |(i, (train, val))| Self {
            path: path.clone(),
            root: root.to_path_buf(),
            train,
            val,
            test: test.clone(),
            fold: Some((i, k)),
            val_is_split_off: true,
            config: config.clone(),
            contents: contents.clone(),
            skipped: skipped.clone(),
            options: options.clone(),
        };
        let folds: Vec<Self> = (1..).zip(folds).map(of_fold).collect();
        folds.iter().try_for_each(Self::check_classes)?;
        Ok(folds)
    }

    /// The target of a network that is trained on them.
    pub fn target(&self) -> Target {
        Target::of(self.train.targets(), self.train.classes().len())
    }

    /// The groups of training images: those that are one by name, and those of equal content.
    pub(crate) fn groups_of(&self, images: &ImageDataset) -> Result<Groups> {
        let equal = self.contents.groups(&self.train);
        let groups = match &self.config.group_by {
            Some(group_by) => Groups::new(group_by.names(&self.root, &self.train)?).joined(&equal),
            None => equal,
        };
        if groups.count() == self.train.len() {
            return Ok(Groups::single(images.len()));
        }
        let paths = self.train.samples().iter().map(|sample| sample.path());
        let group_of: HashMap<PathBuf, usize> = paths.zip(groups.numbers().iter().copied()).collect();
        let group = |i| images.path(i).and_then(|path| group_of.get(&path).copied()).ok_or(i);
        Ok(Groups::new((0..images.len()).map(group)))
    }

    /// The images by split: training, validation, test.
    pub fn parts(&self) -> Vec<(Split, &ImageFolder)> {
        let test = self.test.as_ref().map(|test| (Split::Test, test));
        [(Split::Train, &self.train), (Split::Val, &self.val)].into_iter().chain(test).collect()
    }

    /// Checks that a classifier can be trained on the classes.
    ///
    /// # Errors
    ///
    /// [`Error::Dataset`] for fewer than two classes, names that differ in letter case or blanks alone, and a class
    /// without training images.
    pub fn check_classes(&self) -> Result<()> {
        let error = |reason| Err(Error::Dataset { path: self.train.root().to_path_buf(), reason });
        let classes = self.train.classes();
        if let (Labels::Class(_), [] | [_]) = (self.train.targets(), classes) {
            return error(format!("has one class ({}): expected at least two", classes.join("")));
        }
        if let Some((class, other)) = alike(classes).next() {
            return error(format!(
                "has classes '{class}' and '{other}', which differ in letter case or blanks alone: rename or join them"
            ));
        }
        let empty = without_images(&self.train);
        if !empty.is_empty() {
            return error(format!(
                "has no training image of class {}{}: expected at least a few images per class",
                empty.join(", "),
                if self.val_is_split_off { " after validation images were set aside" } else { "" }
            ));
        }
        Ok(())
    }

    /// Checks the classes and says what there is to say of the data before the work starts.
    ///
    /// # Errors
    ///
    /// Those of [`Splits::check_classes`].
    pub fn announce(&self, runtime: &Runtime) -> Result<Provenance> {
        self.check_classes()?;
        let notes = self.notes();
        if self.fold.is_none_or(|(fold, _)| fold == 1) {
            notes.iter().for_each(|note| runtime.message(note));
        }
        let files = FileNotes::of_skipped(&self.skipped);
        Ok(Provenance { splits: self.clone(), split: self.describe(), notes, files })
    }

    /// What a user should know of the data, each a sentence: classes without validation images, images that are in two
    /// splits or have two labels.
    pub fn notes(&self) -> Vec<String> {
        let missing = without_images(&self.val);
        let mut notes = Vec::new();
        if !missing.is_empty() {
            notes.push(format!("no validation image of class {}", missing.join(", ")));
        }
        notes.extend(Duplicates::find(&self.parts(), &self.contents).sentences(&self.root));
        notes
    }

    /// How validation images came about, in words.
    pub fn describe(&self) -> String {
        match (self.fold, self.val_is_split_off) {
            (Some((fold, k)), _) => format!("fold {fold} of {k}, seed {}", self.config.seed),
            (None, true) => self.config.describe(self.train.targets().task()),
            (None, false) => "given by the folder".to_owned(),
        }
    }
}

/// The folders of a data set, each with what its images are called in words.
type Parts<'a> = Vec<(&'static str, &'a ImageFolder)>;

fn parts_of<'a>(
    train: &'a ImageFolder,
    val: Option<&'a ImageFolder>,
    test: Option<&'a ImageFolder>,
) -> Parts<'a> {
    let all = [("training", Some(train)), ("validation", val), ("test", test)];
    all.into_iter().filter_map(|(name, folder)| Some((name, folder?))).collect()
}

fn folders<'a>(parts: &Parts<'a>) -> Vec<&'a ImageFolder> {
    parts.iter().map(|(_, folder)| *folder).collect()
}

fn no_training(root: &Path) -> Error {
    Error::Dataset { path: root.to_path_buf(), reason: "has no training images".to_owned() }
}

/// The pairs of classes whose names differ in letter case, or in blanks around them, alone.
pub(crate) fn alike(classes: &[String]) -> impl Iterator<Item = (&str, &str)> {
    let plain = |class: &String| class.trim().to_lowercase();
    classes.iter().enumerate().filter_map(move |(i, class)| {
        let first = classes[..i].iter().find(|other| plain(other) == plain(class))?;
        Some((first.as_str(), class.as_str()))
    })
}

/// The classes of a folder that have no image.
fn without_images(folder: &ImageFolder) -> Vec<String> {
    let classes = folder.classes().iter().zip(folder.counts());
    classes.filter(|(_, n)| *n == 0).map(|(class, _)| class.clone()).collect()
}

/// The label of an image as a table has it: the class, classes with `|` between them, or the number.
pub(crate) fn label(folder: &ImageFolder, i: usize) -> String {
    let name = |class: &u32| folder.classes()[*class as usize].as_str();
    match folder.targets() {
        Labels::Class(labels) => name(&labels[i]).to_owned(),
        Labels::MultiLabel(labels) => labels[i].iter().map(name).collect::<Vec<_>>().join("|"),
        Labels::Value(values) => values[i].to_string(),
    }
}

/// A path below a folder as text, with `/` between folders.
pub(crate) fn relative(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let text = below.to_string_lossy();
    if std::path::MAIN_SEPARATOR == '/' {
        text.into_owned()
    } else {
        text.replace(std::path::MAIN_SEPARATOR, "/")
    }
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// Training images.
    Train,
    /// Validation images.
    Val,
    /// Test images.
    Test,
}

impl Split {
    /// Its name: `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// Where a training's images came from, for its run folder and its report.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// The files of each split, and how labels and images were found.
    pub splits: Splits,
    /// How validation images came about: see [`Splits::describe`].
    pub split: String,
    /// What there is to say of the data: see [`Splits::notes`].
    pub notes: Vec<String>,
    /// Files that are not read, or not as they are.
    pub files: FileNotes,
}

impl Provenance {
    /// Adds what came of decoding the images.
    pub(crate) fn decoded(mut self, splits: &DecodedSplits) -> Self {
        for images in [Some(&splits.train), Some(&splits.val), splits.test.as_ref()].into_iter().flatten() {
            self.files = self.files.decoded(images);
        }
        self
    }

    /// The rows of a report's facts.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let notes = self.notes.iter().map(|note| ("attention", note.clone()));
        std::iter::once(("validation images", self.split.clone())).chain(notes).collect()
    }
}

/// The decoded images of a data set, by split.
#[derive(Debug, Clone)]
pub struct DecodedSplits {
    /// The data set's folder; empty for images from elsewhere.
    pub root: PathBuf,
    /// Training images.
    pub train: ImageDataset,
    /// Validation images.
    pub val: ImageDataset,
    /// Test images.
    pub test: Option<ImageDataset>,
    /// Where the images came from, for images from files.
    pub provenance: Option<Provenance>,
    /// The training images at the size that [`Crops::Full`] cuts from, where it is asked for.
    pub crop_source: Option<ImageDataset>,
}

impl DecodedSplits {
    /// Images that come from memory, not from files.
    pub fn in_memory(train: ImageDataset, val: ImageDataset, test: Option<ImageDataset>) -> Self {
        Self { root: PathBuf::new(), train, val, test, provenance: None, crop_source: None }
    }

    /// Checks the classes, says what there is to say of the data, and decodes every split for a network's input.
    ///
    /// # Errors
    ///
    /// Those of [`Splits::check_classes`], [`Error::Data`] names the files of all splits that cannot be decoded, unless
    /// `on_error` skips them.
    pub fn decode(splits: &Splits, input: &InputSpec, on_error: OnError, runtime: &Runtime) -> Result<Self> {
        let provenance = splits.announce(runtime)?;
        let settings = DecodeSettings { on_error, ..input.decode_settings() };
        let given = [
            (Some(&splits.train), "training images"),
            (Some(&splits.val), "validation images"),
            (splits.test.as_ref(), "test images"),
        ];
        let [train, val, test] = decode_together(given, &settings, runtime)?;
        match (train, val) {
            (Some(train), Some(val)) => {
                check_readable(&splits.train, &train)?;
                let mut decoded = Self { root: splits.root.clone(), ..Self::in_memory(train, val, test) };
                decoded.provenance = Some(provenance.decoded(&decoded));
                Ok(decoded)
            }
            _ => Err(Error::Dataset { path: splits.root.clone(), reason: "lacks a split".to_owned() }),
        }
    }

    /// Decodes the training images again, at the size that crops are cut from, where the augmentation asks for it.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for files that cannot be decoded any more.
    pub fn with_crop_source(
        mut self,
        splits: &Splits,
        input: &InputSpec,
        augmentation: AugmentationConfig,
        on_error: OnError,
        runtime: &Runtime,
    ) -> Result<Self> {
        if augmentation.crops == Crops::Full {
            let settings = DecodeSettings { on_error, ..crop_source_settings(input) };
            let task = "training images to cut crops from";
            self.crop_source = Some(decode_silently(&splits.train, task, &settings, runtime)?);
        }
        Ok(self)
    }

    /// The target of a network that is trained on them.
    pub fn target(&self) -> Target {
        Target::of(self.train.targets(), self.n_classes())
    }

    /// Number of classes; 1 for numbers.
    pub fn n_classes(&self) -> usize {
        self.train.classes().len()
    }

    /// A hash of the classes and of the training and validation images: equal for equal pixels and labels in the same
    /// order.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = FnvHasher::default();
        for class in self.train.classes() {
            hasher.write(class.as_bytes());
            hasher.write_u8(0);
        }
        for images in [&self.train, &self.val] {
            let labels = images.targets();
            for i in 0..images.len() {
                match labels {
                    Labels::Class(labels) => hasher.write_u32(labels[i]),
                    Labels::MultiLabel(labels) => {
                        hasher.write_usize(labels[i].len());
                        labels[i].iter().for_each(|label| hasher.write_u32(*label));
                    }
                    Labels::Value(labels) => hasher.write_u32(labels[i].to_bits()),
                }
                hasher.write_u64(images.checksum(i));
            }
        }
        hasher.finish()
    }
}

/// The settings of images that [`Crops::Full`] cuts from: larger than the input, with the same part of the photo.
pub(crate) fn crop_source_settings(input: &InputSpec) -> DecodeSettings {
    let settings = input.decode_settings();
    DecodeSettings {
        height: Crops::FACTOR * settings.height,
        width: Crops::FACTOR * settings.width,
        ..settings
    }
}

/// `batches` with an augmentation, if it changes anything: of `images`, or of the same ones to cut crops from.
///
/// # Errors
///
/// [`Error::Data`] for an augmentation that the images or their labels forbid, and where crops are to be cut from larger
/// images and there are none.
pub(crate) fn augmented(
    batches: Loader,
    crop_source: Option<&ImageDataset>,
    augmentation: AugmentationConfig,
    seed: u64,
) -> Result<Loader> {
    augmentation.check_crops()?;
    let Some(transforms) = augmentation.augmentation(seed) else { return Ok(batches) };
    Ok(match (augmentation.crops, crop_source) {
        (Crops::Reduced, _) => batches.augmented(transforms)?,
        (Crops::Full, Some(images)) => batches.augmented_from(images.clone(), transforms)?,
        (Crops::Full, None) => {
            return Err(Error::Setting {
                setting: "crops",
                expected: "reduced where there are no larger images to cut them from".to_owned(),
                found: "full".to_owned(),
            });
        }
    })
}

/// Decodes a folder, with the runtime's cache and progress reported as `task`. Of several processes, each gets all images. Says so where each use of an image will decode it.
///
/// # Errors
///
/// [`Error::Data`] for a file that cannot be decoded.
pub fn decode(
    folder: &ImageFolder,
    task: &str,
    settings: &DecodeSettings,
    runtime: &Runtime,
) -> Result<ImageDataset> {
    let images = decode_silently(folder, task, settings, runtime)?;
    for line in remarks(&images) {
        runtime.message(&format!("{task}: {line}"));
    }
    Ok(images)
}

/// As [`decode`], without a word on files that were left out or repaired.
pub(crate) fn decode_silently(
    folder: &ImageFolder,
    task: &str,
    settings: &DecodeSettings,
    runtime: &Runtime,
) -> Result<ImageDataset> {
    let cache = runtime.cache.as_ref();
    let available = runtime.available().unwrap_or(u64::MAX);
    let in_memory = DecodeOptions::IN_MEMORY.min(available / 4);
    let decode = || {
        runtime.counted(task, |report| -> Result<ImageDataset> {
            let options = DecodeOptions { cache, in_memory, progress: Some(report) };
            Ok(ImageDataset::decode_with(folder, settings, options)?)
        })
    };
    // Of several processes the first decodes, and the others find its files in a cache that they share.
    let images = match cache {
        Some(_) if runtime.is_root() => runtime.agree(decode())?,
        Some(_) => runtime.agree(Ok(())).and_then(|()| decode())?,
        None => decode()?,
    };
    if images.is_decoded_on_use() {
        runtime.message(&format!(
            "{task}: decoded at each use, since the cache has no room or some files can't be opened now"
        ));
    }
    Ok(images)
}

/// Files of a kind that a message names.
const NAMED: usize = 10;

/// What is to be said of decoded images: files left out, each with its reason, and how many were repaired or the like.
fn remarks(images: &ImageDataset) -> Vec<String> {
    let excluded = images.excluded();
    let mut lines: Vec<String> =
        excluded.iter().take(NAMED).map(|(_, reason)| format!("left out: {reason}")).collect();
    if excluded.len() > NAMED {
        lines.push(format!("left out: {} files more", excluded.len() - NAMED));
    }
    let mut notes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for i in 0..images.len() {
        if let Some(note) = images.note(i) {
            notes.entry(note).or_default().push(i);
        }
    }
    lines.extend(notes.into_iter().map(|(note, of)| {
        let first = images.path(of[0]).map_or(String::new(), |path| format!(" (first: {})", path.display()));
        format!("{} of {} images {note}{first}", of.len(), images.len())
    }));
    lines
}

/// Checks that no class has lost all its images to `--on-error skip`.
///
/// # Errors
///
/// [`Error::Data`] names the class.
pub(crate) fn check_readable(folder: &ImageFolder, images: &ImageDataset) -> Result<()> {
    let left = images.targets().counts(folder.classes().len());
    let lost = folder.counts().iter().zip(left).position(|(&before, after)| before > 0 && after == 0);
    match lost.map(|label| folder.classes()[label].clone()) {
        None => Ok(()),
        Some(class) => {
            let path = folder.root().join(&class);
            Err(firstsight_data::Error::EmptyClass { class, path }.into())
        }
    }
}

/// Decodes several folders before any is used. Files that cannot be decoded are one error, from whatever folder.
///
/// # Errors
///
/// [`Error::Data`] for files that cannot be decoded.
pub(crate) fn decode_together<const N: usize>(
    folders: [(Option<&ImageFolder>, &str); N],
    settings: &DecodeSettings,
    runtime: &Runtime,
) -> Result<[Option<ImageDataset>; N]> {
    let (mut unreadable, mut seen): (Vec<(PathBuf, String)>, usize) = (Vec::new(), 0);
    let mut refused = None;
    let mut decoded = [const { None }; N];
    for ((folder, task), decoded) in folders.into_iter().zip(&mut decoded) {
        let Some(folder) = folder else { continue };
        seen += folder.len();
        if settings.on_error == OnError::Fail {
            for denied in folder.skipped().iter().filter(|skipped| skipped.reason == SkipReason::DeniedFolder)
            {
                // Splits of one folder leave out the same.
                if !unreadable.iter().any(|(path, _)| *path == denied.path) {
                    let reason = format!("cannot list {}: {}", denied.path.display(), denied.reason);
                    unreadable.push((denied.path.clone(), reason));
                    refused = Some(std::io::ErrorKind::PermissionDenied.into());
                    seen += 1;
                }
            }
        }
        match decode(folder, task, settings, runtime) {
            Ok(images) => *decoded = Some(images),
            Err(Error::Data(error)) => match *error {
                firstsight_data::Error::Unreadable { files, source, .. } => {
                    unreadable.extend(files);
                    refused = refused.or(source);
                }
                error => return Err(error.into()),
            },
            Err(error) => return Err(error),
        }
    }
    match unreadable.is_empty() {
        true => Ok(decoded),
        false => {
            Err(firstsight_data::Error::Unreadable { files: unreadable, total: seen, source: refused }.into())
        }
    }
}

/// Batches of images as a network takes them.
///
/// # Errors
///
/// [`Error::Data`] for images of another size.
pub fn loader(
    images: &ImageDataset,
    input: &InputSpec,
    batch_size: usize,
    sampling: Sampling,
    device: &Device,
) -> Result<Loader> {
    let config = LoaderConfig { batch_size, sampling, normalize: input.normalize(), prefetch: PREFETCH };
    Ok(Loader::new(images.clone(), config, device)?)
}
