//! Storages: one suite for all, and files that Optuna wrote or reads.
//!
//! The tests with Python run where the environment variable `FIRSTSIGHT_PYTHON` names one that has optuna, those on
//! PostgreSQL where its programs are installed; both together need Python's psycopg2.

#[cfg(feature = "postgresql")]
mod server;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use firstsight_hpo::{
    Direction, Distribution, Error, FloatRange, FrozenTrial, HalvingConfig, Journal, Memory, MinResource,
    Outcome, Param, Random, Stop, Storage, Study, StudyBuilder, SuccessiveHalving, Suggest, Tpe, TpeConfig,
    Trial, TrialState, storage,
};
#[cfg(feature = "sqlite")]
use firstsight_hpo::{ForestConfig, param_importances};
use serde_json::{Map, Value, json};

fn journal(dir: &Path) -> Arc<dyn Storage> {
    Arc::new(Journal::open(dir.join("journal.log")).unwrap())
}

/// The addresses of the storages that are files, in a folder.
fn file_addresses(dir: &Path) -> Vec<(&'static str, String)> {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    vec![
        ("journal.log", path("journal.log")),
        #[cfg(feature = "sqlite")]
        ("study.db", format!("sqlite:///{}", path("study.db"))),
    ]
}

/// The addresses of storages that processes share.
fn addresses(dir: &Path) -> Vec<(&'static str, String)> {
    #[allow(unused_mut)]
    let mut addresses = file_addresses(dir);
    #[cfg(feature = "postgresql")]
    addresses.extend(server::server().map(|server| ("postgresql", server.database())));
    addresses
}

fn every_storage(test: impl Fn(&str, Arc<dyn Storage>)) {
    test("memory", Arc::new(Memory::new()));
    let dir = tempfile::tempdir().unwrap();
    for (name, address) in addresses(dir.path()) {
        test(name, storage::open(&address).unwrap());
    }
}

fn study_builder(storage: &Arc<dyn Storage>) -> StudyBuilder {
    Study::builder("s").sampler(Random::new(1)).storage(storage.clone())
}

fn study(storage: &Arc<dyn Storage>) -> Study {
    study_builder(storage).load_or_create().unwrap()
}

fn objective(trial: &mut Trial<'_>) -> Result<f64, Stop> {
    let x = trial.float("x", FloatRange::new(1e-3, 1.0).log())?;
    let n = trial.int("n", 1..=5)?;
    let c = trial.categorical("c", &["a", "é"])?;
    trial.set_user_attr("note", json!({"list": [1, 2.5, null], "text": "ü \"quoted\""}))?;
    for step in 0..3 {
        trial.report(if step == 1 { f64::NAN } else { x * (step + 1) as f64 }, step)?;
    }
    match trial.number() {
        2 => Err(Stop::Pruned),
        3 => Err(Stop::failed("broken")),
        _ => Ok(x * n as f64 + c.len() as f64),
    }
}

/// NaN is not equal to itself, so trials are compared as text.
fn text(trials: &[Arc<FrozenTrial>]) -> String {
    trials
        .iter()
        .map(|t| {
            let params: Vec<_> =
                t.params.iter().map(|p| (&p.name, p.internal, p.distribution.to_string())).collect();
            let rest = (&t.intermediate, &t.user_attrs, &t.system_attrs);
            format!("{} {:?} {:?} {params:?} {rest:?}\n", t.number, t.state, t.values)
        })
        .collect()
}

#[test]
fn what_is_told_is_kept() {
    every_storage(|name, storage| {
        let first = study(&storage);
        first.enqueue(Map::from_iter([("x".to_owned(), json!(0.5))])).unwrap();
        first.optimize(6, objective).unwrap();
        let _running = first.ask().unwrap();
        let trials = study(&storage).trials().unwrap();
        assert_eq!(text(&trials), text(&first.trials().unwrap()), "{name}");
        let states: Vec<_> = trials.iter().map(|t| t.state as i64).collect();
        assert_eq!(states, [1, 1, 2, 3, 1, 1, 0], "{name}");
        assert_eq!(trials[0].param("x").unwrap().internal, 0.5, "{name}");
        assert_eq!(trials[2].value(), Some(trials[2].intermediate[&2]), "{name}");
        assert!(trials[1].intermediate[&1].is_nan(), "{name}");
        let began = trials[0].started.unwrap();
        for trial in trials.iter().filter(|trial| trial.state.is_finished()) {
            let (started, completed) = (trial.started.unwrap(), trial.completed.unwrap());
            assert!(began <= started && started <= completed, "{name}: {started} to {completed}");
        }
        assert!(began.and_utc().timestamp() > 1_700_000_000, "{name}: {began}");
        assert!(trials[6].started.is_some() && trials[6].completed.is_none(), "{name}");
    });
}

