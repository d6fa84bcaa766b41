//! Pooling of float32 maps, plane by plane.

use rayon::prelude::*;

use crate::config::Divisor;
use crate::portable::{Axis, pool_extent};
use crate::shape::PoolShape;

/// The maxima, and where in its plane each lies; the first of equals.
pub(crate) fn max_forward(shape: &PoolShape, x: &[f32]) -> (Vec<f32>, Vec<u32>) {
    let pixels = shape.oh * shape.ow;
    let mut out = vec![0.0; shape.batch * shape.channels * pixels];
    let mut places = vec![0u32; out.len()];
    out.par_chunks_exact_mut(pixels)
        .zip(places.par_chunks_exact_mut(pixels))
        .zip(x.par_chunks_exact(shape.h * shape.w))
        .for_each(|((out, places), plane)| {
            for py in 0..shape.oh {
                let rows = shape.rows(py);
                for px in 0..shape.ow {
                    let cols = shape.cols(px);
                    let mut best = (f32::NEG_INFINITY, rows.0 * shape.w + cols.0);
                    for y in rows.0..rows.1 {
                        for x in cols.0..cols.1 {
                            let value = plane[y * shape.w + x];
                            if value > best.0 || value.is_nan() {
                                best = (value, y * shape.w + x);
                            }
                        }
                    }
                    out[py * shape.ow + px] = best.0;
                    places[py * shape.ow + px] = best.1 as u32;
                }
            }
        });
    (out, places)
}

/// Each maximum's gradient, at its place.
pub(crate) fn max_backward(shape: &PoolShape, grad: &[f32], places: &[u32]) -> Vec<f32> {
    let pixels = shape.oh * shape.ow;
    let mut x_grad = vec![0.0; shape.batch * shape.channels * shape.h * shape.w];
    x_grad
        .par_chunks_exact_mut(shape.h * shape.w)
        .zip(grad.par_chunks_exact(pixels))
        .zip(places.par_chunks_exact(pixels))
        .for_each(|((plane, grad), places)| {
            for (&grad, &place) in grad.iter().zip(places) {
                plane[place as usize] += grad;
            }
        });
    x_grad
}

/// One over the number of pixels that count, for each output position.
fn scales(shape: &PoolShape, divisor: Divisor) -> Vec<f32> {
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
    let scales = scales(shape, divisor);
    let mut out = vec![0.0; shape.batch * shape.channels * pixels];
    out.par_chunks_exact_mut(pixels).zip(x.par_chunks_exact(shape.h * shape.w)).for_each(|(out, plane)| {
        for py in 0..shape.oh {
            let rows = shape.rows(py);
            for px in 0..shape.ow {
                let cols = shape.cols(px);
                let sum: f32 = (rows.0..rows.1)
                    .map(|y| plane[y * shape.w + cols.0..y * shape.w + cols.1].iter().sum::<f32>())
                    .sum();
                out[py * shape.ow + px] = sum * scales[py * shape.ow + px];
            }
        }
    });
    out
}

/// Each mean's gradient, shared out over its window.
pub(crate) fn avg_backward(shape: &PoolShape, grad: &[f32], divisor: Divisor) -> Vec<f32> {
    let pixels = shape.oh * shape.ow;
    let scales = scales(shape, divisor);
    let mut x_grad = vec![0.0; shape.batch * shape.channels * shape.h * shape.w];
    x_grad.par_chunks_exact_mut(shape.h * shape.w).zip(grad.par_chunks_exact(pixels)).for_each(
        |(plane, grad)| {
            for py in 0..shape.oh {
                let rows = shape.rows(py);
                for px in 0..shape.ow {
                    let cols = shape.cols(px);
                    let share = grad[py * shape.ow + px] * scales[py * shape.ow + px];
                    for y in rows.0..rows.1 {
                        plane[y * shape.w + cols.0..y * shape.w + cols.1]
                            .iter_mut()
                            .for_each(|v| *v += share);
                    }
                }
            }
        },
    );
    x_grad
}
