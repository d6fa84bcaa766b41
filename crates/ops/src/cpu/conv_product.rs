//! Convolutions as products with the unfolded input ([`super::product`]), one product for each group of channels.

use rayon::prelude::*;

use super::product::{Left, Pixels, Target, Unfolded, multiply, multiply_over_pixels};
use super::scratch::Scratch;
use crate::config::{Activation, Padding2d};
use crate::shape::ConvShape;

/// A batch of maps inside rims of zeros.
pub(crate) enum Rimmed<'a> {
    /// Maps whose rim is empty.
    Bare(&'a [f32]),
    Padded(Scratch),
}

impl<'a> Rimmed<'a> {
    /// `maps` planes of `height` × `width`.
    pub(crate) fn new(x: &'a [f32], (height, width): (usize, usize), rim: Padding2d) -> Self {
        if rim == Padding2d::none() {
            return Self::Bare(x);
        }
        let cols = width + rim.left + rim.right;
        let plane = (height + rim.top + rim.bottom) * cols;
        let mut padded = Scratch::dirty(x.len() / (height * width) * plane);
        padded.par_chunks_exact_mut(plane).zip(x.par_chunks_exact(height * width)).for_each(|(to, from)| {
            let (above, rest) = to.split_at_mut(rim.top * cols);
            let (rows, below) = rest.split_at_mut(height * cols);
            above.fill(0.0);
            below.fill(0.0);
            for (to, from) in rows.chunks_exact_mut(cols).zip(from.chunks_exact(width)) {
                to[..rim.left].fill(0.0);
                to[rim.left..rim.left + width].copy_from_slice(from);
                to[rim.left + width..].fill(0.0);
            }
        });
        Self::Padded(padded)
    }

    pub(crate) fn values(&self) -> &[f32] {
        match self {
            Self::Bare(x) => x,
            Self::Padded(x) => x,
        }
    }
}

/// The windows of a convolution in the padded input: places of one group's taps, and the pixels' places.
struct Windows {
    taps: Vec<usize>,
    pixels: Pixels,
    /// From one group's channels to the next's.
    group: usize,
}

impl Windows {
    fn new(shape: &ConvShape) -> Self {
        let &ConvShape { c_in, kh, kw, oh, ow, config, .. } = shape;
        let (rows, cols) = (shape.padded_h(), shape.padded_w());
        let (plane, group_in) = (rows * cols, c_in / config.groups);
        let place = |c: usize, ky: usize, kx: usize| {
            c * plane + ky * config.dilation.0 * cols + kx * config.dilation.1
        };
        let taps = (0..group_in)
            .flat_map(|c| (0..kh).flat_map(move |ky| (0..kw).map(move |kx| place(c, ky, kx))))
            .collect();
        let pixels = if config.stride == (1, 1) && ow == cols {
            Pixels::flat(oh * ow, c_in * plane)
        } else {
            let run_stride = config.stride.0 * cols;
            Pixels { count: oh * ow, run: ow, step: config.stride.1, run_stride, sample_stride: c_in * plane }
        };
        Self { taps, pixels, group: group_in * plane }
    }
}

/// A convolution whose weights lie as the products read them.
pub(crate) struct Packed {
    shape: ConvShape,
    windows: Windows,
    /// One for each group.
    lefts: Vec<Left>,
}

impl Packed {
    /// The weights, each output channel's times its `scale` where there are any.
    pub(crate) fn new(shape: &ConvShape, weight: &[f32], scale: Option<&[f32]>) -> Self {
        let windows = Windows::new(shape);
        let depth = windows.taps.len();
        let group_out = shape.c_out / shape.config.groups;
        let left = |group: usize| {
            let outs = group * group_out..(group + 1) * group_out;
            let rows = &weight[outs.start * depth..outs.end * depth];
            Left::of_rows(rows, (group_out, depth), scale.map(|scale| &scale[outs]))
        };
        Self { shape: *shape, windows, lefts: (0..shape.config.groups).map(left).collect() }
    }

    /// f(w ∗ x + bias) of any number of samples, (B, O, oh, ow).
    pub(crate) fn forward(&self, x: &[f32], bias: Option<&[f32]>, activation: Activation, y: &mut [f32]) {
        let ConvShape { c_in, h, w, c_out, oh, ow, config, .. } = self.shape;
        let batch = x.len() / (c_in * h * w);
        let rimmed = Rimmed::new(x, (h, w), config.padding);
        let (pixels, group_out) = (oh * ow, c_out / config.groups);
        let flat = Pixels::flat(pixels, c_out * pixels);
        let Windows { taps, pixels: window_pixels, group } = &self.windows;
        for (index, left) in self.lefts.iter().enumerate() {
            let outs = index * group_out..(index + 1) * group_out;
            let right = Unfolded::new(&rimmed.values()[index * group..], taps, *window_pixels, batch);
            let target = Target::new(&mut y[outs.start * pixels..], group_out, pixels, flat, batch);
            multiply(left, &right, bias.map(|bias| &bias[outs]), activation, &target);
        }
    }
}

