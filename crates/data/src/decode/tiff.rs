//! TIFF files: the first page.

use std::borrow::Cow;
use std::io::{Cursor, ErrorKind};

use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError, TiffUnsupportedError};

use super::Picture;
use super::exif::TiffEntry;
use super::failure::{Failure, check_lost, check_pixels};
use crate::reading::{Alpha, Damaged, Reading, SixteenBit};

/// Width and height from the first directory.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Failure> {
    Ok(Decoder::new(Cursor::new(bytes)).map_err(failure)?.dimensions()?)
}

/// The pixels of the first page. Of an uncompressed file that is cut off, the missing rows are gray.
pub(super) fn read(file: &[u8], reading: &Reading) -> Result<Picture, Failure> {
    const PHOTOMETRIC: u16 = 262;
    const FILL_ORDER: u16 = 266;
    // The library refuses palettes. Their indices are what it would read of gray.
    let photometric = TiffEntry::find(file, PHOTOMETRIC);
    let has_palette = photometric.as_ref().and_then(|entry| entry.value(file)) == Some(3);
    let mut bytes = Cow::Borrowed(file);
    if let (true, Some(entry)) = (has_palette, photometric) {
        entry.set(bytes.to_mut(), 1);
    }
    let bytes = &bytes[..];
    let reversed = TiffEntry::find(bytes, FILL_ORDER).and_then(|entry| entry.value(bytes)) == Some(2);

    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(failure)?;
    let (width, height) = decoder.dimensions()?;
    check_pixels(width, height, reading.max_pixels)?;
    let mut limits = Limits::default();
    let most = usize::try_from(reading.max_pixels.saturating_mul(16))?;
    (limits.decoding_buffer_size, limits.intermediate_buffer_size) = (most, most);
    let mut decoder = decoder.with_limits(limits);
    let color = decoder.colortype()?;
    let bits = color.bit_depth();
    let (samples, kind) = match color {
        ColorType::Gray(_) if has_palette => (1, Kind::Palette),
        ColorType::Gray(_) => (1, Kind::Color),
        ColorType::GrayA(_) => (2, Kind::Color),
        ColorType::RGB(_) => (3, Kind::Color),
        ColorType::RGBA(_) => (4, Kind::Color),
        ColorType::CMYK(_) => (4, Kind::Cmyk),
        other => return Err(Failure::Undecodable(format!("{other:?} is not read"))),
    };
    let planes_apart = samples > 1 && decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration)? == Some(2);
    if planes_apart && decoder.get_chunk_type() == ChunkType::Tile {
        return Err(Failure::Undecodable(
            "planes stored one after the other in tiles are not read".to_owned(),
        ));
    }
    let palette = match kind {
        Kind::Palette => decoder.get_tag_u16_vec(Tag::ColorMap)?,
        _ => Vec::new(),
    };
    let is_raw = decoder.find_tag_unsigned::<u16>(Tag::Compression)?.unwrap_or(1) == 1;
    // 1 is color multiplied by alpha, 2 alpha beside it, anything else another value.
    let extra =
        decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)?.and_then(|tags| tags.first().copied());

    let n = width as usize * height as usize * samples;
    let gray = samples == 1 && kind == Kind::Color;
    let mut clipped = false;
    let mut wide = |value: f64, white: f64| -> u8 {
        if gray && reading.sixteen_bit == SixteenBit::Clip {
            clipped |= value > 255.0;
            value.clamp(0.0, 255.0) as u8
        } else {
            (value / ((white + 1.0) / 256.0)).clamp(0.0, 255.0) as u8
        }
    };
    // Nobody says which of such values are black and white.
    if bits > 16 {
        return Err(wide_samples(samples, bits));
    }
    let mut found = DecodingResult::U8(Vec::new());
    if let Err(error) = decoder.read_image_to_buffer(&mut found) {
        let in_order = is_raw && !planes_apart && decoder.get_chunk_type() == ChunkType::Strip;
        let missing = match in_order && reading.damaged == Damaged::Accept {
            true => missing_bytes(&mut decoder, file.len())?,
            false => 0,
        };
        if missing == 0 {
            return Err(failure(error));
        }
        let row = (width as usize * samples * usize::from(bits)).div_ceil(8);
        let lost = missing.div_ceil(row.max(1)).min(height as usize);
        check_lost(lost, height as usize, "rows", true)?;
        let mut picture = read(&[file, &vec![128; missing]].concat(), reading)?;
        picture.notes.push(format!("repaired: {lost} of {height} rows are missing"));
        return Ok(picture);
    }
    let mut data: Vec<u8> = match found {
        DecodingResult::U8(mut data) if bits < 8 => {
            if reversed && is_raw {
                data.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
            }
            unpacked(&data, width as usize * samples, bits, kind)
        }
        DecodingResult::U8(data) => data,
        DecodingResult::U16(data) if kind == Kind::Palette => data.into_iter().map(|v| v as u8).collect(),
        DecodingResult::U16(data) => data.into_iter().map(|v| wide(v.into(), 65_535.0)).collect(),
        DecodingResult::I16(data) => data.into_iter().map(|v| wide(v.into(), 32_767.0)).collect(),
        _ => return Err(wide_samples(samples, bits)),
    };
    if data.len() != n {
        return Err(Failure::Undecodable(format!("expected {n} samples, found {}", data.len())));
    }
    if planes_apart {
        let plane = n / samples;
        data = (0..n).map(|i| data[i % samples * plane + i / samples]).collect();
    }
    let mut picture = match kind {
        Kind::Color => {
            let (data, alpha) = match (samples, extra) {
                (4, Some(1)) => (data.as_chunks().0.iter().flat_map(divided).collect(), reading.alpha),
                (4, None | Some(0)) => (data, Alpha::Drop),
                _ => (data, reading.alpha),
            };
            let mut picture = Picture::new(width, height, samples, data, alpha);
            if alpha != reading.alpha {
                picture.notes.clear();
            }
            picture
        }
        Kind::Palette => {
            let colors = palette.len() / 3;
            let color = |&index: &u8| {
                let at = |plane: usize| {
                    palette.get(plane * colors + usize::from(index)).map_or(0, |v| (v >> 8) as u8)
                };
                [at(0), at(1), at(2)]
            };
            Picture::new(width, height, 3, data.iter().flat_map(color).collect(), reading.alpha)
        }
        Kind::Cmyk => {
            let rgb = data
                .as_chunks()
                .0
                .iter()
                .flat_map(|ink: &[u8; 4]| super::jpeg::inverted_cmyk(&ink.map(|v| 255 - v)));
            Picture::new(width, height, 3, rgb.collect(), reading.alpha)
        }
    };
    if clipped {
        picture.notes.push("clipped: 16-bit gray above 255 became 255, as in Pillow".to_owned());
    }
    Ok(picture)
}

