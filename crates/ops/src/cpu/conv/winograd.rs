//! Convolutions with 3 × 3 and 5 × 5 kernels and stride 1 with 2.25 and 2.78 times fewer
//! multiplications: F(2 × 2, 3 × 3) and F(2 × 2, 5 × 5) of Lavin and Gray, Fast algorithms for
//! convolutional neural networks, 2016.
//!
//! A tile of 2 × 2 outputs is Aᵀ\[Σ (G·g·Gᵀ) ⊙ (Bᵀ·d·B)\]A, where g is a filter, d the 4 × 4 or 6 × 6
//! pixels that the tile reads, and the sum runs over channels. Each position of ⊙ is a matrix product
//! of its own, filters by tiles.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::epilogue::LazyMap;
use super::padded_input::PaddedRows;
use crate::config::Activation;
use crate::config::Padding2d;
use crate::cpu::elementwise::{self, Clamp};
use crate::cpu::gemm::{RhsPanel, TILE_ROWS, TILE_VECTORS, blocks, multiply_tile, panel_width};
use crate::cpu::memory::buffer::Buffer;
use crate::cpu::memory::planes::Shared;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::plan;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::shape::ConvShape;

/// The transforms of one row or column of a filter of `K` × `K`, of a tile of `SIDE` = K + 1 input
/// pixels, and of the tile's sums.
trait Transform<const K: usize, const SIDE: usize>: Send + Sync {
    /// G·g, for one value of each filter of a panel.
    fn filter(g: [[f32; TILE_ROWS]; K]) -> [[f32; TILE_ROWS]; SIDE];
    /// Bᵀ·d
    fn input<S: Simd>(simd: S, d: [S::V; SIDE]) -> [S::V; SIDE];
    /// Aᵀ·m
    fn output<S: Simd>(simd: S, m: [S::V; SIDE]) -> [S::V; 2];
}

/// F(2 × 2, 3 × 3), interpolated at 0, ±1 and infinity.
struct F2x3;

impl Transform<3, 4> for F2x3 {
    #[inline(always)]
    fn filter(g: [[f32; TILE_ROWS]; 3]) -> [[f32; TILE_ROWS]; 4] {
        [g[0], weighted_sum([0.5, 0.5, 0.5], g), weighted_sum([0.5, -0.5, 0.5], g), g[2]]
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d]: [S::V; 4]) -> [S::V; 4] {
        [
            add_scaled(simd, a, [(-1.0, c)]),
            simd.add(b, c),
            add_scaled(simd, c, [(-1.0, b)]),
            add_scaled(simd, b, [(-1.0, d)]),
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d]: [S::V; 4]) -> [S::V; 2] {
        [simd.add(simd.add(a, b), c), add_scaled(simd, b, [(-1.0, c), (-1.0, d)])]
    }
}

/// F(2 × 2, 5 × 5), interpolated at 0, ±1, 2, −1/2 and infinity by the construction of Toom and Cook.
/// Of the points tried these round best: sums over 96 channels were off by 2e-6 of the largest, by
/// 3e-6 with ±2.
struct F2x5;

impl Transform<5, 6> for F2x5 {
    #[inline(always)]
    fn filter(g: [[f32; TILE_ROWS]; 5]) -> [[f32; TILE_ROWS]; 6] {
        const THIRD: f32 = 1.0 / 3.0;
        const FIFTEENTH: f32 = 1.0 / 15.0;
        [
            g[0],
            weighted_sum([-THIRD; 5], g),
            weighted_sum([THIRD, -THIRD, THIRD, -THIRD, THIRD], g),
            weighted_sum([1.0, 2.0, 4.0, 8.0, 16.0].map(|power| power * FIFTEENTH), g),
            weighted_sum([-16.0, 8.0, -4.0, 2.0, -1.0].map(|power| power * FIFTEENTH), g),
            g[4],
        ]
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::V; 6]) -> [S::V; 6] {
        [
            add_scaled(simd, simd.add(a, e), [(1.5, b), (-2.0, c), (-1.5, d)]),
            add_scaled(simd, e, [(-1.0, b), (-2.5, c), (-0.5, d)]),
            add_scaled(simd, simd.add(b, e), [(0.5, c), (-2.5, d)]),
            add_scaled(simd, e, [(-0.5, b), (-1.0, c), (0.5, d)]),
            add_scaled(simd, e, [(2.0, b), (-1.0, c), (-2.0, d)]),
            add_scaled(simd, simd.add(b, f), [(1.5, c), (-2.0, d), (-1.5, e)]),
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::V; 6]) -> [S::V; 2] {
        let (sum, difference) = (simd.add(b, c), add_scaled(simd, b, [(-1.0, c)]));
        [
            simd.add(simd.add(a, sum), simd.add(d, e)),
            add_scaled(simd, simd.add(difference, f), [(2.0, d), (-0.5, e)]),
        ]
    }
}

