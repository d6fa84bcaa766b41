//! Max and average pooling.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::autograd::{apply1, is_tracked, route_values};
use crate::config::{PadCounting, Pool2dConfig, Rounding};
use crate::cpu::{self, pool};
use crate::elsewhere;
use crate::error::Error;
use crate::shape::PoolShape;

/// Maxima of sliding windows: `x` (B, C, H, W) to (B, C, oh, ow) with the size of [`Pool2dConfig::output_size`].
///
/// Padding is never the maximum. The first of equal values in row-major order gets the gradient, as in PyTorch. NaN is
/// larger than any number.
///
/// # Errors
///
/// A window that does not fit, see [`Pool2dConfig::output_size`].
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use firstsight_ops::{Pool2dConfig, Rounding, max_pool2d};
///
/// // AlexNet's pooling, whose windows overlap.
/// let x = Var::from_tensor(&Tensor::arange(0f32, 25., &Device::Cpu)?.reshape((1, 1, 5, 5))?)?;
/// let config = Pool2dConfig { kernel: (3, 3), stride: (2, 2), padding: (0, 0), rounding: Rounding::Floor };
/// let y = max_pool2d(&x, &config)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [12., 14., 22., 24.]);
/// assert_eq!(y.sum_all()?.backward()?.get(&x).unwrap().sum_all()?.to_scalar::<f32>()?, 4.);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn max_pool2d(x: &Tensor, config: &Pool2dConfig) -> Result<Tensor> {
    if !cpu::has_kernels(&[x]) {
        return elsewhere::max_pool2d(x, config);
    }
    let shape = PoolShape::new(x.dims(), config)?;
    apply1(&x.contiguous()?, MaxPool { shape, tracked: is_tracked(x), argmax: OnceLock::new() })
}

/// Means of sliding windows: `x` (B, C, H, W) to (B, C, oh, ow) with the size of [`Pool2dConfig::output_size`].
///
/// # Errors
///
/// A window that does not fit, see [`Pool2dConfig::output_size`].
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_ops::{PadCounting, Pool2dConfig, avg_pool2d};
///
/// let x = Tensor::ones((1, 1, 4, 4), DType::F32, &Device::Cpu)?;
/// let config = Pool2dConfig { padding: (1, 1), ..Pool2dConfig::square(2) };
/// let corner = |counting| avg_pool2d(&x, &config, counting)?.flatten_all()?.get(0)?.to_scalar::<f32>();
/// assert_eq!(corner(PadCounting::Include)?, 0.25);
/// assert_eq!(corner(PadCounting::Exclude)?, 1.0);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn avg_pool2d(x: &Tensor, config: &Pool2dConfig, counting: PadCounting) -> Result<Tensor> {
    if !cpu::has_kernels(&[x]) {
        return elsewhere::avg_pool2d(x, config, counting);
    }
    let shape = PoolShape::new(x.dims(), config)?;
    apply1(&x.contiguous()?, AvgPool { shape, counting })
}

/// The mean of each channel: `x` (B, C, H, W) to (B, C).
///
/// # Errors
///
/// An input of another rank, or without pixels.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::arange(0f32, 8., &Device::Cpu)?.reshape((1, 2, 2, 2))?;
/// assert_eq!(firstsight_ops::global_avg_pool2d(&x)?.to_vec2::<f32>()?, [[1.5, 5.5]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn global_avg_pool2d(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    let config = Pool2dConfig { kernel: (h, w), stride: (1, 1), padding: (0, 0), rounding: Rounding::Floor };
    avg_pool2d(x, &config, PadCounting::Exclude)?.flatten_from(1)
}

struct MaxPool {
    shape: PoolShape,
    /// Whether a backward pass may follow.
    tracked: bool,
    /// The index of each maximum in its plane.
    argmax: OnceLock<Vec<u32>>,
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu::slice(x, layout)?;
        let y = if self.tracked {
            let (y, argmax) = pool::max_forward(&self.shape, x);
            let _ = self.argmax.set(argmax);
            y
        } else {
            pool::max_values(&self.shape, x)
        };
        Ok((CpuStorage::F32(y), output_shape(&self.shape)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(argmax) = self.argmax.get() else {
            return Err(Error::NotTracked { op: self.name() }.into());
        };
        let grad = grad.contiguous()?;
        let x_grad = pool::max_backward(&self.shape, cpu::data(&grad).slice()?, argmax);
        route_values(x, x_grad)
    }
}

struct AvgPool {
    shape: PoolShape,
    counting: PadCounting,
}

impl CustomOp1 for AvgPool {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = pool::avg_forward(&self.shape, cpu::slice(x, layout)?, self.counting);
        Ok((CpuStorage::F32(y), output_shape(&self.shape)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let x_grad = pool::avg_backward(&self.shape, cpu::data(&grad).slice()?, self.counting);
        route_values(x, x_grad)
    }
}

fn output_shape(shape: &PoolShape) -> Shape {
    Shape::from((shape.batch, shape.channels, shape.oh, shape.ow))
}
