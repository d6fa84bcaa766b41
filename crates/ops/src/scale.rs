//! Products with one factor per channel or sample.

use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};

use crate::autograd::{apply2, route_values};
use crate::cpu::{self, scale::Scales};
use crate::dropout::drop_path_scales;
use crate::elsewhere;
use crate::error::{checked_count, expect_shape};

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
    if !cpu::has_kernels(&[x, gamma]) {
        return elsewhere::layer_scale(x, gamma);
    }
    expect_shape("layer_scale", "gamma", gamma, &[x.dim(D::Minus1)?])?;
    scale("layer_scale", x, gamma, 1)
}

/// [`layer_scale`] of channels first: `x` (B, C, H, W) times `gamma` (C,).
///
/// # Errors
///
/// Shapes that do not fit.
pub fn layer_scale_2d(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    if !cpu::has_kernels(&[x, gamma]) {
        return elsewhere::layer_scale_2d(x, gamma);
    }
    let (_, channels, height, width) = x.dims4()?;
    expect_shape("layer_scale_2d", "gamma", gamma, &[channels])?;
    scale("layer_scale_2d", x, gamma, height * width)
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
    if !cpu::has_kernels(&[x, scales]) {
        return elsewhere::scale_channels(x, scales);
    }
    let (batch, channels, height, width) = x.dims4()?;
    expect_shape("scale_channels", "scales", scales, &[batch, channels, 1, 1])?;
    scale("scale_channels", x, scales, height * width)
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
    if !cpu::has_kernels(&[x]) {
        return elsewhere::drop_path(x, rate, seed);
    }
    let scales = drop_path_scales(x, rate, seed)?;
    scale("drop_path", x, &scales, x.dims()[1..].iter().product())
}

/// `x` with each run of `plane` values multiplied by the next of `factors`, which repeat.
fn scale(op: &'static str, x: &Tensor, factors: &Tensor, plane: usize) -> Result<Tensor> {
    if checked_count(op, "x", x.dims())? == 0 {
        return Ok(x.clone());
    }
    let scales = Scales { factors: factors.elem_count(), plane };
    apply2([&x.contiguous()?, &factors.contiguous()?], ScaleOp { op, scales })
}

struct ScaleOp {
    op: &'static str,
    scales: Scales,
}

impl CustomOp2 for ScaleOp {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        factors: &CpuStorage,
        factors_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.scales.forward(cpu::slice(x, layout)?, cpu::slice(factors, factors_layout)?);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        factors: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (x_data, factors_data, grad_data) = (cpu::data(x), cpu::data(factors), cpu::data(&grad));
        let (x_values, factor_values, grad) = (x_data.slice()?, factors_data.slice()?, grad_data.slice()?);
        if !factors.track_op() {
            return Ok((route_values(x, self.scales.forward(grad, factor_values))?, None));
        }
        let (x_grad, factors_grad) = self.scales.backward(x_values, factor_values, grad);
        let x_grad = if x.track_op() { route_values(x, x_grad)? } else { None };
        Ok((x_grad, route_values(factors, factors_grad)?))
    }
}
