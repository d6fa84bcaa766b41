//! The forward pass, which neither unfolds the input nor writes the map between.
//!
//! A tile of output positions by a block of output channels stays in registers while all kernel
//! elements are summed: inputs are broadcast, weights are packed in blocks of channels. Positions
//! follow the order of the map, across rows, each with its own offset in the padded input, so that
//! any stride, dilation and width fills whole tiles. A band of rows is pooled while it is in the
//! cache.

use rayon::prelude::*;

use crate::config::Activation;
use crate::config::Padding2d;
use crate::cpu::elementwise;
use crate::cpu::memory::buffer::zeros;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::simd::{Kernel, Simd, dispatch, transpose};
use crate::shape::{ConvShape, PoolShape};

/// Number of output channels that are computed at once.
const BLOCK: usize = 16;
/// Number of output positions that are computed at once.
const TILE: usize = 6;

/// Packed weights and offsets, which all samples share.
pub(crate) struct Forward {
    shape: ConvShape,
    /// Offsets of a group's kernel elements (c, ky, kx) in the padded input, from the group's
    /// first channel.
    kernel_offsets: Vec<u32>,
    /// Offset of each output's window in a padded channel.
    window_offsets: Vec<u32>,
    /// [group][block][kernel element][`BLOCK`], padded with zeros in the last block of a group.
    weights: Vec<f32>,
    /// [group][block][`BLOCK`]
    bias: Vec<f32>,
}

/// The offset of each output's window in a padded channel.
pub(crate) fn window_offsets(shape: &ConvShape) -> Vec<u32> {
    let (sh, sw) = shape.config.stride;
    let row = shape.padded_w();
    (0..shape.oh).flat_map(|y| (0..shape.ow).map(move |x| (y * sh * row + x * sw) as u32)).collect()
}

impl Forward {
    /// Packs the weights. All offsets in a padded sample must fit 32 bits.
    pub(crate) fn new(shape: &ConvShape, weight: &[f32], bias: &[f32]) -> Self {
        let &ConvShape { c_in, c_out, kh, kw, config, .. } = shape;
        let plane = shape.padded_h() * shape.padded_w();
        let (group_in, group_out) = (c_in / config.groups, c_out / config.groups);
        let mut kernel_offsets = Vec::with_capacity(group_in * kh * kw);
        for c in 0..group_in {
            for ky in 0..kh {
                for kx in 0..kw {
                    let row = ky * config.dilation.0 * shape.padded_w();
                    kernel_offsets.push((c * plane + row + kx * config.dilation.1) as u32);
                }
            }
        }
        let blocks = group_out.div_ceil(BLOCK);
        let mut packed = vec![0.0; config.groups * blocks * kernel_offsets.len() * BLOCK];
        let mut packed_bias = vec![0.0; config.groups * blocks * BLOCK];
        for o in 0..c_out {
            let (group, o_group) = (o / group_out, o % group_out);
            let (block, lane) = (group * blocks + o_group / BLOCK, o_group % BLOCK);
            packed_bias[block * BLOCK + lane] = bias[o];
            let target = &mut packed[block * kernel_offsets.len() * BLOCK..][..kernel_offsets.len() * BLOCK];
            for (offset, &w) in weight[o * kernel_offsets.len()..][..kernel_offsets.len()].iter().enumerate()
            {
                target[offset * BLOCK + lane] = w;
            }
        }
        Self {
            shape: *shape,
            window_offsets: window_offsets(shape),
            kernel_offsets,
            weights: packed,
            bias: packed_bias,
        }
    }

