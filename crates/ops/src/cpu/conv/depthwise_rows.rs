//! Depthwise convolution of single planes with 3 × 3 and 5 × 5 kernels and stride 1 or 2, row by row without a padded copy.
//!
//! A vector holds what one kernel column reads of a row for neighboring outputs; pixels outside the plane are masked to zero.
//! Several rows of outputs are summed at once, so that each row of the input is read once for all of them.

use std::ops::Range;

use crate::cpu::elementwise::Clamp;
use crate::cpu::plan;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::shape::ConvShape;

/// Side of the kernels that have gradients here.
const SIDE: usize = 3;
/// Side of the largest kernels.
const MAX_SIDE: usize = 5;
/// Number of rows of outputs whose gradients are read at once.
const UNROLL: usize = 4;

/// The sizes of a plane of inputs and of outputs, the kernel's and the stride, and the padding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DepthwiseRows {
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    side: usize,
    stride: usize,
    /// Rows of padding above the input, and columns to its left.
    top: usize,
    left: usize,
}

/// A plane of inputs, its kernel and bias, and the plane of outputs.
pub(crate) struct Plane<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) bias: f32,
    pub(crate) y: &'a mut [f32],
}

/// The outputs of some planes.
struct Correlate<P, const SIDE: usize, const STRIDE: usize> {
    rows: DepthwiseRows,
    planes: P,
    clamp: Clamp,
}

impl<'a, P: Iterator<Item = Plane<'a>>, const SIDE: usize, const STRIDE: usize> Kernel
    for Correlate<P, SIDE, STRIDE>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rows, planes, clamp } = self;
        for plane in planes {
            rows.correlate::<S, SIDE, STRIDE>(simd, plane, clamp);
        }
    }
}

/// Writes `n` outputs to the first of `to`.
#[inline(always)]
fn store<S: Simd>(simd: S, outputs: S::V, n: usize, to: &mut [f32]) {
    // SAFETY: `to` has as many values; what a whole vector writes to the next row, which is shorter then, that row overwrites.
    unsafe {
        if to.len() >= S::LANES {
            simd.store(to.as_mut_ptr(), outputs);
        } else {
            simd.store_first(to.as_mut_ptr(), n.min(to.len()), outputs);
        }
    }
}

/// The lanes of two neighboring vectors that lie in the plane.
type Masks<M> = [[M; 2]; MAX_SIDE];

impl DepthwiseRows {
    /// `None` if `algorithm` is another.
    pub(crate) fn of(algorithm: plan::Depthwise, shape: &ConvShape) -> Option<Self> {
        match algorithm {
            plan::Depthwise::Rows3x3 | plan::Depthwise::Rows => Some(Self::new(shape)),
            plan::Depthwise::Phases => None,
        }
    }

    pub(crate) fn new(shape: &ConvShape) -> Self {
        let &ConvShape { h, w, oh, ow, kh, config, .. } = shape;
        let (side, stride) = (kh, config.stride.0);
        Self { h, w, oh, ow, side, stride, top: config.padding.top, left: config.padding.left }
    }

    /// Number of rows of outputs that read at most `inputs` rows.
    pub(crate) fn outputs_of(self, inputs: usize) -> usize {
        inputs.checked_sub(self.side).map_or(0, |rest| rest / self.stride + 1)
    }

    /// The rows of inputs that some rows of outputs read, and the convolution from these to those.
    pub(crate) fn strip(self, outputs: Range<usize>) -> (Range<usize>, Self) {
        let padded = outputs.start * self.stride..(outputs.end - 1) * self.stride + self.side;
        let inputs = padded.start.saturating_sub(self.top)..(padded.end - self.top).min(self.h);
        let top = self.top + inputs.start - padded.start;
        let strip = Self { h: inputs.len(), oh: outputs.len(), top, ..self };
        (inputs, strip)
    }

    /// The convolution from the outputs' gradients to the inputs'.
    fn transposed(self) -> Self {
        let Self { h, w, oh, ow, top, left, .. } = self;
        Self { h: oh, w: ow, oh: h, ow: w, top: SIDE - 1 - top, left: SIDE - 1 - left, ..self }
    }

