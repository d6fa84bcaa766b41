//! Studies in a journal file: Optuna's `JournalStorage` over a `JournalFileBackend`.
//!
//! The file has one JSON object per line, an operation each; a study is the result of the operations in
//! their order. Writers append under a lock, the symbolic link `FILE.lock`, as Optuna's
//! `JournalFileSymlinkLock` does (on Windows a file, as `JournalFileOpenLock` does), so workers of both
//! kinds can share a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use chrono::{DateTime, Local, NaiveDateTime};
use firstsight_files::{Growing, Lock, Locked};
use serde_json::{Map, Value, json};

use super::table::Table;
use super::{
    Change, HEARTBEAT, ISO, Snapshot, Storage, StudyRecord, WAITING, WORKER, WORKERS, heartbeat, is_silent,
    json as python_json, now, worker_name,
};
use crate::error::{Error, Result};
use crate::space::Distribution;
use crate::study::Direction;
use crate::trial::{FrozenTrial, Param, TrialState};

/// A lock is considered dead if its holder has not touched the file for this long, as in Optuna.
const GRACE: Duration = Duration::from_secs(30);

/// A wait is spoken of from here on.
const QUIET: Duration = Duration::from_secs(2);

/// The start of every line, here and in Optuna.
const BEGINNING: &[u8] = b"{\"op_code\":";

/// A journal file.
///
/// ```
/// use firstsight_hpo::{Journal, Random, Study, Suggest};
/// let dir = tempfile::tempdir()?;
/// let file = dir.path().join("study.log");
/// let study = Study::builder("x").sampler(Random::new(1)).storage(Journal::open(&file)?).create()?;
/// study.optimize(3, |trial| Ok(trial.float("x", 0.0..=1.0)?))?;
///
/// // Later, or in another process; or in Python with
/// // optuna.load_study(study_name="x", storage=JournalStorage(JournalFileBackend("study.log"))).
/// let again = Study::builder("x").sampler(Random::new(2)).storage(Journal::open(&file)?).load()?;
/// assert_eq!(again.trials()?.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Names this object's operations in the file.
    worker: String,
    state: Mutex<State>,
}

/// The state after the lines read so far.
#[derive(Debug, Default)]
struct State {
    offset: u64,
    line: usize,
    /// `None` once deleted.
    studies: Vec<Option<(StudyRecord, Table)>>,
    /// Study and number of the trial with each key.
    places: Vec<(usize, usize)>,
    /// The result of the last operation of this object that could be refused.
    verdict: Option<Verdict>,
}

#[derive(Debug)]
enum Verdict {
    StudyCreated(usize),
    TrialCreated(usize),
    Started(bool),
    Refused(Error),
}

