use candle_core::{ModuleT, Result as CandleResult, Tensor};

use crate::layers::Sequential;
use crate::summary::Style;
use crate::trace::{Kind, Trace};
use crate::{
    AnyBackbone, Backbone, Dims, Error, ModelConfig, ModelKind, Params, Result, Scheme, Stage, Summary,
};

/// Any of the crate's networks as a classifier for images: (B, C, H, W) float32 to (B, n_classes) logits. What the
/// values are is the network's [`crate::InputSpec`].
///
/// ```
/// use candle_core::{DType, Device, ModuleT, Tensor};
/// use firstsight_models::{Dims, ImageClassifier, ModelKind, Params, Scheme};
///
/// let params = Params::seeded(123, &Device::Cpu);
/// let input = Dims::Map { channels: 1, height: 80, width: 60 };
/// let cnn = ImageClassifier::new(ModelKind::SmallCnn, input, 55, Scheme::Keras, &params)?;
/// assert_eq!(cnn.summary().total_params(), 88_375);
/// let logits = cnn.forward_t(&Tensor::zeros((2, 1, 80, 60), DType::F32, &Device::Cpu)?, false)?;
/// assert_eq!(logits.dims(), [2, 55]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageClassifier {
    config: ModelConfig,
    input: Dims,
    backbone: AnyBackbone,
    head: Sequential,
}

impl ImageClassifier {
    /// The network `kind` for `n_classes` classes and inputs of `input`, with variables in `params`.
    ///
    /// # Errors
    /// [`Error::InputTooSmall`] names the smallest input that the network takes.
    pub fn new(
        kind: ModelKind,
        input: Dims,
        n_classes: usize,
        scheme: Scheme,
        params: &Params,
    ) -> Result<Self> {
        let (channels, _, _) = input.map()?;
        Self::build(&kind.config(channels), input, n_classes, scheme, params)
    }

    /// [`ImageClassifier::new`] with every setting of the network.
    ///
    /// ```
    /// use candle_core::Device;
    /// use firstsight_models::{Dims, ImageClassifier, LeNet5Config, ModelConfig, Params, Scheme};
    ///
    /// let params = Params::seeded(1, &Device::Cpu);
    /// let input = Dims::Map { channels: 1, height: 32, width: 32 };
    /// let config = ModelConfig::LeNet5(LeNet5Config::PAPER);
    /// let lenet = ImageClassifier::build(&config, input, 10, Scheme::LeCun, &params)?;
    /// assert_eq!(lenet.summary().total_params(), 60_900);
    /// # Ok::<(), firstsight_models::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InputTooSmall`] names the smallest input that the network takes.
    pub fn build(
        config: &ModelConfig,
        input: Dims,
        n_classes: usize,
        scheme: Scheme,
        params: &Params,
    ) -> Result<Self> {
        let (_, height, width) = input.map()?;
        let smallest = config.smallest_input();
        if height < smallest || width < smallest {
            return Err(Error::InputTooSmall { model: config.kind().name(), height, width, smallest });
        }
        let backbone = config.backbone(input, scheme, &params.builder_for(scheme))?;
        let head = head(config, &backbone, n_classes, scheme, params)?;
        Ok(Self { config: config.clone(), input, backbone, head })
    }

    /// Which network it is.
    pub fn kind(&self) -> ModelKind {
        self.config.kind()
    }

    /// Its settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The shape of one input.
    pub fn input(&self) -> Dims {
        self.input
    }

    /// How many features the last layer sees.
    pub fn n_features(&self) -> usize {
        self.backbone.n_features()
    }

    /// How many logits the last layer makes.
    pub fn n_classes(&self) -> usize {
        self.head.output().count()
    }

    /// The network without its last layer.
    pub fn backbone(&self) -> &AnyBackbone {
        &self.backbone
    }

    /// What the last layer's variables are called: `classifier` has `classifier.weight` and `classifier.bias`.
    pub fn head_name(&self) -> &'static str {
        self.config.head(1).name
    }

    /// Puts a new last layer for `n_classes` classes in the place of the present one, whose variables leave `params`.
    ///
    /// # Errors
    /// `params` that hold another network.
    pub fn reset_classifier(&mut self, n_classes: usize, scheme: Scheme, params: &Params) -> Result<()> {
        let prefix = format!("{}.", self.head_name());
        params.remove(|name| name.starts_with(&prefix));
        self.head = head(&self.config, &self.backbone, n_classes, scheme, params)?;
        Ok(())
    }

    /// The layer table.
    pub fn summary(&self) -> Summary {
        self.summary_as(Style::Firstsight)
    }

    /// The layer table as another framework prints it.
    pub fn summary_as(&self, style: Style) -> Summary {
        let mut trace = Trace::new(self.input);
        trace.keep(Kind::Input).keras("input_1");
        // What was built has been through these shapes before: a walk through them doesn't fail.
        let walked = self.backbone.0.describe(&mut trace).and_then(|()| self.head.describe(&mut trace));
        debug_assert!(walked.is_ok(), "{walked:?}");
        if matches!(self.kind(), ModelKind::MobileNetV2 | ModelKind::Xception) {
            trace.rename_last("predictions");
        }
        Summary::new(self.kind().name(), self.input, style, trace)
    }

    /// The last maps: (B, C, H, W) to (B, C', h, w). For logistic regression, the input itself.
    pub fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.backbone.0.forward_features(xs, train)
    }

    /// What the last layer sees: the last maps to (B, F).
    pub fn pre_logits(&self, features: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.backbone.0.pre_logits(features, train)
    }

    /// From the last maps to logits, (B, n_classes).
    pub fn forward_head(&self, features: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.classify(&self.pre_logits(features, train)?, train)
    }

    /// The last layer alone: (B, F) to (B, n_classes).
    pub fn classify(&self, pre_logits: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.head.forward_t(pre_logits, train)
    }

    /// The network in inference as a chain of named layers, the last included.
    pub fn stages(&self) -> Vec<Stage<'_>> {
        let head = Stage::new(self.head_name(), |xs| self.classify(xs, false));
        self.backbone.0.stages().into_iter().chain([head]).collect()
    }

    /// The output of each layer before the last by its name, for pictures.
    pub fn intermediates(&self, xs: &Tensor) -> CandleResult<Vec<(String, Tensor)>> {
        self.backbone.0.intermediates(xs)
    }
}

fn head(
    config: &ModelConfig,
    backbone: &AnyBackbone,
    n_classes: usize,
    scheme: Scheme,
    params: &Params,
) -> Result<Sequential> {
    let features = Dims::Features(backbone.n_features());
    Ok(Sequential::new(&[config.head(n_classes)], features, scheme, &params.builder_for(scheme))?)
}

impl ModuleT for ImageClassifier {
    fn forward_t(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.forward_head(&self.forward_features(xs, train)?, train)
    }
}
