//! Calibration of probabilities: how far they may be trusted, and temperature scaling.

use std::borrow::Cow;

use crate::Predictions;
use crate::metric::argmax;

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

/// The largest temperature, and one over the smallest, that [`Predictions::best_temperature`] finds.
const HOTTEST: f64 = 100.0;
/// The largest temperature, and one over the smallest, that [`Predictions::temperature`] gives.
const SENSIBLE: f64 = 5.0;
/// Folds of the cross-validation of a temperature.
const FOLDS: usize = 5;

/// Predictions at a temperature. Nothing is kept: each row is computed when it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Calibrated<'a> {
    predictions: &'a Predictions,
    temperature: Option<f64>,
}

impl<'a> Calibrated<'a> {
    /// The probabilities of example `i`: softmax(z / T) of the logits z.
    pub fn row(&self, i: usize) -> Cow<'a, [f32]> {
        let row = self.predictions.row(i);
        match self.temperature {
            Some(t) => scaled(row, 1.0 / t).into_iter().map(|p| p as f32).collect(),
            None => row.into(),
        }
    }

    /// The most probable class of example `i`, with its probability.
    pub fn top(&self, i: usize) -> (u32, f32) {
        let row = self.row(i);
        let class = argmax(&row);
        (class as u32, row[class])
    }

    /// The probability of the label of example `i`.
    pub fn of_label(&self, i: usize) -> f32 {
        self.row(i)[self.predictions.labels[i] as usize]
    }

    /// The reliability diagram: predictions by confidence in `bins` intervals of equal width (Guo et al. 2017,
    /// section 2).
    pub fn reliability(&self, bins: usize) -> Vec<ConfidenceBin> {
        let mut sums = vec![(0usize, 0.0, 0usize); bins];
        for (i, &label) in self.predictions.labels.iter().enumerate() {
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
    /// [`Calibrated::reliability`] (Guo et al. 2017, equation 3). 0 without predictions.
    pub fn expected_calibration_error(&self, bins: usize) -> f64 {
        let gap = |bin: ConfidenceBin| match (bin.accuracy, bin.confidence) {
            (Some(accuracy), Some(confidence)) => bin.n as f64 * (accuracy - confidence).abs(),
            _ => 0.0,
        };
        self.reliability(bins).into_iter().map(gap).sum::<f64>() / (self.predictions.len().max(1)) as f64
    }

    /// Mean cross-entropy: −ln of the probability of each example's label.
    pub fn cross_entropy(&self) -> f64 {
        let n = self.predictions.len();
        (0..n).map(|i| -log(self.of_label(i))).sum::<f64>() / n as f64
    }
}

impl Predictions {
    /// The predictions at a temperature, or as they are.
    pub fn calibrated(&self, temperature: Option<f64>) -> Calibrated<'_> {
        Calibrated { predictions: self, temperature }
    }

    /// [`Calibrated::reliability`] of the predictions as they are.
    pub fn reliability(&self, bins: usize) -> Vec<ConfidenceBin> {
        self.calibrated(None).reliability(bins)
    }

    /// [`Calibrated::expected_calibration_error`] of the predictions as they are.
    pub fn expected_calibration_error(&self, bins: usize) -> f64 {
        self.calibrated(None).expected_calibration_error(bins)
    }

    /// [`Calibrated::cross_entropy`] of the predictions as they are.
    pub fn cross_entropy(&self) -> f64 {
        self.calibrated(None).cross_entropy()
    }

    /// The temperature T that makes the probabilities softmax(z / T) of the logits z most likely for the labels: the one of
    /// the lowest mean cross-entropy (Guo et al. 2017, section 4.2), between 1/100 and 100.
    ///
    /// The predicted classes stay; T above 1 lowers the confidence. `None` where every prediction is right, or there is none:
    /// then a lower temperature is always better, and the examples say nothing about confidence.
    ///
    /// ```
    /// use firstsight_train::Predictions;
    ///
    /// // 99 % sure four times, and right three times.
    /// let probabilities = [0.99, 0.01].repeat(4);
    /// let sure = Predictions { probabilities, labels: vec![0, 0, 0, 1], n_classes: 2 };
    /// let temperature = sure.best_temperature().unwrap();
    /// let (_, confidence) = sure.with_temperature(temperature).top(0);
    /// assert!((confidence - 0.75).abs() < 1e-3);
    /// ```
    pub fn best_temperature(&self) -> Option<f64> {
        self.best_temperature_of(0..self.len())
    }

    fn best_temperature_of(&self, examples: impl Iterator<Item = usize> + Clone) -> Option<f64> {
        let is_right = |i: usize| self.top(i).0 == self.labels[i];
        if examples.clone().all(is_right) {
            return None;
        }
        // The cross-entropy is convex in 1 / T: Newton's method, within bounds that close in on the zero of its slope.
        let (mut low, mut high, mut inverse) = (1.0 / HOTTEST, HOTTEST, 1.0);
        for _ in 0..100 {
            let (slope, curvature) = self.slope(inverse, examples.clone());
            if slope > 0.0 {
                high = inverse;
            } else {
                low = inverse;
            }
            let newton = inverse - slope / curvature;
            let next = if newton > low && newton < high { newton } else { (low * high).sqrt() };
            let done = (next - inverse).abs() <= 1e-9 * inverse;
            inverse = next;
            if done {
                break;
            }
        }
        Some(1.0 / inverse)
    }

    /// [`best_temperature`](Self::best_temperature), between 1/5 and 5, where these examples show that one helps.
    ///
    /// In five folds, each with its share of every label, a temperature is learned from four and changes the cross-entropy of the
    /// fifth. `None` unless the cross-entropy falls by more than twice the standard error of that change: a few examples say
    /// little, and their temperature would do harm. `None` also where every prediction is right.
    pub fn temperature(&self) -> Option<f64> {
        let best = self.best_temperature()?;
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&i| self.labels[i]);
        let mut gains = Vec::with_capacity(order.len());
        for fold in 0..FOLDS {
            let side = |held: bool| {
                let ranked = order.iter().enumerate();
                ranked.filter(move |(rank, _)| (rank % FOLDS == fold) == held).map(|(_, &i)| i)
            };
            // Without a mistake the lowest temperature is the best.
            let t = sensible(self.best_temperature_of(side(false)).unwrap_or(0.0));
            for i in side(true) {
                let (row, label) = (self.row(i), self.labels[i] as usize);
                gains.push(
                    scaled(row, 1.0 / t)[label].max(f64::MIN_POSITIVE).ln() - scaled(row, 1.0)[label].ln(),
                );
            }
        }
        let n = gains.len() as f64;
        let mean = gains.iter().sum::<f64>() / n;
        let variance = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean > 2.0 * (variance / n).sqrt()).then(|| sensible(best))
    }

    /// First and second derivative of the cross-entropy's sum over examples with respect to 1 / T.
    fn slope(&self, inverse: f64, examples: impl Iterator<Item = usize>) -> (f64, f64) {
        let (mut slope, mut curvature) = (0.0, 0.0);
        for i in examples {
            let (row, label) = (self.row(i), self.labels[i]);
            let scaled = scaled(row, inverse);
            let (mut mean, mut square) = (0.0, 0.0);
            for (p, &q) in scaled.iter().zip(row) {
                let z = log(q);
                mean += p * z;
                square += p * z * z;
            }
            slope += mean - log(row[label as usize]);
            curvature += square - mean * mean;
        }
        (slope, curvature)
    }

    /// The probabilities at temperature `t`: softmax(z / t) of the logits z.
    #[must_use]
    pub fn with_temperature(&self, t: f64) -> Self {
        let mut scaled = self.clone();
        for i in 0..self.len() {
            scaled.probabilities[i * self.n_classes..][..self.n_classes]
                .copy_from_slice(&self.calibrated(Some(t)).row(i));
        }
        scaled
    }
}

