//! Xception: Chollet, Xception: Deep learning with depthwise separable convolutions, 2017, fig. 5.

use std::sync::Arc;

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::VarBuilder;
use firstsight_data::InputSpec;
use firstsight_ops::{self as ops, Activation, Pool2dConfig, Rounding, Shortcut};

use crate::layers::{Conv, ConvNorm, ConvSpec, Link, NormConfig, Padding, block};
use crate::summary::{Trace, keras_names};
use crate::{
    Error, Framework, Init, InputShape, LayerSpec, ModelInfo, NamedLayer, Network, OtherNames, Result,
    Stranger, Weights,
};

/// Xception with timm's tensor names (`legacy_xception`). For narrower ones, see [`XceptionConfig`].
pub static XCEPTION: ModelInfo = ModelInfo {
    name: "xception",
    timm: Some("legacy_xception"),
    aliases: &[],
    family: "Xception",
    paper: "Chollet, Xception: Deep learning with depthwise separable convolutions, CVPR 2017",
    build: |args| {
        let (channels, framework) = (args.channels()?, args.framework);
        let config = XceptionConfig { channels, framework, ..XceptionConfig::TIMM };
        Ok(Arc::new(Xception::new(&config, args.init, &args.vb)?))
    },
    head: |n_classes| LayerSpec::dense("fc", n_classes),
    first_conv: Some("conv1"),
    blocks: &[
        ("stem", &["conv1", "bn1", "conv2", "bn2"]),
        ("block1", &["block1"]),
        ("block2", &["block2"]),
        ("block3", &["block3"]),
        ("block4", &["block4"]),
        ("block5", &["block5"]),
        ("block6", &["block6"]),
        ("block7", &["block7"]),
        ("block8", &["block8"]),
        ("block9", &["block9"]),
        ("block10", &["block10"]),
        ("block11", &["block11"]),
        ("block12", &["block12"]),
        ("exit", &["conv3", "bn3", "conv4", "bn4"]),
    ],
    usual_input: (3, 299, 299),
    usual_classes: 1000,
    // The stem's two convolutions leave 1×1.
    smallest_input: 7,
    input_multiple: 1,
    input_spec: InputSpec::minus_one_to_one,
    // Keras's is the author's.
    init: Init::Keras,
    keras_names: keras_names::xception,
    weights: &[Weights {
        repository: "smp-hub/xception.imagenet",
        revision: "main",
        file: "model.safetensors",
        sha256: None,
        license: None,
        top1: Some(79.06),
        n_classes: 1000,
        input: || InputSpec::minus_one_to_one(3, 299, 299),
    }],
    other_names: &[OtherNames {
        library: "Cadene's pretrained-models",
        layers: || vec![("last_linear".to_owned(), "fc".to_owned())],
    }],
    left_out: &[],
    strangers: &[Stranger {
        tensor: "blocks.0.stack.conv1.conv_dw.weight",
        what: "timm's xception41, xception65 or xception71",
    }],
};

