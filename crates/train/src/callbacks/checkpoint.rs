//! Checkpoints.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use firstsight_data::files::write_atomically;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Callback, EpochEnd, SavedState};
use crate::{Difference, Epoch, Error, Identity, Metric as _, Monitor, Result, StopReason, TopK};

const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";
const SECONDS: &str = "seconds.json";
const HEADER: &str = "firstsight";
const VERSION: u32 = 4;
/// The first version with a checksum.
const CHECKED: u32 = 4;
/// What stands in a file before its checksum, which are eight hexadecimal digits.
const BEFORE_CHECKSUM: &[u8] = br#""firstsight":"{\"checksum\":\""#;
const NO_CHECKSUM: &str = "00000000";
/// The most steps that a checkpoint may state.
const MOST_STEPS: u64 = 1 << 53;
/// The longest header that is read: far more than a history takes.
const LONGEST_HEADER: u64 = 1 << 26;

/// Keeps two files in a folder, each replaced atomically after an epoch: `last.safetensors`, from which a training
/// resumes exactly, and `best.safetensors`, the variables of the best epoch so far.
///
/// `last.safetensors` holds the variables under `model.`, the optimizer's moments under `optimizer.`, the state of the
/// callbacks before this one under `callbacks.`, and the history in the file's metadata. Put this callback last. Both files have a
/// checksum. Beside them, `seconds.json` has the time that the training took so far, in all of its processes one after the other: apart, since the
/// files are the same bytes however long they took.
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
    identity: Identity,
    start: Start,
    writes: bool,
    /// Epochs before the last restart.
    restarted: usize,
    started: Instant,
    /// Seconds that the training took before this process.
    earlier: f64,
}

/// How a training begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Anew,
    Resume,
    Restart(RestartFrom),
}

/// The variables that a restarted training begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartFrom {
    /// Those of the best epoch.
    Best,
    /// Those that the model has.
    Model,
}

/// What a checkpoint says of its training, as [`Checkpoint::stored`] reads it.
#[derive(Debug, Clone)]
pub struct StoredTraining {
    /// Its settings.
    pub identity: Identity,
    /// The finished epochs.
    pub epochs: Vec<Epoch>,
}

/// The state of a training at the end of an epoch, as [`Checkpoint::load`] reads it.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The finished epochs.
    pub epochs: Vec<Epoch>,
    /// Epochs before the schedule began anew.
    pub restarted: usize,
    pub(crate) optimizer_steps: u64,
    /// `None` for an optimizer that begins anew.
    pub(crate) moments: Option<BTreeMap<String, Tensor>>,
    pub(crate) state: SavedState,
    pub(crate) path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Header {
    /// The first field, where [`BEFORE_CHECKSUM`] expects it.
    #[serde(default)]
    checksum: String,
    version: u32,
    identity: Identity,
    steps: u64,
    #[serde(default)]
    restarted: usize,
    history: Vec<Epoch>,
}

impl Checkpoint {
    /// Writes to `folder`, which must exist. `identity` describes model, data and settings: a checkpoint is resumed
    /// only under the same identity.
    pub fn new(folder: &Path, monitor: Monitor, identity: impl Into<Identity>) -> Self {
        let (folder, identity) = (folder.to_path_buf(), identity.into());
        let (start, started) = (Start::Anew, Instant::now());
        Self { folder, monitor, identity, start, writes: true, restarted: 0, started, earlier: 0.0 }
    }

    /// Seconds that the training in `folder` took until its last epoch, in all of its processes; 0 where that is not known.
    pub fn seconds(folder: &Path) -> f64 {
        let stored = || serde_json::from_slice::<Value>(&std::fs::read(folder.join(SECONDS)).ok()?).ok();
        stored()
            .and_then(|stored| stored["seconds"].as_f64())
            .filter(|seconds| *seconds >= 0.0)
            .unwrap_or(0.0)
    }

