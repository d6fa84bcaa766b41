#![doc = include_str!("../README.md")]

mod draft;
mod growing;
mod growing_folder;
mod link;
mod lock;
mod steps;
mod temporary;

use std::io::{self, BufWriter, Write};
use std::path::Path;

pub use draft::Draft;
pub use growing::Growing;
pub use growing_folder::GrowingFolder;
pub use link::link;
pub use lock::{Lock, Locked};
pub use steps::{Step, observe};
pub use temporary::{DraftFolder, is_temporary, sweep};

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
/// firstsight_files::write_atomically(&path, b"{}\n")?;
/// assert_eq!(std::fs::read(&path)?, b"{}\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = Draft::create(path)?;
    draft.write_all(bytes)?;
    draft.commit().map(drop)
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
    let mut writer = BufWriter::with_capacity(1 << 20, Draft::create(path)?);
    write(&mut writer)?;
    writer.into_inner()?.commit().map(drop)
}

/// Whether [`write_atomically`] can begin; nothing is left or changed.
///
/// # Errors
///
/// The operating system's error.
pub fn check_writable(path: &Path) -> io::Result<()> {
    Draft::create(path).map(drop)
}
