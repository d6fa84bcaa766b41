//! Output files: written whole or not at all.

use std::path::{Path, PathBuf};

use firstsight_data::files::write_atomically;
use serde::Serialize;

use crate::{Error, Result};

/// An output file or folder that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}", path = path.display())]
pub struct WriteError {
    /// The file or folder.
    pub path: PathBuf,
    /// The cause.
    pub source: std::io::Error,
}

impl WriteError {
    fn new(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { path, source }
    }
}

/// Writes a file whole or not at all.
///
/// # Errors
///
/// [`WriteError`] names the file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_atomically(path, bytes).map_err(WriteError::new(path))
}

/// Writes a value as indented JSON with a final newline.
///
/// # Errors
///
/// [`Error::Write`] for a file that cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Config { path: path.to_path_buf(), reason: e.to_string() })?;
    text.push('\n');
    Ok(write(path, text.as_bytes())?)
}

/// Creates a folder with its parents.
///
/// # Errors
///
/// [`WriteError`] names the folder.
pub fn create_dir(path: &Path) -> Result<(), WriteError> {
    std::fs::create_dir_all(path).map_err(WriteError::new(path))
}

/// Removes a file that may not exist.
pub(crate) fn remove(path: &Path) -> Result<(), WriteError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(WriteError::new(path)(source)),
        _ => Ok(()),
    }
}
