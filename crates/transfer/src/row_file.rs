//! A file of rows that grows as images are answered, and that interrupted work goes on with.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use firstsight_data::Sample;
use firstsight_data::files::Growing;

use crate::{Error, Result};

/// The form of the rows of a [`RowFile`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFormat {
    /// CSV with these columns, of which the first is the image and `error` says why it could not be read.
    Csv(Vec<String>),
    /// A JSON object in each line, with `image`, and `error` where the image could not be read.
    JsonLines,
}

/// A file with a row for each image, in order, that grows row by row.
///
/// # Examples
///
/// ```
/// use firstsight_data::Sample;
/// use firstsight_transfer::{RowFile, RowFormat};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("rows.jsonl");
/// let images = ["1.jpg", "2.jpg", "3.jpg"].map(Sample::file);
/// let row = |i: usize| format!("{{\"image\":\"{}.jpg\"}}\n", i + 1);
/// let mut rows = RowFile::create(&path, &RowFormat::JsonLines)?;
/// rows.push(row(0).as_bytes())?;
/// // Images are answered in batches of 2: the first one is answered again.
/// let mut rows = RowFile::resume(&path, &RowFormat::JsonLines, &images, 2)?;
/// assert_eq!(rows.next_image(), 0);
/// (0..3).try_for_each(|i| rows.push(row(i).as_bytes()))?;
/// assert_eq!(std::fs::read_to_string(path)?.lines().count(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RowFile {
    path: PathBuf,
    file: Growing,
    /// The image that the next row is of.
    next: usize,
    /// Rows that the file had.
    kept: usize,
    /// The last of them.
    last: Vec<u8>,
    unreadable: usize,
}

impl RowFile {
    /// Begins a file, in place of one that is there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn create(path: &Path, format: &RowFormat) -> Result<Self> {
        let mut file = Growing::create(path).map_err(Error::io("write", path))?;
        if let RowFormat::Csv(columns) = format {
            file.write_all(&csv_row(columns)?).map_err(Error::io("write", path))?;
        }
        Ok(Self { path: path.to_path_buf(), file, next: 0, kept: 0, last: Vec::new(), unreadable: 0 })
    }

    /// Goes on with a file, or begins it where there is none. Its rows must be those of the first `images`, which are answered
    /// `batch` at a time; a last row that is cut off is dropped.
    ///
    /// [`next_image`](Self::next_image) is the image to go on with: the first in the batch of the last row, so that batches are the same as
    /// in work that was not interrupted, and so are the answers in every bit. Rows that are there are not written again.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a file of other columns or of other images, [`Error::Io`].
    pub fn resume(path: &Path, format: &RowFormat, images: &[Sample], batch: usize) -> Result<Self> {
        let mut file = Growing::open(path).map_err(Error::io("write", path))?;
        let length = file.file().metadata().map_err(Error::io("read", path))?.len();
        let mut kept =
            Kept { path, images, batch, rows: 0, bytes: 0, last: Vec::new(), errors: 0, unreadable: 0 };
        match format {
            RowFormat::Csv(columns) => kept.read_csv(file.file(), columns)?,
            RowFormat::JsonLines => kept.read_lines(file.file())?,
        }
        let Kept { rows, bytes, last, unreadable, .. } = kept;
        if bytes == 0 {
            return Self::create(path, format);
        }
        if bytes < length {
            file.truncate(bytes).map_err(Error::io("write", path))?;
        }
        let next = rows.saturating_sub(1) / batch * batch;
        Ok(Self { path: path.to_path_buf(), file, next, kept: rows, last, unreadable })
    }

    /// The index of the image that the next row is of.
    pub fn next_image(&self) -> usize {
        self.next
    }

    /// Of the images before [`next_image`](Self::next_image) in a file that was gone on with, the number that could not be read.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Adds the row of the next image, with its end of line, unless the file has it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Config`] where the last row that the file had is another one, as from another run.
    pub fn push(&mut self, row: &[u8]) -> Result<()> {
        self.next += 1;
        if self.next > self.kept {
            return self.file.write_all(row).map_err(Error::io("write", &self.path));
        }
        if self.next == self.kept && self.last != row {
            let [found, expected] =
                [&self.last, row].map(|row| String::from_utf8_lossy(row).trim().to_owned());
            let reason =
                format!("its last row is {found}, expected {expected}: the run or the image is another one");
            return Err(Error::Config { path: self.path.clone(), reason });
        }
        Ok(())
    }
}

/// A cell that spreadsheets take for text. One that begins as a formula does, and is no number, gets an apostrophe before it: class and
/// file names may come from strangers (<https://owasp.org/www-community/attacks/CSV_Injection>).
pub(crate) fn as_text(cell: &[u8]) -> Cow<'_, [u8]> {
    let is_number = || std::str::from_utf8(cell).is_ok_and(|text| text.parse::<f64>().is_ok());
    match cell.first() {
        Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r') if !is_number() => [b"'", cell].concat().into(),
        _ => cell.into(),
    }
}

/// A row of CSV with its end of line. A cell that a spreadsheet would take for a formula gets an apostrophe before it.
///
/// # Errors
///
/// None for cells of text.
pub fn csv_row<T: AsRef<[u8]>>(cells: impl IntoIterator<Item = T>) -> Result<Vec<u8>> {
    let unwritable = |error: String| Error::io("write", "a row".as_ref())(std::io::Error::other(error));
    let mut writer = csv::Writer::from_writer(Vec::new());
    for cell in cells {
        writer.write_field(as_text(cell.as_ref())).map_err(|error| unwritable(error.to_string()))?;
    }
    writer.write_record(None::<&[u8]>).map_err(|error| unwritable(error.to_string()))?;
    writer.into_inner().map_err(|error| unwritable(error.to_string()))
}

