//! Convolutions of a block of samples, one per vector lane, so that neither short rows nor few
//! channels leave lanes empty, and nothing is unfolded.
//!
//! A block of as many samples as a vector has lanes is laid out (channel, row, column, lane). Offsets
//! of pixels count vectors.

use crate::config::Padding2d;
use crate::cpu::simd::{Simd, lanes, transpose};
use crate::shape::ConvShape;

/// Copies at most `LANES` samples, each of `channels` planes of `h` × `w`, to a block with padding.
/// Lanes without a sample are zeros.
#[inline(always)]
pub(crate) fn to_lanes<S: Simd>(
    simd: S,
    samples: &[f32],
    (channels, h, w): (usize, usize, usize),
    padding: Padding2d,
    block: &mut [f32],
) {
    let len = channels * h * w;
    let count = samples.len() / len;
    let (rows, cols) = (h + padding.top + padding.bottom, w + padding.left + padding.right);
    assert!(count <= S::LANES && block.len() == channels * rows * cols * S::LANES);
    if count < S::LANES || padding != Padding2d::none() {
        block.fill(0.0);
    }
    if padding == Padding2d::none() {
        transpose(simd, (count, len), (samples, len), (block, S::LANES));
        return;
    }
    for row in 0..channels * h {
        let (channel, y) = (row / h, row % h);
        let offset = (channel * rows + padding.top + y) * cols + padding.left;
        transpose(simd, (count, w), (&samples[row * w..], len), (&mut block[offset * S::LANES..], S::LANES));
    }
}

/// Copies the samples of a block without padding to consecutive memory, as many as `samples` holds.
#[inline(always)]
pub(crate) fn from_lanes<S: Simd>(simd: S, block: &[f32], samples: &mut [f32]) {
    let len = block.len() / S::LANES;
    transpose(simd, (len, samples.len() / len), (block, S::LANES), (samples, len));
}

/// The offsets of a convolution's windows in a block.
struct Windows {
    groups: usize,
    /// Offsets of a group's kernel elements from the start of the window.
    kernel_offsets: Vec<usize>,
    /// The start of each output pixel's window.
    pixel_offsets: Vec<usize>,
    /// Distance from one group's input to the next's.
    group_stride: usize,
}

impl Windows {
    /// One past the largest offset in a block.
    fn end(&self) -> usize {
        let furthest = |pixel_offsets: &[usize]| pixel_offsets.iter().max().copied().unwrap_or(0);
        (self.groups - 1) * self.group_stride
            + furthest(&self.kernel_offsets)
            + furthest(&self.pixel_offsets)
            + 1
    }
}

/// Number of output channels in a tile: a multiple of three or of four, whichever wastes less.
fn tile_rows(channels: usize) -> usize {
    let most = if lanes() == 16 { 8 } else { 4 };
    let fewer = most / 4 * 3;
    if channels.next_multiple_of(fewer) < channels.next_multiple_of(most) { fewer } else { most }
}

/// Number of pixels or kernel elements in a tile with a multiple of three and of four rows: as many
/// as there are registers for.
type TileCols = [usize; 2];

const PIXELS: TileCols = [4, 3];
/// Fewer, since a tile of sums over pixels needs registers for the gradients of all its rows.
const ELEMENTS: TileCols = [3, 2];

const fn tile_cols(cols: TileCols, tile_rows: usize) -> usize {
    if tile_rows.is_multiple_of(3) { cols[0] } else { cols[1] }
}

/// Calls `$f::<S, R, N>` for tiles of R = `$rows` rows.
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

/// A convolution of blocks of samples.
pub(crate) struct LaneConv {
    windows: Windows,
    /// Number of output channels of a group.
    rows: usize,
    tile_rows: usize,
    /// [group][tile][element][row of the tile]; rows after the last repeat it.
    weights: Vec<f32>,
}

impl LaneConv {
    /// `weight` maps (group, output channel of the group, kernel element) to a weight.
    fn new(windows: Windows, rows: usize, weight: impl Fn(usize, usize, usize) -> f32) -> Self {
        let tile_rows = tile_rows(rows);
        let mut weights = Vec::new();
        for group in 0..windows.groups {
            for first in (0..rows).step_by(tile_rows) {
                for element in 0..windows.kernel_offsets.len() {
                    let of_row = |row: usize| weight(group, row.min(rows - 1), element);
                    weights.extend((first..first + tile_rows).map(of_row));
                }
            }
        }
        Self { windows, rows, tile_rows, weights }
    }

    /// The convolution w ∗ x of padded blocks.
    pub(crate) fn forward(shape: &ConvShape, weight: &[f32]) -> Self {
        let windows = input_windows(shape);
        let (rows, kernel_offsets) = (shape.c_out / shape.config.groups, windows.kernel_offsets.len());
        Self::new(windows, rows, |group, row, element| {
            weight[(group * rows + row) * kernel_offsets + element]
        })
    }

