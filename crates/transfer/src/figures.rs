//! The figures of a split, as `metrics.json` and `evaluate --json` have them.

use firstsight_train::{Accuracy, Metric, Metrics, TopK, wilson_interval};
use serde::{Deserialize, Serialize};

use crate::Evaluation;

/// Intervals of confidence for the calibration error and the reliability diagram.
pub(crate) const BINS: usize = 10;

/// The figures of a split in `metrics.json` that pages and cards show, in their order, with their names in words.
pub(crate) const SHOWN: [(&str, &str); 10] = [
    ("accuracy", "accuracy"),
    ("macro_f1", "macro F1"),
    ("balanced_accuracy", "balanced accuracy"),
    ("mean_average_precision", "mean average precision"),
    ("exact_match", "images with all labels right"),
    ("loss", "loss"),
    ("expected_calibration_error", "calibration error"),
    ("mean_absolute_error", "mean absolute error"),
    ("root_mean_squared_error", "root mean squared error"),
    ("r2", "R²"),
];

/// Loss and accuracy over a split.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Figures {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of the images whose most probable class is right.
    pub accuracy: f64,
    /// The 95 % confidence interval of the accuracy, by [`wilson_interval`].
    pub accuracy_interval: (f64, f64),
    /// Share of the images whose class is among the five most probable ones; measured where there are more than five classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5_accuracy: Option<f64>,
    /// Number of images.
    pub n: usize,
}

impl From<&Metrics> for Figures {
    fn from(metrics: &Metrics) -> Self {
        let value = |metric: &dyn Metric| metrics.get(metric);
        let (accuracy, n) = (value(&Accuracy).unwrap_or(f64::NAN), metrics.n);
        Self {
            loss: metrics.loss,
            accuracy,
            accuracy_interval: wilson_interval((accuracy * n as f64).round() as usize, n),
            top5_accuracy: value(&TopK(5)),
            n,
        }
    }
}

impl std::fmt::Display for Figures {
    /// One line: `loss 0.1139  accuracy 0.9608 (95 % interval 0.9171 to 0.9819)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = self.accuracy_interval;
        let (loss, accuracy) = (self.loss, self.accuracy);
        write!(f, "loss {loss:.4}  accuracy {accuracy:.4} (95 % interval {low:.4} to {high:.4})")?;
        match self.top5_accuracy {
            Some(top5) => write!(f, "  top-5 {top5:.4}"),
            None => Ok(()),
        }
    }
}

/// All figures of a split: the document of `evaluate --json`, and of each split in `metrics.json`.
///
/// Precision, recall and F1 are those of scikit-learn's `classification_report`.
#[derive(Debug, Clone, Serialize)]
pub struct EvaluationFigures {
    /// Loss and accuracy.
    #[serde(flatten)]
    pub figures: Figures,
    /// Mean precision of the classes that occur, as a label or as a prediction.
    pub macro_precision: f64,
    /// Mean recall of these classes.
    pub macro_recall: f64,
    /// Mean F1 of these classes.
    pub macro_f1: f64,
    /// Mean recall of the classes that have images.
    pub balanced_accuracy: f64,
    /// By how much confidence and accuracy differ on average, in ten bins.
    pub expected_calibration_error: f64,
    /// What temperature scaling changes, where the network has a temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated: Option<CalibratedFigures>,
    /// The figures of each class, in the order of the network's outputs.
    pub per_class: Vec<ClassFigures>,
    /// The confusion matrix: a row for each true class with the number of its images that are taken for each class.
    pub confusion: Vec<Vec<usize>>,
}

/// Figures of the probabilities at a temperature, those that `predict` gives.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CalibratedFigures {
    /// The temperature, from the validation images.
    pub temperature: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// The calibration error.
    pub expected_calibration_error: f64,
}

/// The figures of one class.
#[derive(Debug, Clone, Serialize)]
pub struct ClassFigures {
    /// The class's name.
    pub label: String,
    /// Number of images.
    pub n: usize,
    /// Share of the class's images that are recognized, its recall; null for a class without images.
    pub accuracy: Option<f64>,
    /// The 95 % confidence interval of the recall; null for a class without images.
    pub accuracy_interval: Option<(f64, f64)>,
    /// Share of the images called so that are so; null for a class that does not occur.
    pub precision: Option<f64>,
    /// Share of the class's images that are called so; null for a class without images.
    pub recall: Option<f64>,
    /// The harmonic mean of precision and recall; null for a class that does not occur.
    pub f1: Option<f64>,
}

impl EvaluationFigures {
    /// Figures over all images and by class, with the names of the classes.
    pub fn new(measured: &Evaluation, classes: &[String]) -> Self {
        let (metrics, predictions) = (&measured.metrics, &measured.predictions);
        let averages = predictions.macro_averages();
        let k = predictions.n_classes;
        let confusion: Vec<Vec<usize>> =
            predictions.confusion().chunks(k.max(1)).map(<[usize]>::to_vec).collect();
        let class =
            |(i, (label, figures)): (usize, (&String, firstsight_train::ClassFigures))| ClassFigures {
                label: label.clone(),
                n: figures.n,
                accuracy: figures.recall,
                accuracy_interval: figures.recall.map(|_| wilson_interval(confusion[i][i], figures.n)),
                precision: figures.precision,
                recall: figures.recall,
                f1: figures.f1,
            };
        Self {
            figures: metrics.into(),
            macro_precision: averages.precision,
            macro_recall: averages.recall,
            macro_f1: averages.f1,
            balanced_accuracy: averages.balanced_accuracy,
            expected_calibration_error: predictions.expected_calibration_error(BINS),
            calibrated: measured.temperature.map(|temperature| {
                let calibrated = measured.calibrated();
                CalibratedFigures {
                    temperature,
                    loss: calibrated.cross_entropy(),
                    expected_calibration_error: calibrated.expected_calibration_error(BINS),
                }
            }),
            per_class: classes.iter().zip(predictions.per_class()).enumerate().map(class).collect(),
            confusion,
        }
    }
}