/// What a file holds already.
struct Kept<'a> {
    path: &'a Path,
    images: &'a [Sample],
    batch: usize,
    rows: usize,
    /// Up to the end of the last whole row.
    bytes: u64,
    last: Vec<u8>,
    errors: usize,
    /// The errors before the batch of the last row.
    unreadable: usize,
}

impl Kept<'_> {
    fn error(&self, reason: String) -> Error {
        Error::Config { path: self.path.to_path_buf(), reason }
    }

    fn row(&mut self, image: &[u8], row: Vec<u8>, is_error: bool) -> Result<()> {
        let expected = self.images.get(self.rows).map(|sample| sample.path().display().to_string());
        let is_expected = |path: &str| image == path.as_bytes() || image == &*as_text(path.as_bytes());
        if !expected.as_deref().is_some_and(is_expected) {
            let (number, found) = (self.rows + 1, String::from_utf8_lossy(image));
            let expected = expected.unwrap_or_else(|| "no more rows".to_owned());
            return Err(self.error(format!("row {number} is of {found}, expected {expected}")));
        }
        if self.rows.is_multiple_of(self.batch) {
            self.unreadable = self.errors;
        }
        self.errors += usize::from(is_error);
        self.rows += 1;
        self.bytes += row.len() as u64;
        self.last = row;
        Ok(())
    }

    fn read_csv(&mut self, file: &File, columns: &[String]) -> Result<()> {
        let io = || Error::io("read", self.path);
        let length = file.metadata().map_err(io())?.len();
        let (header, mut found) = (csv_row(columns)?, Vec::new());
        let mut reader = BufReader::new(file);
        reader.by_ref().take(header.len() as u64).read_to_end(&mut found).map_err(io())?;
        if found != header {
            // It may be cut off.
            return match length == found.len() as u64 && header.starts_with(&found) {
                true => Ok(()),
                false => {
                    let found = String::from_utf8_lossy(&found).into_owned();
                    Err(self.error(format!("expected the columns {}, found {found:?}", columns.join(","))))
                }
            };
        }
        self.bytes = header.len() as u64;
        // A class may have that name too.
        let error_at = columns.iter().rposition(|column| column == "error");
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(reader);
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|error| self.error(error.to_string()))? {
            let (end, row) = (header.len() as u64 + reader.position().byte(), csv_row(&record)?);
            // A row that is cut off has another length.
            if record.len() != columns.len() || self.bytes + row.len() as u64 != end {
                return match end == length {
                    true => Ok(()),
                    false => Err(self.error(format!("row {} is not as it was written", self.rows + 1))),
                };
            }
            let is_error = error_at.is_some_and(|at| !record[at].is_empty());
            self.row(&record[0], row, is_error)?;
        }
        Ok(())
    }

    fn read_lines(&mut self, file: &File) -> Result<()> {
        let mut reader = BufReader::new(file);
        loop {
            let mut line = Vec::new();
            reader.read_until(b'\n', &mut line).map_err(Error::io("read", self.path))?;
            // A line that is cut off has no end.
            if !line.ends_with(b"\n") {
                return Ok(());
            }
            let value: serde_json::Value = serde_json::from_slice(&line)
                .map_err(|error| self.error(format!("row {} is no JSON: {error}", self.rows + 1)))?;
            let image = value["image"].as_str().unwrap_or_default().to_owned();
            self.row(image.as_bytes(), line, value.get("error").is_some())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_gone_on_with_from_its_last_whole_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        let format = RowFormat::Csv(["image", "label", "error"].map(str::to_owned).to_vec());
        let images = ["1.jpg", "2.jpg", "3.jpg", "4.jpg"].map(Sample::file);
        let rows = ["1.jpg,cat,\n", "2.jpg,,cut off\n", "3.jpg,\"a, b\",\n", "4.jpg,dog,\n"];
        let whole = format!("image,label,error\n{}", rows.concat());
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut file = RowFile::resume(&path, &format, &images, 1).unwrap();
            let kept = whole[..length].lines().count().saturating_sub(1);
            let kept = kept - usize::from(kept > 0 && !whole[..length].ends_with('\n'));
            assert_eq!(file.next_image(), kept.saturating_sub(1), "{length} bytes");
            assert_eq!(file.unreadable(), usize::from(kept > 2), "{length} bytes");
            rows[file.next_image()..].iter().for_each(|row| file.push(row.as_bytes()).unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole, "{length} bytes");
        }
        for (found, reason) in [
            ("image,class,error\n", "expected the columns image,label,error, found \"image,class,error\\n\""),
            ("image,lab\nel", "expected the columns image,label,error, found \"image,lab\\nel\""),
            ("image,label,error\n1.jpg,\"cat\",\n2.jpg,,\n", "row 1 is not as it was written"),
            ("image,label,error\n1.jpg,cat\n2.jpg,,\n", "row 1 is not as it was written"),
            ("image,label,error\n2.jpg,cat,\n", "row 1 is of 2.jpg, expected 1.jpg"),
        ] {
            std::fs::write(&path, found).unwrap();
            let error = RowFile::resume(&path, &format, &images, 1).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), found, "it is left alone");
        }
    }

    #[test]
    fn formulas_become_text_and_numbers_stay() {
        for cell in ["-1.5", "+3e2", "plain", "", "a=b"] {
            assert_eq!(as_text(cell.as_bytes()), cell.as_bytes());
        }
        for cell in ["=1+1", "-a", "+", "@sum", "\tx"] {
            assert_eq!(as_text(cell.as_bytes()), format!("'{cell}").as_bytes());
        }
    }
}
