//! The ops made of candle's own, with right gradients, on every device and for every float type.
//!
//! The functions of the crate's root come here when there is no kernel for the device or the type. Call them
//! directly to compare, or to keep a kernel out of the way. They unfold the input (kh·kw times its size), so they
//! are slow and need memory.

use candle_core::{D, DType, Result, Tensor};

use crate::chain::{ConvChain, ConvNormAct, Shortcut};
use crate::config::{Activation, Conv2dConfig, Divisor, Padding2d, Pool2dConfig};
use crate::error::{Error, checked_count, expect_shape};
use crate::norm::{BatchNorm, RunningVariance};
use crate::random::dropout_scales;
use crate::shape::{ConvShape, PoolShape};

/// [`crate::conv2d`] out of candle's ops: the unfolded input times the weights.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv2dConfig,
    activation: Activation,
) -> Result<Tensor> {
    let shape = ConvShape::new(x, weight, bias, config)?;
    let ConvShape { batch, c_in, c_out, kh, kw, oh, ow, .. } = shape;
    let taps = windows(x, (kh, kw), config.stride, config.dilation, &config.padding, (oh, ow), 0.0)?;
    let groups = config.groups;
    let unfolded = Tensor::stack(&taps, 2)?.reshape((batch, groups, (c_in / groups) * kh * kw, oh * ow))?;
    let weight = weight.reshape((1, groups, c_out / groups, (c_in / groups) * kh * kw))?;
    let y = weight.broadcast_matmul(&unfolded)?.reshape((batch, c_out, oh, ow))?;
    let y = match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((1, c_out, 1, 1))?)?,
        None => y,
    };
    activate(&y, activation)
}

/// [`crate::conv2d_max_pool`] as one op after the other.
pub fn conv2d_max_pool(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv2dConfig,
    activation: Activation,
    pool: &Pool2dConfig,
) -> Result<Tensor> {
    max_pool2d(&conv2d(x, weight, bias, config, activation)?, pool)
}

/// [`crate::conv2d_avg_pool`] as one op after the other.
pub fn conv2d_avg_pool(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv2dConfig,
    activation: Activation,
    pool: &Pool2dConfig,
    divisor: Divisor,
) -> Result<Tensor> {
    avg_pool2d(&conv2d(x, weight, bias, config, activation)?, pool, divisor)
}

/// [`crate::max_pool2d`] as a chain of selections, so that the gradient takes the way the value took.
pub fn max_pool2d(x: &Tensor, config: &Pool2dConfig) -> Result<Tensor> {
    let shape = PoolShape::new(x, config)?;
    let mut windows = pool_windows(x, &shape, f64::NEG_INFINITY)?.into_iter();
    let Some(first) = windows.next() else {
        return Err(Error::Setting {
            op: "max_pool2d",
            rule: "a window has at least one tap",
            found: "0".into(),
        }
        .into());
    };
    windows.try_fold(first, |best, tap| {
        // The best so far stays if the tap is no larger (so the first of equals wins), or if it is not a number.
        let stays = tap.le(&best)?.maximum(&best.ne(&best)?)?;
        stays.where_cond(&best, &tap)
    })
}

/// [`crate::avg_pool2d`] as a sum of shifted maps.
pub fn avg_pool2d(x: &Tensor, config: &Pool2dConfig, divisor: Divisor) -> Result<Tensor> {
    let shape = PoolShape::new(x, config)?;
    let mut windows = pool_windows(x, &shape, 0.0)?.into_iter();
    let Some(first) = windows.next() else {
        return Err(Error::Setting {
            op: "avg_pool2d",
            rule: "a window has at least one tap",
            found: "0".into(),
        }
        .into());
    };
    let sum = windows.try_fold(first, |sum, tap| sum + tap)?;
    let counts =
        |n: usize, axis: Axis| (0..n).map(|i| pool_extent(&shape, divisor, axis, i) as f64).collect();
    let rows: Vec<f64> = counts(shape.oh, Axis::Rows);
    let cols: Vec<f64> = counts(shape.ow, Axis::Cols);
    let scales: Vec<f64> = rows.iter().flat_map(|r| cols.iter().map(move |c| 1.0 / (r * c))).collect();
    let scales = Tensor::from_vec(scales, (1, 1, shape.oh, shape.ow), &candle_core::Device::Cpu)?
        .to_dtype(x.dtype())?
        .to_device(x.device())?;
    sum.broadcast_mul(&scales)
}

