//! Two linear layers with an activation between them, as one op.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use crate::autograd::{self, Slot, apply2, is_tracked, route_values};
use crate::config::Activation;
use crate::cpu::gemm::{self, PackedLhs, PackedRhs, multiply_packed, multiply_packed_into};
use crate::cpu::memory::buffer::Buffer;
use crate::cpu::{self, elementwise};
use crate::error::Error;
use crate::shape::LinearShape;
use crate::{elsewhere, linear, packed_weights};

const OP: &str = "feed_forward";

/// The feed-forward layer of transformers (Vaswani et al. 2017): f(x·w₁ᵀ + b₁)·w₂ᵀ + b₂, `x` (…, in) to (…, out).
///
/// `first` is w₁ (hidden, in) and b₁ (hidden,), `second` w₂ (out, hidden) and b₂ (out,). As one op, the values between the layers
/// are kept once, before the activation, and their gradients are not recorded.
///
/// # Errors
///
/// Shapes that do not fit each other.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use firstsight_ops::{Activation, feed_forward};
///
/// let x = Tensor::new(&[[2f32], [-2.]], &Device::Cpu)?;
/// let first = Tensor::new(&[[1f32], [-3.]], &Device::Cpu)?;
/// let second = Tensor::new(&[[1f32, 10.]], &Device::Cpu)?;
/// let y = feed_forward(&x, (&first, None), (&second, None), Activation::Relu)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[2.], [60.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn feed_forward(
    x: &Tensor,
    first: (&Tensor, Option<&Tensor>),
    second: (&Tensor, Option<&Tensor>),
    activation: Activation,
) -> Result<Tensor> {
    let others = [Some(first.0), first.1, Some(second.0), second.1].into_iter().flatten();
    if !cpu::has_kernels(&[x]) || !others.clone().all(|tensor| cpu::has_kernels(&[tensor])) {
        return elsewhere::by_rows(x, |rows| elsewhere::feed_forward(rows, first, second, activation));
    }
    let shape = LinearShape::new(x, first.0, first.1)?;
    if shape.batch <= gemm::MAX_ROWS {
        let hidden = linear(x, first.0, first.1, activation)?;
        return linear(&hidden, second.0, second.1, Activation::Identity);
    }
    activation.check(OP)?;
    let hidden = shape.n_out;
    let n_out = LinearShape::of(shape.batch, hidden, second.0, second.1)?.n_out;
    // Of the weights themselves: copies of others would be new ones in each pass.
    let packed = [packed_weights::linear(first.0)?, packed_weights::linear(second.0)?];
    let tensors = [
        first.0.contiguous()?,
        cpu::bias(first.1, hidden)?,
        second.0.contiguous()?,
        cpu::bias(second.1, n_out)?,
    ];
    let tracked = is_tracked(x) || tensors.iter().any(is_tracked);
    let (slots, handles) = autograd::handles(&tensors.each_ref())?;
    let output = LinearShape::output(x, n_out);
    let saved = Mutex::new(None);
    let op = FeedForward { shape, output, n_out, activation, tensors, packed, slots, tracked, saved };
    apply2([&x.contiguous()?, &handles], op)
}

struct FeedForward {
    /// Of the first layer.
    shape: LinearShape,
    output: Shape,
    n_out: usize,
    activation: Activation,
    /// Weights and bias of the first and the second layer.
    tensors: [Tensor; 4],
    /// Both weights, if packed ones are kept.
    packed: [Option<Arc<PackedRhs>>; 2],
    slots: Vec<Slot>,
    tracked: bool,
    /// The values before the activation; `None` before the forward and after the last backward pass.
    saved: Mutex<Option<Buffer>>,
}

