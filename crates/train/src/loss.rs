use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor};

/// A function to minimize: from a network's outputs and the labels of a batch to one number.
///
/// ```
/// use candle_core::{Device, Result, Tensor};
/// use firstsight_train::Loss;
///
/// /// log cosh(z − y), for one output per example.
/// #[derive(Debug)]
/// struct LogCosh;
///
/// impl Loss for LogCosh {
///     fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
///         let d = (outputs.squeeze(1)? - labels)?;
///         ((d.exp()? + d.neg()?.exp()?)? / 2.0)?.log()?.mean_all()
///     }
/// }
///
/// let outputs = Tensor::new(&[[1f32], [2.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// assert_eq!(LogCosh.compute(&outputs, &labels)?.to_scalar::<f32>()?, 0.0);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub trait Loss: Debug + Send + Sync {
    /// The loss of a batch, a scalar, as a mean over its examples.
    ///
    /// # Errors
    ///
    /// Shapes that do not fit the loss.
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor>;
}

impl<L: Loss + ?Sized> Loss for Arc<L> {
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        (**self).compute(outputs, labels)
    }
}

/// Softmax cross-entropy on logits, −log softmax(z)_y, for logits z (B, K) and classes y (B,) u32: PyTorch's
/// `cross_entropy`, Keras's `SparseCategoricalCrossentropy(from_logits=True)`.
///
/// For labels y (B, K) f32, the shares of the classes in mixed examples or smoothed labels, it is −Σ y·log softmax(z)
/// (Keras's `CategoricalCrossentropy(from_logits=True)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrossEntropy;

impl Loss for CrossEntropy {
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        match labels.rank() {
            2 => firstsight_ops::soft_cross_entropy(outputs, labels),
            _ => firstsight_ops::softmax_cross_entropy(outputs, labels),
        }
    }
}

/// Sigmoid cross-entropy on logits, max(z, 0) − z·y + log(1 + e^−|z|), for logits z (B, 1) and labels y (B,) of 0
/// and 1: PyTorch's `binary_cross_entropy_with_logits`, Keras's `BinaryCrossentropy(from_logits=True)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BinaryCrossEntropy;

impl Loss for BinaryCrossEntropy {
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (z, y) = paired(outputs, labels)?;
        let softplus = (z.abs()?.neg()?.exp()? + 1.0)?.log()?;
        ((z.relu()? - (&z * y)?)? + softplus)?.mean_all()
    }
}

/// Poisson loss r − y·log(r + 1e-7), for positive rates r (B, 1) and counts or amounts y (B,): Keras's `Poisson`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poisson;

impl Loss for Poisson {
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (rate, y) = paired(outputs, labels)?;
        let log_rate = (&rate + 1e-7)?.log()?;
        (&rate - (y * log_rate)?)?.mean_all()
    }
}

/// Outputs (B, 1) as (B,), and labels (B,) as the same type.
fn paired(outputs: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
    let (_, n_outputs) = outputs.dims2()?;
    if n_outputs != 1 {
        candle_core::bail!("expected one output per example, (B, 1), found {:?}", outputs.dims());
    }
    let outputs = outputs.squeeze(1)?;
    let labels = labels.to_dtype(match outputs.dtype() {
        DType::F64 => DType::F64,
        _ => DType::F32,
    })?;
    Ok((outputs, labels))
}
