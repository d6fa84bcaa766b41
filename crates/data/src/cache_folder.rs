//! A folder of files that can be made again.

use std::fs::{self, File, FileTimes};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use memmap2::Mmap;

use crate::files::{self, write_atomically_with};
use crate::mapped::{MappedFile, map};

/// Endings of the files that a cache holds. Others in the folder are nobody's concern here.
const ENDINGS: [&str; 3] = ["images", "features", "hashes"];

/// A folder that keeps decoded images (`*.images`), features (`*.features`) and hashes of files (`*.hashes`) for later runs.
///
/// A cache is a convenience: a file that cannot be read or written costs a warning and the time to make it again.
///
/// ```
/// use firstsight_data::CacheFolder;
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path().join("cache");
/// let cache = CacheFolder::new(folder).limit(Some(1000));
/// assert!(cache.write("a.images", 800, |file| file.write_all(&[7; 800])));
/// assert!(cache.write("b.images", 300, |file| file.write_all(&[7; 300])));
/// assert_eq!(cache.files()?.len(), 1, "the file that was used last");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CacheFolder {
    path: PathBuf,
    limit: Option<u64>,
    warned: Arc<AtomicBool>,
}

/// A file of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedFile {
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// When it was last written or read.
    pub used: SystemTime,
}

impl CacheFolder {
    /// A cache in `path`, which is made when it is first written to, without a limit.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), limit: None, warned: Arc::default() }
    }

    /// Limits the size of all files together. A file that would exceed it removes those that were not used for the longest
    /// time; one larger than the limit is not kept.
    #[must_use]
    pub fn limit(mut self, bytes: Option<u64>) -> Self {
        self.limit = bytes;
        self
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size limit in bytes.
    pub fn size_limit(&self) -> Option<u64> {
        self.limit
    }

    /// The files, the longest unused first; none where there is no folder.
    ///
    /// # Errors
    ///
    /// The operating system's, for a folder that cannot be listed.
    pub fn files(&self) -> io::Result<Vec<CachedFile>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            // Another run may remove a file meanwhile.
            if let (true, Ok(metadata)) = (is_ours(&path), fs::metadata(&path))
                && metadata.is_file()
            {
                files.push(CachedFile { path, bytes: metadata.len(), used: metadata.modified()? });
            }
        }
        files.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        Ok(files)
    }

    /// Removes all files, and returns their number and bytes.
    ///
    /// # Errors
    ///
    /// The operating system's, for a file that cannot be removed.
    pub fn clear(&self) -> io::Result<(usize, u64)> {
        let files = self.files()?;
        for file in &files {
            remove(&file.path)?;
        }
        Ok((files.len(), files.iter().map(|file| file.bytes).sum()))
    }

    /// The path of the file `name`, marked as used now if it exists.
    pub fn find(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        // In a folder of others the time may not be ours to set.
        let now = FileTimes::new().set_modified(SystemTime::now());
        let _ = File::options().append(true).open(&path).and_then(|file| file.set_times(now));
        path
    }

    /// The file `name`, marked as used now and mapped; `None` where there is none.
    ///
    /// # Errors
    ///
    /// The operating system's, for a file that cannot be opened or mapped.
    pub fn map(&self, name: &str) -> io::Result<Option<MappedFile>> {
        match File::open(self.find(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => Ok(Some(MappedFile(map(&file?)?))),
        }
    }

    /// Whether files of so many bytes in all may be kept: they are within the limit, and take no more than half of what the disk
    /// has free.
    pub fn has_room(&self, bytes: u64) -> bool {
        let fits = |limit: u64| bytes <= limit;
        self.limit.is_none_or(fits) && self.disk_has_room(bytes)
    }

    fn disk_has_room(&self, bytes: u64) -> bool {
        free(&self.path).is_none_or(|free| bytes <= free / 2)
    }

    /// Writes the file `name` of about `bytes` bytes, whole or not at all, and returns whether it did. What prevents it is
    /// a warning, the first time; so is a file that would take more than half of what the disk has free.
    pub fn write(
        &self,
        name: &str,
        bytes: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> bool {
        let attempt = || -> io::Result<bool> {
            if !self.make_room(bytes)? {
                return Ok(false);
            }
            write_atomically_with(&self.path.join(name), write)?;
            Ok(true)
        };
        attempt().unwrap_or_else(|error| {
            self.warn(&error);
            false
        })
    }

    /// Begins the file `name` of about `bytes` bytes, which is there once it is committed; `None` where the cache has no room
    /// or cannot be written, the latter with a warning, the first time.
    pub(crate) fn begin(&self, name: &str, bytes: u64) -> Option<Draft> {
        let attempt = || match self.make_room(bytes)? {
            true => Ok(Some(BufWriter::with_capacity(1 << 20, files::Draft::create(&self.path.join(name))?))),
            false => Ok(None),
        };
        let file = attempt().unwrap_or_else(|error: io::Error| {
            self.warn(&error);
            None
        })?;
        Some(Draft { cache: self.clone(), file: Some(file) })
    }

    fn warn(&self, error: &io::Error) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            let folder = self.path.display();
            tracing::warn!("the cache {folder} cannot be written: {error}; the work goes on without it");
        }
    }

    /// Makes the folder and removes the files that were not used for the longest time until `bytes` more fit; `false` where they
    /// never do, or would take more than half of what the disk has free.
    fn make_room(&self, bytes: u64) -> io::Result<bool> {
        fs::create_dir_all(&self.path)?;
        if !self.disk_has_room(bytes) {
            let gigabytes = bytes as f64 / 1e9;
            return Err(io::Error::other(format!("{gigabytes:.1} GB are more than half of the free disk")));
        }
        let Some(limit) = self.limit else { return Ok(true) };
        if bytes > limit {
            return Ok(false);
        }
        let files = self.files()?;
        let mut size: u64 = files.iter().map(|file| file.bytes).sum();
        for file in files {
            if size + bytes <= limit {
                break;
            }
            remove(&file.path)?;
            size -= file.bytes;
        }
        Ok(true)
    }
}

/// Bytes that a file system has free for this user; `None` where that is unknown.
fn free(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(folder).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    #[cfg(not(unix))]
    return None;
}

/// A file of a cache while it is written. Dropped, it leaves nothing.
pub(crate) struct Draft {
    cache: CacheFolder,
    /// `None` after an error.
    file: Option<BufWriter<files::Draft>>,
}

impl Draft {
    /// Adds bytes. After an error, which is a warning, nothing more is written.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.write_all(bytes)) {
            self.cache.warn(&error);
            self.file = None;
        }
    }

    /// Maps the file, which keeps no name and lives until it is unmapped.
    pub(crate) fn unnamed(self) -> Option<Mmap> {
        let Self { cache, file } = self;
        let mapped = |file: BufWriter<files::Draft>| map(file.into_inner()?.file());
        mapped(file?).inspect_err(|error| cache.warn(error)).ok()
    }

    /// Syncs the file and gives it its name.
    pub(crate) fn commit(self) -> Option<File> {
        let Self { cache, file } = self;
        let commit = |file: BufWriter<files::Draft>| -> io::Result<File> { file.into_inner()?.commit() };
        commit(file?).inspect_err(|error| cache.warn(error)).ok()
    }
}

/// A file of the cache, or one of its temporary files that a killed process left.
fn is_ours(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    ENDINGS.iter().any(|ending| {
        name.strip_suffix(ending).is_some_and(|stem| stem.ends_with('.'))
            || (name.starts_with('.') && name.contains(&format!(".{ending}.")))
    })
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
