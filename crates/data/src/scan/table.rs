//! Images that a table names: CSV or JSON lines.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ScanOptions;
use super::folder::composed;
use super::listing::{Entry, Listing, split_of};
use super::walk::list;
use crate::error::{Error, Result};
use crate::image_name::{EXTENSIONS, is_image_name};
use crate::sample::{Row, Samples};

/// Usual names of columns, in lower case.
const PATH: [&str; 12] = [
    "path",
    "file_name",
    "filename",
    "file",
    "image",
    "image_path",
    "img_path",
    "filepath",
    "file_path",
    "image_name",
    "image_id",
    "id",
];
pub(super) const LABEL: [&str; 8] =
    ["label", "labels", "class", "classes", "class_name", "target", "category", "tags"];
const SPLIT: [&str; 4] = ["split", "subset", "set", "partition"];

/// Whether a file is named like a table.
pub(super) fn is_table(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str()).map(str::to_lowercase);
    matches!(end.as_deref(), Some("csv" | "tsv" | "jsonl" | "ndjson"))
}

/// A table's rows, each with its line.
struct Rows {
    columns: Vec<String>,
    rows: Vec<(u64, Row)>,
}

/// Reads a table; `labeled` asks for a column of labels.
pub(super) fn read(path: &Path, options: &ScanOptions, labeled: bool) -> Result<Listing> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
        let found = match bytes[..] {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
            _ => "another encoding, such as Latin-1",
        };
        wrong(path, line, "", "UTF-8", &format!("{found}: save it as CSV UTF-8"))
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let is_csv = path
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("csv") || end.eq_ignore_ascii_case("tsv"));
    let Rows { columns, rows } = if is_csv { csv_rows(path, text)? } else { json_rows(path, text)? };

    let usual = |names: &[&str]| {
        names.iter().find_map(|name| columns.iter().position(|column| column.eq_ignore_ascii_case(name)))
    };
    let missing = |expected: String| wrong(path, 1, "", &expected, &columns.join(", "));
    let path_column =
        usual(&PATH).ok_or_else(|| missing(format!("a column called {}", PATH[..3].join(" or "))))?;
    let label_columns = match &*options.label_columns {
        _ if options.label_from.is_some() => Vec::new(),
        [] => usual(&LABEL).into_iter().collect(),
        named => named
            .iter()
            .map(|name| {
                let found = columns.iter().position(|column| column == name);
                found.ok_or_else(|| missing(format!("a column called {name}")))
            })
            .collect::<Result<Vec<usize>>>()?,
    };
    if labeled && label_columns.is_empty() && options.label_from.is_none() {
        return Err(missing(format!("a column called {} (--label-column names another)", LABEL[0])));
    }
    let split_column = usual(&SPLIT);
    let root = match (&options.images, path.parent()) {
        (Some(images), _) => images.clone(),
        (None, Some(parent)) if parent != Path::new("") => parent.to_owned(),
        (None, _) => PathBuf::from("."),
    };

    let mut samples = Samples::default();
    let mut said = Vec::with_capacity(rows.len());
    let mut undecided = 0;
    for (line, row) in rows {
        let at = |column: usize| value(&row, &columns[column]);
        let named = at(path_column);
        if named.is_empty() {
            return Err(wrong(path, line, &columns[path_column], "the path of an image", ""));
        }
        let split = match split_column.map(|column| (column, at(column))) {
            None => None,
            Some((_, "")) => {
                undecided += 1;
                None
            }
            Some((column, name)) => {
                let split = split_of(name);
                Some(split.ok_or_else(|| wrong(path, line, &columns[column], "train, val or test", name))?)
            }
        };
        let labels = label_columns.iter().map(|&column| at(column).to_owned()).collect();
        samples.file(&resolved(&root, named));
        samples.row(row);
        said.push((labels, split, line));
    }
    let entry = |(sample, (labels, split, line))| Entry { sample, labels, split, line };
    let mut entries: Vec<Entry> = samples.finish().zip(said).map(entry).collect();
    if !entries.is_empty() && !entries.iter().any(|entry| entry.sample.path().exists()) {
        let first = entries[0].sample.path();
        let first = first.display();
        let found = format!("no file at any of its {} paths, such as {first}", entries.len());
        return Err(Error::NoImages { path: path.to_owned(), found });
    }
    let mut notes = Vec::new();
    if labeled {
        notes.extend(join_repeated(path, &mut entries)?);
    }
    if undecided > 0 && undecided < entries.len() {
        let has_val = entries.iter().any(|entry| entry.split == Some("val"));
        let from = if has_val { "" } else { ", from which validation images are set aside" };
        let rows = if undecided == 1 { "row has" } else { "rows have" };
        let path = path.display();
        notes.push(format!("{undecided} {rows} no split in {path}: they count as training images{from}"));
    }
    let columns = label_columns.into_iter().map(|column| columns[column].clone()).collect();
    let path = path.to_owned();
    Ok(Listing { path, root, is_table: true, columns, entries, classes: vec![], skipped: vec![], notes })
}

/// The cell of a column; empty where a JSON object lacks its name.
fn value<'a>(row: &'a Row, column: &str) -> &'a str {
    row.columns.iter().position(|name| name == column).map_or("", |at| &row.cells[at])
}

