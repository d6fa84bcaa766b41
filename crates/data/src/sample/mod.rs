//! One image of a data set, wherever its bytes are.

mod index;
mod stored;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use index::{Index, Place};
pub(crate) use index::{Row, Samples};
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
/// It is an entry of an index that it shares with the images found together with it: some 50 bytes of memory each.
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
/// assert_eq!((sample.path(), sample.read()?), (path, vec![0xff, 0xd8]));
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Clone)]
pub struct Sample {
    index: Arc<Index>,
    at: u32,
}

impl Sample {
    /// An image file.
    pub fn file(path: impl AsRef<Path>) -> Self {
        let mut samples = Samples::default();
        samples.file(path.as_ref());
        Self { index: Arc::new(samples.into_only()), at: 0 }
    }

    /// The image's name for people: its file, or its name below the archive that holds it.
    pub fn path(&self) -> PathBuf {
        self.index.path(self.at)
    }

    /// The bytes of the image's file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], naming [`path`](Self::path).
    pub fn read(&self) -> Result<Vec<u8>> {
        let read = || -> io::Result<Vec<u8>> {
            match self.index.place(self.at) {
                Place::File => {
                    let path = self.path();
                    refuse_special(&path)?;
                    std::fs::read(&path)
                }
                Place::Part { file, offset, length } => {
                    let mut file = File::open(file)?;
                    file.seek(SeekFrom::Start(offset))?;
                    let mut bytes = Vec::new();
                    file.take(length).read_to_end(&mut bytes)?;
                    match bytes.len() as u64 == length {
                        true => Ok(bytes),
                        false => Err(io::ErrorKind::UnexpectedEof.into()),
                    }
                }
                Place::Stored(stored) => stored.read(),
            }
        };
        read().map_err(|error| Error::io("read", &self.path())(error))
    }

    /// The file that holds the bytes: [`path`](Self::path), or an archive.
    pub fn container(&self) -> PathBuf {
        match self.index.place(self.at) {
            Place::File => self.path(),
            Place::Part { file, .. } => file.to_owned(),
            Place::Stored(stored) => stored.file().to_owned(),
        }
    }

    /// The cell of a column in the table that names the image; `None` without such a column or table.
    pub fn cell(&self, column: &str) -> Option<&str> {
        let Row { columns, cells } = self.index.row(self.at)?;
        let at = columns.iter().position(|name| name == column)?;
        cells.get(at).map(String::as_str)
    }
}

impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        let is_same = Arc::ptr_eq(&self.index, &other.index) && self.at == other.at;
        is_same
            || self.path() == other.path()
                && self.index.place(self.at) == other.index.place(other.at)
                && self.index.row(self.at) == other.index.row(other.at)
    }
}

impl Eq for Sample {}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sample").field(&self.path()).finish()
    }
}