/// How far the strips reach beyond the end of the file.
fn missing_bytes(decoder: &mut Decoder<Cursor<&[u8]>>, length: usize) -> Result<usize, Failure> {
    let (starts, lengths) =
        (decoder.get_tag_u64_vec(Tag::StripOffsets)?, decoder.get_tag_u64_vec(Tag::StripByteCounts)?);
    let ends = starts.into_iter().zip(lengths).map(|(start, length)| start.saturating_add(length));
    Ok(usize::try_from(ends.max().unwrap_or(0))?.saturating_sub(length))
}

/// What is wrong, and the way out where there is one.
fn failure(error: TiffError) -> Failure {
    Failure::Undecodable(match error {
        TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            "the file is cut off".to_owned()
        }
        TiffError::UnsupportedError(TiffUnsupportedError::UnsupportedCompressionMethod(method)) => {
            format!("compression by {method:?} is not read: save it without compression, or as PNG")
        }
        error => error.to_string(),
    })
}

fn wide_samples(samples: usize, bits: u8) -> Failure {
    let color = if samples == 1 { "gray" } else { "color" };
    Failure::Undecodable(format!("{bits}-bit {color}: convert it to 8 or 16 bits"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Color,
    Palette,
    Cmyk,
}

/// Samples of less than a byte, of which each row begins with a new byte.
fn unpacked(data: &[u8], row: usize, bits: u8, kind: Kind) -> Vec<u8> {
    let bits = usize::from(bits);
    let white = (1u32 << bits) - 1;
    let rows = data.chunks_exact((row * bits).div_ceil(8));
    let sample = |bytes: &[u8], i: usize| {
        let bit = i * bits;
        let value = u32::from(bytes[bit / 8]) >> (8 - bits - bit % 8) & white;
        if kind == Kind::Palette { value as u8 } else { (value * 255 / white) as u8 }
    };
    rows.flat_map(|bytes| (0..row).map(move |i| sample(bytes, i))).collect()
}

/// Color that was multiplied by alpha.
fn divided(&[r, g, b, a]: &[u8; 4]) -> [u8; 4] {
    let divide = |value: u8| match a {
        0 | 255 => value,
        a => (u32::from(value) * 255 / u32::from(a)).min(255) as u8,
    };
    [divide(r), divide(g), divide(b), a]
}
