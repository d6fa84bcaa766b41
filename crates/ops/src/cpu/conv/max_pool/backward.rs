//! The backward pass, which visits only the maxima, since the gradient is zero elsewhere.
//!
//! The input is laid out (row, column, channel), where a row of a window is contiguous. For one
//! output channel, the weights' gradient stays in registers while the maxima are visited, and so do
//! the weights while their products are added to the input's gradient.

use rayon::prelude::*;

use crate::config::Activation;
use crate::config::Padding2d;
use crate::cpu::WeightedGrads;
use crate::cpu::elementwise;
use crate::cpu::memory::buffer::zeros;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::simd::{self, Kernel, Simd, dispatch, transpose};
use crate::shape::{ConvShape, PoolShape};

/// The arguments of the backward pass.
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
    /// For each maximum, the offset of its window in a padded channel.
    pub(crate) argmax: &'a [u32],
}

/// Values after a buffer's end that the last vector may reach.
const SLACK: usize = 16;

/// The rows of a kernel in a (row, column, channel) buffer, each rounded up to whole vectors.
struct KernelRows {
    kernel_rows: Vec<KernelRow>,
    lanes: usize,
}

struct KernelRow {
    /// Offset from the window's first pixel and the group's first channel.
    offset: usize,
    /// Number of values.
    len: usize,
    /// The first kernel element.
    ky: usize,
    kx: usize,
}

/// Consecutive vectors.
#[derive(Clone, Copy)]
struct VectorRun {
    offset: usize,
    vectors: usize,
}

impl KernelRows {
    fn new(shape: &ConvShape, lanes: usize) -> Self {
        let &ConvShape { c_in, kh, kw, config, .. } = shape;
        let group_in = c_in / config.groups;
        let offset = |ky, kx| (ky * config.dilation.0 * shape.padded_w() + kx * config.dilation.1) * c_in;
        let whole_rows = config.groups == 1 && config.dilation.1 == 1;
        let (count, len) = if whole_rows { (1, kw * group_in) } else { (kw, group_in) };
        let kernel_row = |ky, kx| KernelRow { offset: offset(ky, kx), len, ky, kx };
        let kernel_rows = (0..kh).flat_map(|ky| (0..count).map(move |kx| kernel_row(ky, kx))).collect();
        Self { kernel_rows, lanes }
    }

    /// Number of values of all vectors.
    fn row(&self) -> usize {
        self.kernel_rows.iter().map(|kernel_row| kernel_row.len.next_multiple_of(self.lanes)).sum()
    }

    /// All vectors, in runs of the lengths that [`visit`] has code for.
    fn runs(&self) -> Vec<VectorRun> {
        let mut runs = Vec::new();
        for &KernelRow { mut offset, len, .. } in &self.kernel_rows {
            let mut rest = len.div_ceil(self.lanes);
            for vectors in [12, 6, 4, 3, 2, 1] {
                while rest >= vectors {
                    runs.push(VectorRun { offset, vectors });
                    rest -= vectors;
                    offset += vectors * self.lanes;
                }
            }
        }
        runs
    }

    /// For each kernel element of one output channel: (index in the weights (c, ky, kx), index in
    /// the vectors).
    fn elements(&self, shape: &ConvShape) -> Vec<(usize, usize)> {
        let group_in = shape.c_in / shape.config.groups;
        let mut elements = Vec::with_capacity(group_in * shape.kh * shape.kw);
        let mut first = 0;
        for &KernelRow { len, ky, kx, .. } in &self.kernel_rows {
            elements.extend((0..len).map(|i| {
                let (kx, c) = (kx + i / group_in, i % group_in);
                ((c * shape.kh + ky) * shape.kw + kx, first + i)
            }));
            first += len.next_multiple_of(self.lanes);
        }
        elements
    }
}

