//! From a folder of images to batches of tensors.
//!
//! Three steps, each of which can be used alone:
//!
//! 1. [`ImageFolder::scan`] or [`DatasetFolder::scan`]: names and labels, no pixels. [`ImageFolder::split`] divides
//!    them as scikit-learn does.
//! 2. [`Decoded::decode`]: 8-bit pixels of one size, decoded once in parallel and cached on disk.
//! 3. [`Loader`]: shuffled, normalised batches (B, C, H, W), prepared ahead by a thread. It is one source of
//!    [`Batches`]; [`TensorBatches`] is another, for tables and cached features.
//!
//! [`Augmentation`] changes training images on their way into a batch.
//!
//! [`Table`] reads CSV files, [`Mnist`] the files of MNIST, [`idx`] others of their format.
//!
//! # Example
//!
//! ```
//! use candle_core::Device;
//! use firstsight_data::{
//!     Batches, ColorMode, DecodeSettings, Decoded, Filter, Fit, ImageFolder, Loader, LoaderConfig, Normalize, Order,
//!     Unreadable,
//! };
//!
//! # let root = tempfile::tempdir().unwrap();
//! # for i in 0..10 {
//! #     for class in ["ants", "bees"] {
//! #         let path = root.path().join(class).join(format!("{i}.png"));
//! #         std::fs::create_dir_all(path.parent().unwrap()).unwrap();
//! #         image::GrayImage::from_pixel(4, 3, image::Luma([i])).save(path).unwrap();
//! #     }
//! # }
//! # let root = root.path();
//! let settings = DecodeSettings {
//!     height: 80,
//!     width: 60,
//!     color: ColorMode::Grey,
//!     filter: Filter::Lanczos,
//!     fit: Fit::Stretch,
//!     unreadable: Unreadable::Fail,
//!     max_pixels: 100_000_000,
//! };
//! let (train, _val) = ImageFolder::scan(root)?.split(0.2, 123)?;
//! let train = Decoded::decode(&train, &settings, None, &|_, _| ())?;
//! let config = LoaderConfig {
//!     batch_size: 5,
//!     order: Order::Shuffled { seed: 0 },
//!     normalize: Normalize { mean: vec![0.0], std: vec![1.0] },
//!     prefetch: 2,
//! };
//! let train = Loader::new(train, config, &Device::Cpu)?;
//! for epoch in 0..2 {
//!     for batch in train.epoch(epoch) {
//!         let batch = batch?;
//!         assert_eq!(batch.inputs.dims()[1..], [1, 80, 60]);
//!     }
//! }
//! # assert_eq!(train.n_examples(), 16);
//! # Ok::<(), firstsight_data::Error>(())
//! ```
//!
//! # What is decoded how
//!
//! The pixels are those of Pillow 13's `Image.open(path).convert("L")` or `.convert("RGB")`, the first frame of an
//! animation, without turning by EXIF. A file's first bytes tell its format, its name does not. Checked for every
//! row below, on the files of `tests/goldens`:
//!
//! | in the file | becomes | differs from Pillow by |
//! | --- | --- | --- |
//! | 1, 2, 4-bit grey | 0 to 255 | 0 |
//! | 8-bit grey, RGB, palette | itself; the palette's colours | 0 |
//! | alpha, transparent colours | dropped, not blended: the colour beneath | 0 |
//! | 16-bit RGB, RGBA, grey with alpha | the upper byte | 0 |
//! | 16-bit grey PNG | **clipped at 255**, with a warning: all but the darkest is white | 0 |
//! | GIF frame smaller than its canvas | the rest in the transparent colour, else in colour 0 | 0 |
//! | 16-bit BMP | five or six bits to eight | at most 1 |
//! | JPEG: grey, RGB, YCbCr subsampled or not, CMYK | itself; the colours of the inks | 0 |
//! | WebP, lossy or not | itself | 0 |
//!
//! Grey is `(19595 R + 38470 G + 7471 B + 32768) >> 16`. [`Filter`] and [`Fit`] are Pillow's and timm's, equal in
//! every bit.

mod augment;
mod batches;
mod cache;
mod decode;
mod decoded;
mod error;
mod files;
mod folder;
pub mod idx;
mod jpeg;
mod loader;
mod mnist;
mod numpy_random;
mod resize;
mod split;
mod table;

pub use augment::{Augmentation, Augmenter, Cover, Fill, Interpolation, Mix, Transform};
pub use batches::{Batch, Batches, Order, TensorBatches};
pub use decode::{ColorMode, DecodeSettings, Unreadable, decode_image};
pub use decoded::Decoded;
pub use error::{Error, Result};
pub use folder::{DatasetFolder, ImageFolder, Sample, Skipped, is_image_name};
pub use loader::{Loader, LoaderConfig, Normalize};
pub use mnist::Mnist;
pub use resize::{Filter, Fit};
pub use split::train_test_split;
pub use table::{Standardizer, Table};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
