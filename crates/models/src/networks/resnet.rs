//! Residual networks for photos: He, Zhang, Ren and Sun, Deep residual learning for image recognition, 2016, table 1, with the
//! stride in a bottleneck's 3×3 convolution (Goyal et al. 2017).
//!
//! ResNeXt: Xie, Girshick, Dollár, Tu and He, Aggregated residual transformations for deep neural networks, 2017. Wide:
//! Zagoruyko and Komodakis, Wide residual networks, 2016. ResNet-D: He, Zhang, Zhang, Zhang, Xie and Li, Bag of tricks for
//! image classification with convolutional neural networks, 2019.

use std::sync::Arc;

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::VarBuilder;
use firstsight_data::{InputSpec, Interpolation};
use firstsight_ops::{self as ops, Activation, PadCounting, Pool2dConfig, Rounding, Shortcut};

use super::photo::imagenet;
use crate::info::{Build, BuildArgs, Weights};
use crate::layers::{ConvNorm, ConvSpec, NormConfig, Padding, block};
use crate::summary::Trace;
use crate::{
    Error, Init, InputShape, LayerSpec, ModelInfo, NamedLayer, Network, OtherNames, Result, Stranger,
};

use ResidualBlock::{Basic, Bottleneck};

/// ResNet, ResNeXt, wide ResNet and ResNet-D with timm's names, which are torchvision's. For others, see [`ResNetConfig`].
#[rustfmt::skip]
pub static RESNETS: [ModelInfo; 16] = [
    resnet("resnet18", |args| plain(Basic, [2, 2, 2, 2]).build(args),
        &[Weights::timm("timm/resnet18.a1_in1k", APACHE, 71.504, || imagenet(224, 0.95))]),
    resnet("resnet34", |args| plain(Basic, [3, 4, 6, 3]).build(args),
        &[Weights::timm("timm/resnet34.a1_in1k", APACHE, 76.42, || imagenet(224, 0.95))]),
    resnet("resnet26", |args| plain(Bottleneck, [2, 2, 2, 2]).build(args),
        &[Weights::timm("timm/resnet26.bt_in1k", APACHE, 75.298, || imagenet(224, 0.875))]),
    resnet("resnet50", |args| plain(Bottleneck, [3, 4, 6, 3]).build(args),
        &[Weights::timm("timm/resnet50.a1_in1k", APACHE, 80.382, || imagenet(224, 0.95))]),
    resnet("resnet101", |args| plain(Bottleneck, [3, 4, 23, 3]).build(args),
        &[Weights::timm("timm/resnet101.a1h_in1k", APACHE, 81.95, || imagenet(224, 0.95))]),
    resnet("resnet152", |args| plain(Bottleneck, [3, 8, 36, 3]).build(args),
        &[Weights::timm("timm/resnet152.a1h_in1k", APACHE, 82.818, || imagenet(224, 0.95))]),
    resnext("resnext50_32x4d", |args| plain(Bottleneck, [3, 4, 6, 3]).grouped(32, 4).build(args),
        &[Weights::timm("timm/resnext50_32x4d.a1h_in1k", APACHE, 81.14, || imagenet(224, 0.95))]),
    resnext("resnext101_32x8d", |args| plain(Bottleneck, [3, 4, 23, 3]).grouped(32, 8).build(args),
        &[Weights::timm("timm/resnext101_32x8d.tv_in1k", BSD, 79.308, bilinear)]),
    wide("wide_resnet50_2", |args| plain(Bottleneck, [3, 4, 6, 3]).grouped(1, 128).build(args),
        &[Weights::timm("timm/wide_resnet50_2.racm_in1k", APACHE, 81.466, || imagenet(224, 0.875))]),
    wide("wide_resnet101_2", |args| plain(Bottleneck, [3, 4, 23, 3]).grouped(1, 128).build(args),
        &[Weights::timm("timm/wide_resnet101_2.tv_in1k", BSD, 78.862, bilinear)]),
    resnet_d("resnet18d", 224, |args| plain(Basic, [2, 2, 2, 2]).d().build(args),
        &[Weights::timm("timm/resnet18d.ra2_in1k", APACHE, 72.296, || imagenet(224, 0.875))]),
    resnet_d("resnet34d", 224, |args| plain(Basic, [3, 4, 6, 3]).d().build(args),
        &[Weights::timm("timm/resnet34d.ra2_in1k", APACHE, 77.108, || imagenet(224, 0.875))]),
    resnet_d("resnet26d", 224, |args| plain(Bottleneck, [2, 2, 2, 2]).d().build(args),
        &[Weights::timm("timm/resnet26d.bt_in1k", APACHE, 76.698, || imagenet(224, 0.875))]),
    resnet_d("resnet50d", 224, |args| plain(Bottleneck, [3, 4, 6, 3]).d().build(args),
        &[Weights::timm("timm/resnet50d.ra2_in1k", APACHE, 80.546, || imagenet(224, 0.875))]),
    resnet_d("resnet101d", 256, |args| plain(Bottleneck, [3, 4, 23, 3]).d().build(args),
        &[Weights::timm("timm/resnet101d.ra2_in1k", APACHE, 82.254, || imagenet(256, 0.95))]),
    resnet_d("resnet152d", 256, |args| plain(Bottleneck, [3, 8, 36, 3]).d().build(args),
        &[Weights::timm("timm/resnet152d.ra2_in1k", APACHE, 83.16, || imagenet(256, 0.95))]),
];

