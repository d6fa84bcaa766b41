//! Layer normalization over the last dimension and over channels.

use candle_core::{Result, Shape, Tensor};

use crate::cuda::has_kernels;
use crate::cuda::node::{self, DeviceOp};
use crate::cuda::ops::sums::{Sums, sum_splits};
use crate::cuda::program::{Geometry, LAYER_NORM, Program, Slot, int, long};
use crate::reference;
use crate::shape::NormShape;

/// [`crate::layer_norm`]
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    if !has_kernels(&[x, weight, bias]) {
        return reference::layer_norm(x, weight, bias, epsilon);
    }
    let NormShape { features, count, .. } = NormShape::over_last("layer_norm", x, weight, bias, epsilon)?;
    let layout = Layout::Rows { rows: count / features };
    node::apply(
        LayerNorm { layout, features, epsilon: epsilon as f32, shape: x.shape().clone() },
        &[x, weight, bias],
    )
}

/// [`crate::layer_norm_2d`]
pub(crate) fn layer_norm_2d(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    if !has_kernels(&[x, weight, bias]) {
        return reference::layer_norm_2d(x, weight, bias, epsilon);
    }
    let features = NormShape::over_channels("layer_norm_2d", x, weight, bias, epsilon)?.features;
    let layout = Layout::Channels { batch: x.dim(0)?, pixels: x.dim(2)? * x.dim(3)? };
    node::apply(
        LayerNorm { layout, features, epsilon: epsilon as f32, shape: x.shape().clone() },
        &[x, weight, bias],
    )
}

/// Where the values that are normalized together stand.
#[derive(Clone, Copy)]
enum Layout {
    /// (rows, features)
    Rows { rows: usize },
    /// (batch, features, pixels)
    Channels { batch: usize, pixels: usize },
}

struct LayerNorm {
    layout: Layout,
    features: usize,
    epsilon: f32,
    shape: Shape,
}

impl LayerNorm {
    /// Number of means.
    fn places(&self) -> usize {
        self.shape.elem_count() / self.features
    }
}

impl DeviceOp for LayerNorm {
    fn name(&self) -> &'static str {
        match self.layout {
            Layout::Rows { .. } => "layer_norm",
            Layout::Channels { .. } => "layer_norm_2d",
        }
    }

    fn output_shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward(&self, _: bool) -> Program {
        let (count, places, size) = (self.shape.elem_count(), self.places(), self.features);
        let mut program = Program::default();
        let (x, weight, bias) = (program.input(count), program.input(size), program.input(size));
        let (y, means, scales) = (program.output(count), program.output(places), program.output(places));
        let [x, weight, bias, y, means, scales] = [x, weight, bias, y, means, scales].map(Into::into);
        match self.layout {
            Layout::Rows { rows } => {
                let args = [x, weight, bias, y, means, scales, long(rows), int(size), self.epsilon.into()];
                program.launch(LAYER_NORM, "layer_norm_rows", Geometry::rows(rows, size), args);
            }
            Layout::Channels { pixels, .. } => {
                let (places_, epsilon) = (long(places), self.epsilon.into());
                let args = [x, weight, bias, y, means, scales, places_, int(size), int(pixels), epsilon];
                program.launch(LAYER_NORM, "layer_norm_channels", Geometry::places(places), args);
            }
        }
        program
    }

    fn backward(&self, wants: &[bool]) -> Program {
        let (count, places, size) = (self.shape.elem_count(), self.places(), self.features);
        let mut program = Program::default();
        let (x, weight, _bias) = (program.input(count), program.input(size), program.input(size));
        let (_y, means, scales) = (program.input(count), program.input(places), program.input(places));
        let grad = program.input(count);
        let x_grad = wants[0].then(|| program.output(count));
        if let Some(x_grad) = x_grad {
            let [x, weight, means, scales, grad, x_grad] =
                [x, weight, means, scales, grad, x_grad].map(Into::into);
            match self.layout {
                Layout::Rows { rows } => {
                    let args = [x, weight, means, scales, grad, x_grad, long(rows), int(size)];
                    program.launch(LAYER_NORM, "layer_norm_rows_x_grad", Geometry::rows(rows, size), args);
                }
                Layout::Channels { pixels, .. } => {
                    let args = [x, weight, means, scales, grad, x_grad, long(places), int(size), int(pixels)];
                    program.launch(LAYER_NORM, "layer_norm_channels_x_grad", Geometry::places(places), args);
                }
            }
        }
        if wants[1] || wants[2] {
            self.param_grads(&mut program, [x, means, scales, grad], [wants[1], wants[2]]);
        }
        program
    }
}

impl LayerNorm {
    /// The gradients of weight and bias, in two passes.
    fn param_grads(&self, program: &mut Program, slots: [Slot; 4], wants: [bool; 2]) {
        let size = self.features;
        let [x, means, scales, grad] = slots.map(Into::into);
        let geometry = match self.layout {
            Layout::Rows { rows } => Geometry::columns(size, rows),
            Layout::Channels { batch, pixels } => Geometry::sums(size, batch * pixels),
        };
        let sums = Sums::new(program, size, geometry.splits());
        let [weight_sums, bias_sums] = sums.partial.map(Into::into);
        match self.layout {
            Layout::Rows { rows } => {
                let args = [x, means, scales, grad, weight_sums, bias_sums, long(rows), int(size)];
                program.launch(LAYER_NORM, "layer_norm_rows_param_sums", geometry, args);
            }
            Layout::Channels { batch, pixels } => {
                let (batch, size, pixels) = (int(batch), int(size), int(pixels));
                let args = [x, means, scales, grad, weight_sums, bias_sums, batch, size, pixels];
                program.launch(LAYER_NORM, "layer_norm_channels_param_sums", geometry, args);
            }
        }
        sum_splits(program, &sums, wants);
    }
}
