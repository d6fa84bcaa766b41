//! The files below a folder.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::sniff::{is_run, never_counts, not_an_image, unfinished};
use super::{SkipReason, Skipped};
use crate::error::{Error, Result};
use crate::image_name::is_image_name;

/// The image files below a folder, at any depth, and what is no image.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// By path.
    pub(super) images: Vec<PathBuf>,
    /// Folders that were walked, without those that never count.
    pub(super) folders: Vec<PathBuf>,
    /// By path.
    pub(super) skipped: Vec<Skipped>,
}

impl Tree {
    /// Lists the files below `root` and reads the first bytes of each, in parallel.
    pub(super) fn walk(root: &Path) -> Result<Self> {
        let mut walker = Walker::default();
        walker.walk(root)?;
        Ok(walker.sniffed())
    }
}

/// Lists files. Links are followed after all real folders, so a folder is counted where it really lies.
#[derive(Debug, Default)]
pub(super) struct Walker {
    visited: HashSet<PathBuf>,
    links: VecDeque<PathBuf>,
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    skipped: Vec<Skipped>,
}

impl Walker {
    /// Adds the files below `root`, but those of folders that were added before. Returns whether `root` is new.
    pub(super) fn walk(&mut self, root: &Path) -> Result<bool> {
        let real_root = fs::canonicalize(root).map_err(Error::io("list", root))?;
        if self.visited.contains(&real_root) {
            return Ok(false);
        }
        let entries = list(root)?;
        self.folder(root.to_owned(), real_root.clone(), entries)?;
        while let Some(link) = self.links.pop_front() {
            let target = fs::canonicalize(&link).map_err(Error::io("read", &link))?;
            if self.visited.contains(&target) || real_root.starts_with(&target) {
                self.skip(link, SkipReason::Repeated);
            } else {
                self.folder_or_denied(link, target)?;
            }
        }
        Ok(true)
    }

    /// The files that were added since the last call, by path.
    pub(super) fn files(&mut self) -> Vec<PathBuf> {
        let mut files = mem::take(&mut self.files);
        files.sort();
        files
    }

    /// The images among the files that were added since the last call, told by their first bytes.
    pub(super) fn sniffed(&mut self) -> Tree {
        let (files, folders) = (self.files(), mem::take(&mut self.folders));
        let mut skipped = mem::take(&mut self.skipped);
        let reasons: Vec<Option<SkipReason>> = files.par_iter().map(|path| not_an_image(path)).collect();
        let mut images = Vec::with_capacity(files.len());
        for (path, reason) in files.into_iter().zip(reasons) {
            match reason {
                Some(reason) => skipped.push(Skipped { path, reason }),
                None => images.push(path),
            }
        }
        skipped.sort();
        Tree { images, folders, skipped }
    }

    fn skip(&mut self, path: PathBuf, reason: SkipReason) {
        self.skipped.push(Skipped { path, reason });
    }

    fn folder_or_denied(&mut self, path: PathBuf, real: PathBuf) -> Result<()> {
        match list(&path) {
            Ok(entries) => self.folder(path, real, entries),
            Err(_) => {
                self.skip(path, SkipReason::DeniedFolder);
                Ok(())
            }
        }
    }

    fn folder(&mut self, path: PathBuf, real: PathBuf, entries: Vec<(OsString, PathBuf)>) -> Result<()> {
        if !self.visited.insert(real.clone()) {
            return Ok(());
        }
        for (name, path) in entries {
            match Kind::of(&name, &path)? {
                Kind::Skipped(reason) => self.skip(path, reason),
                Kind::File => self.files.push(path),
                Kind::Folder => self.folder_or_denied(path, real.join(name))?,
                Kind::LinkedFolder => self.links.push_back(path),
            }
        }
        self.folders.push(path);
        Ok(())
    }
}

/// What an entry of a folder is, links followed.
pub(super) enum Kind {
    Skipped(SkipReason),
    File,
    Folder,
    LinkedFolder,
}

impl Kind {
    pub(super) fn of(name: &std::ffi::OsStr, path: &Path) -> Result<Self> {
        if let Some(reason) = never_counts(name) {
            return Ok(Self::Skipped(reason));
        }
        let kind = fs::symlink_metadata(path).map_err(Error::io("read", path))?.file_type();
        let reason = match path.is_dir() {
            true => is_run(path).then_some(SkipReason::Run),
            false => unfinished(name),
        };
        if let Some(reason) = reason {
            return Ok(Self::Skipped(reason));
        }
        if kind.is_dir() {
            return Ok(Self::Folder);
        }
        Ok(match fs::metadata(path) {
            Ok(target) if target.is_dir() => Self::LinkedFolder,
            Ok(target) if target.is_file() => Self::File,
            // A pipe or a device is never opened.
            Ok(_) => Self::Skipped(SkipReason::NotAnImage),
            // A photo that isn't there is reported by decoding.
            Err(_) if is_image_name(path) => Self::File,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Self::Skipped(SkipReason::Denied)
            }
            Err(_) => Self::Skipped(SkipReason::BrokenLink),
        })
    }
}

/// The entries of a folder, by name.
pub(super) fn list(folder: &Path) -> Result<Vec<(OsString, PathBuf)>> {
    let read = || -> io::Result<Vec<_>> {
        let mut entries = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| (entry.file_name(), entry.path())))
            .collect::<io::Result<Vec<_>>>()?;
        // UTF-8 sorts as its code points do.
        entries.sort_by(|a, b| a.0.as_encoded_bytes().cmp(b.0.as_encoded_bytes()));
        Ok(entries)
    };
    read().map_err(Error::io("list", folder))
}
