//! LeNet-5: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998, fig. 2.

use firstsight_ops::Activation;

use crate::layers::{Layer, LayerSpec, Padding};

/// What makes a LeNet-5.
///
/// | pooling | output | trainable parameters at 32×32×1, 10 classes |
/// | --- | --- | --- |
/// | [`LeNetPooling::Average`] | [`LeNetOutput::Dense`] | 61,706 |
/// | [`LeNetPooling::Trainable`] | [`LeNetOutput::Dense`] | 61,750 |
/// | [`LeNetPooling::Average`] | [`LeNetOutput::Rbf`] | 60,856 |
/// | [`LeNetPooling::Trainable`] | [`LeNetOutput::Rbf`] | 60,900 |
///
/// The paper's own count, 60,000, is 900 less than the last: there, each map of C3 sees some of the maps of S2, here
/// it sees all.
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
    /// Plain means.
    Average,
    /// A coefficient and a bias a channel, then tanh, as in the paper.
    Trainable,
}

/// LeNet-5's output layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeNetOutput {
    /// A dense layer of logits.
    Dense,
    /// Distances to fixed codes, as in the paper: see [`crate::Rbf`].
    Rbf,
}

impl LeNet5Config {
    /// As textbooks have it: plain means and a dense output.
    pub const DENSE: Self = Self { pooling: LeNetPooling::Average, output: LeNetOutput::Dense };

    /// As the paper has it.
    pub const PAPER: Self = Self { pooling: LeNetPooling::Trainable, output: LeNetOutput::Rbf };

    /// The table, for bytes 0..=255 of white ink on black.
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
            LeNetOutput::Dense => {
                Layer::Dense { units: n_classes, activation: Activation::Identity, bias: 0.0 }
            }
            LeNetOutput::Rbf => Layer::Rbf { units: n_classes },
        };
        vec![
            // Paper to −0.1 and ink to 1.175, which brings mean and variance near 0 and 1.
            row("rescaling", Layer::Rescaling { scale: 1.275 / 255.0, offset: -0.1 }),
            row("c1", conv(6)),
            row("s2", pool),
            row("c3", conv(16)),
            row("s4", pool),
            row("c5", conv(120)),
            row("flatten", Layer::Flatten),
            row("f6", Layer::Dense { units: 84, activation: Activation::Tanh, bias: 0.0 }),
            row("output", output),
        ]
    }

    /// The side of the smallest square input: C5 needs 5×5.
    pub(crate) const SMALLEST: usize = 32;
}
