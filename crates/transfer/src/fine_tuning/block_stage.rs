//! The second part: the upper blocks.

use candle_core::{Tensor, Var};
use firstsight_data::{ImageDataset, Loader, Sampling};
use firstsight_train::callbacks::{Checkpoint, CsvHistory, EarlyStopping, Interrupt, StopOnNan};
use firstsight_train::{Callback, Epoch, History, LrCurve, Monitor};

use super::{FineTuning, Kept, LearningRate};
use crate::{Pretrained, Result, RunFolder, Runtime, TransferModel, Tuning};

/// Steps of the learning rate's range test.
const RANGE_TEST_STEPS: usize = 60;

/// What the blocks are trained with.
pub(super) struct BlockPart<'a> {
    pub(super) tuning: &'a Tuning,
    /// The training images, their labels as the loss takes them.
    pub(super) train: &'a ImageDataset,
    /// The validation images, likewise.
    pub(super) val: &'a ImageDataset,
    /// Figures of the last layer alone.
    pub(super) at_head: &'a Epoch,
    /// The measure of an epoch.
    pub(super) monitor: Monitor,
}

/// The outcome of training the blocks.
pub(super) struct BlockStage {
    pub(super) history: History,
    pub(super) kept: Kept,
    pub(super) lr_curve: Option<LrCurve>,
    pub(super) trained_params: usize,
    pub(super) frozen_params: usize,
    pub(super) trained_rows: Vec<bool>,
}

impl BlockStage {
    /// The last layer alone is trained.
    pub(super) fn skipped(model: &TransferModel, at_head: &Epoch) -> Self {
        let summary = model.network.summary();
        let trained_params = model.head_params();
        Self {
            history: History { epochs: vec![at_head.clone()], ..History::default() },
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

impl FineTuning {
    /// Trains the upper blocks. The variables are then those of the best epoch, or as before where none was better.
    pub(super) fn train_blocks(
        &self,
        model: &TransferModel,
        part: BlockPart<'_>,
        pretrained: &Pretrained,
        run: Option<(&RunFolder, bool)>,
        runtime: &Runtime,
    ) -> Result<BlockStage> {
        let BlockPart { tuning, train, val, at_head, monitor } = part;
        let mut config = tuning.config.clone();
        let unfrozen = model.unfreeze(&config)?;
        let (trained_params, frozen_params) = unfrozen.counts();
        let (_, trained_rows) = unfrozen.summary();
        runtime.message(&format!("{trained_params} parameters are trained, {frozen_params} are frozen"));
        let shown = if self.class_balanced { train.balanced() } else { train.clone() };
        let loader = self.training_loader(model, tuning, &shown)?;
        let val = model.in_order(val)?;

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
        let mut stopping = EarlyStopping::new(monitor.clone(), tuning.patience);
        let mut progress = runtime.training("fine-tuning");
        let mut csv = run.map(|(run, _)| CsvHistory::new(&run.history()));
        let mut checkpoint = run.map(|(run, resume)| {
            let identity = self.identity(pretrained, tuning, train);
            Checkpoint::new(&run.checkpoint(), monitor.clone(), &identity).resume(resume)
        });
        let history = runtime.interrupt.with_graceful_interrupt(|flag| {
            let (mut stop_on_nan, mut interrupt) = (StopOnNan, Interrupt(flag));
            let mut callbacks: Vec<&mut dyn Callback> = vec![&mut stop_on_nan, &mut interrupt, &mut stopping];
            callbacks.extend(csv.as_mut().map(|csv| csv as &mut dyn Callback));
            callbacks.push(&mut progress);
            callbacks.extend(checkpoint.as_mut().map(|checkpoint| checkpoint as &mut dyn Callback));
            unfrozen.fit(&loader, Some(&val), &config, &mut callbacks)
        })?;
        let head_is_better =
            |epoch: usize| monitor.better(monitor.value(at_head), monitor.value(&history.epochs[epoch]));
        let kept = match monitor.best(&history.epochs) {
            Some(epoch) if !head_is_better(epoch) => Kept::Epoch(epoch),
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
