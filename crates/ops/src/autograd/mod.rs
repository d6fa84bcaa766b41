//! Extensions of candle's autograd: ops of any number of arguments, and gradients of variables without candle's sums.
//!
//! Candle's custom ops have at most three arguments. Every further argument gets a handle, a tensor of one value that
//! derives from it. An op takes the handles as one argument. Its backward pass stores the gradients of the arguments in
//! the handles' slots. The handles' own backward passes, which follow later since the op derives from them, return the
//! gradients to their arguments. Outputs of this crate need no handle: an [`anchor`] stands for them already.
//!
//! [`backward`] and the backward passes of ops share two thread-local values: the list of variables' gradients, and the number of
//! the pass. Candle calls a custom op's `bwd` with tensors alone, so there is no argument through which they could be passed.

mod anchor;

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor};

use self::anchor::{Anchor, Op1, Op2, Op3, record};
use crate::add::add;
use crate::cpu;

/// Variables and their gradients, in the order of computation.
type Collected = Vec<(Tensor, Tensor)>;

thread_local! {
    /// The gradients of variables since [`backward`] began in this thread; `None` outside of it.
    static COLLECTED: RefCell<Option<Collected>> = const { RefCell::new(None) };

    /// The number of the backward pass in this thread, so that no pass takes gradients that a failed one has left. Each call of
    /// [`backward`] has its own. Calls of candle's [`Tensor::backward`] share one until an op of this crate fails in one of them,
    /// since nothing tells where they begin.
    static PASS: Cell<u64> = Cell::new(new_pass());

    /// Whether [`no_grad`] runs in this thread.
    static NO_GRAD: Cell<bool> = const { Cell::new(false) };
}

fn new_pass() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs `work` without recording this crate's ops for gradients: PyTorch's `torch.no_grad`.
///
/// A network's forward pass through its variables is then as fast, and takes as little memory, as through plain tensors:
/// normalization is folded into convolutions, and no map is kept for a backward pass. It holds for the current thread.
/// candle's own operations on variables are still recorded, until the next op of this crate.
///
/// ```
/// use candle_core::{Device, Var};
/// use firstsight_ops::{Activation, activate, no_grad};
///
/// let x = Var::new(&[-1f32, 2.], &Device::Cpu)?;
/// assert!(activate(&x, Activation::Relu)?.track_op());
/// assert!(!no_grad(|| activate(&x, Activation::Relu))?.track_op());
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn no_grad<T>(work: impl FnOnce() -> T) -> T {
    /// Sets the flag back, also when `work` panics.
    struct Outer(bool);

    impl Drop for Outer {
        fn drop(&mut self) {
            NO_GRAD.set(self.0);
        }
    }

    let _outer = Outer(NO_GRAD.replace(true));
    work()
}

/// Whether this thread is outside of [`no_grad`].
pub(crate) fn records_grads() -> bool {
    !NO_GRAD.get()
}

/// Whether a gradient of `tensor` may be asked for.
pub(crate) fn is_tracked(tensor: &Tensor) -> bool {
    tensor.track_op() && records_grads()
}

/// Applies `op`, recorded if its argument is tracked.
pub(crate) fn apply1(x: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    match x.device() {
        _ if !is_tracked(x) => x.apply_op1_no_bwd(&op),
        Device::Cpu => record(Op1(op), [x]),
        _ => x.apply_op1(op),
    }
}

/// Applies `op`, recorded if an argument is tracked.
pub(crate) fn apply2([a, b]: [&Tensor; 2], op: impl CustomOp2 + Send + Sync + 'static) -> Result<Tensor> {
    match a.device() {
        _ if ![a, b].into_iter().any(is_tracked) => a.apply_op2_no_bwd(b, &op),
        Device::Cpu => record(Op2(op), [a, b]),
        _ => a.apply_op2(b, op),
    }
}

/// Applies `op`, recorded if an argument is tracked.
pub(crate) fn apply3([a, b, c]: [&Tensor; 3], op: impl CustomOp3 + Send + Sync + 'static) -> Result<Tensor> {
    match a.device() {
        _ if ![a, b, c].into_iter().any(is_tracked) => a.apply_op3_no_bwd(b, c, &op),
        Device::Cpu => record(Op3(op), [a, b, c]),
        _ => a.apply_op3(b, c, op),
    }
}

/// Computes the gradients of a scalar `loss` like candle's [`Tensor::backward`], with less work for large variables.
///
/// Candle adds each gradient to zeros, with gradient, zeros and sum in memory at once. Here the first gradient
/// that an op of this crate computes for a variable is stored as it is. `loss.backward()` works as well.
///
/// This is the last pass over its graph: the maps that a [`crate::ConvBlock`] saves between its layers are freed on the
/// way, as in PyTorch without `retain_graph`. Another pass through the block needs another forward pass. `loss.backward()`
/// frees nothing.
///
/// Of one graph, whichever of the two walks it, one thread at a time may do so: gradients on their way lie in the graph, where another
/// thread's would take their place. Threads with graphs of their own, such as those of parts of a batch, may share variables.
///
/// # Errors
///
/// Those of [`Tensor::backward`]; a block that an earlier call has passed through.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use firstsight_ops::{Activation, linear};
///
/// let weight = Var::new(&[[3f32, 4.]], &Device::Cpu)?;
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let loss = linear(&x, &weight, None, Activation::Identity)?.sum_all()?;
/// let grads = firstsight_ops::backward(&loss)?;
/// assert_eq!(grads.get(&weight).unwrap().to_vec2::<f32>()?, [[1., 2.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let outer = COLLECTED.replace(Some(Vec::new()));
    let outer_pass = PASS.replace(new_pass());
    let grads = loss.backward();
    PASS.set(outer_pass);
    let collected = COLLECTED.replace(outer).unwrap_or_default();
    let mut grads = grads?;
    for (variable, grad) in collected {
        let grad = match grads.remove(&variable) {
            Some(other) => (other + grad)?,
            None => grad,
        };
        grads.insert(&variable, grad);
    }
    Ok(grads)
}

