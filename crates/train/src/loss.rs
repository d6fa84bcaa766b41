use candle_core::{DType, Result, Tensor};

/// What training minimises: the mean over the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// −log softmax(z)_y for logits z (B, K) and labels y (B,) u32 (Keras's
    /// `SparseCategoricalCrossentropy(from_logits=True)`, PyTorch's `cross_entropy`). For labels y (B, K) f32, the
    /// shares of the classes in mixed examples and smoothed labels, −Σ y·log softmax(z) (Keras's
    /// `CategoricalCrossentropy(from_logits=True)`).
    SparseCategoricalCrossEntropy,
    /// max(z, 0) − z·y + log(1 + e^−|z|) for logits z (B, 1) and labels y (B,) of 0 and 1 (Keras's
    /// `BinaryCrossentropy(from_logits=True)`, PyTorch's `binary_cross_entropy_with_logits`).
    BinaryCrossEntropy,
    /// r − y·log(r + 1e-7) for positive rates r (B, 1) and counts or amounts y (B,) (Keras's `Poisson`).
    Poisson,
}

impl Loss {
    /// The scalar loss of `outputs` for `labels`.
    ///
    /// # Errors
    /// Shapes that don't fit.
    pub fn compute(self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        match self {
            Self::SparseCategoricalCrossEntropy => match labels.rank() {
                2 => firstsight_ops::soft_cross_entropy(outputs, labels),
                _ => firstsight_ops::softmax_cross_entropy(outputs, labels),
            },
            Self::BinaryCrossEntropy => {
                let (z, y) = flat(outputs, labels)?;
                let softplus = (z.abs()?.neg()?.exp()? + 1.0)?.log()?;
                ((z.relu()? - (&z * y)?)? + softplus)?.mean_all()
            }
            Self::Poisson => {
                let (rate, y) = flat(outputs, labels)?;
                let log_rate = (&rate + 1e-7)?.log()?;
                (&rate - (y * log_rate)?)?.mean_all()
            }
        }
    }
}

/// Outputs (B, 1) as (B,), and labels as the same type.
fn flat(outputs: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
    let (_, n_out) = outputs.dims2()?;
    if n_out != 1 {
        candle_core::bail!("expected one output an example, (B, 1), found {:?}", outputs.dims());
    }
    let outputs = outputs.squeeze(1)?;
    let labels = labels.to_dtype(match outputs.dtype() {
        DType::F64 => DType::F64,
        _ => DType::F32,
    })?;
    Ok((outputs, labels))
}
