//! The blocks of MobileNets and EfficientNets: inverted residuals (Sandler et al. 2018) with squeeze-and-excitation (Hu et al.
//! 2018), and what they have in their place at the ends.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops::{self as ops, Activation, ChannelScales, Conv2dConfig, Padding, Shortcut};

use super::{ConvNorm, ConvSpec, NormConfig, block};
use crate::graph::Op;
use crate::summary::Trace;
use crate::{Init, InputShape};

/// Kind of a block, which is also its tensors' names in timm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MobileKind {
    /// A depthwise convolution, then a 1×1 convolution without activation.
    DepthwiseSeparable,
    /// A 1×1 convolution that widens, a depthwise one, and a 1×1 convolution that narrows, without activation.
    InvertedResidual,
    /// A convolution that widens, and a 1×1 convolution that narrows, without activation (fused MBConv).
    Edge,
    /// A convolution.
    Conv,
}

/// Settings of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MobileSpec {
    pub(crate) kind: MobileKind,
    pub(crate) n_in: usize,
    /// Channels of the widened maps.
    pub(crate) inner: usize,
    pub(crate) n_out: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) padding: Padding,
    pub(crate) norm: NormConfig,
    pub(crate) activation: Activation,
    pub(crate) squeeze: Option<SqueezeSpec>,
}

/// Settings of a squeeze-and-excitation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SqueezeSpec {
    /// Channels between its two layers.
    pub(crate) channels: usize,
    /// Activation between them.
    pub(crate) activation: Activation,
    /// Activation that gives the scales.
    pub(crate) gate: Activation,
}

/// A block with timm's tensor names. Its input is added to its output where their shapes are equal.
#[derive(Debug, Clone)]
pub(crate) struct MobileBlock {
    name: String,
    /// Up to the squeeze-and-excitation.
    first: Vec<ConvNorm>,
    squeeze: Option<SqueezeExcite>,
    /// The projection, if there is one.
    last: Option<ConvNorm>,
    residual: bool,
}

impl MobileBlock {
    pub(crate) fn new(name: String, spec: &MobileSpec, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        let &MobileSpec { kind, n_in, inner, n_out, kernel, stride, dilation, padding, .. } = spec;
        let vb = vb.pp(&name);
        let layer = |conv_spec, activation, conv: &str, bn: &str| {
            ConvNorm::new(conv_spec, spec.norm, activation, init, &vb.pp(conv), &vb.pp(bn))
        };
        let active = |conv_spec, conv: &str, bn: &str| layer(conv_spec, spec.activation, conv, bn);
        let linear = |conv: &str, bn: &str| {
            layer(ConvSpec::pointwise(inner, n_out), Activation::Identity, conv, bn).map(Some)
        };
        let depthwise = ConvSpec { kernel, ..ConvSpec::depthwise(inner, stride, dilation, padding) };
        let full =
            |n_in, n_out| ConvSpec { kernel, dilation, ..ConvSpec::square(n_in, n_out, stride, padding) };
        let (first, last) = match kind {
            MobileKind::DepthwiseSeparable => {
                (vec![active(depthwise, "conv_dw", "bn1")?], linear("conv_pw", "bn2")?)
            }
            MobileKind::InvertedResidual => {
                let expand = active(ConvSpec::pointwise(n_in, inner), "conv_pw", "bn1")?;
                (vec![expand, active(depthwise, "conv_dw", "bn2")?], linear("conv_pwl", "bn3")?)
            }
            MobileKind::Edge => {
                (vec![active(full(n_in, inner), "conv_exp", "bn1")?], linear("conv_pwl", "bn2")?)
            }
            MobileKind::Conv => (vec![active(full(n_in, n_out), "conv", "bn1")?], None),
        };
        let squeeze = spec
            .squeeze
            .map(|squeeze| SqueezeExcite::new(inner, &squeeze, init, &vb.pp("se")))
            .transpose()?;
        Ok(Self { name, first, squeeze, last, residual: stride == 1 && n_in == n_out })
    }

