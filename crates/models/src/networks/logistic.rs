//! Multinomial logistic regression on pixels.

use firstsight_data::InputSpec;

use super::table::{TableNetwork, head};
use crate::summary::keras_names;
use crate::{Init, Layer, LayerSpec, ModelInfo};

/// Logistic regression on bytes: each pixel times 1/255, then one dense layer.
///
/// 80×60×1 and 55 classes make 4800 · 55 + 55 = 264,055 parameters.
pub static LOGISTIC: ModelInfo = ModelInfo {
    name: "logistic",
    timm: None,
    aliases: &["logistic-regression"],
    family: "Logistic regression",
    paper: "",
    build: |args| TableNetwork::without_head(&table(1), args),
    head: |n_classes| head(table(n_classes)),
    first_conv: None,
    blocks: &[],
    usual_input: (1, 80, 60),
    usual_classes: 55,
    smallest_input: 1,
    input_multiple: 1,
    input_spec: InputSpec::bytes,
    init: Init::Keras,
    keras_names: keras_names::own,
    weights: &[],
    other_names: &[],
    left_out: &[],
    strangers: &[],
};

fn table(n_classes: usize) -> Vec<LayerSpec> {
    vec![
        LayerSpec { name: "flatten", layer: Layer::Flatten },
        LayerSpec { name: "rescaling", layer: Layer::Rescaling { scale: 1.0 / 255.0, offset: 0.0 } },
        LayerSpec::dense("dense", n_classes),
    ]
}
