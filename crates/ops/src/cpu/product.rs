//! Matrix products whose right side is an unfolded map: the arithmetic of every convolution that is not depthwise.
//!
//! The scheme is that of Goto and van de Geijn (2008): both sides are copied into panels that lie in memory as the
//! innermost loop reads them, [`ROWS`] rows of the left and [`VECTORS`] vectors of columns of the right; one tile of
//! that size stays in registers while a block of the shared dimension is summed. Unfolding happens while panels of
//! the right side are copied, so the unfolded matrix is never written as a whole.

use std::ops::Range;

use super::buffer::Buffer;
use super::elementwise;
use super::scratch::Scratch;
use super::simd::{Kernel, Simd, dispatch, transpose};
use super::source::Pending;
use super::threads::{for_each_chunk, map_tasks};
use crate::config::Activation;

/// Rows of a panel of the left side.
pub(crate) const ROWS: usize = 8;
/// Vectors of columns in a panel of the right side.
pub(crate) const VECTORS: usize = 3;
/// The longest block of the shared dimension: a panel of the right side then lies in the second-level cache.
const DEPTH: usize = 384;
/// Values of the right side that are packed at once: half a mebibyte.
const PACKED: usize = 128 << 10;

/// Columns of a panel of the right side.
pub(crate) const fn width<S: Simd>() -> usize {
    VECTORS * S::LANES
}

/// How the pixels of a map, counted through all samples, lie in a buffer: in runs of `run` pixels that are `step`
/// apart, runs `run_stride` apart, samples `sample_stride` apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pixels {
    /// Pixels of a sample.
    pub(crate) count: usize,
    pub(crate) run: usize,
    pub(crate) step: usize,
    pub(crate) run_stride: usize,
    pub(crate) sample_stride: usize,
}

/// Pixels beside each other, from `column` of the block on, at `place` in the buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) column: usize,
    pub(crate) place: usize,
    pub(crate) len: usize,
}

impl Pixels {
    /// Whole planes of `count` pixels.
    pub(crate) fn flat(count: usize, sample_stride: usize) -> Self {
        Self { count, run: count, step: 1, run_stride: count, sample_stride }
    }

    /// The same places, with samples of one pixel as one run.
    fn long_runs(self, samples: usize) -> (Self, usize) {
        if self.count != 1 {
            return (self, samples);
        }
        let (step, stride) = (self.sample_stride, samples * self.sample_stride);
        (Self { count: samples, run: samples, step, run_stride: stride, sample_stride: stride }, 1)
    }

    /// The stretches of `pixels`, cut at multiples of `width` columns.
    pub(crate) fn segments(&self, pixels: Range<usize>, width: usize) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut n = pixels.start;
        while n < pixels.end {
            let (sample, pixel) = (n / self.count, n % self.count);
            let (run, at) = (pixel / self.run, pixel % self.run);
            let column = n - pixels.start;
            let len = (self.run - at).min(pixels.end - n).min(width - column % width);
            let place = sample * self.sample_stride + run * self.run_stride + at * self.step;
            segments.push(Segment { column, place, len });
            n += len;
        }
        segments
    }

    /// One past the furthest place that `samples` samples reach.
    fn end(&self, samples: usize) -> usize {
        let runs = self.count.div_ceil(self.run);
        (samples - 1) * self.sample_stride + (runs - 1) * self.run_stride + (self.run - 1) * self.step + 1
    }
}

/// A matrix whose rows are taps and whose columns are the pixels of all samples: row `r` at pixel `p` is
/// `data[taps[r] + place(p)]`, after what is pending for channel `r`.
#[derive(Clone, Copy)]
pub(crate) struct Unfolded<'a> {
    data: &'a [f32],
    pending: Pending<'a>,
    taps: &'a [usize],
    pixels: Pixels,
    samples: usize,
}

impl<'a> Unfolded<'a> {
    pub(crate) fn new(data: &'a [f32], taps: &'a [usize], pixels: Pixels, samples: usize) -> Self {
        let (pixels, samples) = pixels.long_runs(samples);
        let furthest = taps.iter().max().copied().unwrap_or(0);
        assert!(samples > 0 && furthest + pixels.end(samples) <= data.len(), "a tap lies outside its map");
        Self { data, pending: Pending::NOTHING, taps, pixels, samples }
    }

