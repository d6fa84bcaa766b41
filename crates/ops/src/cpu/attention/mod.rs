//! Attention by sample and head: y = softmax(scale·q·kᵀ + bias)·v.
//!
//! A task is one head of one sample. It packs the head's keys and values once, and goes through the queries eight at a time: their
//! scores with all keys are one row of tiles in the cache, so that scores are never written to memory. The largest score and
//! the sum of each softmax are kept, from which the backward pass computes the probabilities again, as in FlashAttention (Dao et al.
//! 2022). Added up as one logarithm, the sum would be lost beside a large score.

mod backward;
mod forward;

pub(crate) use self::backward::GradBuffers;

use super::gemm::{RhsPanel, TILE_ROWS, multiply_tile, panel_width};
use super::memory::scratch::Scratch;
use super::simd::{Simd, copy, transpose};
use crate::shape::AttentionShape;

/// Where the vectors of heads lie: that of token n of head h of sample b starts at offset + b·sample + h·head + n·token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) offset: usize,
    pub(crate) sample: usize,
    pub(crate) head: usize,
    pub(crate) token: usize,
}

impl Layout {
    /// (B, heads, `tokens`, `dim`), contiguous.
    pub(crate) fn by_head(heads: usize, tokens: usize, dim: usize) -> Self {
        Self { offset: 0, sample: heads * tokens * dim, head: tokens * dim, token: dim }
    }

    fn start(&self, sample: usize, head: usize) -> usize {
        self.offset + sample * self.sample + head * self.head
    }
}

/// The shape of a bias (`groups`, `heads`, N, M).
#[derive(Debug, Clone, Copy)]
pub(crate) struct BiasShape {
    pub(crate) groups: usize,
    pub(crate) heads: usize,
}

/// An attention whose shapes are known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) shape: AttentionShape,
    pub(crate) scale: f32,
    pub(crate) q: Layout,
    pub(crate) k: Layout,
    pub(crate) v: Layout,
    pub(crate) y: Layout,
    pub(crate) bias: Option<BiasShape>,
}

/// What a softmax divided by: a probability is e^(score − `largest`) · `inverse_sum`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Normalizer {
    largest: f32,
    inverse_sum: f32,
}

/// The values of the arguments, laid out as the attention says.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
}

impl Attention {
    /// The bias (N, M) of a head of a sample.
    fn bias_of<'a>(&self, bias: Option<&'a [f32]>, sample: usize, head: usize) -> Option<&'a [f32]> {
        let BiasShape { groups, heads } = self.bias?;
        let size = self.shape.queries * self.shape.keys;
        let index = sample % groups * heads + head % heads;
        bias.map(|bias| &bias[index * size..][..size])
    }
}

/// Rows of a matrix, `stride` apart, of which the first starts at `start` of `data`.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    start: usize,
    stride: usize,
    count: usize,
    len: usize,
}

impl<'a> Rows<'a> {
    /// A head's vectors of `len` values of all of its `count` tokens.
    fn of_head(
        data: &'a [f32],
        layout: Layout,
        (sample, head): (usize, usize),
        count: usize,
        len: usize,
    ) -> Self {
        Self { data, start: layout.start(sample, head), stride: layout.token, count, len }
    }

    fn row(&self, index: usize) -> &'a [f32] {
        &self.data[self.start + index * self.stride..][..self.len]
    }

    fn part(&self, first: usize, count: usize) -> Self {
        Self { start: self.start + first * self.stride, count, ..*self }
    }

    /// Writes the transpose, with rows `width` apart.
    #[inline(always)]
    fn transpose_to<S: Simd>(&self, simd: S, to: &mut [f32], width: usize) {
        transpose(simd, (self.count, self.len), (&self.data[self.start..], self.stride), (to, width));
    }
}

/// Columns of a product that are split evenly over panels.
#[derive(Clone, Copy)]
struct Panels {
    count: usize,
    /// Columns in each but the last panel.
    columns: usize,
    total: usize,
}

impl Panels {
    fn new<S: Simd>(total: usize) -> Self {
        let count = total.div_ceil(panel_width::<S>());
        Self { count, columns: total.div_ceil(count).next_multiple_of(S::LANES), total }
    }

    /// The first column of a panel, and the number of its columns.
    fn of(&self, panel: usize) -> (usize, usize) {
        let first = (panel * self.columns).min(self.total);
        (first, self.columns.min(self.total - first))
    }
}

/// The length of whole vectors that hold `count` values.
const fn padded<S: Simd>(count: usize) -> usize {
    count.next_multiple_of(S::LANES)
}

