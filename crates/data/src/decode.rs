//! From the bytes of a file to 8-bit gray or RGB pixels.

mod bmp;
mod channels;
pub(crate) mod exif;
mod failure;
mod fit;
pub(crate) mod format;
mod gif;
mod jpeg;
mod png;
mod pnm;
mod tiff;
mod webp;

use std::path::Path;

use failure::{Failure, check_pixels};
use format::Format;
use image::ImageDecoder;

use crate::decode_settings::DecodeSettings;
use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::image_facts::ImageFacts;
use crate::raster::Raster;
use crate::reading::{Alpha, Damaged, Exif, Reading};
use crate::sample::Sample;
use crate::scan::sniff::{RAW, unsupported_name};

/// What lies in the place of a data file that begins so, where a download has failed.
pub(crate) fn stand_in(start: &[u8]) -> Option<&'static str> {
    format::other(start).filter(|found| found.contains("Git LFS") || found.contains("HTML"))
}

/// An image decoded and resized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedImage {
    /// `height * width * channels` bytes of the settings' size, rows first, channels last.
    pub pixels: Vec<u8>,
    /// Width and height of the image in the file; of the upright image where the EXIF orientation was applied.
    pub size: (u32, u32),
    /// What was done to a file that is not as it should be, in words: "repaired: the end is missing".
    pub note: Option<String>,
}

/// Decodes an image file and resizes it: `height * width * channels` bytes, rows first, channels last.
///
/// Only the first frame of an animation is decoded. The crate's front page has a table of formats.
///
/// # Errors
///
/// [`Error::Io`], and those of [`decode_bytes`].
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
    Ok(decode_bytes(path, &Sample::file(path).read()?, settings)?.pixels)
}

/// Whether a file that begins so is an image that can be decoded.
pub(crate) fn is_image(start: &[u8]) -> bool {
    Format::guess(start).is_some()
}

/// Decodes the bytes of an image file and resizes the image. `name` is for error messages.
///
/// # Errors
///
/// [`Error::NotAnImage`], [`Error::Undecodable`], also where a codec panics, [`Error::TooManyPixels`], and
/// [`Error::Invalid`] for a height or width of 0 or a crop outside of (0, 1].
pub fn decode_bytes(name: &Path, bytes: &[u8], settings: &DecodeSettings) -> Result<DecodedImage> {
    let reading = &settings.reading;
    let file = Sound::new(name, bytes, reading)?;
    let decode = || {
        let picture = file.picture(settings)?.upright(file.orientation(reading.exif));
        let Picture { raster, notes, size } = picture;
        let pixels = fit::resize(raster.into_color(settings.color), size, settings)?;
        Ok(DecodedImage { pixels, size, note: (!notes.is_empty()).then(|| notes.join("; ")) })
    };
    guarded(decode, Failure::Undecodable).map_err(|failure| failure.on(name, file.format, reading.max_pixels))
}

/// About how many bytes of memory [`decode_bytes`] takes at most, by the image's header. The bytes of the file are not
/// counted.
///
/// # Errors
///
/// Those of [`decode_bytes`] that the header tells.
pub fn decoding_memory(name: &Path, bytes: &[u8], settings: &DecodeSettings) -> Result<u64> {
    let file = Sound::new(name, bytes, &settings.reading)?;
    guarded(|| file.memory(settings), Failure::Undecodable)
        .map_err(|failure| failure.on(name, file.format, settings.reading.max_pixels))
}

/// Width and height from the header, of the upright image where `exif` is applied.
pub(crate) fn read_dimensions(sample: &Sample, exif: Exif) -> Result<(u32, u32)> {
    let (path, bytes) = (&sample.path(), sample.read()?);
    let file = Sound::new(path, &bytes, &Reading::viewer())?;
    let read = || Ok(file.orientation(exif).size(file.dimensions()?));
    guarded(read, Failure::Undecodable).map_err(|failure| failure.on(path, file.format, u64::MAX))
}

/// An image as it is in a file, or reduced.
struct Picture {
    raster: Raster,
    /// Width and height in the file.
    size: (u32, u32),
    /// What was done to a file that is not as it should be.
    notes: Vec<String>,
}

impl Picture {
    fn upright(self, orientation: exif::Orientation) -> Self {
        Self { raster: orientation.apply(self.raster), size: orientation.size(self.size), ..self }
    }
}

impl From<Raster> for Picture {
    fn from(raster: Raster) -> Self {
        Self { size: (raster.width, raster.height), raster, notes: Vec::new() }
    }
}

/// The bytes of a file from the start of an image on, and their format.
struct Sound<'a> {
    format: Format,
    bytes: &'a [u8],
    /// Number of stray bytes before the start.
    stray: usize,
}

