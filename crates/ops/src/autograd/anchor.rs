//! Gradients between two ops of this crate without candle's sums.
//!
//! Candle's backward pass adds each gradient to zeros of its size, on threads of its own. Here an output has an anchor, a tensor of
//! one value that stands for it in candle's graph. The output itself derives from the anchor:
//!
//! ```text
//! x ── anchor ── anchor of the next op ── …
//!         └── y           └── z
//! ```
//!
//! An op on y is recorded as an op on y's anchor. Its backward pass stores the gradient of y in the anchor's slot, and gives candle
//! a single zero. Candle's own ops on y are recorded as ever: the gradient that y gets from them goes to the same slot. Candle
//! calls the anchor's backward pass after all of these.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, TensorId,
};

use super::{Slot, placeholder};
use crate::cpu::storage;

/// The anchors of the outputs that are alive. A tensor has no field for its own.
static ANCHORS: LazyLock<Mutex<HashMap<TensorId, Weak<Anchor>>>> = LazyLock::new(Mutex::default);

fn anchors() -> MutexGuard<'static, HashMap<TensorId, Weak<Anchor>>> {
    ANCHORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stands for an output in candle's graph. The output's own node owns it.
pub(super) struct Anchor {
    /// (1,)
    pub(super) tensor: Tensor,
    /// The gradient of the output.
    pub(super) slot: Slot,
    output: OnceLock<TensorId>,
}

impl Anchor {
    /// The anchor of a tensor, if that is an output of this crate.
    pub(super) fn of(tensor: &Tensor) -> Option<Arc<Self>> {
        anchors().get(&tensor.id())?.upgrade()
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        if let Some(output) = self.output.get() {
            anchors().remove(output);
        }
    }
}

/// Computes the value of `op` on `args`, and records it.
pub(super) fn record<O: Recorded<N>, const N: usize>(op: O, args: [&Tensor; N]) -> Result<Tensor> {
    let value = op.value(args)?;
    let anchors_of_args = args.map(Anchor::of);
    let stand_ins =
        std::array::from_fn(|i| anchors_of_args[i].as_ref().map_or(args[i], |anchor| &anchor.tensor));
    let (slot, y) = (Slot::new(), Arc::new(OnceLock::new()));
    let node = Node {
        op,
        args: args.map(Tensor::clone),
        slots: anchors_of_args.each_ref().map(|anchor| anchor.as_ref().map(|anchor| anchor.slot.clone())),
        y: y.clone(),
        slot: slot.clone(),
    };
    let anchor = Arc::new(Anchor { tensor: O::apply(stand_ins, node)?, slot, output: OnceLock::new() });
    let output = Output { anchor: anchor.clone(), value: Mutex::new(Some(value)) };
    let output = anchor.tensor.apply_op1(output)?;
    // Without its graph, which holds the node.
    let _ = y.set(output.detach());
    let id = *anchor.output.get_or_init(|| output.id());
    anchors().insert(id, Arc::downgrade(&anchor));
    Ok(output)
}

/// An op of `N` arguments.
pub(super) trait Recorded<const N: usize>: Sized + Send + Sync {
    fn value(&self, args: [&Tensor; N]) -> Result<(CpuStorage, Shape)>;

    /// Applies the op's node to arguments, or what stands for them.
    fn apply(args: [&Tensor; N], node: Node<Self, N>) -> Result<Tensor>;
}

/// The node of an anchor.
pub(super) struct Node<O, const N: usize> {
    op: O,
    args: [Tensor; N],
    /// Of those arguments that have an anchor.
    slots: [Option<Slot>; N],
    y: Arc<OnceLock<Tensor>>,
    slot: Slot,
}

