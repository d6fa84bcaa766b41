//! Pretrained backbones for [candle](https://github.com/huggingface/candle) networks: from published weights to a
//! classifier of one's own images.
//!
//! 1. [`Pretrained::locate`] finds weights: the [published](firstsight_models::Weights) ones or any repository in timm's layout, fetched by
//!    [`Hub`] into the cache that Python shares; a local folder or file.
//! 2. [`features()`] runs the frozen backbone once over the images, and keeps what comes out in a file.
//! 3. [`Head::train`] trains a last layer on the features in seconds, and chooses its regularisation by
//!    cross-validation.
//! 4. [`PartlyFrozen`] trains the upper blocks on: the frozen ones record no graph, and batch norm keeps its statistics.
//!
//! With the feature `candle-transformers`, the networks of that crate serve as backbones: see `candle_models`.
//!
//! [`Frozen`] runs any network in inference mode. All training goes through `firstsight_train::fit`.

#[cfg(feature = "candle-transformers")]
pub mod candle_models;
mod config;
mod error;
mod features;
mod files;
mod fine_tune;
mod frozen;
mod head;
mod hub;
mod imagenet;
mod preset;
mod pretrained;

pub use config::HubModelConfig;
pub use error::{Error, Result};
pub use features::{Extraction, Features, View, features, fingerprint};
pub use fine_tune::{FineTuneConfig, PartlyFrozen, Statistics};
pub use frozen::Frozen;
pub use head::{Candidate, Head, HeadConfig};
pub use hub::{Hub, HubConfig, HubError, HubFile, HubProgress, WebFile};
pub use imagenet::imagenet_classes;
pub use preset::{Cost, Preset, Recipe, Tuning};
pub use pretrained::{Pretrained, WeightsSource};
