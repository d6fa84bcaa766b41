//! Numbers of NumPy and Optuna: see `goldens/make_others.py`.

use firstsight_hpo::{
    Direction, Grid, HalvingConfig, Hyperband, HyperbandConfig, MinResource, Multivariate, NeverPrune,
    Outcome, Patient, Percentile, PercentileConfig, Pruner, Random, RandomState, Study, SuccessiveHalving,
    Suggest, Threshold, Tpe, TpeConfig,
};
use serde_json::{Value, json};

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(format!("tests/goldens/{name}")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn random_state_draws_as_numpy() {
    for (seed, draws) in golden("random_state.json").as_object().unwrap() {
        let mut rng = RandomState::new(seed.parse().unwrap());
        let ours = json!({
            "random_sample": (0..3).map(|_| rng.random_sample()).collect::<Vec<_>>(),
            "uniform": (0..3).map(|_| rng.uniform(-2.5, 7.0)).collect::<Vec<_>>(),
            "randint": (0..5).map(|_| rng.randint(0, 1000)).collect::<Vec<_>>(),
            "randint_wide": (0..3).map(|_| rng.randint(0, 1 << 40)).collect::<Vec<_>>(),
            "choice": rng.choice_weighted(&[0.1, 0.2, 0.3, 0.4], 6),
            "permutation": rng.permutation(9),
            "standard_normal": (0..5).map(|_| rng.standard_normal()).collect::<Vec<_>>(),
        });
        assert_eq!(&ours, draws, "seed {seed}");
    }
}

#[test]
fn grid_visits_in_optunas_order() {
    let grid = Grid::new(5).axis("b", &[1, 2, 3]).unwrap().axis("a", &["x", "y"]).unwrap();
    let grid = grid.axis("c", &[Some(0.5), None]).unwrap();
    let study = Study::builder("grid").sampler(grid).create().unwrap();
    study
        .optimize(100, |trial| {
            trial.categorical("b", &[1, 2, 3])?;
            trial.categorical("a", &["x", "y"])?;
            trial.categorical("c", &[Some(0.5), None])?;
            Ok(0.0)
        })
        .unwrap();
    let ours: Vec<Value> = study.trials().unwrap().iter().map(|t| Value::Object(t.params_json())).collect();
    assert_eq!(Value::from(ours), golden("grid.json"));
}

#[test]
fn constant_liar_sees_running_trials() {
    for case in golden("liar.json").as_array().unwrap() {
        let mut config = TpeConfig { constant_liar: true, ..TpeConfig::optuna4(3) };
        if case["multivariate"] == true {
            config.multivariate = Multivariate::On;
        }
        let study = Study::builder("liar").sampler(Tpe::new(config).unwrap()).create().unwrap();
        for batch in case["batches"].as_array().unwrap() {
            let mut trials: Vec<_> = (0..4).map(|_| study.ask().unwrap()).collect();
            let xs: Vec<f64> = trials.iter_mut().map(|t| t.float("x", -5.0..=5.0).unwrap()).collect();
            let ns: Vec<i64> = trials.iter_mut().map(|t| t.int("n", 1..=8).unwrap()).collect();
            for (x, expected) in xs.iter().zip(batch[0].as_array().unwrap()) {
                assert!((x - expected.as_f64().unwrap()).abs() < 1e-9, "{x} for {expected}");
            }
            assert_eq!(json!(ns), batch[1]);
            for ((trial, x), n) in trials.iter().zip(xs).zip(ns) {
                study.tell(trial, (x - 1.0).powi(2) + (n - 3).abs() as f64).unwrap();
            }
        }
    }
}

fn pruner(name: &str) -> Box<dyn Pruner> {
    let median = PercentileConfig::median();
    match name {
        "median" => Box::new(Percentile::new(median).unwrap()),
        "median-warm" => Box::new(
            Percentile::new(PercentileConfig {
                n_startup_trials: 2,
                n_warmup_steps: 3,
                interval_steps: 4,
                n_min_trials: 3,
                ..median
            })
            .unwrap(),
        ),
        "percentile" => Box::new(
            Percentile::new(PercentileConfig { percentile: 25.0, n_startup_trials: 3, ..median }).unwrap(),
        ),
        "threshold" => Box::new(Threshold::new(0.2, 2.6).unwrap().warmup(2).interval(2).unwrap()),
        "patient" => {
            let wrapped = Percentile::new(PercentileConfig { n_startup_trials: 1, ..median }).unwrap();
            Box::new(Patient::new(Some(Box::new(wrapped)), 2, 0.05).unwrap())
        }
        "patient-alone" => Box::new(Patient::new(None, 3, 0.0).unwrap()),
        "halving" => Box::new(SuccessiveHalving::new(HalvingConfig::optuna4()).unwrap()),
        "halving-two" => Box::new(
            SuccessiveHalving::new(HalvingConfig {
                min_resource: MinResource::Steps(2),
                reduction_factor: 2,
                min_early_stopping_rate: 1,
                bootstrap_count: 3,
            })
            .unwrap(),
        ),
        "hyperband" => {
            let config = HyperbandConfig { max_resource: Some(27), ..HyperbandConfig::optuna4() };
            Box::new(Hyperband::new(config).unwrap())
        }
        "hyperband-auto" => {
            let config =
                HyperbandConfig { min_resource: 2, reduction_factor: 2, ..HyperbandConfig::optuna4() };
            Box::new(Hyperband::new(config).unwrap())
        }
        "nop" => Box::new(NeverPrune),
        other => panic!("no pruner {other}"),
    }
}

#[test]
fn pruners_stop_where_optunas_do() {
    let mut stops = std::collections::BTreeMap::new();
    for case in golden("pruners.json").as_array().unwrap() {
        let name = case["pruner"].as_str().unwrap();
        let direction = match case["direction"].as_str().unwrap() {
            "minimize" => Direction::Minimize,
            _ => Direction::Maximize,
        };
        let study = Study::builder(&format!("curves-{name}"))
            .direction(direction)
            .sampler(Random::new(0))
            .pruner(pruner(name))
            .create()
            .unwrap();
        for (number, expected) in case["trials"].as_array().unwrap().iter().enumerate() {
            let mut trial = study.ask().unwrap();
            let reports = expected["reports"].as_array().unwrap();
            let mut last = 0.0;
            for (i, report) in reports.iter().enumerate() {
                let value = match report[1].as_str() {
                    Some(word) => word.parse().unwrap(),
                    None => report[1].as_f64().unwrap(),
                };
                if value.is_finite() {
                    last = value;
                }
                trial.report(value, report[0].as_u64().unwrap()).unwrap();
                let stop = i + 1 == reports.len() && expected["stopped"] == true;
                assert_eq!(
                    trial.should_prune().unwrap(),
                    stop,
                    "{name}, {direction:?}, trial {number}, {report}"
                );
            }
            if expected["stopped"] == true {
                *stops.entry(name.to_owned()).or_insert(0) += 1;
                study.tell(&trial, Outcome::Pruned).unwrap();
            } else {
                study.tell(&trial, last).unwrap();
            }
        }
    }
    println!("trials stopped: {stops:?}");
    assert!(stops.len() == 10, "every pruner but one must stop some: {stops:?}");
}

#[test]
fn tpe_proposes_what_optunas_does_where_hyperband_stops_trials() {
    for case in golden("hyperband.json").as_array().unwrap() {
        let mut config = TpeConfig::optuna4(8);
        if case["multivariate"] == true {
            config.multivariate = Multivariate::On;
        }
        let halves = HyperbandConfig { max_resource: Some(9), ..HyperbandConfig::optuna4() };
        let study = Study::builder("brackets")
            .sampler(Tpe::new(config).unwrap())
            .pruner(Hyperband::new(halves).unwrap())
            .create()
            .unwrap();
        for (number, expected) in case["trials"].as_array().unwrap().iter().enumerate() {
            let mut trial = study.ask().unwrap();
            let (x, n) = (trial.float("x", -5.0..=5.0).unwrap(), trial.int("n", 1..=8).unwrap());
            assert!((x - expected[0].as_f64().unwrap()).abs() < 1e-9, "trial {number}: {x} for {expected}");
            assert_eq!(json!(n), expected[1], "trial {number}");
            let value = (x - 1.0).powi(2) + (n - 3).abs() as f64;
            let stop = (0..10).find(|&step| {
                trial.report(value + 9.0 / (step as i64 + n) as f64, step).unwrap();
                trial.should_prune().unwrap()
            });
            assert_eq!(json!(stop.unwrap_or(9)), expected[2], "trial {number}");
            match stop {
                Some(step) if step < 9 => study.tell(&trial, Outcome::Pruned).unwrap(),
                _ => study.tell(&trial, value).unwrap(),
            };
        }
    }
}
