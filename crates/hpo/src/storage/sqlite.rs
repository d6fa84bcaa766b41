//! Studies in an SQLite database of Optuna's schema: its `RDBStorage` with a `sqlite:///FILE` address.
//!
//! The schema is that of Optuna 3.2 to 4.8 (version 12, revision v3.2.0.a).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::NaiveDateTime;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::Value;

use super::table::Table;
use super::{Change, Snapshot, Storage, StudyRecord, json, now};
use crate::error::{Error, Result};
use crate::space::Distribution;
use crate::study::Direction;
use crate::trial::{FrozenTrial, Param, TrialState};

const REVISION: &str = "v3.2.0.a";

/// Time stamps as SQLAlchemy writes them.
const STAMP: &str = "%Y-%m-%d %H:%M:%S%.6f";

/// The tables that Optuna 4.8 creates.
const SCHEMA: &str = include_str!("schema.sql");

/// An SQLite database.
///
/// ```
/// use firstsight_hpo::{Random, Sqlite, Study, Suggest};
/// let dir = tempfile::tempdir()?;
/// let file = dir.path().join("studies.db");
/// let study = Study::builder("x").sampler(Random::new(1)).storage(Sqlite::open(&file)?).create()?;
/// study.optimize(3, |trial| Ok(trial.float("x", 0.0..=1.0)?))?;
/// // In Python: optuna.load_study(study_name="x", storage="sqlite:///studies.db")
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    db: Connection,
    /// The trials read of each study. Finished trials never change, so they are read once.
    studies: HashMap<i64, Table>,
    /// SQLite's count of other connections' changes when each study was last read.
    versions: HashMap<i64, i64>,
}

