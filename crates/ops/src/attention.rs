//! Softmax and multi-head attention.

use candle_core::{Result, Tensor};

use crate::reference;

/// Softmax over the last dimension of `x` (…, K): e^x / Σ e^x.
///
/// # Errors
///
/// A scalar, or a last dimension of size 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let y = firstsight_ops::softmax(&Tensor::new(&[[1f32, 1.], [-200., 200.]], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[0.5, 0.5], [0.0, 1.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    reference::softmax(x)
}

/// Scaled dot-product attention (Vaswani et al. 2017): softmax(scale·q·kᵀ + bias)·v, for each sample and head.
///
/// `q` (B, heads, N, d), `k` (B, heads, M, d) and `v` (B, heads, M, e) give (B, heads, N, e). `bias` (G, heads or 1, N, M) is
/// added to the scores: relative positions, or a mask of large negative numbers. Sample b gets bias\[b mod G\], so G is 1 or, for
/// windows that alternate as in Swin, a divisor of B.
///
/// # Errors
///
/// Shapes that do not fit.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let qk = Tensor::zeros((1, 1, 2, 3), candle_core::DType::F32, &Device::Cpu)?;
/// let v = Tensor::new(&[[[[0f32], [4.]]]], &Device::Cpu)?;
/// let bias = Tensor::new(&[[[[0f32, -1e9], [0., 0.]]]], &Device::Cpu)?;
/// let y = firstsight_ops::attention(&qk, &qk, &v, 1.0, Some(&bias))?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0., 2.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    reference::attention(q, k, v, scale, bias)
}

/// [`attention`] of tokens to each other, on one projection to queries, keys and values as timm's transformers have it:
/// `qkv` (B, N, 3·heads·d) to (B, N, heads·d), with scale 1/√d.
///
/// The last dimension of `qkv` is (3, heads, d): first all queries. This saves the copies that bring heads before tokens and back.
///
/// # Errors
///
/// Shapes that do not fit.
///
/// ```
/// use candle_core::{Device, Tensor};
/// // One head of one feature: queries 0, keys 1 and 2, values 5 and 7.
/// let qkv = Tensor::new(&[[[0f32, 1., 5.], [0., 2., 7.]]], &Device::Cpu)?;
/// let y = firstsight_ops::self_attention(&qkv, 1, None)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [6., 6.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn self_attention(qkv: &Tensor, heads: usize, bias: Option<&Tensor>) -> Result<Tensor> {
    reference::self_attention(qkv, heads, bias)
}
