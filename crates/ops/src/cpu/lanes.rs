//! Convolutions of samples side by side: each lane of a vector is a sample, so that neither the rows of a small map nor
//! its channels leave lanes empty, and nothing is unfolded.
//!
//! A block of as many samples as vectors have lanes is laid out (channel, row, column, lane). A pixel's place is counted
//! in vectors.

use super::simd::{Simd, lanes, transpose};
use crate::config::Padding2d;
use crate::shape::ConvShape;

/// Copies at most `LANES` samples, each of `channels` planes of `h` × `w`, into a block of planes with a rim of zeros.
/// Lanes without a sample are zeros.
#[inline(always)]
pub(crate) fn into_lanes<S: Simd>(
    simd: S,
    samples: &[f32],
    (channels, h, w): (usize, usize, usize),
    rim: Padding2d,
    block: &mut [f32],
) {
    let len = channels * h * w;
    let count = samples.len() / len;
    let (rows, cols) = (h + rim.top + rim.bottom, w + rim.left + rim.right);
    assert!(count <= S::LANES && block.len() == channels * rows * cols * S::LANES);
    if count < S::LANES || rim != Padding2d::none() {
        block.fill(0.0);
    }
    if rim == Padding2d::none() {
        transpose(simd, (count, len), (samples, len), (block, S::LANES));
        return;
    }
    for row in 0..channels * h {
        let (channel, y) = (row / h, row % h);
        let place = (channel * rows + rim.top + y) * cols + rim.left;
        transpose(simd, (count, w), (&samples[row * w..], len), (&mut block[place * S::LANES..], S::LANES));
    }
}

/// Copies the samples of a block without a rim to where they lie one after the other, as many as there is room for.
#[inline(always)]
pub(crate) fn out_of_lanes<S: Simd>(simd: S, block: &[f32], samples: &mut [f32]) {
    let len = block.len() / S::LANES;
    transpose(simd, (len, samples.len() / len), (block, S::LANES), (samples, len));
}

/// Where the windows of a convolution lie in a block.
struct Windows {
    groups: usize,
    /// Of a group's window, from the window's place on.
    taps: Vec<usize>,
    /// Of each output pixel's window.
    places: Vec<usize>,
    /// From one group's input to the next's.
    group_stride: usize,
}

impl Windows {
    /// One past the furthest place in a block.
    fn end(&self) -> usize {
        let furthest = |places: &[usize]| places.iter().max().copied().unwrap_or(0);
        (self.groups - 1) * self.group_stride + furthest(&self.taps) + furthest(&self.places) + 1
    }
}

/// Output channels that a tile holds: multiples of three or of four, whichever waste less.
fn tile_rows(channels: usize) -> usize {
    let most = if lanes() == 16 { 8 } else { 4 };
    let fewer = most / 4 * 3;
    if channels.next_multiple_of(fewer) < channels.next_multiple_of(most) { fewer } else { most }
}

/// Pixels or taps that a tile holds beside rows in multiples of three or of four: as many as registers have room for.
type TileCols = [usize; 2];

const PIXELS: TileCols = [4, 3];
/// Fewer, since a tile of sums over pixels needs registers for the slopes of all its rows.
const TAPS: TileCols = [3, 2];

const fn tile_cols(cols: TileCols, tile_rows: usize) -> usize {
    if tile_rows.is_multiple_of(3) { cols[0] } else { cols[1] }
}

/// Calls `$f::<S, R, N>` for tiles of `$rows` = R rows.
macro_rules! for_tile {
    ($cols:ident, $rows:expr, $f:ident $arguments:tt) => {
        match (S::LANES, $rows) {
            (16, 6) => $f::<S, 6, { $cols[0] }> $arguments,
            (16, 8) => $f::<S, 8, { $cols[1] }> $arguments,
            (8, 3) => $f::<S, 3, { $cols[0] }> $arguments,
            (8, 4) => $f::<S, 4, { $cols[1] }> $arguments,
            (lanes, rows) => unreachable!("a tile of {rows} rows was made for other vectors than those of {lanes} lanes"),
        }
    };
}

