use super::{BatchEnd, Callback, Flow};
use crate::{Error, Result};

/// Ends the training with [`Error::NonFinite`], which names the batch, when a loss is NaN or infinite.
#[derive(Debug)]
pub struct StopOnNan;

impl Callback for StopOnNan {
    fn on_batch_end(&mut self, end: &BatchEnd) -> Result<Flow> {
        let BatchEnd { epoch, batch, loss, .. } = *end;
        if loss.is_finite() { Ok(Flow::Continue) } else { Err(Error::NonFinite { epoch, batch, loss }) }
    }
}
