//! From the channels of a file to those of the result.

use super::Picture;
use crate::decode_settings::ColorMode;
use crate::raster::{Raster, luma};
use crate::reading::Alpha;

/// A channel over white.
fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

impl Picture {
    /// An image of 1 to 4 channels, the second or fourth of them alpha.
    pub(super) fn new(width: u32, height: u32, channels: usize, data: Vec<u8>, alpha: Alpha) -> Self {
        let color = if channels < 3 { ColorMode::Gray } else { ColorMode::Rgb };
        let (data, hidden) = match channels {
            2 => without_alpha::<2, 1>(&data, alpha, |&[v, a]| ([v], a)),
            4 => without_alpha::<4, 3>(&data, alpha, |&[r, g, b, a]| ([r, g, b], a)),
            _ => (data, false),
        };
        let mut picture = Self::from(Raster { width, height, color, data });
        if hidden && alpha == Alpha::Drop {
            picture.notes.push("transparent: the colors of pixels that viewers hide are used".to_owned());
        }
        picture
    }
}

/// The colors of pixels with alpha, and whether any is not opaque.
fn without_alpha<const N: usize, const C: usize>(
    data: &[u8],
    alpha: Alpha,
    parts: impl Fn(&[u8; N]) -> ([u8; C], u8),
) -> (Vec<u8>, bool) {
    let mut hidden = false;
    let pixels = data.as_chunks::<N>().0.iter().flat_map(|pixel| {
        let (color, a) = parts(pixel);
        hidden |= a < 255;
        match alpha {
            Alpha::Drop => color,
            Alpha::Blend => color.map(|value| over_white(value, a)),
        }
    });
    (pixels.collect(), hidden)
}

impl Raster {
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
