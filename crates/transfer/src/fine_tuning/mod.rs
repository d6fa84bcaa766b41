//! Fine-tuning, from folders of photos to a run folder: features, last layer, upper blocks.

mod block_stage;
mod head_stage;
mod photos;
mod report;
mod result;
mod saving;
mod seen;

use std::time::Instant;

use firstsight_data::{
    AugmentationConfig, AugmentationPreset, Crops, InputSpec, Mix, OnError, Reading, ResizeMode, Task,
};
use firstsight_models::{Block, SaveDtype};
use firstsight_train::{Callback, Identity, check_same, check_shards};

use self::photos::Fitted;
pub use self::result::{FineTuneResult, Kept, Seconds};
use self::seen::Seen;
use crate::fine_tune::block_index;
use crate::going_on::{Beginning, check_last_layer, check_network};
use crate::task::check_task;
use crate::training::{check_batch, evaluation_batch};
use crate::{
    BatchNormMode, BlockRates, Error, Preset, Pretrained, Recipe, Result, RunFolder, Runtime, Split,
    SplitRecord, Splits, Target, TaskEvaluation, TransferModel, Tuning,
};

/// Training images up to which the last layer learns from their mirror images, too. More have variety enough.
const MIRRORED_UP_TO: usize = 1000;

/// Steps that the blocks are trained for by a preset, also where few images make an epoch short.
const STEPS: usize = 300;
/// Least number of training images for which presets take so many steps. With fewer, the validation images are too few to tell
/// which of many epochs is best.
const STEPS_FROM: usize = 200;

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
    /// First block to train after the last layer; the preset's if there is none. With the preset quick, blocks are trained as by
    /// standard.
    pub unfreeze_from: Option<String>,
    /// Number of blocks to train, from the last one, which is the last layer, back: another way to say
    /// [`unfreeze_from`](Self::unfreeze_from), for any network. More than there are means all; with 0 the last layer is trained
    /// on features alone, as by the preset quick.
    pub blocks: Option<usize>,
    /// Maximum number of epochs for the unfrozen blocks; if there is none, the preset's. With 200 training
    /// images or more, it is at least as many as 300 steps take.
    pub epochs: Option<usize>,
    /// Learning rate of the last layer while the blocks are trained; the preset's if there is none.
    pub lr: Option<LearningRate>,
    /// Learning rates of the blocks, relative to the last layer's; the preset's if there are none.
    pub block_rates: Option<BlockRates>,
    /// Weight decay while the blocks are trained; the preset's if there is none.
    pub weight_decay: Option<f64>,
    /// Batch size while the blocks are trained; the preset's if there is none.
    pub batch_size: Option<usize>,
    /// Number of shards of a batch while the blocks are trained; see [`FitConfig::shards`](firstsight_train::FitConfig::shards).
    pub shards: usize,
    /// Let batch norm follow the new images instead of keeping the pretraining's statistics.
    pub update_statistics: bool,
    /// Show rare classes as often as frequent ones.
    pub class_balanced: bool,
    /// Random changes of the training images while the blocks are trained.
    pub augmentation: AugmentationConfig,
    /// Also have the last layer's cross-validation say of each training image what it shows. For one class per image.
    pub out_of_fold: bool,
    /// Train the last layer once more at the end, on training and validation images together, as scikit-learn's `refit` does. Only
    /// where the run keeps the last layer alone, not blocks that were trained. The figures of training and validation images
    /// are of the network before that, those of test images of the network that is saved.
    pub refit: bool,
    /// Type of the weights in the run folder. All figures are those of the rounded weights; checkpoints stay float32.
    pub save_dtype: SaveDtype,
    /// How the pixels of files are read.
    pub reading: Reading,
    /// Treatment of files that cannot be decoded.
    pub on_error: OnError,
}

/// A learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LearningRate {
    /// This one.
    Value(f64),
    /// The one that a range test suggests.
    Find,
}

/// What a fine-tuning works on, and where.
#[derive(Clone, Copy)]
struct Work<'a> {
    pretrained: &'a Pretrained,
    splits: &'a Splits,
    /// The run folder, and whether what it holds is resumed.
    run: Option<(&'a RunFolder, bool)>,
    runtime: &'a Runtime,
}

