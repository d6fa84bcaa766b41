//! The gradient for the input of a convolution that strides, or whose output is much smaller than its input: a product
//! with the transposed weights gives what each tap saw at each position, which is added back to where it was seen.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::product::{Left, Pixels, Target, Unfolded, multiply};
use super::simd::{Kernel, Simd, dispatch};
use crate::config::Activation;
use crate::shape::ConvShape;

/// Adds the gradient to `x_grad`, which starts as zeros.
pub(crate) fn add_x_grad(shape: &ConvShape, weight: &[f32], slopes: &[f32], x_grad: &mut [f32]) {
    /// Products are held of as many samples at once as make so many values.
    const HELD: usize = 4 << 20;
    let group = Group::new(shape);
    let groups = shape.config.groups;
    let pixels = shape.oh * shape.ow;
    let (sample_in, sample_out) = (shape.c_in * shape.h * shape.w, shape.c_out * pixels);
    let map = group.channels_in * shape.h * shape.w;
    let rows: Vec<usize> = (0..group.channels_out).map(|o| o * pixels).collect();
    let len = group.taps * pixels;
    let together = (HELD / len).clamp(1, shape.batch);
    for index in 0..groups {
        let weight = &weight[index * group.channels_out * group.taps..][..group.channels_out * group.taps];
        let left = Left::of_columns(weight, (group.taps, group.channels_out));
        let chunks = x_grad.chunks_mut(together * sample_in).zip(slopes.chunks(together * sample_out));
        for (x_grad, slopes) in chunks {
            let samples = slopes.len() / sample_out;
            let mut product = Buffer::dirty(samples * len);
            let source = Pixels::flat(pixels, sample_out);
            let right = Unfolded::new(&slopes[index * group.channels_out * pixels..], &rows, source, samples);
            let target = Pixels::flat(pixels, len);
            let target = Target::new(&mut product, group.taps, pixels, target, samples);
            multiply(&left, &right, None, Activation::Identity, &target);
            let products = product.par_chunks_exact(len);
            x_grad.par_chunks_exact_mut(sample_in).zip(products).for_each(|(x_grad, product)| {
                dispatch(Fold { group: &group, product, x: &mut x_grad[index * map..][..map] });
            });
        }
    }
}

/// One group of channels of one sample.
struct Group<'a> {
    shape: &'a ConvShape,
    channels_in: usize,
    channels_out: usize,
    taps: usize,
}

impl<'a> Group<'a> {
    fn new(shape: &'a ConvShape) -> Self {
        let groups = shape.config.groups;
        let channels_in = shape.c_in / groups;
        Self {
            shape,
            channels_in,
            channels_out: shape.c_out / groups,
            taps: channels_in * shape.kh * shape.kw,
        }
    }

    /// For each tap and output row: where the first pixel that it sees lies in the group's map, if any; the row's
    /// range in the unfolded matrix; and which positions in it see pixels (first, count).
    #[inline(always)]
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

/// Adds what one group's taps saw to where they saw it. `x` starts as zeros.
struct Fold<'a> {
    group: &'a Group<'a>,
    product: &'a [f32],
    x: &'a mut [f32],
}

impl Kernel for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { group, product, x } = self;
        let stride = group.shape.config.stride;
        if stride == (1, 1) {
            group.fold_rows(simd, product, x);
            return;
        }
        group.each_row(
            #[inline(always)]
            |map_row, (positions, (first, count))| {
                let Some(start) = map_row else { return };
                let from = &product[positions][first..first + count];
                for (to, from) in x[start..].iter_mut().step_by(stride.1).zip(from) {
                    *to += *from;
                }
            },
        );
    }
}

impl Group<'_> {
    /// [`Fold`] for windows that move by one pixel: what all taps saw of a stretch of a row is summed in a register.
    #[inline(always)]
    fn fold_rows<S: Simd>(&self, simd: S, product: &[f32], x: &mut [f32]) {
        let &ConvShape { h, w, kh, kw, oh, ow, config, .. } = self.shape;
        let (top, left) = (config.padding.top, config.padding.left);
        assert!(product.len() == self.taps * oh * ow && x.len() == self.channels_in * h * w);
        let mut masks = Vec::with_capacity(kw);
        for column in (0..w).step_by(S::LANES) {
            let n = S::LANES.min(w - column);
            masks.clear();
            masks.extend((0..kw).map(|kx| {
                // Output `padded` − offset of the row is what lane 0 is given by the tap.
                let (padded, offset) = (column + left, kx * config.dilation.1);
                let (first, end) = (offset.saturating_sub(padded), (ow + offset).saturating_sub(padded));
                simd.between(first.min(n), end.min(n))
            }));
            for (row, to) in x.chunks_exact_mut(w).enumerate() {
                let (c, y) = (row / h, row % h);
                let mut sum = simd.splat(0.0);
                for ky in 0..kh {
                    let oy = (y + top).checked_sub(ky * config.dilation.0).filter(|&oy| oy < oh);
                    let Some(oy) = oy else { continue };
                    for (kx, &mask) in masks.iter().enumerate() {
                        let outputs = (((c * kh + ky) * kw + kx) * oh + oy) * ow;
                        let from = product.as_ptr().wrapping_add(outputs + column + left);
                        // SAFETY: the mask leaves only the columns of the row of outputs that starts at `outputs`.
                        let seen =
                            unsafe { simd.load_masked(from.wrapping_sub(kx * config.dilation.1), mask) };
                        sum = simd.add(sum, seen);
                    }
                }
                let to = &mut to[column..column + n];
                // SAFETY: `to` has `n` values.
                unsafe { simd.store_first(to.as_mut_ptr(), n, sum) };
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
