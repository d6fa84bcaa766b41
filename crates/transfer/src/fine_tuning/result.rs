//! What a fine-tuning gives: a network with its figures.

use std::path::PathBuf;

use firstsight_data::{ImageDataset, ResizeMode};
use firstsight_train::{Epoch, History, LrCurve, Metrics, Monitor, Predictions};
use serde::Serialize;

use super::block_stage::BlockStage;
use super::head_stage::HeadStage;
use super::seen::Seen;
use super::{FineTuning, Work, timed};
use crate::{
    ClassMeans, Error, Evaluation, GoingOn, Head, Pretrained, Provenance, Recipe, Reject, Result, RunFolder,
    Split, Target, TaskEvaluation, TransferModel,
};

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
pub struct FineTuneResult<E = Evaluation> {
    /// The network and its input, with the resize mode that was chosen.
    pub model: TransferModel,
    /// The meaning of the network's outputs.
    pub target: Target,
    /// The resize modes tried, with their lowest cross-validated loss.
    pub resize_modes: Vec<(ResizeMode, f64)>,
    /// Number of training images that these were compared on: all, or a sample.
    pub n_compared: usize,
    /// The recipe of the preset with the caller's changes.
    pub recipe: Recipe,
    /// The last layer as trained on features.
    pub head: Head,
    /// The same layer trained on the validation images too, if the network has it.
    pub refit: Option<Head>,
    /// Whether the last layer that came with the weights was kept instead, as its classes are the same.
    pub kept_from_weights: bool,
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
    /// The epochs of training the blocks; one for the last layer where the preset trains nothing else.
    pub history: History,
    /// The error that ended the training of the blocks. The network has the best weights until then.
    pub failure: Option<Error>,
    /// The earlier training that this one went on from under other settings.
    pub going_on: Option<GoingOn>,
    /// The weights that the network has.
    pub kept: Kept,
    /// Number of training images.
    pub n_train: usize,
    /// The training images, where the last layer alone is kept.
    pub train: Option<E>,
    /// The training images with the probabilities of each one's classes by a last layer that was not trained on it, where
    /// [`FineTuning::out_of_fold`] asked for them.
    pub out_of_fold: Option<(ImageDataset, Predictions)>,
    /// The validation images.
    pub val: E,
    /// The test images.
    pub test: Option<E>,
    /// What the validation images say about images of no class.
    pub reject: Option<Reject>,
    /// Where the images came from.
    pub provenance: Provenance,
    /// Where the time went.
    pub seconds: Seconds,
    pub(super) seen: Vec<Seen>,
    pub(super) settings: FineTuning,
    pub(super) pretrained: Pretrained,
    pub(super) source: PathBuf,
    pub(super) data: PathBuf,
    pub(super) split_seed: u32,
    pub(super) device_name: String,
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

impl Seconds {
    /// What the run's figures say of the processes that made its last layer, for one that goes on. The time of the blocks stands in
    /// their checkpoint.
    pub(super) fn of_earlier(run: &RunFolder) -> Self {
        let metrics = run.read_metrics().unwrap_or_default();
        let of =
            |part: &str| metrics.get("seconds").and_then(|seconds| seconds[part].as_f64()).unwrap_or(0.0);
        Self {
            decoding: of("decoding"),
            features: of("features"),
            head: of("head"),
            tuning: 0.0,
            measuring: of("measuring"),
        }
    }
}

impl<E: TaskEvaluation> FineTuneResult<E> {
    /// The last layer alone, measured on the validation images.
    pub(super) fn of_head(
        settings: &FineTuning,
        work: &Work<'_>,
        model: TransferModel,
        recipe: Recipe,
        head: HeadStage<E>,
        provenance: Provenance,
    ) -> Self {
        let HeadStage {
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
        } = head;
        let summary = model.network.summary();
        let trained_params = model.head_params();
        let in_head = |name: &str| model.network.in_head(&format!("{name}."));
        let epoch = Epoch { train: train.metrics().clone(), val: Some(val.metrics().clone()) };
        let mut result = Self {
            target,
            resize_modes,
            n_compared,
            head,
            refit,
            kept_from_weights,
            head_val: val.metrics().clone(),
            trained_params,
            frozen_params: summary.total_params() - trained_params,
            trained_rows: summary.rows.iter().map(|row| in_head(&row.name)).collect(),
            lr_curve: None,
            history: History {
                epochs: if recipe.tuning.is_none() { vec![epoch] } else { Vec::new() },
                stopped: None,
            },
            failure: None,
            going_on: None,
            kept: Kept::Head,
            n_train: photos.splits.train.len(),
            train: Some(train),
            out_of_fold: out_of_fold.map(|said| (photos.splits.train.clone(), said)),
            val,
            test: None,
            reject: None,
            seconds,
            model,
            recipe,
            seen: Vec::new(),
            settings: settings.clone(),
            pretrained: work.pretrained.clone(),
            source: work.splits.path.clone(),
            data: work.splits.root.clone(),
            split_seed: work.splits.config.seed,
            provenance: provenance.decoded(&photos.splits),
            device_name: work.runtime.device_name.clone(),
        };
        result.calibrate();
        result
    }

