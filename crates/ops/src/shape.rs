//! The shapes of ops' arguments and results, validated once for kernels and reference implementations.

use candle_core::{DType, Shape, Tensor};

use crate::config::{Conv2dConfig, PadCounting, Padding2d, Pool2dConfig};
use crate::error::{Error, Result, checked_count, expect_shape};

/// The shape of a convolution: x (`batch`, `c_in`, `h`, `w`) by weight (`c_out`, `c_in / groups`,
/// `kh`, `kw`) to (`batch`, `c_out`, `oh`, `ow`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ConvShape {
    pub(crate) batch: usize,
    pub(crate) c_in: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c_out: usize,
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) oh: usize,
    pub(crate) ow: usize,
    pub(crate) config: Conv2dConfig,
}

impl ConvShape {
    /// Validates a convolution of an input of shape `x`.
    ///
    /// # Errors
    ///
    /// Shapes or settings that do not fit each other, or sizes that overflow.
    pub(crate) fn new(
        x: &[usize],
        weight: &Tensor,
        bias: Option<&Tensor>,
        config: &Conv2dConfig,
    ) -> Result<Self> {
        let op = "conv2d";
        let [batch, c_in, h, w] = four_dims(op, "x", "(B, C, H, W)", x)?;
        let [c_out, _, kh, kw] = four_dims(op, "weight", "(O, C / groups, kh, kw)", weight.dims())?;
        check_groups(config.groups, c_in, c_out)?;
        expect_shape(op, "weight", weight, &[c_out, c_in / config.groups, kh, kw])?;
        if let Some(bias) = bias {
            expect_shape(op, "bias", bias, &[c_out])?;
        }
        let (oh, ow) = config.output_size((h, w), (kh, kw))?;
        let mut shape = Self { batch, c_in, h, w, c_out, kh, kw, oh, ow, config: *config };
        // A stride beyond the padded input gives one output, as one of its length does. Kernels allocate by the stride.
        let (sh, sw) = config.stride;
        shape.config.stride = (sh.min(shape.padded_h()), sw.min(shape.padded_w()));
        checked_count(op, "the output", &[batch, c_out, oh, ow])?;
        checked_count(op, "the padded input", &[batch, c_in, shape.padded_h(), shape.padded_w()])?;
        checked_count(op, "the unfolded input", &[c_in, kh, kw, oh, ow])?;
        Ok(shape)
    }

    /// Whether each output reads all channels of one pixel, the same as its own.
    pub(crate) fn is_pointwise(&self) -> bool {
        let Conv2dConfig { stride, padding, groups, .. } = self.config;
        (self.kh, self.kw, groups) == (1, 1, 1) && stride == (1, 1) && padding == Padding2d::none()
    }

    /// Number of inputs per sample.
    pub(crate) fn input_sample_len(&self) -> usize {
        self.c_in * self.h * self.w
    }

    /// Number of inputs per sample, padding included.
    pub(crate) fn padded_sample_len(&self) -> usize {
        self.c_in * self.padded_h() * self.padded_w()
    }

    /// Number of outputs per sample.
    pub(crate) fn output_sample_len(&self) -> usize {
        self.c_out * self.oh * self.ow
    }

    /// The shape of the output.
    pub(crate) fn output_dims(&self) -> [usize; 4] {
        [self.batch, self.c_out, self.oh, self.ow]
    }

    /// Number of outputs.
    pub(crate) fn output_len(&self) -> usize {
        self.batch * self.output_sample_len()
    }

    /// Number of values per sample of the output's gradient when dilated by the stride and padded, saturating.
    pub(crate) fn dilated_grad_sample_len(&self) -> usize {
        let (reach_y, reach_x) = self.reach();
        self.c_out.saturating_mul(self.h + reach_y).saturating_mul(self.w + reach_x)
    }

