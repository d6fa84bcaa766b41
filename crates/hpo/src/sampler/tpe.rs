//! The tree-structured Parzen estimator.
//!
//! Proposal for proposal that of Optuna's `TPESampler`, for one objective and for several. References: Bergstra et al.,
//! Algorithms for hyper-parameter optimization, NIPS 2011; Watanabe, Tree-structured Parzen estimator:
//! understanding its algorithm components, arXiv:2304.11127; Ozaki et al., Multiobjective tree-structured Parzen estimator,
//! JAIR 73 (2022).
//!
//! Past trials are split into the best few and the rest; a mixture is fitted to each; some candidates are
//! drawn from the first, and the one with the greatest ratio of the two densities is proposed. Of several objectives the best are those
//! of the first non-dominated ranks, and of the last of these the ones that add most to the hypervolume.

mod history;
mod parzen;
mod truncnorm;

use serde_json::{Map, Value};

use self::history::{Columns, History, SpaceGroups};
use self::parzen::{Mixture, Shape};
use super::random::draw;
use super::{Attrs, Sampler, StudyView, forked_seed};
use crate::error::{Error, Result};
use crate::math::{argmax, linspace};
use crate::random::RandomState;
use crate::space::Distribution;
use crate::trial::{FrozenTrial, Param};

/// The parameters that are drawn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multivariate {
    /// None: each is drawn by itself.
    Off,
    /// Those that every trial has.
    On,
    /// Those that occur together: the space is cut into groups that trials have wholly or not at all.
    Group,
    /// [`On`](Self::On) for one objective and [`Off`](Self::Off) for several: the default of Optuna 5.
    OnForOne,
}

/// The bandwidth of the kernels of numeric parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bandwidth {
    /// Optuna 4's. For a parameter drawn by itself: the greater of the distances to the neighbors among the
    /// observations and the middle of the range. For d parameters drawn together: 0.2 n^(-1 / (d + 4)) of the range.
    Optuna4,
    /// Optuna 5's, however parameters are drawn: the greater of the distances to the neighbors among the
    /// observations.
    Optuna5,
}

/// Settings of a [`Tpe`] sampler, named as in Optuna.
#[derive(Clone, Debug)]
pub struct TpeConfig {
    /// The seed of the random numbers.
    pub seed: u32,
    /// Trials that are drawn at random before the estimators are used.
    pub n_startup_trials: usize,
    /// Candidates for each proposal.
    pub n_ei_candidates: usize,
    /// The number of trials, of `n`, that count as good.
    pub gamma: fn(usize) -> usize,
    /// The same in a study of several objectives.
    pub gamma_of_many: fn(usize) -> usize,
    /// Whether good trials of several objectives weigh as much as they add to the hypervolume, as in Optuna 4, or all the same, as in
    /// Optuna 5.
    pub hypervolume_weights: bool,
    /// The weights of `n` observations, oldest first.
    pub weights: fn(usize) -> Vec<f64>,
    /// The weight of the prior.
    pub prior_weight: f64,
    /// Whether narrow kernels are widened to the range over min(100, kernels + 1).
    pub consider_magic_clip: bool,
    /// Whether a kernel at the edge takes the distance to the range's end for its width.
    pub consider_endpoints: bool,
    /// The bandwidth of kernels before clipping.
    pub bandwidth: Bandwidth,
    /// The parameters that are drawn together.
    pub multivariate: Multivariate,
    /// Whether running trials count as bad, which keeps parallel workers apart.
    pub constant_liar: bool,
}

impl TpeConfig {
    /// The defaults of Optuna 4.
    pub fn optuna4(seed: u32) -> Self {
        Self {
            seed,
            n_startup_trials: 10,
            n_ei_candidates: 24,
            gamma: default_gamma,
            gamma_of_many: default_gamma,
            hypervolume_weights: true,
            weights: default_weights,
            prior_weight: 1.0,
            consider_magic_clip: true,
            consider_endpoints: false,
            bandwidth: Bandwidth::Optuna4,
            multivariate: Multivariate::Off,
            constant_liar: false,
        }
    }

