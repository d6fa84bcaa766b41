//! JPEG files, read by a port of libjpeg-turbo to the same pixels as Pillow, bit for bit.

mod damage;
mod planes;

use std::borrow::Cow;

use libjpeg_turbo_rs::{DecodeLimits, Decoder, Image, PixelFormat, ScalingFactor};

use super::Picture;
use super::failure::{Failure, check_pixels};
use super::fit::Plan;
use crate::decode_settings::{ColorMode, DecodeSettings};
use crate::raster::Raster;
use crate::reading::Damaged;

/// Above this number of pixels a photo is decoded at a half, a quarter or an eighth of its sides, where that leaves at least
/// twice the size that it is scaled to.
const REDUCED_ABOVE: u64 = 50_000_000;

/// Width and height from the header.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Failure> {
    let decoder = Decoder::new_header_only(bytes, DecodeLimits::default())?;
    Ok(size(&decoder))
}

/// Bytes of memory that decoding takes at its peak, beyond the file: those of the pixels, and all coefficients of a progressive
/// photo, two bytes each. Counted as in `Sound::memory`: RGB 6.02 for each pixel, progressive 9.09; CMYK 8.79, progressive 12.07.
pub(super) fn memory(bytes: &[u8], settings: &DecodeSettings) -> Result<u64, Failure> {
    let decoder = Decoder::new_header_only(bytes, DecodeLimits::default())?;
    let (width, height) = size(&decoder);
    let reduction = reduction((width, height), settings)?;
    let area = |divisor: u32| u64::from(width.div_ceil(divisor)) * u64::from(height.div_ceil(divisor));
    let header = decoder.header();
    let samples = |c: &libjpeg_turbo_rs::ComponentInfo| {
        u64::from(c.horizontal_sampling) * u64::from(c.vertical_sampling)
    };
    let per_pixel = if header.components.len() == 4 { 9 } else { 7 };
    let coefficients = match header.components.iter().map(samples).max() {
        Some(most @ 1..) if header.is_progressive => {
            2 * area(1) * header.components.iter().map(samples).sum::<u64>() / most
        }
        _ => 0,
    };
    Ok(area(reduction) * per_pixel + coefficients)
}

/// The pixels. CMYK is read as Adobe writes it, inverted.
pub(super) fn read(bytes: &[u8], settings: &DecodeSettings) -> Result<Picture, Failure> {
    let max_pixels = settings.reading.max_pixels;
    let accept = settings.reading.damaged == Damaged::Accept;
    let (width, height) = dimensions(bytes)?;
    let reduction = reduction((width, height), settings)?;
    let (reduced_width, reduced_height) = (width.div_ceil(reduction), height.div_ceil(reduction));
    check_pixels(reduced_width, reduced_height, max_pixels).map_err(|failure| match failure {
        Failure::TooManyPixels(..) => Failure::TooManyPixels(width.into(), height.into()),
        other => other,
    })?;

    let has_end = damage::has_end(bytes);
    if !has_end && !accept {
        return Err(Failure::Undecodable(
            "expected an end-of-image marker: the file is truncated (--damaged accept reads what there is)"
                .to_owned(),
        ));
    }
    // As libjpeg does where the data ends.
    let ended = if has_end { Cow::Borrowed(bytes) } else { Cow::Owned([bytes, &[0xff, 0xd9]].concat()) };
    let bytes = &ended[..];

    let mut decoder = Decoder::new(bytes)?;
    let pixels = u64::from(width) * u64::from(height);
    // A block of 64 pixels takes at least two bits.
    let is_plausible = bytes.len() as u64 >= pixels / 256;
    if pixels > max_pixels && !(is_plausible && fits_in_parts(&decoder, max_pixels)) {
        return Err(Failure::TooManyPixels(width.into(), height.into()));
    }
    // Enough for a progressive image's coefficients, two bytes each, and its planes.
    let max_memory = max_pixels.max(pixels).saturating_mul(16).saturating_add(1 << 26);
    decoder.set_limits(DecodeLimits {
        max_pixels: pixels.max(max_pixels),
        max_memory: Some(max_memory),
        ..DecodeLimits::default()
    });
    decoder.set_scale(ScalingFactor::try_new(1, reduction)?);
    let mut notes = Vec::new();
    let strict = match needs_planes(&decoder) {
        true if reduction > 1 => return Err(Failure::TooManyPixels(width.into(), height.into())),
        true => planes::read(bytes, accept),
        false => decoder.decode_image().map_err(Failure::from).and_then(pixels_of),
    };
    let raster = match strict {
        Ok(raster) => {
            if !has_end {
                notes.push(damage::check_scans(bytes, &decoder, &[])?);
            }
            raster
        }
        Err(failure) if !accept || needs_planes(&decoder) => return Err(failure),
        Err(_) => {
            decoder.set_lenient(true);
            let image = decoder.decode_image()?;
            notes.push(damage::check_scans(bytes, &decoder, &image.warnings)?);
            pixels_of(image)?
        }
    };
    if reduction > 1 {
        notes.push(format!("reduced: {width}x{height} decoded at 1/{reduction} of its sides"));
    }
    Ok(Picture { raster, notes, size: (width, height) })
}

