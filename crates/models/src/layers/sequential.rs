//! Networks that are a table of layers: the table builds the network, runs it and prints its summary.

use candle_core::{Module as _, ModuleT, Result, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops as ops;
use firstsight_ops::{Activation, Conv2dConfig, ConvLayer, PadCounting, Padding, Pool2dConfig};

use super::{Dropout, Rbf, Subsampling, adaptive_avg_pool2d};
use crate::trace::{Kind, Trace};
use crate::{Dims, Linear, Scheme, Stage};

/// One line of a network's table: what it is called and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    /// The name, which is also the prefix of its variables.
    pub name: &'static str,
    /// What it does.
    pub layer: Layer,
}

/// What a layer does to (B, C, H, W) maps or (B, F) features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layer {
    /// scale · x + offset.
    Rescaling {
        /// The factor.
        scale: f64,
        /// What is added then.
        offset: f64,
    },
    /// Convolution with bias, activation in the same pass.
    Conv2d {
        /// Output channels.
        filters: usize,
        /// Height and width of the kernel.
        kernel: (usize, usize),
        /// Steps down and across.
        stride: (usize, usize),
        /// Rim of zeros.
        padding: Padding,
        /// What follows.
        activation: Activation,
        /// What the paper starts the biases from.
        bias: f64,
    },
    /// Largest of each window; windows that overlap the edge are dropped, as with Keras's `valid`.
    MaxPool2d {
        /// Height and width of the window.
        kernel: (usize, usize),
        /// Steps down and across.
        stride: (usize, usize),
    },
    /// Mean of each window; windows that overlap the edge are dropped.
    AvgPool2d {
        /// Height and width of the window.
        kernel: (usize, usize),
        /// Steps down and across.
        stride: (usize, usize),
    },
    /// LeNet-5's pooling by square windows beside each other, with a coefficient and a bias a channel.
    Subsampling {
        /// Height and width of the window.
        size: usize,
        /// What follows.
        activation: Activation,
    },
    /// Means over `size` × `size` windows that cover the map, whatever its size.
    AdaptiveAvgPool2d {
        /// Height and width of the output.
        size: usize,
    },
    /// (B, C, H, W) to (B, C·H·W), in that order.
    Flatten,
    /// Random zeros in training.
    Dropout {
        /// The share of values that become zero.
        rate: f64,
    },
    /// A dense layer with bias, activation in the same pass.
    Dense {
        /// Output features.
        units: usize,
        /// What follows.
        activation: Activation,
        /// What the paper starts the biases from.
        bias: f64,
    },
    /// Minus the squared distances to fixed codes: see [`Rbf`].
    Rbf {
        /// How many codes.
        units: usize,
    },
}

/// A network built from a table, one layer after the other.
///
/// A convolution followed by pooling runs as one operation.
#[derive(Debug, Clone)]
pub struct Sequential {
    steps: Vec<Step>,
    input: Dims,
    output: Dims,
}

#[derive(Debug, Clone)]
struct Step {
    spec: LayerSpec,
    output: Dims,
    run: Run,
}

#[derive(Debug, Clone)]
enum Run {
    Rescaling(f64, f64),
    Conv2d { weight: Tensor, bias: Tensor, config: Conv2dConfig, activation: Activation },
    MaxPool2d(Pool2dConfig),
    AvgPool2d(Pool2dConfig),
    Subsampling(Subsampling),
    AdaptiveAvgPool2d(usize),
    Flatten,
    Dropout(Dropout),
    Dense(Linear),
    Rbf(Rbf),
}

impl Sequential {
    /// Builds `table` for inputs of `input` (channels, height, width, or features), with variables from `vb`
    /// initialised by `scheme`.
    ///
    /// # Errors
    /// A layer that doesn't fit its input (a window larger than the map, a convolution over features), or
    /// variables that exist with another shape.
    pub fn new(table: &[LayerSpec], input: Dims, scheme: Scheme, vb: &VarBuilder<'_>) -> Result<Self> {
        let mut steps = Vec::with_capacity(table.len());
        let mut dims = input;
        for spec in table {
            let step = Step::new(spec, dims, scheme, &vb.pp(spec.name))?;
            dims = step.output;
            steps.push(step);
        }
        Ok(Self { steps, input, output: dims })
    }

    /// The shape of one example's output.
    pub fn output(&self) -> Dims {
        self.output
    }

    /// Adds its layers to a walk.
    pub(crate) fn describe(&self, trace: &mut Trace) -> Result<()> {
        self.steps.iter().try_for_each(|step| step.describe(trace))
    }

    /// The layers in inference one by one. None run fused.
    pub(crate) fn stages(&self) -> Vec<Stage<'_>> {
        let layers = self.steps.iter().enumerate().map(|(i, step)| {
            Stage::new(step.spec.name, move |xs| {
                if i == 0 {
                    self.input.check(xs)?;
                }
                step.forward(xs, false)
            })
        });
        layers.collect()
    }
}

impl ModuleT for Sequential {
    /// (B, …input) to (B, …output). An input of another shape is an error that names both.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.input.check(xs)?;
        let mut xs = xs.clone();
        let mut steps = self.steps.iter().peekable();
        while let Some(step) = steps.next() {
            xs = match (&step.run, steps.peek().map(|next| &next.run)) {
                (Run::Conv2d { weight, bias, config, activation }, Some(Run::MaxPool2d(pool))) => {
                    steps.next();
                    layer(weight, bias, config, *activation).max_pool(*pool).forward(&xs)?
                }
                (Run::Conv2d { weight, bias, config, activation }, Some(Run::AvgPool2d(pool))) => {
                    steps.next();
                    let layer = layer(weight, bias, config, *activation);
                    layer.avg_pool(*pool, PadCounting::Exclude).forward(&xs)?
                }
                _ => step.forward(&xs, train)?,
            };
        }
        Ok(xs)
    }
}

