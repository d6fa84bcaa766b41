//! Where ops and candle's tape meet: gradients that go past its sums, and ops of more arguments than it has room for.
//!
//! Each further argument gives a handle, a tensor of one value that derives from it. The op's node takes the handles
//! as one argument, leaves the gradients that it computes with them, and they hand those over when the tape comes to
//! them, which it does later, since the op's node derives from them.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::cpu;

/// Variables and their gradients, in the order in which these were computed.
type Collected = Vec<(Tensor, Tensor)>;

thread_local! {
    /// What ops have handed over since [`backward`] began in this thread.
    static COLLECTED: RefCell<Option<Collected>> = const { RefCell::new(None) };
}

/// The gradients of a scalar `loss`: those of candle's [`Tensor::backward`], with less work for large variables.
///
/// candle adds each gradient to zeros: it writes the zeros, reads both and writes the sum, on one thread, and holds all
/// three at once. Here the first gradient of a variable that an op of this crate computes is taken as it is. Any other
/// op is candle's affair, as in `loss.backward()`, which may be called as well.
///
/// It is the last pass over its graph: what [`crate::conv_chain`] keeps between its layers is freed on the way, as in
/// PyTorch without `retain_graph`. After it, gradients through such a chain need its forward pass again; after
/// `loss.backward()` they don't.
///
/// # Errors
/// Those of [`Tensor::backward`]; a chain that such a pass has gone through.
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
    let grads = loss.backward();
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

/// Whether the gradients now asked for are [`backward`]'s.
pub(crate) fn is_last_pass() -> bool {
    COLLECTED.with_borrow(Option::is_some)
}

/// What the tape is given as gradient for `arg`: nothing if [`backward`] collects it.
pub(crate) fn hand_over(arg: &Tensor, grad: Tensor) -> Option<Tensor> {
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

/// The same, of values.
pub(crate) fn hand_over_values(arg: &Tensor, grad: Vec<f32>) -> Result<Option<Tensor>> {
    Ok(hand_over(arg, cpu::tensor(grad, arg.shape())?))
}

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

    fn bwd(&self, arg: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let grad = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(grad.and_then(|grad| hand_over(arg, grad)))
    }
}