/// The right side of a product with the transpose of rows, in panels [panel][value of a row][width], with one row per column.
struct TransposedPanels {
    packed: Scratch,
    panels: Panels,
    depth: usize,
}

impl TransposedPanels {
    #[inline(always)]
    fn new<S: Simd>(simd: S, rows: Rows<'_>) -> Self {
        let width = panel_width::<S>();
        let panels = Panels::new::<S>(rows.count);
        let mut packed = Scratch::zeroed(panels.count * rows.len * width);
        for (panel, into) in packed.chunks_exact_mut(rows.len * width).enumerate() {
            let (first, count) = panels.of(panel);
            rows.part(first, count).transpose_to(simd, into, width);
        }
        Self { packed, panels, depth: rows.len }
    }

    /// Writes the products of eight rows `a`, [value][8], with all columns to tiles [panel][8][width].
    #[inline(always)]
    fn multiply<S: Simd>(&self, simd: S, a: &[f32], tiles: &mut [f32]) {
        let width = panel_width::<S>();
        let parts =
            tiles.chunks_exact_mut(TILE_ROWS * width).zip(self.packed.chunks_exact(self.depth * width));
        for (panel, (tile, b)) in parts.enumerate() {
            let (_, count) = self.panels.of(panel);
            multiply_tile(simd, a, RhsPanel::packed::<S>(b), tile, count.div_ceil(S::LANES), false);
        }
    }
}

/// The right side of a product with rows, in panels [panel][row][width].
struct RowPanels {
    packed: Scratch,
    panels: Panels,
    rows: usize,
}

impl RowPanels {
    /// Packs `rows`, each value multiplied by `scale`.
    #[inline(always)]
    fn new<S: Simd>(simd: S, rows: Rows<'_>, scale: f32) -> Self {
        let width = panel_width::<S>();
        let panels = Panels::new::<S>(rows.len);
        let mut packed = Scratch::zeroed(panels.count * rows.count * width);
        for (panel, into) in packed.chunks_exact_mut(rows.count * width).enumerate() {
            let (first, count) = panels.of(panel);
            for (row, into) in into.chunks_exact_mut(width).enumerate() {
                copy(simd, &rows.row(row)[first..first + count], into);
                if scale != 1.0 {
                    into.iter_mut().for_each(|value| *value *= scale);
                }
            }
        }
        Self { packed, panels, rows: rows.count }
    }

    /// Number of values of the tiles of a product.
    fn tiles_len<S: Simd>(&self) -> usize {
        self.panels.count * TILE_ROWS * panel_width::<S>()
    }

    /// Writes the product of eight rows `a`, [row of this][8], with this to tiles [panel][8][width], or adds it.
    #[inline(always)]
    fn multiply<S: Simd>(&self, simd: S, a: &[f32], tiles: &mut [f32], accumulate: bool) {
        let width = panel_width::<S>();
        let parts =
            tiles.chunks_exact_mut(TILE_ROWS * width).zip(self.packed.chunks_exact(self.rows * width));
        for (panel, (tile, b)) in parts.enumerate() {
            let (_, count) = self.panels.of(panel);
            multiply_tile(simd, a, RhsPanel::packed::<S>(b), tile, count.div_ceil(S::LANES), accumulate);
        }
    }

    /// Calls `write` with the first column and the values of each part of `row` of tiles.
    #[inline(always)]
    fn each_part<S: Simd>(&self, tiles: &mut [f32], row: usize, mut write: impl FnMut(usize, &mut [f32])) {
        let width = panel_width::<S>();
        for (panel, tile) in tiles.chunks_exact_mut(TILE_ROWS * width).enumerate() {
            let (first, count) = self.panels.of(panel);
            write(first, &mut tile[row * width..][..count]);
        }
    }
}

/// The transpose of up to eight rows, [value][8], multiplied by `scale`.
#[inline(always)]
fn pack_rows<S: Simd>(simd: S, rows: Rows<'_>, scale: f32, to: &mut [f32]) {
    if rows.count < TILE_ROWS {
        to.fill(0.0);
    }
    rows.transpose_to(simd, to, TILE_ROWS);
    if scale != 1.0 {
        to.iter_mut().for_each(|value| *value *= scale);
    }
}

/// The transpose of tiles [panel][8][width] of all columns, [column][8].
#[inline(always)]
fn transpose_tiles<S: Simd>(simd: S, tiles: &[f32], panels: Panels, to: &mut [f32]) {
    let width = panel_width::<S>();
    for (panel, tile) in tiles.chunks_exact(TILE_ROWS * width).enumerate() {
        let (first, count) = panels.of(panel);
        transpose(simd, (TILE_ROWS, count), (tile, width), (&mut to[first * TILE_ROWS..], TILE_ROWS));
    }
}
