//! Rectangles that are covered.

use super::Cover;
use super::chance::Chance;
use super::crop::Part;

/// Ten tries for a rectangle smaller than the image, then none: `RandomErasing.get_params` of torchvision.
pub(super) fn draw(
    chance: &mut Chance,
    (height, width): (usize, usize),
    area: (f64, f64),
    ratio: (f64, f64),
) -> Option<Part> {
    for _ in 0..10 {
        let area = (height * width) as f64 * chance.within(area);
        let ratio = chance.ratio(ratio);
        let side = |square: f64| square.sqrt().round_ties_even() as usize;
        let (h, w) = (side(area * ratio), side(area / ratio));
        if h < height && w < width {
            let (top, left) = (chance.below(height - h + 1), chance.below(width - w + 1));
            return Some(Part { top, left, height: h, width: w });
        }
    }
    None
}

/// Covers `part` of (H, W, C) pixels.
pub(super) fn cover(
    pixels: &mut [u8],
    (width, channels): (usize, usize),
    part: Part,
    with: Cover,
    chance: &mut Chance,
) {
    for row in pixels.chunks_exact_mut(width * channels).skip(part.top).take(part.height) {
        let row = &mut row[part.left * channels..][..part.width * channels];
        match with {
            Cover::Constant(value) => row.fill(value),
            Cover::Noise => chance.bytes(row),
        }
    }
}
