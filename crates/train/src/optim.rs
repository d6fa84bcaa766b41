//! Optimizers.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use firstsight_ops::optim::{
    AdamStep, AdamUpdate, EpsilonPlacement, SgdStep, SgdUpdate, adam_steps, sgd_steps,
};

use crate::{ParamGroups, Result};

/// Adam's ε and the place where it is added, in which the frameworks differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AdamEpsilon {
    /// Added to √v before the bias correction, the "ε hat" of Kingma and Ba's section 2. Keras's default is 1e-7.
    Keras(f64),
    /// Added to √v̂ after the correction, as in their algorithm 1. PyTorch's default is 1e-8.
    PyTorch(f64),
}

/// An optimizer and its settings.
///
/// ```
/// use firstsight_train::{AdamEpsilon, OptimizerConfig};
///
/// let adam = OptimizerConfig::adam_keras(1e-3);
/// let spelled_out =
///     OptimizerConfig::Adam { lr: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: AdamEpsilon::Keras(1e-7) };
/// assert_eq!(adam, spelled_out);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerConfig {
    /// Gradient descent with momentum: v ← μ·v + g; w ← w − lr·v (PyTorch's convention).
    Sgd {
        /// Learning rate.
        lr: f64,
        /// μ in [0, 1).
        momentum: f64,
    },
    /// Adam (Kingma and Ba 2015).
    Adam {
        /// Learning rate.
        lr: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// ε.
        epsilon: AdamEpsilon,
    },
    /// Adam with decoupled weight decay, w ← w − lr·weight_decay·w before the step (Loshchilov and Hutter 2019).
    AdamW {
        /// Learning rate.
        lr: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// ε.
        epsilon: AdamEpsilon,
        /// Weight decay.
        weight_decay: f64,
    },
}

impl OptimizerConfig {
    /// Keras's `Adam(lr)`: β₁ 0.9, β₂ 0.999, ε 1e-7 before the bias correction.
    pub fn adam_keras(lr: f64) -> Self {
        Self::Adam { lr, beta1: 0.9, beta2: 0.999, epsilon: AdamEpsilon::Keras(1e-7) }
    }

    /// PyTorch's `Adam(lr)`: β₁ 0.9, β₂ 0.999, ε 1e-8 after the bias correction.
    pub fn adam_torch(lr: f64) -> Self {
        Self::Adam { lr, beta1: 0.9, beta2: 0.999, epsilon: AdamEpsilon::PyTorch(1e-8) }
    }

    /// PyTorch's `AdamW(lr, weight_decay)`: β₁ 0.9, β₂ 0.999, ε 1e-8 after the bias correction.
    pub fn adamw(lr: f64, weight_decay: f64) -> Self {
        let epsilon = AdamEpsilon::PyTorch(1e-8);
        Self::AdamW { lr, beta1: 0.9, beta2: 0.999, epsilon, weight_decay }
    }

    /// PyTorch's `SGD(lr, momentum)`.
    pub fn sgd(lr: f64, momentum: f64) -> Self {
        Self::Sgd { lr, momentum }
    }

    /// The learning rate.
    pub fn lr(&self) -> f64 {
        match *self {
            Self::Sgd { lr, .. } | Self::Adam { lr, .. } | Self::AdamW { lr, .. } => lr,
        }
    }
}

/// An optimizer over some variables, with its moments and step count.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    slots: Vec<Slot>,
    steps: u64,
}

/// A variable with its settings and moments.
#[derive(Debug)]
struct Slot {
    var: Var,
    lr_scale: f64,
    weight_decay: f64,
    l2: f64,
    /// [velocity] for SGD, [m, v] for Adam.
    moments: Vec<Tensor>,
}

impl Slot {
    fn moments<const N: usize>(&self) -> Result<&[Tensor; N]> {
        let found = self.moments.len();
        let error = || candle_core::Error::Msg(format!("{found} moments per variable instead of {N}"));
        Ok(self.moments.as_slice().try_into().map_err(|_| error())?)
    }
}

