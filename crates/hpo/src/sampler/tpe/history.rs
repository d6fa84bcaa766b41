//! The past trials as a TPE sampler sees them, kept up to date trial by trial.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::RELATIVE;
use crate::math::{np_log, order};
use crate::pareto;
use crate::sampler::StudyView;
use crate::space::Distribution;
use crate::trial::{FrozenTrial, TrialState};

/// A space with its parameters by name.
pub(super) type Space = BTreeMap<Arc<str>, Distribution>;

/// The complete and pruned trials, by parameter.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Trials looked at, finished or not.
    looked_at: usize,
    /// Those of them that were not finished.
    open: Vec<usize>,
    /// The usable trials in the order in which they were found finished.
    found: Vec<usize>,
    /// The usable trials' numbers with their ranks, ascending by number.
    usable: Vec<(usize, Rank)>,
    values: HashMap<Arc<str>, Observed>,
    /// The parameters that all usable trials have, with one and the same distribution.
    common: Option<Space>,
    split: Split,
}

/// The good trials.
#[derive(Clone, Debug, Default)]
struct Split {
    /// Among so many usable ones.
    n: usize,
    /// Flags by number.
    is_good: Vec<bool>,
    /// Of several objectives, the weight of each that has values, by number.
    weights: BTreeMap<usize, f64>,
}

/// A parameter's values by trial number; NaN where a trial does not have it.
#[derive(Clone, Debug, Default)]
struct Observed {
    values: Vec<f64>,
    /// The logarithms of the first so many, worked out once and for all.
    logs: Vec<f64>,
    /// The values that are there, ascending, with their trials; of equal ones the earlier trial first.
    sorted: Vec<(f64, usize)>,
}

impl Observed {
    fn put(&mut self, number: usize, value: f64) {
        if self.values.len() <= number {
            self.values.resize(number + 1, f64::NAN);
        }
        self.values[number] = value;
        self.logs.truncate(number);
        let place = self.sorted.partition_point(|&other| other < (value, number));
        self.sorted.insert(place, (value, number));
    }

    /// The values, or their logarithms, as kernels take them.
    fn scale(&mut self, log: bool) {
        if log {
            let new = &self.values[self.logs.len()..];
            self.logs.extend(new.iter().map(|&x| np_log(x)));
        }
    }

    fn scaled(&self, log: bool) -> &[f64] {
        if log { &self.logs } else { &self.values }
    }
}

/// The quality of a trial; less is better.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rank {
    /// By its loss.
    Complete(f64),
    /// After all complete ones: by its last step, the later the better, then by the loss there. Without
    /// reports, last.
    Pruned(Option<(u64, f64)>),
}

impl Rank {
    fn of(trial: &FrozenTrial, study: &StudyView<'_>) -> Option<Self> {
        let loss = |v: f64| if v.is_nan() { f64::INFINITY } else { study.direction().loss(v) };
        match trial.state {
            TrialState::Complete if trial.values.len() != study.directions.len() => None,
            TrialState::Complete => trial.value().map(|v| Self::Complete(loss(v))),
            TrialState::Pruned => Some(Self::Pruned(trial.last_report().map(|(step, v)| (step, loss(v))))),
            _ => None,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Complete(a), Self::Complete(b)) => order(*a, *b),
            (Self::Complete(_), Self::Pruned(_)) => Ordering::Less,
            (Self::Pruned(_), Self::Complete(_)) => Ordering::Greater,
            (Self::Pruned(Some((a, x))), Self::Pruned(Some((b, y)))) => b.cmp(a).then(order(*x, *y)),
            (Self::Pruned(a), Self::Pruned(b)) => b.is_some().cmp(&a.is_some()),
        }
    }
}

/// Whether a kernel can be put on an observation, as it is scaled. A storage may hold other choices under the parameter's name, and
/// numbers that have no logarithm.
fn is_of_use(x: f64, distribution: &Distribution) -> bool {
    match distribution {
        Distribution::Categorical { .. } => distribution.contains(x),
        _ => x.is_finite(),
    }
}

/// The observations of each parameter of a space, in the order of the trials; logarithms where its range is
/// logarithmic.
pub(super) struct Columns {
    pub(super) good: Vec<Vec<f64>>,
    /// The weight of each good one.
    pub(super) good_weights: Vec<f64>,
    pub(super) bad: Vec<Vec<f64>>,
    /// The indices of the bad observations of a single parameter, ascending by value. Those of running trials are not among them.
    pub(super) bad_order: Option<Vec<usize>>,
}

