//! Residual networks for small images: He, Zhang, Ren and Sun, Deep residual learning for image recognition, 2016,
//! section 4.2.

use std::sync::Arc;

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::VarBuilder;
use firstsight_data::InputSpec;
use firstsight_ops::{self as ops, Activation, PadCounting, Pool2dConfig, Shortcut};

use crate::graph::Op;
use crate::layers::{ConvNorm, ConvSpec, NormConfig, Padding, block};
use crate::summary::{LayerKind, Trace, keras_names};
use crate::{Error, Init, InputShape, LayerSpec, ModelInfo, NamedLayer, Network, Result, Stranger};

/// ResNet-20 for small images of bytes, with torchvision's scheme of names. For deeper ones and plain networks, see
/// [`SmallResNetConfig`].
pub static RESNET_SMALL: ModelInfo = ModelInfo {
    name: "resnet-small",
    timm: None,
    aliases: &["resnet20", "resnet-20"],
    family: "ResNet",
    paper: "He et al., Deep residual learning for image recognition, CVPR 2016",
    build: |args| {
        let config = SmallResNetConfig { channels: args.channels()?, ..SmallResNetConfig::of(3) };
        Ok(Arc::new(SmallResNet::new(&config, args.init, &args.vb)?))
    },
    head: |n_classes| LayerSpec::dense("fc", n_classes),
    first_conv: Some("conv1"),
    blocks: &[
        ("stem", &["conv1", "bn1"]),
        ("layer1", &["layer1"]),
        ("layer2", &["layer2"]),
        ("layer3", &["layer3"]),
    ],
    usual_input: (3, 32, 32),
    usual_classes: 10,
    smallest_input: 1,
    input_multiple: 1,
    input_spec: InputSpec::bytes,
    init: Init::Kaiming,
    keras_names: keras_names::own,
    weights: &[],
    other_names: &[],
    left_out: &[],
    strangers: &[Stranger {
        tensor: "layer4.0.conv1.weight",
        what: "a ResNet for photos (torchvision's or timm's ResNet-18 or deeper), where this one is for small images",
    }],
};

/// Scale and offset that take bytes to −1 to 1.
const RESCALING: (f64, f64) = (1.0 / 127.5, -1.0);
/// Channels of the paper's three stages. The first works at full size, each other at half the size of the one before.
const STAGES: [usize; 3] = [16, 32, 64];

/// Settings of a small residual or plain network.
///
/// 269,722 parameters with 20 layers, RGB and 10 classes, with and without residual connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmallResNetConfig {
    /// Channels of the input.
    pub channels: usize,
    /// Blocks of two convolutions per stage, the paper's n: 6n + 2 layers.
    pub blocks: usize,
    /// Whether each block's input is added to its output. Shortcuts have no parameters: where the feature maps change
    /// their size, every second pixel is taken and the new channels are zeros (the paper's option A).
    pub residual: bool,
}

impl SmallResNetConfig {
    /// The paper's network of 6·`blocks` + 2 layers for RGB.
    pub const fn of(blocks: usize) -> Self {
        Self { channels: 3, blocks, residual: true }
    }

    /// Number of layers with weights.
    pub const fn depth(&self) -> usize {
        6 * self.blocks + 2
    }
}

/// Residual network without its last layer: images (B, C, H, W) of bytes 0 to 255, of any size, to features (B, 64).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_models::networks::{SmallResNet, SmallResNetConfig};
/// use firstsight_models::{Init, Network, Params};
///
/// let plain = SmallResNetConfig { residual: false, ..SmallResNetConfig::of(3) };
/// assert_eq!(plain.depth(), 20);
/// let params = Params::seeded(1, &Device::Cpu);
/// let network = SmallResNet::new(&plain, Init::Kaiming, &params.builder())?;
/// let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(network.forward_features(&images, false)?.dims(), [2, 64, 8, 8]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SmallResNet {
    channels: usize,
    stem: ConvNorm,
    blocks: Vec<Block>,
}

#[derive(Debug, Clone)]
struct Block {
    /// `layerS.I`
    name: String,
    first: ConvNorm,
    second: ConvNorm,
    stride: usize,
    residual: bool,
}