fn layer<'a>(
    weight: &'a Tensor,
    bias: &'a Tensor,
    config: &Conv2dConfig,
    activation: Activation,
) -> ConvLayer<'a> {
    ConvLayer::new(weight, *config).bias(bias).activation(activation)
}

impl Step {
    fn new(spec: &LayerSpec, input: Dims, scheme: Scheme, vb: &VarBuilder<'_>) -> Result<Self> {
        let pooled = |config: &Pool2dConfig| -> Result<Dims> {
            let (channels, height, width) = input.map()?;
            let (height, width) = config.output_size((height, width))?;
            Ok(Dims::Map { channels, height, width })
        };
        let (run, output) = match spec.layer {
            Layer::Rescaling { scale, offset } => (Run::Rescaling(scale, offset), input),
            Layer::Dropout { rate } => (Run::Dropout(Dropout::new(rate, vb.prefix())), input),
            Layer::Flatten => (Run::Flatten, Dims::Features(input.count())),
            Layer::Dense { units, activation, bias } => {
                let linear = Linear::with_bias(input.features()?, units, activation, scheme, bias, vb)?;
                (Run::Dense(linear), Dims::Features(units))
            }
            Layer::Rbf { units } => {
                let n_in = input.features()?;
                if n_in != Rbf::N_IN {
                    candle_core::bail!("{}: expected {} features, found {n_in}", spec.name, Rbf::N_IN);
                }
                (Run::Rbf(Rbf::new(units, vb.device())?), Dims::Features(units))
            }
            Layer::Conv2d { filters, kernel, stride, padding, activation, bias } => {
                let (channels, height, width) = input.map()?;
                let shape = [filters, channels, kernel.0, kernel.1];
                let weight = vb.get_with_hints(shape.as_slice(), "weight", scheme.weight(&shape))?;
                let bias = vb.get_with_hints(filters, "bias", scheme.bias(&shape, bias))?;
                let padding = padding.resolve((height, width), kernel, stride, (1, 1));
                let config = Conv2dConfig { stride, padding, dilation: (1, 1), groups: 1 };
                let (height, width) = config.output_size((height, width), kernel)?;
                let run = Run::Conv2d { weight, bias, config, activation };
                (run, Dims::Map { channels: filters, height, width })
            }
            Layer::MaxPool2d { kernel, stride } => {
                let config = Pool2dConfig { kernel, stride, ..Pool2dConfig::square(1) };
                (Run::MaxPool2d(config), pooled(&config)?)
            }
            Layer::AvgPool2d { kernel, stride } => {
                let config = Pool2dConfig { kernel, stride, ..Pool2dConfig::square(1) };
                (Run::AvgPool2d(config), pooled(&config)?)
            }
            Layer::Subsampling { size, activation } => {
                let config = Pool2dConfig::square(size);
                let (channels, _, _) = input.map()?;
                let layer = Subsampling::new(channels, config, activation, scheme, vb)?;
                (Run::Subsampling(layer), pooled(&config)?)
            }
            Layer::AdaptiveAvgPool2d { size } => {
                let (channels, _, _) = input.map()?;
                (Run::AdaptiveAvgPool2d(size), Dims::Map { channels, height: size, width: size })
            }
        };
        Ok(Self { spec: spec.clone(), output, run })
    }

    fn forward(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        match &self.run {
            Run::Rescaling(scale, offset) => xs.affine(*scale, *offset),
            Run::Conv2d { weight, bias, config, activation } => {
                layer(weight, bias, config, *activation).forward(xs)
            }
            Run::MaxPool2d(config) => ops::max_pool2d(xs, config),
            Run::AvgPool2d(config) => ops::avg_pool2d(xs, config, PadCounting::Exclude),
            Run::Subsampling(layer) => layer.forward(xs),
            Run::AdaptiveAvgPool2d(size) => adaptive_avg_pool2d(xs, *size),
            Run::Flatten => xs.flatten_from(1),
            Run::Dropout(dropout) => dropout.forward(xs, train),
            Run::Dense(linear) => linear.forward(xs),
            Run::Rbf(rbf) => rbf.forward(xs),
        }
    }

    fn describe(&self, trace: &mut Trace) -> Result<()> {
        let (kind, params, multiply_adds) = match &self.run {
            Run::Conv2d { weight, bias, config, .. } => {
                let entry = trace.conv(weight.dims(), config)?.named(self.spec.name);
                entry.params(weight.elem_count() + bias.elem_count());
                return Ok(());
            }
            Run::Rescaling(..) => (Kind::Rescaling, 0, 0),
            Run::MaxPool2d(_) => (Kind::MaxPool, 0, 0),
            Run::AvgPool2d(_) => (Kind::AvgPool, 0, 0),
            Run::AdaptiveAvgPool2d(_) => (Kind::AdaptiveAvgPool, 0, 0),
            Run::Flatten => (Kind::Flatten, 0, 0),
            Run::Dropout(_) => (Kind::Dropout, 0, 0),
            Run::Subsampling(layer) => (Kind::Subsampling, layer.n_params(), self.output.count()),
            Run::Dense(linear) => (Kind::Dense, linear.n_params(), linear.n_in() * linear.n_out()),
            Run::Rbf(rbf) => (Kind::Rbf, 0, Rbf::N_IN * rbf.n_out()),
        };
        let entry = trace.push(kind, self.output).named(self.spec.name);
        entry.params(params).multiply_adds(multiply_adds as u64);
        Ok(())
    }
}
