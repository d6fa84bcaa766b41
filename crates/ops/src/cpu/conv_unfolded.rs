//! Convolution as a matrix product with the unfolded input: the backward pass where every output position has a
//! gradient, and the forward pass of maps too large for the direct kernel.

use rayon::prelude::*;

use super::conv_sparse::Grads;
use super::elementwise;
use super::gemm::{Matrix, gemm};
use super::scratch::Scratch;
use crate::config::Activation;
use crate::shape::ConvShape;

/// The convolution with bias and activation.
pub(crate) fn forward(
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
) -> Vec<f32> {
    let group = Group::new(shape);
    let pixels = shape.oh * shape.ow;
    let mut out = vec![0.0; shape.batch * shape.c_out * pixels];
    let samples = x.par_chunks_exact(shape.c_in * shape.h * shape.w);
    out.par_chunks_exact_mut(shape.c_out * pixels).zip(samples).for_each(|(out, x)| {
        let mut unfolded = Scratch::dirty(group.unfolded_len());
        let planes = out.chunks_exact_mut(group.channels_out * pixels);
        let inputs = x.chunks_exact(group.channels_in * shape.h * shape.w);
        let weights = weight.chunks_exact(group.channels_out * group.taps);
        for ((planes, x), weights) in planes.zip(inputs).zip(weights) {
            let columns = group.columns(x, &mut unfolded);
            gemm(planes, Matrix::new(weights, group.channels_out, group.taps), columns, false);
        }
        for (plane, bias) in out.chunks_exact_mut(pixels).zip(bias) {
            plane.iter_mut().for_each(|value| *value += bias);
        }
        elementwise::activate(out, activation);
    });
    out
}

/// The gradients, from the gradient before the activation, summed over blocks of samples in their order.
pub(crate) fn backward(
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    wants_x: bool,
    wants_weight: bool,
) -> Grads {
    let group = Group::new(shape);
    let pixels = shape.oh * shape.ow;
    let blocks = ((4 << 20) / weight.len().max(1)).clamp(4, 32).min(shape.batch);
    let block = shape.batch.div_ceil(blocks);
    let (sample_in, sample_out) = (shape.c_in * shape.h * shape.w, shape.c_out * pixels);
    let mut x_grad = vec![0.0; if wants_x { x.len() } else { 0 }];
    let x_blocks: Vec<&mut [f32]> = if wants_x {
        x_grad.chunks_mut(block * sample_in).collect()
    } else {
        (0..shape.batch).step_by(block).map(|_| Default::default()).collect()
    };
    let partial: Vec<(Vec<f32>, Vec<f32>)> = x_blocks
        .into_par_iter()
        .zip(x.par_chunks(block * sample_in))
        .zip(grad.par_chunks(block * sample_out))
        .map(|((x_grad, x), grad)| {
            let mut weight_grad = vec![0.0; if wants_weight { weight.len() } else { 0 }];
            let mut bias_grad = vec![0.0; shape.c_out];
            let mut unfolded = Scratch::dirty(group.unfolded_len());
            let mut product = Scratch::dirty(if wants_x { group.taps * pixels } else { 0 });
            for (sample, grad) in grad.chunks_exact(sample_out).enumerate() {
                for (bias_grad, plane) in bias_grad.iter_mut().zip(grad.chunks_exact(pixels)) {
                    *bias_grad += elementwise::sum(plane);
                }
                for (index, grad) in grad.chunks_exact(group.channels_out * pixels).enumerate() {
                    let grad = Matrix::new(grad, group.channels_out, pixels);
                    let weights = index * group.channels_out * group.taps..;
                    let weights = weights.start..weights.start + group.channels_out * group.taps;
                    let map_len = group.channels_in * shape.h * shape.w;
                    let map =
                        sample * sample_in + index * map_len..sample * sample_in + (index + 1) * map_len;
                    if wants_weight {
                        let columns = group.columns(&x[map.clone()], &mut unfolded);
                        gemm(&mut weight_grad[weights.clone()], grad, columns.t(), true);
                    }
                    if wants_x {
                        let weights = Matrix::new(&weight[weights], group.channels_out, group.taps);
                        gemm(&mut product, weights.t(), grad, false);
                        group.fold(&product, &mut x_grad[map]);
                    }
                }
            }
            (weight_grad, bias_grad)
        })
        .collect();
    let mut sums = partial.into_iter();
    let (mut weight_grad, mut bias) = sums.next().unwrap_or_default();
    for (weight_part, bias_part) in sums {
        elementwise::add(&mut weight_grad, &weight_part);
        elementwise::add(&mut bias, &bias_part);
    }
    Grads { x: wants_x.then_some(x_grad), weight: wants_weight.then_some(weight_grad), bias }
}