impl Backward<'_> {
    /// Computes the gradients. Sums over samples are taken in the order of their blocks.
    pub(crate) fn run(&self, wants_x: bool, wants_weight: bool) -> WeightedGrads {
        let shape = self.shape;
        let kernel_rows = KernelRows::new(shape, simd::lanes());
        let (runs, row, elements) = (kernel_rows.runs(), kernel_rows.row(), kernel_rows.elements(shape));
        let mut packed = vec![0.0; if wants_x { shape.c_out * row } else { 0 }];
        for (packed, weight) in packed.chunks_exact_mut(row).zip(self.weight.chunks_exact(elements.len())) {
            elements.iter().for_each(|&(element, at)| packed[at] = weight[element]);
        }
        let n_weights = self.weight.len();
        // Each block of samples has its own gradient of the weights.
        let blocks = ((4 << 20) / n_weights.max(1)).clamp(4, 32).min(shape.batch);
        let block = shape.batch.div_ceil(blocks);
        let input_grad_block = block * shape.c_in * shape.h * shape.w;
        let mut input_grad = zeros(if wants_x { self.x.len() } else { 0 });
        let input_grad_blocks: Vec<Option<&mut [f32]>> = if wants_x {
            input_grad.chunks_mut(input_grad_block).map(Some).collect()
        } else {
            (0..shape.batch).step_by(block).map(|_| None).collect()
        };
        let partial: Vec<(Vec<f32>, Vec<f32>)> = input_grad_blocks
            .into_par_iter()
            .enumerate()
            .map(|(index, input_grad)| {
                let samples = (index * block, ((index + 1) * block).min(shape.batch));
                dispatch(Block {
                    backward: self,
                    runs: &runs,
                    packed: &packed,
                    row,
                    samples,
                    input_grad,
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
        for (sums, weight) in packed_grad.chunks_exact(row).zip(weight.chunks_exact_mut(elements.len())) {
            elements.iter().for_each(|&(element, at)| weight[element] = sums[at]);
        }
        WeightedGrads {
            x: wants_x.then_some(input_grad),
            weight: wants_weight.then_some(weight),
            bias: Some(bias),
        }
    }
}

/// A block of samples.
struct Block<'a> {
    backward: &'a Backward<'a>,
    runs: &'a [VectorRun],
    /// The weights in the order of the runs, `row` values per output channel.
    packed: &'a [f32],
    row: usize,
    samples: (usize, usize),
    input_grad: Option<&'a mut [f32]>,
    wants_weight: bool,
}

impl Kernel for Block<'_> {
    /// Gradients of the packed weights (empty unless requested) and of the bias.
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let Self { backward, runs, packed, row, samples, mut input_grad, wants_weight } = self;
        let Backward { shape, pool, activation, x, y, grad, argmax, .. } = *backward;
        let &ConvShape { c_in, h, w, c_out, config, .. } = shape;
        let (group_in, group_out) = (c_in / config.groups, c_out / config.groups);
        let sample_len = c_in * h * w;
        let padded_len = shape.padded_h() * shape.padded_w() * c_in;
        let pixels = pool.oh * pool.ow;

        let mut weight_grad = vec![0.0; if wants_weight { c_out * row } else { 0 }];
        let mut bias_grad = vec![0.0; c_out];
        let mut transposed = Scratch::zeroed(if wants_weight { padded_len + SLACK } else { 0 });
        let mut transposed_grad = Scratch::dirty(if input_grad.is_some() { padded_len + SLACK } else { 0 });
        let mut grads = Scratch::dirty(pixels);
        let mut maxima = vec![(0, 0.0); pixels];

        for sample in samples.0..samples.1 {
            if wants_weight {
                to_channels_last(simd, shape, &x[sample * sample_len..][..sample_len], &mut transposed);
            }
            transposed_grad.fill(0.0);
            for o in 0..c_out {
                let range = (sample * c_out + o) * pixels..(sample * c_out + o + 1) * pixels;
                elementwise::activation_grad(&mut grads, &grad[range.clone()], &y[range.clone()], activation);
                bias_grad[o] += elementwise::sum(&grads);
                let group_offset = (o / group_out * group_in) as u32;
                // A branch on the gradients would be mispredicted half of the time,
                // since about half may be zero.
                let mut count = 0;
                for (&offset, &grad) in argmax[range].iter().zip(grads.iter()) {
                    maxima[count] = (offset * c_in as u32 + group_offset, grad);
                    count += usize::from(grad != 0.0);
                }
                let maxima = &maxima[..count];
                if wants_weight {
                    let sums = &mut weight_grad[o * row..(o + 1) * row];
                    visit::<S, Gather>(simd, maxima, runs, &mut transposed, sums);
                }
                if input_grad.is_some() {
                    visit::<S, Scatter>(
                        simd,
                        maxima,
                        runs,
                        &mut transposed_grad,
                        &packed[o * row..(o + 1) * row],
                    );
                }
            }
            if let Some(input_grad) = &mut input_grad {
                let target = &mut input_grad[(sample - samples.0) * sample_len..][..sample_len];
                from_channels_last(simd, shape, &transposed_grad, target);
            }
        }

        (weight_grad, bias_grad)
    }
}

/// Copies one sample to (row, column, channel) with padding, which is left as it is.
#[inline(always)]
fn to_channels_last<S: Simd>(simd: S, shape: &ConvShape, x: &[f32], transposed: &mut [f32]) {
    let Padding2d { top, left, .. } = shape.config.padding;
    let &ConvShape { c_in, h, w, .. } = shape;
    for y in 0..h {
        let at = ((y + top) * shape.padded_w() + left) * c_in;
        transpose(simd, (c_in, w), (&x[y * w..], h * w), (&mut transposed[at..at + w * c_in], c_in));
    }
}

/// The inverse of [`to_channels_last`].
#[inline(always)]
fn from_channels_last<S: Simd>(simd: S, shape: &ConvShape, transposed: &[f32], x: &mut [f32]) {
    let Padding2d { top, left, .. } = shape.config.padding;
    let &ConvShape { c_in, h, w, .. } = shape;
    for y in 0..h {
        let at = ((y + top) * shape.padded_w() + left) * c_in;
        transpose(simd, (w, c_in), (&transposed[at..at + w * c_in], c_in), (&mut x[y * w..], h * w));
    }
}

