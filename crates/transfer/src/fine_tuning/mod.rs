//! Fine-tuning, from folders of photos to a run folder: features, last layer, upper blocks.

mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{ModuleT as _, Tensor, Var};
use firstsight_data::{
    AugmentationConfig, AugmentationPreset, Batches as _, DecodeSettings, ImageDataset, InputSpec, Loader,
    OnDecodeError, ResizeMode, Sampling,
};
use firstsight_models::Block;
use firstsight_train::callbacks::{Checkpoint, CsvHistory, EarlyStopping, Interrupt, StopOnNan};
use firstsight_train::{
    Accuracy, Callback, Epoch, History, LrCurve, Metrics, Predictions, evaluate_and_predict,
};
use serde::Serialize;

use crate::fine_tune::block_index;
use crate::training::{LOSS, METRICS, monitor};
use crate::{
    BatchNormMode, Error, Features, Figures, Head, Preset, Pretrained, Recipe, Result, RunConfig, RunFolder,
    Runtime, Splits, TrainingRecord, TransferModel, Tuning, decode, files,
};

/// Intervals of the reliability diagram and of the calibration error.
const BINS: usize = 10;
/// Steps of the learning rate's range test.
const RANGE_TEST_STEPS: usize = 60;
/// Images that the cost is estimated from.
const TIMED_IMAGES: usize = 8;

/// Settings of a fine-tuning. [`FineTuning::preset`] fills them in.
///
/// ```no_run
/// use candle_core::Device;
/// use firstsight_transfer::{FineTuning, Preset, Pretrained, Runtime, Splits};
///
/// let runtime = Runtime::new(Device::Cpu);
/// let pretrained = Pretrained::folder("models/mobilenet".as_ref())?;
/// let photos = Splits::scan("photos".as_ref(), 1)?;
/// let result = FineTuning::preset(Preset::Quick, 1).fit(&pretrained, &photos, &runtime)?;
/// result.save("models/mine".as_ref())?;
/// # Ok::<(), firstsight_transfer::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FineTuning {
    /// The amount of work.
    pub preset: Preset,
    /// Seed of the last layer's initial weights, of shuffling and of augmentation.
    pub seed: u64,
    /// Height and width of the input; those of the weights if there is none.
    pub input_size: Option<(usize, usize)>,
    /// Ways to fit non-square photos; of several, cross-validation chooses one.
    pub resize_modes: Vec<ResizeMode>,
    /// First block to train after the last layer; the preset's if there is none.
    pub unfreeze_from: Option<String>,
    /// Maximum number of epochs for the unfrozen blocks; the preset's if there is none.
    pub epochs: Option<usize>,
    /// Learning rate of the last layer while the blocks are trained; the preset's if there is none.
    pub lr: Option<LearningRate>,
    /// Batch size while the blocks are trained; the preset's if there is none.
    pub batch_size: Option<usize>,
    /// Let batch norm follow the new images instead of keeping the pretraining's statistics.
    pub update_statistics: bool,
    /// Show rare classes as often as frequent ones.
    pub class_balanced: bool,
    /// Random changes of the training images while the blocks are trained.
    pub augmentation: AugmentationConfig,
    /// Treatment of files that cannot be decoded.
    pub on_decode_error: OnDecodeError,
}

/// A learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LearningRate {
    /// This one.
    Value(f64),
    /// The one that a range test suggests.
    Find,
}

/// A split with the network's predictions.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The images.
    pub images: ImageDataset,
    /// Loss, top-1 and top-5 accuracy.
    pub metrics: Metrics,
    /// The probabilities of each image's classes.
    pub predictions: Predictions,
}

impl Evaluation {
    /// Loss, top-1 and top-5 accuracy, for `metrics.json`.
    pub fn figures(&self) -> Figures {
        (&self.metrics).into()
    }
}

/// The weights that a result keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The pretrained backbone with the last layer trained on its features.
    Head,
    /// Those after this epoch of training the blocks, from 0.
    Epoch(usize),
}

