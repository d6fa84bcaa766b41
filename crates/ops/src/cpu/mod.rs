//! Kernels for float32 on the CPU.
//!
//! Work is split into tasks that depend on shapes alone, or whose number does not affect a sum, and partial sums are added in
//! order. So results are the same bits for any number of threads.
//!
//! | file | contents |
//! | --- | --- |
//! | `plan.rs` | the choice of an algorithm for every convolution |
//! | `conv/block/` | convolution, batch normalization and activation: [forward](conv::block), backward, inference, and a pointwise and a depthwise layer by parts |
//! | `conv/dense.rs` | dense convolutions and the gradient of their input, by the planned algorithm |
//! | `conv/implicit_gemm.rs`, `conv/col2im.rs` | convolution as a matrix product, and the gradients of input and weights |
//! | `conv/winograd.rs` | 3 × 3 and 5 × 5 convolution with fewer multiplications |
//! | `conv/depthwise.rs`, `conv/depthwise_rows.rs`, `conv/depthwise_phases.rs` | depthwise convolution, forward and backward |
//! | `conv/max_pool/` | convolution with max pooling as one op, forward and backward |
//! | `conv/avg_pool.rs`, `conv/batch_lanes.rs` | convolution with average pooling as one op, one sample per vector lane |
//! | `conv/epilogue.rs`, `conv/padded_input.rs` | inputs of convolutions: normalization applied while reading, padding |
//! | `gemm/` | matrix products: packing, microkernel, tasks, reductions over pixels, few rows |
//! | `pool.rs` | max and average pooling, forward and backward |
//! | `attention/` | attention by head, with the scores of a few queries at a time, forward and backward |
//! | `norm.rs`, `layer_norm.rs`, `response_norm.rs` | layer and global response normalization, forward and backward |
//! | `softmax.rs`, `scale.rs` | softmax of rows, factors per channel, forward and backward |
//! | `batch_norm.rs`, `elementwise.rs` | loops over the values of a channel or tensor |
//! | `simd/` | vector instructions, chosen at run time |
//! | `memory/` | reused buffers, shared planes, tasks of threads |

pub(crate) mod attention;
pub(crate) mod batch_norm;
pub(crate) mod conv;
pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod layer_norm;
pub(crate) mod memory;
pub(crate) mod norm;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod response_norm;
pub(crate) mod scale;
pub(crate) mod simd;
pub(crate) mod softmax;

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, Layout, Result, Shape, Storage, Tensor};

use crate::elsewhere::is_emulated;

/// Whether all of `tensors` are float32 on the CPU, which kernels require.
pub(crate) fn has_kernels(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32) && !is_emulated()
}

/// A contiguous bias of `len` outputs; zeros if there is none.
pub(crate) fn bias(bias: Option<&Tensor>, len: usize) -> Result<Tensor> {
    match bias {
        Some(bias) => bias.contiguous(),
        None => Tensor::zeros(len, DType::F32, &Device::Cpu),
    }
}

/// The values of a contiguous float32 storage.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => Err(candle_core::Error::RequiresContiguous { op: "firstsight-ops" }.bt()),
    }
}

/// The storage of a tensor on the CPU.
pub(crate) fn storage(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => candle_core::bail!("firstsight-ops: expected a tensor on the CPU, found another device"),
    }
}

/// A tensor's storage, locked for reading.
pub(crate) struct Data<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    layout: &'a Layout,
}

impl Data<'_> {
    /// The values of a contiguous float32 tensor on the CPU.
    pub(crate) fn slice(&self) -> Result<&[f32]> {
        slice(storage(&self.storage)?, self.layout)
    }
}

/// Locks a tensor's storage for reading.
pub(crate) fn data(tensor: &Tensor) -> Data<'_> {
    let (storage, layout) = tensor.storage_and_layout();
    Data { storage: Box::new(storage), layout }
}

/// The address of a float32 tensor's storage on the CPU, which is equal for tensors that share it.
pub(crate) fn storage_start(tensor: &Tensor) -> Result<*const f32> {
    Ok(storage(&tensor.storage_and_layout().0)?.as_slice::<f32>()?.as_ptr())
}

/// A tensor on the CPU from `values`.
pub(crate) fn tensor(values: Vec<f32>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Gradients of the arguments of an op on x, a weight and a bias.
#[derive(Debug, Default)]
pub(crate) struct WeightedGrads {
    pub(crate) x: Option<Vec<f32>>,
    pub(crate) weight: Option<Vec<f32>>,
    pub(crate) bias: Option<Vec<f32>>,
}
