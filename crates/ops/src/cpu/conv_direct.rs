//! The forward pass of a convolution with bias, max pooling and activation, without unfolding the input.
//!
//! A tile of output positions by a block of output channels stays in registers while all taps are summed: the
//! input's values are broadcast, the weights lie packed in blocks of channels. Positions are taken in the order of
//! the map, across rows, each with its own place in the padded input, so that any stride, dilation and width runs
//! full tiles. A band of rows is pooled while it is in the cache and never written.

use rayon::prelude::*;

use super::buffer::zeros;
use super::elementwise;
use super::scratch::Scratch;
use super::simd::{Kernel, Simd, dispatch, transpose};
use crate::config::{Activation, Padding2d};
use crate::shape::{ConvShape, PoolShape};

/// Output channels that are computed together.
pub(crate) const BLOCK: usize = 16;
/// Output positions that are computed together.
const TILE: usize = 6;

/// Where things are: the same for every sample.
pub(crate) struct Plan {
    shape: ConvShape,
    /// Place of each tap (c, ky, kx) of a group in the padded input, from the group's first channel.
    taps: Vec<u32>,
    /// Place of each output position's first tap in a padded channel.
    pub(crate) starts: Vec<u32>,
    /// [group][block][tap][`BLOCK`], zeros where the last block of a group has no channel.
    weights: Vec<f32>,
    /// [group][block][`BLOCK`]
    bias: Vec<f32>,
}

/// The place of every output position's first tap in a padded channel.
pub(crate) fn starts(shape: &ConvShape) -> Vec<u32> {
    let (sh, sw) = shape.config.stride;
    let row = shape.padded_w();
    (0..shape.oh).flat_map(|y| (0..shape.ow).map(move |x| (y * sh * row + x * sw) as u32)).collect()
}

/// Whether all places in a padded sample fit 32 bits.
pub(crate) fn is_in_reach(shape: &ConvShape) -> bool {
    u32::try_from(shape.c_in * shape.padded_h() * shape.padded_w()).is_ok()
}

impl Plan {
    /// Of a shape that [`is_in_reach`].
    pub(crate) fn new(shape: &ConvShape, weight: &[f32], bias: &[f32]) -> Self {
        let &ConvShape { c_in, c_out, kh, kw, config, .. } = shape;
        let plane = shape.padded_h() * shape.padded_w();
        let (group_in, group_out) = (c_in / config.groups, c_out / config.groups);
        let mut taps = Vec::with_capacity(group_in * kh * kw);
        for c in 0..group_in {
            for ky in 0..kh {
                for kx in 0..kw {
                    let row = ky * config.dilation.0 * shape.padded_w();
                    taps.push((c * plane + row + kx * config.dilation.1) as u32);
                }
            }
        }
        let blocks = group_out.div_ceil(BLOCK);
        let mut packed = vec![0.0; config.groups * blocks * taps.len() * BLOCK];
        let mut packed_bias = vec![0.0; config.groups * blocks * BLOCK];
        for o in 0..c_out {
            let (group, o_group) = (o / group_out, o % group_out);
            let (block, lane) = (group * blocks + o_group / BLOCK, o_group % BLOCK);
            packed_bias[block * BLOCK + lane] = bias[o];
            let target = &mut packed[block * taps.len() * BLOCK..][..taps.len() * BLOCK];
            for (tap, &w) in weight[o * taps.len()..][..taps.len()].iter().enumerate() {
                target[tap * BLOCK + lane] = w;
            }
        }
        Self { shape: *shape, starts: starts(shape), taps, weights: packed, bias: packed_bias }
    }

    /// The maxima of the convolution of `x`. `places`, where given, takes for each maximum the
    /// place of its first tap in a padded channel ([`Plan::starts`]).
    pub(crate) fn forward(
        &self,
        x: &[f32],
        activation: Activation,
        pool: &PoolShape,
        mut places: Option<&mut Vec<u32>>,
    ) -> Vec<f32> {
        let shape = &self.shape;
        let pixels = pool.oh * pool.ow;
        let mut out = zeros(shape.batch * shape.c_out * pixels);
        if let Some(places) = &mut places {
            **places = zeros(out.len());
        }
        let group_out = shape.c_out / shape.config.groups;
        // A small batch is split by blocks of channels too; each piece pads the input for itself.
        let pieces = 16usize.div_ceil(shape.batch).min(group_out.div_ceil(BLOCK)).min(16);
        let channels = if shape.config.groups > 1 {
            shape.c_out
        } else {
            group_out.div_ceil(BLOCK).div_ceil(pieces) * BLOCK
        };
        let mut tasks = Vec::new();
        let mut outs = out.as_mut_slice();
        let mut places = places.map(|places| places.as_mut_slice());
        for sample in 0..shape.batch {
            for first in (0..shape.c_out).step_by(channels) {
                let count = channels.min(shape.c_out - first);
                let (head, tail) = outs.split_at_mut(count * pixels);
                outs = tail;
                let head_places = places.take().map(|all| {
                    let (head, tail) = all.split_at_mut(count * pixels);
                    places = Some(tail);
                    head
                });
                tasks.push((sample, first, count, head, head_places));
            }
        }
        let per_sample = shape.c_in * shape.h * shape.w;
        tasks.into_par_iter().for_each(|(sample, first, count, out, places)| {
            let x = &x[sample * per_sample..][..per_sample];
            let padded = padded(shape, x);
            let input = padded.as_deref().unwrap_or(x);
            dispatch(Piece { plan: self, input, first, count, pool, activation, out, places });
        });
        out
    }
}

