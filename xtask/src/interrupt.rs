//! Ctrl-C: a training ends after its batch and leaves its checkpoint; anything else ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};

/// A training was interrupted; what it had reached is saved.
#[derive(Debug)]
pub(crate) struct Interrupted(pub(crate) String);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted; {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// The process's Ctrl-C handler.
#[derive(Clone)]
pub(crate) struct CtrlC {
    pressed: Arc<AtomicBool>,
    patient: Arc<AtomicBool>,
}

impl CtrlC {
    pub(crate) fn install() -> Result<Self> {
        let this = Self { pressed: Arc::default(), patient: Arc::default() };
        let handler = this.clone();
        ctrlc::set_handler(move || {
            let again = handler.pressed.swap(true, Ordering::Relaxed);
            if again || !handler.patient.load(Ordering::Relaxed) {
                std::process::exit(130);
            }
        })
        .context("can't install the Ctrl-C handler")?;
        Ok(this)
    }

    /// The flag that a training watches while `work` runs: the first Ctrl-C sets it, the second ends the process.
    pub(crate) fn patiently<T>(&self, work: impl FnOnce(Arc<AtomicBool>) -> T) -> T {
        self.patient.store(true, Ordering::Relaxed);
        let result = work(self.pressed.clone());
        self.patient.store(false, Ordering::Relaxed);
        result
    }
}
