//! Blocks of convolutions as one op: batch normalization, activations, pooling and a shortcut.

mod op;

use candle_core::{Result, Tensor};

use self::op::Block;
use crate::autograd::{is_tracked, records_grads};
use crate::batch_norm::BatchNorm;
use crate::config::{Activation, Conv2dConfig, PadCounting, Pool2dConfig};
use crate::error::Error;
use crate::pool::{avg_pool2d, global_avg_pool2d, max_pool2d};
use crate::shape::{ConvShape, PoolShape};
use crate::{activate, add, conv, cpu, elsewhere, scale_channels};

const OP: &str = "conv_block";

/// A convolution, then a bias or batch normalization, then an activation, as one op.
///
/// [`ConvLayer::forward`] runs it alone. [`ConvLayer::max_pool`], [`ConvLayer::avg_pool`] and [`ConvLayer::then`] make it
/// the start of a [`ConvBlock`].
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use firstsight_ops::{Activation, Conv2dConfig, ConvLayer, PadCounting, Pool2dConfig};
///
/// let x = Tensor::arange(0f32, 16., &Device::Cpu)?.reshape((1, 1, 4, 4))?;
/// let weight = Var::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
/// let layer = ConvLayer::new(&weight, Conv2dConfig::default()).activation(Activation::Relu);
/// let pool = Pool2dConfig::square(2);
/// let max = layer.max_pool(pool).forward(&x)?;
/// let mean = layer.avg_pool(pool, PadCounting::Exclude).forward(&x)?;
/// assert_eq!(max.flatten_all()?.to_vec1::<f32>()?, [5., 7., 13., 15.]);
/// assert_eq!(mean.flatten_all()?.to_vec1::<f32>()?, [2.5, 4.5, 10.5, 12.5]);
/// let grads = max.sum_all()?.backward()?;
/// assert_eq!(grads.get(&weight).unwrap().flatten_all()?.to_vec1::<f32>()?, [40.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ConvLayer<'a> {
    pub(crate) weight: &'a Tensor,
    pub(crate) bias: Option<&'a Tensor>,
    pub(crate) norm: Option<&'a BatchNorm>,
    pub(crate) config: Conv2dConfig,
    pub(crate) activation: Activation,
}

impl<'a> ConvLayer<'a> {
    /// A convolution by `weight` (O, C / groups, kh, kw).
    pub fn new(weight: &'a Tensor, config: Conv2dConfig) -> Self {
        Self { weight, bias: None, norm: None, config, activation: Activation::Identity }
    }

    /// Adds `bias` (O,).
    pub fn bias(self, bias: &'a Tensor) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// Normalizes the convolution's output. In inference, this is folded into the weights. The layer must have no bias.
    pub fn batch_norm(self, norm: &'a BatchNorm) -> Self {
        Self { norm: Some(norm), ..self }
    }

    /// Sets the activation.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Starts a block with max pooling.
    pub fn max_pool(self, config: Pool2dConfig) -> ConvBlock<'a> {
        ConvBlock::new(self).max_pool(config)
    }

    /// Starts a block with average pooling.
    pub fn avg_pool(self, config: Pool2dConfig, counting: PadCounting) -> ConvBlock<'a> {
        ConvBlock::new(self).avg_pool(config, counting)
    }

    /// Starts a block that continues with another layer.
    pub fn then(self, layer: ConvLayer<'a>) -> ConvBlock<'a> {
        ConvBlock::new(self).then(layer)
    }

    /// Runs the layer on `x` (B, C, H, W), with running statistics.
    ///
    /// # Errors
    ///
    /// As for [`ConvBlock::forward_t`].
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        self.forward_t(x, false)
    }

    /// Runs the layer on `x` (B, C, H, W); `train` is as for [`crate::batch_norm`].
    ///
    /// # Errors
    ///
    /// As for [`ConvBlock::forward_t`].
    pub fn forward_t(self, x: &Tensor, train: bool) -> Result<Tensor> {
        ConvBlock::new(self).forward_t(x, train)
    }

    /// The weight, and the bias or the normalization's weight and bias.
    fn params(&self) -> impl Iterator<Item = &'a Tensor> + use<'a> {
        let norm = self.norm.map(|norm| [&norm.weight, &norm.bias]);
        [Some(self.weight), self.bias].into_iter().flatten().chain(norm.into_iter().flatten())
    }

    /// The tensors that the layer depends on in inference: its parameters and running statistics.
    pub(crate) fn tensors(&self) -> Vec<&'a Tensor> {
        let statistics = self.norm.map(|norm| [&norm.running_mean, &norm.running_var]);
        self.params().chain(statistics.into_iter().flatten()).collect()
    }

    /// Whether a gradient is wanted for any of the layer's tensors.
    fn is_tracked(&self) -> bool {
        self.params().any(is_tracked)
    }

    /// The convolution's shape for an input of shape `x`.
    pub(crate) fn shape(&self, x: &[usize]) -> crate::Result<ConvShape> {
        ConvShape::new(x, self.weight, self.bias, &self.config)
    }

    /// Validates the layer for an input of shape `x`, and returns the shape of its output.
    fn check(&self, x: &[usize]) -> crate::Result<[usize; 4]> {
        self.activation.check(OP)?;
        let dims = self.shape(x)?.output_dims();
        if let Some(norm) = self.norm {
            if self.bias.is_some() {
                let rule = "a convolution before batch normalization has no bias";
                return Err(Error::Setting { op: OP, rule, found: "one".to_owned() });
            }
            norm.check(&dims)?;
        }
        Ok(dims)
    }
}