/// Leaves one of the rows that name an image with the same labels in the same split; the note that says so.
///
/// # Errors
///
/// [`Error::Csv`] for other labels, naming both lines.
fn join_repeated(path: &Path, entries: &mut Vec<Entry>) -> Result<Option<String>> {
    let mut first: HashMap<(PathBuf, &str), &Entry> = HashMap::new();
    let mut repeated = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let Entry { sample, labels, split, line } = entry;
        let image = (sample.path(), split.unwrap_or("train"));
        let Some(known) = first.get(&image) else {
            first.insert(image, entry);
            continue;
        };
        let earlier = known.line;
        if known.labels == *labels {
            repeated.push((i, *line, earlier));
        } else {
            let image = image.0.display();
            let [known, found] = [&known.labels, labels].map(|labels| format!("{:?}", labels.join(", ")));
            let expected = format!("the labels of line {earlier} for {image}, {known}");
            return Err(wrong(path, *line, "", &expected, &found));
        }
    }
    let Some((_, line, earlier)) = repeated.first() else { return Ok(None) };
    let rows = if repeated.len() == 1 { "row names" } else { "rows name" };
    let note = format!(
        "{} {rows} an image again in {} (first: line {line}, as line {earlier}): each image counts once",
        repeated.len(),
        path.display()
    );
    let repeated: HashSet<usize> = repeated.into_iter().map(|(i, ..)| i).collect();
    let mut i = 0..;
    entries.retain(|_| i.next().is_none_or(|i| !repeated.contains(&i)));
    Ok(Some(note))
}

/// A path of a table. Backslashes of Windows are understood elsewhere too, names without their ends, and names in another
/// of Unicode's forms.
fn resolved(root: &Path, named: &str) -> PathBuf {
    let path = root.join(named);
    if path.exists() {
        return path;
    }
    let path = root.join(named.replace('\\', "/"));
    let named = |end: &&str| PathBuf::from(format!("{}.{end}", path.display()));
    let whole = (!is_image_name(&path)).then(|| EXTENSIONS.iter().map(named).find(|path| path.exists()));
    whole.flatten().or_else(|| in_other_form(&path)).unwrap_or(path)
}

/// The file whose path is the same in Unicode's composed form.
fn in_other_form(path: &Path) -> Option<PathBuf> {
    let text = path.to_str().filter(|text| !text.is_ascii() && !path.exists())?;
    let mut found = PathBuf::new();
    for part in Path::new(text).components() {
        let next = found.join(part);
        let exists = found.as_os_str().is_empty() || next.exists();
        let part = part.as_os_str().to_str().map(composed)?;
        found = if exists {
            next
        } else {
            let same =
                |(name, _): &(OsString, PathBuf)| name.to_str().is_some_and(|name| composed(name) == part);
            list(&found).ok()?.into_iter().find(same)?.1
        };
    }
    Some(found)
}

fn csv_rows(path: &Path, text: &str) -> Result<Rows> {
    let header = text.lines().next().unwrap_or_default();
    // Spreadsheets separate by semicolon where the comma is the decimal sign.
    let count = |sign: char| header.matches(sign).count();
    let delimiter =
        [',', ';', '\t'].into_iter().max_by_key(|&sign| (count(sign), sign == ',')).unwrap_or(',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter as u8)
        .trim(csv::Trim::All)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut columns: Option<Arc<[String]>> = None;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            wrong(path, line, "", "a CSV record", &error.to_string())
        })?;
        let line = record.position().map_or(1, csv::Position::line);
        let cells: Box<[String]> = record.iter().map(str::to_owned).collect();
        match &columns {
            None => columns = Some(cells.into_vec().into()),
            Some(columns) if columns.len() != cells.len() => {
                let expected = format!("{} fields", columns.len());
                return Err(wrong(path, line, "", &expected, &cells.len().to_string()));
            }
            Some(columns) => rows.push((line, Row { columns: columns.clone(), cells })),
        }
    }
    let columns = columns.ok_or_else(|| wrong(path, 1, "", "a header", "an empty file"))?;
    Ok(Rows { columns: columns.to_vec(), rows })
}

/// One JSON object a line, whose names are its columns.
fn json_rows(path: &Path, text: &str) -> Result<Rows> {
    let (mut columns, mut known) = (Vec::new(), HashSet::new());
    let mut of_row: Arc<[String]> = Arc::new([]);
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
            .map_err(|error| wrong(path, line, "", "a JSON object", &error.to_string()))?;
        if !object.keys().eq(&*of_row) {
            of_row = object.keys().cloned().collect();
            columns.extend(of_row.iter().filter(|name| known.insert((*name).clone())).cloned());
        }
        let cells = object.values().map(|value| cell(Some(value))).collect();
        rows.push((line, Row { columns: of_row.clone(), cells }));
    }
    match rows.is_empty() {
        true => Err(wrong(path, 1, "", "a JSON object a line", "an empty file")),
        false => Ok(Rows { columns, rows }),
    }
}

/// A JSON value as a table's cell.
pub(super) fn cell(value: Option<&serde_json::Value>) -> String {
    match value {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.trim().to_owned(),
        Some(value) => value.to_string(),
    }
}

pub(super) fn wrong(path: &Path, line: u64, column: &str, expected: &str, found: &str) -> Error {
    Error::Csv {
        path: path.to_owned(),
        line,
        column: column.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
