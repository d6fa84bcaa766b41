//! Settings that turn an image file into bytes of one size.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The channels to decode to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorMode {
    /// One channel, Pillow's mode `L`: `(19595 R + 38470 G + 7471 B + 32768) >> 16`.
    Gray,
    /// Three channels, Pillow's mode `RGB`.
    Rgb,
}

impl ColorMode {
    /// The number of channels.
    pub fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }
}

/// A resampling filter, named as in Pillow and timm.
///
/// When an image is resized, all but `Nearest` widen with the factor of reduction (antialiasing), as Pillow's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Triangle filter, support 1.
    Bilinear,
    /// Keys's cubic convolution with a = −1/2, support 2.
    Bicubic,
    /// Lanczos filter, support 3.
    Lanczos,
}

/// Fitting of an image to a target size of another aspect ratio: timm's `crop_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ResizeMode {
    /// Each axis is scaled to its target, as Keras's `load_img` does.
    #[serde(rename = "squash")]
    Squash,
    /// The aspect ratio is kept: the image is scaled until it just covers `target / crop_pct`, rounded down, and the
    /// target is cut from its center, as timm's and torchvision's evaluation transforms do.
    #[serde(rename = "center")]
    CenterCrop,
}

impl fmt::Display for Interpolation {
    /// timm's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nearest => "nearest",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Lanczos => "lanczos",
        })
    }
}

impl fmt::Display for ResizeMode {
    /// timm's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Squash => "squash",
            Self::CenterCrop => "center",
        })
    }
}

/// Treatment of a file that is named like an image but cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDecodeError {
    /// Stop with an error that names the file.
    Fail,
    /// Leave the file out and list it in [`ImageDataset::excluded`](crate::ImageDataset::excluded).
    Exclude,
}

/// Settings that turn an image file into bytes of one size.
///
/// # Examples
///
/// Start from [`rgb`](Self::rgb) or [`gray`](Self::gray) and change what differs:
///
/// ```
/// use firstsight_data::{DecodeSettings, Interpolation, ResizeMode};
///
/// let settings = DecodeSettings {
///     interpolation: Interpolation::Bicubic,
///     resize_mode: ResizeMode::CenterCrop,
///     crop_pct: 0.875,
///     ..DecodeSettings::rgb(224, 224)
/// };
/// assert_eq!(settings.max_pixels, DecodeSettings::MAX_PIXELS);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeSettings {
    /// Height of the result in pixels.
    pub height: usize,
    /// Width of the result in pixels.
    pub width: usize,
    /// Channels of the result.
    pub color: ColorMode,
    /// Resampling filter.
    pub interpolation: Interpolation,
    /// Fitting of an image of another aspect ratio to this size.
    pub resize_mode: ResizeMode,
    /// Share of the shorter side that [`ResizeMode::CenterCrop`] keeps, in (0, 1]: 0.875 for most ImageNet weights.
    pub crop_pct: f64,
    /// Treatment of a file that cannot be decoded, when a whole folder is decoded.
    pub on_error: OnDecodeError,
    /// Maximum number of pixels of an image, in the file and after scaling. A larger image is refused before memory
    /// is allocated for it. Pillow warns above 89,478,485.
    pub max_pixels: u64,
}

impl DecodeSettings {
    /// A limit that no ordinary photo reaches: 100 megapixels.
    pub const MAX_PIXELS: u64 = 100_000_000;

    /// RGB, squashed to `height` × `width` with Lanczos; an unreadable file is an error.
    pub fn rgb(height: usize, width: usize) -> Self {
        Self {
            height,
            width,
            color: ColorMode::Rgb,
            interpolation: Interpolation::Lanczos,
            resize_mode: ResizeMode::Squash,
            crop_pct: 1.0,
            on_error: OnDecodeError::Fail,
            max_pixels: Self::MAX_PIXELS,
        }
    }

    /// One gray channel, otherwise as [`rgb`](Self::rgb).
    pub fn gray(height: usize, width: usize) -> Self {
        Self { color: ColorMode::Gray, ..Self::rgb(height, width) }
    }
}
