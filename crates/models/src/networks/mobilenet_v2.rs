//! MobileNetV2: Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2: Inverted residuals and linear bottlenecks,
//! 2018.

use std::sync::Arc;

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::VarBuilder;
use firstsight_data::InputSpec;
use firstsight_ops::{self as ops, Activation, Shortcut};

use super::photo::imagenet;
use crate::info::{Build, BuildArgs, Weights};
use crate::layers::{ConvNorm, ConvSpec, NormConfig, block};
use crate::summary::{LayerKind, Trace, keras_names};
use crate::{
    Error, Framework, Init, InputShape, LayerSpec, ModelInfo, NamedLayer, Network, OtherNames, Result,
    Stranger,
};

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
        blocks: &[
            ("stem", &["conv_stem", "bn1"]),
            ("blocks.0", &["blocks.0"]),
            ("blocks.1", &["blocks.1"]),
            ("blocks.2", &["blocks.2"]),
            ("blocks.3", &["blocks.3"]),
            ("blocks.4", &["blocks.4"]),
            ("blocks.5", &["blocks.5"]),
            ("blocks.6", &["blocks.6"]),
            ("conv_head", &["conv_head", "bn2"]),
        ],
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

/// Row of the paper's table 2: `repeats` bottlenecks.
struct Stage {
    /// t: factor by which a block is wider inside.
    expansion: usize,
    /// c: output channels before the width multiplier.
    channels: usize,
    /// n: number of blocks.
    repeats: usize,
    /// s: stride of the first block.
    stride: usize,
}

#[rustfmt::skip]
const STAGES: [Stage; 7] = [
    Stage { expansion: 1, channels: 16,  repeats: 1, stride: 1 },
    Stage { expansion: 6, channels: 24,  repeats: 2, stride: 2 },
    Stage { expansion: 6, channels: 32,  repeats: 3, stride: 2 },
    Stage { expansion: 6, channels: 64,  repeats: 4, stride: 2 },
    Stage { expansion: 6, channels: 96,  repeats: 3, stride: 1 },
    Stage { expansion: 6, channels: 160, repeats: 3, stride: 2 },
    Stage { expansion: 6, channels: 320, repeats: 1, stride: 1 },
];
const STEM_CHANNELS: usize = 32;

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
    let blocks =
        STAGES.iter().enumerate().flat_map(|(s, stage)| (0..stage.repeats).map(move |i| (s, stage, i)));
    let mut number = 1;
    for (s, stage, i) in blocks {
        let layers: &[(&str, &str)] = if stage.expansion == 1 { &FIRST } else { &OTHERS };
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
const HEAD_CHANNELS: usize = 1280;

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
        Ok(Arc::new(MobileNetV2::new(&Self { channels, framework, ..self }, args.init, &args.vb)?))
    }

    fn check(&self) -> Result<()> {
        let refuse = |rule, found| Err(Error::Setting { model: MOBILENET_V2.name, rule, found });
        if !(self.width > 0.0 && self.width <= 16.0) {
            return refuse("the width multiplier must lie in (0, 16]", self.width.to_string());
        }
        if !(self.depth >= 1.0 && self.depth <= 16.0) {
            return refuse("the depth multiplier must lie in [1, 16]", self.depth.to_string());
        }
        if ![2, 4, 8, 16, 32].contains(&self.output_stride) {
            return refuse("the output stride must be 2, 4, 8, 16 or 32", self.output_stride.to_string());
        }
        Ok(())
    }

    fn norm(&self) -> NormConfig {
        match self.framework {
            Framework::Torch => NormConfig::TORCH,
            Framework::Keras => NormConfig::keras(0.001),
        }
    }

    /// Number of blocks of stage `s`.
    fn repeats(&self, s: usize) -> usize {
        let repeats = STAGES[s].repeats;
        if s == 0 || s + 1 == STAGES.len() { repeats } else { (repeats as f64 * self.depth).ceil() as usize }
    }

    /// Channels of the first and the last convolution.
    fn outer(&self) -> (usize, usize) {
        match self.depth > 1.0 {
            true => (STEM_CHANNELS, HEAD_CHANNELS),
            false => (self.scaled(STEM_CHANNELS), HEAD_CHANNELS.max(self.scaled(HEAD_CHANNELS))),
        }
    }

    /// `channels` times the width multiplier, to a multiple of 8 that is at least 90 % of it.
    fn scaled(&self, channels: usize) -> usize {
        let wanted = channels as f64 * self.width;
        let rounded = ((wanted + 4.0) as usize / 8 * 8).max(8);
        if (rounded as f64) < 0.9 * wanted { rounded + 8 } else { rounded }
    }
}

/// MobileNetV2 without its last layer: images (B, C, H, W) of any size to features (B, 1280).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_models::networks::{MobileNetV2, MobileNetV2Config};
/// use firstsight_models::{Init, Network, Params};
///
/// let params = Params::seeded(1, &Device::Cpu);
/// let network = MobileNetV2::new(&MobileNetV2Config::TIMM, Init::Kaiming, &params.builder())?;
/// let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// let maps = network.forward_features(&images, false)?;
/// assert_eq!(maps.dims(), [1, 1280, 2, 2]);
/// assert_eq!(network.pre_logits(&maps, false)?.dims(), [1, 1280]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct MobileNetV2 {
    channels: usize,
    stem: ConvNorm,
    blocks: Vec<Block>,
    head: ConvNorm,
}

/// An inverted residual: widen (not in the first block), convolve each channel, narrow, add.
#[derive(Debug, Clone)]
struct Block {
    /// `blocks.S.I`
    name: String,
    expand: Option<ConvNorm>,
    depthwise: ConvNorm,
    project: ConvNorm,
    residual: bool,
}

