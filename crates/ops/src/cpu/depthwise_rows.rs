//! Depthwise 3×3 convolution by one pixel of single planes, row by row where they lie.
//!
//! A vector holds neighbours of one row; what a tap would read beside the plane is masked to zero. Some rows of outputs
//! are summed together, so that each vector of the input is read once for the three rows of the window that see it.

use super::simd::Simd;
use crate::config::{Conv2dConfig, Padding2d};
use crate::shape::ConvShape;

/// Taps of the window along each axis.
const SIDE: usize = 3;
/// Rows of outputs that are summed together.
const TOGETHER: usize = 4;

/// A plane of inputs inside a rim of zeros, and the plane of outputs that its windows make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    /// Rows above and columns to the left of the input.
    top: usize,
    left: usize,
}

impl Rows {
    /// `None` for other convolutions.
    pub(crate) fn new(shape: &ConvShape) -> Option<Self> {
        let &ConvShape { h, w, kh, kw, oh, ow, config, .. } = shape;
        let Conv2dConfig { stride, dilation, padding: Padding2d { top, bottom, left, right }, .. } = config;
        let fits = (kh, kw) == (SIDE, SIDE)
            && stride == (1, 1)
            && dilation == (1, 1)
            && top.max(bottom).max(left).max(right) < SIDE;
        fits.then_some(Self { h, w, oh, ow, top, left })
    }

    /// The convolution that leads back from outputs to inputs.
    fn back(self) -> Self {
        let Self { h, w, oh, ow, top, left } = self;
        Self { h: oh, w: ow, oh: h, ow: w, top: SIDE - 1 - top, left: SIDE - 1 - left }
    }

    /// `y` (oh, ow): start + w ∗ `x`.
    #[inline(always)]
    pub(crate) fn forward<S: Simd>(self, simd: S, x: &[f32], weight: &[f32], start: f32, y: &mut [f32]) {
        let mut taps = [0.0; SIDE * SIDE];
        taps.copy_from_slice(weight);
        self.correlate(simd, x, taps, start, y);
    }

    /// `x_grad` (h, w) from the outputs' gradients.
    #[inline(always)]
    pub(crate) fn x_grad<S: Simd>(self, simd: S, grad: &[f32], weight: &[f32], x_grad: &mut [f32]) {
        let mut taps = [0.0; SIDE * SIDE];
        taps.copy_from_slice(weight);
        taps.reverse();
        self.back().correlate(simd, grad, taps, 0.0, x_grad);
    }

    /// The lanes of each tap that see the input, for `n` outputs from `column` on.
    #[inline(always)]
    fn masks<S: Simd>(self, simd: S, column: usize, n: usize) -> [S::Mask; SIDE] {
        std::array::from_fn(|kx| {
            let padded = column + kx;
            let first = self.left.saturating_sub(padded).min(n);
            let end = (self.left + self.w).saturating_sub(padded).min(n);
            simd.between(first, end)
        })
    }

    #[inline(always)]
    fn correlate<S: Simd>(self, simd: S, x: &[f32], taps: [f32; SIDE * SIDE], start: f32, y: &mut [f32]) {
        let Self { w, oh, ow, .. } = self;
        assert!(x.len() == self.h * w && y.len() == oh * ow);
        let taps = taps.map(|tap| simd.splat(tap));
        for column in (0..ow).step_by(S::LANES) {
            let n = S::LANES.min(ow - column);
            let masks = self.masks(simd, column, n);
            for first in (0..oh).step_by(TOGETHER) {
                let mut sums = [simd.splat(start); TOGETHER];
                macro_rules! row {
                    ($($i:literal)*) => {$(
                        if let Some(row) = self.row(first + $i) {
                            // SAFETY: the row is one of the input's, and the masks leave only its columns.
                            let values = unsafe { self.load(simd, x, row, column, masks) };
                            for ky in 0..SIDE {
                                if $i >= ky && $i - ky < TOGETHER {
                                    for kx in 0..SIDE {
                                        sums[$i - ky] = simd.mul_add(taps[ky * SIDE + kx], values[kx], sums[$i - ky]);
                                    }
                                }
                            }
                        }
                    )*};
                }
                row!(0 1 2 3 4 5);
                for (r, sum) in sums.into_iter().enumerate().take(oh - first) {
                    let to = &mut y[(first + r) * ow + column..][..n];
                    // SAFETY: `to` has `n` values.
                    unsafe { simd.store_first(to.as_mut_ptr(), n, sum) };
                }
            }
        }
    }

    /// Adds to the vectors of `sums`, one for each tap, the products of gradients and inputs.
    #[inline(always)]
    pub(crate) fn add_weight_grad<S: Simd>(self, simd: S, grad: &[f32], x: &[f32], sums: &mut [f32]) {
        let Self { w, oh, ow, .. } = self;
        assert!(x.len() == self.h * w && grad.len() == oh * ow && sums.len() == SIDE * SIDE * S::LANES);
        // SAFETY: `sums` has a vector for each tap.
        let mut held: [S::V; SIDE * SIDE] =
            std::array::from_fn(|tap| unsafe { simd.load(sums.as_ptr().add(tap * S::LANES)) });
        for column in (0..ow).step_by(S::LANES) {
            let n = S::LANES.min(ow - column);
            let masks = self.masks(simd, column, n);
            for first in (0..oh).step_by(TOGETHER) {
                let grads: [S::V; TOGETHER] = std::array::from_fn(|r| {
                    if first + r < oh {
                        let from = &grad[(first + r) * ow + column..][..n];
                        // SAFETY: `from` has `n` values.
                        unsafe { simd.load_first(from.as_ptr(), n) }
                    } else {
                        simd.splat(0.0)
                    }
                });
                macro_rules! row {
                    ($($i:literal)*) => {$(
                        if let Some(row) = self.row(first + $i) {
                            // SAFETY: the row is one of the input's, and the masks leave only its columns.
                            let values = unsafe { self.load(simd, x, row, column, masks) };
                            for ky in 0..SIDE {
                                // Rows that are no outputs must not bring what is no number into the sums.
                                if $i >= ky && $i - ky < TOGETHER && first + $i - ky < oh {
                                    for kx in 0..SIDE {
                                        let held = &mut held[ky * SIDE + kx];
                                        *held = simd.mul_add(grads[$i - ky], values[kx], *held);
                                    }
                                }
                            }
                        }
                    )*};
                }
                row!(0 1 2 3 4 5);
            }
        }
        for (held, sum) in held.into_iter().zip(sums.chunks_exact_mut(S::LANES)) {
            // SAFETY: `sum` is a vector.
            unsafe { simd.store(sum.as_mut_ptr(), held) };
        }
    }

    /// The input's row at `padded` of the rim's and its own, if it is its own.
    #[inline(always)]
    fn row(self, padded: usize) -> Option<usize> {
        padded.checked_sub(self.top).filter(|&row| row < self.h)
    }

    /// What each column of the window sees of `row`, for outputs from `column` on.
    ///
    /// # Safety
    /// `x` has the row, and `masks` are those of [`Rows::masks`] at `column`.
    #[inline(always)]
    unsafe fn load<S: Simd>(
        self,
        simd: S,
        x: &[f32],
        row: usize,
        column: usize,
        masks: [S::Mask; SIDE],
    ) -> [S::V; SIDE] {
        std::array::from_fn(|kx| {
            let from = x.as_ptr().wrapping_add(row * self.w + column + kx).wrapping_sub(self.left);
            // SAFETY: by this function's contract.
            unsafe { simd.load_masked(from, masks[kx]) }
        })
    }
}
