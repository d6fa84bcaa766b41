//! Convolutions whose 3 × 3 windows move by one pixel, with 2.25 times fewer products: F(2 × 2, 3 × 3) of Lavin and
//! Gray, Fast algorithms for convolutional neural networks, 2016.
//!
//! A tile of 2 × 2 outputs is Aᵀ\[Σ (G·g·Gᵀ) ⊙ (Bᵀ·d·B)\]A, where g is a filter, d the 4 × 4 pixels that the tile sees,
//! and the sum runs over channels. Each of the sixteen places of ⊙ is a matrix product of its own, filters by tiles.

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::Buffer;
use super::conv_product::Rimmed;
use super::elementwise;
use super::planes::Shared;
use super::product::{Pixels, ROWS, Segment, VECTORS, blocks, sum_tile, width};
use super::scratch::Scratch;
use super::simd::{Kernel, Simd, dispatch};
use super::source::Source;
use crate::config::{Activation, Padding2d};
use crate::shape::ConvShape;

/// Places of a transformed filter or tile, 4 × 4.
const PLACES: usize = 16;

/// A convolution whose filters are transformed.
pub(crate) struct Winograd {
    shape: ConvShape,
    /// [place][panel of [`ROWS`] filters][channel][`ROWS`], zeros for filters that there are not.
    filters: Buffer,
}

impl Winograd {
    /// Whether it can and is likely to be faster than summing the windows.
    pub(crate) fn suits(shape: &ConvShape) -> bool {
        /// Fewer channels don't make good for the transforms.
        const CHANNELS: usize = 16;
        let &ConvShape { batch, c_in, c_out, kh, kw, oh, ow, config, .. } = shape;
        let (tiles_h, tiles_w) = tiles(shape);
        (kh, kw) == (3, 3)
            && config.stride == (1, 1)
            && config.dilation == (1, 1)
            && config.groups == 1
            && c_in.min(c_out) >= CHANNELS
            && batch * tiles_h * tiles_w >= 2 * CHANNELS
            // Tiles that hang over are work in vain.
            && 2 * (4 * tiles_h * tiles_w) <= 3 * oh * ow
    }

    /// Each filter times its `scale` where there are any.
    pub(crate) fn new(shape: &ConvShape, weight: &[f32], scale: Option<&[f32]>) -> Self {
        let &ConvShape { c_in, c_out, .. } = shape;
        assert!(weight.len() == c_out * c_in * 9 && scale.is_none_or(|scale| scale.len() == c_out));
        let panels = c_out.div_ceil(ROWS);
        let mut filters = Buffer::dirty(PLACES * panels * c_in * ROWS);
        let shared = Shared::new(&mut filters);
        (0..panels).into_par_iter().for_each(|panel| {
            dispatch(Filters { weight, scale, c_in, c_out, panel, panels, to: &shared });
        });
        Self { shape: *shape, filters }
    }

    /// f(w ∗ x + bias) of any number of samples, (B, O, oh, ow).
    pub(crate) fn forward(&self, x: Source<'_>, bias: Option<&[f32]>, activation: Activation, y: &mut [f32]) {
        let ConvShape { c_in, h, w, c_out, oh, ow, config, .. } = self.shape;
        let batch = x.values.len() / (c_in * h * w);
        let (tiles_h, tiles_w) = tiles(&self.shape);
        let Padding2d { top, bottom, left, right } = config.padding;
        let rim = Padding2d { top, bottom: bottom + 2 * tiles_h - oh, left, right: right + 2 * tiles_w - ow };
        let rimmed = Rimmed::new(x, c_in, (h, w), rim, 2);
        let (rows, cols) = (2 * tiles_h + 2, 2 * tiles_w + 2);
        let plane = rows * cols;
        assert!(rimmed.values().len() == batch * c_in * plane && y.len() == batch * c_out * oh * ow);
        let count = tiles_h * tiles_w;
        let tiles =
            Pixels { count, run: tiles_w, step: 1, run_stride: 2 * cols, sample_stride: c_in * plane };
        let columns = batch * count;
        let together = VECTORS * super::simd::lanes();
        let pieces = columns.div_ceil(together);
        let panels = c_out.div_ceil(ROWS);
        // Few pieces are split by filters too, which changes no sum.
        let splits = (8 * rayon::current_num_threads()).div_ceil(pieces).clamp(1, panels.div_ceil(8));
        let share = panels.div_ceil(splits);
        let y = Shared::new(y);
        (0..pieces * splits).into_par_iter().for_each(|task| {
            let (piece, split) = (task / splits, task % splits);
            let columns = piece * together..((piece + 1) * together).min(columns);
            let panels = split * share..((split + 1) * share).min(panels);
            if !panels.is_empty() {
                let of = self;
                let x = rimmed.values();
                dispatch(Piece { of, x, cols, plane, tiles, columns, panels, bias, activation, y: &y });
            }
        });
    }
}