/// Convolutions one after the other, then pooling, a shortcut and an activation, as one op.
///
/// MobileNetV2's inverted residuals, Xception's modules and residual blocks (He et al. 2016) are such blocks. The output is
/// f(pool(layers(g(x))) + shortcut(x)), where every part but the first layer is optional; [`Self::excite`] scales channels between
/// the layers. Output and gradients are those of single ops, up to rounding. As one op,
///
/// - maps between the layers are not recorded for autograd, which would make several more passes over each;
/// - normalized maps are not written: the next layer normalizes the convolution's output as it reads it;
/// - maps before max pooling are not written where a window has few values, and the backward pass visits only the maxima;
/// - without gradients, a few samples at a time go through all layers while they are in the cache, with running
///   statistics folded into the weights.
///
/// Activations that also decrease (SiLU, hard swish, GELU) are fused behind batch normalization, and without gradients. Where a
/// backward pass would need their input from elsewhere, the block runs as single ops.
///
/// With max pooling alone, the maximum is taken before an activation that never decreases, so the output is the
/// same; where different inputs give equal outputs, the gradient goes to the largest input and not to the first. Without
/// gradients, pooled convolutions with 5 × 5 kernels may be rounded differently, within 1e-5 of the largest value.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_ops::{Activation, Conv2dConfig, ConvLayer, Padding2d, Shortcut};
///
/// // A depthwise 3×3, then a pointwise convolution, added to the input.
/// let x = Tensor::ones((1, 2, 4, 4), DType::F32, &Device::Cpu)?;
/// let depthwise = Tensor::ones((2, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let pointwise = Tensor::ones((2, 2, 1, 1), DType::F32, &Device::Cpu)?;
/// let same = Conv2dConfig { padding: Padding2d::symmetric(1, 1), groups: 2, ..Default::default() };
/// let block = ConvLayer::new(&depthwise, same)
///     .activation(Activation::Relu)
///     .then(ConvLayer::new(&pointwise, Conv2dConfig::default()))
///     .shortcut(Shortcut::Identity);
/// let y = block.forward(&x)?;
/// assert_eq!(y.get(0)?.get(0)?.to_vec2::<f32>()?[0], [9., 13., 13., 9.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConvBlock<'a> {
    pub(crate) pre_activation: Activation,
    pub(crate) first: ConvLayer<'a>,
    pub(crate) rest: Vec<ConvLayer<'a>>,
    excitation: Option<Excitation<'a>>,
    pub(crate) pool: Pooling,
    pub(crate) shortcut: Shortcut<'a>,
    pub(crate) post_activation: Activation,
}

/// The scales of channels in squeeze-and-excitation (Hu et al. 2018), computed from the channels' means.
pub trait ChannelScales: std::fmt::Debug + Sync {
    /// The scales (B, C) for `means` (B, C), each sample's from its own means alone. A block may ask for those of some samples at a
    /// time, at most 32 within [`crate::no_grad`].
    ///
    /// # Errors
    ///
    /// Those of the layers that compute them.
    fn scales(&self, means: &Tensor) -> Result<Tensor>;
}

/// Scaled channels between the layers of a block.
#[derive(Debug, Clone, Copy)]
struct Excitation<'a> {
    /// Number of layers before it.
    after: usize,
    scales: &'a dyn ChannelScales,
}

/// The pooling of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pooling {
    None,
    Max(Pool2dConfig),
    Avg(Pool2dConfig, PadCounting),
}

/// The branch beside the layers of a residual block, which is added to their output.
#[derive(Debug, Clone, Copy)]
pub enum Shortcut<'a> {
    /// No shortcut.
    None,
    /// The input.
    Identity,
    /// The input through a layer that brings it to the output's shape.
    Projection(ConvLayer<'a>),
}

