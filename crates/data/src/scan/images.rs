//! Images without labels.

use std::path::PathBuf;

use super::listing::Listing;
use super::skipped::{counted, summary};
use super::walk::{Tree, Walker};
use super::{ScanOptions, Skipped};
use crate::error::{Error, Result};
use crate::sample::{Sample, Samples};

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

impl FoundImages {
    fn add(&mut self, listing: Listing) {
        self.remarks.extend(summary(&listing.root, listing.entries.len(), &listing.skipped));
        self.samples.extend(listing.entries.into_iter().map(|entry| entry.sample));
        self.skipped.extend(listing.skipped);
    }
}

/// Image files, and the images in folders and the folders below them.
///
/// A table, a Parquet file or a tar archive stands for its images, as for
/// [`DatasetFolder::scan`](crate::DatasetFolder::scan). Any other file is taken as it is, as often as it is named. Of a folder, the same files count
/// as in [`ImageFolder::scan`](crate::ImageFolder::scan); a folder that is named twice, or lies in another, counts once. Photos in a format that
/// can't be read are listed too, so that each has its error.
///
/// # Errors
///
/// [`Error::NoImages`] for a folder without pictures, [`Error::Io`] for one that cannot be listed; [`Error::Csv`],
/// [`Error::Archive`].
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
    scan_images_with(named, &ScanOptions::default())
}

/// As [`scan_images`], with the folder of a table's paths. What the options say of labels is of no matter.
///
/// # Errors
///
/// Those of [`scan_images`], and [`Error::Invalid`] for the folder of a table's paths where no table is named.
pub fn scan_images_with(named: &[PathBuf], options: &ScanOptions) -> Result<FoundImages> {
    let options = ScanOptions { images: options.images.clone(), ..ScanOptions::default() };
    let mut found = FoundImages { samples: Vec::new(), skipped: Vec::new(), remarks: Vec::new() };
    let (mut walker, mut has_table) = (Walker::default(), false);
    for path in named {
        if !path.is_dir() {
            match Listing::of_file(path, &options, false)? {
                Some(listing) => {
                    has_table |= listing.is_table;
                    found.add(listing);
                }
                None => found.samples.push(Sample::file(path)),
            }
            continue;
        }
        let is_new = walker.walk(path)?;
        let Tree { mut images, skipped, .. } = walker.sniffed();
        let (photos, skipped): (Vec<_>, Vec<_>) =
            skipped.into_iter().partition(|file| file.reason.is_photo());
        images.extend(photos.into_iter().map(|photo| photo.path));
        images.sort();
        if is_new && images.is_empty() {
            if let Some(listing) = Listing::of_folder(path, &options, false)? {
                has_table |= listing.is_table;
                found.add(listing);
                continue;
            }
            let counted = counted(path, &skipped);
            let found = if counted.is_empty() { "nothing".to_owned() } else { counted };
            return Err(Error::NoImages { path: path.clone(), found });
        }
        found.remarks.extend(summary(path, images.len(), &skipped));
        let mut samples = Samples::default();
        images.iter().for_each(|path| samples.file(path));
        found.samples.extend(samples.finish());
        found.skipped.extend(skipped);
    }
    if !has_table && let Some(first) = named.first() {
        options.check_images(first)?;
    }
    Ok(found)
}
