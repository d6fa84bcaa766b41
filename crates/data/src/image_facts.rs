//! What a file's header says of its image.

use serde::Serialize;

use crate::decode::exif::{Orientation, TiffEntry, jpeg_segments, orientation, png_chunks};
use crate::decode::format::Format;

/// What a file's header says of its image, without decoding it.
///
/// # Examples
///
/// ```
/// use firstsight_data::{Colors, ImageFacts};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("1.png");
/// # image::RgbaImage::new(45, 61).save(&path).unwrap();
/// let facts = ImageFacts::read(&std::fs::read(path)?).unwrap();
/// assert_eq!((facts.format, facts.width, facts.height), ("PNG", 45, 61));
/// assert_eq!((facts.colors, facts.alpha, facts.bits), (Colors::Rgb, true, 8));
/// assert_eq!(facts.orientation, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImageFacts {
    /// `PNG`, `JPEG`, `GIF`, `BMP`, `WebP` or `TIFF`.
    pub format: &'static str,
    /// Width in pixels as stored.
    pub width: u32,
    /// Height in pixels as stored.
    pub height: u32,
    /// The kind of colors.
    pub colors: Colors,
    /// Whether there is a channel of transparency or a transparent color.
    pub alpha: bool,
    /// Bits of a channel.
    pub bits: u8,
    /// The EXIF orientation: 1 is upright, 2 to 8 are turned or mirrored, as by a phone held upright.
    pub orientation: u8,
}

/// The kind of colors of an image in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Colors {
    /// One channel.
    Gray,
    /// Indices of a table of colors.
    Palette,
    /// Red, green and blue, or their luma and chroma.
    Rgb,
    /// Inks.
    Cmyk,
}

impl ImageFacts {
    /// Reads the header of a file's bytes; `None` where it is of no known format or cut off.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let format = Format::guess(bytes)?;
        let Header { size: (width, height), colors, alpha, bits } = match format {
            Format::Png => png(bytes),
            Format::Jpeg => jpeg(bytes),
            Format::Gif => gif(bytes),
            Format::Bmp => bmp(bytes),
            Format::WebP => webp(bytes),
            Format::Tiff => tiff(bytes),
            Format::Pnm => None,
        }?;
        let orientation = orientation(format, bytes).value();
        Some(Self { format: format.name(), width, height, colors, alpha, bits, orientation })
    }

    /// Width and height as a viewer shows it, after the EXIF orientation.
    pub fn shown(&self) -> (u32, u32) {
        Orientation::of(self.orientation.into())
            .unwrap_or(Orientation::UPRIGHT)
            .size((self.width, self.height))
    }
}

/// What stands in a header beside the orientation.
struct Header {
    /// Width and height.
    size: (u32, u32),
    colors: Colors,
    alpha: bool,
    bits: u8,
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn le16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn png(bytes: &[u8]) -> Option<Header> {
    let (bits, kind) = (*bytes.get(24)?, *bytes.get(25)?);
    let colors = match kind {
        0 | 4 => Colors::Gray,
        3 => Colors::Palette,
        _ => Colors::Rgb,
    };
    let alpha = kind >= 4 || png_chunks(bytes).any(|(name, _)| name == b"tRNS");
    Some(Header { size: (be32(bytes, 16)?, be32(bytes, 20)?), colors, alpha, bits })
}

fn jpeg(bytes: &[u8]) -> Option<Header> {
    // Frames of every coding; 0xc4, 0xc8 and 0xcc are tables and extensions.
    let is_frame = |marker| matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
    let (_, frame) = jpeg_segments(bytes).find(|&(marker, _)| is_frame(marker))?;
    let colors = match frame.get(5)? {
        1 => Colors::Gray,
        4 => Colors::Cmyk,
        _ => Colors::Rgb,
    };
    Some(Header { size: (be16(frame, 3)?, be16(frame, 1)?), colors, alpha: false, bits: *frame.first()? })
}

fn gif(bytes: &[u8]) -> Option<Header> {
    // The transparent color of the first frame stands in a graphic control extension before it.
    let table = match bytes.get(10)? {
        flags if flags & 0x80 != 0 => 3 << ((flags & 7) + 1),
        _ => 0,
    };
    let mut at = 13 + table;
    let mut alpha = false;
    while bytes.get(at) == Some(&0x21) {
        alpha |= bytes.get(at + 1) == Some(&0xf9) && bytes.get(at + 3).is_some_and(|flags| flags & 1 != 0);
        at += 2;
        while let Some(&length @ 1..) = bytes.get(at) {
            at += 1 + usize::from(length);
        }
        at += 1;
    }
    Some(Header { size: (le16(bytes, 6)?, le16(bytes, 8)?), colors: Colors::Palette, alpha, bits: 8 })
}

fn bmp(bytes: &[u8]) -> Option<Header> {
    let (width, height, bits) = match le32(bytes, 14)? {
        12 => (le16(bytes, 18)?, le16(bytes, 20)?, le16(bytes, 24)?),
        // The height of a picture stored from the top is negative.
        _ => (le32(bytes, 18)?, le32(bytes, 22)?.cast_signed().unsigned_abs(), le16(bytes, 28)?),
    };
    let colors = if bits <= 8 { Colors::Palette } else { Colors::Rgb };
    Some(Header { size: (width, height), colors, alpha: bits == 32, bits: 8 })
}

fn webp(bytes: &[u8]) -> Option<Header> {
    let le24 = |at| Some(le16(bytes, at)? | u32::from(*bytes.get(at + 2)?) << 16);
    let (width, height, alpha) = match bytes.get(12..16)? {
        b"VP8X" => (le24(24)? + 1, le24(27)? + 1, bytes.get(20)? & 0x10 != 0),
        b"VP8L" => {
            let packed = le32(bytes, 21)?;
            ((packed & 0x3fff) + 1, (packed >> 14 & 0x3fff) + 1, packed >> 28 & 1 != 0)
        }
        _ => (le16(bytes, 26)? & 0x3fff, le16(bytes, 28)? & 0x3fff, false),
    };
    Some(Header { size: (width, height), colors: Colors::Rgb, alpha, bits: 8 })
}

fn tiff(bytes: &[u8]) -> Option<Header> {
    let tag = |tag| TiffEntry::find(bytes, tag)?.value(bytes);
    let colors = match tag(262) {
        Some(0 | 1) => Colors::Gray,
        Some(3) => Colors::Palette,
        Some(5) => Colors::Cmyk,
        _ => Colors::Rgb,
    };
    Some(Header {
        size: (tag(256)?, tag(257)?),
        colors,
        alpha: TiffEntry::find(bytes, 338).is_some(),
        bits: tag(258).map_or(8, |bits| bits.min(64) as u8),
    })
}
