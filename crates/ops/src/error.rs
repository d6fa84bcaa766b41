use candle_core::Tensor;

/// What an op refuses, and the values it found. Reaches the caller wrapped in a [`candle_core::Error`].
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
        /// The shape that fits.
        expected: String,
        /// The shape given.
        found: Vec<usize>,
    },
    /// A setting outside its range.
    #[error("{op}: {rule}, found {found}")]
    Setting {
        /// The operation.
        op: &'static str,
        /// What must hold.
        rule: &'static str,
        /// The value given.
        found: String,
    },
    /// A window that does not fit into the padded input.
    #[error("{op}: a window of {window} (dilation included) does not fit into {padded} padded pixels")]
    WindowTooLarge {
        /// The operation.
        op: &'static str,
        /// Extent of the window, in pixels.
        window: usize,
        /// Extent of the input with its padding, in pixels.
        padded: usize,
    },
    /// Sizes whose product is no valid tensor size.
    #[error("{op}: {what} has more elements than memory can hold")]
    Overflow {
        /// The operation.
        op: &'static str,
        /// The tensor or buffer that would be too large.
        what: &'static str,
    },
    /// A label that is no class.
    #[error("{op}: label {label} of example {example} is not below the number of classes, {n_classes}")]
    Label {
        /// The operation.
        op: &'static str,
        /// The label.
        label: u32,
        /// Its place in the batch.
        example: usize,
        /// Number of classes.
        n_classes: usize,
    },
    /// Two arguments of an in-place step that share memory.
    #[error("{op}: {first} and {second} must not share memory")]
    Aliased {
        /// The operation.
        op: &'static str,
        /// One argument.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        Self::wrap(error)
    }
}

/// The result of the crate's own checks.
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

/// The product of `sizes`, if a float64 tensor of so many elements can be addressed.
pub(crate) fn checked_count(op: &'static str, what: &'static str, sizes: &[usize]) -> Result<usize> {
    sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .filter(|&count| count <= isize::MAX as usize / 8)
        .ok_or(Error::Overflow { op, what })
}
