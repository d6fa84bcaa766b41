//! Depthwise convolution of single planes.
//!
//! A plane is copied inside its rim and parted into phases, one for each remainder of row and column by the stride.
//! In a phase, the window of the next output is one pixel further whatever the stride, so that every tap is a shift:
//! outputs are computed over whole rows of a phase in full vectors, and the few that lie in the rim are dropped.

use super::depthwise_rows::Rows;
use super::scratch::Scratch;
use super::simd::Simd;
use crate::shape::ConvShape;

/// Vectors that are summed together.
const TOGETHER: usize = 4;
/// Room behind a buffer for vectors that reach beyond its last value, with [`TOGETHER`] vectors of sixteen.
const SLACK: usize = TOGETHER * 16;

/// How a depthwise convolution is computed.
#[derive(Debug, Clone)]
pub(crate) enum Depthwise {
    Rows(Rows),
    Phases(Phases),
}

impl Depthwise {
    pub(crate) fn new(shape: &ConvShape) -> Self {
        match Rows::new(shape) {
            Some(rows) => Self::Rows(rows),
            None => Self::Phases(Phases::new(shape)),
        }
    }

    /// Ready for one plane after the other.
    pub(crate) fn begin(&self) -> Work<'_> {
        let (len, outputs_len) = match self {
            Self::Rows(_) => (0, 0),
            Self::Phases(phases) => (phases.len(), phases.outputs_len()),
        };
        Work {
            of: self,
            parted: Scratch::zeroed(len),
            outputs: Scratch::zeroed(outputs_len),
            grads: Scratch::dirty(len),
        }
    }
}

/// A depthwise convolution at work on planes, with its buffers.
pub(crate) struct Work<'a> {
    of: &'a Depthwise,
    /// A plane's phases.
    parted: Scratch,
    /// Outputs, or their gradients.
    outputs: Scratch,
    /// The gradients of a plane's phases.
    grads: Scratch,
}

impl Work<'_> {
    /// `y` (oh, ow): w ∗ `x` + bias.
    #[inline(always)]
    pub(crate) fn forward<S: Simd>(&mut self, simd: S, x: &[f32], weight: &[f32], bias: f32, y: &mut [f32]) {
        match self.of {
            Depthwise::Rows(rows) => rows.forward(simd, x, weight, bias, y),
            Depthwise::Phases(phases) => {
                phases.part(simd, x, &mut self.parted);
                phases.forward(simd, &self.parted, weight, bias, &mut self.outputs, y);
            }
        }
    }

    /// From the gradient of a plane of outputs: adds its products with the plane `x` to the vectors of the sums, one for
    /// each tap, and writes the gradient of the plane of inputs; whichever is asked for.
    #[inline(always)]
    pub(crate) fn backward<S: Simd>(
        &mut self,
        simd: S,
        grad: &[f32],
        weight: &[f32],
        x_and_sums: Option<(&[f32], &mut [f32])>,
        x_grad: Option<&mut [f32]>,
    ) {
        if let Depthwise::Phases(phases) = self.of {
            for (row, values) in grad.chunks_exact(phases.shape.ow).enumerate() {
                copy(simd, values, &mut self.outputs[phases.output_row(row)]);
            }
        }
        if let Some((x, sums)) = x_and_sums {
            self.add_weight_grad(simd, grad, x, sums);
        }
        if let Some(x_grad) = x_grad {
            self.x_grad(simd, grad, weight, x_grad);
        }
    }

    #[inline(always)]
    fn add_weight_grad<S: Simd>(&mut self, simd: S, grad: &[f32], x: &[f32], sums: &mut [f32]) {
        match self.of {
            Depthwise::Rows(rows) => rows.add_weight_grad(simd, grad, x, sums),
            Depthwise::Phases(phases) => {
                phases.part(simd, x, &mut self.parted);
                phases.add_weight_grad(simd, &self.outputs, &self.parted, sums);
            }
        }
    }

    #[inline(always)]
    fn x_grad<S: Simd>(&mut self, simd: S, grad: &[f32], weight: &[f32], x_grad: &mut [f32]) {
        match self.of {
            Depthwise::Rows(rows) => rows.x_grad(simd, grad, weight, x_grad),
            Depthwise::Phases(phases) => {
                phases.x_grad(simd, &self.outputs, weight, &mut self.grads, x_grad);
            }
        }
    }
}

/// The layout of the phases of one plane.
#[derive(Debug, Clone)]
pub(crate) struct Phases {
    shape: ConvShape,
    /// Rows and columns of one phase.
    rows: usize,
    cols: usize,
    /// For each tap: its phase, and its shift in it.
    taps: Vec<(usize, usize)>,
}

