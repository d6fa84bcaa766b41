//! Images with several labels, and what a network makes of them.

use std::cmp::Reverse;
use std::path::Path;

use candle_core::ModuleT;
use firstsight_data::{Batches, ImageDataset, Task};
use firstsight_report::{Column, Report, Table};
use firstsight_train::{Metrics, MultiLabelPredictions, evaluate_with_outputs};
use serde::Serialize;

use super::{Target, TaskEvaluation};
use crate::predictions_csv::write_answers;
use crate::report_sections::LISTED;
use crate::{Reject, Result, Tally};

/// Parts of the validation images of a fold: the decisions about each are counted by thresholds that the others chose.
const PARTS: usize = 5;

/// Images with several labels, a network's figures and probabilities.
#[derive(Debug, Clone)]
pub struct LabelsEvaluation {
    /// The images.
    pub images: ImageDataset,
    /// Loss and mean average precision.
    pub metrics: Metrics,
    /// The probability of each label of each image.
    pub predictions: MultiLabelPredictions,
    /// The probability of each label from which an image has it.
    pub thresholds: Vec<f32>,
}

/// Figures over all labels, and label by label.
#[derive(Debug, Clone, Serialize)]
pub struct LabelsFigures {
    /// The task.
    pub problem_type: Task,
    /// Mean binary cross-entropy.
    pub loss: f64,
    /// Average precision, averaged over the labels that occur.
    pub mean_average_precision: f64,
    /// F1 of all decisions together.
    pub micro_f1: f64,
    /// F1 averaged over the labels that occur or are predicted.
    pub macro_f1: f64,
    /// Share of the images of which every label is right.
    pub exact_match: f64,
    /// Number of images.
    pub n: usize,
    /// The figures of each label, in the order of the network's outputs.
    pub per_label: Vec<LabelFigures>,
}

/// The figures of one label.
#[derive(Debug, Clone, Serialize)]
pub struct LabelFigures {
    /// The label's name.
    pub label: String,
    /// Number of images that have it.
    pub n: usize,
    /// Average precision; null where no image has it.
    pub average_precision: Option<f64>,
    /// The probability from which an image has it.
    pub threshold: f32,
    /// Share of the images said to have it that do.
    pub precision: Option<f64>,
    /// Share of the images that have it that are said to.
    pub recall: Option<f64>,
    /// The harmonic mean of precision and recall.
    pub f1: Option<f64>,
}

impl LabelsEvaluation {
    /// Whether image `i` is said to have each label, (K,).
    fn has(&self, i: usize) -> Vec<bool> {
        self.predictions.row(i).iter().zip(&self.thresholds).map(|(p, threshold)| p >= threshold).collect()
    }

    /// The predictions of the images that are chosen by their places.
    fn rows(&self, is_chosen: impl Fn(usize) -> bool) -> MultiLabelPredictions {
        let of = &self.predictions;
        let chosen = || (0..of.len()).filter(|&i| is_chosen(i));
        MultiLabelPredictions {
            probabilities: chosen().flat_map(|i| of.row(i)).copied().collect(),
            labels: chosen().flat_map(|i| of.labels(i)).copied().collect(),
            n_labels: of.n_labels,
        }
    }

