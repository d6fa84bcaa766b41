//! Metrics of regression.

use super::{Accumulator, BatchOutputs, Metric};
use crate::{MeanAbsoluteError, MeanSquaredError};

impl Metric for MeanSquaredError {
    fn name(&self) -> String {
        "mean_squared_error".to_owned()
    }

    fn maximize(&self) -> bool {
        false
    }

    fn accumulator(&self) -> Box<dyn Accumulator> {
        Box::new(Residuals { value: |r| r.squared / r.n, ..Residuals::NONE })
    }
}

impl Metric for MeanAbsoluteError {
    fn name(&self) -> String {
        "mean_absolute_error".to_owned()
    }

    fn maximize(&self) -> bool {
        false
    }

    fn accumulator(&self) -> Box<dyn Accumulator> {
        Box::new(Residuals { value: |r| r.absolute / r.n, ..Residuals::NONE })
    }
}

/// The coefficient of determination, 1 − Σ(y − z)² / Σ(y − ȳ)², for outputs z (B, 1) and labels y (B,): scikit-learn's
/// `r2_score`.
///
/// Where all labels are equal it is 1 for exact outputs, else 0; NaN for fewer than two examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct R2;

impl Metric for R2 {
    fn name(&self) -> String {
        "r2".to_owned()
    }

    fn accumulator(&self) -> Box<dyn Accumulator> {
        Box::new(Residuals { value: r2, ..Residuals::NONE })
    }
}

fn r2(r: &Residuals) -> f64 {
    match (r.squared, r.spread) {
        _ if r.n < 2.0 => f64::NAN,
        (0.0, _) => 1.0,
        (_, 0.0) => 0.0,
        (squared, spread) => 1.0 - squared / spread,
    }
}

/// Sums over the errors and the labels.
struct Residuals {
    value: fn(&Self) -> f64,
    n: f64,
    absolute: f64,
    squared: f64,
    /// Mean of the labels.
    mean: f64,
    /// Sum of the labels' squared distances from their mean (Welford 1962).
    spread: f64,
}

impl Residuals {
    const NONE: Self =
        Self { value: |_| f64::NAN, n: 0.0, absolute: 0.0, squared: 0.0, mean: 0.0, spread: 0.0 };
}

impl Accumulator for Residuals {
    fn add(&mut self, batch: &BatchOutputs<'_>) {
        for (row, label) in batch.rows() {
            let label = f64::from(label);
            let error = f64::from(row[0]) - label;
            self.n += 1.0;
            self.absolute += error.abs();
            self.squared += error * error;
            let difference = label - self.mean;
            self.mean += difference / self.n;
            self.spread += difference * (label - self.mean);
        }
    }

    fn value(&self) -> f64 {
        (self.value)(self)
    }
}
