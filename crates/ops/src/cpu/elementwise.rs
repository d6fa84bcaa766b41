//! Activations and sums over slices, split over threads in fixed chunks.

use super::memory::buffer::{filled_with, zeros};
use super::memory::threads::{for_each_chunk, map_tasks};
use super::simd::{Kernel, Simd, dispatch};
use crate::config::Activation;

/// Number of values per task.
pub(crate) const CHUNK: usize = 1 << 13;

/// Runs `$body` with `$f` bound to the activation as a constant, so that the compiler specializes
/// each loop.
macro_rules! for_activation {
    ($activation:expr, $f:ident => $body:expr) => {
        match $activation {
            $crate::config::Activation::Identity => {
                let $f = $crate::config::Activation::Identity;
                $body
            }
            $crate::config::Activation::Relu => {
                let $f = $crate::config::Activation::Relu;
                $body
            }
            $crate::config::Activation::Relu6 => {
                let $f = $crate::config::Activation::Relu6;
                $body
            }
            $crate::config::Activation::Tanh => {
                let $f = $crate::config::Activation::Tanh;
                $body
            }
            $crate::config::Activation::LeakyRelu(negative_slope) => {
                let $f = $crate::config::Activation::LeakyRelu(negative_slope);
                $body
            }
            $crate::config::Activation::Sigmoid => {
                let $f = $crate::config::Activation::Sigmoid;
                $body
            }
            $crate::config::Activation::HardSigmoid => {
                let $f = $crate::config::Activation::HardSigmoid;
                $body
            }
            $crate::config::Activation::Silu => {
                let $f = $crate::config::Activation::Silu;
                $body
            }
            $crate::config::Activation::HardSwish => {
                let $f = $crate::config::Activation::HardSwish;
                $body
            }
            $crate::config::Activation::Gelu => {
                let $f = $crate::config::Activation::Gelu;
                $body
            }
            $crate::config::Activation::GeluTanh => {
                let $f = $crate::config::Activation::GeluTanh;
                $body
            }
        }
    };
}
pub(crate) use for_activation;

/// e⁻⁸⁷ is near the smallest normal number.
const SMALL: f32 = 87.0;

/// f(x). NaN stays NaN.
#[inline(always)]
pub(crate) fn activate_one<S: Simd>(x: f32, activation: Activation) -> f32 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => {
            if x <= 0.0 {
                0.0
            } else {
                x
            }
        }
        Activation::Relu6 => relu6(x),
        Activation::Tanh => tanh::<S>(x),
        Activation::Sigmoid => times_sigmoid::<S>(1.0, x),
        Activation::HardSigmoid => hard_sigmoid(x),
        Activation::Silu => times_sigmoid::<S>(if x < -SMALL { -SMALL } else { x }, x),
        Activation::HardSwish => x * hard_sigmoid(x),
        Activation::Gelu => x * normal::<S>(x).0,
        Activation::GeluTanh => {
            times_sigmoid::<S>(if x < -SMALL { -SMALL } else { x }, gelu_tanh_argument(x))
        }
        Activation::LeakyRelu(negative_slope) => {
            if x <= 0.0 {
                negative_slope as f32 * x
            } else {
                x
            }
        }
    }
}

/// tanh within 3e-7 relative, without branches, so that loops over it are vectorized.
///
/// Near 0 it is x + x³·P(x²) with P fitted at Chebyshev nodes; elsewhere 1 − 2 / (e²ˣ + 1), where the
/// exponential is a power of 2 times a Taylor polynomial.
#[inline(always)]
fn tanh<S: Simd>(x: f32) -> f32 {
    tanh_and_derivative::<S>(x).0
}

#[inline(always)]
fn relu6(x: f32) -> f32 {
    let positive = if x <= 0.0 { 0.0 } else { x };
    if positive >= 6.0 { 6.0 } else { positive }
}

#[inline(always)]
fn hard_sigmoid(x: f32) -> f32 {
    relu6(x + 3.0) * (1.0 / 6.0)
}

/// e^(x + rest) for x up to 1 and a `rest` of at most 1e-3, within 2 ulp; 0 where x < −87.
#[inline(always)]
pub(crate) fn exp_of_negative<S: Simd>(x: f32, rest: f32) -> f32 {
    if x < -SMALL { 0.0 } else { exp::<S>(x, rest) }
}