/// [`crate::global_avg_pool2d`] as candle's mean.
pub fn global_avg_pool2d(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    x.flatten_from(2)?.sum(2)? / (h * w) as f64
}

/// [`crate::batch_norm`] out of means and broadcasts.
pub fn batch_norm(x: &Tensor, norm: &BatchNorm, activation: Activation, train: bool) -> Result<Tensor> {
    let n = norm.check(x.dims(), train)?;
    let channels = norm.weight.dim(0)?;
    let wide = |per_channel: &Tensor| per_channel.reshape((1, channels, 1, 1));
    let mean_of = |x: &Tensor| x.transpose(0, 1)?.flatten_from(1)?.mean(1);
    let (centred, var) = if train {
        let mean = mean_of(x)?;
        let centred = x.broadcast_sub(&wide(&mean)?)?;
        let var = mean_of(&centred.sqr()?)?;
        let correction = match norm.running_variance {
            RunningVariance::Unbiased => n as f64 / (n - 1) as f64,
            RunningVariance::Biased => 1.0,
        };
        move_towards(&norm.running_mean, &mean.detach(), norm.momentum)?;
        move_towards(&norm.running_var, &(var.detach() * correction)?, norm.momentum)?;
        (centred, var)
    } else {
        (x.broadcast_sub(&wide(&norm.running_mean.detach())?)?, norm.running_var.detach())
    };
    let scale = (&norm.weight / (var + norm.epsilon)?.sqrt()?)?;
    let y = centred.broadcast_mul(&wide(&scale)?)?.broadcast_add(&wide(&norm.bias)?)?;
    activate(&y, activation)
}

/// running ← (1 − momentum)·running + momentum·batch, in place.
pub(crate) fn move_towards(running: &Tensor, batch: &Tensor, momentum: f64) -> Result<()> {
    let moved = ((running.detach() * (1.0 - momentum))? + (batch * momentum)?)?;
    overwrite(running, &moved)
}

/// Writes `values` over the contents of `target`.
fn overwrite(target: &Tensor, values: &Tensor) -> Result<()> {
    target.flatten_all()?.slice_set(&values.flatten_all()?, 0, 0)
}

/// [`crate::conv_chain`] as one op after the other.
pub fn conv_chain(x: &Tensor, chain: &ConvChain<'_>, train: bool) -> Result<Tensor> {
    let through = |x: &Tensor, layer: &ConvNormAct<'_>| {
        let y = conv2d(x, layer.weight, None, &layer.config, Activation::Identity)?;
        match layer.norm {
            Some(norm) => batch_norm(&y, norm, layer.activation, train),
            None => activate(&y, layer.activation),
        }
    };
    let mut y = activate(x, chain.before)?;
    for layer in chain.layers {
        y = through(&y, layer)?;
    }
    if let Some(pool) = &chain.pool {
        y = max_pool2d(&y, pool)?;
    }
    y = match &chain.shortcut {
        Shortcut::None => y,
        Shortcut::Identity => (y + x)?,
        Shortcut::Projection(layer) => (y + through(x, layer)?)?,
    };
    activate(&y, chain.after)
}

/// [`crate::linear`] as candle's matrix product.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
    check_linear(x, weight, bias)?;
    let y = x.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    activate(&y, activation)
}

pub(crate) fn check_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let (batch, n_in) = x.dims2()?;
    let (n_out, _) = weight.dims2()?;
    expect_shape("linear", "weight", weight, &[n_out, n_in])?;
    for (argument, dims) in [("x", x.dims()), ("weight", weight.dims()), ("the output", &[batch, n_out])] {
        checked_count("linear", argument, dims)?;
    }
    if batch == 0 || n_in == 0 || n_out == 0 {
        return Err(Error::Setting {
            op: "linear",
            rule: "batch, inputs and outputs must be at least 1",
            found: format!("{batch}, {n_in}, {n_out}"),
        }
        .into());
    }
    if let Some(bias) = bias {
        expect_shape("linear", "bias", bias, &[n_out])?;
    }
    Ok(())
}

