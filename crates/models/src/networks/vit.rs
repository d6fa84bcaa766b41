//! Vision transformers: Dosovitskiy, Beyer, Kolesnikov et al., An image is worth 16x16 words, 2021; Touvron, Cord,
//! Douze et al., Training data-efficient image transformers, 2021 (DeiT); Touvron, Cord and Jégou, DeiT III, 2022.

use std::sync::Arc;

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::{Init as Distribution, VarBuilder};
use firstsight_data::InputSpec;
use firstsight_ops as ops;

use super::photo::{half, imagenet};
use crate::graph::Op;
use crate::info::{Build, check_size};
use crate::layers::{Attention, DropPath, FeedForward, LayerNorm, LayerScale, PatchConv, check_heads};
use crate::summary::{LayerKind, Trace};
use crate::weights::behind;
use crate::{
    BuildArgs, Error, Init, InputShape, LayerSpec, ModelInfo, NamedLayer, Network, OtherNames, Resizing,
    Result, TokenGrid, Weights,
};

/// ViT of Dosovitskiy et al. by timm's names, with the weights of Steiner et al., How to train your ViT?, 2022: pretrained
/// on ImageNet-21k.
pub static VITS: [ModelInfo; 11] = [
    vit(
        "vit_tiny_patch16_224",
        224,
        16,
        |args| VitConfig::of(VitSize::Tiny).build(args),
        &[Weights::timm("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "Apache-2.0", 75.452, || {
            half(224, 0.9)
        })],
    ),
    vit(
        "vit_tiny_patch16_384",
        384,
        16,
        |args| VitConfig::of(VitSize::Tiny).build(args),
        &[Weights::timm("timm/vit_tiny_patch16_384.augreg_in21k_ft_in1k", "Apache-2.0", 78.438, || {
            half(384, 1.0)
        })],
    ),
    vit(
        "vit_small_patch32_224",
        224,
        32,
        |args| VitConfig::of(VitSize::Small).patch(32).build(args),
        &[Weights::timm("timm/vit_small_patch32_224.augreg_in21k_ft_in1k", "Apache-2.0", 76.01, || {
            half(224, 0.9)
        })],
    ),
    vit(
        "vit_small_patch32_384",
        384,
        32,
        |args| VitConfig::of(VitSize::Small).patch(32).build(args),
        &[Weights::timm("timm/vit_small_patch32_384.augreg_in21k_ft_in1k", "Apache-2.0", 80.476, || {
            half(384, 1.0)
        })],
    ),
    vit(
        "vit_small_patch16_224",
        224,
        16,
        |args| VitConfig::of(VitSize::Small).build(args),
        &[Weights::timm("timm/vit_small_patch16_224.augreg_in21k_ft_in1k", "Apache-2.0", 81.402, || {
            half(224, 0.9)
        })],
    ),
    vit(
        "vit_small_patch16_384",
        384,
        16,
        |args| VitConfig::of(VitSize::Small).build(args),
        &[Weights::timm("timm/vit_small_patch16_384.augreg_in21k_ft_in1k", "Apache-2.0", 83.814, || {
            half(384, 1.0)
        })],
    ),
    vit(
        "vit_base_patch32_224",
        224,
        32,
        |args| VitConfig::of(VitSize::Base).patch(32).build(args),
        &[Weights::timm("timm/vit_base_patch32_224.augreg_in21k_ft_in1k", "Apache-2.0", 80.732, || {
            half(224, 0.9)
        })],
    ),
    vit(
        "vit_base_patch32_384",
        384,
        32,
        |args| VitConfig::of(VitSize::Base).patch(32).build(args),
        &[Weights::timm("timm/vit_base_patch32_384.augreg_in21k_ft_in1k", "Apache-2.0", 83.358, || {
            half(384, 1.0)
        })],
    ),
    vit(
        "vit_base_patch16_224",
        224,
        16,
        |args| VitConfig::of(VitSize::Base).build(args),
        &[Weights::timm("timm/vit_base_patch16_224.augreg2_in21k_ft_in1k", "Apache-2.0", 85.108, || {
            half(224, 0.9)
        })],
    ),
    vit(
        "vit_base_patch16_384",
        384,
        16,
        |args| VitConfig::of(VitSize::Base).build(args),
        &[Weights::timm("timm/vit_base_patch16_384.augreg_in21k_ft_in1k", "Apache-2.0", 86.01, || {
            half(384, 1.0)
        })],
    ),
    vit(
        "vit_base_patch8_224",
        224,
        8,
        |args| VitConfig::of(VitSize::Base).patch(8).build(args),
        &[Weights::timm("timm/vit_base_patch8_224.augreg2_in21k_ft_in1k", "Apache-2.0", 86.252, || {
            half(224, 0.9)
        })],
    ),
];

