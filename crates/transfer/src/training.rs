//! Training an image classifier from scratch, from decoded images to a run folder.

use std::time::Instant;

use candle_core::Device;
use firstsight_data::{ImageDataset, InputSpec, Loader, Sampling};
use firstsight_models::{ImageClassifier, InputShape, ModelInfo, Params, SaveDtype};
use firstsight_train::callbacks::{CsvHistory, EarlyStopping, Interrupt, Recorder, RestartFrom, StopOnNan};
use firstsight_train::{
    Accuracy, Callback, CrossEntropy, FitConfig, History, Identity, Metric, Monitor, OptimizerConfig,
    Schedule, TopK, Trainable, check_same, check_shards, fit,
};
use serde::Serialize;

use crate::config::batch_setting;
use crate::going_on::{Beginning, class_names};
use crate::splits::augmented;
use crate::task::{Target, TaskEvaluation, check_task};
use crate::{
    ClassMeans, DecodedSplits, Error, Evaluation, EvaluationFigures, Figures, GoingOn, Interrupted, Reject,
    Result, RunConfig, RunFolder, Runtime, Smaller, Split, SplitRecord, Splits, TrainingRecord, files,
    loader,
};

/// The loss of classification.
pub const LOSS: CrossEntropy = CrossEntropy;

/// Accuracy and, of more than five classes, top-5 accuracy.
pub fn metrics(n_classes: usize) -> &'static [&'static dyn Metric] {
    static METRICS: [&dyn Metric; 2] = [&Accuracy, &TopK(5)];
    if n_classes > 5 { &METRICS } else { &METRICS[..1] }
}

/// Batch size outside training. It depends on the input alone, so that a figure is the same wherever it is measured; it
/// is smaller for large images, whose feature maps take more memory.
pub fn evaluation_batch(input: &InputSpec) -> usize {
    const VALUES: usize = 1 << 22;
    let (channels, height, width) = input.input_size;
    (VALUES / (channels * height * width).max(1)).clamp(8, 128)
}

/// Whether the first process, which writes it, finds a checkpoint.
fn has_checkpoint(run: &RunFolder, runtime: &Runtime) -> bool {
    let found = runtime.communicator.all_gather(&[u8::from(run.has_checkpoint())]);
    found.is_ok_and(|found| found.first().is_some_and(|first| first == &[1]))
}

/// Checks that memory holds a batch: three quarters of the largest map or, where that is more, of all maps of the layers of
/// the [`Summary`](firstsight_models::Summary) that are `trained`, since the backward pass needs them.
///
/// Joined layers hold less than the summary's maps, others hold more, so this refuses nothing that fits. Measured at 224x224, an
/// image more takes of all its maps 0.84 in training MobileNetV2, 0.96 Xception, 1.1 small-cnn, 2.2 AlexNet, 3 ConvNeXt-Atto and 4
/// ViT-Tiny. Fine-tuning MobileNetV2 took 0.30 GB for 64 images, where 0.23 are asked for.
pub(crate) fn check_batch(
    network: &ImageClassifier,
    batch: usize,
    trained: &[bool],
    runtime: &Runtime,
) -> Result<()> {
    let maps: Vec<u64> = network
        .summary()
        .rows
        .iter()
        .map(|row| row.output.channels_last().iter().product::<usize>() as u64)
        .collect();
    let kept: u64 = maps.iter().zip(trained).filter(|(_, trained)| **trained).map(|(map, _)| map).sum();
    let values = kept.max(maps.iter().max().copied().unwrap_or(0));
    let needed = values.saturating_mul((batch * size_of::<f32>()) as u64) / 4 * 3;
    let what = match kept {
        0 => format!("the largest maps of {batch} images"),
        _ => format!("the maps of {batch} images in a step of training"),
    };
    match &runtime.device {
        Device::Cpu => runtime.check_memory(&what, needed, Smaller::Batch),
        _ => Ok(()),
    }
}

/// Settings of a training from scratch.
#[derive(Debug, Clone)]
pub struct Training {
    /// The network.
    pub model: &'static ModelInfo,
    /// Preprocessing of an image.
    pub input: InputSpec,
    /// Maximum number of epochs.
    pub epochs: usize,
    /// Epochs without a better validation accuracy after which training stops.
    pub patience: usize,
    /// Optimizer and schedule.
    pub optimization: Optimization,
    /// Type of the weights in the run folder. All figures are those of the rounded weights; checkpoints stay float32.
    pub save_dtype: SaveDtype,
    /// Seeds, batch size, learning rate and augmentation.
    pub record: TrainingRecord,
}

