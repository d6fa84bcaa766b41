//! Output files: written whole or not at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use firstsight_data::files::{Lock, Locked, write_atomically, write_atomically_with};
pub(crate) use firstsight_data::files::{is_temporary, sweep};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

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

/// As [`write()`], with the content produced by `write`, which gets a buffered writer.
///
/// # Errors
///
/// [`WriteError`] names the file.
pub fn write_with(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    write_atomically_with(path, write).map_err(WriteError::new(path))
}

/// The JSON object that a file holds.
pub(crate) fn read_object(path: &Path) -> Result<serde_json::Map<String, serde_json::Value>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    serde_json::from_str(&text).map_err(|e| Error::Config { path: path.to_path_buf(), reason: e.to_string() })
}

/// Writes a value as indented JSON with a final newline.
///
/// # Errors
///
/// [`Error::Write`] for a file that cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text =
        json(value).map_err(|e| Error::Config { path: path.to_path_buf(), reason: e.to_string() })?;
    text.push('\n');
    Ok(write(path, text.as_bytes())?)
}

/// A value as indented JSON, where a list within a list, such as a row of a matrix, takes one line.
///
/// # Errors
///
/// A value that JSON cannot hold.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Rows::default()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// serde_json's indented form with rows on one line.
#[derive(Default)]
struct Rows<'a> {
    pretty: PrettyFormatter<'a>,
    /// For each open container, whether it is a list.
    lists: Vec<bool>,
}

impl Rows<'_> {
    /// Whether the innermost list is within a list.
    fn in_row(&self) -> bool {
        self.lists.ends_with(&[true, true])
    }
}

impl Formatter for Rows<'_> {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists.push(true);
        if self.in_row() { CompactFormatter.begin_array(writer) } else { self.pretty.begin_array(writer) }
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let in_row = self.in_row();
        self.lists.pop();
        if in_row { CompactFormatter.end_array(writer) } else { self.pretty.end_array(writer) }
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        match self.in_row() {
            true if first => Ok(()),
            true => writer.write_all(b", "),
            false => self.pretty.begin_array_value(writer, first),
        }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.in_row() { Ok(()) } else { self.pretty.end_array_value(writer) }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists.push(false);
        self.pretty.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists.pop();
        self.pretty.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.pretty.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object_value(writer)
    }
}

/// Creates a folder with its parents.
///
/// # Errors
///
/// [`WriteError`] names the folder.
pub fn create_dir(path: &Path) -> Result<(), WriteError> {
    std::fs::create_dir_all(path).map_err(WriteError::new(path))
}

/// Checks, before the work, that a file can be written once it is done, and makes the folders above it.
///
/// # Errors
///
/// [`WriteError`] names the file.
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), create_dir)?;
    firstsight_data::files::check_writable(path).map_err(WriteError::new(path))
}

/// Locks a file, as [`Lock::acquire`] does.
pub(crate) fn lock(path: &Path) -> Result<Locked, WriteError> {
    Lock::acquire(path).map_err(WriteError::new(path))
}

/// Removes a file that may not exist.
pub(crate) fn remove(path: &Path) -> Result<(), WriteError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(WriteError::new(path)(source)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_matrix_take_one_line_each() {
        let value =
            serde_json::json!({"a": {"b": 1.5}, "m": [[1, 2], [3, 4]], "l": [{"n": [1, 2]}], "e": []});
        let text = json(&value).unwrap();
        assert!(text.contains("\n    [1, 2],\n    [3, 4]\n"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        let plain = serde_json::json!({"a": [1, {"b": []}], "c": null});
        assert_eq!(json(&plain).unwrap(), serde_json::to_string_pretty(&plain).unwrap());
    }
}
