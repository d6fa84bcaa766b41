//! Asynchronous successive halving.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Pruner, require};
use crate::error::Result;
use crate::sampler::{Attrs, StudyView};
use crate::storage::json;
use crate::study::Direction;
use crate::trial::{FrozenTrial, TrialState};

/// Number of steps before a trial is first judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinResource {
    /// A hundredth of the longest complete trial's, at least 1; nothing is pruned until there is one.
    Auto,
    /// This number of steps.
    Steps(u64),
}

/// Settings of a [`SuccessiveHalving`] pruner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalvingConfig {
    /// The steps to the first rung.
    pub min_resource: MinResource,
    /// Reduction factor, at least 2: one of this many trials is promoted, to this many times the steps.
    pub reduction_factor: u64,
    /// Number of rungs at which no trial is judged.
    pub min_early_stopping_rate: u32,
    /// Number of trials that must reach a rung before it prunes; excludes `Auto`.
    pub bootstrap_count: usize,
}

impl HalvingConfig {
    /// Optuna's defaults.
    pub fn optuna4() -> Self {
        Self {
            min_resource: MinResource::Auto,
            reduction_factor: 4,
            min_early_stopping_rate: 0,
            bootstrap_count: 0,
        }
    }
}

/// Stops trials that are not among the best of those that reached the same rung: Optuna's
/// `SuccessiveHalvingPruner`. Reference: Li et al., A system for massively parallel hyperparameter tuning,
/// MLSys 2020.
#[derive(Debug)]
pub struct SuccessiveHalving {
    config: HalvingConfig,
    /// The steps to the first rung; 0 until they are known.
    min_resource: AtomicU64,
}

impl SuccessiveHalving {
    /// A pruner with these settings.
    ///
    /// # Errors
    ///
    /// [`crate::Error::InvalidSetting`] if the steps are 0, the factor below 2, or a bootstrap count is
    /// given with `Auto`.
    pub fn new(config: HalvingConfig) -> Result<Self> {
        let min_resource = match config.min_resource {
            MinResource::Auto => {
                let rule = "no bootstrap_count with MinResource::Auto";
                require(config.bootstrap_count == 0, "bootstrap_count", rule, config.bootstrap_count)?;
                0
            }
            MinResource::Steps(steps) => {
                require(steps >= 1, "min_resource", "min_resource >= 1", steps)?;
                steps
            }
        };
        let factor = config.reduction_factor;
        require(factor >= 2, "reduction_factor", "reduction_factor >= 2", factor)?;
        Ok(Self { config, min_resource: AtomicU64::new(min_resource) })
    }

    /// Decides among the given trials.
    pub(super) fn judge<'t>(
        &self,
        direction: Direction,
        trials: impl Iterator<Item = &'t FrozenTrial> + Clone,
        trial: &FrozenTrial,
    ) -> (bool, Attrs) {
        let mut attrs = Vec::new();
        let Some((step, value)) = trial.last_report() else { return (false, attrs) };
        let mut rung = 0;
        while trial.system_attrs.contains_key(&rung_key(rung)) {
            rung += 1;
        }
        loop {
            if self.min_resource.load(Ordering::Relaxed) == 0 {
                let longest = trials
                    .clone()
                    .filter(|t| t.state == TrialState::Complete)
                    .filter_map(|t| t.last_report().map(|(step, _)| step))
                    .max();
                let Some(longest) = longest else { return (false, attrs) };
                self.min_resource.store((longest / 100).max(1), Ordering::Relaxed);
            }
            let exponent = self.config.min_early_stopping_rate.saturating_add(rung);
            let growth = self.config.reduction_factor.checked_pow(exponent);
            let rung_step = growth.and_then(|g| g.checked_mul(self.min_resource.load(Ordering::Relaxed)));
            if rung_step.is_none_or(|rung_step| step < rung_step) {
                return (false, attrs);
            }
            if value.is_nan() {
                return (true, attrs);
            }
            let key = rung_key(rung);
            let mut losses: Vec<f64> = trials
                .clone()
                .filter(|t| t.number != trial.number)
                .filter_map(|t| t.system_attrs.get(&key).and_then(json::as_float))
                .chain([value])
                .map(|v| direction.loss(v))
                .collect();
            attrs.push((key, json::from_float(value)));
            if losses.len() <= self.config.bootstrap_count {
                return (true, attrs);
            }
            losses.sort_by(f64::total_cmp);
            let last_promoted = (losses.len() / self.config.reduction_factor as usize).saturating_sub(1);
            if direction.loss(value) > losses[last_promoted] {
                return (true, attrs);
            }
            rung += 1;
        }
    }
}

fn rung_key(rung: u32) -> String {
    format!("completed_rung_{rung}")
}

impl Pruner for SuccessiveHalving {
    fn prune(&self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<(bool, Attrs)> {
        Ok(self.judge(study.direction(), study.trials.iter().map(|t| &**t), trial))
    }
}