/// One sample with its rim of zeros, channel after channel; `None` where there is no rim.
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

/// Some output channels of one sample, all of one group or else all channels.
struct Piece<'a> {
    plan: &'a Plan,
    /// The padded sample.
    input: &'a [f32],
    first: usize,
    count: usize,
    pool: &'a PoolShape,
    activation: Activation,
    out: &'a mut [f32],
    places: Option<&'a mut [u32]>,
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { plan, input, first, count, pool, activation, out, mut places } = self;
        let shape = &plan.shape;
        let groups = shape.config.groups;
        let group_out = shape.c_out / groups;
        let blocks = group_out.div_ceil(BLOCK);
        let plane = shape.padded_h() * shape.padded_w();
        let pixels = out.len() / count;
        let bands = bands(shape, pool);
        let longest = bands.iter().map(|band| band.positions.1 - band.positions.0).max().unwrap_or(0);
        let mut map = Scratch::dirty(longest.next_multiple_of(TILE) * BLOCK);
        let mut pooled = Scratch::dirty(pixels * BLOCK);
        let mut pooled_at = Scratch::dirty(pooled.len());
        let mut o = first;
        while o < first + count {
            let (group, block) = (o / group_out, o % group_out / BLOCK);
            let channels = BLOCK.min(group_out - block * BLOCK);
            let index = group * blocks + block;
            let weights = &plan.weights[index * plan.taps.len() * BLOCK..][..plan.taps.len() * BLOCK];
            let bias = &plan.bias[index * BLOCK..][..BLOCK];
            let input = &input[group * (shape.c_in / groups) * plane..];
            for band in &bands {
                let starts = &plan.starts[band.positions.0..band.positions.1];
                convolve(simd, input, starts, &plan.taps, weights, bias, &mut map);
                pool_band(simd, pool, band, &map, starts, &mut pooled, &mut pooled_at);
            }
            let range = (o - first) * pixels..(o - first + channels) * pixels;
            let size = (pixels, channels);
            transpose(simd, size, (&pooled, BLOCK), (&mut out[range.clone()], pixels));
            if let Some(places) = &mut places {
                let mut turned = Scratch::dirty(channels * pixels);
                transpose(simd, size, (&pooled_at, BLOCK), (&mut turned, pixels));
                places[range].iter_mut().zip(turned.iter()).for_each(|(to, from)| *to = from.to_bits());
            }
            o += channels;
        }
        elementwise::activate(out, activation);
    }
}

/// Rows that are computed together.
struct Band {
    /// Positions of the convolution's map, half-open.
    positions: (usize, usize),
    /// Rows of the pooled map, half-open.
    pooled_rows: (usize, usize),
}

fn bands(shape: &ConvShape, pool: &PoolShape) -> Vec<Band> {
    /// Positions per band: with `BLOCK` channels, 16 KiB.
    const POSITIONS: usize = 256;
    // Windows that overlap would have rows computed twice, unless they share a band.
    let overlap = pool.config.kernel.0 > pool.config.stride.0;
    let rows = if overlap { pool.oh } else { (POSITIONS / (pool.config.stride.0 * shape.ow)).max(1) };
    let band = |py: usize| {
        let end = (py + rows).min(pool.oh);
        let positions = (pool.rows(py).0 * shape.ow, pool.rows(end - 1).1 * shape.ow);
        Band { positions, pooled_rows: (py, end) }
    };
    (0..pool.oh).step_by(rows).map(band).collect()
}

