//! Swin transformers: Liu, Lin, Cao, Hu, Wei, Zhang, Lin and Guo, Swin transformer: Hierarchical vision transformer using
//! shifted windows, 2021.

use std::sync::Arc;

use candle_core::{D, Device, Result as CandleResult, Tensor};
use candle_nn::{Init as Distribution, VarBuilder};
use firstsight_data::InputSpec;
use firstsight_ops::{self as ops, Activation};

use super::photo::imagenet;
use crate::graph::Op;
use crate::info::{Build, check_size};
use crate::layers::{Attention, Dense, DropPath, FeedForward, LayerNorm, PatchConv, check_heads};
use crate::summary::{LayerKind, Trace};
use crate::weights::behind;
use crate::{
    BuildArgs, Error, Init, InputShape, LayerSpec, ModelInfo, NamedLayer, Network, OtherNames, Resizing,
    Result, Weights,
};

/// Swin by timm's names.
pub static SWINS: [ModelInfo; 3] = [
    variant(
        "swin_tiny_patch4_window7_224",
        |args| SwinConfig::of(SwinSize::Tiny).build(args),
        &[Weights::timm("timm/swin_tiny_patch4_window7_224.ms_in1k", "MIT", 81.388, || imagenet(224, 0.9))],
    ),
    variant(
        "swin_small_patch4_window7_224",
        |args| SwinConfig::of(SwinSize::Small).build(args),
        &[Weights::timm("timm/swin_small_patch4_window7_224.ms_in22k_ft_in1k", "MIT", 83.33, || {
            imagenet(224, 0.9)
        })],
    ),
    variant(
        "swin_base_patch4_window7_224",
        |args| SwinConfig::of(SwinSize::Base).build(args),
        &[Weights::timm("timm/swin_base_patch4_window7_224.ms_in22k_ft_in1k", "MIT", 85.276, || {
            imagenet(224, 0.9)
        })],
    ),
];
const fn variant(name: &'static str, build: Build, weights: &'static [Weights]) -> ModelInfo {
    ModelInfo {
        timm: Some(name),
        family: "Swin",
        paper: "Liu et al., Swin transformer, ICCV 2021",
        head: |n_classes| LayerSpec::dense("head.fc", n_classes),
        first_conv: Some("patch_embed.proj"),
        blocks: &[
            ("stem", &["patch_embed"]),
            ("layers.0", &["layers.0"]),
            ("layers.1", &["layers.1"]),
            ("layers.2", &["layers.2"]),
            ("layers.3", &["layers.3"]),
            ("norm", &["norm"]),
        ],
        smallest_input: PATCH,
        input_multiple: PATCH,
        input_spec: InputSpec::imagenet,
        init: Init::Transformer,
        weights,
        other_names: &[
            OtherNames { library: "torchvision", layers: torchvision_names },
            OtherNames { library: "transformers", layers: transformers_names },
        ],
        ..ModelInfo::new(name, build)
    }
}

fn torchvision_names() -> Vec<(String, String)> {
    const OUTER: [(&str, &str); 3] =
        [("features.0.0", "patch_embed.proj"), ("features.0.2", "patch_embed.norm"), ("head", "head.fc")];
    const BLOCK: [(&str, &str); 7] = [
        ("norm1", "norm1"),
        ("attn.relative_position_bias_table", "attn.relative_position_bias_table"),
        ("attn.qkv", "attn.qkv"),
        ("attn.proj", "attn.proj"),
        ("norm2", "norm2"),
        ("mlp.0", "mlp.fc1"),
        ("mlp.3", "mlp.fc2"),
    ];
    let blocks = each_block().flat_map(|(s, i)| {
        behind(&format!("features.{}.{i}.", 2 * s + 1), &format!("layers.{s}.blocks.{i}."), &BLOCK)
    });
    let merges = (1..4)
        .flat_map(|s| behind(&format!("features.{}.", 2 * s), &format!("layers.{s}.downsample."), &MERGE));
    behind("", "", &OUTER).into_iter().chain(blocks).chain(merges).collect()
}

