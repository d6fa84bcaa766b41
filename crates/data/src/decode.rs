//! From a file to 8-bit gray or RGB pixels, equal to Pillow's `Image.open(path).convert("L")` or `.convert("RGB")`.

mod channels;
mod failure;
mod fit;
mod format;
mod gif;
mod jpeg;
mod png;

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use failure::{Failure, check_pixels};
use format::Format;
use image::ImageDecoder;
use image::codecs::{bmp::BmpDecoder, webp::WebPDecoder};

use crate::decode_settings::DecodeSettings;
use crate::error::{Error, Result};
use crate::raster::Raster;

/// Decodes an image file and resizes it: `height * width * channels` bytes, rows first, channels last.
///
/// Only the first frame of an animation is decoded. Alpha is dropped, not blended, as in Pillow's `convert`, and an
/// EXIF orientation is not applied, as in Pillow's `open`. The crate's front page has a table of formats.
///
/// # Errors
///
/// [`Error::Io`], [`Error::NotAnImage`], [`Error::Undecodable`], [`Error::TooManyPixels`], and [`Error::Invalid`]
/// for a height or width of 0 or a crop outside of (0, 1].
///
/// # Examples
///
/// ```
/// use firstsight_data::{DecodeSettings, decode_image};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("1.png");
/// # image::GrayImage::from_pixel(45, 61, image::Luma([200])).save(&path).unwrap();
/// let pixels = decode_image(&path, &DecodeSettings::gray(80, 60))?;
/// assert_eq!(pixels, [200; 80 * 60]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
pub fn decode_image(path: &Path, settings: &DecodeSettings) -> Result<Vec<u8>> {
    let raster = read_raster(path, settings.max_pixels)?.into_color(settings.color);
    fit::resize(path, raster, settings)
}

/// Whether a file that begins so is an image that can be decoded.
pub(crate) fn is_image(start: &[u8]) -> bool {
    Format::guess(start).is_some()
}

/// Opens a file and guesses its format; the reader stays at the start.
fn open(path: &Path) -> Result<(Format, BufReader<File>)> {
    let mut reader = BufReader::new(File::open(path).map_err(Error::io("read", path))?);
    let start = reader.fill_buf().map_err(Error::io("read", path))?;
    match Format::guess(start) {
        Some(format) => Ok((format, reader)),
        None if start.is_empty() => {
            Err(Error::NotAnImage { path: path.to_owned(), found: "an empty file".to_owned() })
        }
        None => {
            let found = format!(
                "a file that begins with {:?}",
                start[..start.len().min(12)].escape_ascii().to_string()
            );
            Err(Error::NotAnImage { path: path.to_owned(), found })
        }
    }
}

/// Width and height from the header.
pub(crate) fn read_dimensions(path: &Path) -> Result<(u32, u32)> {
    fn read(format: Format, reader: BufReader<File>) -> Result<(u32, u32), Failure> {
        Ok(match format {
            Format::Png => png::dimensions(reader)?,
            Format::Gif => gif::dimensions(reader)?,
            Format::Jpeg => jpeg::dimensions(&whole(reader)?)?,
            Format::Bmp => BmpDecoder::new(reader)?.dimensions(),
            Format::WebP => WebPDecoder::new(reader)?.dimensions(),
        })
    }
    let (format, reader) = open(path)?;
    read(format, reader).map_err(|failure| failure.on(path, format, u64::MAX))
}

fn read_raster(path: &Path, max_pixels: u64) -> Result<Raster> {
    fn read(
        path: &Path,
        format: Format,
        reader: BufReader<File>,
        max_pixels: u64,
    ) -> Result<Raster, Failure> {
        match format {
            Format::Png => png::read(path, reader, max_pixels),
            Format::Gif => gif::read(reader, max_pixels),
            Format::Jpeg => jpeg::read(&whole(reader)?, max_pixels),
            Format::Bmp => read_with(BmpDecoder::new(reader)?, max_pixels),
            Format::WebP => read_with(WebPDecoder::new(reader)?, max_pixels),
        }
    }
    let (format, reader) = open(path)?;
    read(path, format, reader, max_pixels).map_err(|failure| failure.on(path, format, max_pixels))
}

fn whole(mut reader: BufReader<File>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_with(mut decoder: impl ImageDecoder, max_pixels: u64) -> Result<Raster, Failure> {
    let (width, height) = decoder.dimensions();
    check_pixels(width, height, max_pixels)?;
    let mut limits = image::Limits::no_limits();
    // The decoders' own buffers: a few times the pixels, and space for metadata.
    limits.max_alloc = Some(max_pixels.saturating_mul(16).saturating_add(1 << 26));
    decoder.set_limits(limits)?;
    let channels = usize::from(decoder.color_type().channel_count());
    let mut data = vec![0; usize::try_from(decoder.total_bytes())?];
    decoder.read_image(&mut data)?;
    Ok(Raster::without_alpha(width, height, channels, data))
}
