//! The orientation that a camera wrote, wherever a format keeps EXIF data.

use super::format::Format;
use crate::raster::Raster;

/// One of the eight values of the EXIF tag: how the stored image is turned to stand upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orientation(u8);

impl Orientation {
    pub(crate) const UPRIGHT: Self = Self(1);

    /// `None` for other values than 1 to 8.
    pub(crate) fn of(value: u32) -> Option<Self> {
        (1..=8).contains(&value).then_some(Self(value as u8))
    }

    pub(crate) fn value(self) -> u8 {
        self.0
    }

    /// Whether width and height change places.
    fn turns(self) -> bool {
        self.0 >= 5
    }

    /// Width and height of the upright image.
    pub(crate) fn size(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.turns() { (height, width) } else { (width, height) }
    }

    /// The upright image, as `ImageOps.exif_transpose` of Pillow makes it.
    pub(crate) fn apply(self, source: Raster) -> Raster {
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
pub(crate) fn orientation(format: Format, bytes: &[u8]) -> Orientation {
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
    Orientation::of(TiffEntry::find(data, 0x0112)?.value(data)?)
}

/// An entry of the first directory of a TIFF structure.
pub(crate) struct TiffEntry {
    /// Index of its twelve bytes, of BigTIFF twenty.
    at: usize,
    is_big_endian: bool,
    /// BigTIFF has counts and places of eight bytes instead of four.
    is_big: bool,
}

impl TiffEntry {
    pub(crate) fn find(data: &[u8], tag: u16) -> Option<Self> {
        let (is_big_endian, is_big) = match data.get(..4)? {
            b"MM\0\x2a" => (true, false),
            b"II\x2a\0" => (false, false),
            b"MM\0\x2b" => (true, true),
            b"II\x2b\0" => (false, true),
            _ => return None,
        };
        let (entries, first, bytes) = if is_big {
            let directory = u64_at(data, 8, is_big_endian)?;
            (u64_at(data, directory, is_big_endian)?, directory + 8, 20)
        } else {
            let directory = u32_at(data, 4, is_big_endian)? as usize;
            (u16_at(data, directory, is_big_endian)?.into(), directory + 2, 12)
        };
        let mut places = (first..data.len()).step_by(bytes).take(entries);
        let at = places.find(|&at| u16_at(data, at, is_big_endian) == Some(tag))?;
        Some(Self { at, is_big_endian, is_big })
    }

    /// The first value of an entry whose values are whole numbers of at most four bytes.
    pub(crate) fn value(&self, data: &[u8]) -> Option<u32> {
        let kind = u16_at(data, self.at + 2, self.is_big_endian)?;
        let count = self.long(data, self.at + 4)?;
        let width = match kind {
            1 => 1,
            3 => 2,
            4 => 4,
            _ => return None,
        };
        // Values that do not fit lie elsewhere.
        let at = match count.checked_mul(width)? <= self.long_bytes() {
            true => self.values(),
            false => self.long(data, self.values())?,
        };
        match kind {
            1 => data.get(at).map(|&value| value.into()),
            3 => u16_at(data, at, self.is_big_endian).map(u32::from),
            _ => u32_at(data, at, self.is_big_endian),
        }
    }

    fn long_bytes(&self) -> usize {
        if self.is_big { 8 } else { 4 }
    }

    /// Index of the values, or of their place.
    fn values(&self) -> usize {
        self.at + 4 + self.long_bytes()
    }

    /// A count or place.
    fn long(&self, data: &[u8], at: usize) -> Option<usize> {
        match self.is_big {
            true => u64_at(data, at, self.is_big_endian),
            false => u32_at(data, at, self.is_big_endian).map(|long| long as usize),
        }
    }

    /// Gives an entry of one 16-bit value another.
    pub(crate) fn set(&self, data: &mut [u8], value: u16) {
        let at = self.values();
        if let Some(place) = data.get_mut(at..at + 2) {
            place.copy_from_slice(&if self.is_big_endian {
                value.to_be_bytes()
            } else {
                value.to_le_bytes()
            });
        }
    }
}

fn u16_at(data: &[u8], at: usize, is_big_endian: bool) -> Option<u16> {
    let bytes = *data.get(at..)?.first_chunk()?;
    Some(if is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
}

fn u32_at(data: &[u8], at: usize, is_big_endian: bool) -> Option<u32> {
    let bytes = *data.get(at..)?.first_chunk()?;
    Some(if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
}

/// A count or place in `data`, so of its size at most.
fn u64_at(data: &[u8], at: usize, is_big_endian: bool) -> Option<usize> {
    let bytes = *data.get(at..)?.first_chunk()?;
    let long = if is_big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) };
    usize::try_from(long).ok().filter(|long| *long <= data.len())
}

/// The segments of a JPEG file before its first scan: marker and data.
pub(crate) fn jpeg_segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
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
pub(crate) fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
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
pub(crate) fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    riff_chunks(bytes.get(12..).unwrap_or_default())
}

/// RIFF chunks one after the other: name and data.
pub(crate) fn riff_chunks(mut rest: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
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
