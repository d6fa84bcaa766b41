//! Arrays written to NumPy's `.npy` files, row by row.

use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;

/// A value of an `.npy` file.
pub trait NpyValue: Copy {
    /// NumPy's name of the type with its byte order.
    const DESCR: &'static str;

    /// Its bytes in that order, at the end of `bytes`.
    fn append(self, bytes: &mut Vec<u8>);
}

impl NpyValue for u8 {
    const DESCR: &'static str = "|u1";

    fn append(self, bytes: &mut Vec<u8>) {
        bytes.push(self);
    }
}

impl NpyValue for f32 {
    const DESCR: &'static str = "<f4";

    fn append(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }
}

/// Length of what is before the data: a multiple of 64, as the format asks, with room for any number of rows.
const HEADER: usize = 192;

/// An array in NumPy's `.npy` format, version 1.0, that is written row by row. The file is there once it is finished.
///
/// # Examples
///
/// ```
/// use firstsight_data::NpyRows;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("features.npy");
/// let mut rows = NpyRows::<f32>::create(&path, &[2])?;
/// rows.push(&[0.5, 1.0])?;
/// rows.push(&[0.0, 0.25])?;
/// rows.finish()?; // np.load(path).shape == (2, 2)
/// assert!(path.exists());
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug)]
pub struct NpyRows<T> {
    path: PathBuf,
    file: BufWriter<files::Draft>,
    row: Vec<usize>,
    n: usize,
    values: PhantomData<T>,
}

impl<T: NpyValue> NpyRows<T> {
    /// Begins a file whose rows have the shape `row`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Invalid`] for more than five axes.
    pub fn create(path: &Path, row: &[usize]) -> Result<Self> {
        if row.len() > 5 {
            return Err(Error::invalid("axes of a row", "at most 5", row.len()));
        }
        let mut file = files::Draft::create(path).map(BufWriter::new).map_err(Error::io("write", path))?;
        file.write_all(&[0; HEADER]).map_err(Error::io("write", path))?;
        Ok(Self { path: path.to_owned(), file, row: row.to_vec(), n: 0, values: PhantomData })
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Invalid`] for another number of values than a row has.
    pub fn push(&mut self, values: &[T]) -> Result<()> {
        let expected: usize = self.row.iter().product();
        if values.len() != expected {
            return Err(Error::invalid("values of a row", expected.to_string(), values.len()));
        }
        let mut bytes = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|value| value.append(&mut bytes));
        self.file.write_all(&bytes).map_err(Error::io("write", &self.path))?;
        self.n += 1;
        Ok(())
    }

    /// Number of rows so far.
    pub fn n_rows(&self) -> usize {
        self.n
    }

    /// Writes the shape, and gives the file its name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        let Self { path, mut file, row, n, .. } = self;
        let axes: Vec<String> = std::iter::once(n).chain(row).map(|n| n.to_string()).collect();
        // A tuple of one has a comma.
        let shape = if let [n] = &axes[..] { format!("{n},") } else { axes.join(", ") };
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend(((HEADER - 10) as u16).to_le_bytes());
        let text = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({shape}), }}", T::DESCR);
        header.extend(text.as_bytes());
        header.resize(HEADER - 1, b' ');
        header.push(b'\n');
        let mut end = || -> io::Result<()> {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)
        };
        end().map_err(Error::io("write", &path))?;
        let file = file.into_inner().map_err(|error| Error::io("write", &path)(error.into_error()))?;
        file.commit().map(drop).map_err(Error::io("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_has_numpys_header_and_its_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut rows = NpyRows::<f32>::create(&path, &[1, 2]).unwrap();
        for i in 0..3 {
            rows.push(&[i as f32, 0.5]).unwrap();
        }
        assert_eq!((rows.n_rows(), path.exists()), (3, false));
        assert!(rows.push(&[1.0]).unwrap_err().to_string().contains("expected 2"));
        rows.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (header, data) = bytes.split_at(HEADER);
        assert_eq!(header[..10], *b"\x93NUMPY\x01\x00\xb6\x00");
        let text = std::str::from_utf8(&header[10..]).unwrap();
        assert_eq!(text.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1, 2), }");
        assert!(text.ends_with('\n'));
        let values: Vec<f32> = data.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
        assert_eq!(values, [0.0, 0.5, 1.0, 0.5, 2.0, 0.5]);

        let most = [usize::MAX; 5];
        let rows = NpyRows::<u8>::create(&path, &most).unwrap();
        rows.finish().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), HEADER as u64);
        assert!(NpyRows::<u8>::create(&path, &[1; 6]).is_err());
    }
}