impl<O, const N: usize> Node<O, N> {
    /// The gradients of the arguments as candle gets them, from `bwd` of the op, the arguments, the output and its gradient.
    fn backward(
        &self,
        bwd: impl FnOnce(&O, &[Tensor; N], &Tensor, &Tensor) -> Result<[Option<Tensor>; N]>,
    ) -> Result<[Option<Tensor>; N]> {
        let (Some(y), Some(grad)) = (self.y.get(), self.slot.take()) else {
            candle_core::bail!("firstsight-ops: an op's output has no gradient");
        };
        let mut grads =
            bwd(&self.op, &self.args, y, &grad).inspect_err(|_| super::PASS.set(super::new_pass()))?;
        for (grad, slot) in grads.iter_mut().zip(&self.slots) {
            if let (Some(slot), Some(grad)) = (slot, grad) {
                let zero = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
                slot.add(std::mem::replace(grad, zero))?;
            }
        }
        Ok(grads)
    }
}

/// An op of one argument.
pub(super) struct Op1<O>(pub(super) O);
/// An op of two arguments.
pub(super) struct Op2<O>(pub(super) O);
/// An op of three arguments.
pub(super) struct Op3<O>(pub(super) O);

impl<O: CustomOp1 + Send + Sync + 'static> Recorded<1> for Op1<O> {
    fn value(&self, [x]: [&Tensor; 1]) -> Result<(CpuStorage, Shape)> {
        let (x, layout) = x.storage_and_layout();
        self.0.cpu_fwd(storage(&x)?, layout)
    }

    fn apply([x]: [&Tensor; 1], node: Node<Self, 1>) -> Result<Tensor> {
        x.apply_op1(node)
    }
}

impl<O: CustomOp2 + Send + Sync + 'static> Recorded<2> for Op2<O> {
    fn value(&self, [a, b]: [&Tensor; 2]) -> Result<(CpuStorage, Shape)> {
        let ((a, a_layout), (b, b_layout)) = (a.storage_and_layout(), b.storage_and_layout());
        self.0.cpu_fwd(storage(&a)?, a_layout, storage(&b)?, b_layout)
    }

    fn apply([a, b]: [&Tensor; 2], node: Node<Self, 2>) -> Result<Tensor> {
        a.apply_op2(b, node)
    }
}

impl<O: CustomOp3 + Send + Sync + 'static> Recorded<3> for Op3<O> {
    fn value(&self, args: [&Tensor; 3]) -> Result<(CpuStorage, Shape)> {
        let [(a, a_layout), (b, b_layout), (c, c_layout)] = args.map(Tensor::storage_and_layout);
        self.0.cpu_fwd(storage(&a)?, a_layout, storage(&b)?, b_layout, storage(&c)?, c_layout)
    }

    fn apply([a, b, c]: [&Tensor; 3], node: Node<Self, 3>) -> Result<Tensor> {
        a.apply_op3(b, c, node)
    }
}

impl<O: CustomOp1> CustomOp1 for Node<Op1<O>, 1> {
    fn name(&self) -> &'static str {
        self.op.0.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        placeholder()
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let [of_x] = self.backward(|op, [x], y, grad| Ok([op.0.bwd(x, y, grad)?]))?;
        Ok(of_x)
    }
}

impl<O: CustomOp2> CustomOp2 for Node<Op2<O>, 2> {
    fn name(&self) -> &'static str {
        self.op.0.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        placeholder()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grads = self.backward(|op, [a, b], y, grad| Ok(op.0.bwd(a, b, y, grad)?.into()))?;
        Ok(grads.into())
    }
}

impl<O: CustomOp3> CustomOp3 for Node<Op3<O>, 3> {
    fn name(&self) -> &'static str {
        self.op.0.name()
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
        placeholder()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grads = self.backward(|op, [a, b, c], y, grad| Ok(op.0.bwd(a, b, c, y, grad)?.into()))?;
        Ok(grads.into())
    }
}

/// The node of an output, an op on its anchor.
struct Output {
    anchor: Arc<Anchor>,
    /// `None` after candle has taken it.
    value: Mutex<Option<(CpuStorage, Shape)>>,
}

