//! Depthwise convolution of single planes with any kernel, stride and dilation.
//!
//! A padded plane is split into phases, one for each remainder of row and column by the stride. Within a phase, the window
//! of the next output is one pixel further whatever the stride, so a kernel element is a shift: outputs are computed over
//! whole rows of a phase in full vectors, and the few that lie in the padding are dropped.

use crate::cpu::elementwise::Clamp;
use crate::cpu::simd::{Simd, copy};
use crate::shape::ConvShape;

/// Number of vectors that are summed at once.
const UNROLL: usize = 4;
/// Values after a buffer's end that vectors may reach, with [`UNROLL`] vectors of sixteen.
const SLACK: usize = UNROLL * 16;

/// The layout of the phases of one plane.
#[derive(Debug, Clone)]
pub(crate) struct Phases {
    shape: ConvShape,
    /// Rows and columns of one phase.
    rows: usize,
    cols: usize,
    /// One per kernel element.
    offsets: Vec<KernelOffset>,
}

/// The offset of a kernel element: its phase, and its shift within the phase.
#[derive(Debug, Clone, Copy)]
struct KernelOffset {
    phase: usize,
    shift: usize,
}

impl Phases {
    pub(super) fn new(shape: &ConvShape) -> Self {
        let &ConvShape { kh, kw, config, .. } = shape;
        let (sh, sw) = config.stride;
        let rows = shape.padded_h().div_ceil(sh);
        let cols = shape.padded_w().div_ceil(sw);
        let offset = |ky: usize, kx: usize| {
            let (y, x) = (ky * config.dilation.0, kx * config.dilation.1);
            KernelOffset { phase: y % sh * sw + x % sw, shift: y / sh * cols + x / sw }
        };
        let offsets = (0..kh).flat_map(|ky| (0..kw).map(move |kx| offset(ky, kx))).collect();
        Self { shape: *shape, rows, cols, offsets }
    }

    /// Number of outputs in a row.
    pub(super) fn row_len(&self) -> usize {
        self.shape.ow
    }

    fn phase(&self) -> usize {
        self.rows * self.cols
    }

    /// Number of outputs, including those between the rows.
    fn positions(&self) -> usize {
        (self.shape.oh - 1) * self.cols + self.shape.ow
    }

    fn furthest_shift(&self) -> usize {
        self.offsets.iter().map(|offset| offset.shift).max().unwrap_or(0)
    }

    /// Length of a buffer for all phases, which must start as zeros.
    pub(super) fn len(&self) -> usize {
        let (sh, sw) = self.shape.config.stride;
        sh * sw * self.phase() + self.furthest_shift() + SLACK
    }

    /// Length of a buffer for one plane of outputs or of their gradients; the latter must start
    /// as zeros.
    pub(super) fn outputs_len(&self) -> usize {
        self.furthest_shift() + self.phase() + SLACK
    }

    /// Splits the plane `x` into `phases`, whose padding is left as it is.
    #[inline(always)]
    pub(super) fn split<S: Simd>(&self, simd: S, x: &[f32], phases: &mut [f32]) {
        let &ConvShape { w, config, .. } = &self.shape;
        let (sh, sw) = config.stride;
        for (y, row) in x.chunks_exact(w).enumerate() {
            let y = y + config.padding.top;
            let base = y % sh * sw * self.phase() + y / sh * self.cols;
            for first in 0..sw.min(w) {
                let x = first + config.padding.left;
                let to = &mut phases[base + x % sw * self.phase() + x / sw..];
                if sw == 1 {
                    copy(simd, row, to);
                } else if sw == 2 {
                    let to = &mut to[..(w - first).div_ceil(2)];
                    let (pairs, last) = row[first..].as_chunks::<2>();
                    for (to, pair) in to.iter_mut().zip(pairs) {
                        *to = pair[0];
                    }
                    if let ([last], Some(to)) = (last, to.last_mut()) {
                        *to = *last;
                    }
                } else {
                    for (to, from) in to.iter_mut().zip(row[first..].iter().step_by(sw)) {
                        *to = *from;
                    }
                }
            }
        }
    }

