//! Cases: an op with its settings and arguments, which runs on kernels and on the reference
//! implementation, in float32 and in float64. A run returns, by name, the result, all gradients and
//! all tensors that change in place.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use firstsight_ops as ops;
use firstsight_ops::optim::{AdamStep, EpsilonPlacement, SgdStep, adam_step, sgd_step};
use firstsight_ops::{
    Activation, BatchNorm, Conv2dConfig, ConvBlock, ConvLayer, PadCounting, Padding2d, Pool2dConfig,
    Rounding, RunningVariance, Shortcut, reference,
};
use serde::{Deserialize, Serialize};

/// Errors are relative to the largest value of a tensor, or to this if all values are smaller.
/// Arguments are of order one. Where they cancel to less (batch norm of two values, the derivative 1
/// − y² of a saturated tanh), float32 cannot be more exact.
pub(crate) const LEAST_SCALE: f64 = 0.05;

/// Tensors by name. Before a run: arguments, `seed` (the gradient of the result) and running
/// statistics. After it: `y`, `grad_x`, … and the tensors that changed in place.
pub(crate) type Tensors = BTreeMap<String, Tensor>;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Op {
    Conv2d {
        #[serde(flatten)]
        conv: Conv,
        activation: Function,
    },
    Conv2dMaxPool {
        #[serde(flatten)]
        conv: Conv,
        activation: Function,
        pool: Pool,
    },
    Conv2dAvgPool {
        #[serde(flatten)]
        conv: Conv,
        activation: Function,
        pool: Pool,
        count_include_pad: bool,
    },
    Conv2dBatchNorm {
        #[serde(flatten)]
        conv: Conv,
        activation: Function,
        #[serde(flatten)]
        norm: Norm,
    },
    ConvBlock {
        before: Function,
        layers: Vec<Layer>,
        residual: bool,
        train: bool,
    },
    BatchNorm {
        activation: Function,
        #[serde(flatten)]
        norm: Norm,
    },
    MaxPool2d {
        pool: Pool,
    },
    AvgPool2d {
        pool: Pool,
        count_include_pad: bool,
    },
    GlobalAvgPool2d,
    Activate {
        activation: Function,
    },
    Linear {
        activation: Function,
    },
    LayerNorm {
        epsilon: f64,
    },
    LayerNorm2d {
        epsilon: f64,
    },
    GlobalResponseNorm {
        epsilon: f64,
    },
    GlobalResponseNorm2d {
        epsilon: f64,
    },
    Softmax,
    Attention {
        scale: f64,
        biased: bool,
    },
    SelfAttention {
        heads: usize,
        biased: bool,
    },
    LayerScale,
    LayerScale2d,
    ScaleChannels,
    ResizeBicubic {
        size: (usize, usize),
    },
    FeedForward {
        activation: Function,
    },
    SoftmaxCrossEntropy {
        labels: Vec<u32>,
    },
    SoftCrossEntropy {
        targets: Vec<Vec<f32>>,
    },
    Adam {
        lr: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        placement: Placement,
        weight_decay: f64,
    },
    Sgd {
        lr: f64,
        momentum: f64,
        nesterov: bool,
        weight_decay: f64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Function {
    Identity,
    Relu,
    Relu6,
    Tanh,
    /// With slope 0.2.
    LeakyRelu,
    Sigmoid,
    HardSigmoid,
    Silu,
    HardSwish,
    Gelu,
    GeluTanh,
}

impl Function {
    pub(crate) const ALL: [Self; 11] = [
        Self::Identity,
        Self::Relu,
        Self::Relu6,
        Self::Tanh,
        Self::LeakyRelu,
        Self::Sigmoid,
        Self::HardSigmoid,
        Self::Silu,
        Self::HardSwish,
        Self::Gelu,
        Self::GeluTanh,
    ];
    /// Those without corners.
    pub(crate) const SMOOTH: [Self; 6] =
        [Self::Identity, Self::Tanh, Self::Sigmoid, Self::Silu, Self::Gelu, Self::GeluTanh];
    /// Those that never decrease, so that the maximum of a window stays the maximum.
    pub(crate) const MONOTONIC: [Self; 7] = [
        Self::Identity,
        Self::Relu,
        Self::Relu6,
        Self::Tanh,
        Self::LeakyRelu,
        Self::Sigmoid,
        Self::HardSigmoid,
    ];

    pub(crate) fn activation(self) -> Activation {
        match self {
            Self::Identity => Activation::Identity,
            Self::Relu => Activation::Relu,
            Self::Relu6 => Activation::Relu6,
            Self::Tanh => Activation::Tanh,
            Self::LeakyRelu => Activation::LeakyRelu(0.2),
            Self::Sigmoid => Activation::Sigmoid,
            Self::HardSigmoid => Activation::HardSigmoid,
            Self::Silu => Activation::Silu,
            Self::HardSwish => Activation::HardSwish,
            Self::Gelu => Activation::Gelu,
            Self::GeluTanh => Activation::GeluTanh,
        }
    }

    /// Inputs at which its derivative jumps.
    fn corners(self) -> &'static [f64] {
        match self {
            Self::Identity | Self::Tanh | Self::Sigmoid | Self::Silu | Self::Gelu | Self::GeluTanh => &[],
            Self::Relu | Self::LeakyRelu => &[0.0],
            Self::Relu6 => &[0.0, 6.0],
            Self::HardSigmoid | Self::HardSwish => &[-3.0, 3.0],
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Conv {
    pub(crate) stride: (usize, usize),
    /// Top, bottom, left, right.
    pub(crate) pad: (usize, usize, usize, usize),
    pub(crate) dilation: (usize, usize),
    pub(crate) groups: usize,
}

impl Conv {
    pub(crate) fn config(&self) -> Conv2dConfig {
        let (top, bottom, left, right) = self.pad;
        let padding = Padding2d { top, bottom, left, right };
        Conv2dConfig { stride: self.stride, padding, dilation: self.dilation, groups: self.groups }
    }
}

/// A layer of a block.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Layer {
    #[serde(flatten)]
    pub(crate) conv: Conv,
    pub(crate) activation: Function,
    pub(crate) norm: Option<Norm>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) kernel: (usize, usize),
    pub(crate) stride: (usize, usize),
    pub(crate) padding: (usize, usize),
    pub(crate) ceil: bool,
}

impl Pool {
    pub(crate) fn config(&self) -> Pool2dConfig {
        let rounding = if self.ceil { Rounding::Ceil } else { Rounding::Floor };
        Pool2dConfig { kernel: self.kernel, stride: self.stride, padding: self.padding, rounding }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Norm {
    pub(crate) epsilon: f64,
    pub(crate) momentum: f64,
    pub(crate) unbiased: bool,
    pub(crate) train: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Placement {
    Keras,
    Pytorch,
}

/// An implementation of the ops.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Path {
    /// The implementation that the public functions choose.
    Dispatched,
    Reference,
}

impl Op {
    /// The differentiable arguments, in order.
    fn arguments(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::ConvBlock { layers, .. } => {
                let of_layer = |(i, layer): (usize, &Layer)| {
                    let names =
                        if layer.norm.is_some() { &["weight", "gamma", "beta"][..] } else { &["weight"] };
                    names.iter().map(move |name| format!("{name}{i}"))
                };
                let layers = layers.iter().enumerate().flat_map(of_layer);
                return std::iter::once("x".to_owned()).chain(layers).collect();
            }
            Self::Conv2d { .. }
            | Self::Conv2dMaxPool { .. }
            | Self::Conv2dAvgPool { .. }
            | Self::Linear { .. } => &["x", "weight", "bias"],
            Self::FeedForward { .. } => &["x", "weight", "bias", "weight2", "bias2"],
            Self::Conv2dBatchNorm { .. } => &["x", "weight", "gamma", "beta"],
            Self::BatchNorm { .. }
            | Self::LayerNorm { .. }
            | Self::LayerNorm2d { .. }
            | Self::GlobalResponseNorm { .. }
            | Self::GlobalResponseNorm2d { .. } => &["x", "gamma", "beta"],
            Self::Attention { biased: false, .. } => &["q", "k", "v"],
            Self::Attention { biased: true, .. } => &["q", "k", "v", "bias"],
            Self::SelfAttention { biased: true, .. } => &["x", "bias"],
            Self::LayerScale | Self::LayerScale2d | Self::ScaleChannels => &["x", "scales"],
            Self::MaxPool2d { .. }
            | Self::AvgPool2d { .. }
            | Self::GlobalAvgPool2d
            | Self::Activate { .. }
            | Self::Softmax
            | Self::SelfAttention { biased: false, .. }
            | Self::ResizeBicubic { .. }
            | Self::SoftmaxCrossEntropy { .. }
            | Self::SoftCrossEntropy { .. } => &["x"],
            Self::Adam { .. } | Self::Sgd { .. } => &[],
        };
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// The running statistics, in order.
    fn statistics(&self) -> Vec<String> {
        match self {
            Self::BatchNorm { .. } | Self::Conv2dBatchNorm { .. } => {
                ["mean", "var"].map(str::to_owned).to_vec()
            }
            Self::ConvBlock { layers, .. } => {
                let normed = layers.iter().enumerate().filter(|(_, layer)| layer.norm.is_some());
                normed.flat_map(|(i, _)| [format!("mean{i}"), format!("var{i}")]).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn function(&self) -> Function {
        match self {
            Self::Conv2d { activation, .. }
            | Self::Conv2dMaxPool { activation, .. }
            | Self::Conv2dAvgPool { activation, .. }
            | Self::Conv2dBatchNorm { activation, .. }
            | Self::BatchNorm { activation, .. }
            | Self::Activate { activation }
            | Self::Linear { activation } => *activation,
            _ => Function::Identity,
        }
    }

    /// Applies the op to its arguments and, for batch norm, the running statistics, which
    /// training changes.
    fn apply(&self, args: &[Tensor], running: &[Tensor], path: Path, f: Activation) -> Result<Tensor> {
        let reference = path == Path::Reference;
        let norm_with = |norm: &Norm, weight: &Tensor, bias: &Tensor, running: &[Tensor]| BatchNorm {
            weight: weight.clone(),
            bias: bias.clone(),
            running_mean: running[0].clone(),
            running_var: running[1].clone(),
            epsilon: norm.epsilon,
            momentum: norm.momentum,
            running_variance: if norm.unbiased { RunningVariance::Unbiased } else { RunningVariance::Biased },
        };
        let norm_of = |norm: &Norm, weight: &Tensor, bias: &Tensor| norm_with(norm, weight, bias, running);
        let run = |x: &Tensor, block: &ConvBlock<'_>, train: bool| match path {
            Path::Reference => reference::conv_block(x, block, train),
            Path::Dispatched => block.forward_t(x, train),
        };
        match self {
            Self::ConvBlock { before, layers, residual, train } => {
                let (mut args, x) = (args.iter().skip(1), &args[0]);
                let mut next =
                    || args.next().ok_or_else(|| candle_core::Error::Msg("no argument".to_owned()));
                let mut statistics = running.chunks(2);
                let mut parts = Vec::new();
                for layer in layers {
                    let weight = next()?;
                    let norm = match (&layer.norm, statistics.len()) {
                        (Some(norm), 1..) => {
                            let (gamma, beta) = (next()?, next()?);
                            statistics.next().map(|running| norm_with(norm, gamma, beta, running))
                        }
                        _ => None,
                    };
                    parts.push((weight, norm));
                }
                let mut links = layers.iter().zip(&parts).map(|(layer, (weight, norm))| {
                    let link = ConvLayer::new(weight, layer.conv.config());
                    let link = link.activation(layer.activation.activation());
                    norm.as_ref().map_or(link, |norm| link.batch_norm(norm))
                });
                let first = links.next().ok_or_else(|| candle_core::Error::Msg("no layer".to_owned()))?;
                let shortcut = if *residual { Shortcut::Identity } else { Shortcut::None };
                let block = links.fold(ConvBlock::new(first), ConvBlock::then).shortcut(shortcut);
                run(x, &block.pre_activation(before.activation()), *train)
            }
            Self::Conv2d { conv, .. } => {
                let run = if reference { reference::conv2d } else { ops::conv2d };
                run(&args[0], &args[1], Some(&args[2]), &conv.config(), f)
            }
            Self::Conv2dMaxPool { conv, pool, .. } => {
                let layer = ConvLayer::new(&args[1], conv.config()).bias(&args[2]).activation(f);
                run(&args[0], &layer.max_pool(pool.config()), false)
            }
            Self::Conv2dAvgPool { conv, pool, count_include_pad, .. } => {
                let layer = ConvLayer::new(&args[1], conv.config()).bias(&args[2]).activation(f);
                run(&args[0], &layer.avg_pool(pool.config(), counting(*count_include_pad)), false)
            }
            Self::Conv2dBatchNorm { conv, norm: settings, .. } => {
                let norm = norm_of(settings, &args[2], &args[3]);
                let layer = ConvLayer::new(&args[1], conv.config()).batch_norm(&norm).activation(f);
                run(&args[0], &ConvBlock::new(layer), settings.train)
            }
            Self::BatchNorm { norm: settings, .. } => {
                let run = if reference { reference::batch_norm } else { ops::batch_norm };
                run(&args[0], &norm_of(settings, &args[1], &args[2]), f, settings.train)
            }
            Self::MaxPool2d { pool } => {
                let run = if reference { reference::max_pool2d } else { ops::max_pool2d };
                run(&args[0], &pool.config())
            }
            Self::AvgPool2d { pool, count_include_pad } => {
                let run = if reference { reference::avg_pool2d } else { ops::avg_pool2d };
                run(&args[0], &pool.config(), counting(*count_include_pad))
            }
            Self::GlobalAvgPool2d => {
                let run = if reference { reference::global_avg_pool2d } else { ops::global_avg_pool2d };
                run(&args[0])
            }
            Self::Activate { .. } => {
                let run = if reference { reference::activate } else { ops::activate };
                run(&args[0], f)
            }
            Self::Linear { .. } => {
                let run = if reference { reference::linear } else { ops::linear };
                run(&args[0], &args[1], Some(&args[2]), f)
            }
            Self::LayerNorm { epsilon } => {
                let run = if reference { reference::layer_norm } else { ops::layer_norm };
                run(&args[0], &args[1], &args[2], *epsilon)
            }
            Self::LayerNorm2d { epsilon } => {
                let run = if reference { reference::layer_norm_2d } else { ops::layer_norm_2d };
                run(&args[0], &args[1], &args[2], *epsilon)
            }
            Self::GlobalResponseNorm { epsilon } => {
                let run = if reference { reference::global_response_norm } else { ops::global_response_norm };
                run(&args[0], &args[1], &args[2], *epsilon)
            }
            Self::GlobalResponseNorm2d { epsilon } => {
                let run =
                    if reference { reference::global_response_norm_2d } else { ops::global_response_norm_2d };
                run(&args[0], &args[1], &args[2], *epsilon)
            }
            Self::Softmax => {
                let run = if reference { reference::softmax } else { ops::softmax };
                run(&args[0])
            }
            Self::Attention { scale, .. } => {
                let run = if reference { reference::attention } else { ops::attention };
                run(&args[0], &args[1], &args[2], *scale, args.get(3))
            }
            Self::SelfAttention { heads, .. } => {
                let run = if reference { reference::self_attention } else { ops::self_attention };
                run(&args[0], *heads, args.get(1))
            }
            Self::LayerScale => {
                let run = if reference { reference::layer_scale } else { ops::layer_scale };
                run(&args[0], &args[1])
            }
            Self::LayerScale2d => {
                let run = if reference { reference::layer_scale_2d } else { ops::layer_scale_2d };
                run(&args[0], &args[1])
            }
            Self::ScaleChannels => {
                let run = if reference { reference::scale_channels } else { ops::scale_channels };
                run(&args[0], &args[1])
            }
            Self::ResizeBicubic { size } => ops::resize_bicubic(&args[0], *size),
            Self::FeedForward { activation } => {
                let run = if reference { reference::feed_forward } else { ops::feed_forward };
                let (first, second) = ((&args[1], Some(&args[2])), (&args[3], Some(&args[4])));
                run(&args[0], first, second, activation.activation())
            }
            Self::SoftmaxCrossEntropy { labels } => {
                let run =
                    if reference { reference::softmax_cross_entropy } else { ops::softmax_cross_entropy };
                run(&args[0], &Tensor::new(labels.as_slice(), args[0].device())?)
            }
            Self::SoftCrossEntropy { targets } => {
                let run = if reference { reference::soft_cross_entropy } else { ops::soft_cross_entropy };
                run(&args[0], &Tensor::new(targets.clone(), args[0].device())?.to_dtype(args[0].dtype())?)
            }
            Self::Adam { .. } | Self::Sgd { .. } => candle_core::bail!("an optimizer gives no result"),
        }
    }

    /// Runs the op and returns its result, the gradients under `seed` and the new running
    /// statistics; or, for an optimizer, the final parameters.
    pub(crate) fn run(&self, inputs: &Tensors, dtype: DType, path: Path) -> Result<Tensors> {
        self.run_on(&Device::Cpu, inputs, dtype, path)
    }

    /// [`Self::run`] on a device, with results on the CPU.
    pub(crate) fn run_on(
        &self,
        device: &Device,
        inputs: &Tensors,
        dtype: DType,
        path: Path,
    ) -> Result<Tensors> {
        let there = |(name, t): (&String, &Tensor)| Ok((name.clone(), t.to_dtype(dtype)?.to_device(device)?));
        let inputs: Tensors = inputs.iter().map(there).collect::<Result<_>>()?;
        let results = if self.arguments().is_empty() {
            self.optimize(&inputs)
        } else {
            self.differentiate(&inputs, path)
        }?;
        results.into_iter().map(|(name, t)| Ok((name, t.to_device(&Device::Cpu)?))).collect()
    }

    fn differentiate(&self, inputs: &Tensors, path: Path) -> Result<Tensors> {
        let get = |name: &str| inputs[name].copy();
        let names = self.arguments();
        let vars: Vec<Var> = names.iter().map(|name| Var::from_tensor(&get(name)?)).collect::<Result<_>>()?;
        let args: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let running = self.running(&get)?;
        let y = self.apply(&args, &running, path, self.function().activation())?;
        let loss = (&y * get("seed")?)?.sum_all()?;
        let (grads, last) = (loss.backward()?, ops::backward(&loss)?);
        let mut results = Tensors::from([("y".to_owned(), y.detach())]);
        for (name, var) in names.iter().zip(&vars) {
            let Some(grad) = grads.get(var) else { candle_core::bail!("{name} got no gradient") };
            let Some(again) = last.get(var) else { candle_core::bail!("{name} got no gradient from ours") };
            if grad.ne(again)?.max_all()?.to_scalar::<u8>()? != 0 {
                candle_core::bail!("{name}: {again} from ours, {grad} from candle's");
            }
            results.insert(format!("grad_{name}"), grad.clone());
        }
        results.extend(self.statistics().iter().map(|name| format!("new_{name}")).zip(running));
        Ok(results)
    }

    /// The result before activation and pooling, in float64, from the reference implementation.
    pub(crate) fn before_activation(&self, inputs: &Tensors) -> Result<Tensor> {
        let get = |name: &str| inputs[name].to_dtype(DType::F64)?.copy();
        let args: Vec<Tensor> = self.arguments().iter().map(|name| get(name)).collect::<Result<_>>()?;
        let unpooled = match self {
            Self::Conv2dMaxPool { conv, activation, .. } => {
                &Self::Conv2d { conv: *conv, activation: *activation }
            }
            _ => self,
        };
        unpooled.apply(&args, &self.running(&get)?, Path::Reference, Activation::Identity)
    }

    /// The magnitude of the terms whose difference each gradient is. In training, batch norm
    /// subtracts from a gradient its mean and its projection on the values, which may be nearly
    /// all of it. The minuend is the gradient with constant statistics.
    fn terms(&self, inputs: &Tensors) -> Result<BTreeMap<String, f64>> {
        // With a momentum of 1, the running statistics become the batch's.
        let Some(keeping) = self.with_norms(&|norm| Norm { momentum: 1.0, unbiased: false, ..norm }) else {
            return Ok(BTreeMap::new());
        };
        let kept = keeping.run(inputs, DType::F64, Path::Reference)?;
        let mut inputs = inputs.clone();
        for name in self.statistics() {
            inputs.insert(format!("running_{name}"), kept[&format!("new_{name}")].clone());
        }
        let Some(constant) = self.with_norms(&|norm| Norm { train: false, ..norm }) else {
            return Ok(BTreeMap::new());
        };
        let results = constant.run(&inputs, DType::F64, Path::Reference)?;
        let gradients = results.iter().filter(|(name, _)| name.starts_with("grad_"));
        Ok(gradients.map(|(name, t)| (name.clone(), largest(t))).collect())
    }

    /// The op with changed batch norm settings, or `None` if it trains no batch norm.
    fn with_norms(&self, change: &dyn Fn(Norm) -> Norm) -> Option<Self> {
        let mut op = self.clone();
        match &mut op {
            Self::BatchNorm { norm, .. } | Self::Conv2dBatchNorm { norm, .. } if norm.train => {
                *norm = change(*norm)
            }
            Self::ConvBlock { layers, train, .. } if *train => {
                for norm in layers.iter_mut().filter_map(|layer| layer.norm.as_mut()) {
                    *norm = change(*norm);
                    *train = norm.train;
                }
            }
            _ => return None,
        }
        Some(op)
    }

    fn running(&self, get: &dyn Fn(&str) -> Result<Tensor>) -> Result<Vec<Tensor>> {
        self.statistics().iter().map(|name| get(&format!("running_{name}"))).collect()
    }

    /// Takes one optimizer step per row of `grads`, from `start`, and returns the final
    /// parameters and moments.
    fn optimize(&self, inputs: &Tensors) -> Result<Tensors> {
        let param = Var::from_tensor(&inputs["start"].copy()?)?;
        let (m, v) = (param.zeros_like()?, param.zeros_like()?);
        let grads = &inputs["grads"];
        for i in 0..grads.dim(0)? {
            let (grad, step) = (grads.get(i)?, i as u64 + 1);
            match *self {
                Self::Adam { lr, beta1, beta2, epsilon, placement, weight_decay } => {
                    let epsilon_placement = match placement {
                        Placement::Keras => EpsilonPlacement::Keras,
                        Placement::Pytorch => EpsilonPlacement::PyTorch,
                    };
                    let step = AdamStep { lr, beta1, beta2, epsilon, epsilon_placement, weight_decay, step };
                    adam_step(&param, &grad, &m, &v, &step)?;
                }
                Self::Sgd { lr, momentum, nesterov, weight_decay } => {
                    sgd_step(&param, &grad, &m, &SgdStep { lr, momentum, nesterov, weight_decay })?;
                }
                _ => candle_core::bail!("no optimizer"),
            }
        }
        let mut results = Tensors::from([("end".to_owned(), param.as_detached_tensor())]);
        match self {
            Self::Adam { .. } => results.extend([("m".to_owned(), m), ("v".to_owned(), v)]),
            Self::Sgd { momentum, .. } if *momentum > 0.0 => results.extend([("m".to_owned(), m)]),
            _ => {}
        }
        Ok(results)
    }
}

/// A generated case, whose reference is computed when it is checked.
#[derive(Debug, Clone)]
pub(crate) struct Generated {
    pub(crate) op: Op,
    pub(crate) inputs: Tensors,
    /// The magnitude of the terms whose difference a tensor is, where that may be larger than the
    /// tensor.
    terms: BTreeMap<String, f64>,
}

impl Generated {
    /// Draws arguments of `shapes` from `seed`. Weights are scaled by the number of values that
    /// they sum over, so that results are of order one. The gradient of the result is noise, and
    /// zero where rounding could select the other side of an activation's corner or another
    /// maximum.
    pub(crate) fn new(op: Op, shapes: &[(&str, &[usize])], seed: u64) -> Result<Self> {
        Self::shifted(op, shapes, seed, 0.0)
    }

    /// [`Self::new`] with `x_offset` added to `x`.
    pub(crate) fn shifted(op: Op, shapes: &[(&str, &[usize])], seed: u64, x_offset: f64) -> Result<Self> {
        let mut inputs = Tensors::new();
        for (i, &(name, shape)) in shapes.iter().enumerate() {
            let x = values(seed.wrapping_mul(31).wrapping_add(i as u64), shape);
            let x = match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
                "weight" => {
                    let fan_in: usize = shape[1..].iter().product();
                    (x / (2.0 * (fan_in as f64).sqrt()))?
                }
                "running_var" => (x.sqr()? + 0.5)?,
                "x" => (x + x_offset)?,
                "gamma" => ((x * 0.25)? + 1.0)?,
                _ => x,
            };
            inputs.insert(name.to_owned(), x);
        }
        if !op.arguments().is_empty() {
            let z = op.before_activation(&inputs)?;
            let clear = clear(&op, &z)?;
            let noise = values(seed.wrapping_add(7919), clear.dims());
            inputs.insert("seed".to_owned(), (noise * clear)?);
        }
        let terms = op.terms(&inputs)?;
        Ok(Self { op, inputs, terms })
    }

    /// Asserts that float32 kernels are within the tolerance of `reference`.
    pub(crate) fn check(&self, reference: &Tensors, tolerance: f64, what: &str) {
        let ours = self.op.run(&self.inputs, DType::F32, Path::Dispatched).unwrap();
        assert_near(&ours, reference, &self.terms, tolerance, what);
    }

    /// Asserts that `ours` is near the reference implementation in float64.
    pub(crate) fn check_results(&self, ours: &Tensors, what: &str) {
        let reference = self.op.run(&self.inputs, DType::F64, Path::Reference).unwrap();
        assert_near(ours, &reference, &self.terms, 1e-5, what);
    }

    /// [`Self::check`] on a device.
    pub(crate) fn check_on(&self, device: &Device, what: &str) {
        let ours = self.op.run_on(device, &self.inputs, DType::F32, Path::Dispatched);
        self.check_results(&ours.unwrap_or_else(|error| panic!("{what}: {error}")), what);
    }

    /// [`Self::check`] against the reference implementation in float64.
    pub(crate) fn check_against_reference(&self, what: &str) {
        let reference = self.op.run(&self.inputs, DType::F64, Path::Reference).unwrap();
        self.check(&reference, 1e-5, what);
    }
}

/// Asserts that `ours` has every tensor of `reference`, off by less than `tolerance`.
pub(crate) fn assert_near(
    ours: &Tensors,
    reference: &Tensors,
    terms: &BTreeMap<String, f64>,
    tolerance: f64,
    what: &str,
) {
    assert_eq!(ours.keys().collect::<Vec<_>>(), reference.keys().collect::<Vec<_>>(), "{what}");
    for (name, reference) in reference {
        let least = terms.get(name).copied().unwrap_or(0.0).max(LEAST_SCALE);
        let error = error(&ours[name], reference, least);
        assert!(error < tolerance, "{what}: {name} is off by {error}");
    }
}

/// The error of `ours`, as defined in `main.rs`.
fn error(ours: &Tensor, reference: &Tensor, least_scale: f64) -> f64 {
    assert_eq!(ours.dims(), reference.dims());
    let (ours, reference) = (numbers(ours), numbers(reference));
    let scale = reference.iter().fold(least_scale, |scale, v| scale.max(v.abs()));
    // NaN must not count as near: `max` would drop it.
    ours.iter()
        .zip(&reference)
        .map(|(a, b)| (a - b).abs() / scale)
        .fold(0.0, |worst, e| if e.is_nan() || e > worst { e } else { worst })
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn largest(x: &Tensor) -> f64 {
    numbers(x).into_iter().fold(0.0, |largest, v| largest.max(v.abs()))
}

/// Approximately normal values from a seed.
pub(crate) fn values(seed: u64, shape: &[usize]) -> Tensor {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| (next() + next()) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Rounds `x` to a coarse grid, so that equal values are frequent.
pub(crate) fn coarse(x: &Tensor) -> Tensor {
    (x * 2.0).unwrap().round().unwrap()
}

/// For each value of the result, 1 where its gradient is unambiguous, else 0. `z` is the result
/// before activation and pooling.
fn clear(op: &Op, z: &Tensor) -> Result<Tensor> {
    let margin = 1e-5 * largest(z).max(1.0);
    // Ops without sums compare exact values.
    let corners = if matches!(op, Op::Activate { .. }) { &[] } else { op.function().corners() };
    let near_corner = |v: f64| corners.iter().any(|corner| (v - corner).abs() < margin);
    let flag = |clear: bool| if clear { 1f32 } else { 0.0 };
    let Op::Conv2dMaxPool { pool, .. } = op else {
        let flags: Vec<f32> =
            z.flatten_all()?.to_vec1::<f64>()?.into_iter().map(|v| flag(!near_corner(v))).collect();
        return Tensor::from_vec(flags, z.shape(), &Device::Cpu);
    };
    let (batch, channels, h, w) = z.dims4()?;
    let (oh, ow) = pool.config().output_size((h, w))?;
    let maps = z.flatten(0, 1)?.to_vec3::<f64>()?;
    let range = |o: usize, stride: usize, pad: usize, kernel: usize, size: usize| {
        (o * stride).saturating_sub(pad)..(o * stride + kernel).saturating_sub(pad).min(size)
    };
    let mut flags = Vec::with_capacity(batch * channels * oh * ow);
    for map in &maps {
        for oy in 0..oh {
            let rows = range(oy, pool.stride.0, pool.padding.0, pool.kernel.0, h);
            for ox in 0..ow {
                let cols = range(ox, pool.stride.1, pool.padding.1, pool.kernel.1, w);
                let (mut best, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
                for v in rows.clone().flat_map(|y| map[y][cols.clone()].iter().copied()) {
                    (best, second) = if v > best { (v, best) } else { (best, second.max(v)) };
                }
                flags.push(flag(best - second > margin && !near_corner(best)));
            }
        }
    }
    Tensor::from_vec(flags, (batch, channels, oh, ow), &Device::Cpu)
}

fn counting(count_include_pad: bool) -> PadCounting {
    if count_include_pad { PadCounting::Include } else { PadCounting::Exclude }
}
