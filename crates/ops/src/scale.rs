//! Products with one factor per channel or sample.

use candle_core::{D, Device, Result, Tensor};

use crate::dropout::dropout_scales;
use crate::error::expect_shape;

/// Layer scale (Touvron et al. 2021, CaiT): `x` (…, C) times `gamma` (C,).
///
/// # Errors
///
/// Shapes that do not fit.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let y = firstsight_ops::layer_scale(&x, &Tensor::new(&[10f32, 0.5], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[10., 1.], [30., 2.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn layer_scale(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    expect_shape("layer_scale", "gamma", gamma, &[x.dim(D::Minus1)?])?;
    x.broadcast_mul(gamma)
}

/// [`layer_scale`] of channels first: `x` (B, C, H, W) times `gamma` (C,).
///
/// # Errors
///
/// Shapes that do not fit.
pub fn layer_scale_2d(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    let channels = x.dims4()?.1;
    expect_shape("layer_scale_2d", "gamma", gamma, &[channels])?;
    x.broadcast_mul(&gamma.reshape((1, channels, 1, 1))?)
}

/// `x` (B, C, H, W) times `scales` (B, C, 1, 1): the end of squeeze-and-excitation (Hu et al. 2018), whose scales come from
/// [`crate::global_avg_pool2d`] and two layers.
///
/// # Errors
///
/// Shapes that do not fit.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[[[1f32, 2.]], [[3., 4.]]]], &Device::Cpu)?;
/// let scales = Tensor::new(&[[[[10f32]], [[0.5]]]], &Device::Cpu)?;
/// let y = firstsight_ops::scale_channels(&x, &scales)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [10., 20., 1.5, 2.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn scale_channels(x: &Tensor, scales: &Tensor) -> Result<Tensor> {
    let (batch, channels, ..) = x.dims4()?;
    expect_shape("scale_channels", "scales", scales, &[batch, channels, 1, 1])?;
    x.broadcast_mul(scales)
}

/// Stochastic depth (Huang et al. 2016), timm's drop path: each sample of `x` (B, …) is 0 with probability `rate` in [0, 1),
/// else multiplied by 1 / (1 − rate).
///
/// The dropped samples depend on `seed` and their indices alone, as in [`crate::dropout`].
///
/// # Errors
///
/// A rate outside [0, 1).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::ones((100, 3), DType::F32, &Device::Cpu)?;
/// let y = firstsight_ops::drop_path(&x, 0.5, 7)?.to_vec2::<f32>()?;
/// assert!(y.iter().all(|sample| *sample == [0.; 3] || *sample == [2.; 3]));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn drop_path(x: &Tensor, rate: f64, seed: u64) -> Result<Tensor> {
    let batch = x.dim(0)?;
    let mut dims = vec![1; x.rank()];
    dims[0] = batch;
    let scales = Tensor::from_vec(dropout_scales("drop_path", batch, rate, seed)?, dims, &Device::Cpu)?;
    x.broadcast_mul(&scales.to_dtype(x.dtype())?.to_device(x.device())?)
}