/// A convolution of blocks.
pub(crate) struct Convolution {
    windows: Windows,
    /// Output channels of a group.
    rows: usize,
    tile_rows: usize,
    /// [group][tile][tap][row of the tile]; rows beyond the last repeat it.
    weights: Vec<f32>,
}

impl Convolution {
    /// `weight` gives that of an output channel of a group at a tap.
    fn new(windows: Windows, rows: usize, weight: impl Fn(usize, usize, usize) -> f32) -> Self {
        let tile_rows = tile_rows(rows);
        let mut weights = Vec::new();
        for group in 0..windows.groups {
            for first in (0..rows).step_by(tile_rows) {
                for tap in 0..windows.taps.len() {
                    let of_row = |row: usize| weight(group, row.min(rows - 1), tap);
                    weights.extend((first..first + tile_rows).map(of_row));
                }
            }
        }
        Self { windows, rows, tile_rows, weights }
    }

    /// w ∗ x of padded blocks.
    pub(crate) fn forward(shape: &ConvShape, weight: &[f32]) -> Self {
        let windows = of_input(shape);
        let (rows, taps) = (shape.c_out / shape.config.groups, windows.taps.len());
        Self::new(windows, rows, |group, row, tap| weight[(group * rows + row) * taps + tap])
    }

    /// The gradient for the input from [`Spread`] slopes with rims.
    pub(crate) fn x_grad(shape: &ConvShape, weight: &[f32]) -> Self {
        let &ConvShape { c_in, h, w, c_out, kh, kw, config, .. } = shape;
        let (groups, (dy, dx)) = (config.groups, config.dilation);
        let (group_in, group_out) = (c_in / groups, c_out / groups);
        let (reach_y, reach_x) = reach(shape);
        let (rows, cols) = (h + reach_y, w + reach_x);
        let place = |o: usize, y: usize, x: usize| (o * rows + y) * cols + x;
        let taps = grid(group_out, kh, kw).map(|(o, ky, kx)| place(o, reach_y - ky * dy, reach_x - kx * dx));
        let windows = Windows {
            groups,
            taps: taps.collect(),
            places: grid(1, h, w).map(|(_, y, x)| place(0, y, x)).collect(),
            group_stride: place(group_out, 0, 0),
        };
        let size = kh * kw;
        Self::new(windows, group_in, |group, row, tap| {
            weight[((group * group_out + tap / size) * group_in + row) * size + tap % size]
        })
    }

    /// A block's result, (output channel, pixel, lane), each channel's from its `bias` on.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(&self, simd: S, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let Self { windows, rows, tile_rows, weights } = self;
        let Windows { groups, taps, places, group_stride } = windows;
        let plane = places.len() * S::LANES;
        assert!(windows.end() * S::LANES <= x.len() && out.len() == groups * rows * plane);
        assert!(bias.is_none_or(|bias| bias.len() == groups * rows));
        let tiles = rows.div_ceil(*tile_rows);
        for group in 0..*groups {
            let x = &x[group * group_stride * S::LANES..];
            for first_pixel in (0..places.len()).step_by(tile_cols(PIXELS, *tile_rows)) {
                for tile in 0..tiles {
                    let len = taps.len() * tile_rows;
                    let weights = &weights[(group * tiles + tile) * len..][..len];
                    let to = Tile { group, rows: *rows, first_row: tile * tile_rows, first_pixel };
                    // SAFETY: each tap of each window of each group lies in `x`, each pixel of each channel in `out`,
                    // each channel in `bias`, as asserted.
                    unsafe {
                        for_tile!(PIXELS, *tile_rows, sum_windows(simd, windows, weights, x, bias, to, out))
                    };
                }
            }
        }
    }
}

