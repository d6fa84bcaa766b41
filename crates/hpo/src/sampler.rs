//! Samplers, which propose parameters.

mod grid;
mod nsga2;
mod random;
pub mod tpe;

use std::sync::Arc;

use serde_json::Value;

pub use self::grid::{Grid, grid_cost};
pub use self::nsga2::{Nsga2, Nsga2Config};
pub use self::random::Random;
pub use self::tpe::{Tpe, TpeConfig};
use crate::error::Result;
use crate::space::Distribution;
use crate::study::Direction;
use crate::trial::{FrozenTrial, Param};

/// The view of a study that samplers and pruners get.
#[derive(Clone, Copy)]
pub struct StudyView<'a> {
    /// The study's name.
    pub name: &'a str,
    /// The direction of each objective, one or more.
    pub directions: &'a [Direction],
    /// Every trial, by number.
    pub trials: &'a [Arc<FrozenTrial>],
}

impl StudyView<'_> {
    /// The direction of the first objective, which usually is the only one.
    pub fn direction(&self) -> Direction {
        self.directions.first().copied().unwrap_or_default()
    }

    /// Whether there are several objectives.
    pub fn has_many_objectives(&self) -> bool {
        self.directions.len() > 1
    }

    /// The values of a trial with their signs changed, if needed, so that smaller is better.
    pub fn losses(&self, trial: &FrozenTrial) -> Vec<f64> {
        losses(trial, self.directions)
    }
}

/// The values of a trial with their signs changed, if needed, so that smaller is better.
pub(crate) fn losses(trial: &FrozenTrial, directions: &[Direction]) -> Vec<f64> {
    trial.values.iter().zip(directions).map(|(&value, direction)| direction.loss(value)).collect()
}

/// System attributes to attach to a trial.
pub type Attrs = Vec<(String, Value)>;

/// A strategy that proposes parameters. One sampler serves one study.
pub trait Sampler: Send {
    /// Called when a trial has been created; returns system attributes for it.
    ///
    /// # Errors
    ///
    /// Those of the sampler.
    fn before_trial(&mut self, _study: &StudyView<'_>, _trial: &FrozenTrial) -> Result<Attrs> {
        Ok(Vec::new())
    }

    /// Parameters that are drawn together, before the objective asks for them one by one; and system
    /// attributes for the trial. Called at most once per trial, when the first parameter is needed.
    ///
    /// # Errors
    ///
    /// Those of the sampler.
    fn sample_relative(
        &mut self,
        _study: &StudyView<'_>,
        _trial: &FrozenTrial,
    ) -> Result<(Vec<Param>, Attrs)> {
        Ok((Vec::new(), Vec::new()))
    }

    /// One parameter, in its internal form. The distribution has more than one value.
    ///
    /// # Errors
    ///
    /// Those of the sampler.
    fn sample_independent(
        &mut self,
        study: &StudyView<'_>,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64>;

    /// Called when a trial has ended; true ends the study's run.
    ///
    /// # Errors
    ///
    /// Those of the sampler.
    fn after_trial(&mut self, _study: &StudyView<'_>, _trial: &FrozenTrial) -> Result<bool> {
        Ok(false)
    }

    /// A copy whose random numbers depend on the sampler's seed and the trial's number alone.
    fn fork(&self, number: usize) -> Box<dyn Sampler>;
}

impl Sampler for Box<dyn Sampler> {
    fn before_trial(&mut self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<Attrs> {
        (**self).before_trial(study, trial)
    }
    fn sample_relative(&mut self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<(Vec<Param>, Attrs)> {
        (**self).sample_relative(study, trial)
    }
    fn sample_independent(
        &mut self,
        study: &StudyView<'_>,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        (**self).sample_independent(study, trial, name, distribution)
    }
    fn after_trial(&mut self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<bool> {
        (**self).after_trial(study, trial)
    }
    fn fork(&self, number: usize) -> Box<dyn Sampler> {
        (**self).fork(number)
    }
}

/// The seed of a trial's own generator: the finalizer of SplitMix64 over seed and number.
fn forked_seed(seed: u32, number: usize) -> u32 {
    let mut z = ((u64::from(seed) << 32) | number as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds_of_trials_are_splitmix64_s() {
        // The upper halves of its first two outputs from the state 0, and of the first from the state 1.
        assert_eq!(super::forked_seed(0, 0), 0xe220_a839);
        assert_eq!(super::forked_seed(0x9e37_79b9, 0x7f4a_7c15), 0x6e78_9e6a);
        assert_eq!(super::forked_seed(0, 1), 0x910a_2dec);
    }
}
