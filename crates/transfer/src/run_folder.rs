//! The RUN folder: weights, configuration, history, figures, report and checkpoint of one training.

use std::path::{Path, PathBuf};

use candle_core::Device;
use firstsight_data::{AugmentationConfig, InputSpec};
use firstsight_models::{ImageClassifier, registry};
use serde::{Deserialize, Serialize};

use crate::{Error, Pretrained, Result, files};

pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder of a finished training.
    pub fn open(path: &Path) -> Result<Self> {
        let run = Self { path: path.to_path_buf() };
        for file in [run.config(), run.weights()] {
            if !file.is_file() {
                return Err(run.error(format!("is not a run: {} is missing", file.display())));
            }
        }
        Ok(run)
    }

    /// The folder for a new training, or for one to go on with.
    pub fn create(path: &Path, resume: bool) -> Result<Self> {
        let run = Self { path: path.to_path_buf() };
        let checkpoint = run.checkpoint().join("last.safetensors").exists();
        match (checkpoint || run.weights().exists(), resume) {
            (true, true) if !checkpoint => return Err(run.error("has no checkpoint to resume".to_owned())),
            (true, false) => {
                return Err(run.error("already holds a run: --resume continues it".to_owned()));
            }
            (false, true) => return Err(run.error("holds no run to resume".to_owned())),
            _ => {}
        }
        files::create_dir(&run.checkpoint())?;
        Ok(run)
    }

    /// The folder for a training that may replace an earlier one, or go on with it where there is one.
    pub fn reopen(path: &Path, resume: bool) -> Result<Self> {
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

    fn error(&self, reason: String) -> Error {
        Error::Run { path: self.path.clone(), reason }
    }

    /// Removes what [`RunFolder::create`] made, for a training that left nothing in it.
    pub fn remove_if_empty(&self) {
        for folder in [self.checkpoint(), self.path.clone()] {
            // A folder that holds something stays.
            let _ = std::fs::remove_dir(folder);
        }
    }

    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    pub fn weights(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    pub fn history(&self) -> PathBuf {
        self.path.join("history.csv")
    }

    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.json")
    }

    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// The trained network with its configuration: a run of ours, or a folder that timm wrote.
    pub fn load(&self, device: &Device) -> Result<(ImageClassifier, RunConfig)> {
        let config = self.config();
        let unusable = |reason: String| Error::Config { path: config.clone(), reason };
        let text = std::fs::read_to_string(&config).map_err(Error::io("read", &config))?;
        let StatedConfig { architecture, label_names, training } =
            serde_json::from_str(&text).map_err(|e| unusable(e.to_string()))?;
        let kind = registry::find(&architecture).map_err(|e| unusable(e.to_string()))?;
        let found = Pretrained::local(kind, &self.path)?;
        let n = found.n_classes;
        if let (Some(names), None) = (&label_names, &found.label_names) {
            return Err(unusable(format!("it names {} classes, and the network has {n}", names.len())));
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
pub struct RunConfig {
    pub architecture: String,
    pub num_classes: usize,
    pub num_features: usize,
    pub label_names: Vec<String>,
    /// Whether the file names the classes; else they are named by their places.
    #[serde(skip)]
    pub named: bool,
    pub pretrained_cfg: InputSpec,
    /// Where the training was done here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingRecord>,
}

impl RunConfig {
    /// The file's content: with what timm wants to know in `pretrained_cfg` of networks that it has.
    pub fn document(&self) -> Result<serde_json::Value> {
        let unusable =
            |e: serde_json::Error| Error::Config { path: "config.json".into(), reason: e.to_string() };
        let mut document = serde_json::to_value(self).map_err(unusable)?;
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
pub struct TrainingRecord {
    pub seed: u64,
    pub split_seed: u32,
    pub batch_size: usize,
    pub learning_rate: f64,
    #[serde(default)]
    pub augmentation: AugmentationConfig,
}
