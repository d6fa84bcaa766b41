//! The files of a folder, a zip, a tar, or one file, each under its name.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// A file: the name for messages, the name in the archive with `/`, and its bytes. It answers whether to go on.
pub(super) type VisitFile<'a> = dyn FnMut(&Path, &str, &mut dyn Read) -> Result<bool> + 'a;

/// Calls `visit` for each file: of a folder and a zip in the order of their names, of a tar in its own.
pub(super) fn each(source: &Path, visit: &mut VisitFile<'_>) -> Result<()> {
    let unreadable = || Error::io("read", source);
    if source.is_dir() {
        return each_of_folder(source, visit);
    }
    let mut file = BufReader::new(File::open(source).map_err(unreadable())?);
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start).map_err(unreadable())?;
    file.rewind().map_err(unreadable())?;
    match start.as_slice() {
        [b'P', b'K', 3 | 5, ..] => each_of_zip(source, file, visit),
        [0x1f, 0x8b, ..] => each_of_tar(source, MultiGzDecoder::new(file), visit),
        _ if source.extension().is_some_and(|ending| ending == "tar") => each_of_tar(source, file, visit),
        _ => visit(source, &source.to_string_lossy(), &mut file).map(|_| ()),
    }
}

fn each_of_folder(folder: &Path, visit: &mut VisitFile<'_>) -> Result<()> {
    let mut folders = vec![folder.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    // Links are followed, and may lead back.
    let mut visited = HashSet::new();
    while let Some(folder) = folders.pop() {
        if !visited.insert(fs::canonicalize(&folder).map_err(Error::io("list", &folder))?) {
            continue;
        }
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let path = entry.map_err(Error::io("list", &folder))?.path();
            match fs::metadata(&path).map_err(Error::io("read", &path))? {
                kind if kind.is_dir() => folders.push(path),
                kind if kind.is_file() => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    for path in files {
        let mut file = BufReader::new(File::open(&path).map_err(Error::io("read", &path))?);
        if !visit(&path, &path.to_string_lossy(), &mut file)? {
            break;
        }
    }
    Ok(())
}

fn each_of_zip(source: &Path, file: BufReader<File>, visit: &mut VisitFile<'_>) -> Result<()> {
    let broken = |error: zip::result::ZipError| Error::io("read", source)(error.into());
    let mut archive = zip::ZipArchive::new(file).map_err(broken)?;
    let names = archive.file_names().map(|name| Ok(name?.into_owned()));
    let names = names.collect::<Result<Vec<String>, _>>().map_err(broken)?;
    let mut names: Vec<(String, usize)> = names.into_iter().zip(0..).collect();
    names.sort();
    for (name, index) in names {
        let mut member = archive.by_index(index).map_err(broken)?;
        if member.is_file() && !visit(&source.join(&name), &name, &mut member)? {
            break;
        }
    }
    Ok(())
}

fn each_of_tar(source: &Path, reader: impl Read, visit: &mut VisitFile<'_>) -> Result<()> {
    let unreadable = || Error::io("read", source);
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(unreadable())? {
        let mut entry = entry.map_err(unreadable())?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type().is_file() && !visit(&source.join(&name), &name, &mut entry)? {
            break;
        }
    }
    Ok(())
}

/// The last part of a name.
pub(super) fn file_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// Fills `bytes`; `false` where there are none left, an error where there are some but too few.
pub(super) fn fill(reader: &mut dyn Read, bytes: &mut [u8], path: &Path, what: &str) -> Result<bool> {
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => {
                let expected = format!("{what} of {} bytes", bytes.len());
                return Err(Error::Format { path: path.to_owned(), expected, found: format!("{filled}") });
            }
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path)(error)),
        }
    }
    Ok(true)
}
