//! [`ConvBlock`] as one node of autograd's graph.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor};

use super::{ConvBlock, ConvLayer, Excitation, OP, Shortcut};
use crate::autograd::{self, Slot, is_tracked, no_grad};
use crate::batch_norm::BatchNorm;
use crate::config::Activation;
use crate::cpu::batch_norm::Affine;
use crate::cpu::conv::block::{
    BlockTail, ConvBnActSpec, ExpandDepthwise, ForwardPass, GradSource, InferenceWeights, LayerGrads,
    LayerParams, NormParams, NormSpec, OutputGrad, PropagatedGrad, SavedActivations,
};
use crate::cpu::conv::epilogue::{Epilogue, LazyMap};
use crate::cpu::gemm;
use crate::cpu::memory::buffer::{self, Buffer};
use crate::cpu::scale::par_scale;
use crate::cpu::{self, elementwise, pool};
use crate::error::{Error, expect_shape};
use crate::packed_weights;
use crate::shape::{ConvShape, PoolShape};

impl ConvLayer<'_> {
    /// The layer's kernels for an input of shape `x`.
    fn spec(&self, x: &[usize], train: bool) -> Result<ConvBnActSpec> {
        let shape = self.shape(x)?;
        let by_batch = BatchNorm::by_batch(shape.batch * shape.oh * shape.ow, train);
        let norm = self.norm.map(|norm| NormSpec { epsilon: norm.epsilon, by_batch });
        Ok(ConvBnActSpec::new(shape, norm, self.activation))
    }
}

/// A layer's tensors, contiguous.
struct LayerTensors {
    weight: Tensor,
    shift: Shift,
}

/// The operation after a layer's convolution.
enum Shift {
    None,
    Bias(Tensor),
    BatchNorm { gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor },
}

impl LayerTensors {
    fn new(layer: &ConvLayer<'_>) -> Result<Self> {
        let shift = match (layer.norm, layer.bias) {
            (Some(norm), _) => Shift::BatchNorm {
                gamma: norm.weight.contiguous()?,
                beta: norm.bias.contiguous()?,
                mean: norm.running_mean.contiguous()?,
                var: norm.running_var.contiguous()?,
            },
            (None, Some(bias)) => Shift::Bias(bias.contiguous()?),
            (None, None) => Shift::None,
        };
        Ok(Self { weight: layer.weight.contiguous()?, shift })
    }

    /// The parameters in a fixed order: the weight, then γ and β or the bias.
    // A vector, since valgrind reports a false positive for a chain of iterators.
    fn all(&self) -> Vec<&Tensor> {
        match &self.shift {
            Shift::None => vec![&self.weight],
            Shift::Bias(bias) => vec![&self.weight, bias],
            Shift::BatchNorm { gamma, beta, .. } => vec![&self.weight, gamma, beta],
        }
    }

    fn lock(&self) -> LockedTensors<'_> {
        let (bias, norm) = match &self.shift {
            Shift::None => (None, None),
            Shift::Bias(bias) => (Some(cpu::data(bias)), None),
            Shift::BatchNorm { gamma, beta, mean, var } => {
                (None, Some([gamma, beta, mean, var].map(cpu::data)))
            }
        };
        LockedTensors { weight: cpu::data(&self.weight), bias, norm }
    }

    /// The weights of `layer` as inference takes them.
    fn for_inference(&self, layer: &ConvLayer<'_>, spec: &ConvBnActSpec) -> Result<Arc<InferenceWeights>> {
        let pack = || match InferenceWeights::new(spec, self.lock().params()?) {
            Some(weights) => Ok(weights),
            None => candle_core::bail!("{OP}: inference needs running statistics"),
        };
        match packed_weights::reuse(spec.packing(), &layer.tensors(), pack)? {
            Some(weights) => Ok(weights),
            None => Ok(Arc::new(pack()?)),
        }
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
                slot.add(cpu::tensor(grad, tensor.shape())?)?;
            }
        }
        Ok(x)
    }
}

/// A layer's tensors, locked for reading.
struct LockedTensors<'a> {
    weight: cpu::Data<'a>,
    bias: Option<cpu::Data<'a>>,
    /// γ, β, running mean and variance.
    norm: Option<[cpu::Data<'a>; 4]>,
}

impl LockedTensors<'_> {
    fn params(&self) -> Result<LayerParams<'_>> {
        let bias = match &self.bias {
            Some(bias) => Some(bias.slice()?),
            None => None,
        };
        let norm = match &self.norm {
            Some([gamma, beta, mean, var]) => Some(NormParams {
                gamma: gamma.slice()?,
                beta: beta.slice()?,
                mean: mean.slice()?,
                var: var.slice()?,
            }),
            None => None,
        };
        Ok(LayerParams { weight: self.weight.slice()?, bias, norm })
    }
}

