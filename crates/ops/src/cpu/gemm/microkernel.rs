//! The innermost loops: one tile of a product, whose sums stay in registers.

use super::pack::{TILE_ROWS, TILE_VECTORS, copy, panel_width};
use crate::cpu::elementwise::Clamp;
use crate::cpu::simd::Simd;

/// The output of a tile: rows of `cols` values, `row_stride` apart.
#[derive(Clone, Copy)]
pub(super) struct TileOutput {
    pub(super) data: *mut f32,
    pub(super) row_stride: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl TileOutput {
    /// Copies the first rows and columns of `tile`, whose rows are `width` apart.
    ///
    /// # Safety
    /// The output is valid for writes.
    #[inline(always)]
    pub(super) unsafe fn copy_from<S: Simd>(self, simd: S, tile: &[f32], width: usize) {
        for (r, row) in tile.chunks_exact(width).enumerate().take(self.rows) {
            // SAFETY: by this function's contract.
            unsafe {
                copy(simd, row[..self.cols].as_ptr(), 1, self.data.add(r * self.row_stride), self.cols)
            };
        }
    }
}

/// Operations on a tile's sums before they are stored: y = clamp(accumulated + sum + bias).
#[derive(Clone, Copy)]
pub(super) struct TileEpilogue<'a> {
    /// Sums over earlier blocks of the shared dimension, a whole tile.
    pub(super) accumulated: Option<&'a [f32]>,
    pub(super) bias: TileBias<'a>,
    pub(super) clamp: Clamp,
}

/// The bias of a tile.
#[derive(Clone, Copy)]
pub(super) enum TileBias<'a> {
    None,
    /// One value per row.
    Rows(&'a [f32]),
    /// One value per column, of a whole panel.
    Columns(&'a [f32]),
}

/// [`TileEpilogue`] from some row of the tile on.
#[derive(Clone, Copy)]
struct RowEpilogue {
    accumulated: Option<*const f32>,
    row_bias: Option<*const f32>,
    column_bias: Option<*const f32>,
    clamp: Clamp,
}

/// Panels of [`multiply_column`] at once: enough sums to hide the latency of a multiply-add.
pub(super) const COLUMN_PANELS: usize = 10;

/// A panel of the right side: rows of a whole number of vectors, `step` apart.
#[derive(Clone, Copy)]
pub(crate) struct RhsPanel<'a> {
    values: &'a [f32],
    step: usize,
}

impl<'a> RhsPanel<'a> {
    /// A packed panel, [k][width].
    #[inline(always)]
    pub(crate) fn packed<S: Simd>(values: &'a [f32]) -> Self {
        Self { values, step: panel_width::<S>() }
    }

    /// Rows that are `step` apart in a map, from the first of `values` on.
    #[inline(always)]
    pub(super) fn in_place(values: &'a [f32], step: usize) -> Self {
        Self { values, step }
    }

    /// The panel as [`Simd::tile_sums`] reads it, if `depth` rows have `len` values.
    #[inline(always)]
    fn rows(self, depth: usize, len: usize) -> (*const f32, usize) {
        assert!(depth == 0 || (depth - 1) * self.step + len <= self.values.len());
        (self.values.as_ptr(), self.step)
    }
}

/// Writes a·b with the epilogue applied, for the rows and columns of `to`; a and b as in
/// [`multiply_tile`].
///
/// # Safety
/// `to` is valid for writes and has between one row and column and a whole tile.
#[inline(always)]
pub(super) unsafe fn store_tile<S: Simd>(
    simd: S,
    a: &[f32],
    b: RhsPanel<'_>,
    epilogue: TileEpilogue<'_>,
    to: TileOutput,
) {
    let TileEpilogue { accumulated, bias, clamp } = epilogue;
    let width = panel_width::<S>();
    let depth = a.len() / TILE_ROWS;
    assert!(a.len() == depth * TILE_ROWS && to.rows <= TILE_ROWS && to.cols <= width);
    let vectors = to.cols.div_ceil(S::LANES);
    let (row_bias, column_bias) = match bias {
        TileBias::None => (None, None),
        TileBias::Rows(bias) => (Some(bias), None),
        TileBias::Columns(bias) => (None, Some(bias)),
    };
    assert!(row_bias.is_none_or(|bias| bias.len() == to.rows));
    assert!(column_bias.is_none_or(|bias| bias.len() == width));
    assert!(accumulated.is_none_or(|sums| sums.len() == TILE_ROWS * width));
    let (a, b) = (a.as_ptr(), b.rows(depth, vectors * S::LANES));
    macro_rules! rows {
        ($rows:literal) => {
            for first in (0..to.rows).step_by($rows) {
                // SAFETY: by this function's contract; `a` has `depth` rows of
                // `TILE_ROWS` values, `b` of the vectors, the accumulated sums
                // `TILE_ROWS` rows of `width`, as asserted; a panel is at most
                // `TILE_VECTORS` vectors wide.
                unsafe {
                    let data = to.data.add(first * to.row_stride);
                    let to = TileOutput { data, rows: to.rows - first, ..to };
                    let accumulated = accumulated.map(|sums| sums.as_ptr().add(first * width));
                    let row_bias = row_bias.map(|bias| bias.as_ptr().add(first));
                    let column_bias = column_bias.map(<[f32]>::as_ptr);
                    let epilogue = RowEpilogue { accumulated, row_bias, column_bias, clamp };
                    match vectors {
                        1 => store_sums::<S, $rows, 1>(simd, depth, a.add(first), b, epilogue, to),
                        2 => store_sums::<S, $rows, 2>(simd, depth, a.add(first), b, epilogue, to),
                        _ => store_sums::<S, $rows, 3>(simd, depth, a.add(first), b, epilogue, to),
                    }
                }
            }
        };
    }
    if S::LANES == 16 {
        rows!(8);
    } else {
        rows!(4);
    }
}

