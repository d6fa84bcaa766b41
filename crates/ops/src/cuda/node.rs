//! The bridge from programs to candle's custom ops.

use std::sync::{Mutex, PoisonError};

use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor,
};

use super::program::Program;
use super::run;
use crate::autograd::{self, Slot, is_tracked, route};
use crate::error::Error;

/// An op whose passes are programs.
pub(crate) trait DeviceOp: Send + Sync {
    fn name(&self) -> &'static str;

    /// Shape of the output.
    fn output_shape(&self) -> Shape;

    /// Further contiguous tensors, through which no gradient flows.
    fn extras(&self) -> Vec<&Tensor> {
        Vec::new()
    }

    /// Takes the arguments and the extras to the output and, if `saves`, what the backward pass needs besides.
    fn forward(&self, saves: bool) -> Program;

    /// Takes arguments, extras, output, what the forward pass saved, and the output's gradient to the gradients of those
    /// arguments that are wanted.
    fn backward(&self, wants: &[bool]) -> Program;
}

/// Applies `op` to one to three arguments.
pub(crate) fn apply(op: impl DeviceOp + 'static, args: &[&Tensor]) -> Result<Tensor> {
    let args = args.iter().map(|arg| arg.contiguous()).collect::<Result<Vec<_>>>()?;
    let node = Node::new(op, &args, None)?;
    match args.as_slice() {
        [x] => autograd::apply1(x, node),
        [x, a] => autograd::apply2([x, a], node),
        [x, a, b] => autograd::apply3([x, a, b], node),
        _ => candle_core::bail!("{}: {} arguments", node.op.name(), args.len()),
    }
}

/// Applies `op` to four arguments, of which the last two are parameters.
pub(crate) fn apply4(op: impl DeviceOp + 'static, [x, a, b, c]: [&Tensor; 4]) -> Result<Tensor> {
    let args = [x.contiguous()?, a.contiguous()?, b.contiguous()?, c.contiguous()?];
    let [x, a, b, c] = &args;
    let (slots, handle) = autograd::pair_handle([b, c])?;
    let params = Params { tensors: [b.clone(), c.clone()], slots };
    let node = Node::new(op, &args, Some(params))?;
    autograd::apply3([x, a, &handle], node)
}

/// A storage that a program returned, as a tensor of `shape`.
pub(crate) fn tensor(storage: Storage, shape: &Shape) -> Tensor {
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

struct Node<O> {
    op: O,
    /// `None` after candle has taken the output.
    y: Mutex<Option<Storage>>,
    saved: Vec<Tensor>,
    /// The third and fourth argument, for which a handle stands as third.
    params: Option<Params>,
}

struct Params {
    tensors: [Tensor; 2],
    slots: [Slot; 2],
}

impl<O: DeviceOp> Node<O> {
    /// Runs the forward pass.
    fn new(op: O, args: &[Tensor], params: Option<Params>) -> Result<Self> {
        let program = op.forward(args.iter().any(is_tracked));
        let inputs: Vec<&Tensor> = args.iter().chain(op.extras()).collect();
        let mut outputs = run(&program, &inputs)?.into_iter().zip(program.output_lens());
        let y = Mutex::new(outputs.next().map(|(y, _)| y));
        let saved = outputs.map(|(storage, len)| tensor(storage, &Shape::from(len))).collect();
        Ok(Self { op, y, saved, params })
    }

    fn output(&self) -> Result<(Storage, Shape)> {
        match self.y.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(y) => Ok((y, self.op.output_shape())),
            None => candle_core::bail!("{}: the output was taken before", self.op.name()),
        }
    }

    fn cpu_output(&self) -> Result<(CpuStorage, Shape)> {
        match self.output()? {
            (Storage::Cpu(y), shape) => Ok((y, shape)),
            _ => candle_core::bail!("{}: the output is on another device", self.op.name()),
        }
    }

    fn cuda_output(&self) -> Result<(CudaStorage, Shape)> {
        match self.output()? {
            (Storage::Cuda(y), shape) => Ok((y, shape)),
            _ => candle_core::bail!("{}: the output is on another device", self.op.name()),
        }
    }

    /// The gradients of candle's arguments, `None` where they are not wanted or go elsewhere.
    fn gradients(&self, given: &[&Tensor], y: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let args: Vec<&Tensor> = match &self.params {
            Some(params) => given[..2].iter().copied().chain(&params.tensors).collect(),
            None => given.to_vec(),
        };
        let wants: Vec<bool> = args.iter().map(|arg| arg.track_op()).collect();
        if !wants.iter().any(|&wanted| wanted) {
            return Err(Error::NotTracked { op: self.op.name() }.into());
        }
        let grad = grad.contiguous()?;
        let inputs =
            args.iter().copied().chain(self.op.extras()).chain([y]).chain(&self.saved).chain([&grad]);
        let mut grads = run(&self.op.backward(&wants), &inputs.collect::<Vec<_>>())?.into_iter();
        let mut own = args.iter().zip(&wants).map(|(arg, &wanted)| {
            let grad = if wanted { grads.next() } else { None };
            (*arg, grad.map(|grad| tensor(grad, arg.shape())))
        });
        let routed = |(arg, grad): (&Tensor, Option<Tensor>)| grad.and_then(|grad| route(arg, grad));
        let Some(params) = &self.params else { return Ok(own.map(routed).collect()) };
        let mut results: Vec<Option<Tensor>> = own.by_ref().take(2).map(routed).collect();
        for (slot, (_, grad)) in params.slots.iter().zip(own) {
            if let Some(grad) = grad {
                slot.add(grad)?;
            }
        }
        let handle = given[2];
        results.push(if handle.track_op() { Some(handle.zeros_like()?) } else { None });
        Ok(results)
    }
}

impl<O: DeviceOp> CustomOp1 for Node<O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu_output()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda_output()
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.gradients(&[x], y, grad)?.remove(0))
    }
}

impl<O: DeviceOp> CustomOp2 for Node<O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu_output()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda_output()
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut grads = self.gradients(&[x, a], y, grad)?.into_iter();
        Ok((grads.next().flatten(), grads.next().flatten()))
    }
}

impl<O: DeviceOp> CustomOp3 for Node<O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cpu_output()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda_output()
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut grads = self.gradients(&[x, a, b], y, grad)?.into_iter();
        Ok((grads.next().flatten(), grads.next().flatten(), grads.next().flatten()))
    }
}
