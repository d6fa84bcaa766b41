//! Four 16×16 images: yellow discs with an open mouth, and a pink ghost, on black.

use super::{Picture, Rgb};

/// Pixels on a side.
pub(crate) const SIDE: usize = 16;

const BLACK: Rgb = [0, 0, 0];
const YELLOW: Rgb = [255, 255, 0];
const PINK: Rgb = [255, 160, 180];
const WHITE: Rgb = [255, 255, 255];
const BLUE: Rgb = [40, 0, 255];

/// The four images with their names.
pub(crate) fn sprites() -> [(&'static str, Picture); 4] {
    let picture = |color: fn(f64, f64) -> Rgb| {
        // A pixel takes the color at its center; the picture's center is (0, 0).
        let center = |i: usize| i as f64 + 0.5 - SIDE as f64 / 2.0;
        Picture::from_fn(SIDE, SIDE, |x, y| color(center(x), center(y)))
    };
    [
        ("disc, up", picture(|x, y| disc(-y, x))),
        ("disc, left", picture(|x, y| disc(-x, y))),
        ("disc, right", picture(disc)),
        ("ghost", picture(ghost)),
    ]
}

/// A disc whose mouth opens along +x.
fn disc(x: f64, y: f64) -> Rgb {
    let in_mouth = x > -1.0 && y.abs() < 0.72 * (x + 1.0);
    let eye = (x - 0.5).abs() < 0.1 && (y + 4.5).abs() < 0.1;
    if x.hypot(y) < 8.0 && !in_mouth && !eye { YELLOW } else { BLACK }
}

/// A body with a round head and a hem of three points, looking right.
fn ghost(x: f64, y: f64) -> Rgb {
    let in_head = y < -1.0 && x.hypot(y + 1.0) < 7.2;
    // The hem is a zigzag of a period of five pixels.
    let hem = 7.5 - ((x + 7.5).rem_euclid(5.0) - 2.5).abs();
    let in_body = y >= -1.0 && x.abs() < 7.2 && y < hem;
    if !in_head && !in_body {
        return BLACK;
    }
    let eyes = [-2.5, 3.5].map(|middle| (x - middle, y + 2.0));
    if eyes.iter().any(|&(dx, dy)| (0.0..2.0).contains(&dx) && dy.abs() < 1.0) {
        BLUE
    } else if eyes.iter().any(|&(dx, dy)| dx.abs() < 2.0 && dy.abs() < 3.0 && dx.abs() + dy.abs() < 4.0) {
        WHITE
    } else {
        PINK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_discs_are_one_disc_turned() {
        let [(_, up), (_, left), (_, right), (_, ghost)] = sprites();
        let at = |p: &Picture, x: usize, y: usize| p.pixels[(y * SIDE + x) * 3..][..3].to_vec();
        for y in 0..SIDE {
            for x in 0..SIDE {
                assert_eq!(at(&left, x, y), at(&right, SIDE - 1 - x, y));
                assert_eq!(at(&up, y, SIDE - 1 - x), at(&right, x, y));
            }
        }
        for picture in [&up, &ghost] {
            assert_eq!(picture.pixels.len(), 16 * 16 * 3);
            let drawn = picture.pixels.chunks(3).filter(|pixel| **pixel != BLACK).count();
            assert!((120..230).contains(&drawn), "{drawn}");
        }
    }
}
