//! From a file to 8-bit grey or RGB pixels, as Pillow's `Image.open(path).convert("L")` or `.convert("RGB")` has them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Once;

use image::ImageDecoder;
use image::codecs::{bmp::BmpDecoder, webp::WebPDecoder};

use crate::error::{Error, Result};
use crate::jpeg;
use crate::resize::{self, Filter, Fit};

/// Which channels to decode to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorMode {
    /// One channel, Pillow's mode `L`: `(19595 R + 38470 G + 7471 B + 32768) >> 16`.
    Grey,
    /// Three channels, Pillow's mode `RGB`.
    Rgb,
}

impl ColorMode {
    /// The number of channels.
    pub fn channels(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

/// What to do with a file that is named like an image and cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Stop with an error that names the file.
    Fail,
    /// Go on without it, and list it in [`Decoded::excluded`](crate::Decoded::excluded).
    Exclude,
}

/// How to turn an image file into bytes of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeSettings {
    /// Rows of the result.
    pub height: usize,
    /// Pixels in a row of the result.
    pub width: usize,
    /// Channels of the result.
    pub color: ColorMode,
    /// The resampling filter.
    pub filter: Filter,
    /// What becomes of an image of another aspect ratio.
    pub fit: Fit,
    /// What becomes of a file that cannot be decoded, when many are decoded.
    pub unreadable: Unreadable,
    /// An image with more pixels, in the file or on the way to the result, is refused before memory is taken
    /// for it. Pillow warns above 89,478,485.
    pub max_pixels: u64,
}

/// Decodes an image file and resizes it: `height * width * channels` bytes, rows first, channels last.
///
/// Only the first frame of an animation is decoded. Transparency is dropped, not blended, as Pillow's `convert`
/// does, and an orientation in EXIF is not applied, as in Pillow's `open`. The crate's front page has a table of
/// what is decoded how.
///
/// # Errors
///
/// [`Error::Io`], [`Error::NotAnImage`], [`Error::Undecodable`], [`Error::TooManyPixels`], and [`Error::Invalid`]
/// for a height or width of 0 or a crop outside of (0, 1].
///
/// # Examples
///
/// ```
/// use firstsight_data::{ColorMode, DecodeSettings, Filter, Fit, Unreadable, decode_image};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("1.png");
/// # image::GrayImage::from_pixel(45, 61, image::Luma([200])).save(&path).unwrap();
/// let settings = DecodeSettings {
///     height: 80,
///     width: 60,
///     color: ColorMode::Grey,
///     filter: Filter::Lanczos,
///     fit: Fit::Stretch,
///     unreadable: Unreadable::Fail,
///     max_pixels: 100_000_000,
/// };
/// assert_eq!(decode_image(&path, &settings)?, [200; 80 * 60]);
/// # Ok::<(), firstsight_data::Error>(())
/// ```
pub fn decode_image(path: &Path, settings: &DecodeSettings) -> Result<Vec<u8>> {
    let raster = read_raster(path, settings.max_pixels)?.into_color(settings.color);
    resize::resize(path, raster, settings)
}

/// Pixels at the size that they have in the file; `data` holds `height * width * color.channels()` bytes.
pub(crate) struct Raster {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) color: ColorMode,
    pub(crate) data: Vec<u8>,
}

impl Raster {
    fn into_color(self, color: ColorMode) -> Self {
        let data = match (self.color, color) {
            (ColorMode::Rgb, ColorMode::Grey) => self.data.as_chunks().0.iter().map(luma).collect(),
            (ColorMode::Grey, ColorMode::Rgb) => self.data.iter().flat_map(|&v| [v; 3]).collect(),
            _ => self.data,
        };
        Self { color, data, ..self }
    }
}

/// ITU-R 601-2 luma as Pillow rounds it (`L24` in libImaging/Convert.c).
pub(crate) fn luma(&[r, g, b]: &[u8; 3]) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16) as u8
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
    Gif,
    Bmp,
    WebP,
}

impl Format {
    /// By the first bytes, as Pillow does: a PNG file named `.jpg` is a PNG file.
    fn guess(start: &[u8]) -> Option<Self> {
        match start {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'B', b'M', ..] => Some(Self::Bmp),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::WebP => "WebP",
        }
    }
}

/// What a format's reader may return; the file is named by the caller.
pub(crate) enum Failure {
    TooManyPixels(u64, u64),
    Undecodable(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Undecodable(error.to_string())
    }
}

impl Failure {
    fn on(self, path: &Path, format: Format, max_pixels: u64) -> Error {
        let path = path.to_owned();
        match self {
            Self::TooManyPixels(width, height) => Error::TooManyPixels { path, width, height, max_pixels },
            Self::Undecodable(message) => Error::Undecodable { path, format: format.name(), message },
        }
    }
}

