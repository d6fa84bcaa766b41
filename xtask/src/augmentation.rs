//! Options of commands that change training images.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use firstsight_data::{AugmentationConfig, AugmentationPreset, Mix};

use crate::values;

/// Options of commands that train.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Augmentation of the training images, drawn anew in each epoch
    #[arg(long, value_parser = presets(), default_value = "none", value_name = "PRESET")]
    augment: AugmentationPreset,
    /// Blend each example with another, the share drawn from Beta(ALPHA, ALPHA)
    #[arg(long, value_parser = values::rate, allow_negative_numbers = true, value_name = "ALPHA", conflicts_with = "cutmix")]
    mixup: Option<f64>,
    /// Paste a rectangle of another example into each, its area drawn from Beta(ALPHA, ALPHA)
    #[arg(long, value_parser = values::rate, allow_negative_numbers = true, value_name = "ALPHA")]
    cutmix: Option<f64>,
    /// Share of each label that is spread over all classes
    #[arg(long, default_value_t = 0.0, value_parser = values::share, allow_negative_numbers = true, value_name = "SHARE")]
    label_smoothing: f64,
}

impl From<&Args> for AugmentationConfig {
    fn from(args: &Args) -> Self {
        Self {
            preset: args.augment,
            mix: args.mixup.map(Mix::Mixup).or(args.cutmix.map(Mix::Cutmix)),
            label_smoothing: args.label_smoothing,
        }
    }
}

/// Parses a preset's name; the help lists them.
pub(crate) fn presets() -> impl TypedValueParser<Value = AugmentationPreset> {
    let names = AugmentationPreset::ALL.map(|preset| {
        PossibleValue::new(preset.name()).help(match preset {
            AugmentationPreset::Characters => {
                "Small rotations, zooms and translations of dark writing on paper"
            }
            AugmentationPreset::Digits => "The same for light digits on black",
            AugmentationPreset::Photos => "Crops, flips, color jitter and erasing, for photos",
            _ => "No augmentation",
        })
    });
    PossibleValuesParser::new(names).try_map(|name| name.parse::<AugmentationPreset>())
}
