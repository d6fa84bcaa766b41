//! Blocks of convolutions as one op: batch normalization, activations, pooling and a shortcut.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::activation::Activation;
use crate::autograd::{self, Slot};
use crate::batch_norm::BatchNorm;
use crate::config::{Conv2dConfig, PadCounting, Pool2dConfig};
use crate::cpu::conv::block::{
    BlockTail, ConvBnActSpec, ForwardPass, GradSource, InferencePlan, LayerGrads, LayerParams, NormParams,
    NormSpec, OutputGrad, PropagatedGrad, RunningStats, SavedActivations,
};
use crate::cpu::conv::epilogue::{Epilogue, LazyMap};
use crate::cpu::memory::buffer::{self, Buffer};
use crate::cpu::{self, elementwise, pool};
use crate::error::Error;
use crate::pool::avg_pool2d;
use crate::shape::{ConvShape, PoolShape};
use crate::{activate, conv, reference};

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

    /// The convolution's shape for an input of shape `x`.
    pub(crate) fn shape(&self, x: &[usize]) -> crate::Result<ConvShape> {
        ConvShape::new(x, self.weight, self.bias, &self.config)
    }

    /// Validates the layer for an input of shape `x`, and returns the shape of its output.
    fn check(&self, x: &[usize], train: bool) -> crate::Result<[usize; 4]> {
        self.activation.check(OP)?;
        let dims = self.shape(x)?.output_dims();
        if let Some(norm) = self.norm {
            if self.bias.is_some() {
                let rule = "a convolution before batch normalization has no bias";
                return Err(Error::Setting { op: OP, rule, found: "one".to_owned() });
            }
            norm.check(&dims, train)?;
        }
        Ok(dims)
    }

    fn spec(&self, x: &[usize], train: bool) -> Result<ConvBnActSpec> {
        let norm = match self.norm {
            Some(norm) if train => Some(NormSpec { epsilon: norm.epsilon, running: None }),
            Some(norm) => {
                let (mean, var) = (norm.running_mean.to_vec1()?, norm.running_var.to_vec1()?);
                Some(NormSpec { epsilon: norm.epsilon, running: Some(RunningStats { mean, var }) })
            }
            None => None,
        };
        Ok(ConvBnActSpec::new(self.shape(x)?, norm, self.activation))
    }
}

