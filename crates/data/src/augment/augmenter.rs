use super::affine::{Affine, resample};
use super::chance::{Chance, Purpose};
use super::{Augmentation, Transform, color, crop, erase};
use crate::error::{Error, Result};

/// Applies an [`Augmentation`] to images of one shape.
#[derive(Debug, Clone)]
pub struct Augmenter {
    pub(super) augmentation: Augmentation,
    /// Height, width, channels.
    pub(super) shape: (usize, usize, usize),
}

impl Augmenter {
    /// For images of `shape`, (H, W, C).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a setting that makes no sense, or images that are neither grey nor RGB.
    pub fn new(augmentation: Augmentation, shape: (usize, usize, usize)) -> Result<Self> {
        augmentation.check()?;
        let (height, width, channels) = shape;
        if height == 0 || width == 0 || !matches!(channels, 1 | 3) {
            let found = format!("{height}x{width}x{channels}");
            return Err(Error::invalid(
                "augmented images",
                "a shape HxWx1 or HxWx3 of at least one pixel",
                found,
            ));
        }
        Ok(Self { augmentation, shape })
    }

    /// What is done.
    pub fn augmentation(&self) -> &Augmentation {
        &self.augmentation
    }

    /// What becomes of `image`, (H, W, C) bytes, which is number `index` of the data, in `epoch`.
    ///
    /// # Panics
    ///
    /// If the image has another number of bytes than the shape.
    pub fn apply(&self, image: &[u8], epoch: usize, index: usize) -> Vec<u8> {
        let (height, width, channels) = self.shape;
        assert_eq!(
            image.len(),
            height * width * channels,
            "bytes of an image of {height}x{width}x{channels}"
        );
        let mut chance = Chance::new(self.augmentation.seed, Purpose::Image, epoch, index);
        match channels {
            1 => self.change::<1>(image.to_vec(), &mut chance),
            _ => self.change::<3>(image.to_vec(), &mut chance),
        }
    }

    fn change<const C: usize>(&self, mut pixels: Vec<u8>, chance: &mut Chance) -> Vec<u8> {
        let (height, width, _) = self.shape;
        let size = (height, width);
        // Geometry that has been drawn and not yet done.
        let mut map = Affine::IDENTITY;
        for transform in &self.augmentation.transforms {
            if let Some(next) = geometry(transform, size, chance) {
                map = map.then(next);
                continue;
            }
            self.resample::<C>(&mut pixels, &mut map);
            match *transform {
                Transform::CropResized { scale, ratio, interpolation } => {
                    let part = crop::draw(chance, size, scale, ratio);
                    pixels = crop::resized(&pixels, self.shape, part, interpolation);
                }
                Transform::Brightness { factor } => color::brightness(&mut pixels, chance.within(factor)),
                Transform::Contrast { factor } => color::contrast::<C>(&mut pixels, chance.within(factor)),
                Transform::ColorJitter { brightness, contrast, saturation, hue } => {
                    jitter::<C>(&mut pixels, [brightness, contrast, saturation, hue], chance);
                }
                Transform::Erase { probability, area, ratio, with } => {
                    if chance.happens(probability)
                        && let Some(part) = erase::draw(chance, size, area, ratio)
                    {
                        erase::cover(&mut pixels, (width, C), part, with, chance);
                    }
                }
                Transform::FlipHorizontal { .. }
                | Transform::FlipVertical { .. }
                | Transform::Rotate { .. }
                | Transform::Zoom { .. }
                | Transform::Translate { .. }
                | Transform::CropPadded { .. } => {}
            }
        }
        self.resample::<C>(&mut pixels, &mut map);
        pixels
    }

    /// Does the geometry, if there is any to be done.
    fn resample<const C: usize>(&self, pixels: &mut Vec<u8>, map: &mut Affine) {
        let map = std::mem::replace(map, Affine::IDENTITY);
        if map != Affine::IDENTITY {
            let (height, width, _) = self.shape;
            let Augmentation { interpolation, fill, .. } = self.augmentation;
            let mut target = vec![0; pixels.len()];
            resample::<C>(pixels, (height, width), map, interpolation, fill, &mut target);
            *pixels = target;
        }
    }
}

/// The map of a change of place, drawn; `None` for another kind of change.
fn geometry(transform: &Transform, size: (usize, usize), chance: &mut Chance) -> Option<Affine> {
    let (height, width) = (size.0 as f64, size.1 as f64);
    let flip = |happens: bool, map: Affine| if happens { map } else { Affine::IDENTITY };
    Some(match *transform {
        Transform::FlipHorizontal { probability } => {
            flip(chance.happens(probability), Affine::flip_horizontal(size))
        }
        Transform::FlipVertical { probability } => {
            flip(chance.happens(probability), Affine::flip_vertical(size))
        }
        Transform::Rotate { degrees } => Affine::rotate(chance.within(degrees), size),
        Transform::Zoom { by } => Affine::zoom(1.0 + chance.within(by), size),
        Transform::Translate { down, right } => {
            let down = height * chance.within(down);
            Affine::translate(down, width * chance.within(right))
        }
        Transform::CropPadded { padding } => {
            let mut shift = || padding as f64 - chance.below(2 * padding + 1) as f64;
            let down = shift();
            Affine::translate(down, shift())
        }
        _ => return None,
    })
}

/// torchvision's `ColorJitter`.
fn jitter<const C: usize>(pixels: &mut [u8], strengths: [f64; 4], chance: &mut Chance) {
    let mut order = [0, 1, 2, 3];
    for i in (1..order.len()).rev() {
        order.swap(i, chance.below(i + 1));
    }
    for kind in order {
        let strength = strengths[kind];
        if strength == 0.0 {
            continue;
        }
        let factor = (f64::max(0.0, 1.0 - strength), 1.0 + strength);
        match kind {
            0 => color::brightness(pixels, chance.within(factor)),
            1 => color::contrast::<C>(pixels, chance.within(factor)),
            2 if C == 3 => color::saturation(pixels, chance.within(factor)),
            3 if C == 3 => color::hue(pixels, chance.within((-strength, strength))),
            _ => {}
        }
    }
}