/// A fine-tuned network with its figures.
#[derive(Debug)]
pub struct FineTuneResult {
    /// The network and its input, with the resize mode that was chosen.
    pub model: TransferModel,
    /// The resize modes tried, with their lowest cross-validated loss.
    pub resize_modes: Vec<(ResizeMode, f64)>,
    /// The recipe of the preset with the caller's changes.
    pub recipe: Recipe,
    /// The last layer as trained on features.
    pub head: Head,
    /// Figures of the validation images after the last layer's training.
    pub head_val: Metrics,
    /// Number of parameters that were trained last.
    pub trained_params: usize,
    /// Number of parameters that stayed as they were pretrained.
    pub frozen_params: usize,
    /// For each row of the layer table, whether the layer was trained last.
    pub trained_rows: Vec<bool>,
    /// The range test of the learning rate.
    pub lr_curve: Option<LrCurve>,
    /// The epochs of training the blocks, or one for the last layer alone.
    pub history: History,
    /// The weights that the network has.
    pub kept: Kept,
    /// Number of training images.
    pub n_train: usize,
    /// Figures of the training images, where the last layer alone is kept.
    pub train: Option<Metrics>,
    /// The validation images.
    pub val: Evaluation,
    /// The test images.
    pub test: Option<Evaluation>,
    /// Files left out because they could not be decoded, with the reason.
    pub excluded: Vec<(PathBuf, String)>,
    /// Where the time went.
    pub seconds: Seconds,
    settings: FineTuning,
    pretrained: Pretrained,
    data: PathBuf,
    split_seed: u32,
    device_name: String,
}

/// Seconds of each part of a fine-tuning.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Seconds {
    /// Decoding images.
    pub decoding: f64,
    /// Computing features.
    pub features: f64,
    /// Training the last layer.
    pub head: f64,
    /// Training the blocks.
    pub tuning: f64,
    /// Measuring splits.
    pub measuring: f64,
}

/// Runs `work` and adds the seconds that it took.
fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    *seconds += started.elapsed().as_secs_f64();
    result
}

impl FineTuning {
    /// The settings of a preset: the resize mode is chosen by cross-validation, training images are augmented as
    /// photos are, labels are smoothed by 0.1.
    pub fn preset(preset: Preset, seed: u64) -> Self {
        Self {
            preset,
            seed,
            input_size: None,
            resize_modes: vec![ResizeMode::CenterCrop, ResizeMode::Squash],
            unfreeze_from: None,
            epochs: None,
            lr: None,
            batch_size: None,
            update_statistics: false,
            class_balanced: false,
            augmentation: AugmentationConfig {
                preset: AugmentationPreset::Photos,
                mix: None,
                label_smoothing: 0.1,
            },
            on_decode_error: OnDecodeError::Fail,
        }
    }

    /// Trains the last layer on features, then, unless the preset is quick, the upper blocks; keeps the better of the
    /// two by validation accuracy, and measures it.
    ///
    /// # Errors
    ///
    /// [`Error::Dataset`] for classes that no classifier should be made for, [`Error::Setting`] for a setting that does
    /// not fit the network, and the errors of decoding and training.
    pub fn fit(&self, pretrained: &Pretrained, splits: &Splits, runtime: &Runtime) -> Result<FineTuneResult> {
        self.fit_with(pretrained, splits, None, runtime)
    }

    /// Like [`FineTuning::fit`], with history and checkpoint in a run folder, from which an interrupted training is
    /// resumed. The result is not yet saved: see [`FineTuneResult::save_to`].
    ///
    /// # Errors
    ///
    /// Those of [`FineTuning::fit`], and [`Error::Train`] for a checkpoint of another training.
    pub fn fit_in(
        &self,
        run: &RunFolder,
        resume: bool,
        pretrained: &Pretrained,
        splits: &Splits,
        runtime: &Runtime,
    ) -> Result<FineTuneResult> {
        self.fit_with(pretrained, splits, Some((run, resume)), runtime)
    }

