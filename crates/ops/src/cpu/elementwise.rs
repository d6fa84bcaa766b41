//! Activations, and the loops over long slices, split over threads in fixed pieces.

use rayon::prelude::*;

use crate::config::Activation;

/// Values per piece of work.
pub(crate) const PIECE: usize = 1 << 14;

/// f(x) in place.
#[inline(always)]
pub(crate) fn activate(values: &mut [f32], activation: Activation) {
    // Written so that a value that is no number stays.
    match activation {
        Activation::Identity => {}
        Activation::Relu => values.iter_mut().for_each(|v| *v = if *v <= 0.0 { 0.0 } else { *v }),
        Activation::Relu6 => values.iter_mut().for_each(|v| {
            let positive = if *v <= 0.0 { 0.0 } else { *v };
            *v = if positive >= 6.0 { 6.0 } else { positive };
        }),
        Activation::Tanh => values.iter_mut().for_each(|v| *v = v.tanh()),
        Activation::LeakyRelu(slope) => {
            let slope = slope as f32;
            values.iter_mut().for_each(|v| *v = if *v <= 0.0 { slope * *v } else { *v });
        }
    }
}

/// f′ at the input that gave the output `y`.
#[inline(always)]
fn slope_at(y: f32, activation: Activation) -> f32 {
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
        Activation::LeakyRelu(slope) => {
            if y <= 0.0 {
                slope as f32
            } else {
                1.0
            }
        }
    }
}

/// The gradient before the activation: `grad`·f′, from the output `y`. Where f′ is 0 so is the result, whatever
/// `grad` is.
#[inline(always)]
pub(crate) fn activation_grad(into: &mut [f32], grad: &[f32], y: &[f32], activation: Activation) {
    // The match outside the loop, so that each loop is a plain one.
    macro_rules! each {
        ($activation:expr) => {
            for ((into, &grad), &y) in into.iter_mut().zip(grad).zip(y) {
                let slope = slope_at(y, $activation);
                *into = if slope == 0.0 { 0.0 } else { grad * slope };
            }
        };
    }
    match activation {
        Activation::Identity => into.copy_from_slice(grad),
        Activation::Relu => each!(Activation::Relu),
        Activation::Relu6 => each!(Activation::Relu6),
        Activation::Tanh => each!(Activation::Tanh),
        Activation::LeakyRelu(slope) => each!(Activation::LeakyRelu(slope)),
    }
}

/// [`activation_grad`] of whole tensors.
pub(crate) fn par_activation_grad(grad: &[f32], y: &[f32], activation: Activation) -> Vec<f32> {
    let mut result = vec![0.0; grad.len()];
    result
        .par_chunks_mut(PIECE)
        .zip(grad.par_chunks(PIECE))
        .zip(y.par_chunks(PIECE))
        .for_each(|((result, grad), y)| activation_grad(result, grad, y, activation));
    result
}

/// target += addend
#[inline(always)]
pub(crate) fn add(target: &mut [f32], addend: &[f32]) {
    target.iter_mut().zip(addend).for_each(|(target, addend)| *target += addend);
}

/// Sum in eight interleaved runs, as the vectors of any processor would take it.
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