/// A block whose shapes are known.
pub(super) struct Block {
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
    pub(super) fn new(
        block: &ConvBlock<'_>,
        x: &[usize],
        max_pool: Option<PoolShape>,
        train: bool,
    ) -> Result<Self> {
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

    /// Runs the block, recording it for autograd if any argument is tracked.
    pub(super) fn apply(self, x: &Tensor, block: &ConvBlock<'_>) -> Result<Tensor> {
        let x = x.contiguous()?;
        let dims = self.output_shape();
        let all: Vec<&Tensor> = self.tensors.iter().flat_map(LayerTensors::all).collect();
        let tracked = std::iter::once(&x).chain(all.iter().copied()).any(is_tracked);
        let by_batch = self.specs.iter().any(ConvBnActSpec::normalizes_by_batch);
        if !tracked && !by_batch {
            return cpu::tensor(self.infer(&x, block)?, &dims);
        }
        let (y, saved) = self.forward(&x)?;
        for ((layer, spec), saved) in block.layers().zip(&self.specs).zip(&saved.layers) {
            if let (Some(norm), Some(moments)) = (layer.norm, saved.moments())
                && spec.normalizes_by_batch()
            {
                norm.update_running_stats(moments, spec.values_per_channel())?;
            }
        }
        if !tracked {
            return cpu::tensor(y, &dims);
        }
        let (slots, handles) = autograd::handles(&all)?;
        let block = Self { slots, ..self };
        let node = BlockNode { block, saved: Mutex::new(Some(saved)), y: Mutex::new(Some((y, dims))) };
        autograd::apply2([&x, &handles], node)
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
    fn infer(&self, x: &Tensor, block: &ConvBlock<'_>) -> Result<Vec<f32>> {
        /// Minimum number of pixels of the smallest map that are processed together, to fill the tiles of products.
        const PIXELS: usize = 1024;
        let data = cpu::data(x);
        let x = data.slice()?;
        let weights: Vec<Arc<InferenceWeights>> = block
            .layers()
            .zip(self.specs.iter().zip(&self.tensors))
            .map(|(layer, (spec, tensors))| tensors.for_inference(layer, spec))
            .collect::<Result<_>>()?;
        let smallest = self.specs.iter().map(|spec| spec.shape.oh * spec.shape.ow).min().unwrap_or(1);
        let batch = self.specs[0].shape.batch;
        // Products of more rows are summed in another order.
        let most = if block.excitation.is_some() { gemm::MAX_ROWS } else { batch };
        let together =
            PIXELS.div_ceil(smallest).min(batch.div_ceil(rayon::current_num_threads())).clamp(1, most);
        let output_len = self.output_shape().elem_count() / batch;
        let sample_len = x.len() / batch;
        let group = |group: usize, y: &mut [f32]| -> Result<()> {
            let x = &x[group * together * sample_len..][..y.len() / output_len * sample_len];
            let samples = x.len() / sample_len;
            let (layers, projection) = weights.split_at(self.n_layers);
            let mut map: Option<Buffer> = None;
            let mut scales: Vec<Affine> = Vec::new();
            let layer = |i: usize| (&self.specs[i], &*layers[i]);
            let excited = |end: usize| block.excitation.filter(|excitation| excitation.after == end);
            let mut i = 0;
            while i < self.n_layers {
                let from = match map.as_deref() {
                    Some(values) => {
                        LazyMap { values, epilogue: Epilogue::new(&scales, Activation::Identity) }
                    }
                    None => self.input(x),
                };
                let next = (i + 1 < self.n_layers && excited(i + 1).is_none()).then(|| layer(i + 1));
                let pair = next.and_then(|next| ExpandDepthwise::new(layer(i), next, from));
                let end = i + if pair.is_some() { 2 } else { 1 };
                let run = |y: &mut [f32]| match &pair {
                    Some(pair) => pair.run(y),
                    None => layers[i].run(&self.specs[i], from, y),
                };
                if end == self.n_layers && self.max_pool.is_none() {
                    run(y);
                } else {
                    let mut to = Buffer::dirty(samples * self.specs[end - 1].shape.output_sample_len());
                    run(&mut to);
                    scales = match excited(end) {
                        Some(excitation) => excitation.run(&mut to, &self.specs[end - 1].shape)?,
                        None => Vec::new(),
                    };
                    map = Some(to);
                }
                i = end;
            }
            if let (Some(pool), Some(map)) = (&self.max_pool, &map) {
                pool::max_values_into(pool, map, y);
            }
            if self.identity {
                elementwise::par_add(y, x);
            }
            if let Some(projection) = projection.first() {
                let mut shortcut = Buffer::dirty(y.len());
                projection.run(&self.specs[self.n_layers], LazyMap::stored(x), &mut shortcut);
                elementwise::par_add(y, &shortcut);
            }
            elementwise::par_activate(y, self.post_activation);
            Ok(())
        };
        let (y, done) = buffer::filled_with(batch * output_len, together * output_len, group);
        done.into_iter().collect::<Result<()>>()?;
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

impl Excitation<'_> {
    /// Scales the channels of several samples' `maps`, of an output of `shape`. Those of a single sample are left as they are:
    /// their scales are returned, for the next layer to apply.
    fn run(&self, maps: &mut [f32], shape: &ConvShape) -> Result<Vec<Affine>> {
        let (channels, plane) = (shape.c_out, shape.oh * shape.ow);
        let samples = maps.len() / (channels * plane);
        let means = Tensor::from_vec(pool::means(maps, plane), (samples, channels), &Device::Cpu)?;
        let scales = no_grad(|| self.scales.scales(&means))?.contiguous()?;
        expect_shape(OP, "scales", &scales, &[samples, channels])?;
        let data = cpu::data(&scales);
        if samples == 1 {
            return Ok(data.slice()?.iter().map(|&scale| Affine { scale, shift: 0.0 }).collect());
        }
        par_scale(maps, data.slice()?);
        Ok(Vec::new())
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