    /// Sets whether the training resumes from `last.safetensors`, if that exists. By default it starts anew.
    pub fn resume(mut self, resume: bool) -> Self {
        self.start = if resume { Start::Resume } else { Start::Anew };
        self
    }

    /// Sets whether the files are written. Of several processes that train together, one writes and all resume.
    pub fn writes(mut self, writes: bool) -> Self {
        self.writes = writes;
        self
    }

    /// Goes on after the epochs in the folder, under settings that may be others: the history goes on, the optimizer and the
    /// schedule begin anew over the epochs that are left.
    pub fn restart(mut self, from: RestartFrom) -> Self {
        self.start = Start::Restart(from);
        self
    }

    /// What the checkpoint in `folder` says of its training, from the file's header alone; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] for a file that is damaged.
    pub fn stored(folder: &Path) -> Result<Option<StoredTraining>> {
        let path = folder.join(LAST);
        let read = || -> std::io::Result<Option<Vec<u8>>> {
            let mut file = match File::open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let mut bytes = vec![0; 8];
            file.read_exact(&mut bytes)?;
            let length = bytes.iter().rev().fold(0, |length, &byte| length << 8 | u64::from(byte));
            let mut json = Vec::new();
            file.take(length.min(LONGEST_HEADER)).read_to_end(&mut json)?;
            Ok(Some(json))
        };
        let json = match read() {
            Ok(Some(json)) => json,
            Ok(None) => return Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(Error::Checkpoint { path, reason: "it ends in its header".to_owned() });
            }
            Err(source) => return Err(Error::Io { path, source }),
        };
        let parse = || {
            let json: Value = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
            header(json["__metadata__"][HEADER].as_str())
        };
        match parse() {
            Ok(Header { identity, history, .. }) => Ok(Some(StoredTraining { identity, epochs: history })),
            Err(reason) => Err(Error::Checkpoint { path, reason }),
        }
    }

    /// Sets `vars` from `last.safetensors` and returns the state of the training; `None` if there is no such file.
    /// [`fit`](crate::fit) calls it by itself for a checkpoint that [resumes](Checkpoint::resume).
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] for a file that is damaged, holds values that are not finite or belongs to another training;
    /// `vars` are then unchanged.
    pub fn load(&self, vars: &[(String, Var)]) -> Result<Option<Resume>> {
        let path = self.folder.join(LAST);
        let mut bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, source }),
        };
        let bad = |reason: String| Error::Checkpoint { path: path.clone(), reason };
        let is_checked = verify(&mut bytes).map_err(bad)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
        let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(HEADER));
        let header = header(text.map(String::as_str)).map_err(bad)?;
        if header.version >= CHECKED && !is_checked {
            return Err(bad("its checksum is missing: the file is damaged".to_owned()));
        }
        let differences = header.identity.differences(&self.identity);
        if !differences.is_empty() {
            return Err(bad(join(&differences)));
        }
        let tensors = tensors(&bytes, vars).map_err(bad)?;
        set(vars, &tensors, "model.").map_err(bad)?;
        let under = |prefix: &str| {
            let own = |(name, tensor): (&String, &Tensor)| {
                Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
            };
            tensors.iter().filter_map(own).collect()
        };
        let (moments, state) = (Some(under("optimizer.")), under("callbacks."));
        let Header { history: epochs, steps: optimizer_steps, restarted, .. } = header;
        Ok(Some(Resume { epochs, restarted, optimizer_steps, moments, state, path }))
    }

    /// The state of a training that begins anew after the epochs in the folder.
    fn load_restart(&self, from: RestartFrom, vars: &[(String, Var)]) -> Result<Option<Resume>> {
        let Some(StoredTraining { epochs, .. }) = Self::stored(&self.folder)? else { return Ok(None) };
        let path = self.folder.join(BEST);
        // Without a best epoch, as where every figure was NaN, there are no better variables than the model's.
        if from == RestartFrom::Best && self.monitor.best(&epochs).is_some() {
            let bad = |reason: String| Error::Checkpoint { path: path.clone(), reason };
            let mut bytes =
                std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
            verify(&mut bytes).map_err(bad)?;
            let tensors = tensors(&bytes, vars).map_err(bad)?;
            set(vars, &tensors, "").map_err(bad)?;
        }
        let (restarted, state) = (epochs.len(), SavedState::new());
        Ok(Some(Resume { epochs, restarted, optimizer_steps: 0, moments: None, state, path }))
    }

    fn save(&self, end: &EpochEnd<'_>) -> Result<()> {
        let header = Header {
            checksum: NO_CHECKSUM.to_owned(),
            version: VERSION,
            identity: self.identity.clone(),
            steps: end.optimizer.steps(),
            restarted: self.restarted,
            history: end.history.to_vec(),
        };
        let model = end.vars.iter().map(|(name, var)| (format!("model.{name}"), var.as_tensor()));
        let optimizer = end.optimizer.state().map(|(name, tensor)| (format!("optimizer.{name}"), tensor));
        let callbacks = end.state.iter().map(|(name, tensor)| (format!("callbacks.{name}"), tensor));
        let tensors: Vec<(String, &Tensor)> = model.chain(optimizer).chain(callbacks).collect();
        self.write(LAST, tensors, &header)
    }

    fn write(&self, file: &str, tensors: Vec<(String, &Tensor)>, header: &impl Serialize) -> Result<()> {
        let path = self.folder.join(file);
        let bad = |reason: String| Error::Checkpoint { path: path.clone(), reason };
        let text = serde_json::to_string(header).map_err(|e| bad(e.to_string()))?;
        let metadata = HashMap::from([(HEADER.to_owned(), text)]);
        let mut bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|e| bad(e.to_string()))?;
        if let Some(slot) = checksum_slot(&bytes) {
            let sum = format!("{:08x}", crc32fast::hash(&bytes));
            bytes[slot].copy_from_slice(sum.as_bytes());
        }
        write_atomically(&path, &bytes).map_err(|source| Error::Io { path, source })
    }

    fn write_seconds(&self) -> Result<()> {
        let path = self.folder.join(SECONDS);
        let seconds = self.earlier + self.started.elapsed().as_secs_f64();
        write_atomically(&path, format!("{{\"seconds\":{seconds:.3}}}\n").as_bytes())
            .map_err(|source| Error::Io { path, source })
    }
}

