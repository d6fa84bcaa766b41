//! Studies on a PostgreSQL server: the tables, what fails, lost connections, and many workers of which some are killed.
//! The tests pass with a note where PostgreSQL's programs are not installed.
#![cfg(feature = "postgresql")]

mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firstsight_hpo::{
    Direction, Error, Postgres, Random, Study, Suggest, Tpe, TpeConfig, TrialState, storage,
};
use serde_json::{Map, json};

use self::server::{PASSWORD, server};

fn python() -> Option<std::ffi::OsString> {
    let python = std::env::var_os("FIRSTSIGHT_PYTHON")?;
    let found = Command::new(&python).args(["-c", "import optuna, psycopg2"]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

/// Runs SQL on the database of an address, and returns the bare rows.
fn query_at(server: &server::Server, address: &str, sql: &str) -> String {
    let database = address.rsplit_once('/').unwrap().1;
    server.run("psql", &["-qAt", database, "-c", sql])
}

#[test]
fn the_tables_are_optunas() {
    let Some(server) = server() else { return };
    let dump = |address: &str| {
        let database = address.rsplit_once('/').unwrap().1;
        let text = server.run("pg_dump", &["--schema-only", database]);
        // Newer versions write a key of their own at both ends.
        let lines = text.lines().filter(|line| !line.starts_with(['\\', '-'])).map(str::to_owned);
        let rows = server.run(
            "psql",
            &["-At", database, "-c", "SELECT schema_version, version_num FROM version_info, alembic_version"],
        );
        (lines.collect::<Vec<_>>(), rows)
    };
    let ours = server.database();
    drop(Postgres::open(&ours).unwrap());
    let (tables, rows) = dump(&ours);
    assert_eq!(rows.trim(), "12|v3.2.0.a");
    assert_eq!(tables.iter().filter(|line| line.starts_with("CREATE TABLE")).count(), 13);
    let Some(python) = python() else {
        eprintln!("FIRSTSIGHT_PYTHON names no Python with optuna and psycopg2: its tables are not compared");
        return;
    };
    let theirs = server.database();
    let script = format!("import optuna; optuna.storages.RDBStorage({theirs:?})");
    assert!(Command::new(python).args(["-c", &script]).status().unwrap().success());
    assert_eq!((tables, rows), dump(&theirs));
}

#[test]
fn storages_opened_at_once_create_the_tables_once() {
    let Some(server) = server() else { return };
    let address = server.database();
    std::thread::scope(|scope| {
        let opened: Vec<_> = (0..6).map(|_| scope.spawn(|| Postgres::open(&address).map(drop))).collect();
        opened.into_iter().for_each(|opened| opened.join().unwrap().unwrap());
    });
}

#[test]
fn what_fails_is_said_without_the_password() {
    let Some(server) = server() else { return };
    let address = server.database();
    let database = address.rsplit_once('/').unwrap().1;
    let query = |sql: &str| query_at(server, &address, sql);
    let fails = |address: &str| {
        let error = storage::open(address).err().unwrap();
        let said = format!("{error} {error:?}");
        for secret in [PASSWORD, "p4ss%2Fw", "wr0ng"] {
            assert!(!said.contains(secret), "{said}");
        }
        error.to_string()
    };
    let begin = format!("postgresql+psycopg2://firstsight:***@127.0.0.1:{}/", server.port);
    let wrong = format!("postgresql://firstsight:wr0ng@127.0.0.1:{}/{database}", server.port);
    assert!(fails(&wrong).contains("password authentication failed"), "{}", fails(&wrong));
    let none = format!("postgresql://firstsight@127.0.0.1:{}/{database}", server.port);
    assert!(fails(&none).contains("asks for a password"), "{}", fails(&none));
    let said = fails(&server.address("absent"));
    assert!(said.starts_with(&begin) && said.contains("\"absent\" does not exist"), "{said}");
    let nobody = address.replace(&server.port.to_string(), "1");
    assert!(fails(&nobody).contains("is the server running"), "{}", fails(&nobody));
    // The server of another host is not looked for on this one.
    let elsewhere = address.replace("127.0.0.1", "127.0.0.2");
    assert!(fails(&elsewhere).contains("is the server running"), "{}", fails(&elsewhere));

    query("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)");
    query("INSERT INTO alembic_version VALUES ('1975ea83b712')");
    assert!(fails(&address).contains("a database of something else"), "{}", fails(&address));
    query("DROP TABLE alembic_version");
    drop(storage::open(&address).unwrap());
    query("UPDATE alembic_version SET version_num = 'v3.0.0.d'");
    assert!(fails(&address).contains("optuna storage upgrade"), "{}", fails(&address));
}

#[test]
fn a_lost_connection_is_made_anew() {
    let Some(server) = server() else { return };
    let address = server.database();
    let database = address.rsplit_once('/').unwrap().1;
    let storage = storage::open(&address).unwrap();
    let study = Study::builder("s").sampler(Random::new(1)).shared_storage(storage).create().unwrap();
    // All connections end while trials are created, changed and told.
    let cut = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    );
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                server.run("psql", &["-q", database, "-c", &cut]);
                std::thread::sleep(Duration::from_millis(60));
            }
        });
        study
            .optimize(60, |trial| {
                let x = trial.float("x", 0.0..=1.0)?;
                trial.report(x, 0)?;
                std::thread::sleep(Duration::from_millis(10));
                Ok(x)
            })
            .unwrap();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let trials = study.trials().unwrap();
    assert_eq!(trials.len(), 60);
    for (number, trial) in trials.iter().enumerate() {
        assert_eq!((trial.number, trial.state), (number, TrialState::Complete));
        assert_eq!(trial.value(), trial.param("x").map(|x| x.internal));
    }
    assert!(matches!(
        study.storage().create_study("s", &[Direction::Minimize]),
        Err(Error::StudyExists { .. })
    ));
}

