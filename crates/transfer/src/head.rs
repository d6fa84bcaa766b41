//! The last layer, trained on cached features, its penalty chosen by cross-validation.

use candle_core::{Device, Module as _, ModuleT, Tensor};
use candle_nn::{Init, Linear};
use firstsight_data::{Batches as _, Labels, Sampling, Task, balanced, stratified_folds};
use firstsight_models::Params;
use firstsight_train::{
    Accuracy, FitConfig, Loss, Metric, Metrics, OptimizerConfig, ParamGroup, Predictions, Schedule,
    Trainable, evaluate, fit, predict,
};

use crate::features::Scaling;
use crate::task::Target;
use crate::{Error, FeatureBatches, Features, Result};

/// Rows of features at a time when a last layer is measured.
pub(crate) const MEASURED: usize = 4096;

/// The settings of the last layer's training.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadConfig {
    /// λ of the penalty λ/2 · ‖W‖² on the weights, for features of mean 0 and overall variance 1. Of several,
    /// cross-validation chooses the one with the lowest loss.
    pub penalties: Vec<f64>,
    /// Number of folds of the cross-validation; fewer where there are fewer images or groups.
    pub folds: usize,
    /// Minimum number of steps; the last epoch is completed.
    pub steps: usize,
    /// Rows of features per step.
    pub batch_size: usize,
    /// Learning rate of Adam, which falls to 0 along a cosine.
    pub lr: f64,
    /// Whether the images of rare classes are repeated, so that all classes count alike. For one class per image.
    pub balanced: bool,
    /// Seed of the folds and of the order of the rows.
    pub seed: u64,
}

/// The cross-validation of one penalty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossValidation {
    /// λ.
    pub penalty: f64,
    /// Mean loss of the held-out images.
    pub loss: f64,
    /// Share of the held-out images that are classified correctly; none for other tasks than one class per image.
    pub accuracy: Option<f64>,
}

impl CrossValidation {
    /// The one of the lowest loss.
    pub fn best(of: &[Self]) -> Option<&Self> {
        of.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))
    }
}

/// A trained last layer, for features without further scaling.
#[derive(Debug, Clone)]
pub struct Head {
    /// Weights (K, F).
    pub weight: Tensor,
    /// Biases (K,).
    pub bias: Tensor,
    /// The penalty that it was trained with.
    pub penalty: f64,
    /// The cross-validation of each penalty; empty if there was only one.
    pub cross_validation: Vec<CrossValidation>,
}

impl Head {
    /// Trains on all rows of `features`, with the penalty that [cross-validation](Self::cross_validate) chooses where there
    /// are several. `progress` is called with the numbers of finished folds and of all folds.
    ///
    /// Softmax regression for one class per image, a logistic regression for each of several labels, ridge regression for
    /// numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] without penalties; errors of training.
    pub fn train(
        features: &Features,
        config: &HeadConfig,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let cross_validation = match config.penalties.len() {
            0 | 1 => Vec::new(),
            _ => Self::cross_validate(features, config, progress)?,
        };
        let best = CrossValidation::best(&cross_validation).map(|c| c.penalty);
        let penalty = best.or(config.penalties.first().copied()).ok_or_else(no_penalty)?;
        let all: Vec<usize> = (0..features.n_images()).collect();
        let head = train_one(features, &all, penalty, config)?;
        Ok(Self { cross_validation, ..head })
    }

