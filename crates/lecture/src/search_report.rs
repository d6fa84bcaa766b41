//! Report of a study: its trials and the usual plots of them.

use std::sync::Arc;

use firstsight_hpo::{
    Direction, Distribution, Error, ForestConfig, FrozenTrial, TrialState, param_importances, plots,
};
use firstsight_report::{
    Axis, BarChart, Cell, Column, Figure, ParallelCoordinates, Report, Scatter, Section, Series, Table,
    escape_markup, number,
};
use serde::Serialize;

use crate::Result;

/// A search, and how its figures speak of it.
pub struct Search<'a> {
    /// Every trial, by number.
    pub trials: &'a [Arc<FrozenTrial>],
    /// The best trial, if one is complete.
    pub best: Option<&'a FrozenTrial>,
    /// The direction of the objective.
    pub direction: Direction,
    /// Name of the objective's value.
    pub value: &'a str,
    /// The worst value that the figures show. A trial that failed to learn would press all others into a corner.
    pub limit: Option<f64>,
    /// The data, in words.
    pub source: &'a str,
    /// Seed of the importances' random forest.
    pub seed: u32,
}

impl Search<'_> {
    /// Writes the table and the figures.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Report`] for figures that cannot be drawn.
    pub fn show(&self, section: &mut Section, title: &str) -> Result<()> {
        section.table(table(self.trials, title, &[self.value], &|trial| self.is_best(trial)));
        reasons(self.trials, section);
        self.figures(section)
    }

    /// Writes the figures.
    fn figures(&self, section: &mut Section) -> Result<()> {
        if self.complete().is_empty() {
            section.text("No trial is complete, so there is nothing to compare.");
            return Ok(());
        }
        for row in self.history_and_slices() {
            section.figure_row(row);
        }
        section.figure(self.parallel_coordinates()?);
        match self.importances()? {
            Some(figure) => section.figure(figure),
            None => section.text("Too few trials with different values to say which parameter matters."),
        };
        Ok(())
    }

    fn shown(&self, value: f64) -> bool {
        self.limit.is_none_or(|limit| self.direction.loss(value) <= self.direction.loss(limit))
    }

    /// The complete trials that the figures show.
    fn complete(&self) -> Vec<Arc<FrozenTrial>> {
        let shown = |trial: &&Arc<FrozenTrial>| {
            trial.state == TrialState::Complete && trial.value().is_some_and(|value| self.shown(value))
        };
        self.trials.iter().filter(shown).cloned().collect()
    }

    fn is_best(&self, trial: &FrozenTrial) -> bool {
        self.best.is_some_and(|best| best.number == trial.number)
    }

    /// The values by trial, and by each parameter that is a number; two in a row.
    fn history_and_slices(&self) -> Vec<Vec<Figure>> {
        let history = plots::history(self.trials, self.direction);
        let left_out = history.iter().filter(|point| !self.shown(point.value)).count();
        let note = match (left_out, self.limit) {
            (1.., Some(limit)) => {
                format!(". {left_out} worse than {} are left out, here and below", number::decimal(limit, 4))
            }
            _ => String::new(),
        };
        let series = |name: &str, of: fn(&plots::HistoryPoint) -> f64| {
            let points = history.iter().map(|point| (point.number as f64, of(point)));
            Series::new(name, points.filter(|(_, value)| self.shown(*value)))
        };
        let by_trial = Scatter::new("trial", self.value)
            .series(series("trials", |point| point.value))
            .series(series("best so far", |point| point.best));
        let caption = format!("The {} of each complete trial, in the order of the trials{note}", self.value);
        let mut figures = vec![Figure::new(by_trial, caption, self.source)];
        for name in param_names(self.trials) {
            let slice = plots::slice(self.trials, name);
            let points: Vec<(f64, f64)> = slice
                .iter()
                .filter_map(|point| Some((point.param.as_f64()?, point.value)))
                .filter(|(_, value)| self.shown(*value))
                .collect();
            let axis = if points.iter().all(|point| point.0 > 0.0) && self.is_logarithmic(name) {
                Axis::new(name).logarithmic()
            } else {
                Axis::new(name)
            };
            if !points.is_empty() {
                let chart = Scatter::new(axis, self.value).series(Series::new("trials", points));
                figures.push(Figure::new(chart, format!("The same by `{name}`"), self.source));
            }
        }
        let mut rows: Vec<Vec<Figure>> = Vec::new();
        for figure in figures {
            match rows.last_mut() {
                Some(row) if row.len() < 2 => row.push(figure),
                _ => rows.push(vec![figure]),
            }
        }
        rows
    }

    /// Whether a parameter's values spread over orders of magnitude: by its range, or as choices.
    fn is_logarithmic(&self, name: &str) -> bool {
        let distribution = self.trials.iter().find_map(|trial| Some(&trial.param(name)?.distribution));
        match distribution {
            Some(Distribution::Float { log, .. } | Distribution::Int { log, .. }) => *log,
            Some(Distribution::Categorical { choices }) => {
                let numbers = || choices.iter().filter_map(serde_json::Value::as_f64);
                numbers().fold(0.0, f64::max) > 4.0 * numbers().fold(f64::INFINITY, f64::min)
            }
            None => false,
        }
    }

    /// Every complete trial as a line over the parameters that all have.
    fn parallel_coordinates(&self) -> Result<Figure> {
        let complete = self.complete();
        let plots::ParallelCoordinates { names, lines } = plots::parallel_coordinates(&complete);
        let mut chart = ParallelCoordinates::new("trials");
        for (k, name) in names.iter().enumerate() {
            let values = || lines.iter().map(|(params, _)| &params[k]);
            let distribution = complete.first().and_then(|trial| Some(&trial.param(name)?.distribution));
            chart = match distribution {
                Some(Distribution::Categorical { choices }) => {
                    let place =
                        |value| choices.iter().position(|choice| choice == value).unwrap_or(usize::MAX);
                    chart.choices(name, choices.iter().map(plain), values().map(place))?
                }
                _ => {
                    let axis = Axis::new(name);
                    let axis = if self.is_logarithmic(name) { axis.logarithmic() } else { axis };
                    chart.axis(axis, values().map(|value| value.as_f64().unwrap_or(f64::NAN)))?
                }
            };
        }
        chart = chart.axis(self.value, lines.iter().map(|(_, value)| *value))?;
        if let Some(best) = complete.iter().position(|trial| self.is_best(trial)) {
            chart = chart.mark(best, format!("the best trial, number {}", complete[best].number));
        }
        let some_lack = names.len() < param_names(self.trials).len();
        let which = if some_lack { "the settings that every trial has" } else { "their settings" };
        let caption = format!(
            "The complete trials as lines over {which}; the nearer a trial comes to the best one, the darker its line"
        );
        Ok(Figure::new(chart, caption, self.source))
    }

    /// Importance of each parameter; nothing where too few trials are complete.
    fn importances(&self) -> Result<Option<Figure>> {
        let importances = match param_importances(self.trials, ForestConfig::optuna4(self.seed)) {
            Ok(importances) => importances,
            Err(Error::InvalidSetting { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let names = importances.iter().map(|importance| importance.name.clone());
        let shares = importances.iter().map(|importance| importance.share);
        let bars = BarChart::new("parameter", "share of the variance", names).series("importance", shares)?;
        let n = self.trials.iter().filter(|trial| trial.state == TrialState::Complete).count();
        let rough = if n < 30 { format!("; from {n} trials it is a rough guess") } else { String::new() };
        let caption = format!(
            "How much of the variance of the {} each parameter explains by itself, among those that every complete \
             trial has (fANOVA over a random forest{rough})",
            self.value
        );
        Ok(Some(Figure::new(bars, caption, self.source)))
    }
}

/// A search of several objectives.
pub struct ManySearch<'a> {
    /// Every trial, by number.
    pub trials: &'a [Arc<FrozenTrial>],
    /// The Pareto front.
    pub front: &'a [Arc<FrozenTrial>],
    /// The objectives: their names and directions.
    pub objectives: &'a [(String, Direction)],
    /// The data, in words.
    pub source: &'a str,
    /// Seed of the importances' random forests.
    pub seed: u32,
}

impl ManySearch<'_> {
    /// Writes the table, the trials by each two objectives, and a section with the figures of each objective.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Report`] for figures that cannot be drawn.
    pub fn show(&self, report: &mut Report, title: &str) -> Result<()> {
        let section = report.section(None, "The trials");
        let names: Vec<&str> = self.objectives.iter().map(|(name, _)| name.as_str()).collect();
        section.table(table(self.trials, title, &names, &|trial| self.is_best(trial)));
        reasons(self.trials, section);
        if self.front.is_empty() {
            section.text("No trial is complete, so there is nothing to compare.");
            return Ok(());
        }
        section.text(&format!(
            "{} of {} complete trials are marked: the Pareto front. No other trial is better than one of them in one objective \
             without being worse in another.",
            self.front.len(),
            self.trials.iter().filter(|trial| trial.state == TrialState::Complete).count()
        ));
        for x in 0..names.len() {
            for y in 0..x {
                section.figure(self.pair(x, y));
            }
        }
        for (k, (name, direction)) in self.objectives.iter().enumerate() {
            let trials = plots::of_objective(self.trials, k);
            let complete = trials.iter().filter(|trial| trial.state == TrialState::Complete);
            let loss = |trial: &&Arc<FrozenTrial>| direction.loss(trial.value().unwrap_or(f64::NAN));
            let best = complete.min_by(|a, b| loss(a).total_cmp(&loss(b))).cloned();
            let search = Search {
                trials: &trials,
                best: best.as_deref(),
                direction: *direction,
                value: name,
                limit: None,
                source: self.source,
                seed: self.seed,
            };
            search.figures(report.section(None, &format!("By {name}")))?;
        }
        Ok(())
    }

    fn is_best(&self, trial: &FrozenTrial) -> bool {
        self.front.iter().any(|best| best.number == trial.number)
    }

    /// The complete trials by two of the objectives.
    fn pair(&self, x: usize, y: usize) -> Figure {
        let points = |on_front: bool| {
            let complete = self.trials.iter().filter(|trial| trial.state == TrialState::Complete);
            let those = complete.filter(move |trial| self.is_best(trial) == on_front);
            those.filter_map(move |trial| Some((*trial.values.get(x)?, *trial.values.get(y)?)))
        };
        let name = |k: usize| self.objectives[k].0.as_str();
        let better = |k: usize| match self.objectives[k].1 {
            Direction::Minimize => "less",
            Direction::Maximize => "more",
        };
        let chart = Scatter::new(name(x), name(y))
            .series(Series::new("other trials", points(false)))
            .series(Series::new("Pareto front", points(true)));
        let caption = format!(
            "The complete trials by {} ({} is better) and {} ({} is better)",
            name(x),
            better(x),
            name(y),
            better(y)
        );
        Figure::new(chart, caption, self.source)
    }
}

