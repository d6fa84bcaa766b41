//! Layer normalization: y = γ·(x − mean) / √(var + ε) + β over the features of each row or pixel, and gradients.

use super::WeightedGrads;
use super::batch_norm::Moments;
use super::memory::buffer::filled_with;
use super::norm::{Norm, NormSums};
use super::simd::{Kernel, Simd, dispatch};

/// Number of interleaved sums.
const RUNS: usize = 32;
/// Number of pixels that are normalized together.
const PIXELS: usize = 64;
/// Number of channels whose terms are summed before they are added to a longer sum.
const CHANNELS: usize = 32;

/// Layer normalization of maps [sample][feature][pixel], where rows are maps of one pixel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerNorm {
    pub(crate) features: usize,
    pub(crate) pixels: usize,
    pub(crate) epsilon: f64,
}

impl LayerNorm {
    /// Number of values per task.
    fn task_len(&self) -> usize {
        /// Enough to hide the cost of a task.
        const VALUES: usize = 1 << 14;
        let sample = self.features * self.pixels;
        sample * (VALUES / sample).max(1)
    }
}

impl Norm for LayerNorm {
    const NAME: &'static str = "layer_norm";

    fn forward(&self, x: &[f32], gamma: &[f32], beta: &[f32]) -> Vec<f32> {
        let len = self.task_len();
        let fill = |index: usize, y: &mut [f32]| {
            dispatch(Forward { norm: *self, x: &x[index * len..][..y.len()], gamma, beta, y });
        };
        filled_with(x.len(), len, fill).0
    }

    fn backward(&self, x: &[f32], gamma: &[f32], grad: &[f32]) -> WeightedGrads {
        let len = self.task_len();
        let fill = |index: usize, x_grad: &mut [f32]| {
            let range = index * len..index * len + x_grad.len();
            dispatch(Backward { norm: *self, x: &x[range.clone()], gamma, grad: &grad[range], x_grad })
        };
        let (x_grad, parts) = filled_with(x.len(), len, fill);
        NormSums::grads(&parts, self.features, x_grad)
    }
}

struct Forward<'a> {
    norm: LayerNorm,
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { norm: LayerNorm { features, pixels, epsilon }, x, gamma, beta, y } = self;
        let len = features * pixels;
        for (x, y) in x.chunks_exact(len).zip(y.chunks_exact_mut(len)) {
            if pixels == 1 {
                let Moments { mean, inv_std, .. } = Moments::of(std::iter::once(x), epsilon);
                for (((y, &x), &gamma), &beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                    *y = (x - mean) * inv_std * gamma + beta;
                }
                continue;
            }
            for first in (0..pixels).step_by(PIXELS) {
                let block = Block { first, count: PIXELS.min(pixels - first), pixels };
                let PixelMoments { mean, inv_std } = block.moments(x, features, epsilon);
                for (channel, (&gamma, &beta)) in gamma.iter().zip(beta).enumerate() {
                    let (x, y) = (&x[block.range(channel)], &mut y[block.range(channel)]);
                    for (((y, &x), &mean), &inv_std) in y.iter_mut().zip(x).zip(&mean).zip(&inv_std) {
                        *y = (x - mean) * inv_std * gamma + beta;
                    }
                }
            }
        }
    }
}

/// A few pixels of a map.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    count: usize,
    /// Number of pixels of the map.
    pixels: usize,
}

/// Mean and 1 / √(var + ε) of each pixel of a block.
struct PixelMoments {
    mean: [f32; PIXELS],
    inv_std: [f32; PIXELS],
}

impl Block {
    fn range(&self, channel: usize) -> std::ops::Range<usize> {
        let start = channel * self.pixels + self.first;
        start..start + self.count
    }

