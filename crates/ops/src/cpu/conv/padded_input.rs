//! Copies of maps with padding, which kernels read without bounds in mind.

use super::epilogue::{Epilogue, LazyMap};
use crate::config::Padding2d;
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
        let cols = (width + padding.left + padding.right).next_multiple_of(parts);
        let rows = height + padding.top + padding.bottom;
        let mut padded = Scratch::dirty(x.len() / (height * width) * rows * cols);
        let task_rows = VALUES.div_ceil(cols);
        let copy = CopyRows { x, epilogue, channels, size: (height, width), rows, padding, cols, parts };
        for_each_chunk(&mut padded, task_rows * cols, |task, to| dispatch((&copy, task * task_rows, to)));
        Self::Padded(padded)
    }

    pub(crate) fn values(&self) -> &[f32] {
        match self {
            Self::Unpadded(x) => x,
            Self::Padded(x) => x,
        }
    }
}

/// The source of padded rows, and their layout.
struct CopyRows<'a> {
    x: &'a [f32],
    epilogue: Epilogue<'a>,
    channels: usize,
    size: (usize, usize),
    /// Rows of a padded plane.
    rows: usize,
    padding: Padding2d,
    cols: usize,
    parts: usize,
}

/// Fills some rows, from the one of this index on, counted through all padded planes.
impl Kernel for (&CopyRows<'_>, usize, &mut [f32]) {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (&CopyRows { x, epilogue, channels, size, rows, padding, cols, parts }, first, to) = self;
        let (height, width) = size;
        let inside = padding.left..padding.left + width;
        let mut line = Scratch::zeroed(if parts > 1 { cols } else { 0 });
        for (i, to) in to.chunks_exact_mut(cols).enumerate() {
            let (plane, row) = ((first + i) / rows, (first + i) % rows);
            let Some(row) = row.checked_sub(padding.top).filter(|&row| row < height) else {
                to.fill(0.0);
                continue;
            };
            let from = &x[(plane * height + row) * width..][..width];
            let padded = if parts > 1 { &mut *line } else { &mut *to };
            padded[..inside.start].fill(0.0);
            padded[inside.end..].fill(0.0);
            padded[inside.clone()].copy_from_slice(from);
            if !epilogue.is_none() {
                epilogue.apply::<S>(plane % channels, &mut padded[inside.clone()]);
            }
            if parts > 1 {
                split(simd, &line, parts, to);
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
