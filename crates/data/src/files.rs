//! Files that are written whole or not at all.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use atomic_write_file::AtomicWriteFile;

/// Writes `bytes` to a temporary file in the same folder, syncs it and renames it to `path`, so that `path` holds the
/// old content or all of the new content, never a part.
///
/// # Errors
///
/// The operating system's error; `path` is then unchanged and the temporary file removed.
///
/// # Examples
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("metrics.json");
/// firstsight_data::files::write_atomically(&path, b"{}\n")?;
/// assert_eq!(std::fs::read(&path)?, b"{}\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = open(path)?;
    file.write_all(bytes)?;
    commit(file)
}

/// As [`write_atomically`], with the content produced by `write`, which gets a buffered writer.
///
/// # Errors
///
/// The error of `write` or the operating system's; `path` is then unchanged and the temporary file removed.
pub fn write_atomically_with(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(1 << 20, open(path)?);
    write(&mut writer)?;
    commit(writer.into_inner()?)
}

/// Whether [`write_atomically`] can begin; nothing is left or changed.
///
/// # Errors
///
/// The operating system's error.
pub fn check_writable(path: &Path) -> io::Result<()> {
    open(path)?.discard()
}

// `AtomicWriteFile` leaves its temporary file behind if syncing or renaming fails, so these two rule that out.

pub(crate) fn open(path: &Path) -> io::Result<AtomicWriteFile> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // Readable, so that it can be mapped once it is written.
    AtomicWriteFile::options().read(true).open(path)
}

pub(crate) fn commit(file: AtomicWriteFile) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        write_atomically(&path, b"old").unwrap();
        write_atomically_with(&path, |file| {
            file.write_all(&vec![7; 3 << 20])?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write_atomically_with(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_folder_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("folder");
        std::fs::create_dir(&path).unwrap();
        write_atomically(&path, b"new").unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
