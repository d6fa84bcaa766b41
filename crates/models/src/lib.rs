#![doc = include_str!("../README.md")]

mod blocks;
mod classifier;
mod error;
mod framework;
pub mod graph;
mod info;
pub mod init;
mod input_shape;
mod layers;
mod linear;
mod mlp;
mod network;
pub mod networks;
mod params;
pub mod registry;
pub mod summary;
mod weights;

pub use blocks::Block;
pub use classifier::ImageClassifier;
pub use error::{Error, Result};
pub use framework::Framework;
pub use info::{BuildArgs, ModelInfo, Weights};
pub use init::Init;
pub use input_shape::InputShape;
pub use layers::{Layer, LayerSpec, NormConfig, Padding, Rbf, Sequential};
pub use linear::Linear;
pub use mlp::{Mlp, MlpConfig, MlpOutput};
pub use network::{Backbone, NamedLayer, Network, TokenGrid};
pub use params::{Params, is_buffer};
pub use summary::Summary;
pub use weights::{
    ForeignFile, Mismatch, Misshapen, Mistyped, NotFinite, NotFiniteTensor, OtherNames, Renaming, Resizing,
    SaveDtype, Stranger, TensorHeader, WayOut, WeightsHeader,
};