impl Phases {
    fn new(shape: &ConvShape) -> Self {
        let &ConvShape { kh, kw, config, .. } = shape;
        let (sh, sw) = config.stride;
        let rows = shape.padded_h().div_ceil(sh);
        let cols = shape.padded_w().div_ceil(sw);
        let tap = |ky: usize, kx: usize| {
            let (y, x) = (ky * config.dilation.0, kx * config.dilation.1);
            (y % sh * sw + x % sw, y / sh * cols + x / sw)
        };
        let taps = (0..kh).flat_map(|ky| (0..kw).map(move |kx| tap(ky, kx))).collect();
        Self { shape: *shape, rows, cols, taps }
    }

    fn phase(&self) -> usize {
        self.rows * self.cols
    }

    /// Outputs with those between the rows.
    fn positions(&self) -> usize {
        (self.shape.oh - 1) * self.cols + self.shape.ow
    }

    fn furthest_shift(&self) -> usize {
        self.taps.iter().map(|&(_, shift)| shift).max().unwrap_or(0)
    }

    /// Length of a buffer for all phases, which starts as zeros.
    fn len(&self) -> usize {
        let (sh, sw) = self.shape.config.stride;
        sh * sw * self.phase() + self.furthest_shift() + SLACK
    }

    /// Length of a buffer for one plane of outputs, or of their gradients; the latter starts as zeros.
    fn outputs_len(&self) -> usize {
        self.furthest_shift() + self.phase() + SLACK
    }

    /// Parts the plane `x` into `phases`, whose rim stays as it is.
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, x: &[f32], phases: &mut [f32]) {
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

    /// The reverse of [`Phases::part`].
    #[inline(always)]
    fn join<S: Simd>(&self, simd: S, phases: &[f32], x: &mut [f32]) {
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

    /// One plane of outputs from its phases: `y` (oh, ow), w ∗ x + bias. `outputs` is a buffer of
    /// [`Phases::outputs_len`].
    #[inline(always)]
    fn forward<S: Simd>(
        &self,
        simd: S,
        phases: &[f32],
        weight: &[f32],
        bias: f32,
        outputs: &mut [f32],
        y: &mut [f32],
    ) {
        let taps = self.taps.iter().map(|&(phase, shift)| phase * self.phase() + shift);
        let taps = taps.zip(weight.iter().copied());
        correlate(simd, phases, taps, self.positions(), bias, outputs);
        for (from, to) in outputs.chunks(self.cols).zip(y.chunks_exact_mut(self.shape.ow)) {
            copy(simd, &from[..self.shape.ow], to);
        }
    }

    /// Where the gradients of one row of outputs lie in a buffer of [`Phases::outputs_len`].
    fn output_row(&self, row: usize) -> std::ops::Range<usize> {
        let start = self.furthest_shift() + row * self.cols;
        start..start + self.shape.ow
    }

    /// Gradient of one plane of inputs, from the outputs' gradients at [`Phases::output_row`]. `phases` is a buffer
    /// of [`Phases::len`].
    #[inline(always)]
    fn x_grad<S: Simd>(
        &self,
        simd: S,
        outputs: &[f32],
        weight: &[f32],
        phases: &mut [f32],
        x_grad: &mut [f32],
    ) {
        let (sh, sw) = self.shape.config.stride;
        let furthest = self.furthest_shift();
        for (phase, target) in phases.chunks_mut(self.phase()).enumerate().take(sh * sw) {
            let taps = self.taps.iter().zip(weight).filter(|(tap, _)| tap.0 == phase);
            let taps = taps.map(|(&(_, shift), &weight)| (furthest - shift, weight));
            correlate_exactly(simd, outputs, taps, target);
        }
        self.join(simd, phases, x_grad);
    }

    /// Adds to the vectors of `sums`, one for each tap, the products of gradients and inputs.
    #[inline(always)]
    fn add_weight_grad<S: Simd>(&self, simd: S, outputs: &[f32], phases: &[f32], sums: &mut [f32]) {
        let places = |tap: &(usize, usize)| tap.0 * self.phase() + tap.1;
        let outputs = &outputs[self.furthest_shift()..];
        let (nines, rest) = self.taps.as_chunks::<9>();
        let mut at = 0;
        for taps in nines {
            let taps: [usize; 9] = std::array::from_fn(|i| places(&taps[i]));
            add_products(simd, outputs, phases, taps, self.positions(), &mut sums[at * S::LANES..]);
            at += 9;
        }
        for tap in rest {
            add_products(simd, outputs, phases, [places(tap)], self.positions(), &mut sums[at * S::LANES..]);
            at += 1;
        }
    }
}

/// to\[i\] = start + Σ weight · from\[i + place\] for i below `count`, and more as the vectors have it.
#[inline(always)]
fn correlate<S: Simd>(
    simd: S,
    from: &[f32],
    taps: impl Iterator<Item = (usize, f32)> + Clone,
    count: usize,
    start: f32,
    to: &mut [f32],
) {
    let step = TOGETHER * S::LANES;
    let end = count.next_multiple_of(step);
    let furthest = taps.clone().map(|(place, _)| place).max().unwrap_or(0);
    assert!(furthest + end <= from.len() && end <= to.len());
    for i in (0..end).step_by(step) {
        let mut sums = [simd.splat(start); TOGETHER];
        for (place, weight) in taps.clone() {
            let weight = simd.splat(weight);
            for (v, sum) in sums.iter_mut().enumerate() {
                // SAFETY: place + i + a step is at most `furthest + end`, the length of `from` as asserted.
                let x = unsafe { simd.load(from.as_ptr().add(place + i + v * S::LANES)) };
                *sum = simd.mul_add(weight, x, *sum);
            }
        }
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: i + a step is at most `end`, the length of `to` as asserted.
            unsafe { simd.store(to.as_mut_ptr().add(i + v * S::LANES), sum) };
        }
    }
}

