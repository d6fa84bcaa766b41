//! The first part: a last layer on the features of the frozen network.

use std::time::Instant;

use candle_core::ModuleT as _;
use firstsight_data::{Batches as _, ImageDataset, InputSpec, ResizeMode};

use super::{FineTuning, Seconds, timed};
use crate::{Error, Features, Head, Recipe, Result, Runtime, Splits, TransferModel, decode};

/// Images that the cost is estimated from.
const TIMED_IMAGES: usize = 8;

/// Training images, their features, and the last layer trained on them.
pub(super) struct HeadStage {
    pub(super) input: InputSpec,
    pub(super) train: ImageDataset,
    pub(super) features: Features,
    pub(super) head: Head,
    pub(super) resize_modes: Vec<(ResizeMode, f64)>,
}

impl FineTuning {
    /// `input` with a resize mode.
    pub(super) fn fitted(input: &InputSpec, mode: ResizeMode) -> InputSpec {
        // timm crops after stretching unless the whole is kept.
        let crop_pct = if mode == ResizeMode::Squash { 1.0 } else { input.crop_pct };
        InputSpec { crop_mode: mode, crop_pct, ..input.clone() }
    }

    /// Trains a last layer on the features of each resize mode, and keeps that of the lowest cross-validated loss. `first`
    /// are the training images of the first mode.
    pub(super) fn train_head(
        &self,
        model: &mut TransferModel,
        recipe: &Recipe,
        splits: &Splits,
        first: ImageDataset,
        runtime: &Runtime,
        seconds: &mut Seconds,
    ) -> Result<HeadStage> {
        let target = splits.target();
        let mut best: Option<HeadStage> = None;
        let mut resize_modes = Vec::new();
        let input = model.input.clone();
        let mut first = Some(first);
        for &mode in &self.resize_modes {
            model.input = Self::fitted(&input, mode);
            let settings = self.decode_settings(&model.input);
            let train = match first.take() {
                Some(first) => first,
                None => timed(&mut seconds.decoding, || {
                    decode(&splits.train, "training images", &settings, runtime)
                })?,
            };
            if resize_modes.is_empty() {
                self.announce(model, recipe, &train, splits.val.len(), runtime)?;
            }
            let features = timed(&mut seconds.features, || {
                model.features("features of the training images", &target.prepare(&train)?, &recipe.views)
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
}
