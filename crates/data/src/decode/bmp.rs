//! BMP files.

use std::io::Cursor;

use image::ImageDecoder as _;
use image::codecs::bmp::BmpDecoder;

use super::failure::{Failure, check_lost};
use super::{Picture, pixels_of};
use crate::reading::{Damaged, Reading};

/// Width and height from the header.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Failure> {
    Ok(BmpDecoder::new(Cursor::new(bytes))?.dimensions())
}

/// The pixels. Where the end is cut off, the missing rows are gray.
pub(super) fn read(bytes: &[u8], reading: &Reading) -> Result<Picture, Failure> {
    let decode = |bytes: &[u8]| -> Result<Picture, Failure> {
        let decoder = BmpDecoder::new(Cursor::new(bytes))?;
        Ok(pixels_of(decoder, reading.max_pixels)?.picture(reading.alpha))
    };
    let failure = match decode(bytes) {
        Err(failure @ Failure::Undecodable(_)) if reading.damaged == Damaged::Accept => failure,
        result => return result,
    };
    let Some((needed, row, rows)) = layout(bytes).filter(|(needed, ..)| *needed > bytes.len()) else {
        return Err(failure);
    };
    let lost = (needed - bytes.len()).div_ceil(row);
    check_lost(lost, rows, "rows", true)?;
    let mut padded = bytes.to_vec();
    padded.resize(needed, 128);
    let mut picture = decode(&padded)?;
    picture.notes.push(format!("repaired: {lost} of {rows} rows are missing"));
    Ok(picture)
}

/// The length of a whole uncompressed file, and the bytes of a row and the number of rows.
fn layout(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let bits = u16::from_le_bytes([*bytes.get(28)?, *bytes.get(29)?]);
    if u32_at(14)? < 40 || !matches!(u32_at(30)?, 0 | 3 | 6) {
        return None;
    }
    let rows = u32_at(22)?.cast_signed().unsigned_abs() as usize;
    let row = (u32_at(18)? as usize).checked_mul(usize::from(bits))?.div_ceil(32).checked_mul(4)?;
    Some((row.checked_mul(rows)?.checked_add(u32_at(10)? as usize)?, row, rows)).filter(|_| row > 0)
}
