//! Linear layers.

use std::sync::Arc;

use candle_core::{Result, Shape, Tensor};

use crate::activation::activate;
use crate::autograd::is_tracked;
use crate::config::Activation;
use crate::cpu::gemm::{self, PackedLhs, PackedRhs, gemv, multiply_packed};
use crate::cpu::{self, WeightedGrads, elementwise};
use crate::custom_op::{self, Backward, WeightedOp};
use crate::elsewhere;
use crate::packed_weights;
use crate::shape::LinearShape;

/// Computes f(x·weightᵀ + bias): `x` (…, in), `weight` (out, in), `bias` (out,) to (…, out).
///
/// # Errors
///
/// Shapes that do not fit each other.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use firstsight_ops::{Activation, linear};
///
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[3f32, 4.], [-1., 0.]], &Device::Cpu)?;
/// assert_eq!(linear(&x, &weight, None, Activation::Relu)?.to_vec2::<f32>()?, [[11., 0.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
    if !cpu::has_kernels(&[x, weight, bias.unwrap_or(x)]) {
        return elsewhere::by_rows(x, |rows| elsewhere::linear(rows, weight, bias, activation));
    }
    let shape = LinearShape::new(x, weight, bias)?;
    activation.check("linear")?;
    let tracked = [Some(x), Some(weight), bias].into_iter().flatten().any(is_tracked);
    if tracked && !activation.is_monotonic() {
        // The backward pass needs the activation's input.
        return activate(&linear(x, weight, bias, Activation::Identity)?, activation);
    }
    let packed = if shape.batch > gemm::MAX_ROWS { packed_weights::linear(weight)? } else { None };
    let output = LinearShape::output(x, shape.n_out);
    custom_op::apply(LinearOp { shape, output, activation, packed }, x, weight, bias)
}

struct LinearOp {
    shape: LinearShape,
    output: Shape,
    activation: Activation,
    packed: Option<Arc<PackedRhs>>,
}

impl WeightedOp for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn output_shape(&self) -> Shape {
        self.output.clone()
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let LinearShape { batch, n_in, n_out } = self.shape;
        if batch > gemm::MAX_ROWS {
            let x = PackedLhs::from_rows(x, (batch, n_in), None);
            let product = |weight: &PackedRhs| multiply_packed(&x, weight, Some(bias), self.activation);
            return match &self.packed {
                Some(weight) => product(weight),
                None => product(&PackedRhs::from_columns(weight, (n_in, n_out))),
            };
        }
        let mut y = gemv(x, weight, n_in);
        for row in y.chunks_exact_mut(n_out) {
            elementwise::add(row, bias);
        }
        elementwise::par_activate(&mut y, self.activation);
        y
    }

    fn backward(&self, pass: Backward<'_>) -> Result<WeightedGrads> {
        let LinearShape { batch, n_in, n_out } = self.shape;
        let Backward { x, weight, y, grad, wants } = pass;
        let before_activation = (self.activation != Activation::Identity)
            .then(|| elementwise::par_activation_grad(grad, y, self.activation));
        let grad = before_activation.as_deref().unwrap_or(grad);
        let product =
            |lhs: PackedLhs, rhs: PackedRhs| multiply_packed(&lhs, &rhs, None, Activation::Identity);
        Ok(WeightedGrads {
            x: wants.x.then(|| {
                let grad = PackedLhs::from_rows(grad, (batch, n_out), None);
                product(grad, PackedRhs::from_rows(weight, (n_out, n_in)))
            }),
            weight: wants.weight.then(|| {
                let grad = PackedLhs::from_columns(grad, (n_out, batch));
                product(grad, PackedRhs::from_rows(x, (batch, n_in)))
            }),
            bias: wants.bias.then(|| elementwise::par_sum_rows(grad, n_out)),
        })
    }
}