impl MobileNetV2 {
    /// The network with variables from `vb`.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a width or an output stride that is out of range.
    pub fn new(config: &MobileNetV2Config, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        config.check()?;
        let (norm, padding) = (config.norm(), config.framework.padding());
        let (stem_channels, n_features) = config.outer();
        let spec = ConvSpec::square(config.channels, stem_channels, 2, padding);
        let stem = ConvNorm::new(spec, norm, Activation::Relu6, init, &vb.pp("conv_stem"), &vb.pp("bn1"))?;

        let mut blocks: Vec<Block> = Vec::new();
        let mut n_in = stem_channels;
        let (mut output_stride, mut dilation) = (2, 1);
        for (s, stage) in STAGES.iter().enumerate() {
            let n_out = config.scaled(stage.channels);
            for i in 0..config.repeats(s) {
                let wanted = if i == 0 { stage.stride } else { 1 };
                let strided = output_stride * wanted <= config.output_stride;
                let stride = if strided { wanted } else { 1 };
                let shape = BlockShape { n_in, n_out, expansion: stage.expansion, stride, dilation };
                let name = format!("blocks.{s}.{i}");
                blocks.push(Block::new(name, &shape, config, init, vb)?);
                match strided {
                    true => output_stride *= wanted,
                    // The next blocks' kernels are dilated instead, this block's is not yet.
                    false => dilation *= wanted,
                }
                n_in = n_out;
            }
        }

        let spec = ConvSpec::pointwise(n_in, n_features);
        let head = ConvNorm::new(spec, norm, Activation::Relu6, init, &vb.pp("conv_head"), &vb.pp("bn2"))?;
        Ok(Self { channels: config.channels, stem, blocks, head })
    }
}

struct BlockShape {
    n_in: usize,
    n_out: usize,
    expansion: usize,
    stride: usize,
    dilation: usize,
}

impl Block {
    fn new(
        name: String,
        shape: &BlockShape,
        config: &MobileNetV2Config,
        init: Init,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let &BlockShape { n_in, n_out, expansion, stride, dilation } = shape;
        let (norm, vb) = (config.norm(), vb.pp(&name));
        let part = |spec, activation, conv: &str, bn: &str| {
            ConvNorm::new(spec, norm, activation, init, &vb.pp(conv), &vb.pp(bn))
        };
        let padding = config.framework.dilated_padding(dilation);
        let inner = n_in * expansion;
        let depthwise = ConvSpec::depthwise(inner, stride, dilation, padding);
        let project = ConvSpec::pointwise(inner, n_out);
        // timm numbers the norms in their order, and calls the projection of a block without expansion conv_pw.
        let (expand, depthwise, project) = if expansion == 1 {
            (
                None,
                part(depthwise, Activation::Relu6, "conv_dw", "bn1")?,
                part(project, Activation::Identity, "conv_pw", "bn2")?,
            )
        } else {
            (
                Some(part(ConvSpec::pointwise(n_in, inner), Activation::Relu6, "conv_pw", "bn1")?),
                part(depthwise, Activation::Relu6, "conv_dw", "bn2")?,
                part(project, Activation::Identity, "conv_pwl", "bn3")?,
            )
        };
        let residual = stride == 1 && n_in == n_out;
        Ok(Self { name, expand, depthwise, project, residual })
    }

    fn forward(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let (_, _, height, width) = xs.dims4()?;
        let (depthwise, project) = (self.depthwise.link(), self.project.link());
        let (block, _) = match &self.expand {
            Some(expand) => block((height, width), expand.link(), [depthwise, project]),
            None => block((height, width), depthwise, [project]),
        }?;
        let shortcut = if self.residual { Shortcut::Identity } else { Shortcut::None };
        block.shortcut(shortcut).forward_t(xs, train)
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        if let Some(expand) = &self.expand {
            expand.describe(trace)?;
        }
        self.depthwise.describe(trace)?;
        self.project.describe(trace)?;
        if self.residual {
            trace.keep(format!("{}.add", self.name), LayerKind::Add);
        }
        Ok(())
    }
}

impl Network for MobileNetV2 {
    fn n_features(&self) -> usize {
        self.head.n_out()
    }

    /// (B, C, H, W) to (B, 1280, ⌈H / 32⌉, ⌈W / 32⌉).
    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        InputShape::check_maps(xs, self.channels, MOBILENET_V2.smallest_input)?;
        let mut xs = self.stem.forward(xs, train)?;
        for block in &self.blocks {
            xs = block.forward(&xs, train)?;
        }
        self.head.forward(&xs, train)
    }

    fn pre_logits(&self, features: &Tensor, _train: bool) -> CandleResult<Tensor> {
        ops::global_avg_pool2d(features)
    }

    fn named_layers(&self) -> Vec<NamedLayer<'_>> {
        let stem = NamedLayer::new("bn1", |xs| {
            InputShape::check_maps(xs, self.channels, MOBILENET_V2.smallest_input)?;
            self.stem.forward(xs, false)
        });
        let blocks =
            self.blocks.iter().map(|block| NamedLayer::new(&block.name, |xs| block.forward(xs, false)));
        let head = NamedLayer::new("bn2", |xs| self.head.forward(xs, false));
        let pool = NamedLayer::new("global_pool", |xs| self.pre_logits(xs, false));
        [stem].into_iter().chain(blocks).chain([head, pool]).collect()
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        self.stem.describe(trace)?;
        self.blocks.iter().try_for_each(|block| block.describe(trace))?;
        self.head.describe(trace)?;
        trace.global_pool("global_pool")
    }

    fn takes_any_size(&self) -> bool {
        true
    }
}
