//! The network that MobileNetV2, MobileNetV3 and EfficientNet are, with the tables in their files.

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops::{self as ops, Activation, Padding};

use crate::graph::Op;
use crate::layers::{
    ConvNorm, ConvSpec, MobileBlock, MobileKind, MobileSpec, NormConfig, PointwiseLinear, SqueezeSpec,
};
use crate::summary::{LayerKind, Trace};
use crate::{Error, Init, InputShape, NamedLayer, Network, Result};

/// [`ModelInfo::blocks`](crate::ModelInfo::blocks) of these networks, of which MobileNetV3 has no `bn2`.
pub(super) const BLOCKS: &[(&str, &[&str])] = &[
    ("stem", &["conv_stem", "bn1"]),
    ("blocks.0", &["blocks.0"]),
    ("blocks.1", &["blocks.1"]),
    ("blocks.2", &["blocks.2"]),
    ("blocks.3", &["blocks.3"]),
    ("blocks.4", &["blocks.4"]),
    ("blocks.5", &["blocks.5"]),
    ("blocks.6", &["blocks.6"]),
    ("conv_head", &["conv_head", "bn2"]),
];

/// Row of a paper's table: `repeats` blocks, of which the first has the stride.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    kind: MobileKind,
    kernel: usize,
    stride: usize,
    expansion: f64,
    channels: usize,
    repeats: usize,
    squeeze: bool,
    /// Where it is not that of the network.
    activation: Option<Activation>,
}

impl Row {
    const fn new(
        kind: MobileKind,
        kernel: usize,
        stride: usize,
        expansion: f64,
        channels: usize,
        repeats: usize,
    ) -> Self {
        Self { kind, kernel, stride, expansion, channels, repeats, squeeze: false, activation: None }
    }

    /// Depthwise separable convolutions.
    pub(super) const fn separable(kernel: usize, stride: usize, channels: usize, repeats: usize) -> Self {
        Self::new(MobileKind::DepthwiseSeparable, kernel, stride, 1.0, channels, repeats)
    }

    /// Inverted residuals: MBConv.
    pub(super) const fn inverted(
        kernel: usize,
        stride: usize,
        expansion: f64,
        channels: usize,
        repeats: usize,
    ) -> Self {
        Self::new(MobileKind::InvertedResidual, kernel, stride, expansion, channels, repeats)
    }

    /// Inverted residuals whose first two convolutions are one: fused MBConv.
    pub(super) const fn edge(
        kernel: usize,
        stride: usize,
        expansion: f64,
        channels: usize,
        repeats: usize,
    ) -> Self {
        Self::new(MobileKind::Edge, kernel, stride, expansion, channels, repeats)
    }

    /// Convolutions.
    pub(super) const fn conv(kernel: usize, channels: usize, repeats: usize) -> Self {
        Self::new(MobileKind::Conv, kernel, 1, 1.0, channels, repeats)
    }

    /// With squeeze-and-excitation.
    pub(super) const fn se(self) -> Self {
        Self { squeeze: true, ..self }
    }

    /// With ReLU.
    pub(super) const fn relu(self) -> Self {
        Self { activation: Some(Activation::Relu), ..self }
    }

    pub(super) const fn repeats(&self) -> usize {
        self.repeats
    }

    pub(super) const fn is_separable(&self) -> bool {
        matches!(self.kind, MobileKind::DepthwiseSeparable)
    }
}

/// Settings of the whole network.
#[derive(Debug, Clone, Copy)]
pub(super) struct MobileConfig {
    /// Channels of the input.
    pub(super) channels: usize,
    /// The paper's table, by stages.
    pub(super) stages: &'static [&'static [Row]],
    /// Channels of the first convolution.
    pub(super) stem: usize,
    pub(super) head: Head,
    pub(super) width: Width,
    /// Factor of each row's repeats.
    pub(super) depth: f64,
    /// Whether the first and the last stage keep their repeats.
    pub(super) fixed_ends: bool,
    /// Ratio of the input's size to that of the last maps; dilated kernels take the place of further strides.
    pub(super) output_stride: usize,
    /// TensorFlow's padding, and not the same on every side.
    pub(super) same_padding: bool,
    pub(super) norm: NormConfig,
    pub(super) activation: Activation,
    pub(super) squeeze: Squeeze,
}

/// The last convolution, of 1×1 kernels.
#[derive(Debug, Clone, Copy)]
pub(super) enum Head {
    /// With batch normalization, of the maps.
    Conv(usize),
    /// With a bias, of their means.
    AfterPool(usize),
}

