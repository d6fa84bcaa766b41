//! Pruners, which stop trials early. Each decides as Optuna 4.8's pruner of that name.

mod halving;
mod hyperband;
mod patient;
mod percentile;
mod threshold;

pub use self::halving::{HalvingConfig, MinResource, SuccessiveHalving};
pub use self::hyperband::{Hyperband, HyperbandConfig};
pub use self::patient::Patient;
pub use self::percentile::{Percentile, PercentileConfig};
pub use self::threshold::Threshold;
use crate::error::{Error, Result};
use crate::sampler::{Attrs, StudyView};
use crate::trial::FrozenTrial;

/// A rule that stops unpromising trials early.
pub trait Pruner: Send + Sync {
    /// Whether the trial should stop now, judged by its reported values and those of the others; and
    /// system attributes for it.
    ///
    /// # Errors
    ///
    /// Those of the pruner.
    fn prune(&self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<(bool, Attrs)>;
}

impl Pruner for Box<dyn Pruner> {
    fn prune(&self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<(bool, Attrs)> {
        (**self).prune(study, trial)
    }
}

/// Lets every trial run: Optuna's `NopPruner`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverPrune;

impl Pruner for NeverPrune {
    fn prune(&self, _study: &StudyView<'_>, _trial: &FrozenTrial) -> Result<(bool, Attrs)> {
        Ok((false, Vec::new()))
    }
}

/// A check of a setting.
fn require(holds: bool, what: &'static str, rule: &'static str, found: impl std::fmt::Display) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::InvalidSetting { what, rule, found: found.to_string() }) }
}

/// Whether `step` is the trial's first report since the last multiple of the interval after the warm-up.
fn first_in_interval(step: u64, trial: &FrozenTrial, warmup: u64, interval: u64) -> bool {
    let due = (step - warmup) / interval * interval + warmup;
    trial.intermediate.keys().rev().find(|&&s| s != step).is_none_or(|&before| before < due)
}
