//! Random changes of training images that keep their labels true.
//!
//! [`Augmentation`] is the list of transforms. [`Loader::augmented`](crate::Loader::augmented) applies it to every
//! batch, an [`Augmenter`] to one image. The result is a pure function of the image's pixels, the seed, the epoch and
//! the image's index in the data: neither the order or size of the batches nor the number of threads matters. (Mixing
//! also depends on the previous example of the batch.)

mod affine;
mod augmenter;
mod color;
mod crop;
mod erase;
#[cfg(feature = "candle")]
mod mix;
mod preset;
mod random;
#[cfg(all(test, feature = "candle"))]
mod tests;

pub use augmenter::Augmenter;
#[cfg(feature = "candle")]
pub(crate) use mix::BatchLabels;
pub use preset::{AugmentationConfig, AugmentationPreset, Crops};
use serde::{Deserialize, Serialize};

use crate::decode_settings::Interpolation;
use crate::error::{Error, Result};

/// Random transforms of training images, with their seed.
///
/// [`characters`](Self::characters), [`digits`](Self::digits) and [`photos`](Self::photos) are presets.
///
/// # Examples
///
/// ```
/// use firstsight_data::{Augmentation, Augmenter, Fill, Interpolation, Transform};
///
/// let augmentation = Augmentation {
///     seed: 7,
///     transforms: vec![
///         Transform::FlipHorizontal { probability: 0.5 },
///         Transform::Rotate { degrees: (-10.0, 10.0) },
///         Transform::Brightness { factor: (0.8, 1.2) },
///     ],
///     interpolation: Interpolation::Bilinear,
///     fill: Fill::Constant(255),
///     mix: None,
///     label_smoothing: 0.0,
/// };
/// let augmenter = Augmenter::new(augmentation, (2, 3, 1))?;
/// let image = [0, 50, 100, 150, 200, 250];
/// let changed = augmenter.apply(&image, 0, 42);
/// assert_eq!(changed, augmenter.apply(&image, 0, 42));
/// assert_ne!(changed, augmenter.apply(&image, 1, 42));
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Augmentation {
    /// Seed. With the epoch and the image's index in the data, it determines every random draw.
    pub seed: u64,
    /// Transforms of each image, in this order. Consecutive flips, rotations, zooms, translations and padded crops
    /// are composed, so that the image is resampled once.
    pub transforms: Vec<Transform>,
    /// Filter that reads between pixels: `Nearest`, or `Bilinear`, rounded down as in Pillow.
    pub interpolation: Interpolation,
    /// Values outside of the image.
    pub fill: Fill,
    /// Whether and how each example is mixed with another.
    pub mix: Option<Mix>,
    /// Label smoothing ε in [0, 1): the label's class gets 1 − ε + ε / K, the others ε / K (Szegedy et al. 2016,
    /// section 7; Keras's and PyTorch's `label_smoothing`). Of several labels per image each moves from 0 and 1 to ε / 2 and
    /// 1 − ε / 2, as in Keras. 0 leaves labels as they are, the only choice for numbers.
    pub label_smoothing: f64,
}

