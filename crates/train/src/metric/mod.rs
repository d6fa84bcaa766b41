//! Metrics, accumulated batch by batch.

mod average_precision;
mod classification;
mod confusion;
mod meter;
mod regression;
mod roc_auc;

use std::fmt::Debug;
use std::sync::Arc;

pub use self::average_precision::{MeanAveragePrecision, average_precision, best_f1_threshold};
pub use self::classification::{Accuracy, BinaryAccuracy, TopK};
pub use self::confusion::{BalancedAccuracy, MacroF1, MacroPrecision, MacroRecall};
pub(crate) use self::confusion::{Counts, mean};
pub(crate) use self::meter::Meter;
pub use self::regression::R2;
pub use self::roc_auc::RocAuc;

/// A figure that is reported next to the loss.
///
/// ```
/// use firstsight_train::{Accumulator, BatchOutputs, Metric};
///
/// /// The share of examples of class 0 among the predictions.
/// #[derive(Debug)]
/// struct ShareOfFirst;
///
/// #[derive(Default)]
/// struct Counts {
///     first: usize,
///     n: usize,
/// }
///
/// impl Metric for ShareOfFirst {
///     fn name(&self) -> String {
///         "share_of_first".to_owned()
///     }
///     fn accumulator(&self) -> Box<dyn Accumulator> {
///         Box::new(Counts::default())
///     }
/// }
///
/// impl Accumulator for Counts {
///     fn add(&mut self, batch: &BatchOutputs<'_>) {
///         for (row, _label) in batch.rows() {
///             self.first += usize::from(row.iter().all(|z| *z <= row[0]));
///             self.n += 1;
///         }
///     }
///     fn value(&self) -> f64 {
///         self.first as f64 / self.n as f64
///     }
/// }
/// ```
pub trait Metric: Debug + Send + Sync {
    /// The column name in histories, such as `accuracy`; the metric's identity.
    fn name(&self) -> String;

    /// Whether higher values are better.
    fn maximize(&self) -> bool {
        true
    }

    /// An accumulator that has seen no examples.
    fn accumulator(&self) -> Box<dyn Accumulator>;
}

impl<M: Metric + ?Sized> Metric for Arc<M> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn maximize(&self) -> bool {
        (**self).maximize()
    }

    fn accumulator(&self) -> Box<dyn Accumulator> {
        (**self).accumulator()
    }
}

/// The state of a metric over the batches of an epoch.
pub trait Accumulator {
    /// Takes a batch into account.
    fn add(&mut self, batch: &BatchOutputs<'_>);

    /// The metric's value over all batches so far; NaN where it is undefined.
    fn value(&self) -> f64;
}

/// A batch of outputs with their labels, in host memory.
#[derive(Debug, Clone, Copy)]
pub struct BatchOutputs<'a> {
    /// The network's outputs (B, K), row by row.
    pub outputs: &'a [f32],
    /// K, at least 1.
    pub n_outputs: usize,
    /// One label per example, (B,). For labels (B, K), the class with the largest share.
    pub labels: &'a [f32],
    /// Labels (B, K), row by row: shares of classes, or several labels per example. Empty for labels (B,).
    pub shares: &'a [f32],
}

impl<'a> BatchOutputs<'a> {
    /// Each example's outputs with its label.
    pub fn rows(&self) -> impl Iterator<Item = (&'a [f32], f32)> + use<'a> {
        self.outputs.chunks_exact(self.n_outputs).zip(self.labels.iter().copied())
    }
}

/// The index of the largest value, the first of equal ones; 0 where the first is NaN.
pub(crate) fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().fold(0, |best, (i, z)| if *z > row[best] { i } else { best })
}

/// The mean loss and the metrics over some examples.
///
/// JSON has no NaN: what is not a number stands there as `null`, and is read as NaN.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(from = "StoredMetrics")]
pub struct Metrics {
    /// Mean loss per example.
    pub loss: f64,
    /// Name and value of each metric, in the order in which they were asked for. A value is NaN where the examples have none, as
    /// R² of a single one.
    pub values: Vec<(String, f64)>,
    /// Number of examples.
    pub n: usize,
}

#[derive(serde::Deserialize)]
struct StoredMetrics {
    loss: Option<f64>,
    values: Vec<(String, Option<f64>)>,
    n: usize,
}

impl From<StoredMetrics> for Metrics {
    fn from(StoredMetrics { loss, values, n }: StoredMetrics) -> Self {
        let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let values = values.into_iter().map(|(name, value)| (name, number(value))).collect();
        Self { loss: number(loss), values, n }
    }
}

impl Metrics {
    /// The value of `metric`, if it was asked for.
    pub fn get(&self, metric: &dyn Metric) -> Option<f64> {
        let name = metric.name();
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}
