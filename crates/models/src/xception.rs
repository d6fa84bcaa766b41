//! Xception: Chollet, Xception: Deep learning with depthwise separable convolutions, 2017, fig. 5.

use candle_core::{ModuleT, Result as CandleResult, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops::{self as ops, Activation, Pool2dConfig, Rounding, Shortcut};

use crate::layers::{Conv, ConvNorm, ConvSpec, KerasNames, Link, NormConfig, Padding, block};
use crate::trace::{Kind, Trace};
use crate::{Backbone, Dims, Error, Framework, Network, Result, Scheme, Stage};

/// A module of fig. 5: separable convolutions between two ReLUs, then pooling, beside a shortcut.
struct Module {
    /// Output channels of each separable convolution.
    channels: &'static [usize],
    /// Whether a ReLU comes before the first.
    relu_first: bool,
    /// 2: 3×3 max pooling by 2, and a strided 1×1 convolution as shortcut. 1: neither.
    stride: usize,
}

#[rustfmt::skip]
const MODULES: [Module; 12] = {
    const MIDDLE: Module = Module { channels: &[728, 728, 728], relu_first: true, stride: 1 };
    [
        Module { channels: &[128, 128],  relu_first: false, stride: 2 },
        Module { channels: &[256, 256],  relu_first: true,  stride: 2 },
        Module { channels: &[728, 728],  relu_first: true,  stride: 2 },
        MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE,
        Module { channels: &[728, 1024], relu_first: true,  stride: 2 },
    ]
};
const STEM: [usize; 2] = [32, 64];
const EXIT: [usize; 2] = [1536, 2048];

/// What makes an Xception. Its tensors have timm's names (`legacy_xception`) whatever the framework.
///
/// 22,855,952 parameters at width 1 with 1000 classes.
#[derive(Debug, Clone, PartialEq)]
pub struct XceptionConfig {
    /// Channels of the input.
    pub channels: usize,
    /// Every layer's channels are divided by this: 1 for Xception, more for a small one of the same build.
    pub divisor: usize,
    /// Whose padding and batch normalisation.
    pub framework: Framework,
}

impl XceptionConfig {
    /// timm's `legacy_xception` for RGB.
    pub const TIMM: Self = Self { channels: 3, divisor: 1, framework: Framework::Torch };
    /// Keras's Xception.
    pub const KERAS: Self = Self { framework: Framework::Keras, ..Self::TIMM };

    fn norm(&self) -> NormConfig {
        match self.framework {
            Framework::Torch => NormConfig::TORCH,
            Framework::Keras => NormConfig::keras(0.01),
        }
    }

    /// The pooling of a strided module for a map of this size.
    fn pool(&self, (height, width): (usize, usize)) -> Pool2dConfig {
        let (padding, rounding) = match self.framework {
            Framework::Torch => ((1, 1), Rounding::Floor),
            // "Same": a pixel on both sides of an odd size, one after an even size, where the last window hangs over.
            Framework::Keras => ((height % 2, width % 2), Rounding::Ceil),
        };
        Pool2dConfig { kernel: (3, 3), stride: (2, 2), padding, rounding }
    }
}

/// Xception without its classifier: (B, C, H, W), at least 7 pixels high and wide, to (B, 2048).
///
/// ```
/// use candle_core::{DType, Device, ModuleT, Tensor};
/// use firstsight_models::{Network, Params, Scheme, Xception, XceptionConfig};
///
/// let params = Params::seeded(1, &Device::Cpu);
/// let small = XceptionConfig { divisor: 8, ..XceptionConfig::TIMM };
/// let network = Xception::new(&small, Scheme::Kaiming, &params.builder())?;
/// let images = Tensor::zeros((1, 3, 150, 150), DType::F32, &Device::Cpu)?;
/// assert_eq!(network.forward_features(&images, false)?.dims(), [1, 256, 5, 5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Xception {
    config: XceptionConfig,
    stem: [ConvNorm; 2],
    blocks: Vec<Block>,
    exit: [Separable; 2],
}

/// A depthwise 3×3 convolution and a 1×1 convolution with batch normalisation.
#[derive(Debug, Clone)]
struct Separable {
    depthwise: Conv,
    pointwise: ConvNorm,
}

#[derive(Debug, Clone)]
struct Block {
    /// The place among the blocks, from 0; timm counts from 1, Keras from 2.
    index: usize,
    relu_first: bool,
    rep: Vec<Separable>,
    shortcut: Option<ConvNorm>,
}

