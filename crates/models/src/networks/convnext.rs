//! ConvNeXt: Liu, Mao, Wu, Feichtenhofer, Darrell and Xie, A ConvNet for the 2020s, 2022; Woo, Debnath, Hu, Chen, Liu,
//! Kweon and Xie, ConvNeXt V2, 2023.

use std::sync::Arc;

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::{Init as Distribution, VarBuilder};
use firstsight_data::InputSpec;
use firstsight_ops::{self as ops, Activation, Conv2dConfig, ConvBlock, ConvLayer, Padding2d};

use super::photo::imagenet;
use crate::info::Build;
use crate::layers::{DropPath, GlobalResponseNorm, LayerNorm, LayerScale, PatchConv};
use crate::summary::Trace;
use crate::weights::behind;
use crate::{
    BuildArgs, Init, InputShape, LayerSpec, ModelInfo, NamedLayer, Network, OtherNames, Result, Weights,
};

/// ConvNeXt by timm's names. Atto to Nano are timm's and ConvNeXt V2's sizes.
pub static CONVNEXTS: [ModelInfo; 8] = [
    variant(
        "convnext_atto",
        |args| ConvNeXtConfig::of(ConvNeXtSize::Atto).build(args),
        &[Weights::timm("timm/convnext_atto.d2_in1k", "Apache-2.0", 75.672, || imagenet(224, 0.875))],
    ),
    variant(
        "convnext_femto",
        |args| ConvNeXtConfig::of(ConvNeXtSize::Femto).build(args),
        &[Weights::timm("timm/convnext_femto.d1_in1k", "Apache-2.0", 77.498, || imagenet(224, 0.875))],
    ),
    variant(
        "convnext_pico",
        |args| ConvNeXtConfig::of(ConvNeXtSize::Pico).build(args),
        &[Weights::timm("timm/convnext_pico.d1_in1k", "Apache-2.0", 79.516, || imagenet(224, 0.875))],
    ),
    variant(
        "convnext_nano",
        |args| ConvNeXtConfig::of(ConvNeXtSize::Nano).build(args),
        &[Weights::timm("timm/convnext_nano.in12k_ft_in1k", "Apache-2.0", 82.306, || imagenet(224, 0.95))],
    ),
    variant(
        "convnext_tiny",
        |args| ConvNeXtConfig::of(ConvNeXtSize::Tiny).build(args),
        &[Weights::timm("timm/convnext_tiny.in12k_ft_in1k", "Apache-2.0", 84.192, || imagenet(224, 0.95))],
    ),
    variant(
        "convnext_small",
        |args| ConvNeXtConfig::of(ConvNeXtSize::Small).build(args),
        &[Weights::timm("timm/convnext_small.in12k_ft_in1k", "Apache-2.0", 85.164, || imagenet(224, 0.95))],
    ),
    variant(
        "convnext_base",
        |args| ConvNeXtConfig::of(ConvNeXtSize::Base).build(args),
        &[Weights::timm("timm/convnext_base.fb_in22k_ft_in1k", "Apache-2.0", 85.814, || {
            imagenet(224, 0.875)
        })],
    ),
    variant(
        "convnext_large",
        |args| ConvNeXtConfig::of(ConvNeXtSize::Large).build(args),
        &[Weights::timm("timm/convnext_large.fb_in22k_ft_in1k", "Apache-2.0", 86.612, || {
            imagenet(224, 0.875)
        })],
    ),
];

