//! How the pixels of a file are read, where programs differ.

use serde::{Deserialize, Serialize};

/// How the pixels of a file are read, where programs differ.
///
/// A network should see at prediction what it saw in training, so a run records it. [`viewer`](Self::viewer) is what people
/// see; [`pillow`](Self::pillow) is what torchvision, timm and Keras train on.
///
/// # Examples
///
/// ```
/// use firstsight_data::{Exif, Reading};
///
/// let reading = Reading { exif: Exif::Ignore, ..Reading::viewer() };
/// assert_eq!(
///     serde_json::to_string(&reading).unwrap(),
///     r#"{"exif":"ignore","sixteen_bit":"scale","alpha":"blend","damaged":"accept","max_pixels":250000000}"#
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The orientation that a camera wrote.
    pub exif: Exif,
    /// Gray of 16 bits.
    pub sixteen_bit: SixteenBit,
    /// Transparency.
    pub alpha: Alpha,
    /// Files that are cut off or have errors in their data.
    pub damaged: Damaged,
    /// Maximum number of pixels of an image in its file. A larger image is refused before memory is allocated for it.
    pub max_pixels: u64,
}

/// Treatment of the orientation in a photo's EXIF data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exif {
    /// Photos are turned upright, as viewers show them.
    Apply,
    /// Photos stay as the sensor lay, as `Image.open` of Pillow gives them.
    Ignore,
}

/// Treatment of gray of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SixteenBit {
    /// The upper byte, as OpenCV, libvips and ImageMagick give it.
    Scale,
    /// Values above 255 become 255, as Pillow's `convert` has it: all but the darkest is white.
    Clip,
}

/// Treatment of transparency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alpha {
    /// The image over white, as viewers show it.
    Blend,
    /// The colors as stored, whether visible or not, as Pillow's `convert` gives them.
    Drop,
}

/// Treatment of files that are cut off or have errors in their data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Damaged {
    /// What viewers show is read, and said: see [`DecodedImage::note`](crate::DecodedImage::note). A file that has lost more
    /// than a tenth of its rows is refused.
    Accept,
    /// Refused, as by Pillow.
    Refuse,
}

impl Reading {
    /// A limit that photos of 200-megapixel phones pass: 250 megapixels.
    pub const MAX_PIXELS: u64 = 250_000_000;

    /// As viewers show an image.
    pub const fn viewer() -> Self {
        Self {
            exif: Exif::Apply,
            sixteen_bit: SixteenBit::Scale,
            alpha: Alpha::Blend,
            damaged: Damaged::Accept,
            max_pixels: Self::MAX_PIXELS,
        }
    }

    /// As Pillow's `Image.open(path).convert(mode)`, on which torchvision, timm and Keras train.
    pub const fn pillow() -> Self {
        Self {
            exif: Exif::Ignore,
            sixteen_bit: SixteenBit::Clip,
            alpha: Alpha::Drop,
            damaged: Damaged::Refuse,
            max_pixels: Self::MAX_PIXELS,
        }
    }
}
