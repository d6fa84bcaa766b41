use std::path::PathBuf;

use crate::params::Mismatch;

/// What can go wrong with networks and their weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not a sound safetensors file.
    #[error("{path} is not a readable safetensors file: {source}", path = path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: safetensors::SafeTensorError,
    },
    /// A file's header is not that of a sound safetensors file.
    #[error("{path} is not a sound safetensors file: {reason}", path = path.display())]
    WeightsHeader {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A file's tensors are not the network's.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// No network has this name.
    #[error("no model is called '{name}'; {}the models are {}", nearest.map(|n| format!("did you mean '{n}'? ")).unwrap_or_default(), known.join(", "))]
    UnknownModel {
        /// The name as typed.
        name: String,
        /// The known name nearest to it, where one is near.
        nearest: Option<&'static str>,
        /// Every known name.
        known: Vec<&'static str>,
    },
    /// An input is smaller than a network can take.
    #[error("{model} can't take an input of {height}x{width}: the smallest is {smallest}x{smallest}")]
    InputTooSmall {
        /// The network.
        model: &'static str,
        /// Height of the input.
        height: usize,
        /// Width of the input.
        width: usize,
        /// The side of the smallest square input.
        smallest: usize,
    },
    /// A setting of a network makes no network.
    #[error("{model}: {rule}, found {found}")]
    Setting {
        /// The network.
        model: &'static str,
        /// What must hold.
        rule: &'static str,
        /// What was found.
        found: String,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