    /// Computes the pooled convolution of `x`. For each maximum, `argmax` receives the offset of
    /// its window in a padded channel ([`window_offsets`]).
    pub(crate) fn run(
        &self,
        x: &[f32],
        activation: Activation,
        pool: &PoolShape,
        mut argmax: Option<&mut Vec<u32>>,
    ) -> Vec<f32> {
        let shape = &self.shape;
        let pixels = pool.oh * pool.ow;
        let mut out = zeros(shape.batch * shape.c_out * pixels);
        if let Some(argmax) = &mut argmax {
            **argmax = zeros(out.len());
        }
        let group_out = shape.c_out / shape.config.groups;
        // Small batches are split by blocks of channels too; each task pads the input for
        // itself.
        let channel_blocks = 16usize.div_ceil(shape.batch).min(group_out.div_ceil(BLOCK)).min(16);
        let channels = if shape.config.groups > 1 {
            shape.c_out
        } else {
            group_out.div_ceil(BLOCK).div_ceil(channel_blocks) * BLOCK
        };
        let mut tasks = Vec::new();
        let mut outs = out.as_mut_slice();
        let mut argmax = argmax.map(|argmax| argmax.as_mut_slice());
        for sample in 0..shape.batch {
            for first in (0..shape.c_out).step_by(channels) {
                let count = channels.min(shape.c_out - first);
                let (head, tail) = outs.split_at_mut(count * pixels);
                outs = tail;
                let head_argmax = argmax.take().map(|all| {
                    let (head, tail) = all.split_at_mut(count * pixels);
                    argmax = Some(tail);
                    head
                });
                tasks.push(Channels { sample, first, count, out: head, argmax: head_argmax });
            }
        }
        let per_sample = shape.c_in * shape.h * shape.w;
        tasks.into_par_iter().for_each(|Channels { sample, first, count, out, argmax }| {
            let x = &x[sample * per_sample..][..per_sample];
            let padded = padded(shape, x);
            let input = padded.as_deref().unwrap_or(x);
            dispatch(ForwardTask { conv: self, input, first, count, pool, activation, out, argmax });
        });
        out
    }
}

/// A range of output channels of one sample, and where its results go.
struct Channels<'a> {
    sample: usize,
    first: usize,
    count: usize,
    out: &'a mut [f32],
    argmax: Option<&'a mut [u32]>,
}

/// One padded sample; `None` if there is no padding.
fn padded(shape: &ConvShape, x: &[f32]) -> Option<Scratch> {
    if shape.config.padding == Padding2d::none() {
        return None;
    }
    let Padding2d { top, left, .. } = shape.config.padding;
    let (rows, cols) = (shape.padded_h(), shape.padded_w());
    let mut padded = Scratch::dirty(shape.c_in * rows * cols);
    for (target, source) in padded.chunks_exact_mut(rows * cols).zip(x.chunks_exact(shape.h * shape.w)) {
        target[..top * cols].fill(0.0);
        target[(top + shape.h) * cols..].fill(0.0);
        for (target, source) in target[top * cols..].chunks_exact_mut(cols).zip(source.chunks_exact(shape.w))
        {
            target[..left].fill(0.0);
            target[left..left + shape.w].copy_from_slice(source);
            target[left + shape.w..].fill(0.0);
        }
    }
    Some(padded)
}

/// A range of output channels of one sample: of one group, or else all channels.
struct ForwardTask<'a> {
    conv: &'a Forward,
    /// The padded sample.
    input: &'a [f32],
    first: usize,
    count: usize,
    pool: &'a PoolShape,
    activation: Activation,
    out: &'a mut [f32],
    argmax: Option<&'a mut [u32]>,
}