/// An optimizer with its schedule, at the record's learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimization {
    /// Adam with Keras's defaults, at a constant learning rate.
    Adam,
    /// AdamW with PyTorch's defaults. The learning rate rises over the first twentieth of the steps, then falls along a
    /// cosine to a hundredth.
    AdamWCosine {
        /// Weight decay.
        decay: f64,
    },
    /// Another optimizer with a schedule of its own, as a search finds them.
    Other {
        /// The optimizer.
        optimizer: OptimizerKind,
        /// The share of the steps over which the learning rate rises before it falls along a cosine to 0. It is constant where there
        /// is none.
        warmup: Option<f64>,
    },
}

/// An optimizer without its learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerKind {
    /// Adam with Keras's defaults.
    Adam,
    /// AdamW with PyTorch's defaults.
    AdamW {
        /// Weight decay.
        decay: f64,
    },
    /// Gradient descent with momentum.
    Sgd {
        /// μ in [0, 1).
        momentum: f64,
    },
}

impl OptimizerKind {
    fn config(self, lr: f64) -> OptimizerConfig {
        match self {
            Self::Adam => OptimizerConfig::adam_keras(lr),
            Self::AdamW { decay } => OptimizerConfig::adamw(lr, decay),
            Self::Sgd { momentum } => OptimizerConfig::sgd(lr, momentum),
        }
    }
}

impl std::fmt::Display for OptimizerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Adam => f.write_str("Adam"),
            Self::AdamW { decay } => write!(f, "AdamW of weight decay {decay}"),
            Self::Sgd { momentum } => write!(f, "SGD of momentum {momentum}"),
        }
    }
}

impl Optimization {
    fn config(self, lr: f64) -> (OptimizerConfig, Schedule) {
        match self {
            Self::Adam => (OptimizerConfig::adam_keras(lr), Schedule::Constant),
            Self::AdamWCosine { decay } => {
                (OptimizerConfig::adamw(lr, decay), Schedule::WarmupCosine { warmup: 0.05, floor: 0.01 })
            }
            Self::Other { optimizer, warmup } => {
                let cosine = |warmup| Schedule::WarmupCosine { warmup, floor: 0.0 };
                (optimizer.config(lr), warmup.map_or(Schedule::Constant, cosine))
            }
        }
    }

    /// The optimizer's name.
    fn name(self) -> String {
        match self {
            Self::Adam => "Adam".to_owned(),
            Self::AdamWCosine { .. } => "AdamW along a cosine".to_owned(),
            Self::Other { optimizer, warmup: None } => optimizer.to_string(),
            Self::Other { optimizer, warmup: Some(warmup) } => {
                format!("{optimizer} along a cosine after a rise over {warmup}")
            }
        }
    }

    /// The optimizer in words, for reports.
    pub fn describe(self, lr: f64) -> String {
        match self {
            Self::AdamWCosine { decay } => format!("AdamW {lr} falling as a cosine, weight decay {decay}"),
            Self::Adam | Self::Other { .. } => format!("{} {lr}", self.name()),
        }
    }
}

impl Training {
    /// The network with its initial weights.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Models`] for an input that the network cannot take.
    pub fn network(&self, splits: &DecodedSplits, device: &Device) -> Result<ImageClassifier> {
        let params = Params::seeded(self.record.seed, device);
        let (input, n_classes) = (InputShape::from(&self.input), splits.n_classes());
        Ok(ImageClassifier::new(self.model, input, n_classes, self.model.init, &params)?)
    }

    /// Trains the network on the training split, measured on the validation split after each epoch.
    ///
    /// # Errors
    ///
    /// Those of [`fit`].
    pub fn fit(
        &self,
        network: &ImageClassifier,
        splits: &DecodedSplits,
        runtime: &Runtime,
        callbacks: &mut [&mut dyn Callback],
    ) -> Result<History> {
        let (target, device) = (splits.target(), &runtime.device);
        let train = self.batches(splits, device)?;
        let val = in_order(&target.prepare(&splits.val)?, &self.input, device)?;
        let (optimizer, schedule) = self.optimization.config(self.record.learning_rate);
        let mut config = FitConfig::new(self.epochs, target.loss(), optimizer)
            .schedule(schedule)
            .shards(self.record.shards)
            .communicator(runtime.communicator.clone());
        config.metrics = target.metrics(splits.n_classes());
        Ok(fit(&Trainable::new(network, network.named_vars()), &train, Some(&val), &config, callbacks)?)
    }