impl CustomOp1 for Output {
    fn name(&self) -> &'static str {
        "output"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.value.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(value) => Ok(value),
            None => candle_core::bail!("firstsight-ops: an output was taken before"),
        }
    }

    fn bwd(&self, anchor: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.anchor.slot.add(grad.clone())?;
        Ok(Some(anchor.zeros_like()?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::{Activation, activate, backward, softmax};

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// y = sigmoid(x), whose uses are ops of this crate, candle's, both, and none.
    #[test]
    fn gradients_of_all_uses_are_added() {
        let x = Var::new(&[[0.5f32, -1.0, 2.0]], &Device::Cpu).unwrap();
        let weights = Tensor::new(&[[1f32, 2.0, 4.0]], &Device::Cpu).unwrap();
        let y = || activate(&x, Activation::Sigmoid).unwrap();
        let slope: Vec<f32> = values(&y()).iter().map(|y| y * (1.0 - y)).collect();
        let expected = |of_y: &dyn Fn(usize, f32) -> f32| -> Vec<f32> {
            values(&y()).iter().enumerate().map(|(i, &y)| slope[i] * of_y(i, y)).collect()
        };
        let factors = values(&weights);
        type Use = fn(&Tensor, &Tensor) -> Result<Tensor>;
        type OfY<'a> = &'a dyn Fn(usize, f32) -> f32;
        let tanh_slope = |y: f32| 1.0 - y.tanh() * y.tanh();
        let uses: [(Use, OfY<'_>); 5] = [
            (|y, w| activate(y, Activation::Tanh)? * w, &|i, y| factors[i] * tanh_slope(y)),
            (|y, w| y * w, &|i, _| factors[i]),
            (|y, w| (activate(y, Activation::Tanh)? * w)? + (y * w)?, &|i, y| {
                factors[i] * (1.0 + tanh_slope(y))
            }),
            (|y, w| crate::add(y, &crate::add(y, y)?)? * w, &|i, _| 3.0 * factors[i]),
            // Detached, y is a constant.
            (|y, w| (activate(&y.detach(), Activation::Tanh)? + y)? * w, &|i, _| factors[i]),
        ];
        for (index, (use_of, of_y)) in uses.into_iter().enumerate() {
            let loss = use_of(&y(), &weights).unwrap().sum_all().unwrap();
            for backward in [Tensor::backward, backward, Tensor::backward] {
                let grads = backward(&loss).unwrap();
                let found = values(grads.get(&x).unwrap());
                for (found, expected) in found.iter().zip(expected(of_y)) {
                    assert!((found - expected).abs() < 1e-6, "use {index}: {found} for {expected}");
                }
            }
        }
    }

    /// What a pass that failed has left is not a part of the next one.
    #[test]
    fn a_failed_pass_leaves_no_gradients() {
        /// Fails the first time.
        struct Fails(Mutex<bool>);
        impl CustomOp1 for Fails {
            fn name(&self) -> &'static str {
                "fails"
            }
            fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
                Ok((CpuStorage::F32(x.as_slice()?.to_vec()), layout.shape().clone()))
            }
            fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
                if std::mem::take(&mut *self.0.lock().unwrap()) {
                    candle_core::bail!("it fails");
                }
                Ok(Some(grad.clone()))
            }
        }
        let x = Var::new(&[[0f32, 1.0]], &Device::Cpu).unwrap();
        for backward in [backward, Tensor::backward] {
            // Its gradient comes from the sum and, after that has been stored, through the op that fails.
            let y = softmax(&x).unwrap();
            let z = activate(&y, Activation::Tanh).unwrap();
            let w = super::super::apply1(&z, Fails(Mutex::new(true))).unwrap();
            let loss = (crate::add(&y, &w).unwrap() * Tensor::new(&[[1f32, 3.0]], &Device::Cpu).unwrap())
                .unwrap()
                .sum_all()
                .unwrap();
            assert!(backward(&loss).is_err());
            let found = values(backward(&loss).unwrap().get(&x).unwrap());
            let again = values(backward(&loss).unwrap().get(&x).unwrap());
            assert_eq!(found, again);
        }
    }

    #[test]
    fn anchors_end_with_their_outputs() {
        let x = Var::new(&[[0f32, 1.0]], &Device::Cpu).unwrap();
        let y = softmax(&x).unwrap();
        let id = y.id();
        let loss = activate(&y, Activation::Relu).unwrap().sum_all().unwrap();
        drop(y);
        assert!(anchors().contains_key(&id));
        backward(&loss).unwrap();
        drop(loss);
        assert!(!anchors().contains_key(&id));
    }
}
