//! The checked shapes of an op's arguments and result, shared by the portable path and the kernels.

use candle_core::Tensor;

use crate::config::{Conv2dConfig, Pool2dConfig};
use crate::error::{Error, Result, checked_count, expect_shape};

/// Shape of a convolution: x (`batch`, `c_in`, `h`, `w`) by weight (`c_out`, `c_in / groups`, `kh`, `kw`) to
/// (`batch`, `c_out`, `oh`, `ow`).
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
    pub(crate) fn new(
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        config: &Conv2dConfig,
    ) -> Result<Self> {
        Self::of(x.dims(), weight, bias, config)
    }

    /// For an input of shape `x`.
    pub(crate) fn of(
        x: &[usize],
        weight: &Tensor,
        bias: Option<&Tensor>,
        config: &Conv2dConfig,
    ) -> Result<Self> {
        let op = "conv2d";
        let [batch, c_in, h, w] = four_dims(op, "x", "(B, C, H, W)", x)?;
        let [c_out, _, kh, kw] = four_dims(op, "weight", "(O, C / groups, kh, kw)", weight.dims())?;
        let groups = config.groups;
        if groups == 0 || !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
            return Err(Error::Setting {
                op,
                rule: "groups must divide the channels in and out",
                found: format!("{groups} groups, {c_in} channels in, {c_out} out"),
            });
        }
        expect_shape(op, "weight", weight, &[c_out, c_in / groups, kh, kw])?;
        if let Some(bias) = bias {
            expect_shape(op, "bias", bias, &[c_out])?;
        }
        let (oh, ow) = config.output_size((h, w), (kh, kw))?;
        let shape = Self { batch, c_in, h, w, c_out, kh, kw, oh, ow, config: *config };
        checked_count(op, "the output", &[batch, c_out, oh, ow])?;
        checked_count(op, "the padded input", &[batch, c_in, shape.padded_h(), shape.padded_w()])?;
        checked_count(op, "the unfolded input", &[c_in, kh, kw, oh, ow])?;
        Ok(shape)
    }

    /// Values of the result.
    pub(crate) fn output_len(&self) -> usize {
        self.batch * self.c_out * self.oh * self.ow
    }

    pub(crate) fn padded_h(&self) -> usize {
        self.h + self.config.padding.top + self.config.padding.bottom
    }

    pub(crate) fn padded_w(&self) -> usize {
        self.w + self.config.padding.left + self.config.padding.right
    }
}

/// Shape of a pooling: x (`batch`, `channels`, `h`, `w`) to (`batch`, `channels`, `oh`, `ow`).
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
    pub(crate) fn new(x: &Tensor, config: &Pool2dConfig) -> Result<Self> {
        Self::of_dims(x.dims(), config)
    }

    /// The pooling of an input of this shape.
    pub(crate) fn of_dims(x: &[usize], config: &Pool2dConfig) -> Result<Self> {
        let [batch, channels, h, w] = four_dims("pool2d", "x", "(B, C, H, W)", x)?;
        Self::of_map(batch, channels, (h, w), config)
    }

    /// The pooling of the map that a convolution gives.
    pub(crate) fn after(conv: &ConvShape, config: &Pool2dConfig) -> Result<Self> {
        Self::of_map(conv.batch, conv.c_out, (conv.oh, conv.ow), config)
    }

    fn of_map(batch: usize, channels: usize, (h, w): (usize, usize), config: &Pool2dConfig) -> Result<Self> {
        let (oh, ow) = config.output_size((h, w))?;
        checked_count("pool2d", "the output", &[batch, channels, oh, ow])?;
        if h.checked_mul(w).is_none_or(|pixels| u32::try_from(pixels).is_err()) {
            return Err(Error::Overflow { op: "pool2d", what: "a map" });
        }
        Ok(Self { batch, channels, h, w, oh, ow, config: *config })
    }

    /// Values of the result for one sample.
    pub(crate) fn sample_len(&self) -> usize {
        self.channels * self.oh * self.ow
    }

    /// The rows of the input that output row `oy` looks at, as a half-open range.
    pub(crate) fn rows(&self, oy: usize) -> (usize, usize) {
        clipped(oy, self.config.stride.0, self.config.padding.0, self.config.kernel.0, self.h)
    }

    /// The columns of the input that output column `ox` looks at, as a half-open range.
    pub(crate) fn cols(&self, ox: usize) -> (usize, usize) {
        clipped(ox, self.config.stride.1, self.config.padding.1, self.config.kernel.1, self.w)
    }
}

fn clipped(index: usize, stride: usize, padding: usize, kernel: usize, size: usize) -> (usize, usize) {
    let start = index * stride;
    (start.saturating_sub(padding), (start + kernel).saturating_sub(padding).min(size))
}

/// The sizes of a rank-4 tensor, none of them 0, that memory could hold (a view may be larger).
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