impl Sqlite {
    /// The database in that file, which is created if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the file is no database, or one of another schema; [`Error::Sqlite`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let fail = |doing| sqlite(&path, doing);
        let db = Connection::open(&path).map_err(fail("opening the database"))?;
        db.busy_timeout(Duration::from_secs(60)).map_err(fail("setting the time to wait for a lock"))?;
        let has_table = |name: &str| -> Result<bool> {
            db.query_row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [name], |_| Ok(()))
                .optional()
                .map(|found| found.is_some())
                .map_err(|error| match error.sqlite_error_code() {
                    Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                        Error::Corrupt {
                            path: path.display().to_string(),
                            expected: "an SQLite database".into(),
                            found: error.to_string(),
                        }
                    }
                    _ => fail("reading the schema")(error),
                })
        };
        let n_tables: i64 = if has_table("alembic_version")? {
            1
        } else {
            db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
                .map_err(fail("reading the schema"))?
        };
        if n_tables == 0 {
            // A log ahead of the database makes a change a single short write; Optuna reads both kinds.
            db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
                .map_err(fail("setting the journal mode"))?;
            // Another process may be creating the tables at the same moment.
            db.execute_batch(&format!("BEGIN IMMEDIATE;\n{SCHEMA}\nCOMMIT;"))
                .map_err(fail("creating the tables"))?;
        }
        let found: Option<String> = db
            .query_row("SELECT version_num FROM alembic_version", [], |row| row.get(0))
            .optional()
            .unwrap_or(None);
        if found.as_deref() != Some(REVISION) {
            return Err(Error::Corrupt {
                path: path.display().to_string(),
                expected: format!("a database of Optuna's schema {REVISION}"),
                found: found.map_or("a database of something else".into(), |v| format!("schema {v}")),
            });
        }
        db.execute_batch("PRAGMA synchronous = NORMAL").map_err(fail("setting the synchronisation"))?;
        Ok(Self { path, state: Mutex::new(State { db, studies: HashMap::new(), versions: HashMap::new() }) })
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| Error::Poisoned { what: "the database" })
    }

    fn err(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> Error + '_ {
        sqlite(&self.path, doing)
    }

    fn corrupt(&self, expected: &str, found: &str) -> Error {
        Error::Corrupt {
            path: self.path.display().to_string(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// Does something in one transaction, holding the database from the start.
    fn transaction<T>(&self, db: &mut Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(self.err("locking"))?;
        let result = work(&tx)?;
        tx.commit().map_err(self.err("committing"))?;
        Ok(result)
    }

    /// The state of a trial, its number and its study.
    fn standing(&self, db: &Connection, trial: i64) -> Result<(TrialState, usize, i64)> {
        let found: Option<(String, i64, i64)> = db
            .prepare_cached("SELECT state, number, study_id FROM trials WHERE trial_id = ?")
            .and_then(|mut s| s.query_row([trial], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).optional())
            .map_err(self.err("reading a trial"))?;
        let (state, number, study) = found.ok_or_else(|| Error::NoTrial {
            study: self.path.display().to_string(),
            number: trial as usize,
            count: 0,
        })?;
        Ok((self.state_of(&state)?, number as usize, study))
    }

    fn state_of(&self, name: &str) -> Result<TrialState> {
        STATES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(state, _)| *state)
            .ok_or_else(|| self.corrupt("a trial's state", name))
    }

    fn change(&self, db: &Connection, trial: i64, change: &Change<'_>) -> Result<()> {
        let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| -> Result<()> {
            let done = db.prepare_cached(sql).and_then(|mut s| s.execute(values));
            done.map(drop).map_err(self.err("changing a trial"))
        };
        match *change {
            Change::Param { name, internal, distribution } => run(
                "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) \
                 VALUES (?, ?, ?, ?)",
                params![trial, name, internal, distribution.to_json()],
            ),
            Change::Report { step, value } => {
                let (stored, kind) = stored(value);
                run(
                    "INSERT INTO trial_intermediate_values \
                     (trial_id, step, intermediate_value, intermediate_value_type) VALUES (?, ?, ?, ?)",
                    params![trial, step as i64, stored, kind],
                )
            }
            Change::UserAttr { key, value } => run(
                "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (trial_id, key) DO UPDATE SET value_json = ?3",
                params![trial, key, value.to_string()],
            ),
            Change::SystemAttr { key, value } => run(
                "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (trial_id, key) DO UPDATE SET value_json = ?3",
                params![trial, key, value.to_string()],
            ),
            Change::State { state, value, at } => {
                if let Some(value) = value {
                    let (stored, kind) = stored(value);
                    run(
                        "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, 0, ?, ?)",
                        params![trial, stored, kind],
                    )?;
                }
                let sql = match state {
                    TrialState::Running => {
                        "UPDATE trials SET state = ?, datetime_start = ? WHERE trial_id = ?"
                    }
                    _ => "UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ?",
                };
                run(sql, params![state_name(state), at.format(STAMP).to_string(), trial])
            }
        }
    }

    /// Reads the trials that are new or were not finished when last read, if anybody else has written.
    fn read<'s>(&self, state: &'s mut State, study: i64) -> Result<&'s mut Table> {
        let table = state.studies.entry(study).or_default();
        let version: i64 = state
            .db
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut s| s.query_row([], |row| row.get(0)))
            .map_err(self.err("reading the version"))?;
        if state.versions.insert(study, version) == Some(version) {
            return Ok(table);
        }
        let open: Vec<i64> = table.iter().filter(|t| !t.state.is_finished()).map(|t| t.id).collect();
        let last = table.iter().last().map_or(-1, |t| t.id);
        for id in open {
            let old = table.iter().find(|t| t.id == id).cloned();
            let new = self.read_trials(&state.db, study, "= ?2", id)?;
            for trial in new {
                if old.as_deref() != Some(&trial) {
                    table.put(trial);
                }
            }
        }
        for trial in self.read_trials(&state.db, study, "> ?2", last)? {
            table.put(trial);
        }
        Ok(table)
    }

    fn read_trials(&self, db: &Connection, study: i64, which: &str, id: i64) -> Result<Vec<FrozenTrial>> {
        let fail = || self.err("reading trials");
        let sql = format!(
            "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials \
             WHERE study_id = ?1 AND trial_id {which} ORDER BY trial_id"
        );
        let mut statement = db.prepare_cached(&sql).map_err(fail())?;
        let rows = statement
            .query_map(params![study, id], |r| {
                let head: (i64, i64, String) = (r.get(0)?, r.get(1)?, r.get(2)?);
                Ok((head, r.get::<_, Option<String>>(3)?, r.get::<_, Option<String>>(4)?))
            })
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(fail())?;
        rows.into_iter()
            .map(|((id, number, state), started, completed)| {
                let mut trial = FrozenTrial::new(id, number as usize, self.state_of(&state)?);
                let time = |text: Option<String>| {
                    text.and_then(|t| NaiveDateTime::parse_from_str(&t, "%Y-%m-%d %H:%M:%S%.f").ok())
                };
                (trial.started, trial.completed) = (time(started), time(completed));
                self.fill(db, &mut trial)?;
                Ok(trial)
            })
            .collect()
    }

    /// Reads what belongs to a trial from the other tables.
    fn fill(&self, db: &Connection, trial: &mut FrozenTrial) -> Result<()> {
        let sql = "SELECT param_name, param_value, distribution_json FROM trial_params WHERE trial_id = ? ORDER BY param_id";
        for (name, internal, text) in self.rows::<String, f64, String>(db, sql, trial.id)? {
            let distribution: Distribution = serde_json::from_str(&text)
                .map_err(|error| self.corrupt("a distribution in JSON", &format!("`{text}` ({error})")))?;
            trial.params.push(Param { name: name.into(), distribution, internal });
        }
        let sql =
            "SELECT objective, value, value_type FROM trial_values WHERE trial_id = ? AND objective = 0";
        for (_, value, kind) in self.rows::<i64, Option<f64>, String>(db, sql, trial.id)? {
            trial.value = Some(self.restored(value, &kind)?);
        }
        let sql = "SELECT step, intermediate_value, intermediate_value_type FROM trial_intermediate_values WHERE trial_id = ?";
        for (step, value, kind) in self.rows::<i64, Option<f64>, String>(db, sql, trial.id)? {
            trial.intermediate.insert(step as u64, self.restored(value, &kind)?);
        }
        let sql = "SELECT key, value_json, 0 FROM trial_user_attributes WHERE trial_id = ?";
        for (key, text, _) in self.rows::<String, String, i64>(db, sql, trial.id)? {
            trial.user_attrs.insert(key, self.value(&text)?);
        }
        let sql = "SELECT key, value_json, 0 FROM trial_system_attributes WHERE trial_id = ?";
        for (key, text, _) in self.rows::<String, String, i64>(db, sql, trial.id)? {
            trial.system_attrs.insert(key, self.value(&text)?);
        }
        Ok(())
    }

    fn rows<A, B, C>(&self, db: &Connection, sql: &str, id: i64) -> Result<Vec<(A, B, C)>>
    where
        A: rusqlite::types::FromSql,
        B: rusqlite::types::FromSql,
        C: rusqlite::types::FromSql,
    {
        let mut statement = db.prepare_cached(sql).map_err(self.err("reading"))?;
        statement
            .query_map([id], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
            .and_then(Iterator::collect)
            .map_err(self.err("reading"))
    }

    fn value(&self, text: &str) -> Result<Value> {
        json::parse(text)
            .map_err(|error| self.corrupt("an attribute in JSON", &format!("`{text}` ({error})")))
    }

    fn restored(&self, value: Option<f64>, kind: &str) -> Result<f64> {
        match (kind, value) {
            ("FINITE", Some(value)) => Ok(value),
            ("INF_POS", None) => Ok(f64::INFINITY),
            ("INF_NEG", None) => Ok(f64::NEG_INFINITY),
            ("NAN", None) => Ok(f64::NAN),
            _ => Err(self.corrupt("a value and its type", &format!("{value:?}, {kind}"))),
        }
    }
}

