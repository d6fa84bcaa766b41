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
/// Values of a line of the cache; no vector is longer.
const LINE: usize = 16;
/// Values of the shared dimension that are taken together: of the left side, of a tile of the right and of a piece's
/// sums as many as fit into the first-level cache.
const DEPTH: usize = 16 * LINE;
/// Rows of the right side in one piece of work.
const PIECE: usize = 4 * TILE;

/// Σₖ left\[m, k\]·right\[n, k\], row after row (m, n).
pub(crate) fn multiply_rows(left: &[f32], right: &[f32], depth: usize) -> Vec<f32> {
    let (rows, cols) = (left.len() / depth, right.len() / depth);
    assert!(left.len() == rows * depth && right.len() == cols * depth);
    let left = &Left::new(left, depth);
    let pieces: Vec<Vec<f32>> =
        right.par_chunks(PIECE * depth).map(|right| dispatch(Dots { left, right })).collect();
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

/// The left side, line by line: [tile of its rows][line][row of the tile][value], and zeros where it has none.
struct Left {
    values: Scratch,
    rows: usize,
    depth: usize,
}

impl Left {
    fn new(left: &[f32], depth: usize) -> Self {
        let (rows, lines) = (left.len() / depth, depth.div_ceil(LINE));
        let mut values = Scratch::zeroed(rows.div_ceil(TILE) * lines * TILE * LINE);
        let tiles = values.chunks_exact_mut(lines * TILE * LINE).zip(left.chunks(TILE * depth));
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

/// Some rows of the right side: [tile of them][row of the left][row of the tile].
struct Dots<'a> {
    left: &'a Left,
    right: &'a [f32],
}

impl Kernel for Dots<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { left: &Left { ref values, rows, depth }, right } = self;
        let left_tiles = rows.div_ceil(TILE);
        let tiles = right.len().div_ceil(TILE * depth);
        let mut sums = Scratch::zeroed(tiles * left_tiles * TILE * TILE * S::LANES);
        for first in (0..depth).step_by(DEPTH) {
            let these = first..depth.min(first + DEPTH);
            let tiles =
                right.chunks(TILE * depth).zip(sums.chunks_exact_mut(left_tiles * TILE * TILE * S::LANES));
            for (right, sums) in tiles {
                let by_left = values
                    .chunks_exact(values.len() / left_tiles)
                    .zip(sums.chunks_exact_mut(TILE * TILE * S::LANES));
                for (left, sums) in by_left {
                    let part = Part { left, right, depth, these: these.clone() };
                    if rows == 1 { part.add::<S, 1>(simd, sums) } else { part.add::<S, TILE>(simd, sums) }
                }
            }
        }
        let mut result = Vec::with_capacity(tiles * rows * TILE);
        for sums in sums.chunks_exact(left_tiles * TILE * TILE * S::LANES) {
            result.extend(sums.chunks_exact(S::LANES).take(rows * TILE).map(|sums| sums.iter().sum::<f32>()));
        }
        result
    }
}

/// A tile of the left side and one of the right, along a part of the shared dimension.
struct Part<'a> {
    left: &'a [f32],
    right: &'a [f32],
    depth: usize,
    these: std::ops::Range<usize>,
}

impl Part<'_> {
    /// Adds the products of the left tile's first `M` rows by the right one's to vectors of `sums` [m][[`TILE`]], lane
    /// by lane. Where the right tile has fewer rows, its first stands for those that it lacks.
    #[inline(always)]
    fn add<S: Simd, const M: usize>(self, simd: S, sums: &mut [f32]) {
        let Self { left, right, depth, these } = self;
        let n_rows = right.len() / depth;
        assert!(n_rows > 0 && these.start.is_multiple_of(LINE) && these.end <= depth);
        assert!(M <= TILE && these.end.div_ceil(LINE) * TILE * LINE <= left.len());
        assert!(sums.len() >= M * TILE * S::LANES && LINE.is_multiple_of(S::LANES));
        let (left, right, at) = (left.as_ptr(), right.as_ptr(), sums.as_mut_ptr());
        // SAFETY: `these` lies in each row of the right tile and, lines before and after it included, in the left
        // one; the sums' vectors lie in `sums`; all as asserted.
        unsafe {
            let rows: [*const f32; TILE] =
                std::array::from_fn(|n| right.add(if n < n_rows { n * depth } else { 0 }));
            let mut held = [[simd.splat(0.0); TILE]; M];
            for k in these.clone().step_by(S::LANES) {
                let rest = these.end - k;
                let columns: [S::V; TILE] = if rest < S::LANES {
                    rows.map(|row| simd.load_first(row.add(k), rest))
                } else {
                    rows.map(|row| simd.load(row.add(k)))
                };
                let left = left.add(k / LINE * TILE * LINE + k % LINE);
                for (m, held) in held.iter_mut().enumerate() {
                    let row = simd.load(left.add(m * LINE));
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
        let sizes =
            [(1, 1, 1), (1, 22, 300), (3, 5, 17), (4, 16, 1024), (7, 23, 1031), (16, 33, 2100), (32, 3, 16)];
        for (rows, cols, depth) in sizes {
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