    /// Every image with a wrong label, those with the most first, where the images are files.
    fn mistakes(&self, root: &Path) -> Option<Table> {
        let classes = self.images.classes();
        let labels = |of: &mut dyn Iterator<Item = bool>| {
            let names = classes.iter().zip(of).filter(|(_, of)| *of).map(|(name, _)| name.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let mut wrong: Vec<(usize, usize)> = (0..self.images.len())
            .filter(|&i| self.images.path(i).is_some())
            .map(|i| (i, self.has(i).iter().zip(self.predictions.labels(i)).filter(|(a, b)| a != b).count()))
            .filter(|(_, n)| *n > 0)
            .collect();
        wrong.sort_by_key(|(i, n)| (Reverse(*n), *i));
        let caption = match wrong.len() {
            0 => return None,
            1 => "The image with a wrong label".to_owned(),
            n if n > LISTED => {
                format!("{LISTED} of {n} images with wrong labels; all are in the run's `predictions.csv`")
            }
            n => format!("All {n} images with wrong labels"),
        };
        let columns = [
            Column::path("image"),
            Column::text("true"),
            Column::text("missed"),
            Column::text("predicted, but not true"),
        ];
        let mut table = Table::new(caption, columns);
        for (i, _) in wrong.into_iter().take(LISTED) {
            let path = self.images.path(i)?;
            let (truth, said) = (self.predictions.labels(i), self.has(i));
            let pairs = || truth.iter().copied().zip(said.iter().copied());
            table.row([
                path.strip_prefix(root).unwrap_or(&path).display().to_string().into(),
                labels(&mut truth.iter().copied()).into(),
                labels(&mut pairs().map(|(truth, said)| truth && !said)).into(),
                labels(&mut pairs().map(|(truth, said)| said && !truth)).into(),
            ]);
        }
        table.folded();
        Some(table)
    }
}

impl TaskEvaluation for LabelsEvaluation {
    const TASK: Task = Task::MultiLabel;

    type Figures = LabelsFigures;

    fn measure_batches(
        model: &impl ModuleT,
        batches: &dyn Batches,
        images: ImageDataset,
        target: &Target,
    ) -> Result<Self> {
        let metrics = target.metrics(images.classes().len());
        let metrics: Vec<_> = metrics.iter().map(|metric| &**metric).collect();
        let (metrics, outputs) = evaluate_with_outputs(model, batches, &*target.loss(), &metrics)?;
        let thresholds = match target {
            Target::Labels { thresholds } => thresholds.clone(),
            Target::Class | Target::Value { .. } => vec![0.5; outputs.n_outputs],
        };
        Ok(Self { images, metrics, predictions: MultiLabelPredictions::new(&outputs), thresholds })
    }

    fn decide(&mut self, _: Target) -> Target {
        self.thresholds = self.predictions.best_thresholds();
        Target::Labels { thresholds: self.thresholds.clone() }
    }

    fn images(&self) -> &ImageDataset {
        &self.images
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn all_figures(&self) -> LabelsFigures {
        let Self { images, metrics, predictions, thresholds } = self;
        let of_label = predictions.average_precisions().into_iter().zip(predictions.counts(thresholds));
        let of_label = images.classes().iter().zip(thresholds).zip(of_label);
        let found: Vec<f64> = predictions.average_precisions().into_iter().flatten().collect();
        LabelsFigures {
            problem_type: Task::MultiLabel,
            loss: metrics.loss,
            mean_average_precision: found.iter().sum::<f64>() / found.len() as f64,
            micro_f1: predictions.micro_f1(thresholds),
            macro_f1: predictions.macro_f1(thresholds),
            exact_match: predictions.exact_match(thresholds),
            n: images.len(),
            per_label: of_label
                .map(|((label, &threshold), (average_precision, counts))| LabelFigures {
                    label: label.clone(),
                    n: counts.n,
                    average_precision,
                    threshold,
                    precision: counts.precision(),
                    recall: counts.recall(),
                    f1: counts.f1(),
                })
                .collect(),
        }
    }

    fn tally(&self) -> Option<Tally> {
        let tally = |part: usize| {
            let of_part = self.rows(|i| i % PARTS == part);
            let thresholds = self.rows(|i| i % PARTS != part).best_thresholds();
            Tally::Labels {
                exact_matches: (of_part.exact_match(&thresholds) * of_part.len() as f64).round() as usize,
                labels: of_part.counts(&thresholds),
            }
        };
        (0..PARTS).map(tally).reduce(|sum, tally| sum.plus(&tally))
    }

    fn line(&self) -> String {
        let f = self.all_figures();
        format!(
            "loss {:.4}  mAP {:.4}  micro F1 {:.4}  macro F1 {:.4}  all labels right {:.4}",
            f.loss, f.mean_average_precision, f.micro_f1, f.macro_f1, f.exact_match
        )
    }

    fn lead(&self, name: &str, part: &str) -> String {
        let f = self.all_figures();
        format!(
            "Over {} {name} images, {part}, the mean average precision is **{:.3}** and the F1 of all labels together {:.3}.",
            f.n, f.mean_average_precision, f.micro_f1
        )
    }

    fn show(
        &self,
        report: &mut Report,
        name: &str,
        _: Option<&Reject>,
        root: &Path,
        _source: &str,
    ) -> Result<()> {
        let columns = [
            Column::text("label"),
            Column::number("images"),
            Column::number("average precision"),
            Column::number("threshold"),
            Column::number("precision"),
            Column::number("recall"),
            Column::number("F1"),
        ];
        let figures = self.all_figures();
        let mut table = Table::new(
            format!(
                "The labels of the {name} images. A label is predicted where its probability is at least its threshold, which \
                 the validation images chose for the highest F1"
            ),
            columns,
        );
        for f in &figures.per_label {
            let numbers = [f.precision, f.recall, f.f1].map(Into::into);
            let front = [
                f.label.as_str().into(),
                f.n.into(),
                f.average_precision.into(),
                f64::from(f.threshold).into(),
            ];
            table.row(front.into_iter().chain(numbers));
        }
        let section = report.section(None, "Label by label");
        section.text(&format!(
            "Of the {} images, {:.1} % have every label right. The F1 of all labels together (micro) is {:.3}, the mean of the \
             labels' F1 (macro) {:.3}. On the validation images, which chose the thresholds, these tend to be higher than on new ones. The mean \
             average precision does not depend on thresholds.",
            figures.n,
            100.0 * figures.exact_match,
            figures.micro_f1,
            figures.macro_f1
        ));
        section.table(table);
        if let Some(table) = self.mistakes(root) {
            section.table(table);
        }
        Ok(())
    }

    fn write_predictions(path: &Path, root: &Path, splits: &[(&str, &Self)]) -> Result<()> {
        let Some((_, first)) = splits.first() else { return Ok(()) };
        let names: Vec<&str> = first.images.classes().iter().map(String::as_str).collect();
        let joined = |has: &mut dyn Iterator<Item = bool>| {
            let names = names.iter().zip(has).filter(|(_, has)| *has).map(|(name, _)| *name);
            names.collect::<Vec<_>>().join("|")
        };
        let row = |of: &Self, i: usize| {
            let row = of.predictions.row(i);
            let truth = joined(&mut of.predictions.labels(i).iter().copied());
            let front = [truth, joined(&mut of.has(i).into_iter())];
            front.into_iter().chain(row.iter().map(f32::to_string)).collect()
        };
        write_answers(path, root, splits, &names, row)
    }
}