    fn fit_with(
        &self,
        pretrained: &Pretrained,
        splits: &Splits,
        run: Option<(&RunFolder, bool)>,
        runtime: &Runtime,
    ) -> Result<FineTuneResult> {
        splits.check_classes()?;
        let mut seconds = Seconds::default();
        let n_classes = splits.train.classes().len();
        let mut model =
            TransferModel::new(pretrained, self.input(pretrained), n_classes, self.seed, runtime)?;
        let recipe = self.recipe(&model.blocks())?;

        let HeadStage { input, train, features, head, resize_modes } =
            self.train_head(&mut model, &recipe, splits, runtime, &mut seconds)?;
        model.input = input;
        model.set_head(&head)?;

        let settings = self.decode_settings(&model.input);
        let decode = |folder, task| decode(folder, task, &settings, runtime);
        let val = timed(&mut seconds.decoding, || decode(&splits.val, "validation images"))?;
        let test = splits.test.as_ref();
        let test =
            test.map(|test| timed(&mut seconds.decoding, || decode(test, "test images"))).transpose()?;
        let decoded = [Some(&train), Some(&val), test.as_ref()];
        let excluded: Vec<_> = decoded.into_iter().flatten().flat_map(|d| d.excluded().to_vec()).collect();
        for (path, reason) in &excluded {
            runtime.message(&format!("left out: {}: {reason}", path.display()));
        }
        let head_train = model.evaluate_head(&features, &LOSS, &METRICS)?;
        let head_val = timed(&mut seconds.measuring, || evaluation(&model, val))?;
        runtime.message(&format!("last layer: val_accuracy {:.4}", accuracy(&head_val.metrics)));

        let stage = timed(&mut seconds.tuning, || match &recipe.tuning {
            None => Ok(BlockStage::skipped(&model, &head_train, &head_val.metrics)),
            Some(tuning) => self.train_blocks(&model, tuning, &train, &head_val, pretrained, run, runtime),
        })?;

        let head_metrics = head_val.metrics.clone();
        let val = match stage.kept {
            Kept::Head => head_val,
            Kept::Epoch(_) => timed(&mut seconds.measuring, || evaluation(&model, head_val.images))?,
        };
        let test = test.map(|test| timed(&mut seconds.measuring, || evaluation(&model, test))).transpose()?;
        Ok(FineTuneResult {
            resize_modes,
            recipe,
            head,
            head_val: head_metrics,
            trained_params: stage.trained_params,
            frozen_params: stage.frozen_params,
            trained_rows: stage.trained_rows,
            lr_curve: stage.lr_curve,
            history: stage.history,
            kept: stage.kept,
            n_train: train.len(),
            train: (stage.kept == Kept::Head).then_some(head_train),
            val,
            test,
            excluded,
            seconds,
            model,
            settings: self.clone(),
            pretrained: pretrained.clone(),
            data: splits.root.clone(),
            split_seed: splits.split_seed,
            device_name: runtime.device_name.clone(),
        })
    }

    /// Trains a last layer on the features of each resize mode, and keeps that of the lowest cross-validated loss.
    fn train_head(
        &self,
        model: &mut TransferModel,
        recipe: &Recipe,
        splits: &Splits,
        runtime: &Runtime,
        seconds: &mut Seconds,
    ) -> Result<HeadStage> {
        let mut best: Option<HeadStage> = None;
        let mut resize_modes = Vec::new();
        let input = model.input.clone();
        for &mode in &self.resize_modes {
            model.input = InputSpec { crop_mode: mode, ..input.clone() };
            if mode == ResizeMode::Squash {
                // timm crops after stretching unless the whole is kept.
                model.input.crop_pct = 1.0;
            }
            let settings = self.decode_settings(&model.input);
            let train = timed(&mut seconds.decoding, || {
                decode(&splits.train, "training images", &settings, runtime)
            })?;
            if resize_modes.is_empty() {
                self.announce(model, recipe, &train, splits.val.len(), runtime)?;
            }
            let features = timed(&mut seconds.features, || {
                model.features("features of the training images", &train, &recipe.views)
            })?;
            let head = timed(&mut seconds.head, || {
                runtime.counted("last layer", |report| {
                    Head::train(&features, &recipe.head, &mut |done, total| report(done, total))
                })
            })?;
            let loss = head.cross_validated_loss();
            resize_modes.push((mode, loss));
            if best.as_ref().is_none_or(|best| loss < best.head.cross_validated_loss()) {
                let input = model.input.clone();
                best = Some(HeadStage { input, train, features, head, resize_modes: Vec::new() });
            }
        }
        let none = || Error::Setting {
            setting: "resize modes",
            expected: "at least one".into(),
            found: "none".into(),
        };
        let best = best.ok_or_else(none)?;
        if resize_modes.len() > 1 {
            runtime.message(&format!("{} crop, by cross-validation", best.input.crop_mode));
        }
        Ok(HeadStage { resize_modes, ..best })
    }

