//! Loss, top-1 and top-5 as `metrics.json` and `evaluate --json` have them.

use firstsight_train::{Accuracy, Metric, Metrics, Predictions, TopK};
use serde::{Deserialize, Serialize};

/// Loss, top-1 and top-5 accuracy over a split.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Figures {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of the images whose most probable class is right.
    pub accuracy: f64,
    /// Share of the images whose class is among the five most probable ones.
    pub top5_accuracy: f64,
    /// Number of images.
    pub n: usize,
}

impl From<&Metrics> for Figures {
    fn from(metrics: &Metrics) -> Self {
        let value = |metric: &dyn Metric| metrics.get(metric).unwrap_or(f64::NAN);
        Self { loss: metrics.loss, accuracy: value(&Accuracy), top5_accuracy: value(&TopK(5)), n: metrics.n }
    }
}

/// The document of `evaluate --json`.
#[derive(Debug, Clone, Serialize)]
pub struct EvaluationFigures {
    /// The figures of all images.
    #[serde(flatten)]
    pub figures: Figures,
    /// The figures of each class, in the order of the network's outputs.
    pub per_class: Vec<ClassFigures>,
}

/// The figures of one class.
#[derive(Debug, Clone, Serialize)]
pub struct ClassFigures {
    /// The class's name.
    pub label: String,
    /// Number of images.
    pub n: usize,
    /// Share of the class's images that are recognized; null for a class without images.
    pub accuracy: Option<f64>,
}

impl EvaluationFigures {
    /// Figures over all images and by class.
    pub fn new(metrics: &Metrics, predictions: &Predictions, classes: &[String]) -> Self {
        let confusion = predictions.confusion();
        let class = |(i, label): (usize, &String)| {
            let row = &confusion[i * classes.len()..(i + 1) * classes.len()];
            let n: usize = row.iter().sum();
            ClassFigures { label: label.clone(), n, accuracy: (n > 0).then(|| row[i] as f64 / n as f64) }
        };
        Self { figures: metrics.into(), per_class: classes.iter().enumerate().map(class).collect() }
    }
}