/// One random transform.
///
/// Values are drawn uniformly from ranges (low, high), both ends finite; equal ends make a transform that is not
/// random. The results are checked against Pillow and torchvision on the files of `tests/goldens`: equal in every
/// byte except where the table says otherwise.
///
/// | transform | defined as in | difference |
/// | --- | --- | --- |
/// | flips | torchvision `RandomHorizontalFlip`, `RandomVerticalFlip` | 0 |
/// | [`Rotate`](Self::Rotate) | torchvision `RandomRotation(expand=False)`; Keras `RandomRotation` | 0 with bilinear; with nearest at most 1 pixel in 200 takes another neighbor |
/// | [`Zoom`](Self::Zoom), [`Translate`](Self::Translate) | Keras `RandomZoom(height_factor)`, `RandomTranslation`; resampled as by Pillow's `Image.transform` | 0 from Pillow's |
/// | [`CropPadded`](Self::CropPadded) | torchvision `RandomCrop(size, padding)` | 0 |
/// | [`CropResized`](Self::CropResized) | torchvision and timm `RandomResizedCrop` | 0 |
/// | [`Brightness`](Self::Brightness), [`Contrast`](Self::Contrast), [`ColorJitter`](Self::ColorJitter) | torchvision `ColorJitter` on Pillow images | 0 |
/// | [`Erase`](Self::Erase) | torchvision `RandomErasing`; timm's with `mode="const"` | 0 |
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Transform {
    /// Mirrors left and right.
    FlipHorizontal {
        /// Probability, in [0, 1].
        probability: f64,
    },
    /// Mirrors top and bottom.
    FlipVertical {
        /// Probability, in [0, 1].
        probability: f64,
    },
    /// Rotates about the center; the size stays the same and corners are cut off.
    Rotate {
        /// Angle, counterclockwise.
        degrees: (f64, f64),
    },
    /// Scales about the center, height and width by the same factor.
    Zoom {
        /// The result shows (1 + by) of the image's height and width: above 0 zooms out, below 0 zooms in. Above −1.
        by: (f64, f64),
    },
    /// Translates.
    Translate {
        /// Distance down, as a share of the height.
        down: (f64, f64),
        /// Distance to the right, as a share of the width.
        right: (f64, f64),
    },
    /// Pads each side by `padding` pixels with the fill, then crops to the image's size at a random position: a
    /// translation by whole pixels.
    CropPadded {
        /// Padding in pixels.
        padding: usize,
    },
    /// Crops a part and resizes it to the image's size.
    CropResized {
        /// The part's share of the image's area, in (0, 1].
        scale: (f64, f64),
        /// The part's width / height, with a uniform logarithm; above 0. After ten draws that do
        /// not fit into the image, the largest center crop that fits is taken.
        ratio: (f64, f64),
        /// Filter that resizes the part.
        interpolation: Interpolation,
    },
    /// Multiplies all values, limited to 255.
    Brightness {
        /// Factor, at least 0.
        factor: (f64, f64),
    },
    /// Moves all values away from the image's mean gray, or toward it for a factor below 1.
    Contrast {
        /// Factor, at least 0.
        factor: (f64, f64),
    },
    /// Brightness, contrast, saturation and hue in a random order. Gray images have neither saturation nor hue.
    ColorJitter {
        /// Strength, at least 0: the factor is drawn from [max(0, 1 − brightness), 1 + brightness].
        brightness: f64,
        /// Strength of the contrast, at least 0, drawn in the same way.
        contrast: f64,
        /// Strength of the saturation, at least 0, drawn in the same way; a factor of 0 is gray.
        saturation: f64,
        /// Maximum rotation of the color wheel in turns, in [0, 0.5].
        hue: f64,
    },
    /// Covers a rectangle (Zhong et al. 2020).
    Erase {
        /// Probability, in [0, 1].
        probability: f64,
        /// The rectangle's share of the image's area, in (0, 1].
        area: (f64, f64),
        /// Its height / width, with a uniform logarithm; above 0.
        ratio: (f64, f64),
        /// Values that cover it.
        with: Cover,
    },
}

/// The values that cover an erased rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// One value in every channel.
    Constant(u8),
    /// Bytes drawn uniformly. (torchvision's and timm's noise is normal, of normalized values.)
    Noise,
}

/// The values outside of a moved image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// One value in every channel, as in Pillow and torchvision: a pixel has it if its center lies outside of the
    /// image, without blending at the edge. Keras's `constant`, which blends.
    Constant(u8),
    /// The edge is repeated: `aaa|abcd|ddd`. Keras's `nearest`, torchvision's `edge`.
    Edge,
    /// Mirrored, with the edge twice: `cba|abcd|dcb`. Keras's `reflect`, torchvision's `symmetric`.
    Symmetric,
    /// Mirrored, with the edge once: `dcb|abcd|cba`. torchvision's `reflect`.
    Reflect,
    /// Continued from the other side: `bcd|abcd|abc`. Keras's `wrap`.
    Wrap,
}

