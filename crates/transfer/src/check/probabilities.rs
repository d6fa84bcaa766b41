//! Probabilities of the classes of each image, by networks that were trained on other images.

use std::ops::ControlFlow;

use candle_core::Tensor;
use firstsight_data::{
    AugmentationConfig, AugmentationPreset, Groups, ImageDataset, Labels, Sampling, stratified_folds,
};
use firstsight_models::SaveDtype;
use firstsight_models::networks::SMALL_CNN;
use firstsight_train::callbacks::{Interrupt, StopOnNan};
use firstsight_train::{BatchEnd, Callback, Predictions, StopReason, predict};

use super::images::{CheckedImage, THUMBNAIL};
use crate::head::{MEASURED, others, train_each};
use crate::training::{Optimization, Training, in_order};
use crate::{
    Count, DecodedSplits, Error, FeatureBatches, Features, HeadConfig, Interrupted, Result, Runtime,
    TrainingRecord,
};

/// Folds of the cross-validation.
const FOLDS: usize = 5;
/// Images that the small network sees in each fold, and the limits of its epochs.
const IMAGES: usize = 200_000;
const EPOCHS: (usize, usize) = (8, 60);
/// λ of the last layer's penalty, of which cross-validation chooses one.
const PENALTIES: [f64; 3] = [0.01, 0.1, 1.0];

/// Out-of-fold probabilities.
pub(super) struct OutOfFold {
    /// The images, by index.
    pub(super) images: Vec<usize>,
    /// The probabilities of each image's classes, by the network that was not trained on it nor on a copy of it.
    pub(super) predictions: Predictions,
}

/// Images with their labels, and folds in which copies of an image are together.
struct Folded {
    images: Vec<usize>,
    labels: Vec<u32>,
    folds: Vec<Vec<usize>>,
}

impl Folded {
    /// `None` where there are too few images for folds or fewer than two classes.
    fn new(images: &[CheckedImage], among: Vec<usize>, groups: &Groups, seed: u64) -> Option<Self> {
        let kept: Vec<usize> = among.into_iter().filter(|&i| images[i].label.is_some()).collect();
        let labels: Vec<u32> = kept.iter().filter_map(|&i| images[i].label).collect();
        let groups = Groups::new(kept.iter().map(|&i| groups.numbers()[i]));
        let two = labels.iter().any(|label| Some(label) != labels.first());
        let folds = stratified_folds(&Labels::Class(labels.clone()), &groups, FOLDS, seed as u32).ok()?;
        two.then_some(Self { images: kept, labels, folds })
    }

    fn rest(&self, held_out: &[usize]) -> Vec<usize> {
        others(held_out, self.images.len())
    }

    fn gather(self, n_classes: usize, by_fold: Vec<Predictions>) -> OutOfFold {
        let mut probabilities = vec![0.0; self.images.len() * n_classes];
        for (fold, predictions) in self.folds.iter().zip(&by_fold) {
            for (row, &i) in fold.iter().enumerate() {
                probabilities[i * n_classes..][..n_classes].copy_from_slice(predictions.row(row));
            }
        }
        let predictions = Predictions { probabilities, labels: self.labels, n_classes };
        OutOfFold { images: self.images, predictions }
    }
}

/// By a last layer on features (N, F) of the images `among`.
pub(super) fn by_features(
    images: &[CheckedImage],
    among: &[usize],
    rows: Tensor,
    n_classes: usize,
    groups: &Groups,
    seed: u64,
    runtime: &Runtime,
) -> Result<Option<OutOfFold>> {
    let Some(folded) = Folded::new(images, among.to_vec(), groups, seed) else { return Ok(None) };
    if folded.images.len() != among.len() {
        return Ok(None);
    }
    let features = Features::new(&rows, Labels::Class(folded.labels.clone()), n_classes)?;
    drop(rows);
    let config = HeadConfig {
        penalties: PENALTIES.to_vec(),
        folds: FOLDS,
        steps: 120,
        batch_size: 1024,
        lr: 0.02,
        balanced: false,
        seed,
    };
    runtime.counted("last layers", |report| {
        let mut by_penalty: Vec<(f64, Vec<Predictions>)> = PENALTIES.map(|_| (0.0, Vec::new())).to_vec();
        for (i, held_out) in folded.folds.iter().enumerate() {
            let heads = train_each(&features, &folded.rest(held_out), &PENALTIES, &config)?;
            let batches = FeatureBatches::new(&features, held_out, 1, MEASURED, Sampling::Sequential)?;
            for ((loss, by_fold), head) in by_penalty.iter_mut().zip(heads) {
                let predictions = predict(&head, &batches)?;
                *loss += log_loss(&predictions);
                by_fold.push(predictions);
            }
            report(i + 1, folded.folds.len());
        }
        let best = by_penalty.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
        Ok(best.map(|(_, by_fold)| folded.gather(n_classes, by_fold)))
    })
}