/// Opens a file and tells its format, leaving the reader at the start.
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
            Format::Png => {
                let mut decoder = png::Decoder::new(reader);
                let info = decoder.read_header_info()?;
                (info.width, info.height)
            }
            Format::Gif => {
                let decoder = gif::DecodeOptions::new().read_info(reader)?;
                (decoder.width().into(), decoder.height().into())
            }
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
            Format::Png => read_png(path, reader, max_pixels),
            Format::Gif => read_gif(reader, max_pixels),
            Format::Jpeg => jpeg::read(&whole(reader)?, max_pixels),
            Format::Bmp => read_with(BmpDecoder::new(reader)?, max_pixels),
            Format::WebP => read_with(WebPDecoder::new(reader)?, max_pixels),
        }
    }
    let (format, reader) = open(path)?;
    read(path, format, reader, max_pixels).map_err(|failure| failure.on(path, format, max_pixels))
}

pub(crate) fn check_pixels(width: u32, height: u32, max_pixels: u64) -> Result<(), Failure> {
    let (width, height) = (u64::from(width), u64::from(height));
    if width == 0 || height == 0 {
        return Err(Failure::Undecodable(format!("expected at least one pixel, found {width}x{height}")));
    }
    if width * height > max_pixels {
        return Err(Failure::TooManyPixels(width, height));
    }
    Ok(())
}

fn read_png(path: &Path, reader: BufReader<File>, max_pixels: u64) -> Result<Raster, Failure> {
    let mut decoder = png::Decoder::new(reader);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(png::Transformations::EXPAND);
    let header = decoder.read_header_info()?;
    check_pixels(header.width, header.height, max_pixels)?;
    let mut reader = decoder.read_info()?;
    let too_large = || Failure::Undecodable("the pixels do not fit into memory".to_owned());
    let mut data = vec![0; reader.output_buffer_size().ok_or_else(too_large)?];
    let frame = reader.next_frame(&mut data)?;
    data.truncate(frame.buffer_size());

    let is_grey_in_file = reader.info().color_type == png::ColorType::Grayscale;
    let data = match frame.bit_depth {
        // Pillow reads 16-bit grey as its mode I;16, which `convert` clips to 255 ...
        png::BitDepth::Sixteen if is_grey_in_file => {
            let values = data.as_chunks().0.iter().copied().map(u16::from_be_bytes);
            if values.clone().any(|value| value > 255) {
                static ONCE: Once = Once::new();
                ONCE.call_once(|| {
                    tracing::warn!(path = %path.display(), "16-bit grey above 255 becomes 255, as in Pillow");
                });
            }
            values.map(|value| value.min(255) as u8).collect()
        }
        // ... and of all others it reads the upper byte.
        png::BitDepth::Sixteen => data.as_chunks::<2>().0.iter().map(|bytes| bytes[0]).collect(),
        _ => data,
    };
    let (width, height) = (frame.width, frame.height);
    Ok(raster(width, height, frame.color_type.samples(), data))
}

/// Keeps the colours of pixels of 1 to 4 channels, and drops the alpha of the second or fourth.
fn raster(width: u32, height: u32, channels: usize, data: Vec<u8>) -> Raster {
    let (color, data) = match channels {
        1 => (ColorMode::Grey, data),
        2 => (ColorMode::Grey, data.as_chunks::<2>().0.iter().map(|&[grey, _]| grey).collect()),
        3 => (ColorMode::Rgb, data),
        _ => (ColorMode::Rgb, data.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect()),
    };
    Raster { width, height, color, data }
}

/// The first frame on the animation's canvas. Pillow fills what the frame leaves out with the transparent colour
/// if there is one, and else with the first.
fn read_gif(reader: BufReader<File>, max_pixels: u64) -> Result<Raster, Failure> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    let mut decoder = options.read_info(reader)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let (screen_width, screen_height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    check_pixels(screen_width, screen_height, max_pixels)?;
    let Some(frame) = decoder.next_frame_info()? else {
        return Err(Failure::Undecodable("expected an image, found none".to_owned()));
    };
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let background = frame.transparent.unwrap_or(0);
    let colors = frame.palette.clone().or(global).unwrap_or_default();
    let width = screen_width.max((left + frame_width) as u32);
    let height = screen_height.max((top + frame_height) as u32);
    check_pixels(width, height, max_pixels)?;
    check_pixels(frame_width as u32, frame_height as u32, max_pixels)?;

    let mut frame = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut frame)?;
    let stride = width as usize;
    let mut canvas = vec![background; stride * height as usize];
    for (row, pixels) in frame.chunks_exact(frame_width).enumerate() {
        let start = (top + row) * stride + left;
        canvas[start..start + frame_width].copy_from_slice(pixels);
    }

    let colors = colors.as_chunks::<3>().0;
    // Beyond the file's colours, Pillow's palette is a ramp of greys.
    let palette: [[u8; 3]; 256] =
        std::array::from_fn(|index| colors.get(index).copied().unwrap_or([index as u8; 3]));
    let data = canvas.iter().flat_map(|&index| palette[usize::from(index)]).collect();
    Ok(Raster { width, height, color: ColorMode::Rgb, data })
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
    // The decoders' own buffers: a few times the pixels, and room for metadata.
    limits.max_alloc = Some(max_pixels.saturating_mul(16).saturating_add(1 << 26));
    decoder.set_limits(limits)?;
    let channels = usize::from(decoder.color_type().channel_count());
    let mut data = vec![0; usize::try_from(decoder.total_bytes())?];
    decoder.read_image(&mut data)?;
    Ok(raster(width, height, channels, data))
}