fn sqlite<'p>(path: &'p Path, doing: &'static str) -> impl Fn(rusqlite::Error) -> Error + 'p {
    move |source| Error::Sqlite { path: path.into(), doing, source }
}

const STATES: [(TrialState, &str); 5] = [
    (TrialState::Running, "RUNNING"),
    (TrialState::Complete, "COMPLETE"),
    (TrialState::Pruned, "PRUNED"),
    (TrialState::Failed, "FAIL"),
    (TrialState::Waiting, "WAITING"),
];

fn state_name(state: TrialState) -> &'static str {
    STATES[state as usize].1
}

/// A float as Optuna's columns take it: the number, if it is one, and its kind.
fn stored(value: f64) -> (Option<f64>, &'static str) {
    if value.is_nan() {
        (None, "NAN")
    } else if value.is_finite() {
        (Some(value), "FINITE")
    } else if value > 0.0 {
        (None, "INF_POS")
    } else {
        (None, "INF_NEG")
    }
}

impl Storage for Sqlite {
    fn create_study(&self, name: &str, direction: Direction) -> Result<StudyRecord> {
        let mut state = self.lock()?;
        self.transaction(&mut state.db, |db| {
            let taken = db.query_row("SELECT 1 FROM studies WHERE study_name = ?", [name], |_| Ok(()));
            if taken.optional().map_err(self.err("reading studies"))?.is_some() {
                return Err(Error::StudyExists { name: name.into() });
            }
            let fail = || self.err("creating a study");
            db.execute("INSERT INTO studies (study_name) VALUES (?)", [name]).map_err(fail())?;
            let id = db.last_insert_rowid();
            let word = if direction == Direction::Maximize { "MAXIMIZE" } else { "MINIMIZE" };
            let sql = "INSERT INTO study_directions (direction, study_id, objective) VALUES (?, ?, 0)";
            db.execute(sql, params![word, id]).map_err(fail())?;
            Ok(StudyRecord { id, name: name.into(), direction, user_attrs: Default::default() })
        })
    }

