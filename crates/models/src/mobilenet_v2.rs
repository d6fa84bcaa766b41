//! MobileNetV2: Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2: Inverted residuals and linear bottlenecks,
//! 2018.

use candle_core::{ModuleT, Result as CandleResult, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops::{self as ops, Activation, Shortcut};

use crate::layers::{ConvNorm, ConvSpec, KerasNames, NormConfig, block};
use crate::trace::{Kind, Trace};
use crate::{Backbone, Dims, Error, Framework, Network, Result, Scheme, Stage};

/// One line of the paper's table 2: `repeats` bottlenecks.
struct Line {
    /// t: how many times wider a block is inside.
    expansion: usize,
    /// c: output channels before the width multiplier.
    channels: usize,
    /// n: how many blocks.
    repeats: usize,
    /// s: the first block's stride.
    stride: usize,
}

#[rustfmt::skip]
const STAGES: [Line; 7] = [
    Line { expansion: 1, channels: 16,  repeats: 1, stride: 1 },
    Line { expansion: 6, channels: 24,  repeats: 2, stride: 2 },
    Line { expansion: 6, channels: 32,  repeats: 3, stride: 2 },
    Line { expansion: 6, channels: 64,  repeats: 4, stride: 2 },
    Line { expansion: 6, channels: 96,  repeats: 3, stride: 1 },
    Line { expansion: 6, channels: 160, repeats: 3, stride: 2 },
    Line { expansion: 6, channels: 320, repeats: 1, stride: 1 },
];
const STEM_CHANNELS: usize = 32;
const HEAD_CHANNELS: usize = 1280;

/// What makes a MobileNetV2. Its tensors have timm's names (`mobilenetv2_100`) whatever the framework.
///
/// 3,504,872 parameters at width 1 with 1000 classes.
#[derive(Debug, Clone, PartialEq)]
pub struct MobileNetV2Config {
    /// Channels of the input.
    pub channels: usize,
    /// α: what every layer's channels are multiplied by; the last convolution's only where α is above 1.
    pub width: f64,
    /// How much smaller the last maps are than the input: 32, or 16, 8, 4 or 2 with dilated kernels in place of
    /// strides.
    pub output_stride: usize,
    /// Whose padding and batch normalisation.
    pub framework: Framework,
}

impl MobileNetV2Config {
    /// timm's and torchvision's MobileNetV2 1.0 for RGB.
    pub const TIMM: Self = Self { channels: 3, width: 1.0, output_stride: 32, framework: Framework::Torch };
    /// Keras's MobileNetV2 with α = 1.
    pub const KERAS: Self = Self { framework: Framework::Keras, ..Self::TIMM };

    fn check(&self) -> Result<()> {
        let refuse = |rule, found| Err(Error::Setting { model: "mobilenet-v2", rule, found });
        if !(self.width > 0.0 && self.width <= 16.0) {
            return refuse("the width multiplier must lie in (0, 16]", self.width.to_string());
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

    /// `channels` times the width multiplier, to a multiple of 8 that is at least 90 % of it.
    fn scaled(&self, channels: usize) -> usize {
        let wanted = channels as f64 * self.width;
        let rounded = ((wanted + 4.0) as usize / 8 * 8).max(8);
        if (rounded as f64) < 0.9 * wanted { rounded + 8 } else { rounded }
    }
}

/// MobileNetV2 without its classifier: (B, C, H, W), of any size, to (B, 1280).
///
/// ```
/// use candle_core::{DType, Device, ModuleT, Tensor};
/// use firstsight_models::{MobileNetV2, MobileNetV2Config, Network, Params, Scheme};
///
/// let params = Params::seeded(1, &Device::Cpu);
/// let network = MobileNetV2::new(&MobileNetV2Config::TIMM, Scheme::Kaiming, &params.builder())?;
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
    /// The place among all blocks.
    index: usize,
    expand: Option<ConvNorm>,
    depthwise: ConvNorm,
    project: ConvNorm,
    strided: bool,
    residual: bool,
}

impl MobileNetV2 {
    /// The network with variables from `vb`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a width or an output stride that makes no network.
    pub fn new(config: &MobileNetV2Config, scheme: Scheme, vb: &VarBuilder<'_>) -> Result<Self> {
        config.check()?;
        let (norm, padding) = (config.norm(), config.framework.padding());
        let stem_channels = config.scaled(STEM_CHANNELS);
        let spec = ConvSpec::square(config.channels, stem_channels, 2, padding);
        let stem = ConvNorm::new(spec, norm, Activation::Relu6, scheme, &vb.pp("conv_stem"), &vb.pp("bn1"))?;

        let mut blocks: Vec<Block> = Vec::new();
        let mut n_in = stem_channels;
        let (mut output_stride, mut dilation) = (2, 1);
        for (s, stage) in STAGES.iter().enumerate() {
            let n_out = config.scaled(stage.channels);
            for i in 0..stage.repeats {
                let wanted = if i == 0 { stage.stride } else { 1 };
                let strided = output_stride * wanted <= config.output_stride;
                let stride = if strided { wanted } else { 1 };
                let shape = BlockShape { n_in, n_out, expansion: stage.expansion, stride, dilation };
                let name = format!("blocks.{s}.{i}");
                blocks.push(Block::new(name, blocks.len(), &shape, config, scheme, vb)?);
                match strided {
                    true => output_stride *= wanted,
                    // This block's kernel is as dense as before, the next ones' reach as far as if it had strided.
                    false => dilation *= wanted,
                }
                n_in = n_out;
            }
        }

        let n_features = HEAD_CHANNELS.max(config.scaled(HEAD_CHANNELS));
        let spec = ConvSpec::pointwise(n_in, n_features);
        let head = ConvNorm::new(spec, norm, Activation::Relu6, scheme, &vb.pp("conv_head"), &vb.pp("bn2"))?;
        Ok(Self { channels: config.channels, stem, blocks, head })
    }

    /// The side of the smallest square input.
    pub const SMALLEST: usize = 1;
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
        index: usize,
        shape: &BlockShape,
        config: &MobileNetV2Config,
        scheme: Scheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let &BlockShape { n_in, n_out, expansion, stride, dilation } = shape;
        let (norm, vb) = (config.norm(), vb.pp(&name));
        let part = |spec, activation, conv: &str, bn: &str| {
            ConvNorm::new(spec, norm, activation, scheme, &vb.pp(conv), &vb.pp(bn))
        };
        let padding = config.framework.dilated_padding(dilation);
        let inner = n_in * expansion;
        let depthwise = ConvSpec::depthwise(inner, stride, dilation, padding);
        let project = ConvSpec::pointwise(inner, n_out);
        // timm numbers the norms by their order, and calls the projection of an unexpanded block conv_pw.
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
        Ok(Self { name, index, expand, depthwise, project, strided: stride > 1, residual })
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
        let prefix = match self.index {
            0 => "expanded_conv".to_owned(),
            n => format!("block_{n}"),
        };
        let keras = |part: &str, relu: bool| KerasNames {
            pad: None,
            conv: Some(format!("{prefix}_{part}")),
            norm: Some(format!("{prefix}_{part}_BN")),
            activation: relu.then(|| (Kind::Relu, format!("{prefix}_{part}_relu"))),
        };
        if let Some(expand) = &self.expand {
            expand.describe(trace, keras("expand", true))?;
        }
        let pad = self.strided.then(|| format!("{prefix}_pad"));
        self.depthwise.describe(trace, KerasNames { pad, ..keras("depthwise", true) })?;
        self.project.describe(trace, keras("project", false))?;
        if self.residual {
            trace.keep(Kind::Add).keras(format!("{prefix}_add"));
        }
        Ok(())
    }
}

impl ModuleT for MobileNetV2 {
    fn forward_t(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.pre_logits(&self.forward_features(xs, train)?, train)
    }
}

impl Backbone for MobileNetV2 {
    fn n_features(&self) -> usize {
        self.head.n_out()
    }
}

impl Network for MobileNetV2 {
    /// (B, C, H, W) to (B, 1280, ⌈H / 32⌉, ⌈W / 32⌉).
    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        Dims::check_maps(xs, self.channels, Self::SMALLEST)?;
        let mut xs = self.stem.forward(xs, train)?;
        for block in &self.blocks {
            xs = block.forward(&xs, train)?;
        }
        self.head.forward(&xs, train)
    }

    fn pre_logits(&self, features: &Tensor, _train: bool) -> CandleResult<Tensor> {
        ops::global_avg_pool2d(features)
    }

    fn stages(&self) -> Vec<Stage<'_>> {
        let stem = Stage::new("bn1", |xs| {
            Dims::check_maps(xs, self.channels, Self::SMALLEST)?;
            self.stem.forward(xs, false)
        });
        let blocks = self.blocks.iter().map(|block| Stage::new(&block.name, |xs| block.forward(xs, false)));
        let head = Stage::new("bn2", |xs| self.head.forward(xs, false));
        let pool = Stage::new("global_pool", |xs| self.pre_logits(xs, false));
        [stem].into_iter().chain(blocks).chain([head, pool]).collect()
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        let relu = |name: &str| Some((Kind::Relu, name.to_owned()));
        let stem = KerasNames {
            pad: Some("Conv1_pad".to_owned()),
            conv: Some("Conv1".to_owned()),
            norm: Some("bn_Conv1".to_owned()),
            activation: relu("Conv1_relu"),
        };
        self.stem.describe(trace, stem)?;
        self.blocks.iter().try_for_each(|block| block.describe(trace))?;
        let head = KerasNames {
            pad: None,
            conv: Some("Conv_1".to_owned()),
            norm: Some("Conv_1_bn".to_owned()),
            activation: relu("out_relu"),
        };
        self.head.describe(trace, head)?;
        trace.global_pool()?.module("global_pool").keras("global_average_pooling2d");
        Ok(())
    }
}
