//! Convolutions as matrix products with the unfolded input, one product per group of channels.

use std::ops::Range;

use super::epilogue::{Epilogue, LazyMap};
use super::padded_input::PaddedInput;
use crate::config::Activation;
use crate::config::Padding2d;
use crate::cpu::gemm::{
    GemmOutput, Im2colView, PackedLhs, PixelLayout, TILE_ROWS, gemm_into, gemm_over_pixels, gemm_rows_into,
};
use crate::shape::ConvShape;

/// The windows of a convolution in the padded input.
struct Windows {
    kernel_offsets: Vec<usize>,
    pixels: PixelLayout,
    /// Distance from one group's channels to the next's.
    group: usize,
    /// Number of parts that a row is split into: one per column of the stride, so that neighbors
    /// are read at once, and a single one where each value is read once.
    parts: usize,
}

impl Windows {
    fn new(shape: &ConvShape) -> Self {
        let &ConvShape { c_in, kh, kw, oh, ow, config, .. } = shape;
        let parts = if (kh, kw) == (1, 1) { 1 } else { config.stride.1 };
        let (rows, cols) = (shape.padded_h(), shape.padded_w().next_multiple_of(parts));
        let (plane, group_in) = (rows * cols, c_in / config.groups);
        let offset = |c: usize, ky: usize, kx: usize| {
            let x = kx * config.dilation.1;
            c * plane + ky * config.dilation.0 * cols + x % parts * (cols / parts) + x / parts
        };
        let mut kernel_offsets = Vec::with_capacity(group_in * kh * kw);
        for c in 0..group_in {
            for ky in 0..kh {
                kernel_offsets.extend((0..kw).map(|kx| offset(c, ky, kx)));
            }
        }
        let pixels = if config.stride == (1, 1) && ow == cols {
            PixelLayout::flat(oh * ow, c_in * plane)
        } else {
            let (step, run_stride) = (config.stride.1 / parts, config.stride.0 * cols);
            PixelLayout { count: oh * ow, run: ow, step, run_stride, sample_stride: c_in * plane }
        };
        Self { kernel_offsets, pixels, group: group_in * plane, parts }
    }

    /// The padded input, and the epilogue to apply when reading it: the whole epilogue where each
    /// value is read once.
    fn input<'a>(&self, shape: &ConvShape, x: LazyMap<'a>) -> (PaddedInput<'a>, Epilogue<'a>) {
        let &ConvShape { c_in, h, w, kh, kw, config, .. } = shape;
        if (kh, kw) == (1, 1) && config.padding == Padding2d::none() {
            return (PaddedInput::Unpadded(x.values), x.epilogue);
        }
        (PaddedInput::new(x, c_in, (h, w), config.padding, self.parts), Epilogue::NONE)
    }
}

/// A convolution whose weights are packed for a matrix product per group.
pub(crate) struct ImplicitGemm {
    /// One per group.
    lhs: Vec<PackedLhs>,
}

impl ImplicitGemm {
    /// Output channels of a block.
    pub(super) const CHANNELS: usize = TILE_ROWS;

    pub(super) fn new(shape: &ConvShape, weight: &[f32], scale: Option<&[f32]>) -> Self {
        let depth = shape.c_in / shape.config.groups * shape.kh * shape.kw;
        let group_out = shape.c_out / shape.config.groups;
        let lhs = |group: usize| {
            let outs = group * group_out..(group + 1) * group_out;
            let rows = &weight[outs.start * depth..outs.end * depth];
            PackedLhs::from_rows(rows, (group_out, depth), scale.map(|scale| &scale[outs]))
        };
        Self { lhs: (0..shape.config.groups).map(lhs).collect() }
    }

    pub(super) fn forward(
        &self,
        shape: &ConvShape,
        x: LazyMap<'_>,
        bias: Option<&[f32]>,
        activation: Activation,
        y: &mut [f32],
    ) {
        let &ConvShape { c_in, h, w, c_out, oh, ow, config, .. } = shape;
        let windows = Windows::new(shape);
        let group_in = c_in / config.groups;
        let batch = x.values.len() / (c_in * h * w);
        let (padded, epilogue) = windows.input(shape, x);
        let (pixels, group_out) = (oh * ow, c_out / config.groups);
        let flat = PixelLayout::flat(pixels, c_out * pixels);
        let Windows { kernel_offsets, pixels: window_pixels, group, .. } = &windows;
        for (index, lhs) in self.lhs.iter().enumerate() {
            let outs = index * group_out..(index + 1) * group_out;
            let rhs =
                Im2colView::new(&padded.values()[index * group..], kernel_offsets, *window_pixels, batch)
                    .epilogue(epilogue.of_channels(index * group_in..(index + 1) * group_in));
            let output = GemmOutput::new(&mut y[outs.start * pixels..], group_out, pixels, flat, batch);
            gemm_into(lhs, &rhs, bias.map(|bias| &bias[outs]), activation, &output);
        }
    }

