//! Rows of numbers in memory or in mapped files.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

/// Bytes in memory or in a mapped file.
pub(super) type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A row of F numbers for each image.
#[derive(Clone)]
pub(super) struct Rows {
    n_features: usize,
    /// Each with the number of its first row, in ascending order.
    parts: Vec<(usize, Part)>,
    n_stored: usize,
    /// The stored row of each image, where that is another one.
    order: Option<Arc<[u32]>>,
}

/// Consecutive rows: f32 in little-endian order from `start` in `bytes`.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) n: usize,
    pub(super) start: usize,
    pub(super) bytes: Bytes,
}

impl Rows {
    /// No rows of `n_features` numbers.
    pub(super) fn new(n_features: usize) -> Self {
        Self { n_features, parts: Vec::new(), n_stored: 0, order: None }
    }

    pub(super) fn n_features(&self) -> usize {
        self.n_features
    }

    pub(super) fn len(&self) -> usize {
        self.order.as_ref().map_or(self.n_stored, |order| order.len())
    }

    pub(super) fn push(&mut self, part: Part) {
        let first = self.n_stored;
        self.n_stored += part.n;
        self.parts.push((first, part));
    }

    /// These rows and then `more`, taken in an order.
    pub(super) fn then(mut self, more: Self, order: &[u32]) -> Self {
        more.parts.into_iter().for_each(|(_, part)| self.push(part));
        self.order = Some(order.into());
        self
    }

    /// The bytes of an image's row.
    pub(super) fn row(&self, image: usize) -> &[u8] {
        let stored = self.order.as_ref().map_or(image, |order| order[image] as usize);
        let part = self.parts.partition_point(|(first, _)| *first <= stored) - 1;
        let (first, Part { start, bytes, .. }) = &self.parts[part];
        let length = self.n_features * size_of::<f32>();
        &(**bytes).as_ref()[start + (stored - first) * length..][..length]
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n_features, parts, .. } = self;
        f.debug_struct("Rows")
            .field("n", &self.len())
            .field("n_features", n_features)
            .field("parts", &parts.len())
            .finish_non_exhaustive()
    }
}

/// The numbers of a row.
pub(super) fn values(row: &[u8]) -> impl Iterator<Item = f32> {
    row.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

/// The bytes of all numbers of a tensor.
pub(super) fn bytes_of(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().flat_map(f32::to_le_bytes).collect())
}

/// `n` rows, of which `read` makes numbers, as a tensor (n, F).
pub(super) fn tensor<'a, V: Iterator<Item = f32>>(
    rows: impl Iterator<Item = &'a [u8]>,
    read: impl Fn(&'a [u8]) -> V,
    (n, n_features): (usize, usize),
    device: &Device,
) -> candle_core::Result<Tensor> {
    let mut numbers = Vec::with_capacity(n * n_features);
    // Row by row, for which the compiler knows the length.
    rows.for_each(|row| numbers.extend(read(row)));
    Tensor::from_vec(numbers, (n, n_features), device)
}