#[test]
fn an_infinite_report_competes_with_those_of_later_trials() {
    let config = HalvingConfig { min_resource: MinResource::Steps(1), ..HalvingConfig::optuna4() };
    let halving = || SuccessiveHalving::new(config).unwrap();
    every_storage(|name, storage| {
        let open = || study_builder(&storage).pruner(halving()).load_or_create().unwrap();
        let first = open();
        for value in [f64::NEG_INFINITY, f64::INFINITY] {
            let mut trial = first.ask().unwrap();
            trial.report(value, 1).unwrap();
            assert_eq!(trial.should_prune().unwrap(), value > 0.0, "{name}");
            first.tell(&trial, Outcome::Pruned).unwrap();
        }
        let later = open();
        let words: Vec<_> =
            later.trials().unwrap().iter().map(|t| t.system_attrs["completed_rung_0"].clone()).collect();
        assert_eq!(words, ["-Infinity", "Infinity"], "{name}");
        let copy = FrozenTrial::clone(&later.trials().unwrap()[1]);
        later.add_trial(&copy).unwrap();
        let mut trial = later.ask().unwrap();
        trial.report(-1e300, 1).unwrap();
        assert!(trial.should_prune().unwrap(), "{name}: -inf is better");
    });
    let dir = tempfile::tempdir().unwrap();
    let storage = journal(dir.path());
    let s = study_builder(&storage).pruner(halving()).create().unwrap();
    let mut trial = s.ask().unwrap();
    trial.report(f64::INFINITY, 1).unwrap();
    trial.should_prune().unwrap();
    s.add_trial(&FrozenTrial::clone(&s.trials().unwrap()[0])).unwrap();
    let text = std::fs::read_to_string(dir.path().join("journal.log")).unwrap();
    assert_eq!(text.matches(r#"{"completed_rung_0":Infinity}"#).count(), 2, "{text}");
}

#[test]
fn two_that_opened_a_storage_see_each_others_trials() {
    let dir = tempfile::tempdir().unwrap();
    for (name, address) in addresses(dir.path()) {
        let open = || study(&storage::open(&address).unwrap());
        let (one, other) = (open(), open());
        assert_eq!((one.name(), other.trials().unwrap().len()), ("s", 0), "{name}");
        for n in 1..4 {
            one.optimize(1, |trial| Ok(trial.float("x", 0.0..=1.0)?)).unwrap();
            assert_eq!(other.trials().unwrap().len(), 2 * n - 1, "{name}");
            other.optimize(1, |trial| Ok(trial.float("x", 0.0..=1.0)?)).unwrap();
            assert_eq!(text(&one.trials().unwrap()), text(&other.trials().unwrap()), "{name}");
        }
    }
}

#[test]
fn what_is_attached_to_a_study_is_kept() {
    every_storage(|name, storage| {
        let first = study(&storage);
        let space = json!({"rate": [1e-3, 1.0], "text": "ü \"quoted\""});
        first.set_user_attr("space", &space).unwrap();
        first.set_user_attr("epochs", 3).unwrap();
        first.set_user_attr("epochs", 4).unwrap();
        let other = Study::builder("other").sampler(Random::new(1)).shared_storage(storage.clone());
        other.create().unwrap();
        let studies = storage.studies().unwrap();
        let attrs = |name: &str| json!(studies.iter().find(|s| s.name == name).unwrap().user_attrs);
        assert_eq!(attrs("s"), json!({"epochs": 4, "space": space}), "{name}");
        assert_eq!(attrs("other"), json!({}), "{name}");
    });
}

#[test]
#[cfg(feature = "sqlite")]
fn a_database_that_cannot_be_opened_is_the_machines_fault_and_one_that_is_none_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let error = |file: &str| {
        let address = format!("sqlite:///{}", dir.path().join(file).to_str().unwrap());
        let study = storage::open(&address).and_then(|storage| storage.studies());
        study.unwrap_err()
    };
    assert!(error("no/folder/study.db").is_about_the_machine());
    std::fs::write(dir.path().join("text.db"), "this is no database, however long it may be".repeat(40))
        .unwrap();
    assert!(!error("text.db").is_about_the_machine());
}

#[test]
fn storages_agree() {
    let mut seen = Vec::new();
    every_storage(|name, storage| {
        let s = study(&storage);
        s.optimize(8, objective).unwrap();
        SEEN.with_borrow_mut(|all| all.push((name.to_owned(), text(&s.trials().unwrap()))));
    });
    SEEN.with_borrow(|all| seen.extend(all.iter().cloned()));
    for (name, other) in &seen {
        assert_eq!(other, &seen[0].1, "{name}");
    }
    assert!(seen.len() > 1);
}

thread_local! {
    static SEEN: std::cell::RefCell<Vec<(String, String)>> = const { std::cell::RefCell::new(Vec::new()) };
}

const DIRECTIONS: [Direction; 3] = [Direction::Minimize, Direction::Maximize, Direction::Minimize];

fn study_of_many(storage: &Arc<dyn Storage>) -> Study {
    let builder = Study::builder("many").sampler(Random::new(1)).storage(storage.clone());
    builder.directions(DIRECTIONS).load_or_create().unwrap()
}

fn objectives(trial: &mut Trial<'_>) -> Result<Vec<f64>, Stop> {
    let x = trial.float("x", 0.0..=1.0)?;
    match trial.number() {
        2 => Err(Stop::Pruned),
        3 => Ok(vec![x, f64::INFINITY, x]),
        4 => Ok(vec![x, x]),
        _ => Ok(vec![x, x * x, -x]),
    }
}

#[test]
fn the_values_of_several_objectives_are_kept() {
    every_storage(|name, storage| {
        let _other = study(&storage);
        let s = study_of_many(&storage);
        s.optimize(6, objectives).unwrap();
        let mut elsewhere = FrozenTrial::new(0, 0, TrialState::Complete);
        elsewhere.values = vec![f64::NEG_INFINITY, 2.0, 0.25];
        s.add_trial(&elsewhere).unwrap();
        // Another object sees the same.
        let again = study_of_many(&storage);
        assert_eq!(again.directions(), DIRECTIONS, "{name}");
        let trials = again.trials().unwrap();
        assert_eq!(text(&trials), text(&s.trials().unwrap()), "{name}");
        let states: Vec<_> = trials.iter().map(|t| t.state as i64).collect();
        assert_eq!(states, [1, 1, 2, 3, 3, 1, 1], "{name}");
        for trial in &trials[..6] {
            let x = trial.param("x").unwrap().internal;
            match trial.state {
                TrialState::Complete => assert_eq!(trial.values, [x, x * x, -x], "{name}"),
                _ => assert_eq!(trial.values, [0.0; 0], "{name}"),
            }
        }
        assert_eq!(trials[6].values, elsewhere.values, "{name}");
        // What has a meaning for one objective alone is refused.
        let refused = |error: Error| matches!(error, Error::OneObjective { n: 3, .. });
        assert!(refused(s.best_trial().unwrap_err()), "{name}");
        let mut running = s.ask().unwrap();
        assert!(refused(running.report(1.0, 0).unwrap_err()), "{name}");
        assert!(refused(running.should_prune().unwrap_err()), "{name}");
        assert_eq!(s.tell(&running, [0.1, 0.2, 0.3]).unwrap(), TrialState::Complete, "{name}");
        assert_eq!(study_of_many(&storage).trials().unwrap()[7].values, [0.1, 0.2, 0.3], "{name}");
        let none = Study::builder("none").seed(1).storage(storage).directions([]).create();
        assert!(matches!(none, Err(Error::InvalidSetting { .. })), "{name}");
    });
}

#[test]
fn what_would_not_be_read_again_is_not_stored() {
    every_storage(|name, storage| {
        let s = study(&storage);
        let param = |distribution: Distribution, internal: f64| {
            let param = Param { name: "p".into(), distribution, internal };
            FrozenTrial { params: vec![param], ..FrozenTrial::new(0, 0, TrialState::Failed) }
        };
        let complete = |values: &[f64]| FrozenTrial {
            values: values.to_vec(),
            ..FrozenTrial::new(0, 0, TrialState::Complete)
        };
        for trial in [
            complete(&[]),
            complete(&[1.0, 2.0]),
            param(Distribution::int("p", (1..=5).into()).unwrap(), 2.5),
            param(Distribution::categorical("p", &["a"]).unwrap(), 1.0),
            param(Distribution::float("p", (0.0..=1.0).into()).unwrap(), f64::NAN),
        ] {
            assert!(matches!(s.add_trial(&trial), Err(Error::InvalidTrial { .. })), "{name}: {trial:?}");
        }
        // A journal and the memory keep any step.
        let _ = s.ask().unwrap().report(1.0, u64::MAX);
        s.enqueue(Map::from_iter([("n".to_owned(), json!(2.5))])).unwrap();
        let refused = s.ask().unwrap().int("n", 1..=5);
        assert!(matches!(refused, Err(Error::OutOfRange { .. })), "{name}: {refused:?}");
        assert_eq!(study(&storage).trials().unwrap().len(), 2, "{name}");
    });
}

#[test]
fn the_best_trials_are_the_pareto_front() {
    every_storage(|name, storage| {
        let s = Study::builder("front").seed(1).storage(storage);
        let s = s.directions([Direction::Minimize, Direction::Maximize]).create().unwrap();
        assert!(s.best_trials().unwrap().is_empty(), "{name}");
        for values in [[1.0, 1.0], [2.0, 3.0], [2.0, 2.0], [0.5, 0.0], [1.0, 1.0], [3.0, 3.0]] {
            let trial = s.ask().unwrap();
            s.tell(&trial, values).unwrap();
        }
        let numbers: Vec<_> = s.best_trials().unwrap().iter().map(|t| t.number).collect();
        assert_eq!(numbers, [0, 1, 3, 4], "{name}: equal ones are all there");
    });
    let one = Study::builder("one").seed(1).create().unwrap();
    for value in [2.0, 1.0, 1.0] {
        let trial = one.ask().unwrap();
        one.tell(&trial, value).unwrap();
    }
    assert_eq!(one.best_trials().unwrap().iter().map(|t| t.number).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn two_studies_of_one_name_are_refused() {
    every_storage(|name, storage| {
        let make = || Study::builder("twin").sampler(Random::new(1)).storage(storage.clone());
        make().direction(Direction::Maximize).create().unwrap();
        assert!(matches!(make().create(), Err(Error::StudyExists { .. })), "{name}");
        assert_eq!(make().load().unwrap().direction(), Direction::Maximize, "{name}");
        let missing = Study::builder("none").sampler(Random::new(1)).storage(storage.clone()).load();
        assert!(matches!(missing, Err(Error::NoStudy { known, .. }) if known == ["twin"]), "{name}");
    });
}

#[test]
fn a_finished_trial_does_not_change() {
    every_storage(|name, storage| {
        let s = study(&storage);
        let mut trial = s.ask().unwrap();
        s.tell(&trial, 1.0).unwrap();
        assert!(matches!(s.tell(&trial, 2.0), Err(Error::Finished { number: 0, .. })), "{name}");
        assert!(matches!(trial.float("x", 0.0..=1.0), Err(Error::Finished { .. })), "{name}");
        assert_eq!(s.best_trial().unwrap().value(), Some(1.0), "{name}");
    });
}

#[test]
fn a_parameter_keeps_its_kind_from_trial_to_trial() {
    every_storage(|name, storage| {
        let s = study(&storage);
        s.ask().unwrap().float("x", 0.0..=1.0).unwrap();
        let mut trial = s.ask().unwrap();
        assert!(matches!(trial.int("x", 1..=3), Err(Error::Incompatible { .. })), "{name}");
        trial.float("x", 0.0..=2.0).unwrap();
    });
}

#[test]
fn threads_share_a_storage() {
    every_storage(|name, storage| {
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let storage = storage.clone();
                scope.spawn(move || {
                    let mine = Study::builder("s").sampler(Random::new(seed)).storage(storage);
                    let mine = mine.load_or_create().unwrap();
                    mine.optimize(10, |trial| Ok(trial.float("x", 0.0..=1.0)?)).unwrap();
                });
            }
        });
        let trials = study(&storage).trials().unwrap();
        assert_eq!(trials.len(), 40, "{name}");
        assert!(
            trials.iter().enumerate().all(|(i, t)| t.number == i && t.state == TrialState::Complete),
            "{name}"
        );
    });
}

