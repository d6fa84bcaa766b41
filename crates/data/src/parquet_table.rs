//! Tables written to Parquet files, row group by row group.

use std::collections::HashSet;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::error::{Error, Result};
use crate::files;

/// Rows that are in memory before they are written.
const GROUP: usize = 8192;

/// What the cells of a [`ParquetTable`]'s column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParquetColumn {
    /// Text.
    Text,
    /// Numbers of 32 bits.
    Float,
    /// Lists of numbers of 32 bits.
    Floats,
}

/// A cell of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParquetCell<'a> {
    /// A text, or a number as text. An empty one is null.
    Text(&'a str),
    /// A list of numbers.
    Floats(&'a [f32]),
}

impl<'a> From<&'a str> for ParquetCell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

/// A Parquet file that is written row by row. Rows are written in groups of 8192, compressed by Snappy; the file is there once it is
/// finished.
///
/// # Examples
///
/// ```
/// use firstsight_data::{ParquetColumn, ParquetTable};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("rows.parquet");
/// let columns = [("image", ParquetColumn::Text), ("probability", ParquetColumn::Float)];
/// let mut table = ParquetTable::create(&path, &columns)?;
/// table.push(["1.jpg", "0.75"])?;
/// table.push(["2.jpg", ""])?;
/// table.finish()?;
/// assert!(path.exists());
/// # Ok::<(), firstsight_data::Error>(())
/// ```
pub struct ParquetTable {
    path: PathBuf,
    writer: SerializedFileWriter<BufWriter<files::Draft>>,
    columns: Vec<Column>,
    /// Rows since the last group.
    rows: usize,
}

/// The cells of a column since the last row group. Values are those that are there. A level is 1 for those, else 0; of lists
/// it is 2 for a value, 1 for a list without any, and 0 for no list.
struct Column {
    name: String,
    values: Values,
    levels: Vec<i16>,
}

enum Values {
    Text(Vec<ByteArray>),
    Float(Vec<f32>),
    /// With a 0 for the first value of each list, and a 1 for the others.
    Floats(Vec<f32>, Vec<i16>),
}

impl ParquetTable {
    /// Begins a file with these columns.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Invalid`] for columns of the same name.
    pub fn create<N: AsRef<str>>(path: &Path, columns: &[(N, ParquetColumn)]) -> Result<Self> {
        let mut names = HashSet::new();
        if let Some((name, _)) = columns.iter().find(|(name, _)| !names.insert(name.as_ref())) {
            return Err(Error::invalid("columns of a Parquet file", "different names", name.as_ref()));
        }
        let fields = columns.iter().map(|(name, kind)| field(name.as_ref(), *kind).map(Arc::new));
        let begin = || -> Result<_, ParquetError> {
            let fields = fields.collect::<Result<Vec<_>, _>>()?;
            let schema = Type::group_type_builder("schema").with_fields(fields).build()?;
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            let file = BufWriter::with_capacity(1 << 20, files::Draft::create(path)?);
            SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))
        };
        let writer = begin().map_err(|error| unwritten(path, error))?;
        let columns = columns.iter().map(|(name, kind)| Column {
            name: name.as_ref().to_owned(),
            values: match kind {
                ParquetColumn::Text => Values::Text(Vec::new()),
                ParquetColumn::Float => Values::Float(Vec::new()),
                ParquetColumn::Floats => Values::Floats(Vec::new(), Vec::new()),
            },
            levels: Vec::new(),
        });
        Ok(Self { path: path.to_owned(), writer, columns: columns.collect(), rows: 0 })
    }

    /// Adds a row. An empty cell is null.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Invalid`] for another number of cells than columns, or a cell that is not of its column's kind.
    pub fn push<'a, C: Into<ParquetCell<'a>>>(&mut self, cells: impl IntoIterator<Item = C>) -> Result<()> {
        let (mut cells, n) = (cells.into_iter(), self.columns.len());
        for (i, column) in self.columns.iter_mut().enumerate() {
            let cell = cells.next().ok_or_else(|| Error::invalid("cells of a row", n.to_string(), i))?;
            column.push(cell.into())?;
        }
        let more = cells.count();
        if more > 0 {
            return Err(Error::invalid("cells of a row", n.to_string(), n + more));
        }
        self.rows += 1;
        if self.rows == GROUP { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<()> {
        self.rows = 0;
        let mut write = || -> Result<(), ParquetError> {
            let mut group = self.writer.next_row_group()?;
            for column in &mut self.columns {
                let Some(mut writer) = group.next_column()? else { break };
                let levels = Some(&column.levels[..]);
                match &mut column.values {
                    Values::Text(values) => {
                        writer.typed::<ByteArrayType>().write_batch(values, levels, None)?;
                        values.clear();
                    }
                    Values::Float(values) => {
                        writer.typed::<FloatType>().write_batch(values, levels, None)?;
                        values.clear();
                    }
                    Values::Floats(values, repeated) => {
                        writer.typed::<FloatType>().write_batch(values, levels, Some(repeated))?;
                        values.clear();
                        repeated.clear();
                    }
                }
                column.levels.clear();
                writer.close()?;
            }
            group.close().map(|_| ())
        };
        write().map_err(|error| unwritten(&self.path, error))
    }

    /// Writes what is left, and gives the file its name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        if self.rows > 0 {
            self.write_group()?;
        }
        let Self { path, writer, .. } = self;
        let file = writer.into_inner().map_err(|error| unwritten(&path, error))?;
        let file = file.into_inner().map_err(|error| Error::io("write", &path)(error.into_error()))?;
        file.commit().map(drop).map_err(Error::io("write", &path))
    }
}

