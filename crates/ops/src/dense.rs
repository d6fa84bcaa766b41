use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};

use crate::config::Activation;
use crate::cpu;
use crate::cpu::product::{Left, Pixels, Unfolded, multiply_over_pixels, product};
use crate::cpu::{dots, elementwise};
use crate::portable;
use crate::tape::hand_over_values;

/// A dense layer: `x` (B, in), `weight` (out, in), `bias` (out,) to f(x·weightᵀ + bias), (B, out).
///
/// # Errors
/// Shapes that do not fit each other.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use firstsight_ops::{Activation, linear};
///
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[3f32, 4.], [-1., 0.]], &Device::Cpu)?;
/// assert_eq!(linear(&x, &weight, None, Activation::Relu)?.to_vec2::<f32>()?, [[11., 0.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
    if !cpu::has_kernels(&[x, weight, bias.unwrap_or(x)]) {
        return portable::linear(x, weight, bias, activation);
    }
    portable::check_linear(x, weight, bias)?;
    activation.check("linear")?;
    let bias = cpu::bias(bias, weight.dim(0)?)?;
    let op = Linear { batch: x.dim(0)?, n_in: x.dim(1)?, n_out: weight.dim(0)?, activation };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, op)
}

/// f(x), value by value, with the gradients that [`Activation`] states.
///
/// ```
/// use candle_core::{Device, Var};
/// use firstsight_ops::{Activation, activate};
///
/// let x = Var::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = activate(&x, Activation::Relu)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0., 0., 2.]);
/// assert_eq!(y.sum_all()?.backward()?.get(&x).unwrap().to_vec1::<f32>()?, [0., 0., 1.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::Identity || !cpu::has_kernels(&[x]) {
        return portable::activate(x, activation);
    }
    activation.check("activate")?;
    x.contiguous()?.apply_op1(Activate(activation))
}

/// Inverted dropout: each value is 0 with probability `rate` in [0, 1), else multiplied by 1 / (1 − rate). Which
/// ones are dropped follows from `seed` and their places alone: the same on every device and for every dtype.
///
/// # Errors
/// A rate outside [0, 1).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::ones(1000, DType::F32, &Device::Cpu)?;
/// let y = firstsight_ops::dropout(&x, 0.5, 7)?.to_vec1::<f32>()?;
/// assert!(y.iter().all(|&v| v == 0. || v == 2.));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn dropout(x: &Tensor, rate: f64, seed: u64) -> Result<Tensor> {
    portable::dropout(x, rate, seed)
}

/// Mean over the batch of −log softmax(`logits`)\[label\]: `logits` (B, K), `labels` (B,) u32, to a scalar. Keras's
/// sparse categorical cross-entropy from logits, PyTorch's `cross_entropy`.
///
/// # Errors
/// Shapes that do not fit, labels that are not u32, or (on the CPU) a label that is no class.
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
        return portable::softmax_cross_entropy(logits, labels);
    }
    portable::check_labels(logits, labels)?;
    let n_classes = logits.dim(1)?;
    logits.contiguous()?.apply_op1(CrossEntropy { labels: labels.to_vec1()?, n_classes })
}

/// Mean over the batch of −Σ target·log softmax(`logits`): `logits` and `targets` (B, K) of one dtype, to a scalar.
/// Keras's categorical cross-entropy from logits, PyTorch's `cross_entropy` with probabilities. For mixed examples
/// and smoothed labels; no gradient flows to `targets`.
///
/// # Errors
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
        return portable::soft_cross_entropy(logits, targets);
    }
    portable::check_targets(logits, targets)?;
    let n_classes = logits.dim(1)?;
    let targets = targets.flatten_all()?.to_vec1()?;
    logits.contiguous()?.apply_op1(SoftCrossEntropy { targets, n_classes })
}

/// Where the rows of a matrix of `len` columns start.
fn rows(count: usize, len: usize) -> Vec<usize> {
    (0..count).map(|row| row * len).collect()
}

struct Linear {
    batch: usize,
    n_in: usize,
    n_out: usize,
    activation: Activation,
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let &Self { batch, n_in, n_out, activation } = self;
        let (x, weight) = (cpu::slice(x, x_layout)?, cpu::slice(weight, weight_layout)?);
        let bias = cpu::slice(bias, bias_layout)?;
        let mut y = if batch <= dots::FEW {
            dots::multiply_rows(x, weight, n_in)
        } else {
            let (x_rows, weight_rows) = (rows(batch, n_in), rows(n_out, n_in));
            let features = Pixels::flat(n_in, n_in);
            let x = Unfolded::new(x, &x_rows, features, 1);
            multiply_over_pixels(&x, &Unfolded::new(weight, &weight_rows, features, 1))
        };
        for row in y.chunks_exact_mut(n_out) {
            elementwise::add(row, bias);
        }
        elementwise::par_activate(&mut y, activation);
        Ok((CpuStorage::F32(y), Shape::from((batch, n_out))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let &Self { batch, n_in, n_out, activation } = self;
        let grad = grad.contiguous()?;
        let slopes =
            elementwise::par_activation_grad(cpu::data(&grad).slice()?, cpu::data(y).slice()?, activation);
        let features = Pixels::flat(n_in, n_in);
        // left · right, where right has rows of `n_in` values.
        let grad_of = |arg: &Tensor, left: Left, right: &[f32], right_rows: usize| {
            let right_rows = rows(right_rows, n_in);
            hand_over_values(arg, product(&left, &Unfolded::new(right, &right_rows, features, 1)))
        };
        let x_grad = if x.track_op() {
            let left = Left::of_rows(&slopes, (batch, n_out), None);
            grad_of(x, left, cpu::data(weight).slice()?, n_out)?
        } else {
            None
        };
        let weight_grad = if weight.track_op() {
            let left = Left::of_columns(&slopes, (n_out, batch));
            grad_of(weight, left, cpu::data(x).slice()?, batch)?
        } else {
            None
        };
        let bias_grad = if bias.track_op() {
            let mut sums = vec![0.0; n_out];
            slopes.chunks_exact(n_out).for_each(|row| elementwise::add(&mut sums, row));
            hand_over_values(bias, sums)?
        } else {
            None
        };
        Ok((x_grad, weight_grad, bias_grad))
    }
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = cpu::slice(x, layout)?.to_vec();
        elementwise::par_activate(&mut y, self.0);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let x_grad =
            elementwise::par_activation_grad(cpu::data(&grad).slice()?, cpu::data(y).slice()?, self.0);
        hand_over_values(x, x_grad)
    }
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
        hand_over_values(logits, result)
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

    /// (softmax·Σ target − target) / B
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
        hand_over_values(logits, result)
    }
}

fn max(row: &[f32]) -> f32 {
    row.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}
