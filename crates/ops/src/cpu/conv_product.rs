//! Convolutions as products with the unfolded input ([`super::product`]), one product for each group of channels.

use rayon::prelude::*;

use super::product::{Left, Pixels, Target, Unfolded, multiply, multiply_over_pixels};
use super::scratch::Scratch;
use super::simd::{Kernel, Simd, dispatch};
use super::source::{Pending, Source};
use super::winograd::Winograd;
use crate::config::{Activation, Conv2dConfig, Padding2d};
use crate::shape::ConvShape;

/// A batch of maps inside rims of zeros.
pub(crate) enum Rimmed<'a> {
    /// Maps whose rim is empty.
    Bare(&'a [f32]),
    Padded(Scratch),
}

impl<'a> Rimmed<'a> {
    /// Planes of `height` × `width`, of `channels` channels in turn, as they are after what is pending; the columns
    /// of each row in `parts`, by their remainders.
    pub(crate) fn new(
        source: Source<'a>,
        channels: usize,
        (height, width): (usize, usize),
        rim: Padding2d,
        parts: usize,
    ) -> Self {
        let Source { values: x, pending } = source;
        if rim == Padding2d::none() && pending.is_nothing() && parts == 1 {
            return Self::Bare(x);
        }
        let cols = (width + rim.left + rim.right).next_multiple_of(parts);
        let plane = (height + rim.top + rim.bottom) * cols;
        let mut padded = Scratch::dirty(x.len() / (height * width) * plane);
        let planes = padded.par_chunks_exact_mut(plane).zip(x.par_chunks_exact(height * width));
        planes.enumerate().for_each(|(index, (to, from))| {
            let (above, rest) = to.split_at_mut(rim.top * cols);
            let (rows, below) = rest.split_at_mut(height * cols);
            above.fill(0.0);
            below.fill(0.0);
            for (to, from) in rows.chunks_exact_mut(cols).zip(from.chunks_exact(width)) {
                to[..rim.left].fill(0.0);
                to[rim.left..rim.left + width].copy_from_slice(from);
                to[rim.left + width..].fill(0.0);
            }
            if !pending.is_nothing() {
                let channel = index % channels;
                dispatch(Finish { pending, channel, rows: &mut *rows, left: rim.left, width, cols });
            }
            if parts > 1 {
                let mut row = vec![0.0; cols];
                for to in rows.chunks_exact_mut(cols) {
                    row.copy_from_slice(to);
                    for (part, to) in to.chunks_exact_mut(cols / parts).enumerate() {
                        for (to, from) in to.iter_mut().zip(row[part..].iter().step_by(parts)) {
                            *to = *from;
                        }
                    }
                }
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

/// What is pending for one plane, whose rim stays zero.
struct Finish<'a> {
    pending: Pending<'a>,
    channel: usize,
    rows: &'a mut [f32],
    left: usize,
    width: usize,
    cols: usize,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for row in self.rows.chunks_exact_mut(self.cols) {
            self.pending.apply(self.channel, &mut row[self.left..self.left + self.width]);
        }
    }
}

/// The windows of a convolution in the padded input: places of one group's taps, and the pixels' places.
struct Windows {
    taps: Vec<usize>,
    pixels: Pixels,
    /// From one group's channels to the next's.
    group: usize,
    /// In how many parts a row lies: one for each column of a stride, so that neighbours are read at once; a single
    /// one where each value is read once.
    parts: usize,
}

impl Windows {
    fn new(shape: &ConvShape) -> Self {
        let &ConvShape { c_in, kh, kw, oh, ow, config, .. } = shape;
        let parts = if (kh, kw) == (1, 1) { 1 } else { config.stride.1 };
        let (rows, cols) = (shape.padded_h(), shape.padded_w().next_multiple_of(parts));
        let (plane, group_in) = (rows * cols, c_in / config.groups);
        let place = |c: usize, ky: usize, kx: usize| {
            let x = kx * config.dilation.1;
            c * plane + ky * config.dilation.0 * cols + x % parts * (cols / parts) + x / parts
        };
        let taps = (0..group_in)
            .flat_map(|c| (0..kh).flat_map(move |ky| (0..kw).map(move |kx| place(c, ky, kx))))
            .collect();
        let pixels = if config.stride == (1, 1) && ow == cols {
            Pixels::flat(oh * ow, c_in * plane)
        } else {
            let (step, run_stride) = (config.stride.1 / parts, config.stride.0 * cols);
            Pixels { count: oh * ow, run: ow, step, run_stride, sample_stride: c_in * plane }
        };
        Self { taps, pixels, group: group_in * plane, parts }
    }

    /// The padded input, and what is left to be done as it is read: all of it where each value is read once.
    fn input<'a>(&self, shape: &ConvShape, x: Source<'a>) -> (Rimmed<'a>, Pending<'a>) {
        let &ConvShape { c_in, h, w, kh, kw, config, .. } = shape;
        if (kh, kw) == (1, 1) && config.padding == Padding2d::none() {
            return (Rimmed::Bare(x.values), x.pending);
        }
        (Rimmed::new(x, c_in, (h, w), config.padding, self.parts), Pending::NOTHING)
    }
}

/// A convolution whose weights lie as the products read them.
pub(crate) enum Packed {
    Windows(PackedWindows),
    Winograd(Winograd),
}

impl Packed {
    /// The weights, each output channel's times its `scale` where there are any.
    pub(crate) fn new(shape: &ConvShape, weight: &[f32], scale: Option<&[f32]>) -> Self {
        if Winograd::suits(shape) {
            Self::Winograd(Winograd::new(shape, weight, scale))
        } else {
            Self::Windows(PackedWindows::new(shape, weight, scale))
        }
    }

    /// The weights for sums over windows, whose rounding doesn't depend on a value's place in a tile.
    pub(crate) fn windows(shape: &ConvShape, weight: &[f32]) -> Self {
        Self::Windows(PackedWindows::new(shape, weight, None))
    }

    /// f(w ∗ x + bias) of any number of samples, (B, O, oh, ow).
    pub(crate) fn forward(&self, x: Source<'_>, bias: Option<&[f32]>, activation: Activation, y: &mut [f32]) {
        match self {
            Self::Windows(packed) => packed.forward(x, bias, activation, y),
            Self::Winograd(packed) => packed.forward(x, bias, activation, y),
        }
    }
}

/// A convolution that sums each window.
pub(crate) struct PackedWindows {
    shape: ConvShape,
    windows: Windows,
    /// One for each group.
    lefts: Vec<Left>,
}

impl PackedWindows {
    fn new(shape: &ConvShape, weight: &[f32], scale: Option<&[f32]>) -> Self {
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

    fn forward(&self, x: Source<'_>, bias: Option<&[f32]>, activation: Activation, y: &mut [f32]) {
        let ConvShape { c_in, h, w, c_out, oh, ow, config, .. } = self.shape;
        let group_in = c_in / config.groups;
        let batch = x.values.len() / (c_in * h * w);
        let (rimmed, pending) = self.windows.input(&self.shape, x);
        let (pixels, group_out) = (oh * ow, c_out / config.groups);
        let flat = Pixels::flat(pixels, c_out * pixels);
        let Windows { taps, pixels: window_pixels, group, .. } = &self.windows;
        for (index, left) in self.lefts.iter().enumerate() {
            let outs = index * group_out..(index + 1) * group_out;
            let right = Unfolded::new(&rimmed.values()[index * group..], taps, *window_pixels, batch)
                .pending(pending.of_channels(index * group_in..(index + 1) * group_in));
            let target = Target::new(&mut y[outs.start * pixels..], group_out, pixels, flat, batch);
            multiply(left, &right, bias.map(|bias| &bias[outs]), activation, &target);
        }
    }
}

/// The gradient for the weights from `slopes`, those of the convolution's result.
pub(crate) fn weight_grad(shape: &ConvShape, x: Source<'_>, slopes: &[f32]) -> Vec<f32> {
    let &ConvShape { batch, c_in, c_out, oh, ow, config, .. } = shape;
    let windows = Windows::new(shape);
    let (rimmed, pending) = windows.input(shape, x);
    let (pixels, group_in, group_out) = (oh * ow, c_in / config.groups, c_out / config.groups);
    let flat = Pixels::flat(pixels, c_out * pixels);
    let rows: Vec<usize> = (0..group_out).map(|o| o * pixels).collect();
    let group = |group: usize| {
        let left = Unfolded::new(&slopes[group * group_out * pixels..], &rows, flat, batch);
        let right =
            Unfolded::new(&rimmed.values()[group * windows.group..], &windows.taps, windows.pixels, batch)
                .pending(pending.of_channels(group * group_in..(group + 1) * group_in));
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
    if !pointwise {
        // A convolution of the slopes by the turned weights.
        let rim = Padding2d {
            top: reach_y - top,
            bottom: reach_y - bottom,
            left: reach_x - left,
            right: reach_x - right,
        };
        let config = Conv2dConfig { padding: rim, ..config };
        let turned = ConvShape { c_in: c_out, h: oh, w: ow, c_out: c_in, oh: h, ow: w, config, ..*shape };
        let weight = turn(weight, (group_out, group_in), kh * kw);
        let source = Source::plain(slopes);
        Packed::new(&turned, &weight, None).forward(source, None, Activation::Identity, x_grad);
        return;
    }
    // A pointwise one, of any stride, writes where it has read.
    let pixels = oh * ow;
    let target = if config.stride == (1, 1) {
        Pixels::flat(pixels, c_in * pixels)
    } else {
        x_grad.fill(0.0);
        let (step, run_stride) = (config.stride.1, config.stride.0 * w);
        Pixels { count: pixels, run: ow, step, run_stride, sample_stride: c_in * h * w }
    };
    let rows: Vec<usize> = (0..group_out).map(|o| o * pixels).collect();
    let source = Pixels::flat(pixels, c_out * pixels);
    for (group, weight) in weight.chunks_exact(group_out * group_in).enumerate() {
        let left = Left::of_columns(weight, (group_in, group_out));
        let right = Unfolded::new(&slopes[group * group_out * pixels..], &rows, source, batch);
        let target = Target::new(&mut x_grad[group * group_in * h * w..], group_in, h * w, target, batch);
        multiply(&left, &right, None, Activation::Identity, &target);
    }
}

/// In each group, (output channel, input channel, tap) to (input channel, output channel, tap counted from the last).
fn turn(weight: &[f32], (group_out, group_in): (usize, usize), taps: usize) -> Vec<f32> {
    let mut turned = vec![0.0; weight.len()];
    turned.par_chunks_exact_mut(group_out * taps).enumerate().for_each(|(c, to)| {
        let (group, c) = (c / group_in, c % group_in);
        for (o, to) in to.chunks_exact_mut(taps).enumerate() {
            let from = &weight[((group * group_out + o) * group_in + c) * taps..][..taps];
            for (to, from) in to.iter_mut().zip(from.iter().rev()) {
                *to = *from;
            }
        }
    });
    turned
}
