//! Layer normalization and global response normalization.

use candle_core::{Result, Tensor};

use crate::reference;

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
    reference::layer_norm(x, weight, bias, epsilon)
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
    reference::layer_norm_2d(x, weight, bias, epsilon)
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
    reference::global_response_norm(x, weight, bias, epsilon)
}

/// [`global_response_norm`] of channels first, `x` (B, C, H, W).
///
/// # Errors
///
/// Shapes that do not fit, or an epsilon below 0.
pub fn global_response_norm_2d(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    reference::global_response_norm_2d(x, weight, bias, epsilon)
}