    /// The training images, shuffled and augmented.
    fn batches(&self, splits: &DecodedSplits, device: &Device) -> Result<Loader> {
        let TrainingRecord { seed, batch_size, augmentation, .. } = self.record;
        let (images, order) = (splits.target().prepare(&splits.train)?, Sampling::Shuffled { seed });
        let train = loader(&images, &self.input, batch_size, order, device)?;
        augmented(train, splits.crop_source.as_ref(), augmentation, seed)
    }

    /// Checks what needs no image: that the network takes the input, that the processes can share out the shards, and that the
    /// run can go on under these settings.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Models`] for the input, [`crate::Error::Train`] for the shards, [`crate::Error::Run`] for the run.
    pub fn check(&self, splits: &Splits, run: &RunFolder, resume: bool, runtime: &Runtime) -> Result<()> {
        check_shards(self.record.shards, &*runtime.communicator)?;
        self.record.augmentation.check_crops()?;
        let params = Params::zeros(&Device::Cpu);
        let (input, classes) = (InputShape::from(&self.input), splits.train.classes());
        ImageClassifier::new(self.model, input, classes.len(), self.model.init, &params)?;
        if resume && !run.has_checkpoint() {
            return Err(run.error(
                "has no checkpoint to resume: train anew in another folder, or remove this one".to_owned(),
            ));
        }
        if resume {
            run.check_split(&SplitRecord::new(splits))?;
        }
        Beginning::find(run, resume, &[self.settings(classes)], self.epochs, &splits.target().monitor())?;
        Ok(())
    }

    /// Trains with early stopping on validation accuracy, restores the best weights, measures every split and fills the run
    /// folder but for the report. A resumed run whose learning rate is another now goes on from its best epoch. A training
    /// that fails once there is a checkpoint keeps the best epoch: see [`Trained::failure`].
    ///
    /// # Errors
    ///
    /// [`crate::Error::Interrupted`] where no epoch was finished; those of training and of writing the folder.
    pub fn run(
        &self,
        splits: &DecodedSplits,
        run: &RunFolder,
        resume: bool,
        runtime: &Runtime,
    ) -> Result<Trained> {
        self.run_task(splits, run, resume, runtime)
    }

    /// As [`run`](Self::run), for any task: early stopping watches the [monitor](Target::monitor) of the task.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Setting`] for images of another task than that of `E`; those of [`run`](Self::run).
    pub fn run_task<E: TaskEvaluation>(
        &self,
        splits: &DecodedSplits,
        run: &RunFolder,
        resume: bool,
        runtime: &Runtime,
    ) -> Result<Trained<E>> {
        self.run_with(splits, run, resume, None, runtime)
    }

    /// As [`run_task`](Self::run_task), with a callback that observes the training and may stop it. It is told of each epoch before the
    /// run folder has it.
    ///
    /// # Errors
    ///
    /// Those of [`run_task`](Self::run_task).
    pub fn run_observed<E: TaskEvaluation>(
        &self,
        splits: &DecodedSplits,
        run: &RunFolder,
        resume: bool,
        observer: &mut dyn Callback,
        runtime: &Runtime,
    ) -> Result<Trained<E>> {
        self.run_with(splits, run, resume, Some(observer), runtime)
    }