/// A stage of transformers ends with the merge that is the next one's here.
fn transformers_names() -> Vec<(String, String)> {
    const OUTER: [(&str, &str); 4] = [
        ("swin.embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("swin.embeddings.norm", "patch_embed.norm"),
        ("swin.layernorm", "norm"),
        ("classifier", "head.fc"),
    ];
    const BLOCK: [(&str, &str); 9] = [
        ("layernorm_before", "norm1"),
        ("attention.self.relative_position_bias_table", "attn.relative_position_bias_table"),
        ("attention.self.query", "attn.qkv"),
        ("attention.self.key", "attn.qkv"),
        ("attention.self.value", "attn.qkv"),
        ("attention.output.dense", "attn.proj"),
        ("layernorm_after", "norm2"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ];
    let blocks = each_block().flat_map(|(s, i)| {
        let theirs = format!("swin.encoder.layers.{s}.blocks.{i}.");
        behind(&theirs, &format!("layers.{s}.blocks.{i}."), &BLOCK)
    });
    let merges = (1..4).flat_map(|s| {
        let theirs = format!("swin.encoder.layers.{}.downsample.", s - 1);
        behind(&theirs, &format!("layers.{s}.downsample."), &MERGE)
    });
    behind("", "", &OUTER).into_iter().chain(blocks).chain(merges).collect()
}

const MERGE: [(&str, &str); 2] = [("norm", "norm"), ("reduction", "reduction")];

/// Stage and number of every block of the deepest network.
fn each_block() -> impl Iterator<Item = (usize, usize)> {
    let depths = SwinConfig::of(SwinSize::Base).depths;
    depths.into_iter().enumerate().flat_map(|(s, depth)| (0..depth).map(move |i| (s, i)))
}

/// Width, depths and heads of Swin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwinSize {
    /// 2, 2, 6, 2 blocks of 96 to 768 features and 3 to 24 heads.
    Tiny,
    /// 2, 2, 18, 2 blocks of 96 to 768 features and 3 to 24 heads.
    Small,
    /// 2, 2, 18, 2 blocks of 128 to 1024 features and 4 to 32 heads.
    Base,
}

/// Settings of Swin with patches of 4 × 4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwinConfig {
    /// Channels of the input.
    pub channels: usize,
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Features of a token in the first stage. Each other has twice as many as the one before.
    pub width: usize,
    /// Heads of attention in the first stage. Each other has twice as many as the one before.
    pub heads: usize,
    /// Side of a window in tokens. Where the image has fewer, the window is the image.
    pub window: usize,
    /// Probability that the last block's branches are left out in training; it rises from 0 at the first block.
    pub drop_path: f64,
}

impl SwinConfig {
    /// The paper's network of this size for RGB.
    pub const fn of(size: SwinSize) -> Self {
        let (depths, width, heads) = match size {
            SwinSize::Tiny => ([2, 2, 6, 2], 96, 3),
            SwinSize::Small => ([2, 2, 18, 2], 96, 3),
            SwinSize::Base => ([2, 2, 18, 2], 128, 4),
        };
        Self { channels: 3, depths, width, heads, window: 7, drop_path: 0.0 }
    }

    fn build(self, args: &BuildArgs<'_>) -> Result<Arc<dyn Network>> {
        let (channels, height, width) = args.input.map()?;
        let config = Self { channels, ..self };
        Ok(Arc::new(Swin::new(&config, (height, width), args.init, &args.vb)?))
    }
}

/// Swin without its last layer, for images of one size: (B, C, H, W) to maps (B, F, ⌈H / 32⌉, ⌈W / 32⌉), and from these to
/// features (B, F). timm's maps have the channels last.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_models::networks::{Swin, SwinConfig, SwinSize};
/// use firstsight_models::{Init, Network, Params};
///
/// let params = Params::seeded(1, &Device::Cpu);
/// let config = SwinConfig { width: 24, ..SwinConfig::of(SwinSize::Tiny) };
/// let swin = Swin::new(&config, (96, 64), Init::Transformer, &params.builder())?;
/// let maps = swin.forward_features(&Tensor::zeros((2, 3, 96, 64), DType::F32, &Device::Cpu)?, false)?;
/// assert_eq!(maps.dims(), [2, 192, 3, 2]);
/// assert_eq!(swin.pre_logits(&maps, false)?.dims(), [2, 192]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Swin {
    input: InputShape,
    patches: PatchConv,
    patch_norm: LayerNorm,
    stages: Vec<Stage>,
    norm: LayerNorm,
    n_features: usize,
    /// Side of a window in tokens, where there are so many.
    window: usize,
}

