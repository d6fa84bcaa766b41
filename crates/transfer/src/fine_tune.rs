//! Fine-tuning of the upper blocks of a network.

use std::sync::Arc;

use candle_core::{ModuleT, Tensor, Var};
use firstsight_data::Batches;
use firstsight_models::{Block, ImageClassifier, Params, Summary, is_buffer};
use firstsight_train::{
    Callback, Communicator, FitConfig, History, Loss, LrCurve, Metric, Model, Optimizer, OptimizerConfig,
    ParamGroup, ParamGroups, Schedule, fit, lr_find,
};

use crate::{Error, Result};

/// The statistics that batch norm uses while its network is fine-tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchNormMode {
    /// The pretraining's running statistics, which stay as they are (Keras's `training=False`). Right for small data.
    Eval,
    /// Each batch's own; the running statistics follow them.
    Train,
}

/// The learning rates of blocks, relative to that of the last layer.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockRates {
    /// This factor from each block to the one before it (Howard and Ruder 2018, section 3.2).
    Decay(f64),
    /// A factor for each block, from the last one, which is the last layer, back. The last factor also holds for all blocks before.
    Factors(Vec<f64>),
}

impl BlockRates {
    /// The factor of the block that lies `distance` blocks before the last one.
    fn factor(&self, distance: usize) -> f64 {
        match self {
            Self::Decay(decay) => decay.powi(distance as i32),
            Self::Factors(factors) => factors.get(distance).or(factors.last()).copied().unwrap_or(1.0),
        }
    }
}

impl std::fmt::Display for BlockRates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Decay(decay) => write!(f, "{decay} times as much for each block before it"),
            Self::Factors(factors) => {
                let factors: Vec<String> = factors.iter().map(f64::to_string).collect();
                write!(f, "{} times as much for the blocks from it back", factors.join(", "))
            }
        }
    }
}

/// The settings of fine-tuning the upper blocks of a network.
#[derive(Debug, Clone)]
pub struct FineTuneConfig {
    /// Name of the first of the [blocks](ImageClassifier::blocks) to train; those nearer the input stay frozen.
    pub unfreeze_from: String,
    /// Maximum number of epochs.
    pub epochs: usize,
    /// AdamW's learning rate for the last layer.
    pub lr: f64,
    /// Learning rates of the blocks, relative to the last layer's.
    pub block_rates: BlockRates,
    /// AdamW's weight decay; not on norms and biases.
    pub weight_decay: f64,
    /// Learning rate schedule.
    pub schedule: Schedule,
    /// Largest norm of a step's gradients; longer ones are scaled down to it.
    pub clip_norm: Option<f64>,
    /// Loss to minimize.
    pub loss: Arc<dyn Loss>,
    /// Metrics to report next to the loss.
    pub metrics: Vec<Arc<dyn Metric>>,
    /// The statistics that batch norm uses.
    pub batch_norm: BatchNormMode,
    /// Number of shards of a batch; see [`FitConfig::shards`].
    pub shards: usize,
    /// The processes that share out the shards.
    pub communicator: Arc<dyn Communicator>,
}

/// A network whose lower blocks are frozen: they record no graph and cost no backward pass.
#[derive(Debug, Clone)]
pub struct FineTuner {
    /// The network.
    pub network: ImageClassifier,
    groups: Vec<ParamGroup>,
    blocks: Vec<Block>,
    first: usize,
}

impl FineTuner {
    /// `network` with the blocks before `config.unfreeze_from` frozen. Both share their variables.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Setting`] lists the blocks if `config` names another.
    pub fn new(network: &ImageClassifier, config: &FineTuneConfig) -> Result<Self> {
        let (model, params, blocks) = (network.info(), network.params(), network.blocks());
        let first = block_index(&blocks, &config.unfreeze_from)?;
        let frozen = blocks[..first].to_vec();
        let view = params.frozen(move |name: &str| frozen.iter().any(|block| block.holds(name)));
        let network = ImageClassifier::new(model, network.input(), network.n_classes(), model.init, &view)?;
        let groups = groups(&blocks, first, params, &config.block_rates);
        Ok(Self { network, groups, blocks, first })
    }

