//! Early stopping.

use std::ops::ControlFlow;

use candle_core::{Tensor, Var};

use super::{Callback, EpochEnd, SavedState, TrainBegin, TrainEnd};
use crate::{Monitor, Result, StopReason};

/// Ends the training `patience` epochs after the best one, and restores the variables of the best epoch.
///
/// The best epoch is strictly better than all before it (Keras's `EarlyStopping` with `min_delta=0` and
/// `restore_best_weights=True`). The best variables are restored however the training ends: stopped early, after all
/// epochs, or interrupted.
#[derive(Debug)]
pub struct EarlyStopping {
    monitor: Monitor,
    patience: usize,
    best: Option<Vec<Tensor>>,
}

impl EarlyStopping {
    /// Watches `monitor`.
    pub fn new(monitor: Monitor, patience: usize) -> Self {
        Self { monitor, patience, best: None }
    }

    fn flow(&self, n_epochs: usize, best: Option<usize>) -> ControlFlow<StopReason> {
        let without_improvement = n_epochs - best.map_or(0, |best| best + 1);
        if n_epochs > 0 && without_improvement >= self.patience {
            let reason = format!("no better {} in {} epochs", self.monitor.name(), self.patience);
            return ControlFlow::Break(StopReason::Callback(reason));
        }
        ControlFlow::Continue(())
    }
}

fn state_name(i: usize) -> String {
    format!("early_stopping.{i:04}")
}

fn copies(vars: &[(String, Var)]) -> candle_core::Result<Vec<Tensor>> {
    vars.iter().map(|(_, var)| var.copy()).collect()
}

impl Callback for EarlyStopping {
    fn on_train_begin(&mut self, begin: &TrainBegin<'_>) -> Result<ControlFlow<StopReason>> {
        self.best = (0..begin.vars.len()).map(|i| begin.state.get(&state_name(i)).cloned()).collect();
        Ok(self.flow(begin.history.len(), self.monitor.best(begin.history)))
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> Result<ControlFlow<StopReason>> {
        let best = self.monitor.best(end.history);
        if best == Some(end.history.len() - 1) {
            self.best = Some(copies(end.vars)?);
        }
        Ok(self.flow(end.history.len(), best))
    }

    fn save_state(&self, state: &mut SavedState) {
        for (i, tensor) in self.best.iter().flatten().enumerate() {
            state.insert(state_name(i), tensor.clone());
        }
    }

    fn on_train_end(&mut self, end: &TrainEnd<'_>) -> Result<()> {
        for ((_, var), best) in end.vars.iter().zip(self.best.iter().flatten()) {
            var.set(best)?;
        }
        Ok(())
    }
}