    /// Computes f(w ∗ x + bias) of a pointwise convolution for some pixels of one sample and some output channels, (C, pixels),
    /// on this thread. The channels are whole blocks of [`CHANNELS`](Self::CHANNELS), but for the last.
    pub(super) fn forward_pixels(
        &self,
        shape: &ConvShape,
        x: &[f32],
        pixels: Range<usize>,
        outputs: Range<usize>,
        (bias, activation): (Option<&[f32]>, Activation),
        y: &mut [f32],
    ) {
        let (size, count) = (shape.h * shape.w, pixels.len());
        let channels: Vec<usize> = (0..shape.c_in).map(|channel| channel * size).collect();
        let rhs = Im2colView::new(&x[pixels.start..], &channels, PixelLayout::flat(count, x.len()), 1);
        let layout = PixelLayout::flat(count, outputs.len() * count);
        let output = GemmOutput::new(y, outputs.len(), count, layout, 1).starting_at(outputs.start);
        for lhs in &self.lhs {
            gemm_rows_into(lhs, &rhs, bias, activation, &output);
        }
    }
}

/// The gradient of the weights from that of the output.
pub(crate) fn weight_grad(shape: &ConvShape, x: LazyMap<'_>, grad_output: &[f32]) -> Vec<f32> {
    let &ConvShape { batch, c_in, c_out, oh, ow, config, .. } = shape;
    let windows = Windows::new(shape);
    let (padded, epilogue) = windows.input(shape, x);
    let (pixels, group_in, group_out) = (oh * ow, c_in / config.groups, c_out / config.groups);
    let flat = PixelLayout::flat(pixels, c_out * pixels);
    let rows: Vec<usize> = (0..group_out).map(|o| o * pixels).collect();
    let group = |group: usize| {
        let lhs = Im2colView::new(&grad_output[group * group_out * pixels..], &rows, flat, batch);
        let rhs = Im2colView::new(
            &padded.values()[group * windows.group..],
            &windows.kernel_offsets,
            windows.pixels,
            batch,
        )
        .epilogue(epilogue.of_channels(group * group_in..(group + 1) * group_in));
        gemm_over_pixels(&lhs, &rhs)
    };
    match config.groups {
        1 => group(0),
        groups => (0..groups).map(group).collect::<Vec<_>>().concat(),
    }
}

/// Writes the gradient of the input of a 1 × 1 convolution without padding, of any stride, to `input_grad`.
pub(crate) fn pointwise_input_grad(
    shape: &ConvShape,
    weight: &[f32],
    grad_output: &[f32],
    input_grad: &mut [f32],
) {
    let &ConvShape { batch, c_in, h, w, c_out, oh, ow, config, .. } = shape;
    let (group_in, group_out) = (c_in / config.groups, c_out / config.groups);
    // Each output's gradient goes to the pixel that its window reads.
    let pixels = oh * ow;
    let output = if config.stride == (1, 1) {
        PixelLayout::flat(pixels, c_in * pixels)
    } else {
        input_grad.fill(0.0);
        let (step, run_stride) = (config.stride.1, config.stride.0 * w);
        PixelLayout { count: pixels, run: ow, step, run_stride, sample_stride: c_in * h * w }
    };
    let rows: Vec<usize> = (0..group_out).map(|o| o * pixels).collect();
    let layout = PixelLayout::flat(pixels, c_out * pixels);
    for (group, weight) in weight.chunks_exact(group_out * group_in).enumerate() {
        let lhs = PackedLhs::from_columns(weight, (group_in, group_out));
        let rhs = Im2colView::new(&grad_output[group * group_out * pixels..], &rows, layout, batch);
        let output =
            GemmOutput::new(&mut input_grad[group * group_in * h * w..], group_in, h * w, output, batch);
        gemm_into(&lhs, &rhs, None, Activation::Identity, &output);
    }
}