#[test]
fn waiting_trials_are_claimed_once() {
    every_storage(|name, storage| {
        let s = study(&storage);
        for i in 0..20 {
            s.enqueue(Map::from_iter([("x".to_owned(), json!(i))])).unwrap();
        }
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let storage = storage.clone();
                scope.spawn(move || {
                    let mine =
                        Study::builder("s").sampler(Random::new(seed)).storage(storage).load().unwrap();
                    mine.optimize(5, |trial| Ok(trial.int("x", 0..=19)? as f64)).unwrap();
                });
            }
        });
        let mut values: Vec<_> = s.trials().unwrap().iter().map(|t| t.value().unwrap() as i64).collect();
        values.sort_unstable();
        assert_eq!(values, (0..20).collect::<Vec<_>>(), "{name}");
    });
}

fn beating(storage: &Arc<dyn Storage>, interval: Duration) -> StudyBuilder {
    Study::builder("s").sampler(Random::new(1)).storage(storage.clone()).heartbeat(interval)
}

/// SQLite's heartbeats are whole seconds, as Optuna's are.
fn silence(name: &str) -> Duration {
    Duration::from_millis(if name == "study.db" { 2100 } else { 300 })
}

#[test]
fn silent_workers_trials_fail() {
    every_storage(|name, storage| {
        let s = beating(&storage, Duration::from_secs(60)).load_or_create().unwrap();
        let _killed = s.ask().unwrap();
        assert_eq!(s.fail_stale(Duration::from_secs(60)).unwrap(), [0_usize; 0], "{name}");
        std::thread::sleep(silence(name) + Duration::from_millis(20));
        assert_eq!(s.fail_stale(silence(name)).unwrap(), [0], "{name}");
        assert_eq!(s.trials().unwrap()[0].state, TrialState::Failed, "{name}");
        let beating = s.ask().unwrap();
        std::thread::sleep(silence(name));
        storage.heartbeat(beating.record().id).unwrap();
        assert_eq!(s.fail_stale(silence(name)).unwrap(), [0_usize; 0], "{name}");
        // One that never had a heartbeat is another program's.
        study(&storage).ask().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!s.fail_stale(Duration::from_millis(10)).unwrap().contains(&2), "{name}");
    });
}