/// Convolutions one after the other, then pooling, a shortcut and an activation, as one op.
///
/// MobileNetV2's inverted residuals, Xception's modules and residual blocks (He et al. 2016) are such blocks. The output is
/// f(pool(layers(g(x))) + shortcut(x)), where every part but the first layer is optional. Output and gradients are those
/// of single ops, up to rounding. As one op,
///
/// - maps between the layers are not recorded for autograd, which would make several more passes over each;
/// - normalized maps are not written: the next layer normalizes the convolution's output as it reads it;
/// - maps before max pooling are not written where a window has few values, and the backward pass visits only the maxima;
/// - without gradients, a few samples at a time go through all layers while they are in the cache, with running
///   statistics folded into the weights.
///
/// With max pooling alone, the maximum is taken before the activation. All activations are monotonic, so the output is the
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
    pub(crate) pool: Pooling,
    pub(crate) shortcut: Shortcut<'a>,
    pub(crate) post_activation: Activation,
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
        let max_pool = self.check(x.dims(), train)?;
        let tensors = self.layers().flat_map(|layer| {
            let norm = layer.norm.map(|norm| [&norm.weight, &norm.bias]);
            [Some(layer.weight), layer.bias].into_iter().flatten().chain(norm.into_iter().flatten())
        });
        if !cpu::has_kernels(&[x]) || !tensors.into_iter().all(|tensor| cpu::has_kernels(&[tensor])) {
            return reference::conv_block(x, self, train);
        }
        match (self.as_conv(), self.pool) {
            (Some(layer), Pooling::None) => conv::conv(x, layer),
            (Some(layer), Pooling::Max(config)) => conv::conv_max_pool(x, layer, &config),
            (Some(layer), Pooling::Avg(config, counting)) => conv::conv_avg_pool(x, layer, &config, counting),
            (None, Pooling::Avg(config, counting)) => self.with_separate_tail(x, &config, counting, train),
            (None, _) => Block::new(self, x.dims(), max_pool, train)?.apply(x, self, train),
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
            && self.first.norm.is_none()
            && self.pre_activation == Activation::Identity
            && self.post_activation == Activation::Identity
            && matches!(self.shortcut, Shortcut::None);
        plain.then_some(&self.first)
    }

    /// Runs the layers as one op, and then average pooling, shortcut and activation as ops of their own.
    fn with_separate_tail(
        &self,
        x: &Tensor,
        config: &Pool2dConfig,
        counting: PadCounting,
        train: bool,
    ) -> Result<Tensor> {
        let layers = Self {
            pool: Pooling::None,
            shortcut: Shortcut::None,
            post_activation: Activation::Identity,
            ..self.clone()
        };
        let y = avg_pool2d(&layers.forward_t(x, train)?, config, counting)?;
        let y = match self.shortcut {
            Shortcut::None => y,
            Shortcut::Identity => (y + x)?,
            Shortcut::Projection(layer) => (y + layer.forward_t(x, train)?)?,
        };
        activate(&y, self.post_activation)
    }

    /// Validates the block for an input of shape `x`, and returns the shape of its max pooling.
    fn check(&self, x: &[usize], train: bool) -> crate::Result<Option<PoolShape>> {
        self.pre_activation.check(OP)?;
        self.post_activation.check(OP)?;
        let mut dims = self.first.check(x, train)?;
        for layer in &self.rest {
            dims = layer.check(&dims, train)?;
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
            Shortcut::Projection(layer) => Some(layer.check(x, train)?.to_vec()),
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

const OP: &str = "conv_block";

/// A layer's tensors, contiguous.
struct LayerTensors {
    weight: Tensor,
    shift: Shift,
}

/// The operation after a layer's convolution.
enum Shift {
    None,
    Bias(Tensor),
    BatchNorm { gamma: Tensor, beta: Tensor },
}

impl LayerTensors {
    fn new(layer: &ConvLayer<'_>) -> Result<Self> {
        let shift = match (layer.norm, layer.bias) {
            (Some(norm), _) => {
                Shift::BatchNorm { gamma: norm.weight.contiguous()?, beta: norm.bias.contiguous()? }
            }
            (None, Some(bias)) => Shift::Bias(bias.contiguous()?),
            (None, None) => Shift::None,
        };
        Ok(Self { weight: layer.weight.contiguous()?, shift })
    }

    /// The tensors in a fixed order: the weight, then γ and β or the bias.
    // A vector, since valgrind reports a false positive for a chain of iterators.
    fn all(&self) -> Vec<&Tensor> {
        match &self.shift {
            Shift::None => vec![&self.weight],
            Shift::Bias(bias) => vec![&self.weight, bias],
            Shift::BatchNorm { gamma, beta } => vec![&self.weight, gamma, beta],
        }
    }

    fn lock(&self) -> LockedTensors<'_> {
        let (bias, norm) = match &self.shift {
            Shift::None => (None, None),
            Shift::Bias(bias) => (Some(cpu::data(bias)), None),
            Shift::BatchNorm { gamma, beta } => (None, Some((cpu::data(gamma), cpu::data(beta)))),
        };
        LockedTensors { weight: cpu::data(&self.weight), bias, norm }
    }

    /// Stores the gradients in the slots of [`Self::all`].
    fn store_grads(&self, slots: &[Slot], grads: LayerGrads) -> Result<Option<PropagatedGrad>> {
        let LayerGrads { x, weight, gamma, beta } = grads;
        let shift = match &self.shift {
            Shift::None => vec![],
            Shift::Bias(_) => vec![beta],
            Shift::BatchNorm { .. } => vec![gamma, beta],
        };
        let grads = std::iter::once(weight).chain(shift.into_iter().map(Some));
        for ((slot, tensor), grad) in slots.iter().zip(self.all()).zip(grads) {
            if let Some(grad) = grad {
                slot.store(cpu::tensor(grad, tensor.shape())?);
            }
        }
        Ok(x)
    }
}

/// A layer's tensors, locked for reading.
struct LockedTensors<'a> {
    weight: cpu::Data<'a>,
    bias: Option<cpu::Data<'a>>,
    norm: Option<(cpu::Data<'a>, cpu::Data<'a>)>,
}

