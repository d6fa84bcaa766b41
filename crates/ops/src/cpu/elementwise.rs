//! Activations and sums over slices, split over threads in fixed chunks.

use super::memory::buffer::zeros;
use super::memory::threads::for_each_chunk;
use super::simd::{Kernel, Simd, dispatch};
use crate::config::Activation;

/// Number of values per task.
pub(crate) const CHUNK: usize = 1 << 14;

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
        }
    };
}
pub(crate) use for_activation;

/// f(x). NaN stays NaN.
#[inline(always)]
pub(crate) fn activate_one(x: f32, activation: Activation) -> f32 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => {
            if x <= 0.0 {
                0.0
            } else {
                x
            }
        }
        Activation::Relu6 => {
            let positive = if x <= 0.0 { 0.0 } else { x };
            if positive >= 6.0 { 6.0 } else { positive }
        }
        Activation::Tanh => tanh(x),
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
fn tanh(x: f32) -> f32 {
    tanh_and_derivative(x).0
}

/// f′(x), without the cancellation in [`derivative_at_output`] where tanh is near ±1.
#[inline(always)]
pub(crate) fn derivative_at_input(x: f32, activation: Activation) -> f32 {
    match activation {
        Activation::Tanh => tanh_and_derivative(x).1,
        _ => derivative_at_output(activate_one(x, activation), activation),
    }
}

/// tanh and its derivative: 4·e²ˣ / (e²ˣ + 1)² except near 0.
#[inline(always)]
fn tanh_and_derivative(x: f32) -> (f32, f32) {
    /// Below this, tanh is the polynomial.
    const NEAR: f32 = 0.55;
    /// Beyond this, tanh is ±1 in float32.
    const FAR: f32 = 9.5;
    let size = x.abs();
    let square = x * x;
    let p = -0.006_615_748_6f32;
    let p = p * square + 0.021_312_74;
    let p = p * square - 0.053_910_065;
    let p = p * square + 0.133_331_18;
    let p = p * square - 0.333_333_3;
    let near = x + x * square * p;
    let doubled = 2.0 * if size < FAR { size } else { FAR };
    // Adding and subtracting 1.5·2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let shifted = doubled * std::f32::consts::LOG2_E + ROUND;
    let powers = shifted - ROUND;
    // ln 2 is split into two parts, of which the first has few bits.
    let r = (doubled - powers * 0.693_359_4) - powers * -2.121_944_4e-4;
    let e = 1.0 / 5040.0;
    let e = e * r + 1.0 / 720.0;
    let e = e * r + 1.0 / 120.0;
    let e = e * r + 1.0 / 24.0;
    let e = e * r + 1.0 / 6.0;
    let e = e * r + 0.5;
    let e = e * r + 1.0;
    let e = e * r + 1.0;
    // The last bits of the sum are the integer; a conversion would not be vectorized.
    let e = e * f32::from_bits((shifted.to_bits() - ROUND.to_bits() + 127) << 23);
    let half = 2.0 / (e + 1.0);
    let far = (1.0 - half).copysign(x);
    let (value, derivative) = if size < NEAR { (near, 1.0 - near * near) } else { (far, half * (half * e)) };
    if x.is_nan() { (x, x) } else { (value, derivative) }
}

/// Applies f in place.
#[inline(always)]
pub(crate) fn activate(values: &mut [f32], activation: Activation) {
    if activation != Activation::Identity {
        // A loop, here and in every kernel: a closure may be compiled on its own, without the
        // kernel's instructions.
        for_activation!(activation, f => {
            for value in values {
                *value = activate_one(*value, f);
            }
        });
    }
}

/// [`activate`] on all threads.
pub(crate) fn par_activate(values: &mut [f32], activation: Activation) {
    struct Run<'a>(&'a mut [f32], Activation);
    impl Kernel for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            activate(self.0, self.1);
        }
    }
    if activation != Activation::Identity {
        for_each_chunk(values, CHUNK, |_, values| dispatch(Run(values, activation)));
    }
}

/// f′ at the input whose output is `y`.
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
pub(crate) fn input_grad(grad: &mut [f32], x: &[f32], activation: Activation) {
    if activation != Activation::Identity {
        for_activation!(activation, f => {
            for (grad, &x) in grad.iter_mut().zip(x) {
                let derivative = derivative_at_input(x, f);
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
            input_grad(self.0, self.1, self.2);
        }
    }
    if activation != Activation::Identity {
        for_each_chunk(grad, CHUNK, |index, grad| dispatch(Run(grad, chunk(x, index), activation)));
    }
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

/// The `index`-th chunk.
fn chunk(values: &[f32], index: usize) -> &[f32] {
    &values[index * CHUNK..values.len().min((index + 1) * CHUNK)]
}

/// The sum in eight interleaved runs, which does not depend on the vector length.
#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    let mut runs = [0.0f32; 8];
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        for (run, value) in runs.iter_mut().zip(eight) {
            *run += value;
        }
    }
    runs.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tanh_is_close_everywhere() {
        for i in -200_000..=200_000 {
            let x = i as f32 * 1e-4;
            let (found, expected) = (f64::from(tanh(x)), f64::from(x).tanh());
            assert!((found - expected).abs() <= 3e-7 * expected.abs(), "tanh({x}): {found} for {expected}");
        }
        for i in -90_000..=90_000 {
            let x = i as f32 * 1e-4;
            let (found, expected) =
                (derivative_at_input(x, Activation::Tanh), 1.0 / f64::from(x).cosh().powi(2));
            assert!(
                (f64::from(found) - expected).abs() <= 2e-6 * expected,
                "tanh'({x}): {found} for {expected}"
            );
        }
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert_eq!(tanh(1e-20), 1e-20);
        assert!(tanh(f32::NAN).is_nan());
    }
}