impl Optimizer {
    /// An optimizer at step 0, with moments of zero.
    ///
    /// # Errors
    ///
    /// A device that is out of memory.
    pub fn new(config: OptimizerConfig, groups: impl Into<ParamGroups>) -> Result<Self> {
        let n = match config {
            OptimizerConfig::Sgd { .. } => 1,
            OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } => 2,
        };
        let mut slots = Vec::new();
        for group in groups.into().0 {
            for var in group.vars {
                let moments = (0..n).map(|_| var.zeros_like()).collect::<candle_core::Result<_>>()?;
                let (lr_scale, weight_decay) = (group.lr_scale, group.weight_decay);
                slots.push(Slot { var, lr_scale, weight_decay, l2: group.l2, moments });
            }
        }
        Ok(Self { config, slots, steps: 0 })
    }

    /// Takes a step of every variable that has a gradient, at the configured learning rate.
    ///
    /// # Errors
    ///
    /// Gradients whose shapes are not the variables'.
    pub fn step(&mut self, gradients: &GradStore) -> Result<()> {
        self.step_scaled(gradients, 1.0, None)
    }

    /// Takes a [step](Optimizer::step) with all learning rates multiplied by `lr_scale`. With `clip_norm`, all gradients
    /// are scaled down together where their norm exceeds it: g ← g · clip / max(clip, ‖g‖) (Pascanu et al. 2013,
    /// algorithm 1).
    ///
    /// # Errors
    ///
    /// Gradients whose shapes are not the variables'.
    pub fn step_scaled(
        &mut self,
        gradients: &GradStore,
        lr_scale: f64,
        clip_norm: Option<f64>,
    ) -> Result<()> {
        self.steps += 1;
        let scale = match clip_norm {
            Some(clip) => clip / self.norm(gradients)?.max(clip),
            None => 1.0,
        };
        let mut updates = Vec::new();
        for slot in &self.slots {
            let Some(gradient) = gradients.get(&slot.var) else { continue };
            let mut gradient = gradient.clone();
            if scale < 1.0 {
                gradient = (gradient * scale)?;
            }
            if slot.l2 > 0.0 {
                gradient = (gradient + (slot.var.as_tensor() * slot.l2)?)?.detach();
            }
            updates.push((slot, gradient));
            // A GPU takes all steps together. On the CPU that would only keep all scaled gradients at once.
            if slot.var.device().is_cpu() {
                self.update(&std::mem::take(&mut updates), lr_scale)?;
            }
        }
        self.update(&updates, lr_scale)
    }

    /// The Euclidean norm of all gradients together.
    fn norm(&self, gradients: &GradStore) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.slots.iter().filter_map(|slot| gradients.get(&slot.var)) {
            sum += f64::from(gradient.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        }
        Ok(sum.sqrt())
    }

    fn update(&self, updates: &[(&Slot, Tensor)], lr_scale: f64) -> Result<()> {
        let (lr, betas, epsilon, decay) = match self.config {
            OptimizerConfig::Sgd { lr, momentum } => {
                let steps = updates.iter().map(|(slot, grad)| {
                    let [velocity] = slot.moments()?;
                    let lr = lr * (lr_scale * slot.lr_scale);
                    let step = SgdStep { lr, momentum, nesterov: false, weight_decay: 0.0 };
                    Ok(SgdUpdate { param: &slot.var, grad, velocity, step })
                });
                return Ok(sgd_steps(&steps.collect::<Result<Vec<_>>>()?)?);
            }
            OptimizerConfig::Adam { lr, beta1, beta2, epsilon } => (lr, (beta1, beta2), epsilon, 0.0),
            OptimizerConfig::AdamW { lr, beta1, beta2, epsilon, weight_decay } => {
                (lr, (beta1, beta2), epsilon, weight_decay)
            }
        };
        let steps = updates.iter().map(|(slot, grad)| {
            let [m, v] = slot.moments()?;
            let lr = lr * (lr_scale * slot.lr_scale);
            let step = adam(lr, betas, epsilon, decay * slot.weight_decay, self.steps);
            Ok(AdamUpdate { param: &slot.var, grad, m, v, step })
        });
        Ok(adam_steps(&steps.collect::<Result<Vec<_>>>()?)?)
    }

    /// The variables that the optimizer changes.
    pub(crate) fn vars(&self) -> Vec<Var> {
        self.slots.iter().map(|slot| slot.var.clone()).collect()
    }

    /// The number of steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments by name, for a checkpoint.
    pub(crate) fn state(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.slots.iter().enumerate().flat_map(|(i, slot)| {
            slot.moments.iter().enumerate().map(move |(j, t)| (format!("{i:04}.{j}"), t))
        })
    }

    /// Sets the moments and the step count from a checkpoint.
    pub(crate) fn restore(&mut self, steps: u64, saved: &BTreeMap<String, Tensor>) -> Result<(), String> {
        for (i, slot) in self.slots.iter_mut().enumerate() {
            for (j, moment) in slot.moments.iter_mut().enumerate() {
                let name = format!("{i:04}.{j}");
                let saved = saved.get(&name).ok_or_else(|| format!("optimizer moment {name} is missing"))?;
                if saved.dims() != moment.dims() {
                    let (expected, found) = (moment.dims(), saved.dims());
                    return Err(format!(
                        "optimizer moment {name}: expected shape {expected:?}, found {found:?}"
                    ));
                }
                *moment = saved.clone();
            }
        }
        self.steps = steps;
        Ok(())
    }
}

