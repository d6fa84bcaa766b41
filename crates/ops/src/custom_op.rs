//! The bridge from kernels on slices to candle's custom ops.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use crate::autograd::{self, route_values};
use crate::cpu::{self, WeightedGrads};

/// An op on x, a weight and a bias, with kernels for float32 on the CPU.
pub(crate) trait WeightedOp: Send + Sync {
    fn name(&self) -> &'static str;

    /// Shape of the output.
    fn output_shape(&self) -> Shape;

    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32>;

    /// The gradients of the arguments that are wanted; others may be computed too.
    fn backward(&self, pass: Backward<'_>) -> Result<WeightedGrads>;
}

/// The arguments of a backward pass.
#[derive(Clone, Copy)]
pub(crate) struct Backward<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    /// The output.
    pub(crate) y: &'a [f32],
    /// The gradient of the output.
    pub(crate) grad: &'a [f32],
    pub(crate) wants: Wants,
}

/// The gradients that are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    pub(crate) x: bool,
    pub(crate) weight: bool,
    pub(crate) bias: bool,
}

/// Applies `op`. Without a bias, kernels get zeros.
pub(crate) fn apply(
    op: impl WeightedOp + 'static,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let bias = cpu::bias(bias, weight.dim(0)?)?;
    autograd::apply3([&x.contiguous()?, &weight.contiguous()?, &bias], Adapter(op))
}

struct Adapter<O>(O);

impl<O: WeightedOp> CustomOp3 for Adapter<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.0.forward(
            cpu::slice(x, x_layout)?,
            cpu::slice(weight, weight_layout)?,
            cpu::slice(bias, bias_layout)?,
        );
        Ok((CpuStorage::F32(y), self.0.output_shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (x_data, weight_data, y_data, grad_data) =
            (cpu::data(x), cpu::data(weight), cpu::data(y), cpu::data(&grad));
        let wants = Wants { x: x.track_op(), weight: weight.track_op(), bias: bias.track_op() };
        let WeightedGrads { x: x_grad, weight: weight_grad, bias: bias_grad } =
            self.0.backward(Backward {
                x: x_data.slice()?,
                weight: weight_data.slice()?,
                y: y_data.slice()?,
                grad: grad_data.slice()?,
                wants,
            })?;
        let route = |wanted: bool, arg: &Tensor, grad: Option<Vec<f32>>| match grad {
            Some(grad) if wanted => route_values(arg, grad),
            _ => Ok(None),
        };
        Ok((
            route(wants.x, x, x_grad)?,
            route(wants.weight, weight, weight_grad)?,
            route(wants.bias, bias, bias_grad)?,
        ))
    }
}
