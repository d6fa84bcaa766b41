//! The steps of writing, which a test can watch and let fail.

use std::io::{self, SeekFrom};
use std::path::Path;
use std::sync::OnceLock;

/// A step of writing a file, before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A file is made.
    Create(&'a Path),
    /// Bytes are written where the file is at.
    Write(&'a Path, &'a [u8]),
    /// A file is at another place now.
    Seek(&'a Path, SeekFrom),
    /// A file is cut off.
    Truncate(&'a Path, u64),
    /// What is written of a file is brought to the disk.
    Sync(&'a Path),
    /// A file gets another name.
    Rename(&'a Path, &'a Path),
    /// The names in a folder are brought to the disk.
    SyncFolder(&'a Path),
}

impl<'a> Step<'a> {
    /// The file or folder; of a rename the new name.
    pub fn path(&self) -> &'a Path {
        match *self {
            Self::Create(path)
            | Self::Write(path, _)
            | Self::Seek(path, _)
            | Self::Truncate(path, _)
            | Self::Sync(path)
            | Self::Rename(_, path)
            | Self::SyncFolder(path) => path,
        }
    }
}

type Observer = Box<dyn Fn(&Step<'_>) -> io::Result<()> + Send + Sync>;

static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// For tests of a whole program: calls `observer` before each step of writing, and does not do the step where that is an error. The first
/// call in a process counts.
pub fn observe(observer: impl Fn(&Step<'_>) -> io::Result<()> + Send + Sync + 'static) {
    let _ = OBSERVER.set(Box::new(observer));
}

/// Says that a step comes next.
pub(crate) fn step(step: &Step<'_>) -> io::Result<()> {
    OBSERVER.get().map_or(Ok(()), |observer| observer(step))
}
