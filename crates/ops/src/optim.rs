//! Optimiser steps on one variable, in place.

use candle_core::{Result, Tensor, Var};

use crate::error::{Error, expect_shape};

/// Where Adam's epsilon goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EpsilonPlacement {
    /// θ −= α·m / (√v + ε) with α = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ): Keras, and the end of section 2 of Kingma and Ba
    /// (2015), who call it ε̂.
    Keras,
    /// θ −= lr·m̂ / (√v̂ + ε) with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ): PyTorch, and Algorithm 1 of the paper.
    PyTorch,
}

/// The numbers of one Adam or AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean of gradients, in [0, 1).
    pub beta1: f64,
    /// Decay of the mean of squared gradients, in [0, 1).
    pub beta2: f64,
    /// Keeps the divisor from 0.
    pub epsilon: f64,
    /// Where `epsilon` goes.
    pub epsilon_placement: EpsilonPlacement,
    /// Decoupled decay (AdamW, Loshchilov and Hutter 2019): θ −= lr·decay·θ before the step. 0 is Adam.
    pub weight_decay: f64,
    /// The number of this step, from 1.
    pub step: u64,
}

/// The numbers of one step of stochastic gradient descent, in PyTorch's convention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// How much of the velocity stays: u ← momentum·u + g, without dampening; θ −= lr·u.
    pub momentum: f64,
    /// Nesterov's form: θ −= lr·(g + momentum·u) with the new u.
    pub nesterov: bool,
    /// L2 decay added to the gradient: g ← g + decay·θ.
    pub weight_decay: f64,
}

/// The factors of an Adam step that are the same for every element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamFactors {
    pub(crate) decay: f64,
    pub(crate) alpha: f64,
    pub(crate) root_scale: f64,
}

impl AdamStep {
    fn factors(&self) -> crate::Result<AdamFactors> {
        let &Self { lr, beta1, beta2, weight_decay, step, .. } = self;
        let betas = 0.0..1.0;
        if step == 0 || !betas.contains(&beta1) || !betas.contains(&beta2) {
            return Err(Error::Setting {
                op: "adam_step",
                rule: "steps count from 1 and both betas lie in [0, 1)",
                found: format!("step {step}, betas {beta1} and {beta2}"),
            });
        }
        let t = step as f64;
        let (correction1, correction2) = (1.0 - beta1.powf(t), (1.0 - beta2.powf(t)).sqrt());
        let decay = 1.0 - lr * weight_decay;
        Ok(match self.epsilon_placement {
            EpsilonPlacement::Keras => {
                AdamFactors { decay, alpha: lr * correction2 / correction1, root_scale: 1.0 }
            }
            EpsilonPlacement::PyTorch => {
                AdamFactors { decay, alpha: lr / correction1, root_scale: 1.0 / correction2 }
            }
        })
    }
}

/// One Adam step: `param` moves against `grad`; `m` and `v`, zeros before the first step, hold the running means
/// of the gradient and of its square. All four have one shape, dtype and device; `m` and `v` are contiguous.
///
/// # Errors
/// Shapes that differ, settings out of range.
pub fn adam_step(param: &Var, grad: &Tensor, m: &Tensor, v: &Tensor, step: &AdamStep) -> Result<()> {
    let factors = step.factors()?;
    for (argument, tensor) in [("grad", grad), ("m", m), ("v", v)] {
        expect_shape("adam_step", argument, tensor, param.dims())?;
    }
    let grad = grad.detach();
    let new_m = ((m * step.beta1)? + (&grad * (1.0 - step.beta1))?)?;
    let new_v = ((v * step.beta2)? + (grad.sqr()? * (1.0 - step.beta2))?)?;
    let divisor = ((new_v.sqrt()? * factors.root_scale)? + step.epsilon)?;
    let old = param.as_detached_tensor();
    let new = ((old * factors.decay)? - ((&new_m / divisor)? * factors.alpha)?)?;
    overwrite(m, &new_m)?;
    overwrite(v, &new_v)?;
    param.set(&new)
}

/// One step of stochastic gradient descent: `param` moves against `grad`; `velocity`, zeros before the first
/// step, holds the decaying sum of gradients. All three have one shape, dtype and device; `velocity` is contiguous.
///
/// # Errors
/// Shapes that differ.
pub fn sgd_step(param: &Var, grad: &Tensor, velocity: &Tensor, step: &SgdStep) -> Result<()> {
    for (argument, tensor) in [("grad", grad), ("velocity", velocity)] {
        expect_shape("sgd_step", argument, tensor, param.dims())?;
    }
    let old = param.as_detached_tensor();
    let grad = (grad.detach() + (&old * step.weight_decay)?)?;
    let new_velocity = ((velocity * step.momentum)? + &grad)?;
    let direction =
        if step.nesterov { (grad + (&new_velocity * step.momentum)?)? } else { new_velocity.clone() };
    overwrite(velocity, &new_velocity)?;
    param.set(&(old - (direction * step.lr)?)?)
}

/// Writes `values` over the contents of `target`.
fn overwrite(target: &Tensor, values: &Tensor) -> Result<()> {
    target.flatten_all()?.slice_set(&values.flatten_all()?, 0, 0)
}
