//! Reference implementations made of candle's ops, with correct gradients on every device and for every float dtype.
//!
//! Ops call these where no kernel exists for the device or dtype. Call them directly to compare with the kernels. They
//! unfold the input of convolutions to kh·kw times its size, so they are slow and need memory.

mod attention;
mod norm;
mod scale;

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::sigmoid;

pub use self::attention::{attention, self_attention, softmax};
#[cfg(any(test, feature = "cuda-kernels"))]
pub(crate) use self::attention::{attention_by, self_attention_by};
pub use self::norm::{global_response_norm, global_response_norm_2d, layer_norm, layer_norm_2d};
pub use self::scale::{drop_path, layer_scale, layer_scale_2d, scale_channels};
use crate::batch_norm::BatchNorm;
use crate::config::{Activation, Conv2dConfig, PadCounting, Padding2d, Pool2dConfig};
use crate::conv_block::{ConvBlock, ConvLayer, Pooling, Shortcut};
use crate::dropout::dropout_scales;
use crate::error::Error;
use crate::shape::{ConvShape, LinearShape, PoolShape, check_labels, check_targets};

/// [`crate::conv2d`] as a product of the weights and the unfolded input.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv2dConfig,
    activation: Activation,
) -> Result<Tensor> {
    let shape = ConvShape::new(x.dims(), weight, bias, config)?;
    let ConvShape { batch, c_in, c_out, kh, kw, oh, ow, config, .. } = shape;
    let columns = windows(x, (kh, kw), config.stride, config.dilation, &config.padding, (oh, ow), 0.0)?;
    let groups = config.groups;
    let unfolded =
        Tensor::stack(&columns, 2)?.reshape((batch, groups, (c_in / groups) * kh * kw, oh * ow))?;
    let weight = weight.reshape((1, groups, c_out / groups, (c_in / groups) * kh * kw))?;
    let y = weight.broadcast_matmul(&unfolded)?.reshape((batch, c_out, oh, ow))?;
    let y = match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((1, c_out, 1, 1))?)?,
        None => y,
    };
    activate(&y, activation)
}

/// [`crate::max_pool2d`] as a chain of selections, through which the gradient reaches the maximum.
pub fn max_pool2d(x: &Tensor, config: &Pool2dConfig) -> Result<Tensor> {
    let shape = PoolShape::new(x.dims(), config)?;
    let mut windows = pool_windows(x, &shape, f64::NEG_INFINITY)?.into_iter();
    let Some(first) = windows.next() else {
        return Err(Error::Setting {
            op: "max_pool2d",
            rule: "a window has at least one pixel",
            found: "0".into(),
        }
        .into());
    };
    windows.try_fold(first, |best, candidate| {
        // The best stays if the candidate is not larger (so that the first of equal values wins), or if it is NaN.
        let stays = candidate.le(&best)?.maximum(&best.ne(&best)?)?;
        stays.where_cond(&best, &candidate)
    })
}

/// [`crate::avg_pool2d`] as a sum of shifted maps.
pub fn avg_pool2d(x: &Tensor, config: &Pool2dConfig, counting: PadCounting) -> Result<Tensor> {
    let shape = PoolShape::new(x.dims(), config)?;
    let mut windows = pool_windows(x, &shape, 0.0)?.into_iter();
    let Some(first) = windows.next() else {
        return Err(Error::Setting {
            op: "avg_pool2d",
            rule: "a window has at least one pixel",
            found: "0".into(),
        }
        .into());
    };
    let sum = windows.try_fold(first, |sum, shifted| sum + shifted)?;
    let rows = (0..shape.oh).map(|oy| shape.counted_rows(oy, counting) as f64);
    let cols: Vec<f64> = (0..shape.ow).map(|ox| shape.counted_cols(ox, counting) as f64).collect();
    let scales: Vec<f64> = rows.flat_map(|rows| cols.iter().map(move |cols| 1.0 / (rows * cols))).collect();
    let scales = Tensor::from_vec(scales, (1, 1, shape.oh, shape.ow), &candle_core::Device::Cpu)?
        .to_dtype(x.dtype())?
        .to_device(x.device())?;
    sum.broadcast_mul(&scales)
}

/// [`crate::global_avg_pool2d`] as a mean.
pub fn global_avg_pool2d(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    x.flatten_from(2)?.sum(2)? / (h * w) as f64
}

/// [`crate::batch_norm`] as means and broadcasts.
pub fn batch_norm(x: &Tensor, norm: &BatchNorm, activation: Activation, train: bool) -> Result<Tensor> {
    let n = norm.check(x.dims())?;
    let channels = norm.weight.dim(0)?;
    let wide = |per_channel: &Tensor| per_channel.reshape((1, channels, 1, 1));
    let mean_of = |x: &Tensor| x.transpose(0, 1)?.flatten_from(1)?.mean(1);
    let (centered, var) = if BatchNorm::by_batch(n, train) {
        let mean = mean_of(x)?;
        let centered = x.broadcast_sub(&wide(&mean)?)?;
        let var = mean_of(&centered.sqr()?)?;
        norm.update_running(&mean.detach(), &(var.detach() * norm.running_variance.correction(n))?)?;
        (centered, var)
    } else {
        (x.broadcast_sub(&wide(&norm.running_mean.detach())?)?, norm.running_var.detach())
    };
    let scale = (&norm.weight / (var + norm.epsilon)?.sqrt()?)?;
    let y = centered.broadcast_mul(&wide(&scale)?)?.broadcast_add(&wide(&norm.bias)?)?;
    activate(&y, activation)
}

