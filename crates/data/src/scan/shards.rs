//! Tar archives, such as WebDataset's shards: members that share a name up to its first dot belong together.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::mem;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::Value;

use super::listing::{Entry, Listing, split_of, split_of_path};
use super::sniff::{START, judge, never_counts, unfinished};
use super::table::{self, LABEL, cell};
use super::{ScanOptions, SkipReason, Skipped};
use crate::error::{Error, Result};
use crate::image_name::EXTENSIONS;
use crate::sample::{Row, Samples};

/// Files beside the shards that name the classes, one a line.
const CLASSES: [&str; 3] = ["classes.txt", "classnames.txt", "labels.txt"];

/// Archives that are listed at a time: what is made of one on the way takes more memory than its images.
const AT_A_TIME: usize = 4;

/// Ends of the members that are text: of labels, then of what may hold one.
const TEXTS: [&str; 6] = ["cls", "class", "label", "cls.txt", "json", "txt"];

/// Longest text of a label.
const LONGEST: u64 = 1 << 20;

pub(super) fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"].iter().any(|end| name.ends_with(end))
}

fn wrong(path: PathBuf, expected: &str, found: &str) -> Error {
    Error::Archive { path, expected: expected.to_owned(), found: found.to_owned() }
}

/// The path of a member, for messages.
fn member(key: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}.{end}", key.display()))
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
    /// Bytes of text by the end of their member's name.
    texts: BTreeMap<String, Vec<u8>>,
}

/// Lists the images of archives, of which `root` is the folder.
pub(super) fn read(
    root: &Path,
    archives: &[PathBuf],
    options: &ScanOptions,
    labeled: bool,
) -> Result<Listing> {
    let labeled = labeled && options.label_from.is_none();
    let column = options.label_column("tar archives")?;
    let read = |archive: &PathBuf| images(root, archive, labeled.then_some(column));
    let (mut entries, mut skipped) = (Vec::new(), Vec::new());
    for archives in archives.chunks(AT_A_TIME) {
        for read in archives.par_iter().map(read).collect::<Vec<Result<_>>>() {
            let (of_archive, left_out) = read?;
            entries.extend(of_archive);
            skipped.extend(left_out);
        }
    }
    skipped.sort();
    let has_folders = labeled && labels_of_folders(&mut entries)?;
    let classes = if labeled && !has_folders { classes(root)? } else { Vec::new() };
    let columns = vec![column.unwrap_or("label").to_owned()];
    let (path, root) = match archives {
        [archive] => (archive.clone(), root.to_owned()),
        _ => (root.to_owned(), root.to_owned()),
    };
    Ok(Listing { path, root, is_table: false, columns, entries, classes, skipped, notes: vec![] })
}

/// The images of an archive, with the labels in their members where those are asked for, of a column or the usual ones.
fn images(root: &Path, archive: &Path, labels: Option<Option<&str>>) -> Result<(Vec<Entry>, Vec<Skipped>)> {
    let (groups, skipped) = members(archive)?;
    let split = split_of_path(root, archive);
    let file: Arc<Path> = archive.into();
    let (mut samples, mut said) = (Samples::default(), Vec::new());
    let (mut known, mut columns) = (HashMap::new(), Arc::<[String]>::from([]));
    for (Group { image, texts }, line) in groups.into_iter().zip(1..) {
        let Some(Part { name: inside, offset, length }) = image else { continue };
        let image = archive.join(&inside);
        let key = archive.join(key_and_end(&inside).0);
        let texts = decoded(&key, texts)?;
        let label = labels.map(|column| label(&key, &texts, column)).transpose()?.flatten();
        let labels: &Arc<[String]> =
            known.entry(label).or_insert_with_key(|label| label.iter().cloned().collect());
        let split = split.or_else(|| {
            let folders = inside.parent()?.components();
            folders.into_iter().find_map(|folder| split_of(&folder.as_os_str().to_string_lossy()))
        });
        if !texts.keys().eq(&*columns) {
            columns = texts.keys().cloned().collect();
        }
        samples.part(&image, &file, offset, length);
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
        let found = format!("{packed}, in which no image can be found without unpacking the whole");
        return Err(wrong(path.to_owned(), "an uncompressed tar archive", &found));
    }
    let broken = |error: std::io::Error| match error.raw_os_error() {
        Some(_) => Error::io("read", path)(error),
        None => wrong(path.to_owned(), "a tar archive", &error.to_string()),
    };
    let mut order: HashMap<String, usize> = HashMap::new();
    let (mut groups, mut skipped): Members = (Vec::new(), Vec::new());
    let mut archive = tar::Archive::new(BufReader::new(File::open(path).map_err(io())?));
    for member in archive.entries_with_seek().map_err(broken)? {
        let mut member = member.map_err(broken)?;
        let kind = member.header().entry_type();
        let is_link = kind.is_hard_link() || kind.is_symlink();
        if !kind.is_file() && !is_link {
            continue;
        }
        let name = member.path().map_err(broken)?;
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
        let is_text = TEXTS.contains(&end.as_str());
        let mut start = Vec::new();
        member
            .by_ref()
            .take(if is_text { LONGEST + 1 } else { START })
            .read_to_end(&mut start)
            .map_err(broken)?;
        let at = *order.entry(key).or_insert_with(|| {
            groups.push(Group::default());
            groups.len() - 1
        });
        let group = &mut groups[at];
        if is_text {
            group.texts.insert(end, start);
        } else if let Some(reason) = judge(&name, &start) {
            skipped.push(Skipped { path: shown, reason });
        } else {
            let part = Part { name, offset, length };
            // Another picture of the same key, such as a mask.
            let second = match &mut group.image {
                Some(first) if is_main(&part.name) && !is_main(&first.name) => {
                    Some(mem::replace(first, part))
                }
                Some(_) => Some(part),
                image => image.replace(part),
            };
            let second = second.map(|part| path.join(part.name));
            skipped.extend(second.map(|path| Skipped { path, reason: SkipReason::Second }));
        }
    }
    Ok((groups, skipped))
}

