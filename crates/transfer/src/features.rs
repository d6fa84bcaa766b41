//! The features of a frozen backbone, computed once and kept in a file.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use candle_core::{Device, Module, ModuleT, Tensor};
use firstsight_data::{
    Batches as _, CacheFolder, ImageDataset, Labels, Loader, LoaderConfig, Normalize, Sampling,
};
use firstsight_models::Params;
use firstsight_train::{Inference, PackedWeights};
use safetensors::SafeTensors;
use sha2::{Digest as _, Sha256};

use crate::Result;

/// A view of an image for the backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeatureView {
    /// The image unchanged.
    Plain,
    /// The image flipped horizontally.
    Mirrored,
}

impl FeatureView {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Mirrored => "mirrored",
        }
    }

    /// (B, C, H, W) to the same shape.
    fn apply(self, images: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Plain => Ok(images.clone()),
            Self::Mirrored => {
                let width = images.dim(3)? as u32;
                let reversed = Tensor::from_iter((0..width).rev(), images.device())?;
                images.index_select(&reversed, 3)
            }
        }
    }
}

/// Features of images, one row per image and view.
#[derive(Debug, Clone)]
pub struct Features {
    /// The features (V·N, F) f32: all images in the first view, then all in the next.
    pub rows: Tensor,
    /// The label of each image.
    pub labels: Labels,
    /// Number of classes; 1 for numbers.
    pub n_classes: usize,
}

impl Features {
    /// The number N of images.
    pub fn n_images(&self) -> usize {
        self.labels.len()
    }

    /// The number F of features.
    pub fn n_features(&self) -> usize {
        self.rows.dims()[1]
    }

    /// The number V of views.
    pub fn n_views(&self) -> usize {
        self.rows.dims()[0] / self.labels.len().max(1)
    }

    /// These features and those of the same images in more views.
    ///
    /// # Errors
    ///
    /// Another number of features.
    pub fn with_views(self, more: &Self) -> candle_core::Result<Self> {
        Ok(Self { rows: Tensor::cat(&[&self.rows, &more.rows], 0)?, ..self })
    }

    /// The rows (R, F) and the R labels of some images in their first `views` views.
    pub fn select(&self, images: &[usize], views: usize) -> candle_core::Result<(Tensor, Labels)> {
        let n = self.n_images();
        let of_view = |view: usize| images.iter().map(move |i| (view * n + i) as u32);
        let rows: Vec<u32> = (0..views.min(self.n_views())).flat_map(of_view).collect();
        let labels = self.labels.subset(&rows.iter().map(|row| *row as usize % n).collect::<Vec<_>>());
        let rows = self.rows.index_select(&Tensor::new(rows, self.rows.device())?, 0)?;
        Ok((rows, labels))
    }
}

/// The settings of feature extraction.
#[derive(Debug, Clone)]
pub struct FeatureConfig<'a> {
    /// Normalization of bytes to the backbone's input.
    pub normalize: Normalize,
    /// Views of each image; each costs a pass over the images.
    pub views: &'a [FeatureView],
    /// Images per batch.
    pub batch_size: usize,
    /// Description of the backbone's weights and of the decoding, such as a [`fingerprint`] and the input spec.
    pub identity: String,
}

