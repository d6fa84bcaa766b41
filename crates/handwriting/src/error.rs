//! The crate's error type.

use std::io;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A character that has no stroke description.
    #[error("expected one of the {} characters in CHARACTERS or a digit, found {found:?}", crate::CHARACTERS.len())]
    Character {
        /// The character.
        found: char,
    },
    /// A scale outside (0, 1].
    #[error("scale: expected a number above 0 and at most 1, found {found}")]
    Scale {
        /// The scale.
        found: f64,
    },
    /// The output folder holds files that this crate did not write.
    #[error("{}: expected an empty folder or an earlier data set of this kind, found {}", folder.display(), found.display())]
    Foreign {
        /// The output folder.
        folder: PathBuf,
        /// The unexpected file or folder.
        found: PathBuf,
    },
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
