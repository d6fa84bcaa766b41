//! Hugging Face's data sets as Parquet files: a column of images, as their bytes, and one of labels.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::file::reader::FileReader;
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};
use rayon::prelude::*;
use serde_json::Value;

use super::ScanOptions;
use super::listing::{Entry, Listing, split_of_path};
use super::table::LABEL;
use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::sample::{ParquetFile, Row, Samples, Stored};

/// Usual names of a column of images.
const IMAGE: [&str; 5] = ["image", "img", "images", "picture", "photo"];

pub(super) fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("parquet"))
}

/// Lists the rows of files, of which `root` is the folder.
pub(super) fn read(root: &Path, files: &[PathBuf], options: &ScanOptions, labeled: bool) -> Result<Listing> {
    let labeled = labeled && options.label_from.is_none();
    let rows = |file: &PathBuf| {
        let broken =
            |found| Error::Archive { path: file.clone(), expected: "a Parquet file".to_owned(), found };
        guarded(|| rows(root, file, options, labeled), broken)
    };
    let read: Vec<Result<_>> = files.par_iter().map(rows).collect();
    let (mut entries, mut first) = (Vec::new(), None);
    for (read, file) in read.into_iter().zip(files) {
        let (found, column, names) = read?;
        entries.extend(found);
        let (first, first_column, first_names) = first.get_or_insert((file, column.clone(), names.clone()));
        if labeled {
            same(first, (first_column, first_names), file, (&column, &names))?;
        }
    }
    let (columns, classes) = first.map(|(_, column, names)| (vec![column], names)).unwrap_or_default();
    let path = if let [file] = files { file.clone() } else { root.to_owned() };
    let root = root.to_owned();
    Ok(Listing { path, root, is_table: false, columns, entries, classes, skipped: vec![], notes: vec![] })
}

/// Refuses a file whose labels are in another column or have other numbers than those of the first.
fn same(
    first: &Path,
    (first_column, first_names): (&str, &[String]),
    path: &Path,
    (column, names): (&str, &[String]),
) -> Result<()> {
    let differs = |expected: String, found: String| {
        let expected = format!("{expected}, as in {}", first.display());
        Err(Error::Archive { path: path.to_owned(), expected, found })
    };
    if column != first_column {
        return differs(format!("labels in the column `{first_column}`"), format!("`{column}`"));
    }
    let name = |name: Option<&String>| name.map_or("no name", String::as_str).to_owned();
    let n = names.len().max(first_names.len());
    match (0..n).find(|&class| names.get(class) != first_names.get(class)) {
        None => Ok(()),
        Some(class) => differs(
            format!("{} for class {class} of the column `{column}`", name(first_names.get(class))),
            name(names.get(class)),
        ),
    }
}