/// Mixes each example with the one before it in the batch (the first with the last), the pairing of torchvision.
///
/// The share λ that an example keeps is drawn from Beta(α, α) for each example, as in timm's mode `elem`. Its label
/// becomes λ of its own and 1 − λ of the other's, for several labels per image and for numbers likewise. α is above 0: small values mix little, 1 draws λ uniformly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// λ·x + (1 − λ)·x′, with this α (Zhang et al. 2018).
    Mixup(f64),
    /// A rectangle of area 1 − λ comes from the other example, with this α. λ is corrected where the image's edge cuts
    /// the rectangle (Yun et al. 2019). Not for numbers: a part of an image does not hold that share of its number.
    Cutmix(f64),
}

impl Augmentation {
    /// Whether labels are changed: those of classes become (B, K) shares.
    pub fn makes_soft_labels(&self) -> bool {
        self.mix.is_some() || self.label_smoothing > 0.0
    }

    /// # Errors
    ///
    /// [`Error::Invalid`] for a setting that cannot be drawn from.
    fn check(&self) -> Result<()> {
        self.transforms.iter().try_for_each(Transform::check)?;
        if !matches!(self.interpolation, Interpolation::Nearest | Interpolation::Bilinear) {
            return Err(Error::invalid(
                "interpolation",
                "Nearest or Bilinear",
                format!("{:?}", self.interpolation),
            ));
        }
        if let Some(Mix::Mixup(alpha) | Mix::Cutmix(alpha)) = self.mix
            && !(alpha > 0.0 && alpha.is_finite())
        {
            return Err(Error::invalid("alpha", "a number above 0", alpha));
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(Error::invalid("label_smoothing", "a number in [0, 1)", self.label_smoothing));
        }
        Ok(())
    }
}

impl Transform {
    fn check(&self) -> Result<()> {
        let range = |name, (low, high): (f64, f64), lowest: f64, is_open: bool, highest: f64| {
            let above = if is_open { low > lowest } else { low >= lowest };
            if above && low <= high && high <= highest {
                return Ok(());
            }
            let bracket = if is_open { "(" } else { "[" };
            let expected = format!("(low, high) with low ≤ high in {bracket}{lowest}, {highest}]");
            Err(Error::invalid(name, expected, format!("({low}, {high})")))
        };
        let share = |name, share: f64| range(name, (share, share), 0.0, false, 1.0);
        const LARGE: f64 = 1e6;
        match *self {
            Self::FlipHorizontal { probability } | Self::FlipVertical { probability } => {
                share("probability", probability)
            }
            Self::Rotate { degrees } => range("degrees", degrees, -LARGE, false, LARGE),
            Self::Zoom { by } => range("zoom", by, -1.0, true, LARGE),
            Self::Translate { down, right } => {
                range("down", down, -LARGE, false, LARGE)?;
                range("right", right, -LARGE, false, LARGE)
            }
            Self::CropPadded { padding } => {
                range("padding", (padding as f64, padding as f64), 0.0, false, LARGE)
            }
            Self::CropResized { scale, ratio, .. } => {
                range("scale", scale, 0.0, true, 1.0)?;
                range("ratio", ratio, 0.0, true, LARGE)
            }
            Self::Brightness { factor } => range("brightness", factor, 0.0, false, LARGE),
            Self::Contrast { factor } => range("contrast", factor, 0.0, false, LARGE),
            Self::ColorJitter { brightness, contrast, saturation, hue } => {
                for (name, value) in
                    [("brightness", brightness), ("contrast", contrast), ("saturation", saturation)]
                {
                    range(name, (value, value), 0.0, false, LARGE)?;
                }
                range("hue", (hue, hue), 0.0, false, 0.5)
            }
            Self::Erase { probability, area, ratio, .. } => {
                share("probability", probability)?;
                range("area", area, 0.0, true, 1.0)?;
                range("ratio", ratio, 0.0, true, LARGE)
            }
        }
    }
}
