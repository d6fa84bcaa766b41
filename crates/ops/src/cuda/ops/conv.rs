//! Convolutions with batch normalization and activations, and blocks of them.

use candle_core::{Result, Tensor};

use super::batch_norm::batch_norm_add;
use super::dense::dense;
use super::depthwise::depthwise;
use super::{activate, avg_pool2d, batch_norm, max_pool2d};
use crate::config::Activation;
use crate::conv_block::{ConvBlock, ConvLayer, Pooling, Shortcut};
use crate::cuda::has_kernels;
use crate::reference;

/// [`ConvBlock::forward_t`] as one op after the other. A shortcut and the last activation are added in the same pass as the last
/// batch normalization.
pub(crate) fn conv_block(x: &Tensor, block: &ConvBlock<'_>, train: bool) -> Result<Tensor> {
    let shortcut = match &block.shortcut {
        Shortcut::None => None,
        Shortcut::Identity => Some(x.clone()),
        Shortcut::Projection(layer) => Some(conv_layer(x, layer, train)?),
    };
    let n_layers = 1 + block.rest.len();
    let ends_with_norm = block.pool == Pooling::None && !block.excites(n_layers);
    let mut y = activate(x, block.pre_activation)?;
    for (i, layer) in std::iter::once(&block.first).chain(&block.rest).enumerate() {
        if let (Some(norm), Some(shortcut)) = (layer.norm, &shortcut)
            && ends_with_norm
            && i + 1 == n_layers
        {
            return batch_norm_add(&conv2d(&y, layer)?, norm, shortcut, block.post_activation, train);
        }
        y = block.excited(conv_layer(&y, layer, train)?, i + 1)?;
    }
    y = match &block.pool {
        Pooling::None => y,
        Pooling::Max(config) => max_pool2d(&y, config)?,
        Pooling::Avg(config, counting) => avg_pool2d(&y, config, *counting)?,
    };
    if let Some(shortcut) = shortcut {
        y = (y + shortcut)?;
    }
    activate(&y, block.post_activation)
}

fn conv_layer(x: &Tensor, layer: &ConvLayer<'_>, train: bool) -> Result<Tensor> {
    let y = conv2d(x, layer)?;
    match layer.norm {
        Some(norm) => batch_norm(&y, norm, layer.activation, train),
        None => activate(&y, layer.activation),
    }
}

/// The convolution with its bias, if it has one.
fn conv2d(x: &Tensor, layer: &ConvLayer<'_>) -> Result<Tensor> {
    let &ConvLayer { weight, bias, config, .. } = layer;
    let shape = layer.shape(x.dims())?;
    // Rows of the unfolded input, each of one sample.
    let rows = shape.batch.saturating_mul(shape.c_in * shape.kh * shape.kw);
    if !has_kernels(&[x, weight, bias.unwrap_or(weight)]) || rows >= 1 << 30 {
        reference::conv2d(x, weight, bias, &config, Activation::Identity)
    } else if config.groups == shape.c_in {
        depthwise(x, weight, bias, shape)
    } else {
        dense(x, weight, bias, shape)
    }
}
