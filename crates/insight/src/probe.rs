//! Layers by name.

use candle_core::Tensor;
use firstsight_models::{ImageClassifier, InputShape, NamedLayer};

use crate::{Error, Result};

/// A layer that can be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// What it makes of one image.
    pub output: InputShape,
}

impl Layer {
    /// How many channels its maps, or how many features it has.
    pub fn n_channels(&self) -> usize {
        match self.output {
            InputShape::Map { channels, .. } => channels,
            InputShape::Features(n) => n,
        }
    }
}

/// The layers of `network` for images like `xs`, (B, C, H, W), in order, the last being its classes.
///
/// # Errors
/// An input that the network does not take.
pub fn layers(network: &ImageClassifier, xs: &Tensor) -> Result<Vec<Layer>> {
    let mut xs = xs.narrow(0, 0, 1)?;
    let mut found = Vec::new();
    for stage in network.named_layers() {
        xs = stage.forward(&xs)?;
        let output = match *xs.dims() {
            [_, channels, height, width] => InputShape::Map { channels, height, width },
            ref dims => InputShape::Features(dims.iter().skip(1).product()),
        };
        found.push(Layer { name: stage.name, output });
    }
    Ok(found)
}

/// What the layer called `name` makes of images (B, C, H, W) in inference: maps (B, C', h, w) or features (B, F). What
/// comes behind it is not run.
///
/// # Errors
/// [`Error::UnknownLayer`] lists the layers; an input that the network does not take.
pub fn activation(network: &ImageClassifier, xs: &Tensor, name: &str) -> Result<Tensor> {
    let stages = network.named_layers();
    Ok(run(&stages[..=place(&stages, name)?], xs)?)
}

/// The place of the stage called `name`.
pub(crate) fn place(stages: &[NamedLayer<'_>], name: &str) -> Result<usize> {
    stages.iter().position(|stage| stage.name == name).ok_or_else(|| Error::UnknownLayer {
        name: name.to_owned(),
        known: stages.iter().map(|stage| stage.name.clone()).collect(),
    })
}

/// `stages` one after the other.
pub(crate) fn run(stages: &[NamedLayer<'_>], xs: &Tensor) -> candle_core::Result<Tensor> {
    stages.iter().try_fold(xs.clone(), |xs, stage| stage.forward(&xs))
}
