//! Losses.

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

    /// What that mean divides by, and so what a batch counts beside others: its number of examples, unless they have weights.
    ///
    /// # Errors
    ///
    /// Labels that do not fit the loss.
    fn weight(&self, labels: &Tensor) -> Result<f64> {
        Ok(labels.dim(0)? as f64)
    }
}

impl<L: Loss + ?Sized> Loss for Arc<L> {
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        (**self).compute(outputs, labels)
    }

    fn weight(&self, labels: &Tensor) -> Result<f64> {
        (**self).weight(labels)
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
/// and 1, or logits and labels (B, K) for K labels of which each is there or not; the mean over all logits: PyTorch's
/// `binary_cross_entropy_with_logits`, Keras's `BinaryCrossentropy(from_logits=True)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BinaryCrossEntropy;

impl Loss for BinaryCrossEntropy {
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (z, y) = match labels.rank() {
            2 => (outputs.clone(), labels.to_dtype(outputs.dtype())?),
            _ => paired(outputs, labels)?,
        };
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

/// Softmax cross-entropy with a weight per class, for labels as [`CrossEntropy`] takes them: PyTorch's
/// `cross_entropy(…, weight=weights)`.
///
/// For classes y it is the weighted mean −Σ w_y·log softmax(z)_y / Σ w_y; for shares of classes −Σ w·y·log softmax(z),
/// averaged over the examples. Unlike PyTorch's, it is 0 for a batch whose weights are all 0.
///
/// ```
/// use firstsight_train::WeightedCrossEntropy;
///
/// let loss = WeightedCrossEntropy::balanced(&[0, 0, 0, 1], 2);
/// assert_eq!(loss.weights, [4.0 / 6.0, 4.0 / 2.0]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedCrossEntropy {
    /// The weight of each class.
    pub weights: Vec<f64>,
}

impl WeightedCrossEntropy {
    /// A weight for each class.
    pub fn new(weights: Vec<f64>) -> Self {
        Self { weights }
    }

    /// Weights by which all classes count alike: n / (n_classes · count of the class), scikit-learn's
    /// `class_weight="balanced"`. A class without labels has weight 0.
    pub fn balanced(labels: &[u32], n_classes: usize) -> Self {
        let n = labels.len() as f64;
        let weight = |class: usize| match labels.iter().filter(|&&label| label as usize == class).count() {
            0 => 0.0,
            count => n / (n_classes * count) as f64,
        };
        Self { weights: (0..n_classes).map(weight).collect() }
    }
}

impl Loss for WeightedCrossEntropy {
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let weighted = class_shares(outputs, labels)?.broadcast_mul(&row(&self.weights, outputs)?)?;
        let sum = (weighted * log_softmax(outputs)?)?.sum_all()?.neg()?;
        let total = self.weight(labels)?;
        if total == 0.0 { Ok(sum) } else { sum / total }
    }

    fn weight(&self, labels: &Tensor) -> Result<f64> {
        if labels.rank() == 2 {
            return Ok(labels.dim(0)? as f64);
        }
        let labels = labels.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        Ok(labels.iter().filter_map(|&label| self.weights.get(label as usize)).sum())
    }
}

/// Focal loss −α_y·(1 − p)^γ·log p, where p is the probability of the label y (Lin et al. 2017, equations 4 and 5).
///
/// For logits (B, K), p is their softmax, and labels are as for [`CrossEntropy`]. For logits (B, 1) p is their sigmoid,
/// and labels are 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub struct FocalLoss {
    /// γ: 0 for cross-entropy, or at least 1. Below 1 the gradient is infinite at p = 1.
    pub gamma: f64,
    /// α of each class; of classes 0 and 1 for one logit. Without it all classes have weight 1.
    pub alpha: Option<Vec<f64>>,
}

impl FocalLoss {
    /// γ without class weights. The paper's γ is 2.
    pub fn new(gamma: f64) -> Self {
        Self { gamma, alpha: None }
    }

    /// Sets α, a weight for each class.
    pub fn alpha(mut self, alpha: Vec<f64>) -> Self {
        self.alpha = Some(alpha);
        self
    }
}

impl Loss for FocalLoss {
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        if self.gamma != 0.0 && self.gamma < 1.0 {
            candle_core::bail!("focal loss: expected γ of 0 or at least 1, found {}", self.gamma);
        }
        // One logit z is the two logits 0 and z.
        let (outputs, labels) = match outputs.dim(1)? {
            1 => (Tensor::cat(&[&outputs.zeros_like()?, outputs], 1)?, labels.to_dtype(DType::U32)?),
            _ => (outputs.clone(), labels.clone()),
        };
        let log_p = log_softmax(&outputs)?;
        let mut focused = (class_shares(&outputs, &labels)? * &log_p)?;
        if self.gamma > 0.0 {
            focused = (focused * log_p.exp()?.affine(-1.0, 1.0)?.powf(self.gamma)?)?;
        }
        if let Some(alpha) = &self.alpha {
            focused = focused.broadcast_mul(&row(alpha, &outputs)?)?;
        }
        focused.sum(1)?.mean_all()?.neg()
    }
}

/// Mean squared error, as a loss and as a metric, for outputs (B, 1) and labels (B,).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeanSquaredError;

impl Loss for MeanSquaredError {
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (outputs, labels) = paired(outputs, labels)?;
        (outputs - labels)?.sqr()?.mean_all()
    }
}

/// Mean absolute error, as a loss and as a metric, for outputs (B, 1) and labels (B,). The gradient of an error of 0 is 0,
/// as in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeanAbsoluteError;

impl Loss for MeanAbsoluteError {
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (outputs, labels) = paired(outputs, labels)?;
        let error = (outputs - labels)?;
        (error.relu()? + error.neg()?.relu()?)?.mean_all()
    }
}

/// log softmax over the classes of logits (B, K).
fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(1)?)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(1)?.log()?)
}

/// Labels as shares of classes (B, K), of the type of `logits`: 1 for the class of each label.
fn class_shares(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (n, k) = logits.dims2()?;
    if labels.rank() == 2 {
        return labels.to_dtype(logits.dtype());
    }
    let mut shares = vec![0f32; n * k];
    let labels = labels.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    for (row, &label) in shares.chunks_exact_mut(k).zip(&labels) {
        match row.get_mut(label as usize) {
            Some(share) => *share = 1.0,
            None => candle_core::bail!("expected labels from 0 to {}, found {label}", k - 1),
        }
    }
    Tensor::from_vec(shares, (labels.len(), k), logits.device())?.to_dtype(logits.dtype())
}

/// Class weights as a row (1, K) of the type of `logits`.
fn row(weights: &[f64], logits: &Tensor) -> Result<Tensor> {
    let k = logits.dim(1)?;
    if weights.len() != k {
        candle_core::bail!("expected a weight for each of {k} classes, found {}", weights.len());
    }
    Tensor::new(weights, logits.device())?.reshape((1, k))?.to_dtype(logits.dtype())
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
