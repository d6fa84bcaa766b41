//! Averaged weights.

use std::ops::ControlFlow;

use candle_core::{Result as CandleResult, Tensor, Var};

use super::{BatchEnd, Callback, SavedState, TrainBegin, TrainEnd};
use crate::{Result, StopReason};

/// Exponential moving average of the weights: timm's `ModelEmaV3`.
///
/// After each optimizer step, average ← average + (1 − decay) · (weights − average), running statistics included; the
/// first step sets the average to the weights. While an epoch is validated, and for the callbacks at its end, the model
/// has the averaged weights; training continues with its own. At the end the model keeps the averaged weights. Put this
/// callback before [`EarlyStopping`](super::EarlyStopping) and [`Checkpoint`](super::Checkpoint), which then keep the
/// averages.
#[derive(Debug)]
pub struct ModelEma {
    decay: f64,
    warmup: Option<Warmup>,
    average: Vec<Tensor>,
    /// The weights of the training while the model has the averages.
    own: Option<Vec<Tensor>>,
}

#[derive(Debug, Clone, Copy)]
struct Warmup {
    gamma: f64,
    power: f64,
}

impl ModelEma {
    /// Averages with `decay` in [0, 1), such as 0.9998.
    pub fn new(decay: f64) -> Self {
        Self { decay, warmup: None, average: Vec::new(), own: None }
    }

    /// Lets the decay rise to its value as 1 − (1 + t / `gamma`)^−`power`, where t is the number of steps after the
    /// first. timm's defaults are 1 and 2/3.
    pub fn warmup(mut self, gamma: f64, power: f64) -> Self {
        self.warmup = Some(Warmup { gamma, power });
        self
    }

    /// The decay at `step`, counted from 1.
    fn decay_at(&self, step: u64) -> f64 {
        match (step.saturating_sub(1), self.warmup) {
            (0, _) => 0.0,
            (_, None) => self.decay,
            (t, Some(Warmup { gamma, power })) => {
                (1.0 - (1.0 + t as f64 / gamma).powf(-power)).clamp(0.0, self.decay)
            }
        }
    }
}

impl Callback for ModelEma {
    fn on_train_begin(&mut self, begin: &TrainBegin<'_>) -> Result<ControlFlow<StopReason>> {
        self.average = copies(begin.vars)?;
        self.own = (0..begin.vars.len()).map(|i| begin.state.get(&state_name(i)).cloned()).collect();
        Ok(ControlFlow::Continue(()))
    }

    fn on_epoch_begin(&mut self, vars: &[(String, Var)]) -> Result<()> {
        Ok(self.own.take().map_or(Ok(()), |own| set(vars, &own))?)
    }

    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> Result<ControlFlow<StopReason>> {
        if let Some(step) = end.step {
            let share = 1.0 - self.decay_at(step);
            for (average, (_, var)) in self.average.iter_mut().zip(end.vars) {
                let weights = var.as_tensor().detach();
                *average = match share == 1.0 {
                    true => weights.copy()?,
                    false => (&*average + ((weights - &*average)? * share)?)?,
                };
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn on_validation_begin(&mut self, vars: &[(String, Var)]) -> Result<()> {
        self.own = Some(copies(vars)?);
        Ok(set(vars, &self.average)?)
    }

    fn save_state(&self, state: &mut SavedState) {
        for (i, tensor) in self.own.iter().flatten().enumerate() {
            state.insert(state_name(i), tensor.clone());
        }
    }

    fn on_train_end(&mut self, end: &TrainEnd<'_>) -> Result<()> {
        Ok(set(end.vars, &self.average)?)
    }
}

fn state_name(i: usize) -> String {
    format!("model_ema.{i:04}")
}

fn copies(vars: &[(String, Var)]) -> CandleResult<Vec<Tensor>> {
    vars.iter().map(|(_, var)| var.copy()).collect()
}

fn set(vars: &[(String, Var)], values: &[Tensor]) -> CandleResult<()> {
    vars.iter().zip(values).try_for_each(|((_, var), value)| var.set(value))
}
