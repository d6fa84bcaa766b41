//! Batch normalization with a residual and an activation.

use candle_core::{Result, Shape, Tensor};

use super::activation::{activate, kind, slope};
use super::sums::{Sums, sum_splits};
use crate::batch_norm::BatchNorm;
use crate::config::Activation;
use crate::cuda::node::{self, DeviceOp};
use crate::cuda::program::{Arg, BATCH_NORM, Geometry, Program, Slot, int, long};
use crate::cuda::{has_kernels, run};
use crate::reference;

/// [`crate::batch_norm`]
pub(crate) fn batch_norm(
    x: &Tensor,
    norm: &BatchNorm,
    activation: Activation,
    train: bool,
) -> Result<Tensor> {
    if !takes(x, norm) {
        return reference::batch_norm(x, norm, activation, train);
    }
    let (op, x) = normalize(x, norm, activation, train, false)?;
    node::apply(op, &[&x, &norm.weight, &norm.bias])
}

/// f(batch_norm(x) + residual), the residual of x's shape.
pub(super) fn batch_norm_add(
    x: &Tensor,
    norm: &BatchNorm,
    residual: &Tensor,
    activation: Activation,
    train: bool,
) -> Result<Tensor> {
    if !takes(x, norm) || !has_kernels(&[residual]) {
        let y = (batch_norm(x, norm, Activation::Identity, train)? + residual)?;
        return activate(&y, activation);
    }
    let (op, x) = normalize(x, norm, activation, train, true)?;
    node::apply4(op, [&x, residual, &norm.weight, &norm.bias])
}

fn takes(x: &Tensor, norm: &BatchNorm) -> bool {
    has_kernels(&[x, &norm.weight, &norm.bias, &norm.running_mean, &norm.running_var])
}

/// The op, with the batch's moments in training, and its contiguous input.
fn normalize(
    x: &Tensor,
    norm: &BatchNorm,
    activation: Activation,
    train: bool,
    with_residual: bool,
) -> Result<(Normalize, Tensor)> {
    activation.check("batch_norm")?;
    let count = norm.check(x.dims())?;
    let (batch, channels, h, w) = x.dims4()?;
    let mut op = Normalize {
        moments: [norm.running_mean.detach().contiguous()?, norm.running_var.detach().contiguous()?],
        by_batch: BatchNorm::by_batch(count, train),
        batch,
        channels,
        pixels: h * w,
        epsilon: norm.epsilon as f32,
        activation,
        with_residual,
        shape: x.shape().clone(),
    };
    let x = x.contiguous()?;
    if op.by_batch {
        op.moments = op.measure(&x, norm)?;
    }
    Ok((op, x))
}

struct Normalize {
    /// Mean and variance.
    moments: [Tensor; 2],
    /// Whether these are the batch's.
    by_batch: bool,
    batch: usize,
    channels: usize,
    pixels: usize,
    epsilon: f32,
    activation: Activation,
    /// Whether the second argument is added.
    with_residual: bool,
    shape: Shape,
}

impl Normalize {
    /// The moments of `x`, by which the running statistics are updated.
    fn measure(&self, x: &Tensor, norm: &BatchNorm) -> Result<[Tensor; 2]> {
        let &Self { batch, channels, pixels, .. } = self;
        let mut program = Program::default();
        let in_x = program.input(x.elem_count());
        let (running_mean, running_var) = (program.in_place(channels), program.in_place(channels));
        let (means, vars) = (program.output(channels), program.output(channels));
        let count = batch * pixels;
        let geometry = Geometry::sums(channels, count);
        let partial = [(); 2].map(|()| program.scratch(geometry.splits() * channels));
        let [in_x, means, vars, running_mean, running_var] =
            [in_x, means, vars, running_mean, running_var].map(Arg::from);
        let [sums, squares] = partial.map(Arg::from);
        let splits = int(geometry.splits());
        let args = [in_x.clone(), sums.clone(), squares.clone(), int(batch), int(channels), int(pixels)];
        program.launch(BATCH_NORM, "batch_norm_sums", geometry, args);
        let correction = norm.running_variance.correction(count) as f32;
        let args = [
            in_x,
            sums,
            squares,
            means,
            vars,
            running_mean,
            running_var,
            splits,
            int(channels),
            int(pixels),
            long(count),
            (norm.momentum as f32).into(),
            correction.into(),
        ];
        program.launch(BATCH_NORM, "batch_norm_moments", Geometry::values(channels), args);
        let in_place = [&norm.running_mean, &norm.running_var];
        let contiguous = in_place.map(|tensor| tensor.is_contiguous());
        let running = [in_place[0].contiguous()?, in_place[1].contiguous()?];
        let moments = run(&program, &[x, &running[0], &running[1]])?;
        for ((tensor, updated), contiguous) in in_place.into_iter().zip(&running).zip(contiguous) {
            if !contiguous {
                tensor.flatten_all()?.slice_set(&updated.flatten_all()?, 0, 0)?;
            }
        }
        let shape = Shape::from(channels);
        match <[_; 2]>::try_from(moments) {
            Ok(moments) => Ok(moments.map(|moment| node::tensor(moment, &shape))),
            Err(other) => candle_core::bail!("batch_norm: {} moments", other.len()),
        }
    }

