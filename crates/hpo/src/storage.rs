//! Storages of studies: memory, a journal file, an SQLite database, a PostgreSQL server.
//!
//! The journal and the databases' tables are Optuna's own, so a study can be opened, watched and worked on from Python.

mod address;
mod journal;
pub(crate) mod json;
mod memory;
#[cfg(feature = "postgresql")]
mod postgres;
#[cfg(any(feature = "postgresql", feature = "sqlite"))]
mod rdb;
#[cfg(feature = "sqlite")]
mod sqlite;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use chrono::{Local, NaiveDateTime, SubsecRound as _, Utc};
use serde_json::Value;

pub use self::address::{open, shown};
pub use self::journal::Journal;
pub use self::memory::Memory;
#[cfg(feature = "postgresql")]
pub use self::postgres::Postgres;
#[cfg(feature = "sqlite")]
pub use self::sqlite::Sqlite;
pub use self::table::Snapshot;
use crate::error::Result;
use crate::space::Distribution;
use crate::study::Direction;
use crate::trial::{FrozenTrial, Param, TrialState};

/// A change to one trial.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Change<'a> {
    /// A parameter was given its value.
    Param {
        /// The parameter's name.
        name: &'a str,
        /// Its value in the distribution's internal form.
        internal: f64,
        /// Its distribution.
        distribution: &'a Distribution,
    },
    /// A value was reported.
    Report {
        /// The step.
        step: u64,
        /// The value.
        value: f64,
    },
    /// The user attached an attribute.
    UserAttr {
        /// The name.
        key: &'a str,
        /// The value.
        value: &'a Value,
    },
    /// A sampler or pruner attached an attribute.
    SystemAttr {
        /// The name.
        key: &'a str,
        /// The value.
        value: &'a Value,
    },
    /// The trial began to run or ended.
    State {
        /// The new state.
        state: TrialState,
        /// The objectives' values, if the trial ended with some.
        values: &'a [f64],
        /// Local time.
        at: NaiveDateTime,
    },
}

impl Change<'_> {
    /// What is wrong with a change of the trial in a study of so many objectives, as expected and found. What a storage holds is checked
    /// where it is read, since others may have written it.
    fn fault(&self, trial: &FrozenTrial, objectives: usize) -> Option<(String, String)> {
        match *self {
            Self::Param { name, internal, distribution } => param_fault(name, internal, distribution),
            Self::State { state: TrialState::Waiting, .. } if trial.state != TrialState::Waiting => {
                Some(("a waiting trial that was never begun".to_owned(), trial.state.to_string()))
            }
            Self::State { state, values, .. } => values_fault(state, values, objectives),
            Self::Report { .. } | Self::UserAttr { .. } | Self::SystemAttr { .. } => None,
        }
    }

    /// Applies the change to a record.
    pub fn apply(&self, trial: &mut FrozenTrial) {
        match *self {
            Self::Param { name, internal, distribution } => {
                trial.params.retain(|p| &*p.name != name);
                trial.params.push(Param { name: name.into(), distribution: distribution.clone(), internal });
            }
            Self::Report { step, value } => {
                trial.intermediate.insert(step, value);
            }
            Self::UserAttr { key, value } => {
                trial.user_attrs.insert(key.into(), value.clone());
            }
            Self::SystemAttr { key, value } => {
                trial.system_attrs.insert(key.into(), value.clone());
            }
            Self::State { state, values, at } => {
                trial.state = state;
                if !values.is_empty() {
                    trial.values = values.to_vec();
                }
                if state == TrialState::Running {
                    trial.started = Some(at);
                } else if state.is_finished() {
                    trial.completed = Some(at);
                }
            }
        }
    }
}

fn param_fault(name: &str, internal: f64, distribution: &Distribution) -> Option<(String, String)> {
    // Optuna stores a number that a user enqueued beyond its range, with a warning.
    let is_right = match distribution {
        Distribution::Float { .. } => internal.is_finite(),
        Distribution::Int { .. } => internal.is_finite() && internal.fract() == 0.0,
        Distribution::Categorical { .. } => internal >= 0.0 && distribution.contains(internal),
    };
    (!is_right).then(|| (format!("a value of parameter `{name}` for {distribution}"), internal.to_string()))
}

fn values_fault(state: TrialState, values: &[f64], objectives: usize) -> Option<(String, String)> {
    let n = values.len();
    let is_right = match state {
        TrialState::Complete => n == objectives,
        _ => n == 0 || n == objectives,
    };
    (!is_right).then(|| (format!("{objectives} values of a trial that is {state}"), n.to_string()))
}

impl FrozenTrial {
    /// What is wrong with a trial of a study of so many objectives, as expected and found.
    pub(crate) fn fault(&self, objectives: usize) -> Option<(String, String)> {
        let of_params = self.params.iter().find_map(|p| param_fault(&p.name, p.internal, &p.distribution));
        of_params.or_else(|| values_fault(self.state, &self.values, objectives))
    }
}

/// A study as a storage lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyRecord {
    /// The storage's key.
    pub id: i64,
    /// The study's name.
    pub name: String,
    /// The direction of each objective, one or more.
    pub directions: Vec<Direction>,
    /// Attributes attached by the user.
    pub user_attrs: std::collections::BTreeMap<String, Value>,
}

/// A storage of studies. Several threads may use it at once, and with the file storages several processes.
pub trait Storage: Send + Sync {
    /// Creates a study of one or more objectives.
    ///
    /// # Errors
    ///
    /// [`crate::Error::StudyExists`] if the name is taken.
    fn create_study(&self, name: &str, directions: &[Direction]) -> Result<StudyRecord>;

