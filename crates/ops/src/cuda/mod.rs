//! Kernels for float32 on CUDA.
//!
//! An op is a [`Program`](program::Program): buffers, and launches of kernels on them, which follow from shapes alone. A device runs it,
//! and so do tests, by an emulation of the device on the CPU: the same sources, geometries and arguments. Sums are taken in an
//! order that depends on shapes alone, without atomic additions, so a device gives the same bits again.
//!
//! | file | contents |
//! | --- | --- |
//! | `kernels/` | the kernels in CUDA C, one file an op; what they share is in `prelude.cuh` |
//! | `program.rs`, `geometry.rs` | programs, and the grids and blocks of their launches |
//! | `node.rs` | the bridge from programs to candle's custom ops |
//! | `ops/` | the program of each op |
//! | `device.rs` | compiling by NVRTC, the cache of compiled kernels, and running on a device |
//! | `tests/` | running on the CPU, and the tests |

#[cfg(feature = "cuda-kernels")]
pub(crate) mod device;
mod geometry;
mod node;
pub(crate) mod ops;
mod program;
#[cfg(test)]
pub(crate) mod tests;

use candle_core::{DType, Result, Storage, Tensor};

use self::program::Program;

/// Whether all of `tensors` are float32 on a device with these kernels, of sizes that they can index.
fn has_kernels(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32 && fits(tensor)) && on_device(tensors)
}

/// Whether all of `tensors` are on a device with these kernels.
fn on_device(tensors: &[&Tensor]) -> bool {
    #[cfg(test)]
    if tests::emulation::is_on() {
        return tensors.iter().all(|tensor| tensor.device().is_cpu());
    }
    cfg!(feature = "cuda-kernels") && tensors.iter().all(|tensor| tensor.device().is_cuda())
}

/// Whether planes, and the values of each, have 32-bit indices.
fn fits(tensor: &Tensor) -> bool {
    let dims = tensor.dims();
    let (planes, pixels) = dims.split_at(dims.len().saturating_sub(2));
    let small = |dims: &[usize]| dims.iter().product::<usize>() < 1 << 30;
    small(planes) && small(pixels) && tensor.elem_count() > 0
}

/// Runs `program` on contiguous tensors, and returns its outputs.
fn run(program: &Program, inputs: &[&Tensor]) -> Result<Vec<Storage>> {
    #[cfg(test)]
    if tests::emulation::is_on() {
        return tests::emulation::run(program, inputs);
    }
    #[cfg(feature = "cuda-kernels")]
    return device::run(program, inputs);
    #[cfg(not(feature = "cuda-kernels"))]
    candle_core::bail!("firstsight-ops: {} kernels without a device", program.launches().len())
}