fn log_loss(predictions: &Predictions) -> f64 {
    let of = |(i, &label): (usize, &u32)| -f64::from(predictions.row(i)[label as usize].max(1e-12)).ln();
    predictions.labels.iter().enumerate().map(of).sum()
}

/// By the lecture's small network, trained from scratch on thumbnails of 32 × 32, one of each of the images.
pub(super) fn by_small_network(
    images: &[CheckedImage],
    thumbnails: &ImageDataset,
    classes: &[String],
    groups: &Groups,
    seed: u64,
    runtime: &Runtime,
) -> Result<Option<OutOfFold>> {
    let sound = (0..images.len()).filter(|&i| images[i].is_sound()).collect();
    let Some(folded) = Folded::new(images, sound, groups, seed) else { return Ok(None) };
    let all = thumbnails.subset(&folded.images);
    let all = all.with_targets(Labels::Class(folded.labels.clone()), classes.to_vec())?;
    let epochs = (IMAGES / all.len().max(1)).clamp(EPOCHS.0, EPOCHS.1);
    let plan = Training {
        model: &SMALL_CNN,
        input: SMALL_CNN.input_spec(3, THUMBNAIL, THUMBNAIL),
        epochs,
        patience: epochs,
        optimization: Optimization::AdamWCosine { decay: 0.05 },
        save_dtype: SaveDtype::Float32,
        record: TrainingRecord {
            seed,
            split_seed: 0,
            batch_size: 64,
            shards: 1,
            learning_rate: 0.002,
            // Small turns, zooms and shifts, which suit any picture.
            augmentation: AugmentationConfig { preset: AugmentationPreset::Characters, ..Default::default() },
        },
    };
    let by_fold = runtime.counted("small networks", |report| {
        let mut counting = Counting { report, epochs, done: 0, total: 0 };
        let mut by_fold = Vec::new();
        for held_out in &folded.folds {
            let (train, val) = (all.subset(&folded.rest(held_out)), all.subset(held_out));
            // Every epoch measures the validation images: a few are enough.
            let few: Vec<usize> = (0..val.len().min(plan.record.batch_size)).collect();
            let splits = DecodedSplits::in_memory(train, val.subset(&few), None);
            let network = plan.network(&splits, &runtime.device)?;
            let history = runtime.interrupt.with_graceful_interrupt(|flag| {
                let mut interrupt = Interrupt(flag);
                let callbacks: &mut [&mut dyn Callback] =
                    &mut [&mut StopOnNan, &mut interrupt, &mut counting];
                plan.fit(&network, &splits, runtime, callbacks)
            })?;
            if history.interrupted() {
                return Err(Error::from(Interrupted("nothing was written".to_owned())));
            }
            by_fold.push(predict(&network, &in_order(&val, &plan.input, &runtime.device)?)?);
        }
        Ok(by_fold)
    })?;
    Ok(Some(folded.gather(classes.len(), by_fold)))
}

/// Counts the batches of the trainings of all folds.
struct Counting<'a> {
    report: Count<'a>,
    epochs: usize,
    done: usize,
    total: usize,
}

impl Callback for Counting<'_> {
    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        self.total = self.total.max(FOLDS * self.epochs * end.n_batches);
        self.done += 1;
        (self.report)(self.done.min(self.total), self.total);
        Ok(ControlFlow::Continue(()))
    }
}
