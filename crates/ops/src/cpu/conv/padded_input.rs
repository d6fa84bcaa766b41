//! Copies of maps with padding, which kernels read without bounds in mind.

use rayon::prelude::*;

use super::epilogue::{Epilogue, LazyMap};
use crate::config::Padding2d;
use crate::cpu::memory::scratch::Scratch;
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
        let LazyMap { values: x, epilogue } = source;
        if padding == Padding2d::none() && epilogue.is_none() && parts == 1 {
            return Self::Unpadded(x);
        }
        let cols = (width + padding.left + padding.right).next_multiple_of(parts);
        let plane = (height + padding.top + padding.bottom) * cols;
        let mut padded = Scratch::dirty(x.len() / (height * width) * plane);
        let planes = padded.par_chunks_exact_mut(plane).zip(x.par_chunks_exact(height * width));
        planes.enumerate().for_each(|(index, (to, from))| {
            let (above, rest) = to.split_at_mut(padding.top * cols);
            let (rows, below) = rest.split_at_mut(height * cols);
            above.fill(0.0);
            below.fill(0.0);
            for (to, from) in rows.chunks_exact_mut(cols).zip(from.chunks_exact(width)) {
                to[..padding.left].fill(0.0);
                to[padding.left..padding.left + width].copy_from_slice(from);
                to[padding.left + width..].fill(0.0);
            }
            if !epilogue.is_none() {
                let channel = index % channels;
                dispatch(ApplyEpilogue {
                    epilogue,
                    channel,
                    rows: &mut *rows,
                    left: padding.left,
                    width,
                    cols,
                });
            }
            if parts > 1 {
                let mut row = vec![0.0; cols];
                for to in rows.chunks_exact_mut(cols) {
                    row.copy_from_slice(to);
                    for (part, to) in to.chunks_exact_mut(cols / parts).enumerate() {
                        for (to, from) in to.iter_mut().zip(row[part..].iter().step_by(parts)) {
                            *to = *from;
                        }
                    }
                }
            }
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

/// Applies the epilogue to one plane, whose padding stays zero.
struct ApplyEpilogue<'a> {
    epilogue: Epilogue<'a>,
    channel: usize,
    rows: &'a mut [f32],
    left: usize,
    width: usize,
    cols: usize,
}

impl Kernel for ApplyEpilogue<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for row in self.rows.chunks_exact_mut(self.cols) {
            self.epilogue.apply::<S>(self.channel, &mut row[self.left..self.left + self.width]);
        }
    }
}
