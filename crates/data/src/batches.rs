//! Batches of tensors, epoch by epoch.

use std::ops::Range;

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::sampling::Sampling;

/// The examples of one training step.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Inputs, (B, C, H, W) f32 for images or (B, F) f32 for tables.
    pub inputs: Tensor,
    /// Labels: (B,) u32 for classes; (B, K) f32 for the share of each of K classes, where labels are mixed or
    /// smoothed, and for several labels per image; (B,) f32 for regression.
    pub labels: Tensor,
}

/// A part of a batch, where several share one.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Its examples; `None` where the batch has fewer examples than shards.
    pub batch: Option<Batch>,
    /// Number of examples in the whole batch.
    pub of: usize,
}

/// A source of batches, epoch by epoch.
///
/// # Examples
///
/// A source of constant batches:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_data::{Batch, Batches, Result};
///
/// struct Zeros;
///
/// impl Batches for Zeros {
///     fn epoch(&self, _epoch: usize) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
///         Box::new((0..self.n_batches()).map(|_| {
///             let inputs = Tensor::zeros((4, 1, 8, 6), DType::F32, &Device::Cpu)?;
///             let labels = Tensor::zeros(4, DType::U32, &Device::Cpu)?;
///             Ok(Batch { inputs, labels })
///         }))
///     }
///     fn n_batches(&self) -> usize {
///         3
///     }
///     fn n_examples(&self) -> usize {
///         12
///     }
/// }
/// assert_eq!(Zeros.epoch(0).count(), 3);
/// ```
pub trait Batches {
    /// The batches of one epoch, counted from 0. The same epoch gives the same batches each time.
    fn epoch(&self, epoch: usize) -> Box<dyn Iterator<Item = Result<Batch>> + '_>;

    /// The number of batches in an epoch.
    fn n_batches(&self) -> usize;

    /// The number of examples in an epoch.
    fn n_examples(&self) -> usize;

    /// Some shards of an epoch's batches. Each batch is cut into `n` shards of consecutive examples; where `n` does not divide
    /// them, the first shards have one more. Shard s of batch b has the number b·n + s. `own` holds the numbers of the wanted
    /// shards in ascending order, and they come in that order.
    ///
    /// By default whole batches are made and cut. A source that can make a shard alone does so; [`Loader`](crate::Loader) then
    /// mixes examples within a shard.
    fn shards(
        &self,
        epoch: usize,
        n: usize,
        own: Vec<usize>,
    ) -> Box<dyn Iterator<Item = Result<Shard>> + '_> {
        let batches = own.last().map_or(0, |last| last / n + 1);
        Box::new(self.epoch(epoch).take(batches).enumerate().flat_map(move |(b, batch)| {
            let place = |number: usize| own.partition_point(|&own| own < number);
            let own = &own[place(b * n)..place((b + 1) * n)];
            match batch {
                Ok(batch) => own.iter().map(|number| batch.shard(n, number % n)).collect(),
                Err(error) => vec![Err(error)],
            }
        }))
    }
}

impl Batch {
    /// Shard `shard` of `n`.
    fn shard(&self, n: usize, shard: usize) -> Result<Shard> {
        let of = self.inputs.dim(0)?;
        let examples = cut(of, n, shard);
        let part = |tensor: &Tensor| tensor.narrow(0, examples.start, examples.len());
        let batch = match examples.is_empty() {
            true => None,
            false => Some(Self { inputs: part(&self.inputs)?, labels: part(&self.labels)? }),
        };
        Ok(Shard { batch, of })
    }
}

/// The examples of shard `shard`, where a batch of `of` examples is cut into `n`.
pub(crate) fn cut(of: usize, n: usize, shard: usize) -> Range<usize> {
    let start = |shard: usize| shard * (of / n) + shard.min(of % n);
    start(shard)..start(shard + 1)
}