    /// Trains the upper blocks. The variables are then those of the best epoch, or as before where none was better.
    #[expect(clippy::too_many_arguments)]
    fn train_blocks(
        &self,
        model: &TransferModel,
        tuning: &Tuning,
        train: &ImageDataset,
        head_val: &Evaluation,
        pretrained: &Pretrained,
        run: Option<(&RunFolder, bool)>,
        runtime: &Runtime,
    ) -> Result<BlockStage> {
        let mut config = tuning.config.clone();
        let unfrozen = model.unfreeze(&config)?;
        let (trained_params, frozen_params) = unfrozen.counts();
        let (_, trained_rows) = unfrozen.summary();
        runtime.message(&format!("{trained_params} parameters are trained, {frozen_params} are frozen"));
        let shown = if self.class_balanced { train.balanced() } else { train.clone() };
        let loader = self.training_loader(model, tuning, &shown)?;
        let val = model.in_order(&head_val.images)?;

        let mut lr_curve = None;
        if self.lr == Some(LearningRate::Find) {
            let curve = unfrozen.lr_find(&loader, &config, RANGE_TEST_STEPS)?;
            if let Some(lr) = curve.suggestion() {
                runtime.message(&format!("learning rate: {lr:.2e}, by a range test"));
                config.lr = lr;
            }
            lr_curve = Some(curve);
        }
        let all: Vec<Var> = model.network.params().vars(|_| true);
        let before = all.iter().map(|var| var.copy()).collect::<candle_core::Result<Vec<Tensor>>>()?;
        let mut stopping = EarlyStopping::new(monitor(), tuning.patience);
        let mut progress = runtime.training("fine-tuning");
        let mut csv = run.map(|(run, _)| CsvHistory::new(&run.history()));
        let mut checkpoint = run.map(|(run, resume)| {
            let identity = self.identity(pretrained, tuning, train);
            Checkpoint::new(&run.checkpoint(), monitor(), &identity).resume(resume)
        });
        let history = runtime.interrupt.with_graceful_interrupt(|flag| {
            let (mut stop_on_nan, mut interrupt) = (StopOnNan, Interrupt(flag));
            let mut callbacks: Vec<&mut dyn Callback> = vec![&mut stop_on_nan, &mut interrupt, &mut stopping];
            callbacks.extend(csv.as_mut().map(|csv| csv as &mut dyn Callback));
            callbacks.push(&mut progress);
            callbacks.extend(checkpoint.as_mut().map(|checkpoint| checkpoint as &mut dyn Callback));
            unfrozen.fit(&loader, Some(&val), &config, &mut callbacks)
        })?;
        let best = monitor().best(&history.epochs);
        let kept = match best {
            Some(epoch) if monitor().value(&history.epochs[epoch]) >= accuracy(&head_val.metrics) => {
                Kept::Epoch(epoch)
            }
            _ => {
                runtime.message(match history.epochs.is_empty() {
                    true => "no epoch of fine-tuning was finished: the last layer alone is kept",
                    false => "no epoch of fine-tuning was better than the last layer alone, which is kept",
                });
                for (var, value) in all.iter().zip(&before) {
                    var.set(value)?;
                }
                Kept::Head
            }
        };
        Ok(BlockStage { history, kept, lr_curve, trained_params, frozen_params, trained_rows })
    }

    /// The input of the weights at the size that was set.
    fn input(&self, pretrained: &Pretrained) -> InputSpec {
        let mut input = pretrained.input.clone();
        if let Some((height, width)) = self.input_size {
            input.input_size = (input.input_size.0, height, width);
        }
        input
    }

    /// The preset's recipe for a network of these blocks, with the settings that were changed.
    fn recipe(&self, blocks: &[Block]) -> Result<Recipe> {
        let mut recipe = self.preset.recipe(blocks, self.seed);
        recipe.head.balanced = self.class_balanced;
        if let Some(tuning) = &mut recipe.tuning {
            let config = &mut tuning.config;
            if let Some(block) = &self.unfreeze_from {
                config.unfreeze_from.clone_from(block);
            }
            if let Some(epochs) = self.epochs {
                (config.epochs, tuning.patience) = (epochs, epochs);
            }
            if let Some(LearningRate::Value(lr)) = self.lr {
                config.lr = lr;
            }
            if let Some(batch_size) = self.batch_size {
                tuning.batch_size = batch_size;
            }
            if self.update_statistics {
                config.batch_norm = BatchNormMode::Train;
            }
            block_index(blocks, &config.unfreeze_from)?;
        }
        Ok(recipe)
    }

