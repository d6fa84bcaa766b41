//! The gradient of the input as a product with the transposed weights, whose columns are added back
//! to the pixels that their windows read (col2im).
//!
//! For convolutions with a stride, or whose output is much smaller than the input.

use rayon::prelude::*;

use crate::config::Activation;
use crate::cpu::gemm::{GemmOutput, Im2colView, PackedLhs, PixelLayout, gemm_into};
use crate::cpu::memory::buffer::Buffer;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::shape::ConvShape;

/// Adds the gradient to `input_grad`, which starts as zeros.
pub(crate) fn add_input_grad(shape: &ConvShape, weight: &[f32], grad_output: &[f32], input_grad: &mut [f32]) {
    /// Maximum number of values of a product; more samples are processed in parts.
    const MAX_VALUES: usize = 4 << 20;
    let group = Group::new(shape);
    let groups = shape.config.groups;
    let pixels = shape.oh * shape.ow;
    let (sample_in, sample_out) = (shape.c_in * shape.h * shape.w, shape.c_out * pixels);
    let map = group.channels_in * shape.h * shape.w;
    let rows: Vec<usize> = (0..group.channels_out).map(|o| o * pixels).collect();
    let len = group.rows * pixels;
    let samples_at_once = (MAX_VALUES / len).clamp(1, shape.batch);
    for index in 0..groups {
        let weight = &weight[index * group.channels_out * group.rows..][..group.channels_out * group.rows];
        let lhs = PackedLhs::from_columns(weight, (group.rows, group.channels_out));
        let chunks = input_grad
            .chunks_mut(samples_at_once * sample_in)
            .zip(grad_output.chunks(samples_at_once * sample_out));
        for (input_grad, grad_output) in chunks {
            let samples = grad_output.len() / sample_out;
            let mut columns = Buffer::dirty(samples * len);
            let source = PixelLayout::flat(pixels, sample_out);
            let rhs =
                Im2colView::new(&grad_output[index * group.channels_out * pixels..], &rows, source, samples);
            let target = PixelLayout::flat(pixels, len);
            let target = GemmOutput::new(&mut columns, group.rows, pixels, target, samples);
            gemm_into(&lhs, &rhs, None, Activation::Identity, &target);
            let all_columns = columns.par_chunks_exact(len);
            input_grad.par_chunks_exact_mut(sample_in).zip(all_columns).for_each(|(input_grad, columns)| {
                dispatch(Col2im { group: &group, columns, x: &mut input_grad[index * map..][..map] });
            });
        }
    }
}

/// One group of channels of one sample.
struct Group<'a> {
    shape: &'a ConvShape,
    channels_in: usize,
    channels_out: usize,
    rows: usize,
}

impl<'a> Group<'a> {
    fn new(shape: &'a ConvShape) -> Self {
        let groups = shape.config.groups;
        let channels_in = shape.c_in / groups;
        Self {
            shape,
            channels_in,
            channels_out: shape.c_out / groups,
            rows: channels_in * shape.kh * shape.kw,
        }
    }
}

/// Adds the columns of one group to its map `x`, which starts as zeros.
struct Col2im<'a> {
    group: &'a Group<'a>,
    columns: &'a [f32],
    x: &'a mut [f32],
}

impl Kernel for Col2im<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { group, columns, x } = self;
        if group.shape.config.stride == (1, 1) {
            group.add_rows(simd, columns, x);
        } else {
            group.add_strided(columns, x);
        }
    }
}

impl Group<'_> {
    /// [`Col2im`] for any stride.
    #[inline(always)]
    fn add_strided(&self, columns: &[f32], x: &mut [f32]) {
        let &ConvShape { h, w, kh, kw, oh, ow, config, .. } = self.shape;
        let (stride, dilation, padding) = (config.stride, config.dilation, config.padding);
        let mut rows = columns.chunks_exact(oh * ow);
        for c in 0..self.channels_in {
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                let Some(row) = rows.next() else { return };
                let cols = visible_outputs(ow, stride.1, kx * dilation.1, padding.left, w);
                if cols.is_empty() {
                    continue;
                }
                let first = cols.start * stride.1 + kx * dilation.1 - padding.left;
                for oy in visible_outputs(oh, stride.0, ky * dilation.0, padding.top, h) {
                    let y = oy * stride.0 + ky * dilation.0 - padding.top;
                    let from = &row[oy * ow..][cols.clone()];
                    for (to, from) in x[(c * h + y) * w + first..].iter_mut().step_by(stride.1).zip(from) {
                        *to += *from;
                    }
                }
            }
        }
    }

    /// [`Col2im`] for stride 1: all values that belong to a stretch of a row are summed in a
    /// register.
    #[inline(always)]
    fn add_rows<S: Simd>(&self, simd: S, columns: &[f32], x: &mut [f32]) {
        let &ConvShape { h, w, kh, kw, oh, ow, config, .. } = self.shape;
        let (top, left) = (config.padding.top, config.padding.left);
        assert!(columns.len() == self.rows * oh * ow && x.len() == self.channels_in * h * w);
        let mut masks = Vec::with_capacity(kw);
        for column in (0..w).step_by(S::LANES) {
            let n = S::LANES.min(w - column);
            masks.clear();
            masks.extend((0..kw).map(|kx| {
                // Lane 0 gets output `padded` − offset of the row.
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
                        let from = columns.as_ptr().wrapping_add(outputs + column + left);
                        // SAFETY: the mask selects only the columns of the
                        // row of outputs that starts at `outputs`.
                        let visible_outputs =
                            unsafe { simd.load_masked(from.wrapping_sub(kx * config.dilation.1), mask) };
                        sum = simd.add(sum, visible_outputs);
                    }
                }
                let to = &mut to[column..column + n];
                // SAFETY: `to` has `n` values.
                unsafe { simd.store_first(to.as_mut_ptr(), n, sum) };
            }
        }
    }
}

/// The outputs for which the kernel element `offset` pixels into the window reads one of `size` pixels.
fn visible_outputs(
    outputs: usize,
    stride: usize,
    offset: usize,
    padding: usize,
    size: usize,
) -> std::ops::Range<usize> {
    let first = padding.saturating_sub(offset).div_ceil(stride).min(outputs);
    let end =
        if size + padding > offset { (size + padding - offset).div_ceil(stride).min(outputs) } else { 0 };
    first..end.max(first)
}
