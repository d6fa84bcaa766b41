//! The second part: the upper blocks.

use candle_core::{Tensor, Var};
use firstsight_data::{ImageDataset, ResizeMode, Sampling};
use firstsight_train::callbacks::{CsvHistory, EarlyStopping, Interrupt, Recorder, RestartFrom, StopOnNan};
use firstsight_train::{
    Accuracy, Callback, Epoch, History, Identity, LrCurve, Metrics, Monitor, wilson_interval,
};

use super::{FineTuneResult, FineTuning, Kept, LearningRate, Work};
use crate::config::batch_setting;
use crate::going_on::{Beginning, GoingOn, class_names};
use crate::splits::augmented;
use crate::{
    BatchNormMode, DecodedSplits, Error, FineTuner, Pretrained, Result, Runtime, Splits, TaskEvaluation,
    Tuning,
};

/// The setting of [`FineTuning::class_balanced`].
const SHOWN_ALIKE: &str = "classes shown alike";

/// Steps of the learning rate's range test.
const RANGE_TEST_STEPS: usize = 60;

/// Whether the network after its best epoch is better than with its last layer alone: as good by the monitor and of a lower
/// loss, or more accurate than the 95 % interval of the other's accuracy allows.
///
/// With few validation images, the best of several epochs is as good or a little better by chance. The loss tells more, since
/// epochs are not chosen by it. But training with smoothed labels raises the loss of a more accurate network too, hence the
/// second condition.
fn is_better(epoch: &Epoch, alone: &Metrics, monitor: &Monitor) -> bool {
    let Some(tuned) = &epoch.val else { return false };
    let of_alone = monitor.value(&Epoch { train: alone.clone(), val: Some(alone.clone()) });
    let more_accurate = match (tuned.get(&Accuracy), alone.get(&Accuracy)) {
        (Some(tuned), Some(share)) => {
            let right = (share * alone.n as f64).round() as usize;
            tuned > wilson_interval(right, alone.n).1
        }
        _ => false,
    };
    !monitor.better(of_alone, monitor.value(epoch)) && (tuned.loss < alone.loss || more_accurate)
}

/// The outcome of training the blocks.
pub(super) struct BlockStage {
    pub(super) history: History,
    pub(super) kept: Kept,
    pub(super) lr_curve: Option<LrCurve>,
    pub(super) trained_params: usize,
    pub(super) frozen_params: usize,
    pub(super) trained_rows: Vec<bool>,
    /// The error that ended it.
    pub(super) failure: Option<Error>,
    pub(super) going_on: Option<GoingOn>,
}

/// The course of a training: how it went, why it failed if it did, and the range test before it.
type Course = (History, Option<Error>, Option<LrCurve>);

impl FineTuning {
    /// Trains the upper blocks. The variables are then those of the best epoch, or as before where none was better. A
    /// failure ends the training and keeps what was done until then. Also returns the seconds of what the training goes on from.
    pub(super) fn train_blocks<E: TaskEvaluation>(
        &self,
        head: &FineTuneResult<E>,
        tuning: &Tuning,
        photos: &DecodedSplits,
        work: &Work<'_>,
        observer: Option<&mut dyn Callback>,
    ) -> Result<(BlockStage, f64)> {
        let model = &head.model;
        let unfrozen = model.unfreeze(&tuning.config)?;
        let (trained_params, frozen_params) = unfrozen.counts();
        let (_, trained_rows) = unfrozen.summary();
        work.runtime.message(&format!("{trained_params} parameters are trained, {frozen_params} are frozen"));
        let all: Vec<Var> = model.network.params().vars(|_| true);
        let before = all.iter().map(|var| var.copy()).collect::<candle_core::Result<Vec<Tensor>>>()?;
        let beginning = self.beginning(&head.recipe, work, |tuning| {
            vec![self.identity(tuning, model.input.crop_mode, photos, work)]
        })?;
        let earlier = work.run.map_or(0.0, |(run, _)| beginning.earlier_seconds(run));
        let course = self.course(&unfrozen, head, tuning, (photos, observer), work, &beginning);
        let (history, failure, lr_curve) =
            course.unwrap_or_else(|error| (History::default(), Some(error), None));
        let monitor = work.splits.target().monitor();
        let kept = match monitor.best(&history.epochs) {
            Some(epoch) if is_better(&history.epochs[epoch], &head.head_val, &monitor) => Kept::Epoch(epoch),
            _ => {
                work.runtime.message(match history.epochs.is_empty() {
                    true => "no epoch of fine-tuning was finished: the last layer alone is kept",
                    false => "no epoch of fine-tuning was better than the last layer alone, which is kept",
                });
                for (var, value) in all.iter().zip(&before) {
                    var.set(value)?;
                }
                Kept::Head
            }
        };
        model.network.params().round_to(self.save_dtype)?;
        let going_on = beginning.going_on();
        let stage = BlockStage {
            history,
            kept,
            lr_curve,
            trained_params,
            frozen_params,
            trained_rows,
            failure,
            going_on,
        };
        Ok((stage, earlier))
    }