    #[inline(always)]
    fn moments(&self, x: &[f32], features: usize, epsilon: f64) -> PixelMoments {
        let scale = 1.0 / features as f32;
        let mut sums = [0.0f32; PIXELS];
        for first in (0..features).step_by(CHANNELS) {
            let mut part = [0.0f32; PIXELS];
            for channel in first..features.min(first + CHANNELS) {
                part.iter_mut().zip(&x[self.range(channel)]).for_each(|(sum, x)| *sum += x);
            }
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        let mean = sums.map(|sum| sum * scale);
        let mut sums = [0.0f32; PIXELS];
        for first in (0..features).step_by(CHANNELS) {
            let mut part = [0.0f32; PIXELS];
            for channel in first..features.min(first + CHANNELS) {
                for ((sum, x), mean) in part.iter_mut().zip(&x[self.range(channel)]).zip(&mean) {
                    *sum += (x - mean) * (x - mean);
                }
            }
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        let inv_std = sums.map(|sum| (1.0 / (f64::from(sum * scale) + epsilon).sqrt()) as f32);
        PixelMoments { mean, inv_std }
    }
}

/// With x̂ the normalized value and g the gradient of y times γ, the gradient of x is
/// (g − mean of g − x̂·mean of g·x̂) / √(var + ε).
struct Backward<'a> {
    norm: LayerNorm,
    x: &'a [f32],
    gamma: &'a [f32],
    grad: &'a [f32],
    x_grad: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = NormSums;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> NormSums {
        let Self { norm: LayerNorm { features, pixels, epsilon }, x, gamma, grad, x_grad } = self;
        let mut sums = NormSums { gamma: vec![0.0; features], beta: vec![0.0; features] };
        let len = features * pixels;
        let samples = x.chunks_exact(len).zip(grad.chunks_exact(len)).zip(x_grad.chunks_exact_mut(len));
        for ((x, grad), x_grad) in samples {
            if pixels == 1 {
                backward_row(x, gamma, grad, x_grad, epsilon, &mut sums);
                continue;
            }
            for first in (0..pixels).step_by(PIXELS) {
                let block = Block { first, count: PIXELS.min(pixels - first), pixels };
                backward_block(block, x, gamma, grad, x_grad, epsilon, &mut sums);
            }
        }
        sums
    }
}

#[inline(always)]
fn backward_row(
    x: &[f32],
    gamma: &[f32],
    grad: &[f32],
    x_grad: &mut [f32],
    epsilon: f64,
    sums: &mut NormSums,
) {
    let Moments { mean, inv_std, .. } = Moments::of(std::iter::once(x), epsilon);
    let (mut of_grads, mut of_products) = ([0.0f32; RUNS], [0.0f32; RUNS]);
    for ((grad, x), gamma) in grad.chunks(RUNS).zip(x.chunks(RUNS)).zip(gamma.chunks(RUNS)) {
        let each = of_grads.iter_mut().zip(&mut of_products).zip(grad).zip(x).zip(gamma);
        for ((((of_grads, of_products), grad), x), gamma) in each {
            let grad = grad * gamma;
            *of_grads += grad;
            *of_products += grad * (x - mean);
        }
    }
    let scale = inv_std / x.len() as f32;
    let mean_grad = of_grads.iter().sum::<f32>() * scale;
    let mean_product = of_products.iter().sum::<f32>() * scale * inv_std;
    let each = x_grad.iter_mut().zip(x).zip(grad).zip(gamma).zip(&mut sums.gamma).zip(&mut sums.beta);
    for (((((to, &x), &grad), &gamma), of_gamma), of_beta) in each {
        let normalized = (x - mean) * inv_std;
        *of_gamma += grad * normalized;
        *of_beta += grad;
        *to = grad * gamma * inv_std - mean_grad - normalized * mean_product;
    }
}

#[inline(always)]
fn backward_block(
    block: Block,
    x: &[f32],
    gamma: &[f32],
    grad: &[f32],
    x_grad: &mut [f32],
    epsilon: f64,
    sums: &mut NormSums,
) {
    let features = gamma.len();
    let PixelMoments { mean, inv_std } = block.moments(x, features, epsilon);
    let (mut of_grads, mut of_products) = ([0.0f32; PIXELS], [0.0f32; PIXELS]);
    for first in (0..features).step_by(CHANNELS) {
        let (mut grads, mut products) = ([0.0f32; PIXELS], [0.0f32; PIXELS]);
        for channel in first..features.min(first + CHANNELS) {
            let gamma = gamma[channel];
            let (x, grad) = (&x[block.range(channel)], &grad[block.range(channel)]);
            let (mut by_gamma, mut by_beta) = ([0.0f32; RUNS], [0.0f32; RUNS]);
            let runs = x.chunks(RUNS).zip(grad.chunks(RUNS)).enumerate();
            for (run, (x, grad)) in runs {
                let at = run * RUNS..run * RUNS + x.len();
                let (mean, inv_std) = (&mean[at.clone()], &inv_std[at.clone()]);
                let (grads, products) = (&mut grads[at.clone()], &mut products[at]);
                for i in 0..x.len() {
                    let product = grad[i] * (x[i] - mean[i]) * inv_std[i];
                    by_gamma[i] += product;
                    by_beta[i] += grad[i];
                    grads[i] += grad[i] * gamma;
                    products[i] += product * gamma;
                }
            }
            sums.gamma[channel] += by_gamma.iter().sum::<f32>();
            sums.beta[channel] += by_beta.iter().sum::<f32>();
        }
        of_grads.iter_mut().zip(grads).for_each(|(sum, part)| *sum += part);
        of_products.iter_mut().zip(products).for_each(|(sum, part)| *sum += part);
    }
    let scale = 1.0 / features as f32;
    for pixel in 0..PIXELS {
        of_grads[pixel] *= scale * inv_std[pixel];
        of_products[pixel] *= scale * inv_std[pixel] * inv_std[pixel];
    }
    for (channel, &gamma) in gamma.iter().enumerate() {
        let range = block.range(channel);
        let (x, grad, to) = (&x[range.clone()], &grad[range.clone()], &mut x_grad[range]);
        let count = to.len();
        let (mean, inv_std) = (&mean[..count], &inv_std[..count]);
        let (of_grads, of_products) = (&of_grads[..count], &of_products[..count]);
        for i in 0..count {
            to[i] = grad[i] * gamma * inv_std[i] - of_grads[i] - (x[i] - mean[i]) * of_products[i];
        }
    }
}