/// The gradient for the weights from `slopes`, those of the convolution's result.
pub(crate) fn weight_grad(shape: &ConvShape, x: &[f32], slopes: &[f32]) -> Vec<f32> {
    let &ConvShape { batch, c_out, oh, ow, config, .. } = shape;
    let rimmed = Rimmed::new(x, (shape.h, shape.w), config.padding);
    let windows = Windows::new(shape);
    let (pixels, group_out) = (oh * ow, c_out / config.groups);
    let flat = Pixels::flat(pixels, c_out * pixels);
    let rows: Vec<usize> = (0..group_out).map(|o| o * pixels).collect();
    let group = |group: usize| {
        let left = Unfolded::new(&slopes[group * group_out * pixels..], &rows, flat, batch);
        let right =
            Unfolded::new(&rimmed.values()[group * windows.group..], &windows.taps, windows.pixels, batch);
        multiply_over_pixels(&left, &right)
    };
    match config.groups {
        1 => group(0),
        groups => (0..groups).map(group).collect::<Vec<_>>().concat(),
    }
}

/// Writes the gradient for the input over `x_grad`.
pub(crate) fn x_grad(shape: &ConvShape, weight: &[f32], slopes: &[f32], x_grad: &mut [f32]) {
    let &ConvShape { batch, c_in, h, w, c_out, kh, kw, oh, ow, config } = shape;
    let (group_in, group_out) = (c_in / config.groups, c_out / config.groups);
    let Padding2d { top, bottom, left, right } = config.padding;
    let (reach_y, reach_x) = ((kh - 1) * config.dilation.0, (kw - 1) * config.dilation.1);
    let pointwise = (kh, kw) == (1, 1) && config.padding == Padding2d::none();
    // Turned, it sums a window for each pixel of the input, which may be many more than those of the output.
    let turns = config.stride == (1, 1)
        && reach_y >= top.max(bottom)
        && reach_x >= left.max(right)
        && 2 * h * w <= 3 * oh * ow;
    if !pointwise && !turns {
        x_grad.fill(0.0);
        super::conv_unfolded::add_x_grad(shape, weight, slopes, x_grad);
        return;
    }
    // A convolution of the slopes by the turned weights; a pointwise one of any stride writes where it has read.
    let rim = if pointwise {
        Padding2d::none()
    } else {
        Padding2d {
            top: reach_y - top,
            bottom: reach_y - bottom,
            left: reach_x - left,
            right: reach_x - right,
        }
    };
    let rimmed = Rimmed::new(slopes, (oh, ow), rim);
    let cols = ow + rim.left + rim.right;
    let plane = (oh + rim.top + rim.bottom) * cols;
    let taps: Vec<usize> = (0..group_out)
        .flat_map(|o| {
            (0..kh).flat_map(move |ky| {
                (0..kw).map(move |kx| o * plane + ky * config.dilation.0 * cols + kx * config.dilation.1)
            })
        })
        .collect();
    if pointwise && config.stride != (1, 1) {
        x_grad.fill(0.0);
    }
    let (source, target) = if pointwise {
        let target = Pixels {
            count: oh * ow,
            run: ow,
            step: config.stride.1,
            run_stride: config.stride.0 * w,
            sample_stride: c_in * h * w,
        };
        let target = if config.stride == (1, 1) { Pixels::flat(h * w, c_in * h * w) } else { target };
        (Pixels::flat(oh * ow, c_out * plane), target)
    } else {
        let source = Pixels { count: h * w, run: w, step: 1, run_stride: cols, sample_stride: c_out * plane };
        (source, Pixels::flat(h * w, c_in * h * w))
    };
    let per_group = group_out * group_in * kh * kw;
    for group in 0..config.groups {
        let weight = &weight[group * per_group..][..per_group];
        let left = if kh * kw == 1 {
            Left::of_columns(weight, (group_in, taps.len()))
        } else {
            Left::of_columns(&turn(weight, group_in, kh * kw), (group_in, taps.len()))
        };
        let right = Unfolded::new(&rimmed.values()[group * group_out * plane..], &taps, source, batch);
        let target = Target::new(&mut x_grad[group * group_in * h * w..], group_in, h * w, target, batch);
        multiply(&left, &right, None, Activation::Identity, &target);
    }
}

/// (output channel, input channel, tap) to (output channel, tap counted from the last, input channel).
fn turn(weight: &[f32], group_in: usize, taps: usize) -> Vec<f32> {
    let mut turned = vec![0.0; weight.len()];
    let filter = group_in * taps;
    for (to, from) in turned.chunks_exact_mut(filter).zip(weight.chunks_exact(filter)) {
        for (c, from) in from.chunks_exact(taps).enumerate() {
            for (tap, &value) in from.iter().rev().enumerate() {
                to[tap * group_in + c] = value;
            }
        }
    }
    turned
}