/// ConvNeXt V2 by timm's names. Its weights are for non-commercial use alone.
pub static CONVNEXTS_V2: [ModelInfo; 8] = [
    second(
        "convnextv2_atto",
        |args| ConvNeXtConfig::v2(ConvNeXtSize::Atto).build(args),
        &[Weights::timm("timm/convnextv2_atto.fcmae_ft_in1k", "CC-BY-NC-4.0", 76.644, || {
            imagenet(224, 0.875)
        })],
    ),
    second(
        "convnextv2_femto",
        |args| ConvNeXtConfig::v2(ConvNeXtSize::Femto).build(args),
        &[Weights::timm("timm/convnextv2_femto.fcmae_ft_in1k", "CC-BY-NC-4.0", 78.476, || {
            imagenet(224, 0.875)
        })],
    ),
    second(
        "convnextv2_pico",
        |args| ConvNeXtConfig::v2(ConvNeXtSize::Pico).build(args),
        &[Weights::timm("timm/convnextv2_pico.fcmae_ft_in1k", "CC-BY-NC-4.0", 80.304, || {
            imagenet(224, 0.875)
        })],
    ),
    second(
        "convnextv2_nano",
        |args| ConvNeXtConfig::v2(ConvNeXtSize::Nano).build(args),
        &[Weights::timm("timm/convnextv2_nano.fcmae_ft_in22k_in1k", "CC-BY-NC-4.0", 82.038, || {
            imagenet(224, 0.875)
        })],
    ),
    second(
        "convnextv2_tiny",
        |args| ConvNeXtConfig::v2(ConvNeXtSize::Tiny).build(args),
        &[Weights::timm("timm/convnextv2_tiny.fcmae_ft_in22k_in1k", "CC-BY-NC-4.0", 83.904, || {
            imagenet(224, 0.875)
        })],
    ),
    second("convnextv2_small", |args| ConvNeXtConfig::v2(ConvNeXtSize::Small).build(args), &[]),
    second(
        "convnextv2_base",
        |args| ConvNeXtConfig::v2(ConvNeXtSize::Base).build(args),
        &[Weights::timm("timm/convnextv2_base.fcmae_ft_in22k_in1k", "CC-BY-NC-4.0", 86.752, || {
            imagenet(224, 0.875)
        })],
    ),
    second(
        "convnextv2_large",
        |args| ConvNeXtConfig::v2(ConvNeXtSize::Large).build(args),
        &[Weights::timm("timm/convnextv2_large.fcmae_ft_in22k_in1k", "CC-BY-NC-4.0", 87.266, || {
            imagenet(224, 0.875)
        })],
    ),
];

const fn second(name: &'static str, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        family: "ConvNeXt V2",
        paper: "Woo et al., ConvNeXt V2: Co-designing and scaling ConvNets with masked autoencoders, CVPR 2023",
        ..variant(name, build, weights)
    }
}

const fn variant(name: &'static str, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        timm: Some(name),
        family: "ConvNeXt",
        paper: "Liu et al., A ConvNet for the 2020s, CVPR 2022",
        head: |n_classes| LayerSpec::dense("head.fc", n_classes),
        first_conv: Some("stem.0"),
        blocks: &[
            ("stem", &["stem"]),
            ("stages.0", &["stages.0"]),
            ("stages.1", &["stages.1"]),
            ("stages.2", &["stages.2"]),
            ("stages.3", &["stages.3"]),
            ("head.norm", &["head.norm"]),
        ],
        smallest_input: 32,
        input_spec: InputSpec::imagenet,
        init: Init::Transformer,
        weights,
        other_names: &[
            OtherNames { library: "torchvision", layers: torchvision_names },
            OtherNames { library: "transformers", layers: transformers_names },
        ],
        ..ModelInfo::new(name, build)
    }
}

fn torchvision_names() -> Vec<(String, String)> {
    const OUTER: [(&str, &str); 4] = [
        ("features.0.0", "stem.0"),
        ("features.0.1", "stem.1"),
        ("classifier.0", "head.norm"),
        ("classifier.2", "head.fc"),
    ];
    const BLOCK: [(&str, &str); 5] = [
        ("block.0", "conv_dw"),
        ("block.2", "norm"),
        ("block.3", "mlp.fc1"),
        ("block.5", "mlp.fc2"),
        ("layer_scale", "gamma"),
    ];
    let blocks = each_block().flat_map(|(s, i)| {
        behind(&format!("features.{}.{i}.", 2 * s + 1), &format!("stages.{s}.blocks.{i}."), &BLOCK)
    });
    let downsample = (1..4).flat_map(|s| {
        let (theirs, ours) = (format!("features.{}.", 2 * s), format!("stages.{s}.downsample."));
        behind(&theirs, &ours, &[("0", "0"), ("1", "1")])
    });
    behind("", "", &OUTER).into_iter().chain(blocks).chain(downsample).collect()
}