/// A column of the file.
fn field(name: &str, kind: ParquetColumn) -> Result<Type, ParquetError> {
    let of = |name, physical, logical, repetition| {
        let field = Type::primitive_type_builder(name, physical).with_logical_type(logical);
        field.with_repetition(repetition).build()
    };
    match kind {
        ParquetColumn::Text => {
            of(name, Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::OPTIONAL)
        }
        ParquetColumn::Float => of(name, Physical::FLOAT, None, Repetition::OPTIONAL),
        // Three levels, as the format's page on lists says.
        ParquetColumn::Floats => {
            let element = of("element", Physical::FLOAT, None, Repetition::REQUIRED)?;
            let list = Type::group_type_builder("list").with_repetition(Repetition::REPEATED);
            let list = list.with_fields(vec![Arc::new(element)]).build()?;
            let field = Type::group_type_builder(name).with_repetition(Repetition::OPTIONAL);
            field.with_logical_type(Some(LogicalType::List)).with_fields(vec![Arc::new(list)]).build()
        }
    }
}

impl Column {
    fn push(&mut self, cell: ParquetCell<'_>) -> Result<()> {
        let wrong = |name: &str, expected: &str, found: String| Error::Invalid {
            name: "cell of a row",
            expected: format!("{expected} in column {name}"),
            found,
        };
        match (&mut self.values, cell) {
            (Values::Floats(values, repeated), ParquetCell::Floats(cell)) => {
                values.extend(cell);
                // A list without values has one place of its own.
                let places = cell.len().max(1);
                self.levels.extend(std::iter::repeat_n(if cell.is_empty() { 1 } else { 2 }, places));
                repeated.extend((0..places).map(|i| i16::from(i > 0)));
            }
            (Values::Floats(_, repeated), ParquetCell::Text("")) => {
                self.levels.push(0);
                repeated.push(0);
            }
            (_, ParquetCell::Text("")) => self.levels.push(0),
            (Values::Text(values), ParquetCell::Text(cell)) => {
                values.push(cell.into());
                self.levels.push(1);
            }
            (Values::Float(values), ParquetCell::Text(cell)) => {
                let value = cell.parse().map_err(|_| wrong(&self.name, "a number", cell.to_owned()))?;
                values.push(value);
                self.levels.push(1);
            }
            (Values::Floats(..), ParquetCell::Text(cell)) => {
                return Err(wrong(&self.name, "a list of numbers", cell.to_owned()));
            }
            (_, ParquetCell::Floats(cell)) => {
                return Err(wrong(&self.name, "one cell", format!("a list of {} numbers", cell.len())));
            }
        }
        Ok(())
    }
}