    /// With something still to be done to each row, which is a channel.
    pub(crate) fn pending(self, pending: Pending<'a>) -> Self {
        Self { pending, ..self }
    }

    pub(crate) fn columns(&self) -> usize {
        self.pixels.count * self.samples
    }

    /// Some of its rows.
    fn rows(&self, rows: Range<usize>) -> Self {
        Self { pending: self.pending.of_channels(rows.clone()), taps: &self.taps[rows], ..*self }
    }

    /// Rows `rows` of `segments` into panels [panel][row][`width`].
    #[inline(always)]
    fn pack<S: Simd>(&self, simd: S, rows: Range<usize>, segments: &[Segment], into: &mut [f32]) {
        let depth = rows.len();
        let width = width::<S>();
        let Some(last) = segments.last() else { return };
        assert!(((last.column + last.len - 1) / width + 1) * depth * width <= into.len());
        let pending = !self.pending.is_nothing();
        for (k, row) in rows.enumerate() {
            let tap = self.taps[row];
            for &Segment { column, place, len } in segments {
                let at = (column / width * depth + k) * width + column % width;
                // SAFETY: the segment lies within one row of a panel, which lies in `into` as asserted; each tap of
                // each pixel lies in `data` as asserted when the matrix was made.
                unsafe {
                    let (from, to) = (self.data.as_ptr().add(tap + place), into.as_mut_ptr().add(at));
                    copy(simd, from, self.pixels.step, to, len);
                }
                if pending {
                    self.pending.apply(row, &mut into[at..at + len]);
                }
            }
        }
    }

    /// Rows `rows` at `pixels`, turned: [pixel][`width`], for at most `width` rows. `into` takes whole blocks of
    /// eight pixels.
    #[inline(always)]
    fn pack_turned<S: Simd>(
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
            let taps = &self.taps[first..rows.end.min(first + 8)];
            for (i, (line, &tap)) in lines.chunks_exact_mut(count).zip(taps).enumerate() {
                for &Segment { column, place, len } in segments {
                    // SAFETY: segments lie one behind the other in a line of `count` values; each tap of each pixel
                    // lies in `data`.
                    unsafe {
                        let from = self.data.as_ptr().add(tap + place);
                        copy(simd, from, self.pixels.step, line.as_mut_ptr().add(column), len);
                    }
                }
                if !self.pending.is_nothing() {
                    self.pending.apply(first + i, line);
                }
            }
            let at = first - rows.start;
            transpose(simd, (8, count), (&lines[..8 * count], count), (&mut into[at..], width));
        }
    }
}

/// `len` values that are `step` apart.
///
/// # Safety
/// `from` is valid for reading them, `to` for writing `len` values.
#[inline(always)]
unsafe fn copy<S: Simd>(simd: S, from: *const f32, step: usize, to: *mut f32, len: usize) {
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

/// A left side in panels: [block of the shared dimension][panel][k][`ROWS`], zeros below the last row.
pub(crate) struct Left {
    packed: Buffer,
    rows: usize,
    depth: usize,
}

impl Left {
    /// Packs `rows` × `depth` values that lie row after row, each row's times its `scale` where there are any.
    pub(crate) fn of_rows(data: &[f32], (rows, depth): (usize, usize), scale: Option<&[f32]>) -> Self {
        assert!(data.len() == rows * depth && scale.is_none_or(|scale| scale.len() == rows));
        Self::pack((rows, depth), |panel, block, into| {
            dispatch(PackRows { data, scale, depth, panel, block, into });
        })
    }

    /// Packs `rows` × `depth` values that lie column after column.
    pub(crate) fn of_columns(data: &[f32], (rows, depth): (usize, usize)) -> Self {
        assert!(data.len() == rows * depth);
        Self::pack((rows, depth), |panel, block, into| {
            for (into, column) in
                into.chunks_exact_mut(ROWS).zip(data[block.start * rows..].chunks_exact(rows))
            {
                let values = &column[panel.clone()];
                into[..values.len()].copy_from_slice(values);
            }
        })
    }

    /// Lets `fill` write each panel, rows by a block of the shared dimension, over zeros.
    fn pack(
        (rows, depth): (usize, usize),
        fill: impl Fn(Range<usize>, Range<usize>, &mut [f32]) + Sync,
    ) -> Self {
        let panels = rows.div_ceil(ROWS);
        let mut packed = Buffer::dirty(panels * ROWS * depth);
        let mut at = &mut *packed;
        for block in blocks(depth) {
            let (these, rest) = at.split_at_mut(panels * ROWS * block.len());
            at = rest;
            for_each_chunk(these, ROWS * block.len(), |panel, into| {
                let panel = panel * ROWS..rows.min((panel + 1) * ROWS);
                if panel.len() < ROWS {
                    into.fill(0.0);
                }
                fill(panel, block.clone(), into);
            });
        }
        Self { packed, rows, depth }
    }

    /// The panels of one block of the shared dimension.
    fn block(&self, block: &Range<usize>) -> &[f32] {
        let rows = self.rows.div_ceil(ROWS) * ROWS;
        &self.packed[block.start * rows..block.end * rows]
    }
}

/// A panel of rows that lie one after the other.
struct PackRows<'a> {
    data: &'a [f32],
    scale: Option<&'a [f32]>,
    depth: usize,
    panel: Range<usize>,
    block: Range<usize>,
    into: &'a mut [f32],
}

