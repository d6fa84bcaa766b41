//! What all networks have in common: features, then a head.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{ModuleT, Result, Tensor};
use candle_nn::VarBuilder;
use firstsight_ops::Activation;

use crate::trace::Trace;
use crate::{Linear, Scheme};

/// A network without its last layer: (B, C, H, W) to features (B, F).
///
/// Its `forward_t` gives what the last layer sees, timm's "pre-logits".
pub trait Backbone: ModuleT {
    /// F: how many features an image has.
    fn n_features(&self) -> usize;
}

/// A backbone whose parts can be run one by one and which can state its layers.
pub trait Network: Backbone + Debug + Send + Sync {
    /// The last maps, before pooling and dense layers: (B, C, H, W) to (B, C', h, w), timm's `forward_features`.
    fn forward_features(&self, xs: &Tensor, train: bool) -> Result<Tensor>;

    /// From [`Network::forward_features`] to what the last layer sees, (B, F): timm's
    /// `forward_head(…, pre_logits=True)`.
    fn pre_logits(&self, features: &Tensor, train: bool) -> Result<Tensor>;

    /// The output of each layer in inference by its name, in order, for pictures: maps, then features.
    fn intermediates(&self, xs: &Tensor) -> Result<Vec<(String, Tensor)>>;

    /// Adds its layers to a walk.
    fn describe(&self, trace: &mut Trace) -> Result<()>;
}

/// Any [`Network`], shared.
#[derive(Debug, Clone)]
pub struct AnyBackbone(pub Arc<dyn Network>);

impl ModuleT for AnyBackbone {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.0.forward_t(xs, train)
    }
}

impl Backbone for AnyBackbone {
    fn n_features(&self) -> usize {
        self.0.n_features()
    }
}

/// A backbone of whatever origin and a dense head: (B, C, H, W) to (B, n_classes) logits.
#[derive(Debug, Clone)]
pub struct Classifier<B> {
    /// What makes features of images.
    pub backbone: B,
    /// What makes logits of features.
    pub head: Linear,
}

impl<B: Backbone> Classifier<B> {
    /// `backbone` with a new head for `n_classes` classes, whose variables `vb` gives.
    pub fn new(backbone: B, n_classes: usize, scheme: Scheme, vb: &VarBuilder<'_>) -> Result<Self> {
        let head = Linear::new(backbone.n_features(), n_classes, Activation::Identity, scheme, vb)?;
        Ok(Self { backbone, head })
    }
}

impl<B: Backbone> ModuleT for Classifier<B> {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.head.forward_t(&self.backbone.forward_t(xs, train)?, train)
    }
}
