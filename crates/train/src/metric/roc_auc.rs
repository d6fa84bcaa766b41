//! Area under the ROC curve.

use super::{Accumulator, BatchOutputs, Metric};

/// Area under the receiver operating characteristic: scikit-learn's `roc_auc_score`.
///
/// For one logit, the probability that an example of class 1 has a larger one than an example of class 0, ties counting
/// half. For more, the mean of these areas for each class's softmax against the rest (`multi_class="ovr"`,
/// `average="macro"`), over the classes with labels; NaN unless labels of at least two classes occur. The outputs of a
/// whole epoch are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RocAuc;

impl Metric for RocAuc {
    fn name(&self) -> String {
        "roc_auc".to_owned()
    }

    fn accumulator(&self) -> Box<dyn Accumulator> {
        Box::new(Scores::default())
    }
}

#[derive(Default)]
struct Scores {
    /// The scores of each class; those of class 1 alone for one logit.
    by_class: Vec<Vec<f64>>,
    labels: Vec<usize>,
}

impl Accumulator for Scores {
    fn add(&mut self, batch: &BatchOutputs<'_>) {
        self.by_class.resize(batch.n_outputs, Vec::new());
        for (row, label) in batch.rows() {
            self.labels.push(label as usize);
            match row {
                [logit] => self.by_class[0].push(f64::from(*logit)),
                _ => softmax(row).zip(&mut self.by_class).for_each(|(p, scores)| scores.push(p)),
            }
        }
    }

    fn value(&self) -> f64 {
        if let [scores] = self.by_class.as_slice() {
            return area(scores, &self.labels, 1);
        }
        let present = |class: &usize| self.labels.contains(class);
        let areas: Vec<f64> = (0..self.by_class.len())
            .filter(present)
            .map(|class| area(&self.by_class[class], &self.labels, class))
            .collect();
        areas.iter().sum::<f64>() / areas.len() as f64
    }
}

fn softmax(row: &[f32]) -> impl Iterator<Item = f64> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = move |z: &f32| (f64::from(*z) - f64::from(largest)).exp();
    let sum: f64 = row.iter().map(exp).sum();
    row.iter().map(move |z| exp(z) / sum)
}

/// The area for `class` against the rest, from the ranks of its scores, equal ones sharing their mean rank
/// (Mann and Whitney 1947). NaN without examples of either side.
fn area(scores: &[f64], labels: &[usize], class: usize) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut rank_sum, mut below) = (0.0, 0);
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let positive = tied.iter().filter(|&&i| labels[i] == class).count();
        rank_sum += positive as f64 * (below as f64 + (tied.len() + 1) as f64 / 2.0);
        below += tied.len();
    }
    let positive = labels.iter().filter(|&&label| label == class).count() as f64;
    let negative = labels.len() as f64 - positive;
    (rank_sum - positive * (positive + 1.0) / 2.0) / (positive * negative)
}
