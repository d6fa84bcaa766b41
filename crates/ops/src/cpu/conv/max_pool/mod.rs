//! A convolution with bias, max pooling and activation as one op, forward and backward.

mod backward;
mod forward;

pub(crate) use self::backward::Backward;
pub(crate) use self::forward::{Forward, window_offsets};
