//! A network in inference as a graph, for formats that other programs run.
//!
//! A [`Trace`](crate::summary::Trace) records it beside the table of layers: a [`Node`] for each operator, in the order in
//! which they can run. The operators are those of `firstsight-ops`, so a network needs few nodes; `firstsight-export`
//! writes them in the operators of ONNX.

use candle_core::Tensor;
use firstsight_ops::{Activation, BatchNorm, Conv2dConfig, Pool2dConfig};

/// A value of the graph: the result of the node of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// Its place in [`Trace::nodes`](crate::summary::Trace::nodes).
    pub fn index(self) -> usize {
        self.0
    }
}

/// An operator with what it is applied to.
#[derive(Debug, Clone)]
pub struct Node {
    /// Prefix of its variables, or a path in the network.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Its inputs: two for a sum or a product, none for the images, else one.
    pub inputs: Vec<NodeId>,
    /// Height and width of its first input, where that is a map.
    pub size: Option<(usize, usize)>,
}

/// What a node computes. Maps are (B, C, H, W), tokens (B, N, C), features (B, F).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Op {
    /// The images, (B, C, H, W).
    Input,
    /// Its input: dropout and the like, which do nothing in inference.
    Identity,
    /// scale · x + offset.
    Rescaling {
        /// Factor.
        scale: f64,
        /// Summand.
        offset: f64,
    },
    /// [`firstsight_ops::conv2d`] of maps.
    Conv2d {
        /// (O, C / groups, kh, kw)
        weight: Tensor,
        /// (O,)
        bias: Option<Tensor>,
        /// Stride, padding, dilation and groups.
        config: Conv2dConfig,
    },
    /// [`firstsight_ops::batch_norm`] of maps with the running statistics.
    BatchNorm(BatchNorm),
    /// Layer normalization over the channels: the last axis of tokens and features, the second of maps.
    LayerNorm {
        /// (C,)
        weight: Tensor,
        /// (C,)
        bias: Tensor,
        /// ε, added to the variance.
        epsilon: f64,
    },
    /// [`firstsight_ops::global_response_norm_2d`] of maps.
    GlobalResponseNorm {
        /// (C,)
        weight: Tensor,
        /// (C,)
        bias: Tensor,
        /// ε, added to the mean of the norms.
        epsilon: f64,
    },
    /// An activation.
    Activation(Activation),
    /// Max pooling of maps.
    MaxPool(Pool2dConfig),
    /// Average pooling of maps that leaves out the padding.
    AvgPool(Pool2dConfig),
    /// Average pooling of maps to a fixed size: rows · map · columnsᵀ.
    AdaptiveAvgPool {
        /// The share of each row in each mean, (h, H).
        rows: Tensor,
        /// The share of each column, (w, W).
        columns: Tensor,
    },
    /// Mean of each channel of maps or tokens: features.
    GlobalAvgPool,
    /// weight · x + bias for each channel of maps, or of the last axis.
    ChannelAffine {
        /// (C,)
        weight: Tensor,
        /// (C,)
        bias: Option<Tensor>,
    },
    /// Zeros before and after the channels of maps.
    PadChannels {
        /// Channels before.
        before: usize,
        /// Channels after.
        after: usize,
    },
    /// Sum of two values of one shape.
    Add,
    /// Maps times features: each channel by a factor.
    ScaleChannels,
    /// Maps to features, (B, C·H·W).
    Flatten,
    /// x Wᵀ + b over the channels: the last axis of tokens and features, the second of maps.
    Linear {
        /// (out, in)
        weight: Tensor,
        /// (out,)
        bias: Option<Tensor>,
    },
    /// Minus the squared distances of features to codes: [`Rbf`](crate::Rbf).
    Rbf {
        /// (n, F)
        codes: Tensor,
    },
    /// Maps to tokens, (B, H·W, C).
    Tokens,
    /// Tokens (1, n, C) before those of each image.
    Prepend(Tensor),
    /// The sum with tokens (1, N, C) of which each image has as many.
    AddTokens(Tensor),
    /// The first token: features.
    FirstToken,
    /// Tokens (B, N, C) by windows, (B·G, M, C), where an image has G windows.
    ToWindows {
        /// For each place in the windows the number of its token, (G·M,) u32.
        tokens: Tensor,
        /// M, the places of a window.
        area: usize,
        /// Whether there is one more token, number N, of zeros.
        padded: bool,
    },
    /// Windows (B·G, M, C) to tokens (B, N, C).
    FromWindows {
        /// For each token its place in the windows of its image, (N,) u32.
        places: Tensor,
        /// G·M, the places of all windows of an image.
        n_places: usize,
    },
    /// Tokens (B, h·w, C) to (B, ⌈h/2⌉·⌈w/2⌉, 4C): those of 2×2 patches as one, in the order top left, bottom left, top right,
    /// bottom right, with zeros beyond the map.
    MergePatches {
        /// h and w.
        size: (usize, usize),
    },
    /// [`firstsight_ops::self_attention`] of queries, keys and values (B, N, 3C): tokens (B, N, C).
    SelfAttention {
        /// Number of heads.
        heads: usize,
        /// Factor of the scores.
        scale: f64,
        /// Added to the scores, (1, heads, N, N).
        bias: Option<Tensor>,
        /// Added to the scores, (G, 1, N, N), where G divides B.
        mask: Option<Tensor>,
    },
    /// A layer that has no operator here.
    Opaque,
}