/// Tiles of 2 × 2 that cover the outputs, down and across.
fn tiles(shape: &ConvShape) -> (usize, usize) {
    (shape.oh.div_ceil(2), shape.ow.div_ceil(2))
}

/// One panel of filters, transformed.
struct Filters<'a> {
    weight: &'a [f32],
    scale: Option<&'a [f32]>,
    c_in: usize,
    c_out: usize,
    panel: usize,
    panels: usize,
    to: &'a Shared<'a>,
}

impl Kernel for Filters<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { weight, scale, c_in, c_out, panel, panels, to } = self;
        let rows = panel * ROWS..c_out.min((panel + 1) * ROWS);
        for c in 0..c_in {
            let mut taps = [[0.0f32; ROWS]; 9];
            for (r, o) in rows.clone().enumerate() {
                let scale = scale.map_or(1.0, |scale| scale[o]);
                for (tap, &value) in taps.iter_mut().zip(&weight[(o * c_in + c) * 9..][..9]) {
                    tap[r] = value * scale;
                }
            }
            // G times each column of a filter, then each row of that times Gᵀ.
            let mut half = [[[0.0f32; ROWS]; 3]; 4];
            for s in 0..3 {
                let (a, b, c) = (taps[s], taps[3 + s], taps[6 + s]);
                for r in 0..ROWS {
                    let (ends, middle) = (0.5 * (a[r] + c[r]), 0.5 * b[r]);
                    half[0][s][r] = a[r];
                    half[1][s][r] = ends + middle;
                    half[2][s][r] = ends - middle;
                    half[3][s][r] = c[r];
                }
            }
            for (i, [a, b, c_taps]) in half.into_iter().enumerate() {
                let mut whole = [[0.0f32; ROWS]; 4];
                for r in 0..ROWS {
                    let (ends, middle) = (0.5 * (a[r] + c_taps[r]), 0.5 * b[r]);
                    whole[0][r] = a[r];
                    whole[1][r] = ends + middle;
                    whole[2][r] = ends - middle;
                    whole[3][r] = c_taps[r];
                }
                for (j, values) in whole.iter().enumerate() {
                    let at = (((i * 4 + j) * panels + panel) * c_in + c) * ROWS;
                    // SAFETY: this task alone writes the panel.
                    unsafe { to.write(at, values) };
                }
            }
        }
    }
}

/// Some tiles of some filters.
struct Piece<'a> {
    of: &'a Winograd,
    /// The padded input, its even columns beside each other before its odd ones.
    x: &'a [f32],
    cols: usize,
    plane: usize,
    tiles: Pixels,
    columns: Range<usize>,
    panels: Range<usize>,
    bias: Option<&'a [f32]>,
    activation: Activation,
    y: &'a Shared<'a>,
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let c_in = self.of.shape.c_in;
        let all_panels = self.of.shape.c_out.div_ceil(ROWS);
        let width = width::<S>();
        let segments = self.tiles.segments(self.columns.clone(), S::LANES);
        let mut inputs = Scratch::dirty(PLACES * c_in * width);
        self.transform(simd, &segments, &mut inputs);
        let rows = self.panels.len() * ROWS;
        let mut sums = Scratch::dirty(PLACES * rows * width);
        let vectors = self.columns.len().div_ceil(S::LANES);
        for (place, (inputs, sums)) in
            inputs.chunks_exact(c_in * width).zip(sums.chunks_exact_mut(rows * width)).enumerate()
        {
            for (panel, sums) in self.panels.clone().zip(sums.chunks_exact_mut(ROWS * width)) {
                let filters = &self.of.filters[(place * all_panels + panel) * c_in * ROWS..];
                for block in blocks(c_in) {
                    let a = &filters[block.start * ROWS..block.end * ROWS];
                    let b = &inputs[block.start * width..block.end * width];
                    sum_tile(simd, a, b, sums, vectors, block.start > 0);
                }
            }
        }
        self.finish(simd, &segments, &sums);
    }
}

