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

type Compute<'a> = Box<dyn Fn(&Tensor) -> Result<Tensor> + 'a>;

/// A named layer or block of a [`Network`] in inference.
pub struct Stage<'a> {
    /// Its name: the prefix of its variables, or of the last of them.
    pub name: String,
    run: Compute<'a>,
}

impl<'a> Stage<'a> {
    /// The stage `name` that computes `run`.
    pub fn new(name: impl Into<String>, run: impl Fn(&Tensor) -> Result<Tensor> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    /// From the output of the stage before, or the network's input, to its own.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        (self.run)(xs)
    }
}

impl Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A backbone whose parts can be run one by one and which can state its layers.
pub trait Network: Backbone + Debug + Send + Sync {
    /// The last maps, before pooling and dense layers: (B, C, H, W) to (B, C', h, w), timm's `forward_features`.
    fn forward_features(&self, xs: &Tensor, train: bool) -> Result<Tensor>;

    /// From [`Network::forward_features`] to what the last layer sees, (B, F): timm's
    /// `forward_head(…, pre_logits=True)`.
    fn pre_logits(&self, features: &Tensor, train: bool) -> Result<Tensor>;

    /// The network in inference as a chain of named layers, from the input to what the last layer sees, for pictures of
    /// what each does. No layers run fused that have names of their own.
    fn stages(&self) -> Vec<Stage<'_>>;

    /// The output of each of the [stages](Network::stages) by its name, in order: maps, then features.
    fn intermediates(&self, xs: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let mut xs = xs.clone();
        let mut outputs = Vec::new();
        for stage in self.stages() {
            xs = stage.forward(&xs)?;
            outputs.push((stage.name, xs.clone()));
        }
        Ok(outputs)
    }

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
