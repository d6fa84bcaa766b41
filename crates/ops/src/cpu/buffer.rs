//! Large buffers that are used again: touching fresh memory costs more than the arithmetic of most layers.
//!
//! What a training step frees, the next one takes, so that the store grows to what one step needs at once and no
//! further.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

static STORE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Values that go back to the store when dropped.
pub(crate) struct Buffer(Vec<f32>);

impl Buffer {
    /// `len` values, whatever was in them before.
    pub(crate) fn dirty(len: usize) -> Self {
        let kept = {
            let mut store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
            // The smallest that is large enough, but not so large that a larger request would miss it.
            let fitting =
                store.iter().enumerate().filter(|(_, kept)| (len..=len + len / 4).contains(&kept.len()));
            fitting.min_by_key(|(_, kept)| kept.len()).map(|(at, _)| at).map(|at| store.swap_remove(at))
        };
        match kept {
            Some(mut kept) => {
                kept.truncate(len);
                Self(kept)
            }
            None => Self(vec![0.0; len]),
        }
    }

    /// The buffer, which leaves an empty one.
    pub(crate) fn take(&mut self) -> Self {
        Self(std::mem::take(&mut self.0))
    }

    /// The values themselves, which then don't go back.
    pub(crate) fn into_vec(mut self) -> Vec<f32> {
        std::mem::take(&mut self.0)
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

/// Frees all buffers that wait for their next use.
///
/// Ops keep the memory of large intermediate maps from one call to the next, at most as much as was in use at once.
pub fn release_buffers() {
    STORE.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

impl Drop for Buffer {
    fn drop(&mut self) {
        /// More are not kept: a step of a deep network uses a few hundred.
        const MOST: usize = 1024;
        let mut buffer = std::mem::take(&mut self.0);
        if buffer.is_empty() {
            return;
        }
        let mut store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
        if store.len() < MOST {
            // What lies behind the length was values once; lengthening fills it with zeros.
            let len = buffer.capacity();
            buffer.resize(len, 0.0);
            store.push(buffer);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
