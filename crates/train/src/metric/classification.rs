//! Shares of right predictions.

use super::{Accumulator, BatchOutputs, Metric, argmax};

/// The share of examples whose largest logit is their label's. Of equal logits the first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accuracy;

impl Metric for Accuracy {
    fn name(&self) -> String {
        "accuracy".to_owned()
    }

    fn accumulator(&self) -> Box<dyn Accumulator> {
        Box::new(Hits::new(|row, label| argmax(row) == label as usize))
    }
}

/// The share of examples with fewer than `k` logits larger than their label's: Keras's
/// `SparseTopKCategoricalAccuracy`, where ties count as hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopK(pub usize);

impl Metric for TopK {
    fn name(&self) -> String {
        format!("top{}_accuracy", self.0)
    }

    fn accumulator(&self) -> Box<dyn Accumulator> {
        let k = self.0;
        Box::new(Hits::new(move |row, label| {
            row.get(label as usize)
                .is_some_and(|own| row.iter().filter(|&z| z > own).count() < k && own.is_finite())
        }))
    }
}

/// The share of examples whose one logit is above 0 exactly where the label is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BinaryAccuracy;

impl Metric for BinaryAccuracy {
    fn name(&self) -> String {
        "binary_accuracy".to_owned()
    }

    fn accumulator(&self) -> Box<dyn Accumulator> {
        Box::new(Hits::new(|row, label| (row[0] > 0.0) == (label > 0.5)))
    }
}

/// Counts the examples that `is_hit` accepts.
struct Hits<F> {
    is_hit: F,
    hits: usize,
    n: usize,
}

impl<F: Fn(&[f32], f32) -> bool> Hits<F> {
    fn new(is_hit: F) -> Self {
        Self { is_hit, hits: 0, n: 0 }
    }
}

impl<F: Fn(&[f32], f32) -> bool> Accumulator for Hits<F> {
    fn add(&mut self, batch: &BatchOutputs<'_>) {
        self.hits += batch.rows().filter(|&(row, label)| (self.is_hit)(row, label)).count();
        self.n += batch.labels.len();
    }

    fn value(&self) -> f64 {
        self.hits as f64 / self.n as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metric: &dyn Metric, outputs: &[f32], n_outputs: usize, labels: &[f32]) -> f64 {
        let mut accumulator = metric.accumulator();
        accumulator.add(&BatchOutputs { outputs, n_outputs, labels, shares: &[] });
        accumulator.value()
    }

    #[test]
    fn ties_and_nan_are_decided_as_documented() {
        let outputs = [1.0, 1.0, 0.0, f32::NAN, f32::NAN, f32::NAN];
        assert_eq!(value(&Accuracy, &outputs, 3, &[0.0, 0.0]), 1.0);
        assert_eq!(value(&Accuracy, &outputs, 3, &[1.0, 1.0]), 0.0);
        assert_eq!(value(&TopK(1), &outputs, 3, &[1.0, 1.0]), 0.5, "a tie is a hit, NaN never");
        assert_eq!(value(&TopK(2), &[3.0, 2.0, 1.0], 3, &[2.0]), 0.0);
        assert_eq!(value(&TopK(3), &[3.0, 2.0, 1.0], 3, &[2.0]), 1.0);
        assert_eq!(value(&BinaryAccuracy, &[0.0, 0.1, -0.1], 1, &[0.0, 1.0, 1.0]), 2.0 / 3.0);
    }
}