    fn decode_settings(&self, input: &InputSpec) -> DecodeSettings {
        DecodeSettings { on_error: self.on_decode_error, ..input.decode_settings() }
    }

    /// Says what the preset does and about how long that takes, from the time of a few images.
    fn announce(
        &self,
        model: &TransferModel,
        recipe: &Recipe,
        train: &ImageDataset,
        n_val: usize,
        runtime: &Runtime,
    ) -> Result<()> {
        let few: Vec<usize> = (0..train.len().min(TIMED_IMAGES)).collect();
        let Some(batch) = model.in_order(&train.subset(&few))?.epoch(0).next() else { return Ok(()) };
        let batch = batch?;
        let mut seconds = f64::INFINITY;
        for _ in 0..2 {
            let started = Instant::now();
            model.network.forward_t(&batch.inputs, false)?;
            seconds = seconds.min(started.elapsed().as_secs_f64());
        }
        let cost = recipe.cost(&model.blocks(), train.len(), self.resize_modes.len(), n_val);
        let about = cost.seconds(seconds / few.len() as f64);
        let (name, forward) = (self.preset.name(), cost.forward);
        runtime.message(&match &recipe.tuning {
            None => format!(
                "{name}: {forward} images through the frozen network (those of earlier runs are cached), then the last \
                 layer; at most about {about:.0} s"
            ),
            Some(tuning) => format!(
                "{name}: {forward} images through the network and {} training steps of {} images from {} up; about \
                 {about:.0} s",
                cost.trained.div_ceil(tuning.batch_size),
                tuning.batch_size,
                tuning.config.unfreeze_from
            ),
        });
        Ok(())
    }

    /// Shuffled and augmented batches.
    fn training_loader(
        &self,
        model: &TransferModel,
        tuning: &Tuning,
        images: &ImageDataset,
    ) -> Result<Loader> {
        let loader = model.loader(images, tuning.batch_size, Sampling::Shuffled { seed: self.seed })?;
        Ok(match self.augmentation.augmentation(self.seed) {
            Some(augmentation) => loader.augmented(augmentation)?,
            None => loader,
        })
    }

    /// Description that a checkpoint must share to be resumed.
    fn identity(&self, pretrained: &Pretrained, tuning: &Tuning, train: &ImageDataset) -> String {
        format!(
            "{} from {}, {} preset, {} training images of {} classes, batches of {}, {:?}, augmented ({}), seed {}",
            pretrained.model,
            pretrained.origin,
            self.preset.name(),
            train.len(),
            train.classes().len(),
            tuning.batch_size,
            tuning.config,
            self.augmentation,
            self.seed
        )
    }
}

/// Training images, their features, and the last layer trained on them.
struct HeadStage {
    input: InputSpec,
    train: ImageDataset,
    features: Features,
    head: Head,
    resize_modes: Vec<(ResizeMode, f64)>,
}

/// The outcome of training the blocks.
struct BlockStage {
    history: History,
    kept: Kept,
    lr_curve: Option<LrCurve>,
    trained_params: usize,
    frozen_params: usize,
    trained_rows: Vec<bool>,
}

impl BlockStage {
    /// The last layer alone is trained.
    fn skipped(model: &TransferModel, train: &Metrics, val: &Metrics) -> Self {
        let summary = model.network.summary();
        let trained_params = model.head_params();
        let epoch = Epoch { train: train.clone(), val: Some(val.clone()) };
        Self {
            history: History { epochs: vec![epoch], ..History::default() },
            kept: Kept::Head,
            lr_curve: None,
            trained_params,
            frozen_params: summary.total_params() - trained_params,
            trained_rows: summary
                .rows
                .iter()
                .map(|row| model.network.in_head(&format!("{}.", row.name)))
                .collect(),
        }
    }
}

/// Loss, metrics and predictions of images.
fn evaluation(model: &TransferModel, images: ImageDataset) -> Result<Evaluation> {
    let (metrics, predictions) =
        evaluate_and_predict(&model.network, &model.in_order(&images)?, &LOSS, &METRICS)?;
    Ok(Evaluation { images, metrics, predictions })
}

fn accuracy(metrics: &Metrics) -> f64 {
    metrics.get(&Accuracy).unwrap_or(f64::NAN)
}