    /// Computes y (oh, ow) = clamp(bias + w ∗ x) for each of `planes`.
    #[inline(never)]
    pub(crate) fn forward<'p>(self, planes: impl Iterator<Item = Plane<'p>>, clamp: Clamp) {
        match (self.side, self.stride) {
            (3, 1) => dispatch(Correlate::<_, 3, 1> { rows: self, planes, clamp }),
            (3, _) => dispatch(Correlate::<_, 3, 2> { rows: self, planes, clamp }),
            (_, 1) => dispatch(Correlate::<_, 5, 1> { rows: self, planes, clamp }),
            _ => dispatch(Correlate::<_, 5, 2> { rows: self, planes, clamp }),
        }
    }

    /// Computes `input_grad` (h, w) from the outputs' gradients, for 3 × 3 kernels with stride 1.
    #[inline(always)]
    pub(crate) fn input_grad<S: Simd>(self, simd: S, grad: &[f32], weight: &[f32], input_grad: &mut [f32]) {
        let mut kernel = [0.0; SIDE * SIDE];
        kernel.copy_from_slice(weight);
        kernel.reverse();
        let plane = Plane { x: grad, weight: &kernel, bias: 0.0, y: input_grad };
        self.transposed().correlate::<S, SIDE, 1>(simd, plane, Clamp::NONE);
    }

    /// For each kernel column, or pair of columns with stride 2, the lanes that lie in the plane, for `n` outputs from `column`
    /// on.
    #[inline(always)]
    fn masks<S: Simd>(self, simd: S, column: usize, n: usize) -> Masks<S::Mask> {
        let none = simd.between(0, 0);
        let mut masks = [[none; 2]; MAX_SIDE];
        // Loops: a closure may be compiled on its own, without the kernel's instructions.
        for (i, masks) in masks.iter_mut().enumerate() {
            for (half, mask) in masks.iter_mut().enumerate().take(self.stride) {
                let padded = (column + i) * self.stride + half * S::LANES;
                let n = (n * self.stride).saturating_sub(half * S::LANES).min(S::LANES);
                let first = self.left.saturating_sub(padded).min(n);
                let end = (self.left + self.w).saturating_sub(padded).min(n);
                *mask = simd.between(first, end);
            }
        }
        masks
    }

    #[inline(always)]
    fn correlate<S: Simd, const SIDE: usize, const STRIDE: usize>(
        self,
        simd: S,
        Plane { x, weight, bias, y }: Plane<'_>,
        clamp: Clamp,
    ) {
        let Self { w, oh, ow, .. } = self;
        assert!(x.len() == self.h * w && y.len() == oh * ow && weight.len() == SIDE * SIDE);
        let mut kernel = [[simd.splat(0.0); SIDE]; SIDE];
        for (kernel, weight) in kernel.as_flattened_mut().iter_mut().zip(weight) {
            *kernel = simd.splat(*weight);
        }
        // Each row of the input is read once: `sums` are those of row `last` of the outputs and of the rows before it, down to the
        // one that this row of the input completes.
        let (start, ahead) = (simd.splat(bias), (SIDE - 1) / STRIDE);
        for column in (0..ow).step_by(S::LANES) {
            // The last vector is a whole one, which begins earlier, if a row is long enough.
            let column = column.min(ow.saturating_sub(S::LANES));
            let n = S::LANES.min(ow - column);
            let masks = self.masks(simd, column, n);
            let mut sums = [start; MAX_SIDE];
            for last in 0..oh + ahead {
                // Each sum has a literal index: an array that a loop indexes would be kept in memory, not in registers.
                macro_rules! rows {
                    ($($i:literal)*) => {$(
                        if $i < STRIDE && let Some(row) = self.row(last * STRIDE + $i) {
                            // SAFETY: the row is one of the input's, and the masks select only its columns.
                            let values = unsafe { self.load::<S, SIDE, STRIDE>(simd, x, row, column, masks) };
                            taps!($i, values, 0 1 2 3 4);
                        }
                        if $i == 0 && let Some(row) = last.checked_sub(ahead) {
                            store(simd, clamp.apply(simd, sums[ahead]), n, &mut y[row * ow + column..]);
                        }
                    )*};
                }
                macro_rules! taps {
                    ($i:literal, $values:ident, $($before:literal)*) => {$(
                        if $i + $before * STRIDE < SIDE {
                            for kx in 0..SIDE {
                                let tap = kernel[$i + $before * STRIDE][kx];
                                sums[$before] = simd.mul_add(tap, $values[kx], sums[$before]);
                            }
                        }
                    )*};
                }
                rows!(0 1);
                let [first, second, third, fourth, _] = sums;
                sums = [start, first, second, third, fourth];
            }
        }
    }

    /// Adds the products of gradients and inputs to `sums`, one vector per kernel element, for 3 × 3 kernels with stride 1.
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
                            let values = unsafe { self.load::<S, SIDE, 1>(simd, x, row, column, masks) };
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
    /// `x` has the row, and `masks` are those of [`Self::masks`] at `column`.
    #[inline(always)]
    unsafe fn load<S: Simd, const SIDE: usize, const STRIDE: usize>(
        self,
        simd: S,
        x: &[f32],
        row: usize,
        column: usize,
        masks: Masks<S::Mask>,
    ) -> [S::V; SIDE] {
        let mut values = [simd.splat(0.0); SIDE];
        let row = x.as_ptr().wrapping_add(row * self.w).wrapping_sub(self.left);
        // SAFETY: by this function's contract.
        unsafe {
            if STRIDE == 1 {
                for (kx, value) in values.iter_mut().enumerate() {
                    *value = simd.load_masked(row.wrapping_add(column + kx), masks[kx][0]);
                }
                return values;
            }
            for (pair, values) in values.chunks_mut(2).enumerate() {
                let [low, high] = masks[pair];
                let from = row.wrapping_add((column + pair) * STRIDE);
                let low = simd.load_masked(from, low);
                let high = simd.load_masked(from.wrapping_add(S::LANES), high);
                let (even, odd) = simd.deinterleave(low, high);
                values[0] = even;
                if let Some(value) = values.get_mut(1) {
                    *value = odd;
                }
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::Plain;

    #[test]
    fn outputs_are_windows_sums_for_any_width() {
        for (side, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
            for w in 1..40_usize {
                let (h, top, left) = (1 + w % 7, w % side, w % 3);
                let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
                let rows = DepthwiseRows { h, w, oh, ow, side, stride, top, left };
                let x: Vec<f32> = (0..h * w).map(|i| (i * 37 % 19) as f32 - 9.0).collect();
                let weight: Vec<f32> = (0..side * side).map(|i| (i * 7 % 5) as f32 - 2.0).collect();
                let value = |row: usize, column: usize| {
                    let (row, column) = (row.wrapping_sub(top), column.wrapping_sub(left));
                    if row < h && column < w { x[row * w + column] } else { 0.0 }
                };
                let output = |i: usize| {
                    let taps = (0..side * side).map(|tap| (tap / side, tap % side));
                    let products = taps
                        .zip(&weight)
                        .map(|((ky, kx), weight)| weight * value(i / ow * stride + ky, i % ow * stride + kx));
                    (1.0 + products.sum::<f32>()).max(0.0)
                };
                let expected: Vec<f32> = (0..oh * ow).map(output).collect();
                let clamp = Clamp::of(crate::Activation::Relu).unwrap();
                let mut found = [vec![f32::NAN; oh * ow], vec![f32::NAN; oh * ow]];
                let [fast, plain] = &mut found;
                let plane = |y| Plane { x: &x, weight: &weight, bias: 1.0, y };
                rows.forward(std::iter::once(plane(fast)), clamp);
                match (side, stride) {
                    (3, 1) => rows.correlate::<_, 3, 1>(Plain, plane(plain), clamp),
                    (3, _) => rows.correlate::<_, 3, 2>(Plain, plane(plain), clamp),
                    (_, 1) => rows.correlate::<_, 5, 1>(Plain, plane(plain), clamp),
                    _ => rows.correlate::<_, 5, 2>(Plain, plane(plain), clamp),
                }
                assert!(
                    found.iter().all(|found| *found == expected),
                    "{side} × {side}, stride {stride}, {w} columns"
                );
            }
        }
    }
}
