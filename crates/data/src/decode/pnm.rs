//! PBM, PGM and PPM files, plain and raw.

use super::Picture;
use super::failure::{Failure, check_pixels};
use crate::decode_settings::ColorMode;
use crate::raster::Raster;
use crate::reading::{Damaged, Reading, SixteenBit};

struct Header {
    /// The digit of the magic number, 1 to 6.
    kind: u8,
    size: (u32, u32),
    /// The value of white.
    max: u32,
    /// Index of the first byte of the pixels.
    start: usize,
}

/// Width and height from the header.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Failure> {
    Ok(Header::read(bytes)?.size)
}

/// The pixels, scaled to 0 to 255 and rounded as in Pillow.
pub(super) fn read(bytes: &[u8], reading: &Reading) -> Result<Picture, Failure> {
    let header = Header::read(bytes)?;
    let (width, height) = header.size;
    check_pixels(width, height, reading.max_pixels)?;
    let samples = if matches!(header.kind, 3 | 6) { 3 } else { 1 };
    let row = width as usize * samples;
    let n = row * height as usize;
    let body = &bytes[header.start..];
    let max = header.max;
    let mut values: Vec<u16> = match header.kind {
        1 => Tokens(body).digits().take(n).collect(),
        2 | 3 => Tokens(body).numbers().take(n).map(|value| value.min(max) as u16).collect(),
        4 => {
            let bits =
                |row: &[u8]| (0..width as usize).map(|x| u16::from(row[x / 8] >> (7 - x % 8) & 1)).collect();
            let rows = body.chunks_exact((width as usize).div_ceil(8)).take(height as usize);
            rows.flat_map(|row| -> Vec<u16> { bits(row) }).collect()
        }
        _ if max > 255 => {
            let pairs = body.as_chunks().0.iter().take(n);
            pairs.copied().map(u16::from_be_bytes).collect()
        }
        _ => body.iter().take(n).copied().map(u16::from).collect(),
    };
    let mut notes = Vec::new();
    if values.len() < n {
        let lost = (n - values.len()).div_ceil(row);
        super::failure::check_lost(lost, height as usize, "rows", true)?;
        if reading.damaged == Damaged::Refuse {
            return Err(Failure::Undecodable(format!(
                "{lost} of {height} rows are missing: the file is cut off"
            )));
        }
        notes.push(format!("repaired: {lost} of {height} rows are missing"));
        values.resize(n, (max / 2) as u16);
    }
    let clip = samples == 1 && max > 255 && reading.sixteen_bit == SixteenBit::Clip;
    let mut clipped = false;
    let byte = |value: u16| match header.kind {
        1 | 4 => {
            if value == 0 {
                255
            } else {
                0
            }
        }
        _ if clip => {
            let value = scaled(value, max, 65_535);
            clipped |= value > 255;
            value.min(255) as u8
        }
        _ => scaled(value, max, 255) as u8,
    };
    let data = values.into_iter().map(byte).collect();
    if clipped {
        notes.push("clipped: 16-bit gray above 255 became 255, as in Pillow".to_owned());
    }
    let color = if samples == 1 { ColorMode::Gray } else { ColorMode::Rgb };
    Ok(Picture { notes, ..Raster { width, height, color, data }.into() })
}

/// `value / max * white`, rounded to even as by Python.
fn scaled(value: u16, max: u32, white: u32) -> u32 {
    let value = u32::from(value).min(max);
    if max == white {
        value
    } else {
        (f64::from(value) / f64::from(max) * f64::from(white)).round_ties_even() as u32
    }
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let wrong = || Failure::Undecodable("expected a width, a height and a white value".to_owned());
        let kind = bytes.get(1).ok_or_else(wrong)? - b'0';
        let mut tokens = Tokens(bytes.get(2..).unwrap_or_default());
        let mut next = || tokens.number().ok_or_else(wrong);
        let size = (next()?, next()?);
        let max = if matches!(kind, 1 | 4) { 1 } else { next()? };
        if !(1..=65_535).contains(&max) {
            return Err(Failure::Undecodable(format!("expected a white value of 1 to 65535, found {max}")));
        }
        // One white character ends the header.
        let start = (bytes.len() - tokens.0.len() + 1).min(bytes.len());
        Ok(Self { kind, size, max, start })
    }
}

/// Text of numbers and comments.
struct Tokens<'a>(&'a [u8]);

impl Tokens<'_> {
    fn skip_white(&mut self) {
        loop {
            self.0 = self.0.trim_ascii_start();
            match self.0 {
                [b'#', ..] => {
                    let end = self.0.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    self.0 = &self.0[end.unwrap_or(self.0.len())..];
                }
                _ => return,
            }
        }
    }

    fn number(&mut self) -> Option<u32> {
        self.skip_white();
        let end = self.0.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    fn numbers(mut self) -> impl Iterator<Item = u32> {
        std::iter::from_fn(move || self.number())
    }

    /// Single digits, which need no space between them.
    fn digits(mut self) -> impl Iterator<Item = u16> {
        std::iter::from_fn(move || {
            self.skip_white();
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            matches!(first, b'0' | b'1').then(|| u16::from(first - b'0'))
        })
    }
}