    /// Measures each penalty on every image by a layer that was not trained on it, nor on others of its
    /// [group](Features::groups). The folds consist of images: all views of an image are in the same fold.
    ///
    /// # Errors
    ///
    /// Errors of training.
    pub fn cross_validate(
        features: &Features,
        config: &HeadConfig,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<CrossValidation>> {
        let is_class = features.labels.task() == Task::SingleLabel;
        let n = features.n_images() as f64;
        let folds = folds(features, config);
        let start = |&penalty| CrossValidation { penalty, loss: 0.0, accuracy: is_class.then_some(0.0) };
        let mut results: Vec<CrossValidation> = config.penalties.iter().map(start).collect();
        for (i, held_out) in folds.iter().enumerate() {
            let rest = others(held_out, features.n_images());
            let heads = train_each(features, &rest, &config.penalties, config)?;
            for (result, head) in results.iter_mut().zip(heads) {
                let metrics = head.measure(features, held_out)?;
                let share = metrics.n as f64 / n;
                result.loss += metrics.loss * share;
                result.accuracy =
                    result.accuracy.zip(metrics.get(&Accuracy)).map(|(sum, of)| sum + of * share);
            }
            progress(i + 1, folds.len());
        }
        Ok(results)
    }

    /// The probabilities of each image's classes, in its first view, by a layer that was not trained on it or its group, with the
    /// first penalty. `None` for other tasks than one class per image.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] without penalties; errors of training.
    pub fn out_of_fold(features: &Features, config: &HeadConfig) -> Result<Option<Predictions>> {
        let Labels::Class(labels) = &features.labels else { return Ok(None) };
        let (n, n_classes) = (features.n_images(), features.n_classes);
        let penalty = config.penalties.first().copied().ok_or_else(no_penalty)?;
        let mut probabilities = vec![0.0; n * n_classes];
        for held_out in folds(features, config) {
            let head = train_one(features, &others(&held_out, n), penalty, config)?;
            let batches = FeatureBatches::new(features, &held_out, 1, MEASURED, Sampling::Sequential)?;
            let predictions = predict(&head, &batches)?;
            for (row, i) in held_out.into_iter().enumerate() {
                probabilities[i * n_classes..][..n_classes].copy_from_slice(predictions.row(row));
            }
        }
        Ok(Some(Predictions { probabilities, labels: labels.clone(), n_classes }))
    }

    /// Loss of some images in their first view, and accuracy where each has one class.
    fn measure(&self, features: &Features, images: &[usize]) -> Result<Metrics> {
        let labels = features.labels.subset(images);
        let loss = Target::of(&labels, features.n_classes).loss();
        let metrics: &[&dyn Metric] = if labels.task() == Task::SingleLabel { &[&Accuracy] } else { &[] };
        let batches = FeatureBatches::new(features, images, 1, MEASURED, Sampling::Sequential)?;
        Ok(evaluate(self, &batches, &*loss, metrics)?)
    }
}

impl ModuleT for Head {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
        Linear::new(self.weight.clone(), Some(self.bias.clone())).forward(xs)
    }
}

/// The images of `n` that are not held out.
pub(crate) fn others(held_out: &[usize], n: usize) -> Vec<usize> {
    let mut is_held_out = vec![false; n];
    held_out.iter().for_each(|&i| is_held_out[i] = true);
    (0..n).filter(|&i| !is_held_out[i]).collect()
}

/// Folds of the images, at most one per image; stratified where each has one class. Groups stay whole, unless all are one.
fn folds(features: &Features, config: &HeadConfig) -> Vec<Vec<usize>> {
    let Features { labels, groups, n_classes, .. } = features;
    if groups.count() < labels.len() {
        let most = config.folds.max(2).min(groups.count());
        let folds = |k| stratified_folds(labels, groups, k, config.seed as u32).ok();
        if let Some(folds) = (2..=most).rev().find_map(folds) {
            return folds;
        }
    }
    let n = config.folds.min(labels.len()).max(2);
    let mut folds = vec![Vec::new(); n];
    for (place, i) in by_class(labels, *n_classes, config.seed).into_iter().enumerate() {
        folds[place % n].push(i);
    }
    folds.retain(|fold| !fold.is_empty());
    folds
}

/// The indices of all images in a random order, class after class where each has one.
pub(crate) fn by_class(labels: &Labels, n_classes: usize, seed: u64) -> Vec<usize> {
    let order = Sampling::Shuffled { seed }.indices(labels.len(), 0);
    match labels {
        Labels::Class(labels) => {
            let of_class = |class| order.iter().copied().filter(move |i| labels[*i] == class);
            (0..n_classes as u32).flat_map(of_class).collect()
        }
        Labels::MultiLabel(_) | Labels::Value(_) => order,
    }
}

/// Trains on some images with one penalty.
pub(crate) fn train_one(
    features: &Features,
    images: &[usize],
    penalty: f64,
    config: &HeadConfig,
) -> Result<Head> {
    let heads = train_each(features, images, &[penalty], config)?;
    heads.into_iter().next().ok_or_else(no_penalty)
}

fn no_penalty() -> Error {
    Error::Setting { setting: "penalties", expected: "at least one".to_owned(), found: "none".to_owned() }
}

