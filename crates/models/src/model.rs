use std::str::FromStr;
use std::sync::Arc;

use candle_nn::VarBuilder;
use firstsight_data::InputSpec;
use firstsight_ops::Activation;

use crate::layers::{Layer, LayerSpec};
use crate::table_network::TableNetwork;
use crate::{
    AlexNetConfig, AnyBackbone, Dims, Error, Framework, LeNet5Config, MobileNetV2, MobileNetV2Config, ResNet,
    ResNetConfig, Result, Scheme, Xception, XceptionConfig, logistic, small_cnn,
};

/// The networks, by the names that the command line and a run's configuration know them by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelKind {
    /// Logistic regression on pixels.
    Logistic,
    /// The lecture's three convolutions and two dense layers.
    SmallCnn,
    /// LeNet-5 with plain average pooling and a dense output.
    LeNet5,
    /// The lecture's AlexNet.
    AlexNet,
    /// MobileNetV2 1.0 as timm and torchvision have it.
    MobileNetV2,
    /// Xception as timm has it (`legacy_xception`).
    Xception,
    /// A residual network of 20 layers for small images.
    ResNetSmall,
}

impl ModelKind {
    /// Every network.
    pub const ALL: [Self; 7] = [
        Self::Logistic,
        Self::SmallCnn,
        Self::LeNet5,
        Self::AlexNet,
        Self::MobileNetV2,
        Self::Xception,
        Self::ResNetSmall,
    ];

    /// Its name: `logistic`, `small-cnn`, `lenet5`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Logistic => "logistic",
            Self::SmallCnn => "small-cnn",
            Self::LeNet5 => "lenet5",
            Self::AlexNet => "alexnet",
            Self::MobileNetV2 => "mobilenet-v2",
            Self::Xception => "xception",
            Self::ResNetSmall => "resnet-small",
        }
    }

    /// What timm calls it, where timm has it, else its [name](Self::name): the `architecture` of `config.json`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::MobileNetV2 => "mobilenetv2_100",
            Self::Xception => "legacy_xception",
            _ => self.name(),
        }
    }

    /// The network whose [architecture](Self::architecture) or name this is.
    ///
    /// # Errors
    /// [`Error::UnknownModel`].
    pub fn from_architecture(architecture: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|kind| kind.architecture() == architecture) {
            Some(kind) => Ok(kind),
            None => architecture.parse(),
        }
    }

    /// What its last layer is called: `classifier` has the variables `classifier.weight` and `classifier.bias`.
    pub fn head_name(self) -> &'static str {
        self.config(3).head(1).name
    }

    /// The side of the smallest square input.
    pub fn smallest_input(self) -> usize {
        self.config(3).smallest_input()
    }

    /// (channels, height, width) of the input that its paper or the lecture gives it.
    pub fn usual_input(self) -> (usize, usize, usize) {
        match self {
            Self::Logistic | Self::SmallCnn => (1, 80, 60),
            Self::LeNet5 => (1, 32, 32),
            Self::AlexNet => (3, 227, 227),
            Self::MobileNetV2 => (3, 224, 224),
            Self::Xception => (3, 299, 299),
            Self::ResNetSmall => (3, 32, 32),
        }
    }

    /// How many classes its paper or the lecture gives it.
    pub fn usual_classes(self) -> usize {
        match self {
            Self::Logistic | Self::SmallCnn => 55,
            Self::LeNet5 | Self::ResNetSmall => 10,
            Self::AlexNet | Self::MobileNetV2 | Self::Xception => 1000,
        }
    }

    /// How an image becomes its input: bytes for networks that rescale them themselves, normalised values for those
    /// whose published weights want them.
    pub fn input_spec(self, channels: usize, height: usize, width: usize) -> InputSpec {
        match self {
            Self::MobileNetV2 => InputSpec::imagenet(channels, height, width),
            Self::Xception => InputSpec::minus_one_to_one(channels, height, width),
            _ => InputSpec::bytes(channels, height, width),
        }
    }

    /// What its weights start from in its paper or, where the paper is silent, in its authors' framework.
    pub fn scheme(self) -> Scheme {
        match self {
            Self::Logistic | Self::SmallCnn | Self::Xception => Scheme::Keras,
            Self::LeNet5 => Scheme::LeCun,
            Self::AlexNet => Scheme::Krizhevsky,
            Self::MobileNetV2 => Scheme::TruncatedNormal,
            Self::ResNetSmall => Scheme::Kaiming,
        }
    }

    /// Its configuration for an input of `channels`.
    pub fn config(self, channels: usize) -> ModelConfig {
        match self {
            Self::Logistic => ModelConfig::Logistic,
            Self::SmallCnn => ModelConfig::SmallCnn,
            Self::LeNet5 => ModelConfig::LeNet5(LeNet5Config::DENSE),
            Self::AlexNet => ModelConfig::AlexNet(AlexNetConfig::Lecture),
            Self::MobileNetV2 => {
                ModelConfig::MobileNetV2(MobileNetV2Config { channels, ..MobileNetV2Config::TIMM })
            }
            Self::Xception => ModelConfig::Xception(XceptionConfig { channels, ..XceptionConfig::TIMM }),
            Self::ResNetSmall => ModelConfig::ResNet(ResNetConfig { channels, ..ResNetConfig::of(3) }),
        }
    }
}

