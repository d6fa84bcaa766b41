//! Observers of a training.

mod checkpoint;
mod csv_history;
mod early_stopping;
mod interrupt;
mod model_ema;
mod notifier;
mod recorder;
mod stop_on_nan;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use candle_core::{Tensor, Var};

pub use self::checkpoint::{Checkpoint, RestartFrom, Resume, StoredTraining};
pub use self::csv_history::CsvHistory;
pub use self::early_stopping::EarlyStopping;
pub use self::interrupt::Interrupt;
pub use self::model_ema::ModelEma;
pub(crate) use self::notifier::Notifier;
pub use self::recorder::Recorder;
pub use self::stop_on_nan::StopOnNan;
use crate::{Epoch, FitConfig, History, Optimizer, Result, StopReason};

/// An observer of a training. Every method does nothing by default.
///
/// ```
/// use std::ops::ControlFlow;
/// use std::time::{Duration, Instant};
///
/// use firstsight_train::{BatchEnd, Callback, Result, StopReason};
///
/// /// Ends a training after some time.
/// struct Deadline(Instant);
///
/// impl Callback for Deadline {
///     fn on_batch_end(&mut self, _end: &BatchEnd<'_>) -> Result<ControlFlow<StopReason>> {
///         Ok(match Instant::now() < self.0 {
///             true => ControlFlow::Continue(()),
///             false => ControlFlow::Break(StopReason::Callback("the time is up".to_owned())),
///         })
///     }
/// }
///
/// let mut deadline = Deadline(Instant::now() + Duration::from_secs(3600));
/// # let _: &mut dyn Callback = &mut deadline;
/// ```
pub trait Callback {
    /// Sets the variables to those of an earlier training and returns where it stood, or `None` to start anew. Called
    /// before all else; the first callback that returns something decides.
    fn resume(&mut self, _vars: &[(String, Var)]) -> Result<Option<Resume>> {
        Ok(None)
    }

    /// Called before the first batch.
    fn on_train_begin(&mut self, _begin: &TrainBegin<'_>) -> Result<ControlFlow<StopReason>> {
        Ok(ControlFlow::Continue(()))
    }

    /// Called before the first batch of each epoch, with all variables of the model.
    fn on_epoch_begin(&mut self, _vars: &[(String, Var)]) -> Result<()> {
        Ok(())
    }

    /// Called after a batch. A break leaves the epoch unfinished and out of the history.
    fn on_batch_end(&mut self, _end: &BatchEnd<'_>) -> Result<ControlFlow<StopReason>> {
        Ok(ControlFlow::Continue(()))
    }

    /// Called after the last batch of each epoch, before the validation, with all variables of the model.
    fn on_validation_begin(&mut self, _vars: &[(String, Var)]) -> Result<()> {
        Ok(())
    }

    /// Called after an epoch and its validation.
    fn on_epoch_end(&mut self, _end: &EpochEnd<'_>) -> Result<ControlFlow<StopReason>> {
        Ok(ControlFlow::Continue(()))
    }

    /// Adds the tensors that a checkpoint must hold for this callback to continue after a resumption. Called after
    /// [`Callback::on_epoch_end`], before the next callback's.
    fn save_state(&self, _state: &mut SavedState) {}

    /// Called at the end, also of an interrupted training, but not after an error.
    fn on_train_end(&mut self, _end: &TrainEnd<'_>) -> Result<()> {
        Ok(())
    }
}

/// A training that is about to begin.
#[derive(Debug)]
#[non_exhaustive]
pub struct TrainBegin<'a> {
    /// The epochs that were finished before a resumption.
    pub history: &'a [Epoch],
    /// The number of these after which the schedule began anew, by a [restart](Checkpoint::restart).
    pub restarted: usize,
    /// All variables of the model, by name.
    pub vars: &'a [(String, Var)],
    /// The tensors that the callbacks saved before a resumption.
    pub state: &'a SavedState,
    /// The settings of the training.
    pub config: &'a FitConfig,
}

/// A batch that was just trained on.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct BatchEnd<'a> {
    /// The epoch, from 0.
    pub epoch: usize,
    /// The batch within the epoch, from 0.
    pub batch: usize,
    /// The number of batches in an epoch.
    pub n_batches: usize,
    /// The batch's loss, measured before the step.
    pub loss: f64,
    /// The number of optimizer steps so far, if the batch ended with one; `None` if its gradients await further batches.
    pub step: Option<u64>,
    /// All variables of the model, by name.
    pub vars: &'a [(String, Var)],
}

/// An epoch that was just finished.
#[derive(Debug)]
#[non_exhaustive]
pub struct EpochEnd<'a> {
    /// All epochs so far, this one last.
    pub history: &'a [Epoch],
    /// All variables of the model, by name.
    pub vars: &'a [(String, Var)],
    /// The optimizer after the epoch.
    pub optimizer: &'a Optimizer,
    /// The learning rate of the epoch's last step, which groups of variables may scale.
    pub lr: f64,
    /// The tensors that the callbacks before this one have saved.
    pub state: &'a SavedState,
}

/// A training that has just ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct TrainEnd<'a> {
    /// The course of the training.
    pub history: &'a History,
    /// All variables of the model, by name.
    pub vars: &'a [(String, Var)],
}

/// Tensors that callbacks keep in a checkpoint, by names that begin with the callback's own.
pub type SavedState = BTreeMap<String, Tensor>;
