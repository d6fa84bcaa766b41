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

/// Of a network's [`layers`], the one where Grad-CAM looks: the last one of maps of at least 7 pixels a side, or else the last
/// one of maps. After a transformer's last block, the patches' tokens have no effect on the class token.
pub fn layer_for_evidence<'a>(network: &ImageClassifier, layers: &'a [Layer]) -> Option<&'a Layer> {
    // The last block and the normalization.
    let without_effect = if network.backbone().token_grid().is_some() { 2 } else { 0 };
    let is_map = |layer: &&Layer| matches!(layer.output, InputShape::Map { .. });
    let maps = || layers.iter().rev().filter(is_map).skip(without_effect);
    let fine = |layer: &&Layer| matches!(layer.output, InputShape::Map { height, width, .. } if height.min(width) >= 7);
    maps().find(fine).or_else(|| maps().next())
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
