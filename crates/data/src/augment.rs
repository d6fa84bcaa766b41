//! Random changes to training images that leave their label true.
//!
//! [`Augmentation`] says what is done; [`Loader::augmented`](crate::Loader::augmented) does it to every batch, and
//! an [`Augmenter`] to one image. What becomes of an image is a pure function of its pixels, the seed, the epoch
//! and the image's place in the data: the order of the batches, their size and the number of threads change nothing.
//! (Mixing also depends on the example that stands before in the batch.)

mod affine;
mod augmenter;
mod chance;
mod color;
mod crop;
mod erase;
#[cfg(feature = "candle")]
mod mix;
mod preset;
#[cfg(all(test, feature = "candle"))]
mod tests;

pub use augmenter::Augmenter;
#[cfg(feature = "candle")]
pub(crate) use mix::Labels;
pub use preset::{AugmentationConfig, AugmentationPreset};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::input_spec::Interpolation;

/// What is done to training images, and with which randomness.
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
    /// With the epoch and the image's place in the data it decides everything that is drawn.
    pub seed: u64,
    /// What is done to each image, in this order. Neighbouring flips, rotations, zooms, translations and padded
    /// crops are composed first, so that the image is resampled once.
    pub transforms: Vec<Transform>,
    /// How pixels between pixels are read.
    pub interpolation: Interpolation,
    /// What stands where an image has been moved away.
    pub fill: Fill,
    /// Whether each example is mixed with another.
    pub mix: Option<Mix>,
    /// ε in [0, 1): the label's class gets 1 − ε + ε / K, the others ε / K (Szegedy et al. 2016, section 7; Keras's
    /// and PyTorch's `label_smoothing`). 0 leaves labels as they are.
    pub label_smoothing: f64,
}

/// One random change. Ranges (least, most) are drawn from uniformly; equal ends make a change that isn't random.
///
/// The cores are checked against Pillow and torchvision on the files of `tests/goldens`: equal in every byte
/// but where the table says otherwise.
///
/// | change | defined as by | differs by |
/// | --- | --- | --- |
/// | flips | torchvision `RandomHorizontalFlip`, `RandomVerticalFlip` | 0 |
/// | [`Rotate`](Self::Rotate) | torchvision `RandomRotation(expand=False)`; Keras `RandomRotation` | 0 with bilinear, of nearest at most 1 pixel in 200 another neighbour |
/// | [`Zoom`](Self::Zoom), [`Translate`](Self::Translate) | Keras `RandomZoom(height_factor)`, `RandomTranslation`; resampled as by Pillow's `Image.transform` | 0 of Pillow's |
/// | [`CropPadded`](Self::CropPadded) | torchvision `RandomCrop(size, padding)` | 0 |
/// | [`CropResized`](Self::CropResized) | torchvision and timm `RandomResizedCrop` | 0 |
/// | [`Brightness`](Self::Brightness), [`Contrast`](Self::Contrast), [`ColorJitter`](Self::ColorJitter) | torchvision `ColorJitter` on Pillow images | 0 |
/// | [`Erase`](Self::Erase) | torchvision `RandomErasing`; timm's with `mode="const"` | 0 |
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Transform {
    /// Left becomes right.
    FlipHorizontal {
        /// In [0, 1].
        probability: f64,
    },
    /// Top becomes bottom.
    FlipVertical {
        /// In [0, 1].
        probability: f64,
    },
    /// Turns about the centre; the size stays, corners are lost.
    Rotate {
        /// Counter-clockwise.
        degrees: (f64, f64),
    },
    /// Scales about the centre, height and width alike.
    Zoom {
        /// The image shows (1 + by) of its height and width: above 0 zooms out, below 0 zooms in. Above −1.
        by: (f64, f64),
    },
    /// Moves.
    Translate {
        /// Down, as a share of the height.
        down: (f64, f64),
        /// To the right, as a share of the width.
        right: (f64, f64),
    },
    /// Pads by `padding` pixels on each side with the fill, then cuts the image's size out of it anywhere: a
    /// translation by whole pixels.
    CropPadded {
        /// Pixels.
        padding: usize,
    },
    /// Cuts a part and scales it to the image's size.
    CropResized {
        /// The part's share of the image's area, in (0, 1].
        scale: (f64, f64),
        /// The part's width / height, drawn so that its logarithm is uniform; above 0. Ten draws that don't fit
        /// into the image are followed by the largest part at the centre that does.
        ratio: (f64, f64),
        /// How the part is scaled.
        interpolation: Interpolation,
    },
    /// Multiplies all values; what is above 255 becomes 255.
    Brightness {
        /// At least 0.
        factor: (f64, f64),
    },
    /// Moves all values away from the image's mean grey, or towards it below a factor of 1.
    Contrast {
        /// At least 0.
        factor: (f64, f64),
    },
    /// Brightness, contrast, saturation and hue in a random order. Grey images have neither saturation nor hue.
    ColorJitter {
        /// The factor is drawn from [max(0, 1 − brightness), 1 + brightness]. At least 0.
        brightness: f64,
        /// Likewise.
        contrast: f64,
        /// Likewise: 0 is grey.
        saturation: f64,
        /// Turns of the colour wheel, from −hue to hue; in [0, 0.5].
        hue: f64,
    },
    /// Covers a rectangle (Zhong et al. 2020).
    Erase {
        /// In [0, 1].
        probability: f64,
        /// The rectangle's share of the image's area, in (0, 1].
        area: (f64, f64),
        /// Its height / width, drawn so that its logarithm is uniform; above 0.
        ratio: (f64, f64),
        /// What covers it.
        with: Cover,
    },
}

