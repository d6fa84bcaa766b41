//! Global response normalization: y = γ·x·n / (mean n + ε) + β + x with n the norm of a channel over the pixels of a sample, and
//! gradients.

use super::WeightedGrads;
use super::elementwise::{add, sum};
use super::memory::buffer::filled_with;
use super::norm::{Norm, NormSums};
use super::simd::{Kernel, Simd, dispatch};
use super::softmax::dot;

/// Number of values that are summed before they are added to a longer sum.
const PART: usize = 64;

/// The normalization of samples of `pixels` × `channels`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseNorm {
    pub(crate) channels: usize,
    pub(crate) pixels: usize,
    /// Whether the channels of a pixel follow each other, instead of the pixels of a channel.
    pub(crate) channels_last: bool,
    pub(crate) epsilon: f64,
}

impl ResponseNorm {
    /// Σ a·b over the pixels of each channel, or Σ a without `b`.
    #[inline(always)]
    fn sums(&self, a: &[f32], b: Option<&[f32]>) -> Vec<f32> {
        let mut sums = vec![0.0; self.channels];
        if !self.channels_last {
            for (channel, total) in sums.iter_mut().enumerate() {
                let range = channel * self.pixels..(channel + 1) * self.pixels;
                *total = match b {
                    Some(b) => dot(&a[range.clone()], &b[range]),
                    None => sum(&a[range]),
                };
            }
            return sums;
        }
        let mut part = vec![0.0; self.channels];
        for first in (0..self.pixels).step_by(PART) {
            part.fill(0.0);
            for pixel in first..self.pixels.min(first + PART) {
                let range = pixel * self.channels..(pixel + 1) * self.channels;
                match b {
                    Some(b) => {
                        for ((sum, a), b) in part.iter_mut().zip(&a[range.clone()]).zip(&b[range]) {
                            *sum += a * b;
                        }
                    }
                    None => add(&mut part, &a[range]),
                }
            }
            add(&mut sums, &part);
        }
        sums
    }

    /// to = a·scale + b·shift, with a scale and a shift per channel; without `b`, the shift itself is added.
    #[inline(always)]
    fn combine(&self, to: &mut [f32], a: &[f32], scale: &[f32], b: Option<&[f32]>, shift: &[f32]) {
        if self.channels_last {
            let rows = to.chunks_exact_mut(self.channels).zip(a.chunks_exact(self.channels)).enumerate();
            for (pixel, (to, a)) in rows {
                let each = to.iter_mut().zip(a).zip(scale).zip(shift);
                match b {
                    Some(b) => {
                        let b = &b[pixel * self.channels..][..self.channels];
                        for ((((to, a), scale), shift), b) in each.zip(b) {
                            *to = a * scale + b * shift;
                        }
                    }
                    None => {
                        for (((to, a), scale), shift) in each {
                            *to = a * scale + shift;
                        }
                    }
                }
            }
            return;
        }
        let planes = to.chunks_exact_mut(self.pixels).zip(a.chunks_exact(self.pixels)).enumerate();
        for (channel, (to, a)) in planes {
            let (scale, shift) = (scale[channel], shift[channel]);
            match b {
                Some(b) => {
                    let b = &b[channel * self.pixels..][..self.pixels];
                    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                        *to = a * scale + b * shift;
                    }
                }
                None => {
                    for (to, a) in to.iter_mut().zip(a) {
                        *to = a * scale + shift;
                    }
                }
            }
        }
    }

    /// The norm of each channel of a sample, and their mean plus ε.
    #[inline(always)]
    fn norms(&self, x: &[f32]) -> (Vec<f32>, f32) {
        let mut norms = self.sums(x, Some(x));
        norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
        let total: f64 = norms.iter().copied().map(f64::from).sum();
        (norms, (total / self.channels as f64 + self.epsilon) as f32)
    }
}

impl Norm for ResponseNorm {
    const NAME: &'static str = "global_response_norm";

    fn forward(&self, x: &[f32], gamma: &[f32], beta: &[f32]) -> Vec<f32> {
        let len = self.channels * self.pixels;
        filled_with(x.len(), len, |sample, y| {
            dispatch(Forward { norm: self, x: &x[sample * len..][..len], gamma, beta, y });
        })
        .0
    }

    fn backward(&self, x: &[f32], gamma: &[f32], grad: &[f32]) -> WeightedGrads {
        let len = self.channels * self.pixels;
        let (x_grad, parts) = filled_with(x.len(), len, |sample, x_grad| {
            let (x, grad) = (&x[sample * len..][..len], &grad[sample * len..][..len]);
            dispatch(Backward { norm: self, x, gamma, grad, x_grad })
        });
        NormSums::grads(&parts, self.channels, x_grad)
    }
}

struct Forward<'a> {
    norm: &'a ResponseNorm,
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { norm, x, gamma, beta, y } = self;
        let (mut scales, mean) = norm.norms(x);
        scales.iter_mut().zip(gamma).for_each(|(scale, gamma)| *scale = gamma * (*scale / mean) + 1.0);
        norm.combine(y, x, &scales, None, beta);
    }
}

/// With t the sum of grad·x over a channel's pixels and m the mean norm, the gradient of n is γ·t / m minus the mean of γ·t·n over
/// channels / m².
struct Backward<'a> {
    norm: &'a ResponseNorm,
    x: &'a [f32],
    gamma: &'a [f32],
    grad: &'a [f32],
    x_grad: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = NormSums;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> NormSums {
        let Self { norm, x, gamma, grad, x_grad } = self;
        let (norms, mean) = norm.norms(x);
        let products = norm.sums(grad, Some(x));
        let mut through_mean = 0.0f64;
        for ((norm, product), gamma) in norms.iter().zip(&products).zip(gamma) {
            through_mean += f64::from(gamma * product * (norm / mean));
        }
        let through_mean = (through_mean / norm.channels as f64) as f32;
        let scales: Vec<f32> =
            norms.iter().zip(gamma).map(|(norm, gamma)| gamma * (norm / mean) + 1.0).collect();
        let of_norms: Vec<f32> = norms
            .iter()
            .zip(&products)
            .zip(gamma)
            .map(
                |((&norm, product), gamma)| {
                    if norm == 0.0 { 0.0 } else { (gamma * product - through_mean) / mean / norm }
                },
            )
            .collect();
        norm.combine(x_grad, grad, &scales, Some(x), &of_norms);
        let gamma = norms.iter().zip(&products).map(|(norm, product)| product * (norm / mean)).collect();
        NormSums { gamma, beta: norm.sums(grad, None) }
    }
}
