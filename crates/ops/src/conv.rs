//! Convolution, alone and with pooling as one op.

use std::sync::{Arc, OnceLock};

use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

use crate::autograd::is_tracked;
use crate::config::{Activation, Conv2dConfig, PadCounting, Pool2dConfig};
use crate::conv_block::ConvLayer;
use crate::cpu::conv::avg_pool::ConvAvgPool;
use crate::cpu::conv::block::{
    ConvBnActSpec, ForwardPass, GradSource, InferenceWeights, OutputGrad, PropagatedGrad,
};
use crate::cpu::conv::dense::PackedConv;
use crate::cpu::conv::epilogue::LazyMap;
use crate::cpu::conv::max_pool;
use crate::cpu::memory::buffer::{self, Buffer};
use crate::cpu::{self, WeightedGrads, elementwise, plan, pool};
use crate::custom_op::{self, Backward, Wants, WeightedOp};
use crate::error::Error;
use crate::packed_weights;
use crate::pool::avg_pool2d;
use crate::shape::{ConvShape, PoolShape};

/// Convolution (cross-correlation, as in every framework) with bias and activation in one pass.
///
/// `x` (B, C, H, W), `weight` (O, C / groups, kh, kw) and `bias` (O,) have one float dtype. The result is (B, O, oh, ow)
/// with the size of [`Conv2dConfig::output_size`]:
/// y\[b, o, i, j\] = f(bias\[o\] + Σ weight\[o, c, u, v\] · x\[b, c, i·sh + u·dh − top, j·sw + v·dw − left\]).
///
/// [`ConvLayer`] and [`crate::ConvBlock`] fuse convolutions with batch normalization, pooling and shortcuts.
///
/// # Errors
///
/// Shapes that do not fit each other or the settings ([`crate::Error`]).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_ops::{Activation, Conv2dConfig, Padding2d, conv2d};
///
/// let x = Tensor::ones((1, 1, 4, 4), DType::F32, &Device::Cpu)?;
/// let weight = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let config = Conv2dConfig { padding: Padding2d::symmetric(1, 1), ..Default::default() };
/// let y = conv2d(&x, &weight, None, &config, Activation::Relu)?;
/// assert_eq!(y.get(0)?.get(0)?.to_vec2::<f32>()?[0], [4.0, 6.0, 6.0, 4.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv2dConfig,
    activation: Activation,
) -> Result<Tensor> {
    let layer = ConvLayer::new(weight, *config).activation(activation);
    bias.map_or(layer, |bias| layer.bias(bias)).forward(x)
}

/// The kernels for a convolution with bias and activation.
pub(crate) fn conv(x: &Tensor, layer: &ConvLayer<'_>) -> Result<Tensor> {
    let shape = layer.shape(x.dims())?;
    let spec = ConvBnActSpec::new(shape, None, layer.activation);
    let packed = packed_weights::reuse(spec.packing(), &layer.tensors(), || {
        let (weight, bias) = (cpu::data(layer.weight), layer.bias.map(cpu::data));
        let bias = bias.as_ref().map(cpu::Data::slice).transpose()?;
        Ok(InferenceWeights::without_norm(&spec, weight.slice()?, bias))
    })?;
    custom_op::apply(Conv { spec, packed }, x, layer.weight, layer.bias)
}

/// The kernels for a convolution with bias, max pooling and activation.
pub(crate) fn conv_max_pool(x: &Tensor, layer: &ConvLayer<'_>, pool: &Pool2dConfig) -> Result<Tensor> {
    let shape = layer.shape(x.dims())?;
    let pool = PoolShape::new(&shape.output_dims(), pool)?;
    let ConvLayer { weight, bias, activation, .. } = *layer;
    let tracked = [Some(x), Some(weight), bias].into_iter().flatten().any(is_tracked);
    let op = ConvMaxPool {
        algorithm: plan::conv_max_pool(&shape, tracked),
        shape,
        activation,
        pool,
        tracked,
        argmax: OnceLock::new(),
    };
    custom_op::apply(op, x, weight, bias)
}

/// The kernels for a convolution with bias, activation and average pooling.
pub(crate) fn conv_avg_pool(
    x: &Tensor,
    layer: &ConvLayer<'_>,
    pool: &Pool2dConfig,
    counting: PadCounting,
) -> Result<Tensor> {
    let conv = layer.shape(x.dims())?;
    let pool = PoolShape::new(&conv.output_dims(), pool)?;
    match plan::conv_avg_pool(&conv, &pool) {
        plan::ConvAvgPool::BatchLanes => {
            let kernel = ConvAvgPool { conv, activation: layer.activation, pool, counting };
            let op = ConvAvgPoolOp { kernel, map: OnceLock::new() };
            custom_op::apply(op, x, layer.weight, layer.bias)
        }
        plan::ConvAvgPool::Separate => avg_pool2d(&self::conv(x, layer)?, &pool.config, counting),
    }
}

struct Conv {
    spec: ConvBnActSpec,
    packed: Option<Arc<InferenceWeights>>,
}

