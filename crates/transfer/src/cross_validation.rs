//! Cross-validation: one training for each fold of the images, each validated on images that it was not trained on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firstsight_train::{Accuracy, Metrics, wilson_interval};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, RunFolder, Runtime, Split, SplitRecord, Splits, TaskEvaluation, files};

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
        (true, true) => read(&path)?.folds,
        (false, _) => Vec::new(),
    };
    let mut result = CrossValidated::default();
    for (i, splits) in folds.iter().enumerate() {
        let name = format!("fold-{}", i + 1);
        let place = folder.join(&name);
        let fold = match finished.get(i) {
            Some(fold) => {
                RunFolder::open(&place)?.check_split(&SplitRecord::new(splits))?;
                fold.clone()
            }
            None => {
                runtime.message(&format!("fold {} of {}", i + 1, folds.len()));
                let going_on = resume && place.join("checkpoint/last.safetensors").exists();
                let run = match (resume, going_on) {
                    // What was interrupted before its first checkpoint is made anew.
                    (true, false) => RunFolder::reopen(&place, false)?,
                    _ => RunFolder::create(&place, going_on)?,
                };
                let trained = train(splits, &run, going_on).inspect_err(|_| run.remove_if_empty())?;
                Fold::new(name, trained.metrics())
            }
        };
        result.add(fold);
        files::write_json(&path, &result)?;
    }
    pool_predictions(folder, &result)?;
    Ok(result)
}

/// Writes what the runs say of their validation images to one file: the rows of each run's `predictions.csv` with the run.
fn pool_predictions(folder: &Path, result: &CrossValidated) -> Result<()> {
    let path = folder.join("predictions.csv");
    let unusable = |e: csv::Error| Error::io("write", &path)(std::io::Error::other(e));
    let mut pooled = csv::Writer::from_writer(Vec::new());
    for (i, fold) in result.folds.iter().enumerate() {
        let of_run = folder.join(&fold.run).join("predictions.csv");
        if !of_run.exists() {
            return Ok(());
        }
        let unreadable = |e: csv::Error| Error::io("read", &of_run)(std::io::Error::other(e));
        let mut reader = csv::Reader::from_path(&of_run).map_err(unreadable)?;
        let header = reader.headers().map_err(unreadable)?.clone();
        if i == 0 {
            pooled.write_record(std::iter::once("run").chain(&header)).map_err(unusable)?;
        }
        let split = header.iter().position(|column| column == "split");
        for row in reader.records() {
            let row = row.map_err(unreadable)?;
            if split.is_none_or(|split| &row[split] == Split::Val.name()) {
                pooled.write_record(std::iter::once(&*fold.run).chain(&row)).map_err(unusable)?;
            }
        }
    }
    let bytes = pooled.into_inner().map_err(|e| Error::io("write", &path)(e.into_error()))?;
    Ok(files::write(&path, &bytes)?)
}

fn read(path: &PathBuf) -> Result<CrossValidated> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    serde_json::from_str(&text).map_err(|e| Error::Config { path: path.clone(), reason: e.to_string() })
}

impl Fold {
    fn new(run: String, metrics: &Metrics) -> Self {
        let figures = metrics.values.iter().cloned().chain([("loss".to_owned(), metrics.loss)]);
        Self { run, n: metrics.n, figures: figures.filter(|(_, value)| value.is_finite()).collect() }
    }
}

impl CrossValidated {
    fn add(&mut self, fold: Fold) {
        self.folds.push(fold);
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
