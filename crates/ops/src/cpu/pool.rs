//! Max and average pooling of float32 maps, plane by plane, forward and backward.

use rayon::prelude::*;

use super::elementwise;
use super::memory::buffer::{filled, zeros};
use super::memory::scratch::Scratch;
use super::memory::threads::map_tasks;
use crate::config::PadCounting;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::shape::PoolShape;

/// The maxima, and the index of each in its plane. The first of equal values wins.
pub(crate) fn max_forward(shape: &PoolShape, x: &[f32]) -> (Vec<f32>, Vec<u32>) {
    let pixels = shape.oh * shape.ow;
    let mut out = zeros(shape.batch * shape.channels * pixels);
    let mut argmax: Vec<u32> = zeros(out.len());
    out.par_chunks_exact_mut(pixels)
        .zip(argmax.par_chunks_exact_mut(pixels))
        .zip(x.par_chunks_exact(shape.h * shape.w))
        .for_each(|((out, argmax), plane)| dispatch(ArgmaxPlane { shape, plane, out, argmax }));
    (out, argmax)
}

/// The maxima without their indices.
pub(crate) fn max_values(shape: &PoolShape, x: &[f32]) -> Vec<f32> {
    let size = shape.h * shape.w;
    filled(shape.batch * shape.channels, shape.oh * shape.ow, |index, out| {
        dispatch(MaxPlane { shape, plane: &x[index * size..][..size], out });
    })
}

/// [`max_values`] for any number of samples, into `out`.
pub(crate) fn max_values_into(shape: &PoolShape, x: &[f32], out: &mut [f32]) {
    out.par_chunks_exact_mut(shape.oh * shape.ow)
        .zip(x.par_chunks_exact(shape.h * shape.w))
        .for_each(|(out, plane)| dispatch(MaxPlane { shape, plane, out }));
}

/// The maxima of one plane: over the rows of each window first, then over its columns.
pub(crate) struct MaxPlane<'a> {
    pub(crate) shape: &'a PoolShape,
    pub(crate) plane: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for MaxPlane<'_> {
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
                    *best = max_or_nan(*best, value);
                }
            }
            out.fill(f32::NEG_INFINITY);
            for kx in 0..shape.config.kernel.1 {
                let (first, end) = visible_outputs(shape, kx);
                if first < end {
                    let from = &columns[first * stride + kx - padding..];
                    let out = &mut out[first..end];
                    if stride == 2 {
                        let (pairs, last) = from.as_chunks::<2>();
                        let whole = pairs.len().min(out.len());
                        for (best, pair) in out.iter_mut().zip(pairs) {
                            *best = max_or_nan(*best, pair[0]);
                        }
                        if let (Some(best), [value]) = (out.get_mut(whole), last) {
                            *best = max_or_nan(*best, *value);
                        }
                    } else {
                        for (best, &value) in out.iter_mut().zip(from.iter().step_by(stride)) {
                            *best = max_or_nan(*best, value);
                        }
                    }
                }
            }
        }
    }
}

/// `value` if it is larger than `best` or NaN, else `best`.
#[inline(always)]
fn max_or_nan(best: f32, value: f32) -> f32 {
    if (value > best) | value.is_nan() { value } else { best }
}

/// The maxima of one plane and their indices, one kernel column after another over rows of outputs,
/// so that rows are vectorized.
pub(crate) struct ArgmaxPlane<'a> {
    pub(crate) shape: &'a PoolShape,
    pub(crate) plane: &'a [f32],
    pub(crate) out: &'a mut [f32],
    pub(crate) argmax: &'a mut [u32],
}