    /// Distance between the first and the last kernel element, down and across.
    pub(crate) fn reach(&self) -> (usize, usize) {
        ((self.kh - 1) * self.config.dilation.0, (self.kw - 1) * self.config.dilation.1)
    }

    /// Whether every offset in a padded sample fits 32 bits.
    pub(crate) fn offsets_fit_u32(&self) -> bool {
        u32::try_from(self.padded_sample_len()).is_ok()
    }

    /// The convolution that computes the gradient of the input from that of the output. For stride 1 and padding of at most
    /// the kernel's reach.
    pub(crate) fn transposed(&self) -> Self {
        let Padding2d { top, bottom, left, right } = self.config.padding;
        let (reach_y, reach_x) = self.reach();
        let padding = Padding2d {
            top: reach_y - top,
            bottom: reach_y - bottom,
            left: reach_x - left,
            right: reach_x - right,
        };
        let config = Conv2dConfig { padding, ..self.config };
        let Self { c_in, h, w, c_out, oh, ow, .. } = *self;
        Self { c_in: c_out, h: oh, w: ow, c_out: c_in, oh: h, ow: w, config, ..*self }
    }

    pub(crate) fn padded_h(&self) -> usize {
        self.h + self.config.padding.top + self.config.padding.bottom
    }

    pub(crate) fn padded_w(&self) -> usize {
        self.w + self.config.padding.left + self.config.padding.right
    }
}

/// Validates a convolution's groups.
///
/// # Errors
///
/// Groups that do not divide the channels in and out.
pub(crate) fn check_groups(groups: usize, c_in: usize, c_out: usize) -> Result<()> {
    if groups == 0 || !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
        let rule = "groups must divide the channels in and out";
        let found = format!("{groups} groups, {c_in} channels in, {c_out} out");
        return Err(Error::Setting { op: "conv2d", rule, found });
    }
    Ok(())
}

/// The shape of a pooling: x (`batch`, `channels`, `h`, `w`) to (`batch`, `channels`, `oh`, `ow`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PoolShape {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) oh: usize,
    pub(crate) ow: usize,
    pub(crate) config: Pool2dConfig,
}

impl PoolShape {
    /// Validates the pooling of an input of shape `x`.
    ///
    /// # Errors
    ///
    /// A window that does not fit the input, or sizes that overflow.
    pub(crate) fn new(x: &[usize], config: &Pool2dConfig) -> Result<Self> {
        let [batch, channels, h, w] = four_dims("pool2d", "x", "(B, C, H, W)", x)?;
        let (oh, ow) = config.output_size((h, w))?;
        let mut config = *config;
        let (sh, sw) = config.stride;
        // As for a convolution.
        config.stride = (sh.min(h + 2 * config.padding.0), sw.min(w + 2 * config.padding.1));
        checked_count("pool2d", "the output", &[batch, channels, oh, ow])?;
        if h.checked_mul(w).is_none_or(|pixels| u32::try_from(pixels).is_err()) {
            return Err(Error::Overflow { op: "pool2d", what: "a map" });
        }
        Ok(Self { batch, channels, h, w, oh, ow, config })
    }

    /// Whether the only window is the whole map.
    pub(crate) fn is_global(&self) -> bool {
        self.config.kernel == (self.h, self.w) && self.config.padding == (0, 0)
    }

    /// Number of outputs per sample.
    pub(crate) fn sample_len(&self) -> usize {
        self.channels * self.oh * self.ow
    }

    /// The rows of the input that output row `oy` reads, as a half-open range.
    pub(crate) fn rows(&self, oy: usize) -> (usize, usize) {
        clipped(oy, self.config.stride.0, self.config.padding.0, self.config.kernel.0, self.h)
    }

    /// The columns of the input that output column `ox` reads, as a half-open range.
    pub(crate) fn cols(&self, ox: usize) -> (usize, usize) {
        clipped(ox, self.config.stride.1, self.config.padding.1, self.config.kernel.1, self.w)
    }