    fn studies(&self) -> Result<Vec<StudyRecord>> {
        let state = self.lock()?;
        let sql = "SELECT s.study_id, s.study_name, d.direction FROM studies s JOIN study_directions d \
                   ON d.study_id = s.study_id AND d.objective = 0 WHERE s.study_id > ? ORDER BY s.study_id";
        self.rows::<i64, String, String>(&state.db, sql, -1)?
            .into_iter()
            .map(|(id, name, word)| {
                let direction = if word == "MAXIMIZE" { Direction::Maximize } else { Direction::Minimize };
                let sql = "SELECT key, value_json, 0 FROM study_user_attributes WHERE study_id = ?";
                let attrs = self.rows::<String, String, i64>(&state.db, sql, id)?;
                let user_attrs = attrs
                    .into_iter()
                    .map(|(k, text, _)| Ok((k, self.value(&text)?)))
                    .collect::<Result<_>>()?;
                Ok(StudyRecord { id, name, direction, user_attrs })
            })
            .collect()
    }

    fn set_study_attr(&self, study: i64, key: &str, value: &Value) -> Result<()> {
        let sql = "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (study_id, key) DO UPDATE SET value_json = ?3";
        let done = self.lock()?.db.execute(sql, params![study, key, value.to_string()]);
        done.map(drop).map_err(self.err("changing a study"))
    }

    fn create_trial(&self, study: i64, template: &FrozenTrial) -> Result<FrozenTrial> {
        let mut state = self.lock()?;
        let state = &mut *state;
        let fail = || self.err("creating a trial");
        let created = self.transaction(&mut state.db, |db| {
            let started =
                (template.state != TrialState::Waiting).then(|| template.started.unwrap_or_else(now));
            let completed = template.completed.or_else(|| template.state.is_finished().then(now));
            let stamp = |time: Option<NaiveDateTime>| time.map(|t| t.format(STAMP).to_string());
            db.prepare_cached(
                "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) \
                 VALUES ((SELECT count(*) FROM trials WHERE study_id = ?1), ?1, ?2, ?3, ?4)",
            )
            .and_then(|mut s| {
                s.execute(params![study, state_name(template.state), stamp(started), stamp(completed)])
            })
            .map_err(fail())?;
            let id = db.last_insert_rowid();
            for p in &template.params {
                let (name, internal, distribution) = (&*p.name, p.internal, &p.distribution);
                self.change(db, id, &Change::Param { name, internal, distribution })?;
            }
            for (&step, &value) in &template.intermediate {
                self.change(db, id, &Change::Report { step, value })?;
            }
            for (key, value) in &template.user_attrs {
                self.change(db, id, &Change::UserAttr { key, value })?;
            }
            for (key, value) in &template.system_attrs {
                self.change(db, id, &Change::SystemAttr { key, value })?;
            }
            if let Some(value) = template.value {
                let (stored, kind) = stored(value);
                let sql =
                    "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, 0, ?, ?)";
                db.execute(sql, params![id, stored, kind]).map_err(fail())?;
            }
            let (_, number, _) = self.standing(db, id)?;
            Ok(FrozenTrial { id, number, started, completed, ..template.clone() })
        })?;
        match state.studies.get_mut(&study) {
            Some(table) if table.len() == created.number => table.put(created.clone()),
            // Others have added trials too; the next look reads them all.
            _ => drop(state.versions.remove(&study)),
        }
        Ok(created)
    }

