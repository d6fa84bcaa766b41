//! Inputs of networks for photos.

use firstsight_data::{InputSpec, ResizeMode};

/// Square RGB normalized with ImageNet's statistics, from the share `crop_pct` of the shorter side.
pub(super) fn imagenet(side: usize, crop_pct: f64) -> InputSpec {
    InputSpec { crop_pct, ..InputSpec::imagenet(3, side, side) }
}

/// Square RGB in [−1, 1], from the share `crop_pct` of the shorter side.
pub(super) fn half(side: usize, crop_pct: f64) -> InputSpec {
    InputSpec { crop_pct, ..InputSpec::minus_one_to_one(3, side, side) }
}

/// The same for images that are stretched and not cropped, timm's `crop_mode="squash"`.
pub(super) fn squash(input: InputSpec) -> InputSpec {
    InputSpec { crop_mode: ResizeMode::Squash, ..input }
}
