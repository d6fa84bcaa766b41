//! Normalizations over the features of each token or pixel.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

pub use candle_nn::LayerNormConfig;

/// Layer normalization over the last dimension.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    /// A layer with `weight` and `bias` (C,).
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, epsilon: eps }
    }

    /// The scale, γ (C,).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The shift, β (C,).
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }
}

impl Module for LayerNorm {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        crate::layer_norm(xs, &self.weight, &self.bias, self.epsilon)
    }
}

/// Layer normalization over the channels of (B, C, H, W), timm's `LayerNorm2d`.
#[derive(Debug, Clone)]
pub struct LayerNorm2d(LayerNorm);

impl LayerNorm2d {
    /// A layer with `weight` and `bias` (C,).
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self(LayerNorm::new(weight, bias, eps))
    }
}

impl Module for LayerNorm2d {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        crate::layer_norm_2d(xs, &self.0.weight, &self.0.bias, self.0.epsilon)
    }
}

/// Creates a layer normalization with the variables `weight` and `bias`; without affine, they are the constants 1 and 0.
///
/// # Errors
///
/// Those of the [`VarBuilder`]; `remove_mean` set to false.
pub fn layer_norm(size: usize, config: impl Into<LayerNormConfig>, vb: VarBuilder<'_>) -> Result<LayerNorm> {
    let LayerNormConfig { eps, remove_mean, affine } = config.into();
    if !remove_mean {
        let (op, rule) = ("layer_norm", "layer normalization removes the mean");
        return Err(crate::Error::Setting { op, rule, found: "remove_mean false".into() }.into());
    }
    if !affine {
        let ones = Tensor::ones(size, vb.dtype(), vb.device())?;
        return Ok(LayerNorm::new(ones.clone(), ones.zeros_like()?, eps));
    }
    let weight = vb.get_with_hints(size, "weight", Init::Const(1.0))?;
    Ok(LayerNorm::new(weight, vb.get_with_hints(size, "bias", Init::Const(0.0))?, eps))
}

/// Creates a layer normalization over channels, as [`layer_norm`] does.
///
/// # Errors
///
/// As for [`layer_norm`].
pub fn layer_norm_2d(
    channels: usize,
    config: impl Into<LayerNormConfig>,
    vb: VarBuilder<'_>,
) -> Result<LayerNorm2d> {
    Ok(LayerNorm2d(layer_norm(channels, config, vb)?))
}
