//! The backward pass of a convolution whose output was max-pooled: the gradient is zero off the maxima, so only
//! they are visited.
//!
//! The input is laid out (row, column, channel), where a window's row of taps is one stretch of memory. For one
//! output channel, the weights' gradient stays in registers while the maxima are visited, and so do the weights while
//! their products are added to the input's gradient.

use rayon::prelude::*;

use super::elementwise;
use super::scratch::Scratch;
use super::simd::{Kernel, Simd, dispatch};
use crate::config::{Activation, Padding2d};
use crate::shape::{ConvShape, PoolShape};

/// What the backward pass starts from.
pub(crate) struct Backward<'a> {
    pub(crate) shape: &'a ConvShape,
    pub(crate) pool: &'a PoolShape,
    pub(crate) activation: Activation,
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    /// The pooled output.
    pub(crate) y: &'a [f32],
    /// Its gradient.
    pub(crate) grad: &'a [f32],
    /// For each maximum, the place of its first tap in a padded channel.
    pub(crate) places: &'a [u32],
}

/// Gradients of a convolution's arguments; `x` and `weight` where asked for.
pub(crate) struct Grads {
    pub(crate) x: Option<Vec<f32>>,
    pub(crate) weight: Option<Vec<f32>>,
    pub(crate) bias: Vec<f32>,
}

/// Room behind a buffer for the last vector of a stretch that ends with it.
const SLACK: usize = 16;

/// The taps of a window as vectors over a (row, column, channel) buffer.
struct Stretches {
    /// (place, number of values, first tap's ky, kx) of each stretch of a group's taps, from the window's first pixel.
    stretches: Vec<(usize, usize, usize, usize)>,
}

impl Stretches {
    fn new(shape: &ConvShape) -> Self {
        let &ConvShape { c_in, kh, kw, config, .. } = shape;
        let group_in = c_in / config.groups;
        let place = |ky, kx| (ky * config.dilation.0 * shape.padded_w() + kx * config.dilation.1) * c_in;
        let whole_rows = config.groups == 1 && config.dilation.1 == 1;
        let stretches = (0..kh)
            .flat_map(|ky| {
                let (count, len) = if whole_rows { (1, kw * group_in) } else { (kw, group_in) };
                (0..count).map(move |kx| (place(ky, kx), len, ky, kx))
            })
            .collect();
        Self { stretches }
    }

    /// The place of every vector of `lanes` values.
    fn vectors(&self, lanes: usize) -> Vec<usize> {
        let starts = |&(place, len, ..): &(usize, usize, usize, usize)| {
            (0..len).step_by(lanes).map(move |i| place + i)
        };
        self.stretches.iter().flat_map(starts).collect()
    }

    /// Calls `each(index in the weights (c, ky, kx), index in the vectors)` for all taps of one output channel.
    fn taps(&self, shape: &ConvShape, lanes: usize, mut each: impl FnMut(usize, usize)) {
        let group_in = shape.c_in / shape.config.groups;
        let mut first = 0;
        for &(_, len, ky, kx) in &self.stretches {
            for i in 0..len {
                let (kx, c) = (kx + i / group_in, i % group_in);
                each((c * shape.kh + ky) * shape.kw + kx, first + i);
            }
            first += len.next_multiple_of(lanes);
        }
    }
}

impl Backward<'_> {
    /// The gradients, summed over blocks of samples in their order.
    pub(crate) fn run(&self, wants_x: bool, wants_weight: bool) -> Grads {
        let shape = self.shape;
        let stretches = Stretches::new(shape);
        let n_weights = self.weight.len();
        // Many blocks keep many threads busy; each has a gradient of the weights of its own.
        let blocks = ((4 << 20) / n_weights.max(1)).clamp(4, 32).min(shape.batch);
        let block = shape.batch.div_ceil(blocks);
        let x_block = block * shape.c_in * shape.h * shape.w;
        let mut x_grad = vec![0.0; if wants_x { self.x.len() } else { 0 }];
        let x_blocks: Vec<Option<&mut [f32]>> = if wants_x {
            x_grad.chunks_mut(x_block).map(Some).collect()
        } else {
            (0..shape.batch).step_by(block).map(|_| None).collect()
        };
        let partial: Vec<(Vec<f32>, Vec<f32>)> = x_blocks
            .into_par_iter()
            .enumerate()
            .map(|(index, x_grad)| {
                let samples = (index * block, ((index + 1) * block).min(shape.batch));
                dispatch(Block { backward: self, stretches: &stretches, samples, x_grad, wants_weight })
            })
            .collect();
        let mut sums = partial.into_iter();
        let (mut weight, mut bias) = sums.next().unwrap_or_default();
        for (weight_part, bias_part) in sums {
            elementwise::add(&mut weight, &weight_part);
            elementwise::add(&mut bias, &bias_part);
        }
        Grads { x: wants_x.then_some(x_grad), weight: wants_weight.then_some(weight), bias }
    }
}

