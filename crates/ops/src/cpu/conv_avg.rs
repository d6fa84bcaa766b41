//! A convolution, its activation and averaging pooling, some samples at a time, so that the map between and its
//! gradient lie in the cache.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::conv_product::{self, Packed};
use super::conv_sparse::Grads;
use super::elementwise;
use super::pool::{self, MeansOf, ShareOut};
use super::simd::{Kernel, Simd, dispatch};
use super::source::Source;
use crate::config::{Activation, Divisor};
use crate::shape::{ConvShape, PoolShape};

/// What is computed.
pub(crate) struct ConvAvg {
    pub(crate) conv: ConvShape,
    pub(crate) activation: Activation,
    pub(crate) pool: PoolShape,
    pub(crate) divisor: Divisor,
}

impl ConvAvg {
    /// Samples that go together.
    fn together(&self) -> usize {
        /// Values of the map between.
        const VALUES: usize = 1 << 16;
        (VALUES / self.map_len()).clamp(1, self.conv.batch.div_ceil(16))
    }

    /// Values of one sample's map.
    fn map_len(&self) -> usize {
        self.conv.c_out * self.conv.oh * self.conv.ow
    }

    /// The means, and the map between for the backward pass.
    pub(crate) fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> (Vec<f32>, Buffer) {
        let ConvShape { batch, c_in, h, w, c_out, .. } = self.conv;
        let (n, pooled) = (self.together(), c_out * self.pool.oh * self.pool.ow);
        let packed = Packed::new(&self.conv, weight, None);
        let scales = pool::scales(&self.pool, self.divisor);
        let mut map = Buffer::dirty(batch * self.map_len());
        let mut y = vec![0.0; batch * pooled];
        let pieces = y.par_chunks_mut(n * pooled).zip(map.par_chunks_mut(n * self.map_len()));
        pieces.zip(x.par_chunks(n * c_in * h * w)).for_each(|((y, map), x)| {
            packed.forward(Source::plain(x), Some(bias), self.activation, map);
            dispatch(Means { of: self, scales: &scales, map, y });
        });
        (y, map)
    }

    /// Gradients from that of the means; sums over samples are taken in the order of their pieces.
    pub(crate) fn backward(
        &self,
        x: &[f32],
        weight: &[f32],
        map: &[f32],
        grad: &[f32],
        wants_x: bool,
        wants_weight: bool,
    ) -> Grads {
        let ConvShape { c_in, h, w, c_out, .. } = self.conv;
        let (n, pooled) = (self.together(), c_out * self.pool.oh * self.pool.ow);
        let sample = c_in * h * w;
        let scales = pool::scales(&self.pool, self.divisor);
        let mut x_grad = if wants_x { vec![0.0; x.len()] } else { Vec::new() };
        let x_grads: Vec<&mut [f32]> = if wants_x {
            x_grad.chunks_mut(n * sample).collect()
        } else {
            grad.chunks(n * pooled).map(|_| Default::default()).collect()
        };
        let pieces = x_grads.into_par_iter().zip(x.par_chunks(n * sample)).zip(grad.par_chunks(n * pooled));
        let parts: Vec<(Vec<f32>, Vec<f32>)> = pieces
            .zip(map.par_chunks(n * self.map_len()))
            .map(|(((x_grad, x), grad), map)| {
                let mut slopes = Buffer::dirty(map.len());
                let bias = dispatch(Slopes { of: self, scales: &scales, map, grad, slopes: &mut slopes });
                let shape = ConvShape { batch: x.len() / sample, ..self.conv };
                if wants_x {
                    conv_product::x_grad(&shape, weight, &slopes, x_grad);
                }
                let weight = if wants_weight {
                    conv_product::weight_grad(&shape, Source::plain(x), &slopes)
                } else {
                    Vec::new()
                };
                (weight, bias)
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
}

/// The means of some samples' maps.
struct Means<'a> {
    of: &'a ConvAvg,
    scales: &'a [f32],
    map: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Means<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { of: ConvAvg { pool, .. }, scales, map, y } = self;
        for (plane, out) in map.chunks_exact(pool.h * pool.w).zip(y.chunks_exact_mut(pool.oh * pool.ow)) {
            MeansOf { shape: pool, scales, plane, out }.run(simd);
        }
    }
}

/// The gradients of some samples' convolutions, from those of the means.
struct Slopes<'a> {
    of: &'a ConvAvg,
    scales: &'a [f32],
    map: &'a [f32],
    grad: &'a [f32],
    slopes: &'a mut [f32],
}

impl Kernel for Slopes<'_> {
    /// The bias's gradient.
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { of: ConvAvg { conv, pool, activation, .. }, scales, map, grad, slopes } = self;
        let mut bias = vec![0.0; conv.c_out];
        let (size, pooled) = (pool.h * pool.w, pool.oh * pool.ow);
        let planes = slopes.chunks_exact_mut(size).zip(map.chunks_exact(size));
        for (index, ((plane, map), grad)) in planes.zip(grad.chunks_exact(pooled)).enumerate() {
            plane.fill(0.0);
            ShareOut { shape: pool, scales, grad, plane: &mut *plane }.run(simd);
            elementwise::activation_grad_in_place(plane, map, *activation);
            bias[index % conv.c_out] += elementwise::sum(plane);
        }
        bias
    }
}