    /// Number of rows of output row `oy`'s window that count for the mean.
    pub(crate) fn counted_rows(&self, oy: usize, counting: PadCounting) -> usize {
        let Pool2dConfig { kernel, stride, padding, .. } = self.config;
        match counting {
            PadCounting::Exclude => self.rows(oy).1 - self.rows(oy).0,
            PadCounting::Include => (oy * stride.0 + kernel.0).min(self.h + 2 * padding.0) - oy * stride.0,
        }
    }

    /// Number of columns of output column `ox`'s window that count for the mean.
    pub(crate) fn counted_cols(&self, ox: usize, counting: PadCounting) -> usize {
        let Pool2dConfig { kernel, stride, padding, .. } = self.config;
        match counting {
            PadCounting::Exclude => self.cols(ox).1 - self.cols(ox).0,
            PadCounting::Include => (ox * stride.1 + kernel.1).min(self.w + 2 * padding.1) - ox * stride.1,
        }
    }
}

fn clipped(index: usize, stride: usize, padding: usize, kernel: usize, size: usize) -> (usize, usize) {
    let start = index * stride;
    (start.saturating_sub(padding), (start + kernel).saturating_sub(padding).min(size))
}

/// The shape of a linear layer: x (`batch`, `n_in`) by weight (`n_out`, `n_in`) to (`batch`, `n_out`). All dimensions of x but the
/// last are the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LinearShape {
    pub(crate) batch: usize,
    pub(crate) n_in: usize,
    pub(crate) n_out: usize,
}

impl LinearShape {
    /// Validates the arguments.
    ///
    /// # Errors
    ///
    /// An x of a rank below 2, weights of another rank, sizes that differ or are 0, or sizes that overflow.
    pub(crate) fn new(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> candle_core::Result<Self> {
        match x.dims() {
            [batch @ .., n_in] if !batch.is_empty() => Self::of(batch.iter().product(), *n_in, weight, bias),
            dims => {
                let (argument, expected) = ("x", "(…, in) of rank 2 or more".to_owned());
                Err(Error::Shape { op: "linear", argument, expected, found: dims.to_vec() }.into())
            }
        }
    }

    /// The shape of the output for `x`.
    pub(crate) fn output(x: &Tensor, n_out: usize) -> Shape {
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = n_out;
        }
        Shape::from(dims)
    }

