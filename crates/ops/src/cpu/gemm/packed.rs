//! Products of two packed matrices, row-major, with a bias for each column: linear layers and their gradients.

use std::ops::Range;

use super::microkernel::{RhsPanel, TileBias, TileEpilogue, multiply_tile, store_tile};
use super::multiply::GemmOutput;
use super::pack::{PackedLhs, PackedRhs, PixelLayout, TILE_ROWS, TILE_VECTORS, blocks, panel_width};
use crate::config::Activation;
use crate::cpu::elementwise::{self, Clamp};
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::memory::threads::map_tasks;
use crate::cpu::simd::{self, Kernel, Simd, dispatch};

/// Columns of a task: with a block of the shared dimension, they stay in the L2 cache.
const COLUMNS: usize = 192;
/// Maximum number of panels of rows of a task, whose sums stay there too.
const PANELS: usize = 16;

/// Computes f(Σₖ lhs\[m, k\]·rhs\[k, n\] + bias\[n\]), row-major.
pub(crate) fn multiply_packed(
    lhs: &PackedLhs,
    rhs: &PackedRhs,
    bias: Option<&[f32]>,
    activation: Activation,
) -> Vec<f32> {
    let len = lhs.rows * rhs.columns;
    let mut values = Vec::with_capacity(len);
    let uninit = values.spare_capacity_mut();
    write_product(lhs, rhs, bias, activation, (uninit.as_mut_ptr().cast(), uninit.len()));
    // SAFETY: each column of each row has been written.
    unsafe { values.set_len(len) };
    values
}

/// [`multiply_packed`] into `values`.
pub(crate) fn multiply_packed_into(
    lhs: &PackedLhs,
    rhs: &PackedRhs,
    bias: Option<&[f32]>,
    activation: Activation,
    values: &mut [f32],
) {
    write_product(lhs, rhs, bias, activation, (values.as_mut_ptr(), values.len()));
}

/// Writes all rows and columns of the product to values that may be uninitialized.
fn write_product(
    lhs: &PackedLhs,
    rhs: &PackedRhs,
    bias: Option<&[f32]>,
    activation: Activation,
    (data, len): (*mut f32, usize),
) {
    let (rows, columns) = (lhs.rows, rhs.columns);
    assert!(lhs.depth == rhs.depth && lhs.depth > 0 && bias.is_none_or(|bias| bias.len() == columns));
    let width = TILE_VECTORS * simd::lanes();
    let (panels, rhs_panels) = (rows.div_ceil(TILE_ROWS), columns.div_ceil(width));
    // A whole last vector can be read.
    let bias = bias.map(|bias| [bias, &vec![0.0; rhs_panels * width - columns]].concat());
    let pixels = PixelLayout::flat(columns, columns).merged(1);
    let output = &GemmOutput::over(data, len, rows, columns, pixels);
    let (row_step, column_step) = (panels.div_ceil(4).clamp(1, PANELS), (COLUMNS / width).max(1));
    let row_pieces = panels.div_ceil(row_step);
    map_tasks(row_pieces * rhs_panels.div_ceil(column_step), rows * columns * lhs.depth, |task| {
        let (row, column) = (task % row_pieces * row_step, task / row_pieces * column_step);
        let panels = row..panels.min(row + row_step);
        let rhs_panels = column..rhs_panels.min(column + column_step);
        dispatch(PackedTask { lhs, rhs, bias: bias.as_deref(), activation, output, panels, rhs_panels });
    });
}

/// A range of panels of rows and of columns.
struct PackedTask<'a> {
    lhs: &'a PackedLhs,
    rhs: &'a PackedRhs,
    /// A whole number of panels.
    bias: Option<&'a [f32]>,
    activation: Activation,
    output: &'a GemmOutput<'a>,
    panels: Range<usize>,
    rhs_panels: Range<usize>,
}

