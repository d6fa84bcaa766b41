//! A pool of large buffers, since touching fresh memory costs more than the arithmetic of most
//! layers.
//!
//! Memory that one training step frees is reused by the next. A request gets the smallest free buffer
//! that is large enough. If there is none, at least as much memory is freed as is requested, so that
//! the pool and the buffers in use add up to little more than what a step needs at once.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::threads::{for_each_chunk, worth_threads};

/// Free buffers, from smallest to largest.
static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Values that return to the pool when dropped.
#[derive(Default)]
pub(crate) struct Buffer {
    /// Never shortened, since lengthening it again would write zeros.
    values: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// `len` values with unspecified contents.
    pub(crate) fn dirty(len: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let at = pool.partition_point(|free| free.len() < len);
        if at < pool.len() {
            return Self { values: pool.remove(at), len };
        }
        let mut freed = 0;
        while let Some(free) = pool.pop_if(|_| freed < len) {
            freed += free.len();
        }
        drop(pool);
        Self::fresh(len)
    }

    /// `len` zeros that leave the pool, since a tensor takes them over.
    pub(crate) fn fresh(len: usize) -> Self {
        Self { values: zeros(len), len }
    }

    /// The values as a vector, which does not return to the pool. A larger buffer is copied.
    pub(crate) fn into_vec(mut self) -> Vec<f32> {
        if self.len < self.values.len() {
            return self.to_vec();
        }
        std::mem::take(&mut self.values)
    }
}

/// `count` chunks of `len` values, filled on all threads: `fill` gets the index of each chunk and its
/// zeros.
///
/// For results, which become tensors and do not return to the pool. Each chunk's zeros are written
/// just before it is filled, when they are in the cache.
pub(crate) fn filled(count: usize, len: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    filled_with(count * len, len, fill).0
}

/// [`filled`] for `total` values in chunks of `len`, of which the last may be shorter, and what each
/// call of `fill` returns, in order.
pub(crate) fn filled_with<T: Send>(
    total: usize,
    len: usize,
    fill: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    if total > 0 && total <= len {
        let mut values = zeros(total);
        let result = fill(0, &mut values);
        return (values, vec![result]);
    }
    let mut values = Vec::with_capacity(total);
    let fill_chunk = |(index, chunk): (usize, &mut [MaybeUninit<f32>])| {
        chunk.fill(MaybeUninit::new(0.0));
        // SAFETY: the whole chunk has just been written, and `MaybeUninit<f32>` has the
        // layout of `f32`.
        fill(index, unsafe { &mut *(std::ptr::from_mut(chunk) as *mut [f32]) })
    };
    let spare = &mut values.spare_capacity_mut()[..total];
    let results = if worth_threads(total) {
        spare.par_chunks_mut(len.max(1)).enumerate().map(fill_chunk).collect()
    } else {
        spare.chunks_mut(len.max(1)).enumerate().map(fill_chunk).collect()
    };
    // SAFETY: the chunks cover all of these values, and each has been written.
    unsafe { values.set_len(total) };
    (values, results)
}

/// `len` zeros for a result, written on all threads if that pays off.
pub(crate) fn zeros<T: Copy + Default + Send + Sync>(len: usize) -> Vec<T> {
    /// A few chunks per thread, each of at least a page.
    const CHUNK: usize = 1 << 14;
    if !worth_threads(len) {
        return vec![T::default(); len];
    }
    let mut values = Vec::with_capacity(len);
    let zero = |_, chunk: &mut [MaybeUninit<T>]| chunk.fill(MaybeUninit::new(T::default()));
    for_each_chunk(&mut values.spare_capacity_mut()[..len], CHUNK, zero);
    // SAFETY: the chunks cover all of these values, and each has been written.
    unsafe { values.set_len(len) };
    values
}

/// Frees the memory that ops keep for their next call: the buffers of large intermediate maps.
pub fn release_buffers() {
    POOL.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

impl Drop for Buffer {
    fn drop(&mut self) {
        /// A step of a deep network uses a few hundred.
        const MAX_BUFFERS: usize = 1024;
        let values = std::mem::take(&mut self.values);
        if values.is_empty() {
            return;
        }
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < MAX_BUFFERS {
            let at = pool.partition_point(|free| free.len() < values.len());
            pool.insert(at, values);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}
