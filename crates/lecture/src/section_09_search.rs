//! 9. Hyperparameter search: random and TPE over perceptrons on a table of houses.

use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use firstsight_hpo::{
    Averaged, Direction, Distribution, FloatRange, FrozenTrial, IntRange, Random, Replay, Stop, Study,
    Suggest, Tpe, TpeConfig, Trial, grid_cost, over_seeds,
};
use firstsight_models::{Init, Mlp, MlpConfig, MlpOutput, Params};
use firstsight_ops::Activation;
use firstsight_report::{Report, Section, number};
use firstsight_train::callbacks::{EarlyStopping, StopOnNan};
use firstsight_train::{Callback, FitConfig, Monitor, OptimizerConfig, Poisson, Trainable, evaluate, fit};
use firstsight_transfer::Runtime;
use serde::Serialize;

use super::housing::{FEATURES, Housing};
use crate::{Context, Result, search_report, search_report::TrialJson};

const SEED: u32 = 123;
const TRIALS: usize = 10;
/// Seeds over which the winner's loss is averaged.
const SEEDS: u64 = 5;
/// Losses above this many times the least are left out of the figures.
const FAR: f64 = 1.5;
/// Values that a grid would take of the learning rate.
const GRID_POINTS: usize = 10;

/// Hyperparameters of a trial.
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
            // Keras's default slope.
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

fn random_study() -> firstsight_hpo::Result<Study> {
    Study::builder("random search").sampler(Random::new(SEED)).create()
}

fn tpe_study() -> firstsight_hpo::Result<Study> {
    let config = TpeConfig { n_startup_trials: 5, ..TpeConfig::optuna4(SEED) };
    Study::builder("TPE").sampler(Tpe::new(config)?).create()
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
    over_seeds: Averaged,
    seconds: f64,
}

pub(super) fn write(
    context: &Context<'_>,
    housing: Option<&Path>,
    report: &mut Report,
) -> Result<SearchMetrics> {
    let housing =
        Housing::read(housing, &context.settings.datasets, context.settings.seed, &context.runtime.device)?;
    let random = || {
        Search::run(random_study()?, |trial| one_layer(trial), |trial| one_layer(trial), &housing, context)
    };
    let tpe = || Search::run(tpe_study()?, |trial| layers(trial), |trial| layers(trial), &housing, context);
    let (random, tpe) = match context.runtime.device {
        // A step of so small a network keeps one thread busy.
        Device::Cpu if rayon::current_num_threads() > 1 => std::thread::scope(|scope| {
            let random = scope.spawn(random);
            let tpe = tpe();
            (random.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), tpe)
        }),
        _ => (random(), tpe()),
    };
    let (random, tpe) = (random?, tpe?);

    let section = report.section(Some("9"), "Hyperparameter search");
    introduce(section, &housing);
    show(section, &RANDOM, &random, &housing)?;
    show(section, &TPE, &tpe, &housing)?;
    grid(section, &random)?;
    let metrics = |search: &Search| BestJson {
        best_value: search.best.value().unwrap_or(f64::NAN),
        best_trial: search.best.number,
        best_params: search.best.params_json(),
        rebuilt_value: search.rebuilt,
        mean_over_seeds: search.over_seeds.mean,
        test_loss: search.test,
        trials: search.trials.iter().map(|trial| (&**trial).into()).collect(),
    };
    Ok(SearchMetrics { data: housing.source.clone(), random: metrics(&random), tpe: metrics(&tpe) })
}

fn objective(
    choice: &Choice,
    study: &str,
    number: usize,
    housing: &Housing,
    runtime: &Runtime,
) -> Result<f64, Stop> {
    let (_, loss) =
        train(choice, number as u64, housing, &runtime.device).map_err(|e| Stop::Abort(e.into()))?;
    let Choice { hidden, activation, rate } = choice;
    runtime.message(&format!(
        "{study}, trial {number}: validation loss {loss:.4} ({hidden:?} units, {activation:?}, rate {rate:.6})"
    ));
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
        init: Init::Keras,
    };
    let mlp = Mlp::new(&config, &params.builder())?;
    let config = FitConfig::new(100, Poisson, OptimizerConfig::adam_keras(choice.rate));
    let mut stopping = EarlyStopping::new(Monitor::val_loss(), 3);
    let callbacks: &mut [&mut dyn Callback] = &mut [&mut StopOnNan, &mut stopping];
    let model = Trainable::new(&mlp, params.named());
    fit(&model, &housing.train(seed)?, Some(&housing.val), &config, callbacks)?;
    let loss = evaluate(&mlp, &housing.val, &Poisson, &[])?.loss;
    Ok((mlp, loss))
}

