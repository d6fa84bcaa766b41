//! Softmax of rows, and its gradient.

use super::elementwise::{exp_of_negative, sum};
use super::memory::buffer::filled_with;
use super::simd::{Kernel, Simd, dispatch};

/// Number of interleaved maxima and sums.
const RUNS: usize = 16;

/// Number of values per task, for rows of `size`.
fn task_len(size: usize) -> usize {
    const VALUES: usize = 1 << 13;
    size * (VALUES / size).max(1)
}

/// The softmax of each row of `size` values.
pub(crate) fn forward(x: &[f32], size: usize) -> Vec<f32> {
    struct Rows<'a>(&'a [f32], &'a mut [f32], usize);
    impl Kernel for Rows<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            for (x, y) in self.0.chunks_exact(self.2).zip(self.1.chunks_exact_mut(self.2)) {
                let max = max(x);
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = exp_of_negative::<S>(x - max, 0.0);
                }
                let factor = 1.0 / sum(y);
                for y in y {
                    *y *= factor;
                }
            }
        }
    }
    let len = task_len(size);
    filled_with(x.len(), len, |index, y| dispatch(Rows(&x[index * len..][..y.len()], y, size))).0
}

/// The gradient of x, y·(g − Σ g·y), from `grad`, that of `y`.
pub(crate) fn backward(y: &[f32], grad: &[f32], size: usize) -> Vec<f32> {
    struct Rows<'a>(&'a [f32], &'a [f32], &'a mut [f32], usize);
    impl Kernel for Rows<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let Self(y, grad, x_grad, size) = self;
            let rows = y.chunks_exact(size).zip(grad.chunks_exact(size)).zip(x_grad.chunks_exact_mut(size));
            for ((y, grad), x_grad) in rows {
                let dot = dot(y, grad);
                for ((to, &y), &grad) in x_grad.iter_mut().zip(y).zip(grad) {
                    *to = y * (grad - dot);
                }
            }
        }
    }
    let len = task_len(size);
    filled_with(y.len(), len, |index, x_grad| {
        let range = index * len..index * len + x_grad.len();
        dispatch(Rows(&y[range.clone()], &grad[range], x_grad, size));
    })
    .0
}

/// The maximum, in interleaved runs. NaN is passed over.
#[inline(always)]
fn max(values: &[f32]) -> f32 {
    let mut runs = [f32::NEG_INFINITY; RUNS];
    let (whole, rest) = values.as_chunks::<RUNS>();
    for values in whole {
        for i in 0..RUNS {
            runs[i] = larger(runs[i], values[i]);
        }
    }
    for &value in rest {
        runs[0] = larger(runs[0], value);
    }
    fold(runs, larger)
}

/// Σ a·b, in interleaved runs.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    /// Number of products that are summed before they are added to a longer sum.
    const PART: usize = 128 * RUNS;
    let mut total = 0.0;
    for (a, b) in a.chunks(PART).zip(b.chunks(PART)) {
        let mut runs = [0.0f32; RUNS];
        let ((a, last_a), (b, last_b)) = (a.as_chunks::<RUNS>(), b.as_chunks::<RUNS>());
        for (a, b) in a.iter().zip(b) {
            for i in 0..RUNS {
                runs[i] += a[i] * b[i];
            }
        }
        for (a, b) in last_a.iter().zip(last_b) {
            runs[0] += a * b;
        }
        total += fold(runs, |a, b| a + b);
    }
    total
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Combines the halves of `runs` until one value is left.
#[inline(always)]
fn fold(mut runs: [f32; RUNS], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = RUNS / 2;
    while half > 0 {
        for i in 0..half {
            runs[i] = f(runs[i], runs[i + half]);
        }
        half /= 2;
    }
    runs[0]
}

/// A row of scores in whole vectors that lie in parts.
pub(crate) struct PaddedRow<V> {
    runs: V,
}

impl<V: Copy> PaddedRow<V> {
    pub(crate) fn new<S: Simd<V = V>>(simd: S, start: f32) -> Self {
        Self { runs: simd.splat(start) }
    }

    /// Takes the maxima with `values`, whole vectors.
    #[inline(always)]
    pub(crate) fn max<S: Simd<V = V>>(&mut self, simd: S, values: &[f32]) {
        for values in values.chunks_exact(S::LANES) {
            // SAFETY: the chunk is a whole vector.
            self.runs = simd.max(unsafe { simd.load(values.as_ptr()) }, self.runs);
        }
    }

    /// Replaces `values`, whole vectors, by e^(value − `largest`), and adds them.
    #[inline(always)]
    pub(crate) fn exponentials<S: Simd<V = V>>(&mut self, simd: S, values: &mut [f32], largest: f32) {
        for values in values.chunks_exact_mut(S::LANES) {
            for value in values.iter_mut() {
                *value = exp_of_negative::<S>(*value - largest, 0.0);
            }
            // SAFETY: the chunk is a whole vector.
            self.runs = simd.add(unsafe { simd.load(values.as_ptr()) }, self.runs);
        }
    }

    #[inline(always)]
    fn lanes<S: Simd<V = V>>(&self, simd: S, rest: f32) -> [f32; RUNS] {
        let mut lanes = [rest; RUNS];
        assert!(S::LANES <= RUNS);
        // SAFETY: the array holds a vector, as asserted.
        unsafe { simd.store(lanes.as_mut_ptr(), self.runs) };
        lanes
    }

    #[inline(always)]
    pub(crate) fn maximum<S: Simd<V = V>>(&self, simd: S) -> f32 {
        fold(self.lanes(simd, f32::NEG_INFINITY), larger)
    }

    #[inline(always)]
    pub(crate) fn total<S: Simd<V = V>>(&self, simd: S) -> f32 {
        fold(self.lanes(simd, 0.0), |a, b| a + b)
    }
}