#[test]
fn a_running_objective_gives_signs_of_life() {
    every_storage(|name, storage| {
        let silence = silence(name);
        let mut stale = Vec::new();
        let s = beating(&storage, Duration::from_millis(40)).load_or_create().unwrap();
        s.optimize(1, |_| {
            std::thread::sleep(silence + Duration::from_millis(200));
            stale = study(&storage).fail_stale(silence)?;
            Ok(1.0)
        })
        .unwrap();
        assert_eq!(stale, [0_usize; 0], "{name}");
    });
}

#[test]
fn a_worker_whose_trial_was_ended_takes_its_next_one() {
    every_storage(|name, storage| {
        let s = study(&storage);
        s.optimize(3, |trial| {
            if trial.number() == 1 {
                study(&storage).tell_number(1, Outcome::Failed)?;
                trial.report(0.5, 0)?;
            }
            Ok(1.0)
        })
        .unwrap();
        let states: Vec<_> = s.trials().unwrap().iter().map(|t| t.state).collect();
        assert_eq!(states, [TrialState::Complete, TrialState::Failed, TrialState::Complete], "{name}");
        // Another error than that one ends the run.
        let error = s.optimize(3, |trial| {
            study(&storage).tell_number(trial.number(), Outcome::Failed)?;
            Err::<f64, _>(Stop::Abort("broken".into()))
        });
        assert!(matches!(error, Err(Error::Objective { number: 3, .. })), "{name}");
    });
}

#[test]
fn a_silent_workers_trial_is_taken_over_once() {
    every_storage(|name, storage| {
        // The silent one never beats: its interval is an hour. The others look for twice their interval.
        let make = |interval| beating(&storage, interval).take_over().load_or_create().unwrap();
        let silent = make(Duration::from_secs(3600));
        let mut lost = silent.ask().unwrap();
        let x = lost.float("x", 0.0..=1.0).unwrap();
        lost.report(7.0, 0).unwrap();
        std::thread::sleep(silence(name) + Duration::from_millis(100));
        let ran = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    make(silence(name) / 2)
                        .optimize(1, |trial| {
                            ran.lock().unwrap().push((trial.number(), trial.record().last_report()));
                            std::thread::sleep(Duration::from_millis(50));
                            Ok(trial.float("x", 0.0..=1.0)?)
                        })
                        .unwrap();
                });
            }
        });
        let mut ran = ran.into_inner().unwrap();
        ran.sort_by_key(|(number, _)| *number);
        assert_eq!(ran, [(0, Some((0, 7.0))), (1, None), (2, None)], "{name}");
        assert_eq!(silent.trials().unwrap()[0].value(), Some(x), "{name}");
        assert!(
            matches!(lost.report(8.0, 1), Err(Error::Taken { number: 0 } | Error::Finished { .. })),
            "{name}"
        );
        assert!(silent.tell(&lost, 9.0).is_err(), "{name}");
    });
}

#[test]
fn a_trial_that_is_taken_over_between_two_parameters_draws_the_second_as_it_would_have_been() {
    let undisturbed = study(&(Arc::new(Memory::new()) as Arc<dyn Storage>));
    let both = |trial: &mut Trial<'_>| -> Result<f64, Stop> {
        Ok(trial.float("x", 0.0..=1.0)? + trial.float("y", 0.0..=1.0)?)
    };
    undisturbed.optimize_total(1, 1, both).unwrap();
    let expected = undisturbed.trials().unwrap()[0].params.clone();
    every_storage(|name, storage| {
        let (begun, killed) = std::sync::mpsc::channel();
        let theirs = storage.clone();
        // It never beats, and never ends.
        std::thread::spawn(move || {
            let silent = beating(&theirs, Duration::from_secs(3600)).take_over().load_or_create().unwrap();
            let _ = silent.optimize_total(1, 1, |trial| -> Result<f64, Stop> {
                trial.float("x", 0.0..=1.0)?;
                begun.send(()).unwrap();
                loop {
                    std::thread::park();
                }
            });
        });
        killed.recv().unwrap();
        std::thread::sleep(silence(name) + Duration::from_millis(100));
        let s = beating(&storage, silence(name) / 2).take_over().load_or_create().unwrap();
        s.optimize_total(1, 1, both).unwrap();
        let trials = s.trials().unwrap();
        assert_eq!(trials.len(), 1, "{name}");
        assert_eq!(trials[0].params, expected, "{name}");
    });
}

#[test]
fn a_trial_is_taken_over_where_both_workers_agree_to_it_and_fails_else() {
    every_storage(|name, storage| {
        for (n, (theirs, ours)) in [(false, true), (true, false)].into_iter().enumerate() {
            let make = |takes_over, interval| {
                let builder = beating(&storage, interval);
                if takes_over { builder.take_over() } else { builder }.load_or_create().unwrap()
            };
            let silent = make(theirs, Duration::from_secs(3600));
            let lost = silent.ask().unwrap().number();
            std::thread::sleep(silence(name) + Duration::from_millis(100));
            let mut ran = Vec::new();
            make(ours, silence(name) / 2)
                .optimize(1, |trial| {
                    ran.push(trial.number());
                    Ok(0.0)
                })
                .unwrap();
            assert_eq!((lost, &ran[..]), (2 * n, &[2 * n + 1][..]), "{name}");
            assert_eq!(silent.trials().unwrap()[lost].state, TrialState::Failed, "{name}");
        }
    });
}

