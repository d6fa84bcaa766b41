//! MobileNetV2: Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2: Inverted residuals and linear bottlenecks,
//! 2018.

use std::sync::Arc;

use candle_nn::VarBuilder;
use firstsight_data::InputSpec;
use firstsight_ops::Activation;

use super::mobile::{BLOCKS, Head, MobileConfig, MobileNetwork, Row, Squeeze, Width};
use super::photo::imagenet;
use crate::info::{Build, BuildArgs, Weights};
use crate::layers::NormConfig;
use crate::summary::keras_names;
use crate::{Framework, Init, LayerSpec, ModelInfo, Network, OtherNames, Result, Stranger};

/// MobileNetV2 1.0 with timm's tensor names (`mobilenetv2_100`). For output strides and other widths than those of
/// [`MOBILENETS_V2`], see [`MobileNetV2Config`].
pub static MOBILENET_V2: ModelInfo = ModelInfo {
    name: "mobilenet-v2",
    aliases: &["mobilenetv2"],
    // The layers in Keras have these names at one depth.
    keras_names: keras_names::mobilenet_v2,
    ..variant(
        "mobilenetv2_100",
        |args| MobileNetV2Config::TIMM.build(args),
        &[Weights::timm("timm/mobilenetv2_100.ra_in1k", "Apache-2.0", 72.91, || imagenet(224, 0.875))],
    )
};

/// MobileNetV2 of other widths and depths, by timm's names: 35 % to 140 % of the channels, and two that are also deeper by
/// the rule of EfficientNet.
pub static MOBILENETS_V2: [ModelInfo; 6] = [
    variant("mobilenetv2_035", |args| MobileNetV2Config::of(0.35).build(args), &[]),
    variant(
        "mobilenetv2_050",
        |args| MobileNetV2Config::of(0.5).build(args),
        &[Weights::timm("timm/mobilenetv2_050.lamb_in1k", "Apache-2.0", 65.928, || imagenet(224, 0.875))],
    ),
    variant("mobilenetv2_075", |args| MobileNetV2Config::of(0.75).build(args), &[]),
    variant(
        "mobilenetv2_110d",
        |args| MobileNetV2Config::deep(1.1, 1.2).build(args),
        &[Weights::timm("timm/mobilenetv2_110d.ra_in1k", "Apache-2.0", 75.056, || imagenet(224, 0.875))],
    ),
    variant(
        "mobilenetv2_120d",
        |args| MobileNetV2Config::deep(1.2, 1.4).build(args),
        &[Weights::timm("timm/mobilenetv2_120d.ra_in1k", "Apache-2.0", 77.3, || imagenet(224, 0.875))],
    ),
    variant(
        "mobilenetv2_140",
        |args| MobileNetV2Config::of(1.4).build(args),
        &[Weights::timm("timm/mobilenetv2_140.ra_in1k", "Apache-2.0", 76.528, || imagenet(224, 0.875))],
    ),
];

const fn variant(name: &'static str, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        timm: Some(name),
        family: "MobileNetV2",
        paper: "Sandler et al., MobileNetV2: Inverted residuals and linear bottlenecks, CVPR 2018",
        head: |n_classes| LayerSpec::dense("classifier", n_classes),
        first_conv: Some("conv_stem"),
        blocks: BLOCKS,
        input_spec: InputSpec::imagenet,
        // That of the authors' code for TF-Slim.
        init: Init::TruncatedNormal,
        weights,
        other_names: &[OtherNames { library: "torchvision", layers: torchvision_names }],
        strangers: &[
            Stranger {
                tensor: "mobilenet_v2.conv_stem.first_conv.convolution.weight",
                what: "the MobileNetV2 of Hugging Face's transformers, with TensorFlow's padding and 1001 classes",
            },
            Stranger {
                tensor: "blocks.1.0.se.conv_reduce.weight",
                what: "timm's MobileNetV3 or EfficientNet",
            },
        ],
        ..ModelInfo::new(name, build)
    }
}

/// The paper's table 2: kernel, stride of the first block, factor by which a block is wider inside, channels, blocks.
#[rustfmt::skip]
const STAGES: [&[Row]; 7] = [
    &[Row::separable(3, 1,     16, 1)],
    &[Row::inverted(3, 2, 6.0, 24, 2)],
    &[Row::inverted(3, 2, 6.0, 32, 3)],
    &[Row::inverted(3, 2, 6.0, 64, 4)],
    &[Row::inverted(3, 1, 6.0, 96, 3)],
    &[Row::inverted(3, 2, 6.0, 160, 3)],
    &[Row::inverted(3, 1, 6.0, 320, 1)],
];
const STEM_CHANNELS: usize = 32;
const HEAD_CHANNELS: usize = 1280;