impl<'a> ConvBlock<'a> {
    /// A block of one layer.
    pub fn new(first: ConvLayer<'a>) -> Self {
        Self {
            pre_activation: Activation::Identity,
            first,
            rest: Vec::new(),
            excitation: None,
            pool: Pooling::None,
            shortcut: Shortcut::None,
            post_activation: Activation::Identity,
        }
    }

    /// Appends a layer.
    pub fn then(mut self, layer: ConvLayer<'a>) -> Self {
        self.rest.push(layer);
        self
    }

    /// Multiplies each channel of the output of the last layer so far by its scale, instead of any scales set before.
    ///
    /// Within [`crate::no_grad`], the next layer applies them as it reads that output. Else, the block runs as two.
    pub fn excite(mut self, scales: &'a dyn ChannelScales) -> Self {
        self.excitation = Some(Excitation { after: 1 + self.rest.len(), scales });
        self
    }

    /// Pools the last layer's output to the maxima of windows, instead of any pooling set before.
    pub fn max_pool(self, config: Pool2dConfig) -> Self {
        Self { pool: Pooling::Max(config), ..self }
    }

    /// Pools the last layer's output to the means of windows, instead of any pooling set before.
    pub fn avg_pool(self, config: Pool2dConfig, counting: PadCounting) -> Self {
        Self { pool: Pooling::Avg(config, counting), ..self }
    }

    /// Sets the shortcut. Beside one, the last layer has no activation.
    pub fn shortcut(self, shortcut: Shortcut<'a>) -> Self {
        Self { shortcut, ..self }
    }

    /// Sets the activation of the input as the first layer reads it. A shortcut reads the input itself.
    pub fn pre_activation(self, activation: Activation) -> Self {
        Self { pre_activation: activation, ..self }
    }

    /// Sets the activation of the output, after the shortcut is added.
    pub fn post_activation(self, activation: Activation) -> Self {
        Self { post_activation: activation, ..self }
    }

