use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::config::{Activation, Conv2dConfig, Pool2dConfig};
use crate::cpu::buffer::{self, Buffer};
use crate::cpu::source::{Pending, Source};
use crate::cpu::stage::{Finish, Flow, Given, Kept, Norm, Parameters, Prepared, Ran, Stage, StageGrads};
use crate::cpu::{self, elementwise, pool};
use crate::error::Error;
use crate::norm::BatchNorm;
use crate::portable;
use crate::shape::{ConvShape, PoolShape};
use crate::tape::{self, Slot};

/// One layer of a [`conv_chain`]: a convolution without bias, a batch normalisation where there is one, and an
/// activation (timm's `ConvNormAct`).
#[derive(Debug, Clone, Copy)]
pub struct ConvNormAct<'a> {
    /// (O, C / groups, kh, kw)
    pub weight: &'a Tensor,
    /// Of the convolution's result.
    pub norm: Option<&'a BatchNorm>,
    /// How the kernel moves.
    pub config: Conv2dConfig,
    /// What follows.
    pub activation: Activation,
}

/// Layers one after the other, and what comes of their result: pooled, added to a shortcut, activated. Struct update
/// syntax starts from [`ConvChain::of`].
#[derive(Debug, Clone, Copy)]
pub struct ConvChain<'a> {
    /// Of the input as the first layer reads it; a shortcut reads the input itself.
    pub before: Activation,
    /// At least one.
    pub layers: &'a [ConvNormAct<'a>],
    /// Max pooling of the last layer's result.
    pub pool: Option<Pool2dConfig>,
    /// What is added to that.
    pub shortcut: Shortcut<'a>,
    /// Of the sum.
    pub after: Activation,
}

/// What runs beside the layers of a residual block (He et al. 2016).
#[derive(Debug, Clone, Copy)]
pub enum Shortcut<'a> {
    /// Nothing.
    None,
    /// The input.
    Identity,
    /// The input through a layer of its own, which brings it to the result's shape.
    Projection(ConvNormAct<'a>),
}

impl<'a> ConvChain<'a> {
    /// The layers alone.
    pub const fn of(layers: &'a [ConvNormAct<'a>]) -> Self {
        let nothing = Activation::Identity;
        Self { before: nothing, layers, pool: None, shortcut: Shortcut::None, after: nothing }
    }
}

