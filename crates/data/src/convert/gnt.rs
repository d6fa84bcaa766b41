//! CASIA-HWDB 1.0 to 1.2: handwritten Chinese characters, a file for each writer.
//!
//! A file is one sample after the other, little-endian: the number of its bytes (u32), the character in GB2312 (two bytes, the first
//! one of a symbol's being its code and the second 0), width and height (u16), and width × height bytes of gray, 255 being paper (C.-L.
//! Liu, F. Yin, D.-H. Wang and Q.-F. Wang, "CASIA Online and Offline Chinese Handwriting Databases", ICDAR 2011,
//! <https://nlpr.ia.ac.cn/databases/handwriting/Offline_database.html>).

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use encoding_rs::GBK;

use super::archive::{each, file_name, fill};
use super::{Picture, Visit};
use crate::error::{Error, Result};

const HEADER: usize = 10;
/// Longest side of a picture. Samples have some 150 pixels at most.
const LONGEST: u16 = 4096;

pub(super) fn is_one(name: &str) -> bool {
    let name = file_name(name);
    name.len() > 4 && name.to_ascii_lowercase().ends_with(".gnt") && !name.starts_with('.')
}

/// The split that a path tells: `HWDB1.1trn_gnt`, `Gnt1.1Test`.
fn split(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    let has = |words: [&str; 2]| words.iter().any(|word| name.contains(word));
    match (has(["trn", "train"]), has(["tst", "test"])) {
        (true, false) => "train",
        (false, true) => "test",
        _ => "",
    }
}

pub(super) fn visit(source: &Path, visit: &mut Visit<'_>) -> Result<()> {
    let parent = source.parent().unwrap_or(source);
    let mut seen = HashSet::new();
    each(source, &mut |path, name, reader| {
        if !is_one(name) {
            return Ok(true);
        }
        // Folders above the source say nothing about it.
        let split = split(&path.strip_prefix(parent).unwrap_or(path).to_string_lossy());
        let writer = file_name(name)[..file_name(name).len() - 4].to_owned();
        if !seen.insert((split, writer.clone())) {
            let expected = format!("one file {}", file_name(name));
            return Err(Error::Format { path: path.to_owned(), expected, found: "another one".to_owned() });
        }
        samples(path, split, &writer, reader, visit)?;
        Ok(true)
    })
}

fn samples(
    path: &Path,
    split: &'static str,
    writer: &str,
    reader: &mut dyn Read,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let mut header = [0; HEADER];
    let mut offset = 0u64;
    for number in 1.. {
        if !fill(reader, &mut header, path, &format!("the header of sample {number}"))? {
            break;
        }
        let [s0, s1, s2, s3, c0, c1, w0, w1, h0, h1] = header;
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        let (width, height) = (u16::from_le_bytes([w0, w1]), u16::from_le_bytes([h0, h1]));
        let wrong = |expected: String, found: String| {
            let found = format!("{found} in sample {number}, at byte {offset}");
            Err(Error::Format { path: path.to_owned(), expected, found })
        };
        if width == 0 || height == 0 || width > LONGEST || height > LONGEST {
            return wrong(
                format!("a picture of 1 to {LONGEST} pixels a side"),
                format!("{width} × {height}"),
            );
        }
        let area = usize::from(width) * usize::from(height);
        if size as usize != HEADER + area {
            return wrong(format!("{} bytes for {width} × {height}", HEADER + area), size.to_string());
        }
        let Some(class) = class(c0, c1) else {
            return wrong("a character of GB2312".to_owned(), format!("{c0:#04x} {c1:#04x}"));
        };
        let mut pixels = vec![0; area];
        if !fill(reader, &mut pixels, path, &format!("the pixels of sample {number}"))? {
            return wrong(format!("{area} bytes of pixels"), "the end of the file".to_owned());
        }
        offset += u64::from(size);
        visit(Picture {
            split,
            class,
            name: format!("{writer}-{number:05}"),
            width: width.into(),
            height: height.into(),
            channels: 1,
            pixels,
        })?;
    }
    Ok(())
}

/// The folder of a character.
fn class(first: u8, second: u8) -> Option<String> {
    let bytes = [first, second];
    let bytes = if second == 0 { &bytes[..1] } else { &bytes[..] };
    let text = GBK.decode_without_bom_handling_and_without_replacement(bytes)?;
    let mut characters = text.chars();
    let character = characters.next().filter(|c| !c.is_control())?;
    let is_plain = !character.is_ascii() || character.is_ascii_digit() || character.is_ascii_lowercase();
    match (characters.next(), is_plain) {
        (Some(_), _) => None,
        (None, true) => Some(character.to_string()),
        (None, false) => Some(format!("U+{:04X}", character as u32)),
    }
}