impl LockedTensors<'_> {
    fn params(&self) -> Result<LayerParams<'_>> {
        let bias = match &self.bias {
            Some(bias) => Some(bias.slice()?),
            None => None,
        };
        let norm = match &self.norm {
            Some((gamma, beta)) => Some(NormParams { gamma: gamma.slice()?, beta: beta.slice()? }),
            None => None,
        };
        Ok(LayerParams { weight: self.weight.slice()?, bias, norm })
    }
}

/// A block whose shapes are known.
struct Block {
    pre_activation: Activation,
    /// The layers, then the projection if there is one.
    specs: Vec<ConvBnActSpec>,
    /// Number of layers without the projection.
    n_layers: usize,
    /// In the order of `specs`.
    tensors: Vec<LayerTensors>,
    max_pool: Option<PoolShape>,
    /// Whether the input is added.
    identity: bool,
    post_activation: Activation,
    /// In the order of the tensors of all layers.
    slots: Vec<Slot>,
}

/// The state that a forward pass saves for the backward pass.
struct SavedBlock {
    /// In the order of the specs.
    layers: Vec<SavedActivations>,
    /// The argmax of each maximum, if the block pools.
    argmax: Vec<u32>,
}

impl Block {
    fn new(block: &ConvBlock<'_>, x: &[usize], max_pool: Option<PoolShape>, train: bool) -> Result<Self> {
        let n_layers = 1 + block.rest.len();
        let mut specs = Vec::with_capacity(n_layers + 1);
        let mut input = x.to_vec();
        for (i, layer) in block.layers().enumerate() {
            let spec = layer.spec(if i < n_layers { &input } else { x }, train)?;
            input = spec.shape.output_dims().to_vec();
            specs.push(spec);
        }
        Ok(Self {
            pre_activation: block.pre_activation,
            specs,
            n_layers,
            tensors: block.layers().map(LayerTensors::new).collect::<Result<_>>()?,
            max_pool,
            identity: matches!(block.shortcut, Shortcut::Identity),
            post_activation: block.post_activation,
            slots: Vec::new(),
        })
    }

    fn apply(self, x: &Tensor, block: &ConvBlock<'_>, train: bool) -> Result<Tensor> {
        let x = x.contiguous()?;
        let dims = self.output_shape();
        let all: Vec<&Tensor> = self.tensors.iter().flat_map(LayerTensors::all).collect();
        let tracked = x.track_op() || all.iter().any(|tensor| tensor.track_op());
        let by_batch = train && block.layers().any(|layer| layer.norm.is_some());
        if !tracked && !by_batch {
            return cpu::tensor(self.infer(&x)?, &dims);
        }
        let (y, saved) = self.forward(&x)?;
        if train {
            for ((layer, spec), saved) in block.layers().zip(&self.specs).zip(&saved.layers) {
                if let (Some(norm), Some(moments)) = (layer.norm, saved.moments()) {
                    norm.update_running_stats(moments, spec.values_per_channel())?;
                }
            }
        }
        if !tracked {
            return cpu::tensor(y, &dims);
        }
        let (slots, handles) = autograd::handles(&all)?;
        let block = Self { slots, ..self };
        let node = BlockNode { block, saved: Mutex::new(Some(saved)), y: Mutex::new(Some((y, dims))) };
        x.apply_op2(&handles, node)
    }

    fn last(&self) -> &ConvBnActSpec {
        &self.specs[self.n_layers - 1]
    }

    fn output_shape(&self) -> Shape {
        let [batch, channels, oh, ow] = self.last().shape.output_dims();
        let (oh, ow) = self.max_pool.map_or((oh, ow), |pool| (pool.oh, pool.ow));
        Shape::from((batch, channels, oh, ow))
    }