/// An operation on the window of each maximum.
trait VisitMaxima {
    /// The values that belong to the window: sums, or weights.
    type Window<'a>;
    /// Number of values.
    fn len(window: &Self::Window<'_>) -> usize;
    /// Visits `maxima`, pairs of a window's offset in `map` and its gradient, with some runs of vectors.
    ///
    /// # Safety
    /// For each maximum, `R` runs of `N` vectors, at its offset plus each of `runs`, lie in `map`; `window` has
    /// `R`·`N` vectors from `first` on.
    unsafe fn group<S: Simd, const R: usize, const N: usize>(
        simd: S,
        maxima: &[(u32, f32)],
        runs: [usize; R],
        map: *mut f32,
        window: &mut Self::Window<'_>,
        first: usize,
    );
}

/// Adds gradient · map to the window's sums.
struct Gather;

impl VisitMaxima for Gather {
    type Window<'a> = &'a mut [f32];

    fn len(window: &Self::Window<'_>) -> usize {
        window.len()
    }

    #[inline(always)]
    unsafe fn group<S: Simd, const R: usize, const N: usize>(
        simd: S,
        maxima: &[(u32, f32)],
        runs: [usize; R],
        map: *mut f32,
        window: &mut &mut [f32],
        first: usize,
    ) {
        // SAFETY: by the trait's contract.
        unsafe {
            let window = window.as_mut_ptr().add(first);
            let at = |r: usize, i: usize| (r * N + i) * S::LANES;
            let mut sums: [[S::V; N]; R] =
                std::array::from_fn(|r| std::array::from_fn(|i| simd.load(window.add(at(r, i)))));
            for &(offset, grad) in maxima {
                let grad = simd.splat(grad);
                for (sums, run) in sums.iter_mut().zip(runs) {
                    let run = map.add(offset as usize + run);
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.mul_add(grad, simd.load(run.add(i * S::LANES)), *sum);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (i, sum) in sums.into_iter().enumerate() {
                    simd.store(window.add(at(r, i)), sum);
                }
            }
        }
    }
}

/// Adds gradient · weights to the map.
struct Scatter;

impl VisitMaxima for Scatter {
    type Window<'a> = &'a [f32];

    fn len(window: &Self::Window<'_>) -> usize {
        window.len()
    }

    #[inline(always)]
    unsafe fn group<S: Simd, const R: usize, const N: usize>(
        simd: S,
        maxima: &[(u32, f32)],
        runs: [usize; R],
        map: *mut f32,
        window: &mut &[f32],
        first: usize,
    ) {
        // SAFETY: by the trait's contract.
        unsafe {
            let window = window.as_ptr().add(first);
            let weights: [[S::V; N]; R] = std::array::from_fn(|r| {
                std::array::from_fn(|i| simd.load(window.add((r * N + i) * S::LANES)))
            });
            for &(offset, grad) in maxima {
                let grad = simd.splat(grad);
                for (weights, run) in weights.iter().zip(runs) {
                    let run = map.add(offset as usize + run);
                    for (i, &weight) in weights.iter().enumerate() {
                        let at = run.add(i * S::LANES);
                        simd.store(at, simd.mul_add(grad, weight, simd.load(at)));
                    }
                }
            }
        }
    }
}

/// Visits all maxima with all runs, at most twelve vectors at once, since AVX2 has sixteen registers.
#[inline(always)]
fn visit<S: Simd, W: VisitMaxima>(
    simd: S,
    maxima: &[(u32, f32)],
    runs: &[VectorRun],
    map: &mut [f32],
    mut window: W::Window<'_>,
) {
    let Some(furthest) = maxima.iter().map(|&(offset, _)| offset as usize).max() else { return };
    let last = runs.iter().map(|run| run.offset + run.vectors * S::LANES).max().unwrap_or(0);
    assert!(furthest + last <= map.len());
    assert!(W::len(&window) == runs.iter().map(|run| run.vectors * S::LANES).sum::<usize>());
    let map = map.as_mut_ptr();
    let (mut rest, mut first) = (runs, 0);
    macro_rules! groups_of {
        ($($r:literal x $n:literal),*) => {
            while let Some(&VectorRun { vectors, .. }) = rest.first() {
                $(if let Some((group, after)) = rest.split_first_chunk::<$r>()
                    && group.iter().all(|run| run.vectors == $n)
                {
                    let offsets = group.map(|run| run.offset);
                    // SAFETY: all runs lie in `map` at each maximum, and `window`
                    // has a vector for each of theirs, as asserted above; `first`
                    // advances with `rest`.
                    unsafe { W::group::<S, $r, $n>(simd, maxima, offsets, map, &mut window, first) };
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