/// Σ factor·value, for one value of each filter of a panel.
#[inline(always)]
fn weighted_sum<const N: usize>(factors: [f32; N], values: [[f32; TILE_ROWS]; N]) -> [f32; TILE_ROWS] {
    let mut sums = [0.0; TILE_ROWS];
    for (factor, values) in factors.into_iter().zip(values) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += factor * value;
        }
    }
    sums
}

/// start + Σ factor·value
#[inline(always)]
fn add_scaled<S: Simd, const N: usize>(simd: S, start: S::V, terms: [(f32, S::V); N]) -> S::V {
    let mut sum = start;
    for (factor, value) in terms {
        sum = simd.mul_add(simd.splat(factor), value, sum);
    }
    sum
}

/// A convolution with transformed filters.
pub(crate) struct Winograd {
    form: plan::Winograd,
    /// [position][panel of [`TILE_ROWS`] filters][channel][`TILE_ROWS`], padded with zeros.
    filters: Buffer,
}

impl Winograd {
    /// Transforms the filters, each multiplied by its `scale`.
    pub(crate) fn new(
        form: plan::Winograd,
        shape: &ConvShape,
        weight: &[f32],
        scale: Option<&[f32]>,
    ) -> Self {
        let filters = match form {
            plan::Winograd::F2x3 => Self::filters::<F2x3, 3, 4>(shape, weight, scale),
            plan::Winograd::F2x5 => Self::filters::<F2x5, 5, 6>(shape, weight, scale),
        };
        Self { form, filters }
    }

    fn filters<F: Transform<K, SIDE>, const K: usize, const SIDE: usize>(
        shape: &ConvShape,
        weight: &[f32],
        scale: Option<&[f32]>,
    ) -> Buffer {
        let &ConvShape { c_in, c_out, kh, kw, .. } = shape;
        assert!((kh, kw) == (K, K) && weight.len() == c_out * c_in * K * K);
        assert!(scale.is_none_or(|scale| scale.len() == c_out));
        let panels = c_out.div_ceil(TILE_ROWS);
        let mut filters = Buffer::dirty(SIDE * SIDE * panels * c_in * TILE_ROWS);
        let shared = Shared::new(&mut filters);
        (0..panels).into_par_iter().for_each(|panel| {
            let transform = PhantomData::<F>;
            dispatch(FilterPanel { transform, weight, scale, c_in, c_out, panel, panels, to: &shared });
        });
        filters
    }

    /// Computes f(w ∗ x + bias) for any number of samples, (B, O, oh, ow).
    pub(crate) fn forward(
        &self,
        shape: &ConvShape,
        x: LazyMap<'_>,
        bias: Option<&[f32]>,
        activation: Activation,
        y: &mut [f32],
    ) {
        match self.form {
            plan::Winograd::F2x3 => self.run::<F2x3, 3, 4>(shape, x, bias, activation, y),
            plan::Winograd::F2x5 => self.run::<F2x5, 5, 6>(shape, x, bias, activation, y),
        }
    }

