//! One training of an image classifier, from decoded images to a RUN folder.

use std::time::Instant;

use candle_core::Device;
use firstsight_data::{AugmentationConfig, ImageDataset, InputSpec, Loader, Sampling};
use firstsight_models::{ImageClassifier, InputShape, ModelInfo, Params};
use firstsight_train::callbacks::{Checkpoint, CsvHistory, EarlyStopping, Interrupt, StopOnNan};
use firstsight_train::{
    Accuracy, Callback, CrossEntropy, FitConfig, History, Metric, Metrics, Monitor, OptimizerConfig,
    Predictions, Schedule, TopK, Trainable, evaluate, fit, predict,
};
use serde::Serialize;

use crate::{
    DecodedSplits, Figures, Interrupted, Result, RunConfig, RunFolder, Runtime, TrainingRecord, files, loader,
};

pub const LOSS: CrossEntropy = CrossEntropy;
pub const METRICS: [&dyn Metric; 2] = [&Accuracy, &TopK(5)];

/// Images at a time outside training: a function of the input alone, so that a figure is the same wherever it is
/// measured. Large images go by fewer, since every map of a batch is in memory at once.
pub fn evaluation_batch(input: &InputSpec) -> usize {
    const VALUES: usize = 1 << 22;
    let (channels, height, width) = input.input_size;
    (VALUES / (channels * height * width).max(1)).clamp(8, 128)
}

/// What is trained, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    pub model: &'static ModelInfo,
    pub input: InputSpec,
    pub epochs: usize,
    pub patience: usize,
    pub optimization: Optimization,
    pub record: TrainingRecord,
}

/// How the weights follow their gradients, at the record's learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimization {
    /// Keras's Adam at one rate, the lecture's.
    Adam,
    /// PyTorch's AdamW; the rate rises over the first twentieth of the steps and falls along a cosine to a hundredth.
    AdamWCosine { decay: f64 },
}

impl Optimization {
    fn config(self, lr: f64) -> (OptimizerConfig, Schedule) {
        match self {
            Self::Adam => (OptimizerConfig::adam_keras(lr), Schedule::Constant),
            Self::AdamWCosine { decay } => {
                (OptimizerConfig::adamw(lr, decay), Schedule::WarmupCosine { warmup: 0.05, floor: 0.01 })
            }
        }
    }

    /// In words, for reports and checkpoints.
    pub fn describe(self, rate: f64) -> String {
        match self {
            Self::Adam => format!("Adam {rate}"),
            Self::AdamWCosine { decay } => format!("AdamW {rate} falling as a cosine, weight decay {decay}"),
        }
    }
}

impl Plan {
    /// The network with its initial weights.
    pub fn network(&self, splits: &DecodedSplits, device: &Device) -> Result<(ImageClassifier, Params)> {
        let params = Params::seeded(self.record.seed, device);
        let n_classes = splits.n_classes();
        let network = ImageClassifier::new(
            self.model,
            InputShape::from(&self.input),
            n_classes,
            self.model.init,
            &params,
        )?;
        Ok((network, params))
    }

    /// Trains the network on the training split, watched by `callbacks`.
    pub fn fit(
        &self,
        network: &ImageClassifier,
        params: &Params,
        splits: &DecodedSplits,
        device: &Device,
        callbacks: &mut [&mut dyn Callback],
    ) -> Result<History> {
        let TrainingRecord { seed, batch_size, learning_rate, augmentation, .. } = self.record;
        let mut train = loader(&splits.train, &self.input, batch_size, Sampling::Shuffled { seed }, device)?;
        if let Some(augmentation) = augmentation.augmentation(seed) {
            train = train.augmented(augmentation)?;
        }
        let val = in_order(&splits.val, &self.input, device)?;
        let (optimizer, schedule) = self.optimization.config(learning_rate);
        let config =
            FitConfig::new(self.epochs, LOSS, optimizer).metric(Accuracy).metric(TopK(5)).schedule(schedule);
        Ok(fit(&Trainable::new(network, params.named()), &train, Some(&val), &config, callbacks)?)
    }
}

/// A trained network with its figures.
pub struct Trained {
    pub network: ImageClassifier,
    pub history: History,
    pub train: Metrics,
    pub val: Metrics,
    pub test: Option<Metrics>,
    pub seconds: f64,
}

/// `metrics.json` of a run.
#[derive(Serialize)]
pub struct RunMetrics {
    pub epochs: usize,
    pub best_epoch: Option<usize>,
    pub train: Figures,
    pub val: Figures,
    pub test: Option<Figures>,
}

impl Trained {
    /// The epoch whose weights the network has, from 0.
    pub fn best_epoch(&self) -> Option<usize> {
        monitor().best(&self.history.epochs)
    }

