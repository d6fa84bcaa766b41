//! Tar archives, such as WebDataset's shards: members that share a name up to its first dot belong together.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::listing::{Entry, Listing, split_of, split_of_path};
use super::sniff::{START, judge, never_counts, unfinished};
use super::table::{LABEL, cell, wrong};
use super::{ScanOptions, SkipReason, Skipped};
use crate::error::{Error, Result};
use crate::sample::{Row, Samples};

/// Files beside the shards that name the classes, one a line.
const CLASSES: [&str; 3] = ["classes.txt", "classnames.txt", "labels.txt"];

/// Archives that are listed at a time: what is made of one on the way takes more memory than its images.
const AT_A_TIME: usize = 4;

/// Longest text of a label.
const TEXT: u64 = 1 << 20;

pub(super) fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"].iter().any(|end| name.ends_with(end))
}

/// Where a member's content is in its archive.
struct Part {
    name: PathBuf,
    offset: u64,
    length: u64,
}

/// The members of one key.
#[derive(Default)]
struct Group {
    image: Option<Part>,
    /// Text by the end of its member's name.
    texts: BTreeMap<String, String>,
}

/// Lists the images of archives, of which `root` is the folder.
pub(super) fn read(root: &Path, archives: &[PathBuf], options: &ScanOptions) -> Result<Listing> {
    let column = options.label_column("tar archives")?;
    let classes = classes(root)?;
    let read = |archive: &PathBuf| images(root, archive, column);
    let (mut entries, mut skipped) = (Vec::new(), Vec::new());
    for archives in archives.chunks(AT_A_TIME) {
        for read in archives.par_iter().map(read).collect::<Vec<Result<_>>>() {
            let (of_archive, left_out) = read?;
            entries.extend(of_archive);
            skipped.extend(left_out);
        }
    }
    skipped.sort();
    let columns = vec![column.unwrap_or("label").to_owned()];
    let (path, root) = match archives {
        [archive] => (archive.clone(), root.to_owned()),
        _ => (root.to_owned(), root.to_owned()),
    };
    Ok(Listing { path, root, is_table: false, columns, entries, classes, skipped, notes: vec![] })
}

/// The images of an archive.
fn images(root: &Path, archive: &Path, column: Option<&str>) -> Result<(Vec<Entry>, Vec<Skipped>)> {
    let (groups, skipped) = members(archive)?;
    let split = split_of_path(root, archive);
    let file: Arc<Path> = archive.into();
    let (mut samples, mut said) = (Samples::default(), Vec::new());
    let (mut known, mut columns) = (HashMap::new(), Arc::<[String]>::from([]));
    for (Group { image, texts }, line) in groups.into_iter().zip(1..) {
        let Some(Part { name: inside, offset, length }) = image else { continue };
        let label = label(&texts, column);
        let folder = || Some(inside.parent()?.file_name()?.to_string_lossy().into_owned());
        let label = label.or_else(folder).unwrap_or_default();
        let labels: &Arc<[String]> = known.entry(label).or_insert_with_key(|label| [label.clone()].into());
        let split = split.or_else(|| {
            let folders = inside.parent()?.components();
            folders.into_iter().find_map(|folder| split_of(&folder.as_os_str().to_string_lossy()))
        });
        if !texts.keys().eq(&*columns) {
            columns = texts.keys().cloned().collect();
        }
        samples.part(&archive.join(&inside), &file, offset, length);
        if !texts.is_empty() {
            samples.row(Row { columns: columns.clone(), cells: texts.into_values().collect() });
        }
        said.push((labels.clone(), split, line));
    }
    let entry = |(sample, (labels, split, line))| Entry { sample, labels, split, line };
    Ok((samples.finish().zip(said).map(entry).collect(), skipped))
}

type Members = (Vec<Group>, Vec<Skipped>);

