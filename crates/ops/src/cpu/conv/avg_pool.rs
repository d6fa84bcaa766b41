//! A convolution, its activation and average pooling, forward and backward, for small maps.
//!
//! A block of samples is processed at a time ([`super::batch_lanes`]), so that the map between and
//! its gradient stay in the cache.

use rayon::prelude::*;

use super::batch_lanes::{GradLayout, LaneConv, WeightGrad, from_lanes, to_lanes};
use crate::config::{Activation, PadCounting, Padding2d};
use crate::cpu::WeightedGrads;
use crate::cpu::elementwise;
use crate::cpu::memory::buffer::Buffer;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::pool;
use crate::cpu::simd::{Kernel, Simd, dispatch, lanes};
use crate::shape::{ConvShape, PoolShape};

/// The shapes and settings of the op.
pub(crate) struct ConvAvgPool {
    pub(crate) conv: ConvShape,
    pub(crate) activation: Activation,
    pub(crate) pool: PoolShape,
    pub(crate) counting: PadCounting,
}

impl ConvAvgPool {
    /// Computes the means and, for the backward pass, the activated map between, block by block.
    pub(crate) fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> (Vec<f32>, Buffer) {
        let (batch, lanes, pooled) = (self.conv.batch, lanes(), self.pool.sample_len());
        let convolution = LaneConv::forward(&self.conv, weight);
        let scales = pool::scales(&self.pool, self.counting);
        let mut map = Buffer::dirty(batch.div_ceil(lanes) * lanes * self.conv.output_sample_len());
        let mut y = vec![0.0; batch * pooled];
        let blocks = y
            .par_chunks_mut(lanes * pooled)
            .zip(map.par_chunks_exact_mut(lanes * self.conv.output_sample_len()));
        blocks.zip(x.par_chunks(lanes * self.conv.input_sample_len())).for_each(|((y, map), x)| {
            let (convolution, scales) = (&convolution, &scales);
            dispatch(Forward { op: self, convolution, bias, scales, x, map, y });
        });
        (y, map)
    }

    /// Computes the gradients from that of the means. Sums over samples are taken in the order of
    /// their blocks.
    pub(crate) fn backward(
        &self,
        x: &[f32],
        weight: &[f32],
        map: &[f32],
        grad: &[f32],
        wants_x: bool,
        wants_weight: bool,
    ) -> WeightedGrads {
        let (lanes, sample, pooled) = (lanes(), self.conv.input_sample_len(), self.pool.sample_len());
        let scales = pool::scales(&self.pool, self.counting);
        let layout = if wants_x { GradLayout::dilated(&self.conv) } else { GradLayout::dense(&self.conv) };
        let for_x = wants_x.then(|| LaneConv::input_grad(&self.conv, weight));
        let for_weight = wants_weight.then(|| WeightGrad::new(&self.conv, &layout));
        let mut input_grad = if wants_x { vec![0.0; x.len()] } else { Vec::new() };
        let input_grads: Vec<&mut [f32]> = if wants_x {
            input_grad.chunks_mut(lanes * sample).collect()
        } else {
            grad.chunks(lanes * pooled).map(|_| Default::default()).collect()
        };
        let blocks = input_grads
            .into_par_iter()
            .zip(x.par_chunks(lanes * sample))
            .zip(grad.par_chunks(lanes * pooled));
        let parts: Vec<(Vec<f32>, Vec<f32>)> = blocks
            .zip(map.par_chunks_exact(lanes * self.conv.output_sample_len()))
            .map(|(((input_grad, x), grad), map)| {
                let (for_x, for_weight) = (for_x.as_ref(), for_weight.as_ref());
                let (scales, layout) = (&scales, &layout);
                dispatch(Backward { op: self, scales, layout, for_x, for_weight, x, map, grad, input_grad })
            })
            .collect();
        let mut parts = parts.into_iter();
        let (mut weight, mut bias) = parts.next().unwrap_or_default();
        for (weight_part, bias_part) in parts {
            elementwise::add(&mut weight, &weight_part);
            elementwise::add(&mut bias, &bias_part);
        }
        WeightedGrads {
            x: wants_x.then_some(input_grad),
            weight: wants_weight.then_some(weight),
            bias: Some(bias),
        }
    }

    /// The ranges of pixels of a map that a mean is taken over, row by row.
    #[inline(always)]
    fn window(&self, py: usize, px: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (w, rows, cols) = (self.pool.w, self.pool.rows(py), self.pool.cols(px));
        (rows.0..rows.1).map(move |y| y * w + cols.0..y * w + cols.1)
    }
}

