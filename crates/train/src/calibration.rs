//! Calibration of probabilities, and figures of each class.

use crate::Predictions;

/// The predictions whose confidence lies in one interval. Confidence is the probability of the predicted class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfidenceBin {
    /// Lower end of the interval, excluded except for 0.
    pub from: f64,
    /// Upper end of the interval, included.
    pub to: f64,
    /// Number of predictions in the interval.
    pub n: usize,
    /// Mean confidence; `None` without predictions.
    pub confidence: Option<f64>,
    /// Share of right predictions; `None` without predictions.
    pub accuracy: Option<f64>,
}

/// The figures of one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassFigures {
    /// Number of examples of the class.
    pub n: usize,
    /// Share of right predictions among those of this class; `None` for a class that is never predicted.
    pub precision: Option<f64>,
    /// Share of the class's examples that are predicted as such; `None` for a class without examples.
    pub recall: Option<f64>,
}

impl Predictions {
    /// The reliability diagram: predictions by confidence in `bins` intervals of equal width (Guo et al. 2017,
    /// section 2).
    pub fn reliability(&self, bins: usize) -> Vec<ConfidenceBin> {
        let mut sums = vec![(0usize, 0.0, 0usize); bins];
        for (i, &label) in self.labels.iter().enumerate() {
            let (class, confidence) = self.top(i);
            let bin = ((f64::from(confidence) * bins as f64).ceil() as usize).clamp(1, bins) - 1;
            let (n, confidences, right) = &mut sums[bin];
            *n += 1;
            *confidences += f64::from(confidence);
            *right += usize::from(class == label);
        }
        let bin = |(i, (n, confidences, right)): (usize, (usize, f64, usize))| {
            let mean = |sum: f64| (n > 0).then(|| sum / n as f64);
            ConfidenceBin {
                from: i as f64 / bins as f64,
                to: (i + 1) as f64 / bins as f64,
                n,
                confidence: mean(confidences),
                accuracy: mean(right as f64),
            }
        };
        sums.into_iter().enumerate().map(bin).collect()
    }

    /// The expected calibration error: Σ n_b / n · |accuracy_b − confidence_b| over the intervals of
    /// [`Predictions::reliability`] (Guo et al. 2017, equation 3). 0 without predictions.
    pub fn expected_calibration_error(&self, bins: usize) -> f64 {
        let gap = |bin: ConfidenceBin| match (bin.accuracy, bin.confidence) {
            (Some(accuracy), Some(confidence)) => bin.n as f64 * (accuracy - confidence).abs(),
            _ => 0.0,
        };
        self.reliability(bins).into_iter().map(gap).sum::<f64>() / (self.len().max(1)) as f64
    }

    /// Precision and recall of each class.
    pub fn per_class(&self) -> Vec<ClassFigures> {
        let (k, counts) = (self.n_classes, self.confusion());
        let share = |right: usize, of: usize| (of > 0).then(|| right as f64 / of as f64);
        let class = |c: usize| {
            let n: usize = counts[c * k..(c + 1) * k].iter().sum();
            let predicted: usize = counts.iter().skip(c).step_by(k).sum();
            let right = counts[c * k + c];
            ClassFigures { n, precision: share(right, predicted), recall: share(right, n) }
        };
        (0..k).map(class).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions() -> Predictions {
        // Confidences 0.6, 0.9, 0.9, 0.7: right, right, wrong, right.
        Predictions {
            probabilities: vec![0.6, 0.4, 0.0, 0.1, 0.9, 0.0, 0.9, 0.1, 0.0, 0.7, 0.3, 0.0],
            labels: vec![0, 1, 1, 0],
            n_classes: 3,
        }
    }

    #[test]
    fn bins_hold_their_upper_end() {
        let bins = predictions().reliability(10);
        let filled: Vec<(usize, usize)> =
            bins.iter().enumerate().filter(|(_, b)| b.n > 0).map(|(i, b)| (i, b.n)).collect();
        // 0.6f32 is a little above 0.6, 0.9f32 a little below 0.9, 0.7f32 a little below 0.7.
        assert_eq!(filled, [(6, 2), (8, 2)]);
        assert_eq!(bins[8].accuracy, Some(0.5));
        assert_eq!(bins[0].confidence, None);
    }

    #[test]
    fn the_calibration_error_weighs_gaps_by_their_predictions() {
        let expected = 0.5 * (1.0 - 0.65f64).abs() + 0.5 * (0.5 - 0.9f64).abs();
        assert!((predictions().expected_calibration_error(10) - expected).abs() < 1e-6);
    }

    #[test]
    fn precision_and_recall_have_their_own_denominators() {
        let [a, b, c] = predictions().per_class().try_into().unwrap();
        assert_eq!((a.n, a.precision, a.recall), (2, Some(2.0 / 3.0), Some(1.0)));
        assert_eq!((b.n, b.precision, b.recall), (2, Some(1.0), Some(0.5)));
        assert_eq!((c.n, c.precision, c.recall), (0, None, None));
    }
}
