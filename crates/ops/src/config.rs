//! Settings of convolution, pooling and activation, and the sizes of outputs.

use crate::error::{Error, Result, checked_count};

/// An activation function, which ops apply in the same pass as their own arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Activation {
    /// x
    #[default]
    Identity,
    /// max(x, 0). The gradient at 0 is 0, as in PyTorch and Keras (1 in candle).
    Relu,
    /// min(max(x, 0), 6). The gradient at 0 and at 6 is 0.
    Relu6,
    /// tanh(x)
    Tanh,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// min(max(x + 3, 0), 6) / 6, as in PyTorch. The gradient at −3 and at 3 is 0.
    HardSigmoid,
    /// x·sigmoid(x) (Hendrycks and Gimpel 2016), also called swish (Ramachandran et al. 2017).
    Silu,
    /// x·hard_sigmoid(x) (Howard et al. 2019). The gradient at −3 is 0, at 3 it is 1.
    HardSwish,
    /// x·Φ(x), where Φ is the distribution function of the normal distribution (Hendrycks and Gimpel 2016).
    Gelu,
    /// x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2, an approximation of [`Activation::Gelu`] (the same paper).
    GeluTanh,
    /// x where x > 0, else `negative_slope`·x. The slope is at least 0; the default is 0.2 in Keras and 0.01 in
    /// PyTorch.
    LeakyRelu(f64),
}

impl Activation {
    pub(crate) fn check(self, op: &'static str) -> Result<()> {
        match self {
            // With a negative slope, the sign of the output would not determine the sign of the input.
            Self::LeakyRelu(slope) if !(slope >= 0.0 && slope.is_finite()) => Err(Error::Setting {
                op,
                rule: "a leaky ReLU's slope must be at least 0",
                found: slope.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether the function never decreases. Then its output determines its derivative.
    pub(crate) fn is_monotonic(self) -> bool {
        !matches!(self, Self::Silu | Self::HardSwish | Self::Gelu | Self::GeluTanh)
    }
}

/// Zero padding of a map, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Padding2d {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding2d {
    /// No padding ("valid").
    pub const fn none() -> Self {
        Self::symmetric(0, 0)
    }

    /// `height` rows above and below, `width` columns left and right.
    pub const fn symmetric(height: usize, width: usize) -> Self {
        Self { top: height, bottom: height, left: width, right: width }
    }

    /// TensorFlow's "same" padding, which gives ⌈input / stride⌉ outputs for an input of `size`. The odd pixel is at the
    /// bottom and right. Pairs are (height, width).
    ///
    /// ```
    /// use firstsight_ops::Padding2d;
    /// // Keras's "same" and PyTorch's padding=1 differ for stride 2 and even sizes.
    /// let same = Padding2d::same((224, 224), (3, 3), (2, 2), (1, 1));
    /// assert_eq!(same, Padding2d { top: 0, bottom: 1, left: 0, right: 1 });
    /// ```
    pub const fn same(
        size: (usize, usize),
        kernel: (usize, usize),
        stride: (usize, usize),
        dilation: (usize, usize),
    ) -> Self {
        const fn total(size: usize, kernel: usize, stride: usize, dilation: usize) -> usize {
            let stride = if stride == 0 { 1 } else { stride };
            let window = kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1);
            let covered =
                size.div_ceil(stride).saturating_sub(1).saturating_mul(stride).saturating_add(window);
            covered.saturating_sub(size)
        }
        let rows = total(size.0, kernel.0, stride.0, dilation.0);
        let cols = total(size.1, kernel.1, stride.1, dilation.1);
        Self { top: rows / 2, bottom: rows - rows / 2, left: cols / 2, right: cols - cols / 2 }
    }
}

/// A padding rule, as networks' tables state it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// No padding.
    Valid,
    /// TensorFlow's "same" ([`Padding2d::same`]).
    Same,
    /// So many pixels on every side, as in PyTorch.
    Symmetric(usize),
}

impl Padding {
    /// The pixels of padding for an input of `size`. Pairs are (height, width).
    pub const fn resolve(
        self,
        size: (usize, usize),
        kernel: (usize, usize),
        stride: (usize, usize),
        dilation: (usize, usize),
    ) -> Padding2d {
        match self {
            Self::Valid => Padding2d::none(),
            Self::Same => Padding2d::same(size, kernel, stride, dilation),
            Self::Symmetric(pixels) => Padding2d::symmetric(pixels, pixels),
        }
    }
}

/// Settings of a convolution. Pairs are (height, width).
///
/// The default is stride 1, no padding, no dilation, one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv2dConfig {
    /// Distance between windows, at least 1.
    pub stride: (usize, usize),
    /// Zeros around the input.
    pub padding: Padding2d,
    /// Distance between kernel elements, at least 1.
    pub dilation: (usize, usize),
    /// Number of independent groups of channels, at least 1. With as many as input channels, the convolution is depthwise.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { stride: (1, 1), padding: Padding2d::none(), dilation: (1, 1), groups: 1 }
    }
}

/// Candle's square settings.
impl From<candle_nn::Conv2dConfig> for Conv2dConfig {
    fn from(config: candle_nn::Conv2dConfig) -> Self {
        let candle_nn::Conv2dConfig { padding, stride, dilation, groups, .. } = config;
        Self {
            stride: (stride, stride),
            padding: Padding2d::symmetric(padding, padding),
            dilation: (dilation, dilation),
            groups,
        }
    }
}