/// Both versions.
fn transformers_names() -> Vec<(String, String)> {
    const OUTER: [(&str, &str); 3] = [
        ("embeddings.patch_embeddings", "stem.0"),
        ("embeddings.layernorm", "stem.1"),
        ("layernorm", "head.norm"),
    ];
    const BLOCK: [(&str, &str); 6] = [
        ("dwconv", "conv_dw"),
        ("layernorm", "norm"),
        ("pwconv1", "mlp.fc1"),
        ("grn", "mlp.grn"),
        ("pwconv2", "mlp.fc2"),
        ("layer_scale_parameter", "gamma"),
    ];
    let mut names = vec![("classifier".to_owned(), "head.fc".to_owned())];
    for version in ["convnext.", "convnextv2."] {
        names.extend(behind(version, "", &OUTER));
        for (s, i) in each_block() {
            let theirs = format!("{version}encoder.stages.{s}.layers.{i}.");
            names.extend(behind(&theirs, &format!("stages.{s}.blocks.{i}."), &BLOCK));
        }
        for s in 1..4 {
            let theirs = format!("{version}encoder.stages.{s}.downsampling_layer.");
            names.extend(behind(&theirs, &format!("stages.{s}.downsample."), &[("0", "0"), ("1", "1")]));
        }
    }
    names
}

/// Stage and number of every block of the deepest network.
fn each_block() -> impl Iterator<Item = (usize, usize)> {
    let depths = ConvNeXtConfig::of(ConvNeXtSize::Base).depths;
    depths.into_iter().enumerate().flat_map(|(s, depth)| (0..depth).map(move |i| (s, i)))
}

/// Depths and channels of ConvNeXt's stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvNeXtSize {
    /// 2, 2, 6, 2 blocks of 40 to 320 channels.
    Atto,
    /// 2, 2, 6, 2 blocks of 48 to 384 channels.
    Femto,
    /// 2, 2, 6, 2 blocks of 64 to 512 channels.
    Pico,
    /// 2, 2, 8, 2 blocks of 80 to 640 channels.
    Nano,
    /// 3, 3, 9, 3 blocks of 96 to 768 channels.
    Tiny,
    /// 3, 3, 27, 3 blocks of 96 to 768 channels.
    Small,
    /// 3, 3, 27, 3 blocks of 128 to 1024 channels.
    Base,
    /// 3, 3, 27, 3 blocks of 192 to 1536 channels.
    Large,
}

/// Settings of ConvNeXt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvNeXtConfig {
    /// Channels of the input.
    pub channels: usize,
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Channels of the first stage. Each other has twice as many as the one before.
    pub width: usize,
    /// Whether the weights of the blocks' dense layers are those of convolutions, (O, I, 1, 1), as timm has it for Atto to
    /// Nano. They compute the same.
    pub conv_mlp: bool,
    /// Initial factor of each branch's output, if it has factors: in the first version.
    pub layer_scale: Option<f64>,
    /// Whether the hidden channels pass global response normalization: in the second version.
    pub response_norm: bool,
    /// Probability that the last block's branch is left out in training; it rises from 0 at the first block.
    pub drop_path: f64,
}