/// DeiT without distillation, by timm's names.
pub static DEITS: [ModelInfo; 4] = [
    deit(
        "deit_tiny_patch16_224",
        224,
        |args| VitConfig::of(VitSize::Tiny).build(args),
        &[Weights::timm("timm/deit_tiny_patch16_224.fb_in1k", "Apache-2.0", 72.19, || imagenet(224, 0.9))],
    ),
    deit(
        "deit_small_patch16_224",
        224,
        |args| VitConfig::of(VitSize::Small).build(args),
        &[Weights::timm("timm/deit_small_patch16_224.fb_in1k", "Apache-2.0", 79.856, || imagenet(224, 0.9))],
    ),
    deit(
        "deit_base_patch16_224",
        224,
        |args| VitConfig::of(VitSize::Base).build(args),
        &[Weights::timm("timm/deit_base_patch16_224.fb_in1k", "Apache-2.0", 81.98, || imagenet(224, 0.9))],
    ),
    deit(
        "deit_base_patch16_384",
        384,
        |args| VitConfig::of(VitSize::Base).build(args),
        &[Weights::timm("timm/deit_base_patch16_384.fb_in1k", "Apache-2.0", 83.108, || imagenet(384, 1.0))],
    ),
];

/// DeiT III, by timm's names.
pub static DEITS_3: [ModelInfo; 5] = [
    deit3(
        "deit3_small_patch16_224",
        224,
        |args| VitConfig::deit3(VitSize::Small).build(args),
        &[Weights::timm("timm/deit3_small_patch16_224.fb_in1k", "Apache-2.0", 81.382, || imagenet(224, 0.9))],
    ),
    deit3(
        "deit3_small_patch16_384",
        384,
        |args| VitConfig::deit3(VitSize::Small).build(args),
        &[Weights::timm("timm/deit3_small_patch16_384.fb_in1k", "Apache-2.0", 83.432, || imagenet(384, 1.0))],
    ),
    deit3(
        "deit3_medium_patch16_224",
        224,
        |args| VitConfig::deit3(VitSize::Medium).build(args),
        &[Weights::timm("timm/deit3_medium_patch16_224.fb_in1k", "Apache-2.0", 83.09, || imagenet(224, 0.9))],
    ),
    deit3(
        "deit3_base_patch16_224",
        224,
        |args| VitConfig::deit3(VitSize::Base).build(args),
        &[Weights::timm("timm/deit3_base_patch16_224.fb_in1k", "Apache-2.0", 83.8, || imagenet(224, 0.9))],
    ),
    deit3(
        "deit3_base_patch16_384",
        384,
        |args| VitConfig::deit3(VitSize::Base).build(args),
        &[Weights::timm("timm/deit3_base_patch16_384.fb_in1k", "Apache-2.0", 85.088, || imagenet(384, 1.0))],
    ),
];

const fn vit(
    name: &'static str,
    side: usize,
    patch: usize,
    build: Build,
    weights: &'static [Weights],
) -> ModelInfo {
    ModelInfo {
        family: "ViT",
        paper: "Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021",
        input_spec: InputSpec::minus_one_to_one,
        other_names: &OTHER_NAMES,
        left_out: &LEFT_OUT,
        ..variant(name, side, patch, build, weights)
    }
}

const fn deit(name: &'static str, side: usize, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        family: "DeiT",
        paper: "Touvron et al., Training data-efficient image transformers, ICML 2021",
        other_names: &OTHER_NAMES,
        left_out: &LEFT_OUT,
        ..variant(name, side, 16, build, weights)
    }
}

const fn deit3(name: &'static str, side: usize, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        family: "DeiT III",
        paper: "Touvron et al., DeiT III: Revenge of the ViT, ECCV 2022",
        ..variant(name, side, 16, build, weights)
    }
}

