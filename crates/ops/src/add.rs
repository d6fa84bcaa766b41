//! Sums of two tensors.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use crate::autograd::{apply2, route};
use crate::cpu::{self, elementwise};
use crate::error::expect_shape;

/// `x` + `y` of equal shapes: a residual connection (He et al. 2016).
///
/// On the CPU it runs on the threads of the other ops. candle's `+` runs on threads of its own, which then compete with these.
///
/// # Errors
///
/// Shapes that differ.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(firstsight_ops::add(&x, &x)?.to_vec1::<f32>()?, [2., 4.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    expect_shape("add", "y", y, x.dims())?;
    if !cpu::has_kernels(&[x, y]) {
        return x + y;
    }
    apply2([&x.contiguous()?, &y.contiguous()?], Add)
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sum = elementwise::par_added(cpu::slice(x, x_layout)?, cpu::slice(y, y_layout)?);
        Ok((CpuStorage::F32(sum), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad_of = |arg: &Tensor| if arg.track_op() { route(arg, grad.clone()) } else { None };
        Ok((grad_of(x), grad_of(y)))
    }
}