/// Where the checksum's digits are, if the file has one.
fn checksum_slot(bytes: &[u8]) -> Option<Range<usize>> {
    let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let header = bytes.get(8..length.checked_add(8)?)?;
    let found = header.windows(BEFORE_CHECKSUM.len()).position(|window| window == BEFORE_CHECKSUM)?;
    let start = 8 + found + BEFORE_CHECKSUM.len();
    Some(start..start + NO_CHECKSUM.len()).filter(|slot| slot.end <= bytes.len())
}

/// Compares the checksum of all bytes, its own digits being zeros, and says whether there is one. Files of earlier versions have none.
fn verify(bytes: &mut [u8]) -> Result<bool, String> {
    let Some(slot) = checksum_slot(bytes) else { return Ok(false) };
    let stated = String::from_utf8_lossy(&bytes[slot.clone()]).into_owned();
    bytes[slot].copy_from_slice(NO_CHECKSUM.as_bytes());
    let found = format!("{:08x}", crc32fast::hash(bytes));
    match stated == found {
        true => Ok(true),
        false => Err(format!("the file is damaged: its checksum is {found}, and it states {stated}")),
    }
}

/// The header, from its text.
fn header(text: Option<&str>) -> Result<Header, String> {
    let text = text.ok_or("it has no header")?;
    let unreadable = |e: serde_json::Error| format!("cannot read its header: {e}");
    let mut header: Value = serde_json::from_str(text).map_err(unreadable)?;
    if header["version"] == 1 {
        name_metrics(&mut header);
    }
    let header: Header = serde_json::from_value(header).map_err(unreadable)?;
    if header.version > VERSION {
        return Err(format!("expected version {VERSION} or earlier, found {}", header.version));
    }
    let (epochs, Header { restarted, steps, .. }) = (header.history.len(), &header);
    if *restarted > epochs {
        return Err(format!(
            "expected at most its {epochs} epochs before the last restart, found {restarted}"
        ));
    }
    if *steps > MOST_STEPS {
        return Err(format!("expected at most {MOST_STEPS} steps, found {steps}"));
    }
    Ok(header)
}

