//! The features of a frozen backbone, computed once and kept in a file.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use candle_core::{Device, Module, ModuleT, Tensor};
use firstsight_data::{
    Batches as _, CacheFolder, ImageDataset, Labels, Loader, LoaderConfig, Normalize, Sampling,
};
use firstsight_models::Params;
use firstsight_train::{Communicator, Inference, PackedWeights, gather};
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
    /// The processes that share out the batches; each gets all features. The first reads and writes the cache.
    pub communicator: &'a dyn Communicator,
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
    let is_root = config.communicator.rank() == 0;
    let file = cache.filter(|_| is_root).map(|cache| CachedFeatures::new(cache, images, config));
    let before = file.as_ref().and_then(|file| file.read(views, images.len(), device));
    let before = shared(before, config.communicator, device)?;
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
    let rows = extract(backbone, images, config, before, device, &mut |by_view, done| {
        progress(done, n_rows);
        keep(by_view)
    })?;
    if let Some(file) = &file {
        file.write(&rows);
    }
    Ok(Features { rows, labels, n_classes })
}

/// Called with the rows of each view and their number.
type Done<'a> = dyn FnMut(&[Vec<Tensor>], usize) -> Result<()> + 'a;

/// Computes the rows that `before` lacks, and calls `done` with those of each view and their number whenever there are more.
fn extract(
    backbone: &(impl ModuleT + Sync),
    images: &ImageDataset,
    config: &FeatureConfig<'_>,
    before: Option<Tensor>,
    device: &Device,
    done: &mut Done<'_>,
) -> Result<Tensor> {
    let views = config.views.len();
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
    let (rank, size) = (config.communicator.rank(), config.communicator.size());
    let mut own = batches.shards(0, 1, (0..batches.n_batches()).skip(rank).step_by(size).collect());
    let mut finished = first * views;
    // In each round every process computes a batch; in the last one some may have none.
    for _ in 0..batches.n_batches().div_ceil(size) {
        let mut compute = || -> Result<Option<Vec<Tensor>>> {
            let Some(shard) = own.next() else { return Ok(None) };
            let batch = shard?.batch.ok_or(firstsight_train::Error::Empty("photos"))?;
            let mut rows = Vec::with_capacity(views);
            for view in config.views {
                if !rows.is_empty() {
                    let about = finished + rows.len() * size * batch.inputs.dim(0)?;
                    done(&by_view, about.min(images.len() * views))?;
                }
                rows.push(inference.forward(&view.apply(&batch.inputs)?)?);
            }
            Ok(Some(rows))
        };
        for of_batch in gathered(compute(), config, device)? {
            for (rows, more) in by_view.iter_mut().zip(of_batch) {
                finished += more.dim(0)?;
                rows.push(more);
            }
        }
        done(&by_view, finished)?;
    }
    Ok(Tensor::cat(&by_view.concat(), 0)?)
}

/// The rows of the batches of a round, for each its views, from those of this process.
fn gathered(
    own: Result<Option<Vec<Tensor>>>,
    config: &FeatureConfig<'_>,
    device: &Device,
) -> Result<Vec<Vec<Tensor>>> {
    if config.communicator.size() == 1 {
        return Ok(own?.into_iter().collect());
    }
    let bytes = own.and_then(|own| match own {
        Some(views) => rows_to_bytes(&Tensor::cat(&views, 0)?),
        None => Ok(Vec::new()),
    });
    let all = gather(config.communicator, bytes)?;
    let of_views = |bytes: &Vec<u8>| -> Result<Vec<Tensor>> {
        let rows = rows_from_bytes(bytes, device)?;
        let n = rows.dim(0)? / config.views.len();
        (0..config.views.len()).map(|view| Ok(rows.narrow(0, view * n, n)?)).collect()
    };
    all.iter().filter(|bytes| !bytes.is_empty()).map(of_views).collect()
}

/// The rows that the first process has.
fn shared(rows: Option<Tensor>, communicator: &dyn Communicator, device: &Device) -> Result<Option<Tensor>> {
    if communicator.size() == 1 {
        return Ok(rows);
    }
    let mut bytes = rows.as_ref().map(rows_to_bytes).transpose()?.unwrap_or_default();
    communicator.broadcast(&mut bytes)?;
    if bytes.is_empty() { Ok(None) } else { rows_from_bytes(&bytes, device).map(Some) }
}

/// Rows (N, F) as bytes: F, then the values.
fn rows_to_bytes(rows: &Tensor) -> Result<Vec<u8>> {
    let n_features = rows.dim(1)? as u32;
    let values = rows.flatten_all()?.to_vec1::<f32>()?;
    Ok(n_features.to_le_bytes().into_iter().chain(values.into_iter().flat_map(f32::to_le_bytes)).collect())
}

fn rows_from_bytes(bytes: &[u8], device: &Device) -> Result<Tensor> {
    let words = bytes.as_chunks::<4>().0;
    let n_features = words.first().map_or(1, |word| u32::from_le_bytes(*word) as usize).max(1);
    let values: Vec<f32> = words.iter().skip(1).copied().map(f32::from_le_bytes).collect();
    let n = values.len() / n_features;
    Ok(Tensor::from_vec(values, (n, n_features), device)?)
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
        let FeatureConfig { normalize, views, identity, batch_size: _, communicator: _ } = config;
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
