//! Linear layers: products of candle's with the activation's kernel.

use candle_core::{Result, Tensor};

use super::activate;
use crate::config::Activation;
use crate::reference;

/// [`crate::linear`]
pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    activate(&reference::linear(x, weight, bias, Activation::Identity)?, activation)
}

/// [`crate::feed_forward`]
pub(crate) fn feed_forward(
    x: &Tensor,
    first: (&Tensor, Option<&Tensor>),
    second: (&Tensor, Option<&Tensor>),
    activation: Activation,
) -> Result<Tensor> {
    linear(&linear(x, first.0, first.1, activation)?, second.0, second.1, Activation::Identity)
}
