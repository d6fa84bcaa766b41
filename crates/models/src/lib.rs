//! Image classification networks for [candle](https://github.com/huggingface/candle), with named, ordered,
//! seeded parameters and layer tables.
//!
//! - [`Params`] owns a network's variables: named as in checkpoints, ordered, each drawn from `(seed, name)`.
//! - [`ImageClassifier`] is any of the networks of [`ModelKind`], built from its table of layers; features and
//!   head are separate steps.
//! - [`Mlp`] is a perceptron over features, for tables.
//! - [`Summary`] is the layer table with output shapes and parameter counts.
//!
//! Networks train with `firstsight-train`, or with any loop over candle's `backward`.

mod classifier;
mod dims;
mod error;
pub mod init;
mod linear;
mod logistic;
mod mlp;
mod params;
mod sequential;
mod small_cnn;
mod summary;

pub use classifier::{ImageClassifier, ModelKind};
pub use dims::Dims;
pub use error::{Error, Result};
pub use init::Scheme;
pub use linear::Linear;
pub use mlp::{Mlp, MlpConfig, MlpOutput};
pub use params::{Mismatch, Misshapen, Params, is_buffer};
pub use sequential::{Layer, LayerSpec, Padding, Sequential};
pub use summary::{Row, Summary};
