//! A folder of images as decoded splits.

use std::hash::Hasher as _;
use std::path::{Path, PathBuf};

use candle_core::Device;
use firstsight_data::{
    DatasetFolder, DecodeOptions, ImageDataset, ImageFolder, InputSpec, Loader, LoaderConfig, Sampling,
};

use fnv::FnvHasher;

use crate::{Error, Result, Runtime};

/// The share of the training images that are set aside where the folder has no validation split.
pub const VALIDATION_SHARE: f64 = 0.2;

/// Batches prepared ahead.
const PREFETCH: usize = 4;

/// Which images train, validate and test.
pub struct Folders {
    pub train: ImageFolder,
    pub val: ImageFolder,
    pub test: Option<ImageFolder>,
    /// Whether the validation images were set aside from the training images, rather than given.
    pub val_is_split_off: bool,
}

impl Folders {
    /// The folder's own splits; without a validation split, a fifth of the training images is set aside.
    pub fn new(dataset: DatasetFolder, split_seed: u32) -> Result<Self> {
        let DatasetFolder { train, val, test, .. } = dataset;
        let val_is_split_off = val.is_none();
        let (train, val) = match val {
            Some(val) => (train, val),
            None => train.split(VALIDATION_SHARE, split_seed)?,
        };
        Ok(Self { train, val, test, val_is_split_off })
    }

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
    Train,
    Val,
    Test,
}

impl Split {
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// The decoded images of each split.
pub struct Splits {
    pub train: ImageDataset,
    pub val: ImageDataset,
    pub test: Option<ImageDataset>,
}

impl Splits {
    pub fn decode(folders: &Folders, input: &InputSpec, runtime: &Runtime) -> Result<Self> {
        let test =
            folders.test.as_ref().map(|test| decode(test, "test images", input, runtime)).transpose()?;
        Ok(Self {
            train: decode(&folders.train, "training images", input, runtime)?,
            val: decode(&folders.val, "validation images", input, runtime)?,
            test,
        })
    }

    pub fn n_classes(&self) -> usize {
        self.train.classes().len()
    }

    /// A hash of the classes and of what trains and validates: the same for the same pixels and labels in the
    /// same order.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = FnvHasher::default();
        for class in self.train.classes() {
            hasher.write(class.as_bytes());
            hasher.write_u8(0);
        }
        for images in [&self.train, &self.val] {
            for (i, label) in images.labels().iter().enumerate() {
                hasher.write_u32(*label);
                hasher.write(images.image(i));
            }
        }
        hasher.finish()
    }
}

pub fn decode(
    folder: &ImageFolder,
    what: &str,
    input: &InputSpec,
    runtime: &Runtime,
) -> Result<ImageDataset> {
    let (settings, cache) = (input.decode_settings(), runtime.cache.as_deref());
    Ok(runtime.counted(what, |report| {
        ImageDataset::decode_with(folder, &settings, DecodeOptions { cache, progress: Some(report) })
    })?)
}

/// The files named, and of the folders named every image in them and in the folders below, sorted by path.
pub fn list_images(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for path in named {
        if path.is_dir() {
            let before = paths.len();
            list(path, &mut paths)?;
            if paths.len() == before {
                return Err(Error::Dataset { path: path.clone(), reason: "holds no image".to_owned() });
            }
        } else {
            paths.push(path.clone());
        }
    }
    Ok(paths)
}

fn list(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let in_folder = || Error::io("list", folder);
    let entries = std::fs::read_dir(folder).map_err(in_folder())?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(in_folder())?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(in_folder())?;
        if kind.is_dir() {
            list(&entry.path(), paths)?;
        } else if firstsight_data::is_image_name(&entry.path()) {
            paths.push(entry.path());
        }
    }
    Ok(())
}

/// Batches of `images` as the network takes them.
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
