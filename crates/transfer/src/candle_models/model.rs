//! The networks that are known by name.

use std::fmt;
use std::str::FromStr;

use candle_transformers::models::mobilenetv4;
use firstsight_data::InputSpec;

use crate::{Error, Result};

/// A network of candle-transformers, by timm's name of its architecture.
///
/// ```
/// use firstsight_transfer::candle_models::CandleModel;
///
/// let model: CandleModel = "mobilenetv4_conv_small".parse()?;
/// assert_eq!((model.n_features(), model.input().input_size), (1280, (3, 224, 224)));
/// # Ok::<(), firstsight_transfer::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct CandleModel(&'static Known);

/// Facts about a network. The input, repository and license are those of the weights that timm 1.0 takes for the
/// name alone.
#[derive(Debug)]
struct Known {
    architecture: &'static str,
    repository: &'static str,
    license: &'static str,
    n_features: usize,
    /// The last layer's name.
    head: &'static str,
    input: fn() -> InputSpec,
    family: Family,
}

/// The constructor of a network.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Family {
    /// Qin et al. 2024.
    MobileNetV4 {
        /// Its table.
        config: fn() -> mobilenetv4::Config,
        /// Whether it has attention.
        hybrid: bool,
    },
}

impl CandleModel {
    /// Every network.
    pub fn all() -> impl Iterator<Item = Self> {
        KNOWN.iter().map(Self)
    }

    /// timm's name.
    pub fn architecture(self) -> &'static str {
        self.0.architecture
    }

    /// The hub's repository of its usual weights, `owner/name`; `model.safetensors` is the file.
    pub fn repository(self) -> &'static str {
        self.0.repository
    }

    /// The license that timm states for these.
    pub fn license(self) -> &'static str {
        self.0.license
    }

    /// F: how many features an image has.
    pub fn n_features(self) -> usize {
        self.0.n_features
    }

    /// Preprocessing that these weights expect.
    pub fn input(self) -> InputSpec {
        (self.0.input)()
    }

    /// Constructor.
    pub fn family(self) -> &'static Family {
        &self.0.family
    }

    /// Whether a checkpoint's tensor is not the backbone's but the last layer's.
    pub fn is_left_out(self, name: &str) -> bool {
        name.strip_prefix(self.0.head).is_some_and(|rest| matches!(rest, ".weight" | ".bias"))
    }
}

impl PartialEq for CandleModel {
    fn eq(&self, other: &Self) -> bool {
        self.0.architecture == other.0.architecture
    }
}

impl Eq for CandleModel {}

impl fmt::Debug for CandleModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CandleModel").field(&self.architecture()).finish()
    }
}

impl fmt::Display for CandleModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.architecture())
    }
}

impl FromStr for CandleModel {
    type Err = Error;

    /// # Errors
    /// [`Error::Setting`] lists the names there are.
    fn from_str(name: &str) -> Result<Self> {
        Self::all().find(|model| model.architecture() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::all().map(Self::architecture).collect();
            Error::Setting {
                setting: "the backbone",
                expected: format!("one of {}", names.join(", ")),
                found: name.to_owned(),
            }
        })
    }
}

/// Square RGB, normalized with ImageNet's statistics.
fn imagenet(side: usize, crop_pct: f64) -> InputSpec {
    InputSpec { crop_pct, ..InputSpec::imagenet(3, side, side) }
}

#[rustfmt::skip]
static KNOWN: [Known; 5] = [
    Known {
        architecture: "mobilenetv4_conv_small", repository: "timm/mobilenetv4_conv_small.e2400_r224_in1k", license: "Apache-2.0",
        n_features: 1280, head: "classifier", input: || imagenet(224, 0.875),
        family: Family::MobileNetV4 { config: mobilenetv4::Config::small, hybrid: false },
    },
    Known {
        architecture: "mobilenetv4_conv_medium", repository: "timm/mobilenetv4_conv_medium.e500_r256_in1k", license: "Apache-2.0",
        n_features: 1280, head: "classifier", input: || imagenet(256, 0.95),
        family: Family::MobileNetV4 { config: mobilenetv4::Config::medium, hybrid: false },
    },
    Known {
        architecture: "mobilenetv4_conv_large", repository: "timm/mobilenetv4_conv_large.e600_r384_in1k", license: "Apache-2.0",
        n_features: 1280, head: "classifier", input: || imagenet(384, 0.95),
        family: Family::MobileNetV4 { config: mobilenetv4::Config::large, hybrid: false },
    },
    Known {
        architecture: "mobilenetv4_hybrid_medium", repository: "timm/mobilenetv4_hybrid_medium.e200_r256_in12k_ft_in1k", license: "Apache-2.0",
        n_features: 1280, head: "classifier", input: || imagenet(256, 0.95),
        family: Family::MobileNetV4 { config: mobilenetv4::Config::hybrid_medium, hybrid: true },
    },
    Known {
        architecture: "mobilenetv4_hybrid_large", repository: "timm/mobilenetv4_hybrid_large.ix_e600_r384_in1k", license: "Apache-2.0",
        n_features: 1280, head: "classifier", input: || imagenet(384, 0.95),
        family: Family::MobileNetV4 { config: mobilenetv4::Config::hybrid_large, hybrid: true },
    },
];
