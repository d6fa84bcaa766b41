//! The choice of an algorithm for every convolution, in this file alone.
//!
//! Choices depend on shapes, on whether gradients may follow, and on the vector length. They never depend on the number of
//! threads, so results do not either. Each choice is reported as a `tracing` event of level `DEBUG`.

use std::fmt::Debug;

use super::simd::lanes;
use crate::config::{Conv2dConfig, Padding2d};
use crate::shape::{ConvShape, PoolShape};

/// The algorithm of a convolution's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Forward {
    /// Each channel has one kernel of its own.
    Depthwise(Depthwise),
    /// Output channels sum over the input channels of their group.
    Dense(Dense),
}

/// The algorithm of a depthwise convolution and its gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Depthwise {
    /// 3 × 3 kernels with stride 1, row by row ([`super::conv::depthwise_rows`]).
    Rows3x3,
    /// Outputs row by row, gradients by the phases of the stride.
    Rows,
    /// Any kernel, by the phases of the stride ([`super::conv::depthwise`]).
    Phases,
}

/// The algorithm of a convolution that is not depthwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dense {
    /// Winograd's minimal filtering ([`super::conv::winograd`]).
    Winograd(Winograd),
    /// A matrix product with the unfolded input ([`super::conv::implicit_gemm`]).
    ImplicitGemm,
}

/// A form of Winograd's minimal filtering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Winograd {
    /// F(2 × 2, 3 × 3)
    F2x3,
    /// F(2 × 2, 5 × 5)
    F2x5,
}

/// The algorithm of the input's gradient in a convolution that is not depthwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum InputGrad {
    /// A matrix product with the transposed weights: 1 × 1 kernels without padding, of any stride.
    Pointwise,
    /// A convolution of the output's gradient by the transposed, flipped kernels.
    TransposedConv {
        /// The shape of that convolution.
        shape: ConvShape,
        /// Its algorithm.
        algorithm: Dense,
    },
    /// A matrix product, folded back ([`super::conv::col2im`]).
    Col2im,
}

/// The algorithm of a convolution with max pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConvMaxPool {
    /// One pass that never writes the map between ([`super::conv::max_pool`]).
    Fused,
    /// The map is written by this algorithm and then pooled.
    Separate(Dense),
}

/// The algorithm of the gradients of a convolution with max pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConvMaxPoolGrad {
    /// Only the maxima are visited.
    AtMaxima,
    /// The pooling's gradient is written, then the convolution's gradients are computed from it.
    Separate,
}

/// The algorithm of a convolution with average pooling, and of its gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConvAvgPool {
    /// One sample per vector lane, a block of samples at a time ([`super::conv::avg_pool`]).
    BatchLanes,
    /// Two ops.
    Separate,
}

/// Chooses the algorithm of a convolution's output, and of all gradients if it is depthwise.
pub(crate) fn forward(shape: &ConvShape) -> Forward {
    let ConvShape { c_in, c_out, config, .. } = *shape;
    let choice = if config.groups == c_in && c_in == c_out {
        Forward::Depthwise(depthwise(shape))
    } else {
        Forward::Dense(dense(shape))
    };
    report("conv2d", shape, &choice);
    choice
}

/// Chooses the algorithm of the input's gradient in a convolution that is not depthwise.
pub(crate) fn input_grad(shape: &ConvShape) -> InputGrad {
    let &ConvShape { h, w, kh, kw, oh, ow, config, .. } = shape;
    let Padding2d { top, bottom, left, right } = config.padding;
    let (reach_y, reach_x) = ((kh - 1) * config.dilation.0, (kw - 1) * config.dilation.1);
    // A transposed convolution sums a window for each pixel of the input, and there may be many more of these than of
    // outputs.
    let transposable = config.stride == (1, 1)
        && reach_y >= top.max(bottom)
        && reach_x >= left.max(right)
        && 2 * h * w <= 3 * oh * ow;
    let choice = if (kh, kw) == (1, 1) && config.padding == Padding2d::none() {
        InputGrad::Pointwise
    } else if transposable {
        let shape = shape.transposed();
        InputGrad::TransposedConv { shape, algorithm: dense(&shape) }
    } else {
        InputGrad::Col2im
    };
    report("gradient of conv2d's input", shape, &choice);
    choice
}