    /// Path of the block in the network.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn forward(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let (_, _, height, width) = xs.dims4()?;
        let (mut block, size) = block((height, width), self.first.iter().map(ConvNorm::link))?;
        if let Some(squeeze) = &self.squeeze {
            block = block.excite(squeeze);
        }
        let Some(last) = &self.last else {
            let ys = block.forward_t(xs, train)?;
            return if self.residual { ops::add(&ys, xs) } else { Ok(ys) };
        };
        let shortcut = if self.residual { Shortcut::Identity } else { Shortcut::None };
        block.then(last.link().layer(size)).shortcut(shortcut).forward_t(xs, train)
    }

    pub(crate) fn describe(&self, trace: &mut Trace) -> Result<()> {
        let input = trace.place();
        self.first.iter().try_for_each(|layer| layer.describe(trace))?;
        if let Some(squeeze) = &self.squeeze {
            squeeze.describe(trace)?;
        }
        if let Some(last) = &self.last {
            last.describe(trace)?;
        }
        if self.residual {
            trace.add(format!("{}.add", self.name), input);
        }
        Ok(())
    }
}

/// Squeeze-and-excitation: each channel times a scale that two layers compute from the means of all channels.
#[derive(Debug, Clone)]
struct SqueezeExcite {
    name: String,
    reduce: PointwiseLinear,
    expand: PointwiseLinear,
}

impl SqueezeExcite {
    fn new(channels: usize, spec: &SqueezeSpec, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        let reduce =
            PointwiseLinear::new(channels, spec.channels, spec.activation, init, &vb.pp("conv_reduce"))?;
        let expand = PointwiseLinear::new(spec.channels, channels, spec.gate, init, &vb.pp("conv_expand"))?;
        Ok(Self { name: vb.prefix(), reduce, expand })
    }

    fn describe(&self, trace: &mut Trace) -> Result<()> {
        let maps = trace.place();
        trace.apply(format!("{}.mean", self.name), Op::GlobalAvgPool);
        self.reduce.describe(trace)?;
        self.expand.describe(trace)?;
        trace.scale_channels(&self.name, maps);
        Ok(())
    }
}

impl ChannelScales for SqueezeExcite {
    fn scales(&self, means: &Tensor) -> Result<Tensor> {
        self.expand.forward(&self.reduce.forward(means)?)
    }
}

/// A 1×1 convolution with bias of maps of one pixel: (B, in) to (B, out).
#[derive(Debug, Clone)]
pub(crate) struct PointwiseLinear {
    name: String,
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
}

impl PointwiseLinear {
    pub(crate) fn new(
        n_in: usize,
        n_out: usize,
        activation: Activation,
        init: Init,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let shape = [n_out, n_in, 1, 1];
        let weight = vb.get_with_hints(shape.as_slice(), "weight", init.weight(&shape))?;
        let bias = vb.get_with_hints(n_out, "bias", init.bias(&shape, 0.0))?;
        Ok(Self { name: vb.prefix(), weight, bias, activation })
    }

    pub(crate) fn n_out(&self) -> usize {
        self.bias.elem_count()
    }

    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let weight = self.weight.flatten_from(1)?;
        ops::linear(xs, &weight, Some(&self.bias), self.activation)
    }

    /// Appends the layer of features, which is listed as a convolution of maps of one pixel.
    pub(crate) fn describe(&self, trace: &mut Trace) -> Result<()> {
        let (_, n_in, _, _) = self.weight.dims4()?;
        trace.reshape(InputShape::Map { channels: n_in, height: 1, width: 1 });
        let op = Op::Linear { weight: self.weight.flatten_from(1)?, bias: Some(self.bias.clone()) };
        trace.conv_by(&self.name, op, &self.weight, Some(&self.bias), &Conv2dConfig::default())?;
        trace.apply(format!("{}.act", self.name), Op::Activation(self.activation));
        Ok(())
    }
}