/// Averages gradients over several batches.
pub(crate) struct Accumulation {
    steps: usize,
    vars: Vec<Var>,
    /// Sum over the batches so far, each times its weight.
    sum: Option<GradStore>,
    batches: usize,
    weight: f64,
}

impl Accumulation {
    pub(crate) fn new(steps: usize, vars: Vec<Var>) -> Self {
        Self { steps, vars, sum: None, batches: 0, weight: 0.0 }
    }

    /// Adds the gradients of a batch of a [weight](crate::Loss::weight). Returns the mean when it is time for a step: after the
    /// configured number of batches, and after the last batch of an epoch.
    pub(crate) fn add(
        &mut self,
        mut gradients: GradStore,
        weight: f64,
        is_last: bool,
    ) -> Result<Option<GradStore>> {
        if self.steps <= 1 {
            return Ok(Some(gradients));
        }
        let sum = self.sum.take();
        for var in &self.vars {
            let before = sum.as_ref().and_then(|sum| sum.get(var));
            let own = gradients.get(var).map(|own| own * weight).transpose()?;
            let total = match (before, own) {
                (Some(before), Some(own)) => (before + own)?,
                (Some(one), None) => one.clone(),
                (None, Some(one)) => one,
                (None, None) => continue,
            };
            gradients.insert(var, total.detach());
        }
        self.batches += 1;
        self.weight += weight;
        if self.batches < self.steps && !is_last {
            self.sum = Some(gradients);
            return Ok(None);
        }
        let weight = std::mem::take(&mut self.weight);
        self.batches = 0;
        if weight == 0.0 {
            return Ok(Some(gradients));
        }
        for var in &self.vars {
            if let Some(sum) = gradients.get(var) {
                let mean = (sum / weight)?;
                gradients.insert(var, mean);
            }
        }
        Ok(Some(gradients))
    }
}

fn adam(lr: f64, (beta1, beta2): (f64, f64), epsilon: AdamEpsilon, weight_decay: f64, step: u64) -> AdamStep {
    let (epsilon, epsilon_placement) = match epsilon {
        AdamEpsilon::Keras(e) => (e, EpsilonPlacement::Keras),
        AdamEpsilon::PyTorch(e) => (e, EpsilonPlacement::PyTorch),
    };
    AdamStep { lr, beta1, beta2, epsilon, epsilon_placement, weight_decay, step }
}
