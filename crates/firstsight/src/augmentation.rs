//! Augmentation flags of commands that train.

use firstsight_data::{AugmentationConfig, AugmentationPreset, Crops, Mix};

use crate::values;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Random changes of the training images in each epoch
    #[arg(long, value_parser = values::augmentation_preset(), default_value = "none", value_name = "PRESET")]
    augment: AugmentationPreset,
    /// Mixup: blend each example with another, the share drawn from Beta(ALPHA, ALPHA)
    #[arg(long, value_parser = values::rate, value_name = "ALPHA", conflicts_with = "cutmix")]
    mixup: Option<f64>,
    /// Cutmix: paste a piece of another example into each, the share drawn from Beta(ALPHA, ALPHA)
    #[arg(long, value_parser = values::rate, value_name = "ALPHA")]
    cutmix: Option<f64>,
    /// Share of each label that is spread over all classes
    #[arg(long, default_value_t = 0.0, value_parser = values::share, value_name = "SHARE")]
    label_smoothing: f64,
    /// What crops of the preset `photos` are cut from
    #[arg(long = "crops-from", value_parser = values::crops(), default_value = "reduced", value_name = "SIZE")]
    crops: Crops,
}

impl From<&Args> for AugmentationConfig {
    fn from(args: &Args) -> Self {
        Self {
            preset: args.augment,
            mix: args.mixup.map(Mix::Mixup).or(args.cutmix.map(Mix::Cutmix)),
            label_smoothing: args.label_smoothing,
            crops: args.crops,
        }
    }
}