impl Xception {
    /// The network with variables from `vb`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a divisor that leaves some layer without a whole number of channels.
    pub fn new(config: &XceptionConfig, scheme: Scheme, vb: &VarBuilder<'_>) -> Result<Self> {
        if config.divisor == 0 || 8 % config.divisor != 0 {
            let found = config.divisor.to_string();
            return Err(Error::Setting {
                model: "xception",
                rule: "the divisor must be 1, 2, 4 or 8",
                found,
            });
        }
        let stem_conv = |n_in, n_out, stride, conv: &str, bn: &str| {
            let spec = ConvSpec::square(n_in, n_out, stride, Padding::Valid);
            ConvNorm::new(spec, config.norm(), Activation::Relu, scheme, &vb.pp(conv), &vb.pp(bn))
        };
        let [first, second] = STEM.map(|channels| channels / config.divisor);
        let stem = [
            stem_conv(config.channels, first, 2, "conv1", "bn1")?,
            stem_conv(first, second, 1, "conv2", "bn2")?,
        ];

        let mut blocks = Vec::with_capacity(MODULES.len());
        let mut n_in = second;
        for (i, module) in MODULES.iter().enumerate() {
            let block = Block::new(i, n_in, module, config, scheme, vb)?;
            n_in = block.n_out();
            blocks.push(block);
        }

        let [third, fourth] = EXIT.map(|channels| channels / config.divisor);
        let exit_conv = |n_in, n_out, conv: &str, bn: &str| {
            Separable::new(n_in, n_out, Activation::Relu, config, scheme, &vb.pp(conv), &vb.pp(bn))
        };
        let exit = [exit_conv(n_in, third, "conv3", "bn3")?, exit_conv(third, fourth, "conv4", "bn4")?];
        Ok(Self { config: config.clone(), stem, blocks, exit })
    }

    /// The side of the smallest square input, which the first two convolutions set.
    pub const SMALLEST: usize = 7;
}

impl Separable {
    fn new(
        n_in: usize,
        n_out: usize,
        activation: Activation,
        config: &XceptionConfig,
        scheme: Scheme,
        conv: &VarBuilder<'_>,
        bn: &VarBuilder<'_>,
    ) -> Result<Self> {
        let depthwise = ConvSpec::depthwise(n_in, 1, 1, Padding::Symmetric(1));
        let pointwise = ConvSpec::pointwise(n_in, n_out);
        Ok(Self {
            depthwise: Conv::new(depthwise, scheme, &conv.pp("conv1"))?,
            pointwise: ConvNorm::new(
                pointwise,
                config.norm(),
                activation,
                scheme,
                &conv.pp("pointwise"),
                bn,
            )?,
        })
    }

    fn forward(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let (_, _, height, width) = xs.dims4()?;
        let [depthwise, pointwise] = self.links();
        let (block, _) = block((height, width), depthwise, [pointwise])?;
        block.forward_t(xs, train)
    }

    fn links(&self) -> [Link<'_>; 2] {
        [self.depthwise.link(), self.pointwise.link()]
    }

    /// `keras` is the layer's name, as in `block2_sepconv1`.
    fn describe(
        &self,
        trace: &mut Trace,
        keras: &str,
        activation: Option<(Kind, String)>,
    ) -> CandleResult<()> {
        let before = trace.entries().len();
        self.depthwise.describe(trace, None, None)?;
        let names = KerasNames { norm: Some(format!("{keras}_bn")), activation, ..KerasNames::default() };
        self.pointwise.describe(trace, names)?;
        trace.unite(before..before + 2, Kind::SeparableConv, keras);
        Ok(())
    }
}

impl Block {
    fn new(
        index: usize,
        n_in: usize,
        module: &Module,
        config: &XceptionConfig,
        scheme: Scheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let vb = vb.pp(format!("block{}", index + 1));
        let mut rep = Vec::with_capacity(module.channels.len());
        let mut n = n_in;
        // The places in timm's `rep`: [ReLU,] separable, norm, ReLU, separable, norm …
        let mut place = usize::from(module.relu_first);
        for (i, channels) in module.channels.iter().enumerate() {
            let n_out = channels / config.divisor;
            let last = i + 1 == module.channels.len();
            let activation = if last { Activation::Identity } else { Activation::Relu };
            let (conv, bn) = (vb.pp(format!("rep.{place}")), vb.pp(format!("rep.{}", place + 1)));
            rep.push(Separable::new(n, n_out, activation, config, scheme, &conv, &bn)?);
            n = n_out;
            place += 3;
        }
        let shortcut = if module.stride == 1 {
            None
        } else {
            let spec = ConvSpec { stride: module.stride, ..ConvSpec::pointwise(n_in, n) };
            let (conv, bn) = (vb.pp("skip"), vb.pp("skipbn"));
            Some(ConvNorm::new(spec, config.norm(), Activation::Identity, scheme, &conv, &bn)?)
        };
        Ok(Self { index, relu_first: module.relu_first, rep, shortcut })
    }

    /// timm's name.
    fn name(&self) -> String {
        format!("block{}", self.index + 1)
    }

    fn n_out(&self) -> usize {
        self.rep.last().map_or(0, |last| last.pointwise.n_out())
    }