fn unwritten(path: &Path, error: ParquetError) -> Error {
    let error = match error {
        ParquetError::External(error) => error.downcast().map_or_else(io::Error::other, |error| *error),
        error => io::Error::other(error),
    };
    Error::io("write", path)(error)
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    #[test]
    fn a_folder_that_is_missing_is_said_in_the_systems_words() {
        let path = Path::new("nosuch/rows.parquet");
        let error = ParquetTable::create(path, &[("a", ParquetColumn::Text)]).map(drop).unwrap_err();
        assert!(
            matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound),
            "{error}"
        );
    }

    #[test]
    fn rows_come_back_in_groups() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let columns =
            [("image", ParquetColumn::Text), ("p", ParquetColumn::Float), ("note", ParquetColumn::Text)];
        let mut table = ParquetTable::create(&path, &columns).unwrap();
        let row = |i: usize| {
            let p = if i.is_multiple_of(3) { String::new() } else { (1.0 / i as f32).to_string() };
            [format!("käfer/{i}.jpg"), p, if i == 9000 { "odd" } else { "" }.to_owned()]
        };
        (0..2 * GROUP + 5).try_for_each(|i| table.push(row(i).iter().map(String::as_str))).unwrap();
        assert!(!path.exists());
        table.finish().unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        let groups = reader.metadata().row_groups().iter().map(|group| group.num_rows());
        assert_eq!(groups.collect::<Vec<_>>(), [GROUP as i64, GROUP as i64, 5]);
        let text = |field: &Field| match field {
            Field::Null => String::new(),
            Field::Str(text) => text.clone(),
            Field::Float(value) => value.to_string(),
            other => panic!("{other}"),
        };
        let mut n = 0;
        for (i, found) in reader.get_row_iter(None).unwrap().enumerate() {
            let found = found.unwrap();
            let cells: Vec<String> = found.get_column_iter().map(|(_, field)| text(field)).collect();
            assert_eq!(cells, row(i));
            n += 1;
        }
        assert_eq!(n, 2 * GROUP + 5);
    }

    #[test]
    fn lists_come_back_in_groups() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let columns = [("image", ParquetColumn::Text), ("features", ParquetColumn::Floats)];
        let mut table = ParquetTable::create(&path, &columns).unwrap();
        let list = |i: usize| (0..i % 4).map(|j| (i + j) as f32).collect::<Vec<_>>();
        for i in 0..GROUP + 7 {
            let (name, list) = (i.to_string(), list(i));
            let cell = if i % 5 == 0 { ParquetCell::Text("") } else { ParquetCell::Floats(&list) };
            table.push([ParquetCell::Text(&name), cell]).unwrap();
        }
        table.finish().unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        for (i, found) in reader.get_row_iter(None).unwrap().enumerate() {
            let found = found.unwrap();
            let fields: Vec<&Field> = found.get_column_iter().map(|(_, field)| field).collect();
            let expected: Vec<Field> = list(i).into_iter().map(Field::Float).collect();
            match (fields[1], i % 5 == 0) {
                (Field::Null, true) => {}
                (Field::ListInternal(found), false) => assert_eq!(found.elements(), expected),
                (other, _) => panic!("{i}: {other}"),
            }
        }
        let mut table = ParquetTable::create(&path, &columns).unwrap();
        let error = table.push(["1", "2"]).unwrap_err().to_string();
        assert!(error.contains("a list of numbers in column features"), "{error}");
        let error = table.push([ParquetCell::Floats(&[])]).unwrap_err().to_string();
        assert!(error.contains("one cell in column image"), "{error}");
    }

    #[test]
    fn a_table_without_rows_and_wrong_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let columns = [("p", ParquetColumn::Float)];
        ParquetTable::create(&path, &columns).unwrap().finish().unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
        let mut table = ParquetTable::create(&path, &columns).unwrap();
        for (cells, word) in [(vec!["a"], "column p"), (vec![], "expected 1"), (vec!["1", "2"], "found 2")] {
            let error = table.push(cells).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let twice = [("p", ParquetColumn::Float), ("p", ParquetColumn::Text)];
        assert!(ParquetTable::create(&path, &twice).is_err());
    }
}
