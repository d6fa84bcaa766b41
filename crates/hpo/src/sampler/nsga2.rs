//! NSGA-II: generations of trials, each bred from the best of those before.
//!
//! Proposal for proposal that of `NSGAIISampler` of Optuna 4.8 and 5.0 with its defaults: uniform crossover, and mutated parameters are
//! drawn anew. Reference: Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE Trans. Evol. Comput. 6
//! (2002).

use std::collections::BTreeMap;

use serde_json::Value;

use super::random::{below, draw};
use super::{Attrs, Sampler, StudyView, forked_seed};
use crate::error::{Error, Result};
use crate::math::order;
use crate::pareto;
use crate::random::RandomState;
use crate::space::Distribution;
use crate::trial::{FrozenTrial, Param, TrialState};

/// Settings of an [`Nsga2`] sampler, named as in Optuna.
#[derive(Clone, Debug)]
pub struct Nsga2Config {
    /// The seed of the random numbers.
    pub seed: u32,
    /// The complete trials of a generation.
    pub population_size: usize,
    /// The probability that a trial has two parents instead of one.
    pub crossover_prob: f64,
    /// The probability that a parameter comes from the second parent.
    pub swapping_prob: f64,
    /// The probability that a parameter is drawn anew; one over their number if there is none.
    pub mutation_prob: Option<f64>,
}

impl Nsga2Config {
    /// Optuna's defaults.
    pub fn optuna(seed: u32) -> Self {
        Self { seed, population_size: 50, crossover_prob: 0.9, swapping_prob: 0.5, mutation_prob: None }
    }
}

/// NSGA-II; see the module's source for the reference. The first generation is random. Of each later one the parents are the best
/// `population_size` of the generation before and of its parents: by non-dominated rank, and within the last rank those that lie
/// farthest from others.
///
/// Each worker selects the parents of a generation by itself, while Optuna keeps them with the study. Pruned and failed trials are
/// no parents.
///
/// ```
/// use firstsight_hpo::{Direction, Nsga2, Nsga2Config, Study, Suggest};
/// let config = Nsga2Config { population_size: 10, ..Nsga2Config::optuna(1) };
/// let study = Study::builder("doc").sampler(Nsga2::new(config)?);
/// let study = study.directions([Direction::Minimize, Direction::Minimize]).create()?;
/// study.optimize(60, |trial| {
///     let x = trial.float("x", -5.0..=5.0)?;
///     Ok([x * x, (x - 2.0).powi(2)])
/// })?;
/// assert!(study.best_trials()?.len() > 5);
/// # Ok::<(), firstsight_hpo::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Nsga2 {
    config: Nsga2Config,
    /// The stream of crossover and mutation.
    rng: RandomState,
    /// The stream of independent draws, which begins with the same seed.
    independent: RandomState,
    /// The numbers of each generation's parents, ascending.
    parents: BTreeMap<u64, Vec<usize>>,
}

/// The system attribute that holds a trial's generation.
const GENERATION: &str = "NSGAIISampler:generation";

impl Nsga2 {
    /// A sampler with these settings.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for a population of fewer than two, or a probability outside 0 to 1.
    pub fn new(config: Nsga2Config) -> Result<Self> {
        let wrong = |what, rule, found| Err(Error::InvalidSetting { what, rule, found });
        if config.population_size < 2 {
            return wrong("population_size", "population_size >= 2", config.population_size.to_string());
        }
        let probabilities = [
            ("crossover_prob", Some(config.crossover_prob)),
            ("swapping_prob", Some(config.swapping_prob)),
            ("mutation_prob", config.mutation_prob),
        ];
        for (what, probability) in probabilities {
            if let Some(p) = probability.filter(|p| !(0.0..=1.0).contains(p)) {
                return wrong(what, "a probability", p.to_string());
            }
        }
        let rng = RandomState::new(config.seed);
        Ok(Self { independent: rng.clone(), rng, config, parents: BTreeMap::new() })
    }

    /// The generation of a trial that begins.
    fn generation(&self, study: &StudyView<'_>) -> u64 {
        let last = complete(study).filter_map(generation_of).max().unwrap_or(0);
        let count = complete(study).filter(|trial| generation_of(trial) == Some(last)).count();
        if count < self.config.population_size { last } else { last.saturating_add(1) }
    }

