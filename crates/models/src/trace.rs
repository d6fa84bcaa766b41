//! A symbolic walk through a network: every layer says what it makes of the shape that reaches it. Summaries are
//! views of the result.

use firstsight_ops::{Activation, Conv2dConfig};

use crate::Dims;

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// The network's input.
    Input,
    /// A multiple and an offset of every value.
    Rescaling,
    /// A rim of zeros.
    ZeroPadding,
    /// Convolution over all channels.
    Conv,
    /// Convolution of each channel by itself.
    DepthwiseConv,
    /// A depthwise and a 1×1 convolution as one layer.
    SeparableConv,
    /// Batch normalisation, with the activation in the same module or `Identity`.
    BatchNorm(Activation),
    /// An activation that is a layer of its own, of a general kind.
    Activation,
    /// ReLU or ReLU6 as a layer of its own.
    Relu,
    /// Largest of each window.
    MaxPool,
    /// Mean of each window.
    AvgPool,
    /// Means over a fixed number of windows.
    AdaptiveAvgPool,
    /// Mean of each channel.
    GlobalAvgPool,
    /// LeNet-5's pooling with coefficients.
    Subsampling,
    /// A sum of two maps.
    Add,
    /// Maps to features.
    Flatten,
    /// Random zeros in training.
    Dropout,
    /// A matrix and a bias.
    Dense,
    /// Squared distances to fixed codes.
    Rbf,
}

impl Kind {
    /// Keras's class.
    pub fn keras(self) -> &'static str {
        match self {
            Self::Input => "InputLayer",
            Self::Rescaling => "Rescaling",
            Self::ZeroPadding => "ZeroPadding2D",
            Self::Conv => "Conv2D",
            Self::DepthwiseConv => "DepthwiseConv2D",
            Self::SeparableConv => "SeparableConv2D",
            Self::BatchNorm(_) => "BatchNormalization",
            Self::Activation => "Activation",
            Self::Relu => "ReLU",
            Self::MaxPool => "MaxPooling2D",
            Self::AvgPool => "AveragePooling2D",
            Self::AdaptiveAvgPool => "AdaptiveAveragePooling2D",
            Self::GlobalAvgPool => "GlobalAveragePooling2D",
            Self::Subsampling => "Subsampling2D",
            Self::Add => "Add",
            Self::Flatten => "Flatten",
            Self::Dropout => "Dropout",
            Self::Dense => "Dense",
            Self::Rbf => "RBF",
        }
    }

    /// PyTorch's or timm's class.
    pub fn torch(self) -> &'static str {
        match self {
            Self::Input => "Input",
            Self::Rescaling => "Rescaling",
            Self::ZeroPadding => "ZeroPad2d",
            Self::Conv | Self::DepthwiseConv => "Conv2d",
            Self::SeparableConv => "SeparableConv2d",
            Self::BatchNorm(Activation::Identity) => "BatchNorm2d",
            Self::BatchNorm(_) => "BatchNormAct2d",
            Self::Activation => "Activation",
            Self::Relu => "ReLU",
            Self::MaxPool => "MaxPool2d",
            Self::AvgPool => "AvgPool2d",
            Self::AdaptiveAvgPool => "AdaptiveAvgPool2d",
            Self::GlobalAvgPool => "SelectAdaptivePool2d",
            Self::Subsampling => "Subsampling2d",
            Self::Add => "Add",
            Self::Flatten => "Flatten",
            Self::Dropout => "Dropout",
            Self::Dense => "Linear",
            Self::Rbf => "RBF",
        }
    }
}

/// One layer that the walk met.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The prefix of its tensors, which is timm's or our module's name; none where it is no module.
    pub module: Option<String>,
    /// Keras's name; none where Keras has no such layer.
    pub keras: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// The shape of one output.
    pub output: Dims,
    /// Parameters that training may change.
    pub params: usize,
    /// Values that are saved but not trained: running statistics.
    pub buffers: usize,
    /// Multiply-adds for one input.
    pub multiply_adds: u64,
}