/// Whether the current backward pass is one of [`backward`].
pub(crate) fn is_last_pass() -> bool {
    COLLECTED.with_borrow(Option::is_some)
}

/// Returns the gradient of `arg` for candle, or nothing if [`backward`] collects it.
pub(crate) fn route(arg: &Tensor, grad: Tensor) -> Option<Tensor> {
    if !arg.is_variable() {
        return Some(grad);
    }
    COLLECTED.with_borrow_mut(|collected| match collected {
        Some(collected) => {
            collected.push((arg.clone(), grad));
            None
        }
        None => Some(grad),
    })
}

/// [`route`] for a gradient as values.
pub(crate) fn route_values(arg: &Tensor, grad: Vec<f32>) -> Result<Option<Tensor>> {
    Ok(route(arg, cpu::tensor(grad, arg.shape())?))
}

/// A gradient and the pass that it is of.
type OfPass = Option<(u64, Tensor)>;

/// The slot for the gradient of one argument; `None` if no gradient is wanted.
#[derive(Clone, Default)]
pub(crate) struct Slot(Option<Arc<Mutex<OfPass>>>);

impl Slot {
    pub(crate) fn wants_grad(&self) -> bool {
        self.0.is_some()
    }

    /// A slot for a gradient that is wanted.
    fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// Adds a gradient to those of this pass. What a pass that failed has left is dropped.
    pub(crate) fn add(&self, grad: Tensor) -> Result<()> {
        if let Some(slot) = &self.0 {
            let mut sum = slot.lock().unwrap_or_else(PoisonError::into_inner);
            let grad = match of_this_pass(&mut sum) {
                Some(other) => add(&other, &grad)?,
                None => grad,
            };
            *sum = Some((PASS.get(), grad));
        }
        Ok(())
    }

    fn take(&self) -> Option<Tensor> {
        of_this_pass(&mut self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes a gradient; `None` if it is of another pass.
fn of_this_pass(grad: &mut OfPass) -> Option<Tensor> {
    grad.take_if(|(pass, _)| *pass == PASS.get()).map(|(_, grad)| grad)
}

/// The value of a tensor that stands for another one in the graph.
fn placeholder() -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
}

/// The slots of `tensors`, and their handles as one tensor (n,), or a single zero if no gradient is wanted.
pub(crate) fn handles(tensors: &[&Tensor]) -> Result<(Vec<Slot>, Tensor)> {
    let mut slots = Vec::with_capacity(tensors.len());
    let mut handles = Vec::new();
    for tensor in tensors {
        if !is_tracked(tensor) {
            slots.push(Slot::default());
        } else if let Some(anchor) = Anchor::of(tensor) {
            handles.push(anchor.tensor.clone());
            slots.push(anchor.slot.clone());
        } else {
            let slot = Slot::new();
            handles.push(tensor.apply_op1(Handle(slot.clone()))?);
            slots.push(slot);
        }
    }
    let handles = match handles.first() {
        Some(_) => Tensor::cat(&handles, 0)?,
        None => Tensor::zeros(1, candle_core::DType::F32, &candle_core::Device::Cpu)?,
    };
    Ok((slots, handles))
}

/// The handle of two arguments, a tensor (1,) on their device, and the slots of their gradients.
#[cfg(any(test, feature = "cuda-kernels"))]
pub(crate) fn pair_handle([a, b]: [&Tensor; 2]) -> Result<([Slot; 2], Tensor)> {
    let slots = [a, b].map(|arg| if is_tracked(arg) { Slot::new() } else { Slot::default() });
    let handle = apply2([a, b], PairHandle(slots.clone()))?;
    Ok((slots, handle))
}

#[cfg(any(test, feature = "cuda-kernels"))]
struct PairHandle([Slot; 2]);

#[cfg(any(test, feature = "cuda-kernels"))]
impl CustomOp2 for PairHandle {
    fn name(&self) -> &'static str {
        "handle"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        placeholder()
    }

    fn cuda_fwd(
        &self,
        a: &candle_core::CudaStorage,
        _: &Layout,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        use candle_core::backend::{BackendDevice as _, BackendStorage as _};
        let shape = Shape::from(1);
        Ok((a.device().zeros_impl(&shape, candle_core::DType::F32)?, shape))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [of_a, of_b] = &self.0;
        let take = |slot: &Slot, arg: &Tensor| slot.take().and_then(|grad| route(arg, grad));
        Ok((take(of_a, a), take(of_b, b)))
    }
}

struct Handle(Slot);

impl CustomOp1 for Handle {
    fn name(&self) -> &'static str {
        "handle"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        placeholder()
    }

    fn bwd(&self, arg: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.0.take().and_then(|grad| route(arg, grad)))
    }
}
