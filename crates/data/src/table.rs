//! Tables of numbers in CSV files.

use std::path::Path;

use csv::{Position, StringRecord};

use crate::error::{Error, Result};

/// A table of numbers with named columns.
///
/// # Examples
///
/// ```
/// use firstsight_data::Table;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("houses.csv");
/// # std::fs::write(&path, "rooms,price\n3,1.5\n5,2.5\n").unwrap();
/// let table = Table::read_csv(&path)?;
/// assert_eq!(table.columns(), ["rooms", "price"]);
/// assert_eq!(table.row(1), [5.0, 2.5]);
/// assert_eq!(table.column("price").unwrap(), [1.5, 2.5]);
///
/// let features = table.select(&["rooms"])?;
/// let scaler = features.standardizer();
/// assert_eq!((scaler.mean[0], scaler.scale[0]), (4.0, 1.0));
/// assert_eq!(scaler.transform(&features)?.column("rooms").unwrap(), [-1.0, 1.0]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    columns: Vec<String>,
    /// Row by row.
    values: Vec<f64>,
}

impl Table {
    /// Reads a CSV file of finite numbers whose first line names the columns.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Csv`], naming line and column, for a field that is not a finite number, a row
    /// whose length differs from the header's, a duplicate column name, or a file without rows.
    pub fn read_csv(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(Error::io("read", path))?;
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .trim(csv::Trim::All)
            .has_headers(false)
            .from_reader(&text[..]);
        // The reader counts a record's line from the blank lines before it.
        let line_of = |position: Option<&Position>| {
            let start = position.map_or(0, |position| position.byte() as usize);
            let (before, after) = text.split_at(start.min(text.len()));
            let blank = after.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
            1 + before.iter().chain(blank).filter(|&&byte| byte == b'\n').count() as u64
        };
        let wrong = |line: u64, column: &str, expected: &str, found: &str| Error::Csv {
            path: path.to_owned(),
            line,
            column: column.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        let mut record = StringRecord::new();
        let mut next = |record: &mut StringRecord| {
            reader.read_record(record).map_err(|error| {
                let line = line_of(error.position());
                match error.into_kind() {
                    csv::ErrorKind::Io(source) => Error::io("read", path)(source),
                    csv::ErrorKind::Utf8 { err, .. } => {
                        wrong(line, &(err.field() + 1).to_string(), "UTF-8", "other bytes")
                    }
                    other => wrong(line, "", "a CSV record", &format!("{other:?}")),
                }
            })
        };
        if !next(&mut record)? {
            return Err(wrong(1, "1", "a header", ""));
        }
        // A byte order mark, as some spreadsheets write it, is not part of the first name.
        let columns: Vec<String> =
            record.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        if let Some(i) = (1..columns.len()).find(|&i| columns[..i].contains(&columns[i])) {
            return Err(wrong(1, &(i + 1).to_string(), "a name that no other column has", &columns[i]));
        }

        let mut values = Vec::new();
        while next(&mut record)? {
            let line = || line_of(record.position());
            if record.len() != columns.len() {
                let column = columns.get(record.len()).cloned().unwrap_or_else(|| record.len().to_string());
                let expected = format!("{} fields", columns.len());
                return Err(wrong(line(), &column, &expected, &record.len().to_string()));
            }
            for (column, field) in columns.iter().zip(&record) {
                match field.parse::<f64>() {
                    Ok(value) if value.is_finite() => values.push(value),
                    _ => return Err(wrong(line(), column, "a finite number", field)),
                }
            }
        }
        if values.is_empty() {
            return Err(wrong(2, "1", "a row of numbers", ""));
        }
        Ok(Self { columns, values })
    }

    /// The columns' names, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The number of rows.
    pub fn n_rows(&self) -> usize {
        self.values.len() / self.columns.len()
    }

    /// All rows, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.columns.len())
    }