    /// All studies.
    fn studies(&self) -> Result<Vec<StudyRecord>>;

    /// Attaches a value to a study.
    fn set_study_attr(&self, study: i64, key: &str, value: &Value) -> Result<()>;

    /// Adds a trial with the template's content, and gives it a number and a key; a new trial starts from an empty running
    /// template. Counting the study's trials and adding one is one step.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Full`] if the study has `limit` trials, of whatever state, already.
    fn create_trial(&self, study: i64, template: &FrozenTrial, limit: usize) -> Result<FrozenTrial>;

    /// Applies a change to an unfinished trial.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Finished`] if the trial is over, [`crate::Error::Incompatible`] if an earlier
    /// trial of the study has the parameter with a distribution of another kind.
    fn update(&self, trial: i64, change: &Change<'_>) -> Result<()>;

    /// Turns a waiting trial into a running one. False if another worker was faster.
    fn claim(&self, trial: i64) -> Result<bool>;

    /// Gives a running trial without a heartbeat for `silence` to another worker, whose name becomes the system attribute
    /// `firstsight:worker`, with a new heartbeat. False if it is not silent, or another worker was faster.
    fn take_over(&self, trial: i64, silence: Duration, worker: &str) -> Result<bool>;

    /// Brings a snapshot of a study up to date.
    fn sync(&self, study: i64, snapshot: &mut Snapshot) -> Result<()>;

    /// Records a heartbeat of a trial's worker.
    fn heartbeat(&self, trial: i64) -> Result<()> {
        self.update(trial, &Change::SystemAttr { key: HEARTBEAT, value: &heartbeat() })
    }

    /// Running trials that had a heartbeat, but none for `silence`. A trial that never had one is another program's, such as one of
    /// Optuna's without heartbeats, and may be alive.
    fn stale_trials(&self, study: i64, silence: Duration) -> Result<Vec<Arc<FrozenTrial>>> {
        let mut snapshot = Snapshot::default();
        self.sync(study, &mut snapshot)?;
        Ok(snapshot.trials().iter().filter(|trial| is_silent(trial, silence)).cloned().collect())
    }
}

/// Whether a trial is running and had its last heartbeat longer ago than `silence`.
fn is_silent(trial: &FrozenTrial, silence: Duration) -> bool {
    let beat = trial.system_attrs.get(HEARTBEAT).and_then(Value::as_str);
    let last = beat.and_then(|b| NaiveDateTime::parse_from_str(b, ISO).ok());
    trial.state == TrialState::Running
        && last.is_some_and(|last| (Utc::now().naive_utc() - last).to_std().is_ok_and(|age| age > silence))
}

/// The methods of [`Storage`], handed on to what a storage wraps.
macro_rules! handed_on {
    ($self:ident => $inner:expr) => {
        fn create_study(&$self, name: &str, directions: &[Direction]) -> Result<StudyRecord> {
            $inner.create_study(name, directions)
        }
        fn studies(&$self) -> Result<Vec<StudyRecord>> {
            $inner.studies()
        }
        fn set_study_attr(&$self, study: i64, key: &str, value: &Value) -> Result<()> {
            $inner.set_study_attr(study, key, value)
        }
        fn create_trial(&$self, study: i64, template: &FrozenTrial, limit: usize) -> Result<FrozenTrial> {
            $inner.create_trial(study, template, limit)
        }
        fn update(&$self, trial: i64, change: &Change<'_>) -> Result<()> {
            $inner.update(trial, change)
        }
        fn claim(&$self, trial: i64) -> Result<bool> {
            $inner.claim(trial)
        }
        fn take_over(&$self, trial: i64, silence: Duration, worker: &str) -> Result<bool> {
            $inner.take_over(trial, silence, worker)
        }
        fn sync(&$self, study: i64, snapshot: &mut Snapshot) -> Result<()> {
            $inner.sync(study, snapshot)
        }
        fn stale_trials(&$self, study: i64, silence: Duration) -> Result<Vec<Arc<FrozenTrial>>> {
            $inner.stale_trials(study, silence)
        }
    };
}
#[cfg(any(feature = "postgresql", feature = "sqlite"))]
use handed_on;

impl<S: Storage + ?Sized> Storage for Arc<S> {
    handed_on!(self => (**self));
}

/// The system attribute that holds the heartbeat where the format has no field for it.
pub(crate) const HEARTBEAT: &str = "firstsight:heartbeat";

/// The system attribute that names the worker of a trial that another may take over.
pub(crate) const WORKER: &str = "firstsight:worker";

/// Optuna's time stamps, to the microsecond.
const ISO: &str = "%Y-%m-%dT%H:%M:%S%.6f";

/// The beginning of every worker's name.
const WORKERS: &str = "firstsight-";

/// The log of waits for others.
pub(crate) const WAITING: &str = "firstsight_hpo::waiting";

/// A name that no other object has: process, time and a count.
pub(crate) fn worker_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{WORKERS}{}-{}-{count}", std::process::id(), since.as_nanos())
}

/// Local time without a zone to the microsecond, which is what Optuna records.
pub(crate) fn now() -> NaiveDateTime {
    Local::now().naive_local().trunc_subsecs(6)
}

/// The present as a heartbeat, in UTC: workers may have different time zones, and a clock that is put back would make the living silent.
pub(crate) fn heartbeat() -> Value {
    Value::from(Utc::now().format(ISO).to_string())
}