/// The nearest temperature between 1/5 and 5.
fn sensible(t: f64) -> f64 {
    t.clamp(1.0 / SENSIBLE, SENSIBLE)
}

/// The logarithm of a probability; one that float32 rounds to 0 counts as its smallest normal number.
fn log(p: f32) -> f64 {
    f64::from(p.max(f32::MIN_POSITIVE)).ln()
}

/// Softmax of the logarithms of `row` times `inverse`.
fn scaled(row: &[f32], inverse: f64) -> Vec<f64> {
    let largest = log(row.iter().copied().fold(0.0, f32::max));
    let powers: Vec<f64> = row.iter().map(|&p| ((log(p) - largest) * inverse).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
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
        assert_eq!((bins[8].from, bins[8].to, bins[8].accuracy), (0.8, 0.9, Some(0.5)));
        assert_eq!(bins[0].confidence, None);
    }

    #[test]
    fn the_calibration_error_weighs_gaps_by_their_predictions() {
        let expected = 0.5 * (1.0 - 0.65f64).abs() + 0.5 * (0.5 - 0.9f64).abs();
        assert!((predictions().expected_calibration_error(10) - expected).abs() < 1e-6);
    }

    #[test]
    fn a_temperature_needs_a_mistake() {
        let mut right = predictions();
        right.labels = vec![0, 1, 0, 0];
        assert_eq!(right.best_temperature(), None);
        assert!(predictions().best_temperature().is_some());
    }

    #[test]
    fn labels_that_have_nothing_to_do_with_the_outputs_get_the_highest_temperature() {
        let probabilities = [0.9, 0.1, 0.1, 0.9].repeat(2);
        let noise = Predictions { probabilities, labels: vec![0, 0, 1, 1], n_classes: 2 };
        let temperature = noise.best_temperature().unwrap();
        assert!(temperature > 99.0, "{temperature}");
    }

    /// `n` examples of two classes, predicted with probability `p`; `right` of ten are right.
    fn sure(n: usize, p: f32, right: usize) -> Predictions {
        repeated(n, p, right, 10)
    }

    /// Likewise, with `right` of `of` being right.
    fn repeated(n: usize, p: f32, right: usize, of: usize) -> Predictions {
        let labels: Vec<u32> = (0..n as u32).map(|i| i % 2).collect();
        let probability = |(i, &label): (usize, &u32)| {
            let of_first = if (label == 0) == (i / 2 % of < right) { p } else { 1.0 - p };
            [of_first, 1.0 - of_first]
        };
        let probabilities = labels.iter().enumerate().flat_map(probability).collect();
        Predictions { probabilities, labels, n_classes: 2 }
    }

    #[test]
    fn a_gain_within_two_standard_errors_shows_nothing() {
        // 1.16 and 0.98 times two standard errors.
        assert!(sure(20, 0.59, 9).temperature().is_some());
        assert_eq!(sure(20, 0.6, 9).temperature(), None);
    }

    #[test]
    fn a_few_noisy_examples_leave_the_temperature_unset() {
        for n in [12, 16, 20, 24] {
            for right in [5, 7, 8, 9] {
                for p in [0.7, 0.8, 0.9] {
                    let few = sure(n, p, right);
                    let temperature = few.temperature();
                    assert!(temperature.is_none_or(|t| (0.2..=5.0).contains(&t)), "{temperature:?}");
                    // As right as it is sure, or nearly.
                    if (f64::from(p) - right as f64 / 10.0).abs() < 0.15 {
                        assert_eq!(temperature, None, "{n} {p} {right}");
                    }
                }
            }
        }
        assert_eq!(sure(1, 0.9, 0).temperature(), None);
        assert_eq!(sure(20, 0.5, 5).temperature(), None, "it changes nothing");
    }

    #[test]
    fn an_overconfident_network_gets_a_temperature_from_many_examples() {
        let many = sure(400, 0.99, 8);
        let temperature = many.temperature().unwrap();
        assert!(
            (temperature - 0.99f64.ln().mul_add(1.0, -(0.01f64.ln())) / 4f64.ln()).abs() < 1e-3,
            "{temperature}"
        );
        assert!(many.with_temperature(temperature).cross_entropy() < many.cross_entropy());
        assert_eq!(sure(400, 0.8, 8).temperature(), None, "it is as right as it is sure");
        assert_eq!(sure(400, 0.99, 5).temperature(), Some(5.0), "no more than 5");
        assert_eq!(repeated(420, 0.55, 6, 7).temperature(), Some(0.2), "no less than 1/5");
        let unsure = repeated(420, 0.65, 6, 7).temperature().unwrap();
        assert!((unsure - (0.65f64 / 0.35).ln() / 6f64.ln()).abs() < 1e-3, "{unsure}");
    }

    #[test]
    fn temperature_one_changes_nothing_and_classes_stay() {
        let at = |t: f64| predictions().with_temperature(t);
        for (a, b) in at(1.0).probabilities.iter().zip(&predictions().probabilities) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
        for t in [0.05, 0.5, 3.0, 50.0] {
            let scaled = at(t);
            for i in 0..4 {
                assert_eq!(scaled.top(i).0, predictions().top(i).0);
                assert!((scaled.row(i).iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }
}