/// e^(x + rest) for x in [−87, 87] and a `rest` of at most 1e-3, within 2 ulp. NaN stays NaN.
#[inline(always)]
fn exp<S: Simd>(x: f32, rest: f32) -> f32 {
    // Adding and subtracting 1.5·2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let shifted = S::fused(x, std::f32::consts::LOG2_E, ROUND);
    let powers = shifted - ROUND;
    // ln 2 is split into two parts, of which the first has few bits.
    let r = S::fused(powers, 2.121_944_4e-4, S::fused(powers, -0.693_359_4, x)) + rest;
    // A minimax polynomial.
    let e = 0.001_383_684;
    let e = S::fused(e, r, 0.008_374_818);
    let e = S::fused(e, r, 0.041_668_225);
    let e = S::fused(e, r, 0.166_664_2);
    let e = S::fused(e, r, 0.499_999_9);
    let e = S::fused(e, r, 1.0);
    let e = S::fused(e, r, 1.0);
    // The last bits of the sum are the integer; a conversion would not be vectorized.
    e * f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23)
}

/// x / (1 + e⁻ᵛ) within 4 ulp for v from −87 on; below, with v = −87. NaN stays NaN.
#[inline(always)]
fn times_sigmoid<S: Simd>(x: f32, v: f32) -> f32 {
    let v = if v < -SMALL { -SMALL } else { v };
    let v = if v > SMALL { SMALL } else { v };
    x / (1.0 + exp::<S>(-v, 0.0))
}

/// 1 / (1 + e⁻ˣ) and 1 / (1 + eˣ), each within 4 ulp.
#[inline(always)]
fn sigmoids<S: Simd>(x: f32) -> (f32, f32) {
    let e = exp_of_negative::<S>(-x.abs(), 0.0);
    let larger = 1.0 / (1.0 + e);
    let smaller = e * larger;
    if x >= 0.0 { (larger, smaller) } else { (smaller, larger) }
}

/// The distribution function of the normal distribution within 8 ulp, and its density.
///
/// With t = |x|, Φ(−t) is e^(−t²/2) times a function that decreases slowly: u times a polynomial in
/// u = 1 / (1 + 0.35·t), fitted for the least relative error in t from 0 to 14.
#[inline(always)]
fn normal<S: Simd>(x: f32) -> (f32, f32) {
    /// 1 / √(2π)
    const DENSITY_AT_0: f32 = 0.398_942_3;
    let t = x.abs();
    // t² = head² + (t − head)·(t + head), of which the first term is exact.
    let head = f32::from_bits(t.to_bits() & 0xffff_f000);
    let e = exp_of_negative::<S>(-0.5 * head * head, -0.5 * (t - head) * (t + head));
    let u = 1.0 / (1.0 + 0.35 * t);
    let p = -0.029_146_139;
    let p = S::fused(p, u, 0.143_972_71);
    let p = S::fused(p, u, -0.255_716_32);
    let p = S::fused(p, u, 0.159_176_53);
    let p = S::fused(p, u, -0.023_111_434);
    let p = S::fused(p, u, 0.105_508_67);
    let p = S::fused(p, u, 0.119_832_7);
    let p = S::fused(p, u, 0.139_861_9);
    let p = S::fused(p, u, 0.139_621_4);
    let tail = e * (u * p);
    (if x >= 0.0 { 1.0 - tail } else { tail }, DENSITY_AT_0 * e)
}

/// The v for which gelu_tanh(x) = x·sigmoid(v): 2·√(2/π)·(x + 0.044715·x³).
#[inline(always)]
fn gelu_tanh_argument(x: f32) -> f32 {
    1.595_769 * x * (1.0 + 0.044_715 * (x * x))
}

