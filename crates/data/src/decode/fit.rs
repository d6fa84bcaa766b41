//! An image scaled and cropped to the target size.

use super::failure::Failure;
use crate::decode_settings::{DecodeSettings, ResizeMode};
use crate::error::Error;
use crate::raster::Raster;
use crate::resize::{Span, scale_part};

/// The size to scale to, and the target's corner in the scaled image.
pub(super) struct Plan {
    /// Width and height to scale to.
    pub(super) scaled: (u64, u64),
    /// Column and row of the target's corner in it.
    corner: (u64, u64),
}

impl Plan {
    /// For a source and a target of (width, height).
    pub(super) fn new(
        settings: &DecodeSettings,
        source: (u32, u32),
        target: (u32, u32),
    ) -> Result<Self, Error> {
        let pct = settings.crop_pct;
        if !(pct > 0.0 && pct <= 1.0) {
            return Err(Error::invalid("crop_pct", "a share in (0, 1]", pct));
        }
        let (rows, columns) = settings.scale_size();
        let (width, height) = (f64::from(source.0), f64::from(source.1));
        let scaled = if settings.resize_mode == ResizeMode::Squash {
            (columns, rows)
        } else if target.0 == target.1 {
            // torchvision's `Resize(size)`: the longer side is truncated.
            let short = columns as f64;
            let long = (short * width.max(height) / width.min(height)) as u64;
            if width <= height { (short as u64, long) } else { (long, short as u64) }
        } else {
            // timm's `ResizeKeepRatio(size)`: both are rounded, ties to even as Python does.
            let ratio = (width / columns as f64).min(height / rows as f64);
            ((width / ratio).round_ties_even() as u64, (height / ratio).round_ties_even() as u64)
        };
        let corner =
            |scaled: u64, target: u32| ((scaled - u64::from(target)) as f64 / 2.0).round_ties_even() as u64;
        Ok(Self { scaled, corner: (corner(scaled.0, target.0), corner(scaled.1, target.1)) })
    }
}

/// Scales and crops an image to the size in `settings`. Only what the crop keeps is computed. `size` is the image's in its
/// file, of which `source` may be a reduction.
pub(super) fn resize(
    source: Raster,
    size: (u32, u32),
    settings: &DecodeSettings,
) -> Result<Vec<u8>, Failure> {
    let side = |name, side: usize| match u32::try_from(side) {
        Ok(side) if side > 0 => Ok(side),
        _ => Err(Failure::Setting(Error::invalid(name, "a size of 1 to 4294967295 pixels", side))),
    };
    let target = (side("width", settings.width)?, side("height", settings.height)?);
    let plan = Plan::new(settings, size, target).map_err(Failure::Setting)?;
    let span = |scaled: u64, corner: u64, target: usize| -> Result<Span, Failure> {
        Ok(Span { scaled: usize::try_from(scaled)?, start: usize::try_from(corner)?, len: target })
    };
    let columns = span(plan.scaled.0, plan.corner.0, settings.width)?;
    let rows = span(plan.scaled.1, plan.corner.1, settings.height)?;
    Ok(scale_part(&source, columns, rows, settings.interpolation))
}
