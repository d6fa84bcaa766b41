//! Batches of decoded images.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::augment::{Augmentation, Augmenter, BatchLabels};
use crate::batches::{Batch, Batches, Shard, check_batch_size, cut, n_batches};
use crate::error::{Error, Result};
use crate::image_dataset::ImageDataset;
use crate::normalize::Normalize;
use crate::sampling::Sampling;

/// Settings of a [`Loader`].
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig {
    /// Number of examples in a batch. The last batch of an epoch may be smaller, as in Keras.
    pub batch_size: usize,
    /// The order of the examples.
    pub sampling: Sampling,
    /// Normalization from bytes to floats.
    pub normalize: Normalize,
    /// Number of batches that a thread prepares ahead while the caller trains. With 0, each is prepared on request.
    pub prefetch: usize,
}

/// Batches of decoded images, (B, C, H, W) f32, with labels (B,) u32 of one class per image, (B, K) f32 of 0 and 1 for
/// several, or (B,) f32 for numbers.
///
/// [`augmented`](Self::augmented) adds random augmentation. The batches do not depend on `prefetch`, on the number of threads or
/// on where the images' pixels are. At most `prefetch` batches wait in memory. An image that cannot be decoded when it is used
/// is an error in the place of its batch, which ends the epoch.
///
/// # Examples
///
/// ```
/// use candle_core::Device;
/// use firstsight_data::{Batches, ImageDataset, Loader, LoaderConfig, Normalize, Sampling};
///
/// let classes = vec!["dark".to_owned(), "light".to_owned()];
/// let images = ImageDataset::from_pixels(vec![0, 51, 204, 255], (1, 2, 1), vec![0, 1], classes)?;
/// let config = LoaderConfig {
///     batch_size: 2,
///     sampling: Sampling::Sequential,
///     normalize: Normalize { mean: vec![0.0], std: vec![1.0] },
///     prefetch: 2,
/// };
/// let loader = Loader::new(images, config, &Device::Cpu)?;
/// let batch = loader.epoch(0).next().unwrap()?;
/// assert_eq!(batch.inputs.dims(), [2, 1, 1, 2]);
/// assert_eq!(batch.inputs.flatten_all()?.to_vec1::<f32>()?, [0.0, 0.2, 0.8, 1.0]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Loader {
    source: Arc<Source>,
    sampling: Sampling,
    prefetch: usize,
    device: Device,
}

impl Loader {
    /// Batches of `data` on `device`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for no images, a batch size of 0, or a normalization for another number of channels or
    /// with a standard deviation that is not above 0.
    pub fn new(data: ImageDataset, config: LoaderConfig, device: &Device) -> Result<Self> {
        check_batch_size(config.batch_size)?;
        let (n, _, _, channels) = data.shape();
        if n == 0 {
            return Err(Error::invalid("data", "at least one image", n));
        }
        let tables = config.normalize.tables(channels)?;
        let source = Arc::new(Source { data, tables, batch_size: config.batch_size, change: None });
        Ok(Self { source, sampling: config.sampling, prefetch: config.prefetch, device: device.clone() })
    }

    /// The same batches with `augmentation` applied anew in each epoch. Use it for training only, not for evaluation.
    ///
    /// With mixing or label smoothing, labels of one class per image become (B, K) f32, the share of each class; otherwise
    /// they stay (B,) u32.
    ///
    /// # Errors
    ///
    /// Those of [`Augmenter::new`]; [`Error::Invalid`] for label smoothing or cutmix where labels are numbers.
    ///
    /// # Examples
    ///
    /// ```
    /// use candle_core::Device;
    /// use firstsight_data::{Augmentation, Batches, ImageDataset, Loader, LoaderConfig, Mix, Normalize, Sampling};
    ///
    /// let classes = vec!["dark".to_owned(), "light".to_owned()];
    /// let images = ImageDataset::from_pixels(vec![0, 51, 204, 255], (1, 2, 1), vec![0, 1], classes)?;
    /// let config = LoaderConfig {
    ///     batch_size: 2,
    ///     sampling: Sampling::Shuffled { seed: 0 },
    ///     normalize: Normalize { mean: vec![0.0], std: vec![1.0] },
    ///     prefetch: 2,
    /// };
    /// let augmentation = Augmentation { mix: Some(Mix::Mixup(0.2)), ..Augmentation::photos(0) };
    /// let loader = Loader::new(images, config, &Device::Cpu)?.augmented(augmentation)?;
    /// let batch = loader.epoch(0).next().unwrap()?;
    /// assert_eq!(batch.labels.dims(), [2, 2]);
    /// # Ok::<(), firstsight_data::Error>(())
    /// ```
    pub fn augmented(self, augmentation: Augmentation) -> Result<Self> {
        let images = self.source.data.clone();
        self.augmented_from(images, augmentation)
    }

