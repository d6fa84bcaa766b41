//! Mixture densities, fast: plain sums of kernels instead of logarithms of them.

use std::borrow::Cow;

use super::{Kernels, Mixture, Range};
use crate::math::erfc;

/// The part of a mixture that does not depend on the sample.
pub(super) struct Estimate<'m> {
    /// Each kernel's weight over the constants of its normals.
    amplitudes: Vec<f64>,
    factors: Vec<Factor<'m>>,
    single: bool,
}

/// The kernels' factors for one parameter.
enum Factor<'m> {
    Categorical {
        probabilities: &'m [f64],
        n_choices: usize,
    },
    /// exp(-((x - mu) / sigma)^2 / 2)
    Continuous {
        mu: &'m [f64],
        inverse: Vec<f64>,
        range: Range,
    },
    /// The probability of the step around x.
    Discrete {
        mu: Cow<'m, [f64]>,
        inverse: Vec<f64>,
        range: Range,
    },
}

impl<'m> Estimate<'m> {
    pub(super) fn new(mixture: &'m Mixture) -> Self {
        let mut amplitudes = mixture.weights.clone();
        let mut factors = Vec::with_capacity(mixture.dims.len());
        for dim in &mixture.dims {
            factors.push(match dim {
                Kernels::Categorical { probabilities, n_choices } => {
                    Factor::Categorical { probabilities, n_choices: *n_choices }
                }
                Kernels::Numeric { mu, sigma, range, order } => {
                    let mut mu = Cow::Borrowed(&mu[..]);
                    let mut inverse: Vec<f64> = sigma.iter().map(|s| 1.0 / s).collect();
                    if range.step != 0.0 && mixture.dims.len() == 1 && !order.is_empty() {
                        let merged = merge(order, &mu, &inverse, &amplitudes);
                        (mu, inverse, amplitudes) = (Cow::Owned(merged.0), merged.1, merged.2);
                    }
                    let (low, high) = range.ends();
                    let continuous = range.step == 0.0;
                    for ((amplitude, mu), inverse) in amplitudes.iter_mut().zip(mu.iter()).zip(&inverse) {
                        let mass = 1.0 - tail((mu - low) * inverse) - tail((high - mu) * inverse);
                        *amplitude *= if continuous { inverse / mass } else { 1.0 / mass };
                    }
                    match mu {
                        Cow::Borrowed(mu) if continuous => Factor::Continuous { mu, inverse, range: *range },
                        mu => Factor::Discrete { mu, inverse, range: *range },
                    }
                }
            });
        }
        Self { amplitudes, single: factors.len() == 1, factors }
    }

    /// The log density of each sample, up to a constant of the space.
    pub(super) fn log_pdf(&self, samples: &[Vec<f64>]) -> Vec<f64> {
        let n = self.amplitudes.len();
        let size = samples.first().map_or(0, Vec::len);
        let (mut terms, mut exponents) = (vec![0.0; n], vec![0.0; n]);
        let mut done: Vec<(f64, f64)> = Vec::new();
        (0..size)
            .map(|i| {
                // Candidates for a parameter with few values are mostly repetitions.
                let x = samples[0][i];
                if let Some(&(_, known)) = done.iter().find(|(known, _)| self.single && *known == x) {
                    return known;
                }
                terms.copy_from_slice(&self.amplitudes);
                exponents.fill(0.0);
                let mut any_continuous = false;
                for (factor, samples) in self.factors.iter().zip(samples) {
                    any_continuous |= factor.multiply(samples[i], &mut terms, &mut exponents);
                }
                if any_continuous {
                    times_exp(&mut terms, &exponents);
                }
                let log = sum(&terms).ln();
                done.push((x, log));
                log
            })
            .collect()
    }
}

impl Factor<'_> {
    /// Multiplies each term by its factor, or adds the factor's logarithm to its exponent; true if the
    /// latter.
    fn multiply(&self, x: f64, terms: &mut [f64], exponents: &mut [f64]) -> bool {
        match self {
            Factor::Categorical { probabilities, n_choices } => {
                for (term, row) in terms.iter_mut().zip(probabilities.chunks_exact(*n_choices)) {
                    *term *= row[x as usize];
                }
                false
            }
            Factor::Continuous { mu, inverse, range } => {
                add_squares(range.scale(x), mu, inverse, exponents);
                true
            }
            Factor::Discrete { mu, inverse, range } => {
                let half = range.step / 2.0;
                let (left, right) = (range.scale(x - half), range.scale(x + half));
                for ((term, mu), inverse) in terms.iter_mut().zip(mu.iter()).zip(inverse) {
                    *term *= mass((left - mu) * inverse, (right - mu) * inverse);
                }
                false
            }
        }
    }
}