    /// Validates a layer for an input of shape (`batch`, `n_in`).
    ///
    /// # Errors
    ///
    /// As for [`Self::new`].
    pub(crate) fn of(
        batch: usize,
        n_in: usize,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> candle_core::Result<Self> {
        let (n_out, _) = weight.dims2()?;
        expect_shape("linear", "weight", weight, &[n_out, n_in])?;
        for (argument, dims) in
            [("x", &[batch, n_in][..]), ("weight", weight.dims()), ("the output", &[batch, n_out])]
        {
            checked_count("linear", argument, dims)?;
        }
        if batch == 0 || n_in == 0 || n_out == 0 {
            let found = format!("{batch}, {n_in}, {n_out}");
            let rule = "batch, inputs and outputs must be at least 1";
            return Err(Error::Setting { op: "linear", rule, found }.into());
        }
        if let Some(bias) = bias {
            expect_shape("linear", "bias", bias, &[n_out])?;
        }
        Ok(Self { batch, n_in, n_out })
    }
}

/// Validates the arguments of a cross-entropy with labels, and returns the number of classes.
///
/// # Errors
///
/// Shapes that do not fit each other, labels that are not u32, or (on the CPU) a label that is not a class.
pub(crate) fn check_labels(logits: &Tensor, labels: &Tensor) -> candle_core::Result<usize> {
    let op = "softmax_cross_entropy";
    let (batch, n_classes) = logits.dims2()?;
    expect_shape(op, "labels", labels, &[batch])?;
    if labels.dtype() != DType::U32 {
        let found = labels.dtype().as_str().to_owned();
        return Err(Error::Setting { op, rule: "labels must be u32", found }.into());
    }
    check_logits(op, batch, n_classes)?;
    if labels.device().is_cpu()
        && let Some((example, label)) =
            labels.to_vec1::<u32>()?.into_iter().enumerate().find(|&(_, label)| label as usize >= n_classes)
    {
        return Err(Error::Label { op, label, example, n_classes }.into());
    }
    Ok(n_classes)
}

/// Validates the arguments of a cross-entropy with target probabilities, and returns the number of classes.
///
/// # Errors
///
/// Shapes that differ.
pub(crate) fn check_targets(logits: &Tensor, targets: &Tensor) -> candle_core::Result<usize> {
    let op = "soft_cross_entropy";
    let (batch, n_classes) = logits.dims2()?;
    expect_shape(op, "targets", targets, &[batch, n_classes])?;
    check_logits(op, batch, n_classes)?;
    Ok(n_classes)
}

fn check_logits(op: &'static str, batch: usize, n_classes: usize) -> Result<()> {
    if checked_count(op, "logits", &[batch, n_classes])? == 0 {
        let found = format!("{batch}, {n_classes}");
        return Err(Error::Setting { op, rule: "examples and classes must be at least 1", found });
    }
    Ok(())
}

/// The sizes of a rank-4 tensor, each at least 1, of a size that memory could hold (a view may be
/// larger).
fn four_dims(op: &'static str, argument: &'static str, expected: &str, x: &[usize]) -> Result<[usize; 4]> {
    match *x {
        [a, b, c, d] if a > 0 && b > 0 && c > 0 && d > 0 => {
            checked_count(op, argument, x)?;
            Ok([a, b, c, d])
        }
        _ => Err(Error::Shape {
            op,
            argument,
            expected: format!("{expected}, all at least 1"),
            found: x.to_vec(),
        }),
    }
}

/// The shape of a normalization along one dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NormShape {
    /// The dimension whose values are normalized together.
    pub(crate) dim: usize,
    /// Number of values along it.
    pub(crate) features: usize,
    /// Number of values of x.
    pub(crate) count: usize,
}

impl NormShape {
    /// Validates a normalization of `x` (…, C) with `weight` and `bias` (C,).
    ///
    /// # Errors
    ///
    /// Shapes that do not fit, or an epsilon below 0.
    pub(crate) fn over_last(
        op: &'static str,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        epsilon: f64,
    ) -> Result<Self> {
        if x.rank() < 2 {
            let (argument, expected) = ("x", "(…, C) of rank 2 or more".to_owned());
            return Err(Error::Shape { op, argument, expected, found: x.dims().to_vec() });
        }
        Self::new(op, x, x.rank() - 1, [weight, bias], epsilon)
    }

    /// Validates a normalization of `x` (B, C, H, W) with `weight` and `bias` (C,).
    ///
    /// # Errors
    ///
    /// As for [`Self::over_last`].
    pub(crate) fn over_channels(
        op: &'static str,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        epsilon: f64,
    ) -> Result<Self> {
        four_dims(op, "x", "(B, C, H, W)", x.dims())?;
        Self::new(op, x, 1, [weight, bias], epsilon)
    }

    fn new(
        op: &'static str,
        x: &Tensor,
        dim: usize,
        [weight, bias]: [&Tensor; 2],
        epsilon: f64,
    ) -> Result<Self> {
        let features = x.dims()[dim];
        expect_shape(op, "weight", weight, &[features])?;
        expect_shape(op, "bias", bias, &[features])?;
        let count = checked_count(op, "x", x.dims())?;
        if count == 0 {
            let found = format!("x of shape {:?}", x.dims());
            return Err(Error::Setting { op, rule: "x must hold at least one value", found });
        }
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return Err(Error::Setting {
                op,
                rule: "epsilon must be at least 0",
                found: epsilon.to_string(),
            });
        }
        Ok(Self { dim, features, count })
    }
}