    /// The defaults of Optuna 5: parameters are drawn together, with its own bandwidth, and running trials count as
    /// bad. Its proposals are those of Optuna 5.0.
    pub fn optuna5(seed: u32) -> Self {
        Self {
            bandwidth: Bandwidth::Optuna5,
            gamma_of_many: optuna5_gamma_of_many,
            hypervolume_weights: false,
            multivariate: Multivariate::OnForOne,
            constant_liar: true,
            ..Self::optuna4(seed)
        }
    }

    /// The settings of hyperopt, as Optuna's `hyperopt_parameters` has them.
    pub fn hyperopt(seed: u32) -> Self {
        Self {
            n_startup_trials: 20,
            gamma: hyperopt_gamma,
            gamma_of_many: hyperopt_gamma,
            ..Self::optuna4(seed)
        }
    }
}

/// min(⌈0.1 n⌉, 25)
pub fn default_gamma(n: usize) -> usize {
    ((0.1 * n as f64).ceil() as usize).min(25)
}

/// ⌈0.1 n⌉
pub fn optuna5_gamma_of_many(n: usize) -> usize {
    (0.1 * n as f64).ceil() as usize
}

/// min(⌈0.25 √n⌉, 25)
pub fn hyperopt_gamma(n: usize) -> usize {
    ((0.25 * (n as f64).sqrt()).ceil() as usize).min(25)
}

/// 1 for the latest 25 observations, and a ramp from 1/n for those before.
pub fn default_weights(n: usize) -> Vec<f64> {
    if n < 25 {
        return vec![1.0; n];
    }
    let mut weights = linspace(1.0 / n as f64, 1.0, n - 25);
    weights.resize(n, 1.0);
    weights
}

/// The tree-structured Parzen estimator; see the [module](self).
#[derive(Clone, Debug)]
pub struct Tpe {
    config: TpeConfig,
    /// The candidates' stream.
    rng: RandomState,
    /// The start-up trials' stream, which begins with the same seed.
    startup: RandomState,
    history: History,
    groups: SpaceGroups,
}

/// System attributes with the parameters that a running trial has drawn but not been asked for.
const RELATIVE: &str = "tpe:relative_params";
/// Optuna cuts an attribute's text into pieces of this length for its databases' sake.
const PIECE: usize = 2045;

impl Tpe {
    /// A sampler with these settings.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] if there are no candidates or the prior's weight is negative.
    pub fn new(config: TpeConfig) -> Result<Self> {
        let wrong = |what, rule, found| Err(Error::InvalidSetting { what, rule, found });
        if config.n_ei_candidates == 0 {
            return wrong("n_ei_candidates", "n_ei_candidates >= 1", "0".into());
        }
        if config.prior_weight.is_nan() || config.prior_weight < 0.0 {
            return wrong("prior_weight", "prior_weight >= 0", config.prior_weight.to_string());
        }
        let rng = RandomState::new(config.seed);
        Ok(Self {
            startup: rng.clone(),
            rng,
            config,
            history: History::default(),
            groups: SpaceGroups::default(),
        })
    }

    /// The parameters that are drawn together in this study.
    fn together(&self, study: &StudyView<'_>) -> Multivariate {
        match self.config.multivariate {
            Multivariate::OnForOne if study.has_many_objectives() => Multivariate::Off,
            Multivariate::OnForOne => Multivariate::On,
            other => other,
        }
    }

    /// The proposal for parameters that are drawn together.
    fn propose(
        &mut self,
        trial: &FrozenTrial,
        study: &StudyView<'_>,
        space: &[(&str, &Distribution)],
    ) -> Vec<f64> {
        let liar = self.config.constant_liar;
        let running = if liar { self.history.running(study, trial.number) } else { Vec::new() };
        let many = study.has_many_objectives();
        let gamma = if many { self.config.gamma_of_many } else { self.config.gamma };
        let n_good = gamma(self.history.n_usable());
        let choice = (n_good, self.config.hypervolume_weights);
        let Columns { good, good_weights, bad, bad_order } =
            self.history.columns(study, space, choice, &running);
        let good_weights = many.then_some(good_weights);
        let shape = Shape {
            prior_weight: self.config.prior_weight,
            magic_clip: self.config.consider_magic_clip,
            consider_endpoints: self.config.consider_endpoints,
            together: self.together(study) != Multivariate::Off,
            bandwidth: self.config.bandwidth,
            weights: self.config.weights,
        };
        let distributions: Vec<&Distribution> = space.iter().map(|(_, d)| *d).collect();
        let good = Mixture::new(&distributions, &good, None, good_weights, &shape);
        let bad = Mixture::new(&distributions, &bad, bad_order, None, &shape);
        let candidates = good.sample(&mut self.rng, self.config.n_ei_candidates);
        let best = best_candidate(&good, &bad, &candidates);
        candidates.iter().map(|column| column[best]).collect()
    }
}