#[derive(Debug, Clone)]
struct Stage {
    /// `layers.S`
    name: String,
    merge: Option<Merge>,
    blocks: Vec<Block>,
    /// Height and width in tokens.
    size: Size,
}

/// Height and width in tokens.
type Size = (usize, usize);

/// Four neighboring tokens become one.
#[derive(Debug, Clone)]
struct Merge {
    /// Height and width of the input in tokens.
    from: Size,
    norm: LayerNorm,
    reduction: Dense,
}

/// Attention within windows and a feed-forward layer, each normalized before and added to its input.
#[derive(Debug, Clone)]
struct Block {
    /// `layers.S.blocks.I`
    name: String,
    norm1: LayerNorm,
    attention: Attention,
    /// ((2h − 1)·(2w − 1), heads) for windows of h × w.
    position_biases: Tensor,
    windows: Windows,
    norm2: LayerNorm,
    feed_forward: FeedForward,
    drop_paths: [DropPath; 2],
}

/// The tokens of each window.
#[derive(Debug, Clone)]
struct Windows {
    /// Number of windows.
    count: usize,
    /// Tokens of a window.
    area: usize,
    /// The token at each place of each window, (count·area,). The last, after all tokens, is a token of zeros.
    gather: Tensor,
    /// Whether there are such places.
    padded: bool,
    /// Each token's place in the windows.
    scatter: Tensor,
    /// The row of the position biases for each pair of places in a window, (area²,).
    pairs: Tensor,
    /// −100 for pairs of tokens that are not neighbors in the image, else 0: (count, 1, area, area).
    mask: Option<Tensor>,
}

const PATCH: usize = 4;
/// ε of layer normalization.
const EPSILON: f64 = 1e-5;

impl Swin {
    /// The network for images of `size`, with variables from `vb`.
    ///
    /// With [`Init::Transformer`], the patches' convolution starts as PyTorch's, as in timm.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for windows without tokens and for heads that do not divide the width; a size that is no multiple of a
    /// patch, and variables that exist with another shape.
    pub fn new(config: &SwinConfig, size: (usize, usize), init: Init, vb: &VarBuilder<'_>) -> Result<Self> {
        if config.window == 0 {
            let (rule, found) = ("a window must have at least 1 token", "0".to_owned());
            return Err(Error::Setting { model: "swin", rule, found });
        }
        check_heads("swin", config.width, config.heads)?;
        let (patch_init, embed) =
            (if init == Init::Transformer { Init::PyTorch } else { init }, vb.pp("patch_embed"));
        let patches = PatchConv::new(config.channels, config.width, PATCH, patch_init, &embed.pp("proj"))?;
        let patch_norm = LayerNorm::new(config.width, EPSILON, &embed.pp("norm"))?;
        let (height, width) = size;
        let input = InputShape::Map { channels: config.channels, height, width };
        check_size("swin", input, PATCH, PATCH)?;
        let mut tokens = (size.0 / PATCH, size.1 / PATCH);
        let (mut stages, mut number) = (Vec::new(), 0);
        for (s, depth) in config.depths.into_iter().enumerate() {
            let (width, vb) = (config.width << s, vb.pp("layers").pp(s));
            let mut stage =
                Stage { name: vb.prefix(), merge: None, blocks: Vec::with_capacity(depth), size: tokens };
            if s > 0 {
                let vb = vb.pp("downsample");
                stage.merge = Some(Merge {
                    from: tokens,
                    norm: LayerNorm::new(2 * width, EPSILON, &vb.pp("norm"))?,
                    reduction: Dense::without_bias(2 * width, width, init, &vb.pp("reduction"))?,
                });
                tokens = (tokens.0.div_ceil(2), tokens.1.div_ceil(2));
                stage.size = tokens;
            }
            for i in 0..depth {
                let windows = Windows::new(tokens, config.window, i % 2 == 1, vb.device())?;
                let rate = DropPath::rate(config.drop_path, number, config.depths.iter().sum());
                let heads = config.heads << s;
                stage.blocks.push(Block::new(width, heads, windows, rate, init, &vb.pp("blocks").pp(i))?);
                number += 1;
            }
            stages.push(stage);
        }
        let n_features = config.width << (config.depths.len() - 1);
        Ok(Self {
            input,
            patches,
            patch_norm,
            stages,
            norm: LayerNorm::new(n_features, EPSILON, &vb.pp("norm"))?,
            n_features,
            window: config.window,
        })
    }

