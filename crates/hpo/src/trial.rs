//! Trials: running, finished and replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::NaiveDateTime;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::space::{Distribution, FloatRange, IntRange};
use crate::storage::Change;
use crate::study::{SharedSampler, Study};

/// The state of a trial, numbered as in Optuna.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrialState {
    /// Running.
    Running = 0,
    /// Complete, with a value.
    Complete = 1,
    /// Pruned; its value is its last intermediate value, if any.
    Pruned = 2,
    /// Failed, without a value.
    Failed = 3,
    /// Enqueued, but not started.
    Waiting = 4,
}

impl TrialState {
    /// Whether it is complete, pruned or failed.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Complete | Self::Pruned | Self::Failed)
    }
}

impl std::fmt::Display for TrialState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Pruned => "pruned",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
        })
    }
}

/// One parameter of a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// The parameter's name.
    pub name: Arc<str>,
    /// The distribution it was drawn from.
    pub distribution: Distribution,
    /// The value in the distribution's internal form.
    pub internal: f64,
}

impl Param {
    /// The value.
    pub fn value(&self) -> Value {
        self.distribution.external(self.internal)
    }
}

/// A trial's record: Optuna's `FrozenTrial`.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenTrial {
    /// The storage's key.
    pub id: i64,
    /// The number of the trial in the study, from 0.
    pub number: usize,
    /// The state.
    pub state: TrialState,
    /// The objectives' values, none for a trial that has not ended with some; of a pruned trial, the last intermediate one.
    pub values: Vec<f64>,
    /// The parameters, in the order in which they were suggested.
    pub params: Vec<Param>,
    /// The reported values by step.
    pub intermediate: BTreeMap<u64, f64>,
    /// Attributes attached by the user.
    pub user_attrs: BTreeMap<String, Value>,
    /// Attributes attached by samplers and pruners.
    pub system_attrs: BTreeMap<String, Value>,
    /// Local time at which it began to run.
    pub started: Option<NaiveDateTime>,
    /// Local time at which it ended.
    pub completed: Option<NaiveDateTime>,
}

impl FrozenTrial {
    /// An empty record.
    pub fn new(id: i64, number: usize, state: TrialState) -> Self {
        Self {
            id,
            number,
            state,
            values: Vec::new(),
            params: Vec::new(),
            intermediate: BTreeMap::new(),
            user_attrs: BTreeMap::new(),
            system_attrs: BTreeMap::new(),
            started: None,
            completed: None,
        }
    }

    /// The value of the first objective, which usually is the only one.
    pub fn value(&self) -> Option<f64> {
        self.values.first().copied()
    }

    /// A parameter by name.
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|p| &*p.name == name)
    }

    /// The greatest step with a reported value, and the value.
    pub fn last_report(&self) -> Option<(u64, f64)> {
        self.intermediate.last_key_value().map(|(&step, &value)| (step, value))
    }

    /// The parameters as a JSON object.
    pub fn params_json(&self) -> serde_json::Map<String, Value> {
        self.params.iter().map(|p| (p.name.to_string(), p.value())).collect()
    }
}

/// A source of parameters: a [`Trial`] samples them, a [`Replay`] repeats them.
///
/// Write the search space once, over any `Suggest`, and the winner is rebuilt by the code that found it:
///
/// ```
/// use firstsight_hpo::{FloatRange, Random, Replay, Result, Study, Suggest};
///
/// struct Config { rate: f64, layers: i64, activation: &'static str }
///
/// fn space(s: &mut impl Suggest) -> Result<Config> {
///     Ok(Config {
///         rate: s.float("rate", FloatRange::new(1e-4, 1e-2).log())?,
///         layers: s.int("layers", 1..=3)?,
///         activation: s.categorical("activation", &["relu", "tanh"])?,
///     })
/// }
///
/// let study = Study::builder("doc").sampler(Random::new(123)).create()?;
/// study.optimize(10, |trial| {
///     let config = space(trial)?;
///     Ok((config.rate.log10() + 3.0).abs() + config.layers as f64)
/// })?;
/// let best = study.best_trial()?;
/// let winner = space(&mut Replay::new(&best))?;
/// assert_eq!(best.value(), Some((winner.rate.log10() + 3.0).abs() + winner.layers as f64));
/// # Ok::<(), firstsight_hpo::Error>(())
/// ```
pub trait Suggest {
    /// A value of the distribution, in its internal form. The other methods are built on this one.
    fn suggest(&mut self, name: &str, distribution: Distribution) -> Result<f64>;

    /// A float.
    fn float(&mut self, name: &str, range: impl Into<FloatRange>) -> Result<f64> {
        self.suggest(name, Distribution::float(name, range.into())?)
    }

    /// An integer.
    fn int(&mut self, name: &str, range: impl Into<IntRange>) -> Result<i64> {
        Ok(self.suggest(name, Distribution::int(name, range.into())?)? as i64)
    }

