//! Named augmentations, and their form in a run's `config.json`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Augmentation, Cover, Fill, Mix, Transform};
use crate::decode_settings::Interpolation;
use crate::error::{Error, Result};

/// A named list of transforms.
///
/// # Examples
///
/// ```
/// use firstsight_data::AugmentationPreset;
///
/// let preset: AugmentationPreset = "photos".parse()?;
/// assert_eq!(preset, AugmentationPreset::Photos);
/// assert_eq!(preset.to_string(), "photos");
/// # Ok::<(), firstsight_data::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AugmentationPreset {
    /// No transforms.
    #[default]
    None,
    /// Small rotations, zooms and translations of dark writing on paper, and changes of contrast.
    Characters,
    /// Small rotations, zooms and translations of light digits on black.
    Digits,
    /// Resized crops, horizontal flips, color jitter and erasing, for photos.
    Photos,
}

impl AugmentationPreset {
    /// Every preset.
    pub const ALL: [Self; 4] = [Self::None, Self::Characters, Self::Digits, Self::Photos];

    /// The name, as in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Characters => "characters",
            Self::Digits => "digits",
            Self::Photos => "photos",
        }
    }

    fn transforms(self) -> Vec<Transform> {
        match self {
            Self::None => vec![],
            // No flips: a mirrored character is another one, or none.
            Self::Characters => vec![
                Transform::Rotate { degrees: (-8.0, 8.0) },
                Transform::Zoom { by: (-0.12, 0.12) },
                Transform::Translate { down: (-0.06, 0.06), right: (-0.06, 0.06) },
                Transform::Contrast { factor: (0.7, 1.3) },
            ],
            Self::Digits => vec![
                Transform::Rotate { degrees: (-12.0, 12.0) },
                Transform::Zoom { by: (-0.12, 0.12) },
                Transform::Translate { down: (-0.07, 0.07), right: (-0.07, 0.07) },
            ],
            Self::Photos => vec![
                Transform::CropResized {
                    scale: (0.35, 1.0),
                    ratio: (3.0 / 4.0, 4.0 / 3.0),
                    interpolation: Interpolation::Bilinear,
                },
                Transform::FlipHorizontal { probability: 0.5 },
                Transform::ColorJitter { brightness: 0.3, contrast: 0.3, saturation: 0.3, hue: 0.02 },
                Transform::Erase {
                    probability: 0.1,
                    area: (0.02, 0.2),
                    ratio: (0.3, 3.3),
                    with: Cover::Noise,
                },
            ],
        }
    }

    fn fill(self) -> Fill {
        match self {
            Self::None | Self::Characters | Self::Photos => Fill::Edge,
            Self::Digits => Fill::Constant(0),
        }
    }
}

impl fmt::Display for AugmentationPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AugmentationPreset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| {
            let expected = format!("one of {}", Self::ALL.map(Self::name).join(", "));
            Error::invalid("augmentation preset", expected, name)
        })
    }
}

/// What the crops of an augmentation are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crops {
    /// The image at the input's size, which a crop is enlarged to again.
    #[default]
    Reduced,
    /// The image at [twice](Self::FACTOR) the input's height and width. It takes four times the room in the cache.
    Full,
}

impl Crops {
    /// Height and width of the images that [`Full`](Self::Full) cuts from, in heights and widths of the input. A crop of a
    /// quarter of the area is then as large as the input.
    pub const FACTOR: usize = 2;

    fn are_reduced(&self) -> bool {
        *self == Self::Reduced
    }
}

/// Presets, with the seed of every random draw. Change what differs by a field update.
///
/// ```
/// use firstsight_data::{Augmentation, Mix};
///
/// let augmentation = Augmentation { mix: Some(Mix::Cutmix(1.0)), ..Augmentation::photos(7) };
/// assert_eq!(augmentation.seed, 7);
/// ```
impl Augmentation {
    /// The transforms of a preset, with bilinear interpolation, without mixing or label smoothing.
    pub fn preset(preset: AugmentationPreset, seed: u64) -> Self {
        Self {
            seed,
            transforms: preset.transforms(),
            interpolation: Interpolation::Bilinear,
            fill: preset.fill(),
            mix: None,
            label_smoothing: 0.0,
        }
    }

    /// [`AugmentationPreset::Characters`]: for dark handwriting on paper.
    pub fn characters(seed: u64) -> Self {
        Self::preset(AugmentationPreset::Characters, seed)
    }

    /// [`AugmentationPreset::Digits`]: for light digits on black, as in MNIST.
    pub fn digits(seed: u64) -> Self {
        Self::preset(AugmentationPreset::Digits, seed)
    }

