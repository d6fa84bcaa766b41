//! Layers by the names that Keras's applications give them, in the order of `model.summary()`.
//!
//! Keras lists activations, sums and the zero padding of strided convolutions as layers, and a separable convolution as
//! one layer.

use firstsight_ops::Padding2d;

use super::{Entry, LayerKind, Row};
use crate::InputShape;

/// Our names and Keras's.
type Names = &'static [(&'static str, &'static str)];

/// Keras's name of the input.
const INPUT: (&str, &str) = ("input", "input_1");

/// Every layer under its own name. The activation after batch normalization `bn1` is `relu1`.
pub fn own(entries: &[Entry]) -> Vec<Row> {
    let row = |entry: &Entry| {
        let name = match entry.name.strip_suffix(".act").and_then(|norm| norm.rsplit_once("bn")) {
            Some((prefix, number)) => format!("{prefix}relu{number}"),
            None => translated(&[INPUT], &entry.name).to_owned(),
        };
        Row::new(name, entry.kind.keras(), entry)
    };
    entries.iter().map(row).collect()
}

/// `keras.applications.MobileNetV2`.
pub fn mobilenet_v2(entries: &[Entry]) -> Vec<Row> {
    const OUTSIDE_BLOCKS: Names = &[
        INPUT,
        ("conv_stem", "Conv1"),
        ("bn1", "bn_Conv1"),
        ("bn1.act", "Conv1_relu"),
        ("conv_head", "Conv_1"),
        ("bn2", "Conv_1_bn"),
        ("bn2.act", "out_relu"),
        ("global_pool", "global_average_pooling2d"),
        ("classifier", "predictions"),
    ];
    const FIRST_BLOCK: Names = &[
        ("conv_dw", "depthwise"),
        ("bn1", "depthwise_BN"),
        ("bn1.act", "depthwise_relu"),
        ("conv_pw", "project"),
        ("bn2", "project_BN"),
    ];
    const OTHER_BLOCKS: Names = &[
        ("conv_pw", "expand"),
        ("bn1", "expand_BN"),
        ("bn1.act", "expand_relu"),
        ("conv_dw", "depthwise"),
        ("bn2", "depthwise_BN"),
        ("bn2.act", "depthwise_relu"),
        ("conv_pwl", "project"),
        ("bn3", "project_BN"),
    ];
    let mut rows = Vec::with_capacity(entries.len());
    let mut blocks: Vec<&str> = Vec::new();
    for entry in entries {
        let (prefix, name) = match mobilenet_block(&entry.name) {
            None => ("Conv1_".to_owned(), translated(OUTSIDE_BLOCKS, &entry.name).to_owned()),
            Some((block, part)) => {
                if blocks.last() != Some(&block) {
                    blocks.push(block);
                }
                let (prefix, names) = match blocks.len() - 1 {
                    0 => ("expanded_conv_".to_owned(), FIRST_BLOCK),
                    index => (format!("block_{index}_"), OTHER_BLOCKS),
                };
                let name = format!("{prefix}{}", translated(names, part));
                (prefix, name)
            }
        };
        if let Some(config) = entry.conv.filter(|config| config.stride != (1, 1)) {
            rows.extend(zero_padding(format!("{prefix}pad"), entry, config.padding));
        }
        rows.push(Row::new(name, entry.kind.keras(), entry));
    }
    rows
}

/// `blocks.S.I` and what follows it.
fn mobilenet_block(name: &str) -> Option<(&str, &str)> {
    let (stage, rest) = name.strip_prefix("blocks.")?.split_once('.')?;
    let (block, part) = rest.split_once('.')?;
    Some((&name[.."blocks.".len() + stage.len() + 1 + block.len()], part))
}

/// The zeros around the input of a convolution as a layer.
fn zero_padding(name: String, conv: &Entry, padding: Padding2d) -> Option<Row> {
    let InputShape::Map { channels, height, width } = conv.input else { return None };
    let (height, width) = (height + padding.top + padding.bottom, width + padding.left + padding.right);
    Some(Row::without_counts(name, "ZeroPadding2D", InputShape::Map { channels, height, width }))
}

/// `keras.applications.Xception`.
pub fn xception(entries: &[Entry]) -> Vec<Row> {
    const OUTSIDE_BLOCKS: Names = &[
        INPUT,
        ("conv1", "block1_conv1"),
        ("bn1", "block1_conv1_bn"),
        ("bn1.act", "block1_conv1_act"),
        ("conv2", "block1_conv2"),
        ("bn2", "block1_conv2_bn"),
        ("bn2.act", "block1_conv2_act"),
        ("conv3.pointwise", "block14_sepconv1"),
        ("bn3", "block14_sepconv1_bn"),
        ("bn3.act", "block14_sepconv1_act"),
        ("conv4.pointwise", "block14_sepconv2"),
        ("bn4", "block14_sepconv2_bn"),
        ("bn4.act", "block14_sepconv2_act"),
        ("global_pool", "avg_pool"),
        ("fc", "predictions"),
    ];
    let mut rows = Vec::with_capacity(entries.len());
    let mut depthwise: Option<&Entry> = None;
    // Separable convolutions of the present block; shortcuts and sums of all blocks, which Keras numbers.
    let (mut separable, mut shortcuts, mut sums) = (0, 0, 0);
    for entry in entries {
        let name = match xception_block(&entry.name) {
            None => translated(OUTSIDE_BLOCKS, &entry.name).to_owned(),
            Some((block, part)) => {
                let prefix = format!("block{}", block + 1);
                match (entry.kind, part) {
                    (LayerKind::Conv, "skip") => numbered("conv2d", shortcuts),
                    (LayerKind::BatchNorm(_), "skipbn") => {
                        shortcuts += 1;
                        numbered("batch_normalization", shortcuts - 1)
                    }
                    (LayerKind::Conv, _) => {
                        separable += 1;
                        format!("{prefix}_sepconv{separable}")
                    }
                    (LayerKind::BatchNorm(_), _) => format!("{prefix}_sepconv{separable}_bn"),
                    (LayerKind::Activation(_), _) => format!("{prefix}_sepconv{}_act", separable + 1),
                    (LayerKind::MaxPool, _) => format!("{prefix}_pool"),
                    (LayerKind::Add, _) => {
                        separable = 0;
                        sums += 1;
                        numbered("add", sums - 1)
                    }
                    _ => entry.name.clone(),
                }
            }
        };
        match (entry.kind, depthwise.take()) {
            (LayerKind::DepthwiseConv, _) => depthwise = Some(entry),
            (LayerKind::Conv, Some(first)) => {
                let mut row = Row::new(name, "SeparableConv2D", entry);
                row.add_counts(first);
                rows.push(row);
            }
            (LayerKind::Activation(_), _) => rows.push(Row::new(name, "Activation", entry)),
            _ => rows.push(Row::new(name, entry.kind.keras(), entry)),
        }
    }
    rows
}

/// N of `blockN` and what follows it.
fn xception_block(name: &str) -> Option<(usize, &str)> {
    let (block, part) = name.strip_prefix("block")?.split_once('.')?;
    Some((block.parse().ok()?, part))
}

/// Keras's name of the n-th layer that has no name of its own.
fn numbered(name: &str, n: usize) -> String {
    if n == 0 { name.to_owned() } else { format!("{name}_{n}") }
}

/// Keras's name, or the same where the table has none.
fn translated<'a>(names: &[(&str, &'a str)], name: &'a str) -> &'a str {
    names.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, keras)| keras)
}
