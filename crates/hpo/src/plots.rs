//! The data of the usual plots of a study.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::study::Direction;
use crate::trial::{FrozenTrial, TrialState};

/// One complete trial in the history of a study.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HistoryPoint {
    /// The trial's number.
    pub number: usize,
    /// Its value.
    pub value: f64,
    /// The best value so far.
    pub best: f64,
}

/// The values of the complete trials, and the best up to each.
///
/// ```
/// use firstsight_hpo::{Random, Study, Suggest, plots};
/// let study = Study::builder("doc").sampler(Random::new(1)).create()?;
/// study.optimize(20, |trial| Ok(trial.float("x", 0.0..=1.0)?))?;
/// let history = plots::history(&study.trials()?, study.direction());
/// assert_eq!(Some(history[19].best), study.best_trial()?.value());
/// # Ok::<(), firstsight_hpo::Error>(())
/// ```
pub fn history(trials: &[Arc<FrozenTrial>], direction: Direction) -> Vec<HistoryPoint> {
    let mut best: Option<f64> = None;
    complete(trials)
        .map(|(trial, value)| {
            let so_far = best.filter(|&b| direction.loss(b) <= direction.loss(value)).unwrap_or(value);
            best = Some(so_far);
            HistoryPoint { number: trial.number, value, best: so_far }
        })
        .collect()
}

/// One complete trial in a slice along a parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlicePoint {
    /// The trial's number.
    pub number: usize,
    /// The parameter.
    pub param: Value,
    /// The objective's value.
    pub value: f64,
}

/// The complete trials that have a parameter: its value and the objective's.
pub fn slice(trials: &[Arc<FrozenTrial>], name: &str) -> Vec<SlicePoint> {
    complete(trials)
        .filter_map(|(trial, value)| {
            let param = trial.param(name)?.value();
            Some(SlicePoint { number: trial.number, param, value })
        })
        .collect()
}

/// The lines of a parallel-coordinate plot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParallelCoordinates {
    /// The parameters that every complete trial has, by name.
    pub names: Vec<String>,
    /// Each complete trial's parameters in that order, and its value.
    pub lines: Vec<(Vec<Value>, f64)>,
}

/// The complete trials as lines over the parameters that all of them have.
pub fn parallel_coordinates(trials: &[Arc<FrozenTrial>]) -> ParallelCoordinates {
    let first = complete(trials).next();
    let mut names: Vec<String> =
        first.iter().flat_map(|(t, _)| &t.params).map(|p| p.name.to_string()).collect();
    names.retain(|name| complete(trials).all(|(t, _)| t.param(name).is_some()));
    names.sort();
    let lines = complete(trials)
        .map(|(t, value)| (names.iter().filter_map(|name| t.param(name).map(|p| p.value())).collect(), value))
        .collect();
    ParallelCoordinates { names, lines }
}

/// The trials as if this objective, counted from 0, were the only one, for the plots and importances of a study of several.
pub fn of_objective(trials: &[Arc<FrozenTrial>], objective: usize) -> Vec<Arc<FrozenTrial>> {
    let of = |trial: &Arc<FrozenTrial>| {
        let values = trial.values.get(objective).copied().into_iter().collect();
        Arc::new(FrozenTrial { values, ..(**trial).clone() })
    };
    trials.iter().map(of).collect()
}

fn complete(trials: &[Arc<FrozenTrial>]) -> impl Iterator<Item = (&FrozenTrial, f64)> {
    let complete = trials.iter().filter(|t| t.state == TrialState::Complete);
    complete.filter_map(|t| t.value().map(|value| (&**t, value)))
}
