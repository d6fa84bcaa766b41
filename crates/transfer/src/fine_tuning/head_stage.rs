//! The first part: a last layer on the features of the frozen network.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use candle_core::Module;
use firstsight_data::{Batches as _, ImageDataset, ResizeMode};
use firstsight_train::{Epoch, Inference, PackedWeights, Predictions};

use super::photos::{Fitted, Photos};
use super::{FineTuning, Seconds, Work, timed};
use crate::{
    ClassMeans, CrossValidation, Error, Features, Head, Recipe, Result, Splits, Target, TaskEvaluation,
    TransferModel,
};

/// Images that the cost is estimated from.
const TIMED_IMAGES: usize = 8;

const FEATURES: &str = "features of the training images";
const FEATURES_OF_VALIDATION: &str = "features of the validation images";
const FEATURES_OF_SAMPLE: &str = "features of a sample of the training images";

fn nothing(setting: &'static str) -> Error {
    Error::Setting { setting, expected: "at least one".into(), found: "none".into() }
}

/// A way to fit photos with what is known of it.
struct Candidate {
    photos: Fitted,
    /// Features of the first view.
    features: Features,
    /// One for each penalty; empty where there is nothing to choose.
    cross_validation: Vec<CrossValidation>,
}

impl Candidate {
    fn loss(&self) -> f64 {
        CrossValidation::best(&self.cross_validation).map_or(f64::INFINITY, |best| best.loss)
    }
}

/// The outcome of training the last layer.
pub(super) struct HeadStage<E> {
    pub(super) photos: Photos,
    pub(super) head: Head,
    /// The last layer trained on the validation images too, where [`FineTuning::refit`] asks for it.
    pub(super) refit: Option<Head>,
    /// Whether the last layer that came with the weights is kept.
    pub(super) kept_from_weights: bool,
    pub(super) resize_modes: Vec<(ResizeMode, f64)>,
    /// Number of training images that these were compared on.
    pub(super) n_compared: usize,
    /// The meaning of the outputs, as the validation images decide.
    pub(super) target: Target,
    pub(super) train: E,
    pub(super) out_of_fold: Option<Predictions>,
    pub(super) val: E,
    pub(super) seconds: Seconds,
}

impl FineTuning {
    /// Chooses the way to fit photos and the penalty of the last layer by cross-validation on the first view of the training
    /// images. Of many images, the way is chosen on a sample. Then the last layer is trained on all views. Where the weights have
    /// the same classes, their last layer stays unless the new one is better on the validation images.
    pub(super) fn train_head<E: TaskEvaluation>(
        &self,
        model: &mut TransferModel,
        recipe: &Recipe,
        fitted: Vec<Fitted>,
        work: &Work<'_>,
        mut seconds: Seconds,
    ) -> Result<HeadStage<E>> {
        let target = work.splits.target();
        let [first_view, more_views @ ..] = recipe.views.as_slice() else {
            return Err(nothing("views"));
        };
        let compares = fitted.len() > 1 || recipe.head.penalties.len() > 1;
        let mut best: Option<Candidate> = None;
        let mut resize_modes = Vec::new();
        for photos in fitted {
            model.input.clone_from(&photos.input);
            let train = target.prepare(&photos.train)?;
            let title = if photos.splits.is_some() { FEATURES } else { FEATURES_OF_SAMPLE };
            let mut features = timed(&mut seconds.features, || {
                model.features(title, &train, std::slice::from_ref(first_view))
            })?;
            features.groups = work.splits.groups_of(&train)?;
            let mut cross_validation = Vec::new();
            if compares {
                cross_validation = timed(&mut seconds.head, || cross_validate(&features, recipe, work))?;
            }
            let candidate = Candidate { photos, features, cross_validation };
            resize_modes.push((candidate.photos.input.crop_mode, candidate.loss()));
            if best.as_ref().is_none_or(|best| candidate.loss() < best.loss()) {
                best = Some(candidate);
            }
        }
        let Candidate { photos, mut features, mut cross_validation } =
            best.ok_or_else(|| nothing("resize modes"))?;
        let Fitted { input, train: compared, splits } = photos;
        model.input.clone_from(&input);
        let n_compared = compared.len();
        if resize_modes.len() > 1 {
            let of_all = match splits {
                Some(_) => String::new(),
                None => format!(" on {n_compared} of {} training images", work.splits.train.len()),
            };
            work.runtime.message(&format!("{} crop, by cross-validation{of_all}", input.crop_mode));
        }
        let is_sample = splits.is_none();
        let photos = match splits {
            Some(splits) => Photos { input, splits },
            None => timed(&mut seconds.decoding, || self.decode(input, work))?,
        };
        let train = target.prepare(&photos.splits.train)?;
        if is_sample {
            self.beginning(recipe, work, |tuning| {
                vec![self.identity(tuning, photos.input.crop_mode, &photos.splits, work)]
            })?;
            features = timed(&mut seconds.features, || {
                completed(features, &compared, &train, |rest| {
                    model.features(FEATURES, rest, std::slice::from_ref(first_view))
                })
            })?;
            features.groups = work.splits.groups_of(&train)?;
            cross_validation = timed(&mut seconds.head, || cross_validate(&features, recipe, work))?;
        }
        if !more_views.is_empty() {
            let more = timed(&mut seconds.features, || model.features(FEATURES, &train, more_views))?;
            features = features.with_views(more);
        }
        let mut config = recipe.head.clone();
        if let Some(best) = CrossValidation::best(&cross_validation) {
            config.penalties = vec![best.penalty];
        }
        let head = timed(&mut seconds.head, || Head::train(&features, &config, &mut |_, _| ()))?;
        let head = Head { cross_validation, ..head };
        let out_of_fold = match self.out_of_fold {
            true => timed(&mut seconds.head, || Head::out_of_fold(&features, &config))?,
            false => None,
        };
        model.means = ClassMeans::of(&features)?;

        let monitor = target.monitor();
        let value =
            |of: &E| monitor.value(&Epoch { train: of.metrics().clone(), val: Some(of.metrics().clone()) });
        let set_head = |head: &Head| -> Result<()> {
            model.set_head(head)?;
            Ok(model.network.params().round_to(self.save_dtype)?)
        };
        let measure = |head: &Head| -> Result<E> {
            set_head(head)?;
            model.measure(photos.splits.val.clone(), &target)
        };
        let old = if work.has_same_classes() { model.pretrained_head.as_ref() } else { None };
        let (mut val, kept_from_weights) = timed(&mut seconds.measuring, || {
            let new = measure(&head)?;
            let Some(old) = old else { return Ok((new, false)) };
            let old = measure(old)?;
            match monitor.better(value(&new), value(&old)) {
                true => set_head(&head).map(|()| (new, false)),
                false => Ok((old, true)),
            }
        })?;
        work.runtime.message(&format!("last layer: {} {:.4}", monitor.name(), value(&val)));
        let target = val.decide(target.clone());
        let train = model.evaluate_head(&photos.splits.train, &features, &target)?;
        let refit = match self.refit && !kept_from_weights {
            true => {
                let val = target.prepare(&photos.splits.val)?;
                let of_val = timed(&mut seconds.features, || {
                    model.features(FEATURES_OF_VALIDATION, &val, &recipe.views)
                })?;
                let all = features.joined(of_val)?;
                Some(timed(&mut seconds.head, || Head::train(&all, &config, &mut |_, _| ()))?)
            }
            false => None,
        };
        Ok(HeadStage {
            photos,
            head,
            refit,
            kept_from_weights,
            resize_modes,
            n_compared,
            target,
            train,
            out_of_fold,
            val,
            seconds,
        })
    }

