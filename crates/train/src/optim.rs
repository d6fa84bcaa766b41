use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use firstsight_ops::optim::{AdamStep, EpsilonPlacement, SgdStep, adam_step, sgd_step};

use crate::Result;

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

/// An optimiser over some variables, with its moments and step count.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    vars: Vec<Var>,
    /// For each variable: [velocity] for SGD, [m, v] for Adam.
    moments: Vec<Vec<Tensor>>,
    steps: u64,
}

impl Optimizer {
    /// An optimiser at step 0 with moments of zero.
    pub fn new(config: OptimizerConfig, vars: Vec<Var>) -> Result<Self> {
        let n = match config {
            OptimizerConfig::Sgd { .. } => 1,
            OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } => 2,
        };
        let zeros = |var: &Var| (0..n).map(|_| var.zeros_like()).collect::<candle_core::Result<Vec<_>>>();
        let moments = vars.iter().map(zeros).collect::<candle_core::Result<_>>()?;
        Ok(Self { config, vars, moments, steps: 0 })
    }

    /// Moves every variable that has a gradient.
    pub fn step(&mut self, gradients: &GradStore) -> Result<()> {
        self.steps += 1;
        for (var, moments) in self.vars.iter().zip(&self.moments) {
            let Some(gradient) = gradients.get(var) else { continue };
            match (self.config, moments.as_slice()) {
                (OptimizerConfig::Sgd { rate, momentum }, [velocity]) => {
                    let step = SgdStep { lr: rate, momentum, nesterov: false, weight_decay: 0.0 };
                    sgd_step(var, gradient, velocity, &step)?;
                }
                (OptimizerConfig::Adam { rate, beta1, beta2, epsilon }, [m, v]) => {
                    adam_step(var, gradient, m, v, &adam(rate, (beta1, beta2), epsilon, 0.0, self.steps))?;
                }
                (OptimizerConfig::AdamW { rate, beta1, beta2, epsilon, decay }, [m, v]) => {
                    adam_step(var, gradient, m, v, &adam(rate, (beta1, beta2), epsilon, decay, self.steps))?;
                }
                (config, moments) => {
                    let n = moments.len();
                    return Err(
                        candle_core::Error::Msg(format!("{config:?} with {n} moments a variable")).into()
                    );
                }
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
        self.moments
            .iter()
            .enumerate()
            .flat_map(|(i, moments)| moments.iter().enumerate().map(move |(j, t)| (format!("{i:04}.{j}"), t)))
    }

    /// Takes the moments and step count of a checkpoint.
    pub(crate) fn restore(
        &mut self,
        steps: u64,
        state: impl Fn(&str) -> Option<Tensor>,
    ) -> Result<(), String> {
        for (i, moments) in self.moments.iter_mut().enumerate() {
            for (j, moment) in moments.iter_mut().enumerate() {
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