impl Piece<'_> {
    /// Bᵀ·d·B of each channel and tile: [place][channel][width].
    #[inline(always)]
    fn transform<S: Simd>(&self, simd: S, segments: &[Segment], into: &mut [f32]) {
        let (c_in, width) = (self.of.shape.c_in, width::<S>());
        let sub = |a: S::V, b: S::V| simd.mul_add(simd.splat(-1.0), b, a);
        let across = |[a, b, c, d]: [S::V; 4]| [sub(a, c), simd.add(b, c), sub(c, b), sub(b, d)];
        // Columns of a row: even, odd, the next even, the next odd.
        let columns: [usize; 4] = std::array::from_fn(|s| s % 2 * (self.cols / 2) + s / 2);
        for c in 0..c_in {
            for &Segment { column, place, len } in segments {
                let at = c * self.plane + place;
                assert!(at + 3 * self.cols + columns[3] + len <= self.x.len() && column + len <= width);
                assert!(((PLACES - 1) * c_in + c) * width + column + len <= into.len());
                // SAFETY: the furthest values read and written lie in both slices, as asserted.
                unsafe {
                    let from = self.x.as_ptr().add(at);
                    let row = |r: usize| -> [S::V; 4] {
                        std::array::from_fn(|s| simd.load_first(from.add(r * self.cols + columns[s]), len))
                    };
                    let [a, b, c_row, d] = [row(0), row(1), row(2), row(3)];
                    let down: [[S::V; 4]; 4] = [
                        std::array::from_fn(|s| sub(a[s], c_row[s])),
                        std::array::from_fn(|s| simd.add(b[s], c_row[s])),
                        std::array::from_fn(|s| sub(c_row[s], b[s])),
                        std::array::from_fn(|s| sub(b[s], d[s])),
                    ];
                    for (i, row) in down.into_iter().enumerate() {
                        for (j, v) in across(row).into_iter().enumerate() {
                            let at = ((i * 4 + j) * c_in + c) * width + column;
                            simd.store_first(into.as_mut_ptr().add(at), len, v);
                        }
                    }
                }
            }
        }
    }

    /// f(Aᵀ·m·A + bias) of each filter and tile, from [place][filter][width].
    #[inline(always)]
    fn finish<S: Simd>(&self, simd: S, segments: &[Segment], sums: &[f32]) {
        let ConvShape { c_out, oh, ow, .. } = self.of.shape;
        let (rows, width) = (self.panels.len() * ROWS, width::<S>());
        let sub = |a: S::V, b: S::V| simd.mul_add(simd.splat(-1.0), b, a);
        let pair = |[a, b, c, d]: [S::V; 4]| [simd.add(simd.add(a, b), c), sub(sub(b, c), d)];
        let first = self.panels.start * ROWS;
        assert!(sums.len() == PLACES * rows * width);
        for o in first..c_out.min(first + rows) {
            let bias = self.bias.map_or(0.0, |bias| bias[o]);
            for &Segment { column, len, .. } in segments {
                let tile = self.columns.start + column;
                let (sample, tile) = (tile / self.tiles.count, tile % self.tiles.count);
                let (y, x) = (2 * (tile / self.tiles.run), 2 * (tile % self.tiles.run));
                let at = (o - first) * width + column;
                assert!(column + len <= width);
                let m: [[S::V; 4]; 4] = std::array::from_fn(|i| {
                    std::array::from_fn(|j| {
                        // SAFETY: the segment lies in the filter's row of this place, as asserted.
                        unsafe { simd.load_first(sums.as_ptr().add((i * 4 + j) * rows * width + at), len) }
                    })
                });
                let down: [[S::V; 2]; 4] =
                    std::array::from_fn(|j| pair([m[0][j], m[1][j], m[2][j], m[3][j]]));
                let both: [[S::V; 2]; 2] =
                    std::array::from_fn(|i| pair([down[0][i], down[1][i], down[2][i], down[3][i]]));
                for (i, [even, odd]) in both.into_iter().enumerate().take(oh - y) {
                    let mut values = [[0.0f32; 16]; 2];
                    // SAFETY: a segment is no longer than a vector, of sixteen at most.
                    unsafe {
                        simd.store(values[0].as_mut_ptr(), even);
                        simd.store(values[1].as_mut_ptr(), odd);
                    }
                    let mut row = [0.0f32; 32];
                    for k in 0..16 {
                        row[2 * k] = values[0][k] + bias;
                        row[2 * k + 1] = values[1][k] + bias;
                    }
                    elementwise::activate(&mut row, self.activation);
                    let to = ((sample * c_out + o) * oh + y + i) * ow + x;
                    // SAFETY: no other task has these tiles of these filters.
                    unsafe { self.y.write(to, &row[..(2 * len).min(ow - x)]) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Conv2dConfig;

    #[test]
    fn tiles_are_sums_over_windows() {
        // (batch, channels in and out, height, width, padding)
        for (batch, c_in, c_out, (h, w), padding) in [
            (2, 16, 17, (9, 9), Padding2d::none()),
            (1, 19, 40, (13, 31), Padding2d::symmetric(1, 1)),
            (3, 400, 16, (6, 7), Padding2d { top: 2, bottom: 0, left: 1, right: 2 }),
        ] {
            let config = Conv2dConfig { padding, ..Conv2dConfig::PLAIN };
            let (oh, ow) = (h + padding.top + padding.bottom - 2, w + padding.left + padding.right - 2);
            let shape = ConvShape { batch, c_in, h, w, c_out, kh: 3, kw: 3, oh, ow, config };
            assert!(Winograd::suits(&shape));
            let value = |i: usize, step: usize| ((i * step % 101) as f32 - 50.0) / 50.0;
            let x: Vec<f32> = (0..batch * c_in * h * w).map(|i| value(i, 37)).collect();
            let weight: Vec<f32> = (0..c_out * c_in * 9).map(|i| value(i, 29)).collect();
            let bias: Vec<f32> = (0..c_out).map(|i| value(i, 13)).collect();
            let scale: Vec<f32> = (0..c_out).map(|i| 1.0 + value(i, 7)).collect();
            let mut y = vec![f32::NAN; batch * c_out * oh * ow];
            let winograd = Winograd::new(&shape, &weight, Some(&scale));
            winograd.forward(Source::plain(&x), Some(&bias), Activation::Relu, &mut y);
            for (index, &found) in y.iter().enumerate() {
                let (sample, o) = (index / (c_out * oh * ow), index / (oh * ow) % c_out);
                let (i, j) = (index / ow % oh, index % ow);
                let (mut sum, mut size) = (f64::from(bias[o]), f64::from(bias[o].abs()));
                for c in 0..c_in {
                    for (tap, &weight) in weight[(o * c_in + c) * 9..][..9].iter().enumerate() {
                        let row = (i + tap / 3).checked_sub(padding.top).filter(|&row| row < h);
                        let col = (j + tap % 3).checked_sub(padding.left).filter(|&col| col < w);
                        if let (Some(row), Some(col)) = (row, col) {
                            let x = x[((sample * c_in + c) * h + row) * w + col];
                            let term = f64::from(weight * scale[o]) * f64::from(x);
                            sum += term;
                            size += term.abs();
                        }
                    }
                }
                assert!(
                    (f64::from(found) - sum.max(0.0)).abs() <= 1e-6 * size,
                    "{found} for {sum} of {size}"
                );
            }
        }
    }
}