/// Module of fig. 5: separable convolutions, then pooling, and a shortcut.
struct Module {
    /// Output channels of each separable convolution.
    channels: &'static [usize],
    /// Whether a ReLU comes before the first.
    relu_first: bool,
    /// 2 for max pooling by 2 and a strided 1×1 convolution as shortcut, 1 for neither.
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

/// Settings of Xception. The tensor names are timm's (`legacy_xception`) for either framework.
///
/// 22,855,952 parameters at width 1 with 1000 classes.
#[derive(Debug, Clone, PartialEq)]
pub struct XceptionConfig {
    /// Channels of the input.
    pub channels: usize,
    /// Divisor of every layer's channels: 1, or 2, 4 or 8 for a narrow network of the same structure.
    pub divisor: usize,
    /// Framework of padding and batch normalization.
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

/// Xception without its last layer: images (B, C, H, W), at least 7 pixels high and wide, to features (B, 2048).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_models::networks::{Xception, XceptionConfig};
/// use firstsight_models::{Init, Network, Params};
///
/// let params = Params::seeded(1, &Device::Cpu);
/// let small = XceptionConfig { divisor: 8, ..XceptionConfig::TIMM };
/// let network = Xception::new(&small, Init::Kaiming, &params.builder())?;
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

/// A depthwise 3×3 convolution and a 1×1 convolution with batch normalization.
#[derive(Debug, Clone)]
struct Separable {
    depthwise: Conv,
    pointwise: ConvNorm,
}

#[derive(Debug, Clone)]
struct Block {
    /// `blockN`, from 1.
    name: String,
    relu_first: bool,
    rep: Vec<Separable>,
    shortcut: Option<ConvNorm>,
}

impl Xception {
    /// The network with variables from `vb`.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a divisor other than 1, 2, 4 and 8.
    pub fn new(config: &XceptionConfig, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        if config.divisor == 0 || 8 % config.divisor != 0 {
            let found = config.divisor.to_string();
            let rule = "the divisor must be 1, 2, 4 or 8";
            return Err(Error::Setting { model: XCEPTION.name, rule, found });
        }
        let stem_conv = |n_in, n_out, stride, conv: &str, bn: &str| {
            let spec = ConvSpec::square(n_in, n_out, stride, Padding::Valid);
            ConvNorm::new(spec, config.norm(), Activation::Relu, init, &vb.pp(conv), &vb.pp(bn))
        };
        let [first, second] = STEM.map(|channels| channels / config.divisor);
        let stem = [
            stem_conv(config.channels, first, 2, "conv1", "bn1")?,
            stem_conv(first, second, 1, "conv2", "bn2")?,
        ];

        let mut blocks = Vec::with_capacity(MODULES.len());
        let mut n_in = second;
        for (i, module) in MODULES.iter().enumerate() {
            let block = Block::new(i, n_in, module, config, init, vb)?;
            n_in = block.n_out();
            blocks.push(block);
        }

        let [third, fourth] = EXIT.map(|channels| channels / config.divisor);
        let exit_conv = |n_in, n_out, conv: &str, bn: &str| {
            Separable::new(n_in, n_out, Activation::Relu, config, init, &vb.pp(conv), &vb.pp(bn))
        };
        let exit = [exit_conv(n_in, third, "conv3", "bn3")?, exit_conv(third, fourth, "conv4", "bn4")?];
        Ok(Self { config: config.clone(), stem, blocks, exit })
    }
}

impl Separable {
    fn new(
        n_in: usize,
        n_out: usize,
        activation: Activation,
        config: &XceptionConfig,
        init: Init,
        conv: &VarBuilder<'_>,
        bn: &VarBuilder<'_>,
    ) -> Result<Self> {
        let depthwise = ConvSpec::depthwise(n_in, 1, 1, Padding::Symmetric(1));
        let pointwise = ConvSpec::pointwise(n_in, n_out);
        Ok(Self {
            depthwise: Conv::new(depthwise, init, &conv.pp("conv1"))?,
            pointwise: ConvNorm::new(pointwise, config.norm(), activation, init, &conv.pp("pointwise"), bn)?,
        })
    }

    fn forward(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let (_, _, height, width) = xs.dims4()?;
        let (block, _) = block((height, width), self.links())?;
        block.forward_t(xs, train)
    }

