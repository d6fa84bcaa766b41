//! The features of a frozen backbone, computed once and kept in files that are mapped.

mod batches;
mod cached;
mod rows;

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Module, ModuleT, Tensor};
use firstsight_data::{
    Batches as _, CacheFolder, Groups, ImageDataset, Labels, Loader, LoaderConfig, Normalize, Sampling,
};
use firstsight_models::Params;
use firstsight_train::{Communicator, Inference, PackedWeights, gather};
use sha2::{Digest as _, Sha256};

pub use self::batches::FeatureBatches;
pub(crate) use self::batches::Scaling;
use self::cached::CachedFeatures;
use self::rows::{Part, Rows, bytes_of, tensor, values};
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

/// Features of images, a row per image and view, in memory or in files that are mapped.
#[derive(Debug, Clone)]
pub struct Features {
    views: Vec<Rows>,
    /// The label of each image.
    pub labels: Labels,
    /// Number of classes; 1 for numbers.
    pub n_classes: usize,
    /// Images that cross-validation keeps together; at first each is by itself.
    pub groups: Groups,
    device: Device,
}

impl Features {
    /// The rows of a tensor (V·N, F) f32: all images in the first view, then all in the next. Batches will be on its device.
    ///
    /// # Errors
    ///
    /// [`Error::Candle`](crate::Error::Candle) for a tensor of another rank, or rows that N does not divide.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use firstsight_data::Labels;
    /// use firstsight_transfer::Features;
    ///
    /// let rows = Tensor::new(&[[0f32, 1.], [2., 3.], [4., 5.]], &Device::Cpu)?;
    /// let features = Features::new(&rows, Labels::Class(vec![0, 1, 1]), 2)?;
    /// assert_eq!((features.n_images(), features.n_features(), features.n_views()), (3, 2, 1));
    /// let (rows, labels) = features.select(&[2, 0], 1)?;
    /// assert_eq!(rows.to_vec2::<f32>()?, [[4., 5.], [0., 1.]]);
    /// assert_eq!(labels.classes(), [1, 0]);
    /// # Ok::<(), firstsight_transfer::Error>(())
    /// ```
    pub fn new(rows: &Tensor, labels: Labels, n_classes: usize) -> Result<Self> {
        let ((all, n_features), n) = (rows.dims2()?, labels.len());
        if n == 0 || !all.is_multiple_of(n) {
            let found = format!("{all} rows of features cannot be those of {n} images");
            return Err(candle_core::Error::Msg(found).into());
        }
        let views = views_of(bytes_of(rows)?, all / n, n_features);
        Ok(Self { views, labels, n_classes, groups: Groups::single(n), device: rows.device().clone() })
    }

    /// The number N of images.
    pub fn n_images(&self) -> usize {
        self.labels.len()
    }

    /// The number F of features.
    pub fn n_features(&self) -> usize {
        self.views.first().map_or(0, Rows::n_features)
    }

    /// The number V of views.
    pub fn n_views(&self) -> usize {
        self.views.len()
    }

    /// The device of the batches.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// These features and those of the same images in more views.
    #[must_use]
    pub fn with_views(mut self, more: Self) -> Self {
        self.views.extend(more.views);
        self
    }

    /// The features of images of which `self` has some and `rest` the others, in the same views: `order` gives the place of each in
    /// `self` followed by `rest`. Each image is a group by itself.
    pub(crate) fn completed(self, rest: Option<Self>, order: &[u32], labels: Labels) -> Self {
        let rest = rest.map(|rest| rest.views).unwrap_or_default();
        let mut rest = rest.into_iter();
        let view = |rows: Rows| {
            let more = rest.next().unwrap_or_else(|| Rows::new(rows.n_features()));
            rows.then(more, order)
        };
        let groups = Groups::single(labels.len());
        Self { views: self.views.into_iter().map(view).collect(), labels, groups, ..self }
    }

    /// These features and those of other images, in the same views. Each image is a group by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Data`](crate::Error::Data) for labels of another task.
    pub fn joined(self, more: Self) -> Result<Self> {
        let order: Vec<u32> = (0..(self.n_images() + more.n_images()) as u32).collect();
        let labels = self.labels.clone().joined(&more.labels)?;
        Ok(self.completed(Some(more), &order, labels))
    }