#[test]
fn workers_end_with_as_many_trials_as_were_asked_for() {
    every_storage(|name, storage| {
        let s = beating(&storage, Duration::from_secs(60)).load_or_create().unwrap();
        s.optimize(2, |_| Err::<f64, _>(Stop::failed("before"))).unwrap();
        s.enqueue(Map::from_iter([("x".to_owned(), json!(0.5))])).unwrap();
        let ran = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mine = beating(&storage, Duration::from_secs(60)).load().unwrap();
                    mine.optimize_total(2, 20, |trial| {
                        ran.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(5));
                        match trial.number() {
                            10 => Err(Stop::failed("counts")),
                            _ => Ok(trial.float("x", 0.0..=1.0)?),
                        }
                    })
                    .unwrap();
                    // Whoever returns finds all trials ended.
                    assert!(mine.trials().unwrap().iter().all(|t| t.state.is_finished()), "{name}");
                });
            }
        });
        assert_eq!(ran.into_inner(), 20, "{name}");
        assert_eq!(s.trials().unwrap().len(), 22, "{name}: two had failed before");
        s.optimize_total(1, 20, |_| Ok(1.0)).unwrap();
        assert_eq!(s.trials().unwrap().len(), 23, "{name}: the failed one is repeated");
    });
}

#[test]
fn damaged_and_foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (found, content) in [
        ("prose", "This is no journal.\n"),
        ("other JSON", "{\"a\": 1}\n"),
        (
            "a bad line",
            "{\"op_code\":0,\"worker_id\":\"w\",\"study_name\":\"x\",\"directions\":[1]}\n{\"op_co\n",
        ),
        ("an unknown operation", "{\"op_code\":77,\"worker_id\":\"w\"}\n"),
        ("prose without a line end", "This is no journal."),
        ("JSON without a line end", "{\"a\": 1}"),
        (
            "prose after an operation",
            "{\"op_code\":0,\"worker_id\":\"w\",\"study_name\":\"x\",\"directions\":[1]}\nThis is none.",
        ),
    ] {
        let path = dir.path().join("bad.log");
        std::fs::write(&path, content).unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content, "the file is left alone");
        let Error::Corrupt { path, .. } = &error else { panic!("{found}: {error}") };
        assert!(path.contains("bad.log, line "), "{path}");
    }
    #[cfg(feature = "sqlite")]
    {
        use firstsight_hpo::Sqlite;
        let path = dir.path().join("bad.db");
        std::fs::write(&path, "This is no database, however long one makes it. ".repeat(50)).unwrap();
        assert!(matches!(Sqlite::open(&path), Err(Error::Corrupt { .. })));
        let path = dir.path().join("foreign.db");
        std::fs::copy("tests/goldens/foreign.db", &path).unwrap();
        let error = Sqlite::open(&path).unwrap_err();
        assert!(error.to_string().contains("expected a database of Optuna's schema v3.2.0.a"), "{error}");
    }
}

/// A journal with one operation more, as text.
fn journal_with(dir: &Path, line: &str) -> Result<usize, Error> {
    let path = dir.join("journal.log");
    let begin = [
        r#"{"op_code":0,"worker_id":"w","study_name":"s","directions":[1]}"#,
        r#"{"op_code":4,"worker_id":"w","study_id":0,"datetime_start":"2026-01-02T03:04:05.000006"}"#,
        r#"{"op_code":4,"worker_id":"w","study_id":0,"state":4}"#,
    ];
    std::fs::write(&path, format!("{}\n{line}\n", begin.join("\n"))).unwrap();
    Ok(study(&(Arc::new(Journal::open(&path)?) as Arc<dyn Storage>)).trials()?.len())
}

