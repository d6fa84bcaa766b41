//! The layers of a network as a walk through it meets them, with shapes and counts.

use candle_core::Result;
use firstsight_ops::{Activation, Conv2dConfig, Pool2dConfig};

use crate::InputShape;

/// Kind of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum LayerKind {
    /// Input of the network.
    Input,
    /// scale · x + offset.
    Rescaling,
    /// Convolution over all channels.
    Conv,
    /// Convolution of each channel by itself.
    DepthwiseConv,
    /// Batch normalization, fused with this activation or `Identity`.
    BatchNorm(Activation),
    /// Layer normalization.
    LayerNorm,
    /// Activation.
    Activation(Activation),
    /// Max pooling.
    MaxPool,
    /// Average pooling.
    AvgPool,
    /// Average pooling to a fixed size.
    AdaptiveAvgPool,
    /// Mean of each channel.
    GlobalAvgPool,
    /// LeNet-5's pooling with a coefficient and a bias per channel.
    Subsampling,
    /// Sum of two feature maps.
    Add,
    /// Feature maps to features.
    Flatten,
    /// Dropout.
    Dropout,
    /// Fully connected layer.
    Dense,
    /// Squared distances to fixed codes.
    Rbf,
    /// Any other layer, by the name of its class.
    Other(&'static str),
}

impl LayerKind {
    /// Keras's class.
    pub fn keras(self) -> &'static str {
        match self {
            Self::Input => "InputLayer",
            Self::Rescaling => "Rescaling",
            Self::Conv => "Conv2D",
            Self::DepthwiseConv => "DepthwiseConv2D",
            Self::BatchNorm(_) => "BatchNormalization",
            Self::LayerNorm => "LayerNormalization",
            Self::Activation(Activation::Relu | Activation::Relu6) => "ReLU",
            Self::Activation(_) => "Activation",
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
            Self::Other(class) => class,
        }
    }

    /// PyTorch's or timm's class.
    pub fn torch(self) -> &'static str {
        match self {
            Self::Input => "Input",
            Self::Rescaling => "Rescaling",
            Self::Conv | Self::DepthwiseConv => "Conv2d",
            Self::BatchNorm(Activation::Identity) => "BatchNorm2d",
            Self::BatchNorm(_) => "BatchNormAct2d",
            Self::LayerNorm => "LayerNorm",
            Self::Activation(Activation::Relu) => "ReLU",
            Self::Activation(Activation::Relu6) => "ReLU6",
            Self::Activation(Activation::Silu) => "SiLU",
            Self::Activation(Activation::HardSwish) => "Hardswish",
            Self::Activation(Activation::Gelu | Activation::GeluTanh) => "GELU",
            Self::Activation(_) => "Activation",
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
            Self::Other(class) => class,
        }
    }

    /// Whether the layer is a module with a row of its own, unless Keras's listing is asked for: all but the input,
    /// activations and sums.
    pub(super) fn is_module(self) -> bool {
        !matches!(self, Self::Input | Self::Activation(_) | Self::Add)
    }
}

/// A layer of a [`Trace`].
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Prefix of its variables, or its path in the network if it has none.
    pub name: String,
    /// Kind of layer.
    pub kind: LayerKind,
    /// Shape of one input.
    pub input: InputShape,
    /// Shape of one output.
    pub output: InputShape,
    /// Number of trainable values.
    pub params: usize,
    /// Number of values that are saved and not trained: running statistics.
    pub buffers: usize,
    /// Multiply-adds for one input.
    pub multiply_adds: u64,
    /// Stride, padding and groups of a convolution.
    pub conv: Option<Conv2dConfig>,
}

/// A walk through a network that computes shapes and counts, and no values.
///
/// A [`Network`](crate::Network) appends its layers in [`describe`](crate::Network::describe).
///
/// ```
/// use firstsight_models::InputShape;
/// use firstsight_models::summary::{LayerKind, Trace};
///
/// let mut trace = Trace::new(InputShape::Map { channels: 3, height: 32, width: 32 });
/// trace.conv("conv1", &[16, 3, 3, 3], &firstsight_ops::Conv2dConfig::default())?;
/// trace.global_pool("pool")?;
/// trace.dense("fc", 16, 10);
/// assert_eq!(trace.shape(), InputShape::Features(10));
/// assert_eq!(trace.entries().iter().map(|entry| entry.params).sum::<usize>(), 432 + 170);
/// assert_eq!(trace.entries()[1].kind, LayerKind::Conv);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Trace {
    shape: InputShape,
    entries: Vec<Entry>,
}

