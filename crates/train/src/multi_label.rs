//! The probabilities of several labels per example.

use serde::{Deserialize, Serialize};

use crate::Outputs;
use crate::metric::{average_precision, best_f1_threshold};

/// The probability of each label for some examples, in the order of the batches.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiLabelPredictions {
    /// The sigmoid of the logits (N, K), row by row.
    pub probabilities: Vec<f32>,
    /// Whether each example has each label, (N, K).
    pub labels: Vec<bool>,
    /// K, at least 1.
    pub n_labels: usize,
}

/// How one label was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCounts {
    /// Examples that have it.
    pub n: usize,
    /// Examples that are said to have it.
    pub predicted: usize,
    /// Examples that have it and are said to.
    pub right: usize,
}

impl LabelCounts {
    /// The share of the examples said to have it that do; `None` without any.
    pub fn precision(&self) -> Option<f64> {
        (self.predicted > 0).then(|| self.right as f64 / self.predicted as f64)
    }

    /// The share of the examples that have it that are said to; `None` without any.
    pub fn recall(&self) -> Option<f64> {
        (self.n > 0).then(|| self.right as f64 / self.n as f64)
    }

    /// The harmonic mean of precision and recall; `None` where it neither occurs nor is predicted.
    pub fn f1(&self) -> Option<f64> {
        let sum = self.n + self.predicted;
        (sum > 0).then(|| 2.0 * self.right as f64 / sum as f64)
    }

    /// The counts of other examples or of another label, too.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            n: self.n + other.n,
            predicted: self.predicted + other.predicted,
            right: self.right + other.right,
        }
    }

    /// F1 over all decisions about some labels: see [`MultiLabelPredictions::micro_f1`].
    pub fn micro_f1(labels: &[Self]) -> f64 {
        labels.iter().fold(Self::default(), |sum, label| sum.plus(label)).f1().unwrap_or(f64::NAN)
    }

    /// The mean F1 of some labels: see [`MultiLabelPredictions::macro_f1`].
    pub fn macro_f1(labels: &[Self]) -> f64 {
        let found: Vec<f64> = labels.iter().filter_map(Self::f1).collect();
        found.iter().sum::<f64>() / found.len() as f64
    }
}

impl MultiLabelPredictions {
    /// The sigmoid of each output, with labels of 0 and 1 for each output.
    pub fn new(outputs: &Outputs) -> Self {
        let sigmoid = |z: &f32| 1.0 / (1.0 + (-z).exp());
        Self {
            probabilities: outputs.values.iter().map(sigmoid).collect(),
            labels: outputs.labels.iter().map(|share| *share > 0.5).collect(),
            n_labels: outputs.n_outputs,
        }
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.probabilities.len() / self.n_labels
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.probabilities.is_empty()
    }

    /// The probabilities of example `i`, (K,).
    pub fn row(&self, i: usize) -> &[f32] {
        &self.probabilities[i * self.n_labels..(i + 1) * self.n_labels]
    }

    /// The labels of example `i`, (K,).
    pub fn labels(&self, i: usize) -> &[bool] {
        &self.labels[i * self.n_labels..(i + 1) * self.n_labels]
    }

    /// The probabilities and the presence of label `k` in all examples.
    fn column(&self, k: usize) -> (Vec<f32>, Vec<bool>) {
        let rows =
            self.probabilities.chunks_exact(self.n_labels).zip(self.labels.chunks_exact(self.n_labels));
        rows.map(|(p, labels)| (p[k], labels[k])).unzip()
    }

    /// [`average_precision`] of each label, (K,).
    pub fn average_precisions(&self) -> Vec<Option<f64>> {
        let label = |k| {
            let (scores, labels) = self.column(k);
            average_precision(&scores, &labels)
        };
        (0..self.n_labels).map(label).collect()
    }

    /// The threshold of each label at which its F1 is highest, (K,): see [`best_f1_threshold`]. A half for labels that do
    /// not occur.
    pub fn best_thresholds(&self) -> Vec<f32> {
        let label = |k| {
            let (scores, labels) = self.column(k);
            best_f1_threshold(&scores, &labels).unwrap_or(0.5)
        };
        (0..self.n_labels).map(label).collect()
    }

    /// The counts of each label, where a probability of at least the label's threshold says that an example has it.
    ///
    /// # Panics
    ///
    /// If there is not one threshold for each label.
    pub fn counts(&self, thresholds: &[f32]) -> Vec<LabelCounts> {
        assert_eq!(thresholds.len(), self.n_labels, "thresholds");
        let mut counts = vec![LabelCounts { n: 0, predicted: 0, right: 0 }; self.n_labels];
        for i in 0..self.len() {
            let row = self.row(i).iter().zip(thresholds).zip(self.labels(i));
            for (counts, ((p, threshold), &has)) in counts.iter_mut().zip(row) {
                let said = p >= threshold;
                counts.n += usize::from(has);
                counts.predicted += usize::from(said);
                counts.right += usize::from(has && said);
            }
        }
        counts
    }

    /// F1 over all decisions together: scikit-learn's `f1_score(average="micro")`. NaN where no label occurs or is
    /// predicted.
    pub fn micro_f1(&self, thresholds: &[f32]) -> f64 {
        LabelCounts::micro_f1(&self.counts(thresholds))
    }

    /// F1 averaged over the labels that occur or are predicted: scikit-learn's `f1_score(average="macro")`, which counts
    /// the others as 0.
    pub fn macro_f1(&self, thresholds: &[f32]) -> f64 {
        LabelCounts::macro_f1(&self.counts(thresholds))
    }

    /// The share of examples of which every label is right: scikit-learn's `accuracy_score` of several labels.
    pub fn exact_match(&self, thresholds: &[f32]) -> f64 {
        let right = |&i: &usize| {
            self.row(i)
                .iter()
                .zip(thresholds)
                .zip(self.labels(i))
                .all(|((p, threshold), &has)| (p >= threshold) == has)
        };
        (0..self.len()).filter(right).count() as f64 / self.len() as f64
    }
}
