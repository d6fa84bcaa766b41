//! Differentiable operations that [candle](https://docs.rs/candle-core) lacks, gets wrong or does slowly.

mod config;
mod error;
pub mod optim;
pub mod portable;
mod random;
mod shape;

pub use config::{Activation, Conv2dConfig, Divisor, Padding2d, Pool2dConfig, Rounding};
pub use error::{Error, Result};
pub use portable::{
    activate, avg_pool2d, conv2d, conv2d_max_pool, dropout, global_avg_pool2d, linear, max_pool2d,
    softmax_cross_entropy,
};
