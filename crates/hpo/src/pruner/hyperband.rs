//! Hyperband: successive halving in brackets that differ in the step at which they first judge.

use std::sync::OnceLock;

use super::{HalvingConfig, MinResource, Pruner, SuccessiveHalving, require};
use crate::error::Result;
use crate::sampler::{Attrs, StudyView};
use crate::trial::{FrozenTrial, TrialState};

/// Settings of a [`Hyperband`] pruner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HyperbandConfig {
    /// The steps to the first rung of the first bracket, at least 1.
    pub min_resource: u64,
    /// The steps of a whole trial; `None` takes them from the longest complete trial, and prunes nothing
    /// until there is one.
    pub max_resource: Option<u64>,
    /// As in [`HalvingConfig`].
    pub reduction_factor: u64,
    /// As in [`HalvingConfig`]; excludes `max_resource: None`.
    pub bootstrap_count: usize,
}

impl HyperbandConfig {
    /// Optuna's defaults.
    pub fn optuna4() -> Self {
        Self { min_resource: 1, max_resource: None, reduction_factor: 3, bootstrap_count: 0 }
    }
}

/// Runs one [`SuccessiveHalving`] per bracket; a trial's bracket follows from the study's name and the trial's
/// number: Optuna's `HyperbandPruner`. Reference: Li et al., Hyperband, JMLR 18, 2018.
///
/// Samplers see the trials of all brackets. So do Optuna's, although its documentation says otherwise: its view of a bracket
/// leaves the trials that they ask for unfiltered.
#[derive(Debug)]
pub struct Hyperband {
    config: HyperbandConfig,
    brackets: OnceLock<Vec<Bracket>>,
}

#[derive(Debug)]
struct Bracket {
    /// The bracket's share of the trials.
    budget: u64,
    pruner: SuccessiveHalving,
}

impl Hyperband {
    /// A pruner with these settings.
    ///
    /// # Errors
    ///
    /// [`crate::Error::InvalidSetting`] if a number is below its minimum.
    pub fn new(config: HyperbandConfig) -> Result<Self> {
        let HyperbandConfig { min_resource, max_resource, reduction_factor, bootstrap_count } = config;
        require(min_resource >= 1, "min_resource", "min_resource >= 1", min_resource)?;
        require(reduction_factor >= 2, "reduction_factor", "reduction_factor >= 2", reduction_factor)?;
        match max_resource {
            Some(max) => require(max >= min_resource, "max_resource", "max_resource >= min_resource", max)?,
            None => {
                let rule = "no bootstrap_count without max_resource";
                require(bootstrap_count == 0, "bootstrap_count", rule, bootstrap_count)?;
            }
        }
        Ok(Self { config, brackets: OnceLock::new() })
    }

    /// The brackets, once the length of a trial is known.
    fn brackets(&self, study: &StudyView<'_>) -> Result<Option<&[Bracket]>> {
        if let Some(brackets) = self.brackets.get() {
            return Ok(Some(brackets));
        }
        let longest = || {
            let complete = study.trials.iter().filter(|t| t.state == TrialState::Complete);
            complete.filter_map(|t| t.last_report().map(|(step, _)| step.saturating_add(1))).max()
        };
        let Some(max_resource) = self.config.max_resource.or_else(longest) else { return Ok(None) };
        let HyperbandConfig { min_resource, reduction_factor, bootstrap_count, .. } = self.config;
        // Optuna computes the number of brackets with a quotient of logarithms, rounding included.
        let ratio = max_resource as f64 / min_resource as f64;
        let n_brackets = (ratio.ln() / (reduction_factor as f64).ln()).floor().max(0.0) as u32 + 1;
        let bracket = |id: u32| {
            let s = n_brackets - 1 - id;
            let budget =
                u64::from(n_brackets) as f64 * reduction_factor.saturating_pow(s) as f64 / f64::from(s + 1);
            let pruner = SuccessiveHalving::new(HalvingConfig {
                min_resource: MinResource::Steps(min_resource),
                reduction_factor,
                min_early_stopping_rate: id,
                bootstrap_count,
            })?;
            Ok(Bracket { budget: budget.ceil() as u64, pruner })
        };
        let made = (0..n_brackets).map(bracket).collect::<Result<Vec<_>>>()?;
        Ok(Some(self.brackets.get_or_init(|| made)))
    }
}

/// The bracket of a trial.
fn bracket_of(study: &str, number: usize, brackets: &[Bracket]) -> usize {
    let total = brackets.iter().fold(0_u64, |total, b| total.saturating_add(b.budget));
    let mut n = u64::from(crc32(format!("{study}_{number}").as_bytes())) % total.max(1);
    for (id, bracket) in brackets.iter().enumerate() {
        match n.checked_sub(bracket.budget) {
            Some(rest) => n = rest,
            None => return id,
        }
    }
    0
}

/// The checksum of zlib and PNG.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

impl Pruner for Hyperband {
    fn prune(&self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<(bool, Attrs)> {
        let Some(brackets) = self.brackets(study)? else { return Ok((false, Vec::new())) };
        let id = bracket_of(study.name, trial.number, brackets);
        let peers = study.trials.iter().map(|t| &**t);
        let peers = peers.filter(|t| bracket_of(study.name, t.number, brackets) == id);
        Ok(brackets[id].pruner.judge(study.direction(), peers, trial))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn crc32_as_zlib() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926); // the checksum's published check value
    }
}
