//! Large buffers that are used again: touching fresh memory costs more than the arithmetic of most layers.
//!
//! What a training step frees, the next one takes. Of those that are large enough the smallest is taken, and where none
//! is, as much is given back as is asked for: the store and what is in use come to what a step needs at once and little
//! more.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::threads::many;

/// From the smallest to the largest.
static STORE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Values that go back to the store when dropped.
#[derive(Default)]
pub(crate) struct Buffer {
    /// Never shortened: lengthening them again would write zeros.
    values: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// `len` values, whatever was in them before.
    pub(crate) fn dirty(len: usize) -> Self {
        let mut store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
        let at = store.partition_point(|kept| kept.len() < len);
        if at < store.len() {
            return Self { values: store.remove(at), len };
        }
        let mut freed = 0;
        while let Some(kept) = store.pop_if(|_| freed < len) {
            freed += kept.len();
        }
        drop(store);
        Self::fresh(len)
    }

    /// `len` zeros for the tape, which they don't come back from.
    pub(crate) fn fresh(len: usize) -> Self {
        Self { values: zeros(len), len }
    }

    /// The values themselves, which then don't go back; of a larger buffer, a copy.
    pub(crate) fn into_vec(mut self) -> Vec<f32> {
        if self.len < self.values.len() {
            return self.to_vec();
        }
        std::mem::take(&mut self.values)
    }
}

/// `count` chunks of `len` values, on all threads: `fill` is given each, as zeros, with its index. For results, which go
/// to the tape and don't come back: their zeros are written chunk by chunk, just before what follows finds them in the
/// cache.
pub(crate) fn filled(count: usize, len: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut values = Vec::with_capacity(count * len);
    let chunks = values.spare_capacity_mut()[..count * len].par_chunks_exact_mut(len.max(1));
    chunks.enumerate().for_each(|(index, chunk)| {
        chunk.fill(MaybeUninit::new(0.0));
        // SAFETY: all of the chunk has just been written, and a value has the layout of one that may be missing.
        fill(index, unsafe { &mut *(std::ptr::from_mut(chunk) as *mut [f32]) });
    });
    // SAFETY: the chunks are all of these values, and each has been written.
    unsafe { values.set_len(count * len) };
    values
}

/// `len` zeros for a result, written on all threads if they are many.
pub(crate) fn zeros<T: Copy + Default + Send>(len: usize) -> Vec<T> {
    /// A page or more, and a few for each thread.
    const CHUNK: usize = 1 << 14;
    if !many(len) {
        return vec![T::default(); len];
    }
    let mut values = Vec::with_capacity(len);
    let chunks = values.spare_capacity_mut()[..len].par_chunks_mut(CHUNK);
    chunks.for_each(|chunk| chunk.fill(MaybeUninit::new(T::default())));
    // SAFETY: the chunks are all of these values, and each has been written.
    unsafe { values.set_len(len) };
    values
}

/// Frees all buffers that wait for their next use.
///
/// Ops keep the memory of large intermediate maps from one call to the next.
pub fn release_buffers() {
    STORE.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

impl Drop for Buffer {
    fn drop(&mut self) {
        /// More are not kept: a step of a deep network uses a few hundred.
        const MOST: usize = 1024;
        let values = std::mem::take(&mut self.values);
        if values.is_empty() {
            return;
        }
        let mut store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
        if store.len() < MOST {
            let at = store.partition_point(|kept| kept.len() < values.len());
            store.insert(at, values);
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
