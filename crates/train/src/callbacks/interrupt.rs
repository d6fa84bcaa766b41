//! Interruption by a flag.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{BatchEnd, Callback};
use crate::{Result, StopReason};

/// Ends the training after the current batch once a flag is set, as by a Ctrl-C handler.
#[derive(Debug)]
pub struct Interrupt(pub Arc<AtomicBool>);

impl Callback for Interrupt {
    fn on_batch_end(&mut self, _end: &BatchEnd<'_>) -> Result<ControlFlow<StopReason>> {
        Ok(match self.0.load(Ordering::Relaxed) {
            true => ControlFlow::Break(StopReason::Interrupted),
            false => ControlFlow::Continue(()),
        })
    }
}
