//! The pretrained weights that are known by name.

use firstsight_data::{InputSpec, Interpolation, ResizeMode};
use firstsight_models::ModelKind;

/// Published ImageNet weights of one of the project's networks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The network.
    pub model: ModelKind,
    /// The hub's repository, `owner/name`.
    pub repository: &'static str,
    /// The branch, tag or commit.
    pub revision: &'static str,
    /// The weights' file, safetensors under timm's names.
    pub file: &'static str,
    /// The file's sha256 in hexadecimal, where it is known here; the hub states it for every file, and is held to it.
    pub sha256: Option<&'static str>,
    /// Whose names the tensors have.
    pub names: &'static str,
    /// The licence that the repository states, where it is known here.
    pub licence: Option<&'static str>,
    /// Classes.
    pub n_classes: usize,
    /// Top-1 and top-5 accuracy on ImageNet's validation images that its publisher states, in per cent.
    pub imagenet: (f64, f64),
    /// How an image becomes its input.
    pub input: Input,
}

/// An [`InputSpec`] as a constant, for square RGB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Input {
    /// Height and width.
    pub side: usize,
    /// The filter.
    pub interpolation: Interpolation,
    /// The share of the shorter side that the centre crop keeps.
    pub crop_pct: f64,
    /// Of each channel.
    pub mean: [f32; 3],
    /// Of each channel.
    pub std: [f32; 3],
}

impl Input {
    /// As a network takes it.
    pub fn spec(&self) -> InputSpec {
        InputSpec {
            input_size: (3, self.side, self.side),
            interpolation: self.interpolation,
            crop_pct: self.crop_pct,
            crop_mode: ResizeMode::CenterCrop,
            mean: self.mean.to_vec(),
            std: self.std.to_vec(),
        }
    }
}

/// Every published set of weights, one a network.
#[rustfmt::skip]
pub const PUBLISHED: [Published; 2] = [
    Published {
        model: ModelKind::MobileNetV2,
        repository: "timm/mobilenetv2_100.ra_in1k",
        revision: "main",
        file: "model.safetensors",
        sha256: None,
        names: "timm, mobilenetv2_100",
        licence: Some("Apache-2.0"),
        n_classes: 1000,
        imagenet: (72.9, 91.0),
        input: Input {
            side: 224, interpolation: Interpolation::Bicubic, crop_pct: 0.875,
            mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225],
        },
    },
    Published {
        model: ModelKind::Xception,
        repository: "smp-hub/xception.imagenet",
        revision: "main",
        file: "model.safetensors",
        sha256: None,
        names: "timm, legacy_xception",
        licence: None,
        n_classes: 1000,
        imagenet: (79.06, 94.4),
        input: Input {
            side: 299, interpolation: Interpolation::Bicubic, crop_pct: 0.8975,
            mean: [0.5; 3], std: [0.5; 3],
        },
    },
];

/// The published weights of `model`, if there are any.
pub fn published(model: ModelKind) -> Option<&'static Published> {
    PUBLISHED.iter().find(|weights| weights.model == model)
}
