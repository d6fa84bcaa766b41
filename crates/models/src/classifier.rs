use std::str::FromStr;

use candle_core::{ModuleT, Result as CandleResult, Tensor};

use crate::sequential::{LayerSpec, Sequential};
use crate::{Dims, Error, Params, Result, Scheme, Summary, logistic, small_cnn};

/// The networks, by the names that the command line and a run's configuration know them by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelKind {
    /// Logistic regression on pixels.
    Logistic,
    /// The lecture's three convolutions and two dense layers.
    SmallCnn,
}

impl ModelKind {
    /// Every network.
    pub const ALL: [Self; 2] = [Self::Logistic, Self::SmallCnn];

    /// Its name: `logistic`, `small-cnn`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logistic => "logistic",
            Self::SmallCnn => "small-cnn",
        }
    }

    fn table(self, n_classes: usize) -> Vec<LayerSpec> {
        match self {
            Self::Logistic => logistic::table(n_classes),
            Self::SmallCnn => small_cnn::table(n_classes),
        }
    }

    /// The side of the smallest square input.
    pub fn smallest_input(self) -> usize {
        match self {
            Self::Logistic => 1,
            Self::SmallCnn => 16,
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

/// A classifier for images: (B, C, H, W) float32 bytes in 0..=255 to (B, n_classes) logits.
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
    kind: ModelKind,
    features: Sequential,
    head: Sequential,
    input: Dims,
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
        if let Dims::Map { height, width, .. } = input {
            let smallest = kind.smallest_input();
            if height < smallest || width < smallest {
                return Err(Error::InputTooSmall { model: kind.name(), height, width, smallest });
            }
        }
        let table = kind.table(n_classes);
        let (features, head) = table.split_at(table.len() - 1);
        let vb = params.builder();
        let features = Sequential::new(features, input, scheme, &vb)?;
        let head = Sequential::new(head, features.output(), scheme, &vb)?;
        Ok(Self { kind, features, head, input })
    }

    /// Which network it is.
    pub fn kind(&self) -> ModelKind {
        self.kind
    }

    /// How many features the last layer sees.
    pub fn n_features(&self) -> usize {
        self.features.output().count()
    }

    /// The layer table.
    pub fn summary(&self) -> Summary {
        let rows = self.features.rows().into_iter().chain(self.head.rows()).collect();
        Summary { model: self.kind.name().to_owned(), input: self.input, rows }
    }

    /// What the last layer sees: (B, C, H, W) to (B, F).
    pub fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.features.forward_t(xs, train)
    }

    /// The last layer alone: (B, F) to (B, n_classes).
    pub fn forward_head(&self, features: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.head.forward_t(features, train)
    }

    /// The output of each layer before the last by its name, for pictures.
    pub fn intermediates(&self, xs: &Tensor) -> CandleResult<Vec<(&'static str, Tensor)>> {
        self.features.intermediates(xs)
    }
}

impl ModuleT for ImageClassifier {
    fn forward_t(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.forward_head(&self.forward_features(xs, train)?, train)
    }
}