    /// The gradient of the input as a convolution of gradients in the layout
    /// [`GradLayout::dilated`].
    pub(crate) fn input_grad(shape: &ConvShape, weight: &[f32]) -> Self {
        let &ConvShape { c_in, h, w, c_out, kh, kw, config, .. } = shape;
        let (groups, (dy, dx)) = (config.groups, config.dilation);
        let (group_in, group_out) = (c_in / groups, c_out / groups);
        let (reach_y, reach_x) = shape.reach();
        let (rows, cols) = (h + reach_y, w + reach_x);
        let offset = |o: usize, y: usize, x: usize| (o * rows + y) * cols + x;
        let kernel_offsets =
            grid(group_out, kh, kw).map(|(o, ky, kx)| offset(o, reach_y - ky * dy, reach_x - kx * dx));
        let windows = Windows {
            groups,
            kernel_offsets: kernel_offsets.collect(),
            pixel_offsets: grid(1, h, w).map(|(_, y, x)| offset(0, y, x)).collect(),
            group_stride: offset(group_out, 0, 0),
        };
        let size = kh * kw;
        Self::new(windows, group_in, |group, row, element| {
            weight[((group * group_out + element / size) * group_in + row) * size + element % size]
        })
    }

    /// Computes a block of outputs, (output channel, pixel, lane), with one `bias` per channel.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(&self, simd: S, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let Self { windows, rows, tile_rows, weights } = self;
        let Windows { groups, kernel_offsets, pixel_offsets, group_stride } = windows;
        let plane = pixel_offsets.len() * S::LANES;
        assert!(windows.end() * S::LANES <= x.len() && out.len() == groups * rows * plane);
        assert!(bias.is_none_or(|bias| bias.len() == groups * rows));
        let tiles = rows.div_ceil(*tile_rows);
        for group in 0..*groups {
            let x = &x[group * group_stride * S::LANES..];
            for first_pixel in (0..pixel_offsets.len()).step_by(tile_cols(PIXELS, *tile_rows)) {
                for tile in 0..tiles {
                    let len = kernel_offsets.len() * tile_rows;
                    let weights = &weights[(group * tiles + tile) * len..][..len];
                    let to = Tile { group, rows: *rows, first_row: tile * tile_rows, first_pixel };
                    // SAFETY: each kernel element of each window of each group
                    // lies in `x`, each pixel of each channel in `out`, and each
                    // channel in `bias`, as asserted.
                    unsafe {
                        for_tile!(PIXELS, *tile_rows, sum_windows(simd, windows, weights, x, bias, to, out))
                    };
                }
            }
        }
    }
}

/// The position of a tile of [`sum_windows`].
#[derive(Clone, Copy)]
struct Tile {
    group: usize,
    /// Number of output channels of the group.
    rows: usize,
    first_row: usize,
    first_pixel: usize,
}

/// Computes `R` output channels at `N` pixels; those past the last one repeat it. `x` starts at the
/// tile's group.
///
/// # Safety
/// Each kernel element of each window lies in `x`, each pixel of each channel in `out`, and each
/// channel in `bias`; `weights` has `R` values per kernel element; there is at least one pixel and
/// one row.
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
    let Windows { kernel_offsets, pixel_offsets, .. } = windows;
    let pixels: [usize; N] = std::array::from_fn(|i| (tile.first_pixel + i).min(pixel_offsets.len() - 1));
    let channels: [usize; R] =
        std::array::from_fn(|r| tile.group * tile.rows + (tile.first_row + r).min(tile.rows - 1));
    // SAFETY: by this function's contract.
    unsafe {
        let windows = pixels.map(|p| x.as_ptr().add(pixel_offsets[p] * S::LANES));
        let mut sums: [[S::V; N]; R] = std::array::from_fn(|r| {
            [simd.splat(bias.map_or(0.0, |bias| *bias.get_unchecked(channels[r]))); N]
        });
        let mut weights = weights.as_ptr();
        for element in kernel_offsets {
            let values: [S::V; N] = std::array::from_fn(|i| simd.load(windows[i].add(element * S::LANES)));
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
                simd.store(out.as_mut_ptr().add((channel * pixel_offsets.len() + pixel) * S::LANES), sum);
            }
        }
    }
}

/// The layout of the output's gradient in a block of its own: dense, or dilated by the stride and
/// padded, as the convolution by the flipped kernels reads it.
pub(crate) struct GradLayout {
    rows: usize,
    cols: usize,
    /// The offset of each output pixel, or none if its window lies in the padding.
    pixel_offsets: Vec<Option<usize>>,
}

