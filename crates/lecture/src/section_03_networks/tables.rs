//! The networks as tables.

use candle_core::Device;
use firstsight_models::networks::{ALEXNET, AlexNetConfig, LENET5, LeNet5Config, LeNetOutput, LeNetPooling};
use firstsight_models::summary::Row;
use firstsight_models::{ImageClassifier, InputShape, Layer, LayerSpec, ModelInfo, Padding, Params};
use firstsight_ops::Activation;
use firstsight_report::{Cell, Column, Section, Table, number};

use crate::Result;

/// LeNet-5's table, and what its variants count.
pub(super) fn lenet(section: &mut Section) -> Result<()> {
    section.subsection("LeNet-5, 1998");
    section.text(
        "It read the digits on cheques. Its input is 32 × 32, so that MNIST’s 28 × 28 get a border of two zeros; C and S are \
         convolutions and subsampling, F fully connected. C5 sees all of S4’s 5 × 5 maps at once: a convolution whose output \
         is one pixel. Activations are tanh, pooling takes means.",
    );
    let input = InputShape::Map { channels: 1, height: 32, width: 32 };
    let specs = LeNet5Config::DENSE.table(10);
    let network = build(&LENET5, &specs, input)?;
    layers(section, "LeNet-5 with a dense output", &specs, &network, input);
    let mut table = Table::new(
        "LeNet-5 as the paper has it and as textbooks have it",
        [Column::text("pooling"), Column::text("output"), Column::number("parameters")],
    );
    for pooling in [LeNetPooling::Average, LeNetPooling::Trainable] {
        for output in [LeNetOutput::Dense, LeNetOutput::Rbf] {
            let network = build(&LENET5, &LeNet5Config { pooling, output }.table(10), input)?;
            let pooling = match pooling {
                LeNetPooling::Average => "means",
                LeNetPooling::Trainable => {
                    "means with a coefficient and a bias for each map, then tanh (the paper’s)"
                }
            };
            let output = match output {
                LeNetOutput::Dense => "dense, logits",
                LeNetOutput::Rbf => "RBF: squared distances to fixed codes (the paper’s)",
            };
            table.row([pooling.into(), output.into(), network.summary().total_params().into()]);
        }
    }
    section.table(table);
    Ok(())
}

/// AlexNet's table.
pub(super) fn alexnet(section: &mut Section) -> Result<()> {
    section.subsection("AlexNet, 2012");
    section.text(
        "The same pattern a thousand times larger won ImageNet: ReLU instead of tanh, max pooling whose 3 × 3 windows overlap \
         by a stride of 2, dropout before the dense layers. The input is 227\u{a0}×\u{a0}227 (the paper says 224, which its own sizes \
         contradict), the paper’s two towers, one for each of its graphics cards, are put together.",
    );
    let input = InputShape::Map { channels: 3, height: 227, width: 227 };
    let specs = AlexNetConfig::Lecture.table(1000);
    let network = build(&ALEXNET, &specs, input)?;
    layers(section, "AlexNet", &specs, &network, input);
    let first_dense = network.summary().rows.iter().find(|row| row.kind == "Dense").map(|row| row.params);
    if let Some(params) = first_dense {
        let total = network.summary().total_params();
        section.text(&format!(
            "Of {} parameters the first dense layer holds {}, {}.",
            number::count(total as u64),
            number::count(params as u64),
            number::percent(params as f64 / total as f64, 0)
        ));
    }
    Ok(())
}

fn build(info: &'static ModelInfo, specs: &[LayerSpec], input: InputShape) -> Result<ImageClassifier> {
    Ok(ImageClassifier::from_table(info, specs, input, info.init, &Params::seeded(0, &Device::Cpu))?)
}

/// Layer, type, channels, size, kernel, stride, activation, parameters. Layers without a shape of their own, which
/// rescale, flatten and drop, are left out.
fn layers(
    section: &mut Section,
    title: &str,
    specs: &[LayerSpec],
    network: &ImageClassifier,
    input: InputShape,
) {
    let columns = ["layer", "type", "channels", "size", "kernel", "stride", "padding", "activation"];
    let columns = columns.map(Column::text).into_iter().chain([Column::number("parameters")]);
    let mut table = Table::new(title, columns);
    let (channels, size) = shape(input);
    table.row(["input".into(), "image".into(), channels.into(), size.into()]);
    let summary = network.summary();
    for spec in specs {
        let Some(row) = summary.rows.iter().find(|row| row.name == spec.name) else { continue };
        if let Some(cells) = cells(spec, row) {
            table.row(cells);
        }
    }
    table.footer(
        ["total", "", "", "", "", "", "", ""]
            .map(Cell::from)
            .into_iter()
            .chain([summary.total_params().into()]),
    );
    section.table(table);
}

/// Channels and size of an output: of features, their number.
fn shape(dims: InputShape) -> (String, String) {
    match dims {
        InputShape::Map { channels, height, width } => (channels.to_string(), by((height, width))),
        InputShape::Tokens { n_tokens, channels } => (channels.to_string(), n_tokens.to_string()),
        InputShape::Features(n) => (n.to_string(), String::new()),
    }
}

/// `a × b`, which no line end parts.
fn by((rows, columns): (usize, usize)) -> String {
    format!("{rows}\u{a0}×\u{a0}{columns}")
}

fn cells(spec: &LayerSpec, row: &Row) -> Option<[Cell; 9]> {
    let pool = |kernel, (stride, _): (usize, usize)| (by(kernel), stride.to_string(), "valid".to_owned(), "");
    let none = || String::new();
    let (kind, (kernel, stride, padding, activation)) = match spec.layer {
        Layer::Conv2d { kernel, stride, padding, activation, .. } => {
            let padding = match padding {
                Padding::Valid => "valid".to_owned(),
                Padding::Same => "same".to_owned(),
                Padding::Symmetric(n) => n.to_string(),
            };
            ("convolution", (by(kernel), stride.0.to_string(), padding, name(activation)))
        }
        Layer::MaxPool2d { kernel, stride } => ("max pooling", pool(kernel, stride)),
        Layer::AvgPool2d { kernel, stride } => ("mean pooling", pool(kernel, stride)),
        Layer::Subsampling { size, .. } => ("subsampling", pool((size, size), (size, size))),
        Layer::Dense { activation, .. } => ("fully connected", (none(), none(), none(), name(activation))),
        Layer::Rbf { .. } => ("RBF", (none(), none(), none(), "")),
        Layer::Rescaling { .. }
        | Layer::AdaptiveAvgPool2d { .. }
        | Layer::Flatten
        | Layer::Dropout { .. } => {
            return None;
        }
    };
    let (channels, size) = shape(row.output);
    let spec_name = spec.name.to_uppercase();
    Some([
        spec_name.into(),
        kind.into(),
        channels.into(),
        size.into(),
        kernel.into(),
        stride.into(),
        padding.into(),
        activation.into(),
        row.params.into(),
    ])
}

fn name(activation: Activation) -> &'static str {
    match activation {
        Activation::Identity => "none",
        Activation::Relu => "ReLU",
        Activation::Relu6 => "ReLU6",
        Activation::Tanh => "tanh",
        Activation::LeakyRelu(_) => "leaky ReLU",
        Activation::Sigmoid => "sigmoid",
        Activation::HardSigmoid => "hard sigmoid",
        Activation::Silu => "SiLU",
        Activation::HardSwish => "hard swish",
        Activation::Gelu | Activation::GeluTanh => "GELU",
    }
}
