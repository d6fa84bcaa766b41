use candle_core::{Tensor, Var};

use super::{Callback, EpochEnd, Flow, SavedState, TrainBegin};
use crate::{History, Monitor, Result};

/// Ends the training `patience` epochs after the best one, and brings back the best epoch's variables.
///
/// An epoch is best when it is strictly better than all before it (Keras's `EarlyStopping` with `min_delta=0`
/// and `restore_best_weights=True`). The best variables come back however the training ends: stopped early,
/// all epochs run, or interrupted.
#[derive(Debug)]
pub struct EarlyStopping {
    monitor: Monitor,
    patience: usize,
    vars: Vec<Var>,
    best: Option<Vec<Tensor>>,
}

impl EarlyStopping {
    /// Watches `monitor`; `vars` are all variables that belong to the network, running statistics included.
    pub fn new(monitor: Monitor, patience: usize, vars: Vec<Var>) -> Self {
        Self { monitor, patience, vars, best: None }
    }

    fn state_name(i: usize) -> String {
        format!("early_stopping.{i:04}")
    }
}

impl Callback for EarlyStopping {
    fn on_train_begin(&mut self, begin: &TrainBegin<'_>) -> Result<Flow> {
        self.best = begin.state.and_then(|state| {
            (0..self.vars.len()).map(|i| state.get(&Self::state_name(i)).cloned()).collect()
        });
        Ok(self.flow(begin.history.len(), self.monitor.best(begin.history)))
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> Result<Flow> {
        let best = self.monitor.best(end.history);
        if best == Some(end.history.len() - 1) {
            self.best = Some(self.vars.iter().map(|var| var.copy()).collect::<candle_core::Result<_>>()?);
        }
        Ok(self.flow(end.history.len(), best))
    }

    fn save_state(&self, state: &mut SavedState) {
        for (i, tensor) in self.best.iter().flatten().enumerate() {
            state.insert(Self::state_name(i), tensor.clone());
        }
    }

    fn on_train_end(&mut self, _history: &History) -> Result<()> {
        for (var, best) in self.vars.iter().zip(self.best.iter().flatten()) {
            var.set(best)?;
        }
        Ok(())
    }
}

impl EarlyStopping {
    fn flow(&self, n_epochs: usize, best: Option<usize>) -> Flow {
        let without_improvement = n_epochs - best.map_or(0, |best| best + 1);
        if n_epochs > 0 && without_improvement >= self.patience { Flow::Stop } else { Flow::Continue }
    }
}