/// Whether a member is called `key.jpg`, not `key.mask.png`.
fn is_main(name: &Path) -> bool {
    EXTENSIONS.contains(&&*key_and_end(name).1)
}

/// The texts of the members that are called `key` and their ends.
fn decoded(key: &Path, texts: BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, String>> {
    let text = |(end, bytes): (String, Vec<u8>)| {
        let wrong = |expected: &str, found| wrong(member(key, &end), expected, found);
        if bytes.len() as u64 > LONGEST {
            return Err(wrong(&format!("at most {LONGEST} bytes of text"), "more"));
        }
        let text =
            String::from_utf8(bytes).map_err(|_| wrong("UTF-8", "another encoding, such as Latin-1"))?;
        let text = text.trim_start_matches('\u{feff}').trim().to_owned();
        Ok((end, text))
    };
    texts.into_iter().map(text).collect()
}

/// Gives images the names of their folders as labels, where no image has one of its own. Returns whether it does.
fn labels_of_folders(entries: &mut [Entry]) -> Result<bool> {
    let Some(without) = entries.iter().find(|entry| entry.labels.is_empty()) else { return Ok(false) };
    if let Some(with) = entries.iter().find(|entry| !entry.labels.is_empty()) {
        let expected = format!("a label, as {} has", with.sample.path().display());
        return Err(wrong(without.sample.path(), &expected, "none"));
    }
    let mut known: HashMap<String, Arc<[String]>> = HashMap::new();
    for Entry { sample, labels, .. } in entries {
        let (path, archive) = (sample.path(), sample.container());
        let folder = path.parent().filter(|folder| *folder != archive).and_then(Path::file_name);
        let label = folder.unwrap_or_default().to_string_lossy().into_owned();
        *labels = known.entry(label).or_insert_with_key(|label| [label.clone()].into()).clone();
    }
    Ok(true)
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

/// The text of the label among the texts of a key, in the column that is asked for or a usual one.
fn label(key: &Path, texts: &BTreeMap<String, String>, column: Option<&str>) -> Result<Option<String>> {
    let json = || {
        let value = texts.get("json").map(|text| serde_json::from_str::<Value>(text)).transpose();
        value.map_err(|error| wrong(member(key, "json"), "JSON", &error.to_string()))
    };
    let Some(column) = column else {
        if let Some(text) = TEXTS[..4].iter().find_map(|end| texts.get(*end)) {
            return Ok(Some(text.clone()));
        }
        let of_json = match json()? {
            Some(Value::Object(object)) => {
                LABEL.iter().chain(&["cls"]).find_map(|name| object.get(*name)).map(|value| cell(Some(value)))
            }
            other => other.map(|value| cell(Some(&value))),
        };
        return Ok(of_json.or_else(|| texts.get("txt").cloned()));
    };
    if let Some(text) = texts.get(column) {
        return Ok(Some(text.clone()));
    }
    let object = json()?;
    let object = object.as_ref().and_then(Value::as_object);
    let found = object.and_then(|object| object.get(column)).map(|value| cell(Some(value)));
    found.map(Some).ok_or_else(|| {
        let names = texts.keys().chain(object.into_iter().flat_map(|object| object.keys()));
        let names: Vec<&str> = names.map(String::as_str).collect();
        let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        wrong(key.to_owned(), &format!("a label called {column}"), &found)
    })
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
                Some((line, _)) => Err(table::wrong(&path, line, "", "the name of a class", "an empty line")),
            };
        }
    }
    Ok(Vec::new())
}
