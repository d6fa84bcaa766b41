//! Resampling, equal to Pillow's `Image.resize` in every bit.

use std::ops::Range;

use crate::decode_settings::{ColorMode, Interpolation};
#[cfg(feature = "decode")]
use crate::raster::Raster;

/// The part of a scaled axis that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// The length of the whole axis after scaling.
    pub(crate) scaled: usize,
    /// The first wanted pixel.
    pub(crate) start: usize,
    /// The number of wanted pixels.
    pub(crate) len: usize,
}

impl Span {
    fn whole(scaled: usize) -> Self {
        Self { scaled, start: 0, len: scaled }
    }

    /// Whether the pixels are those of a source of this length.
    fn is_all_of(self, source: usize) -> bool {
        self.scaled == source && self.len == source
    }
}

/// Pixels of a part of an image: of each `stride` bytes, the first ones are a row of the part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) stride: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl<'a> View<'a> {
    /// Rows without anything between them.
    fn whole(data: &'a [u8], width: usize, stride: usize) -> Self {
        Self { data, stride, width, height: data.len() / stride }
    }

    fn row(self, y: usize, channels: usize) -> &'a [u8] {
        &self.data[y * self.stride..][..self.width * channels]
    }

    fn to_vec(self, channels: usize) -> Vec<u8> {
        (0..self.height).flat_map(|y| self.row(y, channels)).copied().collect()
    }
}

/// Scales each axis to its target.
pub(crate) fn scale(
    source: View<'_>,
    color: ColorMode,
    width: usize,
    height: usize,
    interpolation: Interpolation,
) -> Vec<u8> {
    let (columns, rows) = (Span::whole(width), Span::whole(height));
    match color {
        ColorMode::Gray => scale_channels::<1>(source, columns, rows, interpolation),
        ColorMode::Rgb => scale_channels::<3>(source, columns, rows, interpolation),
    }
}

/// A part of the scaled image, the same pixels as if it were cut from the whole.
#[cfg(feature = "decode")]
pub(crate) fn scale_part(
    source: &Raster,
    columns: Span,
    rows: Span,
    interpolation: Interpolation,
) -> Vec<u8> {
    let (width, channels) = (source.width as usize, source.color.channels());
    let view = View::whole(&source.data, width, width * channels);
    match source.color {
        ColorMode::Gray => scale_channels::<1>(view, columns, rows, interpolation),
        ColorMode::Rgb => scale_channels::<3>(view, columns, rows, interpolation),
    }
}

/// One axis after the other, each rounded to bytes, as `ImagingResample` in Pillow's libImaging/Resample.c.
///
/// The crate `fast_image_resize` differs by up to one gray level and takes over a minute to compile.
fn scale_channels<const C: usize>(
    source: View<'_>,
    columns: Span,
    rows: Span,
    interpolation: Interpolation,
) -> Vec<u8> {
    let Some((kernel, support)) = kernel(interpolation) else {
        let columns = nearest(source.width, columns);
        let mut target = Vec::with_capacity(columns.len() * rows.len * C);
        for y in nearest(source.height, rows) {
            let row = source.row(y, C).as_chunks::<C>().0;
            target.extend(columns.iter().flat_map(|&x| row[x]));
        }
        return target;
    };
    let of =
        |length, span: Span| (!span.is_all_of(length)).then(|| Windows::new(length, span, kernel, support));
    let windows = (of(source.width, columns), of(source.height, rows));
    // When the height shrinks by much more than the width, Pillow 13 resamples the columns first. (The rule was found
    // by experiment: it explains 635 of 635 random sizes. Up to Pillow 12 the rows were always first; a pixel may
    // differ by 2.)
    let less = |source: usize, target: usize| source as i64 - target as i64;
    let down_first = rows.scaled < source.height
        && less(source.height, rows.scaled) > 2 * less(source.width, columns.scaled);
    resample::<C>(source, &windows, down_first)
}

/// A filter's weight as a function of the distance.
type Kernel = fn(f64) -> f64;

/// A filter's kernel and its support, the distance beyond which it is 0; `None` for `Nearest`.
fn kernel(interpolation: Interpolation) -> Option<(Kernel, f64)> {
    match interpolation {
        Interpolation::Nearest => None,
        Interpolation::Bilinear => Some((|x| (1.0 - x.abs()).max(0.0), 1.0)),
        Interpolation::Bicubic => Some((bicubic, 2.0)),
        Interpolation::Lanczos => {
            Some((|x| if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }, 3.0))
        }
    }
}

