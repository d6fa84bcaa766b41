//! The documents of `--json` and of `metrics.json`.

use firstsight_hpo::FrozenTrial;
use firstsight_models::summary::Style;
use firstsight_models::{InputShape, Summary};
use firstsight_train::{Metric, Metrics, Predictions};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
pub(crate) struct SummaryJson {
    model: String,
    input: Vec<usize>,
    layers: Vec<LayerJson>,
    total_params: usize,
    trainable_params: usize,
    /// Values that are saved but not trained.
    running_statistics: usize,
    /// For one input.
    multiply_adds: u64,
    /// Of all layers' outputs for one input, in float32.
    output_bytes: usize,
    weight_bytes: usize,
}

#[derive(Serialize)]
struct LayerJson {
    name: String,
    kind: String,
    output_shape: Vec<usize>,
    params: usize,
    multiply_adds: u64,
    output_bytes: usize,
    weight_bytes: usize,
}

impl From<&Summary> for SummaryJson {
    fn from(summary: &Summary) -> Self {
        let axes = |dims: InputShape| match summary.style {
            Style::Timm => dims.channels_first(),
            _ => dims.channels_last(),
        };
        let layer = |row: &firstsight_models::summary::Row| LayerJson {
            name: row.name.clone(),
            kind: row.kind.to_owned(),
            output_shape: axes(row.output),
            params: row.params,
            multiply_adds: row.multiply_adds,
            output_bytes: row.output_bytes(),
            weight_bytes: row.weight_bytes(),
        };
        Self {
            model: summary.model.clone(),
            input: axes(summary.input),
            layers: summary.rows.iter().map(layer).collect(),
            total_params: summary.total_params(),
            trainable_params: summary.trainable_params(),
            running_statistics: summary.buffers(),
            multiply_adds: summary.multiply_adds(),
            output_bytes: summary.output_bytes(),
            weight_bytes: summary.weight_bytes(),
        }
    }
}

/// Loss, top-1 and top-5 over a split.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) loss: f64,
    pub(crate) accuracy: f64,
    pub(crate) top5_accuracy: f64,
    pub(crate) n: usize,
}

impl From<&Metrics> for Figures {
    fn from(metrics: &Metrics) -> Self {
        let value = |metric| metrics.get(metric).unwrap_or(f64::NAN);
        Self {
            loss: metrics.loss,
            accuracy: value(Metric::Accuracy),
            top5_accuracy: value(Metric::TopK(5)),
            n: metrics.n,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct EvaluationJson {
    #[serde(flatten)]
    pub(crate) figures: Figures,
    pub(crate) per_class: Vec<ClassJson>,
}

#[derive(Serialize)]
pub(crate) struct ClassJson {
    pub(crate) label: String,
    pub(crate) n: usize,
    /// The share of the class's images that are recognised; null for a class without images.
    pub(crate) accuracy: Option<f64>,
}

impl EvaluationJson {
    pub(crate) fn new(metrics: &Metrics, predictions: &Predictions, classes: &[String]) -> Self {
        let confusion = predictions.confusion();
        let class = |(i, label): (usize, &String)| {
            let row = &confusion[i * classes.len()..(i + 1) * classes.len()];
            let n: usize = row.iter().sum();
            ClassJson { label: label.clone(), n, accuracy: (n > 0).then(|| row[i] as f64 / n as f64) }
        };
        Self { figures: metrics.into(), per_class: classes.iter().enumerate().map(class).collect() }
    }
}

#[derive(Serialize)]
pub(crate) struct PredictionJson {
    pub(crate) image: String,
    pub(crate) predictions: Vec<GuessJson>,
}

#[derive(Serialize)]
pub(crate) struct GuessJson {
    /// The class's place among the network's outputs.
    pub(crate) index: usize,
    pub(crate) label: String,
    pub(crate) probability: f32,
}

/// A trial of a study.
#[derive(Serialize)]
pub(crate) struct TrialJson {
    number: usize,
    state: String,
    /// What the objective gave.
    value: Option<f64>,
    params: serde_json::Map<String, serde_json::Value>,
}

impl From<&FrozenTrial> for TrialJson {
    fn from(trial: &FrozenTrial) -> Self {
        let (number, value) = (trial.number, trial.value);
        Self { number, state: trial.state.to_string(), value, params: trial.params_json() }
    }
}