/// Factor of the channels, which are rounded to a multiple of 8.
#[derive(Debug, Clone, Copy)]
pub(super) struct Width {
    pub(super) factor: f64,
    /// The least share of the exact number that rounding may leave.
    pub(super) least: f64,
}

impl Width {
    /// With at least 90 % of the channels.
    pub(super) const fn of(factor: f64) -> Self {
        Self { factor, least: 0.9 }
    }

    pub(super) fn scaled(self, channels: usize) -> usize {
        self.rounded(channels as f64 * self.factor)
    }

    fn rounded(self, wanted: f64) -> usize {
        let rounded = ((wanted + 4.0) as usize / 8 * 8).max(8);
        if (rounded as f64) < self.least * wanted { rounded + 8 } else { rounded }
    }
}

/// The rule of a squeeze-and-excitation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Squeeze {
    /// To a quarter of the block's input, with the block's activation and a sigmoid.
    EfficientNet,
    /// To a quarter of the widened maps, in multiples of 8, with ReLU and a hard sigmoid.
    MobileNetV3,
}

impl Squeeze {
    fn spec(self, n_in: usize, inner: usize, activation: Activation) -> SqueezeSpec {
        match self {
            Self::EfficientNet => SqueezeSpec { channels: n_in / 4, activation, gate: Activation::Sigmoid },
            Self::MobileNetV3 => SqueezeSpec {
                channels: Width::of(0.25).scaled(inner),
                activation: Activation::Relu,
                gate: Activation::HardSigmoid,
            },
        }
    }
}

impl MobileConfig {
    fn check(&self, model: &'static str) -> Result<()> {
        let refuse = |rule, found| Err(Error::Setting { model, rule, found });
        if !(self.width.factor > 0.0 && self.width.factor <= 16.0) {
            return refuse("the width multiplier must lie in (0, 16]", self.width.factor.to_string());
        }
        if !(self.depth >= 1.0 && self.depth <= 16.0) {
            return refuse("the depth multiplier must lie in [1, 16]", self.depth.to_string());
        }
        if ![2, 4, 8, 16, 32].contains(&self.output_stride) {
            return refuse("the output stride must be 2, 4, 8, 16 or 32", self.output_stride.to_string());
        }
        Ok(())
    }

    fn repeats(&self, stage: usize, row: &Row) -> usize {
        let is_end = stage == 0 || stage + 1 == self.stages.len();
        if self.fixed_ends && is_end {
            row.repeats
        } else {
            (row.repeats as f64 * self.depth).ceil() as usize
        }
    }

    /// Padding that keeps the size at stride 1.
    fn padding(&self, kernel: usize, dilation: usize) -> Padding {
        match self.same_padding {
            true => Padding::Same,
            false => Padding::Symmetric(kernel / 2 * dilation),
        }
    }

    /// The network with variables from `vb`. `model` is its name in errors.
    pub(super) fn network(
        &self,
        model: &'static str,
        init: Init,
        vb: &VarBuilder<'_>,
    ) -> Result<MobileNetwork> {
        self.check(model)?;
        let (norm, activation) = (self.norm, self.activation);
        let spec = ConvSpec::square(self.channels, self.stem, 2, self.padding(3, 1));
        let stem = ConvNorm::new(spec, norm, activation, init, &vb.pp("conv_stem"), &vb.pp("bn1"))?;

        let mut blocks = Vec::new();
        let mut n_in = self.stem;
        let (mut output_stride, mut dilation) = (2, 1);
        for (s, rows) in self.stages.iter().enumerate() {
            let repeated = rows.iter().flat_map(|row| (0..self.repeats(s, row)).map(move |i| (row, i)));
            for (number, (row, i)) in repeated.enumerate() {
                let wanted = if i == 0 { row.stride } else { 1 };
                let strided = output_stride * wanted <= self.output_stride;
                let n_out = self.width.scaled(row.channels);
                let inner = Width::of(row.expansion).scaled(n_in);
                let activation = row.activation.unwrap_or(activation);
                let spec = MobileSpec {
                    kind: row.kind,
                    n_in,
                    inner,
                    n_out,
                    kernel: row.kernel,
                    stride: if strided { wanted } else { 1 },
                    dilation,
                    padding: self.padding(row.kernel, dilation),
                    norm,
                    activation,
                    squeeze: row.squeeze.then(|| self.squeeze.spec(n_in, inner, activation)),
                };
                blocks.push(MobileBlock::new(format!("blocks.{s}.{number}"), &spec, init, vb)?);
                match strided {
                    true => output_stride *= wanted,
                    // The next blocks' kernels are dilated instead, this block's is not yet.
                    false => dilation *= wanted,
                }
                n_in = n_out;
            }
        }

        let head = match self.head {
            Head::Conv(n_features) => {
                let spec = ConvSpec::pointwise(n_in, n_features);
                let (conv, bn) = (vb.pp("conv_head"), vb.pp("bn2"));
                HeadLayer::Conv(ConvNorm::new(spec, norm, activation, init, &conv, &bn)?)
            }
            Head::AfterPool(n_features) => HeadLayer::AfterPool(PointwiseLinear::new(
                n_in,
                n_features,
                activation,
                init,
                &vb.pp("conv_head"),
            )?),
        };
        Ok(MobileNetwork { channels: self.channels, stem, blocks, head })
    }
}

