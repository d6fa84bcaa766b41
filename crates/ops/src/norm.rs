use candle_core::{Result, Tensor};

use crate::config::{Activation, Conv2dConfig};
use crate::portable;

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
    portable::batch_norm(x, norm, activation, train)
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
    let y = crate::conv2d(x, weight, None, config, Activation::Identity)?;
    portable::batch_norm(&y, norm, activation, train)
}
