//! Everything that is known about one network.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use candle_nn::VarBuilder;
use firstsight_data::InputSpec;

use crate::summary::keras_names;
use crate::summary::{Entry, Row};
use crate::weights::{OtherNames, Rules, Stranger};
use crate::{Error, Framework, Init, InputShape, LayerSpec, Network, Params, Result};

/// Constructor of a network without its last layer.
pub(crate) type Build = fn(&BuildArgs<'_>) -> Result<Arc<dyn Network>>;

/// A network by its name, with everything that is known about it: how it is built, what its input is, which weights are
/// published.
///
/// Each network's file defines one as a `static`, or an array with one for each variant of a family, and the
/// [registry](crate::registry) lists them. A handle is a `&'static ModelInfo`. Two are equal if their names are.
///
/// ```
/// use firstsight_models::registry;
///
/// let info = registry::find("mobilenetv2_100")?;
/// assert_eq!((info.name, info.usual_input), ("mobilenet-v2", (3, 224, 224)));
/// # Ok::<(), firstsight_models::Error>(())
/// ```
pub struct ModelInfo {
    /// Name on the command line and in errors: lower case, words joined by hyphens; of a family's variant timm's name.
    pub name: &'static str,
    /// timm's name, if timm has this network with the same tensor names.
    pub timm: Option<&'static str>,
    /// Other names that [`registry::find`](crate::registry::find) accepts.
    pub aliases: &'static [&'static str],
    /// Family of networks, such as `ResNet`.
    pub family: &'static str,
    /// Reference of the paper or other source.
    pub paper: &'static str,
    /// Constructor of the network without its last layer.
    pub build: fn(&BuildArgs<'_>) -> Result<Arc<dyn Network>>,
    /// The last layer for a number of classes.
    pub head: fn(usize) -> LayerSpec,
    /// Prefix of the first convolution's variables.
    pub first_conv: Option<&'static str>,
    /// Blocks in the order from the input, for gradual unfreezing: a name and prefixes of variables. The last layer is
    /// left out. If empty, every layer with variables is a block.
    pub blocks: &'static [(&'static str, &'static [&'static str])],
    /// Input of the paper, as (C, H, W).
    pub usual_input: (usize, usize, usize),
    /// Number of classes in the paper.
    pub usual_classes: usize,
    /// Side of the smallest square input.
    pub smallest_input: usize,
    /// Number that divides the height and the width of every input: the side of a patch.
    pub input_multiple: usize,
    /// Preprocessing for an input of (C, H, W).
    pub input_spec: fn(usize, usize, usize) -> InputSpec,
    /// Initialization of the paper or, if the paper does not state one, of its authors' framework.
    pub init: Init,
    /// Layer table with Keras's names, from the layers of a [trace](crate::summary::Trace).
    pub keras_names: fn(&[Entry]) -> Vec<Row>,
    /// Published weights, the usual ones first.
    pub weights: &'static [Weights],
    /// Names of the same network's tensors in other libraries.
    pub other_names: &'static [OtherNames],
    /// Tensors of published weights that are not the network's, such as those of its pretraining.
    pub left_out: &'static [&'static str],
    /// Networks whose weights are easily taken for this one's.
    pub strangers: &'static [Stranger],
}

/// Pretrained weights that are published on the Hugging Face Hub.
#[derive(Debug, Clone, Copy)]
pub struct Weights {
    /// Repository, `owner/name`.
    pub repository: &'static str,
    /// Branch, tag or commit.
    pub revision: &'static str,
    /// Safetensors file with the network's tensor names.
    pub file: &'static str,
    /// SHA-256 of the file in hexadecimal, if known.
    pub sha256: Option<&'static str>,
    /// License stated by the publisher, if known.
    pub license: Option<&'static str>,
    /// Top-1 accuracy on ImageNet's validation images stated by the publisher, in percent.
    pub top1: Option<f64>,
    /// Number of classes.
    pub n_classes: usize,
    /// Preprocessing.
    pub input: fn() -> InputSpec,
}

impl Weights {
    /// Weights of ImageNet's 1000 classes in a repository of timm's. License and top-1 are those that timm states for them,
    /// the latter at the size of `input`.
    pub const fn timm(
        repository: &'static str,
        license: &'static str,
        top1: f64,
        input: fn() -> InputSpec,
    ) -> Self {
        Self {
            repository,
            revision: "main",
            file: "model.safetensors",
            sha256: None,
            license: Some(license),
            top1: Some(top1),
            n_classes: 1000,
            input,
        }
    }
}

