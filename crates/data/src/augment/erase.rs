//! Random erasing.

use super::Cover;
use super::crop::Part;
use super::random::Random;

/// Draws a rectangle: ten tries for one smaller than the image, then none, as `RandomErasing.get_params` of
/// torchvision.
pub(super) fn draw(
    random: &mut Random,
    (height, width): (usize, usize),
    area: (f64, f64),
    ratio: (f64, f64),
) -> Option<Part> {
    for _ in 0..10 {
        let area = (height * width) as f64 * random.uniform(area);
        let ratio = random.log_uniform(ratio);
        let side = |square: f64| square.sqrt().round_ties_even() as usize;
        let (h, w) = (side(area * ratio), side(area / ratio));
        if h < height && w < width {
            let (top, left) = (random.below(height - h + 1), random.below(width - w + 1));
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
    random: &mut Random,
) {
    for row in pixels.chunks_exact_mut(width * channels).skip(part.top).take(part.height) {
        let row = &mut row[part.left * channels..][..part.width * channels];
        match with {
            Cover::Constant(value) => row.fill(value),
            Cover::Noise => random.bytes(row),
        }
    }
}