/// torchvision's name of each layer and timm's. torchvision numbers the blocks through, and within a block each convolution
/// with its normalization and activation.
fn torchvision_names() -> Vec<(String, String)> {
    const FIRST: [(&str, &str); 4] =
        [("conv.0.0", "conv_dw"), ("conv.0.1", "bn1"), ("conv.1", "conv_pw"), ("conv.2", "bn2")];
    const OTHERS: [(&str, &str); 6] = [
        ("conv.0.0", "conv_pw"),
        ("conv.0.1", "bn1"),
        ("conv.1.0", "conv_dw"),
        ("conv.1.1", "bn2"),
        ("conv.2", "conv_pwl"),
        ("conv.3", "bn3"),
    ];
    let mut names = vec![
        ("features.0.0".to_owned(), "conv_stem".to_owned()),
        ("features.0.1".to_owned(), "bn1".to_owned()),
    ];
    let rows = STAGES.iter().flat_map(|rows| rows.iter()).enumerate();
    let blocks = rows.flat_map(|(s, row)| (0..row.repeats()).map(move |i| (s, row, i)));
    let mut number = 1;
    for (s, row, i) in blocks {
        let layers: &[(&str, &str)] = if row.is_separable() { &FIRST } else { &OTHERS };
        names.extend(
            layers.iter().map(|(theirs, ours)| {
                (format!("features.{number}.{theirs}"), format!("blocks.{s}.{i}.{ours}"))
            }),
        );
        number += 1;
    }
    for (theirs, ours) in [("0", "conv_head"), ("1", "bn2")] {
        names.push((format!("features.{number}.{theirs}"), ours.to_owned()));
    }
    names.push(("classifier.1".to_owned(), "classifier".to_owned()));
    names
}

/// Settings of MobileNetV2. The tensor names are timm's (`mobilenetv2_100`) for either framework.
///
/// 3,504,872 parameters at width 1 with 1000 classes.
#[derive(Debug, Clone, PartialEq)]
pub struct MobileNetV2Config {
    /// Channels of the input.
    pub channels: usize,
    /// Width multiplier α of every layer's channels; of the last convolution's only if α is above 1.
    pub width: f64,
    /// Depth multiplier of every stage's number of blocks but the first's and the last's. Where it is above 1, the first
    /// and the last convolution keep the channels of width 1, as timm has it.
    pub depth: f64,
    /// Ratio of the input's size to that of the last feature maps: 32, or 16, 8, 4 or 2 with dilated kernels in place of
    /// strides.
    pub output_stride: usize,
    /// Framework of padding and batch normalization.
    pub framework: Framework,
}

impl MobileNetV2Config {
    /// MobileNetV2 1.0 of timm and torchvision, for RGB.
    pub const TIMM: Self =
        Self { channels: 3, width: 1.0, depth: 1.0, output_stride: 32, framework: Framework::Torch };
    /// Keras's MobileNetV2 with α = 1.
    pub const KERAS: Self = Self { framework: Framework::Keras, ..Self::TIMM };

    const fn of(width: f64) -> Self {
        Self { width, ..Self::TIMM }
    }

    const fn deep(width: f64, depth: f64) -> Self {
        Self { width, depth, ..Self::TIMM }
    }

    fn build(self, args: &BuildArgs<'_>) -> Result<Arc<dyn Network>> {
        let (channels, framework) = (args.channels()?, args.framework);
        Ok(Arc::new(Self { channels, framework, ..self }.network(args.init, &args.vb)?))
    }

    /// The network with variables from `vb`: images (B, C, H, W) of any size to features (B, 1280).
    ///
    /// # Errors
    ///
    /// [`Error::Setting`](crate::Error::Setting) for a width, a depth or an output stride that is out of range.
    pub fn network(&self, init: Init, vb: &VarBuilder<'_>) -> Result<MobileNetwork> {
        let width = Width::of(self.width);
        let (stem, head) = match self.depth > 1.0 {
            true => (STEM_CHANNELS, HEAD_CHANNELS),
            false => (width.scaled(STEM_CHANNELS), HEAD_CHANNELS.max(width.scaled(HEAD_CHANNELS))),
        };
        let norm = match self.framework {
            Framework::Torch => NormConfig::TORCH,
            Framework::Keras => NormConfig::keras(0.001),
        };
        let config = MobileConfig {
            channels: self.channels,
            stages: &STAGES,
            stem,
            head: Head::Conv(head),
            width,
            depth: self.depth,
            fixed_ends: true,
            output_stride: self.output_stride,
            same_padding: self.framework == Framework::Keras,
            norm,
            activation: Activation::Relu6,
            squeeze: Squeeze::EfficientNet,
        };
        config.network(MOBILENET_V2.name, init, vb)
    }
}