/// Keys's cubic convolution with a = -0.5.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// The source pixel at the center of each target pixel, by repeated addition as in Pillow's affine transform.
fn nearest(source: usize, target: Span) -> Vec<usize> {
    let step = source as f64 / target.scaled as f64;
    let mut position = step * 0.5;
    match target.start {
        // Additions enough to take seconds: their rounding no longer matters.
        start if start > 1 << 26 => position += step * start as f64,
        start => (0..start).for_each(|_| position += step),
    }
    let indices = (0..target.len).map(|_| {
        let index = position as usize;
        position += step;
        index.min(source - 1)
    });
    indices.collect()
}

/// Fractional bits of a weight: 32 less 8 for the pixel and 2 for sums above 1.
const WEIGHT_BITS: u32 = 22;

/// The source pixels that make up each target pixel along one axis, and their weights.
struct Windows {
    /// For each target pixel, the first source pixel and the number of weights.
    spans: Vec<(usize, usize)>,
    /// In units of 2^-22, those of all target pixels one after the other; those of one add up to 1.
    weights: Vec<i32>,
}

impl Windows {
    fn new(source: usize, target: Span, kernel: Kernel, support: f64) -> Self {
        let scale = source as f64 / target.scaled as f64;
        // Enlarging keeps the kernel's width; reducing widens it to all source pixels under a target pixel.
        let stretch = scale.max(1.0);
        let reach = support * stretch;
        let mut windows = Self { spans: Vec::with_capacity(target.len), weights: Vec::new() };
        let mut exact: Vec<f64> = Vec::new();
        for i in target.start..target.start + target.len {
            let center = (i as f64 + 0.5) * scale;
            let start = (center - reach + 0.5).max(0.0) as usize;
            let end = ((center + reach + 0.5) as usize).min(source);
            exact.clear();
            exact.extend((start..end).map(|x| kernel((x as f64 - center + 0.5) * (1.0 / stretch))));
            let sum: f64 = exact.iter().sum();
            let fixed = |weight: &f64| (weight / sum * f64::from(1 << WEIGHT_BITS)).round() as i32;
            windows.spans.push((start, exact.len()));
            windows.weights.extend(exact.iter().map(fixed));
        }
        windows
    }

    /// The first source pixel and the weights of each target pixel.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let mut rest = &self.weights[..];
        self.spans.iter().map(move |&(start, len)| {
            let (weights, others) = rest.split_at(len);
            rest = others;
            (start, weights)
        })
    }

    /// The source pixels that any target pixel needs.
    fn reach(&self) -> Range<usize> {
        let start = self.spans.iter().map(|&(start, _)| start).min().unwrap_or(0);
        start..self.spans.iter().map(|&(start, len)| start + len).max().unwrap_or(0)
    }
}

/// Of the columns and of the rows; `None` for an axis that stays as it is.
type AxisWindows = (Option<Windows>, Option<Windows>);

/// Resamples both axes, in vectors as long as the processor has them.
fn resample<const C: usize>(source: View<'_>, windows: &AxisWindows, down_first: bool) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        fn avx512<const C: usize>(source: View<'_>, windows: &AxisWindows, down_first: bool) -> Vec<u8> {
            resample_both::<C>(source, windows, down_first)
        }
        #[target_feature(enable = "avx2")]
        fn avx2<const C: usize>(source: View<'_>, windows: &AxisWindows, down_first: bool) -> Vec<u8> {
            resample_both::<C>(source, windows, down_first)
        }
        let has_avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        if has_avx512 {
            // SAFETY: the processor has all that the function asks for.
            return unsafe { avx512::<C>(source, windows, down_first) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has all that the function asks for.
            return unsafe { avx2::<C>(source, windows, down_first) };
        }
    }
    resample_both::<C>(source, windows, down_first)
}

/// Inlined, so that it is compiled for its caller's vectors.
#[inline(always)]
fn resample_both<const C: usize>(
    source: View<'_>,
    (columns, rows): &AxisWindows,
    down_first: bool,
) -> Vec<u8> {
    match (columns, rows) {
        (None, None) => source.to_vec(C),
        (Some(columns), None) => across::<C>(source, columns, 0..source.height),
        (None, Some(rows)) => down::<C>(source, rows, 0),
        (Some(columns), Some(rows)) if down_first => {
            let between = down::<C>(source, rows, 0);
            let between = View::whole(&between, source.width, source.width * C);
            across::<C>(between, columns, 0..between.height)
        }
        (Some(columns), Some(rows)) => {
            let needed = rows.reach();
            let between = across::<C>(source, columns, needed.clone());
            let width = columns.spans.len();
            down::<C>(View::whole(&between, width, width * C), rows, needed.start)
        }
    }
}

/// Values that are added up at a time.
const LANES: usize = 16;

