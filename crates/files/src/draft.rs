//! A file that is written beside the one that it is to replace.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::steps::{Step, step};
use crate::temporary::{behind_links, free_path, sweep_once};

/// A file that is written beside the one that it is to replace. Dropped before [`Draft::commit`], it leaves nothing.
///
/// While it lives, its process holds a lock on it. So others tell it from the draft of a process that was killed, which the next
/// writer in the folder [sweeps](crate::sweep).
#[derive(Debug)]
pub struct Draft {
    file: File,
    /// Empty once there is nothing to remove.
    temporary: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Begins a file that is to be at `path`, with the permissions of the one that is there, else those of a new file. A symbolic link
    /// stays, and the file that it names is replaced.
    ///
    /// # Errors
    ///
    /// The operating system's error; nothing is left then.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let path = &behind_links(path)?;
        sweep_once(path);
        let (file, temporary) = loop {
            let temporary = free_path(path)?;
            step(&Step::Create(&temporary))?;
            // Readable, so that it can be mapped once it is written.
            match OpenOptions::new().read(true).write(true).create_new(true).open(&temporary) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                file => {
                    let file = file?;
                    if is_ours(&file, &temporary) {
                        break (file, temporary);
                    }
                }
            }
        };
        let draft = Self { file, temporary, path: path.to_owned() };
        if let Ok(there) = fs::metadata(path) {
            draft.file.set_permissions(there.permissions())?;
        }
        Ok(draft)
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file, gives it its name and syncs the folder. The file is returned.
    ///
    /// # Errors
    ///
    /// The operating system's error; the file that was there is then unchanged, unless the folder alone could not be synced.
    pub fn commit(mut self) -> io::Result<File> {
        step(&Step::Sync(&self.temporary))?;
        self.file.sync_all()?;
        step(&Step::Rename(&self.temporary, &self.path))?;
        fs::rename(&self.temporary, &self.path)?;
        self.temporary = PathBuf::new();
        let _ = self.file.unlock();
        sync_folder(&self.path)?;
        self.file.try_clone()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        step(&Step::Write(&self.temporary, bytes))?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for Draft {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for Draft {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        step(&Step::Seek(&self.temporary, to))?;
        self.file.seek(to)
    }
}

/// Whether a new file is this process's. A sweep may have locked it first, and removed it or be about to.
fn is_ours(file: &File, path: &Path) -> bool {
    // Where the file system knows no locks, nobody sweeps either.
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) && path.exists()
}

/// Makes a rename last through a loss of power.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    step(&Step::SyncFolder(folder))?;
    // Elsewhere folders cannot be opened; and not every file system syncs them.
    #[cfg(unix)]
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all())
        && is_failure(&error)
    {
        return Err(error);
    }
    Ok(())
}

/// Whether a sync was tried and failed.
#[cfg(unix)]
fn is_failure(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    const EIO: i32 = 5;
    matches!(error.kind(), StorageFull | QuotaExceeded) || error.raw_os_error() == Some(EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_a_sweep_has_locked_first_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let file = File::create(&path).unwrap();
        let sweeping = File::options().append(true).open(&path).unwrap();
        sweeping.try_lock().unwrap();
        assert!(!is_ours(&file, &path), "it is about to be removed");
        drop(sweeping);
        assert!(is_ours(&file, &path));
        fs::remove_file(&path).unwrap();
        assert!(!is_ours(&file, &path));
    }
}