/// The forward pass of a block.
struct Forward<'a> {
    op: &'a ConvAvgPool,
    convolution: &'a LaneConv,
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
        let Self { op, convolution, bias, scales, x, map, y } = self;
        let &ConvAvgPool { conv, activation, pool, .. } = op;
        let mut padded = Scratch::dirty(op.conv.padded_sample_len() * S::LANES);
        to_lanes(simd, x, (conv.c_in, conv.h, conv.w), conv.config.padding, &mut padded);
        convolution.run(simd, &padded, Some(bias), map);
        let mut means = Scratch::dirty(pool.sample_len() * S::LANES);
        let planes = map.chunks_exact_mut(pool.h * pool.w * S::LANES);
        for (plane, means) in planes.zip(means.chunks_exact_mut(pool.oh * pool.ow * S::LANES)) {
            elementwise::activate::<S>(plane, activation);
            for (index, (mean, &scale)) in means.chunks_exact_mut(S::LANES).zip(scales).enumerate() {
                let mut sum = simd.splat(0.0);
                for pixels in op.window(index / pool.ow, index % pool.ow) {
                    let row = &plane[pixels.start * S::LANES..pixels.end * S::LANES];
                    for value in row.chunks_exact(S::LANES) {
                        // SAFETY: `value` has `LANES` values.
                        sum = simd.add(sum, unsafe { simd.load(value.as_ptr()) });
                    }
                }
                let sum = simd.mul_add(sum, simd.splat(scale), simd.splat(0.0));
                // SAFETY: `mean` has scratch for `LANES` values.
                unsafe { simd.store(mean.as_mut_ptr(), sum) };
            }
        }
        from_lanes(simd, &means, y);
    }
}

/// The backward pass of a block; the input's gradient is written if it is requested.
struct Backward<'a> {
    op: &'a ConvAvgPool,
    scales: &'a [f32],
    layout: &'a GradLayout,
    for_x: Option<&'a LaneConv>,
    for_weight: Option<&'a WeightGrad>,
    x: &'a [f32],
    map: &'a [f32],
    grad: &'a [f32],
    input_grad: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    /// Gradients of the weights (empty unless requested) and of the bias.
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (Vec<f32>, Vec<f32>) {
        let Self { op, scales, layout, for_x, for_weight, x, map, grad, input_grad } = self;
        let &ConvAvgPool { conv, activation, pool, .. } = op;
        let mut means = Scratch::dirty(pool.sample_len() * S::LANES);
        to_lanes(simd, grad, (pool.channels, pool.oh, pool.ow), Padding2d::none(), &mut means);
        let mut grad_output = Scratch::dirty(conv.c_out * layout.plane() * S::LANES);
        let mut plane_grad = Scratch::dirty(pool.h * pool.w * S::LANES);
        let mut bias = Vec::with_capacity(conv.c_out);
        let channels = grad_output
            .chunks_exact_mut(layout.plane() * S::LANES)
            .zip(map.chunks_exact(plane_grad.len()))
            .zip(means.chunks_exact(pool.oh * pool.ow * S::LANES));
        for ((grad_output, map), means) in channels {
            plane_grad.fill(0.0);
            for (index, (mean, &scale)) in means.chunks_exact(S::LANES).zip(scales).enumerate() {
                // SAFETY: `mean` has `LANES` values.
                let share = unsafe { simd.load(mean.as_ptr()) };
                let share = simd.mul_add(share, simd.splat(scale), simd.splat(0.0));
                for pixels in op.window(index / pool.ow, index % pool.ow) {
                    let row = &mut plane_grad[pixels.start * S::LANES..pixels.end * S::LANES];
                    for grad in row.chunks_exact_mut(S::LANES) {
                        // SAFETY: `grad` has `LANES` values.
                        unsafe {
                            let sum = simd.add(simd.load(grad.as_ptr()), share);
                            simd.store(grad.as_mut_ptr(), sum);
                        }
                    }
                }
            }
            elementwise::activation_grad_in_place(&mut plane_grad, map, activation);
            bias.push(elementwise::sum(&plane_grad));
            grad_output.fill(0.0);
            layout.scatter::<S>(&plane_grad, grad_output);
        }
        let mut weight = Vec::new();
        if let Some(for_weight) = for_weight {
            let mut padded = Scratch::dirty(op.conv.padded_sample_len() * S::LANES);
            to_lanes(simd, x, (conv.c_in, conv.h, conv.w), conv.config.padding, &mut padded);
            let mut scratch = Scratch::dirty(for_weight.scratch_len(S::LANES));
            weight = for_weight.run(simd, &padded, &grad_output, &mut scratch);
        }
        if let Some(for_x) = for_x {
            let mut block = Scratch::dirty(op.conv.input_sample_len() * S::LANES);
            for_x.run(simd, &grad_output, None, &mut block);
            from_lanes(simd, &block, input_grad);
        }
        (weight, bias)
    }
}
