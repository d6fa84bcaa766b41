//! Softmax and multi-head attention.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use crate::autograd::{self, Slot, apply1, apply2, route_values};
use crate::cpu::attention::{
    Arguments, Attention, BiasShape, GradBuffers, Layout as HeadsLayout, Normalizer,
};
use crate::cpu::memory::buffer::zeros;
use crate::cpu::memory::planes::Shared;
use crate::cpu::{self, softmax as rows};
use crate::elsewhere;
use crate::error::Error;
use crate::shape::{AttentionShape, SelfAttentionShape, check_softmax};

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
    if !cpu::has_kernels(&[x]) {
        return elsewhere::softmax(x);
    }
    let size = check_softmax(x)?;
    apply1(&x.contiguous()?, Softmax { size })
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
    if !cpu::has_kernels(&[q, k, v, bias.unwrap_or(q)]) {
        return elsewhere::attention(q, k, v, scale, bias);
    }
    let shape = AttentionShape::new(q, k, v, bias)?;
    let AttentionShape { heads, queries, keys, dim, out_dim, .. } = shape;
    let attention = Attention {
        shape,
        scale: scale as f32,
        q: HeadsLayout::by_head(heads, queries, dim),
        k: HeadsLayout::by_head(heads, keys, dim),
        v: HeadsLayout::by_head(heads, keys, out_dim),
        y: HeadsLayout::by_head(heads, queries, out_dim),
        bias: bias_shape(bias)?,
    };
    let op = AttentionOp {
        attention,
        output: Shape::from((shape.batch, heads, queries, out_dim)),
        keys_and_values: Some((k.contiguous()?, v.contiguous()?)),
        bias: bias.map(Tensor::contiguous).transpose()?,
        slots: Vec::new(),
        normalizers: OnceLock::new(),
    };
    op.apply(q)
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
    if !cpu::has_kernels(&[qkv, bias.unwrap_or(qkv)]) {
        return elsewhere::self_attention(qkv, heads, bias);
    }
    let SelfAttentionShape { batch, tokens, dim } = SelfAttentionShape::new(qkv, heads, bias)?;
    let width = heads * dim;
    let part = |index| HeadsLayout {
        offset: index * width,
        sample: tokens * 3 * width,
        head: dim,
        token: 3 * width,
    };
    let attention = Attention {
        shape: AttentionShape { batch, heads, queries: tokens, keys: tokens, dim, out_dim: dim },
        scale: (1.0 / (dim as f64).sqrt()) as f32,
        q: part(0),
        k: part(1),
        v: part(2),
        y: HeadsLayout { offset: 0, sample: tokens * width, head: dim, token: width },
        bias: bias_shape(bias)?,
    };
    let op = AttentionOp {
        attention,
        output: Shape::from((batch, tokens, width)),
        keys_and_values: None,
        bias: bias.map(Tensor::contiguous).transpose()?,
        slots: Vec::new(),
        normalizers: OnceLock::new(),
    };
    op.apply(qkv)
}

fn bias_shape(bias: Option<&Tensor>) -> Result<Option<BiasShape>> {
    let Some(bias) = bias else { return Ok(None) };
    let (groups, heads, ..) = bias.dims4()?;
    Ok(Some(BiasShape { groups, heads }))
}

struct Softmax {
    size: usize,
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = rows::forward(cpu::slice(x, layout)?, self.size);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let x_grad = rows::backward(cpu::data(y).slice()?, cpu::data(&grad).slice()?, self.size);
        route_values(x, x_grad)
    }
}

/// An attention as an op on its queries, or on a projection that holds queries, keys and values. The other arguments derive from
/// handles.
struct AttentionOp {
    attention: Attention,
    output: Shape,
    /// `None` if they are in the first argument.
    keys_and_values: Option<(Tensor, Tensor)>,
    bias: Option<Tensor>,
    /// Of keys, values and bias, as many as there are.
    slots: Vec<Slot>,
    normalizers: OnceLock<Vec<Normalizer>>,
}

impl AttentionOp {
    fn others(&self) -> Vec<&Tensor> {
        let keys_and_values = self.keys_and_values.iter().flat_map(|(k, v)| [k, v]);
        keys_and_values.chain(&self.bias).collect()
    }

    fn apply(mut self, first: &Tensor) -> Result<Tensor> {
        let first = first.contiguous()?;
        let (slots, handles) = autograd::handles(&self.others())?;
        self.slots = slots;
        apply2([&first, &handles], self)
    }

    /// Calls `f` with the arguments' values.
    fn with_arguments<T>(&self, first: &[f32], f: impl FnOnce(Arguments<'_>) -> Result<T>) -> Result<T> {
        let bias = self.bias.as_ref().map(cpu::data);
        let bias = match &bias {
            Some(bias) => Some(bias.slice()?),
            None => None,
        };
        match &self.keys_and_values {
            Some((k, v)) => {
                let (k, v) = (cpu::data(k), cpu::data(v));
                f(Arguments { q: first, k: k.slice()?, v: v.slice()?, bias })
            }
            None => f(Arguments { q: first, k: first, v: first, bias }),
        }
    }
}

impl CustomOp2 for AttentionOp {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        first: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let first = cpu::slice(first, layout)?;
        let (y, normalizers) =
            self.with_arguments(first, |arguments| Ok(self.attention.forward(arguments)))?;
        let _ = self.normalizers.set(normalizers);
        Ok((CpuStorage::F32(y), self.output.clone()))
    }

    fn bwd(
        &self,
        first: &Tensor,
        handles: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(normalizers) = self.normalizers.get() else {
            return Err(Error::NotTracked { op: "attention" }.into());
        };
        let grad = grad.contiguous()?;
        let (grad_data, data) = (cpu::data(&grad), cpu::data(first));
        let (grad, values) = (grad_data.slice()?, data.slice()?);
        let wants_bias = self.bias.is_some() && self.slots.last().is_some_and(Slot::wants_grad);
        let mut first_grad = zeros(values.len());
        let others = self.keys_and_values.as_ref().map(|(k, v)| (k.elem_count(), v.elem_count()));
        let (mut k_grad, mut v_grad) = others.map_or_else(Default::default, |(k, v)| (zeros(k), zeros(v)));
        let bias_grad = {
            let (of_first, of_k, of_v) =
                (Shared::new(&mut first_grad), Shared::new(&mut k_grad), Shared::new(&mut v_grad));
            let into = match others {
                Some(_) => GradBuffers { q: &of_first, k: &of_k, v: &of_v },
                None => GradBuffers { q: &of_first, k: &of_first, v: &of_first },
            };
            self.with_arguments(values, |arguments| {
                Ok(self.attention.backward(arguments, normalizers, grad, into, wants_bias))
            })?
        };
        let mut grads = match others {
            Some(_) => vec![k_grad, v_grad],
            None => Vec::new(),
        };
        grads.extend(bias_grad);
        for ((slot, tensor), grad) in self.slots.iter().zip(self.others()).zip(grads) {
            slot.add(cpu::tensor(grad, tensor.shape())?)?;
        }
        let handles = if handles.track_op() { Some(handles.zeros_like()?) } else { None };
        let first_grad = if first.track_op() { route_values(first, first_grad)? } else { None };
        Ok((first_grad, handles))
    }
}
