//! The crate's error type.

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of starting a service. What is wrong with a request is the answer to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that no service can have.
    #[error("{setting} should be {expected}, found {found}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },

    /// Photos that cannot be taught with.
    #[error("no page can teach with these photos: {0}")]
    Photos(#[from] firstsight_data::Error),

    /// An address at which no service can listen.
    #[error("cannot listen at {address}: {reason}")]
    Address {
        /// The host and port.
        address: String,
        /// Why not.
        reason: String,
    },

    /// The operating system refused a thread or a socket.
    #[error("cannot serve: {0}")]
    Io(#[from] std::io::Error),
}
