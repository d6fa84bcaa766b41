//! The lecture's two stages: a new last layer on a frozen network, then all of it at a low rate.

use std::time::Instant;

use candle_core::{ModuleT as _, Tensor, Var};
use firstsight_data::{Batches as _, Sampling, TensorBatches};
use firstsight_models::{ImageClassifier, InputShape, Params};
use firstsight_train::callbacks::{Interrupt, StopOnNan};
use firstsight_train::{
    Callback, Epoch, FitConfig, Metrics, OptimizerConfig, Schedule, Trainable, evaluate, fit,
};
use firstsight_transfer::{
    BatchNormMode, FeatureConfig, FeatureView, FineTuneConfig, FineTuner, Pretrained, features, fingerprint,
};

use super::task::Task;
use crate::Context;
use crate::Result;
use firstsight_transfer as images;
use firstsight_transfer::fine_tuning::LastLayer;
use firstsight_transfer::training::{evaluation_batch, in_order};

/// Keras's defaults: batches of 32, Adam's rate 0.001.
const BATCH: usize = 32;
const RATE: f64 = 1e-3;
/// The lecture's rate for the whole network.
pub(super) const LOW_RATE: f64 = 1e-5;

/// How long each stage takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epochs {
    pub(super) frozen: usize,
    pub(super) all: usize,
}

/// What a stage left.
pub(super) struct Stage {
    pub(super) history: Vec<Epoch>,
    pub(super) trained_params: usize,
    pub(super) train: Metrics,
    pub(super) val: Metrics,
    pub(super) seconds: f64,
}

/// A network that has learnt its new task.
pub(super) struct Transferred {
    pub(super) network: ImageClassifier,
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
    let (network, params) = start(pretrained, task, context)?;
    let started = Instant::now();
    let Some(history) = train_last_layer(&network, &params, pretrained, task, epochs.frozen, context)? else {
        return Ok(None);
    };
    let trained = last_layer(&network, &params).iter().map(|(_, var)| var.elem_count()).sum();
    let frozen = Stage::measure(history, trained, &network, pretrained, task, started, context)?;

    let started = Instant::now();
    let parts = network.blocks();
    let config = FineTuneConfig {
        unfreeze_from: parts.first().map(|block| block.name.clone()).unwrap_or_default(),
        epochs: epochs.all,
        lr: LOW_RATE,
        layer_decay: 1.0,
        weight_decay: 0.0,
        schedule: Schedule::Constant,
        clip_norm: None,
        loss: task.loss(),
        metrics: vec![task.metric()],
        batch_norm: BatchNormMode::Eval,
    };
    let input = InputShape::from(&pretrained.input);
    let tuner = FineTuner::new(pretrained.model, input, task.n_outputs(), &params, &config)?;
    let order = Sampling::Shuffled { seed: context.settings.seed };
    let train = images::loader(&task.train, &pretrained.input, BATCH, order, &context.runtime.device)?;
    let val = in_order(&task.val, &pretrained.input, &context.runtime.device)?;
    let mut progress = context.runtime.training("the whole network");
    let history = context.runtime.interrupt.with_graceful_interrupt(|pressed| {
        let mut interrupt = Interrupt(pressed);
        let callbacks: &mut [&mut dyn Callback] = &mut [&mut StopOnNan, &mut interrupt, &mut progress];
        tuner.fit(&train, Some(&val), &config, callbacks)
    })?;
    if history.interrupted() {
        return Ok(None);
    }
    let (trained, _) = tuner.counts();
    let all = Stage::measure(history.epochs, trained, &network, pretrained, task, started, context)?;
    let frozen_params = trained - frozen.trained_params;
    Ok(Some(Transferred { network, frozen_params, frozen, all }))
}