/// [`crate::activate`] out of comparisons and selections, which have the gradients that candle's relu and clamp
/// lack.
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
        Activation::LeakyRelu(slope) => x.le(0.0)?.where_cond(&(x * slope)?, x),
    }
}

/// [`crate::softmax_cross_entropy`] as log-sum-exp less the label's logit.
pub fn softmax_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    check_labels(logits, labels)?;
    let max = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&max)?;
    let log_sum = shifted.exp()?.sum(D::Minus1)?.log()?;
    let picked = shifted.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?;
    (log_sum - picked)?.mean_all()
}

/// [`crate::soft_cross_entropy`] as the targets' sum of log-sum-exp less each logit.
pub fn soft_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    check_targets(logits, targets)?;
    let max = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&max)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let losses = (log_sum.broadcast_sub(&shifted)? * targets.detach())?;
    losses.sum(D::Minus1)?.mean_all()
}

pub(crate) fn check_targets(logits: &Tensor, targets: &Tensor) -> Result<()> {
    let op = "soft_cross_entropy";
    let (batch, n_classes) = logits.dims2()?;
    expect_shape(op, "targets", targets, &[batch, n_classes])?;
    if checked_count(op, "logits", &[batch, n_classes])? == 0 {
        let found = format!("{batch}, {n_classes}");
        return Err(Error::Setting { op, rule: "examples and classes must be at least 1", found }.into());
    }
    Ok(())
}

pub(crate) fn check_labels(logits: &Tensor, labels: &Tensor) -> Result<()> {
    let op = "softmax_cross_entropy";
    let (batch, n_classes) = logits.dims2()?;
    expect_shape(op, "labels", labels, &[batch])?;
    if labels.dtype() != DType::U32 {
        let found = labels.dtype().as_str().to_owned();
        return Err(Error::Setting { op, rule: "labels must be u32", found }.into());
    }
    if checked_count(op, "logits", &[batch, n_classes])? == 0 {
        let found = format!("{batch}, {n_classes}");
        return Err(Error::Setting { op, rule: "examples and classes must be at least 1", found }.into());
    }
    if labels.device().is_cpu()
        && let Some((example, label)) =
            labels.to_vec1::<u32>()?.into_iter().enumerate().find(|&(_, label)| label as usize >= n_classes)
    {
        return Err(Error::Label { op, label, example, n_classes }.into());
    }
    Ok(())
}

/// [`crate::dropout`] as a product with the mask, which is the same on every device.
pub fn dropout(x: &Tensor, rate: f64, seed: u64) -> Result<Tensor> {
    let scales = dropout_scales(x.elem_count(), rate, seed)?;
    let scales = Tensor::from_vec(scales, x.shape(), &candle_core::Device::Cpu)?;
    x * scales.to_dtype(x.dtype())?.to_device(x.device())?
}

/// The axis of a map.
#[derive(Clone, Copy)]
pub(crate) enum Axis {
    /// Top to bottom.
    Rows,
    /// Left to right.
    Cols,
}

/// How many pixels of window `index` count for the average, along one axis.
pub(crate) fn pool_extent(shape: &PoolShape, divisor: Divisor, axis: Axis, index: usize) -> usize {
    let Pool2dConfig { kernel, stride, padding, .. } = shape.config;
    let (range, size, kernel, stride, padding) = match axis {
        Axis::Rows => (shape.rows(index), shape.h, kernel.0, stride.0, padding.0),
        Axis::Cols => (shape.cols(index), shape.w, kernel.1, stride.1, padding.1),
    };
    match divisor {
        Divisor::Valid => range.1 - range.0,
        Divisor::CountIncludePad => (index * stride + kernel).min(size + 2 * padding) - index * stride,
    }
}

fn pool_windows(x: &Tensor, shape: &PoolShape, fill: f64) -> Result<Vec<Tensor>> {
    let Pool2dConfig { kernel, stride, padding, .. } = shape.config;
    let padding = Padding2d::symmetric(padding.0, padding.1);
    windows(x, kernel, stride, (1, 1), &padding, (shape.oh, shape.ow), fill)
}

