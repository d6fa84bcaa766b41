#![doc = include_str!("../README.md")]

mod chain;
mod config;
mod conv;
mod conv_avg_pool;
mod cpu;
mod dense;
mod error;
mod norm;
pub mod optim;
mod pool;
pub mod portable;
mod random;
mod shape;
mod tape;

pub use chain::{ConvChain, ConvNormAct, Shortcut, conv_chain};
pub use config::{Activation, Conv2dConfig, Divisor, Padding2d, Pool2dConfig, Rounding};
pub use conv::{conv2d, conv2d_max_pool};
pub use conv_avg_pool::conv2d_avg_pool;
pub use cpu::buffer::release_buffers;
pub use dense::{activate, dropout, linear, soft_cross_entropy, softmax_cross_entropy};
pub use error::{Error, Result};
pub use norm::{BatchNorm, RunningVariance, batch_norm, conv2d_batch_norm};
pub use pool::{avg_pool2d, global_avg_pool2d, max_pool2d};
pub use tape::backward;

/// For this crate's tests.
#[doc(hidden)]
pub mod testing {
    pub use crate::cpu::simd::Instructions;

    /// Lets kernels use these instructions at most, in every thread of the process, from now on.
    pub fn limit_instructions(most: Instructions) {
        crate::cpu::simd::limit(most);
    }

    /// The instructions that kernels use.
    pub fn instructions() -> Instructions {
        crate::cpu::simd::instructions()
    }
}
