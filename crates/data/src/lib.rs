//! firstsight-data

mod batches;
mod cache;
mod decode;
mod decoded;
mod error;
mod files;
mod folder;
mod loader;
mod numpy_random;
mod resize;
mod split;

pub use batches::{Batch, Batches, Order, TensorBatches};
pub use decode::{ColorMode, DecodeSettings, Unreadable, decode_image};
pub use decoded::Decoded;
pub use error::{Error, Result};
pub use folder::{DatasetFolder, ImageFolder, Sample, Skipped};
pub use loader::{Loader, LoaderConfig, Normalize};
pub use resize::{Filter, Fit};
pub use split::train_test_split;