/// For each tap of the kernel, row by row, what it sees at every output position: (B, C, oh, ow) each.
fn windows(
    x: &Tensor,
    kernel: (usize, usize),
    stride: (usize, usize),
    dilation: (usize, usize),
    padding: &Padding2d,
    output: (usize, usize),
    fill: f64,
) -> Result<Vec<Tensor>> {
    // A tap's pixels are every stride-th of a stretch of stride·output pixels; the last tap's stretch may go
    // beyond the padded input by pixels that are not looked at.
    let rows = (kernel.0 - 1) * dilation.0 + stride.0 * output.0;
    let cols = (kernel.1 - 1) * dilation.1 + stride.1 * output.1;
    let x = pad(x, 2, padding.top, rows, fill)?;
    let x = pad(&x, 3, padding.left, cols, fill)?;
    let mut taps = Vec::with_capacity(kernel.0 * kernel.1);
    for ky in 0..kernel.0 {
        let band = every(&x.narrow(2, ky * dilation.0, stride.0 * output.0)?, 2, stride.0)?;
        for kx in 0..kernel.1 {
            taps.push(every(&band.narrow(3, kx * dilation.1, stride.1 * output.1)?, 3, stride.1)?);
        }
    }
    Ok(taps)
}

/// `before` pixels of `fill` before `x` along `dim`, and as many after it as make the size at least `at_least`.
fn pad(x: &Tensor, dim: usize, before: usize, at_least: usize, fill: f64) -> Result<Tensor> {
    let after = at_least.saturating_sub(x.dim(dim)? + before);
    let rim = |size| -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        dims[dim] = size;
        Tensor::full(fill as f32, dims, x.device())?.to_dtype(x.dtype())
    };
    match (before, after) {
        (0, 0) => Ok(x.clone()),
        (0, after) => Tensor::cat(&[x, &rim(after)?], dim),
        (before, 0) => Tensor::cat(&[&rim(before)?, x], dim),
        (before, after) => Tensor::cat(&[&rim(before)?, x, &rim(after)?], dim),
    }
}

/// Each `step`-th slice of `x` along `dim`, whose size is a multiple of `step`.
fn every(x: &Tensor, dim: usize, step: usize) -> Result<Tensor> {
    if step == 1 {
        return Ok(x.clone());
    }
    let mut dims = x.dims().to_vec();
    dims[dim] /= step;
    dims.insert(dim + 1, step);
    x.reshape(dims)?.narrow(dim + 1, 0, 1)?.squeeze(dim + 1)
}

/// The optimisers' steps out of candle's ops.
pub(crate) mod optim {
    use candle_core::{Result, Tensor, Var};

    use super::overwrite;
    use crate::optim::{AdamFactors, AdamStep, SgdStep};

    pub(crate) fn adam_step(
        param: &Var,
        grad: &Tensor,
        m: &Tensor,
        v: &Tensor,
        step: &AdamStep,
        factors: &AdamFactors,
    ) -> Result<()> {
        let grad = grad.detach();
        let new_m = ((m * step.beta1)? + (&grad * (1.0 - step.beta1))?)?;
        let new_v = ((v * step.beta2)? + (grad.sqr()? * (1.0 - step.beta2))?)?;
        let divisor = ((new_v.sqrt()? * factors.root_scale)? + step.epsilon)?;
        let old = param.as_detached_tensor();
        let new = ((old * factors.decay)? - ((&new_m / divisor)? * factors.alpha)?)?;
        overwrite(m, &new_m)?;
        overwrite(v, &new_v)?;
        param.set(&new)
    }

    pub(crate) fn sgd_step(param: &Var, grad: &Tensor, velocity: &Tensor, step: &SgdStep) -> Result<()> {
        let old = param.as_detached_tensor();
        let grad = (grad.detach() + (&old * step.weight_decay)?)?;
        let new_velocity = ((velocity * step.momentum)? + &grad)?;
        let direction =
            if step.nesterov { (grad + (&new_velocity * step.momentum)?)? } else { new_velocity.clone() };
        overwrite(velocity, &new_velocity)?;
        param.set(&(old - (direction * step.lr)?)?)
    }
}
