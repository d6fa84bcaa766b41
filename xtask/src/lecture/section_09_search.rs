//! 9. Hyperparameter search: random and TPE over perceptrons on a table of houses.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use candle_core::Device;
use firstsight_hpo::{
    Direction, Distribution, FloatRange, ForestConfig, FrozenTrial, IntRange, Random, Replay, Stop, Study,
    Suggest, Tpe, TpeConfig, grid_cost, param_importances, plots,
};
use firstsight_models::{Mlp, MlpConfig, MlpOutput, Params, Scheme};
use firstsight_ops::Activation;
use firstsight_report::{
    Axis, BarChart, Cell, Column, Figure, Report, Scatter, Section, Series, Table, number,
};
use firstsight_train::callbacks::{EarlyStopping, StopOnNan};
use firstsight_train::{AdamEpsilon, Callback, FitConfig, Loss, Monitor, OptimizerConfig, evaluate, fit};
use serde::Serialize;

use super::housing::{FEATURES, Housing};
use crate::env::Env;
use crate::json::TrialJson;

const SEED: u32 = 123;
const TRIALS: usize = 10;
/// Seeds over which the winner's loss is averaged.
const SEEDS: u64 = 5;
/// Losses above this many times the least are left out of the figures.
const FAR: f64 = 1.5;
/// Values that a grid would take of the learning rate.
const GRID_POINTS: usize = 10;

/// What a trial chooses.
#[derive(Debug, Clone, PartialEq)]
struct Choice {
    hidden: Vec<usize>,
    activation: Activation,
    rate: f64,
}

/// The random search's space: width, activation, rate.
fn one_layer(trial: &mut impl Suggest) -> firstsight_hpo::Result<Choice> {
    let width = trial.categorical("neurons", &[4usize, 8, 16, 32, 64, 128, 256])?;
    let activation = trial.one_of(
        "activation",
        &[
            ("relu", Activation::Relu),
            // Keras's slope.
            ("leaky_relu", Activation::LeakyRelu(0.2)),
            ("tanh", Activation::Tanh),
        ],
    )?;
    let rate = trial.float("lr", FloatRange::new(1e-4, 1e-2).log())?;
    Ok(Choice { hidden: vec![width], activation, rate })
}

/// The TPE search's space, which depends on itself: one to three layers, a width for each.
fn layers(trial: &mut impl Suggest) -> firstsight_hpo::Result<Choice> {
    let n = trial.int("numHiddenLayers", IntRange::new(1, 3))?;
    let width = |i| trial.categorical(&format!("neurons_{i}"), &[8usize, 16, 32, 64]);
    let hidden = (0..n).map(width).collect::<firstsight_hpo::Result<_>>()?;
    Ok(Choice { hidden, activation: Activation::Relu, rate: 0.0005 })
}

/// The section's part of `metrics.json`.
#[derive(Serialize)]
pub(super) struct SearchMetrics {
    data: String,
    random: BestJson,
    tpe: BestJson,
}

#[derive(Serialize)]
struct BestJson {
    best_value: f64,
    best_trial: usize,
    best_params: serde_json::Map<String, serde_json::Value>,
    rebuilt_value: f64,
    mean_over_seeds: f64,
    test_loss: f64,
    trials: Vec<TrialJson>,
}

/// A finished search.
struct Search {
    trials: Vec<std::sync::Arc<FrozenTrial>>,
    best: std::sync::Arc<FrozenTrial>,
    choice: Choice,
    rebuilt: f64,
    test: f64,
    over_seeds: Vec<f64>,
    seconds: f64,
}

pub(super) fn write(env: &Env, housing: Option<&Path>, report: &mut Report) -> Result<SearchMetrics> {
    let housing = Housing::read(housing, &env.datasets, env.seed, &env.device)?;
    let started = Instant::now();
    let study = Study::builder("random search").sampler(Random::new(SEED)).create()?;
    study.optimize(TRIALS, |trial| {
        let choice = one_layer(trial)?;
        objective(&choice, trial.number(), &housing, &env.device)
    })?;
    let random =
        Search::finish(&study, one_layer(&mut Replay::new(&*study.best_trial()?))?, started, &housing, env)?;

    let started = Instant::now();
    let config = TpeConfig { n_startup_trials: 5, ..TpeConfig::optuna4(SEED) };
    let study = Study::builder("TPE").sampler(Tpe::new(config)?).create()?;
    study.optimize(TRIALS, |trial| {
        let choice = layers(trial)?;
        objective(&choice, trial.number(), &housing, &env.device)
    })?;
    let tpe =
        Search::finish(&study, layers(&mut Replay::new(&*study.best_trial()?))?, started, &housing, env)?;

    let section = report.section(Some("9"), "Hyperparameter search");
    introduce(section, &housing);
    show(section, &RANDOM, &random, &housing)?;
    show(section, &TPE, &tpe, &housing)?;
    grid(section, &random)?;
    let metrics = |search: &Search| BestJson {
        best_value: search.best.value.unwrap_or(f64::NAN),
        best_trial: search.best.number,
        best_params: search.best.params_json(),
        rebuilt_value: search.rebuilt,
        mean_over_seeds: mean(&search.over_seeds),
        test_loss: search.test,
        trials: search.trials.iter().map(|trial| (&**trial).into()).collect(),
    };
    Ok(SearchMetrics { data: housing.source.clone(), random: metrics(&random), tpe: metrics(&tpe) })
}