    fn forward(&self, xs: &Tensor, config: &XceptionConfig, train: bool) -> CandleResult<Tensor> {
        let before = if self.relu_first { Activation::Relu } else { Activation::Identity };
        let mut links = self.rep.iter().flat_map(Separable::links);
        let Some(first) = links.next() else { return Ok(xs.clone()) };
        let (_, _, height, width) = xs.dims4()?;
        let (block, size) = block((height, width), first, links)?;
        let block = match &self.shortcut {
            Some(shortcut) => block
                .max_pool(config.pool(size))
                .shortcut(Shortcut::Projection(shortcut.link().layer((height, width)))),
            None => block.shortcut(Shortcut::Identity),
        };
        block.pre_activation(before).forward_t(xs, train)
    }

    fn describe(&self, trace: &mut Trace, config: &XceptionConfig) -> CandleResult<()> {
        let input = trace.dims();
        let keras = format!("block{}", self.index + 2);
        let relu = |i: usize| (Kind::Activation, format!("{keras}_sepconv{i}_act"));
        if self.relu_first {
            let (kind, name) = relu(1);
            trace.keep(kind).keras(name);
        }
        for (i, separable) in self.rep.iter().enumerate() {
            let next = (i + 1 < self.rep.len()).then(|| relu(i + 2));
            separable.describe(trace, &format!("{keras}_sepconv{}", i + 1), next)?;
        }
        if let Some(shortcut) = &self.shortcut {
            let (channels, height, width) = trace.dims().map()?;
            let (height, width) = config.pool((height, width)).output_size((height, width))?;
            let pooled = Dims::Map { channels, height, width };
            let module =
                format!("{}.rep.{}", self.name(), 3 * self.rep.len() - usize::from(!self.relu_first));
            trace.push(Kind::MaxPool, pooled).module(module).keras(format!("{keras}_pool"));
            trace.fork(input);
            // Keras numbers its nameless layers: the shortcuts are those of blocks 2, 3, 4 and 13.
            let nth = self.index.min(3);
            let names = KerasNames {
                conv: Some(numbered("conv2d", nth)),
                norm: Some(numbered("batch_normalization", nth)),
                ..KerasNames::default()
            };
            shortcut.describe(trace, names)?;
        }
        trace.keep(Kind::Add).keras(numbered("add", self.index));
        Ok(())
    }
}

/// Keras's name of the nth layer without a name of its own.
fn numbered(name: &str, nth: usize) -> String {
    if nth == 0 { name.to_owned() } else { format!("{name}_{nth}") }
}

impl ModuleT for Xception {
    fn forward_t(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.pre_logits(&self.forward_features(xs, train)?, train)
    }
}

impl Backbone for Xception {
    fn n_features(&self) -> usize {
        self.exit[1].pointwise.n_out()
    }
}

impl Network for Xception {
    /// (B, C, H, W) to (B, 2048, h, w): 299 to 10, 150 to 5.
    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        Dims::check_maps(xs, self.config.channels, Self::SMALLEST)?;
        let mut xs = xs.clone();
        for conv in &self.stem {
            xs = conv.forward(&xs, train)?;
        }
        for block in &self.blocks {
            xs = block.forward(&xs, &self.config, train)?;
        }
        for separable in &self.exit {
            xs = separable.forward(&xs, train)?;
        }
        Ok(xs)
    }

    fn pre_logits(&self, features: &Tensor, _train: bool) -> CandleResult<Tensor> {
        ops::global_avg_pool2d(features)
    }

    fn stages(&self) -> Vec<Stage<'_>> {
        let stem = self.stem.iter().enumerate().map(|(i, conv)| {
            Stage::new(format!("bn{}", i + 1), move |xs| {
                if i == 0 {
                    Dims::check_maps(xs, self.config.channels, Self::SMALLEST)?;
                }
                conv.forward(xs, false)
            })
        });
        let blocks = self
            .blocks
            .iter()
            .map(|block| Stage::new(block.name(), |xs| block.forward(xs, &self.config, false)));
        let exit =
            self.exit.iter().enumerate().map(|(i, separable)| {
                Stage::new(format!("bn{}", i + 3), move |xs| separable.forward(xs, false))
            });
        let pool = Stage::new("global_pool", |xs| self.pre_logits(xs, false));
        stem.chain(blocks).chain(exit).chain([pool]).collect()
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        for (i, conv) in self.stem.iter().enumerate() {
            let name = format!("block1_conv{}", i + 1);
            let names = KerasNames {
                pad: None,
                norm: Some(format!("{name}_bn")),
                activation: Some((Kind::Activation, format!("{name}_act"))),
                conv: Some(name),
            };
            conv.describe(trace, names)?;
        }
        self.blocks.iter().try_for_each(|block| block.describe(trace, &self.config))?;
        for (i, separable) in self.exit.iter().enumerate() {
            let name = format!("block14_sepconv{}", i + 1);
            separable.describe(trace, &name, Some((Kind::Activation, format!("{name}_act"))))?;
        }
        trace.global_pool()?.module("global_pool").keras("avg_pool");
        Ok(())
    }
}