/// Overwrites the contents of `target`.
fn overwrite(target: &Tensor, values: &Tensor) -> Result<()> {
    target.flatten_all()?.slice_set(&values.flatten_all()?, 0, 0)
}

/// [`ConvBlock::forward_t`] as one op after the other.
pub fn conv_block(x: &Tensor, block: &ConvBlock<'_>, train: bool) -> Result<Tensor> {
    let mut y = activate(x, block.pre_activation)?;
    for (i, layer) in std::iter::once(&block.first).chain(&block.rest).enumerate() {
        y = block.excited(conv_layer(&y, layer, train)?, i + 1)?;
    }
    y = match &block.pool {
        Pooling::None => y,
        Pooling::Max(config) => max_pool2d(&y, config)?,
        Pooling::Avg(config, counting) => avg_pool2d(&y, config, *counting)?,
    };
    y = match &block.shortcut {
        Shortcut::None => y,
        Shortcut::Identity => (y + x)?,
        Shortcut::Projection(layer) => (y + conv_layer(x, layer, train)?)?,
    };
    activate(&y, block.post_activation)
}

fn conv_layer(x: &Tensor, layer: &ConvLayer<'_>, train: bool) -> Result<Tensor> {
    let y = conv2d(x, layer.weight, layer.bias, &layer.config, Activation::Identity)?;
    match layer.norm {
        Some(norm) => batch_norm(&y, norm, layer.activation, train),
        None => activate(&y, layer.activation),
    }
}

/// [`crate::linear`] as a matrix product.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
    LinearShape::new(x, weight, bias)?;
    let y = x.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    activate(&y, activation)
}

/// [`crate::feed_forward`] as one layer after the other.
pub fn feed_forward(
    x: &Tensor,
    first: (&Tensor, Option<&Tensor>),
    second: (&Tensor, Option<&Tensor>),
    activation: Activation,
) -> Result<Tensor> {
    linear(&linear(x, first.0, first.1, activation)?, second.0, second.1, Activation::Identity)
}

/// [`crate::activate`] as comparisons and selections, since candle's relu and clamp have other gradients.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    activation.check("activate")?;
    match activation {
        Activation::Identity => Ok(x.clone()),
        Activation::Relu => x.le(0.0)?.where_cond(&x.zeros_like()?, x),
        Activation::Relu6 => {
            let x = x.le(0.0)?.where_cond(&x.zeros_like()?, x)?;
            x.ge(6.0)?.where_cond(&(x.zeros_like()? + 6.0)?, &x)
        }
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
        Activation::HardSigmoid => activate(&(x + 3.0)?, Activation::Relu6)? / 6.0,
        Activation::Silu => x * sigmoid(x)?,
        Activation::HardSwish => x * activate(x, Activation::HardSigmoid)?,
        // candle's own functions have derivatives with six digits.
        Activation::Gelu => x * (((x * FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)?,
        Activation::GeluTanh => {
            let v = (x * ((x.sqr()? * 0.044715)? + 1.0)?)?;
            x * (((v * (2.0 / PI).sqrt())?.tanh()? + 1.0)? * 0.5)?
        }
        Activation::LeakyRelu(slope) => x.le(0.0)?.where_cond(&(x * slope)?, x),
    }
}

/// [`crate::softmax_cross_entropy`] as log-sum-exp minus the label's logit.
pub fn softmax_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    check_labels(logits, labels)?;
    let max = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&max)?;
    let log_sum = shifted.exp()?.sum(D::Minus1)?.log()?;
    let picked = shifted.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?;
    (log_sum - picked)?.mean_all()
}

/// [`crate::soft_cross_entropy`] as the sum, weighted by the targets, of log-sum-exp minus each logit.
pub fn soft_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    check_targets(logits, targets)?;
    let max = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&max)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let losses = (log_sum.broadcast_sub(&shifted)? * targets.detach())?;
    losses.sum(D::Minus1)?.mean_all()
}

/// [`crate::dropout`] as a product with the mask, which is computed on the CPU.
pub fn dropout(x: &Tensor, rate: f64, seed: u64) -> Result<Tensor> {
    let scales = dropout_scales("dropout", x.elem_count(), rate, seed)?;
    let scales = Tensor::from_vec(scales, x.shape(), &candle_core::Device::Cpu)?;
    x * scales.to_dtype(x.dtype())?.to_device(x.device())?
}

