//! Labels from the cells of a table.

use std::collections::{BTreeMap, BTreeSet};

use super::{Labels, Task};

/// A cell of a table that is no label of its task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {}: expected {expected}", row + 1)]
pub struct CellError {
    /// The row, from 0.
    pub row: usize,
    /// The column, from 0, where there are several.
    pub column: usize,
    /// The expected content.
    pub expected: &'static str,
}

impl Labels {
    /// The labels in one column of a table, called `name`, with the names of their classes, sorted by code point.
    ///
    /// Several labels stand in a cell as `cat|dog`, `cat;dog` or a list in JSON's or Python's notation; an empty cell then
    /// means none. Without a task, a column with such a cell is multi-label, and any other holds a class per image.
    /// `cat,dog` is multi-label where that is asked for. Numbers are values for regression alone, and then `name`
    /// is their only name.
    ///
    /// # Errors
    ///
    /// [`CellError`] for a cell that is no label of the task.
    ///
    /// # Examples
    ///
    /// ```
    /// use firstsight_data::{Labels, Task};
    ///
    /// let (names, labels) = Labels::from_column("label", &["dog|cat", "", "dog"], None)?;
    /// assert_eq!(names, ["cat", "dog"]);
    /// assert_eq!(labels, Labels::MultiLabel(vec![vec![0, 1], vec![], vec![1]]));
    /// let (names, labels) = Labels::from_column("cost", &["120", "99.5"], Some(Task::Regression))?;
    /// assert_eq!((names[0].as_str(), labels), ("cost", Labels::Value(vec![120.0, 99.5])));
    /// # Ok::<(), firstsight_data::CellError>(())
    /// ```
    pub fn from_column(
        name: &str,
        cells: &[&str],
        task: Option<Task>,
    ) -> Result<(Vec<String>, Self), CellError> {
        from_column(name, cells, task)
    }

    /// Several labels from a column of 0 and 1 for each of the labels `names`; `rows` has a cell for each. `true` and `false`
    /// are as good.
    ///
    /// # Errors
    ///
    /// [`CellError`] for another cell.
    pub fn from_flags(names: &[&str], rows: &[Vec<&str>]) -> Result<(Vec<String>, Self), CellError> {
        from_flags(names, rows)
    }

    /// Whether a cell is one of [`from_flags`](Self::from_flags).
    pub fn is_flag(cell: &str) -> bool {
        flag(cell).is_some()
    }
}

fn from_column(name: &str, cells: &[&str], task: Option<Task>) -> Result<(Vec<String>, Labels), CellError> {
    let error = |row, expected| CellError { row, column: 0, expected };
    let separator = separator(cells, task);
    let task = task.unwrap_or(match separator.is_some() || cells.iter().any(|cell| is_list(cell)) {
        true => Task::MultiLabel,
        false => Task::SingleLabel,
    });
    match task {
        Task::SingleLabel => {
            if let Some(row) = cells.iter().position(|cell| cell.trim().is_empty()) {
                return Err(error(row, "the name of a class"));
            }
            let names: BTreeSet<&str> = cells.iter().map(|cell| cell.trim()).collect();
            let places: BTreeMap<&str, u32> = names.iter().copied().zip(0..).collect();
            let labels = cells.iter().map(|cell| places[cell.trim()]).collect();
            Ok((names.into_iter().map(str::to_owned).collect(), Labels::Class(labels)))
        }
        Task::MultiLabel => {
            let parse = |(row, cell)| {
                let names = if is_list(cell) { list(cell) } else { Some(parts(cell, separator)) };
                names.ok_or_else(|| error(row, "a list of names, such as [\"cat\", \"dog\"]"))
            };
            let sets = cells.iter().copied().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
            Ok(named(sets.into_iter(), Labels::MultiLabel))
        }
        Task::Regression => {
            let number = |(row, cell): (usize, &&str)| {
                let value = cell.trim().parse::<f32>().ok().filter(|value| value.is_finite());
                value.ok_or_else(|| error(row, "a finite number, with a point before its decimals"))
            };
            let values = cells.iter().enumerate().map(number).collect::<Result<_, _>>()?;
            Ok((vec![name.to_owned()], Labels::Value(values)))
        }
    }
}

fn from_flags(names: &[&str], rows: &[Vec<&str>]) -> Result<(Vec<String>, Labels), CellError> {
    let mut sets = Vec::with_capacity(rows.len());
    for (row, cells) in rows.iter().enumerate() {
        let mut set = Vec::new();
        for (column, cell) in cells.iter().enumerate() {
            match flag(cell) {
                Some(true) => set.push(column as u32),
                Some(false) => {}
                None => return Err(CellError { row, column, expected: "0 or 1" }),
            }
        }
        sets.push(set);
    }
    Ok((names.iter().map(|&name| name.to_owned()).collect(), Labels::MultiLabel(sets)))
}

/// Whether a cell is 0 or 1, in one of the usual spellings.
fn flag(cell: &str) -> Option<bool> {
    match cell.trim().to_ascii_lowercase().as_str() {
        "1" | "1.0" | "true" => Some(true),
        "0" | "0.0" | "false" => Some(false),
        _ => None,
    }
}