impl GradLayout {
    /// The layout of the output itself.
    pub(crate) fn dense(shape: &ConvShape) -> Self {
        let pixel_offsets = (0..shape.oh * shape.ow).map(Some).collect();
        Self { rows: shape.oh, cols: shape.ow, pixel_offsets }
    }

    /// The layout for [`LaneConv::input_grad`].
    pub(crate) fn dilated(shape: &ConvShape) -> Self {
        let &ConvShape { h, w, oh, ow, config, .. } = shape;
        let (reach_y, reach_x) = shape.reach();
        let (rows, cols) = (h + reach_y, w + reach_x);
        let within = |at: usize, reach: usize, before: usize, size: usize| {
            (at + reach).checked_sub(before).filter(|&at| at < size)
        };
        let offset = |(_, y, x): (usize, usize, usize)| {
            let y = within(y * config.stride.0, reach_y, config.padding.top, rows)?;
            let x = within(x * config.stride.1, reach_x, config.padding.left, cols)?;
            Some(y * cols + x)
        };
        Self { rows, cols, pixel_offsets: grid(1, oh, ow).map(offset).collect() }
    }

    /// Number of vectors of a channel.
    pub(crate) fn plane(&self) -> usize {
        self.rows * self.cols
    }

    /// Writes one channel's gradients to their offsets in a plane of zeros.
    #[inline(always)]
    pub(crate) fn scatter<S: Simd>(&self, grad_output: &[f32], plane: &mut [f32]) {
        let (vectors, pixel_offsets) = (grad_output.chunks_exact(S::LANES), &self.pixel_offsets);
        for (from, offset) in vectors.zip(pixel_offsets).filter_map(|(from, offset)| Some((from, (*offset)?)))
        {
            plane[offset * S::LANES..][..S::LANES].copy_from_slice(from);
        }
    }
}

/// The gradient of a convolution's weights: sums over samples and pixels.
pub(crate) struct WeightGrad {
    windows: Windows,
    /// Number of output channels of a group.
    rows: usize,
    tile_rows: usize,
    /// For each pixel whose window reads the input: the offsets of its window and of its
    /// gradient.
    pixels: Vec<(usize, usize)>,
    grad_plane: usize,
}

impl WeightGrad {
    /// For gradients in `layout`.
    pub(crate) fn new(shape: &ConvShape, layout: &GradLayout) -> Self {
        let windows = input_windows(shape);
        let pairs = windows.pixel_offsets.iter().zip(&layout.pixel_offsets);
        let pixels = pairs.filter_map(|(&window, grad)| Some((window, (*grad)?))).collect();
        let rows = shape.c_out / shape.config.groups;
        Self { windows, rows, tile_rows: tile_rows(rows), pixels, grad_plane: layout.plane() }
    }

    /// Number of vectors of sums of one group.
    fn group_sums(&self) -> usize {
        let tile_elements = tile_cols(ELEMENTS, self.tile_rows);
        self.rows.next_multiple_of(self.tile_rows)
            * self.windows.kernel_offsets.len().next_multiple_of(tile_elements)
    }

