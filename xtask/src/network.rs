//! The network that a command looks at: a run's, or a pretrained one.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use candle_core::Device;
use firstsight_models::{ImageClassifier, InputSpec, ModelInfo};

use firstsight_transfer::Pretrained;

use crate::run::RunFolder;
use crate::{hub, values};

/// Which network, as typed.
#[derive(Debug, clap::Args)]
pub(crate) struct NetworkArgs {
    /// The run whose network it is
    #[arg(long, required_unless_present = "pretrained", conflicts_with = "pretrained", value_name = "RUN")]
    run: Option<PathBuf>,
    /// A pretrained network instead: mobilenet-v2, xception
    #[arg(long, value_parser = values::model, value_name = "MODEL")]
    pretrained: Option<&'static ModelInfo>,
    /// Its weights: a hub repository (owner/name), a folder with model.safetensors and config.json, or a file
    /// [default: the published ones, from the hub]
    #[arg(long, requires = "pretrained", conflicts_with = "run", value_name = "HUB_ID, FOLDER or FILE")]
    weights: Option<String>,
    /// The names of its classes in the order of its outputs, one a line [default: those of its config.json, or
    /// ImageNet's where it says so]
    #[arg(long, requires = "pretrained", conflicts_with = "run", value_name = "FILE")]
    labels: Option<PathBuf>,
}

/// A network with its weights, what it takes and what its outputs mean.
pub(crate) struct Opened {
    pub(crate) network: ImageClassifier,
    /// The file of its weights.
    pub(crate) weights: PathBuf,
    /// Where they come from, in words.
    pub(crate) origin: String,
    pub(crate) input: InputSpec,
    /// One an output.
    pub(crate) label_names: Vec<String>,
}

impl NetworkArgs {
    pub(crate) fn open(&self, device: &Device) -> Result<Opened> {
        match (&self.run, self.pretrained) {
            (Some(run), _) => {
                let folder = RunFolder::open(run)?;
                let (network, config) = folder.load(device)?;
                Ok(Opened {
                    network,
                    weights: folder.weights(),
                    origin: format!("the run {}", run.display()),
                    input: config.pretrained_cfg,
                    label_names: config.label_names,
                })
            }
            (None, Some(model)) => self.open_pretrained(model, device),
            (None, None) => bail!("expected --run RUN or --pretrained MODEL"),
        }
    }

    fn open_pretrained(&self, model: &'static ModelInfo, device: &Device) -> Result<Opened> {
        let pretrained = hub::locate(model, self.weights.as_deref())?;
        let (network, _) = pretrained.load(device)?;
        let n = network.n_classes();
        let label_names = match &self.labels {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("can't read {}", path.display()))?;
                let names: Vec<String> = text.lines().map(str::to_owned).collect();
                if names.len() != n {
                    bail!("{} names {} classes, and the network has {n}", path.display(), names.len());
                }
                names
            }
            None => pretrained
                .label_names
                .clone()
                .unwrap_or_else(|| (0..n).map(|class| format!("class {class}")).collect()),
        };
        let Pretrained { weights, input, origin, .. } = pretrained;
        Ok(Opened { network, weights, origin, input, label_names })
    }
}