/// A chain of convolutions as one op: `x` (B, C, H, W) to the last layer's output, pooled and with the shortcut added
/// where the chain has them. MobileNetV2's inverted residuals, Xception's modules and residual blocks are such chains.
///
/// The result and the gradients are those of the layers as single ops. As one op, the maps between the layers stay
/// out of the tape, which would pass over each of their gradients four more times; what is pooled is never written; and
/// without gradients to come, a few samples at a time go through all layers while they are in the cache, with constant
/// normalisation folded into the weights.
///
/// `train` is as for [`crate::batch_norm`].
///
/// # Errors
/// As for [`crate::conv2d`], [`crate::batch_norm`] and [`crate::max_pool2d`]; an empty chain; a shortcut of another shape
/// than the result, or behind a last layer with an activation.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_ops::{Activation, Conv2dConfig, ConvChain, ConvNormAct, Padding2d, Shortcut, conv_chain};
///
/// // A depthwise 3×3, then a pointwise convolution, added to the input.
/// let x = Tensor::ones((1, 2, 4, 4), DType::F32, &Device::Cpu)?;
/// let depthwise = Tensor::ones((2, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let pointwise = Tensor::ones((2, 2, 1, 1), DType::F32, &Device::Cpu)?;
/// let same = Conv2dConfig { padding: Padding2d::symmetric(1, 1), groups: 2, ..Conv2dConfig::PLAIN };
/// let layers = [
///     ConvNormAct { weight: &depthwise, norm: None, config: same, activation: Activation::Relu },
///     ConvNormAct {
///         weight: &pointwise,
///         norm: None,
///         config: Conv2dConfig::PLAIN,
///         activation: Activation::Identity,
///     },
/// ];
/// let residual = ConvChain { shortcut: Shortcut::Identity, ..ConvChain::of(&layers) };
/// let y = conv_chain(&x, &residual, false)?;
/// assert_eq!(y.get(0)?.get(0)?.to_vec2::<f32>()?[0], [9., 13., 13., 9.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn conv_chain(x: &Tensor, chain: &ConvChain<'_>, train: bool) -> Result<Tensor> {
    let &ConvChain { before, layers, pool, shortcut, after } = chain;
    before.check("conv_chain")?;
    after.check("conv_chain")?;
    let mut dims = x.dims().to_vec();
    for layer in layers {
        dims = layer.check(&dims, train)?;
    }
    let last = layers.last().ok_or(Error::Setting {
        op: "conv_chain",
        rule: "a chain has at least one layer",
        found: "none".to_owned(),
    })?;
    let pool = pool.map(|pool| PoolShape::of_dims(&dims, &pool)).transpose()?;
    if let Some(pool) = &pool {
        dims[2..].copy_from_slice(&[pool.oh, pool.ow]);
    }
    let beside = match &shortcut {
        Shortcut::None => None,
        Shortcut::Identity => Some(x.dims().to_vec()),
        Shortcut::Projection(layer) => Some(layer.check(x.dims(), train)?),
    };
    if let Some(beside) = &beside
        && (*beside != dims || last.activation != Activation::Identity)
    {
        return Err(Error::Setting {
            op: "conv_chain",
            rule: "a shortcut has the result's shape, and the last layer beside it no activation",
            found: format!("{dims:?} beside {beside:?}, and {:?}", last.activation),
        }
        .into());
    }
    let projection = match shortcut {
        Shortcut::Projection(layer) => Some(layer),
        _ => None,
    };
    let all: Vec<&ConvNormAct<'_>> = layers.iter().chain(&projection).collect();
    let arguments: Vec<Arguments> = all.iter().map(|layer| Arguments::new(layer)).collect::<Result<_>>()?;
    let tensors: Vec<&Tensor> = arguments.iter().flat_map(Arguments::tensors).collect();
    if !cpu::has_kernels(&[x]) || !cpu::has_kernels(&tensors) {
        return portable::conv_chain(x, chain, train);
    }
    let x = x.contiguous()?;
    let mut stages = Vec::with_capacity(all.len());
    let mut inner = x.dims().to_vec();
    for layer in layers {
        let stage = stage(&inner, layer, train)?;
        inner = stage.dims();
        stages.push(stage);
    }
    if let Some(layer) = &projection {
        stages.push(stage(x.dims(), layer, train)?);
    }
    let tracked = x.track_op() || tensors.iter().any(|tensor| tensor.track_op());
    let by_batch = train && all.iter().any(|layer| layer.norm.is_some());
    let identity = matches!(shortcut, Shortcut::Identity);
    let chain =
        Chain { before, stages, n_layers: layers.len(), arguments, pool, identity, after, slots: Vec::new() };
    let dims = Shape::from(dims);
    if !tracked && !by_batch {
        return cpu::tensor(chain.infer(&x)?, &dims);
    }
    let (y, run) = chain.forward(&x)?;
    if train {
        for ((layer, stage), kept) in all.iter().zip(&chain.stages).zip(&run.kept) {
            if let Some(norm) = layer.norm {
                norm.move_running(&kept.moments, stage.values_per_channel())?;
            }
        }
    }
    if !tracked {
        return cpu::tensor(y, &dims);
    }
    let tensors: Vec<&Tensor> = chain.arguments.iter().flat_map(Arguments::tensors).collect();
    let (slots, handles) = tape::handles(&tensors)?;
    let chain = Chain { slots, ..chain };
    x.apply_op2(&handles, Computed { chain, run: Mutex::new(Some(run)), y: Mutex::new(Some((y, dims))) })
}

