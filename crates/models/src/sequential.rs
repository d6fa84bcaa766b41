//! Networks that are a table of layers: the table builds the network, runs it and prints its summary.

use candle_core::{Module as _, ModuleT, Result, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops as ops;
use firstsight_ops::{Activation, Conv2dConfig, Padding2d, Pool2dConfig};

use crate::summary::Row;
use crate::{Dims, Linear, Scheme};

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
    /// Multiplies by `scale`.
    Rescaling {
        /// The factor.
        scale: f64,
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
    },
    /// Largest of each window; windows that overlap the edge are dropped, as with Keras's `valid`.
    MaxPool2d {
        /// Height and width of the window.
        kernel: (usize, usize),
        /// Steps down and across.
        stride: (usize, usize),
    },
    /// (B, C, H, W) to (B, C·H·W), in that order.
    Flatten,
    /// A dense layer with bias, activation in the same pass.
    Dense {
        /// Output features.
        units: usize,
        /// What follows.
        activation: Activation,
    },
}

/// The rim of zeros around a convolution's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// None.
    Valid,
    /// As much as keeps ⌈H / stride⌉ × ⌈W / stride⌉ outputs, the odd pixel at the bottom and right (TensorFlow's).
    Same,
}

/// A network built from a table, one layer after the other.
///
/// A convolution followed by max pooling runs as one operation that never writes the map between them.
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
    Rescaling(f64),
    Conv2d { weight: Tensor, bias: Tensor, config: Conv2dConfig, activation: Activation },
    MaxPool2d(Pool2dConfig),
    Flatten,
    Dense(Linear),
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

    /// The summary's rows.
    pub fn rows(&self) -> Vec<Row> {
        self.steps.iter().map(Step::row).collect()
    }

    /// The outputs of every layer for `xs`, by name, as pictures of what the network sees need them. No layers
    /// run fused.
    pub fn intermediates(&self, xs: &Tensor) -> Result<Vec<(&'static str, Tensor)>> {
        let mut xs = xs.clone();
        let mut outputs = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            xs = step.forward(&xs)?;
            outputs.push((step.spec.name, xs.clone()));
        }
        Ok(outputs)
    }
}

impl ModuleT for Sequential {
    /// (B, …input) to (B, …output). An input of another shape is an error that names both.
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Result<Tensor> {
        self.input.check(xs)?;
        let mut xs = xs.clone();
        let mut steps = self.steps.iter().peekable();
        while let Some(step) = steps.next() {
            xs = match (&step.run, steps.peek().map(|next| &next.run)) {
                (Run::Conv2d { weight, bias, config, activation }, Some(Run::MaxPool2d(pool))) => {
                    steps.next();
                    ops::conv2d_max_pool(&xs, weight, Some(bias), config, *activation, pool)?
                }
                _ => step.forward(&xs)?,
            };
        }
        Ok(xs)
    }
}

impl Step {
    fn new(spec: &LayerSpec, input: Dims, scheme: Scheme, vb: &VarBuilder<'_>) -> Result<Self> {
        let (run, output) = match spec.layer {
            Layer::Rescaling { scale } => (Run::Rescaling(scale), input),
            Layer::Flatten => (Run::Flatten, Dims::Features(input.count())),
            Layer::Dense { units, activation } => {
                let linear = Linear::new(input.features()?, units, activation, scheme, vb)?;
                (Run::Dense(linear), Dims::Features(units))
            }
            Layer::Conv2d { filters, kernel, stride, padding, activation } => {
                let (channels, height, width) = input.map()?;
                let shape = [filters, channels, kernel.0, kernel.1];
                let weight = vb.get_with_hints(shape.as_slice(), "weight", scheme.weight(&shape))?;
                let bias = vb.get_with_hints(filters, "bias", scheme.bias(&shape))?;
                let padding = match padding {
                    Padding::Valid => Padding2d::none(),
                    Padding::Same => Padding2d::same((height, width), kernel, stride, (1, 1)),
                };
                let config = Conv2dConfig { stride, padding, dilation: (1, 1), groups: 1 };
                let (height, width) = config.output_size((height, width), kernel)?;
                (
                    Run::Conv2d { weight, bias, config, activation },
                    Dims::Map { channels: filters, height, width },
                )
            }
            Layer::MaxPool2d { kernel, stride } => {
                let (channels, height, width) = input.map()?;
                let config = Pool2dConfig { kernel, stride, padding: (0, 0), rounding: ops::Rounding::Floor };
                let (height, width) = config.output_size((height, width))?;
                (Run::MaxPool2d(config), Dims::Map { channels, height, width })
            }
        };
        Ok(Self { spec: spec.clone(), output, run })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        match &self.run {
            Run::Rescaling(scale) => xs.affine(*scale, 0.0),
            Run::Conv2d { weight, bias, config, activation } => {
                ops::conv2d(xs, weight, Some(bias), config, *activation)
            }
            Run::MaxPool2d(config) => ops::max_pool2d(xs, config),
            Run::Flatten => xs.flatten_from(1),
            Run::Dense(linear) => linear.forward(xs),
        }
    }

    fn row(&self) -> Row {
        let params = match &self.run {
            Run::Conv2d { weight, bias, .. } => weight.elem_count() + bias.elem_count(),
            Run::Dense(linear) => linear.n_params(),
            _ => 0,
        };
        let kind = match self.spec.layer {
            Layer::Rescaling { .. } => "Rescaling",
            Layer::Conv2d { .. } => "Conv2D",
            Layer::MaxPool2d { .. } => "MaxPooling2D",
            Layer::Flatten => "Flatten",
            Layer::Dense { .. } => "Dense",
        };
        Row {
            name: self.spec.name.to_owned(),
            kind: kind.to_owned(),
            output: self.output,
            params,
            trainable: params,
        }
    }
}
