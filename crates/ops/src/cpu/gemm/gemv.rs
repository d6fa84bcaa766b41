//! Products of a matrix of few rows and a large row-major one, as in a dense layer with a small
//! batch.
//!
//! Each value of the right side is read once, directly, since packing it first would cost more than
//! the arithmetic.

use crate::cpu::memory::scratch::Scratch;
use crate::cpu::memory::threads::map_tasks;
use crate::cpu::simd::{Kernel, Simd, dispatch, transpose};

/// Maximum number of rows of the left side. With more, packing the right side pays off. Up to it, no row's sums depend on the number.
pub(crate) const MAX_ROWS: usize = 32;
/// Rows of a tile, on both sides.
const TILE: usize = 4;
/// Rows of the right side at once where there are 16 registers.
const HALF: usize = TILE / 2;
/// Number of values in a cache line, a multiple of every vector length.
const LINE: usize = 16;
/// Number of values of the shared dimension that are processed together, such that the left side, a
/// tile of the right side and a task's sums fit the L1 cache.
const BLOCK_DEPTH: usize = 16 * LINE;
/// Rows of the right side per task.
const TASK_ROWS: usize = 4 * TILE;

/// Computes Σₖ lhs\[m, k\]·rhs\[n, k\], row-major (m, n). Both sides are row-major with rows of
/// `depth` values.
pub(crate) fn gemv(lhs: &[f32], rhs: &[f32], depth: usize) -> Vec<f32> {
    let (rows, cols) = (lhs.len() / depth, rhs.len() / depth);
    assert!(lhs.len() == rows * depth && rhs.len() == cols * depth);
    let lhs = &PackedLhs::new(lhs, depth);
    let tasks: Vec<&[f32]> = rhs.chunks(TASK_ROWS * depth).collect();
    let parts =
        map_tasks(tasks.len(), lhs.rows * rhs.len(), |task| dispatch(GemvTask { lhs, rhs: tasks[task] }));
    let mut result = vec![0.0; rows * cols];
    for (m, row) in result.chunks_exact_mut(cols).enumerate() {
        for (to, part) in row.chunks_mut(TASK_ROWS).zip(&parts) {
            for (to, tiles) in to.chunks_mut(TILE).zip(part.chunks_exact(TILE * rows)) {
                to.copy_from_slice(&tiles[m * TILE..][..to.len()]);
            }
        }
    }
    result
}

/// The left side, by cache lines: [tile of rows][line][row of the tile][value], padded with zeros.
struct PackedLhs {
    values: Scratch,
    rows: usize,
    depth: usize,
}

impl PackedLhs {
    fn new(lhs: &[f32], depth: usize) -> Self {
        let (rows, lines) = (lhs.len() / depth, depth.div_ceil(LINE));
        let mut values = Scratch::zeroed(rows.div_ceil(TILE) * lines * TILE * LINE);
        let tiles = values.chunks_exact_mut(lines * TILE * LINE).zip(lhs.chunks(TILE * depth));
        for (to, tile) in tiles {
            for (m, row) in tile.chunks_exact(depth).enumerate() {
                for (to, line) in to.chunks_exact_mut(TILE * LINE).zip(row.chunks(LINE)) {
                    to[m * LINE..][..line.len()].copy_from_slice(line);
                }
            }
        }
        Self { values, rows, depth }
    }
}

/// A range of rows of the right side. The result is [tile of them][row of the left side][row of the
/// tile].
struct GemvTask<'a> {
    lhs: &'a PackedLhs,
    rhs: &'a [f32],
}

impl Kernel for GemvTask<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { lhs: &PackedLhs { ref values, rows, depth }, rhs } = self;
        let lhs_tiles = rows.div_ceil(TILE);
        let tiles = rhs.len().div_ceil(TILE * depth);
        let mut sums = Scratch::zeroed(tiles * lhs_tiles * TILE * TILE * S::LANES);
        for first in (0..depth).step_by(BLOCK_DEPTH) {
            let range = first..depth.min(first + BLOCK_DEPTH);
            let tiles =
                rhs.chunks(TILE * depth).zip(sums.chunks_exact_mut(lhs_tiles * TILE * TILE * S::LANES));
            for (rhs, sums) in tiles {
                let by_lhs = values
                    .chunks_exact(values.len() / lhs_tiles)
                    .zip(sums.chunks_exact_mut(TILE * TILE * S::LANES));
                for (tile, (lhs, sums)) in by_lhs.enumerate() {
                    let ahead = tile * TILE / lhs_tiles..(tile + 1) * TILE / lhs_tiles;
                    let part = DepthRange { lhs, rhs, depth, range: range.clone(), ahead };
                    // As many sums as there are registers for.
                    if rows == 1 {
                        part.add::<S, 1, TILE>(simd, 0, sums);
                    } else if S::LANES == 16 {
                        part.add::<S, TILE, TILE>(simd, 0, sums);
                    } else {
                        part.add::<S, TILE, HALF>(simd, 0, sums);
                        part.add::<S, TILE, HALF>(simd, HALF, sums);
                    }
                }
            }
        }
        let mut result = Vec::with_capacity(tiles * rows * TILE);
        for sums in sums.chunks_exact(lhs_tiles * TILE * TILE * S::LANES) {
            let end = result.len() + rows * TILE;
            for sums in sums.chunks_exact(TILE * TILE * S::LANES) {
                // The lanes of all sums of a tile side by side, which are then added in order.
                let mut lanes = [0.0f32; TILE * TILE * LINE];
                transpose(simd, (TILE * TILE, S::LANES), (sums, S::LANES), (&mut lanes, TILE * TILE));
                let mut totals = [0.0f32; TILE * TILE];
                for lane in lanes.chunks_exact(TILE * TILE).take(S::LANES) {
                    for (total, lane) in totals.iter_mut().zip(lane) {
                        *total += lane;
                    }
                }
                let rest = end - result.len();
                result.extend_from_slice(&totals[..rest.min(TILE * TILE)]);
            }
        }
        result
    }
}

