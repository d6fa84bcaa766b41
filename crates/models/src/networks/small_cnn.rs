//! The lecture's convolutional network.

use firstsight_data::InputSpec;
use firstsight_ops::Activation;

use super::table::{TableNetwork, head};
use crate::summary::keras_names;
use crate::{Init, Layer, LayerSpec, ModelInfo, Padding};

/// The lecture's CNN on bytes: three 3×3 convolutions of 16, 32 and 64 filters with max pooling by 2, 2 and 4, then
/// dense layers of 64 units and of logits.
///
/// 80×60×1 and 55 classes make 88,375 parameters.
pub static SMALL_CNN: ModelInfo = ModelInfo {
    name: "small-cnn",
    timm: None,
    aliases: &["cnn"],
    family: "CNN",
    paper: "",
    build: |args| TableNetwork::without_head(&table(1), args),
    head: |n_classes| head(table(n_classes)),
    first_conv: Some("conv1"),
    blocks: &[],
    usual_input: (1, 80, 60),
    usual_classes: 55,
    smallest_input: 16,
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
    let dense = Layer::Dense { units: 64, activation: Activation::Relu, bias: 0.0 };
    vec![
        LayerSpec { name: "rescaling_1", layer: Layer::Rescaling { scale: 1.0 / 255.0, offset: 0.0 } },
        conv("conv1", 16),
        pool("pool1", 2),
        conv("conv2", 32),
        pool("pool2", 2),
        conv("conv3", 64),
        pool("pool3", 4),
        LayerSpec { name: "flatten_1", layer: Layer::Flatten },
        LayerSpec { name: "dense_1", layer: dense },
        LayerSpec::dense("dense_2", n_classes),
    ]
}

fn conv(name: &'static str, filters: usize) -> LayerSpec {
    let layer = Layer::Conv2d {
        filters,
        kernel: (3, 3),
        stride: (1, 1),
        padding: Padding::Same,
        activation: Activation::Relu,
        bias: 0.0,
    };
    LayerSpec { name, layer }
}

fn pool(name: &'static str, size: usize) -> LayerSpec {
    LayerSpec { name, layer: Layer::MaxPool2d { kernel: (size, size), stride: (size, size) } }
}
