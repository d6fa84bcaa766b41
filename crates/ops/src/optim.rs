//! In-place optimizer steps on one variable.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, Var};
use rayon::prelude::*;

use crate::cpu::elementwise::CHUNK;
use crate::cpu::memory::threads::worth_threads;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::error::{Error, expect_shape};
use crate::{cpu, elsewhere};

/// The position of ε in Adam's update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EpsilonPlacement {
    /// θ −= α·m / (√v + ε) with α = lr·√(1 − β₂ᵗ) / (1 − β₁ᵗ), as in Keras and at the end of section 2 of Kingma and
    /// Ba (2015), where it is called ε̂.
    Keras,
    /// θ −= lr·m̂ / (√v̂ + ε) with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ): as in PyTorch and Algorithm 1 of the paper.
    PyTorch,
}

/// Settings of an Adam or AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the running mean of gradients, in [0, 1).
    pub beta1: f64,
    /// Decay of the running mean of squared gradients, in [0, 1).
    pub beta2: f64,
    /// ε, which keeps the divisor from 0.
    pub epsilon: f64,
    /// The position of ε.
    pub epsilon_placement: EpsilonPlacement,
    /// Decoupled decay (AdamW, Loshchilov and Hutter 2019): θ −= lr·decay·θ before the step. Adam has 0.
    pub weight_decay: f64,
    /// Number of this step, counted from 1.
    pub step: u64,
}

/// Settings of a step of stochastic gradient descent, in PyTorch's convention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// The share of the velocity that is kept: u ← momentum·u + g, without dampening; θ −= lr·u.
    pub momentum: f64,
    /// Whether to use Nesterov's form, θ −= lr·(g + momentum·u) with the new u.
    pub nesterov: bool,
    /// L2 decay, added to the gradient: g ← g + decay·θ.
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

/// The tensors of one variable's Adam step, and its settings, for [`adam_steps`].
#[derive(Debug, Clone, Copy)]
pub struct AdamUpdate<'a> {
    /// The variable.
    pub param: &'a Var,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// The running mean of the gradient.
    pub m: &'a Tensor,
    /// The running mean of its square.
    pub v: &'a Tensor,
    /// The settings.
    pub step: AdamStep,
}

/// The tensors of one variable's step of stochastic gradient descent, and its settings, for [`sgd_steps`].
#[derive(Debug, Clone, Copy)]
pub struct SgdUpdate<'a> {
    /// The variable.
    pub param: &'a Var,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// The decaying sum of gradients.
    pub velocity: &'a Tensor,
    /// The settings.
    pub step: SgdStep,
}

/// [`adam_step`] for several variables; by one launch where a GPU has kernels.
///
/// # Errors
///
/// Those of [`adam_step`].
///
/// ```
/// use candle_core::{Device, Var};
/// use firstsight_ops::optim::{AdamStep, AdamUpdate, EpsilonPlacement, adam_steps};
///
/// let (param, grad) = (Var::new(&[1f32, 2.], &Device::Cpu)?, Var::new(&[1f32, -1.], &Device::Cpu)?);
/// let (m, v) = (param.zeros_like()?, param.zeros_like()?);
/// let step = AdamStep {
///     lr: 0.5,
///     beta1: 0.9,
///     beta2: 0.999,
///     epsilon: 0.0,
///     epsilon_placement: EpsilonPlacement::PyTorch,
///     weight_decay: 0.0,
///     step: 1,
/// };
/// adam_steps(&[AdamUpdate { param: &param, grad: &grad, m: &m, v: &v, step }])?;
/// let moved = param.to_vec1::<f32>()?;
/// assert!((moved[0] - 0.5).abs() < 1e-6 && (moved[1] - 2.5).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn adam_steps(updates: &[AdamUpdate<'_>]) -> Result<()> {
    let mut others = Vec::new();
    for update in updates {
        let &AdamUpdate { param, grad, m, v, step } = update;
        let factors = step.factors()?;
        for (argument, tensor) in [("grad", grad), ("m", m), ("v", v)] {
            expect_shape("adam_step", argument, tensor, param.dims())?;
        }
        if cpu::has_kernels(&[param, grad, m, v]) && contiguous(&[param, m, v]) {
            adam_on_cpu(update, &factors)?;
        } else {
            others.push((*update, factors));
        }
    }
    elsewhere::optim::adam_steps(&others)
}

/// Updates `param` by one Adam step.
///
/// `m` and `v` are the running means of the gradient and of its square, zeros before the first step. All four tensors
/// have one shape, dtype and device; `m` and `v` are contiguous.
///
/// # Errors
///
/// Tensors that share memory, shapes that differ, settings out of range.
pub fn adam_step(param: &Var, grad: &Tensor, m: &Tensor, v: &Tensor, step: &AdamStep) -> Result<()> {
    adam_steps(&[AdamUpdate { param, grad, m, v, step: *step }])
}