impl Conv2dConfig {
    /// Height and width of the output: ⌊(size + padding − dilation·(kernel − 1) − 1) / stride⌋ + 1.
    ///
    /// # Errors
    ///
    /// A zero stride, dilation or kernel, or a window larger than the padded input.
    pub fn output_size(&self, size: (usize, usize), kernel: (usize, usize)) -> Result<(usize, usize)> {
        let Padding2d { top, bottom, left, right } = self.padding;
        let rows = Axis {
            op: "conv2d",
            size: size.0,
            before: top,
            after: bottom,
            kernel: kernel.0,
            stride: self.stride.0,
            dilation: self.dilation.0,
        };
        let cols = Axis {
            op: "conv2d",
            size: size.1,
            before: left,
            after: right,
            kernel: kernel.1,
            stride: self.stride.1,
            dilation: self.dilation.1,
        };
        Ok((rows.output_size(Rounding::Floor)?, cols.output_size(Rounding::Floor)?))
    }
}

/// The treatment of a last window that extends past the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// The window is dropped.
    Floor,
    /// The window counts if it starts inside the input or the padding before it, as with PyTorch's `ceil_mode`.
    Ceil,
}

/// Settings of a pooling. Pairs are (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pool2dConfig {
    /// Size of the window, at least 1.
    pub kernel: (usize, usize),
    /// Distance between windows, at least 1.
    pub stride: (usize, usize),
    /// Padding on each side, less than the kernel.
    pub padding: (usize, usize),
    /// Whether windows may extend past the bottom and right edge.
    pub rounding: Rounding,
}

impl Pool2dConfig {
    /// Adjacent square windows without padding, the default of Keras and PyTorch.
    pub const fn square(size: usize) -> Self {
        Self { kernel: (size, size), stride: (size, size), padding: (0, 0), rounding: Rounding::Floor }
    }

    /// Height and width of the output, as PyTorch computes them.
    ///
    /// # Errors
    ///
    /// A zero kernel or stride, padding as large as the kernel, or a window larger than the padded input.
    pub fn output_size(&self, size: (usize, usize)) -> Result<(usize, usize)> {
        let axis = |size, padding, kernel, stride| {
            if padding >= kernel {
                return Err(Error::Setting {
                    op: "pool2d",
                    rule: "padding must be less than the kernel",
                    found: format!("padding {padding}, kernel {kernel}"),
                });
            }
            Axis { op: "pool2d", size, before: padding, after: padding, kernel, stride, dilation: 1 }
                .output_size(self.rounding)
        };
        Ok((
            axis(size.0, self.padding.0, self.kernel.0, self.stride.0)?,
            axis(size.1, self.padding.1, self.kernel.1, self.stride.1)?,
        ))
    }
}

/// The pixels that average pooling counts in a window that reaches into the padding (PyTorch's `count_include_pad`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PadCounting {
    /// Pixels of the input and its padding: the default of PyTorch.
    Include,
    /// Pixels of the input: Keras and TensorFlow.
    Exclude,
}

/// One axis of a sliding window.
struct Axis {
    op: &'static str,
    size: usize,
    before: usize,
    after: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
}

impl Axis {
    fn output_size(&self, rounding: Rounding) -> Result<usize> {
        let &Self { op, size, before, after, kernel, stride, dilation } = self;
        if size == 0 || kernel == 0 || stride == 0 || dilation == 0 {
            return Err(Error::Setting {
                op,
                rule: "size, kernel, stride and dilation must be at least 1",
                found: format!("size {size}, kernel {kernel}, stride {stride}, dilation {dilation}"),
            });
        }
        let overflow = Error::Overflow { op, what: "the padded input" };
        let padded = size.checked_add(before).and_then(|s| s.checked_add(after)).ok_or(overflow)?;
        let window = checked_count(op, "the window", &[kernel - 1, dilation])? + 1;
        if window > padded {
            return Err(Error::WindowTooLarge { op, window, padded });
        }
        let free = padded - window;
        let mut output = free / stride + 1;
        if rounding == Rounding::Ceil && !free.is_multiple_of(stride) && output * stride < size + before {
            output += 1;
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_gives_the_ceiling() {
        for size in 1..20 {
            for kernel in 1..6 {
                for stride in 1..4 {
                    for dilation in 1..3 {
                        let padding = Padding2d::same(
                            (size, size),
                            (kernel, kernel),
                            (stride, stride),
                            (dilation, dilation),
                        );
                        let config = Conv2dConfig {
                            stride: (stride, stride),
                            padding,
                            dilation: (dilation, dilation),
                            groups: 1,
                        };
                        let output = config.output_size((size, size), (kernel, kernel)).unwrap();
                        assert_eq!(output, (size.div_ceil(stride), size.div_ceil(stride)));
                        assert!(padding.bottom == padding.top || padding.bottom == padding.top + 1);
                    }
                }
            }
        }
    }

    #[test]
    fn refusals_name_the_values() {
        let config = Conv2dConfig { stride: (0, 1), ..Default::default() };
        assert!(config.output_size((5, 5), (3, 3)).unwrap_err().to_string().contains("stride 0"));
        let error = Conv2dConfig::default().output_size((2, 5), (3, 3)).unwrap_err();
        assert_eq!(error, Error::WindowTooLarge { op: "conv2d", window: 3, padded: 2 });
        let config = Conv2dConfig { dilation: (usize::MAX, 1), ..Default::default() };
        assert!(matches!(config.output_size((5, 5), (3, 3)), Err(Error::Overflow { .. })));
        let config = Conv2dConfig { padding: Padding2d::symmetric(usize::MAX, 0), ..Default::default() };
        assert!(matches!(config.output_size((5, 5), (3, 3)), Err(Error::Overflow { .. })));
        let pool = Pool2dConfig { padding: (2, 0), ..Pool2dConfig::square(2) };
        assert!(pool.output_size((5, 5)).unwrap_err().to_string().contains("padding 2, kernel 2"));
    }
}
