use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops::{Activation, BatchNorm, Conv2dConfig, ConvBlock, ConvLayer, Padding, RunningVariance};

use crate::Init;
use crate::summary::Trace;

/// Settings of batch normalization.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConfig {
    /// ε, added to the variance.
    pub epsilon: f64,
    /// Share of the running statistics that each batch replaces, as in PyTorch; 1 − `momentum` of Keras.
    pub momentum: f64,
    /// Estimate of a batch's variance that the running variance follows.
    pub running_variance: RunningVariance,
}

impl NormConfig {
    /// PyTorch's defaults.
    pub const TORCH: Self =
        Self { epsilon: 1e-5, momentum: 0.1, running_variance: RunningVariance::Unbiased };

    /// timm's for networks from TensorFlow: PyTorch's, with ε = 0.001.
    pub const TENSORFLOW: Self = Self { epsilon: 1e-3, ..Self::TORCH };

    /// Keras's, with ε = 0.001; `momentum` is 0.01 for Keras's default of 0.99.
    pub const fn keras(momentum: f64) -> Self {
        Self { epsilon: 1e-3, momentum, running_variance: RunningVariance::Biased }
    }
}

/// Settings of a convolution without bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ConvSpec {
    pub(crate) n_in: usize,
    pub(crate) n_out: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) groups: usize,
    pub(crate) padding: Padding,
}

impl ConvSpec {
    /// A 1×1 convolution.
    pub(crate) fn pointwise(n_in: usize, n_out: usize) -> Self {
        let padding = Padding::Valid;
        Self { n_in, n_out, kernel: 1, stride: 1, dilation: 1, groups: 1, padding }
    }

    /// A 3×3 convolution.
    pub(crate) fn square(n_in: usize, n_out: usize, stride: usize, padding: Padding) -> Self {
        Self { n_in, n_out, kernel: 3, stride, dilation: 1, groups: 1, padding }
    }

    /// A depthwise 3×3 convolution.
    pub(crate) fn depthwise(channels: usize, stride: usize, dilation: usize, padding: Padding) -> Self {
        Self { n_in: channels, n_out: channels, kernel: 3, stride, dilation, groups: channels, padding }
    }

    pub(crate) fn config(&self, size: (usize, usize)) -> Conv2dConfig {
        let &Self { kernel, stride, dilation, groups, padding, .. } = self;
        let pair = |n| (n, n);
        let padding = padding.resolve(size, pair(kernel), pair(stride), pair(dilation));
        Conv2dConfig { stride: pair(stride), padding, dilation: pair(dilation), groups }
    }
}

/// A convolution without bias, with the variable `weight`.
#[derive(Debug, Clone)]
pub(crate) struct Conv {
    name: String,
    weight: Tensor,
    spec: ConvSpec,
}

impl Conv {
    pub(crate) fn new(spec: ConvSpec, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        let shape = [spec.n_out, spec.n_in / spec.groups, spec.kernel, spec.kernel];
        let weight =
            vb.get_with_hints(shape.as_slice(), "weight", init.grouped_weight(&shape, spec.groups))?;
        Ok(Self { name: vb.prefix(), weight, spec })
    }

    /// The layer as a part of a block.
    pub(crate) fn link(&self) -> Link<'_> {
        Link { conv: self, norm: None, activation: Activation::Identity }
    }

    fn config(&self, xs: &Tensor) -> Result<Conv2dConfig> {
        let (_, _, height, width) = xs.dims4()?;
        Ok(self.spec.config((height, width)))
    }

    pub(crate) fn describe(&self, trace: &mut Trace) -> Result<()> {
        let (_, height, width) = trace.shape().map()?;
        trace.conv(&self.name, &self.weight, None, &self.spec.config((height, width)))
    }
}

/// Batch normalization: `weight`, `bias`, `running_mean`, `running_var`, each (C,).
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    name: String,
    norm: BatchNorm,
}

