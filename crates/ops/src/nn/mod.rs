//! Layers that take the place of candle-nn's: a program switches by changing an import.
//!
//! Names, arguments, variable names and initializations are those of `candle_nn` 0.11. The settings are candle's own types.
//!
//! ```
//! use candle_core::{D, DType, Device, Result, Tensor};
//! use candle_nn::{Module, ModuleT, VarBuilder, VarMap};
//! // Before: use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Linear, batch_norm, conv2d_no_bias, linear};
//! use firstsight_ops::nn::{BatchNorm, Conv2d, Conv2dConfig, Linear, batch_norm, conv2d_no_bias, linear};
//!
//! struct Network {
//!     conv: Conv2d,
//!     norm: BatchNorm,
//!     head: Linear,
//! }
//!
//! impl Network {
//!     fn new(vb: VarBuilder) -> Result<Self> {
//!         let config = Conv2dConfig { padding: 1, stride: 2, ..Default::default() };
//!         Ok(Self {
//!             conv: conv2d_no_bias(3, 8, 3, config, vb.pp("conv"))?,
//!             norm: batch_norm(8, 1e-5, vb.pp("norm"))?,
//!             head: linear(8, 10, vb.pp("head"))?,
//!         })
//!     }
//! }
//!
//! impl ModuleT for Network {
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
//!         let xs = self.norm.forward_t(&self.conv.forward(xs)?, train)?.relu()?;
//!         self.head.forward(&xs.mean(D::Minus1)?.mean(D::Minus1)?)
//!     }
//! }
//!
//! let vars = VarMap::new();
//! let network = Network::new(VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
//! let logits = network.forward_t(&Tensor::ones((2, 3, 15, 15), DType::F32, &Device::Cpu)?, true)?;
//! assert_eq!(logits.dims(), [2, 10]);
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! [`ConvBnAct`] fuses the first three steps.

mod norm;

use candle_core::{Module, ModuleT, Result, Tensor};
pub use candle_nn::{BatchNormConfig, Conv2dConfig};
use candle_nn::{Init, VarBuilder, init};

pub use self::norm::{LayerNorm, LayerNorm2d, LayerNormConfig, layer_norm, layer_norm_2d};
pub use crate::batch_norm::{BatchNorm, RunningVariance};
pub use crate::config::Activation;
use crate::conv_block::ConvLayer;
use crate::shape::check_groups;

/// A convolution with an optional bias.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    config: crate::Conv2dConfig,
}

impl Conv2d {
    /// A convolution by `weight` (O, C / groups, kh, kw) with `bias` (O,). `config` is candle's or, for settings by axis,
    /// [`crate::Conv2dConfig`].
    pub fn new(weight: Tensor, bias: Option<Tensor>, config: impl Into<crate::Conv2dConfig>) -> Self {
        Self { weight, bias, config: config.into() }
    }

    /// The weights (O, C / groups, kh, kw).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias (O,).
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The settings.
    pub fn config(&self) -> &crate::Conv2dConfig {
        &self.config
    }

    /// The layer in a [`crate::ConvBlock`].
    pub fn layer(&self) -> ConvLayer<'_> {
        let layer = ConvLayer::new(&self.weight, self.config);
        self.bias.as_ref().map_or(layer, |bias| layer.bias(bias))
    }
}

impl Module for Conv2d {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layer().forward(xs)
    }
}

/// A linear layer with an optional bias, on the last dimension of its input.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer with `weight` (out, in) and `bias` (out,).
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// The weights (out, in).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias (out,).
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl Module for Linear {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        crate::linear(xs, &self.weight, self.bias.as_ref(), Activation::Identity)
    }
}

/// A convolution, batch normalization and an activation, as one op.
///
/// ```
/// use candle_core::{DType, Device, ModuleT, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
/// use firstsight_ops::nn::{Activation, ConvBnAct, Conv2dConfig, batch_norm, conv2d_no_bias};
///
/// let vars = VarMap::new();
/// let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let conv = conv2d_no_bias(3, 8, 3, Conv2dConfig::default(), vb.pp("conv"))?;
/// let layer = ConvBnAct::new(conv, batch_norm(8, 1e-5, vb.pp("bn"))?, Activation::Relu6);
/// let y = layer.forward_t(&Tensor::ones((1, 3, 6, 6), DType::F32, &Device::Cpu)?, true)?;
/// assert_eq!(y.dims(), [1, 8, 4, 4]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConvBnAct {
    conv: Conv2d,
    norm: BatchNorm,
    activation: Activation,
}

