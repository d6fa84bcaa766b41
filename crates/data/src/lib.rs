#![doc = include_str!("../README.md")]
//!
//! # Decoding
//!
//! How a file is read is a setting, [`Reading`]. With [`Reading::pillow`] pixels equal those of Pillow 13's
//! `Image.open(path).convert("L")` or `.convert("RGB")`: the first frame of an animation, without the EXIF orientation. A
//! file's format is told by its first bytes, not by its name. Every row is checked on the files of `tests/goldens`:
//!
//! | in the file | decoded as | largest difference from Pillow |
//! | --- | --- | --- |
//! | 1, 2, 4-bit gray | 0 to 255 | 0 |
//! | 8-bit gray, RGB, palette | unchanged; the palette's colors | 0 |
//! | alpha, transparent colors | the color, without blending | 0 |
//! | 16-bit RGB, RGBA, gray with alpha | the upper byte | 0 |
//! | 16-bit gray PNG, TIFF, PGM | **clipped at 255**, with a note: all but the darkest is white | 0 |
//! | GIF frame smaller than its canvas | the rest in the transparent color, otherwise color 0 | 0 |
//! | 16-bit BMP | five or six bits scaled to eight | 1 |
//! | JPEG: gray, RGB, YCbCr subsampled or not, CMYK | unchanged; CMYK converted to RGB | 0 |
//! | WebP, lossy or lossless; the first frame of an animation | unchanged; on a transparent or black canvas | 0 |
//! | TIFF: the first page, uncompressed, LZW, deflate, PackBits or Fax 4 | upright by its tag; CMYK converted to RGB | 0 |
//! | PBM, PGM, PPM | scaled to 255 | 0 |
//!
//! Gray is `(19595 R + 38470 G + 7471 B + 32768) >> 16`. [`Interpolation`] and [`ResizeMode`] equal Pillow's and timm's
//! in every bit.
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | `decode` (default) | reading files: image folders, codecs, the decode cache, IDX and CSV |
//! | `candle` (default) | batches of tensors: [`Batches`], [`Loader`], [`TensorBatches`] |
//! | `cuda`, `metal` | the same on a GPU |
//!
//! Without features the crate holds the settings, images in memory, augmentation and splits.

#[cfg(feature = "decode")]
mod cache;
#[cfg(feature = "decode")]
mod cache_folder;
#[cfg(feature = "decode")]
pub mod convert;
#[cfg(feature = "decode")]
mod decode;
#[cfg(feature = "decode")]
mod guard;
#[cfg(feature = "decode")]
pub mod idx;
#[cfg(feature = "decode")]
mod image_facts;
#[cfg(feature = "decode")]
mod image_hash;
#[cfg(feature = "decode")]
mod mnist;
#[cfg(feature = "decode")]
mod sample;
#[cfg(feature = "decode")]
mod scan;
#[cfg(feature = "decode")]
mod table;

#[cfg(feature = "candle")]
mod batches;
#[cfg(feature = "candle")]
mod loader;

mod augment;
mod decode_settings;
mod error;
pub mod files;
mod image_dataset;
mod image_name;
mod input_spec;
mod labels;
#[cfg(feature = "decode")]
mod mapped;
mod normalize;
#[cfg(feature = "decode")]
mod npy;
mod numpy_random;
#[cfg(feature = "decode")]
mod parquet_table;
mod raster;
mod reading;
mod resize;
mod sampling;
mod split;

pub use augment::{
    Augmentation, AugmentationConfig, AugmentationPreset, Augmenter, Cover, Crops, Fill, Mix, Transform,
};
#[cfg(feature = "candle")]
pub use batches::{Batch, Batches, Shard, TensorBatches};
#[cfg(feature = "decode")]
pub use cache_folder::{CacheFolder, CachedFile};
#[cfg(feature = "decode")]
pub use decode::{DecodedImage, decode_bytes, decode_image, decoding_memory};
pub use decode_settings::{ColorMode, DecodeSettings, Interpolation, OnError, ResizeMode};
pub use error::{Error, Result};
pub use image_dataset::ImageDataset;
#[cfg(feature = "decode")]
pub use image_dataset::{DecodeOptions, PixelStore};
#[cfg(feature = "decode")]
pub use image_facts::{Colors, ImageFacts};
#[cfg(feature = "decode")]
pub use image_hash::{ImageHash, NearPair, near_pairs, near_pairs_of};
pub use image_name::is_image_name;
pub use input_spec::{IMAGENET_MEAN, IMAGENET_STD, InputSpec};
#[cfg(feature = "decode")]
pub use labels::CellError;
pub use labels::{Labels, Task};
#[cfg(feature = "candle")]
pub use loader::{Loader, LoaderConfig};
#[cfg(feature = "decode")]
pub use mapped::MappedFile;
#[cfg(feature = "decode")]
pub use mnist::Mnist;
pub use normalize::Normalize;
#[cfg(feature = "decode")]
pub use npy::{NpyRows, NpyValue};
#[cfg(feature = "decode")]
pub use parquet_table::{ParquetCell, ParquetColumn, ParquetTable};
pub use reading::{Alpha, Damaged, Exif, Reading, SixteenBit};
#[cfg(feature = "decode")]
pub use sample::Sample;
pub use sampling::{Sampling, balanced};
#[cfg(feature = "decode")]
pub use scan::{
    DatasetFolder, FoundImages, ImageFolder, ScanOptions, SkipReason, Skipped, scan_images, scan_images_with,
};
pub use split::{Groups, check_folds, stratified_folds, stratified_split, train_test_split};
#[cfg(feature = "decode")]
pub use table::{Standardizer, Table};