    /// One row, with a value for each column.
    ///
    /// # Panics
    ///
    /// If `i` is not less than [`n_rows`](Self::n_rows).
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.columns.len()..][..self.columns.len()]
    }

    /// The values of one column, or `None` if no column has that name.
    pub fn column(&self, name: &str) -> Option<Vec<f64>> {
        let index = self.columns.iter().position(|column| column == name)?;
        Some(self.rows().map(|row| row[index]).collect())
    }

    /// The table of the given columns, in this order.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the table lacks a column, or no column is given.
    pub fn select(&self, columns: &[&str]) -> Result<Self> {
        let index = |name: &&str| {
            let expected = || Error::invalid("columns", format!("one of {:?}", self.columns), name);
            self.columns.iter().position(|column| column == name).ok_or_else(expected)
        };
        if columns.is_empty() {
            return Err(Error::invalid("columns", "at least one", 0));
        }
        let indices = columns.iter().map(index).collect::<Result<Vec<usize>>>()?;
        let values = self.rows().flat_map(|row| indices.iter().map(|&index| row[index])).collect();
        Ok(Self { columns: columns.iter().map(|&name| name.to_owned()).collect(), values })
    }

    /// The rows at `indices`, in this order.
    ///
    /// # Panics
    ///
    /// If an index is not less than [`n_rows`](Self::n_rows).
    pub fn subset(&self, indices: &[usize]) -> Self {
        let values = indices.iter().flat_map(|&i| self.row(i)).copied().collect();
        Self { columns: self.columns.clone(), values }
    }

    /// Mean and standard deviation of each column, as scikit-learn's `StandardScaler().fit(table)`.
    pub fn standardizer(&self) -> Standardizer {
        let n = self.n_rows() as f64;
        let sums = |value: &dyn Fn(usize, f64) -> f64| {
            let mut sums = vec![0.0; self.columns.len()];
            for row in self.rows() {
                for (i, (sum, &x)) in sums.iter_mut().zip(row).enumerate() {
                    *sum += value(i, x);
                }
            }
            sums
        };
        let mean: Vec<f64> = sums(&|_, x| x).into_iter().map(|sum| sum / n).collect();
        // Two passes, the second corrected by the rounding error of the mean (Chan, Golub, LeVeque 1983), as
        // in scikit-learn.
        let residual = sums(&|i, x| x - mean[i]);
        let squares = sums(&|i, x| (x - mean[i]).powi(2));
        let scale = |i: usize| {
            let variance = (squares[i] - residual[i].powi(2) / n) / n;
            // Rounding alone can produce this much for a column of equal values.
            let nothing = n * f64::EPSILON * variance + (n * mean[i] * f64::EPSILON).powi(2);
            if variance <= nothing { 1.0 } else { variance.sqrt() }
        };
        Standardizer { scale: (0..mean.len()).map(scale).collect(), mean }
    }
}

/// `(x - mean) / scale` for each column: scikit-learn's `StandardScaler`.
#[derive(Debug, Clone, PartialEq)]
pub struct Standardizer {
    /// The mean of each column.
    pub mean: Vec<f64>,
    /// The population's standard deviation (divided by n, not n - 1) of each column; 1 for a constant column.
    pub scale: Vec<f64>,
}

impl Standardizer {
    /// The table with each value standardized.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the table has another number of columns.
    pub fn transform(&self, table: &Table) -> Result<Table> {
        if table.columns.len() != self.mean.len() || self.scale.len() != self.mean.len() {
            let expected = format!("{} columns", self.mean.len());
            return Err(Error::invalid("table", expected, table.columns.len()));
        }
        let standardize = |row: &[f64]| {
            let columns = row.iter().zip(&self.mean).zip(&self.scale);
            columns.map(|((x, mean), scale)| (x - mean) / scale).collect::<Vec<f64>>()
        };
        Ok(Table { columns: table.columns.clone(), values: table.rows().flat_map(standardize).collect() })
    }
}
