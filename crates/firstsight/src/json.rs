//! The documents of `--json`.

use firstsight_models::summary::Style;
use firstsight_models::{InputShape, Summary};
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
