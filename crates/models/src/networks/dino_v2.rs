//! DINOv2: Oquab, Darcet, Moutakanni et al., DINOv2: Learning robust visual features without supervision, 2024; Darcet,
//! Oquab, Mairal and Bojanowski, Vision transformers need registers, 2024.
//!
//! The network is a [`Vit`](super::Vit).

use firstsight_data::InputSpec;

use super::photo::imagenet;
use super::vit::{self, VitConfig, VitSize};
use crate::info::Build;
use crate::{ModelInfo, OtherNames, Weights};

/// DINOv2 with and without registers, by timm's names. The weights have no last layer.
pub static DINOS_V2: [ModelInfo; 4] = [
    variant(
        "vit_small_patch14_dinov2",
        518,
        |args| VitConfig::dino_v2(VitSize::Small, 0).build(args),
        &[without_head("timm/vit_small_patch14_dinov2.lvd142m", || imagenet(518, 1.0))],
    ),
    variant(
        "vit_base_patch14_dinov2",
        518,
        |args| VitConfig::dino_v2(VitSize::Base, 0).build(args),
        &[without_head("timm/vit_base_patch14_dinov2.lvd142m", || imagenet(518, 1.0))],
    ),
    variant(
        "vit_small_patch14_reg4_dinov2",
        518,
        |args| VitConfig::dino_v2(VitSize::Small, 4).build(args),
        &[without_head("timm/vit_small_patch14_reg4_dinov2.lvd142m", || imagenet(518, 1.0))],
    ),
    variant(
        "vit_base_patch14_reg4_dinov2",
        518,
        |args| VitConfig::dino_v2(VitSize::Base, 4).build(args),
        &[without_head("timm/vit_base_patch14_reg4_dinov2.lvd142m", || imagenet(518, 1.0))],
    ),
];

const fn variant(name: &'static str, side: usize, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        family: "DINOv2",
        paper: "Oquab et al., DINOv2: Learning robust visual features without supervision, TMLR 2024",
        // It stands for hidden patches in pretraining.
        left_out: &["mask_token"],
        other_names: &[OtherNames { library: "transformers", layers: transformers_names }],
        ..vit::variant(name, side, 14, build, weights)
    }
}

/// Weights without a last layer, whose license is Apache-2.0.
const fn without_head(repository: &'static str, input: fn() -> InputSpec) -> Weights {
    Weights { top1: None, n_classes: 0, ..Weights::timm(repository, "Apache-2.0", 0.0, input) }
}

/// Those without registers: with them, transformers has positions for the class token too.
fn transformers_names() -> Vec<(String, String)> {
    vit::transformers_names_with(
        "",
        &[
            ("norm1", "norm1"),
            ("attention.attention.query", "attn.qkv"),
            ("attention.attention.key", "attn.qkv"),
            ("attention.attention.value", "attn.qkv"),
            ("attention.output.dense", "attn.proj"),
            ("layer_scale1.lambda1", "ls1.gamma"),
            ("norm2", "norm2"),
            ("mlp.fc1", "mlp.fc1"),
            ("mlp.fc2", "mlp.fc2"),
            ("layer_scale2.lambda1", "ls2.gamma"),
        ],
    )
}
