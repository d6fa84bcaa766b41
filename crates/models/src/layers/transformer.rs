//! Layers of transformers and of networks after their manner, with timm's names.

use candle_core::{Result, Tensor};
use candle_nn::{Init as Distribution, VarBuilder};
use firstsight_ops::{self as ops, Activation, Conv2dConfig, ConvLayer};

use super::dropout::mask_seed;
use crate::graph::Op;
use crate::summary::{LayerKind, Trace};
use crate::{Error, Init};

/// Layer normalization: `weight` and `bias`, each (C,).
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    name: String,
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    pub(crate) fn new(channels: usize, epsilon: f64, vb: &VarBuilder<'_>) -> Result<Self> {
        let weight = vb.get_with_hints(channels, "weight", Distribution::Const(1.0))?;
        let bias = vb.get_with_hints(channels, "bias", Distribution::Const(0.0))?;
        Ok(Self { name: vb.prefix(), weight, bias, epsilon })
    }

    /// Over the last axis, (…, C).
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::layer_norm(xs, &self.weight, &self.bias, self.epsilon)
    }

    /// Over the channels of maps (B, C, H, W).
    pub(crate) fn forward_maps(&self, xs: &Tensor) -> Result<Tensor> {
        ops::layer_norm_2d(xs, &self.weight, &self.bias, self.epsilon)
    }

    pub(crate) fn describe(&self, trace: &mut Trace) {
        trace.layer_norm(&self.name, &self.weight, &self.bias, self.epsilon);
    }
}

/// A dense layer over the last axis: `weight` (out, in) and, unless it has none, `bias` (out,).
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    name: String,
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Dense {
    pub(crate) fn new(n_in: usize, n_out: usize, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        let bias = vb.get_with_hints(n_out, "bias", init.bias(&[n_out, n_in], 0.0))?;
        Ok(Self { bias: Some(bias), ..Self::without_bias(n_in, n_out, init, vb)? })
    }

    pub(crate) fn without_bias(n_in: usize, n_out: usize, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        let shape = [n_out, n_in];
        let weight = vb.get_with_hints(shape.as_slice(), "weight", init.weight(&shape))?;
        Ok(Self { name: vb.prefix(), weight, bias: None })
    }

    /// (…, in) to (…, out).
    pub(crate) fn forward(&self, xs: &Tensor, activation: Activation) -> Result<Tensor> {
        ops::linear(xs, &self.weight, self.bias.as_ref(), activation)
    }

    /// The weight and the bias.
    fn tensors(&self) -> (&Tensor, Option<&Tensor>) {
        (&self.weight, self.bias.as_ref())
    }

    pub(crate) fn describe(&self, trace: &mut Trace) -> Result<()> {
        trace.linear(&self.name, &self.weight, self.bias.as_ref())
    }
}

/// Two dense layers with GELU between them: `fc1` and `fc2`.
#[derive(Debug, Clone)]
pub(crate) struct FeedForward {
    name: String,
    first: Dense,
    second: Dense,
}

impl FeedForward {
    pub(crate) fn new(channels: usize, hidden: usize, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            name: vb.prefix(),
            first: Dense::new(channels, hidden, init, &vb.pp("fc1"))?,
            second: Dense::new(hidden, channels, init, &vb.pp("fc2"))?,
        })
    }

    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (first, second) = (self.first.tensors(), self.second.tensors());
        ops::feed_forward(xs, first, second, Activation::Gelu)
    }

    pub(crate) fn describe(&self, trace: &mut Trace) -> Result<()> {
        self.first.describe(trace)?;
        trace.activation(format!("{}.act", self.name), Activation::Gelu);
        self.second.describe(trace)
    }
}

/// Checks that so many heads divide the features of a token.
///
/// # Errors
///
/// [`Error::Setting`] for those that don't, and for features or heads that are none.
pub(crate) fn check_heads(model: &'static str, width: usize, heads: usize) -> crate::Result<()> {
    if width == 0 || heads == 0 || !width.is_multiple_of(heads) {
        let found = format!("{heads} heads, {width} features");
        return Err(Error::Setting { model, rule: "heads must divide the features of a token", found });
    }
    Ok(())
}

/// Multi-head attention of tokens to each other: `qkv` and `proj`.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    name: String,
    qkv: Dense,
    proj: Dense,
    heads: usize,
}

impl Attention {
    pub(crate) fn new(channels: usize, heads: usize, init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            name: vb.prefix(),
            qkv: Dense::new(channels, 3 * channels, init, &vb.pp("qkv"))?,
            proj: Dense::new(channels, channels, init, &vb.pp("proj"))?,
            heads,
        })
    }

    /// (B, N, C) to the same shape. `bias` is added to the scores: (G, heads, N, N), where G divides B.
    pub(crate) fn forward(&self, xs: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let qkv = self.qkv.forward(xs, Activation::Identity)?;
        self.proj.forward(&ops::self_attention(&qkv, self.heads, bias)?, Activation::Identity)
    }

    /// `n` tokens attend to each other. `bias` (1, heads, n, n) and `mask` (G, 1, n, n) are added to the scores.
    pub(crate) fn describe(
        &self,
        trace: &mut Trace,
        n: usize,
        bias: Option<Tensor>,
        mask: Option<Tensor>,
    ) -> Result<()> {
        let shape = trace.shape();
        self.qkv.describe(trace)?;
        trace.reshape(shape);
        let (channels, heads) = (self.proj.weight.dim(0)?, self.heads);
        let scale = ((channels / heads) as f64).sqrt().recip();
        let op = Op::SelfAttention { heads, scale, bias, mask };
        // Scores, and sums of values.
        let multiply_adds = (2 * n * shape.count()) as u64;
        trace.keep(&self.name, LayerKind::Other("Attention"), op).multiply_adds = multiply_adds;
        self.proj.describe(trace)
    }
}

