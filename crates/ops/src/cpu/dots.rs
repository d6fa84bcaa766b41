//! Products of two matrices whose rows lie along the shared dimension, for few rows on the left: each value of the
//! right side is read once and used at once, without being copied into panels first, which for a dense layer's weights
//! costs more than the arithmetic.

use rayon::prelude::*;

use super::scratch::Scratch;
use super::simd::{Kernel, Simd, dispatch};

/// More rows on the left make good for copying the right side.
pub(crate) const FEW: usize = 32;
/// Rows of a tile, on either side.
const TILE: usize = 4;
/// Values of the shared dimension that are taken together: a tile's rows of the right side lie in the first-level
/// cache.
const DEPTH: usize = 256;
/// Rows of the right side in one piece of work.
const PIECE: usize = 4 * TILE;

/// Σₖ left\[m, k\]·right\[n, k\], row after row (m, n).
pub(crate) fn multiply_rows(left: &[f32], right: &[f32], depth: usize) -> Vec<f32> {
    let (rows, cols) = (left.len() / depth, right.len() / depth);
    assert!(left.len() == rows * depth && right.len() == cols * depth);
    let pieces: Vec<Vec<f32>> =
        right.par_chunks(PIECE * depth).map(|right| dispatch(Dots { left, right, depth })).collect();
    let mut result = vec![0.0; rows * cols];
    for (m, row) in result.chunks_exact_mut(cols).enumerate() {
        for (to, piece) in row.chunks_mut(PIECE).zip(&pieces) {
            for (to, tiles) in to.chunks_mut(TILE).zip(piece.chunks_exact(TILE * rows)) {
                to.copy_from_slice(&tiles[m * TILE..][..to.len()]);
            }
        }
    }
    result
}

/// Some rows of the right side: [tile of them][row of the left][row of the tile].
struct Dots<'a> {
    left: &'a [f32],
    right: &'a [f32],
    depth: usize,
}

impl Kernel for Dots<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { left, right, depth } = self;
        let rows = left.len() / depth;
        let tiles = right.chunks(TILE * depth);
        let mut result = Vec::with_capacity(tiles.len() * TILE * rows);
        let mut sums = Scratch::dirty(rows * TILE * S::LANES);
        for right in tiles {
            sums.fill(0.0);
            for first in (0..depth).step_by(DEPTH) {
                let these = first..depth.min(first + DEPTH);
                let tiles = left.chunks(TILE * depth).zip(sums.chunks_mut(TILE * TILE * S::LANES));
                for (left, sums) in tiles {
                    let part = Part { left, right, depth, these: these.clone() };
                    match (left.len() / depth, right.len() / depth) {
                        (4, 4) => part.add::<S, 4, 4>(simd, sums),
                        (3, 4) => part.add::<S, 3, 4>(simd, sums),
                        (2, 4) => part.add::<S, 2, 4>(simd, sums),
                        (1, 4) => part.add::<S, 1, 4>(simd, sums),
                        (left_rows, right_rows) => {
                            for m in 0..left_rows {
                                for n in 0..right_rows {
                                    let part = Part {
                                        left: &left[m * depth..(m + 1) * depth],
                                        right: &right[n * depth..(n + 1) * depth],
                                        depth,
                                        these: these.clone(),
                                    };
                                    part.add::<S, 1, 1>(simd, &mut sums[(m * TILE + n) * S::LANES..]);
                                }
                            }
                        }
                    }
                }
            }
            for sums in sums.chunks_exact(S::LANES) {
                result.push(sums.iter().sum());
            }
        }
        result
    }
}

/// Some rows of both sides, along a part of the shared dimension.
struct Part<'a> {
    left: &'a [f32],
    right: &'a [f32],
    depth: usize,
    these: std::ops::Range<usize>,
}

impl Part<'_> {
    /// Adds the products of `M` rows by `N` to vectors of `sums` [m][[`TILE`]], lane by lane.
    #[inline(always)]
    fn add<S: Simd, const M: usize, const N: usize>(self, simd: S, sums: &mut [f32]) {
        let Self { left, right, depth, these } = self;
        assert!(left.len() == M * depth && right.len() == N * depth && these.end <= depth);
        assert!(N <= TILE && ((M - 1) * TILE + N) * S::LANES <= sums.len());
        let (left, right, at) = (left.as_ptr(), right.as_ptr(), sums.as_mut_ptr());
        // SAFETY: `these` lies in each of the `M` and `N` rows; the sums' vectors lie in `sums`; both as asserted.
        unsafe {
            let mut held = [[simd.splat(0.0); N]; M];
            let whole = these.end - these.len() % S::LANES;
            for k in (these.start..whole).step_by(S::LANES) {
                let columns: [S::V; N] = std::array::from_fn(|n| simd.load(right.add(n * depth + k)));
                for (m, held) in held.iter_mut().enumerate() {
                    let row = simd.load(left.add(m * depth + k));
                    for (held, column) in held.iter_mut().zip(columns) {
                        *held = simd.mul_add(row, column, *held);
                    }
                }
            }
            if whole < these.end {
                let rest = these.end - whole;
                let columns: [S::V; N] =
                    std::array::from_fn(|n| simd.load_first(right.add(n * depth + whole), rest));
                for (m, held) in held.iter_mut().enumerate() {
                    let row = simd.load_first(left.add(m * depth + whole), rest);
                    for (held, column) in held.iter_mut().zip(columns) {
                        *held = simd.mul_add(row, column, *held);
                    }
                }
            }
            for (m, held) in held.into_iter().enumerate() {
                for (n, held) in held.into_iter().enumerate() {
                    // Part by part, so that what is summed is not long before it is added to what is large.
                    let at = at.add((m * TILE + n) * S::LANES);
                    simd.store(at, simd.add(simd.load(at), held));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_multiplied_by_rows() {
        for (rows, cols, depth) in [(1, 1, 1), (3, 5, 17), (4, 16, 1024), (7, 23, 1031), (16, 33, 2100)] {
            let value = |i: usize, step: usize| ((i * step % 101) as f32 - 50.0) / 50.0;
            let left: Vec<f32> = (0..rows * depth).map(|i| value(i, 37)).collect();
            let right: Vec<f32> = (0..cols * depth).map(|i| value(i, 29)).collect();
            let found = multiply_rows(&left, &right, depth);
            for m in 0..rows {
                for n in 0..cols {
                    let terms = left[m * depth..][..depth].iter().zip(&right[n * depth..][..depth]);
                    let terms = terms.map(|(&a, &b)| f64::from(a) * f64::from(b));
                    let (expected, size) = (terms.clone().sum::<f64>(), terms.map(f64::abs).sum::<f64>());
                    let found = f64::from(found[m * cols + n]);
                    assert!((found - expected).abs() <= 1e-6 * size, "{found} for {expected}");
                }
            }
        }
    }
}