/// A block of samples.
struct Block<'a> {
    backward: &'a Backward<'a>,
    stretches: &'a Stretches,
    samples: (usize, usize),
    x_grad: Option<&'a mut [f32]>,
    wants_weight: bool,
}

impl Kernel for Block<'_> {
    /// Gradients of the weights (as the weights lie, or empty) and of the bias.
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let Self { backward, stretches, samples, mut x_grad, wants_weight } = self;
        let Backward { shape, pool, activation, x, weight, y, grad, places } = *backward;
        let &ConvShape { c_in, h, w, c_out, kh, kw, config, .. } = shape;
        let (group_in, group_out) = (c_in / config.groups, c_out / config.groups);
        let taps = group_in * kh * kw;
        let vectors = stretches.vectors(S::LANES);
        let row = vectors.len() * S::LANES;
        let sample_len = c_in * h * w;
        let padded_len = shape.padded_h() * shape.padded_w() * c_in;
        let pixels = pool.oh * pool.ow;

        // [output channel][vector]
        let mut packed = Scratch::zeroed(if x_grad.is_some() { c_out * row } else { 0 });
        if x_grad.is_some() {
            for (packed, weight) in packed.chunks_exact_mut(row).zip(weight.chunks_exact(taps)) {
                stretches.taps(shape, S::LANES, |tap, at| packed[at] = weight[tap]);
            }
        }
        let mut weight_grad = Scratch::zeroed(if wants_weight { c_out * row } else { 0 });
        let mut bias_grad = vec![0.0; c_out];
        let mut turned = Scratch::zeroed(if wants_weight { padded_len + SLACK } else { 0 });
        let mut turned_grad = Scratch::dirty(if x_grad.is_some() { padded_len + SLACK } else { 0 });
        let mut slopes = Scratch::dirty(pixels);
        let mut maxima: Vec<(u32, f32)> = Vec::with_capacity(pixels);

        for sample in samples.0..samples.1 {
            if wants_weight {
                turn(shape, &x[sample * sample_len..][..sample_len], &mut turned);
            }
            turned_grad.fill(0.0);
            for o in 0..c_out {
                let range = (sample * c_out + o) * pixels..(sample * c_out + o + 1) * pixels;
                elementwise::activation_grad(
                    &mut slopes,
                    &grad[range.clone()],
                    &y[range.clone()],
                    activation,
                );
                bias_grad[o] += elementwise::sum(&slopes);
                let group_place = (o / group_out * group_in) as u32;
                maxima.clear();
                let found = places[range].iter().zip(slopes.iter()).filter(|&(_, &slope)| slope != 0.0);
                maxima.extend(found.map(|(&place, &slope)| (place * c_in as u32 + group_place, slope)));
                if wants_weight {
                    let sums = &mut weight_grad[o * row..(o + 1) * row];
                    visit::<S, Gather>(simd, &maxima, &vectors, &mut turned, sums);
                }
                if x_grad.is_some() {
                    let weights = &mut packed[o * row..(o + 1) * row];
                    visit::<S, Scatter>(simd, &maxima, &vectors, &mut turned_grad, weights);
                }
            }
            if let Some(x_grad) = &mut x_grad {
                let target = &mut x_grad[(sample - samples.0) * sample_len..][..sample_len];
                turn_back(shape, &turned_grad, target);
            }
        }

        let mut unpacked = vec![0.0; if wants_weight { weight.len() } else { 0 }];
        if wants_weight {
            for (sums, unpacked) in weight_grad.chunks_exact(row).zip(unpacked.chunks_exact_mut(taps)) {
                stretches.taps(shape, S::LANES, |tap, at| unpacked[tap] = sums[at]);
            }
        }
        (unpacked, bias_grad)
    }
}