    fn links(&self) -> [Link<'_>; 2] {
        [self.depthwise.link(), self.pointwise.link()]
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        self.depthwise.describe(trace)?;
        self.pointwise.describe(trace)
    }
}

impl Block {
    fn new(
        index: usize,
        n_in: usize,
        module: &Module,
        config: &XceptionConfig,
        init: Init,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let name = format!("block{}", index + 1);
        let vb = vb.pp(&name);
        let mut rep = Vec::with_capacity(module.channels.len());
        let mut n = n_in;
        // timm's `rep` is [ReLU,] separable, norm, ReLU, separable, norm, …
        let mut index = usize::from(module.relu_first);
        for (i, channels) in module.channels.iter().enumerate() {
            let n_out = channels / config.divisor;
            let last = i + 1 == module.channels.len();
            let activation = if last { Activation::Identity } else { Activation::Relu };
            let (conv, bn) = (vb.pp(format!("rep.{index}")), vb.pp(format!("rep.{}", index + 1)));
            rep.push(Separable::new(n, n_out, activation, config, init, &conv, &bn)?);
            n = n_out;
            index += 3;
        }
        let shortcut = if module.stride == 1 {
            None
        } else {
            let spec = ConvSpec { stride: module.stride, ..ConvSpec::pointwise(n_in, n) };
            let (conv, bn) = (vb.pp("skip"), vb.pp("skipbn"));
            Some(ConvNorm::new(spec, config.norm(), Activation::Identity, init, &conv, &bn)?)
        };
        Ok(Self { name, relu_first: module.relu_first, rep, shortcut })
    }

    fn n_out(&self) -> usize {
        self.rep.last().map_or(0, |last| last.pointwise.n_out())
    }

    fn forward(&self, xs: &Tensor, config: &XceptionConfig, train: bool) -> CandleResult<Tensor> {
        let before = if self.relu_first { Activation::Relu } else { Activation::Identity };
        let (_, _, height, width) = xs.dims4()?;
        let (block, size) = block((height, width), self.rep.iter().flat_map(Separable::links))?;
        let block = match &self.shortcut {
            Some(shortcut) => block
                .max_pool(config.pool(size))
                .shortcut(Shortcut::Projection(shortcut.link().layer((height, width)))),
            None => block.shortcut(Shortcut::Identity),
        };
        block.pre_activation(before).forward_t(xs, train)
    }

    fn describe(&self, trace: &mut Trace, config: &XceptionConfig) -> CandleResult<()> {
        let input = trace.place();
        if self.relu_first {
            trace.activation(format!("{}.rep.0", self.name), Activation::Relu);
        }
        self.rep.iter().try_for_each(|separable| separable.describe(trace))?;
        if let Some(shortcut) = &self.shortcut {
            let (_, height, width) = trace.shape().map()?;
            let index = 3 * self.rep.len() - usize::from(!self.relu_first);
            trace.max_pool(format!("{}.rep.{index}", self.name), &config.pool((height, width)))?;
            let pooled = trace.place();
            trace.branch_from(input);
            shortcut.describe(trace)?;
            trace.add(format!("{}.add", self.name), pooled);
        } else {
            trace.add(format!("{}.add", self.name), input);
        }
        Ok(())
    }
}

impl Network for Xception {
    fn n_features(&self) -> usize {
        self.exit[1].pointwise.n_out()
    }

    /// (B, C, H, W) to (B, 2048, h, w): 299 to 10, 150 to 5.
    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        InputShape::check_maps(xs, self.config.channels, XCEPTION.smallest_input)?;
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

    fn named_layers(&self) -> Vec<NamedLayer<'_>> {
        let stem = self.stem.iter().enumerate().map(|(i, conv)| {
            NamedLayer::new(format!("bn{}", i + 1), move |xs| {
                if i == 0 {
                    InputShape::check_maps(xs, self.config.channels, XCEPTION.smallest_input)?;
                }
                conv.forward(xs, false)
            })
        });
        let blocks = self
            .blocks
            .iter()
            .map(|block| NamedLayer::new(&block.name, |xs| block.forward(xs, &self.config, false)));
        let exit = self.exit.iter().enumerate().map(|(i, separable)| {
            NamedLayer::new(format!("bn{}", i + 3), move |xs| separable.forward(xs, false))
        });
        let pool = NamedLayer::new("global_pool", |xs| self.pre_logits(xs, false));
        stem.chain(blocks).chain(exit).chain([pool]).collect()
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        self.stem.iter().try_for_each(|conv| conv.describe(trace))?;
        self.blocks.iter().try_for_each(|block| block.describe(trace, &self.config))?;
        self.exit.iter().try_for_each(|separable| separable.describe(trace))?;
        trace.global_pool("global_pool")
    }

    fn takes_any_size(&self) -> bool {
        true
    }
}
