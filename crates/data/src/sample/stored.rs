//! A value in a Parquet file.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};

use crate::guard::guarded;

/// An image's bytes in a column of a Parquet file.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) file: Arc<ParquetFile>,
    /// The column, among those without parts.
    pub(crate) column: usize,
    pub(crate) group: usize,
    /// The row in its group.
    pub(crate) row: usize,
}

impl Stored {
    pub(super) fn file(&self) -> &Path {
        &self.file.path
    }

    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let broken = |reason| io::Error::new(io::ErrorKind::InvalidData, reason);
        guarded(|| self.value(), broken)
    }

    fn value(&self) -> io::Result<Vec<u8>> {
        let unreadable = |error: ParquetError| io::Error::new(io::ErrorKind::InvalidData, error);
        let group = self.file.reader.get_row_group(self.group).map_err(unreadable)?;
        let ColumnReader::ByteArrayColumnReader(mut reader) =
            group.get_column_reader(self.column).map_err(unreadable)?
        else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a column of bytes"));
        };
        reader.skip_records(self.row).map_err(unreadable)?;
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        reader.read_records(1, Some(&mut levels), None, &mut values).map_err(unreadable)?;
        match values.pop() {
            Some(bytes) => Ok(bytes.data().to_vec()),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "no image in this row")),
        }
    }
}

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.file.path == other.file.path
            && (self.column, self.group, self.row) == (other.column, other.group, other.row)
    }
}

impl Eq for Stored {}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} of group {} in {}", self.row, self.group, self.file.path.display())
    }
}

/// A Parquet file whose footer has been read.
pub(crate) struct ParquetFile {
    pub(crate) path: PathBuf,
    pub(crate) reader: SerializedFileReader<Reopened>,
}

impl ParquetFile {
    pub(crate) fn open(path: &Path) -> Result<Self, ParquetError> {
        let reader = SerializedFileReader::new(Reopened(path.to_owned()))?;
        Ok(Self { path: path.to_owned(), reader })
    }
}

/// A file that each read opens anew, since threads that share a file also share its position.
pub(crate) struct Reopened(PathBuf);

impl Length for Reopened {
    fn len(&self) -> u64 {
        std::fs::metadata(&self.0).map_or(0, |metadata| metadata.len())
    }
}

/// A file whose end is an error. Its footer lies behind all that is read through this, and the Parquet library does not notice that
/// values which it skips are not there, so a damaged header would have it skip billions.
pub(crate) struct EofIsError(File);

impl Read for EofIsError {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.0.read(bytes)? {
            0 if !bytes.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            n => Ok(n),
        }
    }
}

impl ChunkReader for Reopened {
    type T = BufReader<EofIsError>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let mut file = File::open(&self.0)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(EofIsError(file)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes, ParquetError> {
        let mut file = File::open(&self.0)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(length as u64).read_to_end(&mut bytes)?;
        match bytes.len() == length {
            true => Ok(bytes.into()),
            false => Err(ParquetError::EOF(format!("{length} bytes at {start}"))),
        }
    }
}