    /// The rows (R, F) and the R labels of some images in their first `views` views.
    ///
    /// # Errors
    ///
    /// A device that is out of memory.
    pub fn select(&self, images: &[usize], views: usize) -> candle_core::Result<(Tensor, Labels)> {
        let views = &self.views[..views.min(self.n_views())];
        let rows = views.iter().flat_map(|view| images.iter().map(|&image| view.row(image)));
        let shape = (views.len() * images.len(), self.n_features());
        let labels: Vec<usize> = views.iter().flat_map(|_| images.iter().copied()).collect();
        Ok((tensor(rows, values, shape, &self.device)?, self.labels.subset(&labels)))
    }

    /// Batches of all images in their first view, in their order.
    ///
    /// # Errors
    ///
    /// Those of [`FeatureBatches::new`].
    pub fn in_order(&self, batch_size: usize) -> Result<FeatureBatches> {
        let all: Vec<usize> = (0..self.n_images()).collect();
        FeatureBatches::new(self, &all, 1, batch_size, Sampling::Sequential)
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
    /// The processes that share out the batches; each gets all features. The first reads and writes the cache, the others hold
    /// them in memory.
    pub communicator: &'a dyn Communicator,
    /// Description of the backbone's weights and of the decoding, such as a [`fingerprint`] and the input spec.
    pub identity: String,
}

/// The features of `images`, computed in inference mode, or read from the cache if an earlier run kept them there.
///
/// With a cache that has room for them they are in files that are mapped, and memory holds a part of them at a time. A file's
/// name is a hash of identity, normalization, views and the images' checksums; a change to any of these computes the
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
    let n_rows = images.len() * config.views.len();
    let is_root = config.communicator.rank() == 0;
    let mut file = cache.filter(|_| is_root).map(|cache| CachedFeatures::new(cache, images, config));
    let before = file.as_mut().and_then(CachedFeatures::read);
    let before = shared(before, config)?;
    let mut collected = Collected::new(before, config, file);
    match collected.n_images() == images.len() {
        true => progress(n_rows, n_rows),
        false => {
            extract(backbone, images, config, &mut collected, device, &mut |done| progress(done, n_rows))?
        }
    }
    let (labels, n_classes) = (images.targets().clone(), images.classes().len());
    let groups = Groups::single(images.len());
    Ok(Features { views: collected.finish(), labels, n_classes, groups, device: device.clone() })
}

/// Computes the rows that are not yet collected. `progress` is called with the number of rows.
fn extract(
    backbone: &(impl ModuleT + Sync),
    images: &ImageDataset,
    config: &FeatureConfig<'_>,
    collected: &mut Collected<'_>,
    device: &Device,
    progress: &mut dyn FnMut(usize),
) -> Result<()> {
    let views = config.views.len();
    let rest: Vec<usize> = (collected.n_images()..images.len()).collect();
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
    // In each round every process computes a batch; in the last one some may have none.
    for _ in 0..batches.n_batches().div_ceil(size) {
        let mut compute = || -> Result<Option<BatchRows>> {
            let Some(shard) = own.next() else { return Ok(None) };
            let batch = shard?.batch.ok_or(firstsight_train::Error::Empty("photos"))?;
            let mut rows = BatchRows::default();
            for (i, view) in config.views.iter().enumerate() {
                if i > 0 {
                    let about = collected.n_images() * views + i * size * batch.inputs.dim(0)?;
                    progress(about.min(images.len() * views));
                }
                let of_view = inference.forward(&view.apply(&batch.inputs)?)?;
                rows.n_features = of_view.dim(1)?;
                rows.bytes.extend(bytes_of(&of_view)?);
            }
            Ok(Some(rows))
        };
        let computed = compute();
        for of_batch in gathered(computed, config)? {
            collected.add(&of_batch);
        }
        progress(collected.n_images() * views);
    }
    Ok(())
}

/// The rows of a batch: all in the first view, then all in the next.
#[derive(Debug, Default)]
struct BatchRows {
    n_features: usize,
    bytes: Vec<u8>,
}

impl BatchRows {
    fn to_bytes(&self) -> Vec<u8> {
        [&(self.n_features as u32).to_le_bytes(), self.bytes.as_slice()].concat()
    }

    /// Of [`to_bytes`](Self::to_bytes).
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (n_features, bytes) = bytes.split_first_chunk()?;
        Some(Self { n_features: u32::from_le_bytes(*n_features) as usize, bytes: bytes.to_vec() })
    }
}