impl History {
    /// Takes in the trials that have finished since the last call.
    pub(super) fn catch_up(&mut self, study: &StudyView<'_>) {
        let mut look = std::mem::take(&mut self.open);
        look.extend(self.looked_at..study.trials.len());
        self.looked_at = study.trials.len();
        for number in look {
            let trial = &study.trials[number];
            if !trial.state.is_finished() {
                self.open.push(number);
            } else if let Some(rank) = Rank::of(trial, study) {
                self.take_in(trial, rank);
            }
        }
    }

    fn take_in(&mut self, trial: &FrozenTrial, rank: Rank) {
        self.found.push(trial.number);
        let place = self.usable.partition_point(|&(number, _)| number < trial.number);
        self.usable.insert(place, (trial.number, rank));
        for param in &trial.params {
            let observed = match self.values.get_mut(&param.name) {
                Some(observed) => observed,
                None => self.values.entry(param.name.clone()).or_default(),
            };
            observed.put(trial.number, param.internal);
        }
        match &mut self.common {
            Some(common) => {
                common.retain(|name, d| trial.param(name).is_some_and(|p| p.distribution == *d));
            }
            None => {
                let all = trial.params.iter().map(|p| (p.name.clone(), p.distribution.clone()));
                self.common = Some(all.collect());
            }
        }
    }

    /// The number of complete or pruned trials.
    pub(super) fn n_usable(&self) -> usize {
        self.usable.len()
    }

    /// The parameters that every usable trial has with one distribution.
    pub(super) fn intersection(&self) -> Space {
        self.common.clone().unwrap_or_default()
    }

    /// The running trials except one.
    pub(super) fn running<'a>(&self, study: &StudyView<'a>, except: usize) -> Vec<&'a FrozenTrial> {
        let others =
            self.open.iter().filter(|&&number| number != except).map(|&number| &*study.trials[number]);
        others.filter(|trial| trial.state == TrialState::Running).collect()
    }

    /// The observations of a space among the `n_good` best trials, and among the others and the running
    /// ones. Trials without one of the parameters are passed over. With `by_hypervolume` good trials of several objectives weigh as
    /// much as they add to it, else all the same.
    pub(super) fn columns(
        &mut self,
        study: &StudyView<'_>,
        space: &[(&str, &Distribution)],
        (n_good, by_hypervolume): (usize, bool),
        running: &[&FrozenTrial],
    ) -> Columns {
        self.split(study, n_good, by_hypervolume);
        for (name, distribution) in space {
            if let Some(observed) = self.values.get_mut(*name) {
                observed.scale(distribution.is_log());
            }
        }
        let is_good = &self.split.is_good;
        let source = |(name, d): &(&str, &Distribution)| self.values.get(*name).map(|o| o.scaled(d.is_log()));
        let sources: Vec<&[f64]> = space.iter().map(|param| source(param).unwrap_or_default()).collect();
        let empty = || vec![Vec::new(); space.len()];
        let mut columns = Columns { good: empty(), good_weights: Vec::new(), bad: empty(), bad_order: None };
        let mut bad_places = vec![usize::MAX; self.looked_at];
        let mut row = vec![0.0; space.len()];
        let mut running = running.iter().peekable();
        for &(number, _) in &self.usable {
            while let Some(trial) = running.next_if(|t| t.number < number) {
                columns.push_running(trial, space);
            }
            for ((value, source), (_, distribution)) in row.iter_mut().zip(&sources).zip(space) {
                *value =
                    source.get(number).copied().filter(|x| is_of_use(*x, distribution)).unwrap_or(f64::NAN);
            }
            if !row.iter().any(|v| v.is_nan()) {
                let side = if is_good[number] {
                    columns.good_weights.push(self.split.weights.get(&number).copied().unwrap_or(1.0));
                    &mut columns.good
                } else {
                    bad_places[number] = columns.bad[0].len();
                    &mut columns.bad
                };
                side.iter_mut().zip(&row).for_each(|(column, &value)| column.push(value));
            }
        }
        for trial in running {
            columns.push_running(trial, space);
        }
        if let [(name, _)] = space {
            let sorted = self.values.get(*name).map(|observed| &observed.sorted[..]).unwrap_or_default();
            let places = sorted.iter().map(|&(_, number)| bad_places[number]);
            columns.bad_order = Some(places.filter(|&place| place != usize::MAX).collect());
        }
        columns
    }

    /// Marks the `n_good` best usable trials.
    fn split(&mut self, study: &StudyView<'_>, n_good: usize, by_hypervolume: bool) {
        if self.split.n == self.usable.len() && !self.split.is_good.is_empty() {
            return;
        }
        let mut split =
            Split { n: self.usable.len(), is_good: vec![false; self.looked_at], weights: BTreeMap::new() };
        if study.has_many_objectives() {
            // Those without values, which were pruned, come after all others, in their order.
            let (complete, pruned): (Vec<_>, Vec<_>) =
                self.usable.iter().copied().partition(|(_, rank)| matches!(rank, Rank::Complete(_)));
            let rows: Vec<_> = complete.iter().map(|(n, _)| study.losses(&study.trials[*n])).collect();
            let mut best = pareto::best(&rows, n_good);
            best.sort_unstable();
            let weights = if by_hypervolume {
                pareto::weights(&best.iter().map(|&i| rows[i].clone()).collect::<Vec<_>>())
            } else {
                vec![1.0; best.len()]
            };
            split.weights = best.iter().map(|&i| complete[i].0).zip(weights).collect();
            let rest = pruned.iter().take(n_good - best.len()).map(|(number, _)| *number);
            split.weights.keys().copied().chain(rest).for_each(|number| split.is_good[number] = true);
            self.split = split;
            return;
        }
        let mut order: Vec<(usize, Rank)> = self.usable.clone();
        let n_good = n_good.min(order.len());
        if 0 < n_good && n_good < order.len() {
            order.select_nth_unstable_by(n_good - 1, |a, b| a.1.compare(&b.1).then(a.0.cmp(&b.0)));
        }
        order[..n_good].iter().for_each(|&(number, _)| split.is_good[number] = true);
        self.split = split;
    }
}

