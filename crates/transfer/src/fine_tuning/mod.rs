//! Fine-tuning, from folders of photos to a run folder: features, last layer, upper blocks.

mod block_stage;
mod head_stage;
mod report;
mod result;
mod saving;

use std::time::Instant;

use firstsight_data::{
    AugmentationConfig, AugmentationPreset, DecodeSettings, InputSpec, Mix, OnError, Reading, ResizeMode,
    Task,
};
use firstsight_models::Block;
use firstsight_train::Epoch;

use self::block_stage::{BlockPart, BlockStage};
use self::head_stage::HeadStage;
pub use self::result::{FineTuneResult, Kept, Seconds};
use crate::fine_tune::block_index;
use crate::splits::{check_readable, decode_together};
use crate::task::check_task;
use crate::{
    BatchNormMode, Error, Preset, Pretrained, Recipe, Result, RunFolder, Runtime, Splits, Target,
    TaskEvaluation, TransferModel,
};

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
            reading: Reading::viewer(),
            on_error: OnError::Fail,
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
        self.fit_task(pretrained, splits, None, runtime)
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
        self.fit_task(pretrained, splits, Some((run, resume)), runtime)
    }

    /// As [`fit`](Self::fit) and, with a run folder and whether to resume from it, [`fit_in`](Self::fit_in), for any task.
    /// The better of the two parts is told by the [monitor](Target::monitor) of the task.
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
        check_task::<E>(splits.train.targets())?;
        self.check_settings(E::TASK)?;
        let target = splits.target();
        let provenance = splits.announce(runtime)?;
        if let Some((run, true)) = run {
            run.check_split(&provenance.record)?;
        }
        let mut seconds = Seconds::default();
        let n_classes = splits.train.classes().len();
        let mut model =
            TransferModel::new(pretrained, self.input(pretrained), n_classes, self.seed, runtime)?;
        let recipe = self.recipe(&model.blocks(), n_classes, &target)?;

        let Some(&mode) = self.resize_modes.first() else {
            return Err(Error::Setting {
                setting: "resize modes",
                expected: "at least one".into(),
                found: "none".into(),
            });
        };
        // Everything is decoded before the first step, so that a file that can't be is known at once.
        let first_input = Self::fitted(&model.input, mode);
        let decode_all = |train, input: &InputSpec| {
            let settings = self.decode_settings(input);
            let folders = [
                (train, "training images"),
                (Some(&splits.val), "validation images"),
                (splits.test.as_ref(), "test images"),
            ];
            decode_together(folders, &settings, runtime)
        };
        let decoded = timed(&mut seconds.decoding, || decode_all(Some(&splits.train), &first_input))?;
        let [Some(first), Some(mut val), mut test] = decoded else {
            return Err(Error::Dataset { path: splits.root.clone(), reason: "lacks a split".to_owned() });
        };
        check_readable(&splits.train, &first)?;
        let HeadStage { input, train, features, head, resize_modes } =
            self.train_head(&mut model, &recipe, splits, first, runtime, &mut seconds)?;
        if input != first_input {
            let decoded = timed(&mut seconds.decoding, || decode_all(None, &input))?;
            if let [_, Some(other_val), other_test] = decoded {
                (val, test) = (other_val, other_test);
            }
        }
        model.input = input;
        model.set_head(&head)?;

        let decoded = [Some(&train), Some(&val), test.as_ref()];
        let excluded: Vec<_> = decoded.into_iter().flatten().flat_map(|d| d.excluded().to_vec()).collect();
        let head_train: E = model.evaluate_head(&train, &features, &target)?;
        let measure = |images, target: &Target| {
            E::measure_task(&model.network, images, target, &model.input, &runtime.device)
        };
        let head_val = timed(&mut seconds.measuring, || measure(val, &target))?;
        let at_head = Epoch { train: head_train.metrics().clone(), val: Some(head_val.metrics().clone()) };
        let monitor = target.monitor();
        runtime.message(&format!("last layer: {} {:.4}", monitor.name(), monitor.value(&at_head)));

        if let Some((run, _)) = run {
            provenance.record.write(&run.split())?;
        }
        let stage = timed(&mut seconds.tuning, || match &recipe.tuning {
            None => Ok(BlockStage::skipped(&model, &at_head)),
            Some(tuning) => {
                let (train, val) = (target.prepare(&train)?, target.prepare(head_val.images())?);
                let part = BlockPart { tuning, train: &train, val: &val, at_head: &at_head, monitor };
                self.train_blocks(&model, part, pretrained, run, runtime)
            }
        })?;

        let head_metrics = head_val.metrics().clone();
        let mut val = match stage.kept {
            Kept::Head => head_val,
            Kept::Epoch(_) => timed(&mut seconds.measuring, || measure(head_val.images().clone(), &target))?,
        };
        let target = val.decide(target);
        let test = test.map(|test| timed(&mut seconds.measuring, || measure(test, &target))).transpose()?;
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
            train: match stage.kept {
                Kept::Head => Some(model.evaluate_head(&train, &features, &target)?),
                Kept::Epoch(_) => None,
            },
            target,
            val,
            test,
            excluded,
            seconds,
            model,
            settings: self.clone(),
            pretrained: pretrained.clone(),
            data: splits.root.clone(),
            split_seed: splits.config.seed,
            provenance,
            device_name: runtime.device_name.clone(),
        })
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
    fn recipe(&self, blocks: &[Block], n_classes: usize, target: &Target) -> Result<Recipe> {
        let mut recipe = self.preset.recipe(blocks, self.seed);
        recipe.head.balanced = self.class_balanced;
        if let Some(tuning) = &mut recipe.tuning {
            let config = &mut tuning.config;
            (config.loss, config.metrics) = (target.loss(), target.metrics(n_classes));
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

    fn decode_settings(&self, input: &InputSpec) -> DecodeSettings {
        DecodeSettings { on_error: self.on_error, ..input.decode_settings() }
    }
}
