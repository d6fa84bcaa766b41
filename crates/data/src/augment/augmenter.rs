//! The augmentation of one image.

use super::affine::{Affine, resample};
use super::random::{Purpose, Random};
use super::{Augmentation, Transform, color, crop, erase};
use crate::error::{Error, Result};

/// Applies an [`Augmentation`] to images of one shape.
#[derive(Debug, Clone)]
pub struct Augmenter {
    pub(super) augmentation: Augmentation,
    /// Height, width, channels.
    pub(super) shape: (usize, usize, usize),
    /// Height and width of the images that are changed.
    source: (usize, usize),
}

impl Augmenter {
    /// An augmenter for images of `shape`, (H, W, C).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an invalid setting, or images that are neither gray nor RGB.
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
        Ok(Self { augmentation, shape, source: (height, width) })
    }

    /// The augmenter of images of (H, W) `source` that end as those of its shape: the crop, which comes first, is cut from
    /// the image at that size, so that less of its detail is lost. From images of its shape it does what it did.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an augmentation that does not begin with [`Transform::CropResized`], and sides of 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use firstsight_data::{Augmentation, Augmenter};
    ///
    /// let augmenter = Augmenter::new(Augmentation::photos(1), (2, 2, 3))?.cut_from((4, 4))?;
    /// assert_eq!(augmenter.apply(&[9; 4 * 4 * 3], 0, 0).len(), 2 * 2 * 3);
    /// # Ok::<(), firstsight_data::Error>(())
    /// ```
    pub fn cut_from(self, source: (usize, usize)) -> Result<Self> {
        let (height, width) = source;
        if height == 0 || width == 0 {
            let found = format!("{height}x{width}");
            return Err(Error::invalid("the images that crops are cut from", "sides of at least 1", found));
        }
        match self.augmentation.transforms.first() {
            Some(Transform::CropResized { .. }) => Ok(Self { source, ..self }),
            first => {
                let found = first.map_or("no transform".to_owned(), |first| format!("{first:?}"));
                Err(Error::invalid("the first transform of larger images", "a resized crop", found))
            }
        }
    }

    /// The augmentation.
    pub fn augmentation(&self) -> &Augmentation {
        &self.augmentation
    }

    /// The augmented image, (H, W, C) bytes: `image`, as large or of the size to [cut from](Self::cut_from), is number
    /// `index` of the data, in `epoch`.
    ///
    /// # Panics
    ///
    /// If the number of bytes is not that of the images that are changed.
    pub fn apply(&self, image: &[u8], epoch: usize, index: usize) -> Vec<u8> {
        let ((height, width), (_, _, channels)) = (self.source, self.shape);
        assert_eq!(
            image.len(),
            height * width * channels,
            "bytes of an image of {height}x{width}x{channels}"
        );
        let mut random = Random::new(self.augmentation.seed, Purpose::Image, epoch, index);
        match channels {
            1 => self.change::<1>(image.to_vec(), &mut random),
            _ => self.change::<3>(image.to_vec(), &mut random),
        }
    }

    fn change<const C: usize>(&self, mut pixels: Vec<u8>, random: &mut Random) -> Vec<u8> {
        let (height, width, _) = self.shape;
        let mut size = self.source;
        // Geometric transforms that are drawn but not yet applied.
        let mut map = Affine::IDENTITY;
        for transform in &self.augmentation.transforms {
            if let Some(next) = geometry(transform, size, random) {
                map = map.then(next);
                continue;
            }
            self.resample::<C>(&mut pixels, &mut map);
            match *transform {
                Transform::CropResized { scale, ratio, interpolation } => {
                    let part = crop::draw(random, size, scale, ratio);
                    pixels = crop::resized(&pixels, (size.1, C), part, (height, width), interpolation);
                    size = (height, width);
                }
                Transform::Brightness { factor } => color::brightness(&mut pixels, random.uniform(factor)),
                Transform::Contrast { factor } => color::contrast::<C>(&mut pixels, random.uniform(factor)),
                Transform::ColorJitter { brightness, contrast, saturation, hue } => {
                    jitter::<C>(&mut pixels, [brightness, contrast, saturation, hue], random);
                }
                Transform::Erase { probability, area, ratio, with } => {
                    if random.bernoulli(probability)
                        && let Some(part) = erase::draw(random, size, area, ratio)
                    {
                        erase::cover(&mut pixels, (width, C), part, with, random);
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

    /// Applies the pending geometric transforms, if any.
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

/// Draws the map of a geometric transform; `None` for a transform of another kind.
fn geometry(transform: &Transform, size: (usize, usize), random: &mut Random) -> Option<Affine> {
    let (height, width) = (size.0 as f64, size.1 as f64);
    let flip = |happens: bool, map: Affine| if happens { map } else { Affine::IDENTITY };
    Some(match *transform {
        Transform::FlipHorizontal { probability } => {
            flip(random.bernoulli(probability), Affine::flip_horizontal(size))
        }
        Transform::FlipVertical { probability } => {
            flip(random.bernoulli(probability), Affine::flip_vertical(size))
        }
        Transform::Rotate { degrees } => Affine::rotate(random.uniform(degrees), size),
        Transform::Zoom { by } => Affine::zoom(1.0 + random.uniform(by), size),
        Transform::Translate { down, right } => {
            let down = height * random.uniform(down);
            Affine::translate(down, width * random.uniform(right))
        }
        Transform::CropPadded { padding } => {
            let mut shift = || padding as f64 - random.below(2 * padding + 1) as f64;
            let down = shift();
            Affine::translate(down, shift())
        }
        _ => return None,
    })
}

/// torchvision's `ColorJitter`.
fn jitter<const C: usize>(pixels: &mut [u8], strengths: [f64; 4], random: &mut Random) {
    let mut order = [0, 1, 2, 3];
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i + 1));
    }
    for kind in order {
        let strength = strengths[kind];
        if strength == 0.0 {
            continue;
        }
        let factor = (f64::max(0.0, 1.0 - strength), 1.0 + strength);
        match kind {
            0 => color::brightness(pixels, random.uniform(factor)),
            1 => color::contrast::<C>(pixels, random.uniform(factor)),
            2 if C == 3 => color::saturation(pixels, random.uniform(factor)),
            3 if C == 3 => color::hue(pixels, random.uniform((-strength, strength))),
            _ => {}
        }
    }
}