    pub fn interrupted(&self) -> bool {
        self.history.interrupted()
    }

    pub fn metrics(&self) -> RunMetrics {
        RunMetrics {
            epochs: self.history.epochs.len(),
            best_epoch: self.best_epoch().map(|best| best + 1),
            train: (&self.train).into(),
            val: (&self.val).into(),
            test: self.test.as_ref().map(Figures::from),
        }
    }
}

/// What tells a better epoch from a worse one.
pub fn monitor() -> Monitor {
    Monitor::val(Accuracy)
}

/// Trains with early stopping on validation accuracy, brings the best weights back, measures every split
/// and fills the run folder.
pub fn train(
    plan: &Plan,
    splits: &DecodedSplits,
    run: &RunFolder,
    resume: bool,
    runtime: &Runtime,
) -> Result<Trained> {
    let started = Instant::now();
    let device = &runtime.device;
    let (network, params) = plan.network(splits, device)?;
    let mut checkpoint =
        Checkpoint::new(&run.checkpoint(), monitor(), &identity(plan, splits)).resume(resume);
    files::write_json(&run.config(), &run_config(plan, splits, &network).document()?)?;
    let mut early_stopping = EarlyStopping::new(monitor(), plan.patience);
    let mut csv = CsvHistory::new(&run.history());
    let mut progress = runtime.training(plan.model.name);
    let history = runtime.interrupt.with_graceful_interrupt(|pressed| {
        let mut interrupt = Interrupt(pressed);
        let callbacks: &mut [&mut dyn Callback] = &mut [
            &mut StopOnNan,
            &mut interrupt,
            &mut early_stopping,
            &mut csv,
            &mut progress,
            &mut checkpoint,
        ];
        plan.fit(&network, &params, splits, device, callbacks)
    })?;
    if history.epochs.is_empty() {
        return Err(Interrupted("no epoch was finished, and nothing is saved".to_owned()).into());
    }
    params.save(&run.weights())?;

    let measure = |images: &ImageDataset| -> Result<Metrics> {
        Ok(evaluate(&network, &in_order(images, &plan.input, device)?, &LOSS, &METRICS)?)
    };
    let (train, val) = (measure(&splits.train)?, measure(&splits.val)?);
    let test = splits.test.as_ref().map(measure).transpose()?;
    let trained = Trained { network, history, train, val, test, seconds: started.elapsed().as_secs_f64() };
    files::write_json(&run.metrics(), &trained.metrics())?;
    Ok(trained)
}

/// Loss, metrics and class probabilities of `network` over `images`.
pub fn measure(
    network: &ImageClassifier,
    images: &ImageDataset,
    input: &InputSpec,
    device: &Device,
) -> Result<(Metrics, Predictions)> {
    let batches = in_order(images, input, device)?;
    Ok((evaluate(network, &batches, &LOSS, &METRICS)?, predict(network, &batches)?))
}

/// `images` from first to last, for everything but training.
pub fn in_order(images: &ImageDataset, input: &InputSpec, device: &Device) -> Result<Loader> {
    loader(images, input, evaluation_batch(input), Sampling::Sequential, device)
}

/// What a checkpoint must agree on to be resumed. The number of epochs and the patience may change.
fn identity(plan: &Plan, splits: &DecodedSplits) -> String {
    let (c, h, w) = plan.input.input_size;
    let TrainingRecord { seed, split_seed, batch_size, learning_rate, augmentation } = plan.record;
    let augmented = match augmentation == AugmentationConfig::default() {
        true => String::new(),
        false => format!(", augmented ({augmentation})"),
    };
    // Of a schedule over all epochs, another number of epochs makes another one.
    let optimization = match plan.optimization {
        Optimization::Adam => plan.optimization.describe(learning_rate),
        Optimization::AdamWCosine { .. } => {
            format!("{} over {} epochs", plan.optimization.describe(learning_rate), plan.epochs)
        }
    };
    format!(
        "{} {h}x{w}x{c}, {} classes, {} training and {} validation images (split {split_seed}, content {:016x}), batch \
         {batch_size}, {optimization}, seed {seed}{augmented}",
        plan.model,
        splits.n_classes(),
        splits.train.len(),
        splits.val.len(),
        splits.fingerprint(),
    )
}

fn run_config(plan: &Plan, splits: &DecodedSplits, network: &ImageClassifier) -> RunConfig {
    RunConfig {
        architecture: plan.model.architecture().to_owned(),
        num_classes: splits.n_classes(),
        num_features: network.n_features(),
        label_names: splits.train.classes().to_vec(),
        named: true,
        pretrained_cfg: plan.input.clone(),
        training: Some(plan.record),
    }
}
