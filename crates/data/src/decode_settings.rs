//! Settings that turn an image file into bytes of one size.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reading::Reading;

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
    /// Each axis is scaled to `target / crop_pct`, rounded down, and the target is cut from the center, as timm's evaluation transform does.
    /// With a share of 1 the whole image is kept, as by Keras's `load_img`.
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

/// Treatment of files that cannot be read as images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Stop with an error that names them all.
    Fail,
    /// Leave them out and list them in [`ImageDataset::excluded`](crate::ImageDataset::excluded).
    Skip,
}

/// Settings that turn an image file into bytes of one size.
///
/// # Examples
///
/// Start from [`rgb`](Self::rgb) or [`gray`](Self::gray) and change what differs:
///
/// ```
/// use firstsight_data::{DecodeSettings, Interpolation, Reading, ResizeMode};
///
/// let settings = DecodeSettings {
///     interpolation: Interpolation::Bicubic,
///     resize_mode: ResizeMode::CenterCrop,
///     crop_pct: 0.875,
///     reading: Reading::viewer(),
///     ..DecodeSettings::rgb(224, 224)
/// };
/// assert_eq!((settings.height, settings.width), (224, 224));
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
    /// Share that the crop keeps, in (0, 1]: of the shorter side with [`ResizeMode::CenterCrop`], of both with [`ResizeMode::Squash`]. It is 0.875
    /// for most ImageNet weights.
    pub crop_pct: f64,
    /// How the pixels of a file are read, where programs differ.
    pub reading: Reading,
    /// Treatment of files that cannot be decoded, when a whole folder is decoded.
    pub on_error: OnError,
}

impl DecodeSettings {
    /// RGB, squashed to `height` × `width` with Lanczos, read as by Pillow; an unreadable file is an error.
    pub fn rgb(height: usize, width: usize) -> Self {
        Self {
            height,
            width,
            color: ColorMode::Rgb,
            interpolation: Interpolation::Lanczos,
            resize_mode: ResizeMode::Squash,
            crop_pct: 1.0,
            reading: Reading::pillow(),
            on_error: OnError::Fail,
        }
    }

    /// (height, width) / `crop_pct`, rounded down: timm's `scale_size`, to which an image is scaled, or which it is scaled to just cover, before it is
    /// cropped.
    pub fn scale_size(&self) -> (u64, u64) {
        let scaled = |side: usize| (side as f64 / self.crop_pct).floor() as u64;
        (scaled(self.height), scaled(self.width))
    }

    /// One gray channel, otherwise as [`rgb`](Self::rgb).
    pub fn gray(height: usize, width: usize) -> Self {
        Self { color: ColorMode::Gray, ..Self::rgb(height, width) }
    }
}