/// Which sums [`sum_windows`] takes.
#[derive(Clone, Copy)]
struct Tile {
    group: usize,
    /// Of a group.
    rows: usize,
    first_row: usize,
    first_pixel: usize,
}

/// `R` output channels at `N` pixels; those beyond the last are the last once more. `x` begins with the tile's group.
///
/// # Safety
/// Each tap of each place lies in `x`, each pixel of each channel in `out`, and each channel in `bias`; `weights` has `R`
/// values for each tap, and there is a pixel and a row.
#[inline(always)]
unsafe fn sum_windows<S: Simd, const R: usize, const N: usize>(
    simd: S,
    windows: &Windows,
    weights: &[f32],
    x: &[f32],
    bias: Option<&[f32]>,
    tile: Tile,
    out: &mut [f32],
) {
    let Windows { taps, places, .. } = windows;
    let pixels: [usize; N] = std::array::from_fn(|i| (tile.first_pixel + i).min(places.len() - 1));
    let channels: [usize; R] =
        std::array::from_fn(|r| tile.group * tile.rows + (tile.first_row + r).min(tile.rows - 1));
    // SAFETY: by this function's contract.
    unsafe {
        let windows = pixels.map(|p| x.as_ptr().add(places[p] * S::LANES));
        let mut sums: [[S::V; N]; R] = std::array::from_fn(|r| {
            [simd.splat(bias.map_or(0.0, |bias| *bias.get_unchecked(channels[r]))); N]
        });
        let mut weights = weights.as_ptr();
        for tap in taps {
            let values: [S::V; N] = std::array::from_fn(|i| simd.load(windows[i].add(tap * S::LANES)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let weight = simd.splat(*weights.add(r));
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = simd.mul_add(weight, value, *sum);
                }
            }
            weights = weights.add(R);
        }
        for (sums, channel) in sums.iter().zip(channels) {
            for (&sum, pixel) in sums.iter().zip(pixels) {
                simd.store(out.as_mut_ptr().add((channel * places.len() + pixel) * S::LANES), sum);
            }
        }
    }
}

/// Slopes of a convolution's result in a block of their own: as they are, or where a convolution with the turned weights
/// finds them, strides apart within a rim.
pub(crate) struct Spread {
    rows: usize,
    cols: usize,
    /// Of each pixel of the result, its place; none for one whose window sees only the rim.
    places: Vec<Option<usize>>,
}

impl Spread {
    /// As they are.
    pub(crate) fn plain(shape: &ConvShape) -> Self {
        let places = (0..shape.oh * shape.ow).map(Some).collect();
        Self { rows: shape.oh, cols: shape.ow, places }
    }

    /// For [`Convolution::x_grad`].
    pub(crate) fn rimmed(shape: &ConvShape) -> Self {
        let &ConvShape { h, w, oh, ow, config, .. } = shape;
        let (reach_y, reach_x) = reach(shape);
        let (rows, cols) = (h + reach_y, w + reach_x);
        let within = |at: usize, reach: usize, before: usize, size: usize| {
            (at + reach).checked_sub(before).filter(|&at| at < size)
        };
        let place = |(_, y, x): (usize, usize, usize)| {
            let y = within(y * config.stride.0, reach_y, config.padding.top, rows)?;
            let x = within(x * config.stride.1, reach_x, config.padding.left, cols)?;
            Some(y * cols + x)
        };
        Self { rows, cols, places: grid(1, oh, ow).map(place).collect() }
    }

    /// Vectors of a channel.
    pub(crate) fn plane(&self) -> usize {
        self.rows * self.cols
    }

    /// One channel's slopes to their places, over zeros.
    #[inline(always)]
    pub(crate) fn put<S: Simd>(&self, slopes: &[f32], plane: &mut [f32]) {
        let (vectors, places) = (slopes.chunks_exact(S::LANES), &self.places);
        for (from, place) in vectors.zip(places).filter_map(|(from, place)| Some((from, (*place)?))) {
            plane[place * S::LANES..][..S::LANES].copy_from_slice(from);
        }
    }
}