impl ConvBnAct {
    /// The layers one after the other. The convolution must have no bias.
    pub fn new(conv: Conv2d, norm: BatchNorm, activation: Activation) -> Self {
        Self { conv, norm, activation }
    }

    /// The layer in a [`crate::ConvBlock`].
    pub fn layer(&self) -> ConvLayer<'_> {
        self.conv.layer().batch_norm(&self.norm).activation(self.activation)
    }
}

impl ModuleT for ConvBnAct {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.layer().forward_t(xs, train)
    }
}

/// Creates a convolution with the variables `weight` and `bias`.
///
/// # Errors
///
/// Those of the [`VarBuilder`]; groups that do not divide the channels.
pub fn conv2d(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder<'_>,
) -> Result<Conv2d> {
    let conv = conv2d_no_bias(in_channels, out_channels, kernel_size, cfg, vb.clone())?;
    let bound = 1.0 / (in_channels as f64).sqrt();
    let bias = vb.get_with_hints(out_channels, "bias", Init::Uniform { lo: -bound, up: bound })?;
    Ok(Conv2d { bias: Some(bias), ..conv })
}

/// Creates a convolution with the variable `weight`.
///
/// # Errors
///
/// Those of the [`VarBuilder`]; groups that do not divide the channels.
pub fn conv2d_no_bias(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder<'_>,
) -> Result<Conv2d> {
    check_groups(cfg.groups, in_channels, out_channels)?;
    let shape = (out_channels, in_channels / cfg.groups, kernel_size, kernel_size);
    let weight = vb.get_with_hints(shape, "weight", init::DEFAULT_KAIMING_NORMAL)?;
    Ok(Conv2d::new(weight, None, cfg))
}

/// Creates a linear layer with the variables `weight` and `bias`.
///
/// # Errors
///
/// Those of the [`VarBuilder`].
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    let linear = linear_no_bias(in_dim, out_dim, vb.clone())?;
    let bound = 1.0 / (in_dim as f64).sqrt();
    let bias = vb.get_with_hints(out_dim, "bias", Init::Uniform { lo: -bound, up: bound })?;
    Ok(Linear { bias: Some(bias), ..linear })
}

/// Creates a linear layer with the variable `weight`.
///
/// # Errors
///
/// Those of the [`VarBuilder`].
pub fn linear_no_bias(in_dim: usize, out_dim: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    let weight = vb.get_with_hints((out_dim, in_dim), "weight", init::DEFAULT_KAIMING_NORMAL)?;
    Ok(Linear::new(weight, None))
}

/// Creates a batch normalization with the variables `running_mean`, `running_var` and, if affine, `weight` and `bias`.
///
/// Training updates the running statistics in place, as unbiased estimates.
///
/// # Errors
///
/// Those of the [`VarBuilder`]; `remove_mean` set to false.
pub fn batch_norm(
    num_features: usize,
    config: impl Into<BatchNormConfig>,
    vb: VarBuilder<'_>,
) -> Result<BatchNorm> {
    let BatchNormConfig { eps, remove_mean, affine, momentum } = config.into();
    if !remove_mean {
        let rule = "batch normalization removes the mean";
        return Err(
            crate::Error::Setting { op: "batch_norm", rule, found: "remove_mean false".into() }.into()
        );
    }
    let constant = |name: &str, value| vb.get_with_hints(num_features, name, Init::Const(value));
    let (weight, bias) = if affine {
        (constant("weight", 1.0)?, constant("bias", 0.0)?)
    } else {
        (
            Tensor::ones(num_features, vb.dtype(), vb.device())?,
            Tensor::zeros(num_features, vb.dtype(), vb.device())?,
        )
    };
    Ok(BatchNorm {
        weight,
        bias,
        running_mean: constant("running_mean", 0.0)?.detach(),
        running_var: constant("running_var", 1.0)?.detach(),
        epsilon: eps,
        momentum,
        running_variance: RunningVariance::Unbiased,
    })
}