/// The pretrained network with a new last layer.
fn start(pretrained: &Pretrained, task: &Task, context: &Context<'_>) -> Result<(ImageClassifier, Params)> {
    let kind = pretrained.model;
    let params = Params::seeded(context.settings.seed, &context.runtime.device);
    let mut network = ImageClassifier::new(
        kind,
        InputShape::from(&pretrained.input),
        pretrained.n_classes,
        kind.init,
        &params,
    )?;
    params.load(&pretrained.weights)?;
    network.reset_classifier(task.n_outputs())?;
    Ok((network, params))
}

fn last_layer(network: &ImageClassifier, params: &Params) -> Vec<(String, Var)> {
    let prefix = format!("{}.", network.head_name());
    params.named().into_iter().filter(|(name, _)| name.starts_with(&prefix)).collect()
}

/// The frozen network runs once over the images; the last layer is trained on what comes out.
fn train_last_layer(
    network: &ImageClassifier,
    params: &Params,
    pretrained: &Pretrained,
    task: &Task,
    epochs: usize,
    context: &Context<'_>,
) -> Result<Option<Vec<Epoch>>> {
    let prefix = format!("{}.", network.head_name());
    let extraction = FeatureConfig {
        normalize: pretrained.input.normalize(),
        views: &[FeatureView::Plain],
        batch_size: evaluation_batch(&pretrained.input),
        identity: format!(
            "{} {:?}",
            fingerprint(params, |name| !name.starts_with(&prefix))?,
            pretrained.input
        ),
    };
    let batches = |images, order| -> Result<TensorBatches> {
        let found = context.runtime.counted("features", |report| {
            let (cache, device) = (context.runtime.cache.as_deref(), &context.runtime.device);
            let report = &mut |done, total| report(done, total);
            features(network.backbone(), images, &extraction, cache, device, report)
        })?;
        let labels = Tensor::new(found.labels, &context.runtime.device)?;
        Ok(TensorBatches::new(found.rows, labels, BATCH, order)?)
    };
    let train = batches(&task.train, Sampling::Shuffled { seed: context.settings.seed })?;
    let val = batches(&task.val, Sampling::Sequential)?;
    let config = FitConfig::new(epochs, task.loss(), OptimizerConfig::adam_keras(RATE)).metric(task.metric());
    let head = LastLayer(network);
    let model = Trainable::new(&head, last_layer(network, params));
    let history = context.runtime.interrupt.with_graceful_interrupt(|pressed| {
        let mut interrupt = Interrupt(pressed);
        let callbacks: &mut [&mut dyn Callback] = &mut [&mut StopOnNan, &mut interrupt];
        fit(&model, &train, Some(&val), &config, callbacks)
    })?;
    Ok((!history.interrupted()).then_some(history.epochs))
}

impl Stage {
    fn measure(
        history: Vec<Epoch>,
        trained_params: usize,
        network: &ImageClassifier,
        pretrained: &Pretrained,
        task: &Task,
        started: Instant,
        context: &Context<'_>,
    ) -> Result<Self> {
        let seconds = started.elapsed().as_secs_f64();
        let measure = |images| -> Result<Metrics> {
            let batches = in_order(images, &pretrained.input, &context.runtime.device)?;
            Ok(evaluate(network, &batches, &task.loss(), &[&task.metric()])?)
        };
        Ok(Self { history, trained_params, train: measure(&task.train)?, val: measure(&task.val)?, seconds })
    }
}

/// How probable the network thinks each validation image's second class is, of two classes told apart by one logit.
pub(super) fn probabilities(
    network: &ImageClassifier,
    pretrained: &Pretrained,
    task: &Task,
    context: &Context<'_>,
) -> Result<Vec<f32>> {
    let mut probabilities = Vec::new();
    for batch in in_order(&task.val, &pretrained.input, &context.runtime.device)?.epoch(0) {
        let logits = network.forward_t(&batch?.inputs, false)?.squeeze(1)?.to_vec1::<f32>()?;
        probabilities.extend(logits.iter().map(|z| 1.0 / (1.0 + (-z).exp())));
    }
    Ok(probabilities)
}
