//! JPEG files, read by a port of libjpeg-turbo to the same pixels as Pillow, bit for bit.

use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

use super::Picture;
use super::failure::{Failure, check_pixels};
use crate::decode_settings::ColorMode;
use crate::raster::Raster;
use crate::reading::Reading;

/// Width and height from the header.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Failure> {
    Ok(size(&Decoder::new(bytes)?))
}

/// The pixels. CMYK is read as Adobe writes it, inverted.
pub(super) fn read(bytes: &[u8], reading: &Reading) -> Result<Picture, Failure> {
    let max_pixels = reading.max_pixels;
    let mut decoder = Decoder::new(bytes)?;
    let (width, height) = size(&decoder);
    check_pixels(width, height, max_pixels)?;
    if !has_end(bytes) {
        return Err(Failure::Undecodable(
            "expected an end-of-image marker: the file is truncated".to_owned(),
        ));
    }
    // Enough for a progressive image's coefficients, two bytes each, and its planes.
    let max_memory = max_pixels.saturating_mul(16).saturating_add(1 << 26);
    decoder.set_limits(DecodeLimits { max_pixels, max_memory: Some(max_memory), ..DecodeLimits::default() });
    let image = decoder.decode_image()?;
    let (color, data) = match image.pixel_format {
        PixelFormat::Grayscale => (ColorMode::Gray, image.data),
        PixelFormat::Rgb => (ColorMode::Rgb, image.data),
        PixelFormat::Cmyk => {
            (ColorMode::Rgb, image.data.as_chunks().0.iter().flat_map(inverted_cmyk).collect())
        }
        other => {
            return Err(Failure::Undecodable(format!("expected gray, RGB or CMYK, found {other:?}")));
        }
    };
    Ok(Raster { width, height, color, data }.into())
}

fn size(decoder: &Decoder<'_>) -> (u32, u32) {
    let header = decoder.header();
    (u32::from(header.width), u32::from(header.height))
}

/// Converts CMYK, 255 meaning no ink, to RGB as Pillow does (`cmyk2rgb` in libImaging/Convert.c).
fn inverted_cmyk(&[cyan, magenta, yellow, black]: &[u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|left| {
        let white = u32::from(black);
        let product = u32::from(255 - left) * white + 128;
        white.saturating_sub(((product >> 8) + product) >> 8) as u8
    })
}

/// Whether the markers of a JPEG file lead to an end-of-image marker (ITU-T T.81, annex B).
///
/// A search for the marker's two bytes would also find the one of an embedded thumbnail.
fn has_end(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    const START_OF_SCAN: u8 = 0xda;
    // In a scan's data 0xff precedes 0 or a restart marker; elsewhere any marker may follow, after fill bytes.
    let is_data = |byte: u8| matches!(byte, 0 | 0xd0..=0xd7);
    let mut position = 2;
    let mut in_scan = false;
    while let Some([first, second, ..]) = bytes.get(position..) {
        if *first != 0xff || *second == 0xff || (in_scan && is_data(*second)) {
            position += 1;
            continue;
        }
        match *second {
            END => return true,
            marker => {
                let Some([high, low, ..]) = bytes.get(position + 2..) else { return false };
                position += 2 + usize::from(u16::from_be_bytes([*high, *low]));
                in_scan = marker == START_OF_SCAN;
            }
        }
    }
    false
}