/// [`correlate`] for all of `to` and nothing beyond.
#[inline(always)]
fn correlate_exactly<S: Simd>(
    simd: S,
    from: &[f32],
    taps: impl Iterator<Item = (usize, f32)> + Clone,
    to: &mut [f32],
) {
    let step = TOGETHER * S::LANES;
    let whole = to.len() - to.len() % step;
    correlate(simd, from, taps.clone(), whole, 0.0, to);
    let furthest = taps.clone().map(|(place, _)| place).max().unwrap_or(0);
    assert!(furthest + to.len() <= from.len());
    for i in (whole..to.len()).step_by(S::LANES) {
        let n = S::LANES.min(to.len() - i);
        let mut sum = simd.splat(0.0);
        for (place, weight) in taps.clone() {
            // SAFETY: place + i + n is at most `furthest + to.len()`, the length of `from` as asserted.
            let x = unsafe { simd.load_first(from.as_ptr().add(place + i), n) };
            sum = simd.mul_add(simd.splat(weight), x, sum);
        }
        // SAFETY: i + n is at most the length of `to`.
        unsafe { simd.store_first(to.as_mut_ptr().add(i), n, sum) };
    }
}

/// sums\[t\] += Σᵢ outputs\[i\]·phases\[i + places\[t\]\] for i below `count`, lane by lane.
#[inline(always)]
fn add_products<S: Simd, const T: usize>(
    simd: S,
    outputs: &[f32],
    phases: &[f32],
    places: [usize; T],
    count: usize,
    sums: &mut [f32],
) {
    let furthest = places.iter().max().copied().unwrap_or(0);
    assert!(count <= outputs.len() && furthest + count <= phases.len() && T * S::LANES <= sums.len());
    // SAFETY: all vectors and parts of vectors lie below `count`, and `sums` has `T` vectors, as asserted.
    unsafe {
        let mut held: [S::V; T] = std::array::from_fn(|t| simd.load(sums.as_ptr().add(t * S::LANES)));
        let whole = count - count % S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            let output = simd.load(outputs.as_ptr().add(i));
            for (held, place) in held.iter_mut().zip(places) {
                *held = simd.mul_add(output, simd.load(phases.as_ptr().add(place + i)), *held);
            }
        }
        if whole < count {
            let output = simd.load_first(outputs.as_ptr().add(whole), count - whole);
            for (held, place) in held.iter_mut().zip(places) {
                let x = simd.load_first(phases.as_ptr().add(place + whole), count - whole);
                *held = simd.mul_add(output, x, *held);
            }
        }
        for (t, held) in held.into_iter().enumerate() {
            simd.store(sums.as_mut_ptr().add(t * S::LANES), held);
        }
    }
}

/// The values of `from` to the start of `to`.
#[inline(always)]
pub(crate) fn copy<S: Simd>(simd: S, from: &[f32], to: &mut [f32]) {
    let len = from.len();
    assert!(len <= to.len());
    let whole = len - len % S::LANES;
    // SAFETY: all vectors and the part of the last one lie in both slices.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            simd.store(to.as_mut_ptr().add(i), simd.load(from.as_ptr().add(i)));
        }
        if whole < len {
            let v = simd.load_first(from.as_ptr().add(whole), len - whole);
            simd.store_first(to.as_mut_ptr().add(whole), len - whole, v);
        }
    }
}
