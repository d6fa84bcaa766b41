//! Storages of studies: memory, a journal file, an SQLite database.
//!
//! The two file formats are Optuna's own, so a study can be opened, watched and worked on from Python.

mod address;
mod journal;
mod json;
mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;
mod table;

use std::sync::Arc;
use std::time::Duration;

use chrono::{Local, NaiveDateTime};
use serde_json::Value;

pub use self::address::open;
pub use self::journal::Journal;
pub use self::memory::Memory;
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
        /// The objective's value, if the trial ended with one.
        value: Option<f64>,
        /// Local time.
        at: NaiveDateTime,
    },
}

impl Change<'_> {
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
            Self::State { state, value, at } => {
                trial.state = state;
                trial.value = value.or(trial.value);
                if state == TrialState::Running {
                    trial.started = Some(at);
                } else if state.is_finished() {
                    trial.completed = Some(at);
                }
            }
        }
    }
}

/// A study as a storage lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyRecord {
    /// The storage's key.
    pub id: i64,
    /// The study's name.
    pub name: String,
    /// The direction of the optimization.
    pub direction: Direction,
    /// Attributes attached by the user.
    pub user_attrs: std::collections::BTreeMap<String, Value>,
}

/// A storage of studies. Several threads may use it at once, and with the file storages several processes.
pub trait Storage: Send + Sync {
    /// Creates a study.
    ///
    /// # Errors
    ///
    /// [`crate::Error::StudyExists`] if the name is taken.
    fn create_study(&self, name: &str, direction: Direction) -> Result<StudyRecord>;

    /// All studies.
    fn studies(&self) -> Result<Vec<StudyRecord>>;

    /// Attaches a value to a study.
    fn set_study_attr(&self, study: i64, key: &str, value: &Value) -> Result<()>;

    /// Adds a trial with the template's content. The storage gives it a number and a key; a new
    /// trial starts from an empty running template.
    fn create_trial(&self, study: i64, template: &FrozenTrial) -> Result<FrozenTrial>;

    /// Applies a change to an unfinished trial.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Finished`] if the trial is over, [`crate::Error::Incompatible`] if an earlier
    /// trial of the study has the parameter with a distribution of another kind.
    fn update(&self, trial: i64, change: &Change<'_>) -> Result<()>;

    /// Turns a waiting trial into a running one. False if another worker was faster.
    fn claim(&self, trial: i64) -> Result<bool>;

    /// Brings a snapshot of a study up to date.
    fn sync(&self, study: i64, snapshot: &mut Snapshot) -> Result<()>;

    /// Records a heartbeat of a trial's worker.
    fn heartbeat(&self, trial: i64) -> Result<()> {
        let now = Value::from(now().format(ISO).to_string());
        self.update(trial, &Change::SystemAttr { key: HEARTBEAT, value: &now })
    }

    /// Running trials without a heartbeat for `silence`, or, where none was ever recorded, started
    /// longer ago than that.
    fn stale_trials(&self, study: i64, silence: Duration) -> Result<Vec<Arc<FrozenTrial>>> {
        let mut snapshot = Snapshot::default();
        self.sync(study, &mut snapshot)?;
        let now = now();
        let quiet = |trial: &Arc<FrozenTrial>| {
            let beat = trial.system_attrs.get(HEARTBEAT).and_then(Value::as_str);
            let last = beat.and_then(|b| NaiveDateTime::parse_from_str(b, ISO).ok()).or(trial.started);
            trial.state == TrialState::Running
                && last.is_some_and(|last| (now - last).to_std().is_ok_and(|age| age > silence))
        };
        Ok(snapshot.trials().iter().filter(|t| quiet(t)).cloned().collect())
    }
}

impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn create_study(&self, name: &str, direction: Direction) -> Result<StudyRecord> {
        (**self).create_study(name, direction)
    }
    fn studies(&self) -> Result<Vec<StudyRecord>> {
        (**self).studies()
    }
    fn set_study_attr(&self, study: i64, key: &str, value: &Value) -> Result<()> {
        (**self).set_study_attr(study, key, value)
    }
    fn create_trial(&self, study: i64, template: &FrozenTrial) -> Result<FrozenTrial> {
        (**self).create_trial(study, template)
    }
    fn update(&self, trial: i64, change: &Change<'_>) -> Result<()> {
        (**self).update(trial, change)
    }
    fn claim(&self, trial: i64) -> Result<bool> {
        (**self).claim(trial)
    }
    fn sync(&self, study: i64, snapshot: &mut Snapshot) -> Result<()> {
        (**self).sync(study, snapshot)
    }
    fn heartbeat(&self, trial: i64) -> Result<()> {
        (**self).heartbeat(trial)
    }
    fn stale_trials(&self, study: i64, silence: Duration) -> Result<Vec<Arc<FrozenTrial>>> {
        (**self).stale_trials(study, silence)
    }
}

/// The system attribute that holds the heartbeat where the format has no field for it.
const HEARTBEAT: &str = "firstsight:heartbeat";

/// Optuna's time stamps, to the microsecond.
const ISO: &str = "%Y-%m-%dT%H:%M:%S%.6f";

/// Local time without a zone, which is what Optuna records.
pub(crate) fn now() -> NaiveDateTime {
    Local::now().naive_local()
}