const APACHE: &str = "Apache-2.0";
const BSD: &str = "BSD-3-Clause";

/// torchvision's input.
fn bilinear() -> InputSpec {
    InputSpec { interpolation: Interpolation::Bilinear, ..imagenet(224, 0.875) }
}

const fn resnet(name: &'static str, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        timm: Some(name),
        family: "ResNet",
        paper: "He et al., Deep residual learning for image recognition, CVPR 2016",
        head: |n_classes| LayerSpec::dense("fc", n_classes),
        first_conv: Some("conv1"),
        blocks: &[
            ("stem", &["conv1", "bn1"]),
            ("layer1", &["layer1"]),
            ("layer2", &["layer2"]),
            ("layer3", &["layer3"]),
            ("layer4", &["layer4"]),
        ],
        input_spec: InputSpec::imagenet,
        init: Init::Kaiming,
        weights,
        other_names: &[OtherNames { library: "transformers", layers: transformers_names }],
        strangers: &[
            Stranger { tensor: "conv1.0.weight", what: "a ResNet-D (resnet50d and others)" },
            Stranger { tensor: "layer1.0.se.fc1.weight", what: "an SE-ResNet" },
        ],
        ..ModelInfo::new(name, build)
    }
}

const fn resnext(name: &'static str, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        family: "ResNeXt",
        paper: "Xie et al., Aggregated residual transformations for deep neural networks, CVPR 2017",
        ..resnet(name, build, weights)
    }
}

const fn wide(name: &'static str, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        family: "Wide ResNet",
        paper: "Zagoruyko and Komodakis, Wide residual networks, BMVC 2016",
        ..resnet(name, build, weights)
    }
}

const fn resnet_d(name: &'static str, side: usize, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        family: "ResNet-D",
        paper: "He et al., Bag of tricks for image classification with convolutional neural networks, CVPR 2019",
        first_conv: Some("conv1.0"),
        usual_input: (3, side, side),
        other_names: &[],
        strangers: &[Stranger {
            tensor: "conv1.weight",
            what: "a ResNet with one convolution of 7×7 as stem",
        }],
        ..resnet(name, build, weights)
    }
}