impl ConvNeXtConfig {
    /// The first version of this size, for RGB.
    pub const fn of(size: ConvNeXtSize) -> Self {
        let (depths, width, conv_mlp) = match size {
            ConvNeXtSize::Atto => ([2, 2, 6, 2], 40, true),
            ConvNeXtSize::Femto => ([2, 2, 6, 2], 48, true),
            ConvNeXtSize::Pico => ([2, 2, 6, 2], 64, true),
            ConvNeXtSize::Nano => ([2, 2, 8, 2], 80, true),
            ConvNeXtSize::Tiny => ([3, 3, 9, 3], 96, false),
            ConvNeXtSize::Small => ([3, 3, 27, 3], 96, false),
            ConvNeXtSize::Base => ([3, 3, 27, 3], 128, false),
            ConvNeXtSize::Large => ([3, 3, 27, 3], 192, false),
        };
        let layer_scale = Some(1e-6);
        Self { channels: 3, depths, width, conv_mlp, layer_scale, response_norm: false, drop_path: 0.0 }
    }

    /// The second version of this size, for RGB.
    pub const fn v2(size: ConvNeXtSize) -> Self {
        Self { layer_scale: None, response_norm: true, ..Self::of(size) }
    }

    fn build(self, args: &BuildArgs<'_>) -> Result<Arc<dyn Network>> {
        let config = Self { channels: args.channels()?, ..self };
        Ok(Arc::new(ConvNeXt::new(&config, args.init, &args.vb)?))
    }
}

/// ConvNeXt without its last layer: images (B, C, H, W) of any size from 32 × 32 to maps (B, F, H / 32, W / 32), and from
/// these to features (B, F).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_models::networks::{ConvNeXt, ConvNeXtConfig, ConvNeXtSize};
/// use firstsight_models::{Init, Network, Params};
///
/// let params = Params::seeded(1, &Device::Cpu);
/// let config = ConvNeXtConfig::v2(ConvNeXtSize::Atto);
/// let network = ConvNeXt::new(&config, Init::Transformer, &params.builder())?;
/// let maps = network.forward_features(&Tensor::zeros((2, 3, 64, 32), DType::F32, &Device::Cpu)?, false)?;
/// assert_eq!(maps.dims(), [2, 320, 2, 1]);
/// assert_eq!(network.pre_logits(&maps, false)?.dims(), [2, 320]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConvNeXt {
    channels: usize,
    stem: (PatchConv, LayerNorm),
    stages: Vec<Stage>,
    norm: LayerNorm,
    n_features: usize,
}

#[derive(Debug, Clone)]
struct Stage {
    downsample: Option<(LayerNorm, PatchConv)>,
    blocks: Vec<Block>,
}

/// A depthwise 7×7 convolution and two dense layers, added to the input.
#[derive(Debug, Clone)]
struct Block {
    /// `stages.S.blocks.I`
    name: String,
    depthwise: Conv,
    norm: LayerNorm,
    widen: Conv,
    response_norm: Option<GlobalResponseNorm>,
    narrow: Conv,
    /// The variable `gamma`.
    scale: Option<LayerScale>,
    drop_path: DropPath,
}

/// A depthwise or pointwise convolution with bias.
#[derive(Debug, Clone)]
struct Conv {
    name: String,
    weight: Tensor,
    bias: Tensor,
}

const KERNEL: usize = 7;
/// ε of layer normalization.
const EPSILON: f64 = 1e-6;

impl ConvNeXt {
    /// The network with variables from `vb`.
    ///
    /// # Errors
    ///
    /// Variables that exist with another shape.
    pub fn new(config: &ConvNeXtConfig, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        let stem = vb.pp("stem");
        let mut n_in = config.width;
        let stem = (
            PatchConv::new(config.channels, n_in, 4, init, &stem.pp(0))?,
            LayerNorm::new(n_in, EPSILON, &stem.pp(1))?,
        );
        let n_blocks = config.depths.iter().sum();
        let (mut stages, mut number) = (Vec::new(), 0);
        for (s, depth) in config.depths.into_iter().enumerate() {
            let (n_out, vb) = (config.width << s, vb.pp("stages").pp(s));
            let mut stage = Stage { downsample: None, blocks: Vec::with_capacity(depth) };
            if s > 0 {
                let vb = vb.pp("downsample");
                let norm = LayerNorm::new(n_in, EPSILON, &vb.pp(0))?;
                stage.downsample = Some((norm, PatchConv::new(n_in, n_out, 2, init, &vb.pp(1))?));
            }
            for i in 0..depth {
                let rate = DropPath::rate(config.drop_path, number, n_blocks);
                stage.blocks.push(Block::new(config, n_out, rate, init, &vb.pp("blocks").pp(i))?);
                number += 1;
            }
            stages.push(stage);
            n_in = n_out;
        }
        let norm = LayerNorm::new(n_in, EPSILON, &vb.pp("head").pp("norm"))?;
        Ok(Self { channels: config.channels, stem, stages, norm, n_features: n_in })
    }

