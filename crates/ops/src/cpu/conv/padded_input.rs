//! Copies of maps with padding, which kernels read without bounds in mind.

use super::epilogue::LazyMap;
use crate::config::Padding2d;
use crate::cpu::gemm::copy;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::memory::threads::for_each_chunk;
use crate::cpu::simd::{Kernel, Simd, dispatch};

/// A batch of maps with zero padding.
pub(crate) enum PaddedInput<'a> {
    /// Maps without padding, which are not copied.
    Unpadded(&'a [f32]),
    Padded(Scratch),
}

impl<'a> PaddedInput<'a> {
    /// Copies planes of `height` × `width`, whose channel is their index modulo `channels`, with
    /// their epilogue applied. The columns of each row are split into `parts` by their
    /// remainders, each part contiguous.
    pub(crate) fn new(
        source: LazyMap<'a>,
        channels: usize,
        (height, width): (usize, usize),
        padding: Padding2d,
        parts: usize,
    ) -> Self {
        /// Values of a task.
        const VALUES: usize = 1 << 14;
        let LazyMap { values: x, epilogue } = source;
        if padding == Padding2d::none() && epilogue.is_none() && parts == 1 {
            return Self::Unpadded(x);
        }
        let rows = PaddedRows::new(source, channels, (height, width), padding);
        let cols = rows.cols.next_multiple_of(parts);
        let mut padded = Scratch::dirty(x.len() / (height * width) * rows.rows * cols);
        let task_rows = VALUES.div_ceil(cols);
        for_each_chunk(&mut padded, task_rows * cols, |task, to| {
            dispatch(CopyRows { rows: &rows, cols, parts, first: task * task_rows, to });
        });
        Self::Padded(padded)
    }

    pub(crate) fn values(&self) -> &[f32] {
        match self {
            Self::Unpadded(x) => x,
            Self::Padded(x) => x,
        }
    }
}

/// Planes with zero padding, whose rows are copied when they are needed.
pub(super) struct PaddedRows<'a> {
    source: LazyMap<'a>,
    channels: usize,
    size: (usize, usize),
    padding: Padding2d,
    /// Rows and columns of a padded plane.
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl<'a> PaddedRows<'a> {
    /// Planes of `size`, whose channel is their index modulo `channels`, with their epilogue applied.
    pub(super) fn new(
        source: LazyMap<'a>,
        channels: usize,
        size: (usize, usize),
        padding: Padding2d,
    ) -> Self {
        let rows = size.0 + padding.top + padding.bottom;
        let cols = size.1 + padding.left + padding.right;
        Self { source, channels, size, padding, rows, cols }
    }

    /// Copies the values of a row to the place that they have in `to`, the padded row, and leaves the rest. `false` if all of
    /// the row is padding.
    #[inline(always)]
    pub(super) fn copy<S: Simd>(&self, simd: S, plane: usize, row: usize, to: &mut [f32]) -> bool {
        let Self { source: LazyMap { values, epilogue }, channels, size: (height, width), padding, .. } =
            self;
        let Some(row) = row.checked_sub(padding.top).filter(|row| row < height) else { return false };
        let from = &values[(plane * height + row) * width..][..*width];
        let to = &mut to[padding.left..][..*width];
        // SAFETY: both slices have `width` values.
        unsafe { copy(simd, from.as_ptr(), 1, to.as_mut_ptr(), *width) };
        if !epilogue.is_none() {
            epilogue.apply::<S>(plane % channels, to);
        }
        true
    }
}

/// Fills rows of `cols`, from the one of this index on, counted through all planes.
struct CopyRows<'a> {
    rows: &'a PaddedRows<'a>,
    cols: usize,
    parts: usize,
    first: usize,
    to: &'a mut [f32],
}

impl Kernel for CopyRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rows, cols, parts, first, to } = self;
        let mut line = Scratch::zeroed(if parts > 1 { cols } else { 0 });
        for (i, to) in to.chunks_exact_mut(cols).enumerate() {
            let (plane, row) = ((first + i) / rows.rows, (first + i) % rows.rows);
            if parts > 1 && rows.copy(simd, plane, row, &mut line) {
                split(simd, &line, parts, to);
                continue;
            }
            to.fill(0.0);
            if parts == 1 {
                rows.copy(simd, plane, row, to);
            }
        }
    }
}

/// Splits a row into `parts` by the remainders of the indices.
#[inline(always)]
fn split<S: Simd>(simd: S, row: &[f32], parts: usize, to: &mut [f32]) {
    let len = to.len() / parts;
    let mut done = 0;
    if parts == 2 {
        assert!(row.len() == 2 * len);
        let (even, odd) = to.split_at_mut(len);
        while done + S::LANES <= len {
            // SAFETY: the row has two vectors from twice the index on, as asserted, and each part has one.
            unsafe {
                let from = row.as_ptr().add(2 * done);
                let (low, high) = simd.deinterleave(simd.load(from), simd.load(from.add(S::LANES)));
                simd.store(even.as_mut_ptr().add(done), low);
                simd.store(odd.as_mut_ptr().add(done), high);
            }
            done += S::LANES;
        }
    }
    for (part, to) in to.chunks_exact_mut(len).enumerate() {
        for (i, to) in to.iter_mut().enumerate().skip(done) {
            *to = row[i * parts + part];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_and_split_for_any_width() {
        for (width, parts) in (1..80).flat_map(|width| [1, 2, 3].map(|parts| (width, parts))) {
            let (planes, height) = (3, 1 + width % 5);
            let padding = Padding2d { top: width % 3, bottom: 1, left: width % 2, right: 2 };
            let x: Vec<f32> = (1..=planes * height * width).map(|i| i as f32).collect();
            let padded = PaddedInput::new(LazyMap::stored(&x), planes, (height, width), padding, parts);
            let cols = (width + padding.left + padding.right).next_multiple_of(parts);
            let rows = height + padding.top + padding.bottom;
            assert_eq!(padded.values().len(), planes * rows * cols);
            for (i, &found) in padded.values().iter().enumerate() {
                let (plane, row, at) = (i / cols / rows, i / cols % rows, i % cols);
                let column = at % (cols / parts) * parts + at / (cols / parts);
                let (y, x_) = (row.wrapping_sub(padding.top), column.wrapping_sub(padding.left));
                let inside = y < height && x_ < width;
                let expected = if inside { x[(plane * height + y) * width + x_] } else { 0.0 };
                assert_eq!(found, expected, "{width} columns in {parts} parts");
            }
        }
    }
}
