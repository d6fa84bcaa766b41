//! The network of a command: a run's, or a pretrained one.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ArgGroup;
use firstsight_data::Reading;
use firstsight_transfer::Classifier;

use crate::{
    context::Context,
    hub, output,
    reading::ReadingArgs,
    values::{self, Backbone},
};

/// The network, as named on the command line.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("network").required(true).multiple(true).args(["run", "pretrained", "weights"]))]
pub(crate) struct NetworkArgs {
    /// Run of a trained network
    #[arg(long, conflicts_with_all = ["pretrained", "weights", "labels"], value_name = "RUN")]
    run: Option<PathBuf>,
    /// Pretrained network: a name of `firstsight models`, timm's name of weights (resnet50.a1_in1k), or a hub repository in
    /// timm's layout (owner/name)
    #[arg(long, value_parser = values::backbone, value_name = "MODEL")]
    pretrained: Option<Backbone>,
    /// Pretrained weights: a hub repository (owner/name), a folder with model.safetensors and config.json, or a file
    /// [default: the published ones, from the hub]
    #[arg(long, value_name = "HUB_ID, FOLDER or FILE")]
    weights: Option<String>,
    /// File of class names in the order of the network's outputs, one per line [default: those of the weights'
    /// config.json, or ImageNet's]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
}

impl NetworkArgs {
    /// Refuses to write to `path` where that is a file of the network.
    pub(crate) fn check_apart(&self, path: &Path) -> Result<()> {
        let weights = self.weights.as_ref().map(PathBuf::from);
        output::check_apart_from_runs(path, self.run.as_slice())?;
        output::check_apart_from_runs(path, weights.as_slice())?;
        output::check_apart(path, &weights.into_iter().chain(self.labels.clone()).collect::<Vec<_>>())
    }

    /// The network. It reads files as flags say, or else as it was trained: a run without a word of that as by Pillow,
    /// published weights as viewers do.
    pub(crate) fn open(&self, context: &Context) -> Result<Classifier> {
        let device = &context.runtime.device;
        let (mut classifier, usual) = match &self.run {
            Some(run) => {
                let classifier = Classifier::open(run, device)?;
                let usual = classifier.input.reading;
                (classifier, usual)
            }
            None => {
                let named = values::model_and_weights(self.pretrained.as_ref(), self.weights.as_deref());
                let (model, weights) = named.map_err(anyhow::Error::msg)?;
                let pretrained = hub::locate_any(model, weights, None, &context.runtime)?;
                pretrained.check_last_layer()?;
                let names =
                    self.labels.as_deref().map(|path| names(path, pretrained.n_classes)).transpose()?;
                let usual = pretrained.reading.unwrap_or(Reading::viewer());
                (Classifier::pretrained(pretrained, names, device)?, usual)
            }
        };
        classifier.input.reading = self.reading.over(usual);
        Ok(classifier.within(&context.runtime))
    }
}

/// The names of `n` classes, one a line.
fn names(path: &Path, n: usize) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let names: Vec<String> = text.lines().map(str::to_owned).collect();
    if names.len() != n {
        bail!("{} names {} classes, and the network has {n}", path.display(), names.len());
    }
    Ok(names)
}
