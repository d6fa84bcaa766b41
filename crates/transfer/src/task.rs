//! What a network is trained for: one class per image, several labels, or a number.

mod answer;
mod labels_evaluation;
mod report;
mod value_evaluation;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use candle_core::ModuleT;
use firstsight_data::{Batches, ImageDataset, InputSpec, Labels, Task};
use firstsight_models::ImageClassifier;
use firstsight_report::{Report, Section, number};
use firstsight_train::{
    Accuracy, BinaryCrossEntropy, CrossEntropy, Epoch, Loss, MeanAveragePrecision, MeanSquaredError, Metric,
    Metrics, Monitor, OutputBatches, PackedWeights, PassThrough, R2, TopK, evaluate_and_predict,
};
use serde::{Deserialize, Serialize};

pub use self::answer::{LabelAnswer, TaskAnswer, TaskRow};
pub use self::labels_evaluation::{LabelFigures, LabelsEvaluation, LabelsFigures};
pub use self::value_evaluation::{ValueEvaluation, ValueFigures};
use crate::class_means::{Measuring, Places};
use crate::report_sections::{self, ReferenceRow};
use crate::training::{self, LOSS, in_order};
use crate::{
    ClassMeans, Evaluation, EvaluationFigures, Figures, Reject, Result, RunFolder, Runtime, Tally,
    write_predictions,
};

/// The meaning of a network's outputs, with what the data decided: part of `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(into = "TargetFields")]
pub enum Target {
    /// A logit for each class, of which an image has one.
    Class,
    /// A logit for each label. An image has those whose sigmoid is at least the label's threshold.
    Labels {
        /// The threshold of each label, in [0, 1].
        thresholds: Vec<f32>,
    },
    /// One output, the number less `mean`, divided by `std`.
    Value {
        /// Mean of the training images' numbers.
        mean: f64,
        /// Their standard deviation; 1 where they are all equal.
        std: f64,
    },
}

impl Target {
    /// The target of a network that is trained on `labels` of `n_classes` classes. Thresholds are a half until validation
    /// images decide.
    pub fn of(labels: &Labels, n_classes: usize) -> Self {
        match labels {
            Labels::Class(_) => Self::Class,
            Labels::MultiLabel(_) => Self::Labels { thresholds: vec![0.5; n_classes] },
            Labels::Value(values) => {
                let n = values.len().max(1) as f64;
                let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
                let variance = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / n;
                let std = if variance > 0.0 { variance.sqrt() } else { 1.0 };
                Self::Value { mean, std }
            }
        }
    }

    /// The task.
    pub fn task(&self) -> Task {
        match self {
            Self::Class => Task::SingleLabel,
            Self::Labels { .. } => Task::MultiLabel,
            Self::Value { .. } => Task::Regression,
        }
    }

    /// The loss to minimize.
    pub fn loss(&self) -> Arc<dyn Loss> {
        match self {
            Self::Class => Arc::new(CrossEntropy),
            Self::Labels { .. } => Arc::new(BinaryCrossEntropy),
            Self::Value { .. } => Arc::new(MeanSquaredError),
        }
    }

    /// The metrics beside the loss: accuracy and, of more than five classes, top-5 accuracy; mean average precision; or R².
    pub fn metrics(&self, n_classes: usize) -> Vec<Arc<dyn Metric>> {
        match self {
            Self::Class if n_classes > 5 => vec![Arc::new(Accuracy), Arc::new(TopK(5))],
            Self::Class => vec![Arc::new(Accuracy)],
            Self::Labels { .. } => vec![Arc::new(MeanAveragePrecision)],
            Self::Value { .. } => vec![Arc::new(R2)],
        }
    }

    /// The measure of an epoch: validation accuracy, mean average precision or, of numbers, loss.
    pub fn monitor(&self) -> Monitor {
        match self {
            Self::Class => Monitor::val(Accuracy),
            Self::Labels { .. } => Monitor::val(MeanAveragePrecision),
            Self::Value { .. } => Monitor::val_loss(),
        }
    }

