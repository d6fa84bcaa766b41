#![doc = include_str!("../README.md")]

mod activation;
mod autograd;
mod batch_norm;
mod config;
mod conv;
mod conv_block;
mod cpu;
mod custom_op;
mod dropout;
mod error;
mod linear;
mod loss;
pub mod nn;
pub mod optim;
mod pool;
pub mod reference;
mod shape;

pub use self::activation::activate;
pub use self::autograd::backward;
pub use self::batch_norm::{BatchNorm, RunningVariance, batch_norm};
pub use self::config::{Activation, Conv2dConfig, PadCounting, Padding, Padding2d, Pool2dConfig, Rounding};
pub use self::conv::conv2d;
pub use self::conv_block::{ConvBlock, ConvLayer, Shortcut};
pub use self::cpu::memory::buffer::release_buffers;
pub use self::cpu::simd::{Instructions, instructions, limit_instructions};
pub use self::dropout::dropout;
pub use self::error::{Error, Result};
pub use self::linear::linear;
pub use self::loss::{soft_cross_entropy, softmax_cross_entropy};
pub use self::pool::{avg_pool2d, global_avg_pool2d, max_pool2d};
