//! Early stopping.

use std::ops::ControlFlow;

use candle_core::{Tensor, Var};

use super::{Callback, EpochEnd, SavedState, TrainBegin, TrainEnd};
use crate::{Monitor, Result, StopReason};

/// Ends the training `patience` epochs after the best one, and restores the variables of the best epoch.
///
/// The best epoch is strictly better than all before it (Keras's `EarlyStopping` with `min_delta=0` and
/// `restore_best_weights=True`). The best variables are restored however the training ends: stopped early, after all
/// epochs, or interrupted. A training that was [restarted](super::Checkpoint::restart) begins with its best variables, and
/// patience counts from there.
#[derive(Debug)]
pub struct EarlyStopping {
    monitor: Monitor,
    patience: usize,
    best: Option<Vec<Tensor>>,
    /// Epochs before the last restart, from which on patience counts anew.
    restarted: usize,
}

impl EarlyStopping {
    /// Watches `monitor`. With a patience of 0, as with 1, the first epoch that is no better ends the training.
    pub fn new(monitor: Monitor, patience: usize) -> Self {
        Self { monitor, patience, best: None, restarted: 0 }
    }

    /// Sets the variables to those of the best epoch, if there is one. A training that ends with an error does not do it by
    /// itself.
    ///
    /// # Errors
    ///
    /// Variables of other shapes.
    pub fn restore(&self, vars: &[(String, Var)]) -> Result<()> {
        for ((_, var), best) in vars.iter().zip(self.best.iter().flatten()) {
            var.set(best)?;
        }
        Ok(())
    }

    fn flow(&self, n_epochs: usize, best: Option<usize>) -> ControlFlow<StopReason> {
        let since = best.map_or(0, |best| best + 1).max(self.restarted);
        let without_improvement = n_epochs - since;
        if n_epochs > self.restarted && without_improvement >= self.patience.max(1) {
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
        self.restarted = begin.restarted;
        if self.best.is_none() && begin.restarted > 0 {
            self.best = Some(copies(begin.vars)?);
        }
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
        self.restore(end.vars)
    }
}
