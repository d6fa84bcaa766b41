//! LeNet-5: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998, fig. 2.

use firstsight_data::InputSpec;
use firstsight_ops::Activation;

use super::table::{TableNetwork, head};
use crate::summary::keras_names;
use crate::{Init, Layer, LayerSpec, ModelInfo, Padding};

/// LeNet-5 with average pooling and a dense output, for bytes of white ink on black. For the others of its variants, see
/// [`LeNet5Config`].
pub static LENET5: ModelInfo = ModelInfo {
    name: "lenet5",
    timm: None,
    aliases: &["lenet", "lenet-5"],
    family: "LeNet",
    paper: "LeCun et al., Gradient-based learning applied to document recognition, Proceedings of the IEEE, 1998",
    build: |args| TableNetwork::without_head(&LeNet5Config::DENSE.table(1), args),
    head: |n_classes| head(LeNet5Config::DENSE.table(n_classes)),
    first_conv: Some("c1"),
    blocks: &[],
    usual_input: (1, 32, 32),
    usual_classes: 10,
    // C5 takes maps of 5×5.
    smallest_input: 32,
    input_multiple: 1,
    input_spec: InputSpec::bytes,
    init: Init::LeCun,
    keras_names: keras_names::own,
    weights: &[],
    other_names: &[],
    left_out: &[],
    strangers: &[],
};

/// Settings of LeNet-5.
///
/// | pooling | output | trainable parameters at 32×32×1, 10 classes |
/// | --- | --- | --- |
/// | [`LeNetPooling::Average`] | [`LeNetOutput::Dense`] | 61,706 |
/// | [`LeNetPooling::Trainable`] | [`LeNetOutput::Dense`] | 61,750 |
/// | [`LeNetPooling::Average`] | [`LeNetOutput::Rbf`] | 60,856 |
/// | [`LeNetPooling::Trainable`] | [`LeNetOutput::Rbf`] | 60,900 |
///
/// The paper counts 60,000, which is 900 less than the last: there, each map of C3 sees some of the maps of S2; here, it
/// sees all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeNet5Config {
    /// The layers S2 and S4.
    pub pooling: LeNetPooling,
    /// The output layer.
    pub output: LeNetOutput,
}

/// LeNet-5's pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeNetPooling {
    /// Average pooling.
    Average,
    /// Average pooling with a trainable coefficient and bias per channel, then tanh, as in the paper.
    Trainable,
}

/// LeNet-5's output layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeNetOutput {
    /// A dense layer of logits.
    Dense,
    /// Squared distances to fixed codes, as in the paper: see [`crate::Rbf`].
    Rbf,
}

impl LeNet5Config {
    /// The textbooks' version: average pooling and a dense output.
    pub const DENSE: Self = Self { pooling: LeNetPooling::Average, output: LeNetOutput::Dense };

    /// The paper's version: trainable pooling and an RBF output.
    pub const PAPER: Self = Self { pooling: LeNetPooling::Trainable, output: LeNetOutput::Rbf };

    /// Layers for `n_classes` classes.
    pub fn table(self, n_classes: usize) -> Vec<LayerSpec> {
        let row = |name, layer| LayerSpec { name, layer };
        let conv = |filters| Layer::Conv2d {
            filters,
            kernel: (5, 5),
            stride: (1, 1),
            padding: Padding::Valid,
            activation: Activation::Tanh,
            bias: 0.0,
        };
        let pool = match self.pooling {
            LeNetPooling::Average => Layer::AvgPool2d { kernel: (2, 2), stride: (2, 2) },
            LeNetPooling::Trainable => Layer::Subsampling { size: 2, activation: Activation::Tanh },
        };
        let output = match self.output {
            LeNetOutput::Dense => LayerSpec::dense("output", n_classes),
            LeNetOutput::Rbf => LayerSpec { name: "output", layer: Layer::Rbf { units: n_classes } },
        };
        vec![
            // Background to −0.1 and ink to 1.175, so that mean and variance are near 0 and 1.
            row("rescaling", Layer::Rescaling { scale: 1.275 / 255.0, offset: -0.1 }),
            row("c1", conv(6)),
            row("s2", pool),
            row("c3", conv(16)),
            row("s4", pool),
            row("c5", conv(120)),
            row("flatten", Layer::Flatten),
            row("f6", Layer::Dense { units: 84, activation: Activation::Tanh, bias: 0.0 }),
            output,
        ]
    }
}