impl SmallResNet {
    /// The network with variables from `vb`.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a network without blocks.
    pub fn new(config: &SmallResNetConfig, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        if config.blocks == 0 {
            let found = config.blocks.to_string();
            let rule = "a stage must have at least 1 block";
            return Err(Error::Setting { model: RESNET_SMALL.name, rule, found });
        }
        let [mut n_in, ..] = STAGES;
        let stem = conv_norm(config.channels, n_in, 1, Activation::Relu, init, vb, 1)?;
        let mut blocks = Vec::with_capacity(STAGES.len() * config.blocks);
        for (s, n_out) in STAGES.into_iter().enumerate() {
            for i in 0..config.blocks {
                let stride = if s > 0 && i == 0 { 2 } else { 1 };
                let name = format!("layer{}.{i}", s + 1);
                let vb = vb.pp(&name);
                // A residual block's second activation follows the sum.
                let after = if config.residual { Activation::Identity } else { Activation::Relu };
                let first = conv_norm(n_in, n_out, stride, Activation::Relu, init, &vb, 1)?;
                let second = conv_norm(n_out, n_out, 1, after, init, &vb, 2)?;
                blocks.push(Block { name, first, second, stride, residual: config.residual });
                n_in = n_out;
            }
        }
        Ok(Self { channels: config.channels, stem, blocks })
    }
}

fn conv_norm(
    n_in: usize,
    n_out: usize,
    stride: usize,
    activation: Activation,
    init: Init,
    vb: &VarBuilder<'_>,
    number: usize,
) -> CandleResult<ConvNorm> {
    let spec = ConvSpec::square(n_in, n_out, stride, Padding::Symmetric(1));
    let (conv, bn) = (vb.pp(format!("conv{number}")), vb.pp(format!("bn{number}")));
    ConvNorm::new(spec, NormConfig::TORCH, activation, init, &conv, &bn)
}

impl Block {
    fn forward(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let (_, _, height, width) = xs.dims4()?;
        let (block, _) = block((height, width), [self.first.link(), self.second.link()])?;
        if !self.residual {
            return block.forward_t(xs, train);
        }
        if self.stride == 1 {
            let block = block.shortcut(Shortcut::Identity).post_activation(Activation::Relu);
            return block.forward_t(xs, train);
        }
        ops::activate(&(block.forward_t(xs, train)? + self.strided_shortcut(xs)?)?, Activation::Relu)
    }

    /// Every second pixel of the input, and zeros for the new channels.
    fn strided_shortcut(&self, xs: &Tensor) -> CandleResult<Tensor> {
        let pixels = ops::avg_pool2d(xs, &self.every_second(), PadCounting::Exclude)?;
        let (before, after) = self.new_channels(xs.dim(1)?);
        pixels.pad_with_zeros(1, before, after)
    }

    fn every_second(&self) -> Pool2dConfig {
        Pool2dConfig { stride: (self.stride, self.stride), ..Pool2dConfig::square(1) }
    }

    /// Channels of zeros before and after those of the input.
    fn new_channels(&self, n_in: usize) -> (usize, usize) {
        let new = self.second.n_out() - n_in;
        (new / 2, new - new / 2)
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        let input = trace.place();
        self.first.describe(trace)?;
        self.second.describe(trace)?;
        if !self.residual {
            return Ok(());
        }
        let output = trace.place();
        trace.branch_from(input);
        if self.stride > 1 {
            let (channels, _, _) = trace.shape().map()?;
            let (before, after) = self.new_channels(channels);
            trace.apply(format!("{}.shortcut", self.name), Op::AvgPool(self.every_second()));
            trace.apply(format!("{}.pad", self.name), Op::PadChannels { before, after });
        }
        let shortcut = trace.place();
        trace.branch_from(output);
        trace.add(format!("{}.add", self.name), shortcut);
        trace.activation(format!("{}.relu2", self.name), Activation::Relu);
        Ok(())
    }
}

impl Network for SmallResNet {
    fn n_features(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.second.n_out())
    }

    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        InputShape::check_maps(xs, self.channels, RESNET_SMALL.smallest_input)?;
        let mut xs = self.stem.forward(&rescaled(xs)?, train)?;
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
            InputShape::check_maps(xs, self.channels, RESNET_SMALL.smallest_input)?;
            self.stem.forward(&rescaled(xs)?, false)
        });
        let blocks =
            self.blocks.iter().map(|block| NamedLayer::new(&block.name, |xs| block.forward(xs, false)));
        let pool = NamedLayer::new("global_pool", |xs| self.pre_logits(xs, false));
        [stem].into_iter().chain(blocks).chain([pool]).collect()
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        let (scale, offset) = RESCALING;
        trace.keep("rescaling", LayerKind::Rescaling, Op::Rescaling { scale, offset });
        self.stem.describe(trace)?;
        self.blocks.iter().try_for_each(|block| block.describe(trace))?;
        trace.global_pool("global_pool")
    }

    fn takes_any_size(&self) -> bool {
        true
    }
}

/// Bytes to [−1, 1].
fn rescaled(xs: &Tensor) -> CandleResult<Tensor> {
    let (scale, offset) = RESCALING;
    xs.affine(scale, offset)
}