    /// The numbers of the parents of a generation.
    fn parents(&mut self, study: &StudyView<'_>, generation: u64) -> Vec<usize> {
        let known = self.parents.range(..=generation).next_back();
        let (first, mut parents) = known.map_or((0, Vec::new()), |(&first, known)| (first, known.clone()));
        if first == generation {
            return parents;
        }
        let mut since: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for trial in complete(study) {
            if let Some(before) = generation_of(trial).filter(|g| (first..generation).contains(g)) {
                since.entry(before).or_default().push(trial.number);
            }
        }
        // A generation without trials passes its parents on.
        for (before, mut population) in since {
            population.append(&mut parents);
            parents = self.elite(study, &population);
            let mut sorted = parents.clone();
            sorted.sort_unstable();
            self.parents.insert(before + 1, sorted);
        }
        // As in Optuna, the trial that selects them has them in the order of selection, and the later ones ascending.
        parents
    }

    /// The best of a population.
    fn elite(&self, study: &StudyView<'_>, population: &[usize]) -> Vec<usize> {
        let rows: Vec<_> = population.iter().map(|&number| study.losses(&study.trials[number])).collect();
        let ranks = pareto::ranks(&rows, rows.len());
        let mut elite = Vec::new();
        for rank in 0..=ranks.iter().copied().max().unwrap_or(0) {
            let mut these: Vec<usize> = population
                .iter()
                .zip(&ranks)
                .filter(|(_, r)| **r == rank)
                .map(|(&number, _)| number)
                .collect();
            let room = self.config.population_size - elite.len();
            if these.len() < room {
                elite.append(&mut these);
            } else {
                by_crowding(&mut these, study);
                elite.extend(these.into_iter().take(room));
                break;
            }
        }
        elite
    }

    fn choose(&mut self, n: usize) -> usize {
        self.rng.randint(0, n as i64).map_or(0, |i| i as usize)
    }

    /// The better of two that are drawn at random, or the second.
    fn parent(&mut self, study: &StudyView<'_>, among: &[usize]) -> usize {
        let (first, second) = (among[self.choose(among.len())], among[self.choose(among.len())]);
        let losses = |number: usize| study.losses(&study.trials[number]);
        if dominates(&losses(first), &losses(second)) { first } else { second }
    }

    /// The parameters of a child, but for those that are to be drawn anew.
    fn child(
        &mut self,
        study: &StudyView<'_>,
        space: &BTreeMap<&str, &Distribution>,
        parents: &[usize],
    ) -> Vec<Param> {
        let value = |number: usize, name: &str| study.trials[number].param(name).map(|p| p.internal);
        let (choices, numbers): (Vec<_>, Vec<_>) = space
            .iter()
            .map(|(name, distribution)| (*name, *distribution))
            .partition(|(_, d)| matches!(d, Distribution::Categorical { .. }));
        let mut child: Vec<(&str, &Distribution, Option<f64>)> = Vec::new();
        if self.rng.random_sample() < self.config.crossover_prob {
            let first = self.parent(study, parents);
            let others: Vec<usize> = parents.iter().copied().filter(|number| *number != first).collect();
            let second = if others.is_empty() { first } else { self.parent(study, &others) };
            for (name, distribution) in choices.into_iter().chain(numbers) {
                let swaps = self.rng.random_sample() >= self.config.swapping_prob;
                let inherited = value(if swaps { second } else { first }, name);
                child.push((name, distribution, inherited.map(|x| there_and_back(x, distribution))));
            }
        } else {
            let only = parents[self.choose(parents.len())];
            child.extend(space.iter().map(|(name, d)| (*name, *d, value(only, name))));
        }
        let mutation = self.config.mutation_prob.unwrap_or(1.0 / child.len().max(1) as f64);
        let mut params = Vec::new();
        for (name, distribution, internal) in child {
            if self.rng.random_sample() >= mutation
                && let Some(internal) = internal
            {
                params.push(Param { name: name.into(), distribution: distribution.clone(), internal });
            }
        }
        params
    }
}

fn complete<'a>(study: &StudyView<'a>) -> impl Iterator<Item = &'a FrozenTrial> {
    let n = study.directions.len();
    let of_use = move |trial: &&FrozenTrial| trial.state == TrialState::Complete && trial.values.len() == n;
    study.trials.iter().map(|trial| &**trial).filter(of_use)
}

