use candle_core::{D, DType, Tensor};

use crate::{Error, Result};

/// What is reported beside the loss, in [0, 1]. Of labels that are shares of classes the largest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Metric {
    /// The share of examples whose largest logit is their label's. Of equal logits the first counts.
    Accuracy,
    /// The share of examples with fewer than `k` logits larger than their label's (as Keras's
    /// `SparseTopKCategoricalAccuracy`; ties count for the label).
    TopK(usize),
    /// The share of examples whose one logit is above 0 exactly where the label is 1.
    BinaryAccuracy,
}

impl Metric {
    /// The column name: `accuracy`, `top5_accuracy`, `binary_accuracy`.
    pub fn name(self) -> String {
        match self {
            Self::Accuracy => "accuracy".to_owned(),
            Self::TopK(k) => format!("top{k}_accuracy"),
            Self::BinaryAccuracy => "binary_accuracy".to_owned(),
        }
    }

    /// How many of the examples count as right.
    fn hits(self, outputs: &[f32], n_out: usize, labels: &[f32]) -> usize {
        let right = |(row, &label): (&[f32], &f32)| match self {
            Self::Accuracy => argmax(row) == label as usize,
            Self::TopK(k) => row
                .get(label as usize)
                .is_some_and(|own| row.iter().filter(|&z| z > own).count() < k && own.is_finite()),
            Self::BinaryAccuracy => (row[0] > 0.0) == (label > 0.5),
        };
        outputs.chunks_exact(n_out).zip(labels).filter(|pair| right(*pair)).count()
    }
}

/// The place of the largest value, the first of equals; 0 where the first is NaN.
pub(crate) fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().fold(0, |best, (i, z)| if *z > row[best] { i } else { best })
}

/// The mean loss and metrics over some examples.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Metrics {
    /// The mean loss per example.
    pub loss: f64,
    /// Each metric with its value.
    pub values: Vec<(Metric, f64)>,
    /// The number of examples.
    pub n: usize,
}

impl Metrics {
    /// The value of `metric`, if it was asked for.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.values.iter().find(|(m, _)| *m == metric).map(|(_, value)| *value)
    }
}

/// Sums up loss and metrics batch by batch.
pub(crate) struct Meter {
    metrics: Vec<Metric>,
    hits: Vec<usize>,
    loss_sum: f64,
    n: usize,
}

impl Meter {
    pub(crate) fn new(metrics: &[Metric]) -> Self {
        Self { metrics: metrics.to_vec(), hits: vec![0; metrics.len()], loss_sum: 0.0, n: 0 }
    }

    /// Adds a batch; returns its loss.
    pub(crate) fn add(&mut self, loss: &Tensor, outputs: &Tensor, labels: &Tensor) -> Result<f64> {
        let loss = f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        let (n, n_out) = outputs.dims2()?;
        self.loss_sum += loss * n as f64;
        self.n += n;
        if !self.metrics.is_empty() {
            let outputs = outputs.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            let labels = match labels.rank() {
                2 => labels.argmax(D::Minus1)?,
                _ => labels.clone(),
            };
            let labels = labels.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            for (metric, hits) in self.metrics.iter().zip(&mut self.hits) {
                *hits += metric.hits(&outputs, n_out, &labels);
            }
        }
        Ok(loss)
    }

    pub(crate) fn finish(self, of: &'static str) -> Result<Metrics> {
        if self.n == 0 {
            return Err(Error::Empty(of));
        }
        let n = self.n as f64;
        let values = self.metrics.into_iter().zip(self.hits).map(|(m, hits)| (m, hits as f64 / n)).collect();
        Ok(Metrics { loss: self.loss_sum / n, values, n: self.n })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_and_nan_are_decided_as_documented() {
        let outputs = [1.0, 1.0, 0.0, f32::NAN, f32::NAN, f32::NAN];
        assert_eq!(Metric::Accuracy.hits(&outputs, 3, &[0.0, 0.0]), 2);
        assert_eq!(Metric::Accuracy.hits(&outputs, 3, &[1.0, 1.0]), 0);
        assert_eq!(
            Metric::TopK(1).hits(&outputs, 3, &[1.0, 1.0]),
            1,
            "a tie counts for the label, NaN for none"
        );
        assert_eq!(Metric::TopK(2).hits(&[3.0, 2.0, 1.0], 3, &[2.0]), 0);
        assert_eq!(Metric::TopK(3).hits(&[3.0, 2.0, 1.0], 3, &[2.0]), 1);
        assert_eq!(Metric::BinaryAccuracy.hits(&[0.0, 0.1, -0.1], 1, &[0.0, 1.0, 1.0]), 2);
    }
}
