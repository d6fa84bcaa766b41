//! Layers one after the other, built from a table.

use candle_core::{Device, Module as _, ModuleT, Result, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops as ops;
use firstsight_ops::{Activation, Conv2dConfig, ConvLayer, PadCounting, Padding, Pool2dConfig};

use super::{Dropout, Rbf, Subsampling, adaptive_avg_pool2d, adaptive_pool};
use crate::graph::Op;
use crate::summary::{LayerKind, Trace};
use crate::{Init, InputShape, Linear, NamedLayer};

/// A layer with its name: a row of a network's table.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    /// Name, which is also the prefix of its variables.
    pub name: &'static str,
    /// Layer with its settings.
    pub layer: Layer,
}

impl LayerSpec {
    /// A dense layer of `units` outputs without activation, as the last layers of most networks are.
    pub const fn dense(name: &'static str, units: usize) -> Self {
        Self { name, layer: Layer::Dense { units, activation: Activation::Identity, bias: 0.0 } }
    }

    /// The number of outputs that the layer states, if it is one of features.
    pub(crate) fn units(&self) -> Option<usize> {
        match self.layer {
            Layer::Dense { units, .. } | Layer::Rbf { units } => Some(units),
            _ => None,
        }
    }

    /// The same layer with another number of outputs, if it has one.
    pub(crate) fn with_units(&self, n: usize) -> Self {
        let mut spec = self.clone();
        if let Layer::Dense { units, .. } | Layer::Rbf { units } = &mut spec.layer {
            *units = n;
        }
        spec
    }
}

/// A layer for feature maps (B, C, H, W) or features (B, F), with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layer {
    /// scale · x + offset.
    Rescaling {
        /// Factor.
        scale: f64,
        /// Summand.
        offset: f64,
    },
    /// Convolution with bias and activation.
    Conv2d {
        /// Output channels.
        filters: usize,
        /// Height and width of the kernel.
        kernel: (usize, usize),
        /// Vertical and horizontal stride.
        stride: (usize, usize),
        /// Zero padding.
        padding: Padding,
        /// Activation of the output.
        activation: Activation,
        /// Initial bias with [`Init::Krizhevsky`].
        bias: f64,
    },
    /// Max pooling without padding. Windows that overlap the edge are dropped, as with Keras's `valid`.
    MaxPool2d {
        /// Height and width of the window.
        kernel: (usize, usize),
        /// Vertical and horizontal stride.
        stride: (usize, usize),
    },
    /// Average pooling without padding. Windows that overlap the edge are dropped.
    AvgPool2d {
        /// Height and width of the window.
        kernel: (usize, usize),
        /// Vertical and horizontal stride.
        stride: (usize, usize),
    },
    /// LeNet-5's pooling: the mean of square windows without overlap, times a coefficient per channel, plus a bias.
    Subsampling {
        /// Height and width of the window.
        size: usize,
        /// Activation of the output.
        activation: Activation,
    },
    /// Average pooling to `size` × `size` outputs for feature maps of any size.
    AdaptiveAvgPool2d {
        /// Height and width of the output.
        size: usize,
    },
    /// (B, C, H, W) to (B, C·H·W).
    Flatten,
    /// Inverted dropout.
    Dropout {
        /// Share of the values that become zero in training.
        rate: f64,
    },
    /// Fully connected layer with bias and activation.
    Dense {
        /// Output features.
        units: usize,
        /// Activation of the output.
        activation: Activation,
        /// Initial bias with [`Init::Krizhevsky`].
        bias: f64,
    },
    /// Negative squared distances to fixed codes: see [`Rbf`].
    Rbf {
        /// Number of codes.
        units: usize,
    },
}

/// Layers one after the other, built from a table.
///
/// A convolution and the pooling that follows it run as one operation.
#[derive(Debug, Clone)]
pub struct Sequential {
    steps: Vec<Step>,
    input: InputShape,
    output: InputShape,
}

#[derive(Debug, Clone)]
struct Step {
    spec: LayerSpec,
    output: InputShape,
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
    /// The layers of `table` for inputs of the shape `input`, with variables from `vb` drawn from `init`.
    ///
    /// # Errors
    ///
    /// A layer that does not fit its input (a window larger than the feature map, a convolution of features), and
    /// variables that exist with another shape.
    pub fn new(table: &[LayerSpec], input: InputShape, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        let mut steps = Vec::with_capacity(table.len());
        let mut shape = input;
        for spec in table {
            let step = Step::new(spec, shape, init, &vb.pp(spec.name))?;
            shape = step.output;
            steps.push(step);
        }
        Ok(Self { steps, input, output: shape })
    }

    /// Shape of one output.
    pub fn output(&self) -> InputShape {
        self.output
    }

    /// Appends the layers to a trace.
    pub(crate) fn describe(&self, trace: &mut Trace) -> Result<()> {
        self.steps.iter().try_for_each(|step| step.describe(trace))
    }

    /// Side of the smallest square image of `channels` that every layer of `table` takes.
    pub(crate) fn smallest_input(table: &[LayerSpec], channels: usize) -> usize {
        /// Sides that are tried.
        const MOST: usize = 4096;
        let fits = |side: &usize| {
            let input = InputShape::Map { channels, height: *side, width: *side };
            table.iter().try_fold(input, |shape, spec| spec.layer.output(shape)).is_ok()
        };
        (1..MOST).find(fits).unwrap_or(MOST)
    }

