//! Dropout from a seed.

use candle_core::{Result, Shape, Tensor};

use crate::cuda::has_kernels;
use crate::cuda::node::{self, DeviceOp};
use crate::cuda::program::{DROPOUT, Geometry, Program, long};
use crate::reference;

/// [`crate::dropout`]
pub(crate) fn dropout(x: &Tensor, rate: f64, seed: u64) -> Result<Tensor> {
    if !has_kernels(&[x]) || !(0.0..1.0).contains(&rate) {
        return reference::dropout(x, rate, seed);
    }
    node::apply(Dropout { rate, seed, shape: x.shape().clone() }, &[x])
}

struct Dropout {
    rate: f64,
    seed: u64,
    shape: Shape,
}

impl Dropout {
    /// The mask's product with the buffer that `from` chooses.
    fn program(&self, from: impl FnOnce(&mut Program, usize) -> crate::cuda::program::Slot) -> Program {
        let count = self.shape.elem_count();
        let mut program = Program::default();
        let x = from(&mut program, count);
        let y = program.output(count);
        // A fraction of 53 bits is below the rate where its numerator is below this.
        let threshold = (self.rate * (1u64 << 53) as f64).ceil() as u64;
        let scale = (1.0 / (1.0 - self.rate)) as f32;
        let args = [x.into(), y.into(), long(count), self.seed.into(), threshold.into(), scale.into()];
        program.launch(DROPOUT, "dropout", Geometry::fours(count), args);
        program
    }
}

impl DeviceOp for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn output_shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward(&self, _: bool) -> Program {
        self.program(Program::input)
    }

    fn backward(&self, _: &[bool]) -> Program {
        self.program(|program, count| {
            let [_x, _y, grad] = [(); 3].map(|()| program.input(count));
            grad
        })
    }
}
