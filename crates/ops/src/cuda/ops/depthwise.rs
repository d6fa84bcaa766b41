//! Depthwise convolution.

use candle_core::{Result, Shape, Tensor};

use super::sums::{channel_sums, total};
use crate::config::Conv2dConfig;
use crate::cuda::node::{self, DeviceOp};
use crate::cuda::program::{Arg, DEPTHWISE, Geometry, Program, int};
use crate::shape::ConvShape;

/// A convolution of as many groups as input channels.
pub(super) fn depthwise(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    shape: ConvShape,
) -> Result<Tensor> {
    let op = Depthwise { shape, biased: bias.is_some() };
    match bias {
        Some(bias) => node::apply(op, &[x, weight, bias]),
        None => node::apply(op, &[x, weight]),
    }
}

struct Depthwise {
    shape: ConvShape,
    biased: bool,
}

impl Depthwise {
    fn x_len(&self) -> usize {
        self.shape.batch * self.shape.input_sample_len()
    }

    fn weight_len(&self) -> usize {
        self.shape.c_out * self.shape.kh * self.shape.kw
    }

    /// The kernels' last arguments.
    fn sizes(&self) -> [Arg; 13] {
        let ConvShape { c_in, h, w, c_out, kh, kw, oh, ow, config, .. } = self.shape;
        let Conv2dConfig { stride, padding, dilation, .. } = config;
        [
            c_out / c_in,
            h,
            w,
            oh,
            ow,
            kh,
            kw,
            stride.0,
            stride.1,
            dilation.0,
            dilation.1,
            padding.top,
            padding.left,
        ]
        .map(int)
    }
}

impl DeviceOp for Depthwise {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output_shape(&self) -> Shape {
        Shape::from(self.shape.output_dims().as_slice())
    }

    fn forward(&self, _: bool) -> Program {
        let ConvShape { batch, c_out, oh, ow, .. } = self.shape;
        let planes = batch * c_out;
        let mut program = Program::default();
        let (x, weight) = (program.input(self.x_len()), program.input(self.weight_len()));
        let bias = self.biased.then(|| program.input(c_out));
        let y = program.output(self.shape.output_len());
        let [x, weight, y] = [x, weight, y].map(Arg::from);
        let [m, h, w, oh_, ow_, kh, kw, sh, sw, dh, dw, top, left] = self.sizes();
        let (planes_, c_out) = (int(planes), int(c_out));
        let args =
            [x, weight, bias.into(), y, planes_, c_out, m, h, w, oh_, ow_, kh, kw, sh, sw, dh, dw, top, left];
        program.launch(DEPTHWISE, "depthwise_forward", Geometry::planes(planes, oh * ow), args);
        program
    }

    fn backward(&self, wants: &[bool]) -> Program {
        let ConvShape { batch, c_in, h, w, c_out, kh, kw, oh, ow, .. } = self.shape;
        let mut program = Program::default();
        let (x, weight) = (program.input(self.x_len()), program.input(self.weight_len()));
        if self.biased {
            program.input(c_out);
        }
        let (_y, grad) = (program.input(self.shape.output_len()), program.input(self.shape.output_len()));
        let [m, h_, w_, oh_, ow_, kh_, kw_, sh, sw, dh, dw, top, left] = self.sizes();
        if wants[0] {
            let x_grad = program.output(self.x_len());
            let planes = batch * c_in;
            let [weight, grad, x_grad] = [weight, grad, x_grad].map(Arg::from);
            let (planes_, c_in) = (int(planes), int(c_in));
            let args = [
                weight,
                grad,
                x_grad,
                planes_,
                c_in,
                m.clone(),
                h_.clone(),
                w_.clone(),
                oh_.clone(),
                ow_.clone(),
                kh_.clone(),
                kw_.clone(),
                sh.clone(),
                sw.clone(),
                dh.clone(),
                dw.clone(),
                top.clone(),
                left.clone(),
            ];
            program.launch(DEPTHWISE, "depthwise_x_grad", Geometry::planes(planes, h * w), args);
        }
        if wants[1] {
            let geometry = Geometry::sums(c_out * kh * kw, batch * oh * ow);
            let sums = program.scratch(geometry.splits() * self.weight_len());
            let args = [
                x.into(),
                grad.into(),
                sums.into(),
                int(batch),
                int(c_out),
                m,
                h_,
                w_,
                oh_,
                ow_,
                kh_,
                kw_,
                sh,
                sw,
                dh,
                dw,
                top,
                left,
            ];
            program.launch(DEPTHWISE, "depthwise_weight_sums", geometry, args);
            total(&mut program, sums, geometry.splits(), self.weight_len());
        }
        if self.biased && wants[2] {
            channel_sums(&mut program, grad, (batch, c_out, oh * ow));
        }
        program
    }
}