/// [`crate::normalize_bytes`] as a difference and a quotient; mean and std are 255 times as large.
pub(crate) fn normalize_bytes(images: &Tensor, mean: &[f32], std: &[f32]) -> Result<Tensor> {
    let wide = |values: &[f32]| Tensor::new(values, images.device())?.reshape((1, values.len(), 1, 1));
    let x = images.permute((0, 3, 1, 2))?.to_dtype(DType::F32)?;
    x.broadcast_sub(&wide(mean)?)?.broadcast_div(&wide(std)?)
}

fn pool_windows(x: &Tensor, shape: &PoolShape, fill: f64) -> Result<Vec<Tensor>> {
    let Pool2dConfig { kernel, stride, padding, .. } = shape.config;
    let padding = Padding2d::symmetric(padding.0, padding.1);
    windows(x, kernel, stride, (1, 1), &padding, (shape.oh, shape.ow), fill)
}

/// For each kernel element in row-major order, the pixels that it reads, (B, C, oh, ow).
fn windows(
    x: &Tensor,
    kernel: (usize, usize),
    stride: (usize, usize),
    dilation: (usize, usize),
    padding: &Padding2d,
    output: (usize, usize),
    fill: f64,
) -> Result<Vec<Tensor>> {
    // A kernel element reads every stride-th of stride·output pixels. Those of the last one may extend past the padded
    // input by pixels that are not read.
    let rows = (kernel.0 - 1) * dilation.0 + stride.0 * output.0;
    let cols = (kernel.1 - 1) * dilation.1 + stride.1 * output.1;
    let x = pad(x, 2, padding.top, rows, fill)?;
    let x = pad(&x, 3, padding.left, cols, fill)?;
    let mut shifted = Vec::with_capacity(kernel.0 * kernel.1);
    for ky in 0..kernel.0 {
        let band = every(&x.narrow(2, ky * dilation.0, stride.0 * output.0)?, 2, stride.0)?;
        for kx in 0..kernel.1 {
            shifted.push(every(&band.narrow(3, kx * dilation.1, stride.1 * output.1)?, 3, stride.1)?);
        }
    }
    Ok(shifted)
}

/// Pads `x` along `dim` with `before` pixels of `fill`, and after it to a size of at least `at_least`.
fn pad(x: &Tensor, dim: usize, before: usize, at_least: usize, fill: f64) -> Result<Tensor> {
    let after = at_least.saturating_sub(x.dim(dim)? + before);
    let padding = |size| -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        dims[dim] = size;
        Tensor::full(fill as f32, dims, x.device())?.to_dtype(x.dtype())
    };
    match (before, after) {
        (0, 0) => Ok(x.clone()),
        (0, after) => Tensor::cat(&[x, &padding(after)?], dim),
        (before, 0) => Tensor::cat(&[&padding(before)?, x], dim),
        (before, after) => Tensor::cat(&[&padding(before)?, x, &padding(after)?], dim),
    }
}

/// Every `step`-th slice of `x` along `dim`, whose size is a multiple of `step`.
fn every(x: &Tensor, dim: usize, step: usize) -> Result<Tensor> {
    if step == 1 {
        return Ok(x.clone());
    }
    let mut dims = x.dims().to_vec();
    dims[dim] /= step;
    dims.insert(dim + 1, step);
    x.reshape(dims)?.narrow(dim + 1, 0, 1)?.squeeze(dim + 1)
}

/// Optimizer steps.
pub(crate) mod optim {
    use candle_core::Result;

    use super::overwrite;
    use crate::optim::{AdamFactors, AdamUpdate, SgdUpdate};

    pub(crate) fn adam_steps(updates: &[(AdamUpdate<'_>, AdamFactors)]) -> Result<()> {
        for (AdamUpdate { param, grad, m, v, step }, factors) in updates {
            let grad = grad.detach();
            let new_m = ((*m * step.beta1)? + (&grad * (1.0 - step.beta1))?)?;
            let new_v = ((*v * step.beta2)? + (grad.sqr()? * (1.0 - step.beta2))?)?;
            let divisor = ((new_v.sqrt()? * factors.root_scale)? + step.epsilon)?;
            let old = param.as_detached_tensor();
            let new = ((old * factors.decay)? - ((&new_m / divisor)? * factors.alpha)?)?;
            overwrite(m, &new_m)?;
            overwrite(v, &new_v)?;
            param.set(&new)?;
        }
        Ok(())
    }

    pub(crate) fn sgd_steps(updates: &[SgdUpdate<'_>]) -> Result<()> {
        for SgdUpdate { param, grad, velocity, step } in updates {
            let old = param.as_detached_tensor();
            let grad = (grad.detach() + (&old * step.weight_decay)?)?;
            let new_velocity = ((*velocity * step.momentum)? + &grad)?;
            let direction =
                if step.nesterov { (grad + (&new_velocity * step.momentum)?)? } else { new_velocity.clone() };
            overwrite(velocity, &new_velocity)?;
            param.set(&(old - (direction * step.lr)?)?)?;
        }
        Ok(())
    }
}