impl Kernel for PackRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { data, scale, depth, panel, block, into } = self;
        let size = (panel.len(), block.len());
        transpose(simd, size, (&data[panel.start * depth + block.start..], depth), (into, ROWS));
        if let Some(scale) = scale {
            let mut factors = [1.0; ROWS];
            factors[..panel.len()].copy_from_slice(&scale[panel]);
            for values in into.as_chunks_mut::<ROWS>().0 {
                for (value, factor) in values.iter_mut().zip(factors) {
                    *value *= factor;
                }
            }
        }
    }
}

/// The shared dimension in even blocks of at most [`DEPTH`].
pub(crate) fn blocks(depth: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let count = depth.div_ceil(DEPTH).max(1);
    let len = depth.div_ceil(count);
    (0..count)
        .map(move |i| (i * len).min(depth)..((i + 1) * len).min(depth))
        .filter(|block| !block.is_empty())
}

/// Where a product goes: row `m` at pixel `p` to `data[m·row_stride + place(p)]`. Shared by tasks that write
/// different rows or pixels.
pub(crate) struct Target<'a> {
    data: *mut f32,
    row_stride: usize,
    pixels: Pixels,
    columns: usize,
    _borrow: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: tasks write places that differ, as `multiply` sees to.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    pub(crate) fn new(
        data: &'a mut [f32],
        rows: usize,
        row_stride: usize,
        pixels: Pixels,
        samples: usize,
    ) -> Self {
        Self::over(data.as_mut_ptr(), data.len(), rows, row_stride, (pixels, samples))
    }

    /// [`Target::new`] over `len` values that may never have been written.
    fn over(
        data: *mut f32,
        len: usize,
        rows: usize,
        row_stride: usize,
        (pixels, samples): (Pixels, usize),
    ) -> Self {
        let (pixels, samples) = pixels.long_runs(samples);
        assert!(
            rows > 0 && samples > 0 && (rows - 1) * row_stride + pixels.end(samples) <= len,
            "a product does not fit its target"
        );
        Self { data, row_stride, pixels, columns: pixels.count * samples, _borrow: std::marker::PhantomData }
    }
}

/// target\[m, n\] = f(Σₖ left\[m, k\]·right\[k, n\] + bias\[m\]), on all threads.
pub(crate) fn multiply(
    left: &Left,
    right: &Unfolded<'_>,
    bias: Option<&[f32]>,
    activation: Activation,
    target: &Target<'_>,
) {
    let columns = right.columns();
    assert!(left.depth == right.taps.len() && columns == target.columns);
    assert!(bias.is_none_or(|bias| bias.len() == left.rows));
    let width = VECTORS * super::simd::lanes();
    let longest = blocks(left.depth).map(|block| block.len()).max().unwrap_or(1);
    // Pieces of columns that fill the cache at most, and of rows, as many as threads share evenly. What a piece computes
    // doesn't depend on how many there are.
    let wanted = 2 * rayon::current_num_threads();
    let (panels, right_panels) = (left.rows.div_ceil(ROWS), columns.div_ceil(width));
    let most = (PACKED / longest / width).clamp(1, 24);
    let pieces = right_panels.div_ceil(most).next_multiple_of(wanted).min(right_panels);
    let splits = wanted.div_ceil(pieces).min(panels.div_ceil(4)).max(1);
    map_tasks(pieces * splits, left.rows * left.depth * columns, |task| {
        let (piece, split) = (task / splits, task % splits);
        let panels = part(panels, splits, split);
        let columns = panels_columns(part(right_panels, pieces, piece), width, columns);
        dispatch(Piece { left, right, bias, activation, target, panels, columns });
    });
}

