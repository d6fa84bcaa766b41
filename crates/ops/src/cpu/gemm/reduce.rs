//! The product of two unfolded maps, summed over the pixels of all samples: the gradient of weights.

use std::ops::Range;

use super::microkernel::{RhsPanel, multiply_tile};
use super::pack::{Im2colView, MAX_DEPTH, TILE_ROWS, TILE_VECTORS, blocks, panel_columns, panel_width, part};
use crate::cpu::memory::buffer::Buffer;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::memory::threads::{for_each_chunk, map_tasks};
use crate::cpu::simd::{self, Kernel, Simd, dispatch};

/// Computes Σₙ lhs\[i, n\]·rhs\[j, n\] over the pixels of all samples, row-major: (rows of `lhs`,
/// rows of `rhs`).
///
/// The pixels are split into [`groups`], whose sums are added in order.
pub(crate) fn gemm_over_pixels(lhs: &Im2colView<'_>, rhs: &Im2colView<'_>) -> Vec<f32> {
    assert_eq!(lhs.columns(), rhs.columns());
    let (rows, cols) = (lhs.row_offsets.len(), rhs.row_offsets.len());
    let lanes = simd::lanes();
    // The side that fills vectors of columns better becomes the right one.
    let cost = |rows: usize, cols: usize| rows.next_multiple_of(TILE_ROWS) * cols.next_multiple_of(lanes);
    if cost(cols, rows) < cost(rows, cols) {
        let transposed = sum_over_pixels(rhs, lhs);
        let mut result = vec![0.0; rows * cols];
        for_each_chunk(&mut result, cols, |i, row| {
            row.iter_mut().zip(transposed[i..].iter().step_by(rows)).for_each(|(to, from)| *to = *from);
        });
        return result;
    }
    sum_over_pixels(lhs, rhs)
}

fn sum_over_pixels(lhs: &Im2colView<'_>, rhs: &Im2colView<'_>) -> Vec<f32> {
    let (rows, cols) = (lhs.row_offsets.len(), rhs.row_offsets.len());
    let width = TILE_VECTORS * simd::lanes();
    let columns = lhs.columns();
    let groups = groups(columns, rows * cols);
    // Panels of columns are split too, which does not change a sum, into as many tasks as threads
    // share evenly.
    let rhs_panels = cols.div_ceil(width);
    let splits = (4 * rayon::current_num_threads()).div_ceil(groups).min(rhs_panels);
    let share = |split: usize| panel_columns(part(rhs_panels, splits, split), width, cols);
    let partial: Vec<Buffer> = map_tasks(groups * splits, rows * cols * columns, |task| {
        let (group, split) = (task / splits, task % splits);
        let pixels = part(columns, groups, group);
        let rhs = rhs.rows(share(split));
        let tiles = rows.div_ceil(TILE_ROWS) * rhs.row_offsets.len().div_ceil(width);
        let mut sums = Buffer::dirty(tiles * TILE_ROWS * width);
        sums.fill(0.0);
        dispatch(OverPixels { lhs, rhs: &rhs, pixels, sums: &mut sums });
        sums
    });
    let mut result = vec![0.0; rows * cols];
    for_each_chunk(&mut result, cols, |i, row| {
        for split in 0..splits {
            let row = &mut row[share(split)];
            let panels = row.len().div_ceil(width);
            for (j, row) in row.chunks_mut(width).enumerate() {
                let at = ((i / TILE_ROWS * panels + j) * TILE_ROWS + i % TILE_ROWS) * width;
                for part in partial.iter().skip(split).step_by(splits) {
                    row.iter_mut().zip(&part[at..]).for_each(|(sum, part)| *sum += part);
                }
            }
        }
    });
    result
}

/// Number of groups that `columns` pixels are split into, where each group's sums are `size` values.
fn groups(columns: usize, size: usize) -> usize {
    /// Maximum number of sums of all groups together, beyond four groups.
    const SUMS: usize = 1 << 20;
    let max_panels = (SUMS / size.max(1)).clamp(4, 32).min(columns.div_ceil(MAX_DEPTH)).max(1);
    1 << max_panels.ilog2()
}

/// The sums over a range of pixels, in tiles [panel of rows][panel of columns][`TILE_ROWS`][width],
/// which start as zeros.
struct OverPixels<'a> {
    lhs: &'a Im2colView<'a>,
    rhs: &'a Im2colView<'a>,
    pixels: Range<usize>,
    sums: &'a mut [f32],
}

impl Kernel for OverPixels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { lhs, rhs, pixels, sums } = self;
        let width = panel_width::<S>();
        let (rows, cols) = (lhs.row_offsets.len(), rhs.row_offsets.len());
        let lhs_panels = rows.div_ceil(TILE_ROWS);
        let longest = blocks(pixels.len()).map(|block| block.len()).max().unwrap_or(0);
        let depth = longest.next_multiple_of(8);
        let mut a = Scratch::dirty(lhs_panels * depth * TILE_ROWS);
        let mut b = Scratch::dirty(depth * width);
        let mut lines = Scratch::dirty(8 * depth);
        for block in blocks(pixels.len()) {
            let count = block.len();
            let pixels = pixels.start + block.start..pixels.start + block.end;
            let lhs_segments = lhs.pixels.segments(pixels.clone(), usize::MAX);
            let rhs_segments = rhs.pixels.segments(pixels.clone(), usize::MAX);
            for (i, panel) in a.chunks_exact_mut(depth * TILE_ROWS).enumerate() {
                let rows = i * TILE_ROWS..rows.min((i + 1) * TILE_ROWS);
                lhs.pack_transposed(simd, rows, &lhs_segments, TILE_ROWS, panel, &mut lines);
            }
            for (j, first) in (0..cols).step_by(width).enumerate() {
                let chunk = first..cols.min(first + width);
                let vectors = chunk.len().div_ceil(S::LANES);
                rhs.pack_transposed(simd, chunk, &rhs_segments, width, &mut b, &mut lines);
                for (i, panel) in a.chunks_exact(depth * TILE_ROWS).enumerate() {
                    let at = (i * cols.div_ceil(width) + j) * TILE_ROWS * width;
                    let c = &mut sums[at..at + TILE_ROWS * width];
                    let b = RhsPanel::packed::<S>(&b[..count * width]);
                    multiply_tile(simd, &panel[..count * TILE_ROWS], b, c, vectors, true);
                }
            }
        }
    }
}
