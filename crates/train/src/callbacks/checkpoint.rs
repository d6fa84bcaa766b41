use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Tensor, Var};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::{Callback, EpochEnd, Flow, SavedState};
use firstsight_data::files::write_atomically;

use crate::{Epoch, Error, Monitor, Optimizer, Result, Resume};

const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";
const HEADER: &str = "firstsight";

/// Keeps two files in a folder, each replaced atomically after an epoch: `last.safetensors`, from which training
/// goes on exactly, and `best.safetensors`, the variables of the best epoch so far.
///
/// `last.safetensors` holds the variables under `model.`, the optimiser's moments under `optimizer.`, what the
/// callbacks before this one keep under `callbacks.`, and the history in the file's metadata. Put this callback
/// last.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    monitor: Monitor,
    named: Vec<(String, Var)>,
    identity: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    identity: String,
    steps: u64,
    history: Vec<Epoch>,
}

impl Checkpoint {
    /// Writes to `folder`, which must exist. `named` are all of the network's variables; `identity` says what is
    /// trained on what and how, and a checkpoint is only resumed under the same identity.
    pub fn new(folder: &Path, monitor: Monitor, named: Vec<(String, Var)>, identity: &str) -> Self {
        Self { folder: folder.to_path_buf(), monitor, named, identity: identity.to_owned() }
    }

    /// Sets the variables from `last.safetensors` and returns where the training stood; `None` where there is no
    /// such file.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where the file is damaged or of another training; the variables are then unchanged.
    pub fn load(&self) -> Result<Option<Resume>> {
        let path = self.folder.join(LAST);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, source }),
        };
        let bad = |reason: String| Error::Checkpoint { path: path.clone(), reason };
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
        let header = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get(HEADER))
            .ok_or_else(|| bad("it has no header".into()))?;
        let header: Header =
            serde_json::from_str(header).map_err(|e| bad(format!("its header can't be read: {e}")))?;
        if header.identity != self.identity {
            return Err(bad(format!("expected {}, found {}", self.identity, header.identity)));
        }
        let device = self.named.first().map_or(candle_core::Device::Cpu, |(_, var)| var.device().clone());
        let tensors =
            candle_core::safetensors::load_buffer(&bytes, &device).map_err(|e| bad(e.to_string()))?;
        let mut values = Vec::with_capacity(self.named.len());
        for (name, var) in &self.named {
            let value =
                tensors.get(&format!("model.{name}")).ok_or_else(|| bad(format!("{name} is missing")))?;
            if value.dims() != var.dims() {
                return Err(bad(format!("{name} is {:?}, expected {:?}", value.dims(), var.dims())));
            }
            values.push((var, value));
        }
        for (var, value) in values {
            var.set(value)?;
        }
        let state = tensors.into_iter().collect();
        Ok(Some(Resume { history: header.history, optimizer_steps: header.steps, state, path }))
    }

    fn save(&self, end: &EpochEnd<'_>) -> Result<()> {
        let header = Header {
            version: 1,
            identity: self.identity.clone(),
            steps: end.optimizer.steps(),
            history: end.history.to_vec(),
        };
        let model = self.named.iter().map(|(name, var)| (format!("model.{name}"), var.as_tensor()));
        let optimizer = end.optimizer.state().map(|(name, tensor)| (format!("optimizer.{name}"), tensor));
        let callbacks = end.state.iter().map(|(name, tensor)| (format!("callbacks.{name}"), tensor));
        let tensors: Vec<(String, &Tensor)> = model.chain(optimizer).chain(callbacks).collect();
        self.write(LAST, tensors, Some(&header))
    }

    fn write(&self, file: &str, tensors: Vec<(String, &Tensor)>, header: Option<&Header>) -> Result<()> {
        let path = self.folder.join(file);
        let bad = |reason: String| Error::Checkpoint { path: path.clone(), reason };
        let metadata = match header {
            Some(header) => {
                let text = serde_json::to_string(header).map_err(|e| bad(e.to_string()))?;
                Some(HashMap::from([(HEADER.to_owned(), text)]))
            }
            None => None,
        };
        let bytes = safetensors::serialize(tensors, metadata).map_err(|e| bad(e.to_string()))?;
        write_atomically(&path, &bytes).map_err(|source| Error::Io { path, source })
    }
}

impl Callback for Checkpoint {
    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> Result<Flow> {
        if self.monitor.best(end.history) == Some(end.history.len() - 1) {
            let tensors = self.named.iter().map(|(name, var)| (name.clone(), var.as_tensor())).collect();
            self.write(BEST, tensors, None)?;
        }
        self.save(end)?;
        Ok(Flow::Continue)
    }
}

impl Resume {
    pub(crate) fn restore(&self, optimizer: &mut Optimizer) -> Result<()> {
        let state = |name: &str| self.state.get(&format!("optimizer.{name}")).cloned();
        optimizer
            .restore(self.optimizer_steps, state)
            .map_err(|reason| Error::Checkpoint { path: self.path.clone(), reason })
    }

    /// What the callbacks saved, under their own names.
    pub(crate) fn callbacks(&self) -> SavedState {
        let own = |(name, tensor): (&String, &Tensor)| {
            Some((name.strip_prefix("callbacks.")?.to_owned(), tensor.clone()))
        };
        self.state.iter().filter_map(own).collect()
    }
}
