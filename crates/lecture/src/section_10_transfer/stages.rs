//! The lecture's two stages: a new last layer on a frozen network, then all of it at a low rate.

use std::time::Instant;

use candle_core::Module;
use firstsight_data::{Batches as _, ImageDataset, Sampling};
use firstsight_train::callbacks::{Interrupt, StopOnNan};
use firstsight_train::{
    Callback, Epoch, FitConfig, Inference, Metrics, OptimizerConfig, PackedWeights, Schedule, evaluate,
};
use firstsight_transfer::{
    BatchNormMode, BlockRates, FeatureBatches, FeatureView, FineTuneConfig, Pretrained, TransferModel,
};

use super::task::Task;
use crate::{Context, Result};

/// Keras's defaults: batches of 32, Adam's rate 0.001.
const BATCH: usize = 32;
const RATE: f64 = 1e-3;
/// The lecture's rate for the whole network.
pub(super) const LOW_RATE: f64 = 1e-5;

/// Number of epochs of each stage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epochs {
    pub(super) frozen: usize,
    pub(super) all: usize,
}

/// The outcome of a stage.
pub(super) struct Stage {
    pub(super) history: Vec<Epoch>,
    pub(super) trained_params: usize,
    pub(super) train: Metrics,
    pub(super) val: Metrics,
    pub(super) seconds: f64,
}

/// A network trained on its new task.
pub(super) struct Transferred {
    pub(super) model: TransferModel,
    pub(super) frozen_params: usize,
    pub(super) frozen: Stage,
    pub(super) all: Stage,
}

/// Both stages; nothing if Ctrl-C was pressed meanwhile.
pub(super) fn transfer(
    pretrained: &Pretrained,
    task: &Task,
    epochs: Epochs,
    context: &Context<'_>,
) -> Result<Option<Transferred>> {
    let (seed, runtime) = (context.settings.seed, context.runtime);
    let model = TransferModel::new(pretrained, pretrained.input.clone(), task.n_outputs(), seed, runtime)?;
    let started = Instant::now();
    let Some(history) = train_head(&model, task, epochs.frozen, seed)? else { return Ok(None) };
    let frozen = Stage::measure(history, model.head_params(), &model, task, started)?;

    let started = Instant::now();
    let config = FineTuneConfig {
        unfreeze_from: model.blocks().first().map(|block| block.name.clone()).unwrap_or_default(),
        epochs: epochs.all,
        lr: LOW_RATE,
        block_rates: BlockRates::Decay(1.0),
        weight_decay: 0.0,
        schedule: Schedule::Constant,
        clip_norm: None,
        loss: task.loss(),
        metrics: vec![task.metric()],
        batch_norm: BatchNormMode::Eval,
        shards: 1,
        communicator: runtime.communicator.clone(),
    };
    let unfrozen = model.unfreeze(&config)?;
    let train = model.loader(&task.train, BATCH, Sampling::Shuffled { seed })?;
    let val = model.in_order(&task.val)?;
    let mut progress = runtime.training("the whole network");
    let history = runtime.interrupt.with_graceful_interrupt(|flag| {
        let mut interrupt = Interrupt(flag);
        let callbacks: &mut [&mut dyn Callback] = &mut [&mut StopOnNan, &mut interrupt, &mut progress];
        unfrozen.fit(&train, Some(&val), &config, callbacks)
    })?;
    if history.interrupted() {
        return Ok(None);
    }
    let (trained, _) = unfrozen.counts();
    let all = Stage::measure(history.epochs, trained, &model, task, started)?;
    let frozen_params = trained - frozen.trained_params;
    Ok(Some(Transferred { model, frozen_params, frozen, all }))
}

/// The frozen network runs once over the images; the last layer is trained on their features.
fn train_head(model: &TransferModel, task: &Task, epochs: usize, seed: u64) -> Result<Option<Vec<Epoch>>> {
    let batches = |images: &ImageDataset, sampling| -> Result<FeatureBatches> {
        let features = model.features("features", images, &[FeatureView::Plain])?;
        let all: Vec<usize> = (0..images.len()).collect();
        Ok(FeatureBatches::new(&features, &all, 1, BATCH, sampling)?)
    };
    let train = batches(&task.train, Sampling::Shuffled { seed })?;
    let val = batches(&task.val, Sampling::Sequential)?;
    let config = FitConfig::new(epochs, task.loss(), OptimizerConfig::adam_keras(RATE)).metric(task.metric());
    let history = model.fit_head(&train, &val, &config)?;
    Ok((!history.interrupted()).then_some(history.epochs))
}

impl Stage {
    fn measure(
        history: Vec<Epoch>,
        trained_params: usize,
        model: &TransferModel,
        task: &Task,
        started: Instant,
    ) -> Result<Self> {
        let seconds = started.elapsed().as_secs_f64();
        let measure = |images| -> Result<Metrics> {
            Ok(evaluate(&model.network, &model.in_order(images)?, &task.loss(), &[&task.metric()])?)
        };
        Ok(Self { history, trained_params, train: measure(&task.train)?, val: measure(&task.val)?, seconds })
    }
}

/// The probability of the second of two classes, told apart by one logit, for each validation image.
pub(super) fn probabilities(model: &TransferModel, task: &Task) -> Result<Vec<f32>> {
    let mut probabilities = Vec::new();
    let packed = PackedWeights::default();
    let inference = Inference::in_pool(&model.network, &packed);
    for batch in model.in_order(&task.val)?.epoch(0) {
        let logits = inference.forward(&batch?.inputs)?.squeeze(1)?.to_vec1::<f32>()?;
        probabilities.extend(logits.iter().map(|z| 1.0 / (1.0 + (-z).exp())));
    }
    Ok(probabilities)
}
