//! Studies in tables of Optuna's schema: its `RDBStorage`. The statements are here; a [`Database`] runs them.
//!
//! The schema is that of Optuna 3.2 to 5.0 (version 12, revision v3.2.0.a).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::NaiveDateTime;
use serde_json::Value;

use super::table::Table;
use super::{Change, HEARTBEAT, Snapshot, StudyRecord, WORKER, json, now};
use crate::error::{Error, Result};
use crate::space::Distribution;
use crate::study::Direction;
use crate::trial::{FrozenTrial, Param, TrialState};

/// The schema that this code reads and writes.
pub(super) const REVISION: &str = "v3.2.0.a";

/// The value of a column or of a statement's parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Float(f64),
    Text(String),
    Time(NaiveDateTime),
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<NaiveDateTime> for Cell {
    fn from(value: NaiveDateTime) -> Self {
        Self::Time(value)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The parameters of a statement.
macro_rules! cells {
    ($($value:expr),*) => { &[$(Cell::from($value)),*] };
}

pub(super) type Row = Vec<Cell>;

/// A connection to a database, and what its SQL does not share with others'.
pub(super) trait Database {
    /// The names of the schema's types.
    const TYPES: [(&'static str, &'static str); 6];
    /// Locks the selected rows until the transaction ends; empty where a transaction locks everything.
    const FOR_UPDATE: &'static str;
    /// The seconds since the heartbeat `h.heartbeat`.
    const AGE: &'static str;

    /// Runs a statement, and hands each row of its result on. The parameters are `$1`, `$2`, …, each first used in this
    /// order.
    fn run(
        &mut self,
        doing: &'static str,
        sql: &str,
        values: &[Cell],
        each: &mut dyn FnMut(Row) -> Result<()>,
    ) -> Result<()>;

    /// Begins a transaction that may write.
    fn begin(&mut self) -> Result<()>;

    /// Ends the transaction.
    fn commit(&mut self) -> Result<()>;

    /// Undoes the transaction, if there is one.
    fn roll_back(&mut self);

    /// A number that differs once another connection has written, where the database has one.
    fn version(&mut self) -> Result<Option<i64>> {
        Ok(None)
    }

    /// After an error: whether work that ended with it may be begun anew, with a new connection where the old one is lost.
    fn recover(&mut self, error: &Error, attempt: usize) -> bool {
        let _ = (error, attempt);
        false
    }

    /// The rows of a result.
    fn rows(&mut self, doing: &'static str, sql: &str, values: &[Cell]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.run(doing, sql, values, &mut |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The statements that create the tables.
    fn schema() -> String {
        let text = include_str!("schema.sql").to_owned();
        Self::TYPES.iter().fold(text, |text, (name, here)| text.replace(name, here))
    }
}

/// A storage over a database.
#[derive(Debug)]
pub(super) struct Rdb<D> {
    /// The database's file or address, for messages.
    place: String,
    state: Mutex<State<D>>,
}

#[derive(Debug)]
struct State<D> {
    db: D,
    /// The trials read of each study. Finished trials never change, so they are read once.
    studies: HashMap<i64, Table>,
    /// The database's version when each study was last read.
    versions: HashMap<i64, i64>,
}

impl<D: Database> Rdb<D> {
    pub(super) fn new(place: String, db: D) -> Self {
        Self { place, state: Mutex::new(State { db, studies: HashMap::new(), versions: HashMap::new() }) }
    }

    fn lock(&self) -> Result<MutexGuard<'_, State<D>>> {
        self.state.lock().map_err(|_| Error::Poisoned { what: "the database" })
    }

    /// Does something that changes nothing, or may be done twice.
    fn again<T>(&self, db: &mut D, mut work: impl FnMut(&mut D) -> Result<T>) -> Result<T> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match work(db) {
                Err(error) if db.recover(&error, attempt) => {}
                done => return done,
            }
        }
    }

    /// Does something in one transaction. Where the connection is lost while the transaction ends, `landed` says whether the
    /// work is stored.
    fn transaction<T>(
        &self,
        db: &mut D,
        mut work: impl FnMut(&mut D) -> Result<T>,
        landed: impl Fn(&mut D, &T) -> Result<bool>,
    ) -> Result<T> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let worked = db.begin().and_then(|()| work(db));
            let (error, value) = match worked {
                Ok(value) => match db.commit() {
                    Ok(()) => return Ok(value),
                    Err(error) => (error, Some(value)),
                },
                Err(error) => (error, None),
            };
            db.roll_back();
            if !db.recover(&error, attempt) {
                return Err(error);
            }
            if let Some(value) = value
                && landed(db, &value)?
            {
                return Ok(value);
            }
        }
    }

    /// The state of a trial, its number, its study, and the time of its last change of state.
    fn standing(
        &self,
        db: &mut D,
        trial: i64,
        lock: &str,
    ) -> Result<(TrialState, usize, i64, Option<NaiveDateTime>)> {
        let sql = format!(
            "SELECT CAST(state AS VARCHAR(512)), number, study_id, coalesce(datetime_complete, datetime_start) \
             FROM trials WHERE trial_id = $1{lock}"
        );
        let row = db.rows("reading a trial", &sql, cells![trial])?.pop().ok_or_else(|| Error::NoTrial {
            study: self.place.clone(),
            number: trial as usize,
            count: 0,
        })?;
        Ok((self.state_of(&row[0])?, self.int(&row[1])? as usize, self.int(&row[2])?, self.time(&row[3])?))
    }

    fn change(&self, db: &mut D, trial: i64, change: &Change<'_>) -> Result<()> {
        let mut run = |sql: &str, values: &[Cell]| db.rows("changing a trial", sql, values).map(drop);
        // Every statement may be repeated, since a lost connection leaves open whether it was carried out.
        match *change {
            Change::Param { name, internal, distribution } => run(
                "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) \
                 VALUES ($1, $2, $3, $4) ON CONFLICT (trial_id, param_name) \
                 DO UPDATE SET param_value = $3, distribution_json = $4",
                cells![trial, name, internal, distribution.to_json()],
            ),
            Change::Report { step, value } => {
                let step = i64::try_from(step).map_err(|_| Error::InvalidTrial {
                    expected: "steps below 2^63".into(),
                    found: step.to_string(),
                })?;
                let (stored, kind) = stored(value);
                run(
                    "INSERT INTO trial_intermediate_values \
                     (trial_id, step, intermediate_value, intermediate_value_type) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (trial_id, step) DO UPDATE SET intermediate_value = $3, intermediate_value_type = $4",
                    cells![trial, step, stored, kind],
                )
            }
            Change::UserAttr { key, value } => run(
                "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES ($1, $2, $3) \
                 ON CONFLICT (trial_id, key) DO UPDATE SET value_json = $3",
                cells![trial, key, value.to_string()],
            ),
            Change::SystemAttr { key: HEARTBEAT, .. } => run(
                "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES ($1, CURRENT_TIMESTAMP) \
                 ON CONFLICT (trial_id) DO UPDATE SET heartbeat = CURRENT_TIMESTAMP",
                cells![trial],
            ),
            Change::SystemAttr { key, value } => run(
                "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES ($1, $2, $3) \
                 ON CONFLICT (trial_id, key) DO UPDATE SET value_json = $3",
                cells![trial, key, json::system_attr(value)],
            ),
            Change::State { state, values, at } => {
                for (objective, &value) in values.iter().enumerate() {
                    let (stored, kind) = stored(value);
                    run(
                        "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES ($1, $2, $3, $4) \
                         ON CONFLICT (trial_id, objective) DO UPDATE SET value = $3, value_type = $4",
                        cells![trial, objective as i64, stored, kind],
                    )?;
                }
                let sql = match state {
                    TrialState::Running => {
                        "UPDATE trials SET state = $1, datetime_start = $2 WHERE trial_id = $3"
                    }
                    _ => "UPDATE trials SET state = $1, datetime_complete = $2 WHERE trial_id = $3",
                };
                run(sql, cells![state_name(state), at, trial])
            }
        }
    }

    /// Reads the trials that are new or were not finished when last read, if anybody else has written.
    fn read<'s>(&self, state: &'s mut State<D>, study: i64) -> Result<&'s mut Table> {
        let State { db, studies, versions } = state;
        let table = studies.entry(study).or_default();
        let version = db.version()?;
        if version.is_some() && versions.get(&study) == version.as_ref() {
            return Ok(table);
        }
        let last = table.iter().last().map_or(-1, |t| t.id);
        let mut open = String::from("-1");
        for trial in table.iter().filter(|t| !t.state.is_finished()) {
            let _ = write!(open, ",{}", trial.id);
        }
        for trial in self.again(db, |db| self.fetch(db, study, last, &open))? {
            match table.get(trial.number) {
                Some(old) if **old == trial => {}
                None if trial.number != table.len() => {
                    let expected = format!("trial {} of study {study}", table.len());
                    return Err(self.corrupt(&expected, &format!("trial {}", trial.number)));
                }
                _ => table.put(trial),
            }
        }
        versions.extend(version.map(|version| (study, version)));
        Ok(table)
    }

    /// The trials of a study whose keys are among `open` or greater than `last`. One statement reads them, so they are as they
    /// were at one moment.
    fn fetch(&self, db: &mut D, study: i64, last: i64, open: &str) -> Result<Vec<FrozenTrial>> {
        let sql = format!(
            "WITH wanted AS (SELECT * FROM trials WHERE study_id = $1 AND (trial_id > $2 OR trial_id IN ({open}))) \
             SELECT 0 AS kind, trial_id, number AS place, CAST(NULL AS FLOAT), CAST(state AS VARCHAR(512)), \
             CAST(NULL AS TEXT), datetime_start, datetime_complete FROM wanted \
             UNION ALL SELECT 1, p.trial_id, p.param_id, p.param_value, p.param_name, p.distribution_json, NULL, NULL \
             FROM trial_params p JOIN wanted w ON w.trial_id = p.trial_id \
             UNION ALL SELECT 2, v.trial_id, v.objective, v.value, CAST(v.value_type AS VARCHAR(512)), NULL, NULL, NULL \
             FROM trial_values v JOIN wanted w ON w.trial_id = v.trial_id \
             UNION ALL SELECT 3, i.trial_id, i.step, i.intermediate_value, \
             CAST(i.intermediate_value_type AS VARCHAR(512)), NULL, NULL, NULL \
             FROM trial_intermediate_values i JOIN wanted w ON w.trial_id = i.trial_id \
             UNION ALL SELECT 4, u.trial_id, 0, NULL, u.key, u.value_json, NULL, NULL \
             FROM trial_user_attributes u JOIN wanted w ON w.trial_id = u.trial_id \
             UNION ALL SELECT 5, s.trial_id, 0, NULL, s.key, s.value_json, NULL, NULL \
             FROM trial_system_attributes s JOIN wanted w ON w.trial_id = s.trial_id \
             UNION ALL SELECT 6, 0, count(*), NULL, NULL, NULL, NULL, NULL \
             FROM study_directions WHERE study_id = $1 ORDER BY 1, 2, 3"
        );
        let mut objectives = 1;
        let mut trials: Vec<FrozenTrial> = Vec::new();
        let mut places = HashMap::new();
        db.run("reading trials", &sql, cells![study, last], &mut |row| {
            let [kind, id, place, number, word, text, started, completed] = &row[..] else {
                return Err(self.corrupt("eight columns", &row.len().to_string()));
            };
            let (kind, id, place) = (self.int(kind)?, self.int(id)?, self.int(place)?);
            if kind == 6 {
                objectives = place as usize;
                return Ok(());
            }
            if place < 0 {
                return Err(self.corrupt("a number of at least 0", &place.to_string()));
            }
            if kind == 0 {
                places.insert(id, trials.len());
                let mut trial = FrozenTrial::new(id, place as usize, self.state_of(word)?);
                (trial.started, trial.completed) = (self.time(started)?, self.time(completed)?);
                trials.push(trial);
                return Ok(());
            }
            let Some(&index) = places.get(&id) else { return Ok(()) };
            let trial = &mut trials[index];
            match kind {
                1 => {
                    let text = self.text(text)?;
                    let distribution: Distribution = serde_json::from_str(text).map_err(|error| {
                        self.corrupt("a distribution in JSON", &format!("`{text}` ({error})"))
                    })?;
                    let name = self.text(word)?.into();
                    trial.params.push(Param { name, distribution, internal: self.float(number)? });
                }
                2 => trial.values.push(self.restored(number, word)?),
                3 => drop(trial.intermediate.insert(place as u64, self.restored(number, word)?)),
                4 => drop(trial.user_attrs.insert(self.text(word)?.into(), self.value(text)?)),
                _ => drop(trial.system_attrs.insert(self.text(word)?.into(), self.value(text)?)),
            }
            Ok(())
        })?;
        for trial in &trials {
            if let Some((expected, found)) = trial.fault(objectives) {
                return Err(self.corrupt(&format!("in trial {} {expected}", trial.number), &found));
            }
        }
        Ok(trials)
    }

    fn corrupt(&self, expected: &str, found: &str) -> Error {
        Error::Corrupt { path: self.place.clone(), expected: expected.into(), found: found.into() }
    }

    fn int(&self, cell: &Cell) -> Result<i64> {
        match cell {
            Cell::Int(value) => Ok(*value),
            other => Err(self.corrupt("an integer", &format!("{other:?}"))),
        }
    }

    fn float(&self, cell: &Cell) -> Result<f64> {
        match cell {
            Cell::Float(value) => Ok(*value),
            // SQLite keeps what was written, and Python may have written an integer.
            Cell::Int(value) => Ok(*value as f64),
            other => Err(self.corrupt("a number", &format!("{other:?}"))),
        }
    }

    fn text<'c>(&self, cell: &'c Cell) -> Result<&'c str> {
        match cell {
            Cell::Text(text) => Ok(text),
            other => Err(self.corrupt("text", &format!("{other:?}"))),
        }
    }

    fn time(&self, cell: &Cell) -> Result<Option<NaiveDateTime>> {
        match cell {
            Cell::Time(time) => Ok(Some(*time)),
            Cell::Text(text) => Ok(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()),
            Cell::Null => Ok(None),
            other => Err(self.corrupt("a time", &format!("{other:?}"))),
        }
    }

    fn value(&self, cell: &Cell) -> Result<Value> {
        let text = self.text(cell)?;
        json::parse(text)
            .map_err(|error| self.corrupt("an attribute in JSON", &format!("`{text}` ({error})")))
    }

    fn state_of(&self, cell: &Cell) -> Result<TrialState> {
        let name = self.text(cell)?;
        let known = STATES.iter().find(|(_, known)| *known == name);
        known.map(|(state, _)| *state).ok_or_else(|| self.corrupt("a trial's state", name))
    }

    fn restored(&self, value: &Cell, kind: &Cell) -> Result<f64> {
        match (self.text(kind)?, value) {
            ("FINITE", Cell::Float(_) | Cell::Int(_)) => self.float(value),
            ("INF_POS", Cell::Null) => Ok(f64::INFINITY),
            ("INF_NEG", Cell::Null) => Ok(f64::NEG_INFINITY),
            ("NAN", Cell::Null) => Ok(f64::NAN),
            (kind, _) => Err(self.corrupt("a value and its type", &format!("{value:?}, {kind}"))),
        }
    }

    pub(super) fn create_study(&self, name: &str, directions: &[Direction]) -> Result<StudyRecord> {
        let id = self.transaction(
            &mut self.lock()?.db,
            |db| {
                // Of two who create one study at the same moment, the second waits here for the first.
                let sql =
                    "INSERT INTO studies (study_name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING study_id";
                let created = db.rows("creating a study", sql, cells![name])?;
                let id = match created.first() {
                    Some(row) => self.int(&row[0])?,
                    None => return Err(Error::StudyExists { name: name.into() }),
                };
                for (objective, direction) in directions.iter().enumerate() {
                    let word = if *direction == Direction::Maximize { "MAXIMIZE" } else { "MINIMIZE" };
                    let sql =
                        "INSERT INTO study_directions (direction, study_id, objective) VALUES ($1, $2, $3)";
                    db.rows("creating a study", sql, cells![word, id, objective as i64])?;
                }
                Ok(id)
            },
            |db, &id| {
                let sql = "SELECT 1 FROM studies WHERE study_id = $1 AND study_name = $2";
                Ok(!db.rows("reading studies", sql, cells![id, name])?.is_empty())
            },
        )?;
        let (name, directions) = (name.into(), directions.to_vec());
        Ok(StudyRecord { id, name, directions, user_attrs: Default::default() })
    }

    pub(super) fn studies(&self) -> Result<Vec<StudyRecord>> {
        let mut state = self.lock()?;
        let (studies, attrs) = self.again(&mut state.db, |db| {
            let sql = "SELECT s.study_id, s.study_name, CAST(d.direction AS VARCHAR(512)) FROM studies s JOIN study_directions d \
                       ON d.study_id = s.study_id ORDER BY s.study_id, d.objective";
            let studies = db.rows("reading studies", sql, &[])?;
            let sql = "SELECT study_id, key, value_json FROM study_user_attributes";
            Ok((studies, db.rows("reading studies", sql, &[])?))
        })?;
        let mut records: Vec<StudyRecord> = Vec::with_capacity(studies.len());
        for row in studies {
            let id = self.int(&row[0])?;
            let direction = match self.text(&row[2])? {
                "MAXIMIZE" => Direction::Maximize,
                "MINIMIZE" | "NOT_SET" => Direction::Minimize,
                other => return Err(self.corrupt("a direction", other)),
            };
            if let Some(study) = records.last_mut().filter(|study| study.id == id) {
                study.directions.push(direction);
                continue;
            }
            let mine = attrs.iter().filter(|attr| attr[0] == Cell::Int(id));
            let user_attrs = mine.map(|attr| Ok((self.text(&attr[1])?.to_owned(), self.value(&attr[2])?)));
            let user_attrs = user_attrs.collect::<Result<_>>()?;
            let (name, directions) = (self.text(&row[1])?.into(), vec![direction]);
            records.push(StudyRecord { id, name, directions, user_attrs });
        }
        Ok(records)
    }

    pub(super) fn set_study_attr(&self, study: i64, key: &str, value: &Value) -> Result<()> {
        let sql = "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES ($1, $2, $3) \
                   ON CONFLICT (study_id, key) DO UPDATE SET value_json = $3";
        let values: &[Cell] = cells![study, key, value.to_string()];
        self.again(&mut self.lock()?.db, |db| db.rows("changing a study", sql, values).map(drop))
    }

    pub(super) fn create_trial(
        &self,
        study: i64,
        template: &FrozenTrial,
        limit: usize,
    ) -> Result<FrozenTrial> {
        let mut state = self.lock()?;
        let state = &mut *state;
        let doing = "creating a trial";
        let started = (template.state != TrialState::Waiting).then(|| template.started.unwrap_or_else(now));
        let completed = template.completed.or_else(|| template.state.is_finished().then(now));
        let (id, number) = self.transaction(
            &mut state.db,
            |db| {
                // As in Optuna, the study's lock makes numbering and adding one step.
                let sql = format!("SELECT study_name FROM studies WHERE study_id = $1{}", D::FOR_UPDATE);
                let named = db.rows(doing, &sql, cells![study])?;
                let sql = "SELECT count(*) FROM trials WHERE study_id = $1";
                let counted = db.rows(doing, sql, cells![study])?;
                let number = self.int(&counted[0][0])?;
                if number as usize >= limit {
                    let study = named.first().map_or(Ok(""), |row| self.text(&row[0]))?.to_owned();
                    return Err(Error::Full { study, limit });
                }
                let inserted = db.rows(
                    doing,
                    "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) \
                     VALUES ($1, $2, $3, $4, $5) RETURNING trial_id",
                    cells![number, study, state_name(template.state), started, completed],
                )?;
                let id = self.int(&inserted[0][0])?;
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
                for (objective, &value) in template.values.iter().enumerate() {
                    let (stored, kind) = stored(value);
                    let sql = "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES ($1, $2, $3, $4)";
                    db.rows(doing, sql, cells![id, objective as i64, stored, kind])?;
                }
                Ok((id, number as usize))
            },
            |db, &(id, number)| {
                // A key is given out once.
                let sql = "SELECT 1 FROM trials WHERE trial_id = $1 AND study_id = $2 AND number = $3";
                Ok(!db.rows(doing, sql, cells![id, study, number as i64])?.is_empty())
            },
        )?;
        let mut created = FrozenTrial { id, number, started, completed, ..template.clone() };
        created.system_attrs.remove(HEARTBEAT);
        match state.studies.get_mut(&study) {
            Some(table) if table.len() == number => table.put(created.clone()),
            // Others have added trials too; the next look reads them all.
            _ => drop(state.versions.remove(&study)),
        }
        Ok(created)
    }

    pub(super) fn update(&self, trial: i64, change: &Change<'_>) -> Result<()> {
        let mut state = self.lock()?;
        let State { db, studies, .. } = &mut *state;
        let (number, study) = self.transaction(
            db,
            |db| {
                let (standing, number, study, _) = self.standing(db, trial, D::FOR_UPDATE)?;
                if standing.is_finished() {
                    return Err(Error::Finished { number, state: standing });
                }
                if let (Change::Param { .. }, Some(table)) = (change, studies.get(&study)) {
                    table.check(number, change)?;
                }
                self.change(db, trial, change)?;
                Ok((number, study))
            },
            |db, _| match *change {
                Change::State { state, at, .. } => {
                    let (standing, .., changed) = self.standing(db, trial, "")?;
                    Ok(standing == state && changed == Some(at))
                }
                _ => Ok(false),
            },
        )?;
        // This object's own changes need not be read back.
        let own = !matches!(change, Change::SystemAttr { key: HEARTBEAT, .. });
        if own && let Some(table) = studies.get_mut(&study) {
            table.apply(number, change);
        }
        Ok(())
    }

    pub(super) fn claim(&self, trial: i64) -> Result<bool> {
        let mut state = self.lock()?;
        let State { db, studies, versions } = &mut *state;
        let at = now();
        let (claimed, number, study) = self.transaction(
            db,
            |db| {
                let (standing, number, study, _) = self.standing(db, trial, D::FOR_UPDATE)?;
                if standing == TrialState::Waiting {
                    let change = Change::State { state: TrialState::Running, values: &[], at };
                    self.change(db, trial, &change)?;
                }
                Ok((standing == TrialState::Waiting, number, study))
            },
            |db, &(claimed, ..)| {
                let (standing, .., changed) = self.standing(db, trial, "")?;
                Ok(!claimed || standing == TrialState::Running && changed == Some(at))
            },
        )?;
        match studies.get_mut(&study) {
            Some(table) if claimed => {
                table.apply(number, &Change::State { state: TrialState::Running, values: &[], at });
            }
            _ => drop(versions.remove(&study)),
        }
        Ok(claimed)
    }

    pub(super) fn take_over(&self, trial: i64, silence: Duration, worker: &str) -> Result<bool> {
        let mut state = self.lock()?;
        let State { db, studies, versions } = &mut *state;
        let name = Value::from(worker);
        let attr = Change::SystemAttr { key: WORKER, value: &name };
        let (taken, number, study) = self.transaction(
            db,
            |db| {
                let (standing, number, study, _) = self.standing(db, trial, D::FOR_UPDATE)?;
                let sql = format!("SELECT {} FROM trial_heartbeats h WHERE h.trial_id = $1", D::AGE);
                let ages = db.rows("reading heartbeats", &sql, cells![trial])?;
                let age = ages.first().map(|row| self.float(&row[0])).transpose()?;
                let silent =
                    standing == TrialState::Running && age.is_some_and(|age| age > silence.as_secs_f64());
                if silent {
                    self.change(db, trial, &attr)?;
                    self.change(db, trial, &Change::SystemAttr { key: HEARTBEAT, value: &Value::Null })?;
                }
                Ok((silent, number, study))
            },
            |db, &(taken, ..)| {
                let sql = "SELECT value_json FROM trial_system_attributes WHERE trial_id = $1 AND key = $2";
                let found = db.rows("reading a trial", sql, cells![trial, WORKER])?;
                Ok(!taken || found.first().is_some_and(|row| row[0] == Cell::Text(name.to_string())))
            },
        )?;
        match studies.get_mut(&study) {
            Some(table) if taken => table.apply(number, &attr),
            _ => drop(versions.remove(&study)),
        }
        Ok(taken)
    }

    pub(super) fn sync(&self, study: i64, snapshot: &mut Snapshot) -> Result<()> {
        let mut state = self.lock()?;
        self.read(&mut state, study)?.sync(snapshot);
        Ok(())
    }

    pub(super) fn stale_trials(&self, study: i64, silence: Duration) -> Result<Vec<Arc<FrozenTrial>>> {
        let mut state = self.lock()?;
        let sql = format!(
            "SELECT t.trial_id, {} FROM trials t JOIN trial_heartbeats h ON h.trial_id = t.trial_id \
             WHERE t.state = 'RUNNING' AND t.study_id = $1",
            D::AGE
        );
        let rows = self.again(&mut state.db, |db| db.rows("reading heartbeats", &sql, cells![study]))?;
        let mut quiet = Vec::new();
        for row in rows {
            if self.float(&row[1])? > silence.as_secs_f64() {
                quiet.push(self.int(&row[0])?);
            }
        }
        if quiet.is_empty() {
            return Ok(Vec::new());
        }
        let table = self.read(&mut state, study)?;
        let stale = |t: &&Arc<FrozenTrial>| t.state == TrialState::Running && quiet.contains(&t.id);
        Ok(table.iter().filter(stale).cloned().collect())
    }
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
