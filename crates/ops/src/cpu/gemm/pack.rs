//! Views of matrices inside maps, and the panels that they are packed into.

use std::ops::Range;

use crate::cpu::conv::epilogue::Epilogue;
use crate::cpu::memory::buffer::Buffer;
use crate::cpu::memory::threads::for_each_chunk;
use crate::cpu::simd::{Kernel, Simd, dispatch, lanes, transpose};

/// Rows of a panel of the left side.
pub(crate) const TILE_ROWS: usize = 8;
/// Vectors of columns in a panel of the rhs side.
pub(crate) const TILE_VECTORS: usize = 3;
/// Longest block of the shared dimension, such that a panel of the right side stays in the L2 cache.
pub(super) const MAX_DEPTH: usize = 384;

/// Columns of a panel of the rhs side.
pub(crate) const fn panel_width<S: Simd>() -> usize {
    TILE_VECTORS * S::LANES
}

/// Layout of a map's pixels, counted through all samples, in a buffer: runs of `run` pixels that are
/// `step` apart, runs `run_stride` apart, samples `sample_stride` apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PixelLayout {
    /// Number of pixels per sample.
    pub(crate) count: usize,
    pub(crate) run: usize,
    pub(crate) step: usize,
    pub(crate) run_stride: usize,
    pub(crate) sample_stride: usize,
}

/// A layout and the number of samples that have it.
#[derive(Clone, Copy)]
pub(super) struct Pixels {
    pub(super) layout: PixelLayout,
    pub(super) samples: usize,
}

/// Consecutive pixels, from `column` of a block on, at `offset` in the buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) column: usize,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl PixelLayout {
    /// Contiguous planes of `count` pixels.
    pub(crate) fn flat(count: usize, sample_stride: usize) -> Self {
        Self { count, run: count, step: 1, run_stride: count, sample_stride }
    }

    /// The same offsets, with samples of one pixel merged into a single run.
    pub(super) fn merged(self, samples: usize) -> Pixels {
        if self.count != 1 {
            return Pixels { layout: self, samples };
        }
        let (step, stride) = (self.sample_stride, samples * self.sample_stride);
        let layout = Self { count: samples, run: samples, step, run_stride: stride, sample_stride: stride };
        Pixels { layout, samples: 1 }
    }

    /// Splits `pixels` into segments, which also end at multiples of `width` columns.
    pub(crate) fn segments(&self, pixels: Range<usize>, width: usize) -> Vec<Segment> {
        let Self { count, run, step, run_stride, sample_stride } = *self;
        let mut segments = Vec::with_capacity(pixels.len().div_ceil(width) + pixels.len().div_ceil(run));
        let (mut column, mut pixel) = (0, pixels.start % count);
        let (mut at, mut panel) = (pixel % run, width);
        let mut sample = pixels.start / count * sample_stride;
        let mut start = sample + pixel / run * run_stride;
        while column < pixels.len() {
            let len = (run - at).min(pixels.len() - column).min(panel);
            segments.push(Segment { column, offset: start + at * step, len });
            (column, pixel, at, panel) = (column + len, pixel + len, at + len, panel - len);
            if panel == 0 {
                panel = width;
            }
            if pixel == count {
                sample += sample_stride;
                (start, pixel, at) = (sample, 0, 0);
            } else if at == run {
                start += run_stride;
                at = 0;
            }
        }
        segments
    }

    /// One past the largest offset within `samples` samples.
    pub(super) fn end(&self, samples: usize) -> usize {
        let runs = self.count.div_ceil(self.run);
        (samples - 1) * self.sample_stride + (runs - 1) * self.run_stride + (self.run - 1) * self.step + 1
    }
}

/// A matrix over a map without a copy of it: row `r` at pixel `p` is `data[row_offsets[r] +
/// offset(p)]`, with the epilogue of channel `r` applied. The rows of an unfolded map (im2col) are
/// kernel offsets.
#[derive(Clone, Copy)]
pub(crate) struct Im2colView<'a> {
    data: &'a [f32],
    epilogue: Epilogue<'a>,
    pub(super) row_offsets: &'a [usize],
    pub(super) pixels: PixelLayout,
    samples: usize,
}