/// A vision transformer with timm's names.
pub(super) const fn variant(
    name: &'static str,
    side: usize,
    patch: usize,
    build: Build,
    weights: &'static [Weights],
) -> ModelInfo {
    ModelInfo {
        timm: Some(name),
        head: |n_classes| LayerSpec::dense("head", n_classes),
        first_conv: Some("patch_embed.proj"),
        blocks: &[
            ("stem", &["patch_embed", "cls_token", "reg_token", "pos_embed"]),
            ("blocks.0", &["blocks.0"]),
            ("blocks.1", &["blocks.1"]),
            ("blocks.2", &["blocks.2"]),
            ("blocks.3", &["blocks.3"]),
            ("blocks.4", &["blocks.4"]),
            ("blocks.5", &["blocks.5"]),
            ("blocks.6", &["blocks.6"]),
            ("blocks.7", &["blocks.7"]),
            ("blocks.8", &["blocks.8"]),
            ("blocks.9", &["blocks.9"]),
            ("blocks.10", &["blocks.10"]),
            ("blocks.11", &["blocks.11"]),
            ("norm", &["norm"]),
        ],
        usual_input: (3, side, side),
        smallest_input: patch,
        input_multiple: patch,
        input_spec: InputSpec::imagenet,
        init: Init::Transformer,
        weights,
        ..ModelInfo::new(name, build)
    }
}

static OTHER_NAMES: [OtherNames; 2] = [
    OtherNames { library: "torchvision", layers: torchvision_names },
    OtherNames { library: "transformers", layers: transformers_names },
];

/// A last layer that transformers has for pretraining.
static LEFT_OUT: [&str; 2] = ["pooler.dense.weight", "pooler.dense.bias"];

fn torchvision_names() -> Vec<(String, String)> {
    const OUTER: [(&str, &str); 5] = [
        ("conv_proj", "patch_embed.proj"),
        ("class_token", "cls_token"),
        ("encoder.pos_embedding", "pos_embed"),
        ("encoder.ln", "norm"),
        ("heads.head", "head"),
    ];
    const BLOCK: [(&str, &str); 7] = [
        ("ln_1", "norm1"),
        ("self_attention.in_proj_weight", "attn.qkv.weight"),
        ("self_attention.in_proj_bias", "attn.qkv.bias"),
        ("self_attention.out_proj", "attn.proj"),
        ("ln_2", "norm2"),
        ("mlp.0", "mlp.fc1"),
        ("mlp.3", "mlp.fc2"),
    ];
    let blocks = (0..DEPTH)
        .flat_map(|i| behind(&format!("encoder.layers.encoder_layer_{i}."), &format!("blocks.{i}."), &BLOCK));
    behind("", "", &OUTER).into_iter().chain(blocks).collect()
}

/// With and without the last layer.
fn transformers_names() -> Vec<(String, String)> {
    const BLOCK: [(&str, &str); 8] = [
        ("layernorm_before", "norm1"),
        ("attention.attention.query", "attn.qkv"),
        ("attention.attention.key", "attn.qkv"),
        ("attention.attention.value", "attn.qkv"),
        ("attention.output.dense", "attn.proj"),
        ("layernorm_after", "norm2"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ];
    let mut names = transformers_names_with("", &BLOCK);
    names.extend(transformers_names_with("vit.", &BLOCK));
    names.push(("classifier".to_owned(), "head".to_owned()));
    names
}

/// The names of transformers behind `prefix` for blocks with these layers.
pub(super) fn transformers_names_with(prefix: &str, block: &[(&str, &str)]) -> Vec<(String, String)> {
    const OUTER: [(&str, &str); 5] = [
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.mask_token", "mask_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("layernorm", "norm"),
    ];
    let blocks = (0..DEPTH)
        .flat_map(|i| behind(&format!("{prefix}encoder.layer.{i}."), &format!("blocks.{i}."), block));
    behind(prefix, "", &OUTER).into_iter().chain(blocks).collect()
}

/// Blocks of the sizes up to Base.
const DEPTH: usize = 12;

/// Settings of a vision transformer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VitConfig {
    /// Channels of the input.
    pub channels: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Features of a token.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads of attention, which divide the width.
    pub heads: usize,
    /// Tokens besides the class token that stand for no patch (Darcet et al. 2024).
    pub registers: usize,
    /// Whether the class token and the registers have position embeddings.
    pub prefix_positions: bool,
    /// Initial factor of each branch's output, if it has factors (Touvron et al. 2021, LayerScale).
    pub layer_scale: Option<f64>,
    /// Probability that the last block's branches are left out in training; it rises from 0 at the first block.
    pub drop_path: f64,
}