    /// Says what the preset does and about how long that takes, from the time of a few images.
    pub(super) fn announce(
        &self,
        model: &TransferModel,
        recipe: &Recipe,
        fitted: &[Fitted],
        work: &Work<'_>,
    ) -> Result<()> {
        let [Fitted { train, .. }, others @ ..] = fitted else { return Ok(()) };
        let few: Vec<usize> = (0..train.len().min(TIMED_IMAGES)).collect();
        let Some(batch) = model.in_order(&train.subset(&few))?.epoch(0).next() else { return Ok(()) };
        let batch = batch?;
        let mut seconds = f64::INFINITY;
        let packed = PackedWeights::default();
        for _ in 0..2 {
            let started = Instant::now();
            Inference::in_pool(&model.network, &packed).forward(&batch.inputs)?;
            seconds = seconds.min(started.elapsed().as_secs_f64());
        }
        let Splits { train, val, .. } = work.splits;
        let n_compared = others.iter().map(|others| others.train.len()).sum();
        let of_val = if self.refit { 1 + recipe.views.len() } else { 1 };
        let cost = recipe.cost(&model.blocks(), train.len(), n_compared, of_val * val.len());
        let about = cost.seconds(seconds / few.len() as f64);
        let (name, forward) = (self.preset.name(), cost.forward);
        work.runtime.message(&match &recipe.tuning {
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

fn cross_validate(features: &Features, recipe: &Recipe, work: &Work<'_>) -> Result<Vec<CrossValidation>> {
    work.runtime.counted("cross-validation of the last layer", |report| {
        Head::cross_validate(features, &recipe.head, &mut |done, total| report(done, total))
    })
}

/// The features of all `images`, with those `known` in the same view `of` some of them, by their paths; `compute` gives those of
/// the rest.
fn completed(
    known: Features,
    of: &ImageDataset,
    images: &ImageDataset,
    compute: impl FnOnce(&ImageDataset) -> Result<Features>,
) -> Result<Features> {
    let row_of: HashMap<PathBuf, usize> =
        (0..of.len()).filter_map(|row| Some((of.path(row)?, row))).collect();
    let known_row = |i: usize| row_of.get(&images.path(i)?).copied();
    let rest: Vec<usize> = (0..images.len()).filter(|&i| known_row(i).is_none()).collect();
    let computed = if rest.is_empty() { None } else { Some(compute(&images.subset(&rest))?) };
    let mut next = known.n_images()..;
    let order = (0..images.len()).filter_map(|i| known_row(i).or_else(|| next.next()));
    let order: Vec<u32> = order.map(|row| row as u32).collect();
    Ok(known.completed(computed, &order, images.targets().clone()))
}
