//! Images with a number each, and the numbers that a network reads from them.

use std::path::Path;

use candle_core::ModuleT;
use firstsight_data::{Batches, ImageDataset, Labels, Task};
use firstsight_report::{Axis, Figure, Report, Scatter, Series, Sheet, Tile, escape_markup, number};
use firstsight_train::{
    BatchOutputs, MeanAbsoluteError, MeanSquaredError, Metric, Metrics, R2, evaluate_with_outputs,
};
use serde::Serialize;

use super::{Target, TaskEvaluation};
use crate::predictions_csv::write_answers;
use crate::report_sections::picture;
use crate::{Reject, Result, Tally};

/// Pictures of the largest errors in a report.
const WORST: usize = 24;

/// Images with a number each, and a network's numbers in the same units.
#[derive(Debug, Clone)]
pub struct ValueEvaluation {
    /// The images.
    pub images: ImageDataset,
    /// Loss, of numbers divided by their standard deviation, and R².
    pub metrics: Metrics,
    /// The number of each image.
    pub truths: Vec<f32>,
    /// The network's number of each image.
    pub predictions: Vec<f32>,
}

/// Figures of numbers, in their own units.
#[derive(Debug, Clone, Serialize)]
pub struct ValueFigures {
    /// The task.
    pub problem_type: Task,
    /// Mean squared error of the numbers divided by their standard deviation among the training images.
    pub loss: f64,
    /// Mean squared error.
    pub mean_squared_error: f64,
    /// Its square root, in the units of the numbers.
    pub root_mean_squared_error: f64,
    /// Mean absolute error.
    pub mean_absolute_error: f64,
    /// R², the share of the variance that is explained; null for fewer than two images.
    pub r2: Option<f64>,
    /// Number of images.
    pub n: usize,
}

impl ValueEvaluation {
    fn metric(&self, metric: &dyn Metric) -> f64 {
        let mut state = metric.accumulator();
        let (outputs, labels) = (&self.predictions[..], &self.truths[..]);
        state.add(&BatchOutputs { outputs, n_outputs: 1, labels, shares: &[] });
        state.value()
    }

    /// What the numbers are.
    fn quantity(&self) -> &str {
        self.images.classes().first().map_or("value", String::as_str)
    }
}

impl TaskEvaluation for ValueEvaluation {
    const TASK: Task = Task::Regression;

    type Figures = ValueFigures;

    fn measure_batches(
        model: &impl ModuleT,
        batches: &dyn Batches,
        images: ImageDataset,
        target: &Target,
    ) -> Result<Self> {
        let metrics = target.metrics(images.classes().len());
        let metrics: Vec<_> = metrics.iter().map(|metric| &**metric).collect();
        let (metrics, outputs) = evaluate_with_outputs(model, batches, &*target.loss(), &metrics)?;
        let truths = match images.targets() {
            Labels::Value(values) => values.clone(),
            Labels::Class(_) | Labels::MultiLabel(_) => Vec::new(),
        };
        let predictions = outputs.values.into_iter().map(|output| target.value(output)).collect();
        Ok(Self { images, metrics, truths, predictions })
    }

    fn images(&self) -> &ImageDataset {
        &self.images
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn all_figures(&self) -> ValueFigures {
        let squared = self.metric(&MeanSquaredError);
        ValueFigures {
            problem_type: Task::Regression,
            loss: self.metrics.loss,
            mean_squared_error: squared,
            root_mean_squared_error: squared.sqrt(),
            mean_absolute_error: self.metric(&MeanAbsoluteError),
            r2: Some(self.metric(&R2)).filter(|r2| !r2.is_nan()),
            n: self.images.len(),
        }
    }

    fn tally(&self) -> Option<Tally> {
        let sum = |of: fn(f64, f64) -> f64| {
            self.truths.iter().zip(&self.predictions).map(|(t, p)| of(f64::from(*t), f64::from(*p))).sum()
        };
        Some(Tally::Value {
            absolute_errors: sum(|t, p| (p - t).abs()),
            squared_errors: sum(|t, p| (p - t).powi(2)),
            truths: sum(|t, _| t),
            squared_truths: sum(|t, _| t * t),
        })
    }

    fn line(&self) -> String {
        let f = self.all_figures();
        format!(
            "loss {:.4} (of standardized numbers)  MAE {:.4}  RMSE {:.4}  R² {:.4}",
            f.loss,
            f.mean_absolute_error,
            f.root_mean_squared_error,
            f.r2.unwrap_or(f64::NAN)
        )
    }

    fn lead(&self, name: &str, part: &str) -> String {
        let f = self.all_figures();
        format!(
            "Over {} {name} images, {part}, the mean absolute error of the {} is **{}** and R² is {:.3}.",
            f.n,
            escape_markup(self.quantity()),
            short(f.mean_absolute_error as f32),
            f.r2.unwrap_or(f64::NAN)
        )
    }

    fn show(
        &self,
        report: &mut Report,
        name: &str,
        _: Option<&Reject>,
        root: &Path,
        source: &str,
    ) -> Result<()> {
        let source = &format!("{source}, {name} images");
        let section = report.section(None, &format!("True and predicted: the {name} images"));
        let both = || self.truths.iter().zip(&self.predictions).map(|(t, p)| (f64::from(*t), f64::from(*p)));
        let quantity = self.quantity();
        let chart =
            Scatter::new(Axis::new(format!("true {quantity}")), Axis::new(format!("predicted {quantity}")))
                .series(Series::new("images", both()))
                .identity("exact");
        let caption = "Each image by its true number and the network's. On the line both are the same";
        section.figure(Figure::new(chart, caption, source));
        let f = self.all_figures();
        section.text(&format!(
            "In the units of the numbers, the mean absolute error (MAE) is {} and the root mean squared error (RMSE) {}. \
             The loss is the mean squared error of standardized numbers: less the training images' mean, divided by their standard \
             deviation.",
            short(f.mean_absolute_error as f32),
            short(f.root_mean_squared_error as f32)
        ));

        let error = |&i: &usize| (self.predictions[i] - self.truths[i]).abs();
        let mut order: Vec<usize> = (0..self.truths.len()).collect();
        order.sort_by(|a, b| error(b).total_cmp(&error(a)));
        let tile = |&i: &usize| -> Result<Tile> {
            let label = format!("{} → {}", short(self.truths[i]), short(self.predictions[i]));
            let tile = Tile::new(picture(&self.images, i)?, label);
            Ok(match self.images.path(i) {
                Some(path) => tile.source(path.strip_prefix(root).unwrap_or(&path).display().to_string()),
                None => tile,
            })
        };
        let tiles = order.iter().take(WORST).map(tile).collect::<Result<Vec<_>>>()?;
        let caption = format!("The {} largest errors: true → predicted", tiles.len());
        section.figure(Figure::new(Sheet::new(tiles, 8), caption, source));
        Ok(())
    }

    fn write_predictions(path: &Path, root: &Path, splits: &[(&str, &Self)]) -> Result<()> {
        let row = |of: &Self, i: usize| vec![of.truths[i].to_string(), of.predictions[i].to_string()];
        write_answers(path, root, splits, &[], row)
    }
}

/// A number with about four digits.
fn short(value: f32) -> String {
    let places = match value.abs() {
        1000.0.. => 0,
        100.0..1000.0 => 1,
        10.0..100.0 => 2,
        _ => 3,
    };
    number::decimal(f64::from(value), places)
}
