//! The layers of a network as a walk through it meets them, with shapes and counts.

use candle_core::{Result, Tensor};
use firstsight_ops::{Activation, BatchNorm, Conv2dConfig, Pool2dConfig};

use crate::InputShape;
use crate::graph::{Node, NodeId, Op};

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

/// A walk through a network that records its layers, and its graph of operators. It computes shapes and counts, and no
/// values.
///
/// A [`Network`](crate::Network) appends its layers in [`describe`](crate::Network::describe). Each takes what the one before it
/// gives, unless [`branch_from`](Trace::branch_from) says otherwise.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_models::InputShape;
/// use firstsight_models::summary::{LayerKind, Trace};
///
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let mut trace = Trace::new(InputShape::Map { channels: 3, height: 32, width: 32 });
/// trace.conv("conv1", &zeros(&[16, 3, 3, 3])?, None, &firstsight_ops::Conv2dConfig::default())?;
/// trace.global_pool("pool")?;
/// trace.linear("fc", &zeros(&[10, 16])?, Some(&zeros(&[10])?))?;
/// assert_eq!(trace.shape(), InputShape::Features(10));
/// assert_eq!(trace.entries().iter().map(|entry| entry.params).sum::<usize>(), 432 + 170);
/// assert_eq!(trace.entries()[1].kind, LayerKind::Conv);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Trace {
    place: Place,
    entries: Vec<Entry>,
    nodes: Vec<Node>,
}

/// A point of a [`Trace`]: the output of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    node: NodeId,
    shape: InputShape,
}

impl Trace {
    /// A walk that begins with an entry for the input.
    pub fn new(input: InputShape) -> Self {
        let images = Node { name: "input".to_owned(), op: Op::Input, inputs: Vec::new(), size: None };
        let place = Place { node: NodeId(0), shape: input };
        let mut trace = Self { place, entries: Vec::new(), nodes: vec![images] };
        trace.entry("input".to_owned(), LayerKind::Input, input);
        trace
    }

    /// Input shape of the next layer.
    pub fn shape(&self) -> InputShape {
        self.place.shape
    }

    /// The layers so far, the input first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The operators so far, the input first. Those of a whole network end with its output.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The value that the next layer takes.
    pub fn output(&self) -> NodeId {
        self.place.node
    }

    /// The output of the last layer.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Continues from an earlier `place`: the next layer begins another branch.
    pub fn branch_from(&mut self, place: Place) {
        self.place = place;
    }

    /// Lists what follows as of another shape, as frameworks do where an axis of one value comes or goes.
    pub(crate) fn reshape(&mut self, shape: InputShape) {
        self.place.shape = shape;
    }

    /// Appends an operator that has no entry of its own. The shape stays that of the entries.
    pub fn apply(&mut self, name: impl Into<String>, op: Op) {
        self.apply_to(name, op, &[self.place.node]);
    }

