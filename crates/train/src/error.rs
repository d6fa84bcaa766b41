use std::path::PathBuf;

/// What can go wrong while training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// The batches could not be read.
    #[error(transparent)]
    Data(#[from] firstsight_data::Error),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The loss is NaN or infinite.
    #[error(
        "the loss is {loss} at batch {batch} of epoch {epoch}: lower the learning rate, or look for unsound inputs"
    )]
    NonFinite {
        /// The epoch, from 0.
        epoch: usize,
        /// The batch within the epoch, from 0.
        batch: usize,
        /// The loss.
        loss: f64,
    },
    /// A file is not a checkpoint of this training.
    #[error("{path} is not a checkpoint of this training: {reason}", path = path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// There are no examples to train on or to measure.
    #[error("there are no {0} examples")]
    Empty(&'static str),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
