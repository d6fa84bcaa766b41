//! The crate's error type.

use std::path::PathBuf;

/// An error in making a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be written; an existing one is unchanged.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The path of the report, of a figure, or of the figures' folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A figure that an earlier report left in the folder could not be removed.
    #[error("cannot remove {}, a figure of an earlier report: {source}", path.display())]
    Remove {
        /// The figure's path.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A figure could not be drawn as a file of its own.
    #[error("cannot draw {}: {source}", path.display())]
    Draw {
        /// The figure's path.
        path: PathBuf,
        /// The error in its picture.
        source: Box<Error>,
    },
    /// The pixels do not make an image of the size given.
    #[error(
        "an image of {height} rows, {width} columns and {channels} channels needs at least one pixel, \
         1 or 3 channels and height x width x channels bytes; found {found} bytes"
    )]
    Pixels {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// Channels.
        channels: usize,
        /// The number of bytes found.
        found: usize,
    },
    /// The bytes given as a PNG file are not one.
    #[error("expected the bytes of a PNG file: {0}")]
    NotPng(#[from] png::DecodingError),
    /// The pixels could not be encoded.
    #[error("cannot encode a picture as PNG: {0}")]
    Encode(#[from] png::EncodingError),
    /// A chart has more or fewer values than its labels ask for.
    #[error("{chart}: expected {expected} values, found {found}")]
    Values {
        /// The chart, and the part of it.
        chart: String,
        /// The expected number of values.
        expected: usize,
        /// The number of values found.
        found: usize,
    },
}

/// The result of making a report or a part of one.
pub type Result<T> = std::result::Result<T, Error>;