fn adam_on_cpu(update: &AdamUpdate<'_>, factors: &AdamFactors) -> Result<()> {
    let &AdamUpdate { param, grad, m, v, step } = update;
    distinct("adam_step", &[("param", param), ("grad", grad), ("m", m), ("v", v)])?;
    let grad = grad.contiguous()?;
    let grad = cpu::data(&grad);
    let grad = grad.slice()?;
    let &AdamFactors { decay, alpha, root_scale } = factors;
    let rates = AdamRates {
        decay: decay as f32,
        alpha: alpha as f32,
        root_scale: root_scale as f32,
        betas: [step.beta1 as f32, step.beta2 as f32],
        rests: [(1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32],
        epsilon: step.epsilon as f32,
    };
    in_place(param, |param| {
        in_place(m, |m| {
            in_place(v, |v| {
                let chunk = |(((param, m), v), grad)| dispatch(AdamChunk { rates, param, m, v, grad });
                if worth_threads(grad.len()) {
                    let values = param.par_chunks_mut(CHUNK).zip(m.par_chunks_mut(CHUNK));
                    let values = values.zip(v.par_chunks_mut(CHUNK)).zip(grad.par_chunks(CHUNK));
                    values.for_each(chunk);
                } else {
                    chunk((((&mut *param, &mut *m), &mut *v), grad));
                }
                Ok(())
            })
        })
    })
}

/// The constants of an Adam step in float32.
#[derive(Clone, Copy)]
struct AdamRates {
    decay: f32,
    alpha: f32,
    root_scale: f32,
    betas: [f32; 2],
    /// 1 − β
    rests: [f32; 2],
    epsilon: f32,
}

struct AdamChunk<'a> {
    rates: AdamRates,
    param: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    grad: &'a [f32],
}

impl Kernel for AdamChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { rates, param, m, v, grad } = self;
        let AdamRates { decay, alpha, root_scale, betas, rests, epsilon } = rates;
        for (((param, m), v), grad) in param.iter_mut().zip(m).zip(v).zip(grad) {
            *m = betas[0] * *m + rests[0] * grad;
            *v = betas[1] * *v + rests[1] * (grad * grad);
            *param = decay * *param - alpha * *m / (v.sqrt() * root_scale + epsilon);
        }
    }
}

/// [`sgd_step`] for several variables; by one launch where a GPU has kernels.
///
/// # Errors
///
/// Those of [`sgd_step`].
pub fn sgd_steps(updates: &[SgdUpdate<'_>]) -> Result<()> {
    let mut others = Vec::new();
    for update in updates {
        let &SgdUpdate { param, grad, velocity, .. } = update;
        for (argument, tensor) in [("grad", grad), ("velocity", velocity)] {
            expect_shape("sgd_step", argument, tensor, param.dims())?;
        }
        if cpu::has_kernels(&[param, grad, velocity]) && contiguous(&[param, velocity]) {
            sgd_on_cpu(update)?;
        } else {
            others.push(*update);
        }
    }
    elsewhere::optim::sgd_steps(&others)
}

/// Updates `param` by one step of stochastic gradient descent.
///
/// `velocity` is the decaying sum of gradients, zeros before the first step. All three tensors have one shape, dtype and
/// device; `velocity` is contiguous.
///
/// # Errors
///
/// Tensors that share memory, shapes that differ.
pub fn sgd_step(param: &Var, grad: &Tensor, velocity: &Tensor, step: &SgdStep) -> Result<()> {
    sgd_steps(&[SgdUpdate { param, grad, velocity, step: *step }])
}

fn sgd_on_cpu(update: &SgdUpdate<'_>) -> Result<()> {
    let &SgdUpdate { param, grad, velocity, step } = update;
    distinct("sgd_step", &[("param", param), ("grad", grad), ("velocity", velocity)])?;
    let grad = grad.contiguous()?;
    let grad = cpu::data(&grad);
    let grad = grad.slice()?;
    in_place(param, |param| {
        in_place(velocity, |velocity| {
            let chunk = |((param, velocity), grad)| dispatch(SgdChunk { step, param, velocity, grad });
            if worth_threads(grad.len()) {
                let values = param.par_chunks_mut(CHUNK).zip(velocity.par_chunks_mut(CHUNK));
                values.zip(grad.par_chunks(CHUNK)).for_each(chunk);
            } else {
                chunk(((&mut *param, &mut *velocity), grad));
            }
            Ok(())
        })
    })
}

struct SgdChunk<'a> {
    step: SgdStep,
    param: &'a mut [f32],
    velocity: &'a mut [f32],
    grad: &'a [f32],
}

impl Kernel for SgdChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { step, param, velocity, grad } = self;
        let (lr, momentum, decay) = (step.lr as f32, step.momentum as f32, step.weight_decay as f32);
        for ((param, velocity), grad) in param.iter_mut().zip(velocity).zip(grad) {
            let grad = grad + decay * *param;
            *velocity = momentum * *velocity + grad;
            *param -= lr * if step.nesterov { grad + momentum * *velocity } else { *velocity };
        }
    }
}

fn contiguous(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.is_contiguous())
}

/// Fails if tensors share memory, since locking one storage twice for writing would deadlock.
fn distinct(op: &'static str, tensors: &[(&'static str, &Tensor)]) -> Result<()> {
    let starts: Vec<*const f32> =
        tensors.iter().map(|(_, tensor)| cpu::storage_start(tensor)).collect::<Result<_>>()?;
    for (i, &(second, _)) in tensors.iter().enumerate() {
        if let Some(j) = starts[..i].iter().position(|start| *start == starts[i]) {
            return Err(Error::Aliased { op, first: tensors[j].0, second }.into());
        }
    }
    Ok(())
}

/// Calls `change` with the values of a contiguous float32 tensor on the CPU.
fn in_place(tensor: &Tensor, change: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
    struct Change<F>(std::cell::Cell<Option<F>>);
    impl<F: FnOnce(&mut [f32]) -> Result<()>> InplaceOp1 for Change<F> {
        fn name(&self) -> &'static str {
            "in_place"
        }

        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
            match (storage, layout.contiguous_offsets(), self.0.take()) {
                (CpuStorage::F32(values), Some((start, end)), Some(change)) => {
                    change(&mut values[start..end])
                }
                _ => candle_core::bail!("in_place: expected a contiguous float32 tensor on the CPU"),
            }
        }
    }
    tensor.inplace_op1(&Change(std::cell::Cell::new(Some(change))))
}
