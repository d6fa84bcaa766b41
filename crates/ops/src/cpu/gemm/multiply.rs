//! The product of a packed matrix and an unfolded map, with bias and activation.

use std::ops::Range;

use super::microkernel::{
    COLUMN_PANELS, RhsPanel, TileBias, TileEpilogue, TileOutput, multiply_column, multiply_tile,
    store_strided, store_tile,
};
use super::pack::{
    Im2colView, PackedLhs, PixelLayout, Pixels, Segment, TILE_ROWS, TILE_VECTORS, blocks, panel_columns,
    panel_width, part,
};
use crate::config::Activation;
use crate::cpu::elementwise::{self, Clamp};
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::memory::threads::map_tasks;
use crate::cpu::simd::{self, Kernel, Simd, dispatch};

/// Maximum number of values of the right side that are packed at once: half a mebibyte.
const MAX_PACKED: usize = 128 << 10;

/// The output of a product: row `m` at pixel `p` is `data[m·row_stride + offset(p)]`. Tasks that
/// write different rows or pixels share it.
pub(crate) struct GemmOutput<'a> {
    data: *mut f32,
    /// The rows of the product that it has.
    rows: Range<usize>,
    row_stride: usize,
    pixels: PixelLayout,
    columns: usize,
    _borrow: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: tasks write disjoint elements, which `gemm_into` ensures.
unsafe impl Sync for GemmOutput<'_> {}

impl<'a> GemmOutput<'a> {
    pub(crate) fn new(
        data: &'a mut [f32],
        rows: usize,
        row_stride: usize,
        pixels: PixelLayout,
        samples: usize,
    ) -> Self {
        Self::over(data.as_mut_ptr(), data.len(), rows, row_stride, pixels.merged(samples))
    }

    /// [`GemmOutput::new`] over `len` values that may be uninitialized.
    pub(super) fn over(
        data: *mut f32,
        len: usize,
        rows: usize,
        row_stride: usize,
        Pixels { layout: pixels, samples }: Pixels,
    ) -> Self {
        assert!(
            rows > 0 && samples > 0 && (rows - 1) * row_stride + pixels.end(samples) <= len,
            "a product does not fit its output"
        );
        Self {
            data,
            rows: 0..rows,
            row_stride,
            pixels,
            columns: pixels.count * samples,
            _borrow: std::marker::PhantomData,
        }
    }

    /// The rows of the product from `first` on.
    pub(crate) fn starting_at(self, first: usize) -> Self {
        Self { rows: first..first + self.rows.len(), ..self }
    }

    /// The value of a row at an offset of pixels.
    ///
    /// # Safety
    /// It lies in the output.
    #[inline(always)]
    unsafe fn at(&self, row: usize, offset: usize) -> *mut f32 {
        // SAFETY: by this function's contract.
        unsafe { self.data.add((row - self.rows.start) * self.row_stride + offset) }
    }

    /// Rows and columns of an output whose pixels follow each other.
    ///
    /// # Safety
    /// They lie in the output.
    #[inline(always)]
    pub(super) unsafe fn tile(&self, rows: Range<usize>, columns: Range<usize>) -> TileOutput {
        // SAFETY: by this function's contract.
        let data = unsafe { self.at(rows.start, columns.start) };
        TileOutput { data, row_stride: self.row_stride, rows: rows.len(), cols: columns.len() }
    }
}

/// Computes output\[m, n\] = f(Σₖ lhs\[m, k\]·rhs\[k, n\] + bias\[m\]) on all threads.
pub(crate) fn gemm_into(
    lhs: &PackedLhs,
    rhs: &Im2colView<'_>,
    bias: Option<&[f32]>,
    activation: Activation,
    output: &GemmOutput<'_>,
) {
    check(lhs, rhs, bias, output);
    assert!(output.rows == (0..lhs.rows));
    let columns = output.columns;
    let width = TILE_VECTORS * simd::lanes();
    let longest = blocks(lhs.depth).map(|block| block.len()).max().unwrap_or(1);
    // Tasks are ranges of columns that fit the cache and, where these are few, ranges of rows.
    // The result does not depend on the number of tasks.
    let in_place = rhs.row_step();
    let threads = rayon::current_num_threads();
    let min_tasks = if in_place.is_some() { 4 } else { 2 } * threads;
    // A single last column goes with the panel before it.
    let alone = usize::from(columns > width && columns % width == 1);
    let (panels, rhs_panels) = (lhs.rows.div_ceil(TILE_ROWS), columns.div_ceil(width) - alone);
    let max_panels = (MAX_PACKED / longest / width).clamp(1, 24);
    let pieces = rhs_panels.div_ceil(max_panels).next_multiple_of(min_tasks).min(rhs_panels);
    let panels_of_task = if alone > 0 { COLUMN_PANELS } else { 4 };
    let most_splits = panels.div_ceil(panels_of_task).next_multiple_of(threads).min(panels.div_ceil(4));
    let splits = min_tasks.div_ceil(pieces).min(most_splits);
    map_tasks(pieces * splits, lhs.rows * lhs.depth * columns, |task| {
        let (piece, split) = (task / splits, task % splits);
        let panels = part(panels, splits, split);
        let last = if piece + 1 == pieces { alone } else { 0 };
        let panel_range = part(rhs_panels, pieces, piece);
        let columns = panel_columns(panel_range.start..panel_range.end + last, width, columns);
        dispatch(GemmTask { lhs, rhs, in_place, bias, activation, output, panels, columns });
    });
}

