//! What a file's header says of its image.

use serde::Serialize;

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
        match bytes {
            [0x89, b'P', b'N', b'G', ..] => png(bytes),
            [0xff, 0xd8, 0xff, ..] => jpeg(bytes),
            [b'G', b'I', b'F', b'8', ..] => gif(bytes),
            [b'B', b'M', ..] => bmp(bytes),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(bytes),
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => tiff(bytes),
            _ => None,
        }
    }

    /// Width and height as a viewer shows it, after the EXIF orientation.
    pub fn shown(&self) -> (u32, u32) {
        if self.orientation >= 5 { (self.height, self.width) } else { (self.width, self.height) }
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn le16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn png(bytes: &[u8]) -> Option<ImageFacts> {
    let (width, height) = (be32(bytes, 16)?, be32(bytes, 20)?);
    let (bits, kind) = (*bytes.get(24)?, *bytes.get(25)?);
    let colors = match kind {
        0 | 4 => Colors::Gray,
        3 => Colors::Palette,
        _ => Colors::Rgb,
    };
    let (mut alpha, mut orientation) = (kind >= 4, 1);
    let mut at = 8;
    while let (Some(length), Some(name)) = (be32(bytes, at), bytes.get(at + 4..at + 8)) {
        let data = bytes.get(at + 8..(at + 8).saturating_add(length as usize));
        match name {
            b"tRNS" => alpha = true,
            b"eXIf" => orientation = data.and_then(exif_orientation).unwrap_or(1),
            b"IEND" => break,
            _ => {}
        }
        at = at.saturating_add(12).saturating_add(length as usize);
    }
    Some(ImageFacts { format: "PNG", width, height, colors, alpha, bits, orientation })
}

fn jpeg(bytes: &[u8]) -> Option<ImageFacts> {
    let mut orientation = 1;
    let mut at = 2;
    loop {
        // Other bytes may stand between segments, and 0xff may be repeated.
        while *bytes.get(at)? != 0xff || matches!(*bytes.get(at + 1)?, 0xff | 0) {
            at += 1;
        }
        let marker = *bytes.get(at + 1)?;
        let length = be16(bytes, at + 2)? as usize;
        let segment = bytes.get(at + 4..(at + 2 + length).min(bytes.len()))?;
        match marker {
            0xe1 => {
                if let Some(exif) = segment.strip_prefix(b"Exif\0\0") {
                    orientation = exif_orientation(exif).unwrap_or(1);
                }
            }
            // Frames of every coding; 0xc4, 0xc8 and 0xcc are tables and extensions.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let colors = match segment.get(5)? {
                    1 => Colors::Gray,
                    4 => Colors::Cmyk,
                    _ => Colors::Rgb,
                };
                return Some(ImageFacts {
                    format: "JPEG",
                    width: be16(segment, 3)?,
                    height: be16(segment, 1)?,
                    colors,
                    alpha: false,
                    bits: *segment.first()?,
                    orientation,
                });
            }
            _ => {}
        }
        at += 2 + length;
    }
}

fn gif(bytes: &[u8]) -> Option<ImageFacts> {
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
    let (width, height) = (le16(bytes, 6)?, le16(bytes, 8)?);
    Some(ImageFacts { format: "GIF", width, height, colors: Colors::Palette, alpha, bits: 8, orientation: 1 })
}

fn bmp(bytes: &[u8]) -> Option<ImageFacts> {
    let (width, height, bits) = match le32(bytes, 14)? {
        12 => (le16(bytes, 18)?, le16(bytes, 20)?, le16(bytes, 24)?),
        // The height of a picture stored from the top is negative.
        _ => (le32(bytes, 18)?, le32(bytes, 22)?.cast_signed().unsigned_abs(), le16(bytes, 28)?),
    };
    let colors = if bits <= 8 { Colors::Palette } else { Colors::Rgb };
    Some(ImageFacts { format: "BMP", width, height, colors, alpha: bits == 32, bits: 8, orientation: 1 })
}

fn webp(bytes: &[u8]) -> Option<ImageFacts> {
    let le24 = |at| Some(le16(bytes, at)? | u32::from(*bytes.get(at + 2)?) << 16);
    let (width, height, alpha) = match bytes.get(12..16)? {
        b"VP8X" => (le24(24)? + 1, le24(27)? + 1, bytes.get(20)? & 0x10 != 0),
        b"VP8L" => {
            let packed = le32(bytes, 21)?;
            ((packed & 0x3fff) + 1, (packed >> 14 & 0x3fff) + 1, packed >> 28 & 1 != 0)
        }
        _ => (le16(bytes, 26)? & 0x3fff, le16(bytes, 28)? & 0x3fff, false),
    };
    let mut orientation = 1;
    let mut at = 12;
    while let (Some(name), Some(length)) = (bytes.get(at..at + 4), le32(bytes, at + 4)) {
        if name == b"EXIF" {
            let data = bytes.get(at + 8..).unwrap_or_default();
            orientation = exif_orientation(data.strip_prefix(b"Exif\0\0").unwrap_or(data)).unwrap_or(1);
        }
        // Chunks have an even length.
        at = at.saturating_add(8).saturating_add(length.saturating_add(length & 1) as usize);
    }
    Some(ImageFacts { format: "WebP", width, height, colors: Colors::Rgb, alpha, bits: 8, orientation })
}

fn tiff(bytes: &[u8]) -> Option<ImageFacts> {
    let tag = |tag| tiff_tag(bytes, tag);
    let colors = match tag(262) {
        Some(0 | 1) => Colors::Gray,
        Some(3) => Colors::Palette,
        Some(5) => Colors::Cmyk,
        _ => Colors::Rgb,
    };
    Some(ImageFacts {
        format: "TIFF",
        width: tag(256)?,
        height: tag(257)?,
        colors,
        alpha: tag(338).is_some(),
        bits: tag(258).map_or(8, |bits| bits.min(64) as u8),
        orientation: orientation(tag(274)).unwrap_or(1),
    })
}

/// The orientation in EXIF data, which is laid out as a TIFF file.
fn exif_orientation(exif: &[u8]) -> Option<u8> {
    orientation(tiff_tag(exif, 274))
}

fn orientation(value: Option<u32>) -> Option<u8> {
    value.filter(|value| (1..=8).contains(value)).map(|value| value as u8)
}

/// The first value of a tag of the first directory: a number of 16 or 32 bits, or the first of several of 16 bits.
fn tiff_tag(bytes: &[u8], tag: u32) -> Option<u32> {
    let little = bytes.starts_with(b"II");
    let u16_at = |at| if little { le16(bytes, at) } else { be16(bytes, at) };
    let u32_at = |at| if little { le32(bytes, at) } else { be32(bytes, at) };
    let directory = u32_at(4)? as usize;
    let entries = u16_at(directory)? as usize;
    let entry = (0..entries).map(|i| directory + 2 + 12 * i).find(|&at| u16_at(at) == Some(tag))?;
    let (kind, count) = (u16_at(entry + 2)?, u32_at(entry + 4)?);
    match kind {
        3 if count <= 2 => u16_at(entry + 8),
        3 => u16_at(u32_at(entry + 8)? as usize),
        4 => u32_at(entry + 8),
        _ => None,
    }
}
