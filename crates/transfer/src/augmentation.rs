//! How training images are changed: recipes by name.

use std::fmt;

use firstsight_data::{Augmentation, Cover, Fill, Interpolation, Mix, Transform};
use serde::{Deserialize, Serialize};

/// How a run augments its training images.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Recipe {
    pub changes: Changes,
    pub mix: Option<Mixing>,
    pub label_smoothing: f64,
}

/// What is done to each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Changes {
    /// Nothing
    #[default]
    None,
    /// Small turns, zooms and shifts of dark writing on paper
    Characters,
    /// The same for light digits on black
    Digits,
    /// Crops, mirroring, light and colour, for photos
    Photos,
}

/// [`Mix`] as a run's configuration has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mixing {
    Mixup(f64),
    Cutmix(f64),
}

impl Recipe {
    /// What the loader is to do; nothing where the recipe is empty.
    pub fn augmentation(self, seed: u64) -> Option<Augmentation> {
        if self == Self::default() {
            return None;
        }
        let (transforms, fill) = self.changes.transforms();
        let mix = self.mix.map(|mixing| match mixing {
            Mixing::Mixup(alpha) => Mix::Mixup { alpha },
            Mixing::Cutmix(alpha) => Mix::Cutmix { alpha },
        });
        let (interpolation, label_smoothing) = (Interpolation::Bilinear, self.label_smoothing);
        Some(Augmentation { seed, transforms, interpolation, fill, mix, label_smoothing })
    }
}

impl Changes {
    /// The changes in their order, and what fills the gaps that they leave.
    pub fn transforms(self) -> (Vec<Transform>, Fill) {
        match self {
            Self::None => (vec![], Fill::Edge),
            // A mirrored character is another one, or none.
            Self::Characters => (
                vec![
                    Transform::Rotate { degrees: (-8.0, 8.0) },
                    Transform::Zoom { by: (-0.12, 0.12) },
                    Transform::Translate { down: (-0.06, 0.06), right: (-0.06, 0.06) },
                    Transform::Contrast { factor: (0.7, 1.3) },
                ],
                Fill::Edge,
            ),
            Self::Digits => (
                vec![
                    Transform::Rotate { degrees: (-12.0, 12.0) },
                    Transform::Zoom { by: (-0.12, 0.12) },
                    Transform::Translate { down: (-0.07, 0.07), right: (-0.07, 0.07) },
                ],
                Fill::Constant(0),
            ),
            Self::Photos => (
                vec![
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
                Fill::Edge,
            ),
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes = match self.changes {
            Changes::None => "no changes",
            Changes::Characters => "characters",
            Changes::Digits => "digits",
            Changes::Photos => "photos",
        };
        f.write_str(changes)?;
        match self.mix {
            Some(Mixing::Mixup(alpha)) => write!(f, ", mixup {alpha}")?,
            Some(Mixing::Cutmix(alpha)) => write!(f, ", cutmix {alpha}")?,
            None => {}
        }
        if self.label_smoothing > 0.0 {
            write!(f, ", label smoothing {}", self.label_smoothing)?;
        }
        Ok(())
    }
}
