//! A convolution, its activation and averaging pooling of small maps, a block of samples at a time ([`super::lanes`]), so
//! that the map between and its gradient lie in the cache.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::conv_sparse::Grads;
use super::elementwise;
use super::lanes::{Convolution, Spread, WeightGrad, into_lanes, out_of_lanes, rimmed_len};
use super::pool;
use super::scratch::Scratch;
use super::simd::{Kernel, Simd, dispatch, lanes};
use crate::config::{Activation, Divisor, Padding2d};
use crate::shape::{ConvShape, PoolShape};

/// What is computed.
pub(crate) struct ConvAvg {
    pub(crate) conv: ConvShape,
    pub(crate) activation: Activation,
    pub(crate) pool: PoolShape,
    pub(crate) divisor: Divisor,
}

impl ConvAvg {
    /// Whether a block's maps fit the second-level cache.
    pub(crate) fn suits(&self) -> bool {
        /// Values: a mebibyte.
        const HELD: usize = 1 << 18;
        let maps = [self.padded_len(), self.map_len(), rimmed_len(&self.conv)];
        maps.into_iter().all(|len| len <= HELD) && maps.into_iter().sum::<usize>() * lanes() <= HELD
    }

    /// Values of one sample's padded input.
    fn padded_len(&self) -> usize {
        self.conv.c_in * self.conv.padded_h() * self.conv.padded_w()
    }

    /// Values of one sample's map.
    fn map_len(&self) -> usize {
        self.conv.c_out * self.conv.oh * self.conv.ow
    }

    /// Values of one sample.
    fn sample_len(&self) -> usize {
        self.conv.c_in * self.conv.h * self.conv.w
    }

    /// The means, and the map between, block by block, for the backward pass.
    pub(crate) fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> (Vec<f32>, Buffer) {
        let (batch, lanes, pooled) = (self.conv.batch, lanes(), self.pool.sample_len());
        let convolution = Convolution::forward(&self.conv, weight);
        let scales = pool::scales(&self.pool, self.divisor);
        let mut map = Buffer::dirty(batch.div_ceil(lanes) * lanes * self.map_len());
        let mut y = vec![0.0; batch * pooled];
        let blocks = y.par_chunks_mut(lanes * pooled).zip(map.par_chunks_exact_mut(lanes * self.map_len()));
        blocks.zip(x.par_chunks(lanes * self.sample_len())).for_each(|((y, map), x)| {
            let (convolution, scales) = (&convolution, &scales);
            dispatch(Forward { of: self, convolution, bias, scales, x, map, y });
        });
        (y, map)
    }

    /// Gradients from that of the means; sums over samples are taken in the order of their blocks.
    pub(crate) fn backward(
        &self,
        x: &[f32],
        weight: &[f32],
        map: &[f32],
        grad: &[f32],
        wants_x: bool,
        wants_weight: bool,
    ) -> Grads {
        let (lanes, sample, pooled) = (lanes(), self.sample_len(), self.pool.sample_len());
        let scales = pool::scales(&self.pool, self.divisor);
        let spread = if wants_x { Spread::rimmed(&self.conv) } else { Spread::plain(&self.conv) };
        let for_x = wants_x.then(|| Convolution::x_grad(&self.conv, weight));
        let for_weight = wants_weight.then(|| WeightGrad::new(&self.conv, &spread));
        let mut x_grad = if wants_x { vec![0.0; x.len()] } else { Vec::new() };
        let x_grads: Vec<&mut [f32]> = if wants_x {
            x_grad.chunks_mut(lanes * sample).collect()
        } else {
            grad.chunks(lanes * pooled).map(|_| Default::default()).collect()
        };
        let blocks =
            x_grads.into_par_iter().zip(x.par_chunks(lanes * sample)).zip(grad.par_chunks(lanes * pooled));
        let parts: Vec<(Vec<f32>, Vec<f32>)> = blocks
            .zip(map.par_chunks_exact(lanes * self.map_len()))
            .map(|(((x_grad, x), grad), map)| {
                let (for_x, for_weight) = (for_x.as_ref(), for_weight.as_ref());
                let (scales, spread) = (&scales, &spread);
                dispatch(Backward { of: self, scales, spread, for_x, for_weight, x, map, grad, x_grad })
            })
            .collect();
        let mut parts = parts.into_iter();
        let (mut weight, mut bias) = parts.next().unwrap_or_default();
        for (weight_part, bias_part) in parts {
            elementwise::add(&mut weight, &weight_part);
            elementwise::add(&mut bias, &bias_part);
        }
        Grads { x: wants_x.then_some(x_grad), weight: wants_weight.then_some(weight), bias }
    }

    /// The pixels of a map that a mean is taken over, row by row.
    #[inline(always)]
    fn window(&self, py: usize, px: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (w, rows, cols) = (self.pool.w, self.pool.rows(py), self.pool.cols(px));
        (rows.0..rows.1).map(move |y| y * w + cols.0..y * w + cols.1)
    }
}