    fn update(&self, trial: i64, change: &Change<'_>) -> Result<()> {
        let mut state = self.lock()?;
        let state = &mut *state;
        let (_, number, study) = self.standing(&state.db, trial)?;
        if let (Change::Param { .. }, Some(table)) = (change, state.studies.get(&study)) {
            table.check(number, change)?;
        }
        self.transaction(&mut state.db, |db| {
            let (standing, number, _) = self.standing(db, trial)?;
            if standing.is_finished() {
                return Err(Error::Finished { number, state: standing });
            }
            self.change(db, trial, change)
        })?;
        // This object's own changes need not be read back.
        if let Some(table) = state.studies.get_mut(&study) {
            table.apply(number, change);
        }
        Ok(())
    }

    fn claim(&self, trial: i64) -> Result<bool> {
        let mut state = self.lock()?;
        let state = &mut *state;
        let sql = "UPDATE trials SET state = 'RUNNING', datetime_start = ? WHERE trial_id = ? AND state = 'WAITING'";
        let at = now();
        let stamp = at.format(STAMP).to_string();
        let claimed = self.transaction(&mut state.db, |db| {
            db.execute(sql, params![stamp, trial]).map(|n| n == 1).map_err(self.err("claiming a trial"))
        })?;
        let (_, number, study) = self.standing(&state.db, trial)?;
        match state.studies.get_mut(&study) {
            Some(table) if claimed => {
                table.apply(number, &Change::State { state: TrialState::Running, value: None, at });
            }
            _ => drop(state.versions.remove(&study)),
        }
        Ok(claimed)
    }

    fn sync(&self, study: i64, snapshot: &mut Snapshot) -> Result<()> {
        let mut state = self.lock()?;
        self.read(&mut state, study)?.sync(snapshot);
        Ok(())
    }

    fn heartbeat(&self, trial: i64) -> Result<()> {
        let mut state = self.lock()?;
        let sql = "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (?, CURRENT_TIMESTAMP) \
                   ON CONFLICT (trial_id) DO UPDATE SET heartbeat = CURRENT_TIMESTAMP";
        self.transaction(&mut state.db, |db| {
            db.execute(sql, [trial]).map(drop).map_err(self.err("recording a heartbeat"))
        })
    }

    fn stale_trials(&self, study: i64, silence: Duration) -> Result<Vec<Arc<FrozenTrial>>> {
        let mut snapshot = Snapshot::default();
        self.sync(study, &mut snapshot)?;
        let state = self.lock()?;
        // Heartbeats are in universal time, starts in local time.
        let sql = "SELECT t.trial_id, coalesce((julianday('now') - julianday(h.heartbeat)) * 86400.0, \
                   (julianday('now', 'localtime') - julianday(t.datetime_start)) * 86400.0, 0.0), 0 \
                   FROM trials t LEFT JOIN trial_heartbeats h ON h.trial_id = t.trial_id \
                   WHERE t.state = 'RUNNING' AND t.study_id = ?";
        let ages = self.rows::<i64, f64, i64>(&state.db, sql, study)?;
        let stale = |id| ages.iter().any(|&(trial, age, _)| trial == id && age > silence.as_secs_f64());
        Ok(snapshot.trials().iter().filter(|t| stale(t.id)).cloned().collect())
    }
}