/// Trains a layer for each penalty on some images. The layers share their passes over the rows: the loss is a sum over layers, so
/// each has the gradient that it would have alone.
pub(crate) fn train_each(
    features: &Features,
    images: &[usize],
    penalties: &[f64],
    config: &HeadConfig,
) -> Result<Vec<Head>> {
    let images = match &features.labels {
        Labels::Class(labels) if config.balanced => {
            let labels: Vec<u32> = images.iter().map(|&i| labels[i]).collect();
            balanced(&labels).into_iter().map(|i| images[i]).collect()
        }
        _ => images.to_vec(),
    };
    let loss = Target::of(&features.labels.subset(&images), features.n_classes).loss();
    let scaling = Scaling::of(features, &images);
    let order = Sampling::Shuffled { seed: config.seed };
    let train = FeatureBatches::new(features, &images, features.n_views(), config.batch_size, order)?
        .scaled(scaling.clone());

    let device = features.device();
    let params = Params::seeded(config.seed, device);
    let shape = (features.n_classes, features.n_features());
    let mut layers = Vec::with_capacity(penalties.len());
    let mut groups = Vec::with_capacity(2 * penalties.len());
    for (i, penalty) in penalties.iter().enumerate() {
        let vb = params.builder().pp(i);
        let bias = vb.get_with_hints(features.n_classes, "bias", Init::Const(0.0))?;
        layers.push(Linear::new(vb.get_with_hints(shape, "weight", Init::Const(0.0))?, Some(bias)));
        let group = |name: &str, l2| {
            let name = format!("{i}.{name}");
            ParamGroup { l2, ..ParamGroup::new(params.vars(|n| n == name)) }
        };
        groups.extend([group("weight", *penalty), group("bias", 0.0)]);
    }
    let side_by_side = SideBySide(layers);
    let model = Trainable::new(&side_by_side, params.named()).groups(groups);
    let epochs = config.steps.div_ceil(train.n_batches()).max(1);
    let loss = SumOfLosses { n: penalties.len(), loss };
    let fit_config = FitConfig::new(epochs, loss, OptimizerConfig::adam_torch(config.lr))
        .schedule(Schedule::WarmupCosine { warmup: 0.0, floor: 0.0 });
    fit(&model, &train, None, &fit_config, &mut [])?;
    side_by_side
        .0
        .iter()
        .zip(penalties)
        .map(|(layer, penalty)| fold(&scaling, layer, *penalty, device))
        .collect()
}

/// Layers on the same input: (B, F) to (B, n·K).
struct SideBySide(Vec<Linear>);

impl ModuleT for SideBySide {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
        let weights: Vec<&Tensor> = self.0.iter().map(Linear::weight).collect();
        let biases: Vec<&Tensor> = self.0.iter().filter_map(Linear::bias).collect();
        Linear::new(Tensor::cat(&weights, 0)?, Some(Tensor::cat(&biases, 0)?)).forward(xs)
    }
}

/// The sum of a loss over the outputs of `n` layers, side by side.
#[derive(Debug)]
struct SumOfLosses<L> {
    n: usize,
    loss: L,
}

impl<L: Loss> Loss for SumOfLosses<L> {
    fn compute(&self, outputs: &Tensor, labels: &Tensor) -> candle_core::Result<Tensor> {
        let mut parts = outputs.chunk(self.n, 1)?.into_iter();
        let first = parts.next().map(|part| self.loss.compute(&part, labels));
        let first = first.unwrap_or_else(|| Tensor::zeros((), outputs.dtype(), outputs.device()))?;
        parts.try_fold(first, |sum, part| sum + self.loss.compute(&part, labels)?)
    }

    fn weight(&self, labels: &Tensor) -> candle_core::Result<f64> {
        self.loss.weight(labels)
    }
}

/// A layer trained on scaled features as one for features without scaling: W(x − m)/s + b = (W/s)x + (b − (W/s)m).
fn fold(scaling: &Scaling, layer: &Linear, penalty: f64, device: &Device) -> Result<Head> {
    let weight = (layer.weight().detach() / scaling.deviation)?;
    let shift = weight.broadcast_mul(&scaling.mean(device)?)?.sum(1)?;
    let bias = match layer.bias() {
        Some(bias) => (bias.detach() - shift)?,
        None => shift.neg()?,
    };
    Ok(Head { weight, bias, penalty, cross_validation: Vec::new() })
}