    /// The inverse of [`Phases::split`].
    #[inline(always)]
    fn merge<S: Simd>(&self, simd: S, phases: &[f32], x: &mut [f32]) {
        let &ConvShape { w, config, .. } = &self.shape;
        let (sh, sw) = config.stride;
        for (y, row) in x.chunks_exact_mut(w).enumerate() {
            let y = y + config.padding.top;
            let base = y % sh * sw * self.phase() + y / sh * self.cols;
            for first in 0..sw.min(w) {
                let x = first + config.padding.left;
                let from = &phases[base + x % sw * self.phase() + x / sw..];
                if sw == 1 {
                    copy(simd, &from[..w], row);
                } else if sw == 2 {
                    let (pairs, last) = row[first..].as_chunks_mut::<2>();
                    for (pair, from) in pairs.iter_mut().zip(from) {
                        pair[0] = *from;
                    }
                    let taken = pairs.len();
                    if let [last] = last {
                        *last = from[taken];
                    }
                } else {
                    for (to, from) in row[first..].iter_mut().step_by(sw).zip(from) {
                        *to = *from;
                    }
                }
            }
        }
    }

    /// Computes `y` (oh, ow) = clamp(bias + w ∗ x) from the phases of x. `outputs` is a buffer of
    /// [`Phases::outputs_len`].
    #[inline(always)]
    pub(super) fn forward<S: Simd>(
        &self,
        simd: S,
        phases: &[f32],
        weight: &[f32],
        epilogue: (f32, Clamp),
        outputs: &mut [f32],
        y: &mut [f32],
    ) {
        let offsets = self.offsets.iter().map(|offset| offset.phase * self.phase() + offset.shift);
        let offsets = offsets.zip(weight.iter().copied());
        correlate(simd, phases, offsets, self.positions(), epilogue, outputs);
        for (from, to) in outputs.chunks(self.cols).zip(y.chunks_exact_mut(self.shape.ow)) {
            copy(simd, &from[..self.shape.ow], to);
        }
    }

    /// The range of one row of outputs' gradients in a buffer of [`Phases::outputs_len`].
    pub(super) fn output_row(&self, row: usize) -> std::ops::Range<usize> {
        let start = self.furthest_shift() + row * self.cols;
        start..start + self.shape.ow
    }

    /// Computes the gradient of a plane of inputs from the outputs' gradients at
    /// [`Phases::output_row`]. `phases` is a buffer of [`Phases::len`].
    #[inline(always)]
    pub(super) fn input_grad<S: Simd>(
        &self,
        simd: S,
        outputs: &[f32],
        weight: &[f32],
        phases: &mut [f32],
        input_grad: &mut [f32],
    ) {
        let (sh, sw) = self.shape.config.stride;
        let furthest = self.furthest_shift();
        for (phase, target) in phases.chunks_mut(self.phase()).enumerate().take(sh * sw) {
            let offsets = self.offsets.iter().zip(weight).filter(|(offset, _)| offset.phase == phase);
            let offsets = offsets.map(|(offset, &weight)| (furthest - offset.shift, weight));
            correlate_exactly(simd, outputs, offsets, target);
        }
        self.merge(simd, phases, input_grad);
    }

    /// Adds the products of gradients and inputs to `sums`, one vector per kernel element.
    #[inline(always)]
    pub(super) fn add_weight_grad<S: Simd>(
        &self,
        simd: S,
        outputs: &[f32],
        phases: &[f32],
        sums: &mut [f32],
    ) {
        let offset = |offset: &KernelOffset| offset.phase * self.phase() + offset.shift;
        let outputs = &outputs[self.furthest_shift()..];
        let (nines, rest) = self.offsets.as_chunks::<9>();
        let mut at = 0;
        for offsets in nines {
            let offsets: [usize; 9] = std::array::from_fn(|i| offset(&offsets[i]));
            add_products(simd, outputs, phases, offsets, self.positions(), &mut sums[at * S::LANES..]);
            at += 9;
        }
        for element in rest {
            add_products(
                simd,
                outputs,
                phases,
                [offset(element)],
                self.positions(),
                &mut sums[at * S::LANES..],
            );
            at += 1;
        }
    }
}

