//! Residual networks for small images: He, Zhang, Ren and Sun, Deep residual learning for image recognition, 2016,
//! section 4.2.

use candle_core::{ModuleT, Result as CandleResult, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops::{self as ops, Activation, PadCounting, Pool2dConfig, Shortcut};

use crate::layers::{ConvNorm, ConvSpec, KerasNames, NormConfig, Padding, block};
use crate::trace::{Kind, Trace};
use crate::{Backbone, Dims, Error, Network, Result, Scheme, Stage};

/// The paper's table: the widths of the three stages, the first at full size, each other at half the size before.
const STAGES: [usize; 3] = [16, 32, 64];

/// What makes a small residual network, or the plain one beside it.
///
/// 269,722 parameters with 20 layers, RGB and 10 classes, with and without residual connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Channels of the input.
    pub channels: usize,
    /// Blocks of two convolutions a stage, the paper's n: 6n + 2 layers.
    pub blocks: usize,
    /// Whether each block's input is added to its output. Shortcuts have no parameters: where maps shrink and widen,
    /// every second pixel is taken and zeros are put into the new channels (the paper's option A).
    pub residual: bool,
}

impl ResNetConfig {
    /// The paper's network of 6·`blocks` + 2 layers for RGB.
    pub const fn of(blocks: usize) -> Self {
        Self { channels: 3, blocks, residual: true }
    }

    /// How many layers have weights.
    pub const fn depth(&self) -> usize {
        6 * self.blocks + 2
    }
}

/// A residual network without its classifier: (B, C, H, W) bytes in 0..=255, of any size, to (B, 64).
///
/// ```
/// use candle_core::{DType, Device, ModuleT, Tensor};
/// use firstsight_models::{Params, ResNet, ResNetConfig, Scheme};
///
/// let plain = ResNetConfig { residual: false, ..ResNetConfig::of(3) };
/// assert_eq!(plain.depth(), 20);
/// let params = Params::seeded(1, &Device::Cpu);
/// let network = ResNet::new(&plain, Scheme::Kaiming, &params.builder())?;
/// let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(network.forward_t(&images, false)?.dims(), [2, 64]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ResNet {
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

impl ResNet {
    /// The network with variables from `vb`, named as torchvision names a ResNet's.
    ///
    /// # Errors
    /// [`Error::Setting`] for a network without blocks.
    pub fn new(config: &ResNetConfig, scheme: Scheme, vb: &VarBuilder<'_>) -> Result<Self> {
        if config.blocks == 0 {
            let found = config.blocks.to_string();
            return Err(Error::Setting { model: "resnet", rule: "a stage needs at least 1 block", found });
        }
        let [mut n_in, ..] = STAGES;
        let stem = conv_norm(config.channels, n_in, 1, Activation::Relu, scheme, vb, 1)?;
        let mut blocks = Vec::with_capacity(STAGES.len() * config.blocks);
        for (s, n_out) in STAGES.into_iter().enumerate() {
            for i in 0..config.blocks {
                let stride = if s > 0 && i == 0 { 2 } else { 1 };
                let name = format!("layer{}.{i}", s + 1);
                let vb = vb.pp(&name);
                // The second activation comes after the sum.
                let after = if config.residual { Activation::Identity } else { Activation::Relu };
                let first = conv_norm(n_in, n_out, stride, Activation::Relu, scheme, &vb, 1)?;
                let second = conv_norm(n_out, n_out, 1, after, scheme, &vb, 2)?;
                blocks.push(Block { name, first, second, stride, residual: config.residual });
                n_in = n_out;
            }
        }
        Ok(Self { channels: config.channels, stem, blocks })
    }

    /// The side of the smallest square input.
    pub const SMALLEST: usize = 1;
}

fn conv_norm(
    n_in: usize,
    n_out: usize,
    stride: usize,
    activation: Activation,
    scheme: Scheme,
    vb: &VarBuilder<'_>,
    number: usize,
) -> CandleResult<ConvNorm> {
    let spec = ConvSpec::square(n_in, n_out, stride, Padding::Symmetric(1));
    let (conv, bn) = (vb.pp(format!("conv{number}")), vb.pp(format!("bn{number}")));
    ConvNorm::new(spec, NormConfig::TORCH, activation, scheme, &conv, &bn)
}

impl Block {
    fn forward(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let (_, _, height, width) = xs.dims4()?;
        let (block, _) = block((height, width), self.first.link(), [self.second.link()])?;
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
        let stride = (self.stride, self.stride);
        let every_second = Pool2dConfig { stride, ..Pool2dConfig::square(1) };
        let pixels = ops::avg_pool2d(xs, &every_second, PadCounting::Exclude)?;
        let new = self.second.n_out() - xs.dim(1)?;
        pixels.pad_with_zeros(1, new / 2, new - new / 2)
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        self.first.describe(trace, keras_names(&format!("{}.", self.name), 1))?;
        let mut names = keras_names(&format!("{}.", self.name), 2);
        let relu = if self.residual { names.activation.take() } else { None };
        self.second.describe(trace, names)?;
        if let Some((kind, name)) = relu {
            trace.keep(Kind::Add).keras(format!("{}.add", self.name));
            trace.keep(kind).keras(name);
        }
        Ok(())
    }
}

fn keras_names(prefix: &str, number: usize) -> KerasNames {
    KerasNames {
        pad: None,
        conv: Some(format!("{prefix}conv{number}")),
        norm: Some(format!("{prefix}bn{number}")),
        activation: Some((Kind::Relu, format!("{prefix}relu{number}"))),
    }
}

impl ModuleT for ResNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.pre_logits(&self.forward_features(xs, train)?, train)
    }
}

impl Backbone for ResNet {
    fn n_features(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.second.n_out())
    }
}

impl Network for ResNet {
    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        Dims::check_maps(xs, self.channels, Self::SMALLEST)?;
        let mut xs = self.stem.forward(&rescaled(xs)?, train)?;
        for block in &self.blocks {
            xs = block.forward(&xs, train)?;
        }
        Ok(xs)
    }

    fn pre_logits(&self, features: &Tensor, _train: bool) -> CandleResult<Tensor> {
        ops::global_avg_pool2d(features)
    }

    fn stages(&self) -> Vec<Stage<'_>> {
        let stem = Stage::new("bn1", |xs| {
            Dims::check_maps(xs, self.channels, Self::SMALLEST)?;
            self.stem.forward(&rescaled(xs)?, false)
        });
        let blocks = self.blocks.iter().map(|block| Stage::new(&block.name, |xs| block.forward(xs, false)));
        let pool = Stage::new("global_pool", |xs| self.pre_logits(xs, false));
        [stem].into_iter().chain(blocks).chain([pool]).collect()
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        trace.keep(Kind::Rescaling).named("rescaling");
        self.stem.describe(trace, keras_names("", 1))?;
        self.blocks.iter().try_for_each(|block| block.describe(trace))?;
        trace.global_pool()?.named("global_pool");
        Ok(())
    }
}

/// Bytes to −1..=1.
fn rescaled(xs: &Tensor) -> CandleResult<Tensor> {
    xs.affine(1.0 / 127.5, -1.0)
}
