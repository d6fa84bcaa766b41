//! Pixels at the size that they have in a file.

#[cfg(feature = "decode")]
use crate::decode_settings::ColorMode;

/// An image of any size; `data` holds `height * width * color.channels()` bytes, rows first, channels last.
#[cfg(feature = "decode")]
pub(crate) struct Raster {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) color: ColorMode,
    pub(crate) data: Vec<u8>,
}

/// ITU-R 601-2 luma as Pillow rounds it (`L24` in libImaging/Convert.c).
pub(crate) fn luma(&[r, g, b]: &[u8; 3]) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16) as u8
}
