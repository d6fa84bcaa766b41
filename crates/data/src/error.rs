//! The crate's error type.

#[cfg(feature = "decode")]
use std::path::Path;
use std::path::PathBuf;

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error between a folder and a batch. Each message names the file or setting, the expected and the found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation: "read", "list" or "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// The folder of a data set or split holds no class folder with images.
    #[error("expected one folder of images per class in {}, found {found}", path.display())]
    NoClasses {
        /// The folder that was scanned.
        path: PathBuf,
        /// What is in it, counted.
        found: String,
    },

    /// A data set has no training images.
    #[error("expected training images in {}, found only {}", path.display(), found.join(" and "))]
    NoTraining {
        /// The data set's folder.
        path: PathBuf,
        /// The splits that have images.
        found: Vec<&'static str>,
    },

    /// A folder holds no image.
    #[error("expected images in {}, found {found}", path.display())]
    NoImages {
        /// The folder that was scanned.
        path: PathBuf,
        /// What is in it, counted.
        found: String,
    },

    /// A class folder holds no readable image.
    #[error("expected images of class {class:?} in {}, found none: add some, or remove the folder", path.display())]
    EmptyClass {
        /// The class, named as its folder.
        class: String,
        /// The class folder.
        path: PathBuf,
    },

    /// A classifier needs at least two classes.
    #[error("expected at least two class folders in {}, found only {class:?}", path.display())]
    OneClass {
        /// The only class.
        class: String,
        /// The folder that was scanned.
        path: PathBuf,
    },

    /// A Parquet file or an archive isn't what it should be.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// The expected content.
        expected: String,
        /// The content.
        found: String,
    },

    /// The validation or test folder has classes that the training folder lacks.
    #[error("{}", unknown_classes(split, path, train.as_deref(), unknown, alike.as_deref()))]
    UnknownClasses {
        /// `val` or `test`.
        split: &'static str,
        /// The validation or test folder, or the table.
        path: PathBuf,
        /// The training folder, if it isn't a table.
        train: Option<PathBuf>,
        /// The classes that the training images lack.
        unknown: Vec<String>,
        /// A class of the training images that differs from one of them in letter case alone.
        alike: Option<String>,
    },

    /// Two folders are the same split.
    #[error("expected one {split} folder, found both {} and {}", first.display(), second.display())]
    AmbiguousSplit {
        /// `train`, `val` or `test`.
        split: &'static str,
        /// The first folder.
        first: PathBuf,
        /// The second folder.
        second: PathBuf,
    },

    /// A class folder's name is not Unicode, so it cannot be a label.
    #[error("expected a Unicode name, found {}", path.display())]
    NotUnicode {
        /// The folder.
        path: PathBuf,
    },

    /// A file is named like an image but does not begin like one.
    #[error("expected PNG, JPEG, GIF, BMP, WebP, TIFF or PNM data in {}, found {found}", path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// The first bytes of the file.
        found: String,
    },

    /// A file begins like an image but cannot be decoded: truncated, corrupt, or of a kind not supported.
    #[error("cannot decode {} as {format}: {message}", path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// The format according to the first bytes.
        format: &'static str,
        /// The decoder's message.
        message: String,
    },

    /// The image would need more pixels, decoded or resized, than the settings allow.
    #[error("expected at most {max_pixels} pixels in {}, found {width}x{height} (--max-pixels allows more)", path.display())]
    TooManyPixels {
        /// The file.
        path: PathBuf,
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// The limit, of [`Reading::max_pixels`](crate::Reading::max_pixels).
        max_pixels: u64,
    },

    /// Memory does not hold a photo while it is decoded.
    #[error("decoding {} needs {:.1} GB of memory, {:.1} GB are available: a smaller copy would need less", path.display(), *needed as f64 / 1e9, *available as f64 / 1e9)]
    DecodingMemory {
        /// The file.
        path: PathBuf,
        /// Bytes that it needs, estimated.
        needed: u64,
        /// Bytes that are available.
        available: u64,
    },

    /// An image that is decoded again is another one now.
    #[error("{} has changed since it was first read: start anew", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },

    /// Memory does not hold the decoded images that are needed together.
    #[error("{images} decoded images need {:.1} GB, and memory does not hold them", *bytes as f64 / 1e9)]
    OutOfMemory {
        /// Number of these images.
        images: usize,
        /// Bytes of all of them.
        bytes: u64,
    },

    /// Files of a folder cannot be read as images.
    #[error("{}", unreadable(files, *total))]
    Unreadable {
        /// Every such file with the reason, in the folder's order.
        files: Vec<(PathBuf, String)>,
        /// The number of files, readable or not.
        total: usize,
        /// The operating system's error for the first file that it did not give, if there is one.
        source: Option<std::io::Error>,
    },

    /// A setting or argument is invalid.
    #[error("{name}: expected {expected}, found {found}")]
    Invalid {
        /// The setting or argument.
        name: &'static str,
        /// The expected value.
        expected: String,
        /// The value.
        found: String,
    },

    /// A table's cell or line is not what it should be.
    #[error("{}", wrong_table(path, *line, column, expected, found))]
    Csv {
        /// The file.
        path: PathBuf,
        /// Line number, counted from 1; the header is line 1.
        line: u64,
        /// The column's name, or its number, counted from 1, if it has no name; empty where a whole line is wrong.
        column: String,
        /// The expected value.
        expected: String,
        /// The text.
        found: String,
    },

    /// A file of a data set is not of its format.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The expected value.
        expected: String,
        /// The content of the file.
        found: String,
    },

    /// The folder to write to exists already.
    #[error("{} exists already: name another folder", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },

    /// What another process says is wrong, which names the file.
    #[error("{0}")]
    Said(String),

    /// The thread that prepares batches ended before its last batch.
    #[error("the thread that prepares batches stopped after {found} of {expected} batches")]
    PrefetchStopped {
        /// Batches in the epoch.
        expected: usize,
        /// Batches received.
        found: usize,
    },

    /// A tensor operation failed.
    #[cfg(feature = "candle")]
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Unreadable files that a message names.
const NAMED: usize = 10;

