//! Output files: written whole or not at all.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use firstsight_data::files::write_atomically;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An output that could not be written.
#[derive(Debug)]
pub(crate) struct Unwritable {
    path: PathBuf,
    source: std::io::Error,
}

impl std::fmt::Display for Unwritable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "can't write {}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for Unwritable {}

/// Writes under a temporary name beside `path`, syncs and renames.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Unwritable> {
    write_atomically(path, bytes).map_err(|source| Unwritable { path: path.to_path_buf(), source })
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(write(path, text.as_bytes())?)
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
}

pub(crate) fn create_dir(path: &Path) -> Result<(), Unwritable> {
    std::fs::create_dir_all(path).map_err(|source| Unwritable { path: path.to_path_buf(), source })
}

/// Removes a file that may not exist.
pub(crate) fn remove(path: &Path) -> Result<(), Unwritable> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Unwritable { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}
