//! Batch normalization.

use candle_core::{ModuleT, Result, Tensor};

use crate::config::Activation;
use crate::config::Conv2dConfig;
use crate::conv_block::ConvLayer;
use crate::cpu::batch_norm::Moments;
use crate::error::{Error, checked_count, expect_shape};
use crate::{cpu, elsewhere};

/// The tensors of a batch normalization, each (C,), and its constants.
///
/// Training updates the running statistics in place, and with them every tensor that shares their storage.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// Scale, γ.
    pub weight: Tensor,
    /// Shift, β.
    pub bias: Tensor,
    /// The mean that inference normalizes by.
    pub running_mean: Tensor,
    /// The variance that inference normalizes by.
    pub running_var: Tensor,
    /// ε, which is added to the variance.
    pub epsilon: f64,
    /// The share of the running statistics that a batch replaces: running ← (1 − momentum)·running + momentum·batch.
    /// This is PyTorch's convention (0.1 by default); the momentum of Keras and TensorFlow is 1 − this.
    pub momentum: f64,
    /// The estimate of the batch's variance that updates the running one.
    pub running_variance: RunningVariance,
}

/// An estimate of the variance for inference. Training always normalizes by the biased one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunningVariance {
    /// Σ(x − mean)² / (n − 1): PyTorch.
    Unbiased,
    /// Σ(x − mean)² / n: Keras 3.
    Biased,
}

/// Batch normalization (Ioffe and Szegedy 2015) over batch and pixels, then an activation: `x` (B, C, H, W) to
/// f(γ·(x − mean) / √(var + ε) + β).
///
/// If `train` is true, mean and (biased) variance are the batch's, gradients flow through them, and the running statistics
/// are updated. Otherwise they are the running statistics, which are not changed.
///
/// A batch of one value per channel has no variance. It is normalized by the running statistics, in training too, and
/// leaves them as they are: the last image of an epoch teaches the network something. (PyTorch raises an error. Keras
/// gives β, through which no gradient flows, and pulls the running variance to 0.)
///
/// # Errors
///
/// Shapes that do not fit.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_ops::{Activation, BatchNorm, RunningVariance, batch_norm};
///
/// let per_channel = |value: f64| Tensor::full(value as f32, 1, &Device::Cpu);
/// let norm = BatchNorm {
///     weight: per_channel(1.0)?,
///     bias: per_channel(0.0)?,
///     running_mean: per_channel(0.0)?,
///     running_var: per_channel(1.0)?,
///     epsilon: 1e-5,
///     momentum: 0.1,
///     running_variance: RunningVariance::Unbiased,
/// };
/// let x = Tensor::new(&[1f32, 3.], &Device::Cpu)?.reshape((2, 1, 1, 1))?;
/// let y = batch_norm(&x, &norm, Activation::Identity, true)?.flatten_all()?.to_vec1::<f32>()?;
/// assert!((y[0] + 1.).abs() < 1e-4 && (y[1] - 1.).abs() < 1e-4);
/// assert!((norm.running_mean.to_vec1::<f32>()?[0] - 0.2).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn batch_norm(x: &Tensor, norm: &BatchNorm, activation: Activation, train: bool) -> Result<Tensor> {
    if !cpu::has_kernels(&[x, &norm.weight, &norm.bias]) {
        return elsewhere::batch_norm(x, norm, activation, train);
    }
    norm.check(x.dims())?;
    // The normalization behind a depthwise convolution by ones, which the block's kernel fuses.
    let groups = x.dim(1)?;
    let weight = Tensor::ones((groups, 1, 1, 1), x.dtype(), x.device())?;
    let config = Conv2dConfig { groups, ..Default::default() };
    ConvLayer::new(&weight, config).batch_norm(norm).activation(activation).forward_t(x, train)
}

impl BatchNorm {
    /// Validates the tensors for an input of shape `x`, and returns the number of values per channel.
    pub(crate) fn check(&self, x: &[usize]) -> crate::Result<usize> {
        let op = "batch_norm";
        let Self { weight, bias, running_mean, running_var, epsilon, momentum, .. } = self;
        let &[batch, channels, height, width] = x else {
            let expected = "(B, C, H, W)".to_owned();
            return Err(Error::Shape { op, argument: "x", expected, found: x.to_vec() });
        };
        let tensors = [
            ("weight", weight),
            ("bias", bias),
            ("running_mean", running_mean),
            ("running_var", running_var),
        ];
        for (argument, tensor) in tensors {
            expect_shape(op, argument, tensor, &[channels])?;
        }
        let count = checked_count(op, "x", x)?;
        let n = batch * height * width;
        if count == 0 {
            let rule = "x must hold at least one value per channel";
            return Err(Error::Setting { op, rule, found: format!("x of shape {x:?}") });
        }
        if !(*epsilon >= 0.0 && epsilon.is_finite() && (0.0..=1.0).contains(momentum)) {
            let rule = "epsilon must be at least 0 and momentum lie in [0, 1]";
            return Err(Error::Setting { op, rule, found: format!("{epsilon} and {momentum}") });
        }
        Ok(n)
    }

    /// Whether `n` values per channel are normalized by their own mean and variance.
    pub(crate) fn by_batch(n: usize, train: bool) -> bool {
        train && n > 1
    }

    /// Updates the running statistics with a batch's moments, of `n` values per channel.
    pub(crate) fn update_running_stats(&self, moments: &[Moments], n: usize) -> Result<()> {
        let device = self.weight.device();
        let means = Tensor::from_iter(moments.iter().map(|moments| moments.mean), device)?;
        let correction = self.running_variance.correction(n);
        let variance = |moments: &Moments| (f64::from(moments.var) * correction) as f32;
        let variances = Tensor::from_iter(moments.iter().map(variance), device)?;
        self.update_running(&means, &variances)
    }

    /// running ← (1 − momentum)·running + momentum·batch, in place, for mean and variance.
    pub(crate) fn update_running(&self, mean: &Tensor, var: &Tensor) -> Result<()> {
        for (running, batch) in [(&self.running_mean, mean), (&self.running_var, var)] {
            let updated = ((running.detach() * (1.0 - self.momentum))? + (batch * self.momentum)?)?;
            running.flatten_all()?.slice_set(&updated.flatten_all()?, 0, 0)?;
        }
        Ok(())
    }
}

impl RunningVariance {
    /// The factor from the biased variance of `n` values to this one.
    pub(crate) fn correction(self, n: usize) -> f64 {
        match self {
            Self::Unbiased => n as f64 / (n - 1) as f64,
            Self::Biased => 1.0,
        }
    }
}

impl ModuleT for BatchNorm {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        batch_norm(xs, self, Activation::Identity, train)
    }
}
