//! Layer normalization and global response normalization.

use candle_core::{D, Result, Tensor};

use crate::shape::NormShape;

/// [`crate::layer_norm`] as means and broadcasts.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let shape = NormShape::over_last("layer_norm", x, weight, bias, epsilon)?;
    let normalized = normalize(x, shape.dim, epsilon)?;
    normalized.broadcast_mul(weight)?.broadcast_add(bias)
}

/// [`crate::layer_norm_2d`] as means and broadcasts.
pub fn layer_norm_2d(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let shape = NormShape::over_channels("layer_norm_2d", x, weight, bias, epsilon)?;
    let normalized = normalize(x, shape.dim, epsilon)?;
    normalized.broadcast_mul(&wide(weight)?)?.broadcast_add(&wide(bias)?)
}

/// [`crate::global_response_norm`] as sums and broadcasts.
pub fn global_response_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    NormShape::over_last("global_response_norm", x, weight, bias, epsilon)?;
    let tokens = x.reshape((x.dim(0)?, (), x.dim(D::Minus1)?))?;
    let norms = norms(&tokens, 1)?;
    let responses = norms.broadcast_div(&(norms.mean_keepdim(2)? + epsilon)?)?;
    let y = tokens.broadcast_mul(&responses)?.broadcast_mul(weight)?.broadcast_add(bias)?;
    (y + tokens)?.reshape(x.shape())
}

/// [`crate::global_response_norm_2d`] as sums and broadcasts.
pub fn global_response_norm_2d(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    NormShape::over_channels("global_response_norm_2d", x, weight, bias, epsilon)?;
    let maps = x.flatten_from(2)?;
    let norms = norms(&maps, 2)?.unsqueeze(3)?;
    let responses = norms.broadcast_div(&(norms.mean_keepdim(1)? + epsilon)?)?;
    let scales = responses.broadcast_mul(&wide(weight)?)?;
    x.broadcast_mul(&scales)?.broadcast_add(&wide(bias)?)? + x
}

/// (x − mean) / √(var + ε) along `dim`.
fn normalize(x: &Tensor, dim: usize, epsilon: f64) -> Result<Tensor> {
    let centered = x.broadcast_sub(&x.mean_keepdim(dim)?)?;
    let var = centered.sqr()?.mean_keepdim(dim)?;
    centered.broadcast_div(&(var + epsilon)?.sqrt()?)
}

/// √Σx² along `dim`, through which no gradient flows where it is 0.
fn norms(x: &Tensor, dim: usize) -> Result<Tensor> {
    let squares = x.sqr()?.sum_keepdim(dim)?;
    let is_zero = squares.le(0.0)?;
    let roots = is_zero.where_cond(&squares.ones_like()?, &squares)?.sqrt()?;
    is_zero.where_cond(&squares.zeros_like()?, &roots)
}

/// A value per channel as (1, C, 1, 1).
fn wide(per_channel: &Tensor) -> Result<Tensor> {
    per_channel.reshape((1, (), 1, 1))
}
