//! Pooling of float32 maps, plane by plane.

use rayon::prelude::*;

use super::buffer::{filled, zeros};
use super::elementwise;
use super::scratch::Scratch;
use super::simd::{Kernel, Simd, dispatch};
use crate::config::Divisor;
use crate::portable::{Axis, pool_extent};
use crate::shape::PoolShape;

/// The maxima, and where in its plane each lies; the first of equals.
pub(crate) fn max_forward(shape: &PoolShape, x: &[f32]) -> (Vec<f32>, Vec<u32>) {
    let pixels = shape.oh * shape.ow;
    let mut out = zeros(shape.batch * shape.channels * pixels);
    let mut places: Vec<u32> = zeros(out.len());
    out.par_chunks_exact_mut(pixels)
        .zip(places.par_chunks_exact_mut(pixels))
        .zip(x.par_chunks_exact(shape.h * shape.w))
        .for_each(|((out, places), plane)| dispatch(MaximaOf { shape, plane, out, places }));
    (out, places)
}

/// The maxima alone.
pub(crate) fn max_values(shape: &PoolShape, x: &[f32]) -> Vec<f32> {
    let size = shape.h * shape.w;
    filled(shape.batch * shape.channels, shape.oh * shape.ow, |index, out| {
        dispatch(ValuesOf { shape, plane: &x[index * size..][..size], out });
    })
}

/// The same for any number of samples, over `out`.
pub(crate) fn max_values_into(shape: &PoolShape, x: &[f32], out: &mut [f32]) {
    out.par_chunks_exact_mut(shape.oh * shape.ow)
        .zip(x.par_chunks_exact(shape.h * shape.w))
        .for_each(|(out, plane)| dispatch(ValuesOf { shape, plane, out }));
}

/// One plane's maxima: those of each column over the window's rows first.
pub(crate) struct ValuesOf<'a> {
    pub(crate) shape: &'a PoolShape,
    pub(crate) plane: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for ValuesOf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { shape, plane, out } = self;
        let (stride, padding) = (shape.config.stride.1, shape.config.padding.1);
        let mut columns = Scratch::dirty(shape.w);
        for (py, out) in out.chunks_exact_mut(shape.ow).enumerate() {
            let rows = shape.rows(py);
            columns.fill(f32::NEG_INFINITY);
            for row in plane[rows.0 * shape.w..rows.1 * shape.w].chunks_exact(shape.w) {
                for (best, &value) in columns.iter_mut().zip(row) {
                    *best = larger_of(*best, value);
                }
            }
            out.fill(f32::NEG_INFINITY);
            for kx in 0..shape.config.kernel.1 {
                let (first, end) = seen(shape, kx);
                if first < end {
                    let from = &columns[first * stride + kx - padding..];
                    let out = &mut out[first..end];
                    if stride == 2 {
                        let (pairs, last) = from.as_chunks::<2>();
                        let whole = pairs.len().min(out.len());
                        for (best, pair) in out.iter_mut().zip(pairs) {
                            *best = larger_of(*best, pair[0]);
                        }
                        if let (Some(best), [value]) = (out.get_mut(whole), last) {
                            *best = larger_of(*best, *value);
                        }
                    } else {
                        for (best, &value) in out.iter_mut().zip(from.iter().step_by(stride)) {
                            *best = larger_of(*best, value);
                        }
                    }
                }
            }
        }
    }
}

/// The first unless the second is larger, or no number.
#[inline(always)]
fn larger_of(best: f32, value: f32) -> f32 {
    if (value > best) | value.is_nan() { value } else { best }
}

/// One plane's maxima, tap by tap over rows of outputs, so that rows are what vectors are made of.
pub(crate) struct MaximaOf<'a> {
    pub(crate) shape: &'a PoolShape,
    pub(crate) plane: &'a [f32],
    pub(crate) out: &'a mut [f32],
    pub(crate) places: &'a mut [u32],
}