impl Search {
    /// Searches, rebuilds the winner from its own trial, and trains it under other seeds too. `space` and `replayed`
    /// are one function, for a trial and for a replay.
    fn run(
        study: Study,
        space: fn(&mut Trial<'_>) -> firstsight_hpo::Result<Choice>,
        replayed: fn(&mut Replay<'_>) -> firstsight_hpo::Result<Choice>,
        housing: &Housing,
        context: &Context<'_>,
    ) -> Result<Self> {
        let started = Instant::now();
        study.optimize(TRIALS, |trial| {
            let choice = space(trial)?;
            objective(&choice, study.name(), trial.number(), housing, context.runtime)
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let best = study.best_trial()?;
        let choice = replayed(&mut Replay::new(&best))?;
        let (mlp, rebuilt) = train(&choice, best.number as u64, housing, &context.runtime.device)?;
        let test = evaluate(&mlp, &housing.test, &Poisson, &[])?.loss;
        let over_seeds = over_seeds(1000..1000 + SEEDS, |seed| {
            train(&choice, seed, housing, &context.runtime.device).map(|(_, loss)| loss)
        })?;
        Ok(Self { trials: study.trials()?, best, choice, rebuilt, test, over_seeds, seconds })
    }
}

fn introduce(section: &mut Section, housing: &Housing) {
    let [train, val, test] = housing.sizes().map(|n| number::count(n as u64));
    section.text(&format!(
        "A perceptron predicts the value of houses in a district from eight numbers, standardized. Its output is an \
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

/// A search's title and the lecture's result for it.
struct Reference {
    title: &'static str,
    lecture: &'static str,
}

const RANDOM: Reference = Reference {
    title: "Random search",
    lecture: "The lecture's search, by Optuna and Keras on the same table, tried the same ten settings and found 0.3188 at \
              best (256 units, ReLU, rate 0.000486).",
};

const TPE: Reference = Reference {
    title: "Tree-structured Parzen estimators",
    lecture: "The lecture's search, by Optuna and Keras on the same table, began with the same five settings, which are \
              random; from then on the proposals follow from the losses, and so differ. It found 0.3140 at best (64, 32 and \
              32 units).",
};

fn show(section: &mut Section, reference: &Reference, search: &Search, housing: &Housing) -> Result<()> {
    let Reference { title, lecture } = *reference;
    section.subsection(title);
    let pages = search_report::Search {
        trials: &search.trials,
        best: Some(&search.best),
        direction: Direction::Minimize,
        value: "validation loss",
        limit: search.best.value().map(|best| FAR * best),
        source: &housing.source,
        seed: SEED,
    };
    pages.show(section, title)?;
    let best = search.best.value().unwrap_or(f64::NAN);
    section.text(&format!(
        "The best of {TRIALS} trials is number {}, with a validation loss of **{}**, after {:.1} s of search. Rebuilt from \
         the trial's own record ({:?} units, rate {:.6}), it gets {}, {}; its test loss is {}. Under {SEEDS} other seeds the same \
         settings get {} ± {} (mean and its standard error): part of what a search finds is luck.",
        search.best.number,
        number::decimal(best, 4),
        search.seconds,
        search.choice.hidden,
        search.choice.rate,
        number::decimal(search.rebuilt, 4),
        if search.rebuilt == best { "the same to the last digit" } else { "another value" },
        number::decimal(search.test, 4),
        number::decimal(search.over_seeds.mean, 4),
        number::decimal(search.over_seeds.standard_error, 4),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    /// The lecture's search, as it printed it: what was proposed, and the losses.
    fn lecture(name: &str) -> Option<Value> {
        let Some(shared) = std::env::var_os("FIRSTSIGHT_SHARED") else {
            eprintln!("FIRSTSIGHT_SHARED is not set: the lecture's proposals are not checked");
            return None;
        };
        let text = std::fs::read_to_string(Path::new(&shared).join("golden/optuna").join(name)).unwrap();
        Some(serde_json::from_str(&text).unwrap())
    }

    /// Equal, or floats that differ in their sixteenth digit: the lecture's machine fused a multiplication with an
    /// addition, as processors of ARM's do for NumPy and others do not.
    fn same(a: &Value, b: &Value) -> bool {
        match (a.as_f64(), b.as_f64()) {
            (Some(x), Some(y)) if a.is_f64() => (x / y - 1.0).abs() < 1e-15,
            _ => a == b,
        }
    }

    fn proposes(study: &Study, lecture: &Value, space: fn(&mut Trial<'_>) -> firstsight_hpo::Result<Choice>) {
        let told = lecture["trials"].as_array().unwrap();
        assert_eq!(told.len(), TRIALS);
        for (number, told) in told.iter().enumerate() {
            let mut trial = study.ask().unwrap();
            space(&mut trial).unwrap();
            let (ours, lectures) = (trial.record().params_json(), told["params"].as_object().unwrap());
            assert!(
                ours.len() == lectures.len() && ours.iter().all(|(k, v)| same(v, &lectures[k])),
                "trial {number}"
            );
            study.tell(&trial, told["value"].as_f64().unwrap()).unwrap();
        }
    }

    #[test]
    fn the_random_searchs_proposals_are_the_lectures() {
        let Some(lecture) = lecture("lecture-random-search.json") else { return };
        proposes(&random_study().unwrap(), &lecture, |trial| one_layer(trial));
    }

    #[test]
    fn the_tpe_searchs_proposals_are_the_lectures() {
        let Some(lecture) = lecture("lecture-bayesian-search.json") else { return };
        proposes(&tpe_study().unwrap(), &lecture, |trial| layers(trial));
    }
}