impl FineTuneResult {
    /// Whether a request to stop cut the training of the blocks short.
    pub fn interrupted(&self) -> bool {
        self.history.interrupted()
    }

    /// The measured splits with their names.
    pub fn evaluations(&self) -> Vec<(&'static str, &Evaluation)> {
        let test = self.test.as_ref().map(|test| ("test", test));
        std::iter::once(("validation", &self.val)).chain(test).collect()
    }

    /// The test images, or else the validation images.
    pub fn held_out(&self) -> (&'static str, &Evaluation) {
        self.test.as_ref().map_or(("validation", &self.val), |test| ("test", test))
    }

    /// Saves a new run: weights and `config.json` as timm reads them, history, figures and report.
    ///
    /// # Errors
    ///
    /// [`Error::RunExists`] for a folder that holds a run already, [`Error::Write`] for one that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<RunFolder> {
        let run = RunFolder::create(folder, false)?;
        CsvHistory::new(&run.history()).write(&self.history.epochs)?;
        self.save_to(&run)?;
        Ok(run)
    }

    /// Saves the result of [`FineTuning::fit_in`] in its run folder.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] for a folder that cannot be written.
    pub fn save_to(&self, run: &RunFolder) -> Result<()> {
        if self.recipe.tuning.is_none() {
            CsvHistory::new(&run.history()).write(&self.history.epochs)?;
        }
        self.config().write(&run.config())?;
        self.model.network.save(&run.weights())?;
        files::write_json(&run.metrics(), &self.metrics())?;
        Ok(self.report()?.write(&run.report())?)
    }

    fn config(&self) -> RunConfig {
        let (batch_size, learning_rate) = match &self.recipe.tuning {
            Some(tuning) => (tuning.batch_size, tuning.config.lr),
            None => (self.recipe.head.batch_size, self.recipe.head.lr),
        };
        let classes = self.val.images.classes();
        RunConfig {
            architecture: self.pretrained.model.architecture().to_owned(),
            num_classes: classes.len(),
            num_features: self.model.network.n_features(),
            label_names: classes.to_vec(),
            named: true,
            pretrained_cfg: self.model.input.clone(),
            training: Some(TrainingRecord {
                seed: self.settings.seed,
                split_seed: self.split_seed,
                batch_size,
                learning_rate,
                augmentation: self.settings.augmentation,
            }),
        }
    }

    fn metrics(&self) -> MetricsJson<'_> {
        let (epochs, best_epoch, kept) = match (self.kept, &self.recipe.tuning) {
            (Kept::Epoch(epoch), _) => (self.history.epochs.len(), Some(epoch + 1), "fine-tuned"),
            (Kept::Head, Some(_)) => (self.history.epochs.len(), None, "last layer"),
            (Kept::Head, None) => (0, None, "last layer"),
        };
        let candidate = |c: &crate::CrossValidation| CandidateJson {
            penalty: c.penalty,
            loss: c.loss,
            accuracy: c.accuracy,
        };
        MetricsJson {
            preset: self.settings.preset.name(),
            weights: &self.pretrained.origin,
            epochs,
            best_epoch,
            kept,
            head: HeadJson {
                penalty: self.head.penalty,
                val: (&self.head_val).into(),
                cross_validation: self.head.cross_validation.iter().map(candidate).collect(),
            },
            trained_params: self.trained_params,
            frozen_params: self.frozen_params,
            train: self.train.as_ref().map(Figures::from),
            val: self.val.figures(),
            test: self.test.as_ref().map(Evaluation::figures),
            expected_calibration_error: self.held_out().1.predictions.expected_calibration_error(BINS),
            seconds: self.seconds,
        }
    }
}

/// `metrics.json` of a fine-tuned run.
#[derive(Serialize)]
struct MetricsJson<'a> {
    preset: &'a str,
    weights: &'a str,
    epochs: usize,
    best_epoch: Option<usize>,
    kept: &'a str,
    head: HeadJson,
    trained_params: usize,
    frozen_params: usize,
    train: Option<Figures>,
    val: Figures,
    test: Option<Figures>,
    expected_calibration_error: f64,
    seconds: Seconds,
}

#[derive(Serialize)]
struct HeadJson {
    penalty: f64,
    val: Figures,
    cross_validation: Vec<CandidateJson>,
}

#[derive(Serialize)]
struct CandidateJson {
    penalty: f64,
    loss: f64,
    accuracy: f64,
}
