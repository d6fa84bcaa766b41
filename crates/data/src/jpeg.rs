//! JPEG files as Pillow reads them, through a port of libjpeg-turbo whose pixels are that library's, bit for bit.

use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

use crate::decode::{ColorMode, Failure, Raster, check_pixels};

/// Width and height from the header.
pub(crate) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Failure> {
    Ok(size(&Decoder::new(bytes)?))
}

/// The pixels. CMYK is taken as Adobe writes it, inverted.
pub(crate) fn read(bytes: &[u8], max_pixels: u64) -> Result<Raster, Failure> {
    let mut decoder = Decoder::new(bytes)?;
    let (width, height) = size(&decoder);
    check_pixels(width, height, max_pixels)?;
    if !has_end(bytes) {
        return Err(Failure::Undecodable(
            "expected an end-of-image marker: the file is truncated".to_owned(),
        ));
    }
    // A progressive image's coefficients, two bytes each, and planes.
    let max_memory = max_pixels.saturating_mul(16).saturating_add(1 << 26);
    decoder.set_limits(DecodeLimits { max_pixels, max_memory: Some(max_memory), ..DecodeLimits::default() });
    let image = decoder.decode_image()?;
    let (color, data) = match image.pixel_format {
        PixelFormat::Grayscale => (ColorMode::Grey, image.data),
        PixelFormat::Rgb => (ColorMode::Rgb, image.data),
        PixelFormat::Cmyk => {
            (ColorMode::Rgb, image.data.as_chunks().0.iter().flat_map(inverted_cmyk).collect())
        }
        other => {
            return Err(Failure::Undecodable(format!("expected grey, RGB or CMYK, found {other:?}")));
        }
    };
    Ok(Raster { width, height, color, data })
}

fn size(decoder: &Decoder<'_>) -> (u32, u32) {
    let header = decoder.header();
    (u32::from(header.width), u32::from(header.height))
}

/// Pillow's colour of four inks (`cmyk2rgb` in libImaging/Convert.c), where 255 stands for none.
fn inverted_cmyk(&[cyan, magenta, yellow, black]: &[u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|left| {
        let white = u32::from(black);
        let product = u32::from(255 - left) * white + 128;
        white.saturating_sub(((product >> 8) + product) >> 8) as u8
    })
}

/// Whether the markers of a JPEG file lead to an end-of-image marker (ITU-T T.81, annex B). Looking for its two
/// bytes alone would find that of an embedded thumbnail.
fn has_end(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    const START_OF_SCAN: u8 = 0xda;
    // In a scan's data 0xff stands before 0 or a restart marker; elsewhere any marker may follow, after fill bytes.
    let is_data = |byte: u8| matches!(byte, 0 | 0xd0..=0xd7);
    let mut place = 2;
    let mut in_scan = false;
    while let Some([first, second, ..]) = bytes.get(place..) {
        if *first != 0xff || *second == 0xff || (in_scan && is_data(*second)) {
            place += 1;
            continue;
        }
        match *second {
            END => return true,
            marker => {
                let Some([high, low, ..]) = bytes.get(place + 2..) else { return false };
                place += 2 + usize::from(u16::from_be_bytes([*high, *low]));
                in_scan = marker == START_OF_SCAN;
            }
        }
    }
    false
}