/// A factor for each feature: `gamma` (C,).
#[derive(Debug, Clone)]
pub(crate) struct LayerScale {
    name: String,
    gamma: Tensor,
}

impl LayerScale {
    pub(crate) fn new(channels: usize, start: f64, vb: &VarBuilder<'_>) -> Result<Self> {
        let gamma = vb.get_with_hints(channels, "gamma", Distribution::Const(start))?;
        Ok(Self { name: vb.prefix(), gamma })
    }

    /// Over the last axis, (…, C).
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::layer_scale(xs, &self.gamma)
    }

    /// Over the channels of maps (B, C, H, W).
    pub(crate) fn forward_maps(&self, xs: &Tensor) -> Result<Tensor> {
        ops::layer_scale_2d(xs, &self.gamma)
    }

    pub(crate) fn describe(&self, trace: &mut Trace) {
        let op = Op::ChannelAffine { weight: self.gamma.clone(), bias: None };
        trace.keep(&self.name, LayerKind::Other("LayerScale"), op).params = self.gamma.elem_count();
    }
}

/// Stochastic depth (Huang et al. 2016): in training, an example's branch is left out with probability `rate`.
///
/// It keeps no state: which examples are dropped follows from the layer's name and the sum of its input, as for dropout.
#[derive(Debug, Clone)]
pub(crate) struct DropPath {
    name: String,
    rate: f64,
}

impl DropPath {
    pub(crate) fn new(rate: f64, name: impl Into<String>) -> Self {
        Self { name: name.into(), rate }
    }

    /// The rate of the i-th of `n` blocks, rising from 0 to `last`.
    pub(crate) fn rate(last: f64, i: usize, n: usize) -> f64 {
        last * i as f64 / (n.max(2) - 1) as f64
    }

    pub(crate) fn forward(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        if !train || self.rate == 0.0 {
            return Ok(xs.clone());
        }
        ops::drop_path(xs, self.rate, mask_seed(&self.name, xs)?)
    }
}

/// A convolution over patches that don't overlap: `weight` (C, c, p, p) and `bias` (C,).
#[derive(Debug, Clone)]
pub(crate) struct PatchConv {
    name: String,
    weight: Tensor,
    bias: Tensor,
}

impl PatchConv {
    pub(crate) fn new(
        n_in: usize,
        n_out: usize,
        patch: usize,
        init: Init,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let shape = [n_out, n_in, patch, patch];
        let weight = vb.get_with_hints(shape.as_slice(), "weight", init.weight(&shape))?;
        let bias = vb.get_with_hints(n_out, "bias", init.bias(&shape, 0.0))?;
        Ok(Self { name: vb.prefix(), weight, bias })
    }

    fn config(&self) -> Result<Conv2dConfig> {
        let (_, _, height, width) = self.weight.dims4()?;
        Ok(Conv2dConfig { stride: (height, width), ..Conv2dConfig::default() })
    }

    /// (B, c, H, W) to (B, C, H / p, W / p).
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ConvLayer::new(&self.weight, self.config()?).bias(&self.bias).forward(xs)
    }

    /// (B, c, H, W) to tokens (B, N, C).
    pub(crate) fn tokens(&self, xs: &Tensor) -> Result<Tensor> {
        self.forward(xs)?.flatten_from(2)?.transpose(1, 2)?.contiguous()
    }

    pub(crate) fn describe(&self, trace: &mut Trace) -> Result<()> {
        trace.conv(&self.name, &self.weight, Some(&self.bias), &self.config()?)
    }
}

/// Global response normalization of maps (Woo et al. 2023, section 3): `weight` and `bias`, each (C,).
///
/// x + weight · x · n + bias, where n is the channel's norm over the map divided by the mean of all channels' norms.
#[derive(Debug, Clone)]
pub(crate) struct GlobalResponseNorm {
    name: String,
    weight: Tensor,
    bias: Tensor,
}

impl GlobalResponseNorm {
    const EPSILON: f64 = 1e-6;

    pub(crate) fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let zeros = |name| vb.get_with_hints(channels, name, Distribution::Const(0.0));
        Ok(Self { name: vb.prefix(), weight: zeros("weight")?, bias: zeros("bias")? })
    }

    /// (B, C, H, W) to the same shape.
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::global_response_norm_2d(xs, &self.weight, &self.bias, Self::EPSILON)
    }

    pub(crate) fn describe(&self, trace: &mut Trace) {
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        let op = Op::GlobalResponseNorm { weight, bias, epsilon: Self::EPSILON };
        trace.keep(&self.name, LayerKind::Other("GlobalResponseNorm"), op).params =
            2 * self.weight.elem_count();
    }
}
