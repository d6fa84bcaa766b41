use std::io;
use std::path::PathBuf;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A character that has no stroke description.
    #[error("no strokes for the character {found:?}; expected one of the {} in CHARACTERS", crate::CHARACTERS.len())]
    Character {
        /// The character asked for.
        found: char,
    },
    /// A scale outside (0, 1].
    #[error("scale: expected a number above 0 and at most 1, found {found}")]
    Scale {
        /// The scale asked for.
        found: f64,
    },
    /// The folder to write holds something that this crate did not put there.
    #[error("{}: expected an empty folder or an earlier data set of this kind, found {}", folder.display(), found.display())]
    Foreign {
        /// The folder to write.
        folder: PathBuf,
        /// What is not ours.
        found: PathBuf,
    },
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// With this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