/// The rows of the batches of a round, from those of this process.
fn gathered(own: Result<Option<BatchRows>>, config: &FeatureConfig<'_>) -> Result<Vec<BatchRows>> {
    if config.communicator.size() == 1 {
        return Ok(own?.into_iter().collect());
    }
    let bytes = own.map(|own| own.map(|rows| rows.to_bytes()).unwrap_or_default());
    let all = gather(config.communicator, bytes)?;
    Ok(all.iter().filter_map(|bytes| BatchRows::from_bytes(bytes)).collect())
}

/// The rows that the first process has, in each view; empty where it has none.
fn shared(rows: Option<Vec<Rows>>, config: &FeatureConfig<'_>) -> Result<Vec<Rows>> {
    if config.communicator.size() == 1 {
        return Ok(rows.unwrap_or_default());
    }
    let of = |views: &Vec<Rows>| {
        let mut bytes = Vec::new();
        for view in views {
            (0..view.len()).for_each(|i| bytes.extend_from_slice(view.row(i)));
        }
        BatchRows { n_features: views.first().map_or(0, Rows::n_features), bytes }.to_bytes()
    };
    let mut bytes = rows.as_ref().map(of).unwrap_or_default();
    config.communicator.broadcast(&mut bytes)?;
    match (rows, BatchRows::from_bytes(&bytes)) {
        (Some(rows), _) => Ok(rows),
        (None, Some(found)) => Ok(views_of(found.bytes, config.views.len(), found.n_features)),
        (None, None) => Ok(Vec::new()),
    }
}

/// Rows in memory: all of the first view, then all of the next.
fn views_of(bytes: Vec<u8>, n_views: usize, n_features: usize) -> Vec<Rows> {
    let (length, all) = (bytes.len() / n_views.max(1), Arc::new(bytes));
    let view = |view| {
        let mut rows = Rows::new(n_features);
        let n = length / (n_features * size_of::<f32>()).max(1);
        rows.push(Part { n, start: view * length, bytes: Arc::<Vec<u8>>::clone(&all) as _ });
        rows
    };
    (0..n_views).map(view).collect()
}

/// The time between two writings of features that are not yet complete, and the bytes that are written at once.
const KEEP_EVERY: Duration = Duration::from_secs(30);
const KEEP_BYTES: usize = 1 << 24;

/// The features of the images so far.
struct Collected<'a> {
    views: Vec<Rows>,
    /// The bytes of those that are not yet in `views`, by view.
    pending: Vec<Vec<u8>>,
    n_pending: usize,
    kept: Instant,
    /// Where they are kept; `None` in memory.
    file: Option<CachedFeatures<'a>>,
}

impl<'a> Collected<'a> {
    fn new(views: Vec<Rows>, config: &FeatureConfig<'_>, file: Option<CachedFeatures<'a>>) -> Self {
        let pending = vec![Vec::new(); config.views.len()];
        Self { views, pending, n_pending: 0, kept: Instant::now(), file }
    }

    fn n_stored(&self) -> usize {
        self.views.first().map_or(0, Rows::len)
    }

    fn n_images(&self) -> usize {
        self.n_stored() + self.n_pending
    }

    fn add(&mut self, BatchRows { n_features, bytes }: &BatchRows) {
        if self.views.is_empty() {
            self.views = vec![Rows::new(*n_features); self.pending.len()];
        }
        let of_view = bytes.len() / self.pending.len().max(1);
        for (pending, rows) in self.pending.iter_mut().zip(bytes.chunks(of_view.max(1))) {
            pending.extend(rows);
        }
        self.n_pending += of_view / (n_features * size_of::<f32>()).max(1);
        let size: usize = self.pending.iter().map(Vec::len).sum();
        if size >= KEEP_BYTES || (self.file.is_some() && self.kept.elapsed() >= KEEP_EVERY) {
            self.keep();
        }
    }

    /// Moves the pending rows to a file, or to memory where that cannot be written.
    fn keep(&mut self) {
        let (n, before) = (std::mem::take(&mut self.n_pending), self.n_stored());
        let bytes: Vec<Vec<u8>> = self.pending.iter_mut().map(std::mem::take).collect();
        if n == 0 {
            return;
        }
        let parts = self.file.as_mut().and_then(|file| file.write(before, n, &bytes));
        let parts = parts.unwrap_or_else(|| {
            // Files without a gap are needed.
            self.file = None;
            bytes.into_iter().map(|bytes| Part { n, start: 0, bytes: Arc::new(bytes) as _ }).collect()
        });
        self.views.iter_mut().zip(parts).for_each(|(view, part)| view.push(part));
        self.kept = Instant::now();
    }

    fn finish(mut self) -> Vec<Rows> {
        self.keep();
        self.views
    }
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
