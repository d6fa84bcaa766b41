use std::path::PathBuf;

/// Why something is not logged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A place that trainings can't be logged to.
    #[error("expected tensorboard or mlflow:URL, such as mlflow:http://127.0.0.1:5000, found {0}")]
    Target(String),
    /// A file that cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] firstsight_transfer::Error),
    /// A server that doesn't answer.
    #[error("{url} does not answer: {reason}")]
    Unreachable {
        /// The server.
        url: String,
        /// Why not.
        reason: String,
    },
    /// A server that refuses.
    #[error("{url} refused {what} with {status}: {reason}")]
    Refused {
        /// The server.
        url: String,
        /// The request.
        what: String,
        /// The status of the answer.
        status: u16,
        /// What the server says.
        reason: String,
    },
}

/// A result with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