impl VitConfig {
    /// The paper's ViT with patches of 16 × 16 for RGB, of this size.
    pub const fn of(size: VitSize) -> Self {
        let (width, depth, heads) = match size {
            VitSize::Tiny => (192, 12, 3),
            VitSize::Small => (384, 12, 6),
            VitSize::Medium => (512, 12, 8),
            VitSize::Base => (768, 12, 12),
        };
        Self {
            channels: 3,
            patch: 16,
            width,
            depth,
            heads,
            registers: 0,
            prefix_positions: true,
            layer_scale: None,
            drop_path: 0.0,
        }
    }

    /// The same with patches of `patch` × `patch`.
    pub const fn patch(self, patch: usize) -> Self {
        Self { patch, ..self }
    }

    /// DINOv2 of this size with so many registers: patches of 14 × 14, and layer scale from 10⁻⁵.
    pub const fn dino_v2(size: VitSize, registers: usize) -> Self {
        let prefix_positions = registers == 0;
        Self { patch: 14, registers, prefix_positions, layer_scale: Some(1e-5), ..Self::of(size) }
    }

    /// DeiT III of this size: positions for patches alone, and layer scale from 10⁻⁶.
    pub const fn deit3(size: VitSize) -> Self {
        Self { prefix_positions: false, layer_scale: Some(1e-6), ..Self::of(size) }
    }

    pub(super) fn build(self, args: &BuildArgs<'_>) -> Result<Arc<dyn Network>> {
        let (channels, height, width) = args.input.map()?;
        let config = Self { channels, ..self };
        Ok(Arc::new(Vit::new(&config, (height, width), args.init, &args.vb)?))
    }
}

/// Width, depth and heads of a vision transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VitSize {
    /// 192, 12, 3 (DeiT, table 1).
    Tiny,
    /// 384, 12, 6 (DeiT, table 1).
    Small,
    /// 512, 12, 8 (DeiT III).
    Medium,
    /// 768, 12, 12 (ViT, table 1).
    Base,
}

/// A vision transformer without its last layer, for images of one size: (B, C, H, W) to tokens (B, 1 + R + N, F), and
/// from these to the class token, (B, F). R is the number of registers and N that of patches.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_models::networks::{Vit, VitConfig, VitSize};
/// use firstsight_models::{Init, Network, Params};
///
/// let params = Params::seeded(1, &Device::Cpu);
/// let config = VitConfig { depth: 1, ..VitConfig::of(VitSize::Tiny) };
/// let vit = Vit::new(&config, (48, 32), Init::Transformer, &params.builder())?;
/// let tokens = vit.forward_features(&Tensor::zeros((2, 3, 48, 32), DType::F32, &Device::Cpu)?, false)?;
/// assert_eq!(tokens.dims(), [2, 1 + 3 * 2, 192]);
/// assert_eq!(vit.pre_logits(&tokens, false)?.dims(), [2, 192]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Vit {
    input: InputShape,
    grid: TokenGrid,
    prefix_positions: bool,
    /// Side of a patch in pixels.
    patch: usize,
    patches: PatchConv,
    /// (1, 1 + R, F)
    prefix: Vec<(&'static str, Tensor)>,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    width: usize,
}

/// Attention and a feed-forward layer, each normalized before and added to its input.
#[derive(Debug, Clone)]
struct Block {
    /// `blocks.I`
    name: String,
    attention: Branch<Attention>,
    feed_forward: Branch<FeedForward>,
}

#[derive(Debug, Clone)]
struct Branch<L> {
    norm: LayerNorm,
    layer: L,
    scale: Option<LayerScale>,
    drop_path: DropPath,
}

/// ε of layer normalization, timm's.
const EPSILON: f64 = 1e-6;