/// A MobileNet or an EfficientNet without its last layer: images (B, C, H, W) of any size to features (B, F). The tensor names
/// are timm's.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_models::networks::MobileNetV2Config;
/// use firstsight_models::{Init, Network, Params};
///
/// let params = Params::seeded(1, &Device::Cpu);
/// let network = MobileNetV2Config::TIMM.network(Init::Kaiming, &params.builder())?;
/// let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// let maps = network.forward_features(&images, false)?;
/// assert_eq!(maps.dims(), [1, 1280, 2, 2]);
/// assert_eq!(network.pre_logits(&maps, false)?.dims(), [1, 1280]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct MobileNetwork {
    channels: usize,
    stem: ConvNorm,
    blocks: Vec<MobileBlock>,
    head: HeadLayer,
}

#[derive(Debug, Clone)]
enum HeadLayer {
    Conv(ConvNorm),
    AfterPool(PointwiseLinear),
}

impl MobileNetwork {
    fn first(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        InputShape::check_maps(xs, self.channels, 1)?;
        self.stem.forward(xs, train)
    }
}

impl Network for MobileNetwork {
    fn n_features(&self) -> usize {
        match &self.head {
            HeadLayer::Conv(conv) => conv.n_out(),
            HeadLayer::AfterPool(linear) => linear.n_out(),
        }
    }

    /// (B, C, H, W) to (B, C', ⌈H / 32⌉, ⌈W / 32⌉).
    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let mut xs = self.first(xs, train)?;
        for block in &self.blocks {
            xs = block.forward(&xs, train)?;
        }
        match &self.head {
            HeadLayer::Conv(conv) => conv.forward(&xs, train),
            HeadLayer::AfterPool(_) => Ok(xs),
        }
    }

    fn pre_logits(&self, features: &Tensor, _train: bool) -> CandleResult<Tensor> {
        let means = ops::global_avg_pool2d(features)?;
        match &self.head {
            HeadLayer::Conv(_) => Ok(means),
            HeadLayer::AfterPool(linear) => linear.forward(&means),
        }
    }

    fn named_layers(&self) -> Vec<NamedLayer<'_>> {
        let stem = NamedLayer::new("bn1", |xs| self.first(xs, false));
        let blocks =
            self.blocks.iter().map(|block| NamedLayer::new(block.name(), |xs| block.forward(xs, false)));
        let ends = match &self.head {
            HeadLayer::Conv(conv) => vec![
                NamedLayer::new("bn2", |xs| conv.forward(xs, false)),
                NamedLayer::new("global_pool", ops::global_avg_pool2d),
            ],
            HeadLayer::AfterPool(linear) => vec![
                NamedLayer::new("global_pool", ops::global_avg_pool2d),
                NamedLayer::new("flatten", |xs| linear.forward(xs)),
            ],
        };
        [stem].into_iter().chain(blocks).chain(ends).collect()
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        self.stem.describe(trace)?;
        self.blocks.iter().try_for_each(|block| block.describe(trace))?;
        match &self.head {
            HeadLayer::Conv(conv) => {
                conv.describe(trace)?;
                trace.global_pool("global_pool")
            }
            HeadLayer::AfterPool(linear) => {
                trace.global_pool("global_pool")?;
                linear.describe(trace)?;
                trace.keep("act2", LayerKind::Activation(Activation::HardSwish), Op::Identity);
                let features = InputShape::Features(linear.n_out());
                trace.push("flatten", LayerKind::Flatten, Op::Identity, features);
                Ok(())
            }
        }
    }

    fn takes_any_size(&self) -> bool {
        true
    }
}
