//! Losses on logits.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::autograd::{apply1, route_values};
use crate::shape::{check_labels, check_targets};
use crate::{cpu, elsewhere};

/// Mean over the batch of −log softmax(`logits`)\[label\], a scalar. `logits` (B, K), `labels` (B,) u32.
///
/// This is Keras's sparse categorical cross-entropy from logits, and PyTorch's `cross_entropy`.
///
/// # Errors
///
/// Shapes that do not fit, labels that are not u32, or (on the CPU) a label that is not a class.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 0.], [0., 0.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 1], &Device::Cpu)?;
/// let loss = firstsight_ops::softmax_cross_entropy(&logits, &labels)?.to_scalar::<f32>()?;
/// assert!((loss - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn softmax_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    if !cpu::has_kernels(&[logits]) || !labels.device().is_cpu() {
        return elsewhere::softmax_cross_entropy(logits, labels);
    }
    let n_classes = check_labels(logits, labels)?;
    apply1(&logits.contiguous()?, CrossEntropy { labels: labels.to_vec1()?, n_classes })
}

/// Mean over the batch of −Σ target·log softmax(`logits`), a scalar. `logits` and `targets` (B, K) have one dtype.
///
/// This is Keras's categorical cross-entropy from logits, and PyTorch's `cross_entropy` with probabilities, for
/// mixed examples and smoothed labels. No gradient flows to `targets`.
///
/// # Errors
///
/// Shapes or dtypes that differ.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 0.], [0., 0.]], &Device::Cpu)?;
/// let targets = Tensor::new(&[[0.9f32, 0.1], [0.5, 0.5]], &Device::Cpu)?;
/// let loss = firstsight_ops::soft_cross_entropy(&logits, &targets)?.to_scalar::<f32>()?;
/// assert!((loss - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn soft_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    if !cpu::has_kernels(&[logits, targets]) {
        return elsewhere::soft_cross_entropy(logits, targets);
    }
    let n_classes = check_targets(logits, targets)?;
    let targets = targets.flatten_all()?.to_vec1()?;
    apply1(&logits.contiguous()?, SoftCrossEntropy { targets, n_classes })
}

struct CrossEntropy {
    labels: Vec<u32>,
    n_classes: usize,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let rows = cpu::slice(logits, layout)?.chunks_exact(self.n_classes);
        let loss: f64 = rows
            .zip(&self.labels)
            .map(|(row, &label)| {
                let max = max(row);
                let sum: f32 = row.iter().map(|&logit| (logit - max).exp()).sum();
                f64::from(sum.ln() - (row[label as usize] - max))
            })
            .sum();
        let mean = loss / self.labels.len() as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let scale = grad.to_scalar::<f32>()? / self.labels.len() as f32;
        let mut result = cpu::data(logits).slice()?.to_vec();
        for (row, &label) in result.chunks_exact_mut(self.n_classes).zip(&self.labels) {
            let max = max(row);
            row.iter_mut().for_each(|value| *value = (*value - max).exp());
            let factor = scale / row.iter().sum::<f32>();
            row.iter_mut().for_each(|value| *value *= factor);
            row[label as usize] -= scale;
        }
        route_values(logits, result)
    }
}

struct SoftCrossEntropy {
    targets: Vec<f32>,
    n_classes: usize,
}

impl CustomOp1 for SoftCrossEntropy {
    fn name(&self) -> &'static str {
        "soft_cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let rows = cpu::slice(logits, layout)?.chunks_exact(self.n_classes);
        let n = rows.len();
        let loss: f64 = rows
            .zip(self.targets.chunks_exact(self.n_classes))
            .map(|(row, targets)| {
                let max = max(row);
                let log_sum = row.iter().map(|&logit| (logit - max).exp()).sum::<f32>().ln();
                let terms =
                    row.iter().zip(targets).map(|(&logit, &target)| target * (log_sum - (logit - max)));
                f64::from(terms.sum::<f32>())
            })
            .sum();
        Ok((CpuStorage::F32(vec![(loss / n as f64) as f32]), Shape::from(())))
    }

    /// The gradient of the logits is (softmax·Σ target − target) / B.
    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut result = cpu::data(logits).slice()?.to_vec();
        let scale = grad.to_scalar::<f32>()? / (result.len() / self.n_classes) as f32;
        let targets = self.targets.chunks_exact(self.n_classes);
        for (row, targets) in result.chunks_exact_mut(self.n_classes).zip(targets) {
            let max = max(row);
            row.iter_mut().for_each(|value| *value = (*value - max).exp());
            let factor = scale * targets.iter().sum::<f32>() / row.iter().sum::<f32>();
            row.iter_mut().zip(targets).for_each(|(value, target)| *value = *value * factor - scale * target);
        }
        route_values(logits, result)
    }
}

fn max(row: &[f32]) -> f32 {
    row.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}