/// Arguments of a network's constructor.
#[derive(Clone)]
#[non_exhaustive]
pub struct BuildArgs<'a> {
    /// Shape of one input.
    pub input: InputShape,
    /// Initialization of new variables.
    pub init: Init,
    /// Framework whose conventions the network follows, where it offers a choice.
    pub framework: Framework,
    /// Source of the variables.
    pub vb: VarBuilder<'a>,
    /// The set that `vb` takes them from, if it is one: for layers that want a variable and not its tensor.
    pub params: Option<Params>,
}

impl<'a> BuildArgs<'a> {
    /// Arguments with PyTorch's conventions.
    pub fn new(input: InputShape, init: Init, vb: VarBuilder<'a>) -> Self {
        Self { input, init, framework: Framework::Torch, vb, params: None }
    }

    /// Channels of the input.
    ///
    /// # Errors
    ///
    /// An input that is no image.
    pub fn channels(&self) -> Result<usize> {
        Ok(self.input.map()?.0)
    }
}

impl ModelInfo {
    /// A network with the constructor `build`; the other fields are those of a network that takes RGB bytes, has a dense
    /// layer `head` and no published weights.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use firstsight_models::ModelInfo;
    /// use firstsight_models::networks::{SmallResNet, SmallResNetConfig};
    ///
    /// static RESNET_110: ModelInfo = ModelInfo {
    ///     paper: "He et al., Deep residual learning for image recognition, CVPR 2016",
    ///     usual_input: (3, 32, 32),
    ///     ..ModelInfo::new("resnet-110", |args| {
    ///         let config = SmallResNetConfig { channels: args.channels()?, ..SmallResNetConfig::of(18) };
    ///         Ok(Arc::new(SmallResNet::new(&config, args.init, &args.vb)?))
    ///     })
    /// };
    /// firstsight_models::registry::register(&RESNET_110)?;
    /// # Ok::<(), firstsight_models::Error>(())
    /// ```
    pub const fn new(name: &'static str, build: fn(&BuildArgs<'_>) -> Result<Arc<dyn Network>>) -> Self {
        Self {
            name,
            timm: None,
            aliases: &[],
            family: name,
            paper: "",
            build,
            head: |n_classes| LayerSpec::dense("head", n_classes),
            first_conv: None,
            blocks: &[],
            usual_input: (3, 224, 224),
            usual_classes: 1000,
            smallest_input: 1,
            input_multiple: 1,
            input_spec: InputSpec::bytes,
            init: Init::PyTorch,
            keras_names: keras_names::own,
            weights: &[],
            other_names: &[],
            left_out: &[],
            strangers: &[],
        }
    }

    /// The `architecture` of `config.json`: timm's name, if timm has the network, else its own.
    pub fn architecture(&self) -> &'static str {
        self.timm.unwrap_or(self.name)
    }

    /// Name of the last layer: `classifier` has the variables `classifier.weight` and `classifier.bias`.
    pub fn head_name(&self) -> &'static str {
        (self.head)(1).name
    }

    /// Preprocessing for an input of (C, H, W).
    pub fn input_spec(&self, channels: usize, height: usize, width: usize) -> InputSpec {
        (self.input_spec)(channels, height, width)
    }

    /// Every name of the network: its own, timm's, the aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let timm = self.timm.filter(|timm| *timm != self.name);
        std::iter::once(self.name).chain(timm).chain(self.aliases.iter().copied())
    }

    /// What a file of its weights may hold.
    pub(crate) fn rules(&self) -> Rules<'static> {
        let Self { left_out, other_names, strangers, .. } = *self;
        Rules { left_out, other_names, strangers, ..Rules::PLAIN }
    }

    /// Checks that the network takes an input of this shape.
    ///
    /// # Errors
    ///
    /// [`Error::InputTooSmall`], [`Error::InputMultiple`], and an input that is no image.
    pub fn check_input(&self, input: InputShape) -> Result<()> {
        self.check_size(input, self.smallest_input)
    }

    pub(crate) fn check_size(&self, input: InputShape, smallest: usize) -> Result<()> {
        check_size(self.name, input, smallest, self.input_multiple)
    }
}

/// Checks that both sides of an input are at least `smallest` and multiples of `divisor`.
pub(crate) fn check_size(
    model: &'static str,
    input: InputShape,
    smallest: usize,
    divisor: usize,
) -> Result<()> {
    let (_, height, width) = input.map()?;
    if height < smallest || width < smallest {
        return Err(Error::InputTooSmall { model, height, width, smallest });
    }
    if !height.is_multiple_of(divisor) || !width.is_multiple_of(divisor) {
        return Err(Error::InputMultiple { model, height, width, divisor });
    }
    Ok(())
}

impl PartialEq for ModelInfo {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ModelInfo {}

impl Hash for ModelInfo {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for ModelInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelInfo").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for ModelInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}