    /// Images to tokens.
    fn embed(&self, xs: &Tensor) -> CandleResult<Tensor> {
        self.input.check(xs)?;
        self.patch_norm.forward(&self.patches.tokens(xs)?)
    }
}

/// Tokens (B, h·w, C) to maps (B, C, h, w).
fn maps(tokens: &Tensor, (height, width): Size) -> CandleResult<Tensor> {
    let (batch, _, channels) = tokens.dims3()?;
    tokens.transpose(1, 2)?.reshape((batch, channels, height, width))
}

/// Maps (B, C, h, w) to tokens (B, h·w, C).
fn tokens(maps: &Tensor) -> CandleResult<Tensor> {
    maps.flatten_from(2)?.transpose(1, 2)?.contiguous()
}

impl Merge {
    /// (B, h·w, C) to (B, ⌈h / 2⌉·⌈w / 2⌉, 2C).
    fn forward(&self, xs: &Tensor) -> CandleResult<Tensor> {
        let ((batch, _, channels), (height, width)) = (xs.dims3()?, self.from);
        let xs = xs.reshape((batch, height, width, channels))?;
        let xs = xs.pad_with_zeros(1, 0, height % 2)?.pad_with_zeros(2, 0, width % 2)?;
        let (height, width) = (height.div_ceil(2), width.div_ceil(2));
        // Of the four, the second is below the first.
        let xs = xs.reshape(vec![batch, height, 2, width, 2, channels])?.permute(vec![0, 1, 3, 4, 2, 5])?;
        let xs = xs.reshape((batch, height * width, 4 * channels))?;
        self.reduction.forward(&self.norm.forward(&xs)?, Activation::Identity)
    }
}

impl Windows {
    /// Windows of `side` × `side` over so many tokens, moved by half a window if `shifted`.
    fn new((height, width): Size, side: usize, shifted: bool, device: &Device) -> CandleResult<Self> {
        let axis = |n: usize| (n.min(side), if shifted && n > side { side / 2 } else { 0 });
        let ((rows, shift_down), (columns, shift_right)) = (axis(height), axis(width));
        let (across, down) = (width.div_ceil(columns), height.div_ceil(rows));
        let (padded_height, padded_width) = (down * rows, across * columns);
        let (count, area) = (down * across, rows * columns);
        let places = (0..down).flat_map(|a| (0..across).map(move |b| (a, b))).flat_map(|(a, b)| {
            let within = (0..rows).flat_map(move |p| (0..columns).map(move |q| (p, q)));
            within.map(move |(p, q)| (a * rows + p, b * columns + q))
        });
        let (mut gather, mut scatter, mut regions) = (Vec::new(), vec![0u32; height * width], Vec::new());
        // Which part of the image a place of the moved one is from.
        let region = |i: usize, padded: usize, window: usize, shift: usize| match i {
            _ if shift == 0 => 0,
            i if i < padded - window => 0,
            i if i < padded - shift => 1,
            _ => 2,
        };
        for (place, (i, j)) in places.enumerate() {
            let token = match i < height && j < width {
                true => (i + shift_down) % height * width + (j + shift_right) % width,
                false => height * width,
            };
            if let Some(place_of) = scatter.get_mut(token) {
                *place_of = place as u32;
            }
            gather.push(token as u32);
            let of_row = region(i, padded_height, rows, shift_down);
            regions.push((of_row, region(j, padded_width, columns, shift_right)));
        }
        let pairs = (0..area).flat_map(|a| (0..area).map(move |b| (a, b))).map(|(a, b)| {
            let (down, right) =
                (a / columns + rows - 1 - b / columns, a % columns + columns - 1 - b % columns);
            (down * (2 * columns - 1) + right) as u32
        });
        let mask = (shift_down + shift_right > 0).then(|| {
            let mut mask = Vec::with_capacity(count * area * area);
            for window in regions.chunks_exact(area) {
                mask.extend(
                    window
                        .iter()
                        .flat_map(|a| window.iter().map(move |b| if a == b { 0f32 } else { -100.0 })),
                );
            }
            Tensor::from_vec(mask, (count, 1, area, area), device)
        });
        Ok(Self {
            count,
            area,
            gather: Tensor::new(gather, device)?,
            padded: padded_height * padded_width > height * width,
            scatter: Tensor::new(scatter, device)?,
            pairs: Tensor::from_iter(pairs, device)?,
            mask: mask.transpose()?,
        })
    }