/// Validates the argument of a softmax over the last dimension, and returns the size of that.
///
/// # Errors
///
/// A scalar, or no values.
pub(crate) fn check_softmax(x: &Tensor) -> Result<usize> {
    let op = "softmax";
    match x.dims().last() {
        Some(&size) if checked_count(op, "x", x.dims())? > 0 => Ok(size),
        _ => {
            let expected = "(…, K), all at least 1".to_owned();
            Err(Error::Shape { op, argument: "x", expected, found: x.dims().to_vec() })
        }
    }
}

/// The shape of an attention: q (`batch`, `heads`, `queries`, `dim`), k (`batch`, `heads`, `keys`, `dim`), v (`batch`,
/// `heads`, `keys`, `out_dim`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AttentionShape {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) dim: usize,
    pub(crate) out_dim: usize,
}

impl AttentionShape {
    /// Validates the arguments.
    ///
    /// # Errors
    ///
    /// Shapes that do not fit each other.
    pub(crate) fn new(q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let op = "attention";
        let [batch, heads, queries, dim] = four_dims(op, "q", "(B, heads, N, d)", q.dims())?;
        let [_, _, keys, _] = four_dims(op, "k", "(B, heads, M, d)", k.dims())?;
        let [_, _, _, out_dim] = four_dims(op, "v", "(B, heads, M, e)", v.dims())?;
        expect_shape(op, "k", k, &[batch, heads, keys, dim])?;
        expect_shape(op, "v", v, &[batch, heads, keys, out_dim])?;
        let shape = Self { batch, heads, queries, keys, dim, out_dim };
        checked_count(op, "the output", &[batch, heads, queries, out_dim])?;
        checked_count(op, "the scores", &[batch, heads, queries, keys])?;
        shape.check_bias(op, bias)?;
        Ok(shape)
    }

    fn check_bias(&self, op: &'static str, bias: Option<&Tensor>) -> Result<()> {
        let Self { batch, heads, queries, keys, .. } = *self;
        let Some(bias) = bias else { return Ok(()) };
        match *bias.dims() {
            [groups, of_heads, n, m]
                if groups > 0
                    && batch.is_multiple_of(groups)
                    && (of_heads == heads || of_heads == 1)
                    && (n, m) == (queries, keys) =>
            {
                Ok(())
            }
            _ => Err(Error::Shape {
                op,
                argument: "bias",
                expected: format!("(a divisor of {batch}, {heads} or 1, {queries}, {keys})"),
                found: bias.dims().to_vec(),
            }),
        }
    }
}

/// The shape of an attention of tokens to each other: qkv (`batch`, `tokens`, 3·heads·`dim`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SelfAttentionShape {
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    pub(crate) dim: usize,
}

impl SelfAttentionShape {
    /// Validates the arguments.
    ///
    /// # Errors
    ///
    /// Shapes that do not fit each other.
    pub(crate) fn new(qkv: &Tensor, heads: usize, bias: Option<&Tensor>) -> Result<Self> {
        let op = "self_attention";
        match *qkv.dims() {
            [batch, tokens, features]
                if batch * tokens * features * heads > 0 && features.is_multiple_of(3 * heads) =>
            {
                let dim = features / (3 * heads);
                checked_count(op, "qkv", qkv.dims())?;
                checked_count(op, "the scores", &[batch, heads, tokens, tokens])?;
                let scores =
                    AttentionShape { batch, heads, queries: tokens, keys: tokens, dim, out_dim: dim };
                scores.check_bias(op, bias)?;
                Ok(Self { batch, tokens, dim })
            }
            _ => Err(Error::Shape {
                op,
                argument: "qkv",
                expected: format!("(B, N, a multiple of 3 × {heads} heads), all at least 1"),
                found: qkv.dims().to_vec(),
            }),
        }
    }
}
