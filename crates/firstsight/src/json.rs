//! The documents of `--json`.

use firstsight_models::summary::Style;
use firstsight_models::{InputShape, Summary};
use firstsight_transfer::{Classifier, Prediction, Row};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct SummaryJson {
    model: String,
    input: Vec<usize>,
    layers: Vec<LayerJson>,
    total_params: usize,
    trainable_params: usize,
    /// Values that are saved but not trained.
    running_statistics: usize,
    /// Multiply-adds for one input.
    multiply_adds: u64,
    /// Bytes of all layers' outputs for one input, in float32.
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

/// An image with its answer.
#[derive(Serialize)]
pub(crate) struct AnswerJson {
    image: String,
    /// The most probable classes; none for a file that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<Vec<GuessJson>>,
    /// Whether the image is none of the classes, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The classes that are probable enough, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<Vec<String>>,
    /// What was done to read a file that is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<String>,
    /// Why the file could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct GuessJson {
    /// Index among the network's outputs.
    index: usize,
    label: String,
    probability: f32,
    /// The network's own probability, where the run has a temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    uncalibrated_probability: Option<f32>,
}

impl AnswerJson {
    /// `reject` says whether it was asked if the image is none of the classes.
    pub(crate) fn new(row: &Row, classifier: &Classifier, reject: bool) -> Self {
        let image = row.image.display().to_string();
        let answer = match &row.answer {
            Ok(answer) => answer,
            Err(error) => {
                let error = Some(error.to_string());
                return Self {
                    image,
                    predictions: None,
                    rejected: None,
                    reason: None,
                    set: None,
                    repaired: None,
                    error,
                };
            }
        };
        let guess = |guess: &Prediction| GuessJson {
            index: guess.index,
            label: guess.label.clone(),
            probability: guess.probability,
            uncalibrated_probability: classifier.temperature.map(|_| guess.uncalibrated),
        };
        let name = |&class: &usize| classifier.label_names[class].clone();
        Self {
            image,
            predictions: Some(answer.predictions.iter().map(guess).collect()),
            rejected: reject.then_some(answer.rejection.is_some()),
            reason: answer.rejection.map(|reason| reason.to_string()),
            set: reject.then(|| answer.set.iter().map(name).collect()),
            repaired: answer.note.clone(),
            error: None,
        }
    }
}
