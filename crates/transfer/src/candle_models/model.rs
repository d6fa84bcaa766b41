//! The networks that are known by name.

use std::fmt;
use std::str::FromStr;

use candle_core::Result as CandleResult;
use candle_nn::{Func, VarBuilder};
use candle_transformers::models::efficientnet::MBConvConfig;
use candle_transformers::models::{convnext, mobilenetv4, resnet};
use firstsight_data::InputSpec;

use crate::{Error, Result};

/// A network of candle-transformers, by timm's name of its architecture.
///
/// ```
/// use firstsight_transfer::candle_models::CandleModel;
///
/// let model: CandleModel = "resnet50".parse()?;
/// assert_eq!((model.n_features(), model.input().input_size), (2048, (3, 224, 224)));
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
    /// He et al. 2016, with the stride in the 3×3 convolutions.
    ResNet {
        /// Its constructor without the last layer.
        build: fn(VarBuilder<'static>) -> CandleResult<Func<'static>>,
    },
    /// Tan and Le 2019, with TensorFlow's padding and epsilon: timm's `tf_efficientnet`.
    EfficientNet {
        /// Its table.
        blocks: fn() -> Vec<MBConvConfig>,
    },
    /// Qin et al. 2024.
    MobileNetV4 {
        /// Its table.
        config: fn() -> mobilenetv4::Config,
        /// Whether it has attention.
        hybrid: bool,
    },
    /// Liu et al. 2022, Woo et al. 2023.
    ConvNeXt {
        /// Its table.
        config: fn() -> convnext::Config,
        /// Whether it is ConvNeXt V2.
        second: bool,
    },
    /// Dosovitskiy et al. 2021, patches of 16×16, one size of input.
    Vit(Vision),
    /// Oquab et al. 2023, patches of 14×14, sizes of input that 14 divides.
    DinoV2(Vision),
}