/// The features of `images`, computed in inference mode, or read from the cache if an earlier run kept them there.
///
/// The file's name is a hash of identity, normalization, views and the images' checksums; a change to any of these computes the
/// features anew. So does a damaged file, with a warning. What is done is kept every half minute, and work that was cut
/// short goes on from there. `progress` is called with the numbers of finished images and of all images, each view
/// counting as an image.
///
/// # Errors
///
/// Those of the backbone and the batches. A cache that cannot be read or written is none.
pub fn features(
    backbone: &(impl ModuleT + Sync),
    images: &ImageDataset,
    config: &FeatureConfig<'_>,
    cache: Option<&CacheFolder>,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Features> {
    let (labels, n_classes) = (images.targets().clone(), images.classes().len());
    let (n_rows, views) = (images.len() * config.views.len(), config.views.len());
    let file = cache.map(|cache| CachedFeatures::new(cache, images, config));
    let before = file.as_ref().and_then(|file| file.read(views, images.len(), device));
    if let Some(rows) = before.as_ref().filter(|rows| rows.dims()[0] == n_rows) {
        progress(n_rows, n_rows);
        return Ok(Features { rows: rows.clone(), labels, n_classes });
    }
    let mut kept = Instant::now();
    let mut keep = |by_view: &[Vec<Tensor>]| -> Result<()> {
        if let (Some(file), true) = (&file, kept.elapsed() >= KEEP_EVERY) {
            file.write(&Tensor::cat(&by_view.concat(), 0)?);
            kept = Instant::now();
        }
        Ok(())
    };
    let rows = extract(backbone, images, config, before, device, &mut keep, progress)?;
    if let Some(file) = &file {
        file.write(&rows);
    }
    Ok(Features { rows, labels, n_classes })
}

/// Computes the rows that `before` lacks, and calls `keep` with those of each view after every batch.
fn extract(
    backbone: &(impl ModuleT + Sync),
    images: &ImageDataset,
    config: &FeatureConfig<'_>,
    before: Option<Tensor>,
    device: &Device,
    keep: &mut dyn FnMut(&[Vec<Tensor>]) -> Result<()>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Tensor> {
    let (total, views) = (images.len() * config.views.len(), config.views.len());
    let mut by_view = vec![Vec::new(); views];
    let mut first = 0;
    if let Some(before) = before {
        first = before.dims()[0] / views;
        for (view, rows) in by_view.iter_mut().enumerate() {
            rows.push(before.narrow(0, view * first, first)?);
        }
    }
    let rest: Vec<usize> = (first..images.len()).collect();
    let loading = LoaderConfig {
        batch_size: config.batch_size,
        sampling: Sampling::Sequential,
        normalize: config.normalize.clone(),
        prefetch: 2,
    };
    let batches = Loader::new(images.subset(&rest), loading, device)?;
    let packed = PackedWeights::default();
    let inference = Inference::in_pool(backbone, &packed);
    let mut done = first * views;
    for batch in batches.epoch(0) {
        let inputs = batch?.inputs;
        for (view, rows) in config.views.iter().zip(&mut by_view) {
            rows.push(inference.forward(&view.apply(&inputs)?)?);
            done += inputs.dim(0)?;
            progress(done, total);
        }
        keep(&by_view)?;
    }
    Ok(Tensor::cat(&by_view.concat(), 0)?)
}

/// A hash of the names and values of the variables whose names `select` accepts.
///
/// # Errors
///
/// Those of copying values from the device.
pub fn fingerprint(params: &Params, select: impl Fn(&str) -> bool) -> Result<String> {
    let mut hasher = Sha256::new();
    for (name, var) in params.named() {
        if select(&name) {
            hasher.update(name.as_bytes());
            for value in var.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()? {
                hasher.update(value.to_le_bytes());
            }
        }
    }
    Ok(format!("{:x}", hasher.finalize()))
}

/// The time between two writings of features that are not yet complete.
const KEEP_EVERY: Duration = Duration::from_secs(30);
const KEY: &str = "firstsight-features";
const ROWS: &str = "features";

/// The file of the features of some images, and the key that it must hold.
struct CachedFeatures<'a> {
    cache: &'a CacheFolder,
    name: String,
    key: String,
}

impl<'a> CachedFeatures<'a> {
    fn new(cache: &'a CacheFolder, images: &ImageDataset, config: &FeatureConfig<'_>) -> Self {
        let mut hasher = Sha256::new();
        let FeatureConfig { normalize, views, identity, batch_size: _ } = config;
        let views: Vec<&str> = views.iter().map(|view| view.name()).collect();
        hasher.update(format!("{identity} {normalize:?} {views:?} {:?}", images.shape()));
        for i in 0..images.len() {
            hasher.update(images.checksum(i).to_le_bytes());
        }
        let key = format!("{:x}", hasher.finalize());
        Self { cache, name: format!("{}.features", &key[..16]), key }
    }

    /// The rows of all images, or of the first ones, in each view.
    fn read(&self, views: usize, n_images: usize, device: &Device) -> Option<Tensor> {
        let path = self.cache.find(&self.name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!("cannot read {}: {error}; computing features anew", path.display());
                return None;
            }
        };
        let read = || -> Result<Tensor, String> {
            let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| e.to_string())?;
            let key = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
            if key != Some(&self.key) {
                return Err("it holds features of other images or weights".to_owned());
            }
            let tensors = candle_core::safetensors::load_buffer(&bytes, device).map_err(|e| e.to_string())?;
            let fits = |n: usize| n > 0 && n.is_multiple_of(views) && n / views <= n_images;
            let rows = tensors.get(ROWS).filter(|t| t.rank() == 2 && fits(t.dims()[0]));
            rows.cloned().ok_or_else(|| "it holds another number of rows".to_owned())
        };
        match read() {
            Ok(rows) => Some(rows),
            Err(reason) => {
                tracing::warn!("{} cannot be used: {reason}; computing features anew", path.display());
                None
            }
        }
    }

    fn write(&self, rows: &Tensor) {
        let metadata = HashMap::from([(KEY.to_owned(), self.key.clone())]);
        let bytes = (rows.elem_count() * rows.dtype().size_in_bytes()) as u64;
        self.cache.write(&self.name, bytes, |file| {
            let bytes = safetensors::serialize([(ROWS, rows)], Some(metadata)).map_err(io::Error::other)?;
            file.write_all(&bytes)
        });
    }
}
