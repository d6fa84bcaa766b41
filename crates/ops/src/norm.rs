use candle_core::{Result, Tensor};

use crate::chain::{ConvChain, ConvNormAct, conv_chain};
use crate::config::{Activation, Conv2dConfig};
use crate::cpu::norm::Moments;
use crate::error::{Error, checked_count, expect_shape};
use crate::{cpu, portable};

/// A batch norm layer's tensors, each (C,), and its constants. The running statistics share their storage with
/// whoever made them: training changes them in place.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// Scale, γ.
    pub weight: Tensor,
    /// Shift, β.
    pub bias: Tensor,
    /// Mean that inference normalises by.
    pub running_mean: Tensor,
    /// Variance that inference normalises by.
    pub running_var: Tensor,
    /// Added to the variance before the root.
    pub epsilon: f64,
    /// How much of the running statistics a batch replaces: running ← (1 − momentum)·running + momentum·batch.
    /// PyTorch's convention (0.1 by default); Keras's and TensorFlow's momentum is 1 less this.
    pub momentum: f64,
    /// Which variance of the batch goes into the running one.
    pub running_variance: RunningVariance,
}

/// The estimate of variance that is kept for inference. Training always normalises by the biased one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunningVariance {
    /// Σ(x − mean)² / (n − 1): PyTorch's.
    Unbiased,
    /// Σ(x − mean)² / n: Keras 3's.
    Biased,
}

/// Batch normalisation (Ioffe and Szegedy 2015) over batch and pixels, then the activation: `x` (B, C, H, W) to
/// f(γ·(x − mean) / √(var + ε) + β).
///
/// With `train`, mean and (biased) variance are the batch's, gradients flow through them, and the running statistics
/// are moved towards them; without, they are the running ones, which stay as they are.
///
/// # Errors
/// Shapes that do not fit; in training, a batch of one value a channel, whose variance says nothing.
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
        return portable::batch_norm(x, norm, activation, train);
    }
    norm.check(x.dims(), train)?;
    // Behind a depthwise convolution that changes nothing, the chain's kernel does it.
    let groups = x.dim(1)?;
    let weight = Tensor::ones((groups, 1, 1, 1), x.dtype(), x.device())?;
    conv2d_batch_norm(x, &weight, norm, &Conv2dConfig { groups, ..Conv2dConfig::PLAIN }, activation, train)
}

/// A convolution without bias, [`batch_norm`] and the activation as one op, which is how most networks use them.
/// In inference the normalisation is folded into the convolution's weights.
///
/// # Errors
/// As for [`crate::conv2d`] and [`batch_norm`].
pub fn conv2d_batch_norm(
    x: &Tensor,
    weight: &Tensor,
    norm: &BatchNorm,
    config: &Conv2dConfig,
    activation: Activation,
    train: bool,
) -> Result<Tensor> {
    let layers = [ConvNormAct { weight, norm: Some(norm), config: *config, activation }];
    conv_chain(x, &ConvChain::of(&layers), train)
}

impl BatchNorm {
    /// Checks the arguments for an input of shape `x` and gives the number of values per channel.
    pub(crate) fn check(&self, x: &[usize], train: bool) -> crate::Result<usize> {
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
        if count == 0 || (train && n == 1) {
            let rule = "training needs more than one value per channel, inference at least one";
            return Err(Error::Setting { op, rule, found: format!("x of shape {x:?}") });
        }
        if !(*epsilon >= 0.0 && epsilon.is_finite() && (0.0..=1.0).contains(momentum)) {
            let rule = "epsilon must be at least 0 and momentum lie in [0, 1]";
            return Err(Error::Setting { op, rule, found: format!("{epsilon} and {momentum}") });
        }
        Ok(n)
    }

    /// Moves the running statistics towards a batch's, of `n` values per channel.
    pub(crate) fn move_running(&self, moments: &[Moments], n: usize) -> Result<()> {
        let correction = match self.running_variance {
            RunningVariance::Unbiased => n as f64 / (n - 1) as f64,
            RunningVariance::Biased => 1.0,
        };
        let batch = |f: &dyn Fn(&Moments) -> f64| {
            Tensor::from_iter(moments.iter().map(|moments| f(moments) as f32), self.weight.device())
        };
        portable::move_towards(&self.running_mean, &batch(&|m| f64::from(m.mean))?, self.momentum)?;
        portable::move_towards(&self.running_var, &batch(&|m| f64::from(m.var) * correction)?, self.momentum)
    }
}
