//! Folders of images on disk, as every command sees them.
//!
//! `walk` lists the files below a folder, and `sniff` tells which of them are images. `folder`, `dataset` and `images`
//! give them a meaning: classes, splits, or images without labels. `table`, `parquet` and `shards` are other ways to
//! name images, each a `listing`.

mod dataset;
mod folder;
mod images;
mod listing;
mod options;
mod parquet;
mod shards;
mod skipped;
pub(crate) mod sniff;
mod table;
mod walk;

pub use dataset::DatasetFolder;
pub use folder::ImageFolder;
pub use images::{FoundImages, scan_images, scan_images_with};
pub use options::ScanOptions;
pub use skipped::{SkipReason, Skipped};
