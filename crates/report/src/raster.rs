//! Pictures as pixels: decoding, enlarging, assembling, encoding.

use std::io::{Cursor, Write as _};

use png::{BitDepth, ColorType, DecodingError, EncodingError, Transformations};

use crate::Result;

/// Maximum memory of a picture in bytes: a header of a few bytes can announce any size.
const MOST_BYTES: usize = 1 << 30;

/// Red, green and blue.
pub(crate) type Rgb = [u8; 3];

/// Pixels of one byte per sample, row by row.
pub(crate) struct Pixels {
    height: usize,
    width: usize,
    color: ColorType,
    samples: Vec<u8>,
}

impl Pixels {
    pub(crate) fn decode(png: &[u8]) -> Result<Self> {
        let mut decoder = png::Decoder::new(Cursor::new(png));
        decoder.set_transformations(Transformations::normalize_to_color8());
        let mut reader = decoder.read_info()?;
        let size = reader.output_buffer_size().filter(|&size| size <= MOST_BYTES);
        let mut samples = vec![0; size.ok_or(DecodingError::LimitsExceeded)?];
        let info = reader.next_frame(&mut samples)?;
        samples.truncate(info.buffer_size());
        let (height, width) = (info.height as usize, info.width as usize);
        Ok(Self { height, width, color: info.color_type, samples })
    }

    /// The samples of pixel (`y`, `x`).
    fn at(&self, y: usize, x: usize) -> &[u8] {
        let n = self.color.samples();
        let start = (y * self.width + x) * n;
        &self.samples[start..start + n]
    }

    /// Pixel (`y`, `x`) as red, green and blue over the background `ground`.
    fn over(&self, ground: Rgb, y: usize, x: usize) -> Rgb {
        let (color, alpha) = match *self.at(y, x) {
            [gray] => ([gray; 3], 255),
            [gray, alpha] => ([gray; 3], alpha),
            [r, g, b] => ([r, g, b], 255),
            [r, g, b, alpha] => ([r, g, b], alpha),
            _ => (ground, 255),
        };
        let alpha = u32::from(alpha);
        let mix = |above: u8, below: u8| u32::from(above) * alpha + u32::from(below) * (255 - alpha);
        std::array::from_fn(|i| ((mix(color[i], ground[i]) + 127) / 255) as u8)
    }

    /// A PNG file of the picture `scale` times as large, each pixel the nearest of the picture.
    pub(crate) fn enlarged(&self, scale: f64) -> Result<Vec<u8>> {
        let side = |n: usize| (n as f64 * scale).round() as usize;
        let nearest = |i: usize, n: usize| (((i as f64 + 0.5) / scale) as usize).min(n - 1);
        let (height, width) = (side(self.height), side(self.width));
        let rows = (0..height).map(|y| {
            let y = nearest(y, self.height);
            Ok((0..width).flat_map(|x| self.at(y, nearest(x, self.width))).copied().collect::<Vec<u8>>())
        });
        encode(height, width, self.color, rows)
    }
}

/// A PNG file of `height` × `width` pixels of one byte per sample, made of `parts` from top to bottom.
pub(crate) fn encode(
    height: usize,
    width: usize,
    color: ColorType,
    parts: impl IntoIterator<Item = Result<impl AsRef<[u8]>>>,
) -> Result<Vec<u8>> {
    let side = |n: usize| u32::try_from(n).map_err(|_| EncodingError::LimitsExceeded);
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, side(width)?, side(height)?);
    encoder.set_color(color);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header()?;
    let mut stream = writer.stream_writer()?;
    for part in parts {
        stream.write_all(part?.as_ref()).map_err(EncodingError::IoError)?;
    }
    stream.finish()?;
    writer.finish()?;
    Ok(png)
}

/// Pictures in boxes of one size, in rows.
pub(crate) struct ContactSheet {
    /// Boxes in a row.
    pub(crate) columns: usize,
    /// Rows and columns of pixels within a box's frame.
    pub(crate) inner: (usize, usize),
    /// The background of the boxes.
    pub(crate) ground: Rgb,
}

/// A picture in a box of a [`ContactSheet`]: its PNG file, how many times as large it is drawn, and its frame.
pub(crate) struct Framed<'a> {
    pub(crate) png: &'a [u8],
    pub(crate) factor: usize,
    pub(crate) frame: Rgb,
}

impl ContactSheet {
    /// The thickness of frames, in pixels.
    pub(crate) const FRAME: usize = 2;
    /// The white between boxes and around all of them, in pixels.
    pub(crate) const GAP: usize = 8;

    /// A PNG file of the sheet.
    pub(crate) fn draw(&self, pictures: &[Framed<'_>]) -> Result<Vec<u8>> {
        let pitch = |inner: usize| inner + 2 * Self::FRAME + Self::GAP;
        let (band, width) = (pitch(self.inner.0), self.columns * pitch(self.inner.1) + Self::GAP);
        let height = pictures.len().div_ceil(self.columns) * band + Self::GAP;
        let bytes = band.checked_mul(width * 3).filter(|&bytes| bytes <= MOST_BYTES);
        let bytes = bytes.ok_or(EncodingError::LimitsExceeded)?;
        // A row of boxes at a time: a sheet of a thousand pictures is large.
        let bands = pictures.chunks(self.columns).map(|row| {
            let mut canvas = Canvas { width, samples: vec![255; bytes] };
            for (j, picture) in row.iter().enumerate() {
                self.draw_box(&mut canvas, j * pitch(self.inner.1) + Self::GAP, picture)?;
            }
            Ok(canvas.samples)
        });
        let below = std::iter::once_with(|| Ok(vec![255; Self::GAP * width * 3]));
        encode(height, width, ColorType::Rgb, bands.chain(below))
    }

    fn draw_box(&self, canvas: &mut Canvas, left: usize, picture: &Framed<'_>) -> Result<()> {
        let (rows, columns) = self.inner;
        let (top, frame, factor) = (Self::GAP, Self::FRAME, picture.factor);
        canvas.fill((top, left), (rows + 2 * frame, columns + 2 * frame), picture.frame);
        canvas.fill((top + frame, left + frame), (rows, columns), self.ground);
        let pixels = Pixels::decode(picture.png)?;
        let top = top + frame + rows.saturating_sub(pixels.height * factor) / 2;
        let left = left + frame + columns.saturating_sub(pixels.width * factor) / 2;
        for y in 0..pixels.height {
            for x in 0..pixels.width {
                let at = (top + y * factor, left + x * factor);
                canvas.fill(at, (factor, factor), pixels.over(self.ground, y, x));
            }
        }
        Ok(())
    }
}

/// Red, green and blue, row by row.
struct Canvas {
    width: usize,
    samples: Vec<u8>,
}

impl Canvas {
    fn fill(&mut self, (top, left): (usize, usize), (rows, columns): (usize, usize), color: Rgb) {
        for y in top..top + rows {
            let start = (y * self.width + left) * 3;
            for pixel in self.samples[start..start + columns * 3].chunks_exact_mut(3) {
                pixel.copy_from_slice(&color);
            }
        }
    }
}