/// The means of a block.
struct Forward<'a> {
    of: &'a ConvAvg,
    convolution: &'a Convolution,
    bias: &'a [f32],
    scales: &'a [f32],
    x: &'a [f32],
    map: &'a mut [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { of, convolution, bias, scales, x, map, y } = self;
        let &ConvAvg { conv, activation, pool, .. } = of;
        let mut padded = Scratch::dirty(of.padded_len() * S::LANES);
        into_lanes(simd, x, (conv.c_in, conv.h, conv.w), conv.config.padding, &mut padded);
        convolution.run(simd, &padded, Some(bias), map);
        let mut means = Scratch::dirty(pool.sample_len() * S::LANES);
        let planes = map.chunks_exact_mut(pool.h * pool.w * S::LANES);
        for (plane, means) in planes.zip(means.chunks_exact_mut(pool.oh * pool.ow * S::LANES)) {
            elementwise::activate(plane, activation);
            for (index, (mean, &scale)) in means.chunks_exact_mut(S::LANES).zip(scales).enumerate() {
                let mut sum = simd.splat(0.0);
                for pixels in of.window(index / pool.ow, index % pool.ow) {
                    let row = &plane[pixels.start * S::LANES..pixels.end * S::LANES];
                    for value in row.chunks_exact(S::LANES) {
                        // SAFETY: `value` has `LANES` values.
                        sum = simd.add(sum, unsafe { simd.load(value.as_ptr()) });
                    }
                }
                let sum = simd.mul_add(sum, simd.splat(scale), simd.splat(0.0));
                // SAFETY: `mean` has room for `LANES` values.
                unsafe { simd.store(mean.as_mut_ptr(), sum) };
            }
        }
        out_of_lanes(simd, &means, y);
    }
}

/// The gradients of a block: that for its input over `x_grad`, if it is asked for.
struct Backward<'a> {
    of: &'a ConvAvg,
    scales: &'a [f32],
    spread: &'a Spread,
    for_x: Option<&'a Convolution>,
    for_weight: Option<&'a WeightGrad>,
    x: &'a [f32],
    map: &'a [f32],
    grad: &'a [f32],
    x_grad: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    /// The weights' if they are asked for, and the bias's.
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (Vec<f32>, Vec<f32>) {
        let Self { of, scales, spread, for_x, for_weight, x, map, grad, x_grad } = self;
        let &ConvAvg { conv, activation, pool, .. } = of;
        let mut means = Scratch::dirty(pool.sample_len() * S::LANES);
        into_lanes(simd, grad, (pool.channels, pool.oh, pool.ow), Padding2d::none(), &mut means);
        let mut slopes = Scratch::dirty(conv.c_out * spread.plane() * S::LANES);
        let mut held = Scratch::dirty(pool.h * pool.w * S::LANES);
        let mut bias = Vec::with_capacity(conv.c_out);
        let channels = slopes
            .chunks_exact_mut(spread.plane() * S::LANES)
            .zip(map.chunks_exact(held.len()))
            .zip(means.chunks_exact(pool.oh * pool.ow * S::LANES));
        for ((slopes, map), means) in channels {
            held.fill(0.0);
            for (index, (mean, &scale)) in means.chunks_exact(S::LANES).zip(scales).enumerate() {
                // SAFETY: `mean` has `LANES` values.
                let share = unsafe { simd.load(mean.as_ptr()) };
                let share = simd.mul_add(share, simd.splat(scale), simd.splat(0.0));
                for pixels in of.window(index / pool.ow, index % pool.ow) {
                    let row = &mut held[pixels.start * S::LANES..pixels.end * S::LANES];
                    for slope in row.chunks_exact_mut(S::LANES) {
                        // SAFETY: `slope` has `LANES` values.
                        unsafe {
                            let sum = simd.add(simd.load(slope.as_ptr()), share);
                            simd.store(slope.as_mut_ptr(), sum);
                        }
                    }
                }
            }
            elementwise::activation_grad_in_place(&mut held, map, activation);
            bias.push(elementwise::sum(&held));
            slopes.fill(0.0);
            spread.put::<S>(&held, slopes);
        }
        let mut weight = Vec::new();
        if let Some(for_weight) = for_weight {
            let mut padded = Scratch::dirty(of.padded_len() * S::LANES);
            into_lanes(simd, x, (conv.c_in, conv.h, conv.w), conv.config.padding, &mut padded);
            let mut room = Scratch::dirty(for_weight.room(S::LANES));
            weight = for_weight.run(simd, &padded, &slopes, &mut room);
        }
        if let Some(for_x) = for_x {
            let mut block = Scratch::dirty(of.sample_len() * S::LANES);
            for_x.run(simd, &slopes, None, &mut block);
            out_of_lanes(simd, &block, x_grad);
        }
        (weight, bias)
    }
}
