//! MobileNetV3: Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le and Adam, Searching for MobileNetV3, 2019.

use std::sync::Arc;

use candle_nn::VarBuilder;
use firstsight_data::{InputSpec, Interpolation};
use firstsight_ops::Activation;

use super::mobile::{BLOCKS, Head, MobileConfig, MobileNetwork, Row, Squeeze, Width};
use super::photo::{half, imagenet};
use crate::info::{Build, BuildArgs, Weights};
use crate::layers::NormConfig;
use crate::{Init, LayerSpec, ModelInfo, Network, Result, Stranger};

use MobileNetV3Size::{Large, Small};

/// MobileNetV3 with timm's names, and with TensorFlow's padding and ε (`tf_`).
#[rustfmt::skip]
pub static MOBILENETS_V3: [ModelInfo; 9] = [
    variant("mobilenetv3_small_050", |args| of(Small, 0.5).build(args),
        &[Weights::timm("timm/mobilenetv3_small_050.lamb_in1k", APACHE, 57.918, || imagenet(224, 0.875))]),
    variant("mobilenetv3_small_075", |args| of(Small, 0.75).build(args),
        &[Weights::timm("timm/mobilenetv3_small_075.lamb_in1k", APACHE, 65.284, || imagenet(224, 0.875))]),
    variant("mobilenetv3_small_100", |args| of(Small, 1.0).build(args),
        &[Weights::timm("timm/mobilenetv3_small_100.lamb_in1k", APACHE, 67.636, || imagenet(224, 0.875))]),
    variant("mobilenetv3_large_075", |args| of(Large, 0.75).build(args), &[]),
    variant("mobilenetv3_large_100", |args| of(Large, 1.0).build(args),
        &[Weights::timm("timm/mobilenetv3_large_100.ra_in1k", APACHE, 75.784, || imagenet(224, 0.875))]),
    tensorflow("tf_mobilenetv3_small_075", |args| of(Small, 0.75).tensorflow().build(args),
        &[Weights::timm("timm/tf_mobilenetv3_small_075.in1k", APACHE, 65.706, bilinear)]),
    tensorflow("tf_mobilenetv3_small_100", |args| of(Small, 1.0).tensorflow().build(args),
        &[Weights::timm("timm/tf_mobilenetv3_small_100.in1k", APACHE, 67.922, bilinear)]),
    tensorflow("tf_mobilenetv3_large_075", |args| of(Large, 0.75).tensorflow().build(args),
        &[Weights::timm("timm/tf_mobilenetv3_large_075.in1k", APACHE, 73.442, bilinear)]),
    tensorflow("tf_mobilenetv3_large_100", |args| of(Large, 1.0).tensorflow().build(args),
        &[Weights::timm("timm/tf_mobilenetv3_large_100.in1k", APACHE, 75.51, bilinear)]),
];

const APACHE: &str = "Apache-2.0";

fn bilinear() -> InputSpec {
    InputSpec { interpolation: Interpolation::Bilinear, ..half(224, 0.875) }
}

const fn variant(name: &'static str, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        timm: Some(name),
        family: "MobileNetV3",
        paper: "Howard et al., Searching for MobileNetV3, ICCV 2019",
        head: |n_classes| LayerSpec::dense("classifier", n_classes),
        first_conv: Some("conv_stem"),
        blocks: BLOCKS,
        input_spec: InputSpec::imagenet,
        init: Init::Google,
        weights,
        strangers: &[Stranger {
            tensor: "features.1.block.0.0.weight",
            what: "torchvision's MobileNetV3, whose batch normalization has another ε (0.001)",
        }],
        ..ModelInfo::new(name, build)
    }
}

const fn tensorflow(name: &'static str, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo { input_spec: InputSpec::minus_one_to_one, ..variant(name, build, weights) }
}

/// Which of the paper's two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MobileNetV3Size {
    /// Table 2.
    Small,
    /// Table 1.
    Large,
}