/// The names of Hugging Face's transformers for each layer of the deepest network, and timm's.
fn transformers_names() -> Vec<(String, String)> {
    let mut names = vec![
        ("resnet.embedder.embedder.convolution".to_owned(), "conv1".to_owned()),
        ("resnet.embedder.embedder.normalization".to_owned(), "bn1".to_owned()),
        ("classifier.1".to_owned(), "fc".to_owned()),
    ];
    for (s, repeats) in [3, 8, 36, 3].into_iter().enumerate() {
        for i in 0..repeats {
            let (theirs, ours) =
                (format!("resnet.encoder.stages.{s}.layers.{i}"), format!("layer{}.{i}", s + 1));
            let layers =
                (0..3).map(|j| (format!("layer.{j}"), format!("conv{}", j + 1), format!("bn{}", j + 1)));
            let shortcut = ("shortcut".to_owned(), "downsample.0".to_owned(), "downsample.1".to_owned());
            for (layer, conv, norm) in layers.chain([shortcut]) {
                names.push((format!("{theirs}.{layer}.convolution"), format!("{ours}.{conv}")));
                names.push((format!("{theirs}.{layer}.normalization"), format!("{ours}.{norm}")));
            }
        }
    }
    names
}

/// Channels of the four stages, before a bottleneck's fourfold output.
const STAGES: [usize; 4] = [64, 128, 256, 512];
const STEM: usize = 64;

/// The layers of a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResidualBlock {
    /// Two 3×3 convolutions.
    Basic,
    /// A 1×1 convolution that narrows, a 3×3 convolution and a 1×1 convolution to four times the channels.
    Bottleneck,
}

impl ResidualBlock {
    const fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// Settings of a residual network for photos. The tensor names are timm's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Channels of the input.
    pub channels: usize,
    /// Layers of a block.
    pub block: ResidualBlock,
    /// Blocks of each stage.
    pub blocks: [usize; 4],
    /// Groups of a bottleneck's 3×3 convolutions, ResNeXt's cardinality.
    pub groups: usize,
    /// Channels of a group in the first stage; 64 in a ResNet, whose one group it is.
    pub group_width: usize,
    /// Whether it is a ResNet-D: three 3×3 convolutions in place of the stem's 7×7, and average pooling before a shortcut's
    /// convolution in place of its stride.
    pub deep_stem: bool,
}

/// A ResNet for RGB.
const fn plain(block: ResidualBlock, blocks: [usize; 4]) -> ResNetConfig {
    ResNetConfig { channels: 3, block, blocks, groups: 1, group_width: 64, deep_stem: false }
}

impl ResNetConfig {
    /// ResNet-18: 11,689,512 parameters with 1000 classes.
    pub const RESNET18: Self = plain(Basic, [2, 2, 2, 2]);
    /// ResNet-50: 25,557,032 parameters with 1000 classes.
    pub const RESNET50: Self = plain(Bottleneck, [3, 4, 6, 3]);

    const fn grouped(self, groups: usize, group_width: usize) -> Self {
        Self { groups, group_width, ..self }
    }

    const fn d(self) -> Self {
        Self { deep_stem: true, ..self }
    }

    fn build(self, args: &BuildArgs<'_>) -> Result<Arc<dyn Network>> {
        Ok(Arc::new(ResNet::new(&Self { channels: args.channels()?, ..self }, args.init, &args.vb)?))
    }
}

/// Residual network without its last layer: images (B, C, H, W) of any size to features (B, 512), or (B, 2048) with
/// bottlenecks.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_models::networks::{ResNet, ResNetConfig};
/// use firstsight_models::{Init, Network, Params};
///
/// let params = Params::seeded(1, &Device::Cpu);
/// let network = ResNet::new(&ResNetConfig::RESNET18, Init::Kaiming, &params.builder())?;
/// let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// assert_eq!(network.forward_features(&images, false)?.dims(), [1, 512, 2, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ResNet {
    channels: usize,
    stem: Vec<ConvNorm>,
    blocks: Vec<Block>,
}

#[derive(Debug, Clone)]
struct Block {
    /// `layerS.I`
    name: String,
    layers: Vec<ConvNorm>,
    /// Where the shape changes.
    shortcut: Option<Projection>,
}

/// A 1×1 convolution of the block's input, with its stride or after pooling by it.
#[derive(Debug, Clone)]
struct Projection {
    pooled: bool,
    conv: ConvNorm,
}