impl Entry {
    pub(crate) fn module(&mut self, name: impl Into<String>) -> &mut Self {
        self.module = Some(name.into());
        self
    }

    pub(crate) fn keras(&mut self, name: impl Into<String>) -> &mut Self {
        self.keras = Some(name.into());
        self
    }

    /// The same name in both worlds.
    pub(crate) fn named(&mut self, name: &str) -> &mut Self {
        self.module(name).keras(name)
    }

    pub(crate) fn params(&mut self, n: usize) -> &mut Self {
        self.params = n;
        self
    }

    pub(crate) fn buffers(&mut self, n: usize) -> &mut Self {
        self.buffers = n;
        self
    }

    pub(crate) fn multiply_adds(&mut self, n: u64) -> &mut Self {
        self.multiply_adds = n;
        self
    }
}

/// A walk through a network.
#[derive(Debug, Clone)]
pub struct Trace {
    dims: Dims,
    entries: Vec<Entry>,
}

impl Trace {
    /// Before the first layer.
    pub fn new(input: Dims) -> Self {
        Self { dims: input, entries: Vec::new() }
    }

    /// The shape that the next layer sees.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// The layers met so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Goes back to a fork, where a branch sees `dims`.
    pub(crate) fn fork(&mut self, dims: Dims) {
        self.dims = dims;
    }

    /// A layer that makes `output` of the present shape.
    pub(crate) fn push(&mut self, kind: Kind, output: Dims) -> &mut Entry {
        self.dims = output;
        let entry =
            Entry { module: None, keras: None, kind, output, params: 0, buffers: 0, multiply_adds: 0 };
        self.entries.push(entry);
        let last = self.entries.len() - 1;
        &mut self.entries[last]
    }

    /// A layer that keeps the shape.
    pub(crate) fn keep(&mut self, kind: Kind) -> &mut Entry {
        self.push(kind, self.dims)
    }

    /// Keras's name for the last layer met.
    pub(crate) fn rename_last(&mut self, keras: &str) {
        if let Some(entry) = self.entries.last_mut() {
            entry.keras(keras);
        }
    }

    /// A convolution of a (O, C / groups, kh, kw) weight.
    pub(crate) fn conv(
        &mut self,
        weight: &[usize],
        config: &Conv2dConfig,
    ) -> candle_core::Result<&mut Entry> {
        let (_, height, width) = self.dims.map()?;
        let (height, width) = config.output_size((height, width), (weight[2], weight[3]))?;
        let output = Dims::Map { channels: weight[0], height, width };
        let kind = if config.groups > 1 && weight[1] == 1 { Kind::DepthwiseConv } else { Kind::Conv };
        let taps: usize = weight[1..].iter().product();
        let entry = self.push(kind, output);
        entry.params(weight.iter().product()).multiply_adds((output.count() * taps) as u64);
        Ok(entry)
    }

    /// Puts before entry `at` a layer that only Keras has, which is the layers `parts`, all before `at`, in one.
    pub(crate) fn unite(&mut self, parts: std::ops::Range<usize>, kind: Kind, keras: &str) {
        let at = parts.end;
        let Some(parts) = self.entries.get(parts) else { return };
        let Some(last) = parts.last() else { return };
        let united = Entry {
            module: None,
            keras: Some(keras.to_owned()),
            kind,
            output: last.output,
            params: parts.iter().map(|part| part.params).sum(),
            buffers: parts.iter().map(|part| part.buffers).sum(),
            multiply_adds: parts.iter().map(|part| part.multiply_adds).sum(),
        };
        self.entries.insert(at, united);
    }

    /// The mean of each channel.
    pub(crate) fn global_pool(&mut self) -> candle_core::Result<&mut Entry> {
        let (channels, _, _) = self.dims.map()?;
        Ok(self.push(Kind::GlobalAvgPool, Dims::Features(channels)))
    }
}
