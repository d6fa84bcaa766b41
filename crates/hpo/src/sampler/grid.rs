//! Grid search: every combination of listed values, in shuffled order.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{Attrs, Sampler, StudyView, forked_seed};
use crate::error::{Error, Result};
use crate::random::RandomState;
use crate::space::{Distribution, same};
use crate::trial::{FrozenTrial, TrialState};

const GRID: &str = "search_space";
const CELL: &str = "grid_id";

/// Grid search as Optuna 4.8's `GridSampler`: trial `n` gets the `n`-th combination of a shuffled list, and
/// the study stops when every combination has been tried.
///
/// ```
/// use firstsight_hpo::{Grid, Study, Suggest};
/// let grid = Grid::new(0).axis("width", &[8, 16, 32])?.axis("activation", &["relu", "tanh"])?;
/// assert_eq!(grid.len(), 6);
/// let study = Study::builder("grid").sampler(grid).create()?;
/// study.optimize(100, |trial| {
///     let width = trial.categorical("width", &[8, 16, 32])?;
///     let activation = trial.categorical("activation", &["relu", "tanh"])?;
///     Ok(1.0 / f64::from(width) + if activation == "relu" { 0.0 } else { 1.0 })
/// })?;
/// assert_eq!(study.trials()?.len(), 6);
/// # Ok::<(), firstsight_hpo::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Grid {
    seed: u32,
    rng: RandomState,
    axes: BTreeMap<String, Vec<Value>>,
    /// The order in which combinations are tried; made when the axes are known.
    order: Vec<usize>,
}

impl Grid {
    /// A grid without axes.
    pub fn new(seed: u32) -> Self {
        Self { seed, rng: RandomState::new(seed), axes: BTreeMap::new(), order: vec![0] }
    }

    /// The same grid with the values of one more parameter.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSpace`] if there are no values; [`Error::Json`] if one has no JSON.
    pub fn axis<T: Serialize>(mut self, name: &str, values: &[T]) -> Result<Self> {
        let Distribution::Categorical { choices } = Distribution::categorical(name, values)? else {
            return Ok(self);
        };
        self.axes.insert(name.into(), choices.to_vec());
        self.rng = RandomState::new(self.seed);
        self.order = (0..self.axes.values().map(Vec::len).product()).collect();
        self.rng.shuffle(&mut self.order);
        Ok(self)
    }

    /// The number of combinations.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is nothing to try.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The value of one axis in the `cell`-th combination to be tried. Combinations are numbered with the
    /// last axis, by name, running fastest.
    fn value(&self, cell: usize, name: &str) -> Option<&Value> {
        let mut rest = *self.order.get(cell)?;
        let mut found = None;
        for (axis, values) in self.axes.iter().rev() {
            if axis == name {
                found = values.get(rest % values.len());
            }
            rest /= values.len();
        }
        found
    }

    fn same_grid(&self, other: &Value) -> bool {
        let Some(other) = other.as_object() else { return false };
        other.len() == self.axes.len()
            && self.axes.iter().all(|(name, values)| {
                let theirs = other.get(name).and_then(Value::as_array);
                theirs
                    .is_some_and(|t| t.len() == values.len() && t.iter().zip(values).all(|(a, b)| same(a, b)))
            })
    }

    /// The combinations that no trial has finished; if any are left, those that no trial runs.
    fn unvisited(&self, study: &StudyView<'_>) -> Vec<usize> {
        let (mut visited, mut running) = (BTreeSet::new(), BTreeSet::new());
        for trial in study.trials {
            let cell = trial.system_attrs.get(CELL).and_then(Value::as_u64);
            let ours = trial.system_attrs.get(GRID).is_some_and(|grid| self.same_grid(grid));
            if let (Some(cell), true) = (cell, ours) {
                if trial.state.is_finished() {
                    visited.insert(cell as usize);
                } else if trial.state == TrialState::Running {
                    running.insert(cell as usize);
                }
            }
        }
        let left: Vec<usize> = (0..self.len()).filter(|c| !visited.contains(c)).collect();
        let idle: Vec<usize> = left.iter().copied().filter(|c| !running.contains(c)).collect();
        if idle.is_empty() { left } else { idle }
    }
}

impl Sampler for Grid {
    fn before_trial(&mut self, study: &StudyView<'_>, trial: &FrozenTrial) -> Result<Attrs> {
        if trial.system_attrs.contains_key(CELL) || trial.system_attrs.contains_key("fixed_params") {
            return Ok(Vec::new());
        }
        let cell = if trial.number < self.len() {
            trial.number
        } else {
            let mut open = self.unvisited(study);
            if open.is_empty() {
                tracing::warn!("The grid has been exhausted; a combination is tried again.");
                open = (0..self.len()).collect();
            }
            open[self.rng.interval(open.len() as u64 - 1) as usize]
        };
        let grid =
            self.axes.iter().map(|(name, values)| (name.clone(), Value::from(values.clone()))).collect();
        Ok(vec![(GRID.into(), Value::Object(grid)), (CELL.into(), Value::from(cell))])
    }

    /// # Errors
    ///
    /// [`Error::UnknownParam`] if the grid has no such axis.
    fn sample_independent(
        &mut self,
        _study: &StudyView<'_>,
        trial: &FrozenTrial,
        name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        let unknown = || Error::UnknownParam {
            name: name.into(),
            place: "the grid".into(),
            known: self.axes.keys().cloned().collect(),
        };
        let cell = trial.system_attrs.get(CELL).and_then(Value::as_u64).ok_or_else(unknown)?;
        let value = self.value(cell as usize, name).ok_or_else(unknown)?;
        let internal = distribution.internal(value).ok_or_else(|| Error::OutOfRange {
            name: name.into(),
            value: value.to_string(),
            distribution: distribution.to_string(),
        })?;
        if !distribution.contains(internal) {
            tracing::warn!("The grid's value {value} of {name} lies outside {distribution}.");
        }
        Ok(internal)
    }

    fn after_trial(&mut self, study: &StudyView<'_>, _trial: &FrozenTrial) -> Result<bool> {
        Ok(self.unvisited(study).is_empty())
    }

    fn fork(&self, number: usize) -> Box<dyn Sampler> {
        Box::new(Self { rng: RandomState::new(forked_seed(self.seed, number)), ..self.clone() })
    }
}

/// The number of combinations of a full grid over these distributions, with `points` values
/// taken from each continuous or longer range, and all of each shorter one.
///
/// ```
/// use firstsight_hpo::{Distribution, FloatRange, IntRange, grid_cost};
/// let space = [
///     Distribution::int("width", IntRange::new(4, 256).log())?,
///     Distribution::categorical("activation", &["relu", "leaky_relu", "tanh"])?,
///     Distribution::float("rate", FloatRange::new(1e-4, 1e-2).log())?,
/// ];
/// assert_eq!(grid_cost(&space, 7), 7.0 * 3.0 * 7.0);
/// # Ok::<(), firstsight_hpo::Error>(())
/// ```
pub fn grid_cost<'a>(space: impl IntoIterator<Item = &'a Distribution>, points: usize) -> f64 {
    let values = |distribution: &Distribution| match distribution {
        Distribution::Float { low, high, step: None, .. } if low == high => 1.0,
        Distribution::Float { step: None, .. } => points as f64,
        Distribution::Float { low, high, step: Some(step), .. } => {
            (((high - low) / step).round() + 1.0).min(points as f64)
        }
        Distribution::Int { low, high, step, .. } => (((high - low) / step) as f64 + 1.0).min(points as f64),
        Distribution::Categorical { choices } => choices.len() as f64,
    };
    space.into_iter().map(values).product()
}