/// f′(x), without the cancellation in [`derivative_at_output`] where tanh is near ±1.
#[inline(always)]
pub(crate) fn derivative_at_input<S: Simd>(x: f32, activation: Activation) -> f32 {
    match activation {
        Activation::Tanh => tanh_and_derivative::<S>(x).1,
        Activation::Sigmoid => {
            let (p, q) = sigmoids::<S>(x);
            p * q
        }
        Activation::Silu => {
            let (p, q) = sigmoids::<S>(x);
            p + x * (p * q)
        }
        Activation::HardSwish => {
            // As in PyTorch at the corners, through the product rule.
            let rises = x + 3.0 > 0.0 && x + 3.0 < 6.0;
            hard_sigmoid(x) + x * if rises { 1.0 / 6.0 } else { 0.0 }
        }
        Activation::Gelu => {
            let (distribution, density) = normal::<S>(x);
            distribution + x * density
        }
        Activation::GeluTanh => {
            let (p, q) = sigmoids::<S>(gelu_tanh_argument(x));
            p + x * (p * q) * (1.595_769 * (1.0 + 0.134_145 * (x * x)))
        }
        _ => derivative_at_output(activate_one::<S>(x, activation), activation),
    }
}

/// tanh and its derivative: 4·e²ˣ / (e²ˣ + 1)² except near 0.
#[inline(always)]
fn tanh_and_derivative<S: Simd>(x: f32) -> (f32, f32) {
    /// Below this, tanh is the polynomial.
    const NEAR: f32 = 0.55;
    /// Beyond this, tanh is ±1 in float32.
    const FAR: f32 = 9.5;
    let size = x.abs();
    let square = x * x;
    let p = -0.006_615_748_6f32;
    let p = S::fused(p, square, 0.021_312_74);
    let p = S::fused(p, square, -0.053_910_065);
    let p = S::fused(p, square, 0.133_331_18);
    let p = S::fused(p, square, -0.333_333_3);
    let near = S::fused(x * square, p, x);
    let doubled = 2.0 * if size < FAR { size } else { FAR };
    // Adding and subtracting 1.5·2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let shifted = S::fused(doubled, std::f32::consts::LOG2_E, ROUND);
    let powers = shifted - ROUND;
    // ln 2 is split into two parts, of which the first has few bits.
    let r = S::fused(powers, 2.121_944_4e-4, S::fused(powers, -0.693_359_4, doubled));
    let e = 1.0 / 5040.0;
    let e = S::fused(e, r, 1.0 / 720.0);
    let e = S::fused(e, r, 1.0 / 120.0);
    let e = S::fused(e, r, 1.0 / 24.0);
    let e = S::fused(e, r, 1.0 / 6.0);
    let e = S::fused(e, r, 0.5);
    let e = S::fused(e, r, 1.0);
    let e = S::fused(e, r, 1.0);
    // The last bits of the sum are the integer; a conversion would not be vectorized.
    let e = e * f32::from_bits((shifted.to_bits() - ROUND.to_bits() + 127) << 23);
    let half = 2.0 / (e + 1.0);
    let far = (1.0 - half).copysign(x);
    let (value, derivative) = if size < NEAR { (near, 1.0 - near * near) } else { (far, half * (half * e)) };
    if x.is_nan() { (x, x) } else { (value, derivative) }
}

/// Applies f in place.
#[inline(always)]
pub(crate) fn activate<S: Simd>(values: &mut [f32], activation: Activation) {
    if activation != Activation::Identity {
        // A loop, here and in every kernel: a closure may be compiled on its own, without the
        // kernel's instructions.
        for_activation!(activation, f => {
            for value in values {
                *value = activate_one::<S>(*value, f);
            }
        });
    }
}

/// The range that an activation clamps values to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clamp {
    low: f32,
    high: f32,
}

impl Clamp {
    pub(crate) const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

    /// The clamp that `activation` amounts to, if it is one.
    pub(crate) fn of(activation: Activation) -> Option<Self> {
        match activation {
            Activation::Identity => Some(Self::NONE),
            Activation::Relu => Some(Self { low: 0.0, ..Self::NONE }),
            Activation::Relu6 => Some(Self { low: 0.0, high: 6.0 }),
            _ => None,
        }
    }

    /// Clamps each lane; NaN stays NaN.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, simd: S, v: S::V) -> S::V {
        simd.min(simd.splat(self.high), simd.max(simd.splat(self.low), v))
    }
}

/// [`activate`] on all threads.
pub(crate) fn par_activate(values: &mut [f32], activation: Activation) {
    if activation != Activation::Identity {
        for_each_chunk(values, CHUNK, |_, values| dispatch(Activate(values, activation)));
    }
}

