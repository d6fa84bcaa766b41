//! Ops of more arguments than candle's tape has room for.
//!
//! Each further argument gives a handle, a tensor of one value that derives from it. The op's node takes the handles
//! as one argument, leaves the gradients that it computes with them, and they hand those over when the tape comes to
//! them, which it does later, since the op's node derives from them.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// Where the gradient of one argument is left; `None` for an argument that wants none.
#[derive(Clone, Default)]
pub(crate) struct Slot(Option<Arc<Mutex<Option<Tensor>>>>);

impl Slot {
    pub(crate) fn wants_grad(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn leave(&self, grad: Tensor) {
        if let Some(slot) = &self.0 {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(grad);
        }
    }
}

/// The slots of `tensors`, and their handles as one tensor: (n,), or one zero if none wants a gradient.
pub(crate) fn handles(tensors: &[&Tensor]) -> Result<(Vec<Slot>, Tensor)> {
    let mut slots = Vec::with_capacity(tensors.len());
    let mut handles = Vec::new();
    for tensor in tensors {
        if tensor.track_op() {
            let slot = Arc::new(Mutex::new(None));
            handles.push(tensor.apply_op1(Handle(slot.clone()))?);
            slots.push(Slot(Some(slot)));
        } else {
            slots.push(Slot::default());
        }
    }
    let handles = match handles.first() {
        Some(_) => Tensor::cat(&handles, 0)?,
        None => Tensor::zeros(1, candle_core::DType::F32, &candle_core::Device::Cpu)?,
    };
    Ok((slots, handles))
}

struct Handle(Arc<Mutex<Option<Tensor>>>);

impl CustomOp1 for Handle {
    fn name(&self) -> &'static str {
        "handle"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}
