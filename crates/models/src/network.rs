//! The trait that every network implements.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use candle_core::{ModuleT, Result, Tensor};

use crate::summary::Trace;
use crate::weights::Resizing;

/// Tokens that stand for patches of the image, after tokens that stand for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenGrid {
    /// Tokens before those of the patches: class token and registers.
    pub n_prefix: usize,
    /// Rows of patches.
    pub height: usize,
    /// Columns of patches.
    pub width: usize,
}

impl TokenGrid {
    /// The patches' tokens as feature maps: (B, N, C) to (B, C, h, w).
    pub fn maps(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, _, channels) = tokens.dims3()?;
        let patches = tokens.narrow(1, self.n_prefix, self.height * self.width)?;
        patches.transpose(1, 2)?.reshape((batch, channels, self.height, self.width))
    }
}

/// A network without its last layer: images (B, C, H, W) to features (B, F).
///
/// An [`ImageClassifier`](crate::ImageClassifier) is a network and a last layer. A new network implements this trait and
/// describes itself by a [`ModelInfo`](crate::ModelInfo).
pub trait Network: fmt::Debug + Send + Sync {
    /// F, the number of features of one image.
    fn n_features(&self) -> usize;

    /// The last feature maps, (B, C', h, w), before pooling and dense layers: timm's `forward_features`. A network that
    /// has a [token grid](Network::token_grid) gives its last tokens, (B, N, C').
    fn forward_features(&self, xs: &Tensor, train: bool) -> Result<Tensor>;

    /// The input of the last layer, (B, F), from the feature maps: timm's `forward_head(…, pre_logits=True)`.
    fn pre_logits(&self, features: &Tensor, train: bool) -> Result<Tensor>;

    /// Appends the network's layers to `trace`, in the order of the forward pass.
    fn describe(&self, trace: &mut Trace) -> Result<()>;

    /// The network in inference as a chain of named layers from the input to [`Network::pre_logits`], for feature
    /// visualization. Layers that have names of their own are not fused.
    ///
    /// By default these are `features` and `pre_logits`.
    fn named_layers(&self) -> Vec<NamedLayer<'_>> {
        vec![
            NamedLayer::new("features", |xs| self.forward_features(xs, false)),
            NamedLayer::new("pre_logits", |xs| self.pre_logits(xs, false)),
        ]
    }

    /// The place of each patch's token in (B, N, C), for a network of tokens.
    fn token_grid(&self) -> Option<TokenGrid> {
        None
    }

    /// How a file's tensor for another size of input becomes the variable `name`, if it is one and can. `found` is its shape there,
    /// `size` the height and width of the file's inputs where they are known.
    fn resizing(&self, _name: &str, _found: &[usize], _size: Option<(usize, usize)>) -> Option<Resizing> {
        None
    }

    /// Whether the network takes images of any size, and not only of the one that it was built for.
    fn takes_any_size(&self) -> bool {
        false
    }
}

type Forward<'a> = Box<dyn Fn(&Tensor) -> Result<Tensor> + 'a>;

/// A layer or block of a [`Network`] in inference.
pub struct NamedLayer<'a> {
    /// Prefix of its variables, or of the last of them.
    pub name: String,
    forward: Forward<'a>,
}

impl<'a> NamedLayer<'a> {
    /// A layer that computes `forward`.
    pub fn new(name: impl Into<String>, forward: impl Fn(&Tensor) -> Result<Tensor> + 'a) -> Self {
        Self { name: name.into(), forward: Box::new(forward) }
    }

    /// The output for the output of the previous layer, or for the network's input.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        (self.forward)(xs)
    }
}

impl fmt::Debug for NamedLayer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedLayer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A shared [`Network`] as a module: images (B, C, H, W) to features (B, F), timm's "pre-logits".
#[derive(Debug, Clone)]
pub struct Backbone(Arc<dyn Network>);

impl Backbone {
    /// `network` as a module.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self(network)
    }

    /// Each [named layer](Network::named_layers) with its output, in order.
    pub fn intermediates(&self, xs: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let mut xs = xs.clone();
        let mut outputs = Vec::new();
        for layer in self.named_layers() {
            xs = layer.forward(&xs)?;
            outputs.push((layer.name, xs.clone()));
        }
        Ok(outputs)
    }
}

impl Deref for Backbone {
    type Target = dyn Network;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl ModuleT for Backbone {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.pre_logits(&self.forward_features(xs, train)?, train)
    }
}
