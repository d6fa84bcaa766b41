//! Networks of [candle-transformers](https://docs.rs/candle-transformers) as backbones, under timm's names.
//!
//! [`CandleModel`] lists those that are known by name, MobileNetV4, with their input and the hub's repository of their weights.
//! [`register`] adds them to the registry of `firstsight_models`, which lacks them, so that everything that takes a network by name takes
//! these. [`CandleBackbone::load`] reads weights as timm publishes them, and [`CandleBackbone::from_fn`] makes a backbone of any
//! other network.
//!
//! The same weights give features (what the last layer sees) that differ from timm's in float32 by less than 1e-5 of the largest
//! feature; `tests/candle_models.rs` holds them to it.
//!
//! All run as in inference: batch norm keeps its statistics in training too. The variables all get gradients.

mod build;
mod model;
mod names;
mod registered;

use std::path::Path;

use candle_core::{Device, ModuleT, Result as CandleResult, Tensor};
use candle_nn::{Func, Module as _};
use firstsight_models::Params;

pub use self::model::{CandleModel, Family};
pub use self::registered::{MOBILENETS_V4, register};
use crate::Result;

/// A network without its last layer: (B, 3, H, W) to (B, F).
///
/// ```no_run
/// use candle_core::Device;
/// use firstsight_transfer::candle_models::{CandleBackbone, CandleModel};
///
/// let model: CandleModel = "mobilenetv4_conv_small".parse()?;
/// let (backbone, _params) = CandleBackbone::load(model, "model.safetensors".as_ref(), &Device::Cpu)?;
/// assert_eq!(backbone.n_features(), 1280);
/// # Ok::<(), firstsight_transfer::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CandleBackbone {
    name: String,
    n_features: usize,
    forward: Func<'static>,
}

impl CandleBackbone {
    /// The network with variables of `params` under timm's names: those that are there, or new ones.
    ///
    /// To train the last layer alone, freeze the rest: `&params.frozen(|_| true)`.
    ///
    /// # Errors
    /// Variables of another shape.
    pub fn new(model: CandleModel, params: &Params) -> Result<Self> {
        let forward = build::network(model, params)?;
        Ok(Self { name: model.architecture().to_owned(), n_features: model.n_features(), forward })
    }

    /// The network, frozen, with the weights of a safetensors file as timm publishes it. The last layer's are left out.
    ///
    /// # Errors
    /// [`firstsight_models::Error::Mismatch`] names the first missing, unexpected and misshapen tensor.
    pub fn load(model: CandleModel, path: &Path, device: &Device) -> Result<(Self, Params)> {
        let params = Params::zeros(device);
        Self::new(model, &params)?;
        params.load_except(path, |name| model.is_left_out(name))?;
        // Some layers copy what they are built from.
        let backbone = Self::new(model, &params.frozen(|_| true))?;
        Ok((backbone, params))
    }

    /// Any other network: `forward` takes (B, 3, H, W) to features (B, F), to maps (B, F, h, w), whose means are taken,
    /// or to tokens (B, N, F), whose first is taken.
    ///
    /// ```
    /// use candle_core::{DType, Device, ModuleT as _, Tensor};
    /// use firstsight_transfer::candle_models::CandleBackbone;
    ///
    /// let colors = CandleBackbone::from_fn("mean color", 3, |images| Ok(images.clone()));
    /// let images = Tensor::ones((2, 3, 8, 8), DType::F32, &Device::Cpu)?;
    /// assert_eq!(colors.forward_t(&images, false)?.dims(), [2, 3]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn from_fn(
        name: &str,
        n_features: usize,
        forward: impl Fn(&Tensor) -> CandleResult<Tensor> + Send + Sync + 'static,
    ) -> Self {
        let forward = Func::new(move |images: &Tensor| {
            let outputs = forward(images)?;
            match outputs.rank() {
                4 => outputs.mean((2, 3)),
                3 => outputs.narrow(1, 0, 1)?.squeeze(1),
                _ => Ok(outputs),
            }
        });
        Self { name: name.to_owned(), n_features, forward }
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// F: how many features an image has.
    pub fn n_features(&self) -> usize {
        self.n_features
    }
}

impl ModuleT for CandleBackbone {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> CandleResult<Tensor> {
        let features = self.forward.forward(xs)?;
        let expected = [xs.dim(0)?, self.n_features];
        if features.dims() != expected {
            candle_core::bail!("{}: expected features {expected:?}, found {:?}", self.name, features.dims());
        }
        Ok(features)
    }
}