impl<'a> Im2colView<'a> {
    pub(crate) fn new(
        data: &'a [f32],
        row_offsets: &'a [usize],
        pixels: PixelLayout,
        samples: usize,
    ) -> Self {
        let Pixels { layout: pixels, samples } = pixels.merged(samples);
        let furthest = row_offsets.iter().max().copied().unwrap_or(0);
        assert!(samples > 0 && furthest + pixels.end(samples) <= data.len(), "a row lies outside its map");
        Self { data, epilogue: Epilogue::NONE, row_offsets, pixels, samples }
    }

    /// Sets the epilogue, one channel per row.
    pub(crate) fn epilogue(self, epilogue: Epilogue<'a>) -> Self {
        Self { epilogue, ..self }
    }

    pub(crate) fn columns(&self) -> usize {
        self.pixels.count * self.samples
    }

    /// A range of its rows.
    pub(super) fn rows(&self, rows: Range<usize>) -> Self {
        Self {
            epilogue: self.epilogue.of_channels(rows.clone()),
            row_offsets: &self.row_offsets[rows],
            ..*self
        }
    }

    /// The distance between rows, if these are the same everywhere and are read as they are.
    pub(super) fn row_step(&self) -> Option<usize> {
        let mut steps = self.row_offsets.windows(2).map(|pair| pair[1].checked_sub(pair[0]));
        let step = steps.next().unwrap_or(Some(0))?;
        let as_they_are = self.epilogue.is_none() && self.pixels.step == 1;
        (as_they_are && steps.all(|other| other == Some(step))).then_some(step)
    }

    /// The values from `offset` of a row on.
    #[inline(always)]
    pub(super) fn values_from(&self, row: usize, offset: usize) -> &'a [f32] {
        &self.data[self.row_offsets[row] + offset..]
    }

    /// Asks for `len` pixels from `offset` on: the processor foresees how a row goes on, but not where the next one begins.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, simd: S, offset: usize, len: usize) {
        /// Values in a cache line.
        const LINE: usize = 16;
        for pixel in (0..len).step_by(LINE) {
            simd.prefetch(self.data.as_ptr().wrapping_add(offset + pixel * self.pixels.step));
        }
    }

    /// Packs `rows` at `segments` into panels [panel][row][`width`].
    #[inline(always)]
    pub(super) fn pack<S: Simd>(&self, simd: S, rows: Range<usize>, segments: &[Segment], into: &mut [f32]) {
        /// Rows ahead whose values are asked for.
        const AHEAD: usize = 2;
        let depth = rows.len();
        let width = panel_width::<S>();
        let Some(last) = segments.last() else { return };
        assert!(((last.column + last.len - 1) / width + 1) * depth * width <= into.len());
        let epilogue = !self.epilogue.is_none();
        for (k, row) in rows.enumerate() {
            let row_offset = self.row_offsets[row];
            let later = self.row_offsets.get(row + AHEAD).copied().unwrap_or(row_offset);
            for &Segment { column, offset, len } in segments {
                let at = (column / width * depth + k) * width + column % width;
                // SAFETY: the segment lies within one row of a panel, which lies in
                // `into` as asserted; each row at each pixel lies in `data` as
                // asserted in `new`.
                unsafe {
                    let (from, to) = (self.data.as_ptr().add(row_offset + offset), into.as_mut_ptr().add(at));
                    if len == width && self.pixels.step == 1 {
                        for v in 0..TILE_VECTORS {
                            let at = v * S::LANES;
                            simd.prefetch(self.data.as_ptr().wrapping_add(later + offset + at));
                            simd.store(to.add(at), simd.load(from.add(at)));
                        }
                    } else {
                        self.prefetch(simd, later + offset, len);
                        copy(simd, from, self.pixels.step, to, len);
                    }
                }
                if epilogue {
                    self.epilogue.apply::<S>(row, &mut into[at..at + len]);
                }
            }
        }
    }

    /// Packs `rows` at `segments`, transposed, [pixel][`width`], for at most `width` rows. `into`
    /// has space for whole blocks of eight pixels.
    #[inline(always)]
    pub(super) fn pack_transposed<S: Simd>(
        &self,
        simd: S,
        rows: Range<usize>,
        segments: &[Segment],
        width: usize,
        into: &mut [f32],
        lines: &mut [f32],
    ) {
        let Some(last) = segments.last() else { return };
        let count = (last.column + last.len).next_multiple_of(8);
        assert!(rows.len() <= width && count * width <= into.len() && 8 * count <= lines.len());
        for first in rows.clone().step_by(8) {
            let row_offsets = &self.row_offsets[first..rows.end.min(first + 8)];
            for (i, (line, &row_offset)) in lines.chunks_exact_mut(count).zip(row_offsets).enumerate() {
                let later = self.row_offsets.get(first + i + 8).copied().unwrap_or(row_offset);
                for &Segment { column, offset, len } in segments {
                    self.prefetch(simd, later + offset, len);
                    // SAFETY: segments follow each other in a line of `count`
                    // values; each row at each pixel lies in `data`.
                    unsafe {
                        let from = self.data.as_ptr().add(row_offset + offset);
                        copy(simd, from, self.pixels.step, line.as_mut_ptr().add(column), len);
                    }
                }
                if !self.epilogue.is_none() {
                    self.epilogue.apply::<S>(first + i, line);
                }
            }
            let at = first - rows.start;
            transpose(simd, (8, count), (&lines[..8 * count], count), (&mut into[at..], width));
        }
    }
}