/// left · right, row after row: (rows of `left`, columns of `right`).
pub(crate) fn product(left: &Left, right: &Unfolded<'_>) -> Vec<f32> {
    let (rows, columns) = (left.rows, right.columns());
    let mut values = Vec::with_capacity(rows * columns);
    assert!(left.depth > 0, "a product without terms writes nothing");
    let room = values.spare_capacity_mut();
    let pixels = (Pixels::flat(columns, columns), 1);
    let target = Target::over(room.as_mut_ptr().cast(), room.len(), rows, columns, pixels);
    multiply(left, right, None, Activation::Identity, &target);
    // SAFETY: each column of each row has been written.
    unsafe { values.set_len(rows * columns) };
    values
}

/// Some panels of rows of a product, at some columns.
struct Piece<'a> {
    left: &'a Left,
    right: &'a Unfolded<'a>,
    bias: Option<&'a [f32]>,
    activation: Activation,
    target: &'a Target<'a>,
    panels: Range<usize>,
    columns: Range<usize>,
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { left, right, bias, activation, target, panels, columns } = self;
        let width = width::<S>();
        let segments = right.pixels.segments(columns.clone(), width);
        let outs = target.pixels.segments(columns.clone(), width);
        let right_panels = columns.len().div_ceil(width);
        let longest = blocks(left.depth).map(|block| block.len()).max().unwrap_or(0);
        let mut packed = Scratch::dirty(right_panels * longest * width);
        let single = longest == left.depth;
        let tile = ROWS * width;
        let mut tiles = Scratch::dirty(if single { tile } else { panels.len() * right_panels * tile });
        let bounds = bounds(activation);
        // The segments of each panel of columns.
        let mut first_out = vec![0; right_panels + 1];
        for (i, out) in outs.iter().enumerate() {
            first_out[out.column / width + 1] = i + 1;
        }
        for block in blocks(left.depth) {
            let last = block.end == left.depth;
            right.pack(simd, block.clone(), &segments, &mut packed);
            let left_block = left.block(&block);
            for (i, panel) in panels.clone().enumerate() {
                let a = &left_block[panel * ROWS * block.len()..][..ROWS * block.len()];
                for j in 0..right_panels {
                    let b = &packed[j * block.len() * width..][..block.len() * width];
                    let c = if single { 0 } else { (i * right_panels + j) * tile };
                    let c = &mut tiles[c..c + tile];
                    let used = (columns.len() - j * width).min(width);
                    let outs = &outs[first_out[j]..first_out[j + 1]];
                    if last && let ([out], Some(bounds), 1) = (outs, bounds, target.pixels.step) {
                        let rows = panel * ROWS..left.rows.min((panel + 1) * ROWS);
                        let bias = bias.map(|bias| &bias[rows.clone()]);
                        let accumulated = (block.start > 0).then_some(&*c);
                        // SAFETY: `Target::new` has shown that each row at each pixel lies in its data; no other task
                        // has these rows and columns.
                        unsafe {
                            let data = target.data.add(rows.start * target.row_stride + out.place);
                            let to =
                                Corner { data, row_stride: target.row_stride, rows: rows.len(), cols: used };
                            put_tile(simd, a, b, accumulated, (bias, bounds), to);
                        }
                        continue;
                    }
                    sum_tile(simd, a, b, c, used.div_ceil(S::LANES), block.start > 0);
                    if !last {
                        continue;
                    }
                    for (r, values) in c.chunks_exact_mut(width).enumerate().take(left.rows - panel * ROWS) {
                        let row = panel * ROWS + r;
                        let values = &mut values[..used];
                        if let Some(bias) = bias {
                            let bias = bias[row];
                            for value in values.iter_mut() {
                                *value += bias;
                            }
                        }
                        elementwise::activate(values, activation);
                        for out in outs {
                            let values = &values[out.column - j * width..][..out.len];
                            // SAFETY: `Target::new` has shown that each row at each pixel lies in its data; no
                            // other task has these rows and columns.
                            unsafe {
                                let to = target.data.add(row * target.row_stride + out.place);
                                put(simd, values, to, target.pixels.step);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Between what an activation keeps its values, if that is all it does.
fn bounds(activation: Activation) -> Option<(f32, f32)> {
    match activation {
        Activation::Identity => Some((f32::NEG_INFINITY, f32::INFINITY)),
        Activation::Relu => Some((0.0, f32::INFINITY)),
        Activation::Relu6 => Some((0.0, 6.0)),
        Activation::Tanh | Activation::LeakyRelu(_) => None,
    }
}

/// Where a tile goes: some rows of `cols` values, `row_stride` apart.
#[derive(Clone, Copy)]
struct Corner {
    data: *mut f32,
    row_stride: usize,
    rows: usize,
    cols: usize,
}

/// Writes a·b, plus what has been `accumulated`, plus the rows' `bias`, kept between `bounds`, for the rows and columns
/// that `to` has: a and b as in [`sum_tile`].
///
/// # Safety
/// `to` is valid for writing, and has at least one row and column, and no more than a tile.
#[inline(always)]
unsafe fn put_tile<S: Simd>(
    simd: S,
    a: &[f32],
    b: &[f32],
    accumulated: Option<&[f32]>,
    (bias, bounds): (Option<&[f32]>, (f32, f32)),
    to: Corner,
) {
    let width = width::<S>();
    let depth = a.len() / ROWS;
    assert!(b.len() == depth * width && to.rows <= ROWS && to.cols <= width);
    assert!(bias.is_none_or(|bias| bias.len() == to.rows));
    assert!(accumulated.is_none_or(|sums| sums.len() == ROWS * width));
    let (a, b) = (a.as_ptr(), b.as_ptr());
    macro_rules! rows {
        ($rows:literal) => {
            for first in (0..to.rows).step_by($rows) {
                // SAFETY: by this function's contract; `a` has `depth` rows of `ROWS` values, `b` of `width`, and what
                // is accumulated `ROWS` rows of `width`, as asserted; at most `VECTORS` vectors make a width.
                unsafe {
                    let data = to.data.add(first * to.row_stride);
                    let to = Corner { data, rows: to.rows - first, ..to };
                    let accumulated = accumulated.map(|sums| sums.as_ptr().add(first * width));
                    let bias = bias.map(|bias| bias.as_ptr().add(first));
                    let ending = (accumulated, bias, bounds);
                    match to.cols.div_ceil(S::LANES) {
                        1 => put_sums::<S, $rows, 1>(simd, depth, a.add(first), b, ending, to),
                        2 => put_sums::<S, $rows, 2>(simd, depth, a.add(first), b, ending, to),
                        _ => put_sums::<S, $rows, 3>(simd, depth, a.add(first), b, ending, to),
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

/// The first of `R` rows by `N` vectors, as many as `to` has.
///
/// # Safety
/// That of [`sums`]; what is accumulated is valid for reading like a tile, the bias for as many values as `to` has rows;
/// `to` for writing its columns, which end in the last of the vectors.
#[inline(always)]
unsafe fn put_sums<S: Simd, const R: usize, const N: usize>(
    simd: S,
    depth: usize,
    a: *const f32,
    b: *const f32,
    (accumulated, bias, bounds): (Option<*const f32>, Option<*const f32>, (f32, f32)),
    to: Corner,
) {
    let (low, high) = (simd.splat(bounds.0), simd.splat(bounds.1));
    let last = to.cols - (N - 1) * S::LANES;
    // SAFETY: by this function's contract.
    unsafe {
        let sums = sums::<S, R, N>(simd, depth, a, b);
        for (r, sums) in sums.into_iter().enumerate().take(to.rows) {
            let bias = simd.splat(bias.map_or(0.0, |bias| *bias.add(r)));
            for (v, mut sum) in sums.into_iter().enumerate() {
                if let Some(accumulated) = accumulated {
                    sum = simd.add(simd.load(accumulated.add(r * width::<S>() + v * S::LANES)), sum);
                }
                let value = simd.min(high, simd.max(low, simd.add(sum, bias)));
                let data = to.data.add(r * to.row_stride + v * S::LANES);
                if v + 1 < N || last == S::LANES {
                    simd.store(data, value);
                } else {
                    simd.store_first(data, last, value);
                }
            }
        }
    }
}

/// Writes `values` to places `step` apart.
///
/// # Safety
/// `to` is valid for writing them.
#[inline(always)]
unsafe fn put<S: Simd>(simd: S, values: &[f32], to: *mut f32, step: usize) {
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

/// c = a·b, or c += a·b: a [k][`ROWS`], b [k][width], c [`ROWS`][width], of which the first `vectors` vectors of
/// columns are computed.
#[inline(always)]
pub(crate) fn sum_tile<S: Simd>(
    simd: S,
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    vectors: usize,
    accumulate: bool,
) {
    let width = width::<S>();
    let depth = a.len() / ROWS;
    assert!(b.len() == depth * width && c.len() == ROWS * width);
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    macro_rules! rows {
        ($rows:literal) => {
            for first in (0..ROWS).step_by($rows) {
                // SAFETY: `a` has `depth` rows of `ROWS` values, `b` of `width`, `c` has `ROWS` rows of `width`, as
                // asserted; at most `VECTORS` vectors make a width.
                unsafe {
                    let (a, c) = (a.add(first), c.add(first * width));
                    match vectors {
                        1 => sum::<S, $rows, 1>(simd, depth, a, b, c, accumulate),
                        2 => sum::<S, $rows, 2>(simd, depth, a, b, c, accumulate),
                        _ => sum::<S, $rows, 3>(simd, depth, a, b, c, accumulate),
                    }
                }
            }
        };
    }
    // 24 sums, or 12: what the registers hold.
    if S::LANES == 16 {
        rows!(8);
    } else {
        rows!(4);
    }
}

/// `R` rows by `N` vectors.
///
/// # Safety
/// That of [`sums`]; `c` is valid for reading and writing `N` vectors at each of the first `R` multiples of the width.
#[inline(always)]
unsafe fn sum<S: Simd, const R: usize, const N: usize>(
    simd: S,
    depth: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    accumulate: bool,
) {
    // SAFETY: by this function's contract.
    unsafe {
        for (r, sums) in sums::<S, R, N>(simd, depth, a, b).into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let c = c.add(r * width::<S>() + v * S::LANES);
                simd.store(c, if accumulate { simd.add(simd.load(c), sum) } else { sum });
            }
        }
    }
}

/// The sums of `R` rows by `N` vectors.
///
/// # Safety
/// For each k below `depth`, `a` is valid for reading `R` values at k·[`ROWS`] and `b` for `N` vectors at k·width.
#[inline(always)]
unsafe fn sums<S: Simd, const R: usize, const N: usize>(
    simd: S,
    depth: usize,
    mut a: *const f32,
    mut b: *const f32,
) -> [[S::V; N]; R] {
    let mut sums = [[simd.splat(0.0); N]; R];
    for _ in 0..depth {
        // SAFETY: by this function's contract.
        unsafe {
            let columns: [S::V; N] = std::array::from_fn(|v| simd.load(b.add(v * S::LANES)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let row = simd.splat(*a.add(r));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = simd.mul_add(row, column, *sum);
                }
            }
            a = a.add(ROWS);
            b = b.add(width::<S>());
        }
    }
    sums
}

/// Σₙ left\[i, n\]·right\[j, n\] over the pixels of all samples, row after row: (rows of `left`, rows of `right`).
///
/// The pixels are split into [`groups`], whose sums are added in their order.
pub(crate) fn multiply_over_pixels(left: &Unfolded<'_>, right: &Unfolded<'_>) -> Vec<f32> {
    assert_eq!(left.columns(), right.columns());
    let (rows, cols) = (left.taps.len(), right.taps.len());
    let lanes = super::simd::lanes();
    // The side that fills vectors of columns better goes to the right.
    let cost = |rows: usize, cols: usize| rows.next_multiple_of(ROWS) * cols.next_multiple_of(lanes);
    if cost(cols, rows) < cost(rows, cols) {
        let turned = sum_over_pixels(right, left);
        let mut result = vec![0.0; rows * cols];
        for_each_chunk(&mut result, cols, |i, row| {
            row.iter_mut().zip(turned[i..].iter().step_by(rows)).for_each(|(to, from)| *to = *from);
        });
        return result;
    }
    sum_over_pixels(left, right)
}

fn sum_over_pixels(left: &Unfolded<'_>, right: &Unfolded<'_>) -> Vec<f32> {
    let (rows, cols) = (left.taps.len(), right.taps.len());
    let width = VECTORS * super::simd::lanes();
    let columns = left.columns();
    let groups = groups(columns, rows * cols);
    // They are shared out by panels of columns too, which changes no sum, into as many tasks as threads share evenly.
    let right_panels = cols.div_ceil(width);
    let splits = (4 * rayon::current_num_threads()).div_ceil(groups).min(right_panels);
    let share = |split: usize| panels_columns(part(right_panels, splits, split), width, cols);
    let partial: Vec<Buffer> = map_tasks(groups * splits, rows * cols * columns, |task| {
        let (group, split) = (task / splits, task % splits);
        let pixels = part(columns, groups, group);
        let right = right.rows(share(split));
        let tiles = rows.div_ceil(ROWS) * right.taps.len().div_ceil(width);
        let mut sums = Buffer::dirty(tiles * ROWS * width);
        sums.fill(0.0);
        dispatch(OverPixels { left, right: &right, pixels, sums: &mut sums });
        sums
    });
    let mut result = vec![0.0; rows * cols];
    for_each_chunk(&mut result, cols, |i, row| {
        for split in 0..splits {
            let row = &mut row[share(split)];
            let panels = row.len().div_ceil(width);
            for (j, row) in row.chunks_mut(width).enumerate() {
                let at = ((i / ROWS * panels + j) * ROWS + i % ROWS) * width;
                for part in partial.iter().skip(split).step_by(splits) {
                    row.iter_mut().zip(&part[at..]).for_each(|(sum, part)| *sum += part);
                }
            }
        }
    });
    result
}

/// The `index`th of even parts of `len` things.
fn part(len: usize, parts: usize, index: usize) -> Range<usize> {
    index * len / parts..(index + 1) * len / parts
}

/// The columns of some panels of `width`, the last of which may have fewer.
fn panels_columns(panels: Range<usize>, width: usize, columns: usize) -> Range<usize> {
    panels.start * width..(panels.end * width).min(columns)
}

/// Into how many groups `columns` are split whose sums are `size` values each.
fn groups(columns: usize, size: usize) -> usize {
    /// Values of all groups' sums together, from four groups on.
    const SUMS: usize = 1 << 20;
    let most = (SUMS / size.max(1)).clamp(4, 32).min(columns.div_ceil(DEPTH)).max(1);
    1 << most.ilog2()
}

/// The sums over some pixels, in tiles [panel of rows][panel of columns][`ROWS`][width], which start as zeros.
struct OverPixels<'a> {
    left: &'a Unfolded<'a>,
    right: &'a Unfolded<'a>,
    pixels: Range<usize>,
    sums: &'a mut [f32],
}

impl Kernel for OverPixels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { left, right, pixels, sums } = self;
        let width = width::<S>();
        let (rows, cols) = (left.taps.len(), right.taps.len());
        let left_panels = rows.div_ceil(ROWS);
        let longest = blocks(pixels.len()).map(|block| block.len()).max().unwrap_or(0);
        let depth = longest.next_multiple_of(8);
        let mut a = Scratch::dirty(left_panels * depth * ROWS);
        let mut b = Scratch::dirty(depth * width);
        let mut lines = Scratch::dirty(8 * depth);
        for block in blocks(pixels.len()) {
            let count = block.len();
            let pixels = pixels.start + block.start..pixels.start + block.end;
            let left_segments = left.pixels.segments(pixels.clone(), usize::MAX);
            let right_segments = right.pixels.segments(pixels.clone(), usize::MAX);
            for (i, panel) in a.chunks_exact_mut(depth * ROWS).enumerate() {
                let rows = i * ROWS..rows.min((i + 1) * ROWS);
                left.pack_turned(simd, rows, &left_segments, ROWS, panel, &mut lines);
            }
            for (j, first) in (0..cols).step_by(width).enumerate() {
                let these = first..cols.min(first + width);
                let vectors = these.len().div_ceil(S::LANES);
                right.pack_turned(simd, these, &right_segments, width, &mut b, &mut lines);
                for (i, panel) in a.chunks_exact(depth * ROWS).enumerate() {
                    let at = (i * cols.div_ceil(width) + j) * ROWS * width;
                    let c = &mut sums[at..at + ROWS * width];
                    sum_tile(simd, &panel[..count * ROWS], &b[..count * width], c, vectors, true);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_sums_of_products() {
        // (rows, taps, samples, height, width of the padded map, output rows and columns, stride)
        for (rows, channels, samples, (h, w), (oh, ow), (sh, sw)) in [
            (1, 1, 1, (1, 1), (1, 1), (1, 1)),
            (13, 5, 3, (7, 9), (5, 7), (1, 1)),
            (8, 50, 2, (9, 11), (4, 5), (2, 2)),
            (70, 9, 1, (40, 33), (13, 16), (3, 2)),
            (5, 130, 5, (5, 5), (3, 3), (1, 1)),
        ] {
            let (kh, kw) = (h - (oh - 1) * sh, w - (ow - 1) * sw);
            let (kh, kw) = (kh.min(3), kw.min(3));
            let data: Vec<f32> =
                (0..samples * channels * h * w).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            let taps: Vec<usize> =
                (0..channels * kh * kw).map(|t| (t / (kh * kw)) * h * w + t / kw % kh * w + t % kw).collect();
            let pixels = Pixels {
                count: oh * ow,
                run: ow,
                step: sw,
                run_stride: sh * w,
                sample_stride: channels * h * w,
            };
            let right = Unfolded::new(&data, &taps, pixels, samples);
            let value = |r: usize, n: usize| {
                let (sample, p) = (n / (oh * ow), n % (oh * ow));
                f64::from(data[sample * channels * h * w + taps[r] + p / ow * sh * w + p % ow * sw])
            };
            let weight: Vec<f32> = (0..rows * taps.len()).map(|i| ((i * 53) % 89) as f32 - 44.0).collect();
            let bias: Vec<f32> = (0..rows).map(|i| i as f32).collect();
            let left = Left::of_rows(&weight, (rows, taps.len()), None);
            let mut out = vec![f32::NAN; samples * rows * oh * ow];
            let flat = Pixels::flat(oh * ow, rows * oh * ow);
            let target = Target::new(&mut out, rows, oh * ow, flat, samples);
            multiply(&left, &right, Some(&bias), Activation::Identity, &target);
            let close = |found: f32, expected: f64, scale: f64| {
                assert!((f64::from(found) - expected).abs() <= 4e-6 * scale, "{found} {expected}");
            };
            for n in 0..samples * oh * ow {
                for m in 0..rows {
                    let products = |k: usize| f64::from(weight[m * taps.len() + k]) * value(k, n);
                    let expected = (0..taps.len()).map(products).sum::<f64>() + m as f64;
                    let scale = (0..taps.len()).map(|k| products(k).abs()).sum::<f64>() + m as f64;
                    let (sample, p) = (n / (oh * ow), n % (oh * ow));
                    close(out[(sample * rows + m) * oh * ow + p], expected, scale);
                }
            }
            let out_taps: Vec<usize> = (0..rows).map(|m| m * oh * ow).collect();
            let outs = Unfolded::new(&out, &out_taps, flat, samples);
            let over = multiply_over_pixels(&outs, &right);
            for m in 0..rows {
                for k in 0..taps.len() {
                    let products = |n: usize| {
                        let (sample, p) = (n / (oh * ow), n % (oh * ow));
                        f64::from(out[(sample * rows + m) * oh * ow + p]) * value(k, n)
                    };
                    let all = 0..samples * oh * ow;
                    let expected = all.clone().map(products).sum::<f64>();
                    let scale = all.map(|n| products(n).abs()).sum::<f64>();
                    close(over[m * taps.len() + k], expected, scale);
                }
            }
        }
    }
}