/// [`activate`] as a kernel.
pub(crate) struct Activate<'a>(pub(crate) &'a mut [f32], pub(crate) Activation);

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        activate::<S>(self.0, self.1);
    }
}

/// `to` = f(`x`)
struct Activated<'a>(&'a mut [f32], &'a [f32], Activation);

impl Kernel for Activated<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for_activation!(self.2, f => {
            for (to, &x) in self.0.iter_mut().zip(self.1) {
                *to = activate_one::<S>(x, f);
            }
        });
    }
}

/// f of `x` on all threads.
pub(crate) fn par_activated(x: &[f32], activation: Activation) -> Vec<f32> {
    filled_with(x.len(), CHUNK, |index, to| dispatch(Activated(to, chunk(x, index), activation))).0
}

/// [`par_activated`] into `to`.
pub(crate) fn par_activate_into(to: &mut [f32], x: &[f32], activation: Activation) {
    for_each_chunk(to, CHUNK, |index, to| dispatch(Activated(to, chunk(x, index), activation)));
}

/// f′ at the input whose output is `y`; NaN if f is not monotonic, since then `y` does not tell.
#[inline(always)]
pub(crate) fn derivative_at_output(y: f32, activation: Activation) -> f32 {
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu => {
            if y <= 0.0 {
                0.0
            } else {
                1.0
            }
        }
        Activation::Relu6 => {
            if y <= 0.0 || y >= 6.0 {
                0.0
            } else {
                1.0
            }
        }
        Activation::Tanh => 1.0 - y * y,
        Activation::Sigmoid => y * (1.0 - y),
        Activation::HardSigmoid => {
            if y <= 0.0 || y >= 1.0 {
                0.0
            } else {
                1.0 / 6.0
            }
        }
        Activation::Silu | Activation::HardSwish | Activation::Gelu | Activation::GeluTanh => f32::NAN,
        Activation::LeakyRelu(negative_slope) => {
            if y <= 0.0 {
                negative_slope as f32
            } else {
                1.0
            }
        }
    }
}

/// The gradient of the activation's input, `grad`·f′, from its output `y`. Where f′ is 0, so is the
/// result, even if `grad` is not finite.
#[inline(always)]
pub(crate) fn activation_grad(into: &mut [f32], grad: &[f32], y: &[f32], activation: Activation) {
    for_activation!(activation, f => {
        for ((into, &grad), &y) in into.iter_mut().zip(grad).zip(y) {
            let derivative = derivative_at_output(y, f);
            *into = if derivative == 0.0 { 0.0 } else { grad * derivative };
        }
    });
}

/// [`activation_grad`] in place.
#[inline(always)]
pub(crate) fn activation_grad_in_place(grad: &mut [f32], y: &[f32], activation: Activation) {
    for_activation!(activation, f => {
        for (grad, &y) in grad.iter_mut().zip(y) {
            let derivative = derivative_at_output(y, f);
            *grad = if derivative == 0.0 { 0.0 } else { *grad * derivative };
        }
    });
}

/// Turns the gradient of f(x) into that of `x`, in place.
#[inline(always)]
pub(crate) fn input_grad<S: Simd>(grad: &mut [f32], x: &[f32], activation: Activation) {
    if activation != Activation::Identity {
        for_activation!(activation, f => {
            for (grad, &x) in grad.iter_mut().zip(x) {
                let derivative = derivative_at_input::<S>(x, f);
                *grad = if derivative == 0.0 { 0.0 } else { *grad * derivative };
            }
        });
    }
}

/// [`input_grad`] on all threads.
pub(crate) fn par_input_grad(grad: &mut [f32], x: &[f32], activation: Activation) {
    struct Run<'a>(&'a mut [f32], &'a [f32], Activation);
    impl Kernel for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            input_grad::<S>(self.0, self.1, self.2);
        }
    }
    if activation != Activation::Identity {
        for_each_chunk(grad, CHUNK, |index, grad| dispatch(Run(grad, chunk(x, index), activation)));
    }
}

/// The gradient of `x` on all threads, from that of f(x).
pub(crate) fn par_gradient_at_input(grad: &[f32], x: &[f32], activation: Activation) -> Vec<f32> {
    struct Run<'a>(&'a mut [f32], &'a [f32], &'a [f32], Activation);
    impl Kernel for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            self.0.copy_from_slice(self.1);
            input_grad::<S>(self.0, self.2, self.3);
        }
    }
    filled_with(grad.len(), CHUNK, |index, to| {
        dispatch(Run(to, chunk(grad, index), chunk(x, index), activation));
    })
    .0
}

