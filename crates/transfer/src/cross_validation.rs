//! Cross-validation: one training for each fold of the images, each validated on images that it was not trained on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firstsight_train::{Accuracy, Identity, LabelCounts, Metric, Metrics, wilson_interval};
use serde::{Deserialize, Serialize};

use crate::going_on::in_run;
use crate::{Error, Result, RunFolder, Runtime, Split, SplitRecord, Splits, TaskEvaluation, files};

/// The figures of a cross-validation, as `cross-validation.json` has them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CrossValidated {
    /// The settings of all folds, as they are used; `None` in files of before they were kept.
    #[serde(default)]
    pub settings: Option<Identity>,
    /// The finished folds.
    pub folds: Vec<Fold>,
    /// Mean and standard deviation over the folds of the loss and of each metric.
    pub figures: BTreeMap<String, Spread>,
    /// Figures over the images of all folds, each predicted by the run that was not trained on it.
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
    /// What the folds add up, for several labels and for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<Tally>,
}

/// What is added up over the images of a fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tally {
    /// Of images with several labels.
    Labels {
        /// Number of images of which every label is right.
        exact_matches: usize,
        /// The counts of each label, each image's by thresholds that others of the fold chose.
        labels: Vec<LabelCounts>,
    },
    /// Of images with a number each.
    Value {
        /// Sum of |p − t| over the images, p being the prediction and t the number.
        absolute_errors: f64,
        /// Sum of (p − t)².
        squared_errors: f64,
        /// Sum of t.
        truths: f64,
        /// Sum of t².
        squared_truths: f64,
    },
}

/// A figure over the folds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, with the number of folds less one.
    pub standard_deviation: f64,
}

/// Figures over the images of all folds. The confidence intervals are of 95 %, by [`wilson_interval`]; they leave out that
/// the runs share training images.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Pooled {
    /// Of images with a class each.
    Class {
        /// Share of the images whose most probable class is right.
        accuracy: f64,
        /// Its confidence interval.
        accuracy_interval: (f64, f64),
        /// Number of images.
        n: usize,
    },
    /// Of images with several labels, which are decided by thresholds that other images of the fold chose: those of the fold's run are the
    /// best for its own images. `predictions.csv` has the decisions by the run's.
    Labels {
        /// F1 of all decisions together; null where no label occurs or is predicted.
        micro_f1: Option<f64>,
        /// F1 averaged over the labels that occur or are predicted; null where none is.
        macro_f1: Option<f64>,
        /// Share of the images of which every label is right.
        exact_match: f64,
        /// Its confidence interval.
        exact_match_interval: (f64, f64),
        /// Number of images.
        n: usize,
    },
    /// Of images with a number each, in its units.
    Value {
        /// Mean absolute error.
        mean_absolute_error: f64,
        /// Root mean squared error.
        root_mean_squared_error: f64,
        /// R², the share of the variance that is explained; null where all numbers are equal.
        r2: Option<f64>,
        /// Number of images.
        n: usize,
    },
}

impl Pooled {
    /// The figures of the images of some folds; `None` without images.
    fn of(folds: &[Fold]) -> Option<Self> {
        let n: usize = folds.iter().map(|fold| fold.n).sum();
        if n == 0 {
            return None;
        }
        let Some(tallies) = folds.iter().map(|fold| fold.tally.as_ref()).collect::<Option<Vec<_>>>() else {
            let accuracy = Metric::name(&Accuracy);
            let right = |fold: &Fold| Some((fold.figures.get(&accuracy)? * fold.n as f64).round() as usize);
            let right = folds.iter().map(right).sum::<Option<usize>>()?;
            let accuracy_interval = wilson_interval(right, n);
            return Some(Self::Class { accuracy: right as f64 / n as f64, accuracy_interval, n });
        };
        let sum = tallies.into_iter().cloned().reduce(|sum, tally| sum.plus(&tally))?;
        Some(sum.pooled(n))
    }
}

impl Tally {
    pub(crate) fn plus(&self, other: &Self) -> Self {
        match (self, other) {
            (
                Self::Labels { exact_matches, labels },
                Self::Labels { exact_matches: more, labels: of_more },
            ) => Self::Labels {
                exact_matches: exact_matches + more,
                labels: labels.iter().zip(of_more).map(|(one, other)| one.plus(other)).collect(),
            },
            (
                Self::Value { absolute_errors, squared_errors, truths, squared_truths },
                Self::Value { absolute_errors: a, squared_errors: s, truths: t, squared_truths: q },
            ) => Self::Value {
                absolute_errors: absolute_errors + a,
                squared_errors: squared_errors + s,
                truths: truths + t,
                squared_truths: squared_truths + q,
            },
            // Folds are all of one task.
            _ => self.clone(),
        }
    }