fn unreadable(files: &[(PathBuf, String)], total: usize) -> String {
    let mut lines = vec![format!(
        "{} of {total} files cannot be read as images (--on-error skip leaves them out):",
        files.len()
    )];
    lines.extend(files.iter().take(NAMED).map(|(_, reason)| format!("  {reason}")));
    if files.len() > NAMED {
        lines.push(format!("  and {} more", files.len() - NAMED));
    }
    lines.join("\n")
}

fn wrong_table(path: &std::path::Path, line: u64, column: &str, expected: &str, found: &str) -> String {
    let path = path.display();
    match column {
        "" => format!("{path} line {line}: expected {expected}, found {found}"),
        _ => format!("{path} line {line}, column {column:?}: expected {expected}, found {found:?}"),
    }
}

fn unknown_classes(
    split: &str,
    path: &std::path::Path,
    train: Option<&std::path::Path>,
    unknown: &[String],
    alike: Option<&str>,
) -> String {
    let are = if unknown.len() == 1 { "is" } else { "are" };
    let classes = unknown.join(", ");
    let sentence = match train {
        Some(train) => format!("{classes} {are} in {} but not in {}", path.display(), train.display()),
        None => format!("{classes} {are} in {split} but not in train ({})", path.display()),
    };
    match alike {
        Some(alike) => format!(
            "{sentence}, which has {alike}: they differ in letter case alone, so give them the same name"
        ),
        None => sentence,
    }
}

impl Error {
    /// For `map_err`: adds the operation and the file.
    #[cfg(feature = "decode")]
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn invalid(name: &'static str, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Invalid { name, expected: expected.into(), found: found.to_string() }
    }
}
