//! Batch normalization of one channel: moments, result y = f(γ·(z − mean) / √(var + ε) + β), and
//! gradients.
//!
//! All loops keep [`RUNS`] interleaved sums, a multiple of every vector length, so that results do
//! not depend on it.

use super::elementwise::{activate_one, derivative_at_input, for_activation};
use super::simd::Simd;
use crate::config::Activation;

/// Number of interleaved sums.
const RUNS: usize = 32;
/// Number of interleaved sums for the rest of a chunk.
const SHORT_RUNS: usize = 8;

/// Mean and variance of a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moments {
    pub(crate) mean: f32,
    /// Biased variance.
    pub(crate) var: f32,
    /// 1 / √(var + ε)
    pub(crate) inv_std: f32,
}

impl Moments {
    pub(crate) fn new(mean: f32, var: f32, epsilon: f64) -> Self {
        Self { mean, var, inv_std: (1.0 / (f64::from(var) + epsilon).sqrt()) as f32 }
    }

    /// The moments of all values of `planes`.
    #[inline(always)]
    pub(crate) fn of<'a>(planes: impl Iterator<Item = &'a [f32]> + Clone, epsilon: f64) -> Self {
        let mut n = 0;
        let mut total = 0.0;
        for plane in planes.clone() {
            n += plane.len();
            total += sum(plane, |value| value);
        }
        let mean = total / n as f64;
        let center = mean as f32;
        let mut squares = 0.0;
        for plane in planes {
            squares += sum(plane, |value| (value - center) * (value - center));
        }
        // Corrects for the rounding error of the mean, which is part of every square.
        let var = squares / n as f64 - (mean - f64::from(center)).powi(2);
        Self::new(center, var.max(0.0) as f32, epsilon)
    }
}

/// Σ f(value), in float32 within chunks and float64 over them.
#[inline(always)]
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0;
    for chunk in values.chunks(64 * RUNS) {
        // Constant indices keep these sums in registers.
        let mut runs = [0.0f32; RUNS];
        let (whole, rest) = chunk.as_chunks::<RUNS>();
        for values in whole {
            for i in 0..RUNS {
                runs[i] += f(values[i]);
            }
        }
        let mut short = [0.0f32; SHORT_RUNS];
        let (eights, last) = rest.as_chunks::<SHORT_RUNS>();
        for values in eights {
            for i in 0..SHORT_RUNS {
                short[i] += f(values[i]);
            }
        }
        let mut sum = fold(runs) + short.iter().sum::<f32>();
        for &value in last {
            sum += f(value);
        }
        total += f64::from(sum);
    }
    total
}

#[inline(always)]
fn fold(runs: [f32; RUNS]) -> f32 {
    let mut half = RUNS / 2;
    let mut runs = runs;
    while half > 0 {
        for i in 0..half {
            runs[i] += runs[i + half];
        }
        half /= 2;
    }
    runs[0]
}

/// The affine function scale·z + shift, which normalizes and scales.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Affine {
    pub(crate) scale: f32,
    pub(crate) shift: f32,
}

impl Affine {
    pub(crate) fn new(moments: Moments, gamma: f32, beta: f32) -> Self {
        let scale = gamma * moments.inv_std;
        Self { scale, shift: beta - moments.mean * scale }
    }

    #[inline(always)]
    fn at(self, z: f32) -> f32 {
        self.scale * z + self.shift
    }

    /// Replaces z by f(scale·z + shift).
    #[inline(always)]
    pub(crate) fn apply_in_place<S: Simd>(self, z: &mut [f32], activation: Activation) {
        for_activation!(activation, f => {
            for z in z {
                *z = activate_one::<S>(self.at(*z), f);
            }
        });
    }

    /// y = f(scale·z + shift)
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, z: &[f32], y: &mut [f32], activation: Activation) {
        for_activation!(activation, f => {
            for (y, &z) in y.iter_mut().zip(z) {
                *y = activate_one::<S>(self.at(z), f);
            }
        });
    }
}