    /// The biases of the pairs of places, (1, heads, area, area), from their table.
    fn position_biases(&self, table: &Tensor) -> CandleResult<Tensor> {
        let (area, heads) = (self.area, table.dim(D::Minus1)?);
        let biases = table.index_select(&self.pairs, 0)?.reshape((area, area, heads))?;
        biases.permute((2, 0, 1))?.contiguous()?.unsqueeze(0)
    }

    /// What is added to the scores, (1 or count, heads, area, area).
    fn bias(&self, table: &Tensor) -> CandleResult<Tensor> {
        let biases = self.position_biases(table)?;
        match &self.mask {
            Some(mask) => biases.broadcast_add(&mask.to_dtype(biases.dtype())?),
            None => Ok(biases),
        }
    }
}

impl Block {
    fn new(
        width: usize,
        heads: usize,
        windows: Windows,
        drop_path: f64,
        init: Init,
        vb: &VarBuilder<'_>,
    ) -> CandleResult<Self> {
        let (name, attention) = (vb.prefix(), vb.pp("attn"));
        // Every row is some pair's.
        let rows = windows.pairs.max_all()?.to_scalar::<u32>()? as usize + 1;
        let start = Distribution::Randn { mean: 0.0, stdev: 0.02 };
        let path = |number| DropPath::new(drop_path, format!("{name}.drop_path{number}"));
        Ok(Self {
            norm1: LayerNorm::new(width, EPSILON, &vb.pp("norm1"))?,
            position_biases: attention.get_with_hints(
                (rows, heads),
                "relative_position_bias_table",
                start,
            )?,
            attention: Attention::new(width, heads, init, &attention)?,
            windows,
            norm2: LayerNorm::new(width, EPSILON, &vb.pp("norm2"))?,
            feed_forward: FeedForward::new(width, 4 * width, init, &vb.pp("mlp"))?,
            drop_paths: [path(1), path(2)],
            name,
        })
    }

    /// (B, h·w, C) to the same shape.
    fn forward(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let windows = &self.windows;
        let mut ys = self.norm1.forward(xs)?;
        if windows.padded {
            ys = ys.pad_with_zeros(1, 0, 1)?;
        }
        let (batch, _, channels) = ys.dims3()?;
        let ys = ys.index_select(&windows.gather, 1)?;
        let ys = ys.reshape((batch * windows.count, windows.area, channels))?;
        let ys = self.attention.forward(&ys, Some(&windows.bias(&self.position_biases)?))?;
        let ys = ys.reshape((batch, windows.count * windows.area, channels))?;
        let ys = ys.index_select(&windows.scatter, 1)?;
        let [first, second] = &self.drop_paths;
        let xs = ops::add(xs, &first.forward(&ys, train)?)?;
        let ys = self.feed_forward.forward(&self.norm2.forward(&xs)?)?;
        ops::add(&xs, &second.forward(&ys, train)?)
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        let input = trace.place();
        self.norm1.describe(trace);
        let table = trace.keep(
            format!("{}.attn.relative_position_bias_table", self.name),
            LayerKind::Other("Parameter"),
            Op::Identity,
        );
        table.params = self.position_biases.elem_count();
        let Windows { count, area, gather, padded, scatter, mask, .. } = &self.windows;
        let to_windows = Op::ToWindows { tokens: gather.clone(), area: *area, padded: *padded };
        trace.apply(format!("{}.windows", self.name), to_windows);
        let bias = self.windows.position_biases(&self.position_biases)?;
        self.attention.describe(trace, *area, Some(bias), mask.clone())?;
        let from_windows = Op::FromWindows { places: scatter.clone(), n_places: count * area };
        trace.apply(format!("{}.tokens", self.name), from_windows);
        trace.add(format!("{}.add1", self.name), input);
        let sum = trace.place();
        self.norm2.describe(trace);
        self.feed_forward.describe(trace)?;
        trace.add(format!("{}.add2", self.name), sum);
        Ok(())
    }
}

