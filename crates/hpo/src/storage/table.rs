//! The trials of a study in memory, and snapshots that follow them.

use std::collections::HashMap;
use std::sync::Arc;

use super::Change;
use crate::error::{Error, Result};
use crate::space::Distribution;
use crate::trial::FrozenTrial;

/// The trials of one study as a reader saw them last, by number.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    trials: Vec<Arc<FrozenTrial>>,
    seen: usize,
}

impl Snapshot {
    /// The trials, by number.
    pub fn trials(&self) -> &[Arc<FrozenTrial>] {
        &self.trials
    }
}

/// The trials of one study, with a log of which changed, so that a snapshot catches up in time
/// proportional to what it missed.
#[derive(Debug, Default)]
pub(super) struct Table {
    trials: Vec<Arc<FrozenTrial>>,
    changed: Vec<usize>,
    /// The distribution that each parameter had first; later ones must be compatible with it.
    distributions: HashMap<Arc<str>, Distribution>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.trials.len()
    }

    pub(super) fn get(&self, number: usize) -> Option<&Arc<FrozenTrial>> {
        self.trials.get(number)
    }

    #[cfg(any(feature = "postgresql", feature = "sqlite"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<FrozenTrial>> {
        self.trials.iter()
    }

    /// Adds a trial, or replaces an older record of it.
    pub(super) fn put(&mut self, trial: FrozenTrial) {
        for param in &trial.params {
            if !self.distributions.contains_key(&param.name) {
                self.distributions.insert(param.name.clone(), param.distribution.clone());
            }
        }
        self.changed.push(trial.number);
        if trial.number < self.trials.len() {
            let number = trial.number;
            self.trials[number] = Arc::new(trial);
        } else {
            self.trials.push(Arc::new(trial));
        }
    }

    /// Whether the change may be made.
    pub(super) fn check(&self, number: usize, change: &Change<'_>) -> Result<()> {
        if let Some(trial) = self.trials.get(number).filter(|t| t.state.is_finished()) {
            return Err(Error::Finished { number, state: trial.state });
        }
        match change {
            Change::Param { name, distribution, .. } => match self.distributions.get(*name) {
                Some(first) => first.check_compatible(name, distribution),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Makes a change that [`Table::check`] allows.
    pub(super) fn apply(&mut self, number: usize, change: &Change<'_>) {
        let Some(trial) = self.trials.get_mut(number) else { return };
        if let Change::Param { name, distribution, .. } = change
            && !self.distributions.contains_key(*name)
        {
            self.distributions.insert((*name).into(), (*distribution).clone());
        }
        change.apply(Arc::make_mut(trial));
        self.changed.push(number);
    }

    pub(super) fn sync(&self, snapshot: &mut Snapshot) {
        for &number in self.changed.get(snapshot.seen..).unwrap_or_default() {
            match snapshot.trials.get_mut(number) {
                Some(old) if Arc::ptr_eq(old, &self.trials[number]) => {}
                Some(old) => *old = self.trials[number].clone(),
                None => snapshot.trials.push(self.trials[number].clone()),
            }
        }
        snapshot.seen = self.changed.len();
    }
}
