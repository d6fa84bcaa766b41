//! Files that are not read, or not as they are.

use firstsight_data::{ImageDataset, Skipped};
use serde::Serialize;

/// The files of a data set that are not read, or not as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileNotes {
    /// Files and folders that aren't used.
    pub skipped: Vec<FileNote>,
    /// Images that cannot be decoded.
    pub unreadable: Vec<FileNote>,
    /// Images that are repaired, reduced or clipped on the way.
    pub repaired: Vec<FileNote>,
}

/// A file with what there is to say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileNote {
    /// The file.
    pub path: String,
    /// Why it isn't read, or what was done to read it.
    pub reason: String,
}

impl From<&Skipped> for FileNote {
    fn from(Skipped { path, reason }: &Skipped) -> Self {
        Self { path: path.display().to_string(), reason: reason.to_string() }
    }
}

impl FileNotes {
    /// What a scan has left out.
    pub fn of_skipped<'a>(skipped: impl IntoIterator<Item = &'a Skipped>) -> Self {
        Self { skipped: skipped.into_iter().map(FileNote::from).collect(), ..Self::default() }
    }

    /// Adds what came of decoding images.
    #[must_use]
    pub fn decoded(mut self, images: &ImageDataset) -> Self {
        let note = |path: &std::path::Path, reason: &str| FileNote {
            path: path.display().to_string(),
            reason: reason.to_owned(),
        };
        self.unreadable.extend(images.excluded().iter().map(|(path, reason)| note(path, reason)));
        let repaired = |i: usize| Some(note(&images.path(i)?, images.note(i)?));
        self.repaired.extend((0..images.len()).filter_map(repaired));
        self
    }
}