impl Work<'_> {
    /// Whether the weights' last layer knows the classes already.
    fn has_same_classes(&self) -> bool {
        self.splits.target().task() != Task::Regression
            && self.pretrained.label_names.as_deref() == Some(self.splits.train.classes())
    }
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
            blocks: None,
            epochs: None,
            lr: None,
            block_rates: None,
            weight_decay: None,
            batch_size: None,
            shards: 1,
            update_statistics: false,
            class_balanced: false,
            augmentation: AugmentationConfig {
                preset: AugmentationPreset::Photos,
                mix: None,
                label_smoothing: 0.1,
                crops: Crops::Reduced,
            },
            out_of_fold: false,
            refit: false,
            save_dtype: SaveDtype::Float32,
            reading: Reading::viewer(),
            on_error: OnError::Fail,
        }
    }

    /// Trains the last layer on features, then, unless the preset is quick, the upper blocks, and measures the better of the two
    /// on the validation images. That is the last layer alone, unless the best epoch of the blocks has at least its accuracy and
    /// a lower loss, or an accuracy above the 95 % interval of the other's.
    ///
    /// # Errors
    ///
    /// [`Error::Dataset`] for classes that no classifier should be made for, [`Error::Setting`] for a setting that does
    /// not fit the network, and those of decoding and of training the last layer. What fails after that is
    /// [`FineTuneResult::failure`].
    pub fn fit(&self, pretrained: &Pretrained, splits: &Splits, runtime: &Runtime) -> Result<FineTuneResult> {
        self.fit_task(pretrained, splits, None, runtime)
    }

    /// Like [`FineTuning::fit`], with history and checkpoint in a run folder. Once the last layer is trained, the folder holds
    /// a run of it alone. The result is not yet saved: see [`FineTuneResult::save_to`].
    ///
    /// A run that is resumed under the same settings goes on as if it had not stopped. With more epochs, another learning
    /// rate or another first block it goes on from its best weights, with a new optimizer and schedule over the epochs that
    /// are left. One that holds the last layer alone gets its blocks trained.
    ///
    /// # Errors
    ///
    /// Those of [`FineTuning::fit`], and [`Error::Run`] for a run of other settings.
    pub fn fit_in(
        &self,
        run: &RunFolder,
        resume: bool,
        pretrained: &Pretrained,
        splits: &Splits,
        runtime: &Runtime,
    ) -> Result<FineTuneResult> {
        self.fit_task(pretrained, splits, Some((run, resume)), runtime)
    }

    /// As [`fit`](Self::fit) and, with a run folder and whether to resume from it, [`fit_in`](Self::fit_in), for any task.
    /// For other tasks the [monitor](Target::monitor) is in the place of accuracy.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for images of another task than that of `E`, and for settings without meaning for it: balanced
    /// classes, and label smoothing or cutmix of numbers; those of [`fit_in`](Self::fit_in).
    pub fn fit_task<E: TaskEvaluation>(
        &self,
        pretrained: &Pretrained,
        splits: &Splits,
        run: Option<(&RunFolder, bool)>,
        runtime: &Runtime,
    ) -> Result<FineTuneResult<E>> {
        self.fit_work(&Work { pretrained, splits, run, runtime }, None)
    }

    /// As [`fit_task`](Self::fit_task), with a callback that observes the training of the blocks and may stop it. It is told of
    /// each epoch before the run folder has it.
    ///
    /// # Errors
    ///
    /// Those of [`fit_task`](Self::fit_task).
    pub fn fit_observed<E: TaskEvaluation>(
        &self,
        pretrained: &Pretrained,
        splits: &Splits,
        run: Option<(&RunFolder, bool)>,
        observer: &mut dyn Callback,
        runtime: &Runtime,
    ) -> Result<FineTuneResult<E>> {
        self.fit_work(&Work { pretrained, splits, run, runtime }, Some(observer))
    }

    fn fit_work<E: TaskEvaluation>(
        &self,
        work: &Work<'_>,
        observer: Option<&mut dyn Callback>,
    ) -> Result<FineTuneResult<E>> {
        // Whatever settings and data can fail by, they fail by before anything is computed.
        let Work { pretrained, splits, run, runtime } = *work;
        check_task::<E>(splits.train.targets())?;
        self.check_settings(E::TASK)?;
        check_shards(self.shards, &*runtime.communicator)?;
        let (target, classes) = (splits.target(), splits.train.classes());
        let mut provenance = splits.announce(runtime)?;
        let seen = Seen::by_weights(pretrained, splits)?;
        for sentence in seen.iter().map(Seen::sentence) {
            runtime.message(&sentence);
            provenance.notes.push(sentence);
        }
        if let Some((run, true)) = run {
            check_network(run, pretrained.model.architecture(), classes)?;
            run.check_split(&SplitRecord::new(splits))?;
        }
        check_same(&*runtime.communicator, "the images", &splits.fingerprint())?;
        check_same(&*runtime.communicator, "the settings", &format!("{self:?}"))?;
        let input = self.input(pretrained);
        let mut model = TransferModel::new(pretrained, input, classes.len(), self.seed, runtime)?;
        model.network.params().round_to(self.save_dtype)?;
        let recipe = self.recipe(&model.blocks(), classes.len(), splits.train.len(), &target)?;
        let modes = self.modes(work);
        if let (None, Some((run, true))) = (&recipe.tuning, run) {
            let asked: Vec<Identity> =
                modes.iter().map(|&mode| self.last_layer_settings(mode, work)).collect();
            check_last_layer(run, &asked)?;
        }
        self.beginning(&recipe, work, |tuning| {
            modes.iter().map(|&mode| self.settings(tuning, mode, work)).collect()
        })?;
        let mut seconds = match run {
            Some((run, true)) => Seconds::of_earlier(run),
            _ => Seconds::default(),
        };
        let fitted = timed(&mut seconds.decoding, || self.fitted(&model.input, work))?;
        // Which of the crops a run has chosen is known once the last layer is trained.
        self.beginning(&recipe, work, |tuning| {
            let identity = |Fitted { input, splits, .. }: &Fitted| {
                Some(self.identity(tuning, input.crop_mode, splits.as_ref()?, work))
            };
            fitted.iter().filter_map(identity).collect()
        })?;
        let n = splits.train.len();
        check_batch(&model.network, evaluation_batch(&model.input).min(n), &[], runtime)?;
        if let Some(tuning) = &recipe.tuning {
            let (_, trained) = model.unfreeze(&tuning.config)?.summary();
            check_batch(&model.network, tuning.batch_size.min(n), &trained, runtime)?;
        }
        self.announce(&model, &recipe, &fitted, work)?;

        let head = self.train_head(&mut model, &recipe, fitted, work, seconds)?;
        let photos = head.photos.splits.clone();
        let mut result = FineTuneResult::of_head(self, work, model, recipe.clone(), head, provenance);
        result.seen = seen;
        if result.kept_from_weights {
            runtime.message(&format!(
                "the weights' own last layer is kept: its classes are the same, and a new one is no better on the validation images{}",
                result.seen_of(Split::Val)
            ));
        }
        if let Some(tuning) = &recipe.tuning {
            if let Some((run, _)) = run {
                result.save_before_blocks(run)?;
            }
            let started = Instant::now();
            let (blocks, earlier) = self.train_blocks(&result, tuning, &photos, work, observer)?;
            result.seconds.tuning = earlier + started.elapsed().as_secs_f64();
            result.add_blocks(blocks, target, &photos.train)?;
        }
        result.refit()?;
        result.measure(photos.test)?;
        Ok(result)
    }

    /// How the training of the blocks begins, by the settings that `identities` gives: one for each crop that is open.
    fn beginning(
        &self,
        recipe: &Recipe,
        work: &Work<'_>,
        identities: impl FnOnce(&Tuning) -> Vec<Identity>,
    ) -> Result<Beginning> {
        match (&recipe.tuning, work.run) {
            (Some(tuning), Some((run, resume))) => {
                let monitor = work.splits.target().monitor();
                Beginning::find(run, resume, &identities(tuning), tuning.config.epochs, &monitor)
            }
            _ => Ok(Beginning::Anew),
        }
    }

    /// The input of the weights at the size and with the reading that were set.
    fn input(&self, pretrained: &Pretrained) -> InputSpec {
        let mut input = pretrained.input.clone();
        if let Some((height, width)) = self.input_size {
            input.input_size = (input.input_size.0, height, width);
        }
        input.reading = self.reading;
        input
    }

    /// The preset's recipe for a network of these blocks, with the settings that were changed.
    fn recipe(&self, blocks: &[Block], n_classes: usize, n_train: usize, target: &Target) -> Result<Recipe> {
        // Blocks that are named or counted are trained, whatever the preset.
        let preset = match (self.preset, self.blocks, &self.unfreeze_from) {
            (Preset::Quick, Some(1..), _) | (Preset::Quick, None, Some(_)) => Preset::Standard,
            (preset, ..) => preset,
        };
        if self.batch_size == Some(0) {
            let expected = "at least one image".to_owned();
            return Err(Error::Setting { setting: "the batch size", expected, found: "0".to_owned() });
        }
        let mut recipe = preset.recipe(blocks, self.seed);
        if self.blocks == Some(0) {
            recipe.tuning = None;
        }
        recipe.head.balanced = self.class_balanced;
        if n_train > MIRRORED_UP_TO {
            recipe.views.truncate(1);
        }
        if let Some(tuning) = &mut recipe.tuning {
            let config = &mut tuning.config;
            (config.loss, config.metrics) = (target.loss(), target.metrics(n_classes));
            if let Some(block) = &self.unfreeze_from {
                config.unfreeze_from.clone_from(block);
            }
            if let Some(n) = self.blocks {
                let first = blocks.get(blocks.len().saturating_sub(n));
                config.unfreeze_from = first.map(|block| block.name.clone()).unwrap_or_default();
            }
            if let Some(rates) = &self.block_rates {
                config.block_rates.clone_from(rates);
            }
            if let Some(decay) = self.weight_decay {
                config.weight_decay = decay;
            }
            if let Some(LearningRate::Value(lr)) = self.lr {
                config.lr = lr;
            }
            if let Some(batch_size) = self.batch_size {
                tuning.batch_size = batch_size;
            }
            let steps = n_train.div_ceil(tuning.batch_size).max(1);
            let least = if n_train < STEPS_FROM { 0 } else { STEPS.div_ceil(steps) };
            config.epochs = self.epochs.unwrap_or(config.epochs.max(least));
            tuning.patience = config.epochs;
            if self.update_statistics {
                config.batch_norm = BatchNormMode::Train;
            }
            config.shards = self.shards;
            block_index(blocks, &config.unfreeze_from)?;
        }
        Ok(recipe)
    }

    /// # Errors
    ///
    /// [`Error::Setting`] for a setting without meaning for the task.
    fn check_settings(&self, task: Task) -> Result<()> {
        let wrong = |setting, expected: &str, found: String| {
            Err(Error::Setting {
                setting,
                expected: expected.to_owned(),
                found: format!("{found} for {task}"),
            })
        };
        if task != Task::SingleLabel && self.class_balanced {
            return wrong("balanced classes", "one class per image", "images".to_owned());
        }
        if let (Some(block), Some(n)) = (&self.unfreeze_from, self.blocks) {
            return Err(Error::Setting {
                setting: "the blocks to train",
                expected: "either the first one or their number".to_owned(),
                found: format!("{block} and {n}"),
            });
        }
        self.check_last_layer_alone()?;
        self.augmentation.check_crops()?;
        let AugmentationConfig { mix, label_smoothing, .. } = self.augmentation;
        if task == Task::Regression && label_smoothing > 0.0 {
            return wrong(
                "label smoothing",
                "0, since a number has no classes to spread over",
                label_smoothing.to_string(),
            );
        }
        match (task, mix) {
            (Task::Regression, Some(Mix::Cutmix(_))) => wrong("mix", "mixup or none", "cutmix".to_owned()),
            _ => Ok(()),
        }
    }

    /// # Errors
    ///
    /// [`Error::Setting`] for settings of the training of blocks beside a preset that has none.
    fn check_last_layer_alone(&self) -> Result<()> {
        if self.preset != Preset::Quick || self.unfreeze_from.is_some() || self.blocks.is_some() {
            return Ok(());
        }
        let usual = Self::preset(self.preset, self.seed).augmentation;
        let AugmentationConfig { label_smoothing, .. } = self.augmentation;
        let given = [
            (self.epochs.is_some(), "epochs"),
            (self.lr.is_some(), "a learning rate"),
            (self.block_rates.is_some(), "rates of blocks"),
            (self.weight_decay.is_some(), "weight decay"),
            (self.batch_size.is_some(), "a batch size"),
            (self.shards != 1, "shards"),
            (self.update_statistics, "batch norm that follows the images"),
            (AugmentationConfig { label_smoothing, ..usual } != self.augmentation, "augmentation"),
            (label_smoothing != 0.0 && label_smoothing != usual.label_smoothing, "label smoothing"),
        ];
        let given: Vec<&str> =
            given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, name)| name).collect();
        if given.is_empty() {
            return Ok(());
        }
        Err(Error::Setting {
            setting: "the preset",
            expected: format!("standard or thorough (or a first block to train) for {}", given.join(", ")),
            found: "quick, which trains the last layer alone".to_owned(),
        })
    }
}
