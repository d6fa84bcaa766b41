//! What a fine-tuning gives: a network with its figures.

use std::path::PathBuf;

use firstsight_data::ResizeMode;
use firstsight_train::{History, LrCurve, Metrics};
use serde::Serialize;

use super::FineTuning;
use crate::{Evaluation, Head, Pretrained, Provenance, Recipe, Target, TransferModel};

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
    /// The training images, where the last layer alone is kept.
    pub train: Option<E>,
    /// The validation images.
    pub val: E,
    /// The test images.
    pub test: Option<E>,
    /// Files left out because they could not be decoded, with the reason.
    pub excluded: Vec<(PathBuf, String)>,
    /// Where the time went.
    pub seconds: Seconds,
    pub(super) settings: FineTuning,
    pub(super) pretrained: Pretrained,
    pub(super) data: PathBuf,
    pub(super) split_seed: u32,
    pub(super) provenance: Provenance,
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

impl<E> FineTuneResult<E> {
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
