//! A folder of images as training, validation and test images.

use std::hash::Hasher as _;
use std::path::{Path, PathBuf};

use candle_core::Device;
use firstsight_data::{
    DatasetFolder, DecodeOptions, DecodeSettings, ImageDataset, ImageFolder, InputSpec, Labels, Loader,
    LoaderConfig, Sampling,
};
use fnv::FnvHasher;

use crate::{Error, Result, Runtime, Smaller};

/// Share of the training images that is set aside for validation where the folder has no validation split.
pub const VALIDATION_SHARE: f64 = 0.2;

/// Batches prepared ahead.
const PREFETCH: usize = 4;

/// The image files of a data set, by split.
#[derive(Debug, Clone)]
pub struct Splits {
    /// The data set's folder.
    pub root: PathBuf,
    /// Training images.
    pub train: ImageFolder,
    /// Validation images.
    pub val: ImageFolder,
    /// Test images.
    pub test: Option<ImageFolder>,
    /// Whether the validation images were set aside from the training images, rather than given.
    pub val_is_split_off: bool,
    /// Seed of that split.
    pub split_seed: u32,
}

impl Splits {
    /// Scans a folder with `Train`/`Test` or `train`/`val`/`test` of class folders, or one folder of class folders.
    /// Without validation images, a fifth of the training images is set aside.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a folder without classes or images.
    pub fn scan(root: &Path, split_seed: u32) -> Result<Self> {
        Self::new(root, DatasetFolder::scan(root)?, split_seed)
    }

    /// The splits of a folder that has been scanned.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a data set without training images, with one class or with an empty one, and for too few
    /// images to set some aside.
    pub fn new(root: &Path, dataset: DatasetFolder, split_seed: u32) -> Result<Self> {
        dataset.check_for_training()?;
        let DatasetFolder { train, val, test, .. } = dataset;
        let train = train.ok_or_else(|| Error::Dataset {
            path: root.to_path_buf(),
            reason: "has no training images".to_owned(),
        })?;
        let val_is_split_off = val.is_none();
        let (train, val) = match val {
            Some(val) => (train, val),
            None => train.split(VALIDATION_SHARE, split_seed)?,
        };
        Ok(Self { root: root.to_path_buf(), train, val, test, val_is_split_off, split_seed })
    }

    /// Checks that a classifier can be trained on the classes.
    ///
    /// # Errors
    ///
    /// [`Error::Dataset`] for names that differ in letter case alone, and for a class without training images.
    pub fn check_classes(&self) -> Result<()> {
        let error = |reason| Err(Error::Dataset { path: self.train.root().to_path_buf(), reason });
        let classes = self.train.classes();
        for (i, class) in classes.iter().enumerate() {
            let alike = classes[..i].iter().find(|other| other.to_lowercase() == class.to_lowercase());
            if let Some(alike) = alike {
                return error(format!(
                    "has classes '{alike}' and '{class}', which differ in letter case alone: rename or join them"
                ));
            }
        }
        if let Some(empty) = self.train.counts().iter().position(|n| *n == 0) {
            return error(format!(
                "has no training image of class '{}' after validation images were set aside: expected at least a few \
                 images per class",
                classes[empty]
            ));
        }
        Ok(())
    }

    /// The images of one split.
    ///
    /// # Errors
    ///
    /// [`Error::Dataset`] where there are no test images.
    pub fn get(self, split: Split) -> Result<ImageFolder> {
        match split {
            Split::Train => Ok(self.train),
            Split::Val => Ok(self.val),
            Split::Test => match self.test {
                Some(test) => Ok(test),
                None => Err(Error::Dataset {
                    path: self.train.root().to_path_buf(),
                    reason: "has no test split".to_owned(),
                }),
            },
        }
    }
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl DecodedSplits {
    /// Decodes every split for a network's input.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a file that cannot be decoded, [`Error::Memory`] for more images than memory holds.
    pub fn decode(splits: &Splits, input: &InputSpec, runtime: &Runtime) -> Result<Self> {
        let settings = input.decode_settings();
        let n = splits.train.len() + splits.val.len() + splits.test.as_ref().map_or(0, ImageFolder::len);
        let bytes = n as u64 * bytes_per_image(&settings);
        runtime.check_memory(
            &format!("{n} images of {}x{}", settings.height, settings.width),
            bytes,
            Smaller::Input,
        )?;
        let decode = |folder, task| decode(folder, task, &settings, runtime);
        let test = splits.test.as_ref().map(|test| decode(test, "test images")).transpose()?;
        Ok(Self {
            root: splits.root.clone(),
            train: decode(&splits.train, "training images")?,
            val: decode(&splits.val, "validation images")?,
            test,
        })
    }

    /// Number of classes.
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
                hasher.write(images.image(i));
            }
        }
        hasher.finish()
    }
}

/// Bytes of a decoded image.
fn bytes_per_image(settings: &DecodeSettings) -> u64 {
    let sides = [settings.height, settings.width, settings.color.channels()];
    sides.into_iter().fold(1, |product: u64, side| product.saturating_mul(side as u64))
}

/// Decodes a folder, with the runtime's cache and progress reported as `task`.
///
/// # Errors
///
/// [`Error::Data`] for a file that cannot be decoded, [`Error::Memory`] for more images than memory holds.
pub fn decode(
    folder: &ImageFolder,
    task: &str,
    settings: &DecodeSettings,
    runtime: &Runtime,
) -> Result<ImageDataset> {
    let cache = runtime.cache.as_ref();
    let bytes = folder.len() as u64 * bytes_per_image(settings);
    runtime.check_memory(&format!("{} {task}", folder.len()), bytes, Smaller::Input)?;
    Ok(runtime.counted(task, |report| {
        ImageDataset::decode_with(folder, settings, DecodeOptions { cache, progress: Some(report) })
    })?)
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