/// The sums over samples and pixels that make the gradient of a convolution's weights.
pub(crate) struct WeightGrad {
    windows: Windows,
    /// Output channels of a group.
    rows: usize,
    tile_rows: usize,
    /// Of each pixel whose window sees the input: its window's place, and that of its slopes.
    pixels: Vec<(usize, usize)>,
    slopes_plane: usize,
}

impl WeightGrad {
    /// From slopes in `spread`.
    pub(crate) fn new(shape: &ConvShape, spread: &Spread) -> Self {
        let windows = of_input(shape);
        let pairs = windows.places.iter().zip(&spread.places);
        let pixels = pairs.filter_map(|(&window, slope)| Some((window, (*slope)?))).collect();
        let rows = shape.c_out / shape.config.groups;
        Self { windows, rows, tile_rows: tile_rows(rows), pixels, slopes_plane: spread.plane() }
    }

    /// Vectors of sums of one group.
    fn group_sums(&self) -> usize {
        let tile_taps = tile_cols(TAPS, self.tile_rows);
        self.rows.next_multiple_of(self.tile_rows) * self.windows.taps.len().next_multiple_of(tile_taps)
    }

    /// The sums of a block, one after the other as the weights lie, with room for them before lanes are added up.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(&self, simd: S, x: &[f32], slopes: &[f32], room: &mut [f32]) -> Vec<f32> {
        /// Pixels that are visited for one tile before the next, so that they stay in the nearest cache.
        const STRIP: usize = 64;
        let Self { windows, rows, tile_rows, pixels, slopes_plane } = self;
        let (rows, tile_rows, tile_taps) = (*rows, *tile_rows, tile_cols(TAPS, *tile_rows));
        let Windows { groups, taps, group_stride, .. } = windows;
        let furthest = pixels.iter().map(|pixel| pixel.1 + 1).max().unwrap_or(0);
        assert!(windows.end() * S::LANES <= x.len() && furthest <= *slopes_plane);
        assert!(slopes.len() == groups * rows * slopes_plane * S::LANES && room.len() == self.room(S::LANES));
        let tile = tile_rows * tile_taps;
        let (sums, turned) = room.split_at_mut(room.len() / 2);
        let group_sums = self.group_sums();
        sums.fill(0.0);
        for (group, sums) in sums.chunks_exact_mut(group_sums * S::LANES).enumerate() {
            let x = &x[group * group_stride * S::LANES..];
            let slopes = &slopes[group * rows * slopes_plane * S::LANES..];
            for strip in pixels.chunks(STRIP) {
                let mut sums = sums.chunks_exact_mut(tile * S::LANES);
                for first_row in (0..rows).step_by(tile_rows) {
                    let planes = |r: usize| (first_row + r).min(rows - 1) * slopes_plane;
                    for (first_tap, sums) in (0..taps.len()).step_by(tile_taps).zip(&mut sums) {
                        // SAFETY: each tap of each window of each group lies in `x`, each pixel of each channel in
                        // `slopes`, as asserted; `sums` has a tile.
                        unsafe {
                            for_tile!(
                                TAPS,
                                tile_rows,
                                sum_pixels(simd, x, &taps[first_tap..], slopes, planes, strip, sums)
                            );
                        }
                    }
                }
            }
        }
        let vectors = groups * group_sums;
        transpose(simd, (vectors, S::LANES), (sums, S::LANES), (&mut *turned, vectors));
        let (total, others) = turned.split_at_mut(vectors);
        for lane in others.chunks_exact(vectors) {
            super::elementwise::add(total, lane);
        }
        let place = |(row, tap): (usize, usize)| {
            let tiles = taps.len().div_ceil(tile_taps);
            let tile_at = row / tile_rows * tiles + tap / tile_taps;
            tile_at * tile + row % tile_rows * tile_taps + tap % tile_taps
        };
        let each = |group: usize| {
            let sums = &total[group * group_sums..][..group_sums];
            (0..rows).flat_map(move |row| (0..taps.len()).map(move |tap| sums[place((row, tap))]))
        };
        (0..*groups).flat_map(each).collect()
    }

    /// Values that [`Self::run`] needs room for.
    pub(crate) fn room(&self, lanes: usize) -> usize {
        2 * self.windows.groups * self.group_sums() * lanes
    }
}

