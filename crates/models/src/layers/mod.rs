//! Layers of the networks.

mod adaptive_pool;
mod conv;
mod dropout;
mod mobile_block;
mod rbf;
mod sequential;
mod subsampling;
mod transformer;

pub(crate) use adaptive_pool::adaptive_avg_pool2d;
pub use conv::NormConfig;
pub(crate) use conv::{Conv, ConvNorm, ConvSpec, Link, block};
pub(crate) use dropout::Dropout;
pub use firstsight_ops::Padding;
pub(crate) use mobile_block::{MobileBlock, MobileKind, MobileSpec, PointwiseLinear, SqueezeSpec};
pub use rbf::Rbf;
pub use sequential::{Layer, LayerSpec, Sequential};
pub(crate) use subsampling::Subsampling;
pub(crate) use transformer::{
    Attention, Dense, DropPath, FeedForward, GlobalResponseNorm, LayerNorm, LayerScale, PatchConv,
    check_heads,
};
