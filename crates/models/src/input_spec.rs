use serde::{Deserialize, Serialize};

use crate::{Error, InputShape, Result};

/// What a network's input is, and how an image file becomes it: timm's `pretrained_cfg`, as `config.json` holds it.
///
/// The image is resized and cropped, its bytes divided by 255, and each channel normalised by (x − mean) / std.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// (C, H, W).
    pub input_size: (usize, usize, usize),
    /// The filter that resizes.
    pub interpolation: Interpolation,
    /// The share of the resized image's shorter side that a centre crop keeps.
    pub crop_pct: f64,
    /// What the crop does.
    pub crop_mode: CropMode,
    /// Mean of each channel, of values in 0..=1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, of values in 0..=1.
    pub std: Vec<f32>,
}

/// A filter that resizes images. All are antialiased, as Pillow's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// A triangle.
    Bilinear,
    /// Keys's cubic, a = −1/2.
    Bicubic,
    /// Lanczos's window of 3.
    Lanczos,
}

/// How an image of another aspect ratio is brought to the input size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CropMode {
    /// The whole image, stretched.
    Squash,
    /// The centre of the image.
    Center,
}

/// ImageNet's mean of each channel of RGB.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation of each channel of RGB.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

impl InputSpec {
    /// Bytes 0..=255 as they are, stretched by Lanczos: what networks take that rescale in their first layer.
    pub fn bytes(channels: usize, height: usize, width: usize) -> Self {
        Self {
            input_size: (channels, height, width),
            interpolation: Interpolation::Lanczos,
            crop_pct: 1.0,
            crop_mode: CropMode::Squash,
            mean: vec![0.0; channels],
            std: vec![1.0 / 255.0; channels],
        }
    }

    /// The centre of the image, normalised by ImageNet's statistics; by their averages unless there are three
    /// channels.
    pub fn imagenet(channels: usize, height: usize, width: usize) -> Self {
        let each = |values: [f32; 3]| match channels {
            3 => values.to_vec(),
            _ => vec![values.iter().sum::<f32>() / 3.0; channels],
        };
        Self {
            input_size: (channels, height, width),
            interpolation: Interpolation::Bicubic,
            crop_pct: 0.875,
            crop_mode: CropMode::Center,
            mean: each(IMAGENET_MEAN),
            std: each(IMAGENET_STD),
        }
    }

    /// The centre of the image, values brought to −1..=1: what Keras's Xception and MobileNetV2 take.
    pub fn minus_one_to_one(channels: usize, height: usize, width: usize) -> Self {
        Self {
            crop_pct: 0.8975,
            mean: vec![0.5; channels],
            std: vec![0.5; channels],
            ..Self::imagenet(channels, height, width)
        }
    }

    /// The shape of one input.
    pub fn dims(&self) -> InputShape {
        let (channels, height, width) = self.input_size;
        InputShape::Map { channels, height, width }
    }

    /// # Errors
    /// [`Error::InputSpec`] for values that no preprocessing can follow: sizes of zero, means or deviations that are
    /// not one a channel and finite, a deviation of zero, a crop outside (0, 1].
    pub fn check(&self) -> Result<()> {
        let (channels, height, width) = self.input_size;
        let refuse = |rule: &'static str, found: String| Err(Error::InputSpec { rule, found });
        if channels == 0 || height == 0 || width == 0 {
            return refuse(
                "input_size must be [C, H, W] of at least 1 each",
                format!("{:?}", self.input_size),
            );
        }
        if self.mean.len() != channels || self.std.len() != channels {
            let (mean, std) = (self.mean.len(), self.std.len());
            return refuse(
                "mean and std must hold a value a channel",
                format!("{mean} and {std} for {channels}"),
            );
        }
        if !self.mean.iter().all(|v| v.is_finite()) || !self.std.iter().all(|v| v.is_finite() && *v > 0.0) {
            return refuse("mean must be finite, std above 0", format!("{:?}, {:?}", self.mean, self.std));
        }
        if !(self.crop_pct > 0.0 && self.crop_pct <= 1.0) {
            return refuse("crop_pct must lie in (0, 1]", self.crop_pct.to_string());
        }
        Ok(())
    }
}
