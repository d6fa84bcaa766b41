//! Resampling as Pillow's `Image.resize` does it, and the crop of timm's transform for evaluation.

use std::path::Path;

use crate::decode::{ColorMode, DecodeSettings, Raster};
use crate::error::{Error, Result};

/// A resampling filter, by Pillow's names. All but `Nearest` widen with the factor of reduction (antialiasing).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The source pixel at the centre of each target pixel.
    Nearest,
    /// Triangle, support 1.
    Bilinear,
    /// Cubic with a = -0.5, support 2.
    Bicubic,
    /// Lanczos, support 3.
    Lanczos,
}

/// What becomes of an image whose aspect ratio is not the target's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fit {
    /// Each axis is scaled to its target, as Keras's `load_img` does.
    Stretch,
    /// The aspect ratio is kept: the image is scaled until it just covers `target / pct`, rounded down, and the
    /// target is cut from its centre, as timm's and torchvision's transforms for evaluation do.
    CropCenter {
        /// The share of the shorter side that is kept, in (0, 1]: 0.875 for most ImageNet weights.
        pct: f64,
    },
}

/// Where the target lies in the scaled image.
struct Plan {
    /// Width and height to scale to.
    scaled: (u64, u64),
    /// Column and row of the target's corner in it.
    corner: (u64, u64),
}

impl Fit {
    /// For a source and a target of (width, height).
    fn plan(self, source: (u32, u32), target: (u32, u32)) -> Result<Plan> {
        let Self::CropCenter { pct } = self else {
            return Ok(Plan { scaled: (target.0.into(), target.1.into()), corner: (0, 0) });
        };
        if !(pct > 0.0 && pct <= 1.0) {
            return Err(Error::invalid("pct", "a share in (0, 1]", pct));
        }
        let cover = |side: u32| (f64::from(side) / pct).floor();
        let (width, height) = (f64::from(source.0), f64::from(source.1));
        let scaled = if target.0 == target.1 {
            // torchvision's `Resize(size)`: the longer side is truncated.
            let short = cover(target.0);
            let long = (short * width.max(height) / width.min(height)) as u64;
            if width <= height { (short as u64, long) } else { (long, short as u64) }
        } else {
            // timm's `ResizeKeepRatio(size)`: both are rounded, ties to even as Python does.
            let ratio = (width / cover(target.0)).min(height / cover(target.1));
            ((width / ratio).round_ties_even() as u64, (height / ratio).round_ties_even() as u64)
        };
        let corner =
            |scaled: u64, target: u32| ((scaled - u64::from(target)) as f64 / 2.0).round_ties_even() as u64;
        Ok(Plan { scaled, corner: (corner(scaled.0, target.0), corner(scaled.1, target.1)) })
    }
}

/// Scales and crops to the settings' size. `path` is for errors.
pub(crate) fn resize(path: &Path, source: Raster, settings: &DecodeSettings) -> Result<Vec<u8>> {
    let side = |name, side: usize| match u32::try_from(side) {
        Ok(side) if side > 0 => Ok(side),
        _ => Err(Error::invalid(name, "a size of 1 to 4294967295 pixels", side)),
    };
    let target = (side("width", settings.width)?, side("height", settings.height)?);
    let plan = settings.fit.plan((source.width, source.height), target)?;
    let (width, height) = plan.scaled;
    if width.saturating_mul(height) > settings.max_pixels.max(u64::from(target.0) * u64::from(target.1)) {
        return Err(Error::TooManyPixels {
            path: path.to_owned(),
            width,
            height,
            max_pixels: settings.max_pixels,
        });
    }
    let scaled = scale(source, width as usize, height as usize, settings.filter);
    if plan.scaled == (target.0.into(), target.1.into()) {
        return Ok(scaled);
    }
    let channels = settings.color.channels();
    let (stride, row_bytes) = (width as usize * channels, settings.width * channels);
    let (left, top) = (plan.corner.0 as usize * channels, plan.corner.1 as usize);
    let mut cropped = Vec::with_capacity(settings.height * row_bytes);
    for row in scaled.chunks_exact(stride).skip(top).take(settings.height) {
        cropped.extend_from_slice(&row[left..left + row_bytes]);
    }
    Ok(cropped)
}

/// Stretches.
pub(crate) fn scale(source: Raster, width: usize, height: usize, filter: Filter) -> Vec<u8> {
    match source.color {
        ColorMode::Grey => scale_channels::<1>(source, width, height, filter),
        ColorMode::Rgb => scale_channels::<3>(source, width, height, filter),
    }
}

