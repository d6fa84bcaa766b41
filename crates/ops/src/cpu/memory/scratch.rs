//! Scratch buffers that each thread keeps between calls, since touching fresh memory costs more than
//! filling it.

use std::cell::RefCell;

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A cache line. Buffers are aligned to it, since a vector that crosses its bounds is read twice.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; Line::LEN]);

impl Line {
    const LEN: usize = 16;
    const ZEROS: Self = Self([0.0; Self::LEN]);
}

/// A buffer that returns to its thread's free list when dropped.
pub(crate) struct Scratch {
    /// Never shortened, since lengthening it again would write zeros.
    lines: Vec<Line>,
    /// Number of values.
    len: usize,
}

impl Scratch {
    /// `len` values with unspecified contents.
    pub(crate) fn dirty(len: usize) -> Self {
        let needed = len.div_ceil(Line::LEN);
        let mut lines = FREE.with_borrow_mut(|free| {
            // The last one that is long enough, or else the last one.
            match free.iter().rposition(|lines| lines.len() >= needed) {
                Some(at) => free.swap_remove(at),
                None => free.pop().unwrap_or_default(),
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
        /// Enough for the most deeply nested buffers of a kernel.
        const MAX_BUFFERS: usize = 24;
        let lines = std::mem::take(&mut self.lines);
        // While the thread exits, its free list may be gone; then the buffer is simply freed.
        let _ = FREE.try_with(|free| {
            if let Ok(mut free) = free.try_borrow_mut()
                && free.len() < MAX_BUFFERS
            {
                free.push(lines);
            }
        });
    }
}

impl std::ops::Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` contiguous values, since a line is an array of
        // them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above; the lines are borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