    /// One of the choices, which the storage keeps as JSON: numbers, strings, booleans, options of them,
    /// and enums that derive `Serialize`, stay what they are.
    fn categorical<T: Clone + PartialEq + Serialize>(&mut self, name: &str, choices: &[T]) -> Result<T> {
        let index = self.suggest(name, Distribution::categorical(name, choices)?)?;
        Ok(choices[index as usize].clone())
    }

    /// One of the labeled choices, of any type; the storage keeps the label.
    fn one_of<T: Clone>(&mut self, name: &str, choices: &[(&str, T)]) -> Result<T> {
        let labels: Vec<&str> = choices.iter().map(|(label, _)| *label).collect();
        let index = self.suggest(name, Distribution::categorical(name, &labels)?)?;
        Ok(choices[index as usize].1.clone())
    }
}

/// A trial's values under another search space: repeats them as a [`Replay`] does, and keeps the distributions that are
/// asked for. So a study can take over trials of an earlier one whose space was smaller.
///
/// ```
/// use firstsight_hpo::{FrozenTrial, Random, Recast, Result, Study, Suggest};
///
/// fn space(s: &mut impl Suggest, models: &[&'static str]) -> Result<&'static str> {
///     s.categorical("model", models)
/// }
///
/// let old = Study::builder("old").sampler(Random::new(1)).create()?;
/// old.optimize(3, |trial| Ok(space(trial, &["cnn", "lenet"])?.len() as f64))?;
/// let new = Study::builder("new").sampler(Random::new(1)).create()?;
/// for trial in old.trials()? {
///     let mut recast = Recast::new(trial.params_json());
///     space(&mut recast, &["alexnet", "cnn", "lenet"])?;
///     new.add_trial(&FrozenTrial { params: recast.into_params(), ..(*trial).clone() })?;
/// }
/// assert_eq!(new.best_trial()?.values, old.best_trial()?.values);
/// # Ok::<(), firstsight_hpo::Error>(())
/// ```
#[derive(Debug)]
pub struct Recast {
    values: serde_json::Map<String, Value>,
    params: Vec<Param>,
}

impl Recast {
    /// These values by parameter.
    pub fn new(values: serde_json::Map<String, Value>) -> Self {
        Self { values, params: Vec::new() }
    }

    /// The parameters that were asked for.
    pub fn into_params(self) -> Vec<Param> {
        self.params
    }
}

impl Suggest for Recast {
    /// # Errors
    ///
    /// [`Error::UnknownParam`] for a parameter without a value, [`Error::OutOfRange`] for one outside its distribution.
    fn suggest(&mut self, name: &str, distribution: Distribution) -> Result<f64> {
        let value = self.values.get(name).ok_or_else(|| Error::UnknownParam {
            name: name.into(),
            place: "the trial".into(),
            known: self.values.keys().cloned().collect(),
        })?;
        let internal = distribution.internal(value).filter(|internal| distribution.contains(*internal));
        let internal = internal.ok_or_else(|| Error::OutOfRange {
            name: name.into(),
            value: value.to_string(),
            distribution: distribution.to_string(),
        })?;
        if !self.params.iter().any(|param| &*param.name == name) {
            self.params.push(Param { name: name.into(), distribution, internal });
        }
        Ok(internal)
    }
}

/// A running trial.
///
/// It takes its parameters from the study's sampler as the objective asks for them.
pub struct Trial<'s> {
    study: &'s Study,
    sampler: SharedSampler,
    record: FrozenTrial,
    fixed: BTreeMap<String, Value>,
    /// The parameters that the sampler drew together, drawn when the first one is needed.
    relative: Option<Vec<Param>>,
    taken_over: bool,
    /// Parameters that the worker before this one drew, and this one did not yet.
    inherited: BTreeSet<Arc<str>>,
}

impl<'s> Trial<'s> {
    pub(crate) fn new(study: &'s Study, sampler: SharedSampler, record: FrozenTrial) -> Self {
        let fixed = match record.system_attrs.get("fixed_params") {
            Some(Value::Object(map)) => map.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            _ => BTreeMap::new(),
        };
        Self { study, sampler, record, fixed, relative: None, taken_over: false, inherited: BTreeSet::new() }
    }

    pub(crate) fn taken_over(study: &'s Study, sampler: SharedSampler, record: FrozenTrial) -> Self {
        let inherited = record.params.iter().map(|param| param.name.clone()).collect();
        Self { taken_over: true, inherited, ..Self::new(study, sampler, record) }
    }

    /// Whether another worker began it: see [`StudyBuilder::take_over`](crate::StudyBuilder::take_over).
    pub fn is_taken_over(&self) -> bool {
        self.taken_over
    }

    /// The number of the trial in the study, from 0.
    pub fn number(&self) -> usize {
        self.record.number
    }

    /// The trial's record so far.
    pub fn record(&self) -> &FrozenTrial {
        &self.record
    }