    /// The input as the first layer reads it.
    fn input<'a>(&self, x: &'a [f32]) -> LazyMap<'a> {
        LazyMap { values: x, epilogue: Epilogue::new(&[], self.pre_activation) }
    }

    fn forward(&self, x: &Tensor) -> Result<(Vec<f32>, SavedBlock)> {
        let data = cpu::data(x);
        let x = data.slice()?;
        let mut saved: Vec<SavedActivations> = Vec::with_capacity(self.specs.len());
        for (i, (spec, tensors)) in self.specs.iter().zip(&self.tensors).enumerate() {
            let from = match i.checked_sub(1) {
                _ if i == self.n_layers => LazyMap::stored(x),
                Some(previous) => saved[previous].output(&self.specs[previous]),
                None => self.input(x),
            };
            let now = spec.forward(from, tensors.lock().params()?);
            saved.push(now);
        }
        let (layers, projection) = saved.split_at_mut(self.n_layers);
        let projected = projection.first().map(|saved| saved.output(&self.specs[self.n_layers]));
        let addend = projected.or(self.identity.then(|| LazyMap::stored(x)));
        let tail = BlockTail { max_pool: self.max_pool.as_ref(), addend, activation: self.post_activation };
        let (y, argmax) = self.last().finish(&mut layers[self.n_layers - 1], tail);
        Ok((y, SavedBlock { layers: saved, argmax }))
    }

    /// The output alone, with a few samples at a time going through all layers.
    fn infer(&self, x: &Tensor) -> Result<Vec<f32>> {
        /// Minimum number of pixels of the smallest map that are processed together, to fill the tiles of products.
        const PIXELS: usize = 1024;
        let data = cpu::data(x);
        let x = data.slice()?;
        let locked: Vec<LockedTensors<'_>> = self.tensors.iter().map(LayerTensors::lock).collect();
        let params: Vec<LayerParams<'_>> = locked.iter().map(LockedTensors::params).collect::<Result<_>>()?;
        let specs = self.specs.iter().zip(&params);
        let plans: Option<Vec<InferencePlan<'_>>> =
            specs.map(|(spec, params)| InferencePlan::new(spec, *params)).collect();
        let Some(plans) = plans else {
            candle_core::bail!("{OP}: inference needs running statistics");
        };
        let smallest = self.specs.iter().map(|spec| spec.shape.oh * spec.shape.ow).min().unwrap_or(1);
        let batch = self.specs[0].shape.batch;
        let together = PIXELS.div_ceil(smallest).min(batch.div_ceil(rayon::current_num_threads())).max(1);
        let output_len = self.output_shape().elem_count() / batch;
        let sample_len = x.len() / batch;
        let mut y = buffer::zeros(batch * output_len);
        let groups = y.par_chunks_mut(together * output_len).zip(x.par_chunks(together * sample_len));
        groups.for_each(|(y, x)| {
            let samples = x.len() / sample_len;
            let (layers, projection) = plans.split_at(self.n_layers);
            let mut map: Option<Buffer> = None;
            for (i, (spec, plan)) in self.specs.iter().zip(layers).enumerate() {
                let from = map.as_deref().map_or(self.input(x), LazyMap::stored);
                if i + 1 == self.n_layers && self.max_pool.is_none() {
                    plan.run(from, y);
                } else {
                    let mut to = Buffer::dirty(samples * spec.shape.output_sample_len());
                    plan.run(from, &mut to);
                    map = Some(to);
                }
            }
            if let (Some(pool), Some(map)) = (&self.max_pool, &map) {
                pool::max_values_into(pool, map, y);
            }
            if self.identity {
                elementwise::par_add(y, x);
            }
            if let Some(projection) = projection.first() {
                let mut shortcut = Buffer::dirty(y.len());
                projection.run(LazyMap::stored(x), &mut shortcut);
                elementwise::par_add(y, &shortcut);
            }
            elementwise::par_activate(y, self.post_activation);
        });
        Ok(y)
    }

    /// The forward pass of a layer, as its backward pass reads it.
    fn pass<'a>(
        &'a self,
        i: usize,
        params: &[LayerParams<'a>],
        saved: &'a [SavedActivations],
        y: &'a [f32],
    ) -> ForwardPass<'a> {
        ForwardPass::new(&self.specs[i], params[i].weight, &saved[i], y)
    }

    /// The gradient of x; those of other arguments go to their slots. If this is the last pass, the saved map of each layer
    /// is freed after its gradients are computed.
    fn backward(
        &self,
        x: &Tensor,
        y: &Tensor,
        grad: &Tensor,
        SavedBlock { layers: saved, argmax }: &mut SavedBlock,
        last_pass: bool,
    ) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (x_data, y_data, grad_data) = (cpu::data(x), cpu::data(y), cpu::data(&grad));
        let (x_values, y_values, grad_values) = (x_data.slice()?, y_data.slice()?, grad_data.slice()?);
        let before_activation = (self.post_activation != Activation::Identity)
            .then(|| elementwise::par_activation_grad(grad_values, y_values, self.post_activation));
        let grad_values = before_activation.as_deref().unwrap_or(grad_values);
        let locked: Vec<LockedTensors<'_>> = self.tensors.iter().map(LayerTensors::lock).collect();
        let params: Vec<LayerParams<'_>> = locked.iter().map(LockedTensors::params).collect::<Result<_>>()?;
        let mut slots = self.slots.as_slice();
        let mut layer_slots = |tensors: &LayerTensors| {
            let (rest, own) = slots.split_at(slots.len() - tensors.all().len());
            slots = rest;
            (rest, own)
        };
        let mut projected = None;
        if let Some(tensors) = self.tensors.get(self.n_layers) {
            let (_, own) = layer_slots(tensors);
            let grads = self.pass(self.n_layers, &params, saved, y_values).backward(
                LazyMap::stored(x_values),
                GradSource::Output(OutputGrad::Dense(grad_values)),
                None,
                x.track_op().then(|| Buffer::dirty(x_values.len())),
                own[0].wants_grad(),
            );
            projected = tensors.store_grads(own, grads)?;
            if last_pass {
                saved[self.n_layers].free();
            }
        }
        let mut source = match &self.max_pool {
            Some(pool) => GradSource::Output(OutputGrad::AtMaxima { pool, values: grad_values, argmax }),
            None => GradSource::Output(OutputGrad::Dense(grad_values)),
        };
        for (i, tensors) in self.tensors[..self.n_layers].iter().enumerate().rev() {
            let (earlier, own) = layer_slots(tensors);
            let (from, previous) = match i.checked_sub(1) {
                Some(previous) => {
                    let from = saved[previous].output(&self.specs[previous]);
                    (from, Some(self.pass(previous, &params, saved, y_values)))
                }
                None => (self.input(x_values), None),
            };
            // The gradient of the first layer's input becomes a tensor.
            let buffer = if i == 0 { Buffer::fresh } else { Buffer::dirty };
            let wants_x = x.track_op() || earlier.iter().any(Slot::wants_grad);
            let input_grad = wants_x.then(|| buffer(from.values.len()));
            let pass = self.pass(i, &params, saved, y_values);
            let grads = pass.backward(from, source, previous, input_grad, own[0].wants_grad());
            match tensors.store_grads(own, grads)? {
                Some(grad) => source = GradSource::NextLayer(grad),
                None => return Ok(None),
            }
            if last_pass {
                saved[i].free();
            }
        }
        match source {
            GradSource::NextLayer(PropagatedGrad { values: mut x_grad, .. }) if x.track_op() => {
                if self.identity {
                    elementwise::par_add(&mut x_grad, grad_values);
                }
                if let Some(projected) = projected {
                    elementwise::par_add(&mut x_grad, &projected.values);
                }
                autograd::route_values(x, x_grad.into_vec())
            }
            GradSource::NextLayer(_) | GradSource::Output(_) => Ok(None),
        }
    }
}

/// The node of a block in the graph of autograd.
struct BlockNode {
    block: Block,
    /// `None` after the last backward pass.
    saved: Mutex<Option<SavedBlock>>,
    /// `None` after candle has taken the output.
    y: Mutex<Option<(Vec<f32>, Shape)>>,
}

impl CustomOp2 for BlockNode {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.y.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((y, shape)) => Ok((CpuStorage::F32(y), shape)),
            None => candle_core::bail!("{OP}: the output was taken before"),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        handles: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let last_pass = autograd::is_last_pass();
        let mut slot = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut saved) = slot.take() else {
            return Err(Error::Freed { op: OP }.into());
        };
        let x_grad = self.block.backward(x, y, grad, &mut saved, last_pass);
        if !last_pass {
            *slot = Some(saved);
        }
        let x_grad = x_grad?;
        Ok((x_grad, if handles.track_op() { Some(handles.zeros_like()?) } else { None }))
    }
}
