//! Products with one factor per channel or sample.

use candle_core::{D, Result, Tensor};

use crate::dropout::drop_path_scales;
use crate::error::expect_shape;

/// [`crate::layer_scale`] as a product of broadcasts.
pub fn layer_scale(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    expect_shape("layer_scale", "gamma", gamma, &[x.dim(D::Minus1)?])?;
    x.broadcast_mul(gamma)
}

/// [`crate::layer_scale_2d`] as a product of broadcasts.
pub fn layer_scale_2d(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    let channels = x.dims4()?.1;
    expect_shape("layer_scale_2d", "gamma", gamma, &[channels])?;
    x.broadcast_mul(&gamma.reshape((1, channels, 1, 1))?)
}

/// [`crate::scale_channels`] as a product of broadcasts.
pub fn scale_channels(x: &Tensor, scales: &Tensor) -> Result<Tensor> {
    let (batch, channels, ..) = x.dims4()?;
    expect_shape("scale_channels", "scales", scales, &[batch, channels, 1, 1])?;
    x.broadcast_mul(scales)
}

/// [`crate::drop_path`] as a product of broadcasts.
pub fn drop_path(x: &Tensor, rate: f64, seed: u64) -> Result<Tensor> {
    x.broadcast_mul(&drop_path_scales(x, rate, seed)?)
}