/// A vision transformer's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vision {
    /// Features of a token.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads of attention.
    pub heads: usize,
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

    /// Whether a checkpoint's tensor is not the backbone's: the last layer's, and the token that stands for hidden
    /// patches in DINOv2's training.
    pub fn is_left_out(self, name: &str) -> bool {
        name.strip_prefix(self.0.head).is_some_and(|rest| matches!(rest, ".weight" | ".bias"))
            || name == "mask_token"
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

/// Square RGB in [−1, 1].
fn half(side: usize, crop_pct: f64) -> InputSpec {
    InputSpec { crop_pct, ..InputSpec::minus_one_to_one(3, side, side) }
}

#[rustfmt::skip]
static KNOWN: [Known; 35] = [
    Known {
        architecture: "resnet18", repository: "timm/resnet18.a1_in1k", license: "Apache-2.0",
        n_features: 512, head: "fc", input: || imagenet(224, 0.95),
        family: Family::ResNet { build: resnet::resnet18_no_final_layer },
    },
    Known {
        architecture: "resnet34", repository: "timm/resnet34.a1_in1k", license: "Apache-2.0",
        n_features: 512, head: "fc", input: || imagenet(224, 0.95),
        family: Family::ResNet { build: resnet::resnet34_no_final_layer },
    },
    Known {
        architecture: "resnet50", repository: "timm/resnet50.a1_in1k", license: "Apache-2.0",
        n_features: 2048, head: "fc", input: || imagenet(224, 0.95),
        family: Family::ResNet { build: resnet::resnet50_no_final_layer },
    },
    Known {
        architecture: "resnet101", repository: "timm/resnet101.a1h_in1k", license: "Apache-2.0",
        n_features: 2048, head: "fc", input: || imagenet(224, 0.95),
        family: Family::ResNet { build: resnet::resnet101_no_final_layer },
    },
    Known {
        architecture: "resnet152", repository: "timm/resnet152.a1h_in1k", license: "Apache-2.0",
        n_features: 2048, head: "fc", input: || imagenet(224, 0.95),
        family: Family::ResNet { build: resnet::resnet152_no_final_layer },
    },
    Known {
        architecture: "tf_efficientnet_b0", repository: "timm/tf_efficientnet_b0.ns_jft_in1k", license: "Apache-2.0",
        n_features: 1280, head: "classifier", input: || imagenet(224, 0.875),
        family: Family::EfficientNet { blocks: MBConvConfig::b0 },
    },
    Known {
        architecture: "tf_efficientnet_b1", repository: "timm/tf_efficientnet_b1.ns_jft_in1k", license: "Apache-2.0",
        n_features: 1280, head: "classifier", input: || imagenet(240, 0.882),
        family: Family::EfficientNet { blocks: MBConvConfig::b1 },
    },
    Known {
        architecture: "tf_efficientnet_b2", repository: "timm/tf_efficientnet_b2.ns_jft_in1k", license: "Apache-2.0",
        n_features: 1408, head: "classifier", input: || imagenet(260, 0.89),
        family: Family::EfficientNet { blocks: MBConvConfig::b2 },
    },
    Known {
        architecture: "tf_efficientnet_b3", repository: "timm/tf_efficientnet_b3.ns_jft_in1k", license: "Apache-2.0",
        n_features: 1536, head: "classifier", input: || imagenet(300, 0.904),
        family: Family::EfficientNet { blocks: MBConvConfig::b3 },
    },
    Known {
        architecture: "tf_efficientnet_b4", repository: "timm/tf_efficientnet_b4.ns_jft_in1k", license: "Apache-2.0",
        n_features: 1792, head: "classifier", input: || imagenet(380, 0.922),
        family: Family::EfficientNet { blocks: MBConvConfig::b4 },
    },
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
    Known {
        architecture: "convnext_atto", repository: "timm/convnext_atto.d2_in1k", license: "Apache-2.0",
        n_features: 320, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::atto, second: false },
    },
    Known {
        architecture: "convnext_femto", repository: "timm/convnext_femto.d1_in1k", license: "Apache-2.0",
        n_features: 384, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::femto, second: false },
    },
    Known {
        architecture: "convnext_pico", repository: "timm/convnext_pico.d1_in1k", license: "Apache-2.0",
        n_features: 512, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::pico, second: false },
    },
    Known {
        architecture: "convnext_nano", repository: "timm/convnext_nano.in12k_ft_in1k", license: "Apache-2.0",
        n_features: 640, head: "head.fc", input: || imagenet(224, 0.95),
        family: Family::ConvNeXt { config: convnext::Config::nano, second: false },
    },
    Known {
        architecture: "convnext_tiny", repository: "timm/convnext_tiny.in12k_ft_in1k", license: "Apache-2.0",
        n_features: 768, head: "head.fc", input: || imagenet(224, 0.95),
        family: Family::ConvNeXt { config: convnext::Config::tiny, second: false },
    },
    Known {
        architecture: "convnext_small", repository: "timm/convnext_small.in12k_ft_in1k", license: "Apache-2.0",
        n_features: 768, head: "head.fc", input: || imagenet(224, 0.95),
        family: Family::ConvNeXt { config: convnext::Config::small, second: false },
    },
    Known {
        architecture: "convnext_base", repository: "timm/convnext_base.fb_in22k_ft_in1k", license: "Apache-2.0",
        n_features: 1024, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::base, second: false },
    },
    Known {
        architecture: "convnext_large", repository: "timm/convnext_large.fb_in22k_ft_in1k", license: "Apache-2.0",
        n_features: 1536, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::large, second: false },
    },
    Known {
        architecture: "convnextv2_atto", repository: "timm/convnextv2_atto.fcmae_ft_in1k", license: "CC-BY-NC-4.0",
        n_features: 320, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::atto, second: true },
    },
    Known {
        architecture: "convnextv2_femto", repository: "timm/convnextv2_femto.fcmae_ft_in1k", license: "CC-BY-NC-4.0",
        n_features: 384, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::femto, second: true },
    },
    Known {
        architecture: "convnextv2_pico", repository: "timm/convnextv2_pico.fcmae_ft_in1k", license: "CC-BY-NC-4.0",
        n_features: 512, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::pico, second: true },
    },
    Known {
        architecture: "convnextv2_nano", repository: "timm/convnextv2_nano.fcmae_ft_in22k_in1k", license: "CC-BY-NC-4.0",
        n_features: 640, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::nano, second: true },
    },
    Known {
        architecture: "convnextv2_tiny", repository: "timm/convnextv2_tiny.fcmae_ft_in22k_in1k", license: "CC-BY-NC-4.0",
        n_features: 768, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::tiny, second: true },
    },
    Known {
        architecture: "convnextv2_base", repository: "timm/convnextv2_base.fcmae_ft_in22k_in1k", license: "CC-BY-NC-4.0",
        n_features: 1024, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::base, second: true },
    },
    Known {
        architecture: "convnextv2_large", repository: "timm/convnextv2_large.fcmae_ft_in22k_in1k", license: "CC-BY-NC-4.0",
        n_features: 1536, head: "head.fc", input: || imagenet(224, 0.875),
        family: Family::ConvNeXt { config: convnext::Config::large, second: true },
    },
    Known {
        architecture: "vit_tiny_patch16_224", repository: "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", license: "Apache-2.0",
        n_features: 192, head: "head", input: || half(224, 0.9),
        family: Family::Vit(Vision { width: 192, depth: 12, heads: 3 }),
    },
    Known {
        architecture: "vit_small_patch16_224", repository: "timm/vit_small_patch16_224.augreg_in21k_ft_in1k", license: "Apache-2.0",
        n_features: 384, head: "head", input: || half(224, 0.9),
        family: Family::Vit(Vision { width: 384, depth: 12, heads: 6 }),
    },
    Known {
        architecture: "vit_base_patch16_224", repository: "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k", license: "Apache-2.0",
        n_features: 768, head: "head", input: || half(224, 0.9),
        family: Family::Vit(Vision { width: 768, depth: 12, heads: 12 }),
    },
    Known {
        architecture: "vit_small_patch14_dinov2", repository: "timm/vit_small_patch14_dinov2.lvd142m", license: "Apache-2.0",
        n_features: 384, head: "head", input: || imagenet(518, 1.0),
        family: Family::DinoV2(Vision { width: 384, depth: 12, heads: 6 }),
    },
    Known {
        architecture: "vit_base_patch14_dinov2", repository: "timm/vit_base_patch14_dinov2.lvd142m", license: "Apache-2.0",
        n_features: 768, head: "head", input: || imagenet(518, 1.0),
        family: Family::DinoV2(Vision { width: 768, depth: 12, heads: 12 }),
    },
];
