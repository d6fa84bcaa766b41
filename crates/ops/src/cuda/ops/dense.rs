//! Convolution of one or several groups: a product of the weights with the unfolded input.

use candle_core::{Result, Shape, Tensor};

use super::sums::channel_sums;
use crate::config::Conv2dConfig;
use crate::cuda::node::{self, DeviceOp};
use crate::cuda::program::{Arg, CONV, Geometry, Program, int};
use crate::shape::ConvShape;

/// A convolution by one product a group, whose columns are the pixels of all samples.
pub(super) fn dense(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, shape: ConvShape) -> Result<Tensor> {
    let columns = node::apply(Unfold(shape), &[x])?;
    let weight = weight.reshape((shape.config.groups, (), columns.dim(1)?))?;
    let y = weight.matmul(&columns)?;
    let op = FromColumns { shape, biased: bias.is_some() };
    match bias {
        Some(bias) => node::apply(op, &[&y, bias]),
        None => node::apply(op, &[&y]),
    }
}

/// x (B, C, h, w) to columns (groups, C / groups · kh · kw, B · oh · ow).
struct Unfold(ConvShape);

impl Unfold {
    fn x_len(&self) -> usize {
        self.0.batch * self.0.input_sample_len()
    }

    /// Number of rows of the columns.
    fn rows(&self) -> usize {
        self.0.c_in * self.0.kh * self.0.kw
    }

    fn columns_len(&self) -> usize {
        self.rows() * self.0.batch * self.0.oh * self.0.ow
    }

    /// Appends a launch of `kernel` from a buffer to another, one thread for each pixel of `planes`.
    fn launch(&self, program: &mut Program, kernel: &'static str, slots: [Arg; 2], planes: (usize, usize)) {
        let ConvShape { batch, c_in, h, w, kh, kw, oh, ow, config, .. } = self.0;
        let Conv2dConfig { stride, padding, dilation, .. } = config;
        let [from, to] = slots;
        let sizes = [planes.0, batch, c_in, h, w, oh, ow, kh, kw];
        let [planes_, batch, c_in, h, w, oh, ow, kh, kw] = sizes.map(int);
        let [sh, sw, dh, dw, top, left] =
            [stride.0, stride.1, dilation.0, dilation.1, padding.top, padding.left].map(int);
        let args = [from, to, planes_, batch, c_in, h, w, oh, ow, kh, kw, sh, sw, dh, dw, top, left];
        program.launch(CONV, kernel, Geometry::planes(planes.0, planes.1), args);
    }
}

impl DeviceOp for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }

    fn output_shape(&self) -> Shape {
        let groups = self.0.config.groups;
        Shape::from((groups, self.rows() / groups, self.0.batch * self.0.oh * self.0.ow))
    }

    fn forward(&self, _: bool) -> Program {
        let mut program = Program::default();
        let (x, columns) = (program.input(self.x_len()), program.output(self.columns_len()));
        let planes = (self.rows() * self.0.batch, self.0.oh * self.0.ow);
        self.launch(&mut program, "unfold", [x.into(), columns.into()], planes);
        program
    }

    fn backward(&self, _: &[bool]) -> Program {
        let mut program = Program::default();
        let [_x, _columns] = [self.x_len(), self.columns_len()].map(|len| program.input(len));
        let (grad, x_grad) = (program.input(self.columns_len()), program.output(self.x_len()));
        let planes = (self.0.batch * self.0.c_in, self.0.h * self.0.w);
        self.launch(&mut program, "fold", [grad.into(), x_grad.into()], planes);
        program
    }
}

/// Products (O, B · oh · ow) and a bias (O,) to (B, O, oh, ow).
struct FromColumns {
    shape: ConvShape,
    biased: bool,
}

impl DeviceOp for FromColumns {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output_shape(&self) -> Shape {
        Shape::from(self.shape.output_dims().as_slice())
    }

    fn forward(&self, _: bool) -> Program {
        let ConvShape { batch, c_out, oh, ow, .. } = self.shape;
        let mut program = Program::default();
        let products = program.input(self.shape.output_len());
        let bias = self.biased.then(|| program.input(c_out));
        let y = program.output(self.shape.output_len());
        let args = [products.into(), bias.into(), y.into(), int(c_out), int(batch), int(oh * ow)];
        program.launch(CONV, "swap_planes", Geometry::planes(batch * c_out, oh * ow), args);
        program
    }

    fn backward(&self, wants: &[bool]) -> Program {
        let ConvShape { batch, c_out, oh, ow, .. } = self.shape;
        let len = self.shape.output_len();
        let mut program = Program::default();
        program.input(len);
        if self.biased {
            program.input(c_out);
        }
        let (_y, grad) = (program.input(len), program.input(len));
        if wants[0] {
            let products_grad = program.output(len);
            let args = [grad.into(), Arg::Null, products_grad.into(), int(batch), int(c_out), int(oh * ow)];
            program.launch(CONV, "swap_planes", Geometry::planes(batch * c_out, oh * ow), args);
        }
        if self.biased && wants[1] {
            channel_sums(&mut program, grad, (batch, c_out, oh * ow));
        }
        program
    }
}
