//! Resampling as Pillow's `Image.resize` does it, and the crop of timm's transform for evaluation.

use std::path::Path;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

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
    let scaled = scale(source, width as u32, height as u32, settings.filter).map_err(|error| {
        Error::Undecodable { path: path.to_owned(), format: "an image to resize", message: error.to_string() }
    })?;
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

fn scale(
    source: Raster,
    width: u32,
    height: u32,
    filter: Filter,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    if (source.width, source.height) == (width, height) {
        return Ok(source.data);
    }
    let algorithm = match filter {
        Filter::Nearest => ResizeAlg::Nearest,
        Filter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Filter::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
        Filter::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
    };
    let pixel_type = match source.color {
        ColorMode::Grey => PixelType::U8,
        ColorMode::Rgb => PixelType::U8x3,
    };
    let view = ImageRef::new(source.width, source.height, &source.data, pixel_type)?;
    let mut target = Image::new(width, height, pixel_type);
    Resizer::new().resize(&view, &mut target, &ResizeOptions::new().resize_alg(algorithm))?;
    Ok(target.into_vec())
}