    /// As [`augmented`](Self::augmented), with the crop, which comes first, cut from the same images at a larger size. The
    /// batches keep their shape, labels and order.
    ///
    /// # Errors
    ///
    /// Those of [`augmented`](Self::augmented) and [`Augmenter::cut_from`]; [`Error::Invalid`] for other images than those
    /// of the batches, or of other channels.
    pub fn augmented_from(mut self, images: ImageDataset, augmentation: Augmentation) -> Result<Self> {
        let Source { data, tables, batch_size, .. } = self.source.as_ref();
        let (n, height, width, channels) = data.shape();
        augmentation.check_labels(data.targets().task())?;
        let mut augmenter = Augmenter::new(augmentation, (height, width, channels))?;
        let (found, source_height, source_width, source_channels) = images.shape();
        if (found, source_channels) != (n, channels) || (0..n).any(|i| images.path(i) != data.path(i)) {
            let found = format!("{found} images of {source_channels} channels");
            let rule = format!("the same {n} images of {channels} channels, at any size");
            return Err(Error::invalid("the images that crops are cut from", rule, found));
        }
        if (source_height, source_width) != (height, width) {
            augmenter = augmenter.cut_from((source_height, source_width))?;
        }
        let change = Some((augmenter, images));
        let (data, tables) = (data.clone(), tables.clone());
        self.source = Arc::new(Source { data, tables, batch_size: *batch_size, change });
        Ok(self)
    }

    /// The images behind the batches.
    pub fn data(&self) -> &ImageDataset {
        &self.source.data
    }
}

impl Batches for Loader {
    fn epoch(&self, epoch: usize) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        let whole = self.shards(epoch, 1, (0..self.n_batches()).collect());
        Box::new(whole.filter_map(|shard| shard.map(|shard| shard.batch).transpose()))
    }

    fn n_batches(&self) -> usize {
        n_batches(self.n_examples(), self.source.batch_size)
    }

    fn n_examples(&self) -> usize {
        self.source.data.len()
    }

    fn shards(
        &self,
        epoch: usize,
        n: usize,
        own: Vec<usize>,
    ) -> Box<dyn Iterator<Item = Result<Shard>> + '_> {
        let order = self.sampling.indices(self.n_examples(), epoch);
        let size = self.source.batch_size;
        let shard = |number: usize| {
            let start = number / n * size;
            let of = order.len().saturating_sub(start).min(size);
            let Range { start: from, end: to } = cut(of, n, number % n);
            (of > 0).then_some((start + from..start + to, of))
        };
        let (mut parts, sizes): (Vec<Range<usize>>, Vec<usize>) = own.into_iter().map_while(shard).unzip();
        let is_empty: Vec<bool> = parts.iter().map(Range::is_empty).collect();
        parts.retain(|part| !part.is_empty());
        let expected = parts.len();
        // Parts of batches are smaller, so more of them wait.
        let prefetch = self.prefetch * expected.div_ceil(self.n_batches().max(1));
        let epoch = Arc::new(Epoch { source: self.source.clone(), epoch, order, parts });
        let mut values = Values::start(epoch, prefetch);
        let (mut found, mut stopped) = (0, false);
        Box::new(is_empty.into_iter().zip(sizes).map_while(move |(is_empty, of)| {
            if stopped {
                return None;
            }
            if is_empty {
                return Some(Ok(Shard { batch: None, of }));
            }
            let Some(values) = values.next() else {
                stopped = true;
                return Some(Err(Error::PrefetchStopped { expected, found }));
            };
            (found, stopped) = (found + 1, values.is_err());
            let batch = values.and_then(|values| self.source.batch(values, &self.device));
            Some(batch.map(|batch| Shard { batch: Some(batch), of }))
        }))
    }
}

/// The values of a batch. The caller's thread, which owns the device, makes tensors of them.
struct BatchValues {
    inputs: Vec<f32>,
    labels: BatchLabels,
    n: usize,
}

/// Everything that a worker needs to prepare a batch.
#[derive(Debug)]
struct Source {
    data: ImageDataset,
    tables: Vec<[f32; 256]>,
    batch_size: usize,
    /// The augmentation, and the images that it changes.
    change: Option<(Augmenter, ImageDataset)>,
}

