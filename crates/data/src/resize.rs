//! Resampling, equal to Pillow's `Image.resize` in every bit.

use crate::decode_settings::{ColorMode, Interpolation};
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

/// Scales each axis to its target.
pub(crate) fn scale(source: Raster, width: usize, height: usize, interpolation: Interpolation) -> Vec<u8> {
    scale_part(source, Span::whole(width), Span::whole(height), interpolation)
}

/// A part of the scaled image, the same pixels as if it were cut from the whole.
pub(crate) fn scale_part(source: Raster, columns: Span, rows: Span, interpolation: Interpolation) -> Vec<u8> {
    match source.color {
        ColorMode::Gray => scale_channels::<1>(source, columns, rows, interpolation),
        ColorMode::Rgb => scale_channels::<3>(source, columns, rows, interpolation),
    }
}

/// One axis after the other, each rounded to bytes, as `ImagingResample` in Pillow's libImaging/Resample.c.
///
/// The crate `fast_image_resize` differs by up to one gray level and takes over a minute to compile.
fn scale_channels<const C: usize>(
    source: Raster,
    columns: Span,
    rows: Span,
    interpolation: Interpolation,
) -> Vec<u8> {
    let (source_width, source_height) = (source.width as usize, source.height as usize);
    let Some((kernel, support)) = kernel(interpolation) else {
        let columns = nearest(source_width, columns);
        let mut target = Vec::with_capacity(columns.len() * rows.len * C);
        for y in nearest(source_height, rows) {
            let row = source.data[y * source_width * C..][..source_width * C].as_chunks::<C>().0;
            target.extend(columns.iter().flat_map(|&x| row[x]));
        }
        return target;
    };
    let across = |data: Vec<u8>| match columns.is_all_of(source_width) {
        true => data,
        false => resample_rows::<C>(&data, source_width, &windows(source_width, columns, kernel, support)),
    };
    let down = |data: Vec<u8>, width: usize| match rows.is_all_of(source_height) {
        true => data,
        false => resample_columns(&data, width * C, &windows(source_height, rows, kernel, support)),
    };
    // When the height shrinks by much more than the width, Pillow 13 resamples the columns first. (The rule was found
    // by experiment: it explains 635 of 635 random sizes. Up to Pillow 12 the rows were always first; a pixel may
    // differ by 2.)
    let less = |source: usize, target: usize| source as i64 - target as i64;
    if rows.scaled < source_height
        && less(source_height, rows.scaled) > 2 * less(source_width, columns.scaled)
    {
        across(down(source.data, source_width))
    } else {
        down(across(source.data), columns.len)
    }
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

/// The source pixels along one axis that make up a target pixel.
struct Window {
    /// Index of the first source pixel.
    start: usize,
    /// Weights of the source pixels from `start` on, in units of 2^-22; they add up to 1.
    weights: Vec<i32>,
}

/// The window of each target pixel along one axis.
fn windows(source: usize, target: Span, kernel: Kernel, support: f64) -> Vec<Window> {
    let scale = source as f64 / target.scaled as f64;
    // Enlarging keeps the kernel's width; reducing widens it to all source pixels under a target pixel.
    let stretch = scale.max(1.0);
    let reach = support * stretch;
    let window = |i| {
        let center = (i as f64 + 0.5) * scale;
        let start = (center - reach + 0.5).max(0.0) as usize;
        let end = ((center + reach + 0.5) as usize).min(source);
        let weight = |x| kernel((x as f64 - center + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (start..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << WEIGHT_BITS)).round() as i32;
        Window { start, weights: weights.iter().map(fixed).collect() }
    };
    (target.start..target.start + target.len).map(window).collect()
}

const HALF: i32 = 1 << (WEIGHT_BITS - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

fn resample_rows<const C: usize>(source: &[u8], source_width: usize, windows: &[Window]) -> Vec<u8> {
    let mut target = Vec::with_capacity(source.len() / source_width * windows.len());
    for row in source.chunks_exact(source_width * C) {
        let row = row.as_chunks::<C>().0;
        for Window { start, weights } in windows {
            let mut sums = [HALF; C];
            for (pixel, &weight) in row[*start..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            target.extend(sums.map(to_byte));
        }
    }
    target
}

fn resample_columns(source: &[u8], row_bytes: usize, windows: &[Window]) -> Vec<u8> {
    let mut target = Vec::with_capacity(row_bytes * windows.len());
    let mut sums = vec![0; row_bytes];
    for Window { start, weights } in windows {
        sums.fill(HALF);
        for (row, &weight) in source[start * row_bytes..].chunks_exact(row_bytes).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        target.extend(sums.iter().map(|&sum| to_byte(sum)));
    }
    target
}