impl Journal {
    /// The journal in that file, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the file is no journal; [`Error::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = std::path::absolute(path.as_ref()).map_err(io(path.as_ref(), "resolving the path"))?;
        Growing::open(&path).map_err(io(&path, "opening the journal"))?;
        let worker = worker_name();
        let journal = Self { path, worker, state: Mutex::default() };
        journal.read(&mut *journal.lock()?)?;
        Ok(journal)
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| Error::Poisoned { what: "the journal" })
    }

    /// Appends an operation, and takes in everything up to and including it.
    fn write(&self, state: &mut State, op: i64, fields: &str) -> Result<()> {
        state.verdict = None;
        {
            let _lock = FileLock::acquire(&self.path)?;
            self.append(op, fields)?;
        }
        self.read(state)
    }

    /// Appends operations if what is in the file by then allows it, and says whether it did.
    fn write_if(
        &self,
        state: &mut State,
        operations: &[(i64, String)],
        allowed: impl FnOnce(&mut State) -> Result<bool>,
    ) -> Result<bool> {
        {
            let _lock = FileLock::acquire(&self.path)?;
            self.read(state)?;
            state.verdict = None;
            if !allowed(state)? {
                return Ok(false);
            }
            for (op, fields) in operations {
                self.append(*op, fields)?;
            }
        }
        self.read(state)?;
        Ok(true)
    }

    fn append(&self, op: i64, fields: &str) -> Result<()> {
        let line = format!(r#"{{"op_code":{op},"worker_id":"{}",{fields}}}"#, self.worker);
        let mut growing = Growing::open(&self.path).map_err(io(&self.path, "opening the journal"))?;
        let writing = io(&self.path, "appending to the journal");
        let mut file = growing.file();
        let end = file.seek(SeekFrom::End(0)).map_err(io(&self.path, "appending to the journal"))?;
        // A writer that was killed may have left half a line, which nobody has read; it is cut off.
        let mut last = [b'\n'];
        if end > 0 {
            file.seek(SeekFrom::Start(end - 1))
                .and_then(|_| file.read_exact(&mut last))
                .map_err(io(&self.path, "reading the journal"))?;
        }
        if last != [b'\n'] {
            let mut text = Vec::new();
            file.seek(SeekFrom::Start(0))
                .and_then(|_| file.read_to_end(&mut text))
                .map_err(io(&self.path, "reading the journal"))?;
            let start = text.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
            let torn = &text[start..];
            // Of a file without a whole line, more than its first letters must tell that it is a journal.
            if !begins_operation(torn) || start == 0 && torn.len() < BEGINNING.len() {
                let line = text.iter().filter(|&&b| b == b'\n').count();
                return Err(self.no_operation(line, torn));
            }
            tracing::warn!("{}: the last line is torn, and cut off.", self.path.display());
            growing.truncate(start as u64).map_err(io(&self.path, "cutting off a torn line"))?;
        }
        growing.write_all(format!("{line}\n").as_bytes()).and_then(|()| growing.sync()).map_err(writing)
    }

    /// Takes in the lines that are new.
    fn read(&self, state: &mut State) -> Result<()> {
        let mut file = File::open(&self.path).map_err(io(&self.path, "opening the journal"))?;
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(state.offset))
            .and_then(|_| file.read_to_end(&mut text))
            .map_err(io(&self.path, "reading the journal"))?;
        for line in text.split_inclusive(|&b| b == b'\n') {
            if !line.ends_with(b"\n") {
                if !begins_operation(line) {
                    return Err(self.no_operation(state.line, line));
                }
                break; // Its writer has not finished it yet.
            }
            let known = std::str::from_utf8(line).ok().and_then(|l| python_json::parse(l).ok());
            let taken = known.and_then(|log| state.take_in(&log, &self.worker));
            if taken.is_none() {
                return Err(self.no_operation(state.line, line));
            }
            state.offset += line.len() as u64;
            state.line += 1;
        }
        Ok(())
    }

    /// The error for a line, counted from 0, that is not a journal's.
    fn no_operation(&self, line: usize, text: &[u8]) -> Error {
        let shown: String = String::from_utf8_lossy(text).trim_end().chars().take(80).collect();
        Error::Corrupt {
            path: format!("{}, line {}", self.path.display(), line + 1),
            expected: "an operation of an Optuna journal".into(),
            found: format!("`{shown}`"),
        }
    }

    fn refused(&self, state: &mut State) -> Result<()> {
        match state.verdict.take() {
            Some(Verdict::Refused(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a line without an end may be the beginning of an operation.
fn begins_operation(line: &[u8]) -> bool {
    line.starts_with(BEGINNING) || BEGINNING.starts_with(line)
}

fn io<'p>(path: &'p Path, doing: &'static str) -> impl Fn(std::io::Error) -> Error + 'p {
    move |source| Error::Io { path: path.into(), doing, source }
}

/// The file's lock, held until dropped: Optuna's, and before it one of the operating system, which workers of this crate take first. That
/// one ends with its process. So only its holder waits for Optuna's or breaks it, and what a killed worker of ours left is known as such.
struct FileLock {
    symlink: PathBuf,
    _ours: Lock,
}

impl FileLock {
    fn acquire(path: &Path) -> Result<Self> {
        let beside = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let (symlink, queue) = (beside(".lock"), beside(".lock.queue"));
        let mut waiting = Waiting::new(path);
        let ours = loop {
            match Lock::acquire(&queue).map_err(io(&queue, "locking the journal"))? {
                Locked::Here(lock) => break lock,
                Locked::Elsewhere(by) => waiting.pause(|| match by {
                    Some(by) => format!("process {by} holds it"),
                    None => "another process holds it".to_owned(),
                }),
            }
        };
        if ours.was_left() {
            remove_renamed(path);
        }
        // A living worker of this crate would hold the other lock.
        if ours.is_held() && is_by_this_crate(&symlink) {
            tracing::warn!("{}: its holder was killed; the lock is broken.", symlink.display());
            release(&symlink);
        }
        let (mut seen, mut since) = (None, Instant::now());
        loop {
            match create_lock(path, &symlink) {
                Ok(()) => break,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io(&symlink, "locking the journal")(error)),
            }
            let changed = std::fs::metadata(&symlink).and_then(|m| m.modified()).ok();
            if changed != seen {
                (seen, since) = (changed, Instant::now());
            } else if since.elapsed() > GRACE {
                tracing::warn!("{}: its holder seems dead; the lock is broken.", symlink.display());
                release(&symlink);
                since = Instant::now();
                continue;
            }
            waiting.pause(|| {
                let whose = "a Python worker or a process that was killed";
                format!(
                    "{} is that of {whose}, and is broken {GRACE:?} after the journal's last change",
                    symlink.display()
                )
            });
        }
        Ok(Self { symlink, _ours: ours })
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        release(&self.symlink);
    }
}

/// Waits in growing steps, and says what for once that takes long.
struct Waiting<'p> {
    path: &'p Path,
    since: Instant,
    pause: Duration,
    has_spoken: bool,
}

impl<'p> Waiting<'p> {
    fn new(path: &'p Path) -> Self {
        Self { path, since: Instant::now(), pause: Duration::from_millis(1), has_spoken: false }
    }

    fn pause(&mut self, who: impl FnOnce() -> String) {
        if self.since.elapsed() > QUIET && !self.has_spoken {
            self.has_spoken = true;
            let (path, who) = (self.path.display(), who());
            tracing::info!(target: WAITING, "Waiting for the lock of {path}: {who}.");
        }
        std::thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(Duration::from_millis(50));
    }
}

/// The folder of the journal, as links of this crate write it, which tells them from Optuna's.
#[cfg(unix)]
const DOTS: &str = "./././";

#[cfg(unix)]
fn is_by_this_crate(symlink: &Path) -> bool {
    std::fs::read_link(symlink).is_ok_and(|target| target.as_os_str().to_string_lossy().contains(DOTS))
}

/// Files say nothing: a lock that was left is known by time alone.
#[cfg(not(unix))]
fn is_by_this_crate(_lock: &Path) -> bool {
    false
}

/// Removes locks that killed workers of this crate had renamed, but not yet removed.
fn remove_renamed(path: &Path) {
    let folder = path.parent().unwrap_or(Path::new("."));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    let begin = format!("{name}.lock{WORKERS}");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_left = |name: &str| name.starts_with(&begin) && name.ends_with(".rename");
        if entry.file_name().to_str().is_some_and(is_left) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Renames first, so that of two who break a lock only one does.
fn release(lock: &Path) {
    let mut gone = lock.as_os_str().to_owned();
    gone.push(format!("{}.rename", worker_name()));
    if std::fs::rename(lock, &gone).and_then(|()| std::fs::remove_file(&gone)).is_err() {
        tracing::warn!("{}: the lock was not held.", lock.display());
    }
}

#[cfg(unix)]
fn create_lock(path: &Path, lock: &Path) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    std::os::unix::fs::symlink(path.with_file_name("").join(DOTS).join(name), lock)
}

#[cfg(not(unix))]
fn create_lock(_path: &Path, lock: &Path) -> std::io::Result<()> {
    File::options().write(true).create_new(true).open(lock).map(drop)
}

impl State {
    fn study(&mut self, id: i64) -> Option<&mut (StudyRecord, Table)> {
        self.studies.get_mut(usize::try_from(id).ok()?)?.as_mut()
    }

    /// The table and the number of a trial.
    fn trial(&mut self, id: i64) -> Option<(&mut Table, usize)> {
        let &(study, number) = self.places.get(usize::try_from(id).ok()?)?;
        Some((&mut self.studies.get_mut(study)?.as_mut()?.1, number))
    }

    /// The number of objectives of a trial's study.
    fn objectives(&self, trial: i64) -> usize {
        let place = usize::try_from(trial).ok().and_then(|trial| self.places.get(trial));
        let study = place.and_then(|&(study, _)| self.studies.get(study)?.as_ref());
        study.map_or(1, |(record, _)| record.directions.len())
    }

    /// Applies one line. `None` if it is not an operation of a journal, or one that no program writes.
    fn take_in(&mut self, log: &Value, worker: &str) -> Option<()> {
        let ours = log.get("worker_id")?.as_str()? == worker;
        let verdict = match log.get("op_code")?.as_i64()? {
            0 => Some(self.create_study(log)?),
            1 => {
                let id = usize::try_from(log.get("study_id")?.as_i64()?).ok()?;
                if let Some(study) = self.studies.get_mut(id) {
                    *study = None;
                }
                None
            }
            2 => {
                let attrs = log.get("user_attr")?.as_object()?;
                if let Some((study, _)) = self.study(log.get("study_id")?.as_i64()?) {
                    study.user_attrs.extend(attrs.iter().map(|(k, v)| (k.clone(), v.clone())));
                }
                None
            }
            3 => None,
            4 => self.create_trial(log)?,
            5..=9 => self.change_trial(log, worker)?,
            _ => return None,
        };
        if ours && verdict.is_some() {
            self.verdict = verdict;
        }
        Some(())
    }

    fn create_study(&mut self, log: &Value) -> Option<Verdict> {
        let name = log.get("study_name")?.as_str()?;
        let directions =
            log.get("directions")?.as_array()?.iter().map(direction).collect::<Option<Vec<_>>>()?;
        if directions.is_empty() {
            return None;
        }
        if self.studies.iter().flatten().any(|(study, _)| study.name == name) {
            return Some(Verdict::Refused(Error::StudyExists { name: name.into() }));
        }
        let id = self.studies.len();
        let (name, user_attrs) = (name.into(), Default::default());
        let record = StudyRecord { id: id as i64, name, directions, user_attrs };
        self.studies.push(Some((record, Table::default())));
        Some(Verdict::StudyCreated(id))
    }

    fn create_trial(&mut self, log: &Value) -> Option<Option<Verdict>> {
        let study = log.get("study_id")?.as_i64()?;
        let id = self.places.len();
        let Some((record, table)) = self.study(study) else { return Some(None) };
        let objectives = record.directions.len();
        let mut trial = FrozenTrial::new(id as i64, table.len(), state(log.get("state"))?);
        let object = |key: &str| log.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        let distributions = object("distributions");
        for (name, value) in object("params") {
            let distribution = serde_json::from_str(distributions.get(&name)?.as_str()?).ok()?;
            trial.params.push(Param { name: name.into(), distribution, internal: value.as_f64()? });
        }
        for (step, value) in object("intermediate_values") {
            trial.intermediate.insert(step.parse().ok()?, python_json::as_float(&value)?);
        }
        // Optuna writes the value of one objective apart.
        let one = log.get("value").and_then(python_json::as_float);
        trial.values = match one {
            Some(value) => vec![value],
            None => values(log.get("values"))?,
        };
        trial.user_attrs = object("user_attrs").into_iter().collect();
        trial.system_attrs = object("system_attrs").into_iter().collect();
        trial.started = time(log.get("datetime_start"));
        trial.completed = time(log.get("datetime_complete"));
        if trial.fault(objectives).is_some() {
            return None;
        }
        table.put(trial);
        let number = table.len() - 1;
        self.places.push((study as usize, number));
        Some(Some(Verdict::TrialCreated(id)))
    }

    fn change_trial(&mut self, log: &Value, worker: &str) -> Option<Option<Verdict>> {
        let id = log.get("trial_id")?.as_i64()?;
        let ours = log.get("worker_id")?.as_str()? == worker;
        let (distribution, ended_with): (Distribution, Vec<f64>);
        let attr = |key: &str| log.get(key)?.as_object()?.iter().next();
        let change = match log.get("op_code")?.as_i64()? {
            5 => {
                distribution = serde_json::from_str(log.get("distribution")?.as_str()?).ok()?;
                let internal = log.get("param_value_internal")?.as_f64()?;
                Change::Param {
                    name: log.get("param_name")?.as_str()?,
                    internal,
                    distribution: &distribution,
                }
            }
            6 => {
                let state = state(log.get("state"))?;
                ended_with = values(log.get("values"))?;
                let at = time(log.get("datetime_start")).or(time(log.get("datetime_complete")));
                Change::State { state, values: &ended_with, at: at.unwrap_or_default() }
            }
            7 => Change::Report {
                step: log.get("step")?.as_u64()?,
                value: python_json::as_float(log.get("intermediate_value")?)?,
            },
            8 => attr("user_attr").map(|(key, value)| Change::UserAttr { key, value })?,
            _ => attr("system_attr").map(|(key, value)| Change::SystemAttr { key, value })?,
        };
        let objectives = self.objectives(id);
        let Some((table, number)) = self.trial(id) else { return Some(None) };
        if let Err(error) = table.check(number, &change) {
            return Some(Some(Verdict::Refused(error)));
        }
        if table.get(number).is_some_and(|trial| change.fault(trial, objectives).is_some()) {
            return None;
        }
        if let Change::State { state: TrialState::Running, .. } = change {
            let waiting = table.get(number).is_some_and(|t| t.state == TrialState::Waiting);
            if waiting {
                table.apply(number, &change);
            }
            return Some(Some(Verdict::Started(waiting && ours)));
        }
        table.apply(number, &change);
        Some(None)
    }
}

/// A direction by its number; Optuna's 0 is one that is not set.
fn direction(number: &Value) -> Option<Direction> {
    match number.as_i64()? {
        0 | 1 => Some(Direction::Minimize),
        2 => Some(Direction::Maximize),
        _ => None,
    }
}

/// Values of objectives; none for null.
fn values(list: Option<&Value>) -> Option<Vec<f64>> {
    match list {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(list) => list.as_array()?.iter().map(python_json::as_float).collect(),
    }
}

/// Values of objectives as JSON.
fn list(values: &[f64]) -> String {
    let values: Vec<String> = values.iter().copied().map(python_json::float).collect();
    if values.is_empty() { "null".into() } else { format!("[{}]", values.join(",")) }
}

/// A state by its number; running if none is given.
fn state(value: Option<&Value>) -> Option<TrialState> {
    Some(match value.map_or(Some(0), Value::as_i64)? {
        0 => TrialState::Running,
        1 => TrialState::Complete,
        2 => TrialState::Pruned,
        3 => TrialState::Failed,
        4 => TrialState::Waiting,
        _ => return None,
    })
}

/// Local time: Optuna 4 writes it without a zone, Optuna 5 as UTC with one.
fn time(value: Option<&Value>) -> Option<NaiveDateTime> {
    let text = value?.as_str()?;
    let zoned = || Some(DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Local).naive_local());
    text.parse().ok().or_else(zoned)
}

/// A member of an object.
fn system_attr(key: &str, value: &Value) -> String {
    format!("{}:{}", json!(key), python_json::system_attr(value))
}

/// The fields of the operation that creates a trial with this content.
fn creation(study: i64, trial: &FrozenTrial) -> String {
    let iso = |time: NaiveDateTime| time.format(ISO).to_string();
    let started =
        if trial.state == TrialState::Waiting { None } else { Some(trial.started.unwrap_or_else(now)) };
    let mut fields = format!(r#""study_id":{study},"datetime_start":{}"#, json!(started.map(iso)));
    if *trial == FrozenTrial::new(trial.id, trial.number, TrialState::Running) {
        return fields;
    }
    let by_name = |value: &dyn Fn(&Param) -> Value| -> Value {
        trial.params.iter().map(|p| (p.name.to_string(), value(p))).collect::<Map<_, _>>().into()
    };
    let reports: Vec<String> = trial
        .intermediate
        .iter()
        .map(|(step, v)| format!(r#""{step}":{}"#, python_json::float(*v)))
        .collect();
    if let Some(completed) = trial.completed.or_else(|| trial.state.is_finished().then(now)) {
        fields += &format!(r#","datetime_complete":{}"#, json!(iso(completed)));
    }
    fields
        + &format!(
            r#","state":{},"value":{},"values":{},"distributions":{},"params":{},"user_attrs":{},"system_attrs":{{{}}},"intermediate_values":{{{}}}"#,
            trial.state as i64,
            if let [value] = trial.values[..] { python_json::float(value) } else { "null".into() },
            if trial.values.len() > 1 { list(&trial.values) } else { "null".into() },
            by_name(&|p| Value::from(p.distribution.to_json())),
            by_name(&|p| Value::from(p.internal)),
            json!(trial.user_attrs),
            trial
                .system_attrs
                .iter()
                .map(|(key, value)| system_attr(key, value))
                .collect::<Vec<_>>()
                .join(","),
            reports.join(","),
        )
}

impl Storage for Journal {
    fn create_study(&self, name: &str, directions: &[Direction]) -> Result<StudyRecord> {
        let mut state = self.lock()?;
        self.read(&mut state)?;
        // A name that is taken already need not be written to be refused.
        if state.studies.iter().flatten().any(|(study, _)| study.name == name) {
            return Err(Error::StudyExists { name: name.into() });
        }
        let number = |direction: &Direction| if *direction == Direction::Maximize { 2 } else { 1 };
        let directions: Vec<i64> = directions.iter().map(number).collect();
        let fields = format!(r#""study_name":{},"directions":{}"#, json!(name), json!(directions));
        self.write(&mut state, 0, &fields)?;
        match state.verdict.take() {
            Some(Verdict::StudyCreated(id)) => match state.study(id as i64) {
                Some((record, _)) => Ok(record.clone()),
                None => Err(Error::NoStudy { name: name.into(), known: Vec::new() }),
            },
            Some(Verdict::Refused(error)) => Err(error),
            _ => Err(Error::NoStudy { name: name.into(), known: Vec::new() }),
        }
    }

    fn studies(&self) -> Result<Vec<StudyRecord>> {
        let mut state = self.lock()?;
        self.read(&mut state)?;
        Ok(state.studies.iter().flatten().map(|(record, _)| record.clone()).collect())
    }

    fn set_study_attr(&self, study: i64, key: &str, value: &Value) -> Result<()> {
        let attr = Value::Object(Map::from_iter([(key.to_owned(), value.clone())]));
        self.write(&mut *self.lock()?, 2, &format!(r#""study_id":{study},"user_attr":{attr}"#))
    }

    fn create_trial(&self, study: i64, template: &FrozenTrial, limit: usize) -> Result<FrozenTrial> {
        let mut state = self.lock()?;
        self.write_if(&mut state, &[(4, creation(study, template))], |state| match state.study(study) {
            Some((record, table)) if table.len() >= limit => {
                Err(Error::Full { study: record.name.clone(), limit })
            }
            _ => Ok(true),
        })?;
        let created = match state.verdict.take() {
            Some(Verdict::TrialCreated(id)) => {
                state.trial(id as i64).and_then(|(table, n)| table.get(n).cloned())
            }
            _ => None,
        };
        created
            .map(|trial| (*trial).clone())
            .ok_or_else(|| Error::NoStudy { name: format!("#{study}"), known: Vec::new() })
    }

    fn update(&self, trial: i64, change: &Change<'_>) -> Result<()> {
        let (op, fields) = match *change {
            Change::Param { name, internal, distribution } => {
                let (name, value, text) =
                    (json!(name), python_json::float(internal), json!(distribution.to_json()));
                (5, format!(r#""param_name":{name},"param_value_internal":{value},"distribution":{text}"#))
            }
            Change::State { state, values, at } => {
                let values = list(values);
                let when = if state == TrialState::Running { "datetime_start" } else { "datetime_complete" };
                (6, format!(r#""state":{},"values":{values},"{when}":"{}""#, state as i64, at.format(ISO)))
            }
            Change::Report { step, value } => {
                (7, format!(r#""step":{step},"intermediate_value":{}"#, python_json::float(value)))
            }
            Change::UserAttr { key, value } => (8, format!(r#""user_attr":{{{}:{value}}}"#, json!(key))),
            Change::SystemAttr { key, value } => {
                (9, format!(r#""system_attr":{{{}}}"#, system_attr(key, value)))
            }
        };
        let mut state = self.lock()?;
        // What can be refused with what is known already is not written.
        if let Some((table, number)) = state.trial(trial) {
            table.check(number, change)?;
        }
        self.write(&mut state, op, &format!(r#""trial_id":{trial},{fields}"#))?;
        self.refused(&mut state)
    }

    fn claim(&self, trial: i64) -> Result<bool> {
        let mut state = self.lock()?;
        self.read(&mut state)?;
        if !state.trial(trial).is_some_and(|(t, n)| t.get(n).is_some_and(|t| t.state == TrialState::Waiting))
        {
            return Ok(false);
        }
        let fields =
            format!(r#""trial_id":{trial},"state":0,"values":null,"datetime_start":"{}""#, now().format(ISO));
        self.write(&mut state, 6, &fields)?;
        Ok(matches!(state.verdict.take(), Some(Verdict::Started(true))))
    }

    fn take_over(&self, trial: i64, silence: Duration, worker: &str) -> Result<bool> {
        let attr = |key, value: &Value| {
            (9, format!(r#""trial_id":{trial},"system_attr":{{{}}}"#, system_attr(key, value)))
        };
        let operations = [attr(WORKER, &worker.into()), attr(HEARTBEAT, &heartbeat())];
        self.write_if(&mut *self.lock()?, &operations, |state| {
            let found = state.trial(trial).and_then(|(table, number)| table.get(number).cloned());
            Ok(found.is_some_and(|trial| is_silent(&trial, silence)))
        })
    }

    fn sync(&self, study: i64, snapshot: &mut Snapshot) -> Result<()> {
        let mut state = self.lock()?;
        self.read(&mut state)?;
        match state.study(study) {
            Some((_, table)) => table.sync(snapshot),
            None => return Err(Error::NoStudy { name: format!("#{study}"), known: Vec::new() }),
        }
        Ok(())
    }
}
