//! Images without labels.

use std::path::PathBuf;

use super::skipped::{counted, summary};
use super::walk::Walker;
use super::{Sample, Skipped};
use crate::error::{Error, Result};

/// Images without labels, as [`scan_images`] finds them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FoundImages {
    /// The images, in the order in which they were named, those of a folder by path.
    pub samples: Vec<Sample>,
    /// What was left out of the folders, by path.
    pub skipped: Vec<Skipped>,
    /// What the user should know before work starts, in sentences.
    pub remarks: Vec<String>,
}

/// Image files, and the images in folders and the folders below them.
///
/// A file is taken as it is, as often as it is named, whatever its name or content. Of a folder, the same files count
/// as in [`ImageFolder::scan`](crate::ImageFolder::scan); a folder that is named twice, or lies in another, counts once.
///
/// # Errors
///
/// [`Error::NoImages`] for a folder without pictures, [`Error::Io`] for one that cannot be listed.
///
/// # Examples
///
/// ```
/// # let root = tempfile::tempdir().unwrap();
/// # image::GrayImage::new(4, 3).save(root.path().join("1.png")).unwrap();
/// # std::fs::write(root.path().join(".DS_Store"), "").unwrap();
/// # let folder = root.path().to_owned();
/// let found = firstsight_data::scan_images(&[folder])?;
/// assert_eq!(found.samples.len(), 1);
/// assert_eq!(found.skipped[0].reason, firstsight_data::SkipReason::Hidden);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
pub fn scan_images(named: &[PathBuf]) -> Result<FoundImages> {
    let mut found = FoundImages { samples: Vec::new(), skipped: Vec::new(), remarks: Vec::new() };
    let mut walker = Walker::default();
    for path in named {
        if !path.is_dir() {
            found.samples.push(Sample { path: path.clone() });
            continue;
        }
        let is_new = walker.walk(path)?;
        let tree = walker.sniffed();
        if is_new && tree.images.is_empty() && !tree.skipped.iter().any(|skipped| skipped.reason.is_picture())
        {
            let counted = counted(path, &tree.skipped);
            let found = if counted.is_empty() { "nothing".to_owned() } else { counted };
            return Err(Error::NoImages { path: path.clone(), found });
        }
        found.remarks.extend(summary(path, tree.images.len(), &tree.skipped));
        found.samples.extend(tree.images.into_iter().map(|path| Sample { path }));
        found.skipped.extend(tree.skipped);
    }
    Ok(found)
}