/// Computes to\[i\] = clamp(start + Σ weight · from\[i + offset\]) for i below `count`, and for up to a
/// vector more.
#[inline(always)]
fn correlate<S: Simd>(
    simd: S,
    from: &[f32],
    offsets: impl Iterator<Item = (usize, f32)> + Clone,
    count: usize,
    (start, clamp): (f32, Clamp),
    to: &mut [f32],
) {
    let step = UNROLL * S::LANES;
    let end = count.next_multiple_of(step);
    let furthest = offsets.clone().map(|(offset, _)| offset).max().unwrap_or(0);
    assert!(furthest + end <= from.len() && end <= to.len());
    for i in (0..end).step_by(step) {
        let mut sums = [simd.splat(start); UNROLL];
        for (offset, weight) in offsets.clone() {
            let weight = simd.splat(weight);
            for (v, sum) in sums.iter_mut().enumerate() {
                // SAFETY: offset + i + step is at most `furthest + end`, within
                // `from` as asserted.
                let x = unsafe { simd.load(from.as_ptr().add(offset + i + v * S::LANES)) };
                *sum = simd.mul_add(weight, x, *sum);
            }
        }
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: i + step is at most `end`, within `to` as asserted.
            unsafe { simd.store(to.as_mut_ptr().add(i + v * S::LANES), clamp.apply(simd, sum)) };
        }
    }
}

/// [`correlate`] for exactly the length of `to`.
#[inline(always)]
fn correlate_exactly<S: Simd>(
    simd: S,
    from: &[f32],
    offsets: impl Iterator<Item = (usize, f32)> + Clone,
    to: &mut [f32],
) {
    let step = UNROLL * S::LANES;
    let whole = to.len() - to.len() % step;
    correlate(simd, from, offsets.clone(), whole, (0.0, Clamp::NONE), to);
    let furthest = offsets.clone().map(|(offset, _)| offset).max().unwrap_or(0);
    assert!(furthest + to.len() <= from.len());
    for i in (whole..to.len()).step_by(S::LANES) {
        let n = S::LANES.min(to.len() - i);
        let mut sum = simd.splat(0.0);
        for (offset, weight) in offsets.clone() {
            // SAFETY: offset + i + n is at most `furthest + to.len()`, within `from` as
            // asserted.
            let x = unsafe { simd.load_first(from.as_ptr().add(offset + i), n) };
            sum = simd.mul_add(simd.splat(weight), x, sum);
        }
        // SAFETY: i + n is at most the length of `to`.
        unsafe { simd.store_first(to.as_mut_ptr().add(i), n, sum) };
    }
}

/// Adds Σᵢ outputs\[i\]·phases\[i + offsets\[t\]\], for i below `count`, to sums\[t\], lane by lane.
#[inline(always)]
fn add_products<S: Simd, const T: usize>(
    simd: S,
    outputs: &[f32],
    phases: &[f32],
    offsets: [usize; T],
    count: usize,
    sums: &mut [f32],
) {
    let furthest = offsets.iter().max().copied().unwrap_or(0);
    assert!(count <= outputs.len() && furthest + count <= phases.len() && T * S::LANES <= sums.len());
    // SAFETY: all vectors and partial vectors end at or before `count`, and `sums` has `T`
    // vectors, as asserted.
    unsafe {
        let mut acc: [S::V; T] = std::array::from_fn(|t| simd.load(sums.as_ptr().add(t * S::LANES)));
        let whole = count - count % S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            let output = simd.load(outputs.as_ptr().add(i));
            for (acc, offset) in acc.iter_mut().zip(offsets) {
                *acc = simd.mul_add(output, simd.load(phases.as_ptr().add(offset + i)), *acc);
            }
        }
        if whole < count {
            let output = simd.load_first(outputs.as_ptr().add(whole), count - whole);
            for (acc, offset) in acc.iter_mut().zip(offsets) {
                let x = simd.load_first(phases.as_ptr().add(offset + whole), count - whole);
                *acc = simd.mul_add(output, x, *acc);
            }
        }
        for (t, acc) in acc.into_iter().enumerate() {
            simd.store(sums.as_mut_ptr().add(t * S::LANES), acc);
        }
    }
}