/// The gradients of β and γ of one channel: Σ g and Σ g·(z − mean)/σ, with g the gradient of the
/// normalized value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct BatchNormGrads {
    pub(crate) dbeta: f64,
    pub(crate) dgamma: f64,
}

impl BatchNormGrads {
    /// Adds the sums over a plane, and replaces the gradient of y by that of the normalized value.
    #[inline(always)]
    pub(crate) fn add<S: Simd>(
        &mut self,
        grad: &mut [f32],
        z: &[f32],
        affine: Affine,
        moments: Moments,
        activation: Activation,
    ) {
        for_activation!(activation, f => {
            for (grad, z) in grad.chunks_mut(64 * RUNS).zip(z.chunks(64 * RUNS)) {
                let mut sums = [0.0f32; RUNS];
                let mut products = [0.0f32; RUNS];
                let (grads, last_grads) = grad.as_chunks_mut::<RUNS>();
                let (zs, last_zs) = z.as_chunks::<RUNS>();
                for (grads, zs) in grads.iter_mut().zip(zs) {
                    for i in 0..RUNS {
                        let grad = grad_at::<S>(grads[i], affine.at(zs[i]), f);
                        grads[i] = grad;
                        sums[i] += grad;
                        products[i] += grad * (zs[i] - moments.mean);
                    }
                }
                let (mut sum, mut product) = (fold(sums), fold(products));
                let mut short = [[0.0f32; SHORT_RUNS]; 2];
                let (grads, last_grads) = last_grads.as_chunks_mut::<SHORT_RUNS>();
                let (zs, last_zs) = last_zs.as_chunks::<SHORT_RUNS>();
                for (grads, zs) in grads.iter_mut().zip(zs) {
                    for i in 0..SHORT_RUNS {
                        let grad = grad_at::<S>(grads[i], affine.at(zs[i]), f);
                        grads[i] = grad;
                        short[0][i] += grad;
                        short[1][i] += grad * (zs[i] - moments.mean);
                    }
                }
                sum += short[0].iter().sum::<f32>();
                product += short[1].iter().sum::<f32>();
                for (grad, &z) in last_grads.iter_mut().zip(last_zs) {
                    *grad = grad_at::<S>(*grad, affine.at(z), f);
                    sum += *grad;
                    product += *grad * (z - moments.mean);
                }
                self.dbeta += f64::from(sum);
                self.dgamma += f64::from(product * moments.inv_std);
            }
        });
    }
}

/// The gradient of z: scale·g + `z_factor`·z + `constant`, with g the gradient of the normalized
/// value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NormInputGrad {
    scale: f32,
    z_factor: f32,
    constant: f32,
}

impl NormInputGrad {
    /// The gradient through the batch's moments, of `n` values per channel.
    pub(crate) fn through_batch(affine: Affine, moments: Moments, grads: BatchNormGrads, n: usize) -> Self {
        let BatchNormGrads { dbeta, dgamma } = grads;
        let (mean_grad, mean_product) = (dbeta / n as f64, dgamma / n as f64);
        let per_z = mean_product * f64::from(moments.inv_std);
        let scale = f64::from(affine.scale);
        Self {
            scale: affine.scale,
            z_factor: (-scale * per_z) as f32,
            constant: (scale * (per_z * f64::from(moments.mean) - mean_grad)) as f32,
        }
    }

    /// The gradient where the moments are constants.
    pub(crate) fn of_running_stats(affine: Affine) -> Self {
        Self { scale: affine.scale, z_factor: 0.0, constant: 0.0 }
    }

    /// Replaces the gradient of the normalized value by that of z.
    #[inline(always)]
    pub(crate) fn apply_in_place(self, grad: &mut [f32], z: &[f32]) {
        for (grad, &z) in grad.iter_mut().zip(z) {
            *grad = self.scale * *grad + (self.z_factor * z + self.constant);
        }
    }
}

/// grad·f′(a), and 0 where f′ is 0.
#[inline(always)]
fn grad_at<S: Simd>(grad: f32, a: f32, activation: Activation) -> f32 {
    let derivative = derivative_at_input::<S>(a, activation);
    if derivative == 0.0 { 0.0 } else { grad * derivative }
}
