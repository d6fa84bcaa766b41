use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use firstsight_ops::optim::{AdamStep, EpsilonPlacement, SgdStep, adam_step, sgd_step};

use crate::{Result, Trainable};

/// Where Adam adds its ε, and which: the frameworks differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AdamEpsilon {
    /// Beside √v before the bias correction, the "ε hat" of Kingma and Ba's section 2. Keras's default is 1e-7.
    Keras(f64),
    /// Beside √v̂ after the correction, as in their algorithm 1. PyTorch's default is 1e-8.
    PyTorch(f64),
}

/// How variables follow their gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerConfig {
    /// v ← μ·v + g; w ← w − rate·v (PyTorch's convention of momentum).
    Sgd {
        /// Learning rate.
        rate: f64,
        /// μ in [0, 1).
        momentum: f64,
    },
    /// Adam (Kingma and Ba 2015).
    Adam {
        /// Learning rate.
        rate: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// ε.
        epsilon: AdamEpsilon,
    },
    /// Adam with decoupled weight decay: w ← w − rate·decay·w first (Loshchilov and Hutter 2019).
    AdamW {
        /// Learning rate.
        rate: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// ε.
        epsilon: AdamEpsilon,
        /// Weight decay.
        decay: f64,
    },
}

impl OptimizerConfig {
    /// The learning rate.
    pub fn rate(self) -> f64 {
        match self {
            Self::Sgd { rate, .. } | Self::Adam { rate, .. } | Self::AdamW { rate, .. } => rate,
        }
    }
}

/// An optimiser over some variables, with its moments and step count.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    slots: Vec<Slot>,
    steps: u64,
}

/// A variable with what the optimiser keeps for it.
#[derive(Debug)]
struct Slot {
    var: Var,
    rate: f64,
    decay: f64,
    l2: f64,
    /// [velocity] for SGD, [m, v] for Adam.
    moments: Vec<Tensor>,
}

impl Optimizer {
    /// An optimiser at step 0 with moments of zero.
    pub fn new(config: OptimizerConfig, trainable: impl Into<Trainable>) -> Result<Self> {
        let n = match config {
            OptimizerConfig::Sgd { .. } => 1,
            OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } => 2,
        };
        let mut slots = Vec::new();
        for group in trainable.into().groups {
            for var in group.vars {
                let moments = (0..n).map(|_| var.zeros_like()).collect::<candle_core::Result<_>>()?;
                slots.push(Slot { var, rate: group.rate, decay: group.decay, l2: group.l2, moments });
            }
        }
        Ok(Self { config, slots, steps: 0 })
    }

    /// Moves every variable that has a gradient, at the configured rate.
    pub fn step(&mut self, gradients: &GradStore) -> Result<()> {
        self.step_scaled(gradients, 1.0, None)
    }

    /// [`Optimizer::step`] with every rate multiplied by `factor`, and, with `clip_norm`, with all gradients scaled
    /// down together where their norm exceeds it: g ← g · clip / max(clip, ‖g‖) (Pascanu et al. 2013, algorithm 1).
    pub fn step_scaled(&mut self, gradients: &GradStore, factor: f64, clip_norm: Option<f64>) -> Result<()> {
        self.steps += 1;
        let scale = match clip_norm {
            Some(clip) => clip / self.norm(gradients)?.max(clip),
            None => 1.0,
        };
        for slot in &self.slots {
            let Some(gradient) = gradients.get(&slot.var) else { continue };
            let mut gradient = gradient.clone();
            if scale < 1.0 {
                gradient = (gradient * scale)?;
            }
            if slot.l2 > 0.0 {
                gradient = (gradient + (slot.var.as_tensor() * slot.l2)?)?.detach();
            }
            self.move_one(slot, &gradient, factor)?;
        }
        Ok(())
    }

    /// The Euclidean norm of all gradients together.
    fn norm(&self, gradients: &GradStore) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.slots.iter().filter_map(|slot| gradients.get(&slot.var)) {
            sum += f64::from(gradient.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        }
        Ok(sum.sqrt())
    }

    fn move_one(&self, slot: &Slot, gradient: &Tensor, factor: f64) -> Result<()> {
        let factor = factor * slot.rate;
        let var = &slot.var;
        match (self.config, slot.moments.as_slice()) {
            (OptimizerConfig::Sgd { rate, momentum }, [velocity]) => {
                let step = SgdStep { lr: rate * factor, momentum, nesterov: false, weight_decay: 0.0 };
                sgd_step(var, gradient, velocity, &step)?;
            }
            (OptimizerConfig::Adam { rate, beta1, beta2, epsilon }, [m, v]) => {
                let step = adam(rate * factor, (beta1, beta2), epsilon, 0.0, self.steps);
                adam_step(var, gradient, m, v, &step)?;
            }
            (OptimizerConfig::AdamW { rate, beta1, beta2, epsilon, decay }, [m, v]) => {
                let step = adam(rate * factor, (beta1, beta2), epsilon, decay * slot.decay, self.steps);
                adam_step(var, gradient, m, v, &step)?;
            }
            (config, moments) => {
                let n = moments.len();
                return Err(candle_core::Error::Msg(format!("{config:?} with {n} moments a variable")).into());
            }
        }
        Ok(())
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments by name, for a checkpoint.
    pub(crate) fn state(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.slots.iter().enumerate().flat_map(|(i, slot)| {
            slot.moments.iter().enumerate().map(move |(j, t)| (format!("{i:04}.{j}"), t))
        })
    }

    /// Takes the moments and step count of a checkpoint.
    pub(crate) fn restore(
        &mut self,
        steps: u64,
        state: impl Fn(&str) -> Option<Tensor>,
    ) -> Result<(), String> {
        for (i, slot) in self.slots.iter_mut().enumerate() {
            for (j, moment) in slot.moments.iter_mut().enumerate() {
                let name = format!("{i:04}.{j}");
                let saved = state(&name).ok_or_else(|| format!("optimiser moment {name} is missing"))?;
                if saved.dims() != moment.dims() {
                    let (expected, found) = (moment.dims(), saved.dims());
                    return Err(format!("optimiser moment {name} is {found:?}, expected {expected:?}"));
                }
                *moment = saved;
            }
        }
        self.steps = steps;
        Ok(())
    }
}

fn adam(rate: f64, (beta1, beta2): (f64, f64), epsilon: AdamEpsilon, decay: f64, step: u64) -> AdamStep {
    let (epsilon, epsilon_placement) = match epsilon {
        AdamEpsilon::Keras(e) => (e, EpsilonPlacement::Keras),
        AdamEpsilon::PyTorch(e) => (e, EpsilonPlacement::PyTorch),
    };
    AdamStep { lr: rate, beta1, beta2, epsilon, epsilon_placement, weight_decay: decay, step }
}