    /// Reports an intermediate value, such as the loss after an epoch. Only the first report of a step counts.
    ///
    /// # Errors
    ///
    /// [`Error::Finished`] or [`Error::Taken`] if another worker has ended the trial or taken it over; [`Error::OneObjective`] in a study
    /// of several; those of the storage.
    pub fn report(&mut self, value: f64, step: u64) -> Result<()> {
        self.study.check_one_objective("reported values")?;
        if self.record.intermediate.contains_key(&step) {
            tracing::warn!(
                "Trial {} has a value for step {step} already; this one is ignored.",
                self.number()
            );
            return Ok(());
        }
        self.study.check_worker(&self.record)?;
        self.update(Change::Report { step, value })
    }

    /// Finds out whether the trial is still this worker's.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`] if another worker has taken it over; those of the storage.
    pub fn check_worker(&self) -> Result<()> {
        self.study.check_worker(&self.record)
    }

    /// Whether the study's pruner would stop this trial now.
    ///
    /// # Errors
    ///
    /// [`Error::OneObjective`] in a study of several; those of the storage.
    pub fn should_prune(&mut self) -> Result<bool> {
        self.study.check_one_objective("pruning")?;
        let (prune, changes) = self.study.prune(&self.record)?;
        for (key, value) in changes {
            self.update(Change::SystemAttr { key: &key, value: &value })?;
        }
        Ok(prune)
    }

    /// Attaches a value to the trial.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if the value has no JSON; those of the storage.
    pub fn set_user_attr(&mut self, key: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value)
            .map_err(|source| Error::Json { what: format!("user attribute `{key}`"), source })?;
        self.update(Change::UserAttr { key, value: &value })
    }

    fn update(&mut self, change: Change<'_>) -> Result<()> {
        self.study.storage().update(self.record.id, &change)?;
        change.apply(&mut self.record);
        Ok(())
    }

    fn sample(&mut self, name: &str, distribution: &Distribution) -> Result<f64> {
        if let Some(value) = self.fixed.get(name) {
            let internal = distribution.internal(value).ok_or_else(|| Error::OutOfRange {
                name: name.into(),
                value: value.to_string(),
                distribution: distribution.to_string(),
            })?;
            if !distribution.contains(internal) {
                tracing::warn!("Fixed parameter {name} with value {value} lies outside {distribution}.");
            }
            return Ok(internal);
        }
        if distribution.is_single() {
            return Ok(distribution.first());
        }
        if self.relative.is_none() {
            let (params, attrs) = self.study.sample_relative(&self.sampler, &self.record)?;
            self.relative = Some(params);
            for (key, value) in attrs {
                self.update(Change::SystemAttr { key: &key, value: &value })?;
            }
        }
        if let Some(param) = self.relative.iter().flatten().find(|p| &*p.name == name) {
            param.distribution.check_compatible(name, distribution)?;
            if distribution.contains(param.internal) {
                return Ok(param.internal);
            }
        }
        self.study.sample_independent(&self.sampler, &self.record, name, distribution)
    }
}

impl Suggest for Trial<'_> {
    fn suggest(&mut self, name: &str, distribution: Distribution) -> Result<f64> {
        if let Some(known) = self.record.param(name) {
            return if known.distribution == distribution {
                let internal = known.internal;
                // Drawn again, so that what is drawn after it is what it would have been.
                if self.inherited.remove(name) {
                    self.sample(name, &distribution)?;
                }
                Ok(internal)
            } else {
                known.distribution.check_compatible(name, &distribution)?;
                Err(Error::Incompatible {
                    name: name.into(),
                    rule: "one distribution for a name within a trial",
                    before: known.distribution.to_string(),
                    now: distribution.to_string(),
                })
            };
        }
        let internal = self.sample(name, &distribution)?;
        self.update(Change::Param { name, internal, distribution: &distribution })?;
        Ok(internal)
    }
}

/// A finished trial, replayed: every parameter has its recorded value.
#[derive(Clone, Debug)]
pub struct Replay<'t> {
    trial: &'t FrozenTrial,
}

impl<'t> Replay<'t> {
    /// A replay of the trial.
    pub fn new(trial: &'t FrozenTrial) -> Self {
        Self { trial }
    }
}

impl Suggest for Replay<'_> {
    /// # Errors
    ///
    /// [`Error::UnknownParam`] if the trial has no such parameter, [`Error::OutOfRange`] if its value
    /// lies outside the requested distribution.
    fn suggest(&mut self, name: &str, distribution: Distribution) -> Result<f64> {
        let known = self.trial.param(name).ok_or_else(|| Error::UnknownParam {
            name: name.into(),
            place: format!("trial {}", self.trial.number),
            known: self.trial.params.iter().map(|p| p.name.to_string()).collect(),
        })?;
        let value = known.value();
        distribution.internal(&value).filter(|&internal| distribution.contains(internal)).ok_or_else(|| {
            Error::OutOfRange {
                name: name.into(),
                value: value.to_string(),
                distribution: distribution.to_string(),
            }
        })
    }
}