/// Chooses the algorithm of a convolution with max pooling; `tracked` if gradients may follow.
pub(crate) fn conv_max_pool(shape: &ConvShape, tracked: bool) -> ConvMaxPool {
    /// Minimum number of values in a window for which writing the map costs little beside summing the window.
    const DEEP: usize = 256;
    let ConvShape { c_in, kh, kw, config, .. } = *shape;
    let choice = if shape.offsets_fit_u32() && c_in / config.groups * kh * kw < DEEP {
        ConvMaxPool::Fused
    } else if tracked || (kh, kw) == (3, 3) {
        // The gradient goes to one of several nearly equal values, so the maximum is taken of the more exact sums. With
        // 3 × 3 kernels that also holds without gradients, so that both give the same bits.
        ConvMaxPool::Separate(Dense::ImplicitGemm)
    } else {
        ConvMaxPool::Separate(dense(shape))
    };
    report("conv2d with max pooling", shape, &choice);
    choice
}

/// Chooses the algorithm of the gradients of a convolution with max pooling.
pub(crate) fn conv_max_pool_grad(shape: &ConvShape) -> ConvMaxPoolGrad {
    let choice = if shape.offsets_fit_u32() { ConvMaxPoolGrad::AtMaxima } else { ConvMaxPoolGrad::Separate };
    report("gradients of conv2d with max pooling", shape, &choice);
    choice
}

/// Chooses the algorithm of a convolution with average pooling.
pub(crate) fn conv_avg_pool(conv: &ConvShape, pool: &PoolShape) -> ConvAvgPool {
    /// Maximum number of values of a block's maps, which then fit the L2 cache: a mebibyte.
    const MAX_VALUES: usize = 1 << 18;
    let maps = [conv.padded_sample_len(), conv.output_sample_len(), conv.dilated_grad_sample_len()];
    let fits = maps.into_iter().all(|len| len <= MAX_VALUES)
        && maps.into_iter().sum::<usize>() * lanes() <= MAX_VALUES;
    let choice = if fits { ConvAvgPool::BatchLanes } else { ConvAvgPool::Separate };
    report("conv2d with average pooling", conv, &(choice, pool.config.kernel));
    choice
}

fn depthwise(shape: &ConvShape) -> Depthwise {
    let ConvShape { kh, kw, config, .. } = *shape;
    let Conv2dConfig { stride, dilation, padding: Padding2d { top, bottom, left, right }, .. } = config;
    let fits = dilation == (1, 1) && top.max(bottom).max(left).max(right) < kh;
    match ((kh, kw), stride) {
        ((3, 3), (1, 1)) if fits => Depthwise::Rows3x3,
        ((3, 3), (2, 2)) | ((5, 5), (1, 1) | (2, 2)) if fits => Depthwise::Rows,
        _ => Depthwise::Phases,
    }
}

fn dense(shape: &ConvShape) -> Dense {
    /// With fewer channels, the transforms cost more than they save.
    const CHANNELS: usize = 16;
    /// With more filters for each tile of a map, reading them costs more than the transforms save.
    const FILTERS_PER_TILE: usize = 3072;
    let &ConvShape { batch, c_in, c_out, kh, kw, oh, ow, config, .. } = shape;
    let (tiles_h, tiles_w) = (oh.div_ceil(2), ow.div_ceil(2));
    let form = match (kh, kw) {
        (3, 3) => Winograd::F2x3,
        (5, 5) => Winograd::F2x5,
        _ => return Dense::ImplicitGemm,
    };
    let fits = config.stride == (1, 1)
        && config.dilation == (1, 1)
        && config.groups == 1
        && c_in.min(c_out) >= CHANNELS
        && batch * tiles_h * tiles_w >= 2 * CHANNELS
        // Tiles past the edge waste work.
        && 2 * (4 * tiles_h * tiles_w) <= 3 * oh * ow
        // The transformed filters, 1.8 times the weights, are read anew for each block of tiles.
        && c_in * c_out <= FILTERS_PER_TILE * tiles_h * tiles_w;
    if fits { Dense::Winograd(form) } else { Dense::ImplicitGemm }
}

fn report(op: &str, shape: &ConvShape, choice: &dyn Debug) {
    let ConvShape { batch, c_in, h, w, c_out, kh, kw, config, .. } = *shape;
    tracing::debug!(x = ?(batch, c_in, h, w), c_out, kernel = ?(kh, kw), ?config, ?choice, "{op}");
}