    fn apply_to(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) {
        if matches!(op, Op::Identity | Op::Activation(Activation::Identity)) {
            return;
        }
        let size = self.shape().map().ok().map(|(_, height, width)| (height, width));
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), size });
        self.place.node = NodeId(self.nodes.len() - 1);
    }

    fn entry(&mut self, name: String, kind: LayerKind, output: InputShape) -> &mut Entry {
        let input = std::mem::replace(&mut self.place.shape, output);
        let (params, buffers, multiply_adds) = (0, 0, 0);
        self.entries.push(Entry { name, kind, input, output, params, buffers, multiply_adds, conv: None });
        let last = self.entries.len() - 1;
        &mut self.entries[last]
    }

    /// Appends a layer with output shape `output` and no parameters that computes `op`. The returned entry takes its counts.
    ///
    /// A layer that [`Op`] lacks is [`Op::Opaque`]: the network can't be exported.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        kind: LayerKind,
        op: Op,
        output: InputShape,
    ) -> &mut Entry {
        let name = name.into();
        self.apply(&name, op);
        self.entry(name, kind, output)
    }

    /// Appends a layer whose output has the shape of its input.
    pub fn keep(&mut self, name: impl Into<String>, kind: LayerKind, op: Op) -> &mut Entry {
        self.push(name, kind, op, self.shape())
    }

    /// Appends an activation.
    pub fn activation(&mut self, name: impl Into<String>, activation: Activation) {
        self.keep(name, LayerKind::Activation(activation), Op::Activation(activation));
    }

    /// Appends the sum with the output of an earlier layer, of the same shape.
    pub fn add(&mut self, name: impl Into<String>, other: Place) {
        let name = name.into();
        self.apply_to(&name, Op::Add, &[self.place.node, other.node]);
        self.entry(name, LayerKind::Add, self.shape());
    }

    /// Appends the product of the maps at `maps` with a factor for each channel, the output of the last layer.
    pub fn scale_channels(&mut self, name: impl Into<String>, maps: Place) {
        let name = name.into();
        self.apply_to(&name, Op::ScaleChannels, &[maps.node, self.place.node]);
        self.place.shape = maps.shape;
        self.entry(name, LayerKind::Other("Multiply"), maps.shape);
    }

    /// Appends a convolution with `weight` (O, C / groups, kh, kw) and `bias` (O,).
    ///
    /// # Errors
    ///
    /// An input that is no feature map or smaller than the kernel.
    pub fn conv(
        &mut self,
        name: impl Into<String>,
        weight: &Tensor,
        bias: Option<&Tensor>,
        config: &Conv2dConfig,
    ) -> Result<()> {
        let op = Op::Conv2d { weight: weight.clone(), bias: bias.cloned(), config: *config };
        self.conv_by(name, op, weight, bias, config)
    }

    /// Appends a convolution that `op` computes.
    pub(crate) fn conv_by(
        &mut self,
        name: impl Into<String>,
        op: Op,
        weight: &Tensor,
        bias: Option<&Tensor>,
        config: &Conv2dConfig,
    ) -> Result<()> {
        let (n_out, per_group, kernel_height, kernel_width) = weight.dims4()?;
        let (_, height, width) = self.shape().map()?;
        let (height, width) = config.output_size((height, width), (kernel_height, kernel_width))?;
        let output = InputShape::Map { channels: n_out, height, width };
        let kind = match config.groups > 1 && per_group == 1 {
            true => LayerKind::DepthwiseConv,
            false => LayerKind::Conv,
        };
        let per_output = per_group * kernel_height * kernel_width;
        let entry = self.push(name, kind, op, output);
        entry.params = n_out * per_output + bias.map_or(0, Tensor::elem_count);
        entry.multiply_adds = (output.count() * per_output) as u64;
        entry.conv = Some(*config);
        Ok(())
    }

    /// Appends batch normalization, fused with `activation`, which has an entry of its own behind it.
    pub fn batch_norm(&mut self, name: impl Into<String>, norm: &BatchNorm, activation: Activation) {
        let channels = norm.weight.elem_count();
        let entry = self.keep(name, LayerKind::BatchNorm(activation), Op::BatchNorm(norm.clone()));
        (entry.params, entry.buffers) = (2 * channels, 2 * channels);
    }

    /// Appends max pooling.
    ///
    /// # Errors
    ///
    /// An input that is no feature map or smaller than the window.
    pub fn max_pool(&mut self, name: impl Into<String>, config: &Pool2dConfig) -> Result<()> {
        self.pool(name, LayerKind::MaxPool, Op::MaxPool(*config), config)
    }

    /// Appends average pooling that leaves out the padding.
    ///
    /// # Errors
    ///
    /// An input that is no feature map or smaller than the window.
    pub fn avg_pool(&mut self, name: impl Into<String>, config: &Pool2dConfig) -> Result<()> {
        self.pool(name, LayerKind::AvgPool, Op::AvgPool(*config), config)
    }

    fn pool(
        &mut self,
        name: impl Into<String>,
        kind: LayerKind,
        op: Op,
        config: &Pool2dConfig,
    ) -> Result<()> {
        let (channels, height, width) = self.shape().map()?;
        let (height, width) = config.output_size((height, width))?;
        self.push(name, kind, op, InputShape::Map { channels, height, width });
        Ok(())
    }

    /// Appends the mean of each channel.
    ///
    /// # Errors
    ///
    /// An input that is no feature map.
    pub fn global_pool(&mut self, name: impl Into<String>) -> Result<()> {
        let (channels, _, _) = self.shape().map()?;
        self.push(name, LayerKind::GlobalAvgPool, Op::GlobalAvgPool, InputShape::Features(channels));
        Ok(())
    }

    /// Appends a fully connected layer over the features, or over those of each token or pixel, with `weight` (out, in) and `bias`
    /// (out,).
    ///
    /// # Errors
    ///
    /// A weight that is no matrix.
    pub fn linear(&mut self, name: impl Into<String>, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
        let (n_out, n_in) = weight.dims2()?;
        let (output, places) = match self.shape() {
            InputShape::Map { height, width, .. } => {
                (InputShape::Map { channels: n_out, height, width }, height * width)
            }
            InputShape::Tokens { n_tokens, .. } => {
                (InputShape::Tokens { n_tokens, channels: n_out }, n_tokens)
            }
            InputShape::Features(_) => (InputShape::Features(n_out), 1),
        };
        let op = Op::Linear { weight: weight.clone(), bias: bias.cloned() };
        let entry = self.push(name, LayerKind::Dense, op, output);
        entry.params = n_in * n_out + bias.map_or(0, Tensor::elem_count);
        entry.multiply_adds = (places * n_in * n_out) as u64;
        Ok(())
    }

    /// Appends layer normalization over the channels with `weight` and `bias`, each (C,).
    pub fn layer_norm(&mut self, name: impl Into<String>, weight: &Tensor, bias: &Tensor, epsilon: f64) {
        let op = Op::LayerNorm { weight: weight.clone(), bias: bias.clone(), epsilon };
        self.keep(name, LayerKind::LayerNorm, op).params = weight.elem_count() + bias.elem_count();
    }
}
