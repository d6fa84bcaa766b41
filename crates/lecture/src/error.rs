use std::path::PathBuf;

/// A section that cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A table of houses lacks a column.
    #[error("{path} has no column {column}; expected {expected}", path = path.display())]
    Column {
        /// The table.
        path: PathBuf,
        /// The missing column.
        column: &'static str,
        /// All columns that are needed.
        expected: String,
    },
    /// MNIST cannot be fetched.
    #[error("cannot fetch MNIST from {mirror}")]
    Mnist {
        /// The address of the folder.
        mirror: String,
        /// The cause.
        source: Box<firstsight_transfer::Error>,
    },
    /// A full report where a quick one was to be written.
    #[error("{} holds the report of a full run: name another folder with --out for a quick one", _0.display())]
    FullReport(PathBuf),
    /// From pretrained weights and trainings.
    #[error(transparent)]
    Transfer(Box<firstsight_transfer::Error>),
    /// From images and tables.
    #[error(transparent)]
    Data(Box<firstsight_data::Error>),
    /// From the generated handwriting.
    #[error(transparent)]
    Handwriting(#[from] firstsight_handwriting::Error),
    /// From a search.
    #[error(transparent)]
    Hpo(Box<firstsight_hpo::Error>),
    /// From pictures of what a network sees.
    #[error(transparent)]
    Insight(Box<firstsight_insight::Error>),
    /// From a layer's settings.
    #[error(transparent)]
    Ops(Box<firstsight_ops::Error>),
    /// From networks.
    #[error(transparent)]
    Models(Box<firstsight_models::Error>),
    /// From training.
    #[error(transparent)]
    Train(Box<firstsight_train::Error>),
    /// From the report.
    #[error(transparent)]
    Report(Box<firstsight_report::Error>),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! boxed {
    ($($variant:ident: $error:ty),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        })*
    };
}

boxed!(
    Transfer: firstsight_transfer::Error,
    Data: firstsight_data::Error,
    Hpo: firstsight_hpo::Error,
    Insight: firstsight_insight::Error,
    Ops: firstsight_ops::Error,
    Models: firstsight_models::Error,
    Train: firstsight_train::Error,
    Report: firstsight_report::Error
);

impl From<firstsight_transfer::WriteError> for Error {
    fn from(error: firstsight_transfer::WriteError) -> Self {
        firstsight_transfer::Error::from(error).into()
    }
}

impl From<firstsight_transfer::HubError> for Error {
    fn from(error: firstsight_transfer::HubError) -> Self {
        firstsight_transfer::Error::from(error).into()
    }
}