/// Says why trials failed, each reason with the numbers of its trials.
fn reasons(trials: &[Arc<FrozenTrial>], section: &mut Section) {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for trial in trials {
        let Some(reason) = failure(trial) else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, numbers)) => numbers.push(trial.number.to_string()),
            None => reasons.push((reason, vec![trial.number.to_string()])),
        }
    }
    for (reason, numbers) in reasons {
        section.text(&format!("Failed: trial {}. {}", numbers.join(", "), escape_markup(reason)));
    }
}

/// Names of parameters, in the order in which the trials asked for them.
fn param_names(trials: &[Arc<FrozenTrial>]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for param in trials.iter().flat_map(|trial| &trial.params) {
        if !names.contains(&&*param.name) {
            names.push(&param.name);
        }
    }
    names
}

/// Every trial with its parameters and the values of the objectives of these names.
fn table(
    trials: &[Arc<FrozenTrial>],
    title: &str,
    objectives: &[&str],
    is_best: &dyn Fn(&FrozenTrial) -> bool,
) -> Table {
    let names = param_names(trials);
    let all_complete = trials.iter().all(|trial| trial.state == TrialState::Complete);
    let mut columns = vec![Column::number("trial")];
    // Of several objectives the values come first, which many parameters would push off the page.
    let many = objectives.len() > 1;
    let (first, last) = if many { (objectives, &names[..]) } else { (&names[..], objectives) };
    columns.extend(first.iter().chain(last).map(|&name| Column::number(name)));
    columns.extend((!all_complete).then(|| Column::text("state")));
    let marked = if many { "the best ones" } else { "the best one" };
    let mut table = Table::new(format!("{title}: every trial, {marked} marked"), columns);
    for trial in trials {
        let mut cells: Vec<Cell> = vec![trial.number.into()];
        let params = names.iter().map(|name| trial.param(name).map_or(Cell::Missing, |p| cell(&p.value())));
        let values = (0..objectives.len()).map(|k| Cell::from(trial.values.get(k).copied()));
        if many {
            cells.extend(values.chain(params));
        } else {
            cells.extend(params.chain(values));
        }
        cells.extend((!all_complete).then(|| trial.state.to_string().into()));
        if is_best(trial) {
            table.highlighted_row(cells)
        } else {
            table.row(cells)
        };
    }
    table
}