    /// The numbers of trained and of frozen parameters.
    pub fn counts(&self) -> (usize, usize) {
        let count = |(name, var): &(String, Var)| if is_buffer(name) { 0 } else { var.elem_count() };
        let total: usize = self.network.named_vars().iter().map(count).sum();
        let trained: usize =
            self.groups.iter().flat_map(|group| &group.vars).map(|var| var.elem_count()).sum();
        (trained, total - trained)
    }

    /// The layer table, and for each of its rows whether the layer is trained.
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

    /// Trains the unfrozen blocks with AdamW. The learning rate falls from block to block towards the input, and from
    /// step to step by the schedule.
    ///
    /// # Errors
    ///
    /// Those of [`fit()`].
    pub fn fit(
        &self,
        train: &dyn Batches,
        val: Option<&dyn Batches>,
        config: &FineTuneConfig,
        callbacks: &mut [&mut dyn Callback],
    ) -> Result<History> {
        Ok(fit(&Tuned { tuner: self, mode: config.batch_norm }, train, val, &fit_config(config), callbacks)?)
    }

    /// The optimizer of [`FineTuner::fit`], for code that measures single steps.
    ///
    /// # Errors
    ///
    /// A device that is out of memory.
    pub fn optimizer(&self, config: &FineTuneConfig) -> Result<Optimizer> {
        Ok(Optimizer::new(fit_config(config).optimizer, self.groups.clone())?)
    }

    /// Measures the loss at learning rates from a thousandth to a hundred times the configured one, over `steps` steps,
    /// and restores the variables.
    ///
    /// # Errors
    ///
    /// Those of [`lr_find()`].
    pub fn lr_find(&self, train: &dyn Batches, config: &FineTuneConfig, steps: usize) -> Result<LrCurve> {
        let tuned = Tuned { tuner: self, mode: config.batch_norm };
        Ok(lr_find(&tuned, train, &fit_config(config), (1e-3, 1e2), steps)?)
    }
}

/// A network with its variables, its groups, and batch norm in the configured mode.
struct Tuned<'a> {
    tuner: &'a FineTuner,
    mode: BatchNormMode,
}

impl ModuleT for Tuned<'_> {
    fn forward_t(&self, xs: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        self.tuner.network.forward_t(xs, train && self.mode == BatchNormMode::Train)
    }
}

impl Model for Tuned<'_> {
    fn named_vars(&self) -> Vec<(String, Var)> {
        self.tuner.network.named_vars()
    }

    fn param_groups(&self) -> ParamGroups {
        self.tuner.groups.clone().into()
    }
}

fn fit_config(config: &FineTuneConfig) -> FitConfig {
    let optimizer = OptimizerConfig::adamw(config.lr, config.weight_decay);
    let mut fit_config = FitConfig::new(config.epochs, config.loss.clone(), optimizer)
        .schedule(config.schedule.clone())
        .clip_norm(config.clip_norm)
        .shards(config.shards)
        .communicator(config.communicator.clone());
    fit_config.metrics.clone_from(&config.metrics);
    fit_config
}

/// The index of the block called `name`.
pub(crate) fn block_index(blocks: &[Block], name: &str) -> Result<usize> {
    blocks.iter().position(|block| block.name == name).ok_or_else(|| {
        let names: Vec<&str> = blocks.iter().map(|block| block.name.as_str()).collect();
        Error::Setting {
            setting: "the block to unfreeze from",
            expected: format!("one of {}", names.join(", ")),
            found: name.to_owned(),
        }
    })
}

/// Two groups per block: weights, and norms and biases, which do not decay.
fn groups(blocks: &[Block], first: usize, params: &Params, rates: &BlockRates) -> Vec<ParamGroup> {
    let last = blocks.len() - 1;
    let group = |block: &Block, lr_scale: f64, decays: bool| {
        // Scales of norms and all biases have one axis.
        let vars = params
            .named()
            .into_iter()
            .filter(|(name, var)| block.holds(name) && !is_buffer(name) && (var.rank() > 1) == decays);
        ParamGroup {
            lr_scale,
            weight_decay: f64::from(u8::from(decays)),
            ..ParamGroup::new(vars.map(|(_, var)| var).collect())
        }
    };
    blocks
        .iter()
        .enumerate()
        .skip(first)
        .flat_map(|(i, block)| {
            let lr_scale = rates.factor(last - i);
            [group(block, lr_scale, true), group(block, lr_scale, false)]
        })
        .filter(|group| !group.vars.is_empty())
        .collect()
}