/// [`activation_grad`] on all threads.
pub(crate) fn par_activation_grad(grad: &[f32], y: &[f32], activation: Activation) -> Vec<f32> {
    struct Run<'a>(&'a mut [f32], &'a [f32], &'a [f32], Activation);
    impl Kernel for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            activation_grad(self.0, self.1, self.2, self.3);
        }
    }
    let mut result = zeros(grad.len());
    for_each_chunk(&mut result, CHUNK, |index, result| {
        dispatch(Run(result, chunk(grad, index), chunk(y, index), activation));
    });
    result
}

/// Adds `addend` to `target`.
#[inline(always)]
pub(crate) fn add(target: &mut [f32], addend: &[f32]) {
    for (target, addend) in target.iter_mut().zip(addend) {
        *target += addend;
    }
}

/// [`add`] on all threads.
pub(crate) fn par_add(target: &mut [f32], addend: &[f32]) {
    struct Run<'a>(&'a mut [f32], &'a [f32]);
    impl Kernel for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            add(self.0, self.1);
        }
    }
    for_each_chunk(target, CHUNK, |index, target| dispatch(Run(target, chunk(addend, index))));
}

/// x + y on all threads.
pub(crate) fn par_added(x: &[f32], y: &[f32]) -> Vec<f32> {
    struct Run<'a>(&'a [f32], &'a [f32], &'a mut [f32]);
    impl Kernel for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            for ((to, x), y) in self.2.iter_mut().zip(self.0).zip(self.1) {
                *to = x + y;
            }
        }
    }
    filled_with(x.len(), CHUNK, |index, to| dispatch(Run(chunk(x, index), chunk(y, index), to))).0
}

/// The sum of rows of `len` values.
pub(crate) fn par_sum_rows(values: &[f32], len: usize) -> Vec<f32> {
    struct Run<'a>(&'a [f32], usize);
    impl Kernel for Run<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> Vec<f32> {
            let mut sums = vec![0.0; self.1];
            self.0.chunks_exact(self.1).for_each(|row| add(&mut sums, row));
            sums
        }
    }
    let parts: Vec<&[f32]> = values.chunks(len * (CHUNK / len).max(1)).collect();
    let sums = map_tasks(parts.len(), values.len() * 16, |task| dispatch(Run(parts[task], len)));
    let mut total = vec![0.0; len];
    sums.iter().for_each(|part| add(&mut total, part));
    total
}

/// The `index`-th chunk.
fn chunk(values: &[f32], index: usize) -> &[f32] {
    &values[index * CHUNK..values.len().min((index + 1) * CHUNK)]
}

