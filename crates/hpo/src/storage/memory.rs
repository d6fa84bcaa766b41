//! Studies that last as long as the process.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use super::table::Table;
use super::{Change, HEARTBEAT, Snapshot, Storage, StudyRecord, WORKER, heartbeat, is_silent, now};
use crate::error::{Error, Result};
use crate::study::Direction;
use crate::trial::{FrozenTrial, TrialState};

/// Studies in memory.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    studies: Vec<(StudyRecord, Table)>,
    /// Study and number of the trial with each key.
    places: Vec<(usize, usize)>,
}

impl Memory {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| Error::Poisoned { what: "the storage" })
    }
}

impl State {
    fn study(&mut self, id: i64) -> Result<&mut (StudyRecord, Table)> {
        let known = self.studies.iter().map(|(s, _)| s.name.clone()).collect();
        usize::try_from(id)
            .ok()
            .and_then(|id| self.studies.get_mut(id))
            .ok_or_else(|| Error::NoStudy { name: format!("#{id}"), known })
    }

    fn trial(&mut self, id: i64) -> Result<(&mut Table, usize)> {
        let count = self.places.len();
        let place = usize::try_from(id).ok().and_then(|id| self.places.get(id).copied());
        match place {
            Some((study, number)) => Ok((&mut self.studies[study].1, number)),
            None => Err(Error::NoTrial { study: "of this storage".into(), number: id as usize, count }),
        }
    }
}

impl Storage for Memory {
    fn create_study(&self, name: &str, directions: &[Direction]) -> Result<StudyRecord> {
        let mut state = self.lock()?;
        if state.studies.iter().any(|(s, _)| s.name == name) {
            return Err(Error::StudyExists { name: name.into() });
        }
        let id = state.studies.len() as i64;
        let (name, directions) = (name.into(), directions.to_vec());
        let record = StudyRecord { id, name, directions, user_attrs: Default::default() };
        state.studies.push((record.clone(), Table::default()));
        Ok(record)
    }

    fn studies(&self) -> Result<Vec<StudyRecord>> {
        Ok(self.lock()?.studies.iter().map(|(s, _)| s.clone()).collect())
    }

    fn set_study_attr(&self, study: i64, key: &str, value: &Value) -> Result<()> {
        self.lock()?.study(study)?.0.user_attrs.insert(key.into(), value.clone());
        Ok(())
    }

    fn create_trial(&self, study: i64, template: &FrozenTrial, limit: usize) -> Result<FrozenTrial> {
        let mut state = self.lock()?;
        let id = state.places.len() as i64;
        let (record, table) = state.study(study)?;
        let number = table.len();
        if number >= limit {
            return Err(Error::Full { study: record.name.clone(), limit });
        }
        let mut trial = FrozenTrial { id, number, ..template.clone() };
        if trial.state != TrialState::Waiting {
            trial.started = trial.started.or_else(|| Some(now()));
        }
        table.put(trial.clone());
        state.places.push((study as usize, number));
        Ok(trial)
    }

    fn update(&self, trial: i64, change: &Change<'_>) -> Result<()> {
        let mut state = self.lock()?;
        let (table, number) = state.trial(trial)?;
        table.check(number, change)?;
        table.apply(number, change);
        Ok(())
    }

    fn claim(&self, trial: i64) -> Result<bool> {
        let mut state = self.lock()?;
        let (table, number) = state.trial(trial)?;
        let waiting = table.get(number).is_some_and(|t| t.state == TrialState::Waiting);
        if waiting {
            table.apply(number, &Change::State { state: TrialState::Running, values: &[], at: now() });
        }
        Ok(waiting)
    }

    fn take_over(&self, trial: i64, silence: Duration, worker: &str) -> Result<bool> {
        let mut state = self.lock()?;
        let (table, number) = state.trial(trial)?;
        let silent = table.get(number).is_some_and(|trial| is_silent(trial, silence));
        if silent {
            table.apply(number, &Change::SystemAttr { key: WORKER, value: &worker.into() });
            table.apply(number, &Change::SystemAttr { key: HEARTBEAT, value: &heartbeat() });
        }
        Ok(silent)
    }

    fn sync(&self, study: i64, snapshot: &mut Snapshot) -> Result<()> {
        self.lock()?.study(study)?.1.sync(snapshot);
        Ok(())
    }
}
