//! Max and average pooling.

use candle_core::{Result, Shape, Tensor};

use crate::config::{PadCounting, Pool2dConfig};
use crate::cuda::has_kernels;
use crate::cuda::node::{self, DeviceOp};
use crate::cuda::program::{Arg, Geometry, POOL, Program, int, long};
use crate::reference;
use crate::shape::PoolShape;

/// [`crate::max_pool2d`]
pub(crate) fn max_pool2d(x: &Tensor, config: &Pool2dConfig) -> Result<Tensor> {
    if !has_kernels(&[x]) {
        return reference::max_pool2d(x, config);
    }
    node::apply(MaxPool(PoolShape::new(x.dims(), config)?), &[x])
}

/// [`crate::avg_pool2d`]
pub(crate) fn avg_pool2d(x: &Tensor, config: &Pool2dConfig, counting: PadCounting) -> Result<Tensor> {
    if !has_kernels(&[x]) {
        return reference::avg_pool2d(x, config, counting);
    }
    node::apply(AvgPool { shape: PoolShape::new(x.dims(), config)?, counting }, &[x])
}

impl PoolShape {
    fn planes(&self) -> usize {
        self.batch * self.channels
    }

    fn inputs(&self) -> usize {
        self.planes() * self.h * self.w
    }

    fn outputs(&self) -> usize {
        self.planes() * self.oh * self.ow
    }

    fn output(&self) -> Shape {
        Shape::from((self.batch, self.channels, self.oh, self.ow))
    }

    /// The kernels' arguments after the pointers.
    fn args(&self) -> [Arg; 11] {
        let Pool2dConfig { kernel, stride, padding, .. } = self.config;
        [
            self.planes(),
            self.h,
            self.w,
            self.oh,
            self.ow,
            kernel.0,
            kernel.1,
            stride.0,
            stride.1,
            padding.0,
            padding.1,
        ]
        .map(int)
    }
}

struct MaxPool(PoolShape);

impl DeviceOp for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn output_shape(&self) -> Shape {
        self.0.output()
    }

    fn forward(&self, saves: bool) -> Program {
        let shape = &self.0;
        let mut program = Program::default();
        let x = program.input(shape.inputs());
        let y = program.output(shape.outputs());
        let argmax = saves.then(|| program.output_u32(shape.outputs()));
        let [planes, h, w, oh, ow, kh, kw, sh, sw, ph, pw] = shape.args();
        let args = [x.into(), y.into(), argmax.into(), planes, h, w, oh, ow, kh, kw, sh, sw, ph, pw];
        let geometry = Geometry::planes(shape.planes(), shape.oh * shape.ow);
        program.launch(POOL, "max_pool_forward", geometry, args);
        program
    }

    fn backward(&self, _: &[bool]) -> Program {
        let shape = &self.0;
        let mut program = Program::default();
        let (_x, _y) = (program.input(shape.inputs()), program.input(shape.outputs()));
        let (argmax, grad) = (program.input_u32(shape.outputs()), program.input(shape.outputs()));
        let x_grad = program.output(shape.inputs());
        let [planes, h, w, oh, ow, kh, kw, sh, sw, ph, pw] = shape.args();
        let args = [argmax.into(), grad.into(), x_grad.into(), planes, h, w, oh, ow, kh, kw, sh, sw, ph, pw];
        program.launch(POOL, "max_pool_backward", Geometry::planes(shape.planes(), shape.h * shape.w), args);
        program
    }
}

struct AvgPool {
    shape: PoolShape,
    counting: PadCounting,
}

impl AvgPool {
    fn with_padding(&self) -> Arg {
        Arg::Int(i32::from(self.counting == PadCounting::Include))
    }
}

impl DeviceOp for AvgPool {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn output_shape(&self) -> Shape {
        self.shape.output()
    }

    fn forward(&self, _: bool) -> Program {
        let shape = &self.shape;
        let (planes, pixels) = (shape.planes(), shape.h * shape.w);
        let mut program = Program::default();
        let x = program.input(shape.inputs());
        let y = program.output(shape.outputs());
        if shape.is_global() {
            let args = [x.into(), y.into(), long(planes), int(pixels)];
            program.launch(POOL, "row_means", Geometry::rows(planes, pixels), args);
        } else {
            let geometry = Geometry::planes(planes, shape.oh * shape.ow);
            let [planes, h, w, oh, ow, kh, kw, sh, sw, ph, pw] = shape.args();
            let counting = self.with_padding();
            let args = [x.into(), y.into(), planes, h, w, oh, ow, kh, kw, sh, sw, ph, pw, counting];
            program.launch(POOL, "avg_pool_forward", geometry, args);
        }
        program
    }

    fn backward(&self, _: &[bool]) -> Program {
        let shape = &self.shape;
        let mut program = Program::default();
        let (_x, _y) = (program.input(shape.inputs()), program.input(shape.outputs()));
        let grad = program.input(shape.outputs());
        let x_grad = program.output(shape.inputs());
        let geometry = Geometry::planes(shape.planes(), shape.h * shape.w);
        let [planes, h, w, oh, ow, kh, kw, sh, sw, ph, pw] = shape.args();
        let counting = self.with_padding();
        let args = [grad.into(), x_grad.into(), planes, h, w, oh, ow, kh, kw, sh, sw, ph, pw, counting];
        program.launch(POOL, "avg_pool_backward", geometry, args);
        program
    }
}