/// [`gemm_into`] for the output's rows, a range of whole panels, on this thread.
pub(crate) fn gemm_rows_into(
    lhs: &PackedLhs,
    rhs: &Im2colView<'_>,
    bias: Option<&[f32]>,
    activation: Activation,
    output: &GemmOutput<'_>,
) {
    check(lhs, rhs, bias, output);
    let Range { start, end } = output.rows;
    assert!(start.is_multiple_of(TILE_ROWS) && (end.is_multiple_of(TILE_ROWS) || end == lhs.rows));
    let (panels, columns) = (start / TILE_ROWS..end.div_ceil(TILE_ROWS), 0..output.columns);
    dispatch(GemmTask { lhs, rhs, in_place: rhs.row_step(), bias, activation, output, panels, columns });
}

/// Panics unless the sizes are those of one product.
fn check(lhs: &PackedLhs, rhs: &Im2colView<'_>, bias: Option<&[f32]>, output: &GemmOutput<'_>) {
    assert!(lhs.depth == rhs.row_offsets.len() && rhs.columns() == output.columns);
    assert!(output.rows.end <= lhs.rows && bias.is_none_or(|bias| bias.len() == lhs.rows));
}

/// A range of panels of rows and of columns of a product.
struct GemmTask<'a> {
    lhs: &'a PackedLhs,
    rhs: &'a Im2colView<'a>,
    /// The distance between rows of the right side, if whole panels are read where they are.
    in_place: Option<usize>,
    bias: Option<&'a [f32]>,
    activation: Activation,
    output: &'a GemmOutput<'a>,
    panels: Range<usize>,
    columns: Range<usize>,
}