impl Kernel for ForwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { conv, input, first, count, pool, activation, out, mut argmax } = self;
        let shape = &conv.shape;
        let groups = shape.config.groups;
        let group_out = shape.c_out / groups;
        let blocks = group_out.div_ceil(BLOCK);
        let plane = shape.padded_h() * shape.padded_w();
        let pixels = out.len() / count;
        let bands = bands(shape, pool);
        let longest = bands.iter().map(|band| band.positions.1 - band.positions.0).max().unwrap_or(0);
        let mut map = Scratch::dirty(longest.next_multiple_of(TILE) * BLOCK);
        let mut pooled = Scratch::dirty(pixels * BLOCK);
        let mut pooled_argmax = Scratch::dirty(pooled.len());
        let mut o = first;
        while o < first + count {
            let (group, block) = (o / group_out, o % group_out / BLOCK);
            let channels = BLOCK.min(group_out - block * BLOCK);
            let index = group * blocks + block;
            let weights = &conv.weights[index * conv.kernel_offsets.len() * BLOCK..]
                [..conv.kernel_offsets.len() * BLOCK];
            let bias = &conv.bias[index * BLOCK..][..BLOCK];
            let input = &input[group * (shape.c_in / groups) * plane..];
            for band in &bands {
                let window_offsets = &conv.window_offsets[band.positions.0..band.positions.1];
                convolve(simd, input, window_offsets, &conv.kernel_offsets, weights, bias, &mut map);
                pool_band(simd, pool, band, &map, window_offsets, &mut pooled, &mut pooled_argmax);
            }
            let range = (o - first) * pixels..(o - first + channels) * pixels;
            let size = (pixels, channels);
            transpose(simd, size, (&pooled, BLOCK), (&mut out[range.clone()], pixels));
            if let Some(argmax) = &mut argmax {
                let mut transposed = Scratch::dirty(channels * pixels);
                transpose(simd, size, (&pooled_argmax, BLOCK), (&mut transposed, pixels));
                argmax[range].iter_mut().zip(transposed.iter()).for_each(|(to, from)| *to = from.to_bits());
            }
            o += channels;
        }
        elementwise::activate::<S>(out, activation);
    }
}

/// Rows that are computed and pooled together.
struct Band {
    /// Range of positions of the convolution's map.
    positions: (usize, usize),
    /// Range of rows of the pooled map.
    pooled_rows: (usize, usize),
}

fn bands(shape: &ConvShape, pool: &PoolShape) -> Vec<Band> {
    /// Number of positions per band: 16 KiB with `BLOCK` channels.
    const POSITIONS: usize = 256;
    // Overlapping windows would have rows computed twice, unless they share a band.
    let overlap = pool.config.kernel.0 > pool.config.stride.0;
    let rows = if overlap { pool.oh } else { (POSITIONS / (pool.config.stride.0 * shape.ow)).max(1) };
    let band = |py: usize| {
        let end = (py + rows).min(pool.oh);
        let positions = (pool.rows(py).0 * shape.ow, pool.rows(end - 1).1 * shape.ow);
        Band { positions, pooled_rows: (py, end) }
    };
    (0..pool.oh).step_by(rows).map(band).collect()
}

/// Computes the convolution at `window_offsets`, for one block of channels, to `map`,
/// [position][`BLOCK`], which has space for whole tiles.
#[inline(always)]
fn convolve<S: Simd>(
    simd: S,
    input: &[f32],
    window_offsets: &[u32],
    kernel_offsets: &[u32],
    weights: &[f32],
    bias: &[f32],
    map: &mut [f32],
) {
    const { assert!(BLOCK.is_multiple_of(S::LANES)) }
    let (Some(&last_window), Some(&last_offset)) = (window_offsets.last(), kernel_offsets.last()) else {
        return;
    };
    // Both offsets are ascending, so the last ones are the largest.
    assert!(((last_window + last_offset) as usize) < input.len());
    assert!(weights.len() == kernel_offsets.len() * BLOCK && bias.len() == BLOCK);
    assert!(map.len() >= window_offsets.len().next_multiple_of(TILE) * BLOCK);
    for (tile, tile_windows) in window_offsets.chunks(TILE).enumerate() {
        // A last tile with fewer positions repeats its last one.
        let windows: [usize; TILE] =
            std::array::from_fn(|i| tile_windows[i.min(tile_windows.len() - 1)] as usize);
        // SAFETY: each window offset plus kernel offset is an index into `input`, the weights
        // and biases have `BLOCK` values each, and `map` has space for this tile, as
        // asserted.
        unsafe {
            let into = map.as_mut_ptr().add(tile * TILE * BLOCK);
            if S::LANES == BLOCK {
                sum_windows::<S, 1>(
                    simd,
                    input.as_ptr(),
                    &windows,
                    kernel_offsets,
                    weights.as_ptr(),
                    bias.as_ptr(),
                    into,
                );
            } else {
                sum_windows::<S, 2>(
                    simd,
                    input.as_ptr(),
                    &windows,
                    kernel_offsets,
                    weights.as_ptr(),
                    bias.as_ptr(),
                    into,
                );
            }
        }
    }
}