const HALF: i32 = 1 << (WEIGHT_BITS - 1);

#[inline(always)]
fn to_bytes(sums: [i32; LANES]) -> [u8; LANES] {
    sums.map(|sum| (sum >> WEIGHT_BITS).clamp(0, 255) as u8)
}

#[inline(always)]
fn add(sums: &mut [i32; LANES], values: &[u8; LANES], weight: i32) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum += i32::from(value) * weight;
    }
}

/// Resamples the columns of some rows.
///
/// Rows are taken a few at a time and their pixels laid side by side, each with room for a power of two of channels: 4 rows of
/// RGB or 16 of gray.
#[inline(always)]
fn across<const C: usize>(source: View<'_>, windows: &Windows, rows: Range<usize>) -> Vec<u8> {
    let room = C.next_power_of_two();
    let width = windows.spans.len();
    let mut target = vec![0; rows.len() * width * C];
    let mut pixels = vec![[0; LANES]; source.width];
    let mut done = vec![[0; LANES]; width];
    for (ys, target) in rows.step_by(LANES / room).zip(target.chunks_mut(LANES / room * width * C)) {
        let n = target.len() / (width * C);
        for (y, lane) in (ys..ys + n).zip((0..).step_by(room)) {
            for (pixel, value) in pixels.iter_mut().zip(source.row(y, C).as_chunks::<C>().0) {
                pixel[lane..lane + C].copy_from_slice(value);
            }
        }
        for (done, (start, weights)) in done.iter_mut().zip(windows.iter()) {
            let mut sums = [HALF; LANES];
            for (pixel, &weight) in pixels[start..].iter().zip(weights) {
                add(&mut sums, pixel, weight);
            }
            *done = to_bytes(sums);
        }
        for (row, lane) in target.chunks_exact_mut(width * C).zip((0..).step_by(room)) {
            for (value, done) in row.as_chunks_mut::<C>().0.iter_mut().zip(&done) {
                value.copy_from_slice(&done[lane..lane + C]);
            }
        }
    }
    target
}

/// Resamples the rows of an image whose first row is number `first` of the windows.
#[inline(always)]
fn down<const C: usize>(source: View<'_>, windows: &Windows, first: usize) -> Vec<u8> {
    let row_bytes = source.width * C;
    let mut target = vec![0; windows.spans.len() * row_bytes];
    for (target, (start, weights)) in target.chunks_exact_mut(row_bytes).zip(windows.iter()) {
        let rows = &source.data[(start - first) * source.stride..];
        let (blocks, rest) = target.as_chunks_mut::<LANES>();
        for (block, x) in blocks.iter_mut().zip((0..).step_by(LANES)) {
            let mut sums = [HALF; LANES];
            for (row, &weight) in rows.chunks(source.stride).zip(weights) {
                let (values, _) = row[x..].as_chunks();
                add(&mut sums, &values[0], weight);
            }
            *block = to_bytes(sums);
        }
        let x = row_bytes - rest.len();
        let mut sums = [HALF; LANES];
        for (row, &weight) in rows.chunks(source.stride).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(&row[x..row_bytes]) {
                *sum += i32::from(value) * weight;
            }
        }
        rest.copy_from_slice(&to_bytes(sums)[..rest.len()]);
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of several row groups and blocks, with rests, as a part of a larger image.
    #[test]
    fn vectors_of_any_length_give_the_same_pixels() {
        let data: Vec<u8> = (0..200 * 90 * 3).map(|i: usize| (i * i / 7 + i % 251) as u8).collect();
        let view = View { data: &data[5 * 3..], stride: 200 * 3, width: 190, height: 89 };
        for (width, height) in [(190, 33), (41, 89), (77, 35), (230, 120), (150, 9)] {
            let windows = |kernel, support| {
                let of = |length, target| Some(Windows::new(length, Span::whole(target), kernel, support));
                (of(view.width, width), of(view.height, height))
            };
            for (kernel, support) in
                [Interpolation::Bilinear, Interpolation::Lanczos].map(kernel).into_iter().flatten()
            {
                for down_first in [false, true] {
                    let windows = windows(kernel, support);
                    let found = resample::<3>(view, &windows, down_first);
                    assert_eq!(found.len(), width * height * 3);
                    assert_eq!(found, resample_both::<3>(view, &windows, down_first));
                    let gray = View { width: 3 * 190, ..view };
                    let windows =
                        (Some(Windows::new(3 * 190, Span::whole(width), kernel, support)), windows.1);
                    assert_eq!(
                        resample::<1>(gray, &windows, down_first),
                        resample_both::<1>(gray, &windows, down_first)
                    );
                }
            }
        }
    }
}
