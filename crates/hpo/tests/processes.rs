//! Several processes on one study, and one that is killed.
//!
//! The workers are this test program itself, run again for its ignored test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firstsight_hpo::{FrozenTrial, Journal, Random, Storage, Study, Suggest, Tpe, TpeConfig, TrialState};

/// Tells a worker which file to work on, and how.
const FILE: &str = "FIRSTSIGHT_TEST_FILE";
const TASK: &str = "FIRSTSIGHT_TEST_TASK";

/// SQLite's heartbeats are whole seconds, as Optuna's are.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A storage file of each kind in a folder of its own.
fn every_file(test: impl Fn(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    test(&dir.path().join("study.log"));
    #[cfg(feature = "sqlite")]
    test(&dir.path().join("study.db"));
}

fn open(file: &Path) -> Arc<dyn Storage> {
    match file.extension() {
        #[cfg(feature = "sqlite")]
        Some(end) if end == "db" => Arc::new(firstsight_hpo::Sqlite::open(file).unwrap()),
        _ => Arc::new(Journal::open(file).unwrap()),
    }
}

fn study(file: &Path, seed: u32) -> Study {
    let config = TpeConfig { constant_liar: true, ..TpeConfig::optuna4(seed) };
    let builder = Study::builder("shared").sampler(Tpe::new(config).unwrap()).storage(open(file));
    builder.heartbeat(HEARTBEAT).load_or_create().unwrap()
}

fn work(file: &Path, n_trials: usize, pause: Duration) {
    let pid = std::process::id();
    study(file, pid)
        .optimize(n_trials, |trial| {
            trial.set_user_attr("process", pid)?;
            let (x, n) = (trial.float("x", -5.0..=5.0)?, trial.int("n", 1..=9)?);
            std::thread::sleep(pause);
            Ok((x - 1.0).powi(2) + n as f64)
        })
        .unwrap();
}

#[test]
#[ignore = "what the processes of the other tests run"]
fn worker() {
    let file = PathBuf::from(std::env::var_os(FILE).expect("the other tests say which file"));
    match std::env::var(TASK).unwrap().as_str() {
        "finish" => work(&file, 40, Duration::from_millis(5)),
        _ => work(&file, 1, Duration::from_secs(600)),
    }
}

fn spawn(file: &Path, task: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "worker"])
        .envs([(FILE, file.as_os_str()), (TASK, task.as_ref())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn processes(trials: &[Arc<FrozenTrial>]) -> Vec<u64> {
    trials.iter().map(|t| t.user_attrs["process"].as_u64().unwrap()).collect()
}

#[test]
fn processes_share_a_study() {
    every_file(|file| {
        study(file, 0);
        let mut workers: Vec<Child> = (0..2).map(|_| spawn(file, "finish")).collect();
        for worker in &mut workers {
            assert!(worker.wait().unwrap().success(), "{}", file.display());
        }
        let trials = study(file, 0).trials().unwrap();
        assert_eq!(trials.len(), 80, "{}", file.display());
        assert!(trials.iter().enumerate().all(|(i, t)| t.number == i && t.state == TrialState::Complete));
        let processes = processes(&trials);
        for worker in &workers {
            assert_eq!(processes.iter().filter(|&&p| p == u64::from(worker.id())).count(), 40);
        }
        let changes = processes.windows(2).filter(|pair| pair[0] != pair[1]).count();
        println!("{}: the process changes {changes} times in 80 trials", file.display());
        assert!(changes > 1, "they did not run at the same time");
    });
}

#[test]
fn a_killed_workers_trial_fails_in_a_later_run() {
    every_file(|file| {
        let watching = study(file, 0);
        let mut worker = spawn(file, "hang");
        let begun = Instant::now();
        while watching.trials().unwrap().iter().all(|t| t.param("n").is_none()) {
            assert!(begun.elapsed() < Duration::from_secs(30), "the worker never began");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(3 * HEARTBEAT);
        // A machine that is slow or stands still for a while may delay a sign of life.
        let record = watching.storage().studies().unwrap().remove(0);
        let alive = (0..10).any(|_| {
            std::thread::sleep(HEARTBEAT / 4);
            watching.storage().stale_trials(record.id, 2 * HEARTBEAT).unwrap().is_empty()
        });
        assert!(alive, "a worker that runs gives signs of life");
        worker.kill().unwrap(); // SIGKILL, where there are signals
        worker.wait().unwrap();
        assert_eq!(watching.trials().unwrap()[0].state, TrialState::Running);

        std::thread::sleep(3 * HEARTBEAT);
        work(file, 1, Duration::ZERO);
        let states: Vec<_> = watching.trials().unwrap().iter().map(|t| t.state).collect();
        assert_eq!(states, [TrialState::Failed, TrialState::Complete]);
    });
}

#[test]
#[cfg(unix)]
#[ignore = "waits for half a minute"]
fn a_dead_holders_lock_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("study.log");
    let study = Study::builder("s").sampler(Random::new(1)).storage(open(&file)).create().unwrap();
    std::os::unix::fs::symlink(&file, dir.path().join("study.log.lock")).unwrap();
    let begun = Instant::now();
    study.optimize(1, |trial| Ok(trial.float("x", 0.0..=1.0)?)).unwrap();
    assert!(begun.elapsed() > Duration::from_secs(29));
    assert_eq!(study.trials().unwrap().len(), 1);
}