    /// Lets the validation images say how far probabilities can be trusted, and what is none of the classes.
    fn calibrate(&mut self) {
        let others = self.train.iter_mut().chain(&mut self.test).collect();
        self.reject = E::calibrate(&mut self.val, others, self.model.means.clone());
    }

    /// The network after its blocks were trained.
    pub(super) fn add_blocks(
        &mut self,
        blocks: BlockStage,
        target: Target,
        train: &ImageDataset,
    ) -> Result<()> {
        self.history = blocks.history;
        self.failure = blocks.failure;
        self.going_on = blocks.going_on;
        self.kept = blocks.kept;
        self.lr_curve = blocks.lr_curve;
        if let (Some(tuning), Some(curve)) = (&mut self.recipe.tuning, &self.lr_curve) {
            tuning.config.lr = curve.suggestion().unwrap_or(tuning.config.lr);
        }
        self.trained_params = blocks.trained_params;
        self.frozen_params = blocks.frozen_params;
        self.trained_rows = blocks.trained_rows;
        if let Kept::Epoch(_) = self.kept {
            self.train = None;
            let images = self.val.images().clone();
            let model = &self.model;
            let means = timed(&mut self.seconds.measuring, || {
                ClassMeans::new(&model.network, train, &model.input, model.runtime())
            })?;
            self.model.means = means;
            self.val = timed(&mut self.seconds.measuring, || self.model.measure(images, &target))?;
            self.target = self.val.decide(target);
        }
        Ok(())
    }

    /// Gives the network the last layer that was trained on the validation images too, unless its blocks are kept.
    pub(super) fn refit(&mut self) -> Result<()> {
        match (&self.refit, self.kept) {
            (Some(head), Kept::Head) => {
                self.model.runtime().message(
                    "the last layer is trained on the validation images too now; their figures are those of before",
                );
                self.model.set_head(head)?;
                Ok(self.model.network.params().round_to(self.settings.save_dtype)?)
            }
            _ => {
                self.refit = None;
                Ok(())
            }
        }
    }

    /// The measure of the last layer alone.
    pub(super) fn value(&self, monitor: &Monitor) -> f64 {
        monitor.value(&Epoch { train: self.head_val.clone(), val: Some(self.head_val.clone()) })
    }

    /// Measures the test images, if there are any, and calibrates.
    pub(super) fn measure(&mut self, test: Option<ImageDataset>) -> Result<()> {
        if let Some(test) = test {
            let test = timed(&mut self.seconds.measuring, || self.model.measure(test, &self.target))?;
            self.test = Some(test);
        }
        self.calibrate();
        Ok(())
    }
}

impl<E> FineTuneResult<E> {
    /// `, of which 3 were trained on by first before`; nothing where the weights have seen no image of the split.
    pub(super) fn seen_of(&self, split: Split) -> String {
        let seen = self.seen.iter().find(|seen| seen.split == split);
        seen.map(|seen| format!(", {}", seen.part())).unwrap_or_default()
    }

    /// Whether a request to stop cut the training of the blocks short.
    pub fn interrupted(&self) -> bool {
        self.history.interrupted()
    }

    /// The measured splits with their names.
    pub fn evaluations(&self) -> Vec<(&'static str, &E)> {
        let test = self.test.as_ref().map(|test| ("test", test));
        std::iter::once(("validation", &self.val)).chain(test).collect()
    }

    /// The test images, or else the validation images.
    pub fn held_out(&self) -> (&'static str, &E) {
        self.test.as_ref().map_or(("validation", &self.val), |test| ("test", test))
    }
}