/// The sign between labels: the same in the whole column.
fn separator(cells: &[&str], task: Option<Task>) -> Option<char> {
    let signs: &[char] = match task {
        None => &['|', ';'],
        Some(Task::MultiLabel) => &['|', ';', ','],
        Some(Task::SingleLabel | Task::Regression) => &[],
    };
    let plain = || cells.iter().filter(|cell| !is_list(cell));
    signs.iter().copied().find(|&sign| plain().any(|cell| cell.contains(sign)))
}

fn is_list(cell: &str) -> bool {
    let cell = cell.trim();
    cell.starts_with('[') && cell.ends_with(']')
}

/// The names in a list in JSON's notation, or in Python's, as pandas writes lists.
fn list(cell: &str) -> Option<Vec<String>> {
    let parse = |text: &str| serde_json::from_str::<Vec<serde_json::Value>>(text).ok();
    let values = parse(cell).or_else(|| parse(&cell.replace('\'', "\"")))?;
    let name = |value: serde_json::Value| match value {
        serde_json::Value::String(name) => Some(name.trim().to_owned()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    values.into_iter().map(name).collect()
}

/// The names between separators. Nothing stands for no name.
fn parts(cell: &str, separator: Option<char>) -> Vec<String> {
    let names = cell.split(|sign| Some(sign) == separator).map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The sorted names, and each row's as indices in ascending order.
fn named(
    rows: impl Iterator<Item = Vec<String>>,
    labels: impl FnOnce(Vec<Vec<u32>>) -> Labels,
) -> (Vec<String>, Labels) {
    let rows: Vec<Vec<String>> = rows.collect();
    let names: Vec<&String> = rows.iter().flatten().collect::<BTreeSet<_>>().into_iter().collect();
    let index = |name: &String| names.partition_point(|other| *other < name) as u32;
    let indices = |row: &Vec<String>| row.iter().map(index).collect::<BTreeSet<u32>>().into_iter().collect();
    let labels = labels(rows.iter().map(indices).collect());
    (names.into_iter().cloned().collect(), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(classes: &[&str], sets: &[&[u32]]) -> (Vec<String>, Labels) {
        let classes = classes.iter().map(|&class| class.to_owned()).collect();
        (classes, Labels::MultiLabel(sets.iter().map(|set| set.to_vec()).collect()))
    }

    #[test]
    fn several_labels_are_told_by_their_notation() {
        let expected = sets(&["cat", "dog", "hot dog"], &[&[0, 1], &[2], &[], &[0]]);
        for cells in [
            ["cat|dog", "hot dog", "", "cat"],
            ["dog; cat", "hot dog;", "", "cat"],
            [r#"["dog", "cat"]"#, r#"["hot dog"]"#, "[]", "[\"cat\"]"],
            ["['cat', 'dog']", "['hot dog']", "[]", "['cat', 'cat']"],
        ] {
            assert_eq!(from_column("labels", &cells, None).unwrap(), expected, "{cells:?}");
        }
        let cells = ["cat,dog", "hot dog", "", "cat"];
        assert_eq!(from_column("labels", &cells, Some(Task::MultiLabel)).unwrap(), expected);
        let error = from_column("labels", &["cat|dog", "[cat]"], None).unwrap_err();
        assert_eq!((error.row, error.expected.contains("list")), (1, true));
    }

    #[test]
    fn one_class_a_row_has_a_name_each() {
        let (classes, labels) = from_column("label", &["dog", " cat", "dog"], None).unwrap();
        assert_eq!(
            (classes, labels),
            (vec!["cat".to_owned(), "dog".to_owned()], Labels::Class(vec![1, 0, 1]))
        );
        let (classes, _) = from_column("label", &["a|b", "c"], Some(Task::SingleLabel)).unwrap();
        assert_eq!(classes, ["a|b", "c"], "a class may have any name");
        assert_eq!(from_column("label", &["dog", " "], None).unwrap_err().row, 1);
    }

    #[test]
    fn numbers_are_values_where_that_is_asked_for() {
        let cells = ["12.5", " -3", "1e3"];
        let found = from_column("cost", &cells, Some(Task::Regression)).unwrap();
        assert_eq!(found, (vec!["cost".to_owned()], Labels::Value(vec![12.5, -3.0, 1000.0])));
        assert_eq!(from_column("cost", &cells, None).unwrap().1.task(), Task::SingleLabel);
        for wrong in ["", "12,5", "EUR 3", "nan", "1e99"] {
            assert_eq!(
                from_column("cost", &["1", wrong], Some(Task::Regression)).unwrap_err().row,
                1,
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_column_for_each_label_holds_0_and_1() {
        let rows = [vec!["1", "0"], vec!["0.0", "True"], vec!["0", "0"]];
        assert_eq!(from_flags(&["dog", "cat"], &rows).unwrap(), sets(&["dog", "cat"], &[&[0], &[1], &[]]));
        let error = from_flags(&["dog", "cat"], &[vec!["1", "2"]]).unwrap_err();
        assert_eq!((error.row, error.column), (0, 1));
    }
}
