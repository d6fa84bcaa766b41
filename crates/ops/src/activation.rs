//! Activation functions.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::autograd::{apply1, route_values};
use crate::config::Activation;
use crate::cpu::{self, elementwise};
use crate::elsewhere;

/// Applies an activation to each value, with the gradients that [`Activation`] documents.
///
/// # Errors
///
/// A slope below 0.
///
/// ```
/// use candle_core::{Device, Var};
/// use firstsight_ops::{Activation, activate};
///
/// let x = Var::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = activate(&x, Activation::Relu)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0., 0., 2.]);
/// assert_eq!(y.sum_all()?.backward()?.get(&x).unwrap().to_vec1::<f32>()?, [0., 0., 1.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::Identity || !cpu::has_kernels(&[x]) {
        return elsewhere::activate(x, activation);
    }
    activation.check("activate")?;
    apply1(&x.contiguous()?, Activate(activation))
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = elementwise::par_activated(cpu::slice(x, layout)?, self.0);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (grad, x_data, y) = (cpu::data(&grad), cpu::data(x), cpu::data(y));
        let x_grad = if self.0.is_monotonic() {
            elementwise::par_activation_grad(grad.slice()?, y.slice()?, self.0)
        } else {
            elementwise::par_gradient_at_input(grad.slice()?, x_data.slice()?, self.0)
        };
        route_values(x, x_grad)
    }
}
