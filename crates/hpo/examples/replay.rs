//! Reads a trace of an Optuna study, and prints what this crate proposes when it is told the same outcomes.
//!
//! `cargo run --release --example replay -- TRACE.json` prints `{"trials": [{"params": {…}}]}`.

use std::collections::BTreeMap;
use std::error::Error;

use firstsight_hpo::{
    Direction, Distribution, FloatRange, IntRange, Multivariate, Nsga2, Nsga2Config, Outcome, Random,
    Sampler, Study, Suggest, Tpe, TpeConfig, Trial,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A trace: the sampler, the space, and what each trial came to.
#[derive(Deserialize)]
pub(crate) struct Trace {
    /// The release that made it; 4.8 unless it says so.
    optuna: Option<String>,
    sampler: SamplerSpec,
    #[serde(default)]
    direction: Option<String>,
    /// Of several objectives.
    #[serde(default)]
    directions: Vec<String>,
    space: Vec<ParamSpec>,
    trials: Vec<TrialSpec>,
}

#[derive(Deserialize)]
struct SamplerSpec {
    kind: String,
    seed: u32,
    n_startup_trials: Option<usize>,
    n_ei_candidates: Option<usize>,
    prior_weight: Option<f64>,
    consider_magic_clip: Option<bool>,
    consider_endpoints: Option<bool>,
    multivariate: Option<bool>,
    group: Option<bool>,
    constant_liar: Option<bool>,
    population_size: Option<usize>,
    crossover_prob: Option<f64>,
    swapping_prob: Option<f64>,
    mutation_prob: Option<f64>,
}

#[derive(Deserialize)]
struct ParamSpec {
    name: String,
    #[serde(flatten)]
    kind: Kind,
    when: Option<When>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Kind {
    Float {
        low: f64,
        high: f64,
        #[serde(default)]
        log: bool,
        step: Option<f64>,
    },
    Int {
        low: i64,
        high: i64,
        #[serde(default)]
        log: bool,
        step: Option<i64>,
    },
    Categorical {
        choices: Vec<Value>,
    },
}

/// The parameter is asked for only if an earlier one has this value, or at least this one.
#[derive(Deserialize)]
struct When {
    name: String,
    equals: Option<Value>,
    at_least: Option<f64>,
}

#[derive(Deserialize)]
struct TrialSpec {
    state: String,
    value: Option<f64>,
    /// Of several objectives.
    values: Option<Vec<f64>>,
    #[serde(default)]
    intermediate: Vec<(u64, f64)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: replay TRACE.json")?;
    let trace: Trace = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    println!("{}", json!({ "trials": replay(&trace)?.0 }));
    Ok(())
}

/// The proposals, and the numbers of the best trials.
pub(crate) fn replay(trace: &Trace) -> Result<(Vec<Value>, Vec<usize>), Box<dyn Error>> {
    let study = study(trace)?;
    let mut trials = Vec::new();
    for told in &trace.trials {
        let mut trial = study.ask()?;
        trials.push(json!({ "params": ask(&mut trial, &trace.space)? }));
        for &(step, value) in &told.intermediate {
            trial.report(value, step)?;
        }
        study.tell(&trial, outcome(told)?)?;
    }
    let best = study.best_trials()?.iter().map(|trial| trial.number).collect();
    Ok((trials, best))
}

fn study(trace: &Trace) -> Result<Study, Box<dyn Error>> {
    let direction = |name: &String| match name.as_str() {
        "minimize" => Ok(Direction::Minimize),
        "maximize" => Ok(Direction::Maximize),
        other => Err(format!("a direction must be minimize or maximize, but is {other}")),
    };
    let directions = trace.direction.iter().chain(&trace.directions).map(direction);
    let directions: Vec<Direction> = directions.collect::<Result<_, _>>()?;
    let sampler: Box<dyn Sampler> = match trace.sampler.kind.as_str() {
        "random" => Box::new(Random::new(trace.sampler.seed)),
        "tpe" => Box::new(Tpe::new(tpe(trace))?),
        "nsga2" => Box::new(Nsga2::new(nsga2(&trace.sampler))?),
        other => {
            return Err(format!("the sampler's `kind` must be random, tpe or nsga2, but is {other}").into());
        }
    };
    Ok(Study::builder("replay").directions(directions).sampler(sampler).create()?)
}

fn nsga2(spec: &SamplerSpec) -> Nsga2Config {
    let defaults = Nsga2Config::optuna(spec.seed);
    Nsga2Config {
        population_size: spec.population_size.unwrap_or(defaults.population_size),
        crossover_prob: spec.crossover_prob.unwrap_or(defaults.crossover_prob),
        swapping_prob: spec.swapping_prob.unwrap_or(defaults.swapping_prob),
        mutation_prob: spec.mutation_prob,
        ..defaults
    }
}

fn tpe(trace: &Trace) -> TpeConfig {
    let spec = &trace.sampler;
    let defaults = match trace.optuna.as_deref() {
        Some(release) if release.starts_with("5.") => TpeConfig::optuna5,
        _ => TpeConfig::optuna4,
    };
    let mut config = defaults(spec.seed);
    let set = |field: &mut usize, given: Option<usize>| *field = given.unwrap_or(*field);
    set(&mut config.n_startup_trials, spec.n_startup_trials);
    set(&mut config.n_ei_candidates, spec.n_ei_candidates);
    config.prior_weight = spec.prior_weight.unwrap_or(config.prior_weight);
    config.consider_magic_clip = spec.consider_magic_clip.unwrap_or(config.consider_magic_clip);
    config.consider_endpoints = spec.consider_endpoints.unwrap_or(config.consider_endpoints);
    config.constant_liar = spec.constant_liar.unwrap_or(config.constant_liar);
    config.multivariate = match (spec.multivariate, spec.group) {
        (Some(true), Some(true)) => Multivariate::Group,
        (Some(true), _) => Multivariate::On,
        (Some(false), _) => Multivariate::Off,
        (None, _) => config.multivariate,
    };
    config
}

fn ask(trial: &mut Trial<'_>, space: &[ParamSpec]) -> Result<Map<String, Value>, Box<dyn Error>> {
    let mut params: BTreeMap<&str, Value> = BTreeMap::new();
    let mut in_order = Map::new();
    for spec in space {
        if let Some(when) = &spec.when {
            let Some(value) = params.get(when.name.as_str()) else { continue };
            let differs = when.equals.as_ref().is_some_and(|equals| value != equals);
            let is_less = when.at_least.is_some_and(|least| value.as_f64().is_none_or(|v| v < least));
            if differs || is_less {
                continue;
            }
        }
        let distribution = match &spec.kind {
            &Kind::Float { low, high, log, step } => {
                Distribution::float(&spec.name, FloatRange { low, high, log, step })?
            }
            &Kind::Int { low, high, log, step } => {
                Distribution::int(&spec.name, IntRange { low, high, log, step: step.unwrap_or(1) })?
            }
            Kind::Categorical { choices } => Distribution::categorical(&spec.name, choices)?,
        };
        let value = distribution.external(trial.suggest(&spec.name, distribution.clone())?);
        params.insert(&spec.name, value.clone());
        in_order.insert(spec.name.clone(), value);
    }
    Ok(in_order)
}

fn outcome(told: &TrialSpec) -> Result<Outcome, Box<dyn Error>> {
    let values = told.values.clone().or(told.value.map(|value| vec![value]));
    match (told.state.as_str(), values) {
        ("complete", Some(values)) => Ok(Outcome::Complete(values)),
        ("pruned", _) => Ok(Outcome::Pruned),
        ("failed", _) => Ok(Outcome::Failed),
        (state, values) => Err(format!("a trial cannot be {state} with values {values:?}").into()),
    }
}