#[test]
fn a_statement_that_fails_keeps_its_connection() {
    let Some(server) = server() else { return };
    let address = server.database();
    let query = |sql: &str| query_at(server, &address, sql);
    let study = Study::builder("s").sampler(Random::new(1)).shared_storage(storage::open(&address).unwrap());
    let study = study.create().unwrap();
    let connection = || {
        query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'firstsight'",
        )
    };
    let before = connection();
    query("ALTER TABLE trials RENAME TO hidden");
    assert!(matches!(study.trials(), Err(Error::Postgres { .. })));
    query("ALTER TABLE hidden RENAME TO trials");
    assert_eq!(study.trials().unwrap().len(), 0);
    assert_eq!(connection(), before);
}

#[test]
fn work_is_begun_anew_five_times_and_soon() {
    let Some(server) = server() else { return };
    let address = server.database();
    let query = |sql: &str| query_at(server, &address, sql);
    let study = Study::builder("s").sampler(Random::new(1)).shared_storage(storage::open(&address).unwrap());
    let study = study.create().unwrap();
    // Sequences count on in transactions that are undone.
    query("CREATE SEQUENCE attempts");
    let on_attempts = |n: usize, does: &str| {
        query("ALTER SEQUENCE attempts RESTART");
        query("DROP TRIGGER IF EXISTS on_each ON trials");
        query(&format!(
            "CREATE OR REPLACE FUNCTION on_each() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN IF nextval(''attempts'') <= {n} THEN {does} END IF; RETURN NEW; END'"
        ));
        query("CREATE TRIGGER on_each BEFORE INSERT ON trials FOR EACH ROW EXECUTE FUNCTION on_each()");
    };
    let attempts = || query("SELECT last_value FROM attempts").trim().parse::<usize>().unwrap();
    on_attempts(4, "RAISE EXCEPTION USING ERRCODE = ''serialization_failure'';");
    let begun = Instant::now();
    study.ask().unwrap();
    assert_eq!(attempts(), 5);
    // 20 ms, 40 ms, 60 ms and 80 ms, and less than 20 ms more of each.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    on_attempts(100, "PERFORM pg_terminate_backend(pg_backend_pid());");
    assert!(matches!(study.ask(), Err(Error::Postgres { .. })));
    assert_eq!(attempts(), 6);
}

#[test]
fn tables_whose_version_comes_in_a_second_step_are_waited_for() {
    let Some(server) = server() else { return };
    let address = server.database();
    let rename = |from: &str, to: &str| {
        query_at(server, &address, &format!("ALTER TABLE {from} RENAME TO {to}"));
    };
    drop(Postgres::open(&address).unwrap());
    rename("alembic_version", "later");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            rename("later", "alembic_version");
        });
        Postgres::open(&address).unwrap();
    });
}

/// Tells a worker of the load test the storage, and the file in which it notes the trials that it begins.
const ADDRESS: &str = "FIRSTSIGHT_TEST_ADDRESS";
const NOTES: &str = "FIRSTSIGHT_TEST_NOTES";
const TRIALS: usize = 400;
const HEARTBEAT: Duration = Duration::from_secs(8);

#[test]
#[ignore = "what the processes of the load test run"]
fn worker() {
    let address = std::env::var(ADDRESS).expect("the load test says which storage");
    let mut notes = OpenOptions::new().append(true).open(std::env::var_os(NOTES).unwrap()).unwrap();
    let pid = std::process::id();
    let config = TpeConfig { constant_liar: true, ..TpeConfig::optuna4(pid) };
    let study = Study::builder("load").sampler(Tpe::new(config).unwrap()).heartbeat(HEARTBEAT);
    let study = study.shared_storage(storage::open(&address).unwrap()).load().unwrap();
    let notes = std::sync::Mutex::new(&mut notes);
    study
        .optimize_total(1, TRIALS, |trial| {
            // One write, so that processes do not mix their lines.
            notes.lock().unwrap().write_all(format!("{} {pid}\n", trial.number()).as_bytes()).unwrap();
            trial.set_user_attr("process", pid)?;
            let (x, n) = (trial.float("x", -5.0..=5.0)?, trial.int("n", 1..=9)?);
            for step in 0..3 {
                std::thread::sleep(Duration::from_millis(30));
                trial.report(x * (step + 1) as f64, step)?;
            }
            Ok((x - 1.0).powi(2) + n as f64)
        })
        .unwrap();
}