    /// The layers in inference, not fused.
    pub(crate) fn named_layers(&self) -> Vec<NamedLayer<'_>> {
        let layers = self.steps.iter().enumerate().map(|(i, step)| {
            NamedLayer::new(step.spec.name, move |xs| {
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
    /// # Errors
    ///
    /// An input of another shape, with both shapes.
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

impl Layer {
    /// Shape of one output for one input.
    fn output(&self, input: InputShape) -> Result<InputShape> {
        let pooled = |kernel, stride| -> Result<InputShape> {
            let (channels, height, width) = input.map()?;
            let (height, width) = pool(kernel, stride).output_size((height, width))?;
            Ok(InputShape::Map { channels, height, width })
        };
        match *self {
            Self::Rescaling { .. } | Self::Dropout { .. } => Ok(input),
            Self::Flatten => Ok(InputShape::Features(input.count())),
            Self::Dense { units, .. } => input.features().map(|_| InputShape::Features(units)),
            Self::Rbf { units } => match input.features()? {
                Rbf::N_IN => Ok(InputShape::Features(units)),
                n => candle_core::bail!("expected {} features, found {n}", Rbf::N_IN),
            },
            Self::Conv2d { filters, kernel, stride, padding, .. } => {
                let (_, height, width) = input.map()?;
                let config = conv((height, width), kernel, stride, padding);
                let (height, width) = config.output_size((height, width), kernel)?;
                Ok(InputShape::Map { channels: filters, height, width })
            }
            Self::MaxPool2d { kernel, stride } | Self::AvgPool2d { kernel, stride } => pooled(kernel, stride),
            Self::Subsampling { size, .. } => pooled((size, size), (size, size)),
            Self::AdaptiveAvgPool2d { size } => {
                let (channels, _, _) = input.map()?;
                Ok(InputShape::Map { channels, height: size, width: size })
            }
        }
    }
}

fn conv(
    size: (usize, usize),
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: Padding,
) -> Conv2dConfig {
    let padding = padding.resolve(size, kernel, stride, (1, 1));
    Conv2dConfig { stride, padding, dilation: (1, 1), groups: 1 }
}

fn pool(kernel: (usize, usize), stride: (usize, usize)) -> Pool2dConfig {
    Pool2dConfig { kernel, stride, ..Pool2dConfig::square(1) }
}

impl Step {
    fn new(spec: &LayerSpec, input: InputShape, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        let output = match spec.layer.output(input) {
            Ok(output) => output,
            Err(error) => candle_core::bail!("{}: {error}", spec.name),
        };
        let run = match spec.layer {
            Layer::Rescaling { scale, offset } => Run::Rescaling(scale, offset),
            Layer::Dropout { rate } => Run::Dropout(Dropout::new(rate, vb.prefix())),
            Layer::Flatten => Run::Flatten,
            Layer::Dense { units, activation, bias } => {
                Run::Dense(Linear::with_bias(input.features()?, units, activation, init, bias, vb)?)
            }
            Layer::Rbf { units } => Run::Rbf(Rbf::new(units, vb.device())?),
            Layer::Conv2d { filters, kernel, stride, padding, activation, bias } => {
                let (channels, height, width) = input.map()?;
                let shape = [filters, channels, kernel.0, kernel.1];
                let weight = vb.get_with_hints(shape.as_slice(), "weight", init.weight(&shape))?;
                let bias = vb.get_with_hints(filters, "bias", init.bias(&shape, bias))?;
                let config = conv((height, width), kernel, stride, padding);
                Run::Conv2d { weight, bias, config, activation }
            }
            Layer::MaxPool2d { kernel, stride } => Run::MaxPool2d(pool(kernel, stride)),
            Layer::AvgPool2d { kernel, stride } => Run::AvgPool2d(pool(kernel, stride)),
            Layer::Subsampling { size, activation } => {
                let (channels, _, _) = input.map()?;
                Run::Subsampling(Subsampling::new(
                    channels,
                    Pool2dConfig::square(size),
                    activation,
                    init,
                    vb,
                )?)
            }
            Layer::AdaptiveAvgPool2d { size } => Run::AdaptiveAvgPool2d(size),
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
        let name = self.spec.name;
        let (kind, op) = match &self.run {
            Run::Conv2d { weight, bias, config, activation } => {
                trace.conv(name, weight, Some(bias), config)?;
                trace.apply(format!("{name}.act"), Op::Activation(*activation));
                return Ok(());
            }
            Run::Dense(linear) => {
                trace.linear(name, linear.weight(), Some(linear.bias()))?;
                trace.apply(format!("{name}.act"), Op::Activation(linear.activation()));
                return Ok(());
            }
            Run::Subsampling(layer) => return layer.describe(name, self.output, trace),
            Run::MaxPool2d(config) => return trace.max_pool(name, config),
            Run::AvgPool2d(config) => return trace.avg_pool(name, config),
            Run::Rescaling(scale, offset) => {
                (LayerKind::Rescaling, Op::Rescaling { scale: *scale, offset: *offset })
            }
            Run::AdaptiveAvgPool2d(size) => {
                let (_, height, width) = trace.shape().map()?;
                let op = adaptive_pool::op((height, width), *size, &Device::Cpu)?;
                (LayerKind::AdaptiveAvgPool, op)
            }
            Run::Flatten => (LayerKind::Flatten, Op::Flatten),
            Run::Dropout(_) => (LayerKind::Dropout, Op::Identity),
            Run::Rbf(rbf) => (LayerKind::Rbf, Op::Rbf { codes: rbf.codes() }),
        };
        let entry = trace.push(name, kind, op, self.output);
        if let Run::Rbf(rbf) = &self.run {
            entry.multiply_adds = (Rbf::N_IN * rbf.n_out()) as u64;
        }
        Ok(())
    }
}