impl FeedForward {
    /// The gradients of x, both weights and both biases, in the order of [`Self::tensors`] after x.
    fn gradients(&self, x: &[f32], z: &[f32], grad: &[f32], wants_x: bool) -> Result<[Option<Vec<f32>>; 5]> {
        let LinearShape { batch, n_in, n_out: hidden } = self.shape;
        let locked = self.tensors.each_ref().map(cpu::data);
        let (first, second) = (locked[0].slice()?, locked[2].slice()?);
        let [wants_first, wants_first_bias, wants_second, wants_second_bias] =
            [0, 1, 2, 3].map(|i: usize| self.slots[i].wants_grad());
        let second_grad = wants_second.then(|| {
            let mut activated = Buffer::dirty(z.len());
            elementwise::par_activate_into(&mut activated, z, self.activation);
            let grad = PackedLhs::from_columns(grad, (self.n_out, batch));
            multiply_packed(
                &grad,
                &PackedRhs::from_rows(&activated, (batch, hidden)),
                None,
                Activation::Identity,
            )
        });
        let second_bias_grad = wants_second_bias.then(|| elementwise::par_sum_rows(grad, self.n_out));
        if !(wants_x || wants_first || wants_first_bias) {
            return Ok([None, None, None, second_grad, second_bias_grad]);
        }
        let mut z_grad = Buffer::dirty(z.len());
        let rows = PackedLhs::from_rows(grad, (batch, self.n_out), None);
        let weights = PackedRhs::from_rows(second, (self.n_out, hidden));
        multiply_packed_into(&rows, &weights, None, Activation::Identity, &mut z_grad);
        elementwise::par_input_grad(&mut z_grad, z, self.activation);
        let product =
            |lhs: PackedLhs, rhs: PackedRhs| multiply_packed(&lhs, &rhs, None, Activation::Identity);
        let x_grad = wants_x.then(|| {
            let z_grad = PackedLhs::from_rows(&z_grad, (batch, hidden), None);
            product(z_grad, PackedRhs::from_rows(first, (hidden, n_in)))
        });
        let first_grad = wants_first.then(|| {
            let z_grad = PackedLhs::from_columns(&z_grad, (hidden, batch));
            product(z_grad, PackedRhs::from_rows(x, (batch, n_in)))
        });
        let first_bias_grad = wants_first_bias.then(|| elementwise::par_sum_rows(&z_grad, hidden));
        Ok([x_grad, first_grad, first_bias_grad, second_grad, second_bias_grad])
    }
}

impl CustomOp2 for FeedForward {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let LinearShape { batch, n_in, n_out: hidden } = self.shape;
        let locked = self.tensors.each_ref().map(cpu::data);
        let x = PackedLhs::from_rows(cpu::slice(x, layout)?, (batch, n_in), None);
        let pack = |i: usize, size| match &self.packed[i] {
            Some(weight) => Ok::<_, candle_core::Error>(weight.clone()),
            None => Ok(Arc::new(PackedRhs::from_columns(locked[2 * i].slice()?, size))),
        };
        let weights = pack(0, (n_in, hidden))?;
        let mut activated = Buffer::dirty(batch * hidden);
        let bias = Some(locked[1].slice()?);
        if self.tracked {
            let mut z = Buffer::dirty(batch * hidden);
            multiply_packed_into(&x, &weights, bias, Activation::Identity, &mut z);
            elementwise::par_activate_into(&mut activated, &z, self.activation);
            *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(z);
        } else {
            multiply_packed_into(&x, &weights, bias, self.activation, &mut activated);
        }
        let activated = PackedLhs::from_rows(&activated, (batch, hidden), None);
        let weights = pack(1, (hidden, self.n_out))?;
        let y = multiply_packed(&activated, &weights, Some(locked[3].slice()?), Activation::Identity);
        Ok((CpuStorage::F32(y), self.output.clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        handles: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(z) = saved.take() else {
            return Err(Error::Freed { op: OP }.into());
        };
        let grad = grad.contiguous()?;
        let (x_data, grad_data) = (cpu::data(x), cpu::data(&grad));
        let [x_grad, others @ ..] = self.gradients(x_data.slice()?, &z, grad_data.slice()?, x.track_op())?;
        if !autograd::is_last_pass() {
            *saved = Some(z);
        }
        for ((slot, tensor), grad) in self.slots.iter().zip(&self.tensors).zip(others) {
            if let Some(grad) = grad {
                slot.add(cpu::tensor(grad, tensor.shape())?)?;
            }
        }
        let x_grad = match x_grad {
            Some(x_grad) => route_values(x, x_grad)?,
            None => None,
        };
        Ok((x_grad, if handles.track_op() { Some(handles.zeros_like()?) } else { None }))
    }
}
