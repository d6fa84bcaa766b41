//! A trained network that labels images.

use std::path::{Path, PathBuf};

use candle_core::Device;
use firstsight_data::{ImageDataset, InputSpec};
use firstsight_models::ImageClassifier;
use firstsight_train::{Predictions, predict};

use crate::training::in_order;
use crate::{Error, Pretrained, Result, RunFolder};

/// A network with its weights, its input and the names of its outputs.
#[derive(Debug)]
pub struct Classifier {
    /// The network.
    pub network: ImageClassifier,
    /// The file of its weights.
    pub weights: PathBuf,
    /// The source of its weights, in words.
    pub origin: String,
    /// Preprocessing of an image file.
    pub input: InputSpec,
    /// The names of its outputs.
    pub label_names: Vec<String>,
    device: Device,
}

/// A class with its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The index among the network's outputs.
    pub index: usize,
    /// The class's name.
    pub label: String,
    /// The probability, in [0, 1].
    pub probability: f32,
}

impl Classifier {
    /// The network of a run.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] for a folder that holds no run; those of [`RunFolder::load`].
    pub fn open(run: &Path, device: &Device) -> Result<Self> {
        let folder = RunFolder::open(run)?;
        let (network, config) = folder.load(device)?;
        Ok(Self {
            network,
            weights: folder.weights(),
            origin: format!("the run {}", run.display()),
            input: config.pretrained_cfg,
            label_names: config.label_names,
            device: device.clone(),
        })
    }

    /// A pretrained network with its own last layer. Classes without names are numbered.
    ///
    /// # Errors
    ///
    /// [`Error::Models`] for weights that do not fit the network; [`Error::Setting`] for another number of names than
    /// the network has outputs.
    pub fn pretrained(pretrained: Pretrained, names: Option<Vec<String>>, device: &Device) -> Result<Self> {
        let network = pretrained.load(device)?;
        let n = network.n_classes();
        let Pretrained { weights, input, origin, label_names, .. } = pretrained;
        let numbered = || (0..n).map(|class| format!("class {class}")).collect();
        let label_names = names.or(label_names).unwrap_or_else(numbered);
        if label_names.len() != n {
            return Err(Error::Setting {
                setting: "label names",
                expected: format!("one for each of {n} outputs"),
                found: label_names.len().to_string(),
            });
        }
        Ok(Self { network, weights, origin, input, label_names, device: device.clone() })
    }

    /// The classes of an image file, the most probable first.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a file that cannot be decoded.
    pub fn predict(&self, path: &Path) -> Result<Vec<Prediction>> {
        let predictions = self.predict_all(&[path])?;
        Ok(self.ranked(&predictions, 0, self.label_names.len()))
    }

    /// The probabilities of image files.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a file that cannot be decoded.
    pub fn predict_all(&self, paths: &[impl AsRef<Path>]) -> Result<Predictions> {
        let settings = self.input.decode_settings();
        let (channels, height, width) = self.input.input_size;
        let mut pixels = Vec::new();
        for path in paths {
            pixels.extend(firstsight_data::decode_image(path.as_ref(), &settings)?);
        }
        let unknown = vec![0; paths.len()];
        let images =
            ImageDataset::from_pixels(pixels, (height, width, channels), unknown, self.label_names.clone())?;
        Ok(predict(&self.network, &in_order(&images, &self.input, &self.device)?)?)
    }

    /// The `n` most probable classes of image `index`, best first.
    pub fn ranked(&self, predictions: &Predictions, index: usize, n: usize) -> Vec<Prediction> {
        let ranked = predictions.ranked(index, n).into_iter();
        ranked
            .map(|(index, probability)| Prediction {
                index,
                label: self.label_names[index].clone(),
                probability,
            })
            .collect()
    }
}
