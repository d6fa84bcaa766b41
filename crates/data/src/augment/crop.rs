//! Random resized crops.

use super::random::Random;
use crate::decode_settings::{ColorMode, Interpolation};
use crate::resize::{View, scale};

/// A part of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

/// Draws a part: ten tries for one that fits, then the largest at the center, as `RandomResizedCrop.get_params` of
/// torchvision.
pub(super) fn draw(
    random: &mut Random,
    (height, width): (usize, usize),
    area: (f64, f64),
    ratio: (f64, f64),
) -> Part {
    for _ in 0..10 {
        let area = (height * width) as f64 * random.uniform(area);
        let ratio = random.log_uniform(ratio);
        let side = |square: f64| square.sqrt().round_ties_even() as usize;
        let (w, h) = (side(area * ratio), side(area / ratio));
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let (top, left) = (random.below(height - h + 1), random.below(width - w + 1));
            return Part { top, left, height: h, width: w };
        }
    }
    let whole = width as f64 / height as f64;
    let rounded = |side: f64| (side.round_ties_even() as usize).max(1);
    let (h, w) = if whole < ratio.0 {
        (rounded(width as f64 / ratio.0).min(height), width)
    } else if whole > ratio.1 {
        (height, rounded(height as f64 * ratio.1).min(width))
    } else {
        (height, width)
    };
    Part { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}

/// Crops `part` of pixels, rows of `source_width` times `channels` bytes, and resizes it to (H, W).
pub(super) fn resized(
    pixels: &[u8],
    (source_width, channels): (usize, usize),
    part: Part,
    (height, width): (usize, usize),
    interpolation: Interpolation,
) -> Vec<u8> {
    let (stride, start) = (source_width * channels, (part.top * source_width + part.left) * channels);
    let color = if channels == 1 { ColorMode::Gray } else { ColorMode::Rgb };
    let view = View { data: &pixels[start..], stride, width: part.width, height: part.height };
    scale(view, color, width, height, interpolation)
}
