use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{BatchEnd, Callback, Flow};
use crate::Result;

/// Ends the training at the next batch once a flag is set, as a Ctrl-C handler sets it.
#[derive(Debug)]
pub struct Interrupt(pub Arc<AtomicBool>);

impl Callback for Interrupt {
    fn on_batch_end(&mut self, _end: &BatchEnd) -> Result<Flow> {
        Ok(if self.0.load(Ordering::Relaxed) { Flow::Interrupt } else { Flow::Continue })
    }
}
