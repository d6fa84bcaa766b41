//! Random search: every parameter by itself, evenly over its range.
//!
//! Equal, draw for draw, to Optuna 4.8's `RandomSampler`. Reference: Bergstra and Bengio, Random search for
//! hyper-parameter optimization, JMLR 13, 2012.

use super::{Sampler, StudyView, forked_seed};
use crate::error::Result;
use crate::random::RandomState;
use crate::space::Distribution;
use crate::trial::FrozenTrial;

/// Random search.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u32,
    rng: RandomState,
}

impl Random {
    /// A random search with this seed.
    pub fn new(seed: u32) -> Self {
        Self { seed, rng: RandomState::new(seed) }
    }
}

impl Sampler for Random {
    fn sample_independent(
        &mut self,
        _study: &StudyView<'_>,
        _trial: &FrozenTrial,
        _name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        Ok(draw(&mut self.rng, distribution))
    }

    fn fork(&self, number: usize) -> Box<dyn Sampler> {
        Box::new(Self::new(forked_seed(self.seed, number)))
    }
}

/// One value in its internal form.
///
/// Numbers come from a uniform draw over the range (widened by half a step at both ends where there is a
/// step, in the logarithm where the range is logarithmic) which is then rounded; a choice is the index of
/// the greatest of one uniform draw per choice.
pub(crate) fn draw(rng: &mut RandomState, distribution: &Distribution) -> f64 {
    match *distribution {
        Distribution::Float { low, high, log: false, step: None } => rng.uniform(low, high).min(below(high)),
        Distribution::Float { low, high, log: true, .. } => {
            rng.uniform(low.ln(), high.ln()).exp().min(below(high))
        }
        Distribution::Float { low, high, step: Some(step), .. } => {
            let half = 0.5 * step;
            let x = rng.uniform(low - half, high + half);
            (((x - low) / step).round_ties_even() * step + low).max(low).min(high)
        }
        Distribution::Int { low, high, log: false, step } => {
            let (low, high, step) = (low as f64, high as f64, step as f64);
            let half = 0.5 * step;
            let x = rng.uniform(low - half, high + half);
            (((x - low) / step).round_ties_even() * step + low).max(low).min(high)
        }
        Distribution::Int { low, high, log: true, .. } => {
            let (low, high) = (low as f64, high as f64);
            let x = rng.uniform((low - 0.5).ln(), (high + 0.5).ln());
            x.exp().round_ties_even().max(low).min(high)
        }
        Distribution::Categorical { ref choices } => {
            let mut best = (0, f64::NEG_INFINITY);
            for i in 0..choices.len() {
                let u = rng.uniform(0.0, 1.0);
                if u > best.1 {
                    best = (i, u);
                }
            }
            best.0 as f64
        }
    }
}

/// The float before `x`.
pub(super) fn below(x: f64) -> f64 {
    if x - 1.0 < x { x.next_down() } else { x }
}