fn objective(choice: &Choice, number: usize, housing: &Housing, device: &Device) -> Result<f64, Stop> {
    let (_, loss) = train(choice, number as u64, housing, device).map_err(|e| Stop::Abort(e.into()))?;
    let Choice { hidden, activation, rate } = choice;
    eprintln!("trial {number}: validation loss {loss:.4} ({hidden:?} units, {activation:?}, rate {rate:.6})");
    Ok(loss)
}

/// Trains a perceptron with an exponential output on the Poisson loss; returns it with its best weights, and its
/// validation loss.
fn train(choice: &Choice, seed: u64, housing: &Housing, device: &Device) -> Result<(Mlp, f64)> {
    let params = Params::seeded(seed, device);
    let config = MlpConfig {
        n_in: FEATURES.len(),
        hidden: choice.hidden.clone(),
        activation: choice.activation,
        n_out: 1,
        output: MlpOutput::Exponential,
        scheme: Scheme::Keras,
    };
    let mlp = Mlp::new(&config, &params.builder())?;
    let config = FitConfig {
        epochs: 100,
        loss: Loss::Poisson,
        metrics: vec![],
        optimizer: OptimizerConfig::Adam {
            rate: choice.rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: AdamEpsilon::Keras(1e-7),
        },
        resume: None,
    };
    let mut stopping = EarlyStopping::new(Monitor::ValLoss, 3, params.trainable());
    let callbacks: &mut [&mut dyn Callback] = &mut [&mut StopOnNan, &mut stopping];
    fit(&mlp, params.trainable(), &housing.train(seed)?, &housing.val, &config, callbacks)?;
    let loss = evaluate(&mlp, &housing.val, Loss::Poisson, &[])?.loss;
    Ok((mlp, loss))
}

impl Search {
    /// Rebuilds the winner from its own trial, and trains it under other seeds too.
    fn finish(study: &Study, choice: Choice, started: Instant, housing: &Housing, env: &Env) -> Result<Self> {
        let best = study.best_trial()?;
        let seconds = started.elapsed().as_secs_f64();
        let (mlp, rebuilt) = train(&choice, best.number as u64, housing, &env.device)?;
        let test = evaluate(&mlp, &housing.test, Loss::Poisson, &[])?.loss;
        let over_seeds = (0..SEEDS)
            .map(|i| Ok(train(&choice, 1000 + i, housing, &env.device)?.1))
            .collect::<Result<Vec<f64>>>()?;
        Ok(Self { trials: study.trials()?, best, choice, rebuilt, test, over_seeds, seconds })
    }
}

fn introduce(section: &mut Section, housing: &Housing) {
    let [train, val, test] = housing.sizes().map(|n| number::count(n as u64));
    section.text(&format!(
        "A perceptron predicts the value of houses in a district from eight numbers, standardised. Its output is an \
         exponential, its loss Poisson's; Adam in batches of 256, at most 100 epochs, early stopping on the validation loss \
         with patience 3 and the best weights restored; each trial is seeded with its number. {train} rows train, {val} \
         validate, {test} test (scikit-learn's split, `random_state=1`). Which width, which activation, which learning rate?"
    ));
    if !housing.real {
        section.note(
            "The table is **drawn by this program**, with the columns and size of the California housing data, so the \
             losses are not the lecture's. `--housing FILE` runs the search on the real table.",
        );
    }
}

/// What a search is called, which parameter its figure shows, and what the lecture says of its own.
struct Telling {
    title: &'static str,
    axis: &'static str,
    lecture: &'static str,
}

const RANDOM: Telling = Telling {
    title: "Random search",
    axis: "neurons",
    lecture: "The lecture's search, by Optuna and Keras on the same table, tried the same ten settings and found 0.3188 at \
              best (256 units, ReLU, rate 0.000486).",
};

const TPE: Telling = Telling {
    title: "Tree-structured Parzen estimators",
    axis: "numHiddenLayers",
    lecture: "The lecture's search, by Optuna and Keras on the same table, began with the same five settings, which are \
              random; from then on the proposals follow from the losses, and so differ. It found 0.3140 at best (64, 32 and \
              32 units).",
};

