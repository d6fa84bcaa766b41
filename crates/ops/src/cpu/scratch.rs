//! Buffers that a thread keeps from one call to the next: fresh memory costs more to touch than to fill.

use std::cell::RefCell;

thread_local! {
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of zeros or of leftovers, which goes back to its thread when dropped.
pub(crate) struct Scratch {
    /// Never shortened: lengthening it again would write zeros.
    values: Vec<f32>,
    len: usize,
}

impl Scratch {
    /// `len` values, whatever was in them before.
    pub(crate) fn dirty(len: usize) -> Self {
        let mut values = KEPT.with_borrow_mut(|kept| {
            // One that is long enough, or else the last.
            match kept.iter().rposition(|values| values.len() >= len) {
                Some(at) => kept.swap_remove(at),
                None => kept.pop().unwrap_or_default(),
            }
        });
        if values.len() < len {
            values.resize(len, 0.0);
        }
        Self { values, len }
    }

    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut scratch = Self::dirty(len);
        scratch.fill(0.0);
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        /// Enough for the deepest nest of buffers in one kernel.
        const MOST: usize = 8;
        let values = std::mem::take(&mut self.values);
        // While a thread ends its store may be gone, and the buffer is simply freed.
        let _ = KEPT.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut()
                && kept.len() < MOST
            {
                kept.push(values);
            }
        });
    }
}

impl std::ops::Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl std::ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}