    /// The images with labels as the loss takes them: numbers less the mean, divided by the standard deviation.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Data`] for numbers too large to be divided.
    pub fn prepare(&self, images: &ImageDataset) -> Result<ImageDataset> {
        let (Self::Value { mean, std }, Labels::Value(values)) = (self, images.targets()) else {
            return Ok(images.clone());
        };
        let scaled = values.iter().map(|&value| ((f64::from(value) - mean) / std) as f32).collect();
        Ok(images.clone().with_targets(Labels::Value(scaled), images.classes().to_vec())?)
    }

    /// An output in the units of the labels, where it is a number.
    pub fn value(&self, output: f32) -> f32 {
        match self {
            Self::Value { mean, std } => (f64::from(output) * std + mean) as f32,
            Self::Class | Self::Labels { .. } => output,
        }
    }
}

/// The fields of `config.json` that state a [`Target`]. `problem_type` is Hugging Face's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TargetFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    problem_type: Option<Task>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thresholds: Option<Vec<f32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_mean: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_std: Option<f64>,
}

impl From<Target> for TargetFields {
    fn from(target: Target) -> Self {
        let none =
            Self { problem_type: Some(target.task()), thresholds: None, target_mean: None, target_std: None };
        match target {
            Target::Class => none,
            Target::Labels { thresholds } => Self { thresholds: Some(thresholds), ..none },
            Target::Value { mean, std } => Self { target_mean: Some(mean), target_std: Some(std), ..none },
        }
    }
}

impl TargetFields {
    /// The target of a network of `n` outputs: one class, where the file states no task. A half where it states no
    /// thresholds, and outputs as they are where it states no mean and deviation.
    ///
    /// # Errors
    ///
    /// Another number of thresholds or outputs, or a deviation that is not above 0, in words.
    pub(crate) fn target(self, n: usize) -> Result<Target, String> {
        match self.problem_type {
            None | Some(Task::SingleLabel) => Ok(Target::Class),
            Some(Task::MultiLabel) => {
                let thresholds = self.thresholds.unwrap_or_else(|| vec![0.5; n]);
                match thresholds.len() == n {
                    true => Ok(Target::Labels { thresholds }),
                    false => Err(format!(
                        "it states {} thresholds, and the network has {n} outputs",
                        thresholds.len()
                    )),
                }
            }
            Some(Task::Regression) if n != 1 => {
                Err(format!("it is for regression, and the network has {n} outputs instead of one"))
            }
            Some(Task::Regression) => {
                let (mean, std) = (self.target_mean.unwrap_or(0.0), self.target_std.unwrap_or(1.0));
                match mean.is_finite() && std.is_finite() && std > 0.0 {
                    true => Ok(Target::Value { mean, std }),
                    false => Err(format!("target_std should be a number above 0, found {std} (mean {mean})")),
                }
            }
        }
    }
}

/// Images with a network's figures and predictions, by task: [`Evaluation`], [`LabelsEvaluation`] or
/// [`ValueEvaluation`].
pub trait TaskEvaluation: Debug + Sized {
    /// The task.
    const TASK: Task;

    /// All figures: the document of `evaluate --json`, and of each split in `metrics.json`.
    type Figures: Serialize;

    /// Measures a model on the batches of images. The batches' labels are [prepared](Target::prepare); those of the images are
    /// as in the data.
    ///
    /// # Errors
    ///
    /// Those of [`evaluate_with_outputs`](firstsight_train::evaluate_with_outputs).
    fn measure_batches(
        model: &impl ModuleT,
        batches: &dyn Batches,
        images: ImageDataset,
        target: &Target,
    ) -> Result<Self>;

    /// Measures a network on images.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Setting`] for images of another task; those of
    /// [`measure_batches`](TaskEvaluation::measure_batches).
    fn measure_task(
        network: &ImageClassifier,
        images: ImageDataset,
        target: &Target,
        input: &InputSpec,
        runtime: &Runtime,
    ) -> Result<Self> {
        Self::measure_with(network, images, target, input, None, runtime)
    }