impl Kernel for MaximaOf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { shape, plane, out, places } = self;
        let (stride, padding) = (shape.config.stride.1, shape.config.padding.1);
        let rows = out.chunks_exact_mut(shape.ow).zip(places.chunks_exact_mut(shape.ow));
        for (py, (out, places)) in rows.enumerate() {
            let (top, bottom) = shape.rows(py);
            for (px, (out, place)) in out.iter_mut().zip(places.iter_mut()).enumerate() {
                *out = f32::NEG_INFINITY;
                *place = (top * shape.w + shape.cols(px).0) as u32;
            }
            for y in top..bottom {
                let row = &plane[y * shape.w..(y + 1) * shape.w];
                for kx in 0..shape.config.kernel.1 {
                    let (first, end) = seen(shape, kx);
                    if first < end {
                        let start = first * stride + kx - padding;
                        let at = (y * shape.w + start) as u32;
                        larger(&mut out[first..end], &mut places[first..end], &row[start..], at, stride);
                    }
                }
            }
        }
    }
}

/// Where from\[i·step\] is larger than out\[i\], or no number, it and its place, `at` + i·step, are taken.
#[inline(always)]
fn larger(out: &mut [f32], places: &mut [u32], from: &[f32], at: u32, step: usize) {
    macro_rules! each {
        ($values:expr) => {
            for (i, ((out, place), &value)) in out.iter_mut().zip(places.iter_mut()).zip($values).enumerate()
            {
                let takes = (value > *out) | value.is_nan();
                *out = if takes { value } else { *out };
                *place = if takes { at + (i * step) as u32 } else { *place };
            }
        };
    }
    match step {
        1 => each!(from),
        2 => {
            let (pairs, last) = from.as_chunks::<2>();
            let whole = pairs.len().min(out.len());
            if let ([value], Some(out), Some(place)) = (last, out.get_mut(whole), places.get_mut(whole))
                && (*value > *out || value.is_nan())
            {
                (*out, *place) = (*value, at + (whole * 2) as u32);
            }
            let (out, places) = (&mut out[..whole], &mut places[..whole]);
            for (i, ((out, place), pair)) in out.iter_mut().zip(places.iter_mut()).zip(pairs).enumerate() {
                let value = pair[0];
                let takes = (value > *out) | value.is_nan();
                *out = if takes { value } else { *out };
                *place = if takes { at + (i * 2) as u32 } else { *place };
            }
        }
        _ => each!(from.iter().step_by(step)),
    }
}

/// Each maximum's gradient, at its place.
pub(crate) fn max_backward(shape: &PoolShape, grad: &[f32], places: &[u32]) -> Vec<f32> {
    filled(shape.batch * shape.channels, shape.h * shape.w, |index, plane| {
        unpool(shape, index, grad, places, plane);
    })
}

/// Adds the gradients of the maxima of one plane, the batch's `index`th, at their places.
pub(crate) fn unpool(shape: &PoolShape, index: usize, grad: &[f32], places: &[u32], plane: &mut [f32]) {
    let pooled = index * shape.oh * shape.ow..(index + 1) * shape.oh * shape.ow;
    for (&grad, &place) in grad[pooled.clone()].iter().zip(&places[pooled]) {
        plane[place as usize] += grad;
    }
}

/// One over the number of pixels that count, for each output position.
pub(crate) fn scales(shape: &PoolShape, divisor: Divisor) -> Vec<f32> {
    let extent = |axis, index| pool_extent(shape, divisor, axis, index);
    (0..shape.oh)
        .flat_map(|y| {
            (0..shape.ow).map(move |x| 1.0 / (extent(Axis::Rows, y) * extent(Axis::Cols, x)) as f32)
        })
        .collect()
}

/// The means.
pub(crate) fn avg_forward(shape: &PoolShape, x: &[f32], divisor: Divisor) -> Vec<f32> {
    let pixels = shape.oh * shape.ow;
    let (scales, size) = (scales(shape, divisor), shape.h * shape.w);
    filled(shape.batch * shape.channels, pixels, |index, out| {
        dispatch(MeansOf { shape, scales: &scales, plane: &x[index * size..][..size], out });
    })
}

/// Each mean's gradient, shared out over its window.
pub(crate) fn avg_backward(shape: &PoolShape, grad: &[f32], divisor: Divisor) -> Vec<f32> {
    let pixels = shape.oh * shape.ow;
    let scales = scales(shape, divisor);
    filled(shape.batch * shape.channels, shape.h * shape.w, |index, plane| {
        dispatch(ShareOut { shape, scales: &scales, grad: &grad[index * pixels..][..pixels], plane });
    })
}