impl ConvNormAct<'_> {
    /// Checks the layer for an input of shape `x` and gives its result's.
    fn check(&self, x: &[usize], train: bool) -> Result<Vec<usize>> {
        self.activation.check("conv_chain")?;
        let shape = ConvShape::of(x, self.weight, None, &self.config)?;
        let dims = vec![shape.batch, shape.c_out, shape.oh, shape.ow];
        if let Some(norm) = self.norm {
            norm.check(&dims, train)?;
        }
        Ok(dims)
    }
}

/// A layer's tensors, contiguous: the weight, and γ and β if it normalises.
struct Arguments {
    weight: Tensor,
    norm: Option<(Tensor, Tensor)>,
}

impl Arguments {
    fn new(layer: &ConvNormAct<'_>) -> Result<Self> {
        let norm = match layer.norm {
            Some(norm) => Some((norm.weight.contiguous()?, norm.bias.contiguous()?)),
            None => None,
        };
        Ok(Self { weight: layer.weight.contiguous()?, norm })
    }

    // A list, not a chain of iterators: what the compiler makes of the latter valgrind takes for a fault.
    fn tensors(&self) -> Vec<&Tensor> {
        match &self.norm {
            Some((gamma, beta)) => vec![&self.weight, gamma, beta],
            None => vec![&self.weight],
        }
    }

    fn lock(&self) -> Locked<'_> {
        let norm = self.norm.as_ref().map(|(gamma, beta)| (cpu::data(gamma), cpu::data(beta)));
        Locked { weight: cpu::data(&self.weight), norm }
    }
}

/// A layer's tensors, locked for reading.
struct Locked<'a> {
    weight: cpu::Data<'a>,
    norm: Option<(cpu::Data<'a>, cpu::Data<'a>)>,
}

impl Locked<'_> {
    fn parameters(&self) -> Result<Parameters<'_>> {
        let (gamma, beta) = match &self.norm {
            Some((gamma, beta)) => (gamma.slice()?, beta.slice()?),
            None => Default::default(),
        };
        Ok(Parameters { weight: self.weight.slice()?, gamma, beta })
    }
}

fn stage(x: &[usize], layer: &ConvNormAct<'_>, train: bool) -> Result<Stage> {
    let norm = match layer.norm {
        Some(norm) => {
            let values = |tensor: &Tensor| tensor.to_vec1::<f32>();
            let constants =
                if train { None } else { Some((values(&norm.running_mean)?, values(&norm.running_var)?)) };
            Some(Norm { epsilon: norm.epsilon, constants })
        }
        None => None,
    };
    let shape = ConvShape::of(x, layer.weight, None, &layer.config)?;
    Ok(Stage { shape, norm, activation: layer.activation })
}

struct Chain {
    before: Activation,
    /// The layers', then the projection's if there is one.
    stages: Vec<Stage>,
    n_layers: usize,
    /// In the order of the stages.
    arguments: Vec<Arguments>,
    pool: Option<PoolShape>,
    /// Whether the input is added.
    identity: bool,
    after: Activation,
    /// In the order of the arguments' tensors.
    slots: Vec<Slot>,
}

/// What a forward pass leaves for the backward pass.
struct Run {
    /// In the order of the stages.
    kept: Vec<Kept>,
    /// Of the maxima, if the result is pooled.
    places: Vec<u32>,
}

