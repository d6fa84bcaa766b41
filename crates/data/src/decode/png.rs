//! PNG files.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Once;

use super::failure::{Failure, check_pixels};
use crate::raster::Raster;

/// Width and height from the header.
pub(super) fn dimensions(reader: BufReader<File>) -> Result<(u32, u32), Failure> {
    let mut decoder = png::Decoder::new(reader);
    let info = decoder.read_header_info()?;
    Ok((info.width, info.height))
}

/// The pixels, without alpha.
pub(super) fn read(path: &Path, reader: BufReader<File>, max_pixels: u64) -> Result<Raster, Failure> {
    let mut decoder = png::Decoder::new(reader);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(png::Transformations::EXPAND);
    let header = decoder.read_header_info()?;
    check_pixels(header.width, header.height, max_pixels)?;
    let mut reader = decoder.read_info()?;
    let too_large = || Failure::Undecodable("the pixels do not fit into memory".to_owned());
    let mut data = vec![0; reader.output_buffer_size().ok_or_else(too_large)?];
    let frame = reader.next_frame(&mut data)?;
    data.truncate(frame.buffer_size());

    let is_gray_in_file = reader.info().color_type == png::ColorType::Grayscale;
    let data = match frame.bit_depth {
        // Pillow reads 16-bit gray as its mode I;16, which `convert` clips to 255 ...
        png::BitDepth::Sixteen if is_gray_in_file => {
            let values = data.as_chunks().0.iter().copied().map(u16::from_be_bytes);
            if values.clone().any(|value| value > 255) {
                static ONCE: Once = Once::new();
                ONCE.call_once(|| {
                    tracing::warn!(path = %path.display(), "16-bit gray above 255 becomes 255, as in Pillow");
                });
            }
            values.map(|value| value.min(255) as u8).collect()
        }
        // ... and of all others it reads the upper byte.
        png::BitDepth::Sixteen => data.as_chunks::<2>().0.iter().map(|bytes| bytes[0]).collect(),
        _ => data,
    };
    let (width, height) = (frame.width, frame.height);
    Ok(Raster::without_alpha(width, height, frame.color_type.samples(), data))
}
