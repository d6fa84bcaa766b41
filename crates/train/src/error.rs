//! Errors.

use std::path::PathBuf;

use candle_core::Tensor;

/// An error of training or evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Error of a tensor operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A batch that does not fit the device's memory.
    #[error(
        "the device has no memory left for a batch of shape {shape:?} ({megabytes:.1} MB) and its activations: \
         use a smaller batch size ({source})"
    )]
    OutOfMemory {
        /// The shape of the batch's inputs.
        shape: Vec<usize>,
        /// Their size in 10⁶ bytes.
        megabytes: f64,
        /// The device's error.
        source: Box<candle_core::Error>,
    },
    /// Error of the batches.
    #[error(transparent)]
    Data(#[from] firstsight_data::Error),
    /// A file could not be read or written.
    #[error("cannot read or write {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The loss is NaN or infinite.
    #[error(
        "the loss is {loss} in batch {} of epoch {}: lower the learning rate or check the inputs", batch + 1, epoch + 1
    )]
    NonFinite {
        /// The epoch, from 0.
        epoch: usize,
        /// The batch within the epoch, from 0.
        batch: usize,
        /// The loss.
        loss: f64,
    },
    /// The model's outputs are NaN or infinite.
    #[error(
        "the network's output for example {example} (from 0) is {value}: its weights or its inputs hold NaN or infinite \
         values, or its training has diverged"
    )]
    NonFiniteOutput {
        /// The first such example, from 0.
        example: usize,
        /// The output.
        value: f32,
    },
    /// The validation loss is NaN or infinite.
    #[error(
        "the validation loss is {loss} after epoch {}: lower the learning rate or check the inputs",
        epoch + 1
    )]
    NonFiniteValidation {
        /// The epoch, from 0.
        epoch: usize,
        /// The loss.
        loss: f64,
    },
    /// A file is not a checkpoint of this training.
    #[error("{path} is not a checkpoint of this training: {reason}", path = path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// The expected and the found.
        reason: String,
    },
    /// A variable that is trained is not among the model's named variables.
    #[error("a variable of shape {shape:?} is trained, but is not among the model's named variables")]
    UnnamedVariable {
        /// The variable's shape.
        shape: Vec<usize>,
    },
    /// Shards that the processes cannot share out alike.
    #[error(
        "found {shards} shards for {processes} processes: both must be powers of two, with no more processes than shards"
    )]
    Shards {
        /// Shards of a batch.
        shards: usize,
        /// Processes.
        processes: usize,
    },
    /// Another process of the same task has failed.
    #[error("process {rank} failed: {reason}")]
    Process {
        /// The process.
        rank: usize,
        /// Its error.
        reason: String,
    },
    /// The processes of a task do not have the same files or settings.
    #[error(
        "the processes differ in {what}: {first} in process 0, {found} in process {rank}. Do all see the same files?"
    )]
    ProcessesDiffer {
        /// What should be the same.
        what: &'static str,
        /// The first process that differs from process 0.
        rank: usize,
        /// That of process 0.
        first: String,
        /// That of the other process.
        found: String,
    },
    /// Processes cannot reach each other.
    #[error("the processes cannot reach each other: {0}")]
    Communication(String),
    /// An error of a callback that is none of the above.
    #[error(transparent)]
    Callback(Box<dyn std::error::Error + Send + Sync>),
    /// There are no examples to train on or to evaluate.
    #[error("there are no {0} examples")]
    Empty(&'static str),
}

impl Error {
    /// Makes an error of a pass over `inputs` [`Error::OutOfMemory`] where the device refused memory, which CUDA says in these words.
    pub(crate) fn on<E: Into<Self>>(inputs: &Tensor) -> impl Fn(E) -> Self {
        |error| match error.into() {
            Self::Candle(source) if source.to_string().contains("out of memory") => {
                let bytes = inputs.elem_count() * inputs.dtype().size_in_bytes();
                let (shape, megabytes) = (inputs.dims().to_vec(), bytes as f64 / 1e6);
                Self::OutOfMemory { shape, megabytes, source: Box::new(source) }
            }
            error => error,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
