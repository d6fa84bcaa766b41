use firstsight_data::Batches;
use firstsight_models::{Block, ImageClassifier, InputShape, ModelInfo, Params, Summary, is_buffer};
use firstsight_train::{
    AdamEpsilon, Callback, FitConfig, Group, History, Loss, Metric, Optimizer, OptimizerConfig, RateCurve,
    Resume, Schedule, find_rate, fit,
};

use crate::{Error, Frozen, Result};

/// What batch norm does while its network is fine-tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistics {
    /// It uses the pretraining's running statistics and leaves them (Keras's `training=False`). Right for small data.
    Kept,
    /// It uses each batch's, and follows them.
    Updated,
}

/// How the upper part of a network is trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct FineTuneConfig {
    /// The first block that is trained, of [`ImageClassifier::blocks`]; those nearer the input stay frozen.
    pub unfreeze_from: String,
    /// The most epochs.
    pub epochs: usize,
    /// AdamW's rate for the last layer.
    pub rate: f64,
    /// What the rate is multiplied by from each block to the one before it (Howard and Ruder 2018, section 3.2).
    pub rate_decay: f64,
    /// AdamW's weight decay; not on norms and biases.
    pub weight_decay: f64,
    /// The share of all steps in which the rate rises, before it falls to 0 on a cosine.
    pub schedule: Schedule,
    /// The norm that the gradients of a step are scaled down to.
    pub clip_norm: Option<f64>,
    /// What is minimised.
    pub loss: Loss,
    /// What is reported beside it.
    pub metrics: Vec<Metric>,
    /// What batch norm does.
    pub statistics: Statistics,
}

/// A network whose lower blocks are frozen: they record no graph and cost no backward pass.
#[derive(Debug, Clone)]
pub struct PartlyFrozen {
    /// The network; its variables are those of the set that it was built from.
    pub network: ImageClassifier,
    groups: Vec<Group>,
    blocks: Vec<Block>,
    first: usize,
}

impl PartlyFrozen {
    /// The network of this kind over the variables of `params`, which exist, with the blocks before
    /// `config.unfreeze_from` frozen.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] for a block that there is not.
    pub fn new(
        model: &'static ModelInfo,
        input: InputShape,
        n_classes: usize,
        params: &Params,
        config: &FineTuneConfig,
    ) -> Result<Self> {
        let parts = ImageClassifier::new(model, input, n_classes, model.init, params)?.blocks();
        let first = index(&parts, &config.unfreeze_from)?;
        let frozen = parts[..first].to_vec();
        let is_frozen = move |name: &str| frozen.iter().any(|block| block.holds(name));
        let view = params.frozen(is_frozen);
        let network = ImageClassifier::new(model, input, n_classes, model.init, &view)?;
        let groups = groups(&parts, first, params, config.rate_decay);
        Ok(Self { network, groups, blocks: parts, first })
    }

    /// How many parameters are trained, and how many are frozen.
    pub fn counts(&self, params: &Params) -> (usize, usize) {
        let count =
            |(name, var): &(String, candle_core::Var)| if is_buffer(name) { 0 } else { var.elem_count() };
        let total: usize = params.named().iter().map(count).sum();
        let trained: usize =
            self.groups.iter().flat_map(|group| &group.vars).map(|var| var.elem_count()).sum();
        (trained, total - trained)
    }

    /// The layer table's rows with whether each layer is trained.
    pub fn summary(&self) -> (Summary, Vec<bool>) {
        let summary = self.network.summary();
        let trained = summary
            .rows
            .iter()
            .map(|row| {
                let name = format!("{}.", row.name);
                row.params > 0 && self.blocks[self.first..].iter().any(|block| block.holds(&name))
            })
            .collect();
        (summary, trained)
    }

    /// Trains the unfrozen blocks: AdamW, its rate falling from block to block towards the input and from step to step
    /// as the schedule says.
    ///
    /// # Errors
    /// Those of [`fit`].
    pub fn fit(
        &self,
        train: &impl Batches,
        val: &impl Batches,
        config: &FineTuneConfig,
        resume: Option<Resume>,
        callbacks: &mut [&mut dyn Callback],
    ) -> Result<History> {
        let fit_config = fit_config(config, resume);
        let groups = self.groups.clone();
        Ok(match config.statistics {
            Statistics::Kept => {
                fit(&Frozen(self.network.clone()), groups, train, val, &fit_config, callbacks)?
            }
            Statistics::Updated => fit(&self.network, groups, train, val, &fit_config, callbacks)?,
        })
    }

    /// The optimiser that [`PartlyFrozen::fit`] steps with, for what measures single steps.
    ///
    /// # Errors
    /// Unsound rates.
    pub fn optimizer(&self, config: &FineTuneConfig) -> Result<Optimizer> {
        Ok(Optimizer::new(fit_config(config, None).optimizer, self.groups.clone())?)
    }

    /// The loss at rates from a thousandth to a hundred times the configured one, for a value to train with. The
    /// variables come back as they were.
    ///
    /// # Errors
    /// Those of [`find_rate`].
    pub fn find_rate(
        &self,
        params: &Params,
        train: &impl Batches,
        config: &FineTuneConfig,
        steps: usize,
    ) -> Result<RateCurve> {
        let (groups, all) = (self.groups.clone(), params.vars(|_| true));
        let fit_config = fit_config(config, None);
        let range = (1e-3, 1e2);
        Ok(match config.statistics {
            Statistics::Kept => {
                find_rate(&Frozen(self.network.clone()), groups, &all, train, &fit_config, range, steps)?
            }
            Statistics::Updated => find_rate(&self.network, groups, &all, train, &fit_config, range, steps)?,
        })
    }
}

fn fit_config(config: &FineTuneConfig, resume: Option<Resume>) -> FitConfig {
    FitConfig {
        epochs: config.epochs,
        loss: config.loss,
        metrics: config.metrics.clone(),
        optimizer: OptimizerConfig::AdamW {
            rate: config.rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: AdamEpsilon::PyTorch(1e-8),
            decay: config.weight_decay,
        },
        schedule: config.schedule,
        clip_norm: config.clip_norm,
        resume,
    }
}

/// The index of the block called `name`.
fn index(blocks: &[Block], name: &str) -> Result<usize> {
    blocks.iter().position(|block| block.name == name).ok_or_else(|| {
        let names: Vec<&str> = blocks.iter().map(|block| block.name.as_str()).collect();
        Error::Setting {
            setting: "the block to unfreeze from",
            expected: format!("one of {}", names.join(", ")),
            found: name.to_owned(),
        }
    })
}

/// Two groups a block: weights, and norms and biases, which don't decay.
fn groups(blocks: &[Block], first: usize, params: &Params, rate_decay: f64) -> Vec<Group> {
    let last = blocks.len() - 1;
    let group = |block: &Block, rate: f64, decays: bool| {
        // Scales of norms and all biases have one axis.
        let vars = params
            .named()
            .into_iter()
            .filter(|(name, var)| block.holds(name) && !is_buffer(name) && (var.rank() > 1) == decays);
        Group { vars: vars.map(|(_, var)| var).collect(), rate, decay: f64::from(u8::from(decays)), l2: 0.0 }
    };
    blocks
        .iter()
        .enumerate()
        .skip(first)
        .flat_map(|(i, block)| {
            let rate = rate_decay.powi((last - i) as i32);
            [group(block, rate, true), group(block, rate, false)]
        })
        .filter(|group| !group.vars.is_empty())
        .collect()
}
