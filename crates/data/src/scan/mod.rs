//! Folders of images on disk, as every command sees them.
//!
//! `walk` lists the files below a folder, `sniff` tells which of them are images, and the others give them a
//! meaning: classes, splits, or images without labels.

mod dataset;
mod folder;
mod images;
mod skipped;
mod sniff;
mod walk;

pub use dataset::DatasetFolder;
pub use folder::{ImageFolder, Sample};
pub use images::{FoundImages, scan_images};
pub use skipped::{SkipReason, Skipped};