impl WeightedOp for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output_shape(&self) -> Shape {
        Shape::from(self.spec.shape.output_dims().as_slice())
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let mut y = buffer::zeros(self.spec.shape.output_len());
        let mut run = |weights: &InferenceWeights| weights.run(&self.spec, LazyMap::stored(x), &mut y);
        match &self.packed {
            Some(weights) => run(weights),
            None => run(&InferenceWeights::without_norm(&self.spec, weight, Some(bias))),
        }
        y
    }

    fn backward(&self, pass: Backward<'_>) -> Result<WeightedGrads> {
        Ok(conv_grads(&self.spec, pass))
    }
}

/// Gradients of a convolution's arguments.
fn conv_grads(spec: &ConvBnActSpec, pass: Backward<'_>) -> WeightedGrads {
    let Backward { x, weight, y, grad, wants } = pass;
    let grads = ForwardPass::without_norm(spec, weight, y).backward(
        LazyMap::stored(x),
        GradSource::Output(OutputGrad::Dense(grad)),
        None,
        wants.x.then(|| Buffer::fresh(x.len())),
        wants.weight,
    );
    let x = grads.x.map(|PropagatedGrad { values, .. }| values.into_vec());
    WeightedGrads { x, weight: grads.weight, bias: Some(grads.beta) }
}

struct ConvMaxPool {
    algorithm: plan::ConvMaxPool,
    shape: ConvShape,
    activation: Activation,
    pool: PoolShape,
    /// Whether a backward pass may follow.
    tracked: bool,
    /// The argmax of the forward pass, as the planned backward pass reads it: the offsets of windows in the padded input
    /// ([`plan::ConvMaxPoolGrad::AtMaxima`]) or indices in a plane of the map.
    argmax: OnceLock<Vec<u32>>,
}

impl WeightedOp for ConvMaxPool {
    fn name(&self) -> &'static str {
        "conv2d_max_pool"
    }

    fn output_shape(&self) -> Shape {
        let PoolShape { batch, channels, oh, ow, .. } = self.pool;
        Shape::from((batch, channels, oh, ow))
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let algorithm = match self.algorithm {
            plan::ConvMaxPool::Fused => {
                let mut argmax = self.tracked.then(Vec::new);
                let conv = max_pool::Forward::new(&self.shape, weight, bias);
                let y = conv.run(x, self.activation, &self.pool, argmax.as_mut());
                if let Some(argmax) = argmax {
                    let _ = self.argmax.set(argmax);
                }
                return y;
            }
            plan::ConvMaxPool::Separate(algorithm) => algorithm,
        };
        let mut map = Buffer::dirty(self.shape.output_len());
        let conv = PackedConv::new(algorithm, &self.shape, weight, None);
        conv.forward(&self.shape, LazyMap::stored(x), Some(bias), Activation::Identity, &mut map);
        let mut y = if self.tracked {
            let (y, mut argmax) = pool::max_forward(&self.pool, &map);
            if self.shape.offsets_fit_u32() {
                let offsets = max_pool::window_offsets(&self.shape);
                argmax.par_iter_mut().for_each(|index| *index = offsets[*index as usize]);
            }
            let _ = self.argmax.set(argmax);
            y
        } else {
            pool::max_values(&self.pool, &map)
        };
        elementwise::par_activate(&mut y, self.activation);
        y
    }

    fn backward(&self, pass: Backward<'_>) -> Result<WeightedGrads> {
        let Some(argmax) = self.argmax.get() else {
            return Err(Error::NotTracked { op: self.name() }.into());
        };
        let Backward { x, weight, y, grad, wants: Wants { x: wants_x, weight: wants_weight, .. } } = pass;
        Ok(match plan::conv_max_pool_grad(&self.shape) {
            plan::ConvMaxPoolGrad::AtMaxima => max_pool::Backward {
                shape: &self.shape,
                pool: &self.pool,
                activation: self.activation,
                x,
                weight,
                y,
                grad,
                argmax,
            }
            .run(wants_x, wants_weight),
            plan::ConvMaxPoolGrad::Separate => {
                let grad = elementwise::par_activation_grad(grad, y, self.activation);
                let grad = pool::max_backward(&self.pool, &grad, argmax);
                let spec = ConvBnActSpec::new(self.shape, None, Activation::Identity);
                conv_grads(&spec, Backward { y: &grad, grad: &grad, ..pass })
            }
        })
    }
}

struct ConvAvgPoolOp {
    kernel: ConvAvgPool,
    /// The map between convolution and pooling, as [`ConvAvgPool::forward`] returns it.
    map: OnceLock<Buffer>,
}

impl WeightedOp for ConvAvgPoolOp {
    fn name(&self) -> &'static str {
        "conv2d_avg_pool"
    }

    fn output_shape(&self) -> Shape {
        let PoolShape { batch, channels, oh, ow, .. } = self.kernel.pool;
        Shape::from((batch, channels, oh, ow))
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let (y, map) = self.kernel.forward(x, weight, bias);
        let _ = self.map.set(map);
        y
    }

    fn backward(&self, pass: Backward<'_>) -> Result<WeightedGrads> {
        let Some(map) = self.map.get() else {
            return Err(Error::NotTracked { op: self.name() }.into());
        };
        let Backward { x, weight, grad, wants, .. } = pass;
        Ok(self.kernel.backward(x, weight, map, grad, wants.x, wants.weight))
    }
}
