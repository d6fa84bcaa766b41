//! Kernels for convolutions: forward and backward passes of an algorithm share a file or folder.

pub(crate) mod avg_pool;
mod batch_lanes;
pub(crate) mod block;
mod col2im;
pub(crate) mod dense;
mod depthwise;
mod depthwise_phases;
mod depthwise_rows;
pub(crate) mod epilogue;
mod implicit_gemm;
pub(crate) mod max_pool;
mod padded_input;
mod winograd;