    fn course<E: TaskEvaluation>(
        &self,
        unfrozen: &FineTuner,
        head: &FineTuneResult<E>,
        tuning: &Tuning,
        (photos, observer): (&DecodedSplits, Option<&mut dyn Callback>),
        work: &Work<'_>,
        beginning: &Beginning,
    ) -> Result<Course> {
        let (model, runtime, target) = (&head.model, work.runtime, work.splits.target());
        let (monitor, train) = (target.monitor(), target.prepare(&photos.train)?);
        let mut config = tuning.config.clone();
        config.communicator = runtime.communicator.clone();
        let decoded = runtime.agree(photos.clone().with_crop_source(
            work.splits,
            &model.input,
            self.augmentation,
            self.on_error,
            runtime,
        ))?;
        let shown = |images: &ImageDataset| match self.class_balanced {
            true => images.balanced(),
            false => images.clone(),
        };
        let crop_source = decoded.crop_source.as_ref().map(shown);
        let batches =
            model.loader(&shown(&train), tuning.batch_size, Sampling::Shuffled { seed: self.seed })?;
        let loader = augmented(batches, crop_source.as_ref(), self.augmentation, self.seed)?;
        let val = model.in_order(&target.prepare(&photos.val)?)?;
        let mut lr_curve = None;
        if self.lr == Some(LearningRate::Find) {
            let curve = unfrozen.lr_find(&loader, &config, RANGE_TEST_STEPS)?;
            let found = match curve.suggestion() {
                Some(lr) => {
                    config.lr = lr;
                    "by a range test"
                }
                None => "since the loss fell at no rate of the range test",
            };
            runtime.message(&format!("learning rate: {:.2e}, {found}", config.lr));
            lr_curve = Some(curve);
        }
        // The last layer alone may have been better than the best epoch.
        let from = match beginning {
            Beginning::FromBest(GoingOn { best: Some(best), .. })
                if !monitor.better(head.value(&monitor), *best) =>
            {
                RestartFrom::Best
            }
            _ => RestartFrom::Model,
        };
        let mut recorder = Recorder::default();
        let mut stopping = EarlyStopping::new(monitor.clone(), tuning.patience);
        let mut progress = runtime.training("fine-tuning");
        let is_root = runtime.is_root();
        let mut csv = work.run.filter(|_| is_root).map(|(run, _)| CsvHistory::new(&run.history()));
        let mut checkpoint = work.run.map(|(run, _)| {
            beginning.announce(run, config.epochs, runtime);
            let identity = self.identity(tuning, model.input.crop_mode, photos, work);
            beginning.checkpoint(run, identity, monitor.clone(), from).writes(is_root)
        });
        let fitted = runtime.interrupt.with_graceful_interrupt(|flag| {
            let (mut stop_on_nan, mut interrupt) = (StopOnNan, Interrupt(flag));
            let mut callbacks: Vec<&mut dyn Callback> =
                vec![&mut stop_on_nan, &mut recorder, &mut interrupt, &mut stopping];
            if let Some(observer) = observer {
                callbacks.push(observer);
            }
            callbacks.extend(csv.as_mut().map(|csv| csv as &mut dyn Callback));
            callbacks.push(&mut progress);
            callbacks.extend(checkpoint.as_mut().map(|checkpoint| checkpoint as &mut dyn Callback));
            unfrozen.fit(&loader, Some(&val), &config, &mut callbacks)
        });
        match fitted {
            Ok(history) => Ok((history, None, lr_curve)),
            Err(error) => {
                stopping.restore(&unfrozen.network.named_vars())?;
                let history = History { epochs: recorder.epochs, stopped: None };
                Ok((history, Some(error), lr_curve))
            }
        }
    }