    fn pooled(self, n: usize) -> Pooled {
        let images = n as f64;
        match self {
            Self::Labels { exact_matches, labels } => {
                let known = |f1: f64| (!f1.is_nan()).then_some(f1);
                Pooled::Labels {
                    micro_f1: known(LabelCounts::micro_f1(&labels)),
                    macro_f1: known(LabelCounts::macro_f1(&labels)),
                    exact_match: exact_matches as f64 / images,
                    exact_match_interval: wilson_interval(exact_matches, n),
                    n,
                }
            }
            Self::Value { absolute_errors, squared_errors, truths, squared_truths } => {
                // Equal numbers leave a rounding error.
                let variation = squared_truths - truths * truths / images;
                let varies = variation > 1e-12 * squared_truths;
                Pooled::Value {
                    mean_absolute_error: absolute_errors / images,
                    root_mean_squared_error: (squared_errors / images).sqrt(),
                    r2: varies.then(|| 1.0 - squared_errors / variation),
                    n,
                }
            }
        }
    }
}

/// Trains a run for each fold in `folder/fold-1`, `folder/fold-2`, …, and writes `cross-validation.json` and
/// `predictions.csv` with what each run says of its validation images.
///
/// `train` trains a run under `settings`, resumed if it is told so, and returns its validation images. A cross-validation that is
/// resumed keeps the folds that are finished.
///
/// # Errors
///
/// Those of `train`; [`Error::RunExists`] for a folder that holds folds and is not to be resumed; [`Error::Run`] for folds
/// of other images or settings.
pub fn cross_validate<T: TaskEvaluation, E: From<Error>>(
    folder: &Path,
    resume: bool,
    settings: Identity,
    folds: &[Splits],
    runtime: &Runtime,
    mut train: impl FnMut(&Splits, &RunFolder, bool) -> Result<T, E>,
) -> Result<CrossValidated, E> {
    let path = folder.join("cross-validation.json");
    let finished = match (path.exists(), resume) {
        (true, false) => return Err(Error::RunExists(folder.to_path_buf()).into()),
        (true, true) => read(&path)?,
        (false, _) => CrossValidated::default(),
    };
    let differences = finished.settings.map(|found| found.all_differences(&settings)).unwrap_or_default();
    if !differences.is_empty() {
        let run = RunFolder::at(folder);
        let differences = in_run(&differences, &run);
        return Err(run.error(format!("holds folds of other settings: {differences}")).into());
    }
    // All have read what the first process replaces.
    runtime.communicator.barrier().map_err(Error::from)?;
    let mut result = CrossValidated { settings: Some(settings), ..CrossValidated::default() };
    for (i, splits) in folds.iter().enumerate() {
        let name = format!("fold-{}", i + 1);
        let place = folder.join(&name);
        let fold = match finished.folds.get(i) {
            Some(fold) => {
                RunFolder::open(&place)?.check_split(&SplitRecord::new(splits))?;
                fold.clone()
            }
            None => {
                runtime.message(&format!("fold {} of {}", i + 1, folds.len()));
                let going_on = resume && RunFolder::at(&place).has_checkpoint();
                let run = match (resume, going_on) {
                    // What was interrupted before its first checkpoint is made anew.
                    (true, false) => RunFolder::reopen(&place, false)?,
                    _ => RunFolder::create(&place, going_on)?,
                };
                let trained = train(splits, &run, going_on).inspect_err(|_| run.remove_if_empty())?;
                Fold::new(name, trained.metrics(), trained.tally())
            }
        };
        result.add(fold);
        if runtime.is_root() {
            files::write_json(&path, &result)?;
        }
    }
    if runtime.is_root() {
        pool_predictions(folder, &result)?;
    }
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
        let unreadable = Error::csv(&of_run);
        let mut reader = csv::Reader::from_path(&of_run).map_err(&unreadable)?;
        let header = reader.headers().map_err(&unreadable)?.clone();
        if i == 0 {
            pooled.write_record(std::iter::once("run").chain(&header)).map_err(unusable)?;
        }
        let split = header.iter().position(|column| column == "split");
        for row in reader.records() {
            let row = row.map_err(&unreadable)?;
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
    fn new(run: String, metrics: &Metrics, tally: Option<Tally>) -> Self {
        let figures = metrics.values.iter().cloned().chain([("loss".to_owned(), metrics.loss)]);
        Self { run, n: metrics.n, figures: figures.filter(|(_, value)| value.is_finite()).collect(), tally }
    }
}

impl CrossValidated {
    fn add(&mut self, fold: Fold) {
        self.folds.push(fold);
        let names = self.folds.iter().flat_map(|fold| fold.figures.keys().cloned());
        self.figures = names.map(|name| (name.clone(), self.spread(&name))).collect();
        self.pooled = Pooled::of(&self.folds);
    }

    fn spread(&self, name: &str) -> Spread {
        let values: Vec<f64> = self.folds.iter().filter_map(|fold| fold.figures.get(name).copied()).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Spread { mean, standard_deviation: if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(n: usize, accuracy: f64, tally: Option<Tally>) -> Fold {
        let figures = BTreeMap::from([("accuracy".to_owned(), accuracy)]);
        Fold { run: "fold".to_owned(), n, figures, tally }
    }

    fn value(truths: &[f64], predictions: &[f64]) -> Option<Tally> {
        let errors = || truths.iter().zip(predictions).map(|(t, p)| p - t);
        Some(Tally::Value {
            absolute_errors: errors().map(f64::abs).sum(),
            squared_errors: errors().map(|e| e * e).sum(),
            truths: truths.iter().sum(),
            squared_truths: truths.iter().map(|t| t * t).sum(),
        })
    }

    fn of(folds: impl IntoIterator<Item = Fold>) -> CrossValidated {
        let mut result = CrossValidated::default();
        folds.into_iter().for_each(|fold| result.add(fold));
        result
    }

    #[test]
    fn figures_are_means_over_folds_and_pooled_ones_shares_of_images() {
        let one = of([fold(10, 0.8, None)]);
        let Spread { mean, standard_deviation } = one.figures["accuracy"];
        assert_eq!((mean, standard_deviation), (0.8, 0.0));
        let three = of([fold(10, 0.8, None), fold(10, 0.6, None), fold(20, 0.4, None)]);
        let Spread { mean, standard_deviation } = three.figures["accuracy"];
        assert!((mean - 0.6).abs() < 1e-12 && (standard_deviation - 0.2).abs() < 1e-12);
        let Some(Pooled::Class { accuracy, accuracy_interval, n }) = three.pooled else { panic!() };
        assert_eq!((accuracy, n, accuracy_interval), (22.0 / 40.0, 40, wilson_interval(22, 40)));
        assert!(of([fold(0, f64::NAN, None)]).pooled.is_none());
    }

    #[test]
    fn errors_of_numbers_are_those_of_all_images() {
        let folds = [
            fold(3, 0.0, value(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0])),
            fold(2, 0.0, value(&[4.0, 6.0], &[5.0, 6.0])),
        ];
        let Some(Pooled::Value { mean_absolute_error, root_mean_squared_error, r2, n }) = of(folds).pooled
        else {
            panic!()
        };
        // The numbers vary by 14.8 around their mean, 3.2.
        assert_eq!((mean_absolute_error, n), (0.4, 5));
        assert!((root_mean_squared_error - 0.4f64.sqrt()).abs() < 1e-12);
        assert!((r2.unwrap() - (1.0 - 2.0 / 14.8)).abs() < 1e-12);
        let equal = [fold(2, 0.0, value(&[0.1, 0.1], &[0.2, 0.1])), fold(1, 0.0, value(&[0.1], &[0.1]))];
        assert!(matches!(of(equal).pooled, Some(Pooled::Value { r2: None, .. })), "all are equal");
    }

    #[test]
    fn labels_are_counted_over_all_images() {
        let tally = |exact_matches, n, predicted, right| {
            Some(Tally::Labels { exact_matches, labels: vec![LabelCounts { n, predicted, right }] })
        };
        let folds = [fold(4, 0.0, tally(3, 2, 2, 1)), fold(6, 0.0, tally(6, 3, 2, 2))];
        let Some(Pooled::Labels { micro_f1, macro_f1, exact_match, n, .. }) = of(folds).pooled else {
            panic!()
        };
        // 5 have the label, 4 are said to, 3 rightly.
        assert_eq!((micro_f1, macro_f1), (Some(6.0 / 9.0), Some(6.0 / 9.0)));
        assert_eq!((exact_match, n), (0.9, 10));
        let none = of([fold(4, 0.0, tally(4, 0, 0, 0))]);
        assert!(matches!(none.pooled, Some(Pooled::Labels { micro_f1: None, macro_f1: None, .. })));
    }
}