impl ResNet {
    /// The network with variables from `vb`.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a stage without blocks, and for groups without channels.
    pub fn new(config: &ResNetConfig, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        if config.blocks.contains(&0) {
            let found = format!("{:?}", config.blocks);
            return Err(Error::Setting { model: "ResNet", rule: "each stage must have a block", found });
        }
        let (groups, width) = (config.groups, config.group_width);
        if groups == 0 || width == 0 {
            let found = format!("{groups} groups of {width} channels");
            return Err(Error::Setting {
                model: "ResNet",
                rule: "a bottleneck must have a group and channels in it",
                found,
            });
        }
        let stem = stem(config, init, vb)?;
        let mut blocks = Vec::with_capacity(config.blocks.iter().sum());
        let mut n_in = STEM;
        for (s, channels) in STAGES.into_iter().enumerate() {
            for i in 0..config.blocks[s] {
                let stride = if s > 0 && i == 0 { 2 } else { 1 };
                let name = format!("layer{}.{i}", s + 1);
                let block = Block::new(name, n_in, channels, stride, config, init, vb)?;
                blocks.push(block);
                n_in = channels * config.block.expansion();
            }
        }
        Ok(Self { channels: config.channels, stem, blocks })
    }
}

fn stem(config: &ResNetConfig, init: Init, vb: &VarBuilder<'_>) -> CandleResult<Vec<ConvNorm>> {
    let conv = |spec, conv: &str, bn: &str| {
        ConvNorm::new(spec, NormConfig::TORCH, Activation::Relu, init, &vb.pp(conv), &vb.pp(bn))
    };
    let square = |n_in, n_out, stride| ConvSpec::square(n_in, n_out, stride, Padding::Symmetric(1));
    if config.deep_stem {
        // timm numbers convolutions, norms and activations through.
        return Ok(vec![
            conv(square(config.channels, STEM / 2, 2), "conv1.0", "conv1.1")?,
            conv(square(STEM / 2, STEM / 2, 1), "conv1.3", "conv1.4")?,
            conv(square(STEM / 2, STEM, 1), "conv1.6", "bn1")?,
        ]);
    }
    let seven = ConvSpec { kernel: 7, padding: Padding::Symmetric(3), ..square(config.channels, STEM, 2) };
    Ok(vec![conv(seven, "conv1", "bn1")?])
}

const MAX_POOL: Pool2dConfig =
    Pool2dConfig { kernel: (3, 3), stride: (2, 2), padding: (1, 1), rounding: Rounding::Floor };

impl Block {
    fn new(
        name: String,
        n_in: usize,
        channels: usize,
        stride: usize,
        config: &ResNetConfig,
        init: Init,
        vb: &VarBuilder<'_>,
    ) -> CandleResult<Self> {
        let vb = vb.pp(&name);
        let norm = NormConfig::TORCH;
        let n_out = channels * config.block.expansion();
        let square = |n_in, n_out, stride| ConvSpec::square(n_in, n_out, stride, Padding::Symmetric(1));
        let specs = match config.block {
            Basic => vec![square(n_in, n_out, stride), square(n_out, n_out, 1)],
            Bottleneck => {
                let inner = channels * config.group_width / 64 * config.groups;
                let middle = ConvSpec { groups: config.groups, ..square(inner, inner, stride) };
                vec![ConvSpec::pointwise(n_in, inner), middle, ConvSpec::pointwise(inner, n_out)]
            }
        };
        let last = specs.len();
        let layers = specs.into_iter().zip(1..).map(|(spec, i)| {
            // The last activation follows the sum.
            let activation = if i == last { Activation::Identity } else { Activation::Relu };
            let (conv, bn) = (vb.pp(format!("conv{i}")), vb.pp(format!("bn{i}")));
            ConvNorm::new(spec, norm, activation, init, &conv, &bn)
        });
        let layers = layers.collect::<CandleResult<Vec<_>>>()?;
        let shortcut = if stride == 1 && n_in == n_out {
            None
        } else {
            let (pooled, first) = (config.deep_stem && stride > 1, usize::from(config.deep_stem));
            let stride = if config.deep_stem { 1 } else { stride };
            let spec = ConvSpec { stride, ..ConvSpec::pointwise(n_in, n_out) };
            let vb = vb.pp("downsample");
            let (conv, bn) = (vb.pp(first), vb.pp(first + 1));
            Some(Projection {
                pooled,
                conv: ConvNorm::new(spec, norm, Activation::Identity, init, &conv, &bn)?,
            })
        };
        Ok(Self { name, layers, shortcut })
    }