    /// Computes the sums of a block, in the order of the weights. `scratch` has
    /// [`Self::scratch_len`] values.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(
        &self,
        simd: S,
        x: &[f32],
        grad_output: &[f32],
        scratch: &mut [f32],
    ) -> Vec<f32> {
        /// Number of pixels that are processed for one tile before the next, such that they
        /// stay in the L1 cache.
        const STRIP: usize = 64;
        let Self { windows, rows, tile_rows, pixels, grad_plane } = self;
        let (rows, tile_rows, tile_elements) = (*rows, *tile_rows, tile_cols(ELEMENTS, *tile_rows));
        let Windows { groups, kernel_offsets, group_stride, .. } = windows;
        let furthest = pixels.iter().map(|pixel| pixel.1 + 1).max().unwrap_or(0);
        assert!(windows.end() * S::LANES <= x.len() && furthest <= *grad_plane);
        assert!(
            grad_output.len() == groups * rows * grad_plane * S::LANES
                && scratch.len() == self.scratch_len(S::LANES)
        );
        let tile = tile_rows * tile_elements;
        let (sums, transposed) = scratch.split_at_mut(scratch.len() / 2);
        let group_sums = self.group_sums();
        sums.fill(0.0);
        for (group, sums) in sums.chunks_exact_mut(group_sums * S::LANES).enumerate() {
            let x = &x[group * group_stride * S::LANES..];
            let grad_output = &grad_output[group * rows * grad_plane * S::LANES..];
            for strip in pixels.chunks(STRIP) {
                let mut sums = sums.chunks_exact_mut(tile * S::LANES);
                for first_row in (0..rows).step_by(tile_rows) {
                    let planes = |r: usize| (first_row + r).min(rows - 1) * grad_plane;
                    for (first_element, sums) in
                        (0..kernel_offsets.len()).step_by(tile_elements).zip(&mut sums)
                    {
                        // SAFETY: each kernel element of each window of each
                        // group lies in `x`, each pixel of each channel in
                        // `grad_output`, as asserted; `sums` has a tile.
                        unsafe {
                            for_tile!(
                                ELEMENTS,
                                tile_rows,
                                sum_pixels(
                                    simd,
                                    x,
                                    &kernel_offsets[first_element..],
                                    grad_output,
                                    planes,
                                    strip,
                                    sums
                                )
                            );
                        }
                    }
                }
            }
        }
        let vectors = groups * group_sums;
        transpose(simd, (vectors, S::LANES), (sums, S::LANES), (&mut *transposed, vectors));
        let (total, others) = transposed.split_at_mut(vectors);
        for lane in others.chunks_exact(vectors) {
            crate::cpu::elementwise::add(total, lane);
        }
        let offset = |(row, element): (usize, usize)| {
            let tiles = kernel_offsets.len().div_ceil(tile_elements);
            let tile_at = row / tile_rows * tiles + element / tile_elements;
            tile_at * tile + row % tile_rows * tile_elements + element % tile_elements
        };
        let each = |group: usize| {
            let sums = &total[group * group_sums..][..group_sums];
            (0..rows).flat_map(move |row| {
                (0..kernel_offsets.len()).map(move |element| sums[offset((row, element))])
            })
        };
        (0..*groups).flat_map(each).collect()
    }

    /// Number of scratch values that [`Self::run`] needs.
    pub(crate) fn scratch_len(&self, lanes: usize) -> usize {
        2 * self.windows.groups * self.group_sums() * lanes
    }
}

/// Adds, for `R` channels of gradients and the first `N` kernel elements, the products at some pixels
/// to `sums`, [row][element][lane]. Elements past the last one repeat it.
///
/// # Safety
/// Each kernel element of each window lies in `x`, each pixel of each of the planes in `grad_output`;
/// `sums` has `R`·`N` vectors.
#[inline(always)]
unsafe fn sum_pixels<S: Simd, const R: usize, const N: usize>(
    simd: S,
    x: &[f32],
    kernel_offsets: &[usize],
    grad_output: &[f32],
    planes: impl Fn(usize) -> usize,
    pixels: &[(usize, usize)],
    sums: &mut [f32],
) {
    // SAFETY: by this function's contract.
    unsafe {
        let kernel_offsets: [*const f32; N] = std::array::from_fn(|i| {
            x.as_ptr().add(kernel_offsets[i.min(kernel_offsets.len() - 1)] * S::LANES)
        });
        let planes: [usize; R] = std::array::from_fn(|r| planes(r) * S::LANES);
        let at = |r: usize, i: usize| (r * N + i) * S::LANES;
        let mut totals: [[S::V; N]; R] =
            std::array::from_fn(|r| std::array::from_fn(|i| simd.load(sums.as_ptr().add(at(r, i)))));
        for &(window, grad) in pixels {
            let values: [S::V; N] =
                std::array::from_fn(|i| simd.load(kernel_offsets[i].add(window * S::LANES)));
            let grad_output = grad_output.as_ptr().add(grad * S::LANES);
            for (totals, plane) in totals.iter_mut().zip(planes) {
                let grad = simd.load(grad_output.add(plane));
                for (total, value) in totals.iter_mut().zip(values) {
                    *total = simd.mul_add(grad, value, *total);
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

/// The windows of a convolution in its padded input.
fn input_windows(shape: &ConvShape) -> Windows {
    let &ConvShape { c_in, kh, kw, oh, ow, config, .. } = shape;
    let (rows, cols, group_in) = (shape.padded_h(), shape.padded_w(), c_in / config.groups);
    let offset = |c: usize, y: usize, x: usize| (c * rows + y) * cols + x;
    let kernel_offsets =
        grid(group_in, kh, kw).map(|(c, y, x)| offset(c, y * config.dilation.0, x * config.dilation.1));
    let pixel_offsets = grid(1, oh, ow).map(|(_, y, x)| offset(0, y * config.stride.0, x * config.stride.1));
    Windows {
        groups: config.groups,
        kernel_offsets: kernel_offsets.collect(),
        pixel_offsets: pixel_offsets.collect(),
        group_stride: offset(group_in, 0, 0),
    }
}

/// All (plane, row, column) in row-major order.
fn grid(planes: usize, rows: usize, cols: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..planes * rows * cols).map(move |i| (i / cols / rows, i / cols % rows, i % cols))
}
