//! What watches a training, and may end it.

mod checkpoint;
mod csv_history;
mod early_stopping;
mod interrupt;
mod stop_on_nan;

use std::collections::BTreeMap;

use candle_core::Tensor;

pub use self::checkpoint::Checkpoint;
pub use self::csv_history::CsvHistory;
pub use self::early_stopping::EarlyStopping;
pub use self::interrupt::Interrupt;
pub use self::stop_on_nan::StopOnNan;
use crate::{Epoch, FitConfig, History, Optimizer, Result};

/// Watches a training. Every method does nothing unless it is written.
pub trait Callback {
    /// Before the first batch.
    fn on_train_begin(&mut self, _begin: &TrainBegin<'_>) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// After a step. [`Flow::Stop`] and [`Flow::Interrupt`] leave the epoch unfinished and out of the history.
    fn on_batch_end(&mut self, _end: &BatchEnd) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// After an epoch and its validation.
    fn on_epoch_end(&mut self, _end: &EpochEnd<'_>) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// Adds what a checkpoint must hold for this callback to go on after a resumption. Called after
    /// [`Callback::on_epoch_end`]; the callbacks behind this one see it there.
    fn save_state(&self, _state: &mut SavedState) {}

    /// At the end, also of an interrupted training, but not after an error.
    fn on_train_end(&mut self, _history: &History) -> Result<()> {
        Ok(())
    }
}

/// Whether the training goes on. `Interrupt` outweighs `Stop`, which outweighs `Continue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// It does.
    Continue,
    /// It has reached its end.
    Stop,
    /// The user wants it to stop now; it may be resumed.
    Interrupt,
}

impl Flow {
    pub(crate) fn or(self, other: Self) -> Self {
        self.max(other)
    }
}

/// A training about to begin.
#[derive(Debug)]
pub struct TrainBegin<'a> {
    /// The epochs finished before a resumption.
    pub history: &'a [Epoch],
    /// What the callbacks saved then.
    pub state: Option<&'a SavedState>,
    /// What the training does.
    pub config: &'a FitConfig,
}

/// A step just taken.
#[derive(Debug, Clone, Copy)]
pub struct BatchEnd {
    /// The epoch, from 0.
    pub epoch: usize,
    /// The batch within it, from 0.
    pub batch: usize,
    /// Batches an epoch.
    pub n_batches: usize,
    /// The batch's loss before the step.
    pub loss: f64,
}

/// An epoch just finished.
#[derive(Debug)]
pub struct EpochEnd<'a> {
    /// All epochs so far, this one last.
    pub history: &'a [Epoch],
    /// The optimiser after the epoch.
    pub optimizer: &'a Optimizer,
    /// What the callbacks before this one have saved of themselves.
    pub state: &'a SavedState,
}

/// Tensors that callbacks keep in a checkpoint, by a name that begins with the callback's.
pub type SavedState = BTreeMap<String, Tensor>;
