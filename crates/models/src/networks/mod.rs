//! The networks, one file each, or one for a family.
//!
//! A network's file has its layers, its settings and its [`ModelInfo`](crate::ModelInfo), a family's file one for each variant.
//! To add one, write such a file, name it here, and add a line to the [registry](crate::registry).

mod alexnet;
mod convnext;
mod dino_v2;
mod efficientnet;
mod lenet5;
mod logistic;
mod mobile;
mod mobilenet_v2;
mod mobilenet_v3;
mod photo;
mod resnet;
mod resnet_small;
mod small_cnn;
mod swin;
mod table;
mod vit;
mod xception;

pub use alexnet::{ALEXNET, AlexNetConfig};
pub use convnext::{CONVNEXTS, CONVNEXTS_V2, ConvNeXt, ConvNeXtConfig, ConvNeXtSize};
pub use dino_v2::DINOS_V2;
pub use efficientnet::{EFFICIENTNETS, EfficientNetConfig, EfficientNetTable};
pub use lenet5::{LENET5, LeNet5Config, LeNetOutput, LeNetPooling};
pub use logistic::LOGISTIC;
pub use mobile::MobileNetwork;
pub use mobilenet_v2::{MOBILENET_V2, MOBILENETS_V2, MobileNetV2Config};
pub use mobilenet_v3::{MOBILENETS_V3, MobileNetV3Config, MobileNetV3Size};
pub use resnet::{RESNETS, ResNet, ResNetConfig, ResidualBlock};
pub use resnet_small::{RESNET_SMALL, SmallResNet, SmallResNetConfig};
pub use small_cnn::SMALL_CNN;
pub use swin::{SWINS, Swin, SwinConfig, SwinSize};
pub use table::TableNetwork;
pub use vit::{DEITS, DEITS_3, VITS, Vit, VitConfig, VitSize};
pub use xception::{XCEPTION, Xception, XceptionConfig};
