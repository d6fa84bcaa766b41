//! The RUN folder: weights, configuration, history, figures, report and checkpoint of one training.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use candle_core::Device;
use firstsight_data::{ColorMode, DecodeSettings, Filter, Fit, Normalize, Unreadable};
use firstsight_models::{CropMode, ImageClassifier, InputSpec, Interpolation, registry};
use firstsight_transfer::Pretrained;
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

    /// Removes what [`RunFolder::create`] made, for a training that left nothing in it.
    pub(crate) fn remove_if_empty(&self) {
        for folder in [self.checkpoint(), self.path.clone()] {
            // A folder that holds something stays.
            let _ = std::fs::remove_dir(folder);
        }
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

    /// The trained network with its configuration: a run of ours, or a folder that timm wrote.
    pub(crate) fn load(&self, device: &Device) -> Result<(ImageClassifier, RunConfig)> {
        let StatedConfig { architecture, label_names, training } = files::read_json(&self.config())?;
        let kind =
            registry::find(&architecture).with_context(|| format!("in {}", self.config().display()))?;
        let found = Pretrained::local(kind, &self.path)?;
        let n = found.n_classes;
        if let (Some(names), None) = (&label_names, &found.label_names) {
            bail!("{} names {} classes, and the network has {n}", self.config().display(), names.len());
        }
        let (network, _) = found.load(device)?;
        let named = found.label_names.is_some();
        let by_place = || (0..n).map(|class| format!("class {class}")).collect();
        let config = RunConfig {
            architecture,
            num_classes: n,
            num_features: network.n_features(),
            label_names: found.label_names.unwrap_or_else(by_place),
            named,
            pretrained_cfg: found.input,
            training,
        };
        Ok((network, config))
    }
}

/// What a run's `config.json` must or may hold beside what any pretrained network's does.
#[derive(Deserialize)]
struct StatedConfig {
    architecture: String,
    label_names: Option<Vec<String>>,
    training: Option<TrainingRecord>,
}

/// `config.json`, in the form that timm and the Hugging Face hub use.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunConfig {
    pub(crate) architecture: String,
    pub(crate) num_classes: usize,
    pub(crate) num_features: usize,
    pub(crate) label_names: Vec<String>,
    /// Whether the file names the classes; else they are named by their places.
    #[serde(skip)]
    pub(crate) named: bool,
    pub(crate) pretrained_cfg: InputSpec,
    /// Where the training was done here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) training: Option<TrainingRecord>,
}

impl RunConfig {
    /// The file's content: with what timm wants to know in `pretrained_cfg` of networks that it has.
    pub(crate) fn document(&self) -> Result<serde_json::Value> {
        let mut document = serde_json::to_value(self)?;
        let kind = registry::find(&self.architecture)?;
        if let (Some(_), Some(first)) = (kind.timm, kind.first_conv) {
            let fields = &mut document["pretrained_cfg"];
            fields["num_classes"] = self.num_classes.into();
            fields["first_conv"] = first.into();
            fields["classifier"] = kind.head_name().into();
        }
        Ok(document)
    }
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
