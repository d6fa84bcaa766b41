//! Images with what a network makes of them.

use std::path::Path;

use candle_core::Device;
use firstsight_data::{ImageDataset, InputSpec};
use firstsight_models::ImageClassifier;
use firstsight_train::{Metrics, Predictions, evaluate_and_predict};

use crate::training::{LOSS, in_order, metrics};
use crate::{EvaluationFigures, Figures, Result};

/// Images with a network's figures and predictions.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The images.
    pub images: ImageDataset,
    /// Loss and metrics.
    pub metrics: Metrics,
    /// The probabilities of each image's classes.
    pub predictions: Predictions,
}

impl Evaluation {
    /// Measures a network on images.
    ///
    /// # Errors
    ///
    /// Those of [`evaluate_and_predict`].
    pub fn measure(
        network: &ImageClassifier,
        images: ImageDataset,
        input: &InputSpec,
        device: &Device,
    ) -> Result<Self> {
        let batches = in_order(&images, input, device)?;
        let (metrics, predictions) =
            evaluate_and_predict(network, &batches, &LOSS, metrics(network.n_classes()))?;
        Ok(Self { images, metrics, predictions })
    }

    /// The file of image `i` relative to the data's folder `root`, if the images are files.
    pub fn path(&self, i: usize, root: &Path) -> Option<String> {
        let path = self.images.paths().get(i)?;
        Some(path.strip_prefix(root).unwrap_or(path).display().to_string())
    }

    /// Loss and accuracy.
    pub fn summary(&self) -> Figures {
        (&self.metrics).into()
    }

    /// All figures, with the images' class names.
    pub fn figures(&self) -> EvaluationFigures {
        EvaluationFigures::new(&self.metrics, &self.predictions, self.images.classes())
    }
}
