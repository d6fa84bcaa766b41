//! Activation functions.

use candle_core::{Result, Shape, Tensor};

use crate::config::Activation;
use crate::cuda::has_kernels;
use crate::cuda::node::{self, DeviceOp};
use crate::cuda::program::{ACTIVATION, Arg, Geometry, Program, long};
use crate::reference;

/// [`crate::activate`]
pub(crate) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::Identity || !has_kernels(&[x]) {
        return reference::activate(x, activation);
    }
    activation.check("activate")?;
    node::apply(Activate { activation, shape: x.shape().clone() }, &[x])
}

/// The function's number in `prelude.cuh`.
pub(super) fn kind(activation: Activation) -> Arg {
    Arg::Int(match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::Relu6 => 2,
        Activation::Tanh => 3,
        Activation::Sigmoid => 4,
        Activation::HardSigmoid => 5,
        Activation::Silu => 6,
        Activation::HardSwish => 7,
        Activation::Gelu => 8,
        Activation::GeluTanh => 9,
        Activation::LeakyRelu(_) => 10,
    })
}

/// The slope of a leaky ReLU.
pub(super) fn slope(activation: Activation) -> Arg {
    Arg::Float(if let Activation::LeakyRelu(slope) = activation { slope as f32 } else { 0.0 })
}

struct Activate {
    activation: Activation,
    shape: Shape,
}

impl DeviceOp for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn output_shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward(&self, _: bool) -> Program {
        let count = self.shape.elem_count();
        let mut program = Program::default();
        let x = program.input(count);
        let y = program.output(count);
        let args = [x.into(), y.into(), long(count), kind(self.activation), slope(self.activation)];
        program.launch(ACTIVATION, "activate_forward", Geometry::fours(count), args);
        program
    }

    fn backward(&self, _: &[bool]) -> Program {
        let count = self.shape.elem_count();
        let mut program = Program::default();
        let x = program.input(count);
        let _y = program.input(count);
        let grad = program.input(count);
        let x_grad = program.output(count);
        let (kind, slope) = (kind(self.activation), slope(self.activation));
        let args = [x.into(), grad.into(), x_grad.into(), long(count), kind, slope];
        program.launch(ACTIVATION, "activate_backward", Geometry::fours(count), args);
        program
    }
}
