use std::path::{Path, PathBuf};

use crate::{HubError, Interrupted, WriteError};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the Hub cannot be fetched.
    #[error(transparent)]
    Hub(Box<HubError>),
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// The action, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A `config.json` that no network can be built from.
    #[error("{path} cannot be used: {reason}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The rule and what was found.
        reason: String,
    },
    /// Weights of another network than the one that was asked for.
    #[error("{path} holds weights of {found}, expected {expected}", path = path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// The network asked for.
        expected: &'static str,
        /// The network in the file.
        found: String,
    },
    /// Neither a folder nor a file nor a hub repository.
    #[error(
        "'{0}' is neither a file or folder of weights nor a hub repository such as timm/mobilenetv2_100.ra_in1k"
    )]
    NoSource(String),
    /// A folder without `model.safetensors`.
    #[error(
        "{folder} holds no model.safetensors{}{}",
        other.as_ref().map(|other| format!("; name the file itself: {}", other.display())).unwrap_or_default(),
        foreign.as_ref().filter(|_| other.is_none()).map(|found| format!("; {found}")).unwrap_or_default(),
        folder = folder.display()
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// A safetensors file of another name in it.
        other: Option<PathBuf>,
        /// A file of another format in it.
        foreign: Option<Box<firstsight_models::ForeignFile>>,
    },
    /// A hub repository without `model.safetensors`.
    #[error(
        "{repository} has no model.safetensors; if it has pytorch_model.bin, download that and name the file with \
         --weights: the message says how to convert it"
    )]
    NoSafetensors {
        /// `owner/name`.
        repository: String,
    },
    /// Weights that cannot be adapted to an image's channels.
    #[error("{weights} is for images of {found} channels, and cannot be adapted to {expected}", weights = weights.display())]
    Channels {
        /// The file.
        weights: PathBuf,
        /// Channels that it takes.
        found: usize,
        /// Channels asked for.
        expected: usize,
    },
    /// No weights are published for a network.
    #[error("no published weights are known for {0}: name a file, a folder or a hub repository")]
    Unpublished(&'static str),
    /// A setting out of its range.
    #[error("{setting}: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// The expected values.
        expected: String,
        /// The value found.
        found: String,
    },
    /// An output file or folder that cannot be written.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// A training that was interrupted before there was a result.
    #[error("{0}")]
    Interrupted(#[from] Interrupted),
    /// Work that memory does not hold.
    #[error("{what} need {} of memory, {} are available: {smaller} would need less", gigabytes(*needed), gigabytes(*available))]
    Memory {
        /// What is to be held, in words and in the plural.
        what: String,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that are available.
        available: u64,
        /// What would need less.
        smaller: Smaller,
    },
    /// A folder that another process writes into.
    #[error(
        "{} is being written by another process{}: wait for its end, or name another folder",
        path.display(),
        by.map(|by| format!(" ({by})")).unwrap_or_default()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The number of the process, where it is known.
        by: Option<u32>,
    },
    /// A folder for a new run that holds one already.
    #[error("{} already holds a run", _0.display())]
    RunExists(PathBuf),
    /// A folder that is not the run that was expected.
    #[error("{path} {reason}", path = path.display())]
    Run {
        /// The folder.
        path: PathBuf,
        /// The rule and what was found.
        reason: String,
    },
    /// A data set that cannot be used.
    #[error("{path} {reason}", path = path.display())]
    Dataset {
        /// The folder.
        path: PathBuf,
        /// The rule and what was found.
        reason: String,
    },
    /// From a report.
    #[error(transparent)]
    Report(Box<firstsight_report::Error>),
    /// From networks and their weights.
    #[error(transparent)]
    Models(Box<firstsight_models::Error>),
    /// From training.
    #[error(transparent)]
    Train(Box<firstsight_train::Error>),
    /// From images and batches.
    #[error(transparent)]
    Data(Box<firstsight_data::Error>),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// What needs less memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Smaller {
    /// Fewer images at a time.
    Batch,
    /// Fewer images.
    DataSet,
}

impl std::fmt::Display for Smaller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Batch => "a smaller batch or input size",
            Self::DataSet => "fewer images",
        })
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

impl From<HubError> for Error {
    fn from(error: HubError) -> Self {
        Self::Hub(Box::new(error))
    }
}

impl From<firstsight_models::Error> for Error {
    fn from(error: firstsight_models::Error) -> Self {
        Self::Models(Box::new(error))
    }
}

impl From<firstsight_train::Error> for Error {
    fn from(error: firstsight_train::Error) -> Self {
        Self::Train(Box::new(error))
    }
}

impl From<firstsight_report::Error> for Error {
    fn from(error: firstsight_report::Error) -> Self {
        Self::Report(Box::new(error))
    }
}

impl From<firstsight_data::Error> for Error {
    fn from(error: firstsight_data::Error) -> Self {
        Self::Data(Box::new(error))
    }
}

impl Error {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// For `map_err`: a CSV file that cannot be read, or is none.
    pub(crate) fn csv(path: &Path) -> impl Fn(csv::Error) -> Self {
        move |error| {
            let reason = error.to_string();
            match error.into_kind() {
                csv::ErrorKind::Io(source) => Self::Io { action: "read", path: path.to_path_buf(), source },
                _ => Self::Config { path: path.to_path_buf(), reason },
            }
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
