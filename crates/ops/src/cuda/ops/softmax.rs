//! Softmax over the last dimension.

use candle_core::{Result, Shape, Tensor};

use crate::cuda::has_kernels;
use crate::cuda::node::{self, DeviceOp};
use crate::cuda::program::{Geometry, Program, SOFTMAX, int, long};
use crate::reference;
use crate::shape::check_softmax;

/// [`crate::softmax`]
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    if !has_kernels(&[x]) {
        return reference::softmax(x);
    }
    let size = check_softmax(x)?;
    node::apply(Softmax { size, shape: x.shape().clone() }, &[x])
}

struct Softmax {
    size: usize,
    shape: Shape,
}

impl Softmax {
    fn rows(&self) -> usize {
        self.shape.elem_count() / self.size
    }
}

impl DeviceOp for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn output_shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward(&self, _: bool) -> Program {
        let count = self.shape.elem_count();
        let mut program = Program::default();
        let x = program.input(count);
        let y = program.output(count);
        let args = [x.into(), y.into(), long(self.rows()), int(self.size)];
        program.launch(SOFTMAX, "softmax_forward", Geometry::rows(self.rows(), self.size), args);
        program
    }

    fn backward(&self, _: &[bool]) -> Program {
        let count = self.shape.elem_count();
        let mut program = Program::default();
        let _x = program.input(count);
        let y = program.input(count);
        let grad = program.input(count);
        let x_grad = program.output(count);
        let args = [y.into(), grad.into(), x_grad.into(), long(self.rows()), int(self.size)];
        program.launch(SOFTMAX, "softmax_backward", Geometry::rows(self.rows(), self.size), args);
        program
    }
}