/// Copies `len` values that are `step` apart.
///
/// # Safety
/// `from` is valid for reads of these values, `to` for writes of `len`.
#[inline(always)]
pub(crate) unsafe fn copy<S: Simd>(simd: S, from: *const f32, step: usize, to: *mut f32, len: usize) {
    // SAFETY: by this function's contract.
    unsafe {
        if step == 1 {
            let whole = len - len % S::LANES;
            for i in (0..whole).step_by(S::LANES) {
                simd.store(to.add(i), simd.load(from.add(i)));
            }
            if whole < len {
                let v = simd.load_first(from.add(whole), len - whole);
                simd.store_first(to.add(whole), len - whole, v);
            }
        } else {
            for i in 0..len {
                *to.add(i) = *from.add(i * step);
            }
        }
    }
}

/// The left side of a product, packed into panels [block of the shared
/// dimension][panel][k][`TILE_ROWS`], with zeros below the last row.
pub(crate) struct PackedLhs {
    packed: Buffer,
    pub(super) rows: usize,
    pub(super) depth: usize,
}

impl PackedLhs {
    /// Packs a row-major matrix of `rows` × `depth`, with each row multiplied by its `scale`.
    pub(crate) fn from_rows(data: &[f32], (rows, depth): (usize, usize), scale: Option<&[f32]>) -> Self {
        assert!(data.len() == rows * depth && scale.is_none_or(|scale| scale.len() == rows));
        Self::pack((rows, depth), |panel, block, into| {
            dispatch(PackRows { data, scale, depth, panel, block, into, width: TILE_ROWS });
        })
    }

    /// Packs a column-major matrix of `rows` × `depth`.
    pub(crate) fn from_columns(data: &[f32], (rows, depth): (usize, usize)) -> Self {
        assert!(data.len() == rows * depth);
        Self::pack((rows, depth), |panel, block, into| {
            for (into, column) in
                into.chunks_exact_mut(TILE_ROWS).zip(data[block.start * rows..].chunks_exact(rows))
            {
                // Copies of a known length are loads and stores.
                match (into.first_chunk_mut::<TILE_ROWS>(), column[panel.clone()].first_chunk()) {
                    (Some(into), Some(values)) => *into = *values,
                    _ => into[..panel.len()].copy_from_slice(&column[panel.clone()]),
                }
            }
        })
    }

    /// Calls `fill` with the rows, the block of the shared dimension and the zeroed values of
    /// each panel.
    fn pack(
        (rows, depth): (usize, usize),
        fill: impl Fn(Range<usize>, Range<usize>, &mut [f32]) + Sync,
    ) -> Self {
        Self { packed: pack_panels((rows, depth), TILE_ROWS, fill), rows, depth }
    }

    /// The panels of one block of the shared dimension.
    pub(super) fn block(&self, block: &Range<usize>) -> &[f32] {
        let rows = self.rows.div_ceil(TILE_ROWS) * TILE_ROWS;
        &self.packed[block.start * rows..block.end * rows]
    }
}

