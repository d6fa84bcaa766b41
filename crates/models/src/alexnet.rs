//! AlexNet: Krizhevsky, Sutskever and Hinton, ImageNet classification with deep convolutional neural networks, 2012.

use firstsight_ops::Activation;

use crate::layers::{Layer, LayerSpec, Padding};

/// Which AlexNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlexNetConfig {
    /// The lecture's table: one tower of the paper's two put together, 227×227, overlapping pools, bytes 0..=255.
    /// 62,378,344 parameters with 1000 classes.
    Lecture,
    /// torchvision's, with its tensor names: Krizhevsky's later, narrower tower (One weird trick for parallelizing
    /// convolutional neural networks, 2014), for inputs normalised by ImageNet's mean and deviation.
    /// 61,100,840 parameters with 1000 classes.
    Torchvision,
}

impl AlexNetConfig {
    /// The table that the network is built from.
    pub fn table(self, n_classes: usize) -> Vec<LayerSpec> {
        match self {
            Self::Lecture => lecture(n_classes),
            Self::Torchvision => torchvision(n_classes),
        }
    }

    /// The side of the smallest square input, which the third pooling's window sets.
    pub(crate) fn smallest(self) -> usize {
        match self {
            Self::Lecture => 67,
            Self::Torchvision => 63,
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
        // Bytes to −1..=1; the paper subtracts each pixel's mean.
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
        row("output", Layer::Dense { units: n_classes, activation: Activation::Identity, bias: 0.0 }),
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
        row("classifier.6", Layer::Dense { units: n_classes, activation: Activation::Identity, bias: 0.0 }),
    ]
}
