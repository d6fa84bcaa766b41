#![doc = include_str!("../README.md")]

// Cases of tests name this crate as its users do.
#[cfg(test)]
extern crate self as firstsight_ops;

mod activation;
mod add;
mod attention;
mod autograd;
mod batch_norm;
mod config;
mod conv;
mod conv_block;
mod cpu;
#[cfg(any(test, feature = "cuda-kernels"))]
mod cuda;
mod custom_op;
mod dropout;
mod elsewhere;
mod error;
mod feed_forward;
mod layer_norm;
mod linear;
mod loss;
pub mod nn;
mod normalize_bytes;
pub mod optim;
mod packed_weights;
mod pool;
pub mod reference;
mod resize;
mod scale;
mod shape;

pub use self::activation::activate;
pub use self::add::add;
pub use self::attention::{attention, self_attention, softmax};
pub use self::autograd::{backward, no_grad};
pub use self::batch_norm::{BatchNorm, RunningVariance, batch_norm};
pub use self::config::{Activation, Conv2dConfig, PadCounting, Padding, Padding2d, Pool2dConfig, Rounding};
pub use self::conv::conv2d;
pub use self::conv_block::{ChannelScales, ConvBlock, ConvLayer, Shortcut};
pub use self::cpu::memory::buffer::release_buffers;
pub use self::cpu::simd::{Instructions, instructions, limit_instructions};
#[cfg(feature = "cuda-kernels")]
pub use self::cuda::device::cache_kernels;
pub use self::dropout::dropout;
pub use self::error::{Error, Result};
pub use self::feed_forward::feed_forward;
pub use self::layer_norm::{global_response_norm, global_response_norm_2d, layer_norm, layer_norm_2d};
pub use self::linear::linear;
pub use self::loss::{soft_cross_entropy, softmax_cross_entropy};
pub use self::normalize_bytes::normalize_bytes;
pub use self::packed_weights::PackedWeights;
pub use self::pool::{avg_pool2d, global_avg_pool2d, max_pool2d};
pub use self::resize::resize_bicubic;
pub use self::scale::{drop_path, layer_scale, layer_scale_2d, scale_channels};