    /// [`measure_task`](TaskEvaluation::measure_task), with each image's distance to the nearest of class means. The batches are
    /// shared out among the runtime's processes, and each gets all figures.
    ///
    /// # Errors
    ///
    /// Those of [`measure_task`](TaskEvaluation::measure_task).
    fn measure_with(
        network: &ImageClassifier,
        images: ImageDataset,
        target: &Target,
        input: &InputSpec,
        means: Option<&ClassMeans>,
        runtime: &Runtime,
    ) -> Result<Self> {
        check_task::<Self>(images.targets())?;
        let batches = in_order(&target.prepare(&images)?, input, &runtime.device)?;
        let packed = PackedWeights::default();
        let measuring = Measuring::new(network, &packed, means);
        let communicator = &*runtime.communicator;
        if communicator.size() == 1 {
            let measured = Self::measure_batches(&measuring, &batches, images, target)?;
            return Ok(measured.with_places(measuring.into_places()));
        }
        let outputs = OutputBatches::new(&measuring, &batches, communicator)?;
        let gather = |own: Places| -> Result<Places> {
            let gather = |own: Vec<f32>| outputs.gather(&own, communicator);
            let axis = |axis: usize| gather(own.on_map.iter().map(|place| place[axis]).collect());
            // All processes have the same means.
            let on_map = match means.is_some_and(|means| means.map.is_some()) {
                true => axis(0)?.into_iter().zip(axis(1)?).map(|(x, y)| [x, y]).collect(),
                false => Vec::new(),
            };
            Ok(Places { on_map, distances: gather(own.distances)? })
        };
        let places = measuring.into_places().map(gather).transpose()?;
        Ok(Self::measure_batches(&PassThrough, &outputs, images, target)?.with_places(places))
    }

    /// With each image's place among the training images, for a task with classes.
    #[must_use]
    fn with_places(self, _: Option<Places>) -> Self {
        self
    }

    /// With a temperature for its probabilities, for a task with classes.
    #[must_use]
    fn with_temperature(self, _: Option<f64>) -> Self {
        self
    }

    /// Gives validation images and others the temperature that the validation images ask for; what those say about images of
    /// no class. Nothing for a task without classes.
    fn calibrate(_: &mut Self, _: Vec<&mut Self>, _: Option<ClassMeans>) -> Option<Reject> {
        None
    }

    /// The temperature of the probabilities, if there is one.
    fn temperature(&self) -> Option<f64> {
        None
    }

    /// Writes what is said of each image of some splits to a CSV file, with paths relative to `root`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Write`] for a file that cannot be written.
    fn write_predictions(path: &Path, root: &Path, splits: &[(&str, &Self)]) -> Result<()>;

    /// Writes what is said of each image of some splits to the run's folder, with paths relative to `root`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Write`] for a file that cannot be written.
    fn save_answers(
        run: &RunFolder,
        root: &Path,
        splits: &[(&str, &Self)],
        _: Option<&Reject>,
    ) -> Result<()> {
        Self::write_predictions(&run.predictions(), root, splits)
    }

    /// Lets validation images decide what a target leaves open: thresholds.
    fn decide(&mut self, target: Target) -> Target {
        target
    }

    /// The images.
    fn images(&self) -> &ImageDataset;

    /// Loss and metrics, as in the history.
    fn metrics(&self) -> &Metrics;

    /// All figures.
    fn all_figures(&self) -> Self::Figures;

    /// The main figures, as a line.
    fn line(&self) -> String;

    /// The main figure as a sentence about the images, which are called `name`; `part` says what they were for.
    fn lead(&self, name: &str, part: &str) -> String;

    /// What the folds of a cross-validation add up, where loss and metrics don't say it.
    fn tally(&self) -> Option<Tally> {
        None
    }

    /// Loss and metrics for `metrics.json`.
    fn brief(metrics: &Metrics) -> impl Serialize {
        Brief::from(metrics)
    }

