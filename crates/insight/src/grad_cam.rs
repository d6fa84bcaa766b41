//! Grad-CAM.

use candle_core::Tensor;
use firstsight_models::ImageClassifier;
use firstsight_train::gradient;

use crate::layers::{maps, position, run};
use crate::{Error, Result};

/// Grad-CAM of images (B, C, H, W) for one class each: maps (B, h, w) of the evidence for the class, of the size of
/// `layer`'s output.
///
/// A map is ReLU(Σ αₖ Aₖ), where Aₖ are the layer's feature maps and αₖ is the mean gradient of the class's logit over
/// map k (Selvaraju et al. 2017, equations 1 and 2). Values of 0 mean no evidence for the class. The maps of a network of
/// tokens are those of its patches' tokens; after the last block these have no effect on the class token.
///
/// # Errors
///
/// [`Error::UnknownLayer`] lists the layers, [`Error::NoMaps`] names a layer without feature maps, [`Error::Channel`]
/// states the range of classes, [`Error::Setting`] another number of classes than images.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_models::networks::SMALL_CNN;
/// use firstsight_models::{ImageClassifier, InputShape, Params};
///
/// let params = Params::seeded(1, &Device::Cpu).frozen(|_| true);
/// let input = InputShape::Map { channels: 1, height: 32, width: 32 };
/// let network = ImageClassifier::new(&SMALL_CNN, input, 10, SMALL_CNN.init, &params)?;
/// let images = Tensor::ones((2, 1, 32, 32), DType::F32, &Device::Cpu)?;
/// let maps = firstsight_insight::grad_cam(&network, &images, &[3, 7], "conv3")?;
/// assert_eq!(maps.dims(), [2, 8, 8]);
/// # Ok::<(), firstsight_insight::Error>(())
/// ```
pub fn grad_cam(network: &ImageClassifier, xs: &Tensor, classes: &[usize], layer: &str) -> Result<Tensor> {
    let stages = network.named_layers();
    let position = position(&stages, layer)?;
    let n_classes = network.n_classes();
    if let Some(&channel) = classes.iter().find(|&&class| class >= n_classes) {
        return Err(Error::Channel { layer: network.head_name().to_owned(), channel, n_channels: n_classes });
    }
    if classes.len() != xs.dim(0)? {
        let found = format!("{} for {} images", classes.len(), xs.dim(0)?);
        return Err(Error::Setting { setting: "classes", expected: "one per image", found });
    }
    let output = run(&stages[..=position], xs)?.detach();
    if maps(network, &output)?.rank() != 4 {
        return Err(Error::NoMaps { layer: layer.to_owned() });
    }
    let chosen: Vec<u32> = classes.iter().map(|&class| class as u32).collect();
    let chosen = Tensor::from_vec(chosen, (classes.len(), 1), xs.device())?;
    let logit =
        |output: &Tensor| run(&stages[position + 1..], output)?.contiguous()?.gather(&chosen, 1)?.sum_all();
    let (_, gradients) = gradient(logit, &output)?;
    let (maps, gradients) = (maps(network, &output)?, maps(network, &gradients)?);
    let weights = gradients.flatten_from(2)?.mean(2)?.unsqueeze(2)?.unsqueeze(3)?;
    Ok(maps.broadcast_mul(&weights)?.sum(1)?.relu()?)
}
