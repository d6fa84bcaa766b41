//! PNG files.

use std::io::Cursor;

use super::Picture;
use super::failure::{Failure, check_lost, check_pixels};
use crate::reading::{Damaged, Reading, SixteenBit};

/// The last chunk: its name and checksum.
const END: &[u8] = b"IEND\xae\x42\x60\x82";

/// Width and height from the header.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Failure> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    let info = decoder.read_header_info()?;
    Ok((info.width, info.height))
}

/// The pixels. Of a file that is cut off, the missing rows are gray, unless it is interlaced.
pub(super) fn read(bytes: &[u8], reading: &Reading) -> Result<Picture, Failure> {
    match decode(bytes, reading, Repair::None) {
        Err(Failure::Undecodable(_)) if reading.damaged == Damaged::Accept => {
            match decode(bytes, reading, Repair::Checksums) {
                Err(Failure::Undecodable(_)) => decode(bytes, reading, Repair::Rows),
                repaired => repaired,
            }
        }
        result => result,
    }
}

/// What may be wrong with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repair {
    None,
    Checksums,
    Rows,
}

fn decode(bytes: &[u8], reading: &Reading, repair: Repair) -> Result<Picture, Failure> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.ignore_checksums(repair != Repair::None);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(png::Transformations::EXPAND);
    let header = decoder.read_header_info()?;
    let (width, height) = (header.width, header.height);
    check_pixels(width, height, reading.max_pixels)?;
    let mut reader = decoder.read_info()?;
    let too_large = || Failure::Undecodable("the pixels do not fit into memory".to_owned());
    let mut data = vec![0; reader.output_buffer_size().ok_or_else(too_large)?];
    let mut notes = Vec::new();
    if repair == Repair::Rows {
        let is_cut = !bytes.windows(8).any(|chunk| chunk == END);
        let row = reader.output_line_size(width).ok_or_else(too_large)?;
        if reader.info().interlaced {
            let file = if is_cut { "cut off" } else { "corrupt" };
            return Err(Failure::Undecodable(format!("the file is {file}, and interlaced")));
        }
        data.fill(128);
        let mut found = 0;
        for target in data.chunks_exact_mut(row) {
            match reader.next_row() {
                Ok(Some(source)) => target.copy_from_slice(source.data()),
                _ => break,
            }
            found += 1;
        }
        let lost = height as usize - found;
        check_lost(lost, height as usize, "rows", is_cut)?;
        notes.push(match lost {
            0 if is_cut => "repaired: the end is missing".to_owned(),
            0 => "repaired: the data are corrupt".to_owned(),
            _ if is_cut => format!("repaired: {lost} of {height} rows are missing"),
            _ => format!("repaired: {lost} of {height} rows are unreadable"),
        });
    } else {
        let frame = reader.next_frame(&mut data)?;
        data.truncate(frame.buffer_size());
        if repair == Repair::Checksums {
            notes.push("repaired: checksums are wrong".to_owned());
        }
    }
    let (color_type, bit_depth) = reader.output_color_type();

    let is_gray_in_file = reader.info().color_type == png::ColorType::Grayscale;
    let mut clipped = false;
    let data = match bit_depth {
        // Pillow reads 16-bit gray as its mode I;16, which `convert` clips to 255 ...
        png::BitDepth::Sixteen if is_gray_in_file && reading.sixteen_bit == SixteenBit::Clip => {
            // With a transparent color, alpha stands beside the gray.
            let samples = color_type.samples();
            let values = data.as_chunks().0.iter().copied().map(u16::from_be_bytes);
            let clip = |(i, value): (usize, u16)| {
                clipped |= value > 255 && i % samples == 0;
                value.min(255) as u8
            };
            values.enumerate().map(clip).collect()
        }
        // ... and of all others it reads the upper byte.
        png::BitDepth::Sixteen => data.as_chunks::<2>().0.iter().map(|bytes| bytes[0]).collect(),
        _ => data,
    };
    let mut picture = Picture::new(width, height, color_type.samples(), data, reading.alpha);
    picture.notes.extend(notes);
    if clipped {
        picture.notes.push("clipped: 16-bit gray above 255 became 255, as in Pillow".to_owned());
    }
    Ok(picture)
}