    /// Runs the block on `x` (B, C, H, W), with running statistics.
    ///
    /// # Errors
    ///
    /// As for [`Self::forward_t`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_t(x, false)
    }

    /// Runs the block on `x` (B, C, H, W); `train` is as for [`crate::batch_norm`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::conv2d`], [`crate::batch_norm`] and pooling; a shortcut of another shape than the output, or
    /// beside a last layer with an activation.
    pub fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let max_pool = self.check(x.dims())?;
        let mut tensors = self.layers().flat_map(ConvLayer::params);
        if !cpu::has_kernels(&[x]) || !tensors.all(|tensor| cpu::has_kernels(&[tensor])) {
            return elsewhere::conv_block(x, self, train);
        }
        let separate = self.runs_separately(x);
        if let Some(Excitation { after, .. }) = self.excitation
            && (separate || train || records_grads() || after > self.rest.len())
        {
            return self.with_separate_excitation(after, x, train);
        }
        if separate {
            return self.separate(x, train);
        }
        match (self.as_conv(), self.pool) {
            (Some(layer), Pooling::None) => conv::conv(x, layer),
            (Some(layer), Pooling::Max(config)) => conv::conv_max_pool(x, layer, &config),
            (Some(layer), Pooling::Avg(config, counting)) => conv::conv_avg_pool(x, layer, &config, counting),
            (None, Pooling::Avg(..)) => self.with_separate_tail(x, train),
            (None, _) => Block::new(self, x.dims(), max_pool, train)?.apply(x, self),
        }
    }

    /// The layers one after the other, then that of the shortcut.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &ConvLayer<'a>> {
        let projection = match &self.shortcut {
            Shortcut::Projection(layer) => Some(layer),
            Shortcut::None | Shortcut::Identity => None,
        };
        std::iter::once(&self.first).chain(&self.rest).chain(projection)
    }

    /// The only layer, if the block is a plain convolution with or without pooling.
    fn as_conv(&self) -> Option<&ConvLayer<'a>> {
        let plain = self.rest.is_empty()
            && self.excitation.is_none()
            && self.first.norm.is_none()
            && self.pre_activation == Activation::Identity
            && self.post_activation == Activation::Identity
            && matches!(self.shortcut, Shortcut::None);
        plain.then_some(&self.first)
    }

    /// Whether the block has an activation that its kernels cannot go back through, because the output does not determine the
    /// derivative, or that cannot change places with max pooling. Behind batch normalization, the input is there.
    fn runs_separately(&self, x: &Tensor) -> bool {
        let monotonic = |layer: &ConvLayer<'_>| layer.activation.is_monotonic();
        let pooled =
            matches!(self.pool, Pooling::Max(_)) && !monotonic(self.rest.last().unwrap_or(&self.first));
        let normed = |layer: &ConvLayer<'_>| layer.norm.is_some() || monotonic(layer);
        let backward = self.post_activation.is_monotonic() && self.layers().all(normed);
        pooled || !backward && (is_tracked(x) || self.layers().any(ConvLayer::is_tracked))
    }

    /// Runs the layers, pooling, shortcut and activation as ops of their own.
    fn separate(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let layer = |x: &Tensor, layer: &ConvLayer<'_>| match layer.norm {
            Some(_) => layer.forward_t(x, train),
            None => activate(&layer.activation(Activation::Identity).forward(x)?, layer.activation),
        };
        let mut y = layer(&activate(x, self.pre_activation)?, &self.first)?;
        for next in &self.rest {
            y = layer(&y, next)?;
        }
        self.tail(y, x, train)
    }

    /// Runs the layers as one op, and then pooling, shortcut and activation as ops of their own.
    fn with_separate_tail(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let layers = Self {
            pool: Pooling::None,
            shortcut: Shortcut::None,
            post_activation: Activation::Identity,
            ..self.clone()
        };
        self.tail(layers.forward_t(x, train)?, x, train)
    }

    /// Runs the layers before and behind scaled channels as blocks of their own, and the rest as [`Self::tail`].
    fn with_separate_excitation(&self, after: usize, x: &Tensor, train: bool) -> Result<Tensor> {
        let (before, behind) = self.rest.split_at(after - 1);
        let chain =
            |first: ConvLayer<'a>, rest: &[ConvLayer<'a>]| Self { rest: rest.to_vec(), ..Self::new(first) };
        let before = chain(self.first, before).pre_activation(self.pre_activation);
        let mut y = self.excited(before.forward_t(x, train)?, after)?;
        if let [first, rest @ ..] = behind {
            y = chain(*first, rest).forward_t(&y, train)?;
        }
        self.tail(y, x, train)
    }

    /// Whether channels are scaled after the first `layers` layers.
    #[cfg(any(test, feature = "cuda-kernels"))]
    pub(crate) fn excites(&self, layers: usize) -> bool {
        self.excitation.is_some_and(|excitation| excitation.after == layers)
    }

    /// `y`, the output of the first `layers` layers, with its channels scaled if that is their place.
    pub(crate) fn excited(&self, y: Tensor, layers: usize) -> Result<Tensor> {
        match self.excitation {
            Some(Excitation { after, scales }) if after == layers => {
                let scales = scales.scales(&global_avg_pool2d(&y)?)?;
                scale_channels(&y, &scales.unsqueeze(2)?.unsqueeze(3)?)
            }
            _ => Ok(y),
        }
    }

    /// Pooling, shortcut and activation as ops of their own, behind the layers' output `y`.
    fn tail(&self, y: Tensor, x: &Tensor, train: bool) -> Result<Tensor> {
        let y = match &self.pool {
            Pooling::None => y,
            Pooling::Max(config) => max_pool2d(&y, config)?,
            Pooling::Avg(config, counting) => avg_pool2d(&y, config, *counting)?,
        };
        let y = match &self.shortcut {
            Shortcut::None => y,
            Shortcut::Identity => add(&y, x)?,
            Shortcut::Projection(layer) => add(&y, &layer.forward_t(x, train)?)?,
        };
        activate(&y, self.post_activation)
    }

    /// Validates the block for an input of shape `x`, and returns the shape of its max pooling.
    fn check(&self, x: &[usize]) -> crate::Result<Option<PoolShape>> {
        self.pre_activation.check(OP)?;
        self.post_activation.check(OP)?;
        let mut dims = self.first.check(x)?;
        for layer in &self.rest {
            dims = layer.check(&dims)?;
        }
        let last = self.rest.last().unwrap_or(&self.first);
        let mut max_pool = None;
        if let Pooling::Max(config) | Pooling::Avg(config, _) = &self.pool {
            let shape = PoolShape::new(&dims, config)?;
            dims[2..].copy_from_slice(&[shape.oh, shape.ow]);
            max_pool = matches!(self.pool, Pooling::Max(_)).then_some(shape);
        }
        let shortcut = match &self.shortcut {
            Shortcut::None => None,
            Shortcut::Identity => Some(x.to_vec()),
            Shortcut::Projection(layer) => Some(layer.check(x)?.to_vec()),
        };
        if let Some(shortcut) = shortcut
            && (shortcut != dims || last.activation != Activation::Identity)
        {
            return Err(Error::Setting {
                op: OP,
                rule: "a shortcut has the output's shape, and the last layer beside it no activation",
                found: format!("{dims:?} beside {shortcut:?}, {:?}", last.activation),
            });
        }
        Ok(max_pool)
    }
}
