//! Softmax and attention.

use candle_core::{D, Result, Tensor};

use crate::shape::{AttentionShape, SelfAttentionShape, check_softmax};

/// [`crate::softmax`] as exponentials over their sum.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    check_softmax(x)?;
    // Softmax does not depend on what is subtracted, so the maximum is a constant.
    let max = x.max_keepdim(D::Minus1)?.detach();
    let exp = x.broadcast_sub(&max)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

/// [`crate::attention`] as two matrix products with the softmax of all scores between them.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    attention_by(softmax, [q, k, v], scale, bias)
}

/// [`attention`] with an implementation of softmax.
pub(crate) fn attention_by(
    softmax: fn(&Tensor) -> Result<Tensor>,
    [q, k, v]: [&Tensor; 3],
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let AttentionShape { batch, heads, queries, keys, .. } = AttentionShape::new(q, k, v, bias)?;
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let mut scores = (q.matmul(&k.t()?)? * scale)?;
    if let Some(bias) = bias {
        let groups = bias.dim(0)?;
        let grouped = scores.reshape((batch / groups, groups, heads, queries, keys))?;
        scores = grouped.broadcast_add(&bias.unsqueeze(0)?)?.reshape((batch, heads, queries, keys))?;
    }
    softmax(&scores)?.matmul(&v)
}

/// [`crate::self_attention`] as [`attention`] on the parts of the projection.
pub fn self_attention(qkv: &Tensor, heads: usize, bias: Option<&Tensor>) -> Result<Tensor> {
    self_attention_by(softmax, qkv, heads, bias)
}

/// [`self_attention`] with an implementation of softmax.
pub(crate) fn self_attention_by(
    softmax: fn(&Tensor) -> Result<Tensor>,
    qkv: &Tensor,
    heads: usize,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let SelfAttentionShape { batch, tokens, dim } = SelfAttentionShape::new(qkv, heads, bias)?;
    let parts = qkv.reshape((batch, tokens, 3, heads, dim))?.permute((2, 0, 3, 1, 4))?;
    let (q, k, v) = (parts.get(0)?, parts.get(1)?, parts.get(2)?);
    let y = attention_by(softmax, [&q, &k, &v], 1.0 / (dim as f64).sqrt(), bias)?;
    y.transpose(1, 2)?.reshape((batch, tokens, heads * dim))
}
