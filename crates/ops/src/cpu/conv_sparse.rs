//! The backward pass of a convolution whose output was max-pooled: the gradient is zero off the maxima, so only
//! they are visited.
//!
//! The input is laid out (row, column, channel), where a window's row of taps is one stretch of memory. For one
//! output channel, the weights' gradient stays in registers while the maxima are visited, and so do the weights while
//! their products are added to the input's gradient.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::buffer::zeros;
use super::elementwise;
use super::scratch::Scratch;
use super::simd::{self, Kernel, Simd, dispatch, transpose};
use crate::config::{Activation, Padding2d};
use crate::shape::{ConvShape, PoolShape};
use crate::tape::hand_over_values;

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

impl Grads {
    /// As a tape takes them; the bias's where it is asked for.
    pub(crate) fn tensors(
        self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((
            self.x.map(|grad| hand_over_values(x, grad)).transpose()?.flatten(),
            self.weight.map(|grad| hand_over_values(weight, grad)).transpose()?.flatten(),
            bias.track_op().then(|| hand_over_values(bias, self.bias)).transpose()?.flatten(),
        ))
    }
}

/// Room behind a buffer for the last vector of a stretch that ends with it.
const SLACK: usize = 16;

/// The taps of a window as stretches of a (row, column, channel) buffer, each rounded up to whole vectors.
struct Stretches {
    stretches: Vec<Stretch>,
    lanes: usize,
}

struct Stretch {
    /// From the window's first pixel and the group's first channel.
    place: usize,
    /// Number of values.
    len: usize,
    /// The first tap.
    ky: usize,
    kx: usize,
}

/// Vectors beside each other.
#[derive(Clone, Copy)]
struct Run {
    place: usize,
    vectors: usize,
}

impl Stretches {
    fn new(shape: &ConvShape, lanes: usize) -> Self {
        let &ConvShape { c_in, kh, kw, config, .. } = shape;
        let group_in = c_in / config.groups;
        let place = |ky, kx| (ky * config.dilation.0 * shape.padded_w() + kx * config.dilation.1) * c_in;
        let whole_rows = config.groups == 1 && config.dilation.1 == 1;
        let (count, len) = if whole_rows { (1, kw * group_in) } else { (kw, group_in) };
        let stretch = |ky, kx| Stretch { place: place(ky, kx), len, ky, kx };
        let stretches = (0..kh).flat_map(|ky| (0..count).map(move |kx| stretch(ky, kx))).collect();
        Self { stretches, lanes }
    }

    /// Values of all vectors.
    fn row(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.len.next_multiple_of(self.lanes)).sum()
    }

    /// All vectors, in runs of the lengths that [`visit`] has code for.
    fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        for &Stretch { mut place, len, .. } in &self.stretches {
            let mut rest = len.div_ceil(self.lanes);
            for vectors in [12, 6, 4, 3, 2, 1] {
                while rest >= vectors {
                    runs.push(Run { place, vectors });
                    rest -= vectors;
                    place += vectors * self.lanes;
                }
            }
        }
        runs
    }

    /// (index in the weights (c, ky, kx), index in the vectors) of all taps of one output channel.
    fn taps(&self, shape: &ConvShape) -> Vec<(usize, usize)> {
        let group_in = shape.c_in / shape.config.groups;
        let mut taps = Vec::with_capacity(group_in * shape.kh * shape.kw);
        let mut first = 0;
        for &Stretch { len, ky, kx, .. } in &self.stretches {
            taps.extend((0..len).map(|i| {
                let (kx, c) = (kx + i / group_in, i % group_in);
                ((c * shape.kh + ky) * shape.kw + kx, first + i)
            }));
            first += len.next_multiple_of(self.lanes);
        }
        taps
    }
}

impl Backward<'_> {
    /// The gradients, summed over blocks of samples in their order.
    pub(crate) fn run(&self, wants_x: bool, wants_weight: bool) -> Grads {
        let shape = self.shape;
        let stretches = Stretches::new(shape, simd::lanes());
        let (runs, row, taps) = (stretches.runs(), stretches.row(), stretches.taps(shape));
        let mut packed = vec![0.0; if wants_x { shape.c_out * row } else { 0 }];
        for (packed, weight) in packed.chunks_exact_mut(row).zip(self.weight.chunks_exact(taps.len())) {
            taps.iter().for_each(|&(tap, at)| packed[at] = weight[tap]);
        }
        let n_weights = self.weight.len();
        // Many blocks keep many threads busy; each has a gradient of the weights of its own.
        let blocks = ((4 << 20) / n_weights.max(1)).clamp(4, 32).min(shape.batch);
        let block = shape.batch.div_ceil(blocks);
        let x_block = block * shape.c_in * shape.h * shape.w;
        let mut x_grad = zeros(if wants_x { self.x.len() } else { 0 });
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
                dispatch(Block {
                    backward: self,
                    runs: &runs,
                    packed: &packed,
                    row,
                    samples,
                    x_grad,
                    wants_weight,
                })
            })
            .collect();
        let mut sums = partial.into_iter();
        let (mut packed_grad, mut bias) = sums.next().unwrap_or_default();
        for (weight_part, bias_part) in sums {
            elementwise::add(&mut packed_grad, &weight_part);
            elementwise::add(&mut bias, &bias_part);
        }
        let mut weight = vec![0.0; if wants_weight { n_weights } else { 0 }];
        for (sums, weight) in packed_grad.chunks_exact(row).zip(weight.chunks_exact_mut(taps.len())) {
            taps.iter().for_each(|&(tap, at)| weight[tap] = sums[at]);
        }
        Grads { x: wants_x.then_some(x_grad), weight: wants_weight.then_some(weight), bias }
    }
}

