//! Depthwise 3 × 3 convolution with stride 1 of single planes, row by row without a padded copy.
//!
//! A vector holds neighbors of one row; pixels outside the plane are masked to zero. Several rows of
//! outputs are summed at once, so that each vector of the input is read once for the three rows of
//! the window.

use crate::cpu::simd::Simd;
use crate::shape::ConvShape;

/// Kernel size along each axis.
const SIDE: usize = 3;
/// Number of rows of outputs that are summed at once.
const UNROLL: usize = 4;

/// The sizes of a plane of inputs and of outputs, and the padding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Depthwise3x3 {
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    /// Rows of padding above the input, and columns to its left.
    top: usize,
    left: usize,
}

impl Depthwise3x3 {
    pub(crate) fn new(shape: &ConvShape) -> Self {
        let &ConvShape { h, w, oh, ow, config, .. } = shape;
        Self { h, w, oh, ow, top: config.padding.top, left: config.padding.left }
    }

    /// The convolution from the outputs' gradients to the inputs'.
    fn transposed(self) -> Self {
        let Self { h, w, oh, ow, top, left } = self;
        Self { h: oh, w: ow, oh: h, ow: w, top: SIDE - 1 - top, left: SIDE - 1 - left }
    }

    /// Computes `y` (oh, ow) = bias + w ∗ `x`.
    #[inline(always)]
    pub(crate) fn forward<S: Simd>(self, simd: S, x: &[f32], weight: &[f32], bias: f32, y: &mut [f32]) {
        let mut kernel = [0.0; SIDE * SIDE];
        kernel.copy_from_slice(weight);
        self.correlate(simd, x, kernel, bias, y);
    }

    /// Computes `input_grad` (h, w) from the outputs' gradients.
    #[inline(always)]
    pub(crate) fn input_grad<S: Simd>(self, simd: S, grad: &[f32], weight: &[f32], input_grad: &mut [f32]) {
        let mut kernel = [0.0; SIDE * SIDE];
        kernel.copy_from_slice(weight);
        kernel.reverse();
        self.transposed().correlate(simd, grad, kernel, 0.0, input_grad);
    }

    /// For each kernel column, the lanes that read the input, for `n` outputs from `column` on.
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
    fn correlate<S: Simd>(self, simd: S, x: &[f32], kernel: [f32; SIDE * SIDE], bias: f32, y: &mut [f32]) {
        let Self { w, oh, ow, .. } = self;
        assert!(x.len() == self.h * w && y.len() == oh * ow);
        let kernel = kernel.map(|element| simd.splat(element));
        for column in (0..ow).step_by(S::LANES) {
            let n = S::LANES.min(ow - column);
            let masks = self.masks(simd, column, n);
            for first in (0..oh).step_by(UNROLL) {
                let mut sums = [simd.splat(bias); UNROLL];
                macro_rules! row {
                    ($($i:literal)*) => {$(
                        if let Some(row) = self.row(first + $i) {
                            // SAFETY: the row is one of the input's, and
                            // the masks select only its columns.
                            let values = unsafe { self.load(simd, x, row, column, masks) };
                            for ky in 0..SIDE {
                                if $i >= ky && $i - ky < UNROLL {
                                    for kx in 0..SIDE {
                                        sums[$i - ky] = simd.mul_add(kernel[ky * SIDE + kx], values[kx], sums[$i - ky]);
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

    /// Adds the products of gradients and inputs to `sums`, one vector per kernel element.
    #[inline(always)]
    pub(crate) fn add_weight_grad<S: Simd>(self, simd: S, grad: &[f32], x: &[f32], sums: &mut [f32]) {
        let Self { w, oh, ow, .. } = self;
        assert!(x.len() == self.h * w && grad.len() == oh * ow && sums.len() == SIDE * SIDE * S::LANES);
        // SAFETY: `sums` has a vector per kernel element.
        let mut acc: [S::V; SIDE * SIDE] =
            std::array::from_fn(|element| unsafe { simd.load(sums.as_ptr().add(element * S::LANES)) });
        for column in (0..ow).step_by(S::LANES) {
            let n = S::LANES.min(ow - column);
            let masks = self.masks(simd, column, n);
            for first in (0..oh).step_by(UNROLL) {
                let grads: [S::V; UNROLL] = std::array::from_fn(|r| {
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
                            // SAFETY: the row is one of the input's, and
                            // the masks select only its columns.
                            let values = unsafe { self.load(simd, x, row, column, masks) };
                            for ky in 0..SIDE {
                                // Rows past the last output must not
                                // bring NaN into the sums.
                                if $i >= ky && $i - ky < UNROLL && first + $i - ky < oh {
                                    for kx in 0..SIDE {
                                        let acc = &mut acc[ky * SIDE + kx];
                                        *acc = simd.mul_add(grads[$i - ky], values[kx], *acc);
                                    }
                                }
                            }
                        }
                    )*};
                }
                row!(0 1 2 3 4 5);
            }
        }
        for (acc, sum) in acc.into_iter().zip(sums.chunks_exact_mut(S::LANES)) {
            // SAFETY: `sum` is a vector.
            unsafe { simd.store(sum.as_mut_ptr(), acc) };
        }
    }

    /// The input's row at row `padded` of the padded input, if it is not padding.
    #[inline(always)]
    fn row(self, padded: usize) -> Option<usize> {
        padded.checked_sub(self.top).filter(|&row| row < self.h)
    }

    /// Loads what each kernel column reads of `row`, for outputs from `column` on.
    ///
    /// # Safety
    /// `x` has the row, and `masks` are those of [`Depthwise3x3::masks`] at `column`.
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