    fn run_with<E: TaskEvaluation>(
        &self,
        splits: &DecodedSplits,
        run: &RunFolder,
        resume: bool,
        observer: Option<&mut dyn Callback>,
        runtime: &Runtime,
    ) -> Result<Trained<E>> {
        check_task::<E>(splits.train.targets())?;
        let started = Instant::now();
        let images = splits.provenance.as_ref().map(|provenance| &provenance.splits);
        if let (Some(images), true) = (images, resume) {
            run.check_split(&SplitRecord::new(images))?;
        }
        let device = &runtime.device;
        let target = splits.target();
        let monitor = || target.monitor();
        // What the images' labels forbid is refused before the run has a file.
        self.batches(splits, device)?;
        let network = self.network(splits, device)?;
        let n = splits.train.len();
        let all = vec![true; network.summary().rows.len()];
        check_batch(&network, self.record.batch_size.min(n), &all, runtime)?;
        check_batch(&network, evaluation_batch(&self.input).min(n), &[], runtime)?;
        let identity = self.identity(splits);
        let beginning =
            Beginning::find(run, resume, std::slice::from_ref(&identity), self.epochs, &monitor())?;
        let earlier = beginning.earlier_seconds(run);
        beginning.announce(run, self.epochs, runtime);
        // From here on the folder changes, so all processes have read it.
        check_same(&*runtime.communicator, "the settings", &identity.to_string())?;
        let is_root = runtime.is_root();
        let mut checkpoint =
            beginning.checkpoint(run, identity, monitor(), RestartFrom::Best).writes(is_root);
        if is_root {
            if let Some(images) = images {
                images.write_record(&run.split())?;
            }
            self.config(splits, &network, target.clone()).write(&run.config())?;
        }
        let mut early_stopping = EarlyStopping::new(monitor(), self.patience);
        let mut csv = CsvHistory::new(&run.history());
        let mut progress = runtime.training(self.model.name);
        let mut recorder = Recorder::default();
        let fitted = runtime.interrupt.with_graceful_interrupt(|flag| {
            let mut interrupt = Interrupt(flag);
            let mut stop_on_nan = StopOnNan;
            let mut callbacks: Vec<&mut dyn Callback> =
                vec![&mut stop_on_nan, &mut recorder, &mut interrupt, &mut early_stopping];
            if let Some(observer) = observer {
                callbacks.push(observer);
            }
            if is_root {
                callbacks.push(&mut csv);
            }
            callbacks.extend([&mut progress as &mut dyn Callback, &mut checkpoint]);
            self.fit(&network, splits, runtime, &mut callbacks)
        });
        let (history, failure) = match fitted {
            Ok(history) => (history, None),
            // What was trained before is kept. Without a checkpoint that is one epoch, which the same command trains again.
            Err(error) if monitor().best(&recorder.epochs).is_some() && has_checkpoint(run, runtime) => {
                early_stopping.restore(&network.named_vars())?;
                (History { epochs: recorder.epochs, stopped: None }, Some(error))
            }
            Err(error) => return Err(error),
        };
        if history.epochs.is_empty() {
            return Err(Interrupted("no epoch was finished, and nothing is saved".to_owned()).into());
        }
        let rounded = network.params().round_to(self.save_dtype);
        let saved = rounded.and_then(|()| match is_root {
            true => network.save_as(&run.weights(), self.save_dtype),
            false => Ok(()),
        });
        if let Err(error) = saved {
            return Err(failure.unwrap_or(error.into()));
        }

        let means = ClassMeans::new(&network, &splits.train, &self.input, runtime)?;
        let measure = |images: &ImageDataset, target: &Target| {
            E::measure_with(&network, images.clone(), target, &self.input, means.as_ref(), runtime)
        };
        let mut val = measure(&splits.val, &target)?;
        let target = val.decide(target);
        let mut train = measure(&splits.train, &target)?;
        let mut test = splits.test.as_ref().map(|test| measure(test, &target)).transpose()?;
        let others = std::iter::once(&mut train).chain(&mut test).collect();
        let reject = E::calibrate(&mut val, others, means);
        let config = self.config(splits, &network, target.clone());
        let config = config.calibrated(val.temperature(), reject.as_ref())?;
        let (going_on, seconds) = (beginning.going_on(), earlier + started.elapsed().as_secs_f64());
        let trained =
            Trained { network, target, history, going_on, failure, train, val, test, reject, seconds };
        if is_root {
            config.write(&run.config())?;
            E::save_answers(run, &splits.root, &trained.held_out_splits(), trained.reject.as_ref())?;
            files::write_json(&run.metrics(), &trained.metrics())?;
        }
        Ok(trained)
    }

    /// The settings that a checkpoint must share to be resumed. The number of epochs and the patience may change.
    fn settings(&self, classes: &[String]) -> Identity {
        let (c, h, w) = self.input.input_size;
        let TrainingRecord { seed, split_seed, batch_size, shards, learning_rate, augmentation } =
            self.record;
        let identity = Identity::new()
            .with("network", self.model)
            .with("input", format!("{h}x{w}x{c}"))
            .with("classes", class_names(classes))
            .with("batch size", batch_setting(batch_size, shards))
            .with("optimizer", self.optimization.name())
            .with("learning rate", learning_rate)
            .with("augmentation", augmentation)
            .with("seed", seed)
            .with("seed of the split", split_seed);
        match self.optimization {
            Optimization::Adam | Optimization::Other { warmup: None, .. } => identity,
            // A cosine over another number of epochs is another schedule.
            Optimization::Other { warmup: Some(_), .. } => identity.with("epochs", self.epochs),
            Optimization::AdamWCosine { decay } => {
                identity.with("weight decay", decay).with("epochs", self.epochs)
            }
        }
    }