/// Computes one tile: `NV` vectors of channels at `TILE` positions.
///
/// # Safety
/// Each window offset plus each kernel offset is an index into `input`; there are `NV` vectors of
/// weights per kernel offset and `NV` of bias; `into` is valid for writes of `TILE`·`NV` vectors;
/// `NV` vectors are `BLOCK` values.
#[inline(always)]
unsafe fn sum_windows<S: Simd, const NV: usize>(
    simd: S,
    input: *const f32,
    windows: &[usize; TILE],
    kernel_offsets: &[u32],
    mut weights: *const f32,
    bias: *const f32,
    into: *mut f32,
) {
    // SAFETY: by this function's contract; `weights` advances by one kernel element per
    // iteration.
    unsafe {
        let bias: [S::V; NV] = std::array::from_fn(|v| simd.load(bias.add(v * S::LANES)));
        let mut sums = [bias; TILE];
        let inputs: [*const f32; TILE] = std::array::from_fn(|i| input.add(windows[i]));
        for &offset in kernel_offsets {
            let w: [S::V; NV] = std::array::from_fn(|v| simd.load(weights.add(v * S::LANES)));
            weights = weights.add(BLOCK);
            for i in 0..TILE {
                let x = simd.splat(*inputs[i].add(offset as usize));
                for v in 0..NV {
                    sums[i][v] = simd.mul_add(x, w[v], sums[i][v]);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                simd.store(into.add(i * BLOCK + v * S::LANES), sum);
            }
        }
    }
}

/// Writes the maxima of a band's windows to `pooled`, [position][`BLOCK`], and the bits of their
/// window offsets to `pooled_argmax`. The first of equal values wins.
#[inline(always)]
fn pool_band<S: Simd>(
    simd: S,
    pool: &PoolShape,
    band: &Band,
    map: &[f32],
    window_offsets: &[u32],
    pooled: &mut [f32],
    pooled_argmax: &mut [f32],
) {
    assert!(map.len() >= window_offsets.len() * BLOCK);
    for py in band.pooled_rows.0..band.pooled_rows.1 {
        let rows = pool.rows(py);
        for px in 0..pool.ow {
            let cols = pool.cols(px);
            let at = (py * pool.ow + px) * BLOCK;
            let (pooled, pooled_argmax) = (&mut pooled[at..at + BLOCK], &mut pooled_argmax[at..at + BLOCK]);
            let position = |y: usize, x: usize| y * pool.w + x - band.positions.0;
            for lane in (0..BLOCK).step_by(S::LANES) {
                let first = window_offsets[position(rows.0, cols.0)];
                let mut best = (simd.splat(f32::NEG_INFINITY), simd.splat(f32::from_bits(first)));
                for y in rows.0..rows.1 {
                    let row = position(y, 0);
                    for x in cols.0..cols.1 {
                        let at = simd.splat(f32::from_bits(window_offsets[row + x]));
                        // SAFETY: `window_offsets` has this position (just
                        // read), and `map` has `BLOCK` values for each.
                        let value = unsafe { simd.load(map.as_ptr().add((row + x) * BLOCK + lane)) };
                        best = simd.larger(best, (value, at));
                    }
                }
                // SAFETY: both slices have `BLOCK` values, and `lane` + `LANES` is at most `BLOCK`.
                unsafe {
                    simd.store(pooled.as_mut_ptr().add(lane), best.0);
                    simd.store(pooled_argmax.as_mut_ptr().add(lane), best.1);
                }
            }
        }
    }
}
