//! Kernels for float32 on the CPU.
//!
//! Work is split into pieces that depend on the shapes alone, and sums over pieces are taken in their order, so the
//! number of threads never shows in a result.

pub(crate) mod buffer;
pub(crate) mod conv_avg;
pub(crate) mod conv_direct;
pub(crate) mod conv_product;
pub(crate) mod conv_sparse;
pub(crate) mod conv_unfolded;
pub(crate) mod depthwise;
pub(crate) mod depthwise_rows;
pub(crate) mod dots;
pub(crate) mod elementwise;
pub(crate) mod lanes;
pub(crate) mod norm;
pub(crate) mod planes;
pub(crate) mod pool;
pub(crate) mod product;
pub(crate) mod scratch;
pub(crate) mod simd;
pub(crate) mod source;
pub(crate) mod stage;
pub(crate) mod threads;
pub(crate) mod winograd;

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, Layout, Result, Shape, Storage, Tensor};

/// Whether there are kernels for all of `tensors`.
pub(crate) fn has_kernels(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32)
}

/// The bias of `len` outputs, contiguous; zeros where there is none.
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

/// A tensor's storage, locked for reading.
pub(crate) struct Data<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    layout: &'a Layout,
}

impl Data<'_> {
    /// The values of a contiguous float32 tensor on the CPU.
    pub(crate) fn slice(&self) -> Result<&[f32]> {
        match &**self.storage {
            Storage::Cpu(storage) => slice(storage, self.layout),
            _ => candle_core::bail!(
                "firstsight-ops: a kernel for the CPU was given a tensor on another device"
            ),
        }
    }
}

pub(crate) fn data(tensor: &Tensor) -> Data<'_> {
    let (storage, layout) = tensor.storage_and_layout();
    Data { storage: Box::new(storage), layout }
}

/// Where the storage of a float32 tensor on the CPU begins: tensors that share it have this in common.
pub(crate) fn storage_start(tensor: &Tensor) -> Result<*const f32> {
    match &*tensor.storage_and_layout().0 {
        Storage::Cpu(storage) => Ok(storage.as_slice::<f32>()?.as_ptr()),
        _ => candle_core::bail!("firstsight-ops: a kernel for the CPU was given a tensor on another device"),
    }
}

/// A new tensor of `values`.
pub(crate) fn tensor(values: Vec<f32>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}
