//! Layers by name.

use candle_core::Tensor;
use firstsight_models::{ImageClassifier, InputShape, NamedLayer};

use crate::{Error, Result};

/// A named layer of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Name of the layer.
    pub name: String,
    /// Shape of its output for one image.
    pub output: InputShape,
}

impl Layer {
    /// The number of channels of its feature maps, or of its features.
    pub fn n_channels(&self) -> usize {
        match self.output {
            InputShape::Map { channels, .. } | InputShape::Tokens { channels, .. } => channels,
            InputShape::Features(n) => n,
        }
    }
}

/// The layers of `network` in order, the classifier last, with their output shapes for images like `xs` (B, C, H, W).
///
/// # Errors
///
/// An input that the network does not take.
pub fn layers(network: &ImageClassifier, xs: &Tensor) -> Result<Vec<Layer>> {
    let mut xs = xs.narrow(0, 0, 1)?;
    let mut found = Vec::new();
    for stage in network.named_layers() {
        xs = stage.forward(&xs)?;
        let output = match *maps(network, &xs)?.dims() {
            [_, channels, height, width] => InputShape::Map { channels, height, width },
            ref dims => InputShape::Features(dims.iter().skip(1).product()),
        };
        found.push(Layer { name: stage.name, output });
    }
    Ok(found)
}

/// The output of the layer called `name` for images (B, C, H, W) in inference mode: feature maps (B, C', h, w), which the
/// patches' tokens are too, or features (B, F). Later layers are not run.
///
/// # Errors
///
/// [`Error::UnknownLayer`] lists the layers; an input that the network does not take.
pub fn activation(network: &ImageClassifier, xs: &Tensor, name: &str) -> Result<Tensor> {
    let stages = network.named_layers();
    Ok(maps(network, &run(&stages[..=position(&stages, name)?], xs)?)?)
}

/// Tokens (B, N, C) as the maps (B, C, h, w) of their patches; any other output unchanged.
pub(crate) fn maps(network: &ImageClassifier, output: &Tensor) -> candle_core::Result<Tensor> {
    match network.backbone().token_grid() {
        Some(grid) if output.rank() == 3 => grid.maps(output),
        _ => Ok(output.clone()),
    }
}

/// The index of the layer called `name`.
pub(crate) fn position(stages: &[NamedLayer<'_>], name: &str) -> Result<usize> {
    stages.iter().position(|stage| stage.name == name).ok_or_else(|| Error::UnknownLayer {
        name: name.to_owned(),
        known: stages.iter().map(|stage| stage.name.clone()).collect(),
    })
}

/// The output of the last of `stages`.
pub(crate) fn run(stages: &[NamedLayer<'_>], xs: &Tensor) -> candle_core::Result<Tensor> {
    stages.iter().try_fold(xs.clone(), |xs, stage| stage.forward(&xs))
}
