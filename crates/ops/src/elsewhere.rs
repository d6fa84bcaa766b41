//! The ops where the CPU's kernels don't apply, on other devices and for other dtypes: the one place that chooses between the
//! kernels of a device and the reference implementations.

use candle_core::{Result, Tensor};

#[cfg(any(test, feature = "cuda-kernels"))]
pub(crate) use crate::cuda::ops::*;
#[cfg(not(any(test, feature = "cuda-kernels")))]
pub(crate) use crate::reference::*;
use crate::shape::LinearShape;

/// Whether tests run the kernels of a device on the CPU, in this thread.
pub(crate) fn is_emulated() -> bool {
    #[cfg(test)]
    return crate::cuda::tests::emulation::is_on();
    #[cfg(not(test))]
    false
}

/// `layer`, which takes (R, in) to (R, out), on `x` (…, in): (…, out).
pub(crate) fn by_rows(x: &Tensor, layer: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if x.rank() <= 2 {
        return layer(x);
    }
    let y = layer(&x.flatten_to(x.rank() - 2)?)?;
    y.reshape(LinearShape::output(x, y.dim(1)?))
}