impl<B: Batches + ?Sized> Batches for &B {
    fn epoch(&self, epoch: usize) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        (**self).epoch(epoch)
    }

    fn n_batches(&self) -> usize {
        (**self).n_batches()
    }

    fn n_examples(&self) -> usize {
        (**self).n_examples()
    }

    fn shards(
        &self,
        epoch: usize,
        n: usize,
        own: Vec<usize>,
    ) -> Box<dyn Iterator<Item = Result<Shard>> + '_> {
        (**self).shards(epoch, n, own)
    }
}

/// The number of batches. The last may be smaller, as in Keras.
pub(crate) fn n_batches(n_examples: usize, batch_size: usize) -> usize {
    n_examples.div_ceil(batch_size)
}

pub(crate) fn check_batch_size(batch_size: usize) -> Result<()> {
    match batch_size {
        0 => Err(Error::invalid("batch_size", "at least 1", batch_size)),
        _ => Ok(()),
    }
}

/// Batches of tensors in memory, such as tables or cached features.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor};
/// use firstsight_data::{Batches, Sampling, TensorBatches};
///
/// let inputs = Tensor::arange(0f32, 10., &Device::Cpu)?.reshape((5, 2))?;
/// let labels = Tensor::arange(0u32, 5, &Device::Cpu)?;
/// let batches = TensorBatches::new(inputs, labels, 2, Sampling::Sequential)?;
/// let last = batches.epoch(0).last().unwrap()?;
/// assert_eq!(last.inputs.to_vec2::<f32>()?, [[8., 9.]]);
/// assert_eq!(last.labels.to_vec1::<u32>()?, [4]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TensorBatches {
    inputs: Tensor,
    labels: Tensor,
    batch_size: usize,
    sampling: Sampling,
}

impl TensorBatches {
    /// Batches of `inputs`, (N, …) f32, and `labels`, (N,) u32 or f32, or (N, K) f32, on the device of these tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if there are no examples, the numbers of inputs and labels differ, a dtype is not supported,
    /// or the batch size is 0.
    pub fn new(inputs: Tensor, labels: Tensor, batch_size: usize, sampling: Sampling) -> Result<Self> {
        check_batch_size(batch_size)?;
        let n = inputs.dims().first().copied().unwrap_or(0);
        if n == 0 || inputs.dtype() != DType::F32 {
            let found = format!("{:?} {:?}", inputs.shape(), inputs.dtype());
            return Err(Error::invalid("inputs", "shape (N, ...) of at least one example, dtype F32", found));
        }
        let fits = match labels.dims() {
            [of] => *of == n && matches!(labels.dtype(), DType::U32 | DType::F32),
            [of, _] => *of == n && labels.dtype() == DType::F32,
            _ => false,
        };
        if !fits {
            let found = format!("{:?} {:?}", labels.shape(), labels.dtype());
            let expected = format!("shape ({n},), dtype U32 or F32, or shape ({n}, K), dtype F32");
            return Err(Error::invalid("labels", expected, found));
        }
        Ok(Self { inputs, labels, batch_size, sampling })
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch> {
        let (inputs, labels) = match (self.sampling, indices) {
            (Sampling::Sequential, [first, ..]) => {
                (self.inputs.narrow(0, *first, indices.len())?, self.labels.narrow(0, *first, indices.len())?)
            }
            _ => {
                let indices: Vec<u32> = indices.iter().map(|&i| i as u32).collect();
                let indices = Tensor::new(indices, self.inputs.device())?;
                (self.inputs.index_select(&indices, 0)?, self.labels.index_select(&indices, 0)?)
            }
        };
        Ok(Batch { inputs, labels })
    }
}

impl Batches for TensorBatches {
    fn epoch(&self, epoch: usize) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        let order = self.sampling.indices(self.n_examples(), epoch);
        Box::new((0..self.n_batches()).map(move |i| {
            let end = order.len().min((i + 1) * self.batch_size);
            self.batch(&order[i * self.batch_size..end])
        }))
    }

    fn n_batches(&self) -> usize {
        n_batches(self.n_examples(), self.batch_size)
    }

    fn n_examples(&self) -> usize {
        self.inputs.dims()[0]
    }
}
