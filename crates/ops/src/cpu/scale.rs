//! Products of planes and one factor each, and their gradients.

use super::memory::buffer::filled_with;
use super::memory::threads::for_each_chunk;
use super::simd::{Kernel, Simd, dispatch};
use super::softmax::dot;

/// Values [repetition][factor][plane]: each factor multiplies its planes of `plane` values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scales {
    pub(crate) factors: usize,
    pub(crate) plane: usize,
}

impl Scales {
    /// Number of values per task: planes if the factors are not repeated, else whole repetitions.
    fn task_len(&self, total: usize) -> usize {
        const VALUES: usize = 1 << 14;
        let unit = if self.is_repeated(total) { self.factors * self.plane } else { self.plane };
        unit * (VALUES / unit).max(1)
    }

    fn is_repeated(&self, total: usize) -> bool {
        total > self.factors * self.plane
    }

    /// The factors of the task that starts at value `start` and has `len` values.
    fn of_task<'a>(&self, total: usize, factors: &'a [f32], start: usize, len: usize) -> &'a [f32] {
        if self.is_repeated(total) { factors } else { &factors[start / self.plane..][..len / self.plane] }
    }

    pub(crate) fn forward(&self, x: &[f32], factors: &[f32]) -> Vec<f32> {
        let len = self.task_len(x.len());
        let fill = |index: usize, y: &mut [f32]| {
            let factors = self.of_task(x.len(), factors, index * len, y.len());
            let x = &x[index * len..][..y.len()];
            dispatch(Product { plane: self.plane, x, factors, y });
        };
        filled_with(x.len(), len, fill).0
    }

    /// The gradients of x and the factors, from `grad`, that of the product.
    pub(crate) fn backward(&self, x: &[f32], factors: &[f32], grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let len = self.task_len(x.len());
        let fill = |index: usize, x_grad: &mut [f32]| {
            let factors = self.of_task(x.len(), factors, index * len, x_grad.len());
            let range = index * len..index * len + x_grad.len();
            let (x, grad) = (&x[range.clone()], &grad[range]);
            dispatch(Product { plane: self.plane, x: grad, factors, y: x_grad });
            dispatch(Sums { plane: self.plane, factors: factors.len(), x, grad })
        };
        let (x_grad, parts) = filled_with(x.len(), len, fill);
        if !self.is_repeated(x.len()) {
            return (x_grad, parts.concat());
        }
        let mut total = vec![0.0f64; factors.len()];
        for part in parts {
            total.iter_mut().zip(part).for_each(|(total, part)| *total += f64::from(part));
        }
        (x_grad, total.into_iter().map(|total| total as f32).collect())
    }
}

/// Multiplies maps in place: `maps` [factor][plane] by `factors`, on all threads.
pub(crate) fn par_scale(maps: &mut [f32], factors: &[f32]) {
    let plane = maps.len() / factors.len();
    for_each_chunk(maps, plane, |index, values| {
        let factor = factors[index];
        values.iter_mut().for_each(|value| *value *= factor);
    });
}

struct Product<'a> {
    plane: usize,
    x: &'a [f32],
    factors: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { plane, x, factors, y } = self;
        let len = factors.len() * plane;
        for (x, y) in x.chunks_exact(len).zip(y.chunks_exact_mut(len)) {
            if plane == 1 {
                for ((y, x), factor) in y.iter_mut().zip(x).zip(factors) {
                    *y = x * factor;
                }
                continue;
            }
            for ((y, x), factor) in y.chunks_exact_mut(plane).zip(x.chunks_exact(plane)).zip(factors) {
                for (y, x) in y.iter_mut().zip(x) {
                    *y = x * factor;
                }
            }
        }
    }
}

/// Σ x·grad for each factor.
struct Sums<'a> {
    plane: usize,
    factors: usize,
    x: &'a [f32],
    grad: &'a [f32],
}

impl Kernel for Sums<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<f32> {
        let Self { plane, factors, x, grad } = self;
        let mut sums = vec![0.0; factors];
        let len = factors * plane;
        for (x, grad) in x.chunks_exact(len).zip(grad.chunks_exact(len)) {
            if plane == 1 {
                for ((sum, x), grad) in sums.iter_mut().zip(x).zip(grad) {
                    *sum += x * grad;
                }
                continue;
            }
            let planes = x.chunks_exact(plane).zip(grad.chunks_exact(plane));
            for (sum, (x, grad)) in sums.iter_mut().zip(planes) {
                *sum += dot(x, grad);
            }
        }
        sums
    }
}
