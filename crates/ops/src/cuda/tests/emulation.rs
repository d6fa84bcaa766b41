//! Runs programs on the CPU: the public ops take the path of a device within [`emulated`].

use std::cell::RefCell;
use std::collections::BTreeSet;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Storage, Tensor};

use super::process::{Order, Process};
use crate::cuda::program::{Program, Role};

thread_local! {
    static EMULATION: RefCell<Option<Emulation>> = const { RefCell::new(None) };
}

struct Emulation {
    process: Process,
    order: Order,
    launches: usize,
    kernels: BTreeSet<&'static str>,
}

/// Runs `work` with float32 tensors on the CPU as if they were on a device, and returns the number of launches too. `None`
/// without a C++ compiler.
pub(crate) fn emulated<T>(order: Order, work: impl FnOnce() -> T) -> Option<(T, usize)> {
    Some(emulated_by(Process::start()?, order, work))
}

/// [`emulated`] by `process`.
pub(crate) fn emulated_by<T>(process: Process, order: Order, work: impl FnOnce() -> T) -> (T, usize) {
    EMULATION.set(Some(Emulation { process, order, launches: 0, kernels: BTreeSet::new() }));
    let result = work();
    let launches = EMULATION.take().map_or(0, |emulation| emulation.launches);
    (result, launches)
}

/// Changes the order of threads within [`emulated`].
pub(crate) fn set_order(order: Order) {
    EMULATION.with_borrow_mut(|emulation| {
        if let Some(emulation) = emulation {
            emulation.order = order;
        }
    });
}

/// The kernels that were launched since [`emulated`] began.
pub(crate) fn launched() -> BTreeSet<&'static str> {
    EMULATION.with_borrow(|emulation| emulation.as_ref().map(|emulation| emulation.kernels.clone())).unwrap()
}

pub(crate) fn is_on() -> bool {
    EMULATION.with_borrow(Option::is_some)
}

pub(crate) fn run(program: &Program, inputs: &[&Tensor]) -> Result<Vec<Storage>> {
    let mut tensors = inputs.iter();
    let mut contents = Vec::new();
    let given = |role| matches!(role, Role::Input | Role::InPlace);
    for buffer in program.buffers() {
        contents.push(match given(buffer.role).then(|| tensors.next()) {
            None => None,
            Some(None) => panic!("{} tensors for more inputs", inputs.len()),
            Some(Some(tensor)) => {
                assert!(tensor.is_contiguous(), "an input that is not contiguous");
                assert_eq!((tensor.elem_count(), tensor.dtype()), (buffer.len, buffer.dtype), "{buffer:?}");
                Some(bytes(tensor)?)
            }
        });
    }
    assert!(tensors.next().is_none(), "{} tensors for fewer inputs", inputs.len());
    let results = EMULATION.with_borrow_mut(|emulation| {
        let emulation = emulation.as_mut().unwrap();
        emulation.launches += program.launches().len();
        emulation.kernels.extend(program.launches().iter().map(|launch| launch.kernel));
        emulation.process.run(program, &contents, emulation.order)
    });
    let mut tensors = inputs.iter();
    let mut outputs = Vec::new();
    for ((buffer, before), after) in program.buffers().iter().zip(&contents).zip(results) {
        match buffer.role {
            Role::Input => {
                tensors.next();
                assert!(before.as_ref() == Some(&after), "a kernel writes to an input");
            }
            Role::InPlace => tensors.next().unwrap().inplace_op1(&Overwrite(floats(&after)))?,
            Role::Output if buffer.dtype == DType::U32 => {
                let values = after.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().unwrap()));
                outputs.push(Storage::Cpu(CpuStorage::U32(values.collect())));
            }
            Role::Output => outputs.push(Storage::Cpu(CpuStorage::F32(floats(&after)))),
            Role::Scratch => {}
        }
    }
    Ok(outputs)
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    Ok(match tensor.dtype() {
        DType::F32 => {
            tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect()
        }
        DType::U32 => {
            tensor.flatten_all()?.to_vec1::<u32>()?.into_iter().flat_map(u32::to_le_bytes).collect()
        }
        _ => tensor.flatten_all()?.to_vec1::<u8>()?,
    })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

struct Overwrite(Vec<f32>);

impl InplaceOp1 for Overwrite {
    fn name(&self) -> &'static str {
        "overwrite"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(values), Some((start, end))) => values[start..end].copy_from_slice(&self.0),
            _ => candle_core::bail!("expected contiguous float32 values"),
        }
        Ok(())
    }
}