impl Trace {
    /// A walk that begins with an entry for the input.
    pub fn new(input: InputShape) -> Self {
        let mut trace = Self { shape: input, entries: Vec::new() };
        trace.keep("input", LayerKind::Input);
        trace
    }

    /// Input shape of the next layer.
    pub fn shape(&self) -> InputShape {
        self.shape
    }

    /// The layers so far, the input first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Continues from an earlier `shape`: the next layer begins another branch.
    pub fn branch_from(&mut self, shape: InputShape) {
        self.shape = shape;
    }

    /// Appends a layer with output shape `output` and no parameters. The returned entry takes its counts.
    pub fn push(&mut self, name: impl Into<String>, kind: LayerKind, output: InputShape) -> &mut Entry {
        let input = std::mem::replace(&mut self.shape, output);
        let (params, buffers, multiply_adds) = (0, 0, 0);
        let name = name.into();
        self.entries.push(Entry { name, kind, input, output, params, buffers, multiply_adds, conv: None });
        let last = self.entries.len() - 1;
        &mut self.entries[last]
    }

    /// Appends a layer whose output has the shape of its input.
    pub fn keep(&mut self, name: impl Into<String>, kind: LayerKind) -> &mut Entry {
        self.push(name, kind, self.shape)
    }

    /// Appends a convolution without bias. `weight` is the shape of its weight, (O, C / groups, kh, kw).
    ///
    /// # Errors
    ///
    /// An input that is no feature map or smaller than the kernel.
    pub fn conv(
        &mut self,
        name: impl Into<String>,
        weight: &[usize; 4],
        config: &Conv2dConfig,
    ) -> Result<&mut Entry> {
        let [n_out, per_group, kernel_height, kernel_width] = *weight;
        let (_, height, width) = self.shape.map()?;
        let (height, width) = config.output_size((height, width), (kernel_height, kernel_width))?;
        let output = InputShape::Map { channels: n_out, height, width };
        let kind = match config.groups > 1 && per_group == 1 {
            true => LayerKind::DepthwiseConv,
            false => LayerKind::Conv,
        };
        let per_output = per_group * kernel_height * kernel_width;
        let entry = self.push(name, kind, output);
        entry.params = n_out * per_output;
        entry.multiply_adds = (output.count() * per_output) as u64;
        entry.conv = Some(*config);
        Ok(entry)
    }

    /// Appends batch normalization of `channels` channels, fused with `activation`.
    pub fn batch_norm(&mut self, name: impl Into<String>, channels: usize, activation: Activation) {
        let entry = self.keep(name, LayerKind::BatchNorm(activation));
        (entry.params, entry.buffers) = (2 * channels, 2 * channels);
    }

    /// Appends a pooling of the kind `kind`.
    ///
    /// # Errors
    ///
    /// An input that is no feature map or smaller than the window.
    pub fn pool(&mut self, name: impl Into<String>, kind: LayerKind, config: &Pool2dConfig) -> Result<()> {
        let (channels, height, width) = self.shape.map()?;
        let (height, width) = config.output_size((height, width))?;
        self.push(name, kind, InputShape::Map { channels, height, width });
        Ok(())
    }

    /// Appends the mean of each channel.
    ///
    /// # Errors
    ///
    /// An input that is no feature map.
    pub fn global_pool(&mut self, name: impl Into<String>) -> Result<()> {
        let (channels, _, _) = self.shape.map()?;
        self.push(name, LayerKind::GlobalAvgPool, InputShape::Features(channels));
        Ok(())
    }

    /// Appends a fully connected layer with bias over the features, or over those of each token or pixel.
    pub fn dense(&mut self, name: impl Into<String>, n_in: usize, n_out: usize) -> &mut Entry {
        let (output, places) = match self.shape {
            InputShape::Map { height, width, .. } => {
                (InputShape::Map { channels: n_out, height, width }, height * width)
            }
            InputShape::Tokens { n_tokens, .. } => {
                (InputShape::Tokens { n_tokens, channels: n_out }, n_tokens)
            }
            InputShape::Features(_) => (InputShape::Features(n_out), 1),
        };
        let entry = self.push(name, LayerKind::Dense, output);
        entry.params = n_in * n_out + n_out;
        entry.multiply_adds = (places * n_in * n_out) as u64;
        entry
    }

    /// Appends layer normalization over `channels` channels.
    pub fn layer_norm(&mut self, name: impl Into<String>, channels: usize) {
        self.keep(name, LayerKind::LayerNorm).params = 2 * channels;
    }
}