    fn run<F: Transform<K, SIDE>, const K: usize, const SIDE: usize>(
        &self,
        shape: &ConvShape,
        x: LazyMap<'_>,
        bias: Option<&[f32]>,
        activation: Activation,
        y: &mut [f32],
    ) {
        let &ConvShape { c_in, h, w, c_out, oh, ow, config, .. } = shape;
        let batch = x.values.len() / (c_in * h * w);
        let (tiles_h, tiles_w) = tiles(shape);
        let Padding2d { top, bottom, left, right } = config.padding;
        let padding =
            Padding2d { top, bottom: bottom + 2 * tiles_h - oh, left, right: right + 2 * tiles_w - ow };
        let x = PaddedRows::new(x, c_in, (h, w), padding);
        assert!((x.rows, x.cols) == (2 * tiles_h + SIDE - 2, 2 * tiles_w + SIDE - 2));
        assert!(y.len() == batch * c_out * oh * ow);
        let count = tiles_h * tiles_w;
        let columns = batch * count;
        let at_once = TILE_VECTORS * crate::cpu::simd::lanes();
        let tile_blocks = columns.div_ceil(at_once);
        let panels = c_out.div_ceil(TILE_ROWS);
        // Few blocks of tiles are split by filters too, which does not change a sum.
        let splits = (8 * rayon::current_num_threads()).div_ceil(tile_blocks).clamp(1, panels.div_ceil(8));
        let share = panels.div_ceil(splits);
        let y = Shared::new(y);
        (0..tile_blocks * splits).into_par_iter().for_each(|task| {
            let (block, split) = (task / splits, task % splits);
            let columns = block * at_once..((block + 1) * at_once).min(columns);
            let panels = split * share..((split + 1) * share).min(panels);
            if !panels.is_empty() {
                let (transform, filters) = (PhantomData::<F>, &*self.filters);
                dispatch(WinogradTask {
                    transform,
                    shape,
                    filters,
                    x: &x,
                    tiles: (count, tiles_w),
                    columns,
                    panels,
                    bias,
                    activation,
                    y: &y,
                });
            }
        });
    }
}

/// Number of 2 × 2 tiles that cover the outputs, down and across.
fn tiles(shape: &ConvShape) -> (usize, usize) {
    (shape.oh.div_ceil(2), shape.ow.div_ceil(2))
}

/// The transform of one panel of filters.
struct FilterPanel<'a, F, const K: usize, const SIDE: usize> {
    transform: PhantomData<F>,
    weight: &'a [f32],
    scale: Option<&'a [f32]>,
    c_in: usize,
    c_out: usize,
    panel: usize,
    panels: usize,
    to: &'a Shared<'a>,
}

impl<F: Transform<K, SIDE>, const K: usize, const SIDE: usize> Kernel for FilterPanel<'_, F, K, SIDE> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { weight, scale, c_in, c_out, panel, panels, to, .. } = self;
        let rows = panel * TILE_ROWS..c_out.min((panel + 1) * TILE_ROWS);
        for c in 0..c_in {
            let mut kernels = [[[0.0f32; TILE_ROWS]; K]; K];
            for (r, o) in rows.clone().enumerate() {
                let scale = scale.map_or(1.0, |scale| scale[o]);
                let filter = &weight[(o * c_in + c) * K * K..][..K * K];
                for (element, &value) in kernels.as_flattened_mut().iter_mut().zip(filter) {
                    element[r] = value * scale;
                }
            }
            // G times each column of a filter, then each row of the product times Gᵀ.
            let mut rows = [[[0.0f32; TILE_ROWS]; K]; SIDE];
            for s in 0..K {
                let mut column = [[0.0f32; TILE_ROWS]; K];
                for (element, kernels) in column.iter_mut().zip(&kernels) {
                    *element = kernels[s];
                }
                for (row, values) in rows.iter_mut().zip(F::filter(column)) {
                    row[s] = values;
                }
            }
            for (i, row) in rows.into_iter().enumerate() {
                for (j, values) in F::filter(row).iter().enumerate() {
                    let at = (((i * SIDE + j) * panels + panel) * c_in + c) * TILE_ROWS;
                    // SAFETY: no other task writes this panel.
                    unsafe { to.write(at, values) };
                }
            }
        }
    }
}

