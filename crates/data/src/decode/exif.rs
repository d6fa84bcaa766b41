//! The orientation that a camera wrote, wherever a format keeps EXIF data.

use super::format::Format;
use crate::raster::Raster;

/// One of the eight values of the EXIF tag: how the stored image is turned to stand upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Orientation {
    pub(super) const UPRIGHT: Self = Self(1);

    /// Whether width and height change places.
    fn turns(self) -> bool {
        self.0 >= 5
    }

    /// Width and height of the upright image.
    pub(super) fn size(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.turns() { (height, width) } else { (width, height) }
    }

    /// The upright image, as `ImageOps.exif_transpose` of Pillow makes it.
    pub(super) fn apply(self, source: Raster) -> Raster {
        match source.color.channels() {
            _ if self == Self::UPRIGHT => source,
            1 => self.turned::<1>(source),
            _ => self.turned::<3>(source),
        }
    }

    fn turned<const C: usize>(self, source: Raster) -> Raster {
        let (columns, rows) = (source.width as usize, source.height as usize);
        let pixels = source.data.as_chunks::<C>().0;
        let (width, height) = self.size((source.width, source.height));
        let mut data = Vec::with_capacity(source.data.len());
        for y in 0..height as usize {
            for x in 0..width as usize {
                let (column, row) = match self.0 {
                    2 => (columns - 1 - x, y),
                    3 => (columns - 1 - x, rows - 1 - y),
                    4 => (x, rows - 1 - y),
                    5 => (y, x),
                    6 => (y, rows - 1 - x),
                    7 => (columns - 1 - y, rows - 1 - x),
                    _ => (columns - 1 - y, x),
                };
                data.extend_from_slice(&pixels[row * columns + column]);
            }
        }
        Raster { width, height, data, ..source }
    }
}

/// The orientation of a file. Data that is missing or broken says upright.
pub(super) fn orientation(format: Format, bytes: &[u8]) -> Orientation {
    let found = match format {
        Format::Jpeg => jpeg_segments(bytes).find_map(|(marker, data)| match marker {
            0xe1 => in_tiff(data.strip_prefix(b"Exif\0")?.get(1..)?),
            _ => None,
        }),
        Format::Png => png_chunks(bytes).find_map(|(name, data)| match name {
            b"eXIf" => in_tiff(data.strip_prefix(b"Exif\0\0").unwrap_or(data)),
            _ => None,
        }),
        Format::WebP => webp_chunks(bytes).find_map(|(name, data)| match name {
            b"EXIF" => in_tiff(data.strip_prefix(b"Exif\0\0").unwrap_or(data)),
            _ => None,
        }),
        Format::Tiff => in_tiff(bytes),
        Format::Gif | Format::Bmp | Format::Pnm => None,
    };
    found.unwrap_or(Orientation::UPRIGHT)
}

/// The orientation in the first directory of a TIFF structure.
fn in_tiff(data: &[u8]) -> Option<Orientation> {
    let value = TiffEntry::find(data, 0x0112)?.value(data)?;
    (1..=8).contains(&value).then_some(Orientation(value as u8))
}

/// An entry of the first directory of a TIFF structure.
pub(super) struct TiffEntry {
    /// Index of its twelve bytes.
    at: usize,
    is_big_endian: bool,
}

impl TiffEntry {
    pub(super) fn find(data: &[u8], tag: u16) -> Option<Self> {
        let is_big_endian = match data.get(..4)? {
            b"MM\0\x2a" => true,
            b"II\x2a\0" => false,
            _ => return None,
        };
        let u16_at = |at: usize| {
            let bytes = data.get(at..at.checked_add(2)?)?.try_into().ok()?;
            Some(if is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
        };
        let offset = data.get(4..8)?.try_into().ok()?;
        let directory =
            if is_big_endian { u32::from_be_bytes(offset) } else { u32::from_le_bytes(offset) } as usize;
        let entries = (0..usize::from(u16_at(directory)?)).map(|i| directory + 2 + i * 12);
        entries.into_iter().find(|&at| u16_at(at) == Some(tag)).map(|at| Self { at, is_big_endian })
    }

    /// The first value of an entry whose values are whole numbers of at most four bytes.
    pub(super) fn value(&self, data: &[u8]) -> Option<u32> {
        let &[_, _, high, low, _, _, _, _, a, b, c, d] = data.get(self.at..self.at.checked_add(12)?)? else {
            return None;
        };
        match (u16::from(high) | u16::from(low), self.is_big_endian) {
            (1, _) => Some(a.into()),
            (3, true) => Some(u16::from_be_bytes([a, b]).into()),
            (3, false) => Some(u16::from_le_bytes([a, b]).into()),
            (4, true) => Some(u32::from_be_bytes([a, b, c, d])),
            (4, false) => Some(u32::from_le_bytes([a, b, c, d])),
            _ => None,
        }
    }

    /// Gives an entry of one 16-bit value another.
    pub(super) fn set(&self, data: &mut [u8], value: u16) {
        if let Some(place) = data.get_mut(self.at + 8..self.at + 10) {
            place.copy_from_slice(&if self.is_big_endian {
                value.to_be_bytes()
            } else {
                value.to_le_bytes()
            });
        }
    }
}

/// The segments of a JPEG file before its first scan: marker and data.
pub(super) fn jpeg_segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut position = 2;
    std::iter::from_fn(move || {
        // A marker is 0xff, perhaps more of them, and another byte. Stray bytes before one are passed over.
        let start = position + bytes.get(position..)?.iter().position(|&byte| byte == 0xff)?;
        let code = start + bytes.get(start..)?.iter().position(|&byte| byte != 0xff)?;
        let marker = bytes[code];
        if matches!(marker, 0xd9 | 0xda) {
            return None;
        }
        if matches!(marker, 0 | 1 | 0xd0..=0xd8) {
            position = code + 1;
            return Some((marker, &bytes[..0]));
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(code + 1)?, *bytes.get(code + 2)?]));
        position = code + 1 + length.max(2);
        Some((marker, bytes.get(code + 3..position).unwrap_or_default()))
    })
}

/// The chunks of a PNG file: name and data.
pub(super) fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (name, after) = after.split_first_chunk::<4>()?;
        let data = after.get(..u32::from_be_bytes(*length) as usize)?;
        rest = after.get(data.len() + 4..).unwrap_or_default();
        Some((name, data))
    })
}

/// The chunks of a WebP file: name and data; of a chunk that is cut off, what there is.
pub(super) fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    riff_chunks(bytes.get(12..).unwrap_or_default())
}

/// RIFF chunks one after the other: name and data.
pub(super) fn riff_chunks(mut rest: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (name, after) = rest.split_first_chunk::<4>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let data = &after[..length.min(after.len())];
        // Chunks are padded to an even length.
        rest = after.get(length.saturating_add(length % 2)..).unwrap_or_default();
        Some((name, data))
    })
}
