//! Errors of the ops.

use candle_core::Tensor;

/// Invalid arguments of an op. Callers get it wrapped in a [`candle_core::Error`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument of the wrong shape.
    #[error("{op}: {argument} must have shape {expected}, found {found:?}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The argument's name.
        argument: &'static str,
        /// The expected shape.
        expected: String,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A setting outside its range.
    #[error("{op}: {rule}, found {found}")]
    Setting {
        /// The operation.
        op: &'static str,
        /// The rule that the value breaks.
        rule: &'static str,
        /// The value found.
        found: String,
    },
    /// A window that is larger than the padded input.
    #[error("{op}: a window of {window} (dilation included) does not fit into {padded} padded pixels")]
    WindowTooLarge {
        /// The operation.
        op: &'static str,
        /// Extent of the window, in pixels.
        window: usize,
        /// Extent of the input with its padding, in pixels.
        padded: usize,
    },
    /// Sizes whose product is not a valid tensor size.
    #[error("{op}: {what} has more elements than memory can hold")]
    Overflow {
        /// The operation.
        op: &'static str,
        /// The tensor or buffer that would be too large.
        what: &'static str,
    },
    /// A label that is not a class.
    #[error("{op}: label {label} of example {example} is not below the number of classes, {n_classes}")]
    Label {
        /// The operation.
        op: &'static str,
        /// The label found.
        label: u32,
        /// Index of the example in the batch.
        example: usize,
        /// Number of classes.
        n_classes: usize,
    },
    /// Two arguments of an in-place op that share memory.
    #[error("{op}: {first} and {second} must not share memory")]
    Aliased {
        /// The operation.
        op: &'static str,
        /// The first argument.
        first: &'static str,
        /// The second argument.
        second: &'static str,
    },
    /// A backward pass through a result that was computed without gradients.
    #[error("{op}: no backward pass through a result that was computed without gradients")]
    NotTracked {
        /// The operation.
        op: &'static str,
    },
    /// A second backward pass through a block after [`crate::backward`].
    #[error(
        "{op}: firstsight_ops::backward is the last pass over a graph, since it frees what blocks save; found \
         another pass after it"
    )]
    Freed {
        /// The operation.
        op: &'static str,
    },
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        Self::wrap(error)
    }
}

/// The result of this crate's own checks.
pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(crate) fn expect_shape(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
    expected: &[usize],
) -> Result<()> {
    if tensor.dims() == expected {
        Ok(())
    } else {
        Err(Error::Shape { op, argument, expected: format!("{expected:?}"), found: tensor.dims().to_vec() })
    }
}

/// The product of `sizes`, if a float64 tensor of so many elements is addressable.
pub(crate) fn checked_count(op: &'static str, what: &'static str, sizes: &[usize]) -> Result<usize> {
    sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .filter(|&count| count <= isize::MAX as usize / 8)
        .ok_or(Error::Overflow { op, what })
}