impl Vit {
    /// The network for images of `size`, with variables from `vb`.
    ///
    /// With [`Init::Transformer`], the patches' convolution starts as PyTorch's, the class token and the registers from
    /// N(0, 10⁻¹²), as in timm.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for patches without pixels and for heads that do not divide the width; a size that
    /// is no multiple of a patch, and variables that exist with another shape.
    pub fn new(config: &VitConfig, size: (usize, usize), init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        let &VitConfig { channels, patch, width, depth, registers, prefix_positions, .. } = config;
        check_heads("vit", width, config.heads)?;
        if patch == 0 {
            let (rule, found) = ("a patch must have at least 1 pixel", "0".to_owned());
            return Err(Error::Setting { model: "vit", rule, found });
        }
        let input = InputShape::Map { channels, height: size.0, width: size.1 };
        check_size("vit", input, patch, patch)?;
        let patch_init = if init == Init::Transformer { Init::PyTorch } else { init };
        let patches = PatchConv::new(channels, width, patch, patch_init, &vb.pp("patch_embed").pp("proj"))?;
        let grid = TokenGrid { n_prefix: 1 + registers, height: size.0 / patch, width: size.1 / patch };
        let token = |name, n: usize| -> CandleResult<(&'static str, Tensor)> {
            let init = Distribution::Randn { mean: 0.0, stdev: 1e-6 };
            Ok((name, vb.get_with_hints((1, n, width), name, init)?))
        };
        let mut prefix = vec![token("cls_token", 1)?];
        if registers > 0 {
            prefix.push(token("reg_token", registers)?);
        }
        let n_positions = grid.height * grid.width + if prefix_positions { grid.n_prefix } else { 0 };
        let init_positions = Distribution::Randn { mean: 0.0, stdev: 0.02 };
        let positions = vb.get_with_hints((1, n_positions, width), "pos_embed", init_positions)?;
        let blocks = (0..depth).map(|i| Block::new(config, i, init, &vb.pp("blocks").pp(i)));
        Ok(Self {
            input,
            grid,
            prefix_positions,
            patch,
            patches,
            prefix,
            positions,
            blocks: blocks.collect::<CandleResult<_>>()?,
            norm: LayerNorm::new(width, EPSILON, &vb.pp("norm"))?,
            width,
        })
    }

    /// Images (B, C, H, W) to tokens with their positions.
    fn embed(&self, xs: &Tensor) -> CandleResult<Tensor> {
        self.input.check(xs)?;
        let patches = self.patches.tokens(xs)?;
        let batch = xs.dim(0)?;
        let mut tokens = Vec::new();
        for (_, token) in &self.prefix {
            tokens.push(token.broadcast_as((batch, token.dim(1)?, self.width))?);
        }
        if self.prefix_positions {
            tokens.push(patches);
            return Tensor::cat(&tokens, 1)?.broadcast_add(&self.positions);
        }
        tokens.push(patches.broadcast_add(&self.positions)?);
        Tensor::cat(&tokens, 1)
    }

    fn n_positions_before(&self) -> usize {
        if self.prefix_positions { self.grid.n_prefix } else { 0 }
    }
}

impl Block {
    fn new(config: &VitConfig, i: usize, init: Init, vb: &VarBuilder<'_>) -> CandleResult<Self> {
        let &VitConfig { width, depth, heads, layer_scale, drop_path, .. } = config;
        let name = vb.prefix();
        let scale =
            |name: &str| layer_scale.map(|start| LayerScale::new(width, start, &vb.pp(name))).transpose();
        let path =
            |number| DropPath::new(DropPath::rate(drop_path, i, depth), format!("{name}.drop_path{number}"));
        Ok(Self {
            attention: Branch {
                norm: LayerNorm::new(width, EPSILON, &vb.pp("norm1"))?,
                layer: Attention::new(width, heads, init, &vb.pp("attn"))?,
                scale: scale("ls1")?,
                drop_path: path(1),
            },
            feed_forward: Branch {
                norm: LayerNorm::new(width, EPSILON, &vb.pp("norm2"))?,
                layer: FeedForward::new(width, 4 * width, init, &vb.pp("mlp"))?,
                scale: scale("ls2")?,
                drop_path: path(2),
            },
            name,
        })
    }

    fn forward(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let xs = self.attention.forward(xs, train, |layer, xs| layer.forward(xs, None))?;
        self.feed_forward.forward(&xs, train, FeedForward::forward)
    }

