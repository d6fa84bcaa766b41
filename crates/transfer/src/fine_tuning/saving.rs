//! A fine-tuned run in its folder: weights, `config.json`, history, `metrics.json`, report.

use std::path::Path;

use firstsight_data::AugmentationConfig;
use firstsight_train::Epoch;
use firstsight_train::callbacks::CsvHistory;
use serde::Serialize;

use super::FineTuning;
use super::result::{FineTuneResult, Kept, Seconds};
use crate::{Result, RunConfig, RunFolder, Split, TaskEvaluation, TrainingRecord, files};

impl<E: TaskEvaluation> FineTuneResult<E> {
    /// Saves a new run: weights and `config.json` as timm reads them, history, figures and report.
    ///
    /// # Errors
    ///
    /// [`crate::Error::RunExists`] for a folder that holds a run already, [`crate::Error::Write`] for one that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<RunFolder> {
        let run = RunFolder::create(folder, false)?;
        if self.model.runtime().is_root() {
            CsvHistory::new(&run.history()).write(&self.epochs())?;
        }
        self.save_to(&run)?;
        Ok(run)
    }

    /// The epochs of the blocks, or else the figures of the last layer as one.
    fn epochs(&self) -> Vec<Epoch> {
        match (&self.train, self.history.epochs.is_empty()) {
            (Some(train), true) => {
                vec![Epoch { train: train.metrics().clone(), val: Some(self.head_val.clone()) }]
            }
            _ => self.history.epochs.clone(),
        }
    }

    /// Saves the result of [`crate::FineTuning::fit_in`] in its run folder. Of several processes the first writes.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Write`] for a folder that cannot be written.
    pub fn save_to(&self, run: &RunFolder) -> Result<()> {
        if !self.model.runtime().is_root() {
            return Ok(());
        }
        if self.recipe.tuning.is_none() || self.history.epochs.is_empty() {
            CsvHistory::new(&run.history()).write(&self.epochs())?;
        }
        self.provenance.splits.write_record(&run.split())?;
        self.config().calibrated(self.val.temperature(), self.reject.as_ref())?.write(&run.config())?;
        self.model.network.save_as(&run.weights(), self.settings.save_dtype)?;
        let test = self.test.iter().map(|test| (Split::Test.name(), test));
        let splits: Vec<_> = std::iter::once((Split::Val.name(), &self.val)).chain(test).collect();
        E::save_answers(run, &self.data, &splits, self.reject.as_ref())?;
        files::write_json(&run.metrics(), &self.metrics())?;
        Ok(self.report()?.write(&run.report())?)
    }

    /// Saves the last layer alone in a run folder that has no better weights, since what follows may fail.
    pub(super) fn save_before_blocks(&self, run: &RunFolder) -> Result<()> {
        match run.weights().exists() && self.model.runtime().is_root() {
            true => self.provenance.splits.write_record(&run.split()),
            false => self.save_to(run),
        }
    }

    fn config(&self) -> RunConfig {
        let FineTuning { augmentation, .. } = self.settings;
        let (batch_size, learning_rate, augmentation) = match &self.recipe.tuning {
            Some(tuning) => (tuning.batch_size, tuning.config.lr, augmentation),
            // The last layer sees features of images that nothing changes but mirroring.
            None => (self.recipe.head.batch_size, self.recipe.head.lr, AugmentationConfig::default()),
        };
        let classes = self.val.images().classes();
        RunConfig {
            architecture: self.pretrained.model.architecture().to_owned(),
            num_classes: classes.len(),
            num_features: self.model.network.n_features(),
            label_names: classes.to_vec(),
            named: true,
            target: self.target.clone(),
            pretrained_cfg: self.model.input.clone(),
            training: Some(TrainingRecord {
                seed: self.settings.seed,
                split_seed: self.split_seed,
                batch_size,
                shards: self.recipe.tuning.as_ref().map_or(1, |tuning| tuning.config.shards),
                learning_rate,
                augmentation,
            }),
            options: self.provenance.splits.options.clone(),
            temperature: None,
            reject: None,
        }
    }

    fn metrics(&self) -> MetricsJson<'_, impl Serialize, E::Figures> {
        let (epochs, best_epoch, kept) = match (self.kept, &self.recipe.tuning) {
            (Kept::Epoch(epoch), _) => (self.history.epochs.len(), Some(epoch + 1), "fine-tuned"),
            (Kept::Head, Some(_)) => (self.history.epochs.len(), None, "last layer"),
            (Kept::Head, None) => (0, None, "last layer"),
        };
        let candidate = |c: &crate::CrossValidation| CandidateJson {
            penalty: c.penalty,
            loss: c.loss,
            accuracy: c.accuracy,
        };
        MetricsJson {
            preset: self.settings.preset.name(),
            ended_by: self.failure.as_ref().map(ToString::to_string),
            weights: &self.pretrained.origin,
            license: self.pretrained.license,
            epochs,
            best_epoch,
            kept,
            head: HeadJson {
                penalty: self.head.penalty,
                refit: self.refit.is_some(),
                val: E::brief(&self.head_val),
                cross_validation: self.head.cross_validation.iter().map(candidate).collect(),
            },
            trained_params: self.trained_params,
            frozen_params: self.frozen_params,
            train: self.train.as_ref().map(E::all_figures),
            val: self.val.all_figures(),
            test: self.test.as_ref().map(E::all_figures),
            seconds: self.seconds,
        }
    }
}

/// `metrics.json` of a fine-tuned run.
#[derive(Serialize)]
struct MetricsJson<'a, B, F> {
    preset: &'a str,
    /// The error that ended the training of the blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<String>,
    weights: &'a str,
    /// That of the weights, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<&'a str>,
    epochs: usize,
    best_epoch: Option<usize>,
    kept: &'a str,
    head: HeadJson<B>,
    trained_params: usize,
    frozen_params: usize,
    train: Option<F>,
    val: F,
    test: Option<F>,
    seconds: Seconds,
}

#[derive(Serialize)]
struct HeadJson<B> {
    penalty: f64,
    /// Whether the last layer was trained on the validation images too, after they were measured.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    refit: bool,
    val: B,
    cross_validation: Vec<CandidateJson>,
}

#[derive(Serialize)]
struct CandidateJson {
    penalty: f64,
    loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<f64>,
}
