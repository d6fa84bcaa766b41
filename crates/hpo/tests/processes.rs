//! Several processes on one study, and one that is killed.
//!
//! The workers are this test program itself, run again for its ignored test.

#[cfg(feature = "postgresql")]
mod server;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firstsight_hpo::{FrozenTrial, Journal, Random, Study, Suggest, Tpe, TpeConfig, TrialState, storage};

/// Tells a worker which storage to work on, and how.
const ADDRESS: &str = "FIRSTSIGHT_TEST_ADDRESS";
const TASK: &str = "FIRSTSIGHT_TEST_TASK";

/// SQLite's heartbeats are whole seconds, as Optuna's are.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A storage of each kind that processes share.
fn every_address(test: impl Fn(&str)) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    test(&path("study.log"));
    #[cfg(feature = "sqlite")]
    test(&format!("sqlite:///{}", path("study.db")));
    #[cfg(feature = "postgresql")]
    if let Some(server) = server::server() {
        test(&server.database());
    }
}

fn study(address: &str, seed: u32) -> Study {
    let config = TpeConfig { constant_liar: true, ..TpeConfig::optuna4(seed) };
    let builder = Study::builder("shared")
        .sampler(Tpe::new(config).unwrap())
        .shared_storage(storage::open(address).unwrap());
    builder.heartbeat(HEARTBEAT).load_or_create().unwrap()
}

fn work(address: &str, n_trials: usize, pause: Duration) {
    let pid = std::process::id();
    study(address, pid)
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
    let address = std::env::var(ADDRESS).expect("the other tests say which storage");
    match std::env::var(TASK).unwrap().as_str() {
        "finish" => work(&address, 40, Duration::from_millis(5)),
        "hammer" => work(&address, usize::MAX, Duration::ZERO),
        _ => work(&address, 1, Duration::from_secs(600)),
    }
}

fn command(address: &str, task: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "worker"]).envs([(ADDRESS, address), (TASK, task)]);
    command.stdout(Stdio::null());
    command
}

fn spawn(address: &str, task: &str) -> Child {
    command(address, task).spawn().unwrap()
}

fn processes(trials: &[Arc<FrozenTrial>]) -> Vec<u64> {
    trials.iter().map(|t| t.user_attrs["process"].as_u64().unwrap()).collect()
}

#[test]
fn processes_share_a_study() {
    every_address(|address| {
        study(address, 0);
        let mut workers: Vec<Child> = (0..2).map(|_| spawn(address, "finish")).collect();
        for worker in &mut workers {
            assert!(worker.wait().unwrap().success(), "{}", address);
        }
        let trials = study(address, 0).trials().unwrap();
        assert_eq!(trials.len(), 80, "{}", address);
        assert!(trials.iter().enumerate().all(|(i, t)| t.number == i && t.state == TrialState::Complete));
        let processes = processes(&trials);
        for worker in &workers {
            assert_eq!(processes.iter().filter(|&&p| p == u64::from(worker.id())).count(), 40);
        }
        let changes = processes.windows(2).filter(|pair| pair[0] != pair[1]).count();
        println!("{}: the process changes {changes} times in 80 trials", address);
        assert!(changes > 1, "they did not run at the same time");
    });
}

#[test]
fn a_killed_workers_trial_fails_in_a_later_run() {
    every_address(|address| {
        let watching = study(address, 0);
        let mut worker = spawn(address, "hang");
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
        assert_eq!(watching.silent_trials().unwrap(), [0], "{address}: it is known to be stale");
        work(address, 1, Duration::ZERO);
        let states: Vec<_> = watching.trials().unwrap().iter().map(|t| t.state).collect();
        assert_eq!(states, [TrialState::Failed, TrialState::Complete]);
    });
}

#[test]
#[cfg(unix)]
fn signs_of_life_are_read_in_every_time_zone() {
    for zone in ["AAA5", "AAA-5"] {
        let dir = tempfile::tempdir().unwrap();
        let address = dir.path().join("study.log").to_str().unwrap().to_owned();
        let watching = study(&address, 0);
        let mut worker = command(&address, "hang").env("TZ", zone).spawn().unwrap();
        let begun = Instant::now();
        while watching.trials().unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the worker never began");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(command(&address, "finish").env("TZ", zone).status().unwrap().success());
        let trials = watching.trials().unwrap();
        worker.kill().unwrap();
        worker.wait().unwrap();
        assert_eq!(trials[0].state, TrialState::Running, "{zone}: a living worker's");
        let beat = trials[0].system_attrs["firstsight:heartbeat"].as_str().unwrap();
        let beat: chrono::NaiveDateTime = beat.parse().unwrap();
        let age = (chrono::Utc::now().naive_utc() - beat).num_seconds();
        assert!((0..30).contains(&age), "{zone}: {beat}, {age} s ago");
    }
}

/// The files in the folder of a study.
fn names(folder: &std::path::Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn a_killed_holders_lock_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("study.log").to_str().unwrap().to_owned();
    let mut held = 0;
    for round in 0..30_u64 {
        let mut worker = spawn(&address, "hammer");
        let n = std::fs::metadata(&address).map_or(0, |file| file.len());
        let begun = Instant::now();
        while std::fs::metadata(&address).map_or(0, |file| file.len()) < n + 2000 {
            assert!(begun.elapsed() < Duration::from_secs(30), "the worker never began");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(round * 97 % 2000));
        worker.kill().unwrap();
        worker.wait().unwrap();
        held += usize::from(names(dir.path()).iter().any(|name| name.contains(".lock")));
        let begun = Instant::now();
        work(&address, 1, Duration::ZERO);
        assert!(begun.elapsed() < Duration::from_secs(10), "round {round}: {:?}", begun.elapsed());
        assert_eq!(names(dir.path()), ["study.log"], "round {round}");
    }
    println!("{held} of 30 were killed with the lock");
    assert!(held > 0);
}

#[test]
#[cfg(unix)]
fn of_several_waiters_one_breaks_a_killed_holders_lock() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("study.log").to_str().unwrap().to_owned();
    for round in 0..10 {
        let mut holder = spawn(&address, "hammer");
        let begun = Instant::now();
        while !names(dir.path()).iter().any(|name| name == "study.log.lock") {
            assert!(begun.elapsed() < Duration::from_secs(30), "the worker never began");
        }
        holder.kill().unwrap();
        holder.wait().unwrap();
        let before = study(&address, 0).trials().unwrap().len();
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| work(&address, 4, Duration::ZERO));
            }
        });
        let trials = study(&address, 0).trials().unwrap();
        assert_eq!(trials.len(), before + 20, "round {round}: nothing is lost and nothing is there twice");
        assert_eq!(names(dir.path()), ["study.log"], "round {round}");
    }
}

#[test]
#[cfg(unix)]
#[ignore = "waits for half a minute"]
fn a_dead_holders_lock_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("study.log");
    let study =
        Study::builder("s").sampler(Random::new(1)).storage(Journal::open(&file).unwrap()).create().unwrap();
    std::os::unix::fs::symlink(&file, dir.path().join("study.log.lock")).unwrap();
    let begun = Instant::now();
    study.optimize(1, |trial| Ok(trial.float("x", 0.0..=1.0)?)).unwrap();
    assert!(begun.elapsed() > Duration::from_secs(29));
    assert_eq!(study.trials().unwrap().len(), 1);
}