/// One group of channels of one sample.
struct Group<'a> {
    shape: &'a ConvShape,
    channels_in: usize,
    channels_out: usize,
    taps: usize,
    /// A 1×1 convolution that visits every pixel: the input is its own unfolding.
    pointwise: bool,
}

impl<'a> Group<'a> {
    fn new(shape: &'a ConvShape) -> Self {
        let groups = shape.config.groups;
        let channels_in = shape.c_in / groups;
        let pointwise = (shape.kh, shape.kw) == (1, 1)
            && shape.config.stride == (1, 1)
            && (shape.oh, shape.ow) == (shape.h, shape.w);
        let taps = channels_in * shape.kh * shape.kw;
        Self { shape, channels_in, channels_out: shape.c_out / groups, taps, pointwise }
    }

    fn unfolded_len(&self) -> usize {
        if self.pointwise { 0 } else { self.taps * self.shape.oh * self.shape.ow }
    }

    /// What each tap sees at each position: taps × positions.
    fn columns<'b>(&self, x: &'b [f32], unfolded: &'b mut [f32]) -> Matrix<'b> {
        let pixels = self.shape.oh * self.shape.ow;
        if self.pointwise {
            return Matrix::new(x, self.taps, pixels);
        }
        self.each_row(|map_row, (positions, (first, count))| {
            let row = &mut unfolded[positions.clone()];
            row[..first].fill(0.0);
            row[first + count..].fill(0.0);
            if let Some(start) = map_row {
                let values = x[start..].iter().step_by(self.shape.config.stride.1);
                row[first..first + count].iter_mut().zip(values).for_each(|(to, from)| *to = *from);
            }
        });
        Matrix::new(unfolded, self.taps, pixels)
    }

    /// Adds what the taps saw back to where they saw it. `x` starts as zeros.
    fn fold(&self, product: &[f32], x: &mut [f32]) {
        if self.pointwise {
            x.copy_from_slice(product);
            return;
        }
        self.each_row(|map_row, (positions, (first, count))| {
            if let Some(start) = map_row {
                let targets = x[start..].iter_mut().step_by(self.shape.config.stride.1);
                product[positions][first..first + count]
                    .iter()
                    .zip(targets)
                    .for_each(|(from, to)| *to += *from);
            }
        });
    }

    /// For each tap and output row: where the first pixel that it sees lies in the group's map, if any; the row's
    /// range in the unfolded matrix; and which positions in it see pixels (first, count).
    fn each_row(&self, mut each: impl FnMut(Option<usize>, (std::ops::Range<usize>, (usize, usize)))) {
        let &ConvShape { h, w, kh, kw, oh, ow, config, .. } = self.shape;
        let mut at = 0;
        for c in 0..self.channels_in {
            for ky in 0..kh {
                for kx in 0..kw {
                    let (first, count) =
                        seen(ow, config.stride.1, kx * config.dilation.1, config.padding.left, w);
                    let (first_y, count_y) =
                        seen(oh, config.stride.0, ky * config.dilation.0, config.padding.top, h);
                    for oy in 0..oh {
                        let inside = count > 0 && (first_y..first_y + count_y).contains(&oy);
                        let start = inside.then(|| {
                            let y = oy * config.stride.0 + ky * config.dilation.0 - config.padding.top;
                            let x = first * config.stride.1 + kx * config.dilation.1 - config.padding.left;
                            (c * h + y) * w + x
                        });
                        let visible = if inside { (first, count) } else { (0, 0) };
                        each(start, (at..at + ow, visible));
                        at += ow;
                    }
                }
            }
        }
    }
}

/// The outputs (first, count) at which a tap `offset` into the window sees one of `size` pixels.
fn seen(outputs: usize, stride: usize, offset: usize, padding: usize, size: usize) -> (usize, usize) {
    let first = padding.saturating_sub(offset).div_ceil(stride).min(outputs);
    let end =
        if size + padding > offset { (size + padding - offset).div_ceil(stride).min(outputs) } else { 0 };
    (first, end.saturating_sub(first))
}
