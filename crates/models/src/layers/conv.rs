use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use firstsight_ops::{Activation, BatchNorm, Conv2dConfig, ConvBlock, ConvLayer, Padding, RunningVariance};

use crate::trace::{Kind, Trace};
use crate::{Dims, Scheme};

/// A framework's batch normalisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConfig {
    /// Added to the variance before the root.
    pub epsilon: f64,
    /// How much of the running statistics a batch replaces; 1 less Keras's and TensorFlow's `momentum`.
    pub momentum: f64,
    /// Which variance of the batch goes into the running one.
    pub running_variance: RunningVariance,
}

impl NormConfig {
    /// PyTorch's default.
    pub const TORCH: Self =
        Self { epsilon: 1e-5, momentum: 0.1, running_variance: RunningVariance::Unbiased };

    /// Keras's, with an ε of 0.001 and the complement of Keras's `momentum`: 0.01 for its default of 0.99.
    pub const fn keras(momentum: f64) -> Self {
        Self { epsilon: 1e-3, momentum, running_variance: RunningVariance::Biased }
    }
}

/// A convolution without bias as a network's table states it.
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

    /// A 3×3 convolution of each channel by itself.
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
    pub(crate) fn new(spec: ConvSpec, scheme: Scheme, vb: &VarBuilder<'_>) -> Result<Self> {
        let shape = [spec.n_out, spec.n_in / spec.groups, spec.kernel, spec.kernel];
        let weight =
            vb.get_with_hints(shape.as_slice(), "weight", scheme.grouped_weight(&shape, spec.groups))?;
        Ok(Self { name: vb.prefix(), weight, spec })
    }

    /// Itself in a block.
    pub(crate) fn link(&self) -> Link<'_> {
        Link { conv: self, norm: None, activation: Activation::Identity }
    }

    fn config(&self, xs: &Tensor) -> Result<Conv2dConfig> {
        let (_, _, height, width) = xs.dims4()?;
        Ok(self.spec.config((height, width)))
    }

    /// Adds itself; `keras` is Keras's name of the convolution, `pad` that of the zeros before it where Keras has
    /// them as a layer.
    pub(crate) fn describe(
        &self,
        trace: &mut Trace,
        keras: Option<String>,
        pad: Option<String>,
    ) -> Result<()> {
        let (channels, height, width) = trace.dims().map()?;
        let config = self.spec.config((height, width));
        let before = trace.dims();
        if let Some(pad) = pad {
            let rim = config.padding;
            let (height, width) = (height + rim.top + rim.bottom, width + rim.left + rim.right);
            trace.push(Kind::ZeroPadding, Dims::Map { channels, height, width }).keras(pad);
            trace.fork(before);
        }
        let entry = trace.conv(self.weight.dims(), &config)?.module(&self.name);
        entry.keras = keras;
        Ok(())
    }
}

/// Batch normalisation: `weight`, `bias`, `running_mean`, `running_var`, each (C,).
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    name: String,
    norm: BatchNorm,
}

impl Norm {
    pub(crate) fn new(channels: usize, config: NormConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let constant = |name: &str, value| vb.get_with_hints(channels, name, Init::Const(value));
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

    fn describe(&self, trace: &mut Trace, activation: Activation, keras: Option<String>) {
        let entry = trace.keep(Kind::BatchNorm(activation)).module(&self.name);
        entry.params(2 * self.norm.weight.elem_count()).buffers(2 * self.norm.weight.elem_count());
        entry.keras = keras;
    }
}

/// A convolution without bias, batch normalisation and an activation, as one operation.
#[derive(Debug, Clone)]
pub(crate) struct ConvNorm {
    conv: Conv,
    norm: Norm,
    activation: Activation,
}

/// Keras's names of the layers that a [`ConvNorm`] is.
#[derive(Debug, Clone, Default)]
pub(crate) struct KerasNames {
    pub(crate) pad: Option<String>,
    pub(crate) conv: Option<String>,
    pub(crate) norm: Option<String>,
    pub(crate) activation: Option<(Kind, String)>,
}

impl ConvNorm {
    /// The convolution's variable is under `conv`, the normalisation's are under `norm`.
    pub(crate) fn new(
        spec: ConvSpec,
        norm: NormConfig,
        activation: Activation,
        scheme: Scheme,
        conv_vb: &VarBuilder<'_>,
        norm_vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        Ok(Self {
            conv: Conv::new(spec, scheme, conv_vb)?,
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

    /// Itself in a block.
    pub(crate) fn link(&self) -> Link<'_> {
        Link { conv: &self.conv, norm: Some(&self.norm.norm), activation: self.activation }
    }

    /// Output channels.
    pub(crate) fn n_out(&self) -> usize {
        self.conv.spec.n_out
    }

    /// Adds itself to a walk.
    pub(crate) fn describe(&self, trace: &mut Trace, keras: KerasNames) -> Result<()> {
        self.conv.describe(trace, keras.conv, keras.pad)?;
        self.norm.describe(trace, self.activation, keras.norm);
        if let Some((kind, name)) = keras.activation {
            trace.keep(kind).keras(name);
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

/// `first` and then `rest` as one block for an input of this size, and the size of their result.
pub(crate) fn block<'a>(
    size: (usize, usize),
    first: Link<'a>,
    rest: impl IntoIterator<Item = Link<'a>>,
) -> Result<(ConvBlock<'a>, (usize, usize))> {
    let mut block = ConvBlock::new(first.layer(size));
    let mut size = first.output_size(size)?;
    for link in rest {
        block = block.then(link.layer(size));
        size = link.output_size(size)?;
    }
    Ok((block, size))
}
