//! The networks, one file each.
//!
//! A network's file has its layers, its settings and its [`ModelInfo`](crate::ModelInfo). To add one, write such a file,
//! name it here, and add a line to the [registry](crate::registry).

mod alexnet;
mod convnext;
mod dino_v2;
mod lenet5;
mod logistic;
mod mobilenet_v2;
mod photo;
mod resnet;
mod small_cnn;
mod swin;
mod table;
mod vit;
mod xception;

pub use alexnet::{ALEXNET, AlexNetConfig};
pub use convnext::{CONVNEXTS, CONVNEXTS_V2, ConvNeXt, ConvNeXtConfig, ConvNeXtSize};
pub use dino_v2::DINOS_V2;
pub use lenet5::{LENET5, LeNet5Config, LeNetOutput, LeNetPooling};
pub use logistic::LOGISTIC;
pub use mobilenet_v2::{MOBILENET_V2, MOBILENETS_V2, MobileNetV2, MobileNetV2Config};
pub use resnet::{RESNET_SMALL, ResNet, ResNetConfig};
pub use small_cnn::SMALL_CNN;
pub use swin::{SWINS, Swin, SwinConfig, SwinSize};
pub use table::TableNetwork;
pub use vit::{DEITS, DEITS_3, VITS, Vit, VitConfig, VitSize};
pub use xception::{XCEPTION, Xception, XceptionConfig};