/// The sum in 32 interleaved runs, which does not depend on the vector length, and hides the latency of an addition.
#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    let mut runs = [0.0f32; 32];
    let (blocks, rest) = values.as_chunks::<32>();
    for block in blocks {
        for (run, value) in runs.iter_mut().zip(block) {
            *run += value;
        }
    }
    let (eights, last) = rest.as_chunks::<8>();
    for eight in eights {
        for (run, value) in runs.iter_mut().zip(eight) {
            *run += value;
        }
    }
    let mut eight = [0.0f32; 8];
    for runs in runs.as_chunks::<8>().0 {
        for (sum, run) in eight.iter_mut().zip(runs) {
            *sum += run;
        }
    }
    eight.iter().sum::<f32>() + last.iter().sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::Plain;

    /// A test for plain code and for the best instruction set.
    macro_rules! on_plain_and_best {
        ($name:ident, $s:ident => $body:block) => {
            #[test]
            fn $name() {
                struct Run;
                impl Kernel for Run {
                    type Output = ();
                    #[inline(always)]
                    fn run<$s: Simd>(self, _: $s) $body
                }
                Run.run(Plain);
                dispatch(Run);
            }
        };
    }

    on_plain_and_best!(tanh_is_close_everywhere, S => {
        for i in -200_000..=200_000 {
            let x = i as f32 * 1e-4;
            let (found, expected) = (f64::from(tanh::<S>(x)), f64::from(x).tanh());
            assert!((found - expected).abs() <= 3e-7 * expected.abs(), "tanh({x}): {found} for {expected}");
        }
        for i in -90_000..=90_000 {
            let x = i as f32 * 1e-4;
            let (found, expected) =
                (derivative_at_input::<S>(x, Activation::Tanh), 1.0 / f64::from(x).cosh().powi(2));
            assert!(
                (f64::from(found) - expected).abs() <= 2e-6 * expected,
                "tanh'({x}): {found} for {expected}"
            );
        }
        assert_eq!(tanh::<S>(f32::INFINITY), 1.0);
        assert_eq!(tanh::<S>(f32::NEG_INFINITY), -1.0);
        assert_eq!(tanh::<S>(1e-20), 1e-20);
        assert!(tanh::<S>(f32::NAN).is_nan());
    });

    /// The distance of `found` from `expected` in units in the last place of the latter.
    fn ulps(found: f32, expected: f64) -> f64 {
        let size = expected.abs().max(f64::from(f32::MIN_POSITIVE)) as f32;
        let unit = f64::from(f32::from_bits(size.to_bits() + 1)) - f64::from(size);
        (f64::from(found) - expected).abs() / unit
    }

    /// erfc(x) / 2 as a continued fraction, or from the series of erf near 0.
    fn normal_tail(t: f64) -> f64 {
        if t < 2.5 {
            let mut term = t;
            let mut sum = t;
            for k in 1..200 {
                term *= t * t / f64::from(2 * k + 1);
                sum += term;
            }
            return 0.5 - sum * (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
        }
        let fraction = (1..=400).rev().fold(t, |rest, k| t + f64::from(k) / rest);
        (-0.5 * t * t).exp() / ((2.0 * std::f64::consts::PI).sqrt() * fraction)
    }

    on_plain_and_best!(exponentials_and_functions_made_of_them_are_within_units_in_the_last_place, S => {
        let mut worst = [0.0f64; 6];
        for i in -1_300_000..=1_300_000 {
            let x = i as f32 * 1e-5;
            let wide = f64::from(x);
            let sigmoid = 1.0 / (1.0 + (-wide).exp());
            let tail = normal_tail(wide.abs());
            let v = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3));
            let found = [
                (exp_of_negative::<S>(-x.abs(), 0.0), (-wide.abs()).exp()),
                (activate_one::<S>(x, Activation::Sigmoid), sigmoid),
                (activate_one::<S>(x, Activation::Silu), wide * sigmoid),
                (derivative_at_input::<S>(x, Activation::Sigmoid), sigmoid * (1.0 - sigmoid)),
                (activate_one::<S>(x, Activation::Gelu), wide * if wide >= 0.0 { 1.0 - tail } else { tail }),
                // The exponential multiplies the rounding of its argument.
                (activate_one::<S>(x, Activation::GeluTanh), wide / (1.0 + (-v).exp())),
            ];
            for (i, (worst, (found, expected))) in worst.iter_mut().zip(found).enumerate() {
                let growth = if i == 5 { 1.0 + v.abs() } else { 1.0 };
                if v > -80.0 || i < 5 {
                    *worst = worst.max(ulps(found, expected) / growth);
                }
            }
        }
        let most = [2.0, 4.0, 4.0, 5.0, 9.0, 5.0];
        assert!(
            worst.iter().zip(most).all(|(worst, most)| *worst <= most),
            "{worst:?} ulp for at most {most:?}"
        );
    });

    on_plain_and_best!(derivatives_are_slopes, S => {
        for activation in [Activation::Sigmoid, Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
            for i in -1100..=1100 {
                let x = i as f32 * 0.01 + 0.005;
                let at = |x: f64| {
                    let h = 1.0 / 64.0;
                    let (low, high) = (x as f32 - h, x as f32 + h);
                    (f64::from(activate_one::<S>(high, activation)) - f64::from(activate_one::<S>(low, activation)))
                        / (f64::from(high) - f64::from(low))
                };
                let (found, slope) = (f64::from(derivative_at_input::<S>(x, activation)), at(f64::from(x)));
                assert!((found - slope).abs() < 1e-2, "{activation:?} at {x}: {found} for {slope}");
            }
        }
    });
}
