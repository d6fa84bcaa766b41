//! From the channels of a file to those of the result.

use crate::decode_settings::ColorMode;
use crate::raster::{Raster, luma};

impl Raster {
    /// Keeps the colors of pixels of 1 to 4 channels, and drops the alpha of the second or fourth.
    pub(super) fn without_alpha(width: u32, height: u32, channels: usize, data: Vec<u8>) -> Self {
        let (color, data) = match channels {
            1 => (ColorMode::Gray, data),
            2 => (ColorMode::Gray, data.as_chunks::<2>().0.iter().map(|&[gray, _]| gray).collect()),
            3 => (ColorMode::Rgb, data),
            _ => {
                (ColorMode::Rgb, data.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect())
            }
        };
        Self { width, height, color, data }
    }

    /// Converts between gray and RGB.
    pub(super) fn into_color(self, color: ColorMode) -> Self {
        let data = match (self.color, color) {
            (ColorMode::Rgb, ColorMode::Gray) => self.data.as_chunks().0.iter().map(luma).collect(),
            (ColorMode::Gray, ColorMode::Rgb) => self.data.iter().flat_map(|&v| [v; 3]).collect(),
            _ => self.data,
        };
        Self { color, data, ..self }
    }
}