    /// The settings of the last layer, with photos that are fitted by `crop`.
    pub(super) fn last_layer_settings(&self, crop: impl ToString, work: &Work<'_>) -> Identity {
        let (_, height, width) = self.input(work.pretrained).input_size;
        Identity::new()
            .with("network", work.pretrained.model)
            .with("weights", &work.pretrained.origin)
            .with("input", format!("{height}x{width}"))
            .with("crop", crop)
            .with("classes", class_names(work.splits.train.classes()))
            .with("seed", self.seed)
            .with("seed of the split", work.splits.config.seed)
    }

    /// The settings that a checkpoint must share to be resumed.
    pub(super) fn settings(&self, tuning: &Tuning, crop: impl ToString, work: &Work<'_>) -> Identity {
        let config = &tuning.config;
        let statistics = match config.batch_norm {
            BatchNormMode::Eval => "of the pretraining",
            BatchNormMode::Train => "of the new images",
        };
        self.last_layer_settings(crop, work)
            .with("first block trained", &config.unfreeze_from)
            .with("epochs", config.epochs)
            .with("batch size", batch_setting(tuning.batch_size, config.shards))
            .with(
                "learning rate",
                match self.lr {
                    Some(LearningRate::Find) => "by a range test".to_owned(),
                    Some(LearningRate::Value(_)) | None => config.lr.to_string(),
                },
            )
            .with("batch norm's statistics", statistics)
            .with(SHOWN_ALIKE, self.shown_alike())
            .with("augmentation", self.augmentation)
            .with("learning rates of the blocks", &config.block_rates)
            .with("weight decay", config.weight_decay)
    }

    /// The settings that the folds of a cross-validation share, as `fit` uses them on the first of them, whether they are set or the
    /// preset's.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a setting that does not fit the network.
    pub fn shared_settings(
        &self,
        pretrained: &Pretrained,
        splits: &Splits,
        runtime: &Runtime,
    ) -> Result<Identity> {
        let work = &Work { pretrained, splits, run: None, runtime };
        let (target, n_classes) = (splits.target(), splits.train.classes().len());
        let recipe = self.recipe(&pretrained.blocks()?, n_classes, splits.train.len(), &target)?;
        let crops: Vec<String> = self.modes(work).iter().map(ToString::to_string).collect();
        let settings = match &recipe.tuning {
            Some(tuning) => self.settings(tuning, crops.join(" or "), work),
            None => self.last_layer_settings(crops.join(" or "), work).with(SHOWN_ALIKE, self.shown_alike()),
        };
        Ok(settings
            .with("type of the weights", self.save_dtype)
            .with("reading of images", format!("{:?}", self.reading)))
    }

    fn shown_alike(&self) -> &'static str {
        if self.class_balanced { "yes" } else { "no" }
    }

    /// [`FineTuning::settings`], and the images.
    pub(super) fn identity(
        &self,
        tuning: &Tuning,
        crop: ResizeMode,
        splits: &DecodedSplits,
        work: &Work<'_>,
    ) -> Identity {
        self.settings(tuning, crop, work)
            .with("training images", splits.train.len())
            .with("validation images", splits.val.len())
            .with("content of the images", format!("{:016x}", splits.fingerprint()))
    }
}

#[cfg(test)]
mod tests {
    use firstsight_train::Metric as _;

    use super::*;

    #[test]
    fn blocks_are_kept_for_a_lower_loss_or_an_accuracy_beyond_chance() {
        let metrics = |accuracy, loss, n| Metrics { loss, values: vec![(Accuracy.name(), accuracy)], n };
        let kept = |tuned: (f64, f64), alone: (f64, f64), n| {
            let epoch = Epoch { train: metrics(1.0, 0.0, n), val: Some(metrics(tuned.0, tuned.1, n)) };
            is_better(&epoch, &metrics(alone.0, alone.1, n), &Monitor::val(Accuracy))
        };
        assert!(kept((0.9, 0.2), (0.9, 0.3), 50));
        assert!(!kept((0.9, 0.3), (0.9, 0.2), 50), "as accurate, of a higher loss");
        assert!(!kept((0.88, 0.1), (0.9, 0.2), 50), "less accurate");
        assert!(!kept((0.94, 0.3), (0.9, 0.2), 50), "two images of fifty are chance");
        assert!(kept((0.94, 0.3), (0.9, 0.2), 5000));
    }
}