/// The candidate with the greatest log ratio of the densities; of equals, the first.
///
/// Estimates decide wherever they can. Candidates that they cannot tell apart are worked out operation by
/// operation as Optuna does it, so that the same one is found even if rounding alone decides.
fn best_candidate(good: &Mixture, bad: &Mixture, candidates: &[Vec<f64>]) -> usize {
    const UNSURE: f64 = 1e-7;
    let difference = |g: Vec<f64>, b: Vec<f64>| -> Vec<f64> { g.iter().zip(b).map(|(g, b)| g - b).collect() };
    let estimates = difference(good.estimate(candidates), bad.estimate(candidates));
    let best = argmax(&estimates);
    let all_finite = estimates.iter().all(|e| e.is_finite());
    let equals_best = |i: usize| candidates.iter().all(|column| column[i] == column[best]);
    let in_question: Vec<usize> =
        (0..estimates.len()).filter(|&i| !all_finite || estimates[i] > estimates[best] - UNSURE).collect();
    if all_finite && in_question.iter().all(|&i| equals_best(i)) {
        return best;
    }
    let rows: Vec<Vec<f64>> =
        candidates.iter().map(|column| in_question.iter().map(|&i| column[i]).collect()).collect();
    in_question[argmax(&difference(good.log_pdf(&rows), bad.log_pdf(&rows)))]
}

impl Sampler for Tpe {
    fn sample_relative(&mut self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<(Vec<Param>, Attrs)> {
        let together = self.together(study);
        if together == Multivariate::Off {
            return Ok((Vec::new(), Vec::new()));
        }
        self.history.catch_up(study);
        let spaces = match together {
            Multivariate::Group => self.groups.spaces(study, &self.history),
            _ => vec![self.history.intersection()],
        };
        let mut params = Vec::new();
        if self.history.n_usable() >= self.config.n_startup_trials {
            for space in &spaces {
                let space: Vec<_> =
                    space.iter().filter(|(_, d)| !d.is_single()).map(|(name, d)| (&**name, d)).collect();
                if space.is_empty() {
                    continue;
                }
                for (value, (name, distribution)) in
                    self.propose(trial, study, &space).into_iter().zip(&space)
                {
                    params.push(Param {
                        name: (*name).into(),
                        distribution: (*distribution).clone(),
                        internal: value,
                    });
                }
            }
        }
        let mut attrs = Vec::new();
        if self.config.constant_liar && !params.is_empty() {
            let object: Map<String, Value> = params.iter().map(|p| (p.name.to_string(), p.value())).collect();
            let text: Vec<char> = Value::Object(object).to_string().chars().collect();
            for (i, piece) in text.chunks(PIECE).enumerate() {
                attrs.push((format!("{RELATIVE}:{i}"), Value::String(piece.iter().collect())));
            }
        }
        Ok((params, attrs))
    }

    fn sample_independent(
        &mut self,
        study: &StudyView<'_>,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        self.history.catch_up(study);
        if self.history.n_usable() < self.config.n_startup_trials {
            return Ok(draw(&mut self.startup, distribution));
        }
        Ok(self.propose(trial, study, &[(name, distribution)])[0])
    }

    fn fork(&self, number: usize) -> Box<dyn Sampler> {
        let rng = RandomState::new(forked_seed(self.config.seed, number));
        Box::new(Self { startup: rng.clone(), rng, ..self.clone() })
    }
}