#[test]
fn what_a_journal_says_is_checked_where_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let param = |value: &str, distribution: &str| {
        let text = Value::from(distribution);
        format!(
            r#"{{"op_code":5,"worker_id":"w","trial_id":0,"param_name":"x","param_value_internal":{value},"distribution":{text}}}"#
        )
    };
    let float = |attributes: &str| format!(r#"{{"name":"FloatDistribution","attributes":{{{attributes}}}}}"#);
    let int = |attributes: &str| format!(r#"{{"name":"IntDistribution","attributes":{{{attributes}}}}}"#);
    let choices = r#"{"name":"CategoricalDistribution","attributes":{"choices":["a","b"]}}"#;
    let of_trial = |op: u8, rest: &str| format!(r#"{{"op_code":{op},"worker_id":"w","trial_id":0,{rest}}}"#);
    let right = [
        param("0.5", &float(r#""low":0.0,"high":1.0,"step":null,"log":false"#)),
        // A value that a user enqueued beyond its range: Optuna warns, and stores it.
        param("1.5", &float(r#""low":0.0,"high":1.0,"step":null,"log":false"#)),
        param("1", choices),
        of_trial(7, r#""step":3,"intermediate_value":NaN"#),
        of_trial(6, r#""state":1,"values":[0.5]"#),
        of_trial(6, r#""state":3,"values":null"#),
    ];
    for line in right {
        assert_eq!(journal_with(dir.path(), &line).unwrap(), 2, "{line}");
    }
    let wrong = [
        // A step of 0.0 where null stood divides by zero later.
        param("0.5", &float(r#""low":0.0,"high":1.0,"step":0.0,"log":false"#)),
        param("0.5", &float(r#""low":0.0,"high":1.0,"step":-0.1,"log":false"#)),
        param("0.5", &float(r#""low":1.0,"high":0.0,"step":null,"log":false"#)),
        param("0.5", &float(r#""low":0.0,"high":1.0,"step":null,"log":true"#)),
        param("0.5", &float(r#""low":0.1,"high":1.0,"step":0.1,"log":true"#)),
        param("2", &int(r#""low":1,"high":5,"step":0,"log":false"#)),
        param("2", &int(r#""low":5,"high":1,"step":1,"log":false"#)),
        param("2", &int(r#""low":-9223372036854775808,"high":9223372036854775807,"step":1,"log":false"#)),
        param("1.5", &int(r#""low":1,"high":5,"step":1,"log":false"#)),
        param("1e999", &float(r#""low":0.0,"high":1.0"#)),
        // Of two choices, the third and the one before the first.
        param("2", choices),
        param("-1", choices),
        param("0", r#"{"name":"CategoricalDistribution","attributes":{"choices":[]}}"#),
        of_trial(7, r#""step":null,"intermediate_value":1.0"#),
        of_trial(7, r#""step":-1,"intermediate_value":1.0"#),
        of_trial(7, r#""step":1,"intermediate_value":null"#),
        // A trial that is complete without a value, or with two.
        of_trial(6, r#""state":1,"values":null"#),
        of_trial(6, r#""state":1,"values":[1.0,2.0]"#),
        of_trial(6, r#""state":1,"values":[null]"#),
        of_trial(6, r#""state":9,"values":null"#),
        // One that runs waits again.
        of_trial(6, r#""state":4,"values":null"#),
        r#"{"op_code":0,"worker_id":"w","study_name":"t","directions":[]}"#.to_owned(),
        r#"{"op_code":0,"worker_id":"w","study_name":"t","directions":[7]}"#.to_owned(),
        r#"{"op_code":4,"worker_id":"w","study_id":0,"state":1,"value":null,"values":null}"#.to_owned(),
        format!(
            r#"{{"op_code":4,"worker_id":"w","study_id":0,"state":1,"value":0.5,"params":{{"c":7}},"distributions":{{"c":{}}}}}"#,
            Value::from(choices)
        ),
    ];
    for line in wrong {
        let error = journal_with(dir.path(), &line).unwrap_err();
        let Error::Corrupt { path, .. } = &error else { panic!("{line}: {error}") };
        assert!(path.contains("journal.log, line 4"), "{line}: {error}");
    }
}

/// Rows that no program writes.
#[cfg(any(feature = "postgresql", feature = "sqlite"))]
const FORGED: [&str; 15] = [
    "UPDATE trial_params SET distribution_json = replace(distribution_json, 'null', '0.0') WHERE param_name = 'x'",
    "UPDATE trial_params SET param_value = 7 WHERE param_name = 'c'",
    "UPDATE trial_params SET param_value = -1 WHERE param_name = 'c'",
    "UPDATE trial_params SET param_value = 1.5 WHERE param_name = 'n'",
    "UPDATE trial_params SET param_value = NULL WHERE param_name = 'n'",
    r#"UPDATE trial_params SET distribution_json = '{"name": "CategoricalDistribution", "attributes": {"choices": []}}'"#,
    "UPDATE trial_intermediate_values SET step = -1 WHERE step = 1",
    "UPDATE trial_intermediate_values SET intermediate_value_type = 'MANY'",
    "DELETE FROM trial_values WHERE trial_id = 1",
    "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (1, 1, 0.5, 'FINITE')",
    "UPDATE trials SET state = 'COMPLETE' WHERE number = 3",
    "UPDATE trials SET state = 'DONE'",
    "UPDATE trials SET number = -1 WHERE number = 4",
    "UPDATE trials SET number = 7 WHERE number = 4",
    "UPDATE study_directions SET direction = 'UP'",
];

/// Asserts that the study at `address` is refused once `forge` has changed its rows, and that it was not before.
#[cfg(any(feature = "postgresql", feature = "sqlite"))]
fn is_refused_once_forged(address: &str, sql: &str, forge: impl FnOnce()) {
    let read = || -> Result<usize, Error> {
        let builder = Study::builder("s").sampler(Random::new(1)).shared_storage(storage::open(address)?);
        Ok(builder.load_or_create()?.trials()?.len())
    };
    study(&storage::open(address).unwrap()).optimize(5, objective).unwrap();
    assert_eq!(read().unwrap(), 5);
    forge();
    let error = read().unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{sql}: {error}");
}

#[cfg(feature = "sqlite")]
#[test]
fn what_an_sqlite_database_holds_is_checked_where_it_is_read() {
    for sql in FORGED {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("study.db");
        is_refused_once_forged(&format!("sqlite:///{}", path.display()), sql, || {
            let db = rusqlite::Connection::open(&path).unwrap();
            // Types are not kept to by every program.
            db.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
            assert!(db.execute(sql, []).unwrap() > 0, "{sql}");
        });
    }
}

/// Values of every type and of no sense. Each is put into each column of each table, in one row and in all.
#[cfg(feature = "sqlite")]
const SENSELESS: [&str; 20] = [
    "NULL",
    "0",
    "-1",
    "7",
    "9223372036854775807",
    "-9223372036854775808",
    "0.5",
    "1e308",
    "9e999",
    "''",
    "'x'",
    "'FINITE'",
    "'INF_NEG'",
    "'NAN'",
    "'COMPLETE'",
    "'RUNNING'",
    "'MAXIMIZE'",
    "'[1, null'",
    "'{\"name\": 1}'",
    "x'00ff'",
];

/// What a worker and a reader of a study do; whatever the rows hold, none of it panics or waits.
#[cfg(feature = "sqlite")]
fn search_on(address: &str) -> Result<(), Error> {
    let sampler = Tpe::new(TpeConfig { n_startup_trials: 1, ..TpeConfig::optuna4(1) })?;
    let study = Study::builder("s").sampler(sampler).shared_storage(storage::open(address)?).load()?;
    let _ = study.best_trials();
    if let Ok(trials) = study.trials() {
        let _ = param_importances(&trials, ForestConfig::optuna4(1));
    }
    let mut trial = study.ask()?;
    trial.float("x", FloatRange::new(1e-3, 1.0).log())?;
    trial.int("n", 1..=5)?;
    trial.categorical("c", &["a", "é"])?;
    trial.report(0.5, 0)?;
    let _ = trial.should_prune();
    study.tell(&trial, 0.5).map(drop)
}

#[cfg(feature = "sqlite")]
#[test]
fn an_sqlite_database_may_hold_any_value_in_any_column() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, path] = ["whole.db", "study.db"].map(|name| dir.path().join(name));
    let address = |path: &Path| format!("sqlite:///{}", path.display());
    study(&storage::open(&address(&whole)).unwrap()).optimize(5, objective).unwrap();
    let db = rusqlite::Connection::open(&whole).unwrap();
    db.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
    let columns =
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'";
    let columns: Vec<(String, String)> = db
        .prepare(columns)
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    drop(db);
    assert!(columns.len() > 30, "{columns:?}");
    let (mut refused, mut read) = (0, 0);
    for (table, column) in &columns {
        for value in SENSELESS {
            for rows in ["", " WHERE rowid = 1"] {
                let sql = format!("UPDATE OR REPLACE {table} SET {column} = {value}{rows}");
                for more in ["-wal", "-shm"] {
                    let _ = std::fs::remove_file(dir.path().join(format!("study.db{more}")));
                }
                std::fs::copy(&whole, &path).unwrap();
                let db = rusqlite::Connection::open(&path).unwrap();
                db.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF").unwrap();
                // Keys and what may not be NULL are SQLite's to guard.
                if !db.execute(&sql, []).is_ok_and(|changed| changed > 0) {
                    continue;
                }
                drop(db);
                let begun = std::time::Instant::now();
                match search_on(&address(&path)) {
                    Ok(()) => read += 1,
                    Err(error) => {
                        refused += 1;
                        let said = error.to_string();
                        let known = ["study.db", "no study with name", "a parameter keeps its kind"];
                        assert!(known.iter().any(|words| said.contains(words)), "{sql}: {said}");
                    }
                }
                assert!(begun.elapsed() < Duration::from_secs(5), "{sql}: {:?}", begun.elapsed());
            }
        }
    }
    println!("{refused} databases are refused, {read} searched on");
    assert!(refused > 100 && read > 100, "{refused} refused, {read} read");
}

#[cfg(feature = "sqlite")]
#[test]
fn a_database_that_is_refused_once_is_refused_again_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("study.db");
    let s = study(&storage::open(&format!("sqlite:///{}", path.display())).unwrap());
    s.optimize(5, objective).unwrap();
    let db = rusqlite::Connection::open(&path).unwrap();
    for (forge, mend) in [
        ("UPDATE trials SET number = 7 WHERE number = 4", "UPDATE trials SET number = 4 WHERE number = 7"),
        (
            "INSERT INTO trials (number, study_id, state) VALUES (9, 1, 'RUNNING')",
            "DELETE FROM trials WHERE number = 9",
        ),
    ] {
        assert_eq!(db.execute(forge, []).unwrap(), 1);
        // Each object knows what it has read.
        let other = study(&storage::open(&format!("sqlite:///{}", path.display())).unwrap());
        for _ in 0..3 {
            assert!(matches!(other.trials(), Err(Error::Corrupt { .. })), "{forge}");
            if forge.starts_with("INSERT") {
                assert!(matches!(s.trials(), Err(Error::Corrupt { .. })), "{forge}");
            }
        }
        assert_eq!(db.execute(mend, []).unwrap(), 1);
        assert_eq!((s.trials().unwrap().len(), other.trials().unwrap().len()), (5, 5), "{mend}");
    }
}

#[cfg(feature = "postgresql")]
#[test]
fn what_a_postgresql_database_holds_is_checked_where_it_is_read() {
    let Some(server) = server::server() else { return };
    // Its types are kept to, but anybody may add to them.
    let types = [("trialintermediatevaluetype", "MANY"), ("trialstate", "DONE"), ("studydirection", "UP")];
    let wider = types.map(|(name, value)| format!("ALTER TYPE {name} ADD VALUE '{value}'"));
    // Times that SQLite keeps as text, which need not be one.
    let times = [
        "UPDATE trials SET datetime_start = 'infinity'",
        "UPDATE trials SET datetime_complete = '-infinity' WHERE number = 0",
        "UPDATE trials SET datetime_start = '294276-12-31 23:59:59'",
    ];
    for sql in FORGED.into_iter().chain(times) {
        let address = server.database();
        is_refused_once_forged(&address, sql, || {
            let database = address.rsplit_once('/').unwrap().1;
            let [a, b, c] = &wider;
            let said = server.run("psql", &[database, "-c", a, "-c", b, "-c", c, "-c", sql]);
            assert!(!said.trim_end().ends_with(" 0"), "{sql}: {said}");
        });
    }
}

#[test]
fn a_torn_line_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.log");
    let s = study(&journal(dir.path()));
    s.optimize(1, |trial| Ok(trial.float("x", 0.0..=1.0)?)).unwrap();
    let mut torn = std::fs::read(&path).unwrap();
    torn.extend(b"{\"op_code\":4,\"wor");
    std::fs::write(&path, torn).unwrap();
    let s = study(&journal(dir.path()));
    assert_eq!(s.trials().unwrap().len(), 1);
    s.optimize(1, |trial| Ok(trial.float("x", 0.0..=1.0)?)).unwrap();
    assert_eq!(study(&journal(dir.path())).trials().unwrap().len(), 2);
}

#[test]
fn a_journals_times_may_have_a_zone() {
    let dir = tempfile::tempdir().unwrap();
    let s = study(&journal(dir.path()));
    let path = dir.path().join("journal.log");
    let with_zone = |time: &str| {
        let line = format!(r#"{{"op_code":4,"worker_id":"optuna5","study_id":0,"datetime_start":"{time}"}}"#);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()).unwrap();
        s.trials().unwrap().last().unwrap().started.unwrap()
    };
    let utc = with_zone("2026-01-02T03:04:05.000006+00:00");
    assert_eq!(utc, with_zone("2026-01-02T04:04:05.000006+01:00"), "the same moment");
    let plain = with_zone("2026-01-02T03:04:05.000006");
    assert_eq!(plain.to_string(), "2026-01-02 03:04:05.000006", "local time already");
    let offset = chrono::TimeZone::from_utc_datetime(&chrono::Local, &plain).naive_local();
    assert_eq!(utc, offset);
}

#[test]
fn a_file_of_a_few_letters_is_not_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.log");
    std::fs::write(&path, "{").unwrap();
    let storage = journal(dir.path());
    assert!(matches!(storage.create_study("s", &[Direction::Minimize]), Err(Error::Corrupt { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{");
}

/// What `make_others.py` says of a trial that it let Optuna run.
fn check_against_optuna(trials: &[Arc<FrozenTrial>], expected: &[Value]) {
    assert_eq!(trials.len(), expected.len());
    for (ours, theirs) in trials.iter().zip(expected) {
        let state = match ours.state {
            TrialState::Failed => "FAIL".to_owned(),
            other => other.to_string().to_uppercase(),
        };
        assert_eq!(state, theirs["state"], "trial {}", ours.number);
        let value = ours.value().map(|v| if v.is_finite() { json!(v) } else { json!(v.to_string()) });
        assert_eq!(json!(value), theirs["value"], "trial {}", ours.number);
        assert_eq!(Value::Object(ours.params_json()), theirs["params"]);
        let reports: Map<_, _> = ours.intermediate.iter().map(|(s, v)| (s.to_string(), json!(v))).collect();
        assert_eq!(Value::Object(reports), theirs["intermediate"]);
        assert_eq!(json!(ours.user_attrs), theirs["user_attrs"]);
        assert_eq!(json!(ours.system_attrs), theirs["system_attrs"]);
    }
}

#[test]
fn files_that_optuna_wrote_are_read_and_gone_on_with() {
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string("tests/goldens/studies.json").unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (name, address) in file_addresses(dir.path()) {
        std::fs::copy(format!("tests/goldens/{name}"), dir.path().join(name)).unwrap();
        let storage = storage::open(&address).unwrap();
        let studies = storage.studies().unwrap();
        assert_eq!(studies.len(), 2, "{name}");
        assert_eq!(
            (studies[0].name.as_str(), studies[0].directions[0]),
            ("other", Direction::Maximize),
            "{name}"
        );
        assert_eq!(studies[1].user_attrs["author"], "Optuna", "{name}");
        let sampler = Tpe::new(TpeConfig { n_startup_trials: 3, ..TpeConfig::optuna4(1) }).unwrap();
        let s = Study::builder("näme").sampler(sampler).storage(storage).load().unwrap();
        check_against_optuna(&s.trials().unwrap(), expected[name].as_array().unwrap());
        let choices = [json!("a"), json!("é"), Value::Null, json!(2), json!(0.5), json!(true)];
        s.optimize(4, |trial| {
            let x = trial.float("x", FloatRange::new(1e-3, 1.0).log())?;
            let n = trial.int("n", firstsight_hpo::IntRange::new(2, 10).step(2))?;
            trial.categorical("c", &choices)?;
            Ok(x * n as f64)
        })
        .unwrap();
        let trials = s.trials().unwrap();
        assert_eq!(
            trials.len(),
            expected[name].as_array().unwrap().len() + 3,
            "the waiting trial was taken first"
        );
        assert_eq!(trials[9].param("n").unwrap().internal, 4.0, "{name}");
    }
}

#[test]
fn studies_of_several_objectives_that_optuna_wrote_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for (name, address) in file_addresses(dir.path()) {
        let golden = if name.ends_with("log") { "values.log" } else { "values.db" };
        std::fs::copy(format!("tests/goldens/{golden}"), dir.path().join(name)).unwrap();
        let s = study_of_many(&storage::open(&address).unwrap());
        assert_eq!(s.directions(), DIRECTIONS, "{name}");
        let trials = s.trials().unwrap();
        assert_eq!(trials.len(), 7, "{name}");
        for trial in &trials {
            let x = trial.param("x").unwrap().internal;
            let expected = match trial.number {
                3 => vec![x, (1.0 - x).powi(2), f64::INFINITY],
                4 => vec![],
                6 => vec![0.5; 3],
                _ => vec![x, (1.0 - x).powi(2), -x],
            };
            assert_eq!(trial.values, expected, "{name}, trial {}", trial.number);
        }
        s.optimize(1, objectives).unwrap();
        assert_eq!(s.trials().unwrap().len(), 8, "{name}");
    }
}

/// Runs a script of the goldens folder with the Python that the environment names.
fn python(script: &str, args: &[&str]) -> Option<Command> {
    let Some(python) = std::env::var_os("FIRSTSIGHT_PYTHON") else {
        eprintln!("FIRSTSIGHT_PYTHON is not set: nothing is checked against a running Optuna");
        return None;
    };
    if args[0].starts_with("postgresql") {
        let driver = Command::new(&python).args(["-c", "import psycopg2"]).output();
        if !driver.is_ok_and(|output| output.status.success()) {
            eprintln!("that Python has no psycopg2: nothing is checked against an Optuna on PostgreSQL");
            return None;
        }
    }
    let mut command = Command::new(python);
    command.arg(format!("tests/goldens/{script}")).args(args);
    Some(command)
}

#[test]
fn optuna_reads_what_we_wrote() {
    let dir = tempfile::tempdir().unwrap();
    for (_, address) in addresses(dir.path()) {
        let s = study(&storage::open(&address).unwrap());
        s.enqueue(Map::from_iter([("x".to_owned(), json!(0.5))])).unwrap();
        s.optimize(6, objective).unwrap();
        let _running = s.ask().unwrap();
        s.enqueue(Map::from_iter([("n".to_owned(), json!(4))])).unwrap();
        let Some(mut command) = python("read_study.py", &[&address, "s"]) else { continue };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
        check_against_optuna(&s.trials().unwrap(), theirs.as_array().unwrap());

        let many = study_of_many(&storage::open(&address).unwrap());
        many.optimize(6, objectives).unwrap();
        let mut elsewhere = FrozenTrial::new(0, 0, TrialState::Complete);
        elsewhere.values = vec![0.5, f64::NEG_INFINITY, 0.25];
        many.add_trial(&elsewhere).unwrap();
        let output = python("read_study.py", &[&address, "many"]).unwrap().output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
        let ours = many.trials().unwrap();
        assert_eq!(theirs.as_array().unwrap().len(), ours.len());
        for (ours, theirs) in ours.iter().zip(theirs.as_array().unwrap()) {
            let values: Vec<Value> = ours
                .values
                .iter()
                .map(|v| if v.is_finite() { json!(v) } else { json!(v.to_string()) })
                .collect();
            assert_eq!(Value::from(values), theirs["values"], "{address}, trial {}", ours.number);
        }
        let front: Vec<usize> = many.best_trials().unwrap().iter().map(|t| t.number).collect();
        assert_eq!(json!(front), theirs[0]["best"], "{address}");
    }
}

#[test]
fn workers_of_both_kinds_share_a_study() {
    let dir = tempfile::tempdir().unwrap();
    for (name, address) in addresses(dir.path()) {
        let s = study(&storage::open(&address).unwrap());
        let Some(mut command) = python("work_on_study.py", &[&address, "s", "15"]) else { continue };
        let mut worker = command.spawn().unwrap();
        let ended = loop {
            s.optimize(1, |trial| {
                std::thread::sleep(Duration::from_millis(10));
                Ok(trial.float("x", 0.0..=1.0)?)
            })
            .unwrap();
            if let Some(status) = worker.try_wait().unwrap() {
                break status;
            }
        };
        assert!(ended.success());
        let trials = s.trials().unwrap();
        assert!(
            trials.iter().enumerate().all(|(i, t)| t.number == i && t.state == TrialState::Complete),
            "{name}"
        );
        let theirs: Vec<bool> = trials.iter().map(|t| t.user_attrs.contains_key("python")).collect();
        assert_eq!(theirs.iter().filter(|&&theirs| theirs).count(), 15, "{name}");
        let changes = theirs.windows(2).filter(|pair| pair[0] != pair[1]).count();
        println!("{name}: {} trials, the worker changes {changes} times", trials.len());
        assert!(changes > 2, "{name}: they did not run at the same time");
        s.tell_number(0, Outcome::Failed).unwrap_err();
    }
}
