//! Digits of this program's own, in MNIST's form.

use firstsight_data::ImageDataset;
use firstsight_handwriting::{DIGITS, Image, Split, Writer, render};
use rayon::prelude::*;

use super::SIDE;
use crate::Result;

/// Pixels on a side of the box that a digit is fitted into, MNIST's.
const BOX: usize = 20;

/// `n` of each digit, the digits in turn, by the writers of `split`.
pub(super) fn draw(split: Split, n: usize, seed: u64) -> Result<ImageDataset> {
    let jobs: Vec<(usize, usize)> =
        (0..n).flat_map(|sample| (0..DIGITS.len()).map(move |digit| (sample, digit))).collect();
    let pixels: Vec<Vec<u8>> = jobs
        .par_iter()
        .map(|&(sample, digit)| {
            let writer = Writer::new(seed, split, (sample % split.writers()) as u32);
            Ok(fitted(&render(DIGITS[digit], &writer, (sample / split.writers()) as u64)?))
        })
        .collect::<Result<_>>()?;
    let labels = jobs.iter().map(|&(_, digit)| digit as u32).collect();
    let classes = DIGITS.map(String::from).to_vec();
    Ok(ImageDataset::from_pixels(pixels.concat(), (SIDE, SIDE, 1), labels, classes)?)
}

/// Dark ink on white as MNIST has its digits: light on black, the ink's box scaled to 20 pixels, its center of mass
/// in the middle.
fn fitted(image: &Image) -> Vec<u8> {
    let (width, height) = (image.width as usize, image.height as usize);
    // Paper has a grain; ink is what is well darker.
    let ink = |x: usize, y: usize| {
        f64::from((255 - image.pixels[y * width + x]).saturating_sub(40)) * 255.0 / 215.0
    };
    let columns: Vec<usize> = (0..width).filter(|&x| (0..height).any(|y| ink(x, y) > 40.0)).collect();
    let rows: Vec<usize> = (0..height).filter(|&y| (0..width).any(|x| ink(x, y) > 40.0)).collect();
    let (Some(&left), Some(&right), Some(&top), Some(&bottom)) =
        (columns.first(), columns.last(), rows.first(), rows.last())
    else {
        return vec![0; SIDE * SIDE];
    };
    let scale = ((right - left + 1).max(bottom - top + 1)) as f64 / BOX as f64;
    let (mut mass, mut x_mass, mut y_mass) = (0.0, 0.0, 0.0);
    for y in top..=bottom {
        for x in left..=right {
            let ink = ink(x, y);
            (mass, x_mass, y_mass) =
                (mass + ink, x_mass + ink * (x as f64 + 0.5), y_mass + ink * (y as f64 + 0.5));
        }
    }
    let (x_center, y_center) = (x_mass / mass, y_mass / mass);
    let half = SIDE as f64 / 2.0;
    // Each target pixel is the mean of FINE × FINE places of the source within it.
    const FINE: usize = 4;
    let at = |x: f64, y: f64| {
        let inside = x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64;
        if inside { ink(x as usize, y as usize) } else { 0.0 }
    };
    let fine = |pixel: usize, part: usize| pixel as f64 + (part as f64 + 0.5) / FINE as f64 - half;
    let mut target = Vec::with_capacity(SIDE * SIDE);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let places = (0..FINE * FINE).map(|place| {
                let (u, v) = (fine(x, place % FINE), fine(y, place / FINE));
                at(x_center + u * scale, y_center + v * scale)
            });
            target.push((places.sum::<f64>() / (FINE * FINE) as f64).round() as u8);
        }
    }
    target
}
