//! Batch normalisation of one channel: its moments, its result and its gradients.
//!
//! All loops keep [`RUNS`] sums beside each other, which the vectors of any processor divide.

use super::elementwise::{activate_one, for_activation, slope_of};
use crate::config::Activation;

/// Sums beside each other.
const RUNS: usize = 32;
/// The same for what is left of a stretch.
const FEW: usize = 8;

/// Mean and variance of a channel, and the affine map that normalises it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moments {
    pub(crate) mean: f32,
    /// Biased.
    pub(crate) var: f32,
    /// 1 / √(var + ε)
    pub(crate) inv_std: f32,
}

impl Moments {
    pub(crate) fn new(mean: f32, var: f32, epsilon: f64) -> Self {
        Self { mean, var, inv_std: (1.0 / (f64::from(var) + epsilon).sqrt()) as f32 }
    }

    /// Of all values of `planes`.
    #[inline(always)]
    pub(crate) fn of<'a>(planes: impl Iterator<Item = &'a [f32]> + Clone, epsilon: f64) -> Self {
        let mut n = 0;
        let mut total = 0.0;
        for plane in planes.clone() {
            n += plane.len();
            total += sum(plane, |value| value);
        }
        let mean = total / n as f64;
        let centre = mean as f32;
        let mut squares = 0.0;
        for plane in planes {
            squares += sum(plane, |value| (value - centre) * (value - centre));
        }
        // The mean's rounding error would count in every square.
        let var = squares / n as f64 - (mean - f64::from(centre)).powi(2);
        Self::new(centre, var.max(0.0) as f32, epsilon)
    }
}

/// Σ f(value), in float32 over stretches and float64 over those.
#[inline(always)]
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0;
    for stretch in values.chunks(64 * RUNS) {
        // What an index that varies reaches lies in memory; these sums stay in registers.
        let mut runs = [0.0f32; RUNS];
        let (whole, rest) = stretch.as_chunks::<RUNS>();
        for values in whole {
            for i in 0..RUNS {
                runs[i] += f(values[i]);
            }
        }
        let mut few = [0.0f32; FEW];
        let (eights, last) = rest.as_chunks::<FEW>();
        for values in eights {
            for i in 0..FEW {
                few[i] += f(values[i]);
            }
        }
        let mut sum = fold(runs) + few.iter().sum::<f32>();
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

/// scale·z + shift, the normalised and scaled value.
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

    /// f(scale·z + shift) over z itself.
    #[inline(always)]
    pub(crate) fn apply_in_place(self, z: &mut [f32], activation: Activation) {
        for_activation!(activation, f => {
            for z in z {
                *z = activate_one(self.at(*z), f);
            }
        });
    }

    /// y = f(scale·z + shift)
    #[inline(always)]
    pub(crate) fn apply(self, z: &[f32], y: &mut [f32], activation: Activation) {
        for_activation!(activation, f => {
            for (y, &z) in y.iter_mut().zip(z) {
                *y = activate_one(self.at(z), f);
            }
        });
    }
}

/// Sums that the gradients of a channel are made of: of the slopes, and of the slopes times the normalised values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Slopes {
    pub(crate) sum: f64,
    pub(crate) normalised: f64,
}

impl Slopes {
    #[inline(always)]
    pub(crate) fn add(
        &mut self,
        grad: &[f32],
        z: &[f32],
        affine: Affine,
        moments: Moments,
        activation: Activation,
    ) {
        for_activation!(activation, f => {
            for (grad, z) in grad.chunks(64 * RUNS).zip(z.chunks(64 * RUNS)) {
                let mut sums = [0.0f32; RUNS];
                let mut products = [0.0f32; RUNS];
                let (grads, last_grads) = grad.as_chunks::<RUNS>();
                let (zs, last_zs) = z.as_chunks::<RUNS>();
                for (grads, zs) in grads.iter().zip(zs) {
                    for i in 0..RUNS {
                        let slope = slope(grads[i], affine.at(zs[i]), f);
                        sums[i] += slope;
                        products[i] += slope * (zs[i] - moments.mean);
                    }
                }
                let (mut sum, mut product) = (fold(sums), fold(products));
                let mut few = [[0.0f32; FEW]; 2];
                let (grads, last_grads) = last_grads.as_chunks::<FEW>();
                let (zs, last_zs) = last_zs.as_chunks::<FEW>();
                for (grads, zs) in grads.iter().zip(zs) {
                    for i in 0..FEW {
                        let slope = slope(grads[i], affine.at(zs[i]), f);
                        few[0][i] += slope;
                        few[1][i] += slope * (zs[i] - moments.mean);
                    }
                }
                sum += few[0].iter().sum::<f32>();
                product += few[1].iter().sum::<f32>();
                for (&grad, &z) in last_grads.iter().zip(last_zs) {
                    let slope = slope(grad, affine.at(z), f);
                    sum += slope;
                    product += slope * (z - moments.mean);
                }
                self.sum += f64::from(sum);
                self.normalised += f64::from(product * moments.inv_std);
            }
        });
    }
}

/// The gradient for z from that for y: `slope`·grad + `z_factor`·z + `constant`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ZGrad {
    affine: Affine,
    z_factor: f32,
    constant: f32,
}

impl ZGrad {
    /// Through the moments of the batch, of `n` values a channel.
    pub(crate) fn through_batch(affine: Affine, moments: Moments, slopes: Slopes, n: usize) -> Self {
        let Slopes { sum, normalised } = slopes;
        let (mean_slope, mean_product) = (sum / n as f64, normalised / n as f64);
        let per_z = mean_product * f64::from(moments.inv_std);
        let scale = f64::from(affine.scale);
        Self {
            affine,
            z_factor: (-scale * per_z) as f32,
            constant: (scale * (per_z * f64::from(moments.mean) - mean_slope)) as f32,
        }
    }

    /// With moments that are constants.
    pub(crate) fn of_constants(affine: Affine) -> Self {
        Self { affine, z_factor: 0.0, constant: 0.0 }
    }

    /// Over `grad` itself.
    #[inline(always)]
    pub(crate) fn apply_in_place(self, grad: &mut [f32], z: &[f32], activation: Activation) {
        for_activation!(activation, f => {
            for (grad, &z) in grad.iter_mut().zip(z) {
                let slope = slope(*grad, self.affine.at(z), f);
                *grad = self.affine.scale * slope + (self.z_factor * z + self.constant);
            }
        });
    }
}

/// grad·f′(a), 0 where f′ is.
#[inline(always)]
fn slope(grad: f32, a: f32, activation: Activation) -> f32 {
    let slope = slope_of(a, activation);
    if slope == 0.0 { 0.0 } else { grad * slope }
}