/// A tile of each side, along a range of the shared dimension.
struct DepthRange<'a> {
    lhs: &'a [f32],
    rhs: &'a [f32],
    depth: usize,
    range: std::ops::Range<usize>,
    /// The rows of the right tile whose next range is prefetched meanwhile. The processor doesn't do it by itself, since a task goes
    /// to other rows before.
    ahead: std::ops::Range<usize>,
}

impl DepthRange<'_> {
    /// Adds the products of the left tile's first `M` rows and `N` of the right tile's rows, from `first` on, to the
    /// vectors `sums`, [m][[`TILE`]], lane by lane. In a right tile with fewer rows, the first
    /// row stands for the missing ones.
    #[inline(always)]
    fn add<S: Simd, const M: usize, const N: usize>(&self, simd: S, first: usize, sums: &mut [f32]) {
        let &Self { lhs, rhs, depth, ref range, ref ahead } = self;
        let n_rows = rhs.len() / depth;
        assert!(n_rows > 0 && range.start.is_multiple_of(LINE) && range.end <= depth);
        assert!(M <= TILE && first + N <= TILE && range.end.div_ceil(LINE) * TILE * LINE <= lhs.len());
        assert!(sums.len() >= M * TILE * S::LANES && LINE.is_multiple_of(S::LANES));
        let (lhs, rhs, at) = (lhs.as_ptr(), rhs.as_ptr(), sums.as_mut_ptr());
        // SAFETY: `range` lies within each row of the right tile and, with its whole first
        // and last cache lines, within the left one; the sums' vectors lie in `sums`; all as
        // asserted.
        unsafe {
            let rows: [*const f32; N] =
                std::array::from_fn(|n| rhs.add(if first + n < n_rows { (first + n) * depth } else { 0 }));
            let own = ahead.start.max(first) - first..ahead.end.clamp(first, first + N) - first;
            let ahead = rows.get(own).unwrap_or_default();
            let mut acc = [[simd.splat(0.0); N]; M];
            for k in range.clone().step_by(S::LANES) {
                let rest = range.end - k;
                let columns: [S::V; N] = if rest < S::LANES {
                    rows.map(|row| simd.load_first(row.add(k), rest))
                } else {
                    rows.map(|row| simd.load(row.add(k)))
                };
                for row in ahead {
                    simd.prefetch(row.wrapping_add(k + BLOCK_DEPTH));
                }
                let lhs = lhs.add(k / LINE * TILE * LINE + k % LINE);
                for (m, acc) in acc.iter_mut().enumerate() {
                    let row = simd.load(lhs.add(m * LINE));
                    for (acc, column) in acc.iter_mut().zip(columns) {
                        *acc = simd.mul_add(row, column, *acc);
                    }
                }
            }
            for (m, acc) in acc.into_iter().enumerate() {
                for (n, acc) in acc.into_iter().enumerate() {
                    // One addition per range: short sums are completed before
                    // they are added to a long one.
                    let at = at.add((m * TILE + first + n) * S::LANES);
                    simd.store(at, simd.add(simd.load(at), acc));
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
        let sizes =
            [(1, 1, 1), (1, 22, 300), (3, 5, 17), (4, 16, 1024), (7, 23, 1031), (16, 33, 2100), (32, 3, 16)];
        for (rows, cols, depth) in sizes {
            let value = |i: usize, step: usize| ((i * step % 101) as f32 - 50.0) / 50.0;
            let lhs: Vec<f32> = (0..rows * depth).map(|i| value(i, 37)).collect();
            let rhs: Vec<f32> = (0..cols * depth).map(|i| value(i, 29)).collect();
            let found = gemv(&lhs, &rhs, depth);
            for m in 0..rows {
                for n in 0..cols {
                    let terms = lhs[m * depth..][..depth].iter().zip(&rhs[n * depth..][..depth]);
                    let terms = terms.map(|(&a, &b)| f64::from(a) * f64::from(b));
                    let (expected, size) = (terms.clone().sum::<f64>(), terms.map(f64::abs).sum::<f64>());
                    let found = f64::from(found[m * cols + n]);
                    assert!((found - expected).abs() <= 1e-6 * size, "{found} for {expected}");
                }
            }
        }
    }
}