/// Whether a photo above the limit can be decoded in parts. The coefficients of a progressive one are all held.
fn fits_in_parts(decoder: &Decoder<'_>, max_pixels: u64) -> bool {
    let (width, height) = size(decoder);
    !decoder.header().is_progressive || u64::from(width) * u64::from(height) <= 4 * max_pixels
}

/// The divisor of the sides at which a photo is decoded: 1, 2, 4 or 8.
fn reduction(source: (u32, u32), settings: &DecodeSettings) -> Result<u32, Failure> {
    let pixels = u64::from(source.0) * u64::from(source.1);
    if pixels <= REDUCED_ABOVE.min(settings.reading.max_pixels) {
        return Ok(1);
    }
    let target = (u32::try_from(settings.width)?, u32::try_from(settings.height)?);
    // Photos that stand on their side are no reason for another plan: both axes leave twice the size.
    let scaled = Plan::new(settings, source, target).map_err(Failure::Setting)?.scaled;
    let leaves = |side: u32, scaled: u64, divisor: u32| u64::from(side / divisor) >= 2 * scaled;
    let fits = |divisor: &u32| leaves(source.0, scaled.0, *divisor) && leaves(source.1, scaled.1, *divisor);
    Ok([8, 4, 2].into_iter().find(fits).unwrap_or(1))
}

/// Whether components are subsampled in a way that the library cannot join.
fn needs_planes(decoder: &Decoder<'_>) -> bool {
    let [first, rest @ ..] = &decoder.header().components[..] else { return false };
    let sampling = |c: &libjpeg_turbo_rs::ComponentInfo| (c.horizontal_sampling, c.vertical_sampling);
    rest.len() == 3 && rest.iter().any(|component| sampling(component) != sampling(first))
}

fn pixels_of(image: Image) -> Result<Raster, Failure> {
    let (color, data) = match image.pixel_format {
        PixelFormat::Grayscale => (ColorMode::Gray, image.data),
        PixelFormat::Rgb => (ColorMode::Rgb, image.data),
        PixelFormat::Cmyk => {
            (ColorMode::Rgb, image.data.as_chunks().0.iter().flat_map(inverted_cmyk).collect())
        }
        other => {
            return Err(Failure::Undecodable(format!("expected gray, RGB or CMYK, found {other:?}")));
        }
    };
    Ok(Raster { width: u32::try_from(image.width)?, height: u32::try_from(image.height)?, color, data })
}

fn size(decoder: &Decoder<'_>) -> (u32, u32) {
    let header = decoder.header();
    (u32::from(header.width), u32::from(header.height))
}

/// Converts CMYK, 255 meaning no ink, to RGB as Pillow does (`cmyk2rgb` in libImaging/Convert.c).
pub(super) fn inverted_cmyk(&[cyan, magenta, yellow, black]: &[u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|left| {
        let white = u32::from(black);
        let product = u32::from(255 - left) * white + 128;
        white.saturating_sub(((product >> 8) + product) >> 8) as u8
    })
}
