//! The ops where the CPU's kernels don't apply, on other devices and for other dtypes: the one place that chooses between the
//! kernels of a device and the reference implementations.

#[cfg(any(test, feature = "cuda-kernels"))]
pub(crate) use crate::cuda::ops::*;
#[cfg(not(any(test, feature = "cuda-kernels")))]
pub(crate) use crate::reference::*;

/// Whether tests run the kernels of a device on the CPU, in this thread.
pub(crate) fn is_emulated() -> bool {
    #[cfg(test)]
    return crate::cuda::tests::emulation::is_on();
    #[cfg(not(test))]
    false
}
