//! CIFAR-10 and CIFAR-100 in their binary version: 32 × 32 pixels in RGB (A. Krizhevsky, "Learning Multiple Layers of Features from
//! Tiny Images", 2009, <https://www.cs.toronto.edu/~kriz/cifar.html>).
//!
//! A record is the label (of CIFAR-100 two, the coarse one first), then the 1024 values of red, of green and of blue, rows first. The
//! classes' names are in text files beside the records.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::Path;

use super::archive::{each, file_name, fill};
use super::{Picture, Visit};
use crate::error::{Error, Result};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// Longest text file of names.
const NAMES: u64 = 1 << 16;

/// The files of records of CIFAR-10 and of CIFAR-100.
const FILES: [&[&str]; 2] = [
    &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "test_batch.bin",
    ],
    &["train.bin", "test.bin"],
];

/// The split of a file of records, the number of its labels and of classes.
fn batch(name: &str) -> Option<(&'static str, usize, usize)> {
    match file_name(name) {
        "test_batch.bin" => Some(("test", 1, 10)),
        "train.bin" => Some(("train", 2, 100)),
        "test.bin" => Some(("test", 2, 100)),
        name => FILES[0].contains(&name).then_some(("train", 1, 10)),
    }
}

pub(super) fn is_one(name: &str) -> bool {
    batch(name).is_some()
}

/// The classes' names, the numbers where no file has them.
fn names(source: &Path) -> Result<[Vec<String>; 2]> {
    let mut found = [10, 100].map(|n| (0..n).map(|class| class.to_string()).collect::<Vec<_>>());
    each(source, &mut |path, name, reader| {
        let names = match file_name(name) {
            "batches.meta.txt" => &mut found[0],
            "fine_label_names.txt" => &mut found[1],
            _ => return Ok(true),
        };
        let mut text = String::new();
        reader.take(NAMES).read_to_string(&mut text).map_err(Error::io("read", path))?;
        let lines: Vec<String> =
            text.lines().map(|line| line.trim().to_owned()).filter(|l| !l.is_empty()).collect();
        let sound = |line: &String| line.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if lines.len() != names.len() || !lines.iter().all(sound) {
            let expected = format!("{} names of letters, digits, - and _", names.len());
            let odd = lines.iter().find(|line| !sound(line));
            let found = odd.map_or_else(|| lines.len().to_string(), |odd| format!("{odd:?}"));
            return Err(Error::Format { path: path.to_owned(), expected, found });
        }
        *names = lines;
        Ok(true)
    })?;
    Ok(found)
}

pub(super) fn visit(source: &Path, visit: &mut Visit<'_>) -> Result<()> {
    let [ten, hundred] = names(source)?;
    let mut seen = HashSet::new();
    each(source, &mut |path, name, reader| {
        let Some((split, n_labels, n_classes)) = batch(name) else { return Ok(true) };
        let classes = if n_classes == 10 { &ten } else { &hundred };
        let stem = file_name(name).trim_end_matches(".bin");
        seen.insert(file_name(name).to_owned());
        let mut record = vec![0; n_labels + 3 * PLANE];
        for number in 1.. {
            if !fill(reader, &mut record, path, &format!("record {number}"))? {
                break;
            }
            let (labels, planes) = record.split_at(n_labels);
            let label = labels[n_labels - 1];
            let Some(class) = classes.get(usize::from(label)) else {
                let expected = format!("labels less than {n_classes}");
                let found = format!("{label} in record {number}");
                return Err(Error::Format { path: path.to_owned(), expected, found });
            };
            let pixels =
                (0..PLANE).flat_map(|i| [planes[i], planes[PLANE + i], planes[2 * PLANE + i]]).collect();
            visit(Picture {
                split,
                class: class.clone(),
                name: format!("{stem}-{number:05}"),
                width: SIDE as u32,
                height: SIDE as u32,
                channels: 3,
                pixels,
            })?;
        }
        Ok(true)
    })?;
    for files in FILES.iter().filter(|files| files.iter().any(|&name| seen.contains(name))) {
        if let Some(missing) = files.iter().find(|&&name| !seen.contains(name)) {
            let expected = format!("all of {}", files.join(", "));
            return Err(Error::Format { path: source.to_owned(), expected, found: format!("no {missing}") });
        }
    }
    Ok(())
}