/// What an erased rectangle is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// One value in every channel.
    Constant(u8),
    /// Bytes drawn uniformly. (torchvision's and timm's noise is normal, of normalised values.)
    Noise,
}

/// What stands where an image has been moved away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// One value in every channel, as Pillow and torchvision have it: it stands where a pixel's centre falls
    /// outside of the image, and is not blended with the image's edge. Keras's `constant`, which does blend it.
    Constant(u8),
    /// The edge goes on: `aaa|abcd|ddd`. Keras's `nearest`, torchvision's `edge`.
    Edge,
    /// Mirrored, the edge twice: `cba|abcd|dcb`. Keras's `reflect`, torchvision's `symmetric`.
    Symmetric,
    /// Mirrored, the edge once: `dcb|abcd|cba`. torchvision's `reflect`.
    Reflect,
    /// From the other side: `bcd|abcd|abc`. Keras's `wrap`.
    Wrap,
}

/// Mixes each example with the one before it in the batch (the first with the last), the pairing of torchvision.
///
/// The share λ that an example keeps is drawn from Beta(α, α) for each example, as in timm's mode `elem`. Its label
/// becomes λ of its own and 1 − λ of the other's. α is above 0: small values mix little, 1 draws λ uniformly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// λ·x + (1 − λ)·x′, with this α (Zhang et al. 2018).
    Mixup(f64),
    /// A rectangle of area 1 − λ comes from the other example, with this α. Where the image's edge cuts the rectangle, λ
    /// is corrected (Yun et al. 2019).
    Cutmix(f64),
}

impl Augmentation {
    /// Whether labels become (B, K) shares of the classes.
    pub fn makes_soft_labels(&self) -> bool {
        self.mix.is_some() || self.label_smoothing > 0.0
    }

    /// # Errors
    /// [`Error::Invalid`] for what no random draw can follow.
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
        let range = |name, (least, most): (f64, f64), lowest: f64, is_open: bool, highest: f64| {
            let above = if is_open { least > lowest } else { least >= lowest };
            if above && least <= most && most <= highest {
                return Ok(());
            }
            let bracket = if is_open { "(" } else { "[" };
            let expected = format!("(least, most) with least ≤ most in {bracket}{lowest}, {highest}]");
            Err(Error::invalid(name, expected, format!("({least}, {most})")))
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
