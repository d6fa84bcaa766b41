//! Checkpoints.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, Var};
use firstsight_data::files::write_atomically;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Callback, EpochEnd, SavedState};
use crate::{Epoch, Error, Metric as _, Monitor, Result, StopReason, TopK};

const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";
const HEADER: &str = "firstsight";
const VERSION: u32 = 2;

/// Keeps two files in a folder, each replaced atomically after an epoch: `last.safetensors`, from which a training
/// resumes exactly, and `best.safetensors`, the variables of the best epoch so far.
///
/// `last.safetensors` holds the variables under `model.`, the optimizer's moments under `optimizer.`, the state of the
/// callbacks before this one under `callbacks.`, and the history in the file's metadata. Put this callback last.
///
/// ```no_run
/// use firstsight_train::callbacks::Checkpoint;
/// use firstsight_train::{Accuracy, Monitor};
///
/// let identity = "small CNN, 28x28 digits, seed 1, Adam 0.001, batches of 64";
/// // Continues where the last run into this folder stopped, or starts anew.
/// let mut checkpoint =
///     Checkpoint::new("runs/digits".as_ref(), Monitor::val(Accuracy), identity).resume(true);
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    monitor: Monitor,
    identity: String,
    resume: bool,
}

/// The state of a training at the end of an epoch, as [`Checkpoint::load`] reads it.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The finished epochs.
    pub epochs: Vec<Epoch>,
    pub(crate) optimizer_steps: u64,
    pub(crate) moments: BTreeMap<String, Tensor>,
    pub(crate) state: SavedState,
    pub(crate) path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    identity: String,
    steps: u64,
    history: Vec<Epoch>,
}

impl Checkpoint {
    /// Writes to `folder`, which must exist. `identity` describes model, data and settings: a checkpoint is resumed
    /// only under the same identity.
    pub fn new(folder: &Path, monitor: Monitor, identity: &str) -> Self {
        Self { folder: folder.to_path_buf(), monitor, identity: identity.to_owned(), resume: false }
    }

    /// Sets whether the training resumes from `last.safetensors`, if that exists. By default it starts anew.
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Sets `vars` from `last.safetensors` and returns the state of the training; `None` if there is no such file.
    /// [`fit`](crate::fit) calls it by itself for a checkpoint that [resumes](Checkpoint::resume).
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] for a file that is damaged or belongs to another training; `vars` are then unchanged.
    pub fn load(&self, vars: &[(String, Var)]) -> Result<Option<Resume>> {
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
        let header = self.header(header).map_err(bad)?;
        let device = vars.first().map_or(Device::Cpu, |(_, var)| var.device().clone());
        let tensors =
            candle_core::safetensors::load_buffer(&bytes, &device).map_err(|e| bad(e.to_string()))?;
        let mut values = Vec::with_capacity(vars.len());
        for (name, var) in vars {
            let value =
                tensors.get(&format!("model.{name}")).ok_or_else(|| bad(format!("{name} is missing")))?;
            if value.dims() != var.dims() {
                return Err(bad(format!(
                    "{name}: expected shape {:?}, found {:?}",
                    var.dims(),
                    value.dims()
                )));
            }
            values.push((var, value));
        }
        for (var, value) in values {
            var.set(value)?;
        }
        let under = |prefix: &str| {
            let own = |(name, tensor): (&String, &Tensor)| {
                Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
            };
            tensors.iter().filter_map(own).collect()
        };
        let (moments, state) = (under("optimizer."), under("callbacks."));
        Ok(Some(Resume { epochs: header.history, optimizer_steps: header.steps, moments, state, path }))
    }

    fn header(&self, text: &str) -> Result<Header, String> {
        let unreadable = |e: serde_json::Error| format!("cannot read its header: {e}");
        let mut header: Value = serde_json::from_str(text).map_err(unreadable)?;
        if header["version"] == 1 {
            name_metrics(&mut header);
        }
        let header: Header = serde_json::from_value(header).map_err(unreadable)?;
        if header.version > VERSION {
            return Err(format!("expected version {VERSION} or earlier, found {}", header.version));
        }
        if header.identity != self.identity {
            return Err(format!("expected '{}', found '{}'", self.identity, header.identity));
        }
        Ok(header)
    }

    fn save(&self, end: &EpochEnd<'_>) -> Result<()> {
        let header = Header {
            version: VERSION,
            identity: self.identity.clone(),
            steps: end.optimizer.steps(),
            history: end.history.to_vec(),
        };
        let model = end.vars.iter().map(|(name, var)| (format!("model.{name}"), var.as_tensor()));
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

/// Replaces what version 1 wrote for a metric, `"Accuracy"` or `{"TopK": 5}`, by the metric's name.
fn name_metrics(header: &mut Value) {
    let epochs = header["history"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
    let figures = epochs.flat_map(|epoch| epoch.values_mut());
    for pair in figures.filter_map(|figures| figures["values"].as_array_mut()).flatten() {
        let name = match &pair[0] {
            Value::String(name) if name == "BinaryAccuracy" => "binary_accuracy".to_owned(),
            Value::String(name) => name.to_lowercase(),
            metric => TopK(metric["TopK"].as_u64().unwrap_or(0) as usize).name(),
        };
        pair[0] = Value::String(name);
    }
}

impl Callback for Checkpoint {
    fn resume(&mut self, vars: &[(String, Var)]) -> Result<Option<Resume>> {
        if self.resume { self.load(vars) } else { Ok(None) }
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> Result<ControlFlow<StopReason>> {
        if self.monitor.best(end.history) == Some(end.history.len() - 1) {
            let tensors = end.vars.iter().map(|(name, var)| (name.clone(), var.as_tensor())).collect();
            self.write(BEST, tensors, None)?;
        }
        self.save(end)?;
        Ok(ControlFlow::Continue(()))
    }
}
