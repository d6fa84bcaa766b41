//! Buffers that a thread keeps from one call to the next: fresh memory costs more to touch than to fill.

use std::cell::RefCell;

thread_local! {
    static KEPT: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A line of the cache, on whose bounds buffers begin: a vector that crosses one is read twice.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; Line::LEN]);

impl Line {
    const LEN: usize = 16;
    const ZEROS: Self = Self([0.0; Self::LEN]);
}

/// A buffer of zeros or of leftovers, which goes back to its thread when dropped.
pub(crate) struct Scratch {
    /// Never shortened: lengthening it again would write zeros.
    lines: Vec<Line>,
    /// In values.
    len: usize,
}

impl Scratch {
    /// `len` values, whatever was in them before.
    pub(crate) fn dirty(len: usize) -> Self {
        let needed = len.div_ceil(Line::LEN);
        let mut lines = KEPT.with_borrow_mut(|kept| {
            // One that is long enough, or else the last.
            match kept.iter().rposition(|lines| lines.len() >= needed) {
                Some(at) => kept.swap_remove(at),
                None => kept.pop().unwrap_or_default(),
            }
        });
        if lines.len() < needed {
            lines.resize(needed, Line::ZEROS);
        }
        Self { lines, len }
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
        let lines = std::mem::take(&mut self.lines);
        // While a thread ends its store may be gone, and the buffer is simply freed.
        let _ = KEPT.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut()
                && kept.len() < MOST
            {
                kept.push(lines);
            }
        });
    }
}

impl std::ops::Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` has at least `len` values, one behind the other, since a line is an array of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above; the lines are borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
