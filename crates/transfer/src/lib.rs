//! Pretrained backbones for [candle](https://github.com/huggingface/candle) networks.
//!
//! [`Hub`] fetches files of the Hugging Face hub into the cache that Python shares; [`Frozen`] runs a network in
//! inference mode.

mod files;
mod frozen;
mod hub;

pub use frozen::Frozen;
pub use hub::{Hub, HubConfig, HubError, HubFile, HubProgress};