impl Kernel for PackedTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { lhs, rhs, bias, activation, output, panels, rhs_panels } = self;
        let width = panel_width::<S>();
        let tile = TILE_ROWS * width;
        let single = blocks(lhs.depth).count() == 1;
        let mut tiles = Scratch::dirty(if single { tile } else { panels.len() * rhs_panels.len() * tile });
        let clamp = Clamp::of(activation);
        for block in blocks(lhs.depth) {
            let last = block.end == lhs.depth;
            let (lhs_block, rhs_block) = (lhs.block(&block), rhs.block(&block, width));
            for (i, panel) in panels.clone().enumerate() {
                let a = &lhs_block[panel * TILE_ROWS * block.len()..][..TILE_ROWS * block.len()];
                let rows = panel * TILE_ROWS..lhs.rows.min((panel + 1) * TILE_ROWS);
                for (j, rhs_panel) in rhs_panels.clone().enumerate() {
                    let b = RhsPanel::packed::<S>(
                        &rhs_block[rhs_panel * width * block.len()..][..width * block.len()],
                    );
                    let c = if single { 0 } else { (i * rhs_panels.len() + j) * tile };
                    let c = &mut tiles[c..c + tile];
                    let columns = rhs_panel * width..rhs.columns.min((rhs_panel + 1) * width);
                    let bias = bias.map(|bias| &bias[rhs_panel * width..][..width]);
                    if let (true, Some(clamp)) = (last, clamp) {
                        let accumulated = (block.start > 0).then_some(&*c);
                        let bias = bias.map_or(TileBias::None, TileBias::Columns);
                        // SAFETY: `GemmOutput::over` has checked that each column of each row lies in its data; no
                        // other task has these.
                        unsafe {
                            let to = output.tile(rows.clone(), columns);
                            store_tile(simd, a, b, TileEpilogue { accumulated, bias, clamp }, to);
                        }
                        continue;
                    }
                    multiply_tile(simd, a, b, c, columns.len().div_ceil(S::LANES), block.start > 0);
                    if last {
                        finish::<S>(c, width, bias, activation);
                        // SAFETY: as above.
                        unsafe { output.tile(rows.clone(), columns).copy_from(simd, c, width) };
                    }
                }
            }
        }
    }
}

/// Adds the bias to complete sums, and applies the activation.
#[inline(always)]
fn finish<S: Simd>(sums: &mut [f32], width: usize, bias: Option<&[f32]>, activation: Activation) {
    if let Some(bias) = bias {
        for row in sums.chunks_exact_mut(width) {
            elementwise::add(row, bias);
        }
    }
    elementwise::activate::<S>(sums, activation);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_rows_and_columns_are_sums_of_products() {
        for (rows, depth, columns) in [(1, 1, 1), (9, 5, 50), (140, 400, 193), (33, 1200, 7)] {
            let value = |i: usize, step: usize| ((i * step % 101) as f32 - 50.0) / 50.0;
            let a: Vec<f32> = (0..rows * depth).map(|i| value(i, 37)).collect();
            let b: Vec<f32> = (0..columns * depth).map(|i| value(i, 29)).collect();
            let transposed: Vec<f32> =
                (0..columns * depth).map(|i| b[i % columns * depth + i / columns]).collect();
            let bias: Vec<f32> = (0..columns).map(|i| value(i, 7)).collect();
            let lhs = PackedLhs::from_rows(&a, (rows, depth), None);
            for rhs in [
                PackedRhs::from_columns(&b, (depth, columns)),
                PackedRhs::from_rows(&transposed, (depth, columns)),
            ] {
                for activation in [Activation::Identity, Activation::Silu] {
                    let found = multiply_packed(&lhs, &rhs, Some(&bias), activation);
                    for (m, row) in found.chunks(columns).enumerate() {
                        for (n, &found) in row.iter().enumerate() {
                            let terms =
                                (0..depth).map(|k| f64::from(a[m * depth + k]) * f64::from(b[n * depth + k]));
                            let size = terms.clone().map(f64::abs).sum::<f64>() + 1.0;
                            let sum = terms.sum::<f64>() + f64::from(bias[n]);
                            let expected = match activation {
                                Activation::Identity => sum,
                                _ => sum / (1.0 + (-sum).exp()),
                            };
                            assert!(
                                (f64::from(found) - expected).abs() <= 2e-6 * size,
                                "{found} for {expected}"
                            );
                        }
                    }
                }
            }
        }
    }
}