    fn count(&self) -> usize {
        self.shape.elem_count()
    }

    /// x, the residual, weight and bias, then the moments, as the kernels take them.
    fn inputs(&self, program: &mut Program) -> [Arg; 6] {
        let x = program.input(self.count());
        let residual = self.with_residual.then(|| program.input(self.count()));
        let [weight, bias, mean, var] = [(); 4].map(|()| Arg::from(program.input(self.channels)));
        [x.into(), residual.into(), mean, var, weight, bias]
    }

    /// The kernels' last arguments.
    fn function(&self) -> [Arg; 3] {
        [self.epsilon.into(), kind(self.activation), slope(self.activation)]
    }

    fn planes(&self) -> usize {
        self.batch * self.channels
    }

    /// The gradients of weight and bias, in two passes; scratch where they are not wanted.
    fn param_grads(
        &self,
        program: &mut Program,
        inputs: &[Arg; 6],
        grad: Slot,
        wants: [bool; 2],
    ) -> [Slot; 2] {
        let &Self { batch, channels, pixels, .. } = self;
        let geometry = Geometry::sums(channels, batch * pixels);
        let sums = Sums::new(program, channels, geometry.splits());
        let [weight_sums, bias_sums] = sums.partial.map(Arg::from);
        let [x, residual, mean, var, weight, bias] = inputs.clone();
        let [epsilon, kind, slope] = self.function();
        let args = [
            x,
            residual,
            mean,
            var,
            weight,
            bias,
            grad.into(),
            weight_sums,
            bias_sums,
            int(batch),
            int(channels),
            int(pixels),
            epsilon,
            kind,
            slope,
        ];
        program.launch(BATCH_NORM, "batch_norm_grad_sums", geometry, args);
        sum_splits(program, &sums, wants)
    }
}

impl DeviceOp for Normalize {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn output_shape(&self) -> Shape {
        self.shape.clone()
    }

    fn extras(&self) -> Vec<&Tensor> {
        self.moments.iter().collect()
    }

    fn forward(&self, _: bool) -> Program {
        let mut program = Program::default();
        let [x, residual, mean, var, weight, bias] = self.inputs(&mut program);
        let y = program.output(self.count());
        let [epsilon, kind, slope] = self.function();
        let (planes, channels, pixels) = (int(self.planes()), int(self.channels), int(self.pixels));
        let y = y.into();
        let args = [x, residual, mean, var, weight, bias, y, planes, channels, pixels, epsilon, kind, slope];
        let geometry = Geometry::planes(self.planes(), self.pixels.div_ceil(4));
        program.launch(BATCH_NORM, "batch_norm_apply", geometry, args);
        program
    }

    fn backward(&self, wants: &[bool]) -> Program {
        let mut program = Program::default();
        let inputs = self.inputs(&mut program);
        let (_y, grad) = (program.input(self.count()), program.input(self.count()));
        let x_grad = wants[0].then(|| program.output(self.count()));
        let residual_grad = (self.with_residual && wants[1]).then(|| program.output(self.count()));
        let params = if self.with_residual { [wants[2], wants[3]] } else { [wants[1], wants[2]] };
        let params = (params[0] || params[1] || (self.by_batch && wants[0]))
            .then(|| self.param_grads(&mut program, &inputs, grad, params));
        if x_grad.is_none() && residual_grad.is_none() {
            return program;
        }
        let [weight_grads, bias_grads] = [0, 1].map(|i| Arg::from(params.map(|params| params[i])));
        let [x, residual, mean, var, weight, bias] = inputs;
        let [epsilon, kind, slope] = self.function();
        let count = if self.by_batch { self.batch * self.pixels } else { 0 };
        let args = [
            x,
            residual,
            mean,
            var,
            weight,
            bias,
            grad.into(),
            weight_grads,
            bias_grads,
            x_grad.into(),
            residual_grad.into(),
            int(self.planes()),
            int(self.channels),
            int(self.pixels),
            long(count),
            epsilon,
            kind,
            slope,
        ];
        let geometry = Geometry::planes(self.planes(), self.pixels.div_ceil(4));
        program.launch(BATCH_NORM, "batch_norm_x_grad", geometry, args);
        program
    }
}