fn generation_of(trial: &FrozenTrial) -> Option<u64> {
    trial.system_attrs.get(GENERATION)?.as_u64()
}

/// Whether the first row is as good everywhere, and better somewhere.
fn dominates(a: &[f64], b: &[f64]) -> bool {
    a != b && a.iter().zip(b).all(|(a, b)| a <= b)
}

/// The parameters that all complete trials have with one distribution of more than one value.
fn common<'a>(study: &StudyView<'a>) -> BTreeMap<&'a str, &'a Distribution> {
    let mut trials = complete(study);
    let first = trials.next();
    let params = first.into_iter().flat_map(|trial| &trial.params);
    let mut space: BTreeMap<_, _> = params.map(|p| (&*p.name, &p.distribution)).collect();
    for trial in trials {
        space.retain(|name, d| trial.param(name).is_some_and(|p| p.distribution == **d));
    }
    space.retain(|_, distribution| !distribution.is_single());
    space
}

/// Sorts trials by the distance to their neighbors in each objective, the largest first.
fn by_crowding(numbers: &mut [usize], study: &StudyView<'_>) {
    let mut distances: BTreeMap<usize, f64> = BTreeMap::new();
    for objective in 0..study.directions.len() {
        let value = |number: usize| study.trials[number].values[objective];
        numbers.sort_by(|a, b| order(value(*a), value(*b)));
        let (Some(&low), Some(&high)) = (numbers.first(), numbers.last()) else { return };
        if value(low) == value(high) {
            continue;
        }
        let mut values = vec![f64::NEG_INFINITY];
        values.extend(numbers.iter().map(|number| value(*number)));
        values.push(f64::INFINITY);
        let least = values.iter().copied().find(|v| *v != f64::NEG_INFINITY).unwrap_or(0.0);
        let most = values.iter().rev().copied().find(|v| *v != f64::INFINITY).unwrap_or(0.0);
        let width = if most - least <= 0.0 { 1.0 } else { most - least };
        for (j, number) in numbers.iter().enumerate() {
            let gap = if values[j] == values[j + 2] { 0.0 } else { values[j + 2] - values[j] };
            *distances.entry(*number).or_default() += gap / width;
        }
    }
    let distance = |number: &usize| distances.get(number).copied().unwrap_or(0.0);
    numbers.sort_by(|a, b| order(distance(a), distance(b)));
    numbers.reverse();
}

/// A value as it comes out of Optuna's transformed space, which logarithms and rounding may change in the last bit.
fn there_and_back(x: f64, distribution: &Distribution) -> f64 {
    match *distribution {
        Distribution::Float { low, high, log: true, .. } => x.ln().exp().max(low).min(below(high)),
        Distribution::Float { low, high, step: Some(step), .. } => {
            (((x - low) / step).round_ties_even() * step + low).max(low).min(high)
        }
        Distribution::Float { high, .. } => x.min(below(high)),
        Distribution::Int { low, high, log: true, .. } => {
            x.ln().exp().round_ties_even().max(low as f64).min(high as f64)
        }
        Distribution::Int { low, high, step, .. } => {
            let (low, high, step) = (low as f64, high as f64, step as f64);
            (((x - low) / step + 0.5).floor() * step + low).max(low).min(high)
        }
        Distribution::Categorical { .. } => x,
    }
}

impl Sampler for Nsga2 {
    fn sample_relative(&mut self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<(Vec<Param>, Attrs)> {
        let mut attrs = Vec::new();
        let generation = match generation_of(trial) {
            Some(generation) => generation,
            None => {
                let generation = self.generation(study);
                attrs.push((GENERATION.to_owned(), Value::from(generation)));
                generation
            }
        };
        let parents = self.parents(study, generation);
        let params = match parents.is_empty() {
            true => Vec::new(),
            false => self.child(study, &common(study), &parents),
        };
        Ok((params, attrs))
    }

    fn sample_independent(
        &mut self,
        _study: &StudyView<'_>,
        _trial: &FrozenTrial,
        _name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        Ok(draw(&mut self.independent, distribution))
    }

    fn fork(&self, number: usize) -> Box<dyn Sampler> {
        let rng = RandomState::new(forked_seed(self.config.seed, number));
        Box::new(Self { independent: rng.clone(), rng, ..self.clone() })
    }
}