fn join(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The tensors of a file, on the device of `vars`.
fn tensors(bytes: &[u8], vars: &[(String, Var)]) -> Result<HashMap<String, Tensor>, String> {
    let device = vars.first().map_or(Device::Cpu, |(_, var)| var.device().clone());
    candle_core::safetensors::load_buffer(bytes, &device).map_err(|e| e.to_string())
}

/// Sets all variables to the tensors of their names after `prefix`, or none.
fn set(vars: &[(String, Var)], tensors: &HashMap<String, Tensor>, prefix: &str) -> Result<(), String> {
    let mut values = Vec::with_capacity(vars.len());
    for (name, var) in vars {
        let value = tensors.get(&format!("{prefix}{name}")).ok_or_else(|| format!("{name} is missing"))?;
        if value.dims() != var.dims() {
            return Err(format!("{name}: expected shape {:?}, found {:?}", var.dims(), value.dims()));
        }
        if !is_finite(value).map_err(|e| e.to_string())? {
            return Err(format!("{name} holds NaN or infinite values"));
        }
        values.push((var, value));
    }
    values.into_iter().try_for_each(|(var, value)| var.set(value).map_err(|e| e.to_string()))
}

/// Whether all values are finite: NaN or infinity times zero is NaN, and so is any sum with it.
fn is_finite(values: &Tensor) -> candle_core::Result<bool> {
    let zeros = values.affine(0.0, 0.0)?.sum_all()?.to_dtype(DType::F64)?;
    Ok(!zeros.to_scalar::<f64>()?.is_nan())
}

/// Replaces what version 1 wrote for a metric, `"Accuracy"` or `{"TopK": 5}`, by the metric's name.
fn name_metrics(header: &mut Value) {
    let epochs = header.get_mut("history").and_then(Value::as_array_mut).into_iter().flatten();
    let figures = epochs.filter_map(Value::as_object_mut).flat_map(|epoch| epoch.values_mut());
    let pairs = figures.filter_map(|figures| figures.get_mut("values")?.as_array_mut()).flatten();
    for metric in pairs.filter_map(|pair| pair.get_mut(0)) {
        let name = match &*metric {
            Value::String(name) if name == "BinaryAccuracy" => "binary_accuracy".to_owned(),
            Value::String(name) => name.to_lowercase(),
            metric => TopK(metric["TopK"].as_u64().unwrap_or(0) as usize).name(),
        };
        *metric = Value::String(name);
    }
}

impl Callback for Checkpoint {
    fn resume(&mut self, vars: &[(String, Var)]) -> Result<Option<Resume>> {
        let resume = match self.start {
            Start::Anew => None,
            Start::Resume => self.load(vars)?,
            Start::Restart(from) => self.load_restart(from, vars)?,
        };
        self.restarted = resume.as_ref().map_or(0, |resume| resume.restarted);
        self.earlier = if resume.is_some() { Self::seconds(&self.folder) } else { 0.0 };
        self.started = Instant::now();
        Ok(resume)
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> Result<ControlFlow<StopReason>> {
        if !self.writes {
            return Ok(ControlFlow::Continue(()));
        }
        if self.monitor.best(end.history) == Some(end.history.len() - 1) {
            let tensors = end.vars.iter().map(|(name, var)| (name.clone(), var.as_tensor())).collect();
            self.write(BEST, tensors, &serde_json::json!({ "checksum": NO_CHECKSUM }))?;
        }
        self.save(end)?;
        self.write_seconds()?;
        Ok(ControlFlow::Continue(()))
    }
}