/// The paper's table 1: kernel, stride of the first block, factor by which a block is wider inside, channels, blocks. Rows
/// without ReLU have hard swish.
#[rustfmt::skip]
const LARGE: [&[Row]; 7] = [
    &[Row::separable(3, 1,      16, 1).relu()],
    &[Row::inverted(3, 2, 4.0,  24, 1).relu(), Row::inverted(3, 1, 3.0, 24, 1).relu()],
    &[Row::inverted(5, 2, 3.0,  40, 3).se().relu()],
    &[Row::inverted(3, 2, 6.0,  80, 1), Row::inverted(3, 1, 2.5, 80, 1), Row::inverted(3, 1, 2.3, 80, 2)],
    &[Row::inverted(3, 1, 6.0, 112, 2).se()],
    &[Row::inverted(5, 2, 6.0, 160, 3).se()],
    &[Row::conv(1, 960, 1)],
];

/// Table 2.
#[rustfmt::skip]
const SMALL: [&[Row]; 6] = [
    &[Row::separable(3, 2,      16, 1).se().relu()],
    &[Row::inverted(3, 2, 4.5,  24, 1).relu(), Row::inverted(3, 1, 3.67, 24, 1).relu()],
    &[Row::inverted(5, 2, 4.0,  40, 1).se(), Row::inverted(5, 1, 6.0, 40, 2).se()],
    &[Row::inverted(5, 1, 3.0,  48, 2).se()],
    &[Row::inverted(5, 2, 6.0,  96, 3).se()],
    &[Row::conv(1, 576, 1)],
];

const STEM_CHANNELS: usize = 16;

/// Settings of MobileNetV3. The tensor names are timm's.
///
/// 5,483,032 parameters at width 1 of the large one with 1000 classes, 2,542,856 of the small one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MobileNetV3Config {
    /// Channels of the input.
    pub channels: usize,
    /// Table.
    pub size: MobileNetV3Size,
    /// Width multiplier of every layer's channels but the last convolution's; the first keeps its channels below 0.75.
    pub width: f64,
    /// TensorFlow's padding and ε (0.001), and not PyTorch's.
    pub tensorflow: bool,
}

const fn of(size: MobileNetV3Size, width: f64) -> MobileNetV3Config {
    MobileNetV3Config { channels: 3, size, width, tensorflow: false }
}

impl MobileNetV3Config {
    /// `mobilenetv3_small_100`.
    pub const SMALL: Self = of(Small, 1.0);
    /// `mobilenetv3_large_100`.
    pub const LARGE: Self = of(Large, 1.0);

    const fn tensorflow(self) -> Self {
        Self { tensorflow: true, ..self }
    }

    fn build(self, args: &BuildArgs<'_>) -> Result<Arc<dyn Network>> {
        Ok(Arc::new(Self { channels: args.channels()?, ..self }.network(args.init, &args.vb)?))
    }

    /// The network with variables from `vb`: images (B, C, H, W) of any size to features (B, 1024), or (B, 1280) if it is large.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`](crate::Error::Setting) for a width that is out of range.
    pub fn network(&self, init: Init, vb: &VarBuilder<'_>) -> Result<MobileNetwork> {
        let width = Width::of(self.width);
        let (stages, n_features): (&'static [_], _) = match self.size {
            Small => (&SMALL, 1024),
            Large => (&LARGE, 1280),
        };
        let config = MobileConfig {
            channels: self.channels,
            stages,
            stem: if self.width < 0.75 { STEM_CHANNELS } else { width.scaled(STEM_CHANNELS) },
            head: Head::AfterPool(n_features),
            width,
            depth: 1.0,
            fixed_ends: false,
            output_stride: 32,
            same_padding: self.tensorflow,
            norm: if self.tensorflow { NormConfig::TENSORFLOW } else { NormConfig::TORCH },
            activation: Activation::HardSwish,
            squeeze: Squeeze::MobileNetV3,
        };
        config.network("MobileNetV3", init, vb)
    }
}
