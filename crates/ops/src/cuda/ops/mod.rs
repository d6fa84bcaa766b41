//! The ops on devices: programs of kernels, and the reference implementations where there are none.

mod activation;
mod attention;
mod batch_norm;
mod bytes;
mod conv;
mod dense;
mod depthwise;
mod dropout;
mod layer_norm;
mod linear;
pub(super) mod loss;
pub(crate) mod optim;
mod pool;
mod softmax;
mod sums;

pub(crate) use self::activation::activate;
pub(crate) use self::attention::{attention, self_attention};
pub(crate) use self::batch_norm::batch_norm;
pub(crate) use self::bytes::normalize_bytes;
pub(crate) use self::conv::conv_block;
pub(crate) use self::dropout::dropout;
pub(crate) use self::layer_norm::{layer_norm, layer_norm_2d};
pub(crate) use self::linear::{feed_forward, linear};
pub(crate) use self::loss::{soft_cross_entropy, softmax_cross_entropy};
pub(crate) use self::pool::{avg_pool2d, max_pool2d};
pub(crate) use self::softmax::softmax;
pub(crate) use crate::reference::{
    drop_path, global_response_norm, global_response_norm_2d, layer_scale, layer_scale_2d, scale_channels,
};