    /// The settings and images that a [checkpoint](firstsight_train::callbacks::Checkpoint) must share to be resumed.
    pub fn identity(&self, splits: &DecodedSplits) -> Identity {
        self.settings(splits.train.classes())
            .with("training images", splits.train.len())
            .with("validation images", splits.val.len())
            .with("content of the images", format!("{:016x}", splits.fingerprint()))
    }

    fn config(&self, splits: &DecodedSplits, network: &ImageClassifier, target: Target) -> RunConfig {
        RunConfig {
            architecture: self.model.architecture().to_owned(),
            num_classes: splits.n_classes(),
            num_features: network.n_features(),
            label_names: splits.train.classes().to_vec(),
            named: true,
            target,
            pretrained_cfg: self.input.clone(),
            training: Some(self.record),
            options: splits.provenance.as_ref().map(|found| found.splits.options.clone()).unwrap_or_default(),
            temperature: None,
            reject: None,
        }
    }
}

/// A trained network with its figures.
#[derive(Debug)]
pub struct Trained<E = Evaluation> {
    /// The network with the weights of its best epoch.
    pub network: ImageClassifier,
    /// The meaning of its outputs.
    pub target: Target,
    /// Loss and metrics of each epoch.
    pub history: History,
    /// The earlier training that this one went on from under other settings.
    pub going_on: Option<GoingOn>,
    /// The error that ended the training after an epoch, such as a loss that is NaN.
    pub failure: Option<Error>,
    /// The training images.
    pub train: E,
    /// The validation images.
    pub val: E,
    /// The test images.
    pub test: Option<E>,
    /// What the validation images say about images of no class.
    pub reject: Option<Reject>,
    /// Seconds that training and measuring took, with those of the processes that were interrupted.
    pub seconds: f64,
}

/// `metrics.json` of a run, with all figures or, as [`RunSummary`], with loss and accuracy.
#[derive(Debug, Clone, Serialize)]
pub struct RunMetrics<F = EvaluationFigures> {
    /// Number of finished epochs.
    pub epochs: usize,
    /// The epoch whose weights are kept, from 1.
    pub best_epoch: Option<usize>,
    /// The error that ended the training, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// Figures of the training images.
    pub train: F,
    /// Figures of the validation images.
    pub val: F,
    /// Figures of the test images.
    pub test: Option<F>,
}

/// Loss and accuracy of a run.
pub type RunSummary = RunMetrics<Figures>;

impl Trained {
    /// The document with loss and accuracy alone.
    pub fn summary(&self) -> RunSummary {
        self.splits(Evaluation::summary)
    }
}

impl<E: TaskEvaluation> Trained<E> {
    /// The epoch whose weights the network has, from 0.
    pub fn best_epoch(&self) -> Option<usize> {
        self.target.monitor().best(&self.history.epochs)
    }

    /// Whether a request to stop cut the training short.
    pub fn interrupted(&self) -> bool {
        self.history.interrupted()
    }

    /// The document `metrics.json`.
    pub fn metrics(&self) -> RunMetrics<E::Figures> {
        self.splits(E::all_figures)
    }

    fn splits<F>(&self, of: fn(&E) -> F) -> RunMetrics<F> {
        RunMetrics {
            epochs: self.history.epochs.len(),
            best_epoch: self.best_epoch().map(|best| best + 1),
            ended_by: self.failure.as_ref().map(ToString::to_string),
            train: of(&self.train),
            val: of(&self.val),
            test: self.test.as_ref().map(of),
        }
    }

    /// The splits that the network was not trained on, by their short names.
    pub(crate) fn held_out_splits(&self) -> Vec<(&'static str, &E)> {
        let test = self.test.as_ref().map(|test| (Split::Test.name(), test));
        std::iter::once((Split::Val.name(), &self.val)).chain(test).collect()
    }

    /// The test images, or else the validation images.
    pub fn held_out(&self) -> (&'static str, &E) {
        self.test.as_ref().map_or(("validation", &self.val), |test| ("test", test))
    }
}

/// The measure of an epoch where images have one class: validation accuracy.
pub fn monitor() -> Monitor {
    Monitor::val(Accuracy)
}

/// Batches of images in order, for everything but training.
///
/// # Errors
///
/// Those of [`loader`].
pub fn in_order(images: &ImageDataset, input: &InputSpec, device: &Device) -> Result<Loader> {
    loader(images, input, evaluation_batch(input), Sampling::Sequential, device)
}
