use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{ModuleT, Result as CandleResult, Tensor, Var};

use crate::blocks::blocks;
use crate::layers::Sequential;
use crate::networks::TableNetwork;
use crate::summary::{Style, Trace};
use crate::weights::{Renaming, Resizing, Rules, SaveDtype, WeightsHeader};
use crate::{
    Backbone, Block, BuildArgs, Error, Framework, Init, InputShape, LayerSpec, ModelInfo, NamedLayer,
    Network, Params, Result, Summary,
};

/// A network with a last layer: images (B, C, H, W) float32 to logits (B, n_classes).
///
/// The values of the images are those of the network's [`InputSpec`](firstsight_data::InputSpec).
///
/// ```
/// use candle_core::{DType, Device, ModuleT, Tensor};
/// use firstsight_models::networks::SMALL_CNN;
/// use firstsight_models::{ImageClassifier, Init, InputShape, Params};
///
/// let params = Params::seeded(123, &Device::Cpu);
/// let input = InputShape::Map { channels: 1, height: 80, width: 60 };
/// let cnn = ImageClassifier::new(&SMALL_CNN, input, 55, Init::Keras, &params)?;
/// assert_eq!(cnn.summary().total_params(), 88_375);
/// let logits = cnn.forward_t(&Tensor::zeros((2, 1, 80, 60), DType::F32, &Device::Cpu)?, false)?;
/// assert_eq!(logits.dims(), [2, 55]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageClassifier {
    info: &'static ModelInfo,
    input: InputShape,
    backbone: Backbone,
    head: Head,
    init: Init,
    params: Params,
}

/// The last layer.
#[derive(Debug, Clone)]
struct Head {
    spec: LayerSpec,
    layer: Sequential,
}

impl Head {
    fn new(
        model: &'static str,
        spec: LayerSpec,
        n_features: usize,
        init: Init,
        params: &Params,
    ) -> Result<Self> {
        if spec.units() == Some(0) {
            let rule = "the last layer must have at least 1 class; `backbone()` is the network without it";
            return Err(Error::Setting { model, rule, found: "0".to_owned() });
        }
        let features = InputShape::Features(n_features);
        let layer = Sequential::new(std::slice::from_ref(&spec), features, init, &params.builder_for(init))?;
        Ok(Self { spec, layer })
    }
}

impl ImageClassifier {
    /// The network `info` for inputs of `input` and `n_classes` classes, with variables in `params`.
    ///
    /// Variables that `params` lacks are drawn from `init`.
    ///
    /// # Errors
    ///
    /// [`Error::InputTooSmall`] names the smallest input.
    pub fn new(
        info: &'static ModelInfo,
        input: InputShape,
        n_classes: usize,
        init: Init,
        params: &Params,
    ) -> Result<Self> {
        Self::with_framework(info, Framework::Torch, input, n_classes, init, params)
    }

    /// [`ImageClassifier::new`] with the conventions of `framework`, if the network offers a choice.
    ///
    /// # Errors
    ///
    /// [`Error::InputTooSmall`] names the smallest input.
    pub fn with_framework(
        info: &'static ModelInfo,
        framework: Framework,
        input: InputShape,
        n_classes: usize,
        init: Init,
        params: &Params,
    ) -> Result<Self> {
        info.check_input(input)?;
        let args = BuildArgs {
            framework,
            params: Some(params.clone()),
            ..BuildArgs::new(input, init, params.builder_for(init))
        };
        let network = (info.build)(&args)?;
        Self::assemble(info, network, (info.head)(n_classes), input, init, params)
    }

    /// A variant of the network `info` that is already built, with the last layer `head`.
    ///
    /// ```
    /// use candle_core::Device;
    /// use firstsight_models::networks::{RESNET_SMALL, SmallResNet, SmallResNetConfig};
    /// use firstsight_models::{ImageClassifier, Init, InputShape, LayerSpec, Params};
    ///
    /// let params = Params::seeded(1, &Device::Cpu);
    /// let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    /// let network = SmallResNet::new(&SmallResNetConfig::of(9), Init::Kaiming, &params.builder())?;
    /// let head = LayerSpec::dense("fc", 10);
    /// let resnet =
    ///     ImageClassifier::from_network(&RESNET_SMALL, network, head, input, Init::Kaiming, &params)?;
    /// assert_eq!(resnet.summary().total_params(), 853_018);
    /// # Ok::<(), firstsight_models::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InputTooSmall`] names the smallest input.
    pub fn from_network(
        info: &'static ModelInfo,
        network: impl Network + 'static,
        head: LayerSpec,
        input: InputShape,
        init: Init,
        params: &Params,
    ) -> Result<Self> {
        info.check_input(input)?;
        Self::assemble(info, Arc::new(network), head, input, init, params)
    }

