//! The epochs of a training that may end with an error.

use std::ops::ControlFlow;

use super::{Callback, EpochEnd, TrainBegin};
use crate::{Epoch, Result, StopReason};

/// Keeps the finished epochs, which a training that ends with an error does not return. Put it after
/// [`StopOnNan`](super::StopOnNan) and before the others.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The finished epochs, those before a resumption included.
    pub epochs: Vec<Epoch>,
}

impl Callback for Recorder {
    fn on_train_begin(&mut self, begin: &TrainBegin<'_>) -> Result<ControlFlow<StopReason>> {
        self.epochs = begin.history.to_vec();
        Ok(ControlFlow::Continue(()))
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> Result<ControlFlow<StopReason>> {
        self.epochs = end.history.to_vec();
        Ok(ControlFlow::Continue(()))
    }
}
