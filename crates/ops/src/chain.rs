use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::config::{Activation, Conv2dConfig};
use crate::cpu;
use crate::cpu::buffer::Buffer;
use crate::cpu::elementwise;
use crate::cpu::source::{Pending, Source};
use crate::cpu::stage::{Flow, Kept, Norm, Parameters, Prepared, Ran, Stage};
use crate::error::Error;
use crate::norm::BatchNorm;
use crate::portable;
use crate::shape::ConvShape;
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

/// Layers one after the other as one op: `x` (B, C, H, W), through `before`, to the last layer's output, plus `x`
/// where `residual` says so. MobileNetV2's inverted residual and Xception's separable convolutions are such chains.
///
/// The result and the gradients are those of the layers as single ops. As one op, the maps between the layers stay
/// out of the tape, which would pass over each of their gradients four more times; and without gradients to come, a
/// few samples at a time go through all layers while they are in the cache, with constant normalisation folded into
/// the weights.
///
/// `train` is as for [`crate::batch_norm`].
///
/// # Errors
/// As for [`crate::conv2d`] and [`crate::batch_norm`]; an empty chain; a residual chain whose result has another
/// shape than `x`, or whose last layer has an activation.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_ops::{Activation, Conv2dConfig, ConvNormAct, Padding2d, conv_chain};
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
/// let y = conv_chain(&x, Activation::Identity, &layers, true, false)?;
/// assert_eq!(y.get(0)?.get(0)?.to_vec2::<f32>()?[0], [9., 13., 13., 9.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn conv_chain(
    x: &Tensor,
    before: Activation,
    layers: &[ConvNormAct<'_>],
    residual: bool,
    train: bool,
) -> Result<Tensor> {
    before.check("conv_chain")?;
    let mut dims = x.dims().to_vec();
    for layer in layers {
        layer.activation.check("conv_chain")?;
        let shape = ConvShape::of(&dims, layer.weight, None, &layer.config)?;
        dims = vec![shape.batch, shape.c_out, shape.oh, shape.ow];
        if let Some(norm) = layer.norm {
            norm.check(&dims, train)?;
        }
    }
    let last = layers.last().ok_or(Error::Setting {
        op: "conv_chain",
        rule: "a chain has at least one layer",
        found: "none".to_owned(),
    })?;
    if residual && (dims != x.dims() || last.activation != Activation::Identity) {
        return Err(Error::Setting {
            op: "conv_chain",
            rule: "a residual chain's result has its input's shape and its last layer no activation",
            found: format!("{:?} to {dims:?}, {:?}", x.dims(), last.activation),
        }
        .into());
    }
    let arguments: Vec<Arguments> = layers.iter().map(Arguments::new).collect::<Result<_>>()?;
    let tensors: Vec<&Tensor> = arguments.iter().flat_map(Arguments::tensors).collect();
    if !cpu::has_kernels(&[x]) || !cpu::has_kernels(&tensors) {
        return portable::conv_chain(x, before, layers, residual, train);
    }
    let x = x.contiguous()?;
    let stages = stages(&x, layers, train)?;
    let tracked = x.track_op() || tensors.iter().any(|tensor| tensor.track_op());
    let chain = Chain { before, stages, arguments, residual, slots: Vec::new() };
    let by_batch = train && layers.iter().any(|layer| layer.norm.is_some());
    if !tracked && !by_batch {
        return cpu::tensor(chain.infer(&x)?, &Shape::from(dims));
    }
    let (y, kept) = chain.forward(&x)?;
    if train {
        for ((layer, stage), kept) in layers.iter().zip(&chain.stages).zip(&kept) {
            if let Some(norm) = layer.norm {
                norm.move_running(&kept.moments, stage.values_per_channel())?;
            }
        }
    }
    if !tracked {
        return cpu::tensor(y, &Shape::from(dims));
    }
    let tensors: Vec<&Tensor> = chain.arguments.iter().flat_map(Arguments::tensors).collect();
    let (slots, handles) = tape::handles(&tensors)?;
    let chain = Chain { slots, ..chain };
    x.apply_op2(&handles, Computed { chain, kept, y: Mutex::new(Some((y, Shape::from(dims)))) })
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

fn stages(x: &Tensor, layers: &[ConvNormAct<'_>], train: bool) -> Result<Vec<Stage>> {
    let mut dims = x.dims().to_vec();
    let mut stages = Vec::with_capacity(layers.len());
    for layer in layers {
        let shape = ConvShape::of(&dims, layer.weight, None, &layer.config)?;
        dims = vec![shape.batch, shape.c_out, shape.oh, shape.ow];
        let norm = match layer.norm {
            Some(norm) => {
                let values = |tensor: &Tensor| tensor.to_vec1::<f32>();
                let constants = if train {
                    None
                } else {
                    Some((values(&norm.running_mean)?, values(&norm.running_var)?))
                };
                Some(Norm { epsilon: norm.epsilon, constants })
            }
            None => None,
        };
        stages.push(Stage { shape, norm, activation: layer.activation });
    }
    Ok(stages)
}

struct Chain {
    before: Activation,
    stages: Vec<Stage>,
    arguments: Vec<Arguments>,
    residual: bool,
    /// In the order of the arguments' tensors.
    slots: Vec<Slot>,
}

impl Chain {
    /// The input as the first layer reads it.
    fn source<'a>(&self, x: &'a [f32]) -> Source<'a> {
        Source { values: x, pending: Pending::new(&[], self.before) }
    }

    fn forward(&self, x: &Tensor) -> Result<(Vec<f32>, Vec<Kept>)> {
        let data = cpu::data(x);
        let x = data.slice()?;
        let mut kept: Vec<Kept> = Vec::with_capacity(self.stages.len());
        for (i, (stage, arguments)) in self.stages.iter().zip(&self.arguments).enumerate() {
            let from = match i.checked_sub(1) {
                Some(previous) => kept[previous].result(&self.stages[previous]),
                None => self.source(x),
            };
            let now = stage.forward(from, arguments.lock().parameters()?);
            kept.push(now);
        }
        let y = match (self.stages.last(), kept.last_mut()) {
            (Some(stage), Some(kept)) => stage.finish(kept, self.residual.then_some(x)),
            _ => Vec::new(),
        };
        Ok((y, kept))
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
        let (Some(prepared), Some(last)) = (prepared, self.stages.last()) else {
            candle_core::bail!("conv_chain: layers whose moments are not known ahead");
        };
        let smallest = self.stages.iter().map(|stage| stage.shape.oh * stage.shape.ow).min().unwrap_or(1);
        let batch = self.stages[0].shape.batch;
        let together = PIXELS.div_ceil(smallest).min(batch.div_ceil(rayon::current_num_threads())).max(1);
        let sample = x.len() / batch;
        let mut y = vec![0.0; batch * last.sample_len()];
        let groups = y.par_chunks_mut(together * last.sample_len()).zip(x.par_chunks(together * sample));
        groups.for_each(|(y, x)| {
            let samples = x.len() / sample;
            let mut map: Option<Buffer> = None;
            for (i, prepared) in prepared.iter().enumerate() {
                let from = map.as_deref().map_or(self.source(x), Source::plain);
                if i + 1 == self.stages.len() {
                    prepared.run(from, y);
                } else {
                    let mut to = Buffer::dirty(samples * self.stages[i].sample_len());
                    prepared.run(from, &mut to);
                    map = Some(to);
                }
            }
            if self.residual {
                elementwise::par_add(y, x);
            }
        });
        Ok(y)
    }

    /// The gradient for x; those of the other arguments go to their slots.
    fn backward(&self, x: &Tensor, y: &Tensor, grad: &Tensor, kept: &[Kept]) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (x_data, y_data, grad_data) = (cpu::data(x), cpu::data(y), cpu::data(&grad));
        let (x_values, y_values, grad_values) = (x_data.slice()?, y_data.slice()?, grad_data.slice()?);
        let locked: Vec<Locked<'_>> = self.arguments.iter().map(Arguments::lock).collect();
        let stages = self.stages.iter().zip(&locked).zip(kept);
        let ran = |((stage, locked), kept)| -> Result<Ran<'_>> {
            let locked: &Locked<'_> = locked;
            Ok(Ran::new(stage, locked.parameters()?, kept, y_values))
        };
        let ran: Vec<Ran<'_>> = stages.map(ran).collect::<Result<_>>()?;
        let mut flow = Flow::Given(grad_values);
        let mut last_slot = self.slots.len();
        for (i, arguments) in self.arguments.iter().enumerate().rev() {
            let first_slot = last_slot - arguments.tensors().len();
            let slots = &self.slots[first_slot..last_slot];
            last_slot = first_slot;
            let (from, earlier) = match i.checked_sub(1) {
                Some(previous) => (kept[previous].result(&self.stages[previous]), Some(ran[previous])),
                None => (self.source(x_values), None),
            };
            let wants_x = x.track_op() || self.slots[..first_slot].iter().any(Slot::wants_grad);
            let grads = ran[i].backward(from, flow, earlier, wants_x, slots[0].wants_grad());
            if let Some(weight) = grads.weight {
                slots[0].leave(cpu::tensor(weight, arguments.weight.shape())?);
            }
            if let (Some((gamma, beta)), [_, gamma_slot, beta_slot]) = (&arguments.norm, slots) {
                gamma_slot.leave(cpu::tensor(grads.gamma, gamma.shape())?);
                beta_slot.leave(cpu::tensor(grads.beta, beta.shape())?);
            }
            match grads.x {
                Some(grad) => flow = grad,
                None => return Ok(None),
            }
        }
        match flow {
            Flow::Result(mut x_grad) if x.track_op() => {
                if self.residual {
                    elementwise::par_add(&mut x_grad, grad_values);
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
    kept: Vec<Kept>,
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
        let x_grad = self.chain.backward(x, y, grad, &self.kept)?;
        Ok((x_grad, if handles.track_op() { Some(handles.zeros_like()?) } else { None }))
    }
}
