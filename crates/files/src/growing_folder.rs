//! A folder that grows beside its name.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::draft::sync_folder;
use crate::steps::{Step, step};

/// A folder of many files that grows under its name with `.partial` appended. A killed process leaves it there, with a part of the file
/// that it wrote last, and the next one goes on in it.
///
/// # Examples
///
/// ```
/// use firstsight_files::GrowingFolder;
///
/// # let folder = tempfile::tempdir()?;
/// let digits = folder.path().join("digits");
/// let growing = GrowingFolder::open(&digits)?;
/// growing.create_dir_all("7".as_ref())?;
/// growing.write("7/00000.txt".as_ref(), b"seven")?;
/// assert!(folder.path().join("digits.partial/7/00000.txt").exists());
/// growing.finish()?;
/// assert_eq!(std::fs::read(digits.join("7/00000.txt"))?, b"seven");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct GrowingFolder {
    partial: PathBuf,
    target: PathBuf,
}

impl GrowingFolder {
    /// Begins a folder that is to be at `path`, or goes on with the one that was begun.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let growing = Self { partial: partial.into(), target: path.to_owned() };
        growing.create_dir_all(Path::new(""))?;
        Ok(growing)
    }

    /// Where it grows.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Makes a folder in it, with those above.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn create_dir_all(&self, name: &Path) -> io::Result<()> {
        let path = self.partial.join(name);
        if path.is_dir() {
            return Ok(());
        }
        step(&Step::Create(&path))?;
        fs::create_dir_all(path)
    }

    /// Writes a file of it, unless that holds these bytes already. It is not synced until [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// The operating system's error; the file may then hold a part of `bytes`.
    pub fn write(&self, name: &Path, bytes: &[u8]) -> io::Result<()> {
        let path = self.partial.join(name);
        if fs::read(&path).is_ok_and(|found| found == bytes) {
            return Ok(());
        }
        step(&Step::Create(&path))?;
        let mut file = File::create(&path)?;
        step(&Step::Write(&path, bytes))?;
        file.write_all(bytes)
    }

    /// Brings all of it to the disk, gives it its name and syncs the folder that it is in.
    ///
    /// # Errors
    ///
    /// The operating system's error; the folder then has its partial name, unless the folder above alone could not be synced.
    pub fn finish(self) -> io::Result<()> {
        step(&Step::Sync(&self.partial))?;
        sync_all(&self.partial)?;
        step(&Step::Rename(&self.partial, &self.target))?;
        fs::rename(&self.partial, &self.target)?;
        sync_folder(&self.target)
    }
}

/// The file system at once: a sync of each of many files takes many times as long.
#[cfg(target_os = "linux")]
fn sync_all(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync_all(&path)?,
            false => File::options().append(true).open(&path)?.sync_all()?,
        }
    }
    Ok(())
}
