//! Detection of losses that are not finite.

use std::ops::ControlFlow;

use super::{BatchEnd, Callback};
use crate::{Error, Result, StopReason};

/// Ends the training with [`Error::NonFinite`], which names the batch, when a loss is NaN or infinite.
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
}
