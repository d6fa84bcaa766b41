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

mod alexnet;
mod backbone;
mod classifier;
mod dims;
mod error;
mod framework;
pub mod init;
mod layers;
mod lenet5;
mod linear;
mod logistic;
mod mlp;
mod mobilenet_v2;
mod model;
mod params;
mod resnet;
mod small_cnn;
mod summary;
mod table_network;
pub mod trace;
mod weights_header;
mod xception;

pub use alexnet::AlexNetConfig;
pub use backbone::{AnyBackbone, Backbone, Classifier, Network, Stage};
pub use classifier::ImageClassifier;
pub use dims::Dims;
pub use error::{Error, Result};
pub use framework::Framework;
pub use init::Scheme;
pub use layers::{Layer, LayerSpec, NormConfig, Padding, Rbf, Sequential};
pub use lenet5::{LeNet5Config, LeNetOutput, LeNetPooling};
pub use linear::Linear;
pub use mlp::{Mlp, MlpConfig, MlpOutput};
pub use mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use model::{ModelConfig, ModelKind};
pub use params::{Mismatch, Misshapen, Mistyped, Params, is_buffer};
pub use resnet::{ResNet, ResNetConfig};
pub use summary::{Row, Style, Summary};
pub use weights_header::{TensorHeader, WeightsHeader};
pub use xception::{Xception, XceptionConfig};
