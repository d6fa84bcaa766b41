//! One image of a data set, wherever its bytes are.

mod stored;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
pub(crate) use stored::{ParquetFile, Stored};

/// Refuses a pipe or a device, which may have no end.
pub(crate) fn refuse_special(path: &Path) -> io::Result<()> {
    let kind = std::fs::metadata(path)?.file_type();
    match kind.is_file() || kind.is_dir() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "a pipe or a device, not a file")),
    }
}

/// One image of a data set: a file, a member of a tar archive or a row of a Parquet file.
///
/// # Examples
///
/// ```
/// use firstsight_data::Sample;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("1.jpg");
/// # std::fs::write(&path, [0xff, 0xd8]).unwrap();
/// let sample = Sample::file(&path);
/// assert_eq!((&*sample.path, sample.read()?), (&*path, vec![0xff, 0xd8]));
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The image's name for people: its file, or its name below the archive that holds it.
    pub path: Arc<Path>,
    source: Source,
    row: Option<Box<Row>>,
}

/// Where an image's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    File,
    /// A part of a file.
    Part(Box<Part>),
    /// A value in a file.
    Stored(Box<Stored>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    file: Arc<Path>,
    offset: u64,
    length: u64,
}

/// The row of a table that names an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) columns: Arc<[String]>,
    pub(crate) cells: Box<[String]>,
}

impl Sample {
    /// An image file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into().into(), source: Source::File, row: None }
    }

    /// A part of a file, called `path`.
    pub(crate) fn part(path: PathBuf, file: Arc<Path>, offset: u64, length: u64) -> Self {
        let part = Part { file, offset, length };
        Self { path: path.into(), source: Source::Part(Box::new(part)), row: None }
    }

    /// A value in a file, called `path`.
    pub(crate) fn stored(path: PathBuf, stored: Stored) -> Self {
        Self { path: path.into(), source: Source::Stored(Box::new(stored)), row: None }
    }

    pub(crate) fn with_row(self, row: Row) -> Self {
        Self { row: Some(Box::new(row)), ..self }
    }

    /// The bytes of the image's file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], naming [`path`](Self::path).
    pub fn read(&self) -> Result<Vec<u8>> {
        let read = || -> io::Result<Vec<u8>> {
            match &self.source {
                Source::File => {
                    refuse_special(&self.path)?;
                    std::fs::read(&self.path)
                }
                Source::Part(part) => {
                    let mut file = File::open(&part.file)?;
                    file.seek(SeekFrom::Start(part.offset))?;
                    let mut bytes = Vec::new();
                    file.take(part.length).read_to_end(&mut bytes)?;
                    match bytes.len() as u64 == part.length {
                        true => Ok(bytes),
                        false => Err(io::ErrorKind::UnexpectedEof.into()),
                    }
                }
                Source::Stored(stored) => stored.read(),
            }
        };
        read().map_err(Error::io("read", &self.path))
    }

    /// The file that holds the bytes: [`path`](Self::path), or an archive.
    pub fn container(&self) -> &Path {
        match &self.source {
            Source::File => &self.path,
            Source::Part(part) => &part.file,
            Source::Stored(stored) => stored.file(),
        }
    }

    /// The cell of a column in the table that names the image; `None` without such a column or table.
    pub fn cell(&self, column: &str) -> Option<&str> {
        let Row { columns, cells } = self.row.as_deref()?;
        let at = columns.iter().position(|name| name == column)?;
        cells.get(at).map(String::as_str)
    }
}