/// A block of samples.
struct Block<'a> {
    backward: &'a Backward<'a>,
    runs: &'a [Run],
    /// The weights as the runs have them, `row` values for each output channel.
    packed: &'a [f32],
    row: usize,
    samples: (usize, usize),
    x_grad: Option<&'a mut [f32]>,
    wants_weight: bool,
}

impl Kernel for Block<'_> {
    /// Gradients of the packed weights (or nothing) and of the bias.
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let Self { backward, runs, packed, row, samples, mut x_grad, wants_weight } = self;
        let Backward { shape, pool, activation, x, y, grad, places, .. } = *backward;
        let &ConvShape { c_in, h, w, c_out, config, .. } = shape;
        let (group_in, group_out) = (c_in / config.groups, c_out / config.groups);
        let sample_len = c_in * h * w;
        let padded_len = shape.padded_h() * shape.padded_w() * c_in;
        let pixels = pool.oh * pool.ow;

        let mut weight_grad = vec![0.0; if wants_weight { c_out * row } else { 0 }];
        let mut bias_grad = vec![0.0; c_out];
        let mut turned = Scratch::zeroed(if wants_weight { padded_len + SLACK } else { 0 });
        let mut turned_grad = Scratch::dirty(if x_grad.is_some() { padded_len + SLACK } else { 0 });
        let mut slopes = Scratch::dirty(pixels);
        let mut maxima = vec![(0, 0.0); pixels];

        for sample in samples.0..samples.1 {
            if wants_weight {
                turn(simd, shape, &x[sample * sample_len..][..sample_len], &mut turned);
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
                // Half of the slopes may be zero: a branch on them would be guessed wrong as often.
                let mut count = 0;
                for (&place, &slope) in places[range].iter().zip(slopes.iter()) {
                    maxima[count] = (place * c_in as u32 + group_place, slope);
                    count += usize::from(slope != 0.0);
                }
                let maxima = &maxima[..count];
                if wants_weight {
                    let sums = &mut weight_grad[o * row..(o + 1) * row];
                    visit::<S, Gather>(simd, maxima, runs, &mut turned, sums);
                }
                if x_grad.is_some() {
                    visit::<S, Scatter>(
                        simd,
                        maxima,
                        runs,
                        &mut turned_grad,
                        &packed[o * row..(o + 1) * row],
                    );
                }
            }
            if let Some(x_grad) = &mut x_grad {
                let target = &mut x_grad[(sample - samples.0) * sample_len..][..sample_len];
                turn_back(simd, shape, &turned_grad, target);
            }
        }

        (weight_grad, bias_grad)
    }
}

/// One sample as (row, column, channel) inside its rim; the rim is left alone.
#[inline(always)]
fn turn<S: Simd>(simd: S, shape: &ConvShape, x: &[f32], turned: &mut [f32]) {
    let Padding2d { top, left, .. } = shape.config.padding;
    let &ConvShape { c_in, h, w, .. } = shape;
    for y in 0..h {
        let at = ((y + top) * shape.padded_w() + left) * c_in;
        transpose(simd, (c_in, w), (&x[y * w..], h * w), (&mut turned[at..at + w * c_in], c_in));
    }
}

/// The reverse of [`turn`].
#[inline(always)]
fn turn_back<S: Simd>(simd: S, shape: &ConvShape, turned: &[f32], x: &mut [f32]) {
    let Padding2d { top, left, .. } = shape.config.padding;
    let &ConvShape { c_in, h, w, .. } = shape;
    for y in 0..h {
        let at = ((y + top) * shape.padded_w() + left) * c_in;
        transpose(simd, (w, c_in), (&turned[at..at + w * c_in], c_in), (&mut x[y * w..], h * w));
    }
}

