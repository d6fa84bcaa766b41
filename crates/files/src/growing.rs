//! A file that grows where it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::draft::sync_folder;
use crate::steps::{Step, step};

/// A file under its final name that grows at its end. A killed process may leave a part of what it wrote last, so whoever reads the
/// file must see where what is whole ends, and [cut off](Self::truncate) the rest.
///
/// # Examples
///
/// ```
/// use std::io::Write as _;
/// use firstsight_files::Growing;
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("rows.csv");
/// std::fs::write(&path, "a,1\nb,")?;
/// let mut rows = Growing::open(&path)?;
/// rows.truncate(4)?;
/// rows.write_all(b"b,2\n")?;
/// rows.sync()?;
/// assert_eq!(std::fs::read_to_string(&path)?, "a,1\nb,2\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Growing {
    file: File,
    path: PathBuf,
}

impl Growing {
    /// The file at `path`, made where there is none. It is read from its beginning.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn open(path: &Path) -> io::Result<Self> {
        let open = |is_new| OpenOptions::new().read(true).append(true).create_new(is_new).open(path);
        let file = loop {
            match open(false) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => break file?,
            }
            step(&Step::Create(path))?;
            match open(true) {
                // Another process has just made it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                file => {
                    let file = file?;
                    sync_folder(path)?;
                    break file;
                }
            }
        };
        Ok(Self { file, path: path.to_owned() })
    }

    /// The file at `path`, emptied where there is one.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = Self::open(path)?;
        if file.file.metadata()?.len() > 0 {
            file.truncate(0)?;
        }
        Ok(file)
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Cuts the file off after so many bytes.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn truncate(&mut self, length: u64) -> io::Result<()> {
        step(&Step::Truncate(&self.path, length))?;
        // On Windows a file that is open for appending cannot be cut off.
        OpenOptions::new().write(true).open(&self.path)?.set_len(length)
    }

    /// Brings what was written to the disk.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn sync(&mut self) -> io::Result<()> {
        step(&Step::Sync(&self.path))?;
        self.file.sync_data()
    }

    /// Syncs the file, gives it its last name and syncs the folder.
    ///
    /// # Errors
    ///
    /// The operating system's error; the file then has its old name, unless the folder alone could not be synced.
    pub fn finish(mut self, path: &Path) -> io::Result<()> {
        self.sync()?;
        step(&Step::Rename(&self.path, path))?;
        drop(self.file);
        fs::rename(&self.path, path)?;
        sync_folder(path)
    }
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        step(&Step::Write(&self.path, bytes))?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for Growing {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}