/// Eight workers, every second one Python's Optuna where there is one, on [`TRIALS`] trials of which half wait and half are created
/// as they begin; two are killed at moments that follow from the clock.
#[test]
fn eight_workers_of_which_two_are_killed_lose_no_trial_and_run_none_twice() {
    let Some(server) = server() else { return };
    let address = server.database();
    let dir = tempfile::tempdir().unwrap();
    let notes = dir.path().join("notes");
    std::fs::write(&notes, "").unwrap();
    let study = Study::builder("load").sampler(Random::new(1)).heartbeat(HEARTBEAT);
    let study = study.shared_storage(storage::open(&address).unwrap()).create().unwrap();
    for i in 0..TRIALS / 2 {
        study.enqueue(Map::from_iter([("n".to_owned(), json!(1 + i % 9))])).unwrap();
    }
    let python = python();
    if python.is_none() {
        eprintln!("FIRSTSIGHT_PYTHON names no Python with optuna and psycopg2: all workers are ours");
    }
    let begun = Instant::now();
    let mut workers: Vec<Child> = (0..8)
        .map(|i| {
            let mut command = match &python {
                Some(python) if i % 2 == 1 => {
                    let mut command = Command::new(python);
                    command.args(["tests/goldens/share_study.py", &address, "load"]).arg(&notes);
                    command.arg(TRIALS.to_string());
                    command
                }
                _ => {
                    let mut command = Command::new(std::env::current_exe().unwrap());
                    command.args(["--ignored", "--exact", "worker"]);
                    command.envs([(ADDRESS, address.as_ref()), (NOTES, notes.as_os_str())]);
                    command
                }
            };
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let lines = || std::fs::read_to_string(&notes).unwrap();
    let mut killed = Vec::new();
    for (victim, after) in [(0, TRIALS / 4), (1, TRIALS / 2)] {
        while lines().lines().count() < after {
            assert!(begun.elapsed() < Duration::from_secs(300), "{} trials only", lines().lines().count());
            std::thread::sleep(Duration::from_millis(5));
        }
        let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(moment.subsec_nanos()) % 100_000));
        workers[victim].kill().unwrap(); // SIGKILL
        killed.push(workers[victim].id());
    }
    for (i, worker) in workers.iter_mut().enumerate() {
        let status = worker.wait().unwrap();
        assert_eq!(status.success(), i > 1, "worker {i}: {status}");
    }
    let time = begun.elapsed();

    let trials = study.trials().unwrap();
    assert!(trials.iter().enumerate().all(|(i, t)| t.number == i), "each number once");
    let mut runs: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for line in lines().lines() {
        let (number, pid) = line.split_once(' ').unwrap();
        runs.entry(number.parse().unwrap()).or_default().push(pid.parse().unwrap());
    }
    let twice: Vec<_> = runs.iter().filter(|(_, pids)| pids.len() > 1).collect();
    assert!(twice.is_empty(), "run twice: {twice:?}");
    let of =
        |state| -> BTreeSet<usize> { trials.iter().filter(|t| t.state == state).map(|t| t.number).collect() };
    let (complete, failed) = (of(TrialState::Complete), of(TrialState::Failed));
    // Optuna's first heartbeat comes after its sampling: a worker of its own that is killed before leaves a running trial, which
    // nobody can tell from a living one.
    let left: Vec<_> = trials.iter().filter(|t| !t.state.is_finished()).map(|t| t.number).collect();
    assert!(left.len() <= usize::from(python.is_some()), "left running or waiting: {left:?}");
    assert_eq!(complete.len() + failed.len() + left.len(), trials.len());
    // A killed worker had at most one trial.
    let of_killed = |number: &usize| runs.get(number).is_none_or(|pids| killed.contains(&pids[0]));
    assert!(
        failed.len() + left.len() <= 2 && failed.iter().chain(&left).all(of_killed),
        "{failed:?}, {left:?}"
    );
    assert!(complete.iter().all(|number| runs.contains_key(number)), "none is complete that was not run");
    assert!(complete.len() + 2 >= TRIALS, "{} complete", complete.len());
    assert!(trials.iter().filter(|t| t.state == TrialState::Complete).all(|t| t.intermediate.len() == 3));
    let theirs = trials.iter().filter(|t| t.user_attrs.contains_key("python")).count();
    println!(
        "{} trials in {:.1} s: {} complete, {theirs} of all by Python; {} failed and {} left running with their killed workers",
        trials.len(),
        time.as_secs_f64(),
        complete.len(),
        failed.len(),
        left.len()
    );
    assert!(python.is_none() || theirs > 20);
}