fn show(section: &mut Section, telling: &Telling, search: &Search, housing: &Housing) -> Result<()> {
    let Telling { title, axis, lecture } = *telling;
    section.subsection(title);
    let names: Vec<String> = {
        let mut names: Vec<String> = Vec::new();
        for param in search.trials.iter().flat_map(|trial| &trial.params) {
            if !names.iter().any(|name| **name == *param.name) {
                names.push(param.name.to_string());
            }
        }
        names
    };
    let mut columns = vec![Column::number("trial")];
    columns.extend(names.iter().map(|name| Column::number(name.as_str())));
    columns.push(Column::number("validation loss"));
    let mut table = Table::new(format!("{title}: every trial, the best one marked"), columns);
    for trial in &search.trials {
        let mut cells: Vec<Cell> = vec![trial.number.into()];
        for name in &names {
            cells.push(trial.param(name).map_or(Cell::Missing, |param| match param.value() {
                serde_json::Value::String(text) => text.into(),
                serde_json::Value::Number(n) if n.is_f64() => {
                    format!("{:.3e}", n.as_f64().unwrap_or(f64::NAN)).into()
                }
                value => value.to_string().into(),
            }));
        }
        cells.push(trial.value.into());
        if trial.number == search.best.number {
            table.highlighted_row(cells)
        } else {
            table.row(cells)
        };
    }
    section.table(table);
    section.figure_row(figures(search, axis, &housing.source));
    section.figure(importance(search, &housing.source)?);
    let best = search.best.value.unwrap_or(f64::NAN);
    let spread = search.over_seeds.iter().map(|loss| (loss - mean(&search.over_seeds)).powi(2)).sum::<f64>();
    let deviation = (spread / (search.over_seeds.len() - 1) as f64).sqrt();
    section.text(&format!(
        "The best of {TRIALS} trials is number {}, with a validation loss of **{}**, after {:.1} s of search. Rebuilt from \
         the trial's own record ({:?} units, rate {:.6}), it gets {}, {}; its test loss is {}. Under {SEEDS} other seeds the same \
         settings get {} on average, with a standard deviation of {}: part of what a search finds is luck.",
        search.best.number,
        number::decimal(best, 4),
        search.seconds,
        search.choice.hidden,
        search.choice.rate,
        number::decimal(search.rebuilt, 4),
        if search.rebuilt == best { "the same to the last digit" } else { "another value" },
        number::decimal(search.test, 4),
        number::decimal(mean(&search.over_seeds), 4),
        number::decimal(deviation, 4),
    ));
    if housing.real {
        section.note(lecture);
    }
    Ok(())
}

fn grid(section: &mut Section, random: &Search) -> Result<()> {
    section.subsection("What grid search would cost");
    let space = [
        Distribution::categorical("neurons", &[4, 8, 16, 32, 64, 128, 256])?,
        Distribution::categorical("activation", &["relu", "leaky_relu", "tanh"])?,
        Distribution::float("lr", FloatRange::new(1e-4, 1e-2).log())?,
    ];
    let runs = grid_cost(&space, GRID_POINTS);
    let seconds = random.seconds / TRIALS as f64 * runs;
    section.text(&format!(
        "A grid over the random search's space, with {GRID_POINTS} learning rates, has 7 · 3 · {GRID_POINTS} = {runs} \
         trainings. At the {:.1} s that a trial took here, that is {}.",
        random.seconds / TRIALS as f64,
        number::duration(std::time::Duration::from_secs_f64(seconds)),
    ));
    Ok(())
}

/// The losses by trial and by one parameter. A trial that failed to learn loses many times what the others do, and
/// is left out.
fn figures(search: &Search, axis: &str, source: &str) -> Vec<Figure> {
    let limit = FAR * search.best.value.unwrap_or(f64::NAN);
    let history = plots::history(&search.trials, Direction::Minimize);
    let left_out = history.iter().filter(|point| point.value > limit).count();
    let note = match left_out {
        0 => String::new(),
        n => format!(". {n} with more than {FAR} times the least loss are left out"),
    };
    let series = |name: &str, loss: fn(&plots::HistoryPoint) -> f64| {
        let points = history.iter().map(|point| (point.number as f64, loss(point)));
        Series::new(name, points.filter(|(_, loss)| *loss <= limit))
    };
    let by_trial = Scatter::new("trial", "validation loss")
        .series(series("trials", |point| point.value))
        .series(series("best so far", |point| point.best));
    let slice = plots::slice(&search.trials, axis);
    let points = slice.iter().filter_map(|point| Some((point.param.as_f64()?, point.value)));
    let by_axis = Scatter::new(Axis::new(axis).logarithmic(), "validation loss")
        .series(Series::new("trials", points.filter(|(_, loss)| *loss <= limit)));
    vec![
        Figure::new(by_trial, format!("The loss of each trial, in the order of the trials{note}"), source),
        Figure::new(by_axis, format!("The same losses by `{axis}`"), source),
    ]
}

/// What each parameter explains of the losses.
fn importance(search: &Search, source: &str) -> Result<Figure> {
    let importances = param_importances(&search.trials, ForestConfig::optuna4(SEED))?;
    let names = importances.iter().map(|importance| importance.name.clone());
    let shares = importances.iter().map(|importance| importance.share);
    let bars = BarChart::new("parameter", "share of the variance", names).series("importance", shares)?;
    let caption = "How much of the variance of the losses each parameter explains by itself, among those that every \
                   trial has (fANOVA over a random forest; from ten trials it is a rough guess)";
    Ok(Figure::new(bars, caption, source))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