    /// Adds a table of loss and metrics of some splits to a report.
    fn table(section: &mut Section, splits: &[(&'static str, &Metrics)], model: &str) {
        report::metrics_table(section, splits, model);
    }

    /// Adds loss and metrics after each epoch to a report. The weights of the epoch `best` are kept.
    fn curves(section: &mut Section, epochs: &[Epoch], best: Option<usize>, source: &str) {
        report::curves(section, Self::TASK, epochs, best, source);
    }

    /// Adds sections about the images, which are called `name`, to a report. Paths are relative to the data's folder `root`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Report`] for figures that cannot be drawn.
    fn show(
        &self,
        report: &mut Report,
        name: &str,
        reject: Option<&Reject>,
        root: &Path,
        source: &str,
    ) -> Result<()>;
}

impl TaskEvaluation for Evaluation {
    const TASK: Task = Task::SingleLabel;

    type Figures = EvaluationFigures;

    fn measure_batches(
        model: &impl ModuleT,
        batches: &dyn Batches,
        images: ImageDataset,
        _: &Target,
    ) -> Result<Self> {
        let (metrics, predictions) =
            evaluate_and_predict(model, batches, &LOSS, training::metrics(images.classes().len()))?;
        Ok(Self { images, metrics, predictions, distances: None, on_map: Vec::new(), temperature: None })
    }

    fn with_places(self, places: Option<Places>) -> Self {
        let (distances, on_map) = places.map(|places| (places.distances, places.on_map)).unzip();
        Self { distances, on_map: on_map.unwrap_or_default(), ..self }
    }

    fn with_temperature(self, temperature: Option<f64>) -> Self {
        Self { temperature, ..self }
    }

    fn write_predictions(path: &Path, root: &Path, splits: &[(&str, &Self)]) -> Result<()> {
        write_predictions(path, root, splits)
    }

    fn calibrate(val: &mut Self, others: Vec<&mut Self>, means: Option<ClassMeans>) -> Option<Reject> {
        val.temperature = val.predictions.temperature();
        for other in others {
            other.temperature = val.temperature;
        }
        Reject::new(val, means)
    }

    fn temperature(&self) -> Option<f64> {
        self.temperature
    }

    fn save_answers(
        run: &RunFolder,
        root: &Path,
        splits: &[(&str, &Self)],
        reject: Option<&Reject>,
    ) -> Result<()> {
        run.save_answers(root, splits, reject)
    }

    fn images(&self) -> &ImageDataset {
        &self.images
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn all_figures(&self) -> EvaluationFigures {
        self.figures()
    }

    fn line(&self) -> String {
        self.summary().to_string()
    }

    fn lead(&self, name: &str, part: &str) -> String {
        let share = number::percent(self.summary().accuracy, 1);
        format!("Of {} {name} images, {part}, **{share}** are recognized.", self.images.len())
    }

    fn brief(metrics: &Metrics) -> impl Serialize {
        Figures::from(metrics)
    }

    fn table(section: &mut Section, splits: &[(&'static str, &Metrics)], model: &str) {
        let row = |&(split, metrics): &(&'static str, &Metrics)| ReferenceRow {
            split,
            ours: metrics.into(),
            reference: None,
        };
        report_sections::figures(section, &splits.iter().map(row).collect::<Vec<_>>(), model);
    }

    fn curves(section: &mut Section, epochs: &[Epoch], best: Option<usize>, source: &str) {
        report_sections::epochs(section, epochs, best, source);
    }

    fn show(
        &self,
        report: &mut Report,
        name: &str,
        reject: Option<&Reject>,
        root: &Path,
        source: &str,
    ) -> Result<()> {
        report_sections::held_out_sections(report, name, self, reject, root, source)
    }
}

/// Loss and metrics of several labels or of numbers, for `metrics.json`.
#[derive(Serialize)]
struct Brief {
    loss: f64,
    #[serde(flatten)]
    metrics: BTreeMap<String, f64>,
    n: usize,
}

impl From<&Metrics> for Brief {
    fn from(metrics: &Metrics) -> Self {
        Self { loss: metrics.loss, metrics: metrics.values.iter().cloned().collect(), n: metrics.n }
    }
}

/// # Errors
///
/// [`crate::Error::Setting`] for labels of another task.
pub(crate) fn check_task<E: TaskEvaluation>(labels: &Labels) -> Result<()> {
    let found = labels.task();
    if found == E::TASK {
        return Ok(());
    }
    Err(crate::Error::Setting {
        setting: "labels",
        expected: format!("{} labels", E::TASK),
        found: format!("{found} labels"),
    })
}