/// A range of tiles of a range of panels of filters.
struct WinogradTask<'a, F, const K: usize, const SIDE: usize> {
    transform: PhantomData<F>,
    shape: &'a ConvShape,
    filters: &'a [f32],
    x: &'a PaddedRows<'a>,
    /// The tiles of a sample, and of a row of it.
    tiles: (usize, usize),
    columns: Range<usize>,
    panels: Range<usize>,
    bias: Option<&'a [f32]>,
    activation: Activation,
    y: &'a Shared<'a>,
}

/// Tiles side by side, at most a vector of them.
#[derive(Clone, Copy)]
struct Run {
    /// The first one's column in the panel of tiles.
    column: usize,
    sample: usize,
    /// Its row and column among the sample's tiles.
    y: usize,
    x: usize,
    len: usize,
}

impl<F: Transform<K, SIDE>, const K: usize, const SIDE: usize> Kernel for WinogradTask<'_, F, K, SIDE> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        /// Maximum number of sums that are stored before they become outputs: a quarter of a
        /// mebibyte.
        const MAX_SUMS: usize = 1 << 16;
        let positions = SIDE * SIDE;
        let c_in = self.shape.c_in;
        let all_panels = self.shape.c_out.div_ceil(TILE_ROWS);
        let width = panel_width::<S>();
        let runs: Vec<Run> = self.runs(S::LANES).collect();
        let mut inputs = Scratch::dirty(positions * c_in * width);
        self.transform(simd, &runs, &mut inputs);
        let at_once = (MAX_SUMS / (positions * TILE_ROWS * width)).clamp(1, self.panels.len());
        let mut sums = Scratch::dirty(positions * at_once * TILE_ROWS * width);
        let vectors = self.columns.len().div_ceil(S::LANES);
        for first in self.panels.clone().step_by(at_once) {
            let panels = first..self.panels.end.min(first + at_once);
            let rows = panels.len() * TILE_ROWS;
            let sums = &mut sums[..positions * rows * width];
            for (position, (inputs, sums)) in
                inputs.chunks_exact(c_in * width).zip(sums.chunks_exact_mut(rows * width)).enumerate()
            {
                for (panel, sums) in panels.clone().zip(sums.chunks_exact_mut(TILE_ROWS * width)) {
                    let filters = &self.filters[(position * all_panels + panel) * c_in * TILE_ROWS..];
                    for block in blocks(c_in) {
                        let a = &filters[block.start * TILE_ROWS..block.end * TILE_ROWS];
                        let b = &inputs[block.start * width..block.end * width];
                        multiply_tile(simd, a, RhsPanel::packed::<S>(b), sums, vectors, block.start > 0);
                    }
                }
            }
            self.finish(simd, &runs, panels, sums);
        }
    }
}

