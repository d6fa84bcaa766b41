//! The RUN folder: weights, configuration, history, figures, report and checkpoint of one training.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use candle_core::Device;
use firstsight_data::{ColorMode, DecodeSettings, Filter, Fit, Normalize, Unreadable};
use firstsight_models::{CropMode, ImageClassifier, InputSpec, Interpolation, ModelKind, Params};
use serde::{Deserialize, Serialize};

use crate::augmentation::Recipe;
use crate::files;

/// Files larger than this many pixels are refused from their header, before anything is allocated.
pub(crate) const MAX_PIXELS: u64 = 100_000_000;

pub(crate) struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder of a finished training.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let run = Self { path: path.to_path_buf() };
        for file in [run.config(), run.weights()] {
            if !file.is_file() {
                bail!("{} is not a run: {} is missing", path.display(), file.display());
            }
        }
        Ok(run)
    }

    /// The folder for a new training, or for one to go on with.
    pub(crate) fn create(path: &Path, resume: bool) -> Result<Self> {
        let run = Self { path: path.to_path_buf() };
        let checkpoint = run.checkpoint().join("last.safetensors").exists();
        match (checkpoint || run.weights().exists(), resume) {
            (true, true) if !checkpoint => bail!("{} has no checkpoint to go on from", path.display()),
            (true, false) => bail!("{} holds a run already: --resume goes on with it", path.display()),
            (false, true) => bail!("{} holds no run to go on with", path.display()),
            _ => {}
        }
        files::create_dir(&run.checkpoint())?;
        Ok(run)
    }

    /// The folder for a training that may replace an earlier one, or go on with it where there is one.
    pub(crate) fn reopen(path: &Path, resume: bool) -> Result<Self> {
        let run = Self { path: path.to_path_buf() };
        files::create_dir(&run.checkpoint())?;
        if !resume {
            let checkpoints =
                ["last.safetensors", "best.safetensors"].map(|name| run.checkpoint().join(name));
            for file in checkpoints.iter().chain(&[run.weights(), run.history(), run.metrics(), run.report()])
            {
                files::remove(file)?;
            }
        }
        Ok(run)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    pub(crate) fn weights(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.path.join("history.csv")
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.path.join("metrics.json")
    }

    pub(crate) fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// The trained network with its configuration.
    pub(crate) fn load(&self, device: &Device) -> Result<(ImageClassifier, RunConfig)> {
        let config: RunConfig = files::read_json(&self.config())?;
        let in_config = || format!("in {}", self.config().display());
        let (stated, named) = (config.num_classes, config.label_names.len());
        if stated != named {
            bail!("{} states {stated} classes and names {named}", self.config().display());
        }
        let kind = ModelKind::from_architecture(&config.architecture).with_context(in_config)?;
        config.pretrained_cfg.check().with_context(in_config)?;
        let params = Params::seeded(0, device);
        let input = config.pretrained_cfg.dims();
        let network = ImageClassifier::new(kind, input, config.label_names.len(), kind.scheme(), &params)?;
        params.load(&self.weights())?;
        Ok((network, config))
    }
}

/// `config.json`, in the form that timm and the Hugging Face hub use.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunConfig {
    pub(crate) architecture: String,
    pub(crate) num_classes: usize,
    pub(crate) num_features: usize,
    pub(crate) label_names: Vec<String>,
    pub(crate) pretrained_cfg: InputSpec,
    pub(crate) training: TrainingRecord,
}

/// How the training was done, as far as evaluation must repeat it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct TrainingRecord {
    pub(crate) seed: u64,
    pub(crate) split_seed: u32,
    pub(crate) batch_size: usize,
    pub(crate) learning_rate: f64,
    #[serde(default)]
    pub(crate) augmentation: Recipe,
}

/// How image files become a network's input.
pub(crate) trait Preprocess {
    fn normalize(&self) -> Normalize;
    fn decode_settings(&self) -> DecodeSettings;
}

impl Preprocess for InputSpec {
    fn normalize(&self) -> Normalize {
        Normalize { mean: self.mean.clone(), std: self.std.clone() }
    }

    fn decode_settings(&self) -> DecodeSettings {
        let (channels, height, width) = self.input_size;
        DecodeSettings {
            height,
            width,
            color: if channels == 1 { ColorMode::Grey } else { ColorMode::Rgb },
            filter: match self.interpolation {
                Interpolation::Nearest => Filter::Nearest,
                Interpolation::Bilinear => Filter::Bilinear,
                Interpolation::Bicubic => Filter::Bicubic,
                Interpolation::Lanczos => Filter::Lanczos,
            },
            fit: match self.crop_mode {
                CropMode::Squash => Fit::Stretch,
                CropMode::Center => Fit::CropCenter { pct: self.crop_pct },
            },
            unreadable: Unreadable::Fail,
            max_pixels: MAX_PIXELS,
        }
    }
}
