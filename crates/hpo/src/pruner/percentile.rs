//! The percentile rule, and its case of the median.

use super::{Pruner, first_in_interval, require};
use crate::error::Result;
use crate::sampler::{Attrs, StudyView};
use crate::study::Direction;
use crate::trial::{FrozenTrial, TrialState};

/// Settings of a [`Percentile`] pruner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PercentileConfig {
    /// Percentage of the best trials that are kept, from 0 to 100.
    pub percentile: f64,
    /// Number of complete trials before anything is pruned.
    pub n_startup_trials: usize,
    /// The first step at which a trial may be pruned.
    pub n_warmup_steps: u64,
    /// Number of reports between two decisions, at least 1.
    pub interval_steps: u64,
    /// Minimum number of complete trials that reported a step before a trial is pruned at it, at least 1.
    pub n_min_trials: usize,
}

impl PercentileConfig {
    /// Optuna's defaults of `MedianPruner`: half, after 5 trials, at every step.
    pub fn median() -> Self {
        Self { percentile: 50.0, n_startup_trials: 5, n_warmup_steps: 0, interval_steps: 1, n_min_trials: 1 }
    }
}

/// Stops a trial whose best report so far is worse than the percentile of what complete trials reported at
/// the same step: Optuna's `PercentilePruner`, and `MedianPruner` at 50.
///
/// ```
/// use firstsight_hpo::{Percentile, PercentileConfig};
/// let median = Percentile::new(PercentileConfig { n_warmup_steps: 3, ..PercentileConfig::median() })?;
/// # let _ = median;
/// # Ok::<(), firstsight_hpo::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Percentile(PercentileConfig);

impl Percentile {
    /// A pruner with these settings.
    ///
    /// # Errors
    ///
    /// [`crate::Error::InvalidSetting`] if the percentile is not between 0 and 100, or a number is below
    /// its minimum.
    pub fn new(config: PercentileConfig) -> Result<Self> {
        let PercentileConfig { percentile, interval_steps, n_min_trials, .. } = config;
        require((0.0..=100.0).contains(&percentile), "percentile", "0 <= percentile <= 100", percentile)?;
        require(interval_steps >= 1, "interval_steps", "interval_steps >= 1", interval_steps)?;
        require(n_min_trials >= 1, "n_min_trials", "n_min_trials >= 1", n_min_trials)?;
        Ok(Self(config))
    }
}

impl Pruner for Percentile {
    fn prune(&self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<(bool, Attrs)> {
        Ok((self.is_behind(study, trial), Vec::new()))
    }
}

impl Percentile {
    fn is_behind(&self, study: &StudyView<'_>, trial: &FrozenTrial) -> bool {
        let complete = || study.trials.iter().filter(|t| t.state == TrialState::Complete);
        let n_complete = complete().count();
        let Some((step, _)) = trial.last_report() else { return false };
        if n_complete == 0
            || n_complete < self.0.n_startup_trials
            || step < self.0.n_warmup_steps
            || !first_in_interval(step, trial, self.0.n_warmup_steps, self.0.interval_steps)
        {
            return false;
        }
        let losses = trial.intermediate.values().map(|&v| study.direction().loss(v)).filter(|v| !v.is_nan());
        let Some(best) = losses.reduce(f64::min) else { return true };
        let mut others: Vec<f64> = complete().filter_map(|t| t.intermediate.get(&step).copied()).collect();
        if others.len() < self.0.n_min_trials {
            return false;
        }
        others.retain(|v| !v.is_nan());
        // The percentile is taken of the values themselves, so that it rounds as NumPy's does.
        let (rank, sign) = match study.direction() {
            Direction::Minimize => (self.0.percentile, 1.0),
            Direction::Maximize => (100.0 - self.0.percentile, -1.0),
        };
        percentile(&mut others, rank).is_some_and(|p| best > sign * p)
    }
}

/// NumPy's `percentile` with its default linear interpolation. `None` for no values.
fn percentile(values: &mut [f64], q: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let place = q / 100.0 * last as f64;
    let below = (place.floor() as usize).min(last);
    let (a, b) = (values[below], values[(below + 1).min(last)]);
    let t = place - below as f64;
    // NumPy's _lerp works from the nearer end.
    Some(if t >= 0.5 { b - (b - a) * (1.0 - t) } else { a + (b - a) * t })
}

#[cfg(test)]
mod tests {
    #[test]
    fn percentile_as_numpy() {
        // numpy.percentile([3.1, -1.2, 0.7, 8.8, 2.0], [0, 10, 25, 37, 50, 90, 100])
        let mut values = [3.1, -1.2, 0.7, 8.8, 2.0];
        let expected = [-1.2, -0.43999999999999995, 0.7, 1.3239999999999998, 2.0, 6.520000000000001, 8.8];
        for (q, p) in [0.0, 10.0, 25.0, 37.0, 50.0, 90.0, 100.0].into_iter().zip(expected) {
            assert_eq!(super::percentile(&mut values, q), Some(p), "{q}");
        }
        assert_eq!(super::percentile(&mut [], 50.0), None);
    }
}
