//! Locks that end with their process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A lock on a file, held until it is dropped. It is the operating system's, so it ends with its process, however that ends.
/// The file is removed with it; one that a killed process left is taken over.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    held: bool,
    left: bool,
}

/// The outcome of [`Lock::acquire`].
#[derive(Debug)]
pub enum Locked {
    /// This process has the lock now.
    Here(Lock),
    /// Another process, or another part of this one, has it: its process number, where that is known.
    Elsewhere(Option<u32>),
}

impl Lock {
    /// Locks the file `path`, which is made for it, or says who has it. Nothing is waited for. A file system without locks lets
    /// everybody in.
    ///
    /// ```
    /// use firstsight_files::{Lock, Locked};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join(".lock");
    /// let first = Lock::acquire(&path)?;
    /// assert!(matches!(first, Locked::Here(_)));
    /// assert!(matches!(Lock::acquire(&path)?, Locked::Elsewhere(Some(by)) if by == std::process::id()));
    /// drop(first);
    /// assert!(matches!(Lock::acquire(&path)?, Locked::Here(_)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The operating system's, for a file that cannot be made.
    pub fn acquire(path: &Path) -> io::Result<Locked> {
        loop {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let holder = fs::read_to_string(path).ok();
                    return Ok(Locked::Elsewhere(holder.and_then(|text| text.lines().next()?.parse().ok())));
                }
                // There are no locks here.
                Err(TryLockError::Error(_)) => {
                    return Ok(Locked::Here(Self { file, path: path.to_owned(), held: false, left: false }));
                }
                // Who had it may have removed the file since it was opened.
                Ok(()) if !is_at(&file, path) => continue,
                Ok(()) => {}
            }
            let left = file.metadata()?.len() > 0;
            file.set_len(0)?;
            file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
            let lock = Self { file, path: path.to_owned(), held: true, left };
            return Ok(Locked::Here(lock));
        }
    }

    /// Whether others are kept out; not so on a file system without locks.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether a process was killed while it had the lock.
    pub fn was_left(&self) -> bool {
        self.left
    }

    /// Tells the lock that its file has another name now.
    pub(crate) fn moved(&mut self, path: PathBuf) {
        self.path = path;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // First the name: who opens the file after it is unlocked would find it at no path, and try again.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}

/// Whether the file is the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        (held.dev(), held.ino()) == (there.dev(), there.ino())
    }
    #[cfg(not(unix))]
    {
        held.created().ok() == there.created().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_removes_no_file_but_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let Locked::Here(first) = Lock::acquire(&path).unwrap() else { panic!("nobody has it") };
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        let Locked::Here(_second) = Lock::acquire(&path).unwrap() else { panic!("nobody has it") };
        drop(first);
        assert!(path.exists());
        assert!(matches!(Lock::acquire(&path).unwrap(), Locked::Elsewhere(_)));
    }
}