impl Network for Swin {
    fn n_features(&self) -> usize {
        self.n_features
    }

    /// (B, C, H, W) to (B, F, ⌈H / 32⌉, ⌈W / 32⌉).
    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        let mut xs = self.embed(xs)?;
        let mut size = (0, 0);
        for stage in &self.stages {
            if let Some(merge) = &stage.merge {
                xs = merge.forward(&xs)?;
            }
            for block in &stage.blocks {
                xs = block.forward(&xs, train)?;
            }
            size = stage.size;
        }
        maps(&self.norm.forward(&xs)?, size)
    }

    fn pre_logits(&self, features: &Tensor, _train: bool) -> CandleResult<Tensor> {
        ops::global_avg_pool2d(features)
    }

    fn named_layers(&self) -> Vec<NamedLayer<'_>> {
        let first = self.stages.first().map_or((0, 0), |stage| stage.size);
        let mut layers = vec![NamedLayer::new("patch_embed", move |xs| maps(&self.embed(xs)?, first))];
        for stage in &self.stages {
            if let Some(merge) = &stage.merge {
                let name = format!("{}.downsample", stage.name);
                layers.push(NamedLayer::new(name, |xs| maps(&merge.forward(&tokens(xs)?)?, stage.size)));
            }
            for block in &stage.blocks {
                let forward = |xs: &Tensor| maps(&block.forward(&tokens(xs)?, false)?, stage.size);
                layers.push(NamedLayer::new(&block.name, forward));
            }
        }
        layers.push(NamedLayer::new("norm", |xs| {
            let (_, _, height, width) = xs.dims4()?;
            maps(&self.norm.forward(&tokens(xs)?)?, (height, width))
        }));
        layers.push(NamedLayer::new("head.global_pool", |xs| self.pre_logits(xs, false)));
        layers
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        self.patches.describe(trace)?;
        trace.apply("patch_embed.tokens", Op::Tokens);
        self.patch_norm.describe(trace);
        for stage in &self.stages {
            if let Some(merge) = &stage.merge {
                let (channels, _, _) = trace.shape().map()?;
                let (height, width) = stage.size;
                let shape = InputShape::Map { channels: 4 * channels, height, width };
                let (name, kind) =
                    (format!("{}.downsample.merge", stage.name), LayerKind::Other("PatchMerging"));
                trace.push(name, kind, Op::MergePatches { size: merge.from }, shape);
                merge.norm.describe(trace);
                merge.reduction.describe(trace)?;
            }
            stage.blocks.iter().try_for_each(|block| block.describe(trace))?;
        }
        self.norm.describe(trace);
        trace.global_pool("head.global_pool")
    }

    fn resizing(&self, name: &str, found: &[usize], size: Option<(usize, usize)>) -> Option<Resizing> {
        let block = name.strip_suffix(".attn.relative_position_bias_table")?;
        let of_block = |(_, stage): &(usize, &Stage)| stage.blocks.iter().any(|other| other.name == block);
        let (s, stage) = self.stages.iter().enumerate().find(of_block)?;
        let heads = stage.blocks.first()?.position_biases.dim(D::Minus1).ok()?;
        if found.last() != Some(&heads) {
            return None;
        }
        // Each merge halves the tokens, rounded up.
        let distances = |tokens: usize| (2 * tokens.min(self.window)).saturating_sub(1);
        let of_size = |side: usize| distances((side / PATCH).div_ceil(1 << s));
        let stated = size.map(|(height, width)| (of_size(height), of_size(width)));
        Resizing::relative_positions(found, stated, (distances(stage.size.0), distances(stage.size.1)))
    }
}
