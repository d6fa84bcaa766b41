//! The input of a network, and the preprocessing that makes it from an image file.

use serde::{Deserialize, Serialize};

use crate::decode_settings::{ColorMode, DecodeSettings, Interpolation, ResizeMode};
use crate::error::{Error, Result};
use crate::normalize::Normalize;
use crate::reading::Reading;

/// The input of a network: timm's `pretrained_cfg`, in the form of its `config.json`.
///
/// The image is resized and cropped, its bytes are divided by 255, and each channel is normalized by
/// (x − mean) / std.
///
/// # Examples
///
/// ```
/// use firstsight_data::InputSpec;
///
/// let input = InputSpec::imagenet(3, 224, 224);
/// let settings = input.decode_settings();
/// assert_eq!((settings.height, settings.width, settings.crop_pct), (224, 224, 0.875));
/// assert_eq!(input.normalize().mean, [0.485, 0.456, 0.406]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// Shape of one input, (C, H, W).
    pub input_size: (usize, usize, usize),
    /// Resampling filter.
    pub interpolation: Interpolation,
    /// Share of the image that the crop keeps, in (0, 1]: [`DecodeSettings::crop_pct`].
    pub crop_pct: f64,
    /// Fitting of an image of another aspect ratio to the input size.
    pub crop_mode: ResizeMode,
    /// Mean of each channel, for values in [0, 1].
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, for values in [0, 1].
    pub std: Vec<f32>,
    /// How the pixels of a file are read. It is no part of the text form, since timm refuses fields that it doesn't know:
    /// what is read from text has [`Reading::pillow`].
    #[serde(skip, default = "Reading::pillow")]
    pub reading: Reading,
}

/// ImageNet's mean of each RGB channel, for values in [0, 1].
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation of each RGB channel, for values in [0, 1].
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

impl InputSpec {
    /// Bytes 0 to 255 unchanged, squashed with Lanczos: for networks whose first layer rescales.
    pub fn bytes(channels: usize, height: usize, width: usize) -> Self {
        Self {
            input_size: (channels, height, width),
            interpolation: Interpolation::Lanczos,
            crop_pct: 1.0,
            crop_mode: ResizeMode::Squash,
            mean: vec![0.0; channels],
            std: vec![1.0 / 255.0; channels],
            reading: Reading::pillow(),
        }
    }

    /// A center crop of 0.875, normalized with ImageNet's statistics, or with their averages unless there are three
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
            crop_mode: ResizeMode::CenterCrop,
            mean: each(IMAGENET_MEAN),
            std: each(IMAGENET_STD),
            reading: Reading::pillow(),
        }
    }

    /// A center crop of 0.8975, scaled to [−1, 1]: the input of Keras's Xception and MobileNetV2.
    pub fn minus_one_to_one(channels: usize, height: usize, width: usize) -> Self {
        Self {
            crop_pct: 0.8975,
            mean: vec![0.5; channels],
            std: vec![0.5; channels],
            ..Self::imagenet(channels, height, width)
        }
    }

    /// Settings that decode an image file to this input's size: gray for one channel, else RGB.
    pub fn decode_settings(&self) -> DecodeSettings {
        let (channels, height, width) = self.input_size;
        DecodeSettings {
            color: if channels == 1 { ColorMode::Gray } else { ColorMode::Rgb },
            interpolation: self.interpolation,
            resize_mode: self.crop_mode,
            crop_pct: self.crop_pct,
            reading: self.reading,
            ..DecodeSettings::rgb(height, width)
        }
    }

    /// The mean and standard deviation of each channel.
    pub fn normalize(&self) -> Normalize {
        Normalize { mean: self.mean.clone(), std: self.std.clone() }
    }

    /// Checks that preprocessing can follow this specification.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a size of zero, a number of means or standard deviations other than the number of
    /// channels, values that are not finite, a standard deviation that is not above 0, or a crop outside (0, 1].
    pub fn check(&self) -> Result<()> {
        let (channels, height, width) = self.input_size;
        if channels == 0 || height == 0 || width == 0 {
            let found = format!("{:?}", self.input_size);
            return Err(Error::invalid("input_size", "[C, H, W] of at least 1 each", found));
        }
        if self.mean.len() != channels || self.std.len() != channels {
            let found = format!("{} and {}", self.mean.len(), self.std.len());
            let expected = format!("one value for each of {channels} channels");
            return Err(Error::invalid("mean and std", expected, found));
        }
        if !self.mean.iter().all(|v| v.is_finite()) || !self.std.iter().all(|v| v.is_finite() && *v > 0.0) {
            let found = format!("{:?}, {:?}", self.mean, self.std);
            return Err(Error::invalid(
                "mean and std",
                "finite means and standard deviations above 0",
                found,
            ));
        }
        if !(self.crop_pct > 0.0 && self.crop_pct <= 1.0) {
            return Err(Error::invalid("crop_pct", "a share in (0, 1]", self.crop_pct));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_timms() {
        let input = InputSpec::minus_one_to_one(3, 150, 120);
        let text = r#"{"input_size":[3,150,120],"interpolation":"bicubic","crop_pct":0.8975,"crop_mode":"center","mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5]}"#;
        assert_eq!(serde_json::to_string(&input).unwrap(), text);
        assert_eq!(serde_json::from_str::<InputSpec>(text).unwrap(), input);
        let squashed = InputSpec { crop_mode: ResizeMode::Squash, ..input };
        assert!(serde_json::to_string(&squashed).unwrap().contains(r#""crop_mode":"squash""#));
    }

    #[test]
    fn settings_follow_the_specification() {
        let settings = InputSpec::bytes(1, 80, 60).decode_settings();
        assert_eq!(settings, DecodeSettings::gray(80, 60));
        let settings = InputSpec::imagenet(3, 224, 192).decode_settings();
        assert_eq!((settings.height, settings.width, settings.color), (224, 192, ColorMode::Rgb));
        assert_eq!((settings.interpolation, settings.crop_pct), (Interpolation::Bicubic, 0.875));
        assert_eq!(settings.resize_mode, ResizeMode::CenterCrop);
    }

    #[test]
    fn unusable_specifications_are_refused() {
        let good = InputSpec::imagenet(3, 224, 224);
        good.check().unwrap();
        for (bad, word) in [
            (InputSpec { input_size: (3, 0, 224), ..good.clone() }, "input_size"),
            (InputSpec { mean: vec![0.5], ..good.clone() }, "mean"),
            (InputSpec { std: vec![0.0, 1.0, 1.0], ..good.clone() }, "std"),
            (InputSpec { crop_pct: 1.5, ..good }, "crop_pct"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