/// [`store_tile`] for the first `R` rows and `N` vectors, or as many rows as `to` has.
///
/// # Safety
/// As for [`tile_sums`]. The accumulated sums are valid for reads of a tile, the bias of rows for as many
/// values as `to` has, that of columns for `N` vectors; `to` is valid for writes of its columns, which end in the last of the
/// vectors.
#[inline(always)]
unsafe fn store_sums<S: Simd, const R: usize, const N: usize>(
    simd: S,
    depth: usize,
    a: *const f32,
    b: (*const f32, usize),
    epilogue: RowEpilogue,
    to: TileOutput,
) {
    let RowEpilogue { accumulated, row_bias, column_bias, clamp } = epilogue;
    let last = to.cols - (N - 1) * S::LANES;
    // SAFETY: by this function's contract.
    unsafe {
        let mut sums = tile_sums::<S, R, N>(simd, depth, a, b);
        if let Some(accumulated) = accumulated {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    let accumulated = accumulated.add(r * panel_width::<S>() + v * S::LANES);
                    *sum = simd.add(simd.load(accumulated), *sum);
                }
            }
        }
        let mut biases = [simd.splat(0.0); N];
        if let Some(column_bias) = column_bias {
            for (v, bias) in biases.iter_mut().enumerate() {
                *bias = simd.load(column_bias.add(v * S::LANES));
            }
        }
        // Each row has a literal index: an array that a loop indexes would be kept in memory, not in registers.
        macro_rules! rows {
            ($($r:literal)*) => {$(
                if $r < R && $r < to.rows {
                    if let Some(row_bias) = row_bias {
                        biases = [simd.splat(*row_bias.add($r)); N];
                    }
                    let data = to.data.add($r * to.row_stride);
                    for v in 0..N {
                        let value = clamp.apply(simd, simd.add(sums[$r % R][v], biases[v]));
                        if v + 1 < N || last == S::LANES {
                            simd.store(data.add(v * S::LANES), value);
                        } else {
                            simd.store_first(data.add(v * S::LANES), last, value);
                        }
                    }
                }
            )*};
        }
        rows!(0 1 2 3 4 5 6 7);
    }
}

/// Writes `values` to addresses `step` apart.
///
/// # Safety
/// `to` is valid for writing them.
#[inline(always)]
pub(super) unsafe fn store_strided<S: Simd>(simd: S, values: &[f32], to: *mut f32, step: usize) {
    // SAFETY: by this function's contract; the values are read within their slice.
    unsafe {
        if step == 1 {
            copy(simd, values.as_ptr(), 1, to, values.len());
        } else {
            for (i, value) in values.iter().enumerate() {
                *to.add(i * step) = *value;
            }
        }
    }
}

/// Computes c = a·b, or c += a·b if `accumulate`: a [k][`TILE_ROWS`], c [`TILE_ROWS`][width]. Only the first `vectors` vectors
/// of columns are computed.
#[inline(always)]
pub(crate) fn multiply_tile<S: Simd>(
    simd: S,
    a: &[f32],
    b: RhsPanel<'_>,
    c: &mut [f32],
    vectors: usize,
    accumulate: bool,
) {
    let width = panel_width::<S>();
    let depth = a.len() / TILE_ROWS;
    assert!(a.len() == depth * TILE_ROWS && c.len() == TILE_ROWS * width);
    let (a, b, c) = (a.as_ptr(), b.rows(depth, vectors.min(TILE_VECTORS) * S::LANES), c.as_mut_ptr());
    macro_rules! rows {
        ($rows:literal) => {
            for first in (0..TILE_ROWS).step_by($rows) {
                // SAFETY: `a` has `depth` rows of `TILE_ROWS` values, `b` of the vectors,
                // `c` has `TILE_ROWS` rows of `width`, as asserted; a panel is at
                // most `TILE_VECTORS` vectors wide.
                unsafe {
                    let (a, c) = (a.add(first), c.add(first * width));
                    match vectors {
                        1 => write_sums::<S, $rows, 1>(simd, depth, a, b, c, accumulate),
                        2 => write_sums::<S, $rows, 2>(simd, depth, a, b, c, accumulate),
                        _ => write_sums::<S, $rows, 3>(simd, depth, a, b, c, accumulate),
                    }
                }
            }
        };
    }
    // 24 or 12 vectors of sums: as many as there are registers for.
    if S::LANES == 16 {
        rows!(8);
    } else {
        rows!(4);
    }
}

