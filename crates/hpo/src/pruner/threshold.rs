//! Bounds that no report may leave.

use super::{Pruner, first_in_interval, require};
use crate::error::Result;
use crate::sampler::{Attrs, StudyView};
use crate::trial::FrozenTrial;

/// Stops a trial whose last report is NaN, below `lower` or above `upper`: Optuna's `ThresholdPruner`.
#[derive(Clone, Copy, Debug)]
pub struct Threshold {
    lower: f64,
    upper: f64,
    n_warmup_steps: u64,
    interval_steps: u64,
}

impl Threshold {
    /// A pruner with these bounds; an infinite bound has no effect.
    ///
    /// # Errors
    ///
    /// [`crate::Error::InvalidSetting`] if `lower > upper`, either is NaN, or both are infinite.
    pub fn new(lower: f64, upper: f64) -> Result<Self> {
        let found = format!("lower={lower:?}, upper={upper:?}");
        require(lower.is_finite() || upper.is_finite(), "Threshold", "a finite bound", &found)?;
        require(lower <= upper, "Threshold", "lower <= upper", &found)?;
        Ok(Self { lower, upper, n_warmup_steps: 0, interval_steps: 1 })
    }

    /// The first step at which a trial may be pruned.
    pub fn warmup(self, n_warmup_steps: u64) -> Self {
        Self { n_warmup_steps, ..self }
    }

    /// Number of reports between two decisions.
    ///
    /// # Errors
    ///
    /// [`crate::Error::InvalidSetting`] if it is 0.
    pub fn interval(self, interval_steps: u64) -> Result<Self> {
        require(interval_steps >= 1, "interval_steps", "interval_steps >= 1", interval_steps)?;
        Ok(Self { interval_steps, ..self })
    }
}

impl Pruner for Threshold {
    fn prune(&self, _study: &StudyView<'_>, trial: &FrozenTrial) -> Result<(bool, Attrs)> {
        let outside = trial.last_report().is_some_and(|(step, value)| {
            step >= self.n_warmup_steps
                && first_in_interval(step, trial, self.n_warmup_steps, self.interval_steps)
                && !(self.lower..=self.upper).contains(&value)
        });
        Ok((outside, Vec::new()))
    }
}
