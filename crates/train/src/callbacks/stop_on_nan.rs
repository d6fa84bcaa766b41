//! Detection of losses that are not finite.

use std::ops::ControlFlow;

use super::{BatchEnd, Callback, EpochEnd};
use crate::{Error, Result, StopReason};

/// Ends the training with an error when a loss is NaN or infinite: [`Error::NonFinite`] names the batch,
/// [`Error::NonFiniteValidation`] the epoch after which the validation loss is. Put it before the callbacks that keep epochs,
/// so that they do not keep that one.
#[derive(Debug)]
pub struct StopOnNan;

impl Callback for StopOnNan {
    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> Result<ControlFlow<StopReason>> {
        let BatchEnd { epoch, batch, loss, .. } = *end;
        if loss.is_finite() {
            Ok(ControlFlow::Continue(()))
        } else {
            Err(Error::NonFinite { epoch, batch, loss })
        }
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> Result<ControlFlow<StopReason>> {
        let epoch = end.history.len() - 1;
        match end.history.last().and_then(|last| last.val.as_ref()) {
            Some(val) if !val.loss.is_finite() => Err(Error::NonFiniteValidation { epoch, loss: val.loss }),
            _ => Ok(ControlFlow::Continue(())),
        }
    }
}
