//! Errors.

use std::path::PathBuf;

/// An error of writing or checking a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A layer that ONNX has no operators for here.
    #[error(
        "{model} cannot be written as ONNX: the layer '{layer}' has no operator; see firstsight_models::graph::Op"
    )]
    Opaque {
        /// The network.
        model: &'static str,
        /// The layer.
        layer: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is no ONNX file of ours.
    #[error("{}: expected an ONNX file that `firstsight export` wrote, found {found}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// A network that the format has no room for.
    #[error("{model}: expected at most 2 GB, as a file of the format may have, found {bytes} bytes")]
    TooLarge {
        /// The network.
        model: &'static str,
        /// Bytes of the file.
        bytes: usize,
    },
    /// The file's network could not be run.
    #[error("{}: rten cannot run it: {reason}", path.display())]
    Run {
        /// The file.
        path: PathBuf,
        /// rten's reason.
        reason: String,
    },
    /// The file computes something else than the network.
    #[error(
        "{}: the outputs for its own images differ by up to {largest:e}, expected at most {tolerance:e}",
        path.display()
    )]
    Different {
        /// The file.
        path: PathBuf,
        /// Largest difference, relative to the largest output where that is more than 1.
        largest: f32,
        /// Largest that is accepted.
        tolerance: f32,
    },
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] firstsight_transfer::WriteError),
    /// Error of a run folder.
    #[error(transparent)]
    Transfer(#[from] firstsight_transfer::Error),
    /// Error of the data.
    #[error(transparent)]
    Data(#[from] firstsight_data::Error),
    /// Error of a tensor operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A result with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