    fn stem(&self, xs: &Tensor) -> CandleResult<Tensor> {
        InputShape::check_maps(xs, self.channels, 32)?;
        let (conv, norm) = &self.stem;
        norm.forward_maps(&conv.forward(xs)?)
    }
}

impl Stage {
    fn shrink(&self, xs: &Tensor) -> CandleResult<Tensor> {
        match &self.downsample {
            Some((norm, conv)) => conv.forward(&norm.forward_maps(xs)?),
            None => Ok(xs.clone()),
        }
    }
}

impl Conv {
    fn depthwise(channels: usize, init: Init, vb: &VarBuilder<'_>) -> CandleResult<Self> {
        let shape = [channels, 1, KERNEL, KERNEL];
        Self::new(&shape, init.grouped_weight(&shape, channels), init, vb)
    }

    fn pointwise(
        n_in: usize,
        n_out: usize,
        conv: bool,
        init: Init,
        vb: &VarBuilder<'_>,
    ) -> CandleResult<Self> {
        let shape: &[usize] = if conv { &[n_out, n_in, 1, 1] } else { &[n_out, n_in] };
        Self::new(shape, init.weight(shape), init, vb)
    }

    fn new(shape: &[usize], start: Distribution, init: Init, vb: &VarBuilder<'_>) -> CandleResult<Self> {
        let weight = vb.get_with_hints(shape, "weight", start)?;
        let bias = vb.get_with_hints(shape[0], "bias", init.bias(shape, 0.0))?;
        Ok(Self { name: vb.prefix(), weight, bias })
    }

    fn config(&self) -> Conv2dConfig {
        match *self.weight.dims() {
            [channels, 1, KERNEL, KERNEL] => Conv2dConfig {
                padding: Padding2d::symmetric(KERNEL / 2, KERNEL / 2),
                groups: channels,
                ..Conv2dConfig::default()
            },
            _ => Conv2dConfig::default(),
        }
    }

    fn forward(&self, xs: &Tensor, activation: Activation) -> CandleResult<Tensor> {
        self.forward_activated(Activation::Identity, xs, activation)
    }

    /// The layer on f(`xs`), and an activation of its output.
    fn forward_activated(&self, f: Activation, xs: &Tensor, activation: Activation) -> CandleResult<Tensor> {
        let weight = match *self.weight.dims() {
            [n_out, n_in] => self.weight.reshape((n_out, n_in, 1, 1))?,
            _ => self.weight.clone(),
        };
        let layer = ConvLayer::new(&weight, self.config()).bias(&self.bias).activation(activation);
        ConvBlock::new(layer).pre_activation(f).forward(xs)
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        match self.weight.rank() {
            2 => trace.linear(&self.name, &self.weight, Some(&self.bias)),
            _ => trace.conv(&self.name, &self.weight, Some(&self.bias), &self.config()),
        }
    }
}

