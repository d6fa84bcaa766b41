//! Images with what a network makes of them.

use std::path::Path;

use firstsight_data::{ImageDataset, InputSpec};
use firstsight_models::ImageClassifier;
use firstsight_train::{Calibrated, Metrics, Predictions};

use crate::task::{Target, TaskEvaluation as _};
use crate::{ClassMeans, EvaluationFigures, Figures, Rejection, Result, Runtime, Thresholds};

/// Images with a network's figures and predictions.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The images.
    pub images: ImageDataset,
    /// Loss and metrics.
    pub metrics: Metrics,
    /// The probabilities of each image's classes, as the network gives them.
    pub predictions: Predictions,
    /// Each image's distance to the nearest class mean, where there are means.
    pub distances: Option<Vec<f32>>,
    /// Each image's place on the [map](crate::FeatureMap) of the training images' features; empty where there is none.
    pub on_map: Vec<[f32; 2]>,
    /// The temperature of the calibrated probabilities, where there is one.
    pub temperature: Option<f64>,
}

impl Evaluation {
    /// Measures a network on images, with their distances where there are class means.
    ///
    /// # Errors
    ///
    /// Those of [`TaskEvaluation::measure_task`](crate::TaskEvaluation::measure_task).
    pub fn measure(
        network: &ImageClassifier,
        images: ImageDataset,
        input: &InputSpec,
        means: Option<&ClassMeans>,
        runtime: &Runtime,
    ) -> Result<Self> {
        Self::measure_with(network, images, &Target::Class, input, means, runtime)
    }

    /// The file of image `i` relative to the data's folder `root`, if the images are files.
    pub fn path(&self, i: usize, root: &Path) -> Option<String> {
        let path = self.images.path(i)?;
        Some(path.strip_prefix(root).unwrap_or(&path).display().to_string())
    }

    /// The probabilities at the temperature, if there is one.
    pub fn calibrated(&self) -> Calibrated<'_> {
        self.predictions.calibrated(self.temperature)
    }

    /// Loss and accuracy.
    pub fn summary(&self) -> Figures {
        (&self.metrics).into()
    }

    /// All figures, with the images' class names.
    pub fn figures(&self) -> EvaluationFigures {
        EvaluationFigures::new(self, self.images.classes())
    }

    /// For each image, why it is taken for none of the classes, if it is.
    pub fn rejections(&self, thresholds: &Thresholds) -> Vec<Option<Rejection>> {
        let calibrated = self.calibrated();
        let distance = |i: usize| self.distances.as_ref().map(|distances| distances[i]);
        (0..self.predictions.len()).map(|i| thresholds.judge(&calibrated.row(i), distance(i))).collect()
    }
}