    /// A variant of the network `info` that is a table of layers, the last layer included.
    ///
    /// ```
    /// use candle_core::Device;
    /// use firstsight_models::networks::{LENET5, LeNet5Config};
    /// use firstsight_models::{ImageClassifier, Init, InputShape, Params};
    ///
    /// let params = Params::seeded(1, &Device::Cpu);
    /// let input = InputShape::Map { channels: 1, height: 32, width: 32 };
    /// let table = LeNet5Config::PAPER.table(10);
    /// let lenet = ImageClassifier::from_table(&LENET5, &table, input, Init::LeCun, &params)?;
    /// assert_eq!(lenet.summary().total_params(), 60_900);
    /// # Ok::<(), firstsight_models::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InputTooSmall`] names the smallest input; [`Error::Setting`] for an empty table.
    pub fn from_table(
        info: &'static ModelInfo,
        table: &[LayerSpec],
        input: InputShape,
        init: Init,
        params: &Params,
    ) -> Result<Self> {
        let Some((head, body)) = table.split_last() else {
            let (rule, found) = ("a table must have at least one layer", "none".to_owned());
            return Err(Error::Setting { model: info.name, rule, found });
        };
        let (channels, _, _) = input.map()?;
        info.check_size(input, Sequential::smallest_input(body, channels))?;
        let network = TableNetwork::new(body, input, init, &params.builder_for(init))?;
        Self::assemble(info, Arc::new(network), head.clone(), input, init, params)
    }

    fn assemble(
        info: &'static ModelInfo,
        network: Arc<dyn Network>,
        head: LayerSpec,
        input: InputShape,
        init: Init,
        params: &Params,
    ) -> Result<Self> {
        let head = Head::new(info.name, head, network.n_features(), init, params)?;
        let backbone = Backbone::new(network);
        let classifier = Self { info, input, backbone, head, init, params: params.clone() };
        classifier.describe(&mut Trace::new(input))?;
        Ok(classifier)
    }

