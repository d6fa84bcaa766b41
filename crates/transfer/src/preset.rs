//! Presets of fine-tuning, by the time they take.

use std::sync::Arc;

use firstsight_models::Block;
use firstsight_train::{Accuracy, Alone, CrossEntropy, Schedule, TopK};

use crate::{BatchNormMode, BlockRates, FeatureView, FineTuneConfig, HeadConfig};

/// Amount of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The last layer alone, on features computed once.
    Quick,
    /// Also the upper third of the network, at a low learning rate.
    Standard,
    /// Also nearly all of the network, for longer.
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

    /// The recipe for a network of these blocks.
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
                block_rates: BlockRates::Decay(0.8),
                weight_decay: 0.05,
                schedule: Schedule::WarmupCosine { warmup: 0.1, floor: 0.0 },
                clip_norm: Some(1.0),
                loss: Arc::new(CrossEntropy),
                metrics: vec![Arc::new(Accuracy), Arc::new(TopK(5))],
                batch_norm: BatchNormMode::Eval,
                shards: 1,
                communicator: Arc::new(Alone),
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

/// Settings of a fine-tuning.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Views of the training images; the frozen network runs over each.
    pub views: Vec<FeatureView>,
    /// The last layer.
    pub head: HeadConfig,
    /// Training of the upper blocks, if any.
    pub tuning: Option<Tuning>,
}

/// The second part of a recipe.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Batch size.
    pub batch_size: usize,
    /// Epochs without a better one before training stops.
    pub patience: usize,
    /// Settings of the training.
    pub config: FineTuneConfig,
}

/// Cost of a recipe, in passes of images through the whole network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Images of forward passes alone.
    pub forward: usize,
    /// Images of forward passes and of backward passes through the unfrozen blocks.
    pub trained: usize,
    /// Share of the network's blocks that are unfrozen.
    pub unfrozen: f64,
}

impl Recipe {
    /// Upper bound of the cost for these numbers of images, with the features of `n_compared` images more, fitted in ways that
    /// are not chosen.
    pub fn cost(&self, blocks: &[Block], n_train: usize, n_compared: usize, n_val: usize) -> Cost {
        let features = n_train * self.views.len() + n_compared + n_val;
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
    /// Estimate of the seconds it takes where the forward pass of an image takes `forward` seconds. A backward pass counts
    /// as two forward passes through the unfrozen share.
    pub fn seconds(&self, forward: f64) -> f64 {
        forward * (self.forward as f64 + self.trained as f64 * (1.0 + 2.0 * self.unfrozen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_read_by_their_names() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse::<Preset>().unwrap().name(), preset.name());
        }
        assert_eq!("fast".parse::<Preset>().unwrap_err(), "'fast' is none of quick, standard, thorough");
    }

    #[test]
    fn a_recipe_costs_its_passes_through_the_network() {
        let names = ["stem", "blocks.0", "blocks.1", "classifier"];
        let blocks = names.map(|name| Block { name: name.to_owned(), prefixes: Vec::new() });
        let cost = |preset: Preset| preset.recipe(&blocks, 1).cost(&blocks, 100, 10, 20);
        assert_eq!(cost(Preset::Quick), Cost { forward: 230, trained: 0, unfrozen: 0.0 });
        // Six epochs over the upper two of four blocks.
        let standard = cost(Preset::Standard);
        assert_eq!(standard, Cost { forward: 350, trained: 600, unfrozen: 0.5 });
        assert_eq!(standard.seconds(0.1), 155.0);
    }
}
