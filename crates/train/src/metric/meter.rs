//! Loss and metrics over an epoch.

use candle_core::{D, DType, Tensor};

use super::{Accumulator, BatchOutputs, Metric, Metrics};
use crate::{Error, Result};

/// Accumulates loss and metrics batch by batch.
pub(crate) struct Meter {
    metrics: Vec<(String, Box<dyn Accumulator>)>,
    loss_sum: f64,
    weight: f64,
    n: usize,
}

impl Meter {
    pub(crate) fn new(metrics: &[&dyn Metric]) -> Self {
        let metrics = metrics.iter().map(|metric| (metric.name(), metric.accumulator())).collect();
        Self { metrics, loss_sum: 0.0, weight: 0.0, n: 0 }
    }

    /// Adds a batch of a mean loss and its [weight](crate::Loss::weight).
    pub(crate) fn add(
        &mut self,
        (loss, weight): (f64, f64),
        outputs: &Tensor,
        labels: &Tensor,
    ) -> Result<()> {
        let (n, n_outputs) = outputs.dims2()?;
        self.loss_sum += loss * weight;
        self.weight += weight;
        self.n += n;
        if !self.metrics.is_empty() {
            let outputs = outputs.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            let (labels, shares) = match labels.rank() {
                2 => {
                    let shares = labels.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
                    (labels.argmax(D::Minus1)?, shares)
                }
                _ => (labels.clone(), Vec::new()),
            };
            let labels = labels.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            let batch = BatchOutputs { outputs: &outputs, n_outputs, labels: &labels, shares: &shares };
            self.metrics.iter_mut().for_each(|(_, accumulator)| accumulator.add(&batch));
        }
        Ok(())
    }

    /// # Errors
    ///
    /// [`Error::Empty`], saying of which data, without examples.
    pub(crate) fn finish(self, data: &'static str) -> Result<Metrics> {
        if self.n == 0 {
            return Err(Error::Empty(data));
        }
        let values = self.metrics.iter().map(|(name, state)| (name.clone(), state.value())).collect();
        Ok(Metrics { loss: self.loss_sum / self.weight, values, n: self.n })
    }
}
