//! WebP files: the first frame, taken out of its container, so that what is decoded has the size that the header says.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;

use super::exif::{riff_chunks, webp_chunks};
use super::failure::{Failure, check_pixels};
use super::{Picture, Samples, pixels_of};
use crate::reading::{Alpha, Reading};

/// Width and height of the canvas.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Failure> {
    Ok(Frame::first(bytes)?.canvas)
}

/// The first frame on its canvas, which is transparent around it, or black where the file has no alpha.
pub(super) fn read(bytes: &[u8], reading: &Reading) -> Result<Picture, Failure> {
    let frame = Frame::first(bytes)?;
    check_pixels(frame.canvas.0, frame.canvas.1, reading.max_pixels)?;
    check_pixels(frame.size.0, frame.size.1, reading.max_pixels)?;
    let file = frame.file();
    let Samples { size, channels, data } =
        pixels_of(WebPDecoder::new(Cursor::new(&file[..]))?, reading.max_pixels)?;
    if size != frame.size {
        let (width, height) = frame.size;
        return Err(Failure::Undecodable(format!("expected a frame of {width}x{height}, found {size:?}")));
    }
    let (width, height) = frame.canvas;
    if frame.canvas == frame.size {
        return Ok(Picture::new(width, height, channels, data, reading.alpha));
    }
    let opaque = if frame.has_alpha { 0 } else { 255 };
    let mut canvas = [0, 0, 0, opaque].repeat(width as usize * height as usize);
    let (left, top) = (frame.corner.0 as usize, frame.corner.1 as usize);
    for (row, pixels) in data.chunks_exact(size.0 as usize * channels).enumerate() {
        let start = ((top + row) * width as usize + left) * 4;
        let target = canvas[start..start + size.0 as usize * 4].as_chunks_mut::<4>().0;
        for (target, pixel) in target.iter_mut().zip(pixels.chunks_exact(channels)) {
            *target = match *pixel {
                [r, g, b, a] => [r, g, b, a],
                [r, g, b] => [r, g, b, 255],
                _ => [0; 4],
            };
        }
    }
    let alpha = if frame.has_alpha { reading.alpha } else { Alpha::Drop };
    Ok(Picture::new(width, height, 4, canvas, alpha))
}

/// The first frame of a file.
struct Frame<'a> {
    /// Width and height of the image.
    canvas: (u32, u32),
    /// Column and row of the frame's corner on it.
    corner: (u32, u32),
    /// Width and height of the frame, of which its data says the same.
    size: (u32, u32),
    /// Whether the file has transparency.
    has_alpha: bool,
    /// Chunks of the frame: perhaps ALPH, then `VP8 ` or VP8L.
    alpha: Option<&'a [u8]>,
    name: [u8; 4],
    data: &'a [u8],
}

impl<'a> Frame<'a> {
    fn first(bytes: &'a [u8]) -> Result<Self, Failure> {
        let missing = || Failure::Undecodable("expected an image, found none".to_owned());
        let (name, first) = webp_chunks(bytes).next().ok_or_else(missing)?;
        if name != b"VP8X" {
            let size = size(name, first).ok_or_else(missing)?;
            let has_alpha = name == b"VP8L" && first.get(4).is_some_and(|byte| byte & 0x10 != 0);
            return Ok(Self {
                canvas: size,
                corner: (0, 0),
                size,
                has_alpha,
                alpha: None,
                name: *name,
                data: first,
            });
        }
        let [flags, _, _, _, rest @ ..] = first else { return Err(missing()) };
        let (has_alpha, is_animated) = (flags & 0x10 != 0, flags & 0x02 != 0);
        let canvas = (u24(rest, 0).ok_or_else(missing)? + 1, u24(rest, 3).ok_or_else(missing)? + 1);
        let frame = match is_animated {
            true => Some(webp_chunks(bytes).find(|(name, _)| *name == b"ANMF").ok_or_else(missing)?.1),
            false => None,
        };
        let (mut alpha, mut image) = (None, None);
        let inner = frame.map(|frame| riff_chunks(frame.get(16..).unwrap_or_default()));
        let chunks: Vec<_> = match inner {
            Some(chunks) => chunks.collect(),
            None => webp_chunks(bytes).collect(),
        };
        for (name, data) in chunks {
            match name {
                b"ALPH" => alpha = Some(data),
                b"VP8 " | b"VP8L" => {
                    image = Some((*name, data));
                    break;
                }
                _ => {}
            }
        }
        let (name, data) = image.ok_or_else(missing)?;
        let found = size(&name, data).ok_or_else(missing)?;
        let (corner, expected) = match frame {
            None => ((0, 0), canvas),
            Some(frame) => {
                let at = |i| u24(frame, i).ok_or_else(missing);
                ((2 * at(0)?, 2 * at(3)?), (at(6)? + 1, at(9)? + 1))
            }
        };
        let inside = corner.0 + expected.0 <= canvas.0 && corner.1 + expected.1 <= canvas.1;
        if found != expected || !inside {
            return Err(Failure::Undecodable(format!(
                "expected a frame of {}x{} on {}x{}, found {}x{}",
                expected.0, expected.1, canvas.0, canvas.1, found.0, found.1
            )));
        }
        Ok(Self { canvas, corner, size: expected, has_alpha, alpha, name, data })
    }

    /// A file of the frame alone.
    fn file(&self) -> Vec<u8> {
        let mut body = b"WEBP".to_vec();
        let mut chunk = |name: &[u8; 4], data: &[u8]| {
            body.extend(name);
            body.extend((data.len() as u32).to_le_bytes());
            body.extend(data);
            body.resize(body.len() + data.len() % 2, 0);
        };
        if let (Some(alpha), b"VP8 ") = (self.alpha, &self.name) {
            let side = |side: u32| (side - 1).to_le_bytes();
            let (width, height) = (side(self.size.0), side(self.size.1));
            chunk(b"VP8X", &[&[0x10, 0, 0, 0], &width[..3], &height[..3]].concat());
            chunk(b"ALPH", alpha);
        }
        chunk(&self.name, self.data);
        [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
    }
}

/// Width and height of an image chunk.
fn size(name: &[u8; 4], data: &[u8]) -> Option<(u32, u32)> {
    match name {
        b"VP8 " if data.get(3..6)? == [0x9d, 0x01, 0x2a] => {
            let side = |i| Some(u32::from(u16::from_le_bytes([*data.get(i)?, *data.get(i + 1)?]) & 0x3fff));
            Some((side(6)?, side(8)?))
        }
        b"VP8L" if *data.first()? == 0x2f => {
            let bits = u32::from_le_bytes(data.get(1..5)?.try_into().ok()?);
            Some(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        _ => None,
    }
}

fn u24(data: &[u8], at: usize) -> Option<u32> {
    let [a, b, c, ..] = *data.get(at..at + 3)? else { return None };
    Some(u32::from_le_bytes([a, b, c, 0]))
}
