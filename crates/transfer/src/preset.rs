//! What to do with a folder of photos, by how long the user would wait.

use std::sync::Arc;

use firstsight_models::Block;
use firstsight_train::{Accuracy, CrossEntropy, Schedule, TopK};

use crate::{BatchNormMode, FeatureView, FineTuneConfig, HeadConfig};

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The last layer alone, on features computed once.
    Quick,
    /// Then the upper third of the network at a low rate.
    Standard,
    /// Then all of it but the first layers, for longer.
    Thorough,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 3] = [Self::Quick, Self::Standard, Self::Thorough];

    /// Its name: `quick`, `standard`, `thorough`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Thorough => "thorough",
        }
    }

    /// What it does to a network of these blocks.
    pub fn recipe(self, blocks: &[Block], seed: u64) -> Recipe {
        let head = HeadConfig {
            penalties: PENALTIES.to_vec(),
            folds: 5,
            steps: 120,
            batch_size: 1024,
            lr: 0.02,
            balanced: false,
            seed,
        };
        let from = |place: usize| blocks.get(place).map(|block| block.name.clone()).unwrap_or_default();
        let tuning = |place: usize, epochs: usize, lr: f64| Tuning {
            batch_size: 16,
            patience: epochs,
            config: FineTuneConfig {
                unfreeze_from: from(place),
                epochs,
                lr,
                layer_decay: 0.8,
                weight_decay: 0.05,
                schedule: Schedule::WarmupCosine { warmup: 0.1, floor: 0.0 },
                clip_norm: Some(1.0),
                loss: Arc::new(CrossEntropy),
                metrics: vec![Arc::new(Accuracy), Arc::new(TopK(5))],
                batch_norm: BatchNormMode::Eval,
            },
        };
        let n = blocks.len();
        let tuning = match self {
            Self::Quick => None,
            Self::Standard => Some(tuning(n.saturating_sub(n.div_ceil(3)), 6, 2e-4)),
            Self::Thorough => Some(tuning(1.min(n.saturating_sub(1)), 20, 3e-4)),
        };
        Recipe { views: vec![FeatureView::Plain, FeatureView::Mirrored], head, tuning }
    }
}

/// λ of the last layer's penalty, from next to none to one under which only the strongest features are used.
const PENALTIES: [f64; 6] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

impl std::str::FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|preset| preset.name() == name);
        known.ok_or_else(|| format!("'{name}' is none of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// All that is done.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Each a pass of the frozen network over the training images.
    pub views: Vec<FeatureView>,
    /// The last layer.
    pub head: HeadConfig,
    /// What is trained on after it, if anything is.
    pub tuning: Option<Tuning>,
}

/// The second part of a recipe.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Images a step.
    pub batch_size: usize,
    /// Epochs without a better one after which it stops.
    pub patience: usize,
    /// How it trains.
    pub config: FineTuneConfig,
}

/// What a recipe costs, in passes of images through the whole network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Images that are run forwards alone.
    pub forward: usize,
    /// Images that are run forwards and, through the unfrozen blocks, backwards.
    pub trained: usize,
    /// The share of the network's blocks that is unfrozen.
    pub unfrozen: f64,
}

impl Recipe {
    /// What it costs on so many training and validation images, at most, where features are computed for so many crops.
    pub fn cost(&self, blocks: &[Block], n_train: usize, n_crops: usize, n_val: usize) -> Cost {
        let features = n_train * self.views.len() * n_crops + n_val;
        let Some(tuning) = &self.tuning else {
            return Cost { forward: features, trained: 0, unfrozen: 0.0 };
        };
        let epochs = tuning.config.epochs;
        let first = blocks.iter().position(|block| block.name == tuning.config.unfreeze_from).unwrap_or(0);
        let unfrozen = (blocks.len() - first) as f64 / blocks.len().max(1) as f64;
        Cost { forward: features + epochs * n_val, trained: epochs * n_train, unfrozen }
    }
}

impl Cost {
    /// About how long it takes where one image takes `forward` seconds forwards: a backward pass counts as two forward
    /// passes through the unfrozen share.
    pub fn seconds(&self, forward: f64) -> f64 {
        forward * (self.forward as f64 + self.trained as f64 * (1.0 + 2.0 * self.unfrozen))
    }
}
