//! Cross-validation: one training for each fold of the images, each validated on images that it was not trained on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firstsight_data::{DecodeSettings, OnError};
use firstsight_train::{Accuracy, Metrics, wilson_interval};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, RunFolder, Runtime, SplitRecord, Splits, TaskEvaluation, decode, files};

/// The figures of a cross-validation, as `cross-validation.json` has them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CrossValidated {
    /// The finished folds.
    pub folds: Vec<Fold>,
    /// Mean and standard deviation over the folds of the loss and of each metric.
    pub figures: BTreeMap<String, Spread>,
    /// The accuracy over the images of all folds, each predicted by the run that was not trained on it.
    pub pooled: Option<Pooled>,
}

/// A fold.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fold {
    /// Its run, a folder beside the figures.
    pub run: String,
    /// Number of validation images.
    pub n: usize,
    /// Loss and metrics of these.
    pub figures: BTreeMap<String, f64>,
}

/// A figure over the folds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, with the number of folds less one.
    pub standard_deviation: f64,
}

/// The accuracy over the images of all folds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Pooled {
    /// Share of the images whose most probable class is right.
    pub accuracy: f64,
    /// The 95 % confidence interval of the accuracy, by [`wilson_interval`]. It leaves out that the runs share training
    /// images.
    pub accuracy_interval: (f64, f64),
    /// Number of images.
    pub n: usize,
}

/// Trains a run for each fold in `folder/fold-1`, `folder/fold-2`, …, and writes `cross-validation.json` and
/// `predictions.csv` with what each run says of its validation images.
///
/// `train` trains a run, resumed if it is told so, and returns its validation images. A cross-validation that is resumed
/// keeps the folds that are finished.
///
/// # Errors
///
/// Those of `train`; [`Error::RunExists`] for a folder that holds folds and is not to be resumed; [`Error::Run`] for folds
/// of other images.
pub fn cross_validate<T: TaskEvaluation, E: From<Error>>(
    folder: &Path,
    resume: bool,
    folds: &[Splits],
    runtime: &Runtime,
    mut train: impl FnMut(&Splits, &RunFolder, bool) -> Result<T, E>,
) -> Result<CrossValidated, E> {
    let path = folder.join("cross-validation.json");
    let finished = match (path.exists(), resume) {
        (true, false) => return Err(Error::RunExists(folder.to_path_buf()).into()),
        (true, true) => read(&path)?.folds.len(),
        (false, _) => 0,
    };
    let mut result = CrossValidated::default();
    let mut held_out = Vec::new();
    for (i, splits) in folds.iter().enumerate() {
        let name = format!("fold-{}", i + 1);
        let place = folder.join(&name);
        let evaluation = if i < finished {
            measured_again::<T>(&place, splits, runtime)?
        } else {
            runtime.message(&format!("fold {} of {}", i + 1, folds.len()));
            let going_on = resume && place.join("checkpoint/last.safetensors").exists();
            let run = match (resume, going_on) {
                // What was interrupted before its first checkpoint is made anew.
                (true, false) => RunFolder::reopen(&place, false)?,
                _ => RunFolder::create(&place, going_on)?,
            };
            train(splits, &run, going_on).inspect_err(|_| run.remove_if_empty())?
        };
        result.add(name, evaluation.metrics());
        files::write_json(&path, &result)?;
        held_out.push(evaluation);
    }
    Ok(result)
}

/// The validation images of a fold that is finished.
fn measured_again<T: TaskEvaluation>(place: &Path, splits: &Splits, runtime: &Runtime) -> Result<T> {
    let run = RunFolder::open(place)?;
    run.check_split(&SplitRecord::new(splits))?;
    let (network, config) = run.load(&runtime.device)?;
    let input = &config.pretrained_cfg;
    let settings = DecodeSettings { on_error: OnError::Skip, ..input.decode_settings() };
    let images = decode(&splits.val, "validation images", &settings, runtime)?;
    T::measure_task(&network, images, &config.target, input, &runtime.device)
}

fn read(path: &PathBuf) -> Result<CrossValidated> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    serde_json::from_str(&text).map_err(|e| Error::Config { path: path.clone(), reason: e.to_string() })
}

impl CrossValidated {
    fn add(&mut self, run: String, metrics: &Metrics) {
        let figures = metrics.values.iter().cloned().chain([("loss".to_owned(), metrics.loss)]);
        let figures = figures.filter(|(_, value)| value.is_finite()).collect();
        self.folds.push(Fold { run, n: metrics.n, figures });

        let names = self.folds.iter().flat_map(|fold| fold.figures.keys().cloned());
        self.figures = names.map(|name| (name.clone(), self.spread(&name))).collect();
        let accuracy = firstsight_train::Metric::name(&Accuracy);
        let of_fold = |fold: &Fold| Some((fold.figures.get(&*accuracy)? * fold.n as f64).round() as usize);
        self.pooled = self.folds.iter().map(of_fold).sum::<Option<usize>>().map(|right| {
            let n = self.folds.iter().map(|fold| fold.n).sum();
            Pooled { accuracy: right as f64 / n as f64, accuracy_interval: wilson_interval(right, n), n }
        });
    }

    fn spread(&self, name: &str) -> Spread {
        let values: Vec<f64> = self.folds.iter().filter_map(|fold| fold.figures.get(name).copied()).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Spread { mean, standard_deviation: if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 } }
    }
}