/// Packs panels of `width` rows, [block of the shared dimension][panel][k][width]: calls `fill` with the rows, the block and the
/// values of each panel, which are zeros if it is not full.
fn pack_panels(
    (rows, depth): (usize, usize),
    width: usize,
    fill: impl Fn(Range<usize>, Range<usize>, &mut [f32]) + Sync,
) -> Buffer {
    let panels = rows.div_ceil(width);
    let mut packed = Buffer::dirty(panels * width * depth);
    let mut at = &mut *packed;
    for block in blocks(depth) {
        let (chunk, rest) = at.split_at_mut(panels * width * block.len());
        at = rest;
        for_each_chunk(chunk, width * block.len(), |panel, into| {
            let panel = panel * width..rows.min((panel + 1) * width);
            if panel.len() < width {
                into.fill(0.0);
            }
            fill(panel, block.clone(), into);
        });
    }
    packed
}

/// The right side of a product, packed into panels [block of the shared dimension][panel][k][width], with zeros after the last
/// column.
pub(crate) struct PackedRhs {
    packed: Buffer,
    pub(super) columns: usize,
    pub(super) depth: usize,
}

impl PackedRhs {
    /// Packs a row-major matrix of `depth` × `columns`.
    pub(crate) fn from_rows(data: &[f32], (depth, columns): (usize, usize)) -> Self {
        assert!(data.len() == depth * columns);
        let width = TILE_VECTORS * lanes();
        let packed = pack_panels((columns, depth), width, |panel, block, into| {
            for (into, row) in
                into.chunks_exact_mut(width).zip(data[block.start * columns..].chunks_exact(columns))
            {
                into[..panel.len()].copy_from_slice(&row[panel.clone()]);
            }
        });
        Self { packed, columns, depth }
    }

    /// Packs a column-major matrix of `depth` × `columns`.
    pub(crate) fn from_columns(data: &[f32], (depth, columns): (usize, usize)) -> Self {
        assert!(data.len() == depth * columns);
        let width = TILE_VECTORS * lanes();
        let packed = pack_panels((columns, depth), width, |panel, block, into| {
            dispatch(PackRows { data, scale: None, depth, panel, block, into, width });
        });
        Self { packed, columns, depth }
    }

    /// The panels of one block of the shared dimension.
    pub(super) fn block(&self, block: &Range<usize>, width: usize) -> &[f32] {
        let columns = self.columns.next_multiple_of(width);
        &self.packed[block.start * columns..block.end * columns]
    }
}

/// A panel of a row-major matrix.
struct PackRows<'a> {
    data: &'a [f32],
    scale: Option<&'a [f32]>,
    depth: usize,
    panel: Range<usize>,
    block: Range<usize>,
    into: &'a mut [f32],
    /// Rows of a whole panel.
    width: usize,
}

impl Kernel for PackRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { data, scale, depth, panel, block, into, width } = self;
        let size = (panel.len(), block.len());
        transpose(simd, size, (&data[panel.start * depth + block.start..], depth), (into, width));
        if let Some(scale) = scale {
            let mut factors = [1.0; TILE_ROWS];
            factors[..panel.len()].copy_from_slice(&scale[panel]);
            for values in into.as_chunks_mut::<TILE_ROWS>().0 {
                for (value, factor) in values.iter_mut().zip(factors) {
                    *value *= factor;
                }
            }
        }
    }
}

/// Splits the shared dimension into even blocks of at most [`MAX_DEPTH`].
pub(crate) fn blocks(depth: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let count = depth.div_ceil(MAX_DEPTH).max(1);
    let len = depth.div_ceil(count);
    (0..count)
        .map(move |i| (i * len).min(depth)..((i + 1) * len).min(depth))
        .filter(|block| !block.is_empty())
}

/// The `index`-th of `parts` even parts of `len`.
pub(super) fn part(len: usize, parts: usize, index: usize) -> Range<usize> {
    index * len / parts..(index + 1) * len / parts
}

/// The columns of a range of panels of `width`; the last panel may have fewer.
pub(super) fn panel_columns(panels: Range<usize>, width: usize, columns: usize) -> Range<usize> {
    panels.start * width..(panels.end * width).min(columns)
}
