//! AlexNet: Krizhevsky, Sutskever and Hinton, ImageNet classification with deep convolutional neural networks, 2012.

use firstsight_data::InputSpec;
use firstsight_ops::Activation;

use super::table::{TableNetwork, head};
use crate::summary::keras_names;
use crate::{Init, Layer, LayerSpec, ModelInfo, Padding, Stranger};

/// The lecture's AlexNet, for bytes. For torchvision's, see [`AlexNetConfig`].
pub static ALEXNET: ModelInfo = ModelInfo {
    name: "alexnet",
    timm: None,
    aliases: &[],
    family: "AlexNet",
    paper: "Krizhevsky et al., ImageNet classification with deep convolutional neural networks, NIPS 2012",
    build: |args| TableNetwork::without_head(&AlexNetConfig::Lecture.table(1), args),
    head: |n_classes| head(AlexNetConfig::Lecture.table(n_classes)),
    first_conv: Some("c1"),
    blocks: &[],
    usual_input: (3, 227, 227),
    usual_classes: 1000,
    // The third pooling takes maps of 3×3.
    smallest_input: 67,
    input_multiple: 1,
    input_spec: InputSpec::bytes,
    init: Init::Krizhevsky,
    keras_names: keras_names::own,
    weights: &[],
    other_names: &[],
    left_out: &[],
    strangers: &[Stranger {
        tensor: "classifier.6.weight",
        what: "torchvision's AlexNet (a narrower one, for normalized photos) or a VGG",
    }],
};

/// Variants of AlexNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlexNetConfig {
    /// The lecture's table: the paper's two towers as one, 227×227, overlapping pooling, bytes 0 to 255.
    /// 62,378,344 parameters with 1000 classes.
    Lecture,
    /// torchvision's, with its tensor names: Krizhevsky's later, narrower tower (One weird trick for parallelizing
    /// convolutional neural networks, 2014), for inputs normalized with ImageNet's statistics.
    /// 61,100,840 parameters with 1000 classes.
    Torchvision,
}

impl AlexNetConfig {
    /// Layers for `n_classes` classes.
    pub fn table(self, n_classes: usize) -> Vec<LayerSpec> {
        match self {
            Self::Lecture => lecture(n_classes),
            Self::Torchvision => torchvision(n_classes),
        }
    }
}

fn row(name: &'static str, layer: Layer) -> LayerSpec {
    LayerSpec { name, layer }
}

fn conv(filters: usize, kernel: usize, stride: usize, padding: Padding, bias: f64) -> Layer {
    let (kernel, stride) = ((kernel, kernel), (stride, stride));
    Layer::Conv2d { filters, kernel, stride, padding, activation: Activation::Relu, bias }
}

const POOL: Layer = Layer::MaxPool2d { kernel: (3, 3), stride: (2, 2) };
const DROPOUT: Layer = Layer::Dropout { rate: 0.5 };
const HIDDEN: Layer = Layer::Dense { units: 4096, activation: Activation::Relu, bias: 1.0 };

fn lecture(n_classes: usize) -> Vec<LayerSpec> {
    vec![
        // Bytes to [−1, 1]; the paper subtracts each pixel's mean.
        row("rescaling", Layer::Rescaling { scale: 1.0 / 127.5, offset: -1.0 }),
        row("c1", conv(96, 11, 4, Padding::Valid, 0.0)),
        row("s2", POOL),
        row("c3", conv(256, 5, 1, Padding::Same, 1.0)),
        row("s4", POOL),
        row("c5", conv(384, 3, 1, Padding::Same, 0.0)),
        row("c6", conv(384, 3, 1, Padding::Same, 1.0)),
        row("c7", conv(256, 3, 1, Padding::Same, 1.0)),
        row("s8", POOL),
        row("flatten", Layer::Flatten),
        row("f9", HIDDEN),
        row("dropout9", DROPOUT),
        row("f10", HIDDEN),
        row("dropout10", DROPOUT),
        LayerSpec::dense("output", n_classes),
    ]
}

fn torchvision(n_classes: usize) -> Vec<LayerSpec> {
    vec![
        row("features.0", conv(64, 11, 4, Padding::Symmetric(2), 0.0)),
        row("features.2", POOL),
        row("features.3", conv(192, 5, 1, Padding::Symmetric(2), 1.0)),
        row("features.5", POOL),
        row("features.6", conv(384, 3, 1, Padding::Symmetric(1), 0.0)),
        row("features.8", conv(256, 3, 1, Padding::Symmetric(1), 1.0)),
        row("features.10", conv(256, 3, 1, Padding::Symmetric(1), 1.0)),
        row("features.12", POOL),
        row("avgpool", Layer::AdaptiveAvgPool2d { size: 6 }),
        row("flatten", Layer::Flatten),
        row("classifier.0", DROPOUT),
        row("classifier.1", HIDDEN),
        row("classifier.3", DROPOUT),
        row("classifier.4", HIDDEN),
        LayerSpec::dense("classifier.6", n_classes),
    ]
}