impl Chain {
    /// The input as the first layer reads it.
    fn source<'a>(&self, x: &'a [f32]) -> Source<'a> {
        Source { values: x, pending: Pending::new(&[], self.before) }
    }

    fn forward(&self, x: &Tensor) -> Result<(Vec<f32>, Run)> {
        let data = cpu::data(x);
        let x = data.slice()?;
        let mut kept: Vec<Kept> = Vec::with_capacity(self.stages.len());
        for (i, (stage, arguments)) in self.stages.iter().zip(&self.arguments).enumerate() {
            let from = match i.checked_sub(1) {
                _ if i == self.n_layers => Source::plain(x),
                Some(previous) => kept[previous].result(&self.stages[previous]),
                None => self.source(x),
            };
            let now = stage.forward(from, arguments.lock().parameters()?);
            kept.push(now);
        }
        let (layers, projection) = kept.split_at_mut(self.n_layers);
        let projected = projection.first().map(|kept| kept.result(&self.stages[self.n_layers]));
        let addend = projected.or(self.identity.then(|| Source::plain(x)));
        let finish = Finish { pool: self.pool.as_ref(), addend, after: self.after };
        let (y, places) = match (self.stages[..self.n_layers].last(), layers.last_mut()) {
            (Some(stage), Some(kept)) => stage.finish(kept, finish),
            _ => Default::default(),
        };
        Ok((y, Run { kept, places }))
    }

    /// The result alone, a few samples at a time through all layers.
    fn infer(&self, x: &Tensor) -> Result<Vec<f32>> {
        /// As many samples go together as make this many pixels of the smallest map, which fill the products' tiles.
        const PIXELS: usize = 1024;
        let data = cpu::data(x);
        let x = data.slice()?;
        let locked: Vec<Locked<'_>> = self.arguments.iter().map(Arguments::lock).collect();
        let parameters: Vec<Parameters<'_>> = locked.iter().map(Locked::parameters).collect::<Result<_>>()?;
        let stages = self.stages.iter().zip(&parameters);
        let prepared: Option<Vec<Prepared<'_>>> =
            stages.map(|(stage, parameters)| Prepared::new(stage, *parameters)).collect();
        let (layers, projection) = self.stages.split_at(self.n_layers);
        let (Some(prepared), Some(last)) = (prepared, layers.last()) else {
            candle_core::bail!("conv_chain: layers whose moments are not known ahead");
        };
        let smallest = self.stages.iter().map(|stage| stage.shape.oh * stage.shape.ow).min().unwrap_or(1);
        let batch = self.stages[0].shape.batch;
        let together = PIXELS.div_ceil(smallest).min(batch.div_ceil(rayon::current_num_threads())).max(1);
        let (sample, result) =
            (x.len() / batch, self.pool.map_or(last.sample_len(), |pool| pool.sample_len()));
        let mut y = buffer::zeros(batch * result);
        let groups = y.par_chunks_mut(together * result).zip(x.par_chunks(together * sample));
        groups.for_each(|(y, x)| {
            let samples = x.len() / sample;
            let mut map: Option<Buffer> = None;
            for (i, (stage, prepared)) in layers.iter().zip(&prepared).enumerate() {
                let from = map.as_deref().map_or(self.source(x), Source::plain);
                if i + 1 == layers.len() && self.pool.is_none() {
                    prepared.run(from, y);
                } else {
                    let mut to = Buffer::dirty(samples * stage.sample_len());
                    prepared.run(from, &mut to);
                    map = Some(to);
                }
            }
            if let (Some(pool), Some(map)) = (&self.pool, &map) {
                pool::max_values_into(pool, map, y);
            }
            if self.identity {
                elementwise::par_add(y, x);
            }
            if let (Some(_), Some(projected)) = (projection.first(), prepared.last()) {
                let mut beside = Buffer::dirty(y.len());
                projected.run(Source::plain(x), &mut beside);
                elementwise::par_add(y, &beside);
            }
            elementwise::par_activate(y, self.after);
        });
        Ok(y)
    }

    /// A layer that has run, as its gradients read it.
    fn ran<'a>(
        &'a self,
        i: usize,
        locked: &'a [Locked<'_>],
        kept: &'a [Kept],
        y: &'a [f32],
    ) -> Result<Ran<'a>> {
        Ok(Ran::new(&self.stages[i], locked[i].parameters()?, &kept[i], y))
    }

    /// The gradient for x; those of the other arguments go to their slots. If this is the last pass, what a layer kept
    /// is freed once its gradients are there.
    fn backward(
        &self,
        x: &Tensor,
        y: &Tensor,
        grad: &Tensor,
        Run { kept, places }: &mut Run,
        last: bool,
    ) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (x_data, y_data, grad_data) = (cpu::data(x), cpu::data(y), cpu::data(&grad));
        let (x_values, y_values, grad_values) = (x_data.slice()?, y_data.slice()?, grad_data.slice()?);
        let slopes = (self.after != Activation::Identity)
            .then(|| elementwise::par_activation_grad(grad_values, y_values, self.after));
        let grad_values = slopes.as_deref().unwrap_or(grad_values);
        let locked: Vec<Locked<'_>> = self.arguments.iter().map(Arguments::lock).collect();
        let mut last_slot = self.slots.len();
        let mut projected = None;
        let mut flow = match &self.pool {
            Some(pool) => Flow::Given(Given::OfMaxima(pool, grad_values, places)),
            None => Flow::Given(Given::Whole(grad_values)),
        };
        for (i, arguments) in self.arguments.iter().enumerate().rev() {
            let first_slot = last_slot - arguments.tensors().len();
            let slots = &self.slots[first_slot..last_slot];
            last_slot = first_slot;
            let leave = |grads: StageGrads| -> Result<Option<Flow<'static>>> {
                if let Some(weight) = grads.weight {
                    slots[0].leave(cpu::tensor(weight, arguments.weight.shape())?);
                }
                if let (Some((gamma, beta)), [_, gamma_slot, beta_slot]) = (&arguments.norm, slots) {
                    gamma_slot.leave(cpu::tensor(grads.gamma, gamma.shape())?);
                    beta_slot.leave(cpu::tensor(grads.beta, beta.shape())?);
                }
                Ok(grads.x)
            };
            let wants_weight = slots[0].wants_grad();
            if i == self.n_layers {
                let given = Flow::Given(Given::Whole(grad_values));
                let from = Source::plain(x_values);
                let ran = self.ran(i, &locked, kept, y_values)?;
                let x_grad = x.track_op().then(|| Buffer::dirty(x_values.len()));
                projected = leave(ran.backward(from, given, None, x_grad, wants_weight))?;
                if last {
                    kept[i].free();
                }
                continue;
            }
            let (from, earlier) = match i.checked_sub(1) {
                Some(previous) => {
                    let from = kept[previous].result(&self.stages[previous]);
                    (from, Some(self.ran(previous, &locked, kept, y_values)?))
                }
                None => (self.source(x_values), None),
            };
            let ran = self.ran(i, &locked, kept, y_values)?;
            // The first layer's goes to the tape.
            let room = if i == 0 { Buffer::fresh } else { Buffer::dirty };
            let wants_x = x.track_op() || self.slots[..first_slot].iter().any(Slot::wants_grad);
            let x_grad = wants_x.then(|| room(from.values.len()));
            match leave(ran.backward(from, flow, earlier, x_grad, wants_weight))? {
                Some(grad) => flow = grad,
                None => return Ok(None),
            }
            if last {
                kept[i].free();
            }
        }
        match flow {
            Flow::Result(mut x_grad) if x.track_op() => {
                if self.identity {
                    elementwise::par_add(&mut x_grad, grad_values);
                }
                if let Some(Flow::Result(projected)) = projected {
                    elementwise::par_add(&mut x_grad, &projected);
                }
                tape::hand_over_values(x, x_grad.into_vec())
            }
            _ => Ok(None),
        }
    }
}

/// A chain that has run: its node on the tape.
struct Computed {
    chain: Chain,
    /// Until the last pass.
    run: Mutex<Option<Run>>,
    /// Until the tape takes it.
    y: Mutex<Option<(Vec<f32>, Shape)>>,
}

impl CustomOp2 for Computed {
    fn name(&self) -> &'static str {
        "conv_chain"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.y.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((y, shape)) => Ok((CpuStorage::F32(y), shape)),
            None => candle_core::bail!("conv_chain: its result was taken before"),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        handles: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let last = tape::is_last_pass();
        let mut kept = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut run) = kept.take() else {
            let rule = "firstsight_ops::backward is the last pass over a graph: it frees what chains keep";
            let found = "another pass after it".to_owned();
            return Err(Error::Setting { op: self.name(), rule, found }.into());
        };
        let x_grad = self.chain.backward(x, y, grad, &mut run, last);
        if !last {
            *kept = Some(run);
        }
        let x_grad = x_grad?;
        Ok((x_grad, if handles.track_op() { Some(handles.zeros_like()?) } else { None }))
    }
}