/// Kernels with one and the same normal as one: observations of few values make few different kernels.
fn merge(order: &[usize], mu: &[f64], inverse: &[f64], amplitudes: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut merged: (Vec<f64>, Vec<f64>, Vec<f64>) = Default::default();
    for &k in order {
        if let (Some(last_mu), Some(last_inverse), Some(amplitude)) =
            (merged.0.last(), merged.1.last(), merged.2.last_mut())
            && *last_mu == mu[k]
            && *last_inverse == inverse[k]
        {
            *amplitude += amplitudes[k];
            continue;
        }
        merged.0.push(mu[k]);
        merged.1.push(inverse[k]);
        merged.2.push(amplitudes[k]);
    }
    merged
}

/// Φ(-z)
fn tail(z: f64) -> f64 {
    if z > 8.5 { 0.0 } else { 0.5 * erfc(z * std::f64::consts::FRAC_1_SQRT_2) }
}

/// Φ(b) - Φ(a), from the nearer tail.
fn mass(a: f64, b: f64) -> f64 {
    if a > 0.0 { tail(a) - tail(b) } else { tail(-b) - tail(-a) }
}

/// Compiles a loop a second time, for processors with wider vectors and fused operations, and picks one.
macro_rules! vectorized {
    ($name:ident, $body:ident, ($($arg:ident: $ty:ty),*)) => {
        fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $ty),*) {
                    $body::<true>($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: The processor has the instructions that `wide` is compiled for.
                    return unsafe { wide($($arg),*) };
                }
            }
            $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}

vectorized!(add_squares, add_squares_body, (x: f64, mu: &[f64], inverse: &[f64], exponents: &mut [f64]));
vectorized!(times_exp, times_exp_body, (terms: &mut [f64], exponents: &[f64]));

/// a b + c, in one operation where the processor has it.
#[inline(always)]
fn mul_add<const FUSED: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn add_squares_body<const FUSED: bool>(x: f64, mu: &[f64], inverse: &[f64], exponents: &mut [f64]) {
    for ((exponent, mu), inverse) in exponents.iter_mut().zip(mu).zip(inverse) {
        let z = (x - mu) * inverse;
        *exponent = mul_add::<FUSED>(-0.5 * z, z, *exponent);
    }
}

#[inline(always)]
fn times_exp_body<const FUSED: bool>(terms: &mut [f64], exponents: &[f64]) {
    for (term, &exponent) in terms.iter_mut().zip(exponents) {
        *term *= exp::<FUSED>(exponent);
    }
}

/// e^x for x up to 0, to 9 digits; below -708, e^-708.
#[inline(always)]
fn exp<const FUSED: bool>(x: f64) -> f64 {
    /// Added to a number, it leaves a whole one, in the sum's last bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    let x = if x > -708.0 { x } else { -708.0 };
    let shifted = mul_add::<FUSED>(x, std::f64::consts::LOG2_E, SHIFT);
    let r = mul_add::<FUSED>(shifted - SHIFT, -std::f64::consts::LN_2, x);
    // Taylor's series; r is at most 0.35.
    let mut p = 1.0 / 40_320.0;
    for c in [5040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        p = mul_add::<FUSED>(p, r, 1.0 / c);
    }
    f64::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 52))
}

/// A sum in eight parts, which a processor can add side by side.
fn sum(x: &[f64]) -> f64 {
    let mut parts = [0.0; 8];
    let mut chunks = x.chunks_exact(8);
    for chunk in &mut chunks {
        parts.iter_mut().zip(chunk).for_each(|(part, x)| *part += x);
    }
    parts.iter().chain(chunks.remainder()).sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_to_nine_digits() {
        for i in 0..=70_800 {
            let x = -0.01 * f64::from(i);
            assert!((super::exp::<false>(x) / x.exp() - 1.0).abs() < 3e-10, "{x}");
            assert!((super::exp::<true>(x) / x.exp() - 1.0).abs() < 3e-10, "{x}");
        }
        assert!(super::exp::<true>(-1e9) < 1e-300);
    }

    #[test]
    fn masses_add_up() {
        let whole: f64 = (-100..100).map(|i| super::mass(f64::from(i) * 0.1, f64::from(i + 1) * 0.1)).sum();
        assert!((whole - 1.0).abs() < 1e-14);
    }
}