impl Source {
    /// # Errors
    ///
    /// Those of images that are decoded now.
    fn values(&self, epoch: usize, indices: &[usize]) -> Result<BatchValues> {
        let (_, height, width, channels) = self.data.shape();
        let labels = self.data.targets().subset(indices);
        let n_classes = self.data.classes().len();
        let example = height * width * channels;
        let mut inputs = vec![0.0; indices.len() * example];
        let fill = |(input, &i): (&mut [f32], &usize)| -> Result<()> {
            let image = match &self.change {
                None => self.data.image(i)?,
                Some((augmenter, images)) => augmenter.apply(&images.image(i)?, epoch, i).into(),
            };
            self.normalize(&image, input);
            Ok(())
        };
        if self.change.is_some() || self.data.is_decoded_on_use() {
            inputs.par_chunks_exact_mut(example).zip(indices).try_for_each(fill)?;
        } else {
            inputs.chunks_exact_mut(example).zip(indices).try_for_each(fill)?;
        }
        let labels = match &self.change {
            None => BatchLabels::plain(labels, n_classes),
            Some((augmenter, _)) => augmenter.mix(&mut inputs, labels, n_classes, indices, epoch),
        };
        Ok(BatchValues { inputs, labels, n: indices.len() })
    }

    /// Writes an image's values, channels first.
    fn normalize(&self, image: &[u8], input: &mut [f32]) {
        let channels = self.tables.len();
        let planes = input.chunks_exact_mut(image.len() / channels).zip(&self.tables);
        for (channel, (plane, table)) in planes.enumerate() {
            let bytes = image[channel..].iter().step_by(channels);
            plane.iter_mut().zip(bytes).for_each(|(value, &byte)| *value = table[usize::from(byte)]);
        }
    }

    fn batch(&self, values: BatchValues, device: &Device) -> Result<Batch> {
        let (_, height, width, channels) = self.data.shape();
        let n = values.n;
        let inputs = Tensor::from_vec(values.inputs, (n, channels, height, width), device)?;
        let labels = match values.labels {
            BatchLabels::Classes(classes) => Tensor::from_vec(classes, n, device)?,
            BatchLabels::Shares(shares) => Tensor::from_vec(shares, (n, self.data.classes().len()), device)?,
            BatchLabels::Values(values) => Tensor::from_vec(values, n, device)?,
        };
        Ok(Batch { inputs, labels })
    }
}

/// The batches of an epoch or parts of them.
struct Epoch {
    source: Arc<Source>,
    epoch: usize,
    order: Vec<usize>,
    /// Where in the order each part is.
    parts: Vec<Range<usize>>,
}

impl Epoch {
    fn values(&self, part: usize) -> Option<Result<BatchValues>> {
        let part = self.parts.get(part)?;
        Some(self.source.values(self.epoch, &self.order[part.clone()]))
    }
}

/// The values of an epoch's parts, in order, prepared by this thread or ahead by another.
enum Values {
    Here { epoch: Arc<Epoch>, part: usize },
    Ahead { receiver: Option<Receiver<Result<BatchValues>>>, worker: Option<JoinHandle<()>> },
}

impl Values {
    fn start(epoch: Arc<Epoch>, prefetch: usize) -> Self {
        let Some(waiting) = prefetch.checked_sub(1) else {
            return Self::Here { epoch, part: 0 };
        };
        // The worker holds one more batch.
        let (sender, receiver) = sync_channel(waiting);
        let worker = {
            let epoch = epoch.clone();
            let work = move || {
                for values in (0..).map_while(|part| epoch.values(part)) {
                    let is_last = values.is_err();
                    if sender.send(values).is_err() || is_last {
                        return;
                    }
                }
            };
            std::thread::Builder::new().name("firstsight-prefetch".to_owned()).spawn(work)
        };
        match worker {
            Ok(worker) => Self::Ahead { receiver: Some(receiver), worker: Some(worker) },
            Err(error) => {
                tracing::warn!(%error, "cannot start a thread to prepare batches; preparing them in place");
                Self::Here { epoch, part: 0 }
            }
        }
    }

    fn next(&mut self) -> Option<Result<BatchValues>> {
        match self {
            Self::Here { epoch, part } => {
                *part += 1;
                epoch.values(*part - 1)
            }
            Self::Ahead { receiver, .. } => receiver.as_ref()?.recv().ok(),
        }
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        if let Self::Ahead { receiver, worker } = self {
            // Without its receiver the worker's next `send` fails, which ends it.
            drop(receiver.take());
            if let Some(worker) = worker.take() {
                let _ = worker.join();
            }
        }
    }
}
