//! Linear layers.

use candle_core::{Result, Shape, Tensor};

use crate::activation::activate;
use crate::autograd::is_tracked;
use crate::config::Activation;
use crate::cpu::gemm::{self, Im2colView, PackedLhs, PixelLayout, gemm, gemm_over_pixels, gemv};
use crate::cpu::{self, WeightedGrads, elementwise};
use crate::custom_op::{self, Backward, WeightedOp};
use crate::reference;
use crate::shape::LinearShape;

/// Computes f(x·weightᵀ + bias): `x` (B, in), `weight` (out, in), `bias` (out,) to (B, out).
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
        return reference::linear(x, weight, bias, activation);
    }
    let shape = LinearShape::new(x, weight, bias)?;
    activation.check("linear")?;
    let tracked = [Some(x), Some(weight), bias].into_iter().flatten().any(is_tracked);
    if tracked && !activation.is_monotonic() {
        // The backward pass needs the activation's input.
        return activate(&linear(x, weight, bias, Activation::Identity)?, activation);
    }
    custom_op::apply(LinearOp { shape, activation }, x, weight, bias)
}

struct LinearOp {
    shape: LinearShape,
    activation: Activation,
}

/// The offset of each row of a matrix with rows of `len` values.
fn row_offsets(count: usize, len: usize) -> Vec<usize> {
    (0..count).map(|row| row * len).collect()
}

impl WeightedOp for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn output_shape(&self) -> Shape {
        Shape::from((self.shape.batch, self.shape.n_out))
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let LinearShape { batch, n_in, n_out } = self.shape;
        let mut y = if batch <= gemm::MAX_ROWS {
            gemv(x, weight, n_in)
        } else {
            let (x_rows, weight_rows) = (row_offsets(batch, n_in), row_offsets(n_out, n_in));
            let features = PixelLayout::flat(n_in, n_in);
            let x = Im2colView::new(x, &x_rows, features, 1);
            gemm_over_pixels(&x, &Im2colView::new(weight, &weight_rows, features, 1))
        };
        for row in y.chunks_exact_mut(n_out) {
            elementwise::add(row, bias);
        }
        elementwise::par_activate(&mut y, self.activation);
        y
    }

    fn backward(&self, pass: Backward<'_>) -> Result<WeightedGrads> {
        let LinearShape { batch, n_in, n_out } = self.shape;
        let Backward { x, weight, y, grad, wants } = pass;
        let grad = elementwise::par_activation_grad(grad, y, self.activation);
        let features = PixelLayout::flat(n_in, n_in);
        // lhs · rhs, where rhs has rows of `n_in` values.
        let product = |lhs: PackedLhs, rhs: &[f32], rhs_rows: usize| {
            let rhs_rows = row_offsets(rhs_rows, n_in);
            gemm(&lhs, &Im2colView::new(rhs, &rhs_rows, features, 1))
        };
        Ok(WeightedGrads {
            x: wants.x.then(|| product(PackedLhs::from_rows(&grad, (batch, n_out), None), weight, n_out)),
            weight: wants.weight.then(|| product(PackedLhs::from_columns(&grad, (n_out, batch)), x, batch)),
            bias: wants.bias.then(|| {
                let mut sums = vec![0.0; n_out];
                grad.chunks_exact(n_out).for_each(|row| elementwise::add(&mut sums, row));
                sums
            }),
        })
    }
}
