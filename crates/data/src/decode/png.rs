//! PNG files.

use std::io::Cursor;

use super::Picture;
use super::failure::{Failure, check_pixels};
use crate::reading::{Reading, SixteenBit};

/// Width and height from the header.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Failure> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    let info = decoder.read_header_info()?;
    Ok((info.width, info.height))
}

/// The pixels.
pub(super) fn read(bytes: &[u8], reading: &Reading) -> Result<Picture, Failure> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(png::Transformations::EXPAND);
    let header = decoder.read_header_info()?;
    check_pixels(header.width, header.height, reading.max_pixels)?;
    let mut reader = decoder.read_info()?;
    let too_large = || Failure::Undecodable("the pixels do not fit into memory".to_owned());
    let mut data = vec![0; reader.output_buffer_size().ok_or_else(too_large)?];
    let frame = reader.next_frame(&mut data)?;
    data.truncate(frame.buffer_size());

    let is_gray_in_file = reader.info().color_type == png::ColorType::Grayscale;
    let mut clipped = false;
    let data = match frame.bit_depth {
        // Pillow reads 16-bit gray as its mode I;16, which `convert` clips to 255 ...
        png::BitDepth::Sixteen if is_gray_in_file && reading.sixteen_bit == SixteenBit::Clip => {
            // With a transparent color, alpha stands beside the gray.
            let samples = frame.color_type.samples();
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
    let mut picture =
        Picture::new(frame.width, frame.height, frame.color_type.samples(), data, reading.alpha);
    if clipped {
        picture.notes.push("clipped: 16-bit gray above 255 became 255, as in Pillow".to_owned());
    }
    Ok(picture)
}