/// Each axis in turn, rounded to bytes, as `ImagingResample` in Pillow's libImaging/Resample.c: the result equals
/// Pillow's in every bit.
///
/// The crate `fast_image_resize` would come within one grey level, at a minute and more of compiling.
fn scale_channels<const C: usize>(source: Raster, width: usize, height: usize, filter: Filter) -> Vec<u8> {
    let (source_width, source_height) = (source.width as usize, source.height as usize);
    let Some((kernel, support)) = filter.kernel() else {
        let columns = nearest(source_width, width);
        let mut target = Vec::with_capacity(width * height * C);
        for y in nearest(source_height, height) {
            let row = source.data[y * source_width * C..][..source_width * C].as_chunks::<C>().0;
            target.extend(columns.iter().flat_map(|&x| row[x]));
        }
        return target;
    };
    let rows = |data: Vec<u8>| match source_width == width {
        true => data,
        false => resample_rows::<C>(&data, source_width, &taps(source_width, width, kernel, support)),
    };
    let columns = |data: Vec<u8>, width: usize| match source_height == height {
        true => data,
        false => resample_columns(&data, width * C, &taps(source_height, height, kernel, support)),
    };
    // Where many rows and few columns go, Pillow 13 begins with the columns. (The rule was found by trying: it
    // explains 635 of 635 random sizes. Up to Pillow 12 the rows were always first; a pixel may differ by 2.)
    let less = |source: usize, target: usize| source as i64 - target as i64;
    if height < source_height && less(source_height, height) > 2 * less(source_width, width) {
        rows(columns(source.data, source_width))
    } else {
        columns(rows(source.data), width)
    }
}

/// The weight at a distance.
type Kernel = fn(f64) -> f64;

impl Filter {
    /// The weight at a distance, and the distance from which on it is 0; none for `Nearest`.
    fn kernel(self) -> Option<(Kernel, f64)> {
        match self {
            Self::Nearest => None,
            Self::Bilinear => Some((|x| (1.0 - x.abs()).max(0.0), 1.0)),
            Self::Bicubic => Some((bicubic, 2.0)),
            Self::Lanczos => {
                Some((|x| if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }, 3.0))
            }
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

/// The source pixel at the centre of each target pixel, by repeated addition as Pillow's affine transform does.
fn nearest(source: usize, target: usize) -> Vec<usize> {
    let step = source as f64 / target as f64;
    let mut position = step * 0.5;
    let places = (0..target).map(|_| {
        let place = position as usize;
        position += step;
        place.min(source - 1)
    });
    places.collect()
}

/// Fixed-point weights: 32 bits less 8 for the pixel and 2 for sums beyond 1.
const WEIGHT_BITS: u32 = 22;

/// What one target pixel is made of.
struct Tap {
    /// The first source pixel.
    start: usize,
    /// Its weight and those of the pixels after it, in units of 2^-22, of sum 1.
    weights: Vec<i32>,
}

/// The taps of each target pixel along one axis.
fn taps(source: usize, target: usize, kernel: Kernel, support: f64) -> Vec<Tap> {
    let scale = source as f64 / target as f64;
    // Enlarging, the kernel keeps its width; reducing, it covers as many source pixels as go into a target pixel.
    let stretch = scale.max(1.0);
    let reach = support * stretch;
    let tap = |i| {
        let center = (i as f64 + 0.5) * scale;
        let start = (center - reach + 0.5).max(0.0) as usize;
        let end = ((center + reach + 0.5) as usize).min(source);
        let weight = |x| kernel((x as f64 - center + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (start..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << WEIGHT_BITS)).round() as i32;
        Tap { start, weights: weights.iter().map(fixed).collect() }
    };
    (0..target).map(tap).collect()
}

const HALF: i32 = 1 << (WEIGHT_BITS - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

fn resample_rows<const C: usize>(source: &[u8], source_width: usize, taps: &[Tap]) -> Vec<u8> {
    let mut target = Vec::with_capacity(source.len() / source_width * taps.len());
    for row in source.chunks_exact(source_width * C) {
        let row = row.as_chunks::<C>().0;
        for Tap { start, weights } in taps {
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

fn resample_columns(source: &[u8], row_bytes: usize, taps: &[Tap]) -> Vec<u8> {
    let mut target = Vec::with_capacity(row_bytes * taps.len());
    let mut sums = vec![0; row_bytes];
    for Tap { start, weights } in taps {
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