    fn n_out(&self) -> usize {
        self.layers.last().map_or(0, ConvNorm::n_out)
    }

    fn forward(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let (_, _, height, width) = xs.dims4()?;
        let size = (height, width);
        let (block, _) = block(size, self.layers.iter().map(ConvNorm::link))?;
        let shortcut = match &self.shortcut {
            None => Shortcut::Identity,
            Some(Projection { pooled: false, conv }) => Shortcut::Projection(conv.link().layer(size)),
            Some(Projection { pooled: true, conv }) => {
                let pooled = ops::avg_pool2d(xs, &avg_pool(size), PadCounting::Exclude)?;
                let sum = (block.forward_t(xs, train)? + conv.forward(&pooled, train)?)?;
                return ops::activate(&sum, Activation::Relu);
            }
        };
        block.shortcut(shortcut).post_activation(Activation::Relu).forward_t(xs, train)
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        let input = trace.place();
        self.layers.iter().try_for_each(|layer| layer.describe(trace))?;
        let mut other = input;
        if let Some(Projection { pooled, conv }) = &self.shortcut {
            other = trace.place();
            trace.branch_from(input);
            if *pooled {
                let (_, height, width) = trace.shape().map()?;
                trace.avg_pool(format!("{}.downsample.0", self.name), &avg_pool((height, width)))?;
            }
            conv.describe(trace)?;
        }
        trace.add(format!("{}.add", self.name), other);
        trace.activation(format!("{}.act", self.name), Activation::Relu);
        Ok(())
    }
}

/// The pooling of a strided shortcut in ResNet-D: 2×2 windows, which are cut at the bottom and right of an odd size.
fn avg_pool((height, width): (usize, usize)) -> Pool2dConfig {
    let kernel = (height.min(2), width.min(2));
    Pool2dConfig { kernel, stride: (2, 2), padding: (0, 0), rounding: Rounding::Ceil }
}

impl Network for ResNet {
    fn n_features(&self) -> usize {
        self.blocks.last().map_or(0, Block::n_out)
    }

    /// (B, C, H, W) to (B, 512 or 2048, ⌈H / 32⌉, ⌈W / 32⌉).
    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        InputShape::check_maps(xs, self.channels, 1)?;
        let (_, _, height, width) = xs.dims4()?;
        let (stem, _) = block((height, width), self.stem.iter().map(ConvNorm::link))?;
        let mut xs = stem.max_pool(MAX_POOL).forward_t(xs, train)?;
        for block in &self.blocks {
            xs = block.forward(&xs, train)?;
        }
        Ok(xs)
    }

    fn pre_logits(&self, features: &Tensor, _train: bool) -> CandleResult<Tensor> {
        ops::global_avg_pool2d(features)
    }

    fn named_layers(&self) -> Vec<NamedLayer<'_>> {
        let stem = NamedLayer::new("bn1", |xs| {
            InputShape::check_maps(xs, self.channels, 1)?;
            self.stem.iter().try_fold(xs.clone(), |xs, conv| conv.forward(&xs, false))
        });
        let max_pool = NamedLayer::new("maxpool", |xs| ops::max_pool2d(xs, &MAX_POOL));
        let blocks =
            self.blocks.iter().map(|block| NamedLayer::new(&block.name, |xs| block.forward(xs, false)));
        let pool = NamedLayer::new("global_pool", |xs| self.pre_logits(xs, false));
        [stem, max_pool].into_iter().chain(blocks).chain([pool]).collect()
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        self.stem.iter().try_for_each(|conv| conv.describe(trace))?;
        trace.max_pool("maxpool", &MAX_POOL)?;
        self.blocks.iter().try_for_each(|block| block.describe(trace))?;
        trace.global_pool("global_pool")
    }

    fn takes_any_size(&self) -> bool {
        true
    }
}
