//! EfficientNet: Tan and Le, EfficientNet: Rethinking model scaling for convolutional neural networks, 2019. EfficientNetV2: Tan and
//! Le, EfficientNetV2: Smaller models and faster training, 2021.

use std::sync::Arc;

use candle_nn::VarBuilder;
use firstsight_data::{InputSpec, Interpolation};
use firstsight_ops::Activation;

use super::mobile::{BLOCKS, Head, MobileConfig, MobileNetwork, Row, Squeeze, Width};
use super::photo::{half, imagenet, squash};
use crate::info::{Build, BuildArgs, Weights};
use crate::layers::NormConfig;
use crate::{Init, LayerSpec, ModelInfo, Network, OtherNames, Result, Stranger};

use EfficientNetTable::{B, Lite, V2Base, V2Medium, V2Small};

/// EfficientNet, EfficientNet-Lite and EfficientNetV2 with timm's names, and with TensorFlow's padding and ε (`tf_`).
#[rustfmt::skip]
pub static EFFICIENTNETS: [ModelInfo; 34] = [
    b_of_torchvision("efficientnet_b0", 224, |args| of(B, 1.0, 1.0).build(args),
        &[Weights::timm("timm/efficientnet_b0.ra_in1k", APACHE, 77.698, || imagenet(224, 0.875))]),
    b_of_torchvision("efficientnet_b1", 240, |args| of(B, 1.0, 1.1).build(args),
        &[Weights::timm("timm/efficientnet_b1.ra4_e3600_r240_in1k", APACHE, 80.404, || half(240, 0.9))]),
    b_of_torchvision("efficientnet_b2", 256, |args| of(B, 1.1, 1.2).build(args),
        &[Weights::timm("timm/efficientnet_b2.ra_in1k", APACHE, 79.324, || imagenet(256, 0.875))]),
    b_of_torchvision("efficientnet_b3", 288, |args| of(B, 1.2, 1.4).build(args),
        &[Weights::timm("timm/efficientnet_b3.ra2_in1k", APACHE, 81.472, || imagenet(288, 0.875))]),
    b_of_torchvision("efficientnet_b4", 320, |args| of(B, 1.4, 1.8).build(args),
        &[Weights::timm("timm/efficientnet_b4.ra2_in1k", APACHE, 82.658, || imagenet(320, 0.875))]),
    b("efficientnet_b5", 448, |args| of(B, 1.6, 2.2).build(args),
        &[Weights::timm("timm/efficientnet_b5.sw_in12k_ft_in1k", APACHE, 85.894, || squash(imagenet(448, 1.0)))]),
    b("efficientnet_b6", 528, |args| of(B, 1.8, 2.6).build(args),
        &[]),
    b("efficientnet_b7", 600, |args| of(B, 2.0, 3.1).build(args),
        &[]),
    b("tf_efficientnet_b0", 224, |args| of(B, 1.0, 1.0).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_b0.ns_jft_in1k", APACHE, 78.68, || imagenet(224, 0.875))]),
    b("tf_efficientnet_b1", 240, |args| of(B, 1.0, 1.1).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_b1.ns_jft_in1k", APACHE, 81.388, || imagenet(240, 0.882))]),
    b("tf_efficientnet_b2", 260, |args| of(B, 1.1, 1.2).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_b2.ns_jft_in1k", APACHE, 82.412, || imagenet(260, 0.89))]),
    b("tf_efficientnet_b3", 300, |args| of(B, 1.2, 1.4).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_b3.ns_jft_in1k", APACHE, 84.054, || imagenet(300, 0.904))]),
    b("tf_efficientnet_b4", 380, |args| of(B, 1.4, 1.8).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_b4.ns_jft_in1k", APACHE, 85.156, || imagenet(380, 0.922))]),
    b("tf_efficientnet_b5", 456, |args| of(B, 1.6, 2.2).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_b5.ns_jft_in1k", APACHE, 86.096, || imagenet(456, 0.934))]),
    b("tf_efficientnet_b6", 528, |args| of(B, 1.8, 2.6).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_b6.ns_jft_in1k", APACHE, 86.476, || imagenet(528, 0.942))]),
    b("tf_efficientnet_b7", 600, |args| of(B, 2.0, 3.1).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_b7.ns_jft_in1k", APACHE, 86.85, || imagenet(600, 0.949))]),
    lite("efficientnet_lite0", 224, |args| of(Lite, 1.0, 1.0).build(args),
        &[Weights::timm("timm/efficientnet_lite0.ra_in1k", APACHE, 75.488, || imagenet(224, 0.875))]),
    lite("efficientnet_lite1", 240, |args| of(Lite, 1.0, 1.1).build(args),
        &[]),
    lite("efficientnet_lite2", 260, |args| of(Lite, 1.1, 1.2).build(args),
        &[]),
    lite("efficientnet_lite3", 300, |args| of(Lite, 1.2, 1.4).build(args),
        &[]),
    lite("efficientnet_lite4", 380, |args| of(Lite, 1.4, 1.8).build(args),
        &[]),
    lite("tf_efficientnet_lite0", 224, |args| of(Lite, 1.0, 1.0).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_lite0.in1k", APACHE, 74.846, || half(224, 0.875))]),
    lite("tf_efficientnet_lite1", 240, |args| of(Lite, 1.0, 1.1).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_lite1.in1k", APACHE, 76.674, || half(240, 0.882))]),
    lite("tf_efficientnet_lite2", 260, |args| of(Lite, 1.1, 1.2).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_lite2.in1k", APACHE, 77.47, || half(260, 0.89))]),
    lite("tf_efficientnet_lite3", 300, |args| of(Lite, 1.2, 1.4).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_lite3.in1k", APACHE, 79.808, || bilinear(half(300, 0.904)))]),
    lite("tf_efficientnet_lite4", 380, |args| of(Lite, 1.4, 1.8).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnet_lite4.in1k", APACHE, 81.54, || bilinear(half(380, 0.92)))]),
    v2("efficientnetv2_s", 288, |args| of(V2Small, 1.0, 1.0).build(args),
        &[]),
    v2("efficientnetv2_m", 320, |args| of(V2Medium, 1.0, 1.0).build(args),
        &[]),
    v2("tf_efficientnetv2_b0", 192, |args| of(V2Base, 1.0, 1.0).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnetv2_b0.in1k", APACHE, 76.876, || imagenet(192, 0.875))]),
    v2("tf_efficientnetv2_b1", 192, |args| of(V2Base, 1.0, 1.1).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnetv2_b1.in1k", APACHE, 77.934, || imagenet(192, 0.882))]),
    v2("tf_efficientnetv2_b2", 208, |args| of(V2Base, 1.1, 1.2).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnetv2_b2.in1k", APACHE, 79.208, || imagenet(208, 0.89))]),
    v2("tf_efficientnetv2_b3", 240, |args| of(V2Base, 1.2, 1.4).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnetv2_b3.in21k_ft_in1k", APACHE, 81.078, || squash(half(240, 0.9)))]),
    v2("tf_efficientnetv2_s", 300, |args| of(V2Small, 1.0, 1.0).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnetv2_s.in21k_ft_in1k", APACHE, 83.348, || half(300, 1.0))]),
    v2("tf_efficientnetv2_m", 384, |args| of(V2Medium, 1.0, 1.0).tensorflow().build(args),
        &[Weights::timm("timm/tf_efficientnetv2_m.in21k_ft_in1k", APACHE, 84.768, || squash(half(384, 1.0)))]),
];

const APACHE: &str = "Apache-2.0";

fn bilinear(input: InputSpec) -> InputSpec {
    InputSpec { interpolation: Interpolation::Bilinear, ..input }
}

const fn b(name: &'static str, side: usize, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        timm: Some(name),
        family: "EfficientNet",
        paper: "Tan and Le, EfficientNet: Rethinking model scaling for convolutional neural networks, ICML 2019",
        head: |n_classes| LayerSpec::dense("classifier", n_classes),
        first_conv: Some("conv_stem"),
        blocks: BLOCKS,
        usual_input: (3, side, side),
        input_spec: InputSpec::imagenet,
        init: Init::Google,
        weights,
        strangers: &[
            Stranger {
                tensor: "efficientnet.embeddings.convolution.weight",
                what: "the EfficientNet of Hugging Face's transformers; timm's tf_efficientnet_b0 to _b7 are TensorFlow's too",
            },
            Stranger {
                tensor: "features.0.0.weight",
                what: "a network of torchvision's, whose padding or ε is another; efficientnet_b0 to _b4 take its EfficientNet-B0 to -B4",
            },
        ],
        ..ModelInfo::new(name, build)
    }
}

/// One that torchvision has with the same ε.
const fn b_of_torchvision(
    name: &'static str,
    side: usize,
    build: Build,
    weights: &'static [Weights],
) -> ModelInfo {
    ModelInfo {
        other_names: &[OtherNames { library: "torchvision", layers: torchvision_names }],
        ..b(name, side, build, weights)
    }
}

const fn lite(name: &'static str, side: usize, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo { family: "EfficientNet-Lite", ..b(name, side, build, weights) }
}

const fn v2(name: &'static str, side: usize, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        family: "EfficientNetV2",
        paper: "Tan and Le, EfficientNetV2: Smaller models and faster training, ICML 2021",
        ..b(name, side, build, weights)
    }
}

/// torchvision's name of each layer of the deepest network, and timm's.
fn torchvision_names() -> Vec<(String, String)> {
    const FIRST: [(&str, &str); 6] = [
        ("0.0", "conv_dw"),
        ("0.1", "bn1"),
        ("1.fc1", "se.conv_reduce"),
        ("1.fc2", "se.conv_expand"),
        ("2.0", "conv_pw"),
        ("2.1", "bn2"),
    ];
    const OTHERS: [(&str, &str); 8] = [
        ("0.0", "conv_pw"),
        ("0.1", "bn1"),
        ("1.0", "conv_dw"),
        ("1.1", "bn2"),
        ("2.fc1", "se.conv_reduce"),
        ("2.fc2", "se.conv_expand"),
        ("3.0", "conv_pwl"),
        ("3.1", "bn3"),
    ];
    /// At the depth of B7.
    const MOST: usize = 13;
    let ends = [
        ("features.0.0", "conv_stem"),
        ("features.0.1", "bn1"),
        ("features.8.0", "conv_head"),
        ("features.8.1", "bn2"),
    ];
    let mut names: Vec<(String, String)> = ends
        .iter()
        .chain([&("classifier.1", "classifier")])
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect();
    for s in 0..EFFICIENTNET.len() {
        let layers: &[(&str, &str)] = if s == 0 { &FIRST } else { &OTHERS };
        for i in 0..MOST {
            names.extend(layers.iter().map(|(theirs, ours)| {
                (format!("features.{}.{i}.block.{theirs}", s + 1), format!("blocks.{s}.{i}.{ours}"))
            }));
        }
    }
    names
}

/// The table that a network scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EfficientNetTable {
    /// EfficientNet's.
    B,
    /// The same without squeeze-and-excitation, with ReLU6 in place of SiLU, and with ends that are not scaled (Liu, Higher
    /// accuracy on vision models with EfficientNet-Lite, 2020).
    Lite,
    /// That of EfficientNetV2's B0 to B3.
    V2Base,
    /// EfficientNetV2-S.
    V2Small,
    /// EfficientNetV2-M.
    V2Medium,
}

/// Table 1 of EfficientNet's paper: kernel, stride of the first block, factor by which a block is wider inside, channels, blocks.
#[rustfmt::skip]
const EFFICIENTNET: [&[Row]; 7] = [
    &[Row::separable(3, 1,      16, 1).se()],
    &[Row::inverted(3, 2, 6.0,  24, 2).se()],
    &[Row::inverted(5, 2, 6.0,  40, 2).se()],
    &[Row::inverted(3, 2, 6.0,  80, 3).se()],
    &[Row::inverted(5, 1, 6.0, 112, 3).se()],
    &[Row::inverted(5, 2, 6.0, 192, 4).se()],
    &[Row::inverted(3, 1, 6.0, 320, 1).se()],
];

#[rustfmt::skip]
const LITE: [&[Row]; 7] = [
    &[Row::separable(3, 1,      16, 1)],
    &[Row::inverted(3, 2, 6.0,  24, 2)],
    &[Row::inverted(5, 2, 6.0,  40, 2)],
    &[Row::inverted(3, 2, 6.0,  80, 3)],
    &[Row::inverted(5, 1, 6.0, 112, 3)],
    &[Row::inverted(5, 2, 6.0, 192, 4)],
    &[Row::inverted(3, 1, 6.0, 320, 1)],
];

#[rustfmt::skip]
const V2_BASE: [&[Row]; 6] = [
    &[Row::conv(3,              16, 1)],
    &[Row::edge(3, 2, 4.0,      32, 2)],
    &[Row::edge(3, 2, 4.0,      48, 2)],
    &[Row::inverted(3, 2, 4.0,  96, 3).se()],
    &[Row::inverted(3, 1, 6.0, 112, 5).se()],
    &[Row::inverted(3, 2, 6.0, 192, 8).se()],
];

/// Table 4 of EfficientNetV2's paper.
#[rustfmt::skip]
const V2_SMALL: [&[Row]; 6] = [
    &[Row::conv(3,              24,  2)],
    &[Row::edge(3, 2, 4.0,      48,  4)],
    &[Row::edge(3, 2, 4.0,      64,  4)],
    &[Row::inverted(3, 2, 4.0, 128,  6).se()],
    &[Row::inverted(3, 1, 6.0, 160,  9).se()],
    &[Row::inverted(3, 2, 6.0, 256, 15).se()],
];

#[rustfmt::skip]
const V2_MEDIUM: [&[Row]; 7] = [
    &[Row::conv(3,              24,  3)],
    &[Row::edge(3, 2, 4.0,      48,  5)],
    &[Row::edge(3, 2, 4.0,      80,  5)],
    &[Row::inverted(3, 2, 4.0, 160,  7).se()],
    &[Row::inverted(3, 1, 6.0, 176, 14).se()],
    &[Row::inverted(3, 2, 6.0, 304, 18).se()],
    &[Row::inverted(3, 1, 6.0, 512,  5).se()],
];

/// Channels of the last convolution.
const HEAD_CHANNELS: usize = 1280;

/// Settings of EfficientNet. The tensor names are timm's.
///
/// 5,288,548 parameters of B0 with 1000 classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EfficientNetConfig {
    /// Channels of the input.
    pub channels: usize,
    /// Table.
    pub table: EfficientNetTable,
    /// Width multiplier of the channels.
    pub width: f64,
    /// Depth multiplier of each row's blocks.
    pub depth: f64,
    /// TensorFlow's padding and ε (0.001), and not PyTorch's.
    pub tensorflow: bool,
}

const fn of(table: EfficientNetTable, width: f64, depth: f64) -> EfficientNetConfig {
    EfficientNetConfig { channels: 3, table, width, depth, tensorflow: false }
}

impl EfficientNetConfig {
    /// `efficientnet_b0`.
    pub const B0: Self = of(B, 1.0, 1.0);

    const fn tensorflow(self) -> Self {
        Self { tensorflow: true, ..self }
    }

    fn build(self, args: &BuildArgs<'_>) -> Result<Arc<dyn Network>> {
        Ok(Arc::new(Self { channels: args.channels()?, ..self }.network(args.init, &args.vb)?))
    }

    /// The network with variables from `vb`: images (B, C, H, W) of any size to features (B, F), 1280 at width 1.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`](crate::Error::Setting) for a width or a depth that is out of range.
    pub fn network(&self, init: Init, vb: &VarBuilder<'_>) -> Result<MobileNetwork> {
        // That of EfficientNetV2's B1 to B3 goes to the nearest.
        let least = if self.table == V2Base { 0.0 } else { 0.9 };
        let width = Width { factor: self.width, least };
        let (stages, stem): (&'static [_], _) = match self.table {
            B => (&EFFICIENTNET, width.scaled(32)),
            Lite => (&LITE, 32),
            V2Base => (&V2_BASE, width.scaled(32)),
            V2Small => (&V2_SMALL, width.scaled(24)),
            V2Medium => (&V2_MEDIUM, width.scaled(24)),
        };
        let head =
            if matches!(self.table, Lite | V2Medium) { HEAD_CHANNELS } else { width.scaled(HEAD_CHANNELS) };
        let config = MobileConfig {
            channels: self.channels,
            stages,
            stem,
            head: Head::Conv(head),
            width,
            depth: self.depth,
            fixed_ends: self.table == Lite,
            output_stride: 32,
            same_padding: self.tensorflow,
            norm: if self.tensorflow { NormConfig::TENSORFLOW } else { NormConfig::TORCH },
            activation: if self.table == Lite { Activation::Relu6 } else { Activation::Silu },
            squeeze: Squeeze::EfficientNet,
        };
        config.network("EfficientNet", init, vb)
    }
}