    /// The registry's entry of the network.
    pub fn info(&self) -> &'static ModelInfo {
        self.info
    }

    /// Shape of one input.
    pub fn input(&self) -> InputShape {
        self.input
    }

    /// F, the number of features of one image.
    pub fn n_features(&self) -> usize {
        self.backbone.n_features()
    }

    /// Number of logits.
    pub fn n_classes(&self) -> usize {
        self.head.layer.output().count()
    }

    /// The network without its last layer.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Name of the last layer: `classifier` has the variables `classifier.weight` and `classifier.bias`.
    pub fn head_name(&self) -> &'static str {
        self.head.spec.name
    }

    /// The set of variables that the network was built from.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Every variable with its name, running statistics included, in the order of names.
    pub fn named_vars(&self) -> Vec<(String, Var)> {
        self.params.named()
    }

    /// Variables of the last layer with their names, in the order of names.
    pub fn head_vars(&self) -> Vec<(String, Var)> {
        self.named_vars().into_iter().filter(|(name, _)| self.in_head(name)).collect()
    }

    /// Whether the variable of this name belongs to the last layer.
    pub fn in_head(&self, variable: &str) -> bool {
        variable.strip_prefix(self.head_name()).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Replaces the last layer by a new one for `n_classes` classes, drawn from the network's initialization. The
    /// variables of the old one are removed from the set.
    ///
    /// # Errors
    ///
    /// No classes, or more than fit in memory. The old layer then stays.
    pub fn reset_classifier(&mut self, n_classes: usize) -> Result<()> {
        let old = self.head_vars();
        self.params.remove(|name| self.in_head(name));
        let spec = self.head.spec.with_units(n_classes);
        match Head::new(self.info.name, spec, self.n_features(), self.init, &self.params.drawn()) {
            Ok(head) => self.head = head,
            Err(error) => {
                self.params.remove(|name| self.in_head(name));
                self.params.put(old);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Sets the last layer's `weight` (n_classes, F) and `bias` (n_classes,).
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a last layer without these variables; tensors of another shape.
    pub fn set_head(&self, weight: &Tensor, bias: &Tensor) -> Result<()> {
        for (name, value) in [("weight", weight), ("bias", bias)] {
            let name = format!("{}.{name}", self.head_name());
            let var = self.params.get(&name).ok_or_else(|| Error::Setting {
                model: self.info.name,
                rule: "the last layer must have a weight and a bias",
                found: format!("no {name}"),
            })?;
            var.set(value)?;
        }
        Ok(())
    }

    /// Writes every variable to a safetensors file.
    ///
    /// # Errors
    ///
    /// Those of [`Params::save`].
    pub fn save(&self, path: &Path) -> Result<()> {
        self.params.save(path)
    }

    /// [`ImageClassifier::save`] in another type.
    ///
    /// # Errors
    ///
    /// Those of [`Params::save_as`].
    pub fn save_as(&self, path: &Path, dtype: SaveDtype) -> Result<()> {
        self.params.save_as(path, dtype)
    }

    /// Sets every variable from a safetensors file, as [`Params::load`] does, also where the names are another library's
    /// for the [same network](ModelInfo::other_names). The result tells how the names were read. Positions for another size of
    /// input are [resized](Resizing): as many as the network's own are taken for its own, others for those of a square.
    ///
    /// # Errors
    ///
    /// Those of [`Params::load`].
    pub fn load(&self, path: &Path) -> Result<Renaming> {
        self.load_for_size(path, None)
    }

    /// [`ImageClassifier::load`] from weights for inputs of this height and width, where they are known: of as many positions, these
    /// tell the grid.
    ///
    /// # Errors
    ///
    /// Those of [`Params::load`].
    pub fn load_for_size(&self, path: &Path, size: Option<(usize, usize)>) -> Result<Renaming> {
        self.params.load_by(path, &Rules { resizing: &self.resizing(size), ..self.info.rules() })
    }

    /// How [`ImageClassifier::load`] reads the names of a file, and the file's name for each of the network's: several where
    /// a variable is in parts there.
    pub fn renaming<'h>(&self, header: &'h WeightsHeader) -> (Renaming, BTreeMap<String, Vec<&'h str>>) {
        self.info.rules().renaming(header, &self.params.names())
    }

    /// [`ImageClassifier::load_for_size`] for a network of one input channel from weights for several: the first convolution's
    /// weight is summed over its channels, as timm's `adapt_input_conv` does, so gray images count as they would in color.
    ///
    /// # Errors
    ///
    /// Those of [`Params::load`].
    pub fn load_for_gray(&self, path: &Path, size: Option<(usize, usize)>) -> Result<Renaming> {
        let weight = self.info.first_conv.map(|layer| format!("{layer}.weight"));
        let rules = Rules { summed: weight.as_deref(), resizing: &self.resizing(size), ..self.info.rules() };
        self.params.load_by(path, &rules)
    }

    fn resizing(&self, size: Option<(usize, usize)>) -> impl Fn(&str, &[usize]) -> Option<Resizing> {
        move |name, found| self.backbone.resizing(name, found, size)
    }

    /// Layer table.
    pub fn summary(&self) -> Summary {
        self.summary_as(Style::Firstsight)
    }

    /// Layer table in the form of another framework.
    pub fn summary_as(&self, style: Style) -> Summary {
        Summary::new(self.info, self.input, style, &self.trace())
    }

    /// The layers with their output shapes and parameters.
    pub fn trace(&self) -> Trace {
        let mut trace = Trace::new(self.input);
        // A network that cannot describe itself is not built.
        let _ = self.describe(&mut trace);
        trace
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        self.backbone.describe(trace)?;
        self.head.layer.describe(trace)
    }

    /// Blocks in the order from the input, the last layer last: the units of gradual unfreezing.
    pub fn blocks(&self) -> Vec<Block> {
        blocks(self.info, self.trace().entries(), self.head_name())
    }

    /// The last feature maps, (B, C', h, w), or tokens, (B, N, C'); for a network without any, its input.
    pub fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.backbone.forward_features(xs, train)
    }

    /// The input of the last layer, (B, F), from the feature maps or tokens.
    pub fn pre_logits(&self, features: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.backbone.pre_logits(features, train)
    }

    /// Logits (B, n_classes) from the feature maps or tokens.
    pub fn forward_head(&self, features: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.classify(&self.pre_logits(features, train)?, train)
    }

    /// Logits (B, n_classes) from features (B, F): the last layer alone.
    pub fn classify(&self, pre_logits: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.head.layer.forward_t(pre_logits, train)
    }

    /// The network in inference as a chain of named layers, the last layer included.
    pub fn named_layers(&self) -> Vec<NamedLayer<'_>> {
        let head = NamedLayer::new(self.head_name(), |xs| self.classify(xs, false));
        self.backbone.named_layers().into_iter().chain([head]).collect()
    }

    /// Each layer before the last with its output, in order.
    pub fn intermediates(&self, xs: &Tensor) -> CandleResult<Vec<(String, Tensor)>> {
        self.backbone.intermediates(xs)
    }
}

impl ModuleT for ImageClassifier {
    fn forward_t(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.forward_head(&self.forward_features(xs, train)?, train)
    }
}
