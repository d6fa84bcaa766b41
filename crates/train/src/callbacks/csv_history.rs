//! Histories as CSV files.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use firstsight_data::files::write_atomically;

use super::{Callback, EpochEnd, TrainBegin};
use crate::{Epoch, Error, Metrics, Result, StopReason};

/// Writes the history to a CSV file after every epoch: `epoch,loss,accuracy,…,val_loss,val_accuracy,…`.
///
/// Epochs count from 1. Numbers are in the shortest form that reads back to the same value. Without validation data
/// there are no `val_` columns.
#[derive(Debug)]
pub struct CsvHistory {
    path: PathBuf,
}

impl CsvHistory {
    /// Replaces the file at `path` atomically after every epoch.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// Writes `history` now.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] names the file.
    pub fn write(&self, history: &[Epoch]) -> Result<()> {
        let bytes =
            csv_bytes(history).map_err(|e| Error::Io { path: self.path.clone(), source: e.into() })?;
        write_atomically(&self.path, &bytes).map_err(|source| Error::Io { path: self.path.clone(), source })
    }
}

impl Callback for CsvHistory {
    /// Writes the epochs of a resumed training, which may have no other.
    fn on_train_begin(&mut self, begin: &TrainBegin<'_>) -> Result<ControlFlow<StopReason>> {
        if !begin.history.is_empty() {
            self.write(begin.history)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> Result<ControlFlow<StopReason>> {
        self.write(end.history)?;
        Ok(ControlFlow::Continue(()))
    }
}

fn csv_bytes(history: &[Epoch]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    fn sides(epoch: &Epoch) -> impl Iterator<Item = (&'static str, &Metrics)> {
        std::iter::once(("", &epoch.train)).chain(epoch.val.as_ref().map(|val| ("val_", val)))
    }
    if let Some(first) = history.first() {
        let mut header = vec!["epoch".to_owned()];
        for (prefix, metrics) in sides(first) {
            header.push(format!("{prefix}loss"));
            header.extend(metrics.values.iter().map(|(name, _)| format!("{prefix}{name}")));
        }
        writer.write_record(header)?;
    }
    for (i, epoch) in history.iter().enumerate() {
        let mut record = vec![(i + 1).to_string()];
        for (_, metrics) in sides(epoch) {
            record.push(metrics.loss.to_string());
            record.extend(metrics.values.iter().map(|(_, value)| value.to_string()));
        }
        writer.write_record(record)?;
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
}