fn members(path: &Path) -> Result<Members> {
    let io = || Error::io("read", path);
    let mut start = Vec::new();
    File::open(path).map_err(io())?.take(6).read_to_end(&mut start).map_err(io())?;
    let packed = match &*start {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("Zstandard"),
        [0xfd, b'7', b'z', ..] => Some("xz"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        _ => None,
    };
    if let Some(packed) = packed {
        return Err(Error::Archive {
            path: path.to_owned(),
            expected: "an uncompressed tar archive".to_owned(),
            found: format!("{packed}, in which no image can be found without unpacking the whole"),
        });
    }
    let wrong = |error: std::io::Error| match error.raw_os_error() {
        Some(_) => Error::io("read", path)(error),
        None => Error::Archive {
            path: path.to_owned(),
            expected: "a tar archive".to_owned(),
            found: error.to_string(),
        },
    };
    let mut order: HashMap<String, usize> = HashMap::new();
    let (mut groups, mut skipped): Members = (Vec::new(), Vec::new());
    let mut archive = tar::Archive::new(BufReader::new(File::open(path).map_err(io())?));
    for member in archive.entries_with_seek().map_err(wrong)? {
        let mut member = member.map_err(wrong)?;
        let kind = member.header().entry_type();
        let is_link = kind.is_hard_link() || kind.is_symlink();
        if !kind.is_file() && !is_link {
            continue;
        }
        let name = member.path().map_err(wrong)?;
        let name: PathBuf = name.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let shown = path.join(&name);
        let reason = name.components().find_map(|part| never_counts(part.as_os_str()));
        let reason = reason.or_else(|| unfinished(name.file_name()?));
        let reason = reason.or(is_link.then_some(SkipReason::ArchiveLink));
        if let Some(reason) = reason {
            skipped.push(Skipped { path: shown, reason });
            continue;
        }
        let (key, end) = key_and_end(&name);
        let (offset, length) = (member.raw_file_position(), member.size());
        let mut start = Vec::new();
        (&mut member).take(START).read_to_end(&mut start).map_err(wrong)?;
        let at = *order.entry(key).or_insert_with(|| {
            groups.push(Group::default());
            groups.len() - 1
        });
        let group = &mut groups[at];
        let reason = judge(&name, &start);
        if reason.is_none() {
            match group.image {
                None => group.image = Some(Part { name, offset, length }),
                // Another picture of the same key, such as a mask.
                Some(_) => skipped.push(Skipped { path: shown, reason: SkipReason::Second }),
            }
        } else if matches!(end.as_str(), "cls" | "json" | "txt" | "label" | "cls.txt" | "class") {
            let mut text = String::from_utf8_lossy(&start).into_owned();
            let mut rest = Vec::new();
            member.take(TEXT).read_to_end(&mut rest).map_err(wrong)?;
            text.push_str(&String::from_utf8_lossy(&rest));
            group.texts.insert(end, text.trim().to_owned());
        } else if let Some(reason) = reason {
            skipped.push(Skipped { path: shown, reason });
        }
    }
    Ok((groups, skipped))
}

/// A member's name up to the first dot of its last part, and what follows.
fn key_and_end(name: &Path) -> (String, String) {
    let whole = name.to_string_lossy();
    let last = whole.rfind('/').map_or(0, |slash| slash + 1);
    match whole[last..].find('.') {
        Some(dot) => (whole[..last + dot].to_owned(), whole[last + dot + 1..].to_lowercase()),
        None => (whole.into_owned(), String::new()),
    }
}

/// The text of the label among the members of a key.
fn label(texts: &BTreeMap<String, String>, column: Option<&str>) -> Option<String> {
    if let Some(column) = column {
        if let Some(text) = texts.get(column) {
            return Some(text.clone());
        }
        return texts.get("json").and_then(|text| in_json(text, &[column]));
    }
    let text = ["cls", "class", "label", "cls.txt"].iter().find_map(|end| texts.get(*end).cloned());
    let json = || texts.get("json").and_then(|text| in_json(text, &[&LABEL[..], &["cls"]].concat()));
    text.or_else(json).or_else(|| texts.get("txt").cloned())
}

fn in_json(text: &str, names: &[&str]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    match &value {
        serde_json::Value::Object(object) => {
            names.iter().find_map(|name| object.get(*name)).map(|v| cell(Some(v)))
        }
        other => Some(cell(Some(other))),
    }
}

/// The names of the classes that lie beside the shards.
fn classes(root: &Path) -> Result<Vec<String>> {
    for name in CLASSES {
        let path = root.join(name);
        if path.is_file() {
            let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            let names = text.trim_start_matches('\u{feff}').trim_end().lines();
            let names: Vec<String> = names.map(|line| line.trim().to_owned()).collect();
            return match (1..).zip(&names).find(|(_, name)| name.is_empty()) {
                None => Ok(names),
                Some((line, _)) => Err(wrong(&path, line, "", "the name of a class", "an empty line")),
            };
        }
    }
    Ok(Vec::new())
}