impl Kernel for ArgmaxPlane<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { shape, plane, out, argmax } = self;
        let (stride, padding) = (shape.config.stride.1, shape.config.padding.1);
        let rows = out.chunks_exact_mut(shape.ow).zip(argmax.chunks_exact_mut(shape.ow));
        for (py, (out, argmax)) in rows.enumerate() {
            let (top, bottom) = shape.rows(py);
            for (px, (out, index)) in out.iter_mut().zip(argmax.iter_mut()).enumerate() {
                *out = f32::NEG_INFINITY;
                *index = (top * shape.w + shape.cols(px).0) as u32;
            }
            for y in top..bottom {
                let row = &plane[y * shape.w..(y + 1) * shape.w];
                for kx in 0..shape.config.kernel.1 {
                    let (first, end) = visible_outputs(shape, kx);
                    if first < end {
                        let start = first * stride + kx - padding;
                        let at = (y * shape.w + start) as u32;
                        update_argmax(
                            &mut out[first..end],
                            &mut argmax[first..end],
                            &row[start..],
                            at,
                            stride,
                        );
                    }
                }
            }
        }
    }
}

/// Updates each output and its index with from\[i·step\], at index `at` + i·step, if that is larger
/// or NaN.
#[inline(always)]
fn update_argmax(out: &mut [f32], argmax: &mut [u32], from: &[f32], at: u32, step: usize) {
    macro_rules! each {
        ($values:expr) => {
            for (i, ((out, index), &value)) in out.iter_mut().zip(argmax.iter_mut()).zip($values).enumerate()
            {
                let takes = (value > *out) | value.is_nan();
                *out = if takes { value } else { *out };
                *index = if takes { at + (i * step) as u32 } else { *index };
            }
        };
    }
    match step {
        1 => each!(from),
        2 => {
            let (pairs, last) = from.as_chunks::<2>();
            let whole = pairs.len().min(out.len());
            if let ([value], Some(out), Some(index)) = (last, out.get_mut(whole), argmax.get_mut(whole))
                && (*value > *out || value.is_nan())
            {
                (*out, *index) = (*value, at + (whole * 2) as u32);
            }
            let (out, argmax) = (&mut out[..whole], &mut argmax[..whole]);
            for (i, ((out, index), pair)) in out.iter_mut().zip(argmax.iter_mut()).zip(pairs).enumerate() {
                let value = pair[0];
                let takes = (value > *out) | value.is_nan();
                *out = if takes { value } else { *out };
                *index = if takes { at + (i * 2) as u32 } else { *index };
            }
        }
        _ => each!(from.iter().step_by(step)),
    }
}

/// The gradient of the input: each maximum's gradient at its index.
pub(crate) fn max_backward(shape: &PoolShape, grad: &[f32], argmax: &[u32]) -> Vec<f32> {
    filled(shape.batch * shape.channels, shape.h * shape.w, |index, plane| {
        unpool(shape, index, grad, argmax, plane);
    })
}

/// Adds the gradients of the maxima of the batch's `index`-th plane at their indices.
pub(crate) fn unpool(shape: &PoolShape, index: usize, grad: &[f32], argmax: &[u32], plane: &mut [f32]) {
    let pooled = index * shape.oh * shape.ow..(index + 1) * shape.oh * shape.ow;
    for (&grad, &index) in grad[pooled.clone()].iter().zip(&argmax[pooled]) {
        plane[index as usize] += grad;
    }
}

/// One over the number of pixels that count, for each output.
pub(crate) fn scales(shape: &PoolShape, counting: PadCounting) -> Vec<f32> {
    let counts: Vec<usize> = (0..shape.ow).map(|ox| shape.counted_cols(ox, counting)).collect();
    (0..shape.oh)
        .flat_map(|oy| {
            let rows = shape.counted_rows(oy, counting);
            counts.iter().map(move |cols| 1.0 / (rows * cols) as f32)
        })
        .collect()
}

/// The mean of each window.
pub(crate) fn avg_forward(shape: &PoolShape, x: &[f32], counting: PadCounting) -> Vec<f32> {
    let pixels = shape.oh * shape.ow;
    let (scales, size) = (scales(shape, counting), shape.h * shape.w);
    if shape.is_global() {
        return means(x, size);
    }
    filled(shape.batch * shape.channels, pixels, |index, out| {
        dispatch(MeanPlane { shape, scales: &scales, plane: &x[index * size..][..size], out });
    })
}