impl Block {
    fn new(
        config: &ConvNeXtConfig,
        channels: usize,
        drop_path: f64,
        init: Init,
        vb: &VarBuilder<'_>,
    ) -> CandleResult<Self> {
        let &ConvNeXtConfig { conv_mlp, layer_scale, response_norm, .. } = config;
        let (mlp, hidden) = (vb.pp("mlp"), 4 * channels);
        let response_norm = response_norm.then(|| GlobalResponseNorm::new(hidden, &mlp.pp("grn")));
        Ok(Self {
            depthwise: Conv::depthwise(channels, init, &vb.pp("conv_dw"))?,
            norm: LayerNorm::new(channels, EPSILON, &vb.pp("norm"))?,
            widen: Conv::pointwise(channels, hidden, conv_mlp, init, &mlp.pp("fc1"))?,
            response_norm: response_norm.transpose()?,
            narrow: Conv::pointwise(hidden, channels, conv_mlp, init, &mlp.pp("fc2"))?,
            scale: layer_scale.map(|start| LayerScale::new(channels, start, vb)).transpose()?,
            drop_path: DropPath::new(drop_path, format!("{}.drop_path", vb.prefix())),
            name: vb.prefix(),
        })
    }

    fn forward(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let ys = self.norm.forward_maps(&self.depthwise.forward(xs, Activation::Identity)?)?;
        let mut ys = match &self.response_norm {
            // For the backward pass the wide map is kept once.
            None if train => {
                let wide = self.widen.forward(&ys, Activation::Identity)?;
                self.narrow.forward_activated(Activation::Gelu, &wide, Activation::Identity)?
            }
            norm => {
                let mut wide = self.widen.forward(&ys, Activation::Gelu)?;
                if let Some(norm) = norm {
                    wide = norm.forward(&wide)?;
                }
                self.narrow.forward(&wide, Activation::Identity)?
            }
        };
        if let Some(scale) = &self.scale {
            ys = scale.forward_maps(&ys)?;
        }
        ops::add(xs, &self.drop_path.forward(&ys, train)?)
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        let input = trace.place();
        self.depthwise.describe(trace)?;
        self.norm.describe(trace);
        self.widen.describe(trace)?;
        trace.activation(format!("{}.mlp.act", self.name), Activation::Gelu);
        if let Some(norm) = &self.response_norm {
            norm.describe(trace);
        }
        self.narrow.describe(trace)?;
        if let Some(scale) = &self.scale {
            scale.describe(trace);
        }
        trace.add(format!("{}.add", self.name), input);
        Ok(())
    }
}

impl Network for ConvNeXt {
    fn n_features(&self) -> usize {
        self.n_features
    }

    /// (B, C, H, W) to (B, F, H / 32, W / 32).
    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let mut xs = self.stem(xs)?;
        for stage in &self.stages {
            xs = stage.shrink(&xs)?;
            for block in &stage.blocks {
                xs = block.forward(&xs, train)?;
            }
        }
        Ok(xs)
    }

    /// The channels' means, normalized.
    fn pre_logits(&self, features: &Tensor, _train: bool) -> CandleResult<Tensor> {
        self.norm.forward(&ops::global_avg_pool2d(features)?)
    }

    fn named_layers(&self) -> Vec<NamedLayer<'_>> {
        let mut layers = vec![NamedLayer::new("stem", |xs| self.stem(xs))];
        for (s, stage) in self.stages.iter().enumerate() {
            if stage.downsample.is_some() {
                layers.push(NamedLayer::new(format!("stages.{s}.downsample"), |xs| stage.shrink(xs)));
            }
            let blocks = stage.blocks.iter();
            layers.extend(blocks.map(|block| NamedLayer::new(&block.name, |xs| block.forward(xs, false))));
        }
        layers.push(NamedLayer::new("head.norm", |xs| self.pre_logits(xs, false)));
        layers
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        let (conv, norm) = &self.stem;
        conv.describe(trace)?;
        norm.describe(trace);
        for stage in &self.stages {
            if let Some((norm, conv)) = &stage.downsample {
                norm.describe(trace);
                conv.describe(trace)?;
            }
            stage.blocks.iter().try_for_each(|block| block.describe(trace))?;
        }
        trace.global_pool("head.global_pool")?;
        self.norm.describe(trace);
        Ok(())
    }

    fn takes_any_size(&self) -> bool {
        true
    }
}
