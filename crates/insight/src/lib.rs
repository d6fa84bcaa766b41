//! What an image classifier on [candle](https://github.com/huggingface/candle) sees.
//!
//! - [`layers`] lists what can be looked at, [`activation`] is what one layer makes of images;
//! - [`ascend`] draws what excites a channel most: gradient ascent on the input, with jitter, rescaling, and a
//!   [`Painting`] in frequencies or total variation against noise;
//! - [`grad_cam`] says where in an image the evidence for a class is.
//!
//! Nothing here trains: parameters stay as they are. A network that was built from
//! [`Params::frozen`](firstsight_models::Params::frozen) costs least, since no gradient of its weights is computed.
//!
//! ```
//! use candle_core::Device;
//! use firstsight_insight::{Ascent, Painting, Pixels, ascend};
//! use firstsight_models::networks::SMALL_CNN;
//! use firstsight_models::{ImageClassifier, InputShape, Params};
//!
//! let params = Params::seeded(1, &Device::Cpu).frozen(|_| true);
//! let input = InputShape::Map { channels: 1, height: 32, width: 32 };
//! let network = ImageClassifier::new(&SMALL_CNN, input, 10, SMALL_CNN.init, &params)?;
//! let settings = Ascent {
//!     steps: 20,
//!     rate: 0.05,
//!     painting: Painting::Fourier { decay: 1.0 },
//!     jitter: 2.0,
//!     zoom: (0.9, 1.1),
//!     total_variation: 0.0,
//!     noise: 0.5,
//!     seed: 1,
//! };
//! // This network takes bytes.
//! let pixels = Pixels { height: 32, width: 32, mean: vec![0.0], std: vec![1.0 / 255.0], device: Device::Cpu };
//! let drawn = ascend(&network, &pixels, "dense_2", &[0, 5], &settings, &mut |_, _| true)?;
//! assert!(drawn.iter().all(|vision| vision.reached > vision.start));
//! # Ok::<(), firstsight_insight::Error>(())
//! ```

mod ascent;
mod error;
mod grad_cam;
mod painting;
mod probe;
mod total_variation;
mod wobble;

pub use ascent::{Ascent, Pixels, Vision, ascend};
pub use error::{Error, Result};
pub use grad_cam::grad_cam;
pub use painting::{Canvas, Painting};
pub use probe::{Layer, activation, layers};
pub use total_variation::total_variation;
pub use wobble::Wobble;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