/// A parameter's value in a table.
fn cell(value: &serde_json::Value) -> Cell {
    match value.as_f64() {
        Some(x) if value.is_f64() && x.abs() < 0.01 => format!("{x:.3e}").into(),
        Some(x) if value.is_f64() => number::decimal(x, 4).into(),
        _ => plain(value).into(),
    }
}

/// A choice as text: a string without its quotes.
fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Attribute of a failed trial that says why.
pub const FAILURE: &str = "error";

fn failure(trial: &FrozenTrial) -> Option<&str> {
    trial.user_attrs.get(FAILURE)?.as_str()
}

/// A trial of a study.
#[derive(Debug, Clone, Serialize)]
pub struct TrialJson {
    number: usize,
    state: String,
    /// Value of the objective; of several, the first.
    value: Option<f64>,
    /// Values of several objectives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<f64>,
    params: serde_json::Map<String, serde_json::Value>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Whether it is said to run, and its worker gives no sign of life.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

impl TrialJson {
    /// The same, of a trial whose worker gives no sign of life or does.
    #[must_use]
    pub fn stale(self, stale: bool) -> Self {
        Self { stale, ..self }
    }
}

impl From<&FrozenTrial> for TrialJson {
    fn from(trial: &FrozenTrial) -> Self {
        let (number, value) = (trial.number, trial.value());
        let values = if trial.values.len() > 1 { trial.values.clone() } else { Vec::new() };
        let error = failure(trial).map(str::to_owned);
        let (state, params) = (trial.state.to_string(), trial.params_json());
        Self { number, state, value, values, params, error, stale: false }
    }
}