    /// [`AugmentationPreset::Photos`]: for photos.
    pub fn photos(seed: u64) -> Self {
        Self::preset(AugmentationPreset::Photos, seed)
    }
}

/// An augmentation by name, without its seed: the form in which a run's `config.json` records it.
///
/// The default augments nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct AugmentationConfig {
    /// Transforms of each image.
    #[serde(rename = "changes")]
    pub preset: AugmentationPreset,
    /// Whether and how each example is mixed with another.
    pub mix: Option<Mix>,
    /// Label smoothing ε in [0, 1).
    pub label_smoothing: f64,
    /// What crops are cut from.
    #[serde(default, skip_serializing_if = "Crops::are_reduced")]
    pub crops: Crops,
}

impl AugmentationConfig {
    /// Checks that a preset whose crops are to be cut from larger images has crops.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for [`Crops::Full`] with a preset without crops.
    pub fn check_crops(self) -> Result<()> {
        let begins_with_crop =
            matches!(self.preset.transforms().first(), Some(Transform::CropResized { .. }));
        if self.crops == Crops::Full && !begins_with_crop {
            let found = format!("full with augmentation '{}'", self.preset);
            return Err(Error::invalid(
                "crops",
                "reduced with an augmentation that cuts no crops (photos does)",
                found,
            ));
        }
        Ok(())
    }

    /// The augmentation with its seed, or `None` if it would change nothing.
    pub fn augmentation(self, seed: u64) -> Option<Augmentation> {
        let Self { preset, mix, label_smoothing, crops: _ } = self;
        (self != Self::default()).then(|| Augmentation {
            mix,
            label_smoothing,
            ..Augmentation::preset(preset, seed)
        })
    }
}

impl fmt::Display for AugmentationConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.preset {
            AugmentationPreset::None => f.write_str("no changes")?,
            preset => write!(f, "{preset}")?,
        }
        if self.crops == Crops::Full {
            f.write_str(", crops of the larger image")?;
        }
        match self.mix {
            Some(Mix::Mixup(alpha)) => write!(f, ", mixup {alpha}")?,
            Some(Mix::Cutmix(alpha)) => write!(f, ", cutmix {alpha}")?,
            None => {}
        }
        if self.label_smoothing > 0.0 {
            write!(f, ", label smoothing {}", self.label_smoothing)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs are resumed and evaluated by these texts.
    #[test]
    fn configurations_keep_their_text() {
        let config = AugmentationConfig {
            preset: AugmentationPreset::Characters,
            mix: Some(Mix::Mixup(0.2)),
            label_smoothing: 0.1,
            crops: Crops::Reduced,
        };
        let text = r#"{"changes":"characters","mix":{"mixup":0.2},"label_smoothing":0.1}"#;
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
        assert_eq!(serde_json::from_str::<AugmentationConfig>(text).unwrap(), config);
        assert_eq!(config.to_string(), "characters, mixup 0.2, label smoothing 0.1");
        let full = AugmentationConfig { crops: Crops::Full, mix: None, ..config };
        let text = r#"{"changes":"characters","mix":null,"label_smoothing":0.1,"crops":"full"}"#;
        assert_eq!(serde_json::to_string(&full).unwrap(), text);
        assert_eq!(serde_json::from_str::<AugmentationConfig>(text).unwrap(), full);
        assert_eq!(full.to_string(), "characters, crops of the larger image, label smoothing 0.1");
        let nothing = AugmentationConfig::default();
        assert_eq!(
            serde_json::to_string(&nothing).unwrap(),
            r#"{"changes":"none","mix":null,"label_smoothing":0.0}"#
        );
        assert_eq!(nothing.to_string(), "no changes");
        assert_eq!(nothing.augmentation(1), None);
    }

    #[test]
    fn crops_of_larger_images_need_a_preset_with_crops() {
        let config = |preset| AugmentationConfig { preset, crops: Crops::Full, ..Default::default() };
        config(AugmentationPreset::Photos).check_crops().unwrap();
        for preset in [AugmentationPreset::None, AugmentationPreset::Characters, AugmentationPreset::Digits] {
            let error = config(preset).check_crops().unwrap_err().to_string();
            assert!(error.contains("cuts no crops") && error.contains(preset.name()), "{error}");
        }
    }

    #[test]
    fn presets_are_parsed_by_name_and_pass_the_check() {
        for preset in AugmentationPreset::ALL {
            assert_eq!(preset.name().parse::<AugmentationPreset>().unwrap(), preset);
            Augmentation::preset(preset, 0).check().unwrap();
        }
        let error = "cartoons".parse::<AugmentationPreset>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "augmentation preset: expected one of none, characters, digits, photos, found cartoons"
        );
    }
}