impl<F: Transform<K, SIDE>, const K: usize, const SIDE: usize> WinogradTask<'_, F, K, SIDE> {
    /// Splits the tiles into runs.
    fn runs(&self, lanes: usize) -> impl Iterator<Item = Run> {
        let (count, across) = self.tiles;
        let Range { start, end } = self.columns;
        let mut column = start;
        std::iter::from_fn(move || {
            let (at, tile) = (column - start, column % count);
            let len = (across - tile % across).min(end - column).min(lanes - at % lanes);
            let run = Run { column: at, sample: column / count, y: tile / across, x: tile % across, len };
            column += len;
            (len > 0).then_some(run)
        })
    }

    /// Computes Bᵀ·d·B for each channel and tile, [position][channel][width].
    #[inline(always)]
    fn transform<S: Simd>(&self, simd: S, runs: &[Run], into: &mut [f32]) {
        let (c_in, width, cols) = (self.shape.c_in, panel_width::<S>(), self.x.cols);
        for runs in runs.chunk_by(|a, b| a.sample == b.sample) {
            let (first, last) = (runs[0], runs[runs.len() - 1]);
            // The rows that these tiles read; vectors may end past the last of them.
            let rows = 2 * (last.y - first.y) + SIDE;
            let mut strip = Scratch::zeroed(rows * cols + 2 * S::LANES);
            for c in 0..c_in {
                for (row, to) in strip[..rows * cols].chunks_exact_mut(cols).enumerate() {
                    // Rows of padding are the same in every channel.
                    self.x.copy(simd, first.sample * c_in + c, 2 * first.y + row, to);
                }
                for run in runs {
                    let at = 2 * (run.y - first.y) * cols + 2 * run.x;
                    assert!(at + (SIDE - 1) * cols + SIDE - 2 + 2 * S::LANES <= strip.len());
                    assert!(((SIDE * SIDE - 1) * c_in + c) * width + run.column + run.len <= into.len());
                    let mut columns = [[simd.splat(0.0); SIDE]; SIDE];
                    for (s, [even, odd]) in columns.as_chunks_mut().0.iter_mut().enumerate() {
                        for (r, (even, odd)) in even.iter_mut().zip(odd).enumerate() {
                            // SAFETY: the largest offsets read lie in the strip, as asserted.
                            let (low, high) = unsafe {
                                let from = strip.as_ptr().add(at + r * cols + 2 * s);
                                (simd.load(from), simd.load(from.add(S::LANES)))
                            };
                            (*even, *odd) = simd.deinterleave(low, high);
                        }
                    }
                    let mut rows = [[simd.splat(0.0); SIDE]; SIDE];
                    for (s, pixels) in columns.into_iter().enumerate() {
                        for (row, value) in rows.iter_mut().zip(F::input(simd, pixels)) {
                            row[s] = value;
                        }
                    }
                    for (i, row) in rows.into_iter().enumerate() {
                        for (j, value) in F::input(simd, row).into_iter().enumerate() {
                            let at = ((i * SIDE + j) * c_in + c) * width + run.column;
                            // SAFETY: the largest offsets written lie in `into`, as asserted.
                            unsafe { simd.store_first(into.as_mut_ptr().add(at), run.len, value) };
                        }
                    }
                }
            }
        }
    }

    /// Writes f(Aᵀ·m·A + bias) for each filter of `panels` and each tile, from sums
    /// [position][filter][width].
    #[inline(always)]
    fn finish<S: Simd>(&self, simd: S, runs: &[Run], panels: Range<usize>, sums: &[f32]) {
        let &ConvShape { c_out, oh, ow, .. } = self.shape;
        let (rows, width) = (panels.len() * TILE_ROWS, panel_width::<S>());
        let first = panels.start * TILE_ROWS;
        let clamp = Clamp::of(self.activation);
        assert!(sums.len() == SIDE * SIDE * rows * width);
        for o in first..c_out.min(first + rows) {
            let bias = simd.splat(self.bias.map_or(0.0, |bias| bias[o]));
            for &Run { column, sample, y, x, len } in runs {
                let (y, x) = (2 * y, 2 * x);
                let at = (o - first) * width + column;
                assert!(column + len <= width);
                let mut both = [[simd.splat(0.0); SIDE]; 2];
                for j in 0..SIDE {
                    let mut column = [simd.splat(0.0); SIDE];
                    for (i, m) in column.iter_mut().enumerate() {
                        let position = (i * SIDE + j) * rows * width;
                        // SAFETY: the run lies in the filter's row of this position, as asserted.
                        *m = unsafe { simd.load_first(sums.as_ptr().add(position + at), len) };
                    }
                    for (row, value) in both.iter_mut().zip(F::output(simd, column)) {
                        row[j] = value;
                    }
                }
                for (i, row) in both.into_iter().enumerate().take(oh - y) {
                    let [even, odd] = F::output(simd, row);
                    let (low, high) = simd.interleave(simd.add(even, bias), simd.add(odd, bias));
                    let to = ((sample * c_out + o) * oh + y + i) * ow + x;
                    let len = (2 * len).min(ow - x);
                    // SAFETY: no other task writes these tiles of these filters; a vector has sixteen values at most.
                    unsafe {
                        if let Some(clamp) = clamp {
                            let to = self.y.part(to, len).as_mut_ptr();
                            simd.store_first(to, len.min(S::LANES), clamp.apply(simd, low));
                            let more = len.saturating_sub(S::LANES);
                            simd.store_first(to.wrapping_add(S::LANES), more, clamp.apply(simd, high));
                        } else {
                            let mut row = [0.0; 32];
                            simd.store(row.as_mut_ptr(), low);
                            simd.store(row.as_mut_ptr().add(S::LANES), high);
                            elementwise::activate::<S>(&mut row[..2 * S::LANES], self.activation);
                            self.y.write(to, &row[..len]);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Conv2dConfig;
    use crate::cpu::plan::{Dense, Forward};

    #[test]
    fn tiles_are_sums_over_windows() {
        let lopsided = Padding2d { top: 2, bottom: 0, left: 1, right: 2 };
        // (batch, channels in and out, height, width, kernel, padding, tolerance relative to
        // the sum of the terms' magnitudes)
        for (batch, c_in, c_out, (h, w), k, padding, tolerance) in [
            (2, 16, 17, (9, 9), 3, Padding2d::none(), 1e-6),
            (1, 19, 40, (13, 31), 3, Padding2d::symmetric(1, 1), 1e-6),
            (3, 400, 16, (6, 7), 3, lopsided, 1e-6),
            (2, 16, 17, (11, 12), 5, Padding2d::none(), 2e-6),
            (1, 19, 140, (13, 31), 5, Padding2d::symmetric(2, 2), 2e-6),
            (3, 400, 16, (8, 9), 5, lopsided, 2e-6),
        ] {
            let config = Conv2dConfig { padding, ..Conv2dConfig::default() };
            let (oh, ow) =
                (h + padding.top + padding.bottom + 1 - k, w + padding.left + padding.right + 1 - k);
            let shape = ConvShape { batch, c_in, h, w, c_out, kh: k, kw: k, oh, ow, config };
            let Forward::Dense(Dense::Winograd(form)) = plan::forward(&shape) else {
                panic!("Winograd is not chosen for {shape:?}");
            };
            let value = |i: usize, step: usize| ((i * step % 101) as f32 - 50.0) / 50.0;
            let x: Vec<f32> = (0..batch * c_in * h * w).map(|i| value(i, 37)).collect();
            let weight: Vec<f32> = (0..c_out * c_in * k * k).map(|i| value(i, 29)).collect();
            let bias: Vec<f32> = (0..c_out).map(|i| value(i, 13)).collect();
            let scale: Vec<f32> = (0..c_out).map(|i| 1.0 + value(i, 7)).collect();
            let winograd = Winograd::new(form, &shape, &weight, Some(&scale));
            let [y, curved] = [Activation::Relu, Activation::Silu].map(|activation| {
                let mut y = vec![f32::NAN; batch * c_out * oh * ow];
                winograd.forward(&shape, LazyMap::stored(&x), Some(&bias), activation, &mut y);
                y
            });
            for (index, (&found, &curved)) in y.iter().zip(&curved).enumerate() {
                let (sample, o) = (index / (c_out * oh * ow), index / (oh * ow) % c_out);
                let (i, j) = (index / ow % oh, index % ow);
                let (mut sum, mut size) = (f64::from(bias[o]), f64::from(bias[o].abs()));
                for c in 0..c_in {
                    for (element, &weight) in weight[(o * c_in + c) * k * k..][..k * k].iter().enumerate() {
                        let row = (i + element / k).checked_sub(padding.top).filter(|&row| row < h);
                        let col = (j + element % k).checked_sub(padding.left).filter(|&col| col < w);
                        if let (Some(row), Some(col)) = (row, col) {
                            let x = x[((sample * c_in + c) * h + row) * w + col];
                            let term = f64::from(weight * scale[o]) * f64::from(x);
                            sum += term;
                            size += term.abs();
                        }
                    }
                }
                assert!(
                    (f64::from(found) - sum.max(0.0)).abs() <= tolerance * size,
                    "{found} for {sum} of {size}"
                );
                let silu = sum / (1.0 + (-sum).exp());
                // Its slope is 1.1 at most.
                assert!(
                    (f64::from(curved) - silu).abs() <= 1.1 * tolerance * size,
                    "{curved} for {silu} of {size}"
                );
            }
        }
    }
}