/// What is done at each maximum with the window's vectors.
trait Visit {
    /// The window's own values: sums, or weights.
    type Own<'a>;
    fn len(own: &Self::Own<'_>) -> usize;
    /// # Safety
    /// For each maximum, `R` runs of `N` vectors, at its place plus each of `places`, lie in `map`; `own` has
    /// `R`·`N` vectors from `first` on.
    unsafe fn group<S: Simd, const R: usize, const N: usize>(
        simd: S,
        maxima: &[(u32, f32)],
        places: [usize; R],
        map: *mut f32,
        own: &mut Self::Own<'_>,
        first: usize,
    );
}

/// own += slope · map
struct Gather;

impl Visit for Gather {
    type Own<'a> = &'a mut [f32];

    fn len(own: &Self::Own<'_>) -> usize {
        own.len()
    }

    #[inline(always)]
    unsafe fn group<S: Simd, const R: usize, const N: usize>(
        simd: S,
        maxima: &[(u32, f32)],
        places: [usize; R],
        map: *mut f32,
        own: &mut &mut [f32],
        first: usize,
    ) {
        // SAFETY: by the trait's contract.
        unsafe {
            let own = own.as_mut_ptr().add(first);
            let at = |r: usize, i: usize| (r * N + i) * S::LANES;
            let mut sums: [[S::V; N]; R] =
                std::array::from_fn(|r| std::array::from_fn(|i| simd.load(own.add(at(r, i)))));
            for &(place, slope) in maxima {
                let slope = simd.splat(slope);
                for (sums, run) in sums.iter_mut().zip(places) {
                    let run = map.add(place as usize + run);
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.mul_add(slope, simd.load(run.add(i * S::LANES)), *sum);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (i, sum) in sums.into_iter().enumerate() {
                    simd.store(own.add(at(r, i)), sum);
                }
            }
        }
    }
}

/// map += slope · own
struct Scatter;

impl Visit for Scatter {
    type Own<'a> = &'a [f32];

    fn len(own: &Self::Own<'_>) -> usize {
        own.len()
    }

    #[inline(always)]
    unsafe fn group<S: Simd, const R: usize, const N: usize>(
        simd: S,
        maxima: &[(u32, f32)],
        places: [usize; R],
        map: *mut f32,
        own: &mut &[f32],
        first: usize,
    ) {
        // SAFETY: by the trait's contract.
        unsafe {
            let own = own.as_ptr().add(first);
            let weights: [[S::V; N]; R] =
                std::array::from_fn(|r| std::array::from_fn(|i| simd.load(own.add((r * N + i) * S::LANES))));
            for &(place, slope) in maxima {
                let slope = simd.splat(slope);
                for (weights, run) in weights.iter().zip(places) {
                    let run = map.add(place as usize + run);
                    for (i, &weight) in weights.iter().enumerate() {
                        let at = run.add(i * S::LANES);
                        simd.store(at, simd.mul_add(slope, weight, simd.load(at)));
                    }
                }
            }
        }
    }
}

/// Visits all maxima with all runs, at most twelve vectors at once: AVX2 has sixteen registers.
#[inline(always)]
fn visit<S: Simd, W: Visit>(
    simd: S,
    maxima: &[(u32, f32)],
    runs: &[Run],
    map: &mut [f32],
    mut own: W::Own<'_>,
) {
    let Some(furthest) = maxima.iter().map(|&(place, _)| place as usize).max() else { return };
    let last = runs.iter().map(|run| run.place + run.vectors * S::LANES).max().unwrap_or(0);
    assert!(furthest + last <= map.len());
    assert!(W::len(&own) == runs.iter().map(|run| run.vectors * S::LANES).sum::<usize>());
    let map = map.as_mut_ptr();
    let (mut rest, mut first) = (runs, 0);
    macro_rules! groups_of {
        ($($r:literal x $n:literal),*) => {
            while let Some(&Run { vectors, .. }) = rest.first() {
                $(if let Some((group, after)) = rest.split_first_chunk::<$r>()
                    && group.iter().all(|run| run.vectors == $n)
                {
                    let places = group.map(|run| run.place);
                    // SAFETY: all runs lie in `map` at each maximum, and `own` has a vector for each of theirs, as
                    // asserted above; `first` moves with `rest`.
                    unsafe { W::group::<S, $r, $n>(simd, maxima, places, map, &mut own, first) };
                    first += $r * $n * S::LANES;
                    rest = after;
                    continue;
                })*
                unreachable!("no code for runs of {vectors} vectors");
            }
        };
    }
    groups_of!(1 x 12, 2 x 6, 1 x 6, 3 x 4, 1 x 4, 4 x 3, 3 x 3, 1 x 3, 3 x 2, 1 x 2, 9 x 1, 3 x 1, 1 x 1);
}