/// The convolution at `starts`, for one block of channels, into `map`, [position][`BLOCK`]; `map` has room for
/// whole tiles.
#[inline(always)]
fn convolve<S: Simd>(
    simd: S,
    input: &[f32],
    starts: &[u32],
    taps: &[u32],
    weights: &[f32],
    bias: &[f32],
    map: &mut [f32],
) {
    const { assert!(BLOCK.is_multiple_of(S::LANES)) }
    let (Some(&last_start), Some(&last_tap)) = (starts.last(), taps.last()) else { return };
    // Starts and taps rise, so these are the furthest.
    assert!(((last_start + last_tap) as usize) < input.len());
    assert!(weights.len() == taps.len() * BLOCK && bias.len() == BLOCK);
    assert!(map.len() >= starts.len().next_multiple_of(TILE) * BLOCK);
    for (tile, tile_starts) in starts.chunks(TILE).enumerate() {
        // A last tile with fewer positions computes its last one again.
        let places: [usize; TILE] =
            std::array::from_fn(|i| tile_starts[i.min(tile_starts.len() - 1)] as usize);
        // SAFETY: every place + tap lies in `input`, the weights and biases have `BLOCK` values each and `map` room
        // for this tile, as asserted above.
        unsafe {
            let into = map.as_mut_ptr().add(tile * TILE * BLOCK);
            if S::LANES == BLOCK {
                sum_taps::<S, 1>(simd, input.as_ptr(), &places, taps, weights.as_ptr(), bias.as_ptr(), into);
            } else {
                sum_taps::<S, 2>(simd, input.as_ptr(), &places, taps, weights.as_ptr(), bias.as_ptr(), into);
            }
        }
    }
}

/// One tile: `NV` vectors of channels at `TILE` positions.
///
/// # Safety
/// Each place plus each tap is an index into `input`; there are `NV` vectors of weights per tap, and `NV` of bias;
/// `into` has room for `TILE`·`NV` vectors; `NV` vectors are `BLOCK` values.
#[inline(always)]
unsafe fn sum_taps<S: Simd, const NV: usize>(
    simd: S,
    input: *const f32,
    places: &[usize; TILE],
    taps: &[u32],
    mut weights: *const f32,
    bias: *const f32,
    into: *mut f32,
) {
    // SAFETY: by this function's contract; `weights` moves one tap further in each round.
    unsafe {
        let bias: [S::V; NV] = std::array::from_fn(|v| simd.load(bias.add(v * S::LANES)));
        let mut sums = [bias; TILE];
        let inputs: [*const f32; TILE] = std::array::from_fn(|i| input.add(places[i]));
        for &tap in taps {
            let w: [S::V; NV] = std::array::from_fn(|v| simd.load(weights.add(v * S::LANES)));
            weights = weights.add(BLOCK);
            for i in 0..TILE {
                let x = simd.splat(*inputs[i].add(tap as usize));
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

/// The maxima of a band's windows into `pooled`, [position][`BLOCK`], and the bits of their places into
/// `pooled_at`. The first of equals wins.
#[inline(always)]
fn pool_band<S: Simd>(
    simd: S,
    pool: &PoolShape,
    band: &Band,
    map: &[f32],
    starts: &[u32],
    pooled: &mut [f32],
    pooled_at: &mut [f32],
) {
    assert!(map.len() >= starts.len() * BLOCK);
    for py in band.pooled_rows.0..band.pooled_rows.1 {
        let rows = pool.rows(py);
        for px in 0..pool.ow {
            let cols = pool.cols(px);
            let at = (py * pool.ow + px) * BLOCK;
            let (pooled, pooled_at) = (&mut pooled[at..at + BLOCK], &mut pooled_at[at..at + BLOCK]);
            let position = |y: usize, x: usize| y * pool.w + x - band.positions.0;
            for lane in (0..BLOCK).step_by(S::LANES) {
                let first = starts[position(rows.0, cols.0)];
                let mut best = (simd.splat(f32::NEG_INFINITY), simd.splat(f32::from_bits(first)));
                for y in rows.0..rows.1 {
                    let row = position(y, 0);
                    for x in cols.0..cols.1 {
                        let at = simd.splat(f32::from_bits(starts[row + x]));
                        // SAFETY: `starts` has this position (just read), and `map` has `BLOCK` values for each.
                        let value = unsafe { simd.load(map.as_ptr().add((row + x) * BLOCK + lane)) };
                        best = simd.larger(best, (value, at));
                    }
                }
                // SAFETY: both slices have `BLOCK` values, and `lane` + `LANES` is at most `BLOCK`.
                unsafe {
                    simd.store(pooled.as_mut_ptr().add(lane), best.0);
                    simd.store(pooled_at.as_mut_ptr().add(lane), best.1);
                }
            }
        }
    }
}