/// [`multiply_tile`] for `R` rows and `N` vectors.
///
/// # Safety
/// As for [`tile_sums`]; `c` is valid for reads and writes of `N` vectors at each of the first `R`
/// multiples of the width.
#[inline(always)]
unsafe fn write_sums<S: Simd, const R: usize, const N: usize>(
    simd: S,
    depth: usize,
    a: *const f32,
    b: (*const f32, usize),
    c: *mut f32,
    accumulate: bool,
) {
    // SAFETY: by this function's contract.
    unsafe {
        for (r, sums) in tile_sums::<S, R, N>(simd, depth, a, b).into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let c = c.add(r * panel_width::<S>() + v * S::LANES);
                simd.store(c, if accumulate { simd.add(simd.load(c), sum) } else { sum });
            }
        }
    }
}

/// Computes one column of a·b, or adds it to `c` if `accumulate`: a is [panel][k][`TILE_ROWS`], with the rows of `c`; b's values
/// for each k are `width` apart. Each sum has the order of [`multiply_tile`]'s, and so the same bits.
#[inline(always)]
pub(super) fn multiply_column<S: Simd>(
    simd: S,
    a: &[f32],
    b: &[f32],
    width: usize,
    c: &mut [f32],
    accumulate: bool,
) {
    let depth = b.len().div_ceil(width);
    assert!(a.len() == c.len() * depth && S::Eight::LANES == TILE_ROWS && c.len().is_multiple_of(TILE_ROWS));
    // The list of counts below goes so far.
    const { assert!(COLUMN_PANELS == 10) };
    for first in (0..c.len()).step_by(COLUMN_PANELS * TILE_ROWS) {
        let panels = ((c.len() - first) / TILE_ROWS).min(COLUMN_PANELS);
        macro_rules! sums {
            ($($count:literal)*) => {
                match panels {
                    $($count => {
                        // SAFETY: `a` has `depth` rows for each of the panels, `b` a value for each k, and `c` has the
                        // panels' rows.
                        unsafe {
                            let (a, c) = (a.as_ptr().add(first * depth), c.as_mut_ptr().add(first));
                            let b = (b.as_ptr(), width);
                            column_sums::<S::Eight, $count>(simd.eight(), depth, a, b, c, accumulate);
                        }
                    })*
                    _ => {}
                }
            };
        }
        sums!(1 2 3 4 5 6 7 8 9 10);
    }
}

/// [`multiply_column`] for `P` panels.
///
/// # Safety
/// `a` is valid for reads of `P` panels of `depth` vectors, `b` of `depth` values a step apart, `c` for reads and writes of `P`
/// vectors.
#[inline(always)]
unsafe fn column_sums<E: Simd, const P: usize>(
    simd: E,
    depth: usize,
    a: *const f32,
    (b, b_step): (*const f32, usize),
    c: *mut f32,
    accumulate: bool,
) {
    let mut sums = [simd.splat(0.0); P];
    // SAFETY: by this function's contract.
    unsafe {
        for k in 0..depth {
            let value = simd.splat(*b.add(k * b_step));
            for (panel, sum) in sums.iter_mut().enumerate() {
                let rows = simd.load(a.add((panel * depth + k) * TILE_ROWS));
                *sum = simd.mul_add(rows, value, *sum);
            }
        }
        for (panel, sum) in sums.into_iter().enumerate() {
            let c = c.add(panel * TILE_ROWS);
            simd.store(c, if accumulate { simd.add(simd.load(c), sum) } else { sum });
        }
    }
}

/// The sums of `R` rows by `N` vectors.
///
/// # Safety
/// For each k below `depth`, `a` is valid for reads of `R` values at k·[`TILE_ROWS`] and `b` of `N`
/// vectors at k·step.
#[inline(always)]
unsafe fn tile_sums<S: Simd, const R: usize, const N: usize>(
    simd: S,
    depth: usize,
    a: *const f32,
    b: (*const f32, usize),
) -> [[S::V; N]; R] {
    // SAFETY: by this function's contract.
    unsafe { simd.tile_sums(depth, (a, TILE_ROWS), b) }
}
