use std::path::{Path, PathBuf};

use super::{Callback, EpochEnd, Flow};
use firstsight_data::files::write_atomically;

use crate::{Epoch, Error, Result};

/// Writes the history to a CSV file after every epoch: `epoch,loss,accuracy,…,val_loss,val_accuracy,…`, epochs
/// from 1, numbers in the shortest form that reads back to the same value.
#[derive(Debug)]
pub struct CsvHistory {
    path: PathBuf,
}

impl CsvHistory {
    /// Writes to `path`, whole each time, under a temporary name first.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// Writes `history`, as after an epoch.
    ///
    /// # Errors
    /// [`Error::Io`] names the file.
    pub fn write(&self, history: &[Epoch]) -> Result<()> {
        let bytes =
            csv_bytes(history).map_err(|e| Error::Io { path: self.path.clone(), source: e.into() })?;
        write_atomically(&self.path, &bytes).map_err(|source| Error::Io { path: self.path.clone(), source })
    }
}

impl Callback for CsvHistory {
    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> Result<Flow> {
        self.write(end.history)?;
        Ok(Flow::Continue)
    }
}

fn csv_bytes(history: &[Epoch]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let sides = |epoch: &Epoch| [("", epoch.train.clone()), ("val_", epoch.val.clone())];
    if let Some(first) = history.first() {
        let mut header = vec!["epoch".to_owned()];
        for (prefix, metrics) in sides(first) {
            header.push(format!("{prefix}loss"));
            header.extend(metrics.values.iter().map(|(metric, _)| format!("{prefix}{}", metric.name())));
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
