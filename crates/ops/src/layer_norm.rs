//! Layer normalization and global response normalization.

use candle_core::{Result, Shape, Tensor};

use crate::cpu::layer_norm::LayerNorm;
use crate::cpu::norm::Norm;
use crate::cpu::response_norm::ResponseNorm;
use crate::cpu::{self, WeightedGrads};
use crate::custom_op::{self, Backward, WeightedOp};
use crate::elsewhere;
use crate::shape::NormShape;

/// Layer normalization (Ba, Kiros and Hinton 2016) over the last dimension: `x` (…, C), `weight` (C,) and `bias` (C,) to
/// weight·(x − mean) / √(var + ε) + bias (…, C), with the biased variance.
///
/// # Errors
///
/// Shapes that do not fit, or an epsilon below 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 3.], [-2., -2.]], &Device::Cpu)?;
/// let (weight, bias) = (Tensor::new(&[1f32, 2.], &Device::Cpu)?, Tensor::new(&[0f32, 5.], &Device::Cpu)?);
/// let y = firstsight_ops::layer_norm(&x, &weight, &bias, 0.0)?.get(0)?;
/// assert_eq!(y.to_vec1::<f32>()?, [-1., 7.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    if !cpu::has_kernels(&[x, weight, bias]) {
        return elsewhere::layer_norm(x, weight, bias, epsilon);
    }
    let features = NormShape::over_last("layer_norm", x, weight, bias, epsilon)?.features;
    let norm = LayerNorm { features, pixels: 1, epsilon };
    custom_op::apply(NormOp { norm, shape: x.shape().clone() }, x, weight, Some(bias))
}

/// [`layer_norm`] over the channels of each pixel, `x` (B, C, H, W), as in ConvNeXt (Liu et al. 2022).
///
/// # Errors
///
/// Shapes that do not fit, or an epsilon below 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[1f32, 3.], &Device::Cpu)?.reshape((1, 2, 1, 1))?;
/// let (weight, bias) = (Tensor::new(&[1f32, 2.], &Device::Cpu)?, Tensor::new(&[0f32, 5.], &Device::Cpu)?);
/// let y = firstsight_ops::layer_norm_2d(&x, &weight, &bias, 0.0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [-1., 7.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn layer_norm_2d(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    if !cpu::has_kernels(&[x, weight, bias]) {
        return elsewhere::layer_norm_2d(x, weight, bias, epsilon);
    }
    let features = NormShape::over_channels("layer_norm_2d", x, weight, bias, epsilon)?.features;
    let norm = LayerNorm { features, pixels: x.dim(2)? * x.dim(3)?, epsilon };
    custom_op::apply(NormOp { norm, shape: x.shape().clone() }, x, weight, Some(bias))
}

/// Global response normalization (Woo et al. 2023, ConvNeXt V2) of channels last: `x` (B, …, C), `weight` (C,) and `bias`
/// (C,) to weight·x·n + bias + x, where n is a channel's norm over the pixels (‖x‖₂ of each sample), divided by the mean of
/// all channels' norms plus ε.
///
/// # Errors
///
/// Shapes that do not fit, or an epsilon below 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// // Two pixels of two channels, of norms 5 and 3.
/// let x = Tensor::new(&[[[[3f32, 0.], [4., 3.]]]], &Device::Cpu)?;
/// let (weight, bias) = (Tensor::new(&[4f32, 4.], &Device::Cpu)?, Tensor::new(&[0f32, 0.], &Device::Cpu)?);
/// let y = firstsight_ops::global_response_norm(&x, &weight, &bias, 0.0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [18., 0., 24., 12.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn global_response_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    if !cpu::has_kernels(&[x, weight, bias]) {
        return elsewhere::global_response_norm(x, weight, bias, epsilon);
    }
    let shape = NormShape::over_last("global_response_norm", x, weight, bias, epsilon)?;
    let (channels, batch) = (shape.features, x.dim(0)?);
    let norm =
        ResponseNorm { channels, pixels: shape.count / channels / batch, channels_last: true, epsilon };
    custom_op::apply(NormOp { norm, shape: x.shape().clone() }, x, weight, Some(bias))
}

/// [`global_response_norm`] of channels first, `x` (B, C, H, W).
///
/// # Errors
///
/// Shapes that do not fit, or an epsilon below 0.
pub fn global_response_norm_2d(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    if !cpu::has_kernels(&[x, weight, bias]) {
        return elsewhere::global_response_norm_2d(x, weight, bias, epsilon);
    }
    let channels = NormShape::over_channels("global_response_norm_2d", x, weight, bias, epsilon)?.features;
    let norm = ResponseNorm { channels, pixels: x.dim(2)? * x.dim(3)?, channels_last: false, epsilon };
    custom_op::apply(NormOp { norm, shape: x.shape().clone() }, x, weight, Some(bias))
}

struct NormOp<N> {
    norm: N,
    shape: Shape,
}

impl<N: Norm + Send + Sync> WeightedOp for NormOp<N> {
    fn name(&self) -> &'static str {
        N::NAME
    }

    fn output_shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        self.norm.forward(x, weight, bias)
    }

    fn backward(&self, Backward { x, weight, grad, .. }: Backward<'_>) -> Result<WeightedGrads> {
        Ok(self.norm.backward(x, weight, grad))
    }
}