/// The mean of each plane of `size` values.
pub(crate) fn means(x: &[f32], size: usize) -> Vec<f32> {
    /// Planes per task.
    const PLANES: usize = 32;
    let maps: Vec<&[f32]> = x.chunks(PLANES * size).collect();
    map_tasks(maps.len(), x.len(), |task| dispatch(Means { x: maps[task], size })).concat()
}

/// The gradient of the input: each mean's gradient, divided among the pixels of its window.
pub(crate) fn avg_backward(shape: &PoolShape, grad: &[f32], counting: PadCounting) -> Vec<f32> {
    let pixels = shape.oh * shape.ow;
    let scales = scales(shape, counting);
    filled(shape.batch * shape.channels, shape.h * shape.w, |index, plane| {
        dispatch(MeanGradPlane { shape, scales: &scales, grad: &grad[index * pixels..][..pixels], plane });
    })
}

/// The range (first, end) of outputs whose window has column `kx` inside the map.
fn visible_outputs(shape: &PoolShape, kx: usize) -> (usize, usize) {
    let (stride, padding) = (shape.config.stride.1, shape.config.padding.1);
    let first = padding.saturating_sub(kx).div_ceil(stride).min(shape.ow);
    let end = (shape.w + padding).saturating_sub(kx).div_ceil(stride).min(shape.ow);
    (first, end.max(first))
}

/// The means of planes of `size` values.
struct Means<'a> {
    x: &'a [f32],
    size: usize,
}

impl Kernel for Means<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<f32> {
        let mut means = Vec::with_capacity(self.x.len() / self.size);
        for plane in self.x.chunks_exact(self.size) {
            means.push(elementwise::sum(plane) / self.size as f32);
        }
        means
    }
}

/// The means of one plane: sums over rows first, then over columns.
pub(crate) struct MeanPlane<'a> {
    pub(crate) shape: &'a PoolShape,
    pub(crate) scales: &'a [f32],
    pub(crate) plane: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for MeanPlane<'_> {
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
                let (first, end) = visible_outputs(shape, kx);
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

/// Adds from\[i·step\] to to\[i\].
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

/// The gradient of one plane, which starts as zeros: spread over columns first, then over rows.
pub(crate) struct MeanGradPlane<'a> {
    pub(crate) shape: &'a PoolShape,
    pub(crate) scales: &'a [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) plane: &'a mut [f32],
}

impl Kernel for MeanGradPlane<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { shape, scales, grad, plane } = self;
        let (stride, padding) = (shape.config.stride.1, shape.config.padding.1);
        let mut scaled = Scratch::dirty(shape.ow);
        let mut spread = Scratch::dirty(shape.w);
        for (py, (grad, scales)) in grad.chunks_exact(shape.ow).zip(scales.chunks_exact(shape.ow)).enumerate()
        {
            for ((scaled, grad), scale) in scaled.iter_mut().zip(grad).zip(scales) {
                *scaled = grad * scale;
            }
            spread.fill(0.0);
            for kx in 0..shape.config.kernel.1 {
                let (first, end) = visible_outputs(shape, kx);
                if first < end {
                    let to = &mut spread[first * stride + kx - padding..];
                    let scaled = &scaled[first..end];
                    if stride == 2 {
                        let (pairs, last) = to.as_chunks_mut::<2>();
                        let whole = pairs.len().min(scaled.len());
                        for (pair, scaled) in pairs.iter_mut().zip(scaled) {
                            pair[0] += scaled;
                        }
                        if let ([last], Some(scaled)) = (last, scaled.get(whole)) {
                            *last += scaled;
                        }
                    } else {
                        for (to, scaled) in to.iter_mut().step_by(stride).zip(scaled) {
                            *to += scaled;
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