/// Adds, for `R` channels of slopes and the first `N` of `taps`, their products at some pixels to `sums`,
/// [row][tap][lane]; taps beyond the last are the last once more.
///
/// # Safety
/// Each tap of each window lies in `x`, each pixel of each of the planes in `slopes`; `sums` has `R`·`N` vectors.
#[inline(always)]
unsafe fn sum_pixels<S: Simd, const R: usize, const N: usize>(
    simd: S,
    x: &[f32],
    taps: &[usize],
    slopes: &[f32],
    planes: impl Fn(usize) -> usize,
    pixels: &[(usize, usize)],
    sums: &mut [f32],
) {
    // SAFETY: by this function's contract.
    unsafe {
        let taps: [*const f32; N] =
            std::array::from_fn(|i| x.as_ptr().add(taps[i.min(taps.len() - 1)] * S::LANES));
        let planes: [usize; R] = std::array::from_fn(|r| planes(r) * S::LANES);
        let at = |r: usize, i: usize| (r * N + i) * S::LANES;
        let mut totals: [[S::V; N]; R] =
            std::array::from_fn(|r| std::array::from_fn(|i| simd.load(sums.as_ptr().add(at(r, i)))));
        for &(window, slope) in pixels {
            let values: [S::V; N] = std::array::from_fn(|i| simd.load(taps[i].add(window * S::LANES)));
            let slopes = slopes.as_ptr().add(slope * S::LANES);
            for (totals, plane) in totals.iter_mut().zip(planes) {
                let slope = simd.load(slopes.add(plane));
                for (total, value) in totals.iter_mut().zip(values) {
                    *total = simd.mul_add(slope, value, *total);
                }
            }
        }
        for (r, totals) in totals.iter().enumerate() {
            for (i, &total) in totals.iter().enumerate() {
                simd.store(sums.as_mut_ptr().add(at(r, i)), total);
            }
        }
    }
}

/// Pixels between the first and the last tap of a window, down and across.
fn reach(shape: &ConvShape) -> (usize, usize) {
    let (dy, dx) = shape.config.dilation;
    ((shape.kh - 1) * dy, (shape.kw - 1) * dx)
}

/// Values of a sample's slopes in [`Spread::rimmed`], or the largest number if they are more.
pub(crate) fn rimmed_len(shape: &ConvShape) -> usize {
    let (reach_y, reach_x) = reach(shape);
    shape.c_out.saturating_mul(shape.h + reach_y).saturating_mul(shape.w + reach_x)
}

/// The windows of a convolution in its padded input.
fn of_input(shape: &ConvShape) -> Windows {
    let &ConvShape { c_in, kh, kw, oh, ow, config, .. } = shape;
    let (rows, cols, group_in) = (shape.padded_h(), shape.padded_w(), c_in / config.groups);
    let place = |c: usize, y: usize, x: usize| (c * rows + y) * cols + x;
    let taps = grid(group_in, kh, kw).map(|(c, y, x)| place(c, y * config.dilation.0, x * config.dilation.1));
    let places = grid(1, oh, ow).map(|(_, y, x)| place(0, y * config.stride.0, x * config.stride.1));
    Windows {
        groups: config.groups,
        taps: taps.collect(),
        places: places.collect(),
        group_stride: place(group_in, 0, 0),
    }
}

/// All (plane, row, column), row after row.
fn grid(planes: usize, rows: usize, cols: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..planes * rows * cols).map(move |i| (i / cols / rows, i / cols % rows, i % cols))
}