impl Columns {
    /// Counts a running trial as bad, with the parameters that it has or has drawn already.
    fn push_running(&mut self, trial: &FrozenTrial, space: &[(&str, &Distribution)]) {
        let mut text = String::new();
        for i in 0.. {
            match trial.system_attrs.get(&format!("{RELATIVE}:{i}")).and_then(Value::as_str) {
                Some(piece) => text.push_str(piece),
                None => break,
            }
        }
        let drawn: Value = serde_json::from_str(&text).unwrap_or_default();
        let value = |(name, distribution): &(&str, &Distribution)| {
            let value = match trial.param(name) {
                Some(param) => Some(param.internal),
                None => drawn.get(name).and_then(|value| distribution.internal(value)),
            };
            let scaled = value.map(|x| if distribution.is_log() { np_log(x) } else { x });
            scaled.filter(|x| is_of_use(*x, distribution))
        };
        if let Some(row) = space.iter().map(value).collect::<Option<Vec<f64>>>() {
            self.bad.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
    }
}

/// The partition of the space into sets of parameters that trials have wholly or not at all.
#[derive(Clone, Debug, Default)]
pub(super) struct SpaceGroups {
    groups: Vec<Space>,
    taken_in: usize,
}

impl SpaceGroups {
    /// The partition that the usable trials imply. Its order is that in which trials were found, as in
    /// Optuna.
    pub(super) fn spaces(&mut self, study: &StudyView<'_>, history: &History) -> Vec<Space> {
        let mut new = history.found[self.taken_in..].to_vec();
        new.sort_unstable();
        self.taken_in = history.found.len();
        for number in new {
            self.cut(&study.trials[number]);
        }
        self.groups.clone()
    }

    fn cut(&mut self, trial: &FrozenTrial) {
        let mut rest: Space = trial.params.iter().map(|p| (p.name.clone(), p.distribution.clone())).collect();
        let mut next = Vec::new();
        for group in std::mem::take(&mut self.groups) {
            let (inside, outside): (Space, Space) =
                group.into_iter().partition(|(name, _)| rest.remove(name).is_some());
            next.extend([inside, outside].into_iter().filter(|space| !space.is_empty()));
        }
        if !rest.is_empty() {
            next.push(rest);
        }
        self.groups = next;
    }
}
