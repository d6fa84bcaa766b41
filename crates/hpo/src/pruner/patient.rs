//! Patience around another pruner.

use super::{Pruner, require};
use crate::error::Result;
use crate::sampler::{Attrs, StudyView};
use crate::trial::FrozenTrial;

/// Asks another pruner only once the last `patience` + 1 reports were no better, by `min_delta`, than those
/// before them: Optuna's `PatientPruner`.
pub struct Patient {
    wrapped: Option<Box<dyn Pruner>>,
    patience: usize,
    min_delta: f64,
}

impl Patient {
    /// Patience around `wrapped`; without one, a trial stops as soon as patience ends.
    ///
    /// # Errors
    ///
    /// [`crate::Error::InvalidSetting`] if `min_delta` is negative or NaN.
    pub fn new(wrapped: Option<Box<dyn Pruner>>, patience: usize, min_delta: f64) -> Result<Self> {
        require(min_delta >= 0.0, "min_delta", "min_delta >= 0", min_delta)?;
        Ok(Self { wrapped, patience, min_delta })
    }
}

impl Pruner for Patient {
    fn prune(&self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<(bool, Attrs)> {
        let losses: Vec<f64> = trial.intermediate.values().map(|&v| study.direction().loss(v)).collect();
        let Some(split) = losses.len().checked_sub(self.patience + 1).filter(|&split| split > 0) else {
            return Ok((false, Vec::new()));
        };
        // Reports that are all NaN have no best, and then Optuna's comparison is false.
        let best = |losses: &[f64]| losses.iter().copied().filter(|v| !v.is_nan()).reduce(f64::min);
        let worse = match (best(&losses[..split]), best(&losses[split..])) {
            (Some(before), Some(after)) => before + self.min_delta < after,
            _ => false,
        };
        match &self.wrapped {
            Some(wrapped) if worse => wrapped.prune(study, trial),
            _ => Ok((worse, Vec::new())),
        }
    }
}