/// One sample as (row, column, channel) inside its rim; the rim is left alone.
fn turn(shape: &ConvShape, x: &[f32], turned: &mut [f32]) {
    let Padding2d { top, left, .. } = shape.config.padding;
    for y in 0..shape.h {
        let at = ((y + top) * shape.padded_w() + left) * shape.c_in;
        let target = &mut turned[at..at + shape.w * shape.c_in];
        for (c, plane) in x.chunks_exact(shape.h * shape.w).enumerate() {
            let row = &plane[y * shape.w..(y + 1) * shape.w];
            for (target, &value) in target.chunks_exact_mut(shape.c_in).zip(row) {
                target[c] = value;
            }
        }
    }
}

/// The reverse of [`turn`].
fn turn_back(shape: &ConvShape, turned: &[f32], x: &mut [f32]) {
    let Padding2d { top, left, .. } = shape.config.padding;
    for y in 0..shape.h {
        let at = ((y + top) * shape.padded_w() + left) * shape.c_in;
        let source = &turned[at..at + shape.w * shape.c_in];
        for (c, plane) in x.chunks_exact_mut(shape.h * shape.w).enumerate() {
            let row = &mut plane[y * shape.w..(y + 1) * shape.w];
            for (value, source) in row.iter_mut().zip(source.chunks_exact(shape.c_in)) {
                *value = source[c];
            }
        }
    }
}

/// What is done at each maximum with the window's vectors.
trait Visit {
    /// # Safety
    /// Each maximum's place plus each of `places` starts a vector in `map`; `own` has `N` vectors.
    unsafe fn group<S: Simd, const N: usize>(
        simd: S,
        maxima: &[(u32, f32)],
        places: [usize; N],
        map: *mut f32,
        own: *mut f32,
    );
}

/// own += slope · map
struct Gather;

impl Visit for Gather {
    #[inline(always)]
    unsafe fn group<S: Simd, const N: usize>(
        simd: S,
        maxima: &[(u32, f32)],
        places: [usize; N],
        map: *mut f32,
        own: *mut f32,
    ) {
        // SAFETY: by the trait's contract.
        unsafe {
            let mut sums: [S::V; N] = std::array::from_fn(|i| simd.load(own.add(i * S::LANES)));
            for &(place, slope) in maxima {
                let slope = simd.splat(slope);
                let window = map.add(place as usize);
                for i in 0..N {
                    sums[i] = simd.mul_add(slope, simd.load(window.add(places[i])), sums[i]);
                }
            }
            for (i, &sum) in sums.iter().enumerate() {
                simd.store(own.add(i * S::LANES), sum);
            }
        }
    }
}

/// map += slope · own
struct Scatter;

impl Visit for Scatter {
    #[inline(always)]
    unsafe fn group<S: Simd, const N: usize>(
        simd: S,
        maxima: &[(u32, f32)],
        places: [usize; N],
        map: *mut f32,
        own: *mut f32,
    ) {
        // SAFETY: by the trait's contract.
        unsafe {
            let weights: [S::V; N] = std::array::from_fn(|i| simd.load(own.add(i * S::LANES)));
            for &(place, slope) in maxima {
                let slope = simd.splat(slope);
                let window = map.add(place as usize);
                for i in 0..N {
                    let at = window.add(places[i]);
                    simd.store(at, simd.mul_add(slope, weights[i], simd.load(at)));
                }
            }
        }
    }
}

/// Visits all maxima with all vectors, at most twelve vectors at once: AVX2 has sixteen registers.
#[inline(always)]
fn visit<S: Simd, W: Visit>(
    simd: S,
    maxima: &[(u32, f32)],
    vectors: &[usize],
    map: &mut [f32],
    own: &mut [f32],
) {
    let furthest = maxima.iter().map(|&(place, _)| place as usize).max();
    let Some(furthest) = furthest else { return };
    let furthest_vector = vectors.iter().copied().max().unwrap_or(0);
    assert!(furthest + furthest_vector + S::LANES <= map.len());
    assert!(own.len() == vectors.len() * S::LANES);
    let (map, mut own) = (map.as_mut_ptr(), own.as_mut_ptr());
    let mut rest = vectors;
    macro_rules! groups_of {
        ($($n:literal)*) => {$(
            while let Some((&places, after)) = rest.split_first_chunk::<$n>() {
                // SAFETY: as asserted above; `own` moves with `rest`.
                unsafe {
                    W::group::<S, $n>(simd, maxima, places, map, own);
                    own = own.add($n * S::LANES);
                }
                rest = after;
            }
        )*};
    }
    groups_of!(12 6 4 3 2 1);
}
