//! Average precision.

use super::{Accumulator, BatchOutputs, Metric};

/// Average precision of the scores of one label, Σ (R_n − R_{n−1})·P_n over the distinct scores from the highest down:
/// scikit-learn's `average_precision_score`. `None` where no example has the label.
///
/// ```
/// use firstsight_train::average_precision;
///
/// let found = average_precision(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]);
/// assert!((found.unwrap() - 5.0 / 6.0).abs() < 1e-12);
/// ```
pub fn average_precision(scores: &[f32], labels: &[bool]) -> Option<f64> {
    let mut sum = 0.0;
    let mut before = 0;
    let n = labels.iter().filter(|label| **label).count();
    for cut in cuts(scores, labels) {
        sum += (cut.right - before) as f64 * cut.right as f64 / cut.found as f64;
        before = cut.right;
    }
    (n > 0).then(|| sum / n as f64)
}

/// The threshold of one label at which F1 is highest, for scores that count as the label if they are at least as high. It
/// lies in the middle between the lowest score that counts and the next one. Of equally good ones it is the highest.
/// `None` where no example has the label.
pub fn best_f1_threshold(scores: &[f32], labels: &[bool]) -> Option<f32> {
    let n = labels.iter().filter(|label| **label).count();
    let cuts = cuts(scores, labels);
    let f1 = |cut: &Cut| 2.0 * cut.right as f64 / (cut.found + n) as f64;
    let mut best: Option<usize> = None;
    for (i, cut) in cuts.iter().enumerate() {
        if best.is_none_or(|best| f1(cut) > f1(&cuts[best])) {
            best = Some(i);
        }
    }
    let best = best.filter(|_| n > 0)?;
    let next = cuts.get(best + 1).map_or(0.0, |next| next.score);
    let (score, middle) = (cuts[best].score, cuts[best].score.midpoint(next));
    // Between neighboring floats there is none.
    Some(if middle > next { middle } else { score })
}

/// The examples from the highest score down to a score.
struct Cut {
    score: f32,
    /// Their number.
    found: usize,
    /// The number of those with the label.
    right: usize,
}

/// A cut at each distinct score, from the highest down.
fn cuts(scores: &[f32], labels: &[bool]) -> Vec<Cut> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let (mut found, mut right) = (0, 0);
    let cut = |tied: &[usize]| {
        found += tied.len();
        right += tied.iter().filter(|&&i| labels[i]).count();
        Cut { score: scores[tied[0]], found, right }
    };
    order.chunk_by(|&a, &b| scores[a] == scores[b]).map(cut).collect()
}

/// [`average_precision`] of each label, averaged over the labels that occur: scikit-learn's
/// `average_precision_score(average="macro")`, which counts labels that don't occur as 0.
///
/// For logits (B, K) and labels (B, K) of 0 and 1. Of labels that were smoothed or mixed, those above a half count. The
/// outputs of a whole epoch are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeanAveragePrecision;

impl Metric for MeanAveragePrecision {
    fn name(&self) -> String {
        "mean_average_precision".to_owned()
    }

    fn accumulator(&self) -> Box<dyn Accumulator> {
        Box::new(ByLabel::default())
    }
}

/// The scores and labels of each label.
#[derive(Default)]
struct ByLabel(Vec<(Vec<f32>, Vec<bool>)>);

impl Accumulator for ByLabel {
    fn add(&mut self, batch: &BatchOutputs<'_>) {
        let k = batch.n_outputs;
        self.0.resize(k, Default::default());
        for (row, shares) in batch.outputs.chunks_exact(k).zip(batch.shares.chunks_exact(k)) {
            for ((scores, labels), (score, share)) in self.0.iter_mut().zip(row.iter().zip(shares)) {
                scores.push(*score);
                labels.push(*share > 0.5);
            }
        }
    }

    fn value(&self) -> f64 {
        let found: Vec<f64> =
            self.0.iter().filter_map(|(scores, labels)| average_precision(scores, labels)).collect();
        found.iter().sum::<f64>() / found.len() as f64
    }
}