impl<'a> Sound<'a> {
    fn new(name: &Path, bytes: &'a [u8], reading: &Reading) -> Result<Self> {
        let not_an_image = |found| Err(Error::NotAnImage { path: name.to_owned(), found });
        let by_name = unsupported_name(name);
        // Most cameras' raw data begin like TIFF, and hold a thumbnail first.
        if by_name == Some(RAW) {
            return not_an_image("a camera's raw data (develop it to JPEG or TIFF first)".to_owned());
        }
        if let Some(format) = Format::guess(bytes) {
            return Ok(Self { format, bytes, stray: 0 });
        }
        let trimmed = bytes.trim_ascii_start();
        if reading.damaged == Damaged::Accept
            && let Some(format) = Format::guess(trimmed)
        {
            return Ok(Self { format, bytes: trimmed, stray: bytes.len() - trimmed.len() });
        }
        let found = match bytes {
            [] => "an empty file".to_owned(),
            _ => match (format::other(bytes), by_name) {
                (Some(known), _) => known.to_owned(),
                (None, Some(format)) => format!("a file that is named {format} (convert it to JPEG or PNG)"),
                (None, None) => {
                    let start = bytes[..bytes.len().min(12)].escape_ascii();
                    format!("a file that begins with \"{start}\"")
                }
            },
        };
        not_an_image(found)
    }

    fn dimensions(&self) -> Result<(u32, u32), Failure> {
        let bytes = self.bytes;
        Ok(match self.format {
            Format::Png => png::dimensions(bytes)?,
            Format::Gif => gif::dimensions(bytes)?,
            Format::Jpeg => jpeg::dimensions(bytes)?,
            Format::Bmp => bmp::dimensions(bytes)?,
            Format::WebP => webp::dimensions(bytes)?,
            Format::Tiff => tiff::dimensions(bytes)?,
            Format::Pnm => pnm::dimensions(bytes)?,
        })
    }

    /// Bytes of memory that decoding takes at its peak, beyond the file.
    ///
    /// Counted by an allocator, of 9 megapixels in each kind that Pillow writes, in kinds of 16 bits and in planes; the most of
    /// each format, rounded up. For each pixel, PNG: RGBA 7.03, of 16 bits 15.03, RGB 3.23. WebP: with alpha 10.60, without
    /// 4.90, without loss 7.03. TIFF: color multiplied by alpha 11.00, RGBA of 16 bits 12.00, RGB 3.23. GIF: 9.03. BMP: with alpha 7.00,
    /// without 3.23.
    /// PNM: RGB 9.00; as text up to 15, since the vector of values grows.
    fn memory(&self, settings: &DecodeSettings) -> Result<u64, Failure> {
        let per_pixel: u64 = match self.format {
            Format::Jpeg => return jpeg::memory(self.bytes, settings),
            Format::Png if ImageFacts::read(self.bytes).is_some_and(|facts| facts.bits == 16) => 16,
            Format::Png => 8,
            Format::WebP => 11,
            Format::Tiff => 13,
            Format::Gif => 10,
            Format::Bmp => 8,
            Format::Pnm => 16,
        };
        let (width, height) = self.dimensions()?;
        Ok((u64::from(width) * u64::from(height)).saturating_mul(per_pixel))
    }

    fn picture(&self, settings: &DecodeSettings) -> Result<Picture, Failure> {
        let (bytes, reading) = (self.bytes, &settings.reading);
        let mut picture = match self.format {
            Format::Png => png::read(bytes, reading),
            Format::Gif => gif::read(bytes, reading),
            Format::Jpeg => jpeg::read(bytes, settings),
            Format::Bmp => bmp::read(bytes, reading),
            Format::WebP => webp::read(bytes, reading),
            Format::Tiff => tiff::read(bytes, reading),
            Format::Pnm => pnm::read(bytes, reading),
        }?;
        if self.stray > 0 {
            let bytes = if self.stray == 1 { "byte" } else { "bytes" };
            picture.notes.push(format!("repaired: {} stray {bytes} before the start", self.stray));
        }
        Ok(picture)
    }

    fn orientation(&self, exif: Exif) -> exif::Orientation {
        match exif {
            // Pillow turns TIFF files when it opens them.
            Exif::Ignore if self.format != Format::Tiff => exif::Orientation::UPRIGHT,
            _ => exif::orientation(self.format, self.bytes),
        }
    }
}

/// What one of `image`'s decoders gives.
struct Samples {
    /// Width and height.
    size: (u32, u32),
    channels: usize,
    data: Vec<u8>,
}

impl Samples {
    fn picture(self, alpha: Alpha) -> Picture {
        Picture::new(self.size.0, self.size.1, self.channels, self.data, alpha)
    }
}

fn pixels_of(mut decoder: impl ImageDecoder, max_pixels: u64) -> Result<Samples, Failure> {
    let size = decoder.dimensions();
    check_pixels(size.0, size.1, max_pixels)?;
    let mut limits = image::Limits::no_limits();
    // The decoders' own buffers: a few times the pixels, and space for metadata.
    limits.max_alloc = Some(max_pixels.saturating_mul(16).saturating_add(1 << 26));
    decoder.set_limits(limits)?;
    let channels = usize::from(decoder.color_type().channel_count());
    let mut data = vec![0; usize::try_from(decoder.total_bytes())?];
    decoder.read_image(&mut data)?;
    Ok(Samples { size, channels, data })
}