/// The rows, the name of the label column, and the names of the classes.
fn rows(
    root: &Path,
    path: &Path,
    options: &ScanOptions,
    labeled: bool,
) -> Result<(Vec<Entry>, String, Vec<String>)> {
    let wrong = |expected: &str, found: String| Error::Archive {
        path: path.to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let unreadable = |error: parquet::errors::ParquetError| wrong("a Parquet file", error.to_string());
    let file = Arc::new(ParquetFile::open(path).map_err(unreadable)?);
    let metadata = file.reader.metadata();
    let schema = metadata.file_metadata().schema_descr();
    let fields = schema.root_schema().get_fields();
    let names = || fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(", ");

    let image = IMAGE.iter().find_map(|name| fields.iter().find(|field| field.name() == *name));
    let image = image.or_else(|| fields.iter().find(|field| bytes_of(field).is_some()));
    let (image, inner) = image
        .and_then(|image| Some((image, bytes_of(image)?)))
        .ok_or_else(|| wrong("a column `image` of bytes", format!("the columns {}", names())))?;
    let parts: Vec<&str> = std::iter::once(image.name()).chain(inner).collect();
    let column = schema.columns().iter().position(|leaf| leaf.path().parts() == parts);
    let column =
        column.ok_or_else(|| wrong("a column `image` of bytes", format!("the columns {}", names())))?;

    let features = features(&file);
    let asked = options.label_column("a Parquet file")?;
    let label = match label_column(fields, &features, asked) {
        Some(label) => label,
        None if labeled => {
            let expected = asked.unwrap_or("label");
            return Err(wrong(&format!("a column `{expected}`"), format!("the columns {}", names())));
        }
        None => String::new(),
    };
    let classes = class_names(features.get(&label));

    // All columns but the images, of which only the names.
    let mut projected: Vec<TypePtr> = Vec::new();
    for field in fields {
        if !Arc::ptr_eq(field, image) {
            let is_simple = field.is_primitive() || field.name() == label;
            projected.extend(is_simple.then(|| field.clone()));
        } else if let Some(path) = field.is_group().then(|| named_path(field)).flatten() {
            let group = Type::group_type_builder(field.name())
                .with_repetition(field.get_basic_info().repetition())
                .with_fields(vec![path]);
            projected.push(Arc::new(group.build().map_err(unreadable)?));
        }
    }
    let projection =
        Type::group_type_builder(schema.name()).with_fields(projected).build().map_err(unreadable)?;

    let split = split_of_path(root, path);
    let mut columns: Option<Arc<[String]>> = None;
    let (mut samples, mut said) = (Samples::default(), Vec::new());
    for group in 0..metadata.num_row_groups() {
        let reader = file.reader.get_row_group(group).map_err(unreadable)?;
        let found = reader.get_row_iter(Some(projection.clone())).map_err(unreadable)?;
        for (row, found) in found.enumerate() {
            let found = found.map_err(unreadable)?;
            let mut name = None;
            let mut cells = Vec::new();
            let mut titles = Vec::new();
            for (title, field) in found.get_column_iter() {
                if title == image.name() {
                    if let Field::Group(parts) = field {
                        name =
                            parts.get_column_iter().map(|(_, path)| text(path)).find(|path| !path.is_empty());
                    }
                } else {
                    titles.push(title);
                    cells.push(text(field));
                }
            }
            let columns =
                columns.get_or_insert_with(|| titles.iter().map(|&title| title.clone()).collect()).clone();
            let number = said.len() as u64 + 1;
            let labels = columns.iter().zip(&cells).find(|(title, _)| **title == label);
            let labels = [labels.map(|(_, cell)| cell.clone()).unwrap_or_default()].into();
            let shown = match name.as_deref().and_then(|name| Path::new(name).file_name()?.to_str()) {
                Some(name) => path.join(format!("{number}-{name}")),
                None => path.join(number.to_string()),
            };
            samples.stored(&shown, &Stored { file: file.clone(), column, group, row });
            samples.row(Row { columns, cells: cells.into() });
            said.push((labels, number));
        }
    }
    let entry = |(sample, (labels, line))| Entry { sample, labels, split, line };
    Ok((samples.finish().zip(said).map(entry).collect(), label, classes))
}

/// The part of a column that holds the bytes of images: nothing for the column itself, or `bytes`.
fn bytes_of(field: &Type) -> Option<Option<&'static str>> {
    let is_bytes = |field: &Type| field.is_primitive() && field.get_physical_type() == Physical::BYTE_ARRAY;
    if field.is_primitive() {
        let is_text = field.get_basic_info().logical_type_ref().is_some();
        return (is_bytes(field) && !is_text && IMAGE.contains(&field.name())).then_some(None);
    }
    let bytes = field.get_fields().iter().any(|part| part.name() == "bytes" && is_bytes(part));
    bytes.then_some(Some("bytes"))
}

fn named_path(field: &Type) -> Option<TypePtr> {
    field.get_fields().iter().find(|part| part.name() == "path" && part.is_primitive()).cloned()
}

/// The features in the file's `huggingface` metadata.
fn features(file: &ParquetFile) -> serde_json::Map<String, Value> {
    let metadata = file.reader.metadata().file_metadata().key_value_metadata();
    let text = metadata.into_iter().flatten().find(|pair| pair.key == "huggingface");
    let value: Option<Value> = text.and_then(|pair| serde_json::from_str(pair.value.as_deref()?).ok());
    let features = value.as_ref().and_then(|value| value.pointer("/info/features")?.as_object());
    features.cloned().unwrap_or_default()
}

/// The label column: the one asked for, the one of a usual name, or the only one whose classes have names.
fn label_column(
    fields: &[TypePtr],
    features: &serde_json::Map<String, Value>,
    asked: Option<&str>,
) -> Option<String> {
    let present = |name: &str| fields.iter().any(|field| field.name() == name);
    if let Some(asked) = asked {
        return present(asked).then(|| asked.to_owned());
    }
    if let Some(usual) = LABEL.iter().find(|name| present(name)) {
        return Some((*usual).to_owned());
    }
    let mut named =
        features.iter().filter(|(name, feature)| present(name) && !class_names(Some(*feature)).is_empty());
    match (named.next(), named.next()) {
        (Some((name, _)), None) => Some(name.clone()),
        _ => None,
    }
}

/// The names of a `ClassLabel`, or of a sequence of such.
fn class_names(feature: Option<&Value>) -> Vec<String> {
    let names = |value: &Value| Some(value.get("names")?.as_array()?.clone());
    let found = feature.and_then(|feature| {
        names(feature)
            .or_else(|| names(feature.get("feature")?))
            .or_else(|| names(feature.as_array()?.first()?))
    });
    let names = found.into_iter().flatten();
    names.map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned)).collect()
}

fn text(field: &Field) -> String {
    match field {
        Field::ListInternal(list) => {
            Value::from(list.elements().iter().map(text).collect::<Vec<_>>()).to_string()
        }
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned(),
        other => other.to_string(),
    }
}