/// The outputs (first, end) whose window's column `kx` lies in the map.
fn seen(shape: &PoolShape, kx: usize) -> (usize, usize) {
    let (stride, padding) = (shape.config.stride.1, shape.config.padding.1);
    let first = padding.saturating_sub(kx).div_ceil(stride).min(shape.ow);
    let end = (shape.w + padding).saturating_sub(kx).div_ceil(stride).min(shape.ow);
    (first, end.max(first))
}

/// One plane's means: rows are summed first, then columns.
pub(crate) struct MeansOf<'a> {
    pub(crate) shape: &'a PoolShape,
    pub(crate) scales: &'a [f32],
    pub(crate) plane: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for MeansOf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { shape, scales, plane, out } = self;
        let (stride, padding) = (shape.config.stride.1, shape.config.padding.1);
        let mut sums = Scratch::dirty(shape.w);
        for (py, (out, scales)) in
            out.chunks_exact_mut(shape.ow).zip(scales.chunks_exact(shape.ow)).enumerate()
        {
            let rows = shape.rows(py);
            sums.fill(0.0);
            for row in plane[rows.0 * shape.w..rows.1 * shape.w].chunks_exact(shape.w) {
                elementwise::add(&mut sums, row);
            }
            out.fill(0.0);
            for kx in 0..shape.config.kernel.1 {
                let (first, end) = seen(shape, kx);
                if first < end {
                    let from = &sums[first * stride + kx - padding..];
                    add_every(&mut out[first..end], from, stride);
                }
            }
            for (out, scale) in out.iter_mut().zip(scales) {
                *out *= scale;
            }
        }
    }
}

/// to\[i\] += from\[i·step\]
#[inline(always)]
fn add_every(to: &mut [f32], from: &[f32], step: usize) {
    match step {
        1 => elementwise::add(to, from),
        2 => {
            let (pairs, last) = from.as_chunks::<2>();
            let whole = to.len().min(pairs.len());
            for (to, pair) in to.iter_mut().zip(pairs) {
                *to += pair[0];
            }
            if let (Some(to), [last]) = (to.get_mut(whole), last) {
                *to += last;
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(step)) {
                *to += from;
            }
        }
    }
}

/// One plane's gradient, which starts as zeros: shares are spread over columns first, then rows.
pub(crate) struct ShareOut<'a> {
    pub(crate) shape: &'a PoolShape,
    pub(crate) scales: &'a [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) plane: &'a mut [f32],
}

impl Kernel for ShareOut<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { shape, scales, grad, plane } = self;
        let (stride, padding) = (shape.config.stride.1, shape.config.padding.1);
        let mut shares = Scratch::dirty(shape.ow);
        let mut spread = Scratch::dirty(shape.w);
        for (py, (grad, scales)) in grad.chunks_exact(shape.ow).zip(scales.chunks_exact(shape.ow)).enumerate()
        {
            for ((share, grad), scale) in shares.iter_mut().zip(grad).zip(scales) {
                *share = grad * scale;
            }
            spread.fill(0.0);
            for kx in 0..shape.config.kernel.1 {
                let (first, end) = seen(shape, kx);
                if first < end {
                    let to = &mut spread[first * stride + kx - padding..];
                    let shares = &shares[first..end];
                    if stride == 2 {
                        let (pairs, last) = to.as_chunks_mut::<2>();
                        let whole = pairs.len().min(shares.len());
                        for (pair, share) in pairs.iter_mut().zip(shares) {
                            pair[0] += share;
                        }
                        if let ([last], Some(share)) = (last, shares.get(whole)) {
                            *last += share;
                        }
                    } else {
                        for (to, share) in to.iter_mut().step_by(stride).zip(shares) {
                            *to += share;
                        }
                    }
                }
            }
            let rows = shape.rows(py);
            for row in plane[rows.0 * shape.w..rows.1 * shape.w].chunks_exact_mut(shape.w) {
                elementwise::add(row, &spread);
            }
        }
    }
}