impl std::fmt::Display for ModelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ModelKind {
    type Err = Error;

    /// # Errors
    /// [`Error::UnknownModel`], with the nearest known name where one is near.
    fn from_str(name: &str) -> Result<Self> {
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.name() == name) {
            return Ok(kind);
        }
        let nearest = Self::ALL
            .into_iter()
            .map(|kind| (strsim::jaro_winkler(&name.to_lowercase(), kind.name()), kind.name()))
            .filter(|(similarity, _)| *similarity > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known);
        Err(Error::UnknownModel { name: name.to_owned(), nearest, known: Self::ALL.map(Self::name).to_vec() })
    }
}

/// Any network with all its settings.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ModelConfig {
    /// Logistic regression on bytes.
    Logistic,
    /// The lecture's CNN on bytes.
    SmallCnn,
    /// LeNet-5 on bytes.
    LeNet5(LeNet5Config),
    /// AlexNet; the lecture's on bytes, torchvision's on normalised values.
    AlexNet(AlexNetConfig),
    /// MobileNetV2 on normalised values.
    MobileNetV2(MobileNetV2Config),
    /// Xception on normalised values.
    Xception(XceptionConfig),
    /// A small residual or plain network on bytes.
    ResNet(ResNetConfig),
}

impl ModelConfig {
    /// Which network it is.
    pub fn kind(&self) -> ModelKind {
        match self {
            Self::Logistic => ModelKind::Logistic,
            Self::SmallCnn => ModelKind::SmallCnn,
            Self::LeNet5(_) => ModelKind::LeNet5,
            Self::AlexNet(_) => ModelKind::AlexNet,
            Self::MobileNetV2(_) => ModelKind::MobileNetV2,
            Self::Xception(_) => ModelKind::Xception,
            Self::ResNet(_) => ModelKind::ResNetSmall,
        }
    }

    /// The same network by the conventions of `framework`, where it has both.
    pub fn with_framework(self, framework: Framework) -> Self {
        match self {
            Self::MobileNetV2(config) => Self::MobileNetV2(MobileNetV2Config { framework, ..config }),
            Self::Xception(config) => Self::Xception(XceptionConfig { framework, ..config }),
            other => other,
        }
    }

    /// The side of the smallest square input.
    pub fn smallest_input(&self) -> usize {
        match self {
            Self::Logistic => 1,
            Self::SmallCnn => 16,
            Self::LeNet5(_) => LeNet5Config::SMALLEST,
            Self::AlexNet(config) => config.smallest(),
            Self::MobileNetV2(_) => MobileNetV2::SMALLEST,
            Self::Xception(_) => Xception::SMALLEST,
            Self::ResNet(_) => ResNet::SMALLEST,
        }
    }

    /// The network without its last layer, with variables from `vb`.
    pub(crate) fn backbone(&self, input: Dims, scheme: Scheme, vb: &VarBuilder<'_>) -> Result<AnyBackbone> {
        Ok(AnyBackbone(match self {
            Self::MobileNetV2(config) => Arc::new(MobileNetV2::new(config, scheme, vb)?),
            Self::Xception(config) => Arc::new(Xception::new(config, scheme, vb)?),
            Self::ResNet(config) => Arc::new(ResNet::new(config, scheme, vb)?),
            Self::Logistic | Self::SmallCnn | Self::LeNet5(_) | Self::AlexNet(_) => {
                let mut table = self.table(0);
                table.pop();
                Arc::new(TableNetwork::new(&table, input, scheme, vb)?)
            }
        }))
    }

    /// The last layer.
    pub(crate) fn head(&self, n_classes: usize) -> LayerSpec {
        let dense = |name| LayerSpec {
            name,
            layer: Layer::Dense { units: n_classes, activation: Activation::Identity, bias: 0.0 },
        };
        match self {
            Self::MobileNetV2(_) => dense("classifier"),
            Self::Xception(_) | Self::ResNet(_) => dense("fc"),
            Self::Logistic | Self::SmallCnn | Self::LeNet5(_) | Self::AlexNet(_) => {
                self.table(n_classes).pop().unwrap_or_else(|| dense("output"))
            }
        }
    }

    /// The table of a network that is one.
    fn table(&self, n_classes: usize) -> Vec<LayerSpec> {
        match self {
            Self::Logistic => logistic::table(n_classes),
            Self::SmallCnn => small_cnn::table(n_classes),
            Self::LeNet5(config) => config.table(n_classes),
            Self::AlexNet(config) => config.table(n_classes),
            Self::MobileNetV2(_) | Self::Xception(_) | Self::ResNet(_) => Vec::new(),
        }
    }
}