    fn describe(&self, trace: &mut Trace, n_tokens: usize) -> CandleResult<()> {
        self.attention.describe(trace, format!("{}.add1", self.name), |layer, trace| {
            layer.describe(trace, n_tokens, None, None)
        })?;
        self.feed_forward.describe(trace, format!("{}.add2", self.name), FeedForward::describe)
    }
}

impl<L> Branch<L> {
    /// x + f(norm(x)).
    fn forward(
        &self,
        xs: &Tensor,
        train: bool,
        f: impl Fn(&L, &Tensor) -> CandleResult<Tensor>,
    ) -> CandleResult<Tensor> {
        let ys = f(&self.layer, &self.norm.forward(xs)?)?;
        let ys = match &self.scale {
            Some(scale) => scale.forward(&ys)?,
            None => ys,
        };
        ops::add(xs, &self.drop_path.forward(&ys, train)?)
    }

    fn describe(
        &self,
        trace: &mut Trace,
        sum: String,
        f: impl Fn(&L, &mut Trace) -> CandleResult<()>,
    ) -> CandleResult<()> {
        let input = trace.place();
        self.norm.describe(trace);
        f(&self.layer, trace)?;
        if let Some(scale) = &self.scale {
            scale.describe(trace);
        }
        trace.add(sum, input);
        Ok(())
    }
}

impl Network for Vit {
    fn n_features(&self) -> usize {
        self.width
    }

    /// (B, C, H, W) to (B, 1 + R + N, F).
    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let mut xs = self.embed(xs)?;
        for block in &self.blocks {
            xs = block.forward(&xs, train)?;
        }
        self.norm.forward(&xs)
    }

    /// The class token.
    fn pre_logits(&self, features: &Tensor, _train: bool) -> CandleResult<Tensor> {
        features.narrow(1, 0, 1)?.squeeze(1)?.contiguous()
    }

    fn named_layers(&self) -> Vec<NamedLayer<'_>> {
        let embed = NamedLayer::new("pos_embed", |xs| self.embed(xs));
        let blocks =
            self.blocks.iter().map(|block| NamedLayer::new(&block.name, |xs| block.forward(xs, false)));
        let norm = NamedLayer::new("norm", |xs| self.norm.forward(xs));
        let pool = NamedLayer::new("class_token", |xs| self.pre_logits(xs, false));
        [embed].into_iter().chain(blocks).chain([norm, pool]).collect()
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        let parameter = LayerKind::Other("Parameter");
        self.patches.describe(trace)?;
        let n_patches = self.grid.height * self.grid.width;
        let tokens = |n_tokens| InputShape::Tokens { n_tokens, channels: self.width };
        trace.push("patch_embed.flatten", LayerKind::Flatten, Op::Tokens, tokens(n_patches));
        if !self.prefix_positions {
            trace.apply("pos_embed", Op::AddTokens(self.positions.clone()));
        }
        let prefix: Vec<&Tensor> = self.prefix.iter().map(|(_, token)| token).collect();
        trace.apply("prefix", Op::Prepend(Tensor::cat(&prefix, 1)?));
        let mut n_tokens = n_patches;
        for (name, token) in &self.prefix {
            n_tokens += token.dim(1)?;
            trace.push(*name, parameter, Op::Identity, tokens(n_tokens)).params = token.elem_count();
        }
        if self.prefix_positions {
            trace.apply("pos_embed", Op::AddTokens(self.positions.clone()));
        }
        trace.keep("pos_embed", parameter, Op::Identity).params = self.positions.elem_count();
        self.blocks.iter().try_for_each(|block| block.describe(trace, n_tokens))?;
        self.norm.describe(trace);
        let features = InputShape::Features(self.width);
        trace.push("class_token", LayerKind::Other("ClassToken"), Op::FirstToken, features);
        Ok(())
    }

    fn token_grid(&self) -> Option<TokenGrid> {
        Some(self.grid)
    }

    fn resizing(&self, name: &str, found: &[usize], size: Option<(usize, usize)>) -> Option<Resizing> {
        if name != "pos_embed" || found.last() != Some(&self.width) {
            return None;
        }
        let stated = size.map(|(height, width)| (height / self.patch, width / self.patch));
        Resizing::positions(found, self.n_positions_before(), stated, (self.grid.height, self.grid.width))
    }
}