impl Norm {
    pub(crate) fn new(channels: usize, config: NormConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let constant = |name: &str, value| vb.get_with_hints(channels, name, candle_nn::Init::Const(value));
        let norm = BatchNorm {
            weight: constant("weight", 1.0)?,
            bias: constant("bias", 0.0)?,
            running_mean: constant("running_mean", 0.0)?.detach(),
            running_var: constant("running_var", 1.0)?.detach(),
            epsilon: config.epsilon,
            momentum: config.momentum,
            running_variance: config.running_variance,
        };
        Ok(Self { name: vb.prefix(), norm })
    }
}

/// A convolution without bias, batch normalization and an activation, as one operation.
#[derive(Debug, Clone)]
pub(crate) struct ConvNorm {
    conv: Conv,
    norm: Norm,
    activation: Activation,
}

impl ConvNorm {
    /// The layer with the convolution's weight from `conv_vb` and the normalization's variables from `norm_vb`.
    pub(crate) fn new(
        spec: ConvSpec,
        norm: NormConfig,
        activation: Activation,
        init: Init,
        conv_vb: &VarBuilder<'_>,
        norm_vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        Ok(Self {
            conv: Conv::new(spec, init, conv_vb)?,
            norm: Norm::new(spec.n_out, norm, norm_vb)?,
            activation,
        })
    }

    /// f(norm(conv(x))).
    pub(crate) fn forward(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_with(xs, self.activation, train)
    }

    /// The same with another activation.
    pub(crate) fn forward_with(&self, xs: &Tensor, activation: Activation, train: bool) -> Result<Tensor> {
        let config = self.conv.config(xs)?;
        let layer = ConvLayer::new(&self.conv.weight, config).batch_norm(&self.norm.norm);
        layer.activation(activation).forward_t(xs, train)
    }

    /// The layer as a part of a block.
    pub(crate) fn link(&self) -> Link<'_> {
        Link { conv: &self.conv, norm: Some(&self.norm.norm), activation: self.activation }
    }

    /// Output channels.
    pub(crate) fn n_out(&self) -> usize {
        self.conv.spec.n_out
    }

    /// Appends the convolution, the normalization and, unless it is the identity, the activation to a trace.
    pub(crate) fn describe(&self, trace: &mut Trace) -> Result<()> {
        self.conv.describe(trace)?;
        let norm = &self.norm.name;
        trace.batch_norm(norm, &self.norm.norm, self.activation);
        if self.activation != Activation::Identity {
            trace.activation(format!("{norm}.act"), self.activation);
        }
        Ok(())
    }
}

/// A layer of a [`ConvBlock`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'a> {
    conv: &'a Conv,
    norm: Option<&'a BatchNorm>,
    activation: Activation,
}

impl<'a> Link<'a> {
    /// For an input of this size.
    pub(crate) fn layer(self, size: (usize, usize)) -> ConvLayer<'a> {
        let Self { conv, norm, activation } = self;
        let layer = ConvLayer::new(&conv.weight, conv.spec.config(size)).activation(activation);
        norm.map_or(layer, |norm| layer.batch_norm(norm))
    }

    /// Size of the output for an input of this size.
    fn output_size(self, size: (usize, usize)) -> Result<(usize, usize)> {
        let spec = self.conv.spec;
        Ok(spec.config(size).output_size(size, (spec.kernel, spec.kernel))?)
    }
}

/// `layers`, of which there is at least one, as one block for an input of this size, and the size of their result.
pub(crate) fn block<'a>(
    mut size: (usize, usize),
    layers: impl IntoIterator<Item = Link<'a>>,
) -> Result<(ConvBlock<'a>, (usize, usize))> {
    let mut block: Option<ConvBlock<'a>> = None;
    for link in layers {
        let layer = link.layer(size);
        block = Some(match block {
            None => ConvBlock::new(layer),
            Some(block) => block.then(layer),
        });
        size = link.output_size(size)?;
    }
    match block {
        Some(block) => Ok((block, size)),
        None => candle_core::bail!("a block must have a layer"),
    }
}