impl Kernel for GemmTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { lhs, rhs, in_place, bias, activation, output, panels, columns } = self;
        let width = panel_width::<S>();
        let segments = rhs.pixels.segments(columns.clone(), width);
        let outs = output.pixels.segments(columns.clone(), width);
        let rhs_panels = columns.len().div_ceil(width);
        let longest = blocks(lhs.depth).map(|block| block.len()).max().unwrap_or(0);
        let mut packed = Scratch::dirty(rhs_panels * longest * width);
        let single = longest == lhs.depth;
        let tile = TILE_ROWS * width;
        let mut tiles = Scratch::dirty(if single { tile } else { panels.len() * rhs_panels * tile });
        let clamp = Clamp::of(activation);
        // A single last column costs less by itself than as a tile of one vector.
        let single_column = columns.len() % width == 1;
        let whole_panels = rhs_panels - usize::from(single_column);
        let mut column = Scratch::dirty(if single_column { panels.len() * TILE_ROWS } else { 0 });
        // The segments of each panel of columns start here.
        let mut first_out = vec![0; rhs_panels + 1];
        for (i, out) in outs.iter().enumerate() {
            first_out[out.column / width + 1] = i + 1;
        }
        // Whole panels come first. Each is one segment, unless a sample ends in it.
        let in_place_panels = match in_place {
            Some(_) => segments.iter().take_while(|segment| segment.len == width).count(),
            None => 0,
        };
        let to_pack = &segments[in_place_panels..];
        for block in blocks(lhs.depth) {
            let last = block.end == lhs.depth;
            rhs.pack(simd, block.clone(), to_pack, &mut packed);
            let lhs_block = lhs.block(&block);
            for (i, panel) in panels.clone().enumerate() {
                if single_column && i % COLUMN_PANELS == 0 {
                    // Beside the tiles of the same panels, which are in the cache then.
                    let some = panel..panels.end.min(panel + COLUMN_PANELS);
                    let len = TILE_ROWS * block.len();
                    let a = &lhs_block[some.start * len..some.end * len];
                    let b = &packed[whole_panels * block.len() * width..][..(block.len() - 1) * width + 1];
                    let c = &mut column[i * TILE_ROWS..(i + some.len()) * TILE_ROWS];
                    multiply_column(simd, a, b, width, c, block.start > 0);
                }
                let a = &lhs_block[panel * TILE_ROWS * block.len()..][..TILE_ROWS * block.len()];
                for j in 0..whole_panels {
                    let b = match in_place {
                        Some(step) if j < in_place_panels => {
                            RhsPanel::in_place(rhs.values_from(block.start, segments[j].offset), step)
                        }
                        _ => RhsPanel::packed::<S>(&packed[j * block.len() * width..][..block.len() * width]),
                    };
                    let c = if single { 0 } else { (i * rhs_panels + j) * tile };
                    let c = &mut tiles[c..c + tile];
                    let used = (columns.len() - j * width).min(width);
                    let outs = &outs[first_out[j]..first_out[j + 1]];
                    if last && let ([out], Some(clamp), 1) = (outs, clamp, output.pixels.step) {
                        let rows = panel * TILE_ROWS..lhs.rows.min((panel + 1) * TILE_ROWS);
                        let bias = bias.map_or(TileBias::None, |bias| TileBias::Rows(&bias[rows.clone()]));
                        let accumulated = (block.start > 0).then_some(&*c);
                        // SAFETY: `GemmOutput::new` has checked that each row at each pixel lies in its data; no
                        // other task has these rows and columns.
                        unsafe {
                            let data = output.at(rows.start, out.offset);
                            let row_stride = output.row_stride;
                            let to = TileOutput { data, row_stride, rows: rows.len(), cols: used };
                            store_tile(simd, a, b, TileEpilogue { accumulated, bias, clamp }, to);
                        }
                    } else {
                        multiply_tile(simd, a, b, c, used.div_ceil(S::LANES), block.start > 0);
                        if last {
                            let tile = FinishedTile { panel, first_column: j * width, segments: outs };
                            tile.store(simd, c, lhs.rows, bias, activation, output);
                        }
                    }
                }
            }
        }
        if single_column {
            let rows = panels.start * TILE_ROWS..lhs.rows.min(panels.end * TILE_ROWS);
            let values = &mut column[..rows.len()];
            if let Some(bias) = bias {
                elementwise::add(values, &bias[rows.clone()]);
            }
            elementwise::activate::<S>(values, activation);
            let offset = outs[first_out[whole_panels]].offset;
            for (row, value) in rows.zip(values) {
                // SAFETY: `GemmOutput::new` has checked that each row at each pixel lies in its data; no other task has these
                // rows and columns.
                unsafe { *output.at(row, offset) = *value };
            }
        }
    }
}

/// A tile whose sums are complete.
struct FinishedTile<'a> {
    /// Index of its panel of rows.
    panel: usize,
    first_column: usize,
    /// Positions of those columns in the output.
    segments: &'a [Segment],
}

impl FinishedTile<'_> {
    /// Applies bias and activation to the sums, and writes them to the output.
    #[inline(always)]
    fn store<S: Simd>(
        self,
        simd: S,
        sums: &mut [f32],
        rows: usize,
        bias: Option<&[f32]>,
        activation: Activation,
        output: &GemmOutput<'_>,
    ) {
        let Self { panel, first_column, segments } = self;
        let width = panel_width::<S>();
        let rows = panel * TILE_ROWS..rows.min((panel + 1) * TILE_ROWS);
        let sums = &mut sums[..rows.len() * width];
        if let Some(bias) = bias {
            for (values, &bias) in sums.chunks_exact_mut(width).zip(&bias[rows.clone()]) {
                for vector in values.chunks_exact_mut(S::LANES) {
                    // SAFETY: a vector has as many values as the registers.
                    unsafe {
                        let sum = simd.add(simd.load(vector.as_ptr()), simd.splat(bias));
                        simd.store(vector.as_mut_ptr(), sum);
                    }
                }
            }
        }
        // All rows in one loop: exponentials of successive vectors overlap.
        elementwise::activate::<S>(sums, activation);
        for (row, values) in rows.zip(sums.chunks_exact(width)) {
            for out in segments {
                let values = &values[out.column - first_column..][..out.len];
                // SAFETY: `GemmOutput::new` has checked that each row at each pixel lies in its data; no other
                // task has these rows and columns.
                unsafe {
                    let to = output.at(row, out.offset);
                    store_strided(simd, values, to, output.pixels.step);
                }
            }
        }
    }
}
