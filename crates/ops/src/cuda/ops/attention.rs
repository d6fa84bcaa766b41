//! Attention: products of candle's with the softmax's kernel.

use candle_core::{Result, Tensor};

use super::softmax;
use crate::reference::{attention_by, self_attention_by};

/// [`crate::attention`]
pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    attention_by(softmax, [q, k, v], scale, bias)
}

/// [`crate::self_attention`]
pub(crate) fn self_attention(qkv: &Tensor, heads: usize, bias: Option<&Tensor>) -> Result<Tensor> {
    self_attention_by(softmax, qkv, heads, bias)
}
