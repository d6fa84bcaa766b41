use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::config::{Activation, Conv2dConfig, Pool2dConfig};
use crate::cpu::buffer::{self, Buffer};
use crate::cpu::conv_direct::{self, Plan};
use crate::cpu::conv_product::Packed;
use crate::cpu::conv_sparse::{Backward, Grads};
use crate::cpu::source::Source;
use crate::cpu::stage::{Flow, Given, Parameters, Prepared, Ran, Stage};
use crate::cpu::{self, elementwise, pool};
use crate::portable;
use crate::shape::{ConvShape, PoolShape};

/// Convolution (cross-correlation, as in every framework) with bias and activation in one pass.
///
/// `x` (B, C, H, W), `weight` (O, C / groups, kh, kw), `bias` (O,), one float dtype; gives (B, O, oh, ow) with the
/// size of [`Conv2dConfig::output_size`]:
/// y\[b, o, i, j\] = f(bias\[o\] + Σ weight\[o, c, u, v\] · x\[b, c, i·sh + u·dh − top, j·sw + v·dw − left\]).
///
/// # Errors
/// Shapes that do not fit each other or the settings ([`crate::Error`]).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use firstsight_ops::{Activation, Conv2dConfig, Padding2d, conv2d};
///
/// let x = Tensor::ones((1, 1, 4, 4), DType::F32, &Device::Cpu)?;
/// let weight = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let config = Conv2dConfig { padding: Padding2d::symmetric(1, 1), ..Conv2dConfig::PLAIN };
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
    if !has_kernels(x, weight, bias) {
        return portable::conv2d(x, weight, bias, config, activation);
    }
    activation.check("conv2d")?;
    let shape = ConvShape::new(x, weight, bias, config)?;
    Conv { shape, activation, pooling: None }.apply(x, weight, bias)
}

/// [`conv2d`], then [`crate::max_pool2d`], as one op that doesn't write the map between them, unless a
/// window holds 256 values or more, where that costs little. Its backward pass
/// visits the maxima only, since the gradient is zero elsewhere.
///
/// The maximum is taken before the activation, which comes to the same because every [`Activation`] rises, except
/// in one case: where inputs that differ give outputs that are rounded to one number, the gradient goes to the
/// largest of them, and not to the first.
///
/// Where no argument is on the tape, 5 × 5 windows may go through Winograd's tiles and be rounded otherwise, within 1e-5 of
/// the largest.
///
/// # Errors
/// As for [`conv2d`] and [`crate::max_pool2d`].
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use firstsight_ops::{Activation, Conv2dConfig, Pool2dConfig, conv2d_max_pool};
///
/// let x = Tensor::arange(0f32, 16., &Device::Cpu)?.reshape((1, 1, 4, 4))?;
/// let weight = Var::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
/// let pool = Pool2dConfig::square(2);
/// let y = conv2d_max_pool(&x, &weight, None, &Conv2dConfig::PLAIN, Activation::Relu, &pool)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [5., 7., 13., 15.]);
/// let grads = y.sum_all()?.backward()?;
/// assert_eq!(grads.get(&weight).unwrap().flatten_all()?.to_vec1::<f32>()?, [40.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn conv2d_max_pool(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv2dConfig,
    activation: Activation,
    pool: &Pool2dConfig,
) -> Result<Tensor> {
    if !has_kernels(x, weight, bias) {
        return portable::conv2d_max_pool(x, weight, bias, config, activation, pool);
    }
    activation.check("conv2d_max_pool")?;
    let shape = ConvShape::new(x, weight, bias, config)?;
    let pool = PoolShape::after(&shape, pool)?;
    let tracked = x.track_op() || weight.track_op() || bias.is_some_and(Tensor::track_op);
    let pooling = Pooling { shape: pool, tracked, places: OnceLock::new() };
    Conv { shape, activation, pooling: Some(pooling) }.apply(x, weight, bias)
}

fn has_kernels(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> bool {
    cpu::has_kernels(&[x, weight, bias.unwrap_or(x)])
}

/// Largest maps of the direct kernel are those whose places fit 32 bits; larger ones are unfolded.
struct Conv {
    shape: ConvShape,
    activation: Activation,
    pooling: Option<Pooling>,
}

struct Pooling {
    shape: PoolShape,
    /// Whether a backward pass may come.
    tracked: bool,
    /// Where the maxima lay in the forward pass: in the padded input if the direct kernel found them, else in the map.
    places: OnceLock<Places>,
}

enum Places {
    Padded(Vec<u32>),
    Map(Vec<u32>),
}

impl Conv {
    fn apply(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let bias = cpu::bias(bias, self.shape.c_out)?;
        x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, self)
    }

    /// Whether a window holds so many values that writing the map is cheap beside summing it, and the faster product
    /// makes good for it.
    fn deep(&self) -> bool {
        const DEEP: usize = 256;
        let ConvShape { c_in, kh, kw, config, .. } = self.shape;
        c_in / config.groups * kh * kw >= DEEP
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let x = Source::plain(x);
        let Some(pooling) = &self.pooling else {
            let mut y = buffer::zeros(self.shape.output_len());
            let stage = Stage { shape: self.shape, norm: None, activation: self.activation };
            Prepared::of_bare(&stage, Parameters { weight, gamma: &[], beta: bias }).run(x, &mut y);
            return y;
        };
        let in_reach = conv_direct::is_in_reach(&self.shape);
        if in_reach && !self.deep() {
            let mut places = pooling.tracked.then(Vec::new);
            let plan = Plan::new(&self.shape, weight, bias);
            let y = plan.forward(x.values, self.activation, &pooling.shape, places.as_mut());
            if let Some(places) = places {
                let _ = pooling.places.set(Places::Padded(places));
            }
            return y;
        }
        // Of values that are nearly equal one gets the gradient: the choice is held to the finer rounding, and so are 3 × 3
        // windows without a gradient, whose results are the same bits then.
        let packed = if pooling.tracked || (self.shape.kh, self.shape.kw) == (3, 3) {
            Packed::windows(&self.shape, weight)
        } else {
            Packed::new(&self.shape, weight, None)
        };
        let mut map = Buffer::dirty(self.shape.output_len());
        packed.forward(x, Some(bias), Activation::Identity, &mut map);
        let mut y = if pooling.tracked {
            let (y, mut places) = pool::max_forward(&pooling.shape, &map);
            let _ = pooling.places.set(if in_reach {
                let starts = conv_direct::starts(&self.shape);
                places.par_iter_mut().for_each(|place| *place = starts[*place as usize]);
                Places::Padded(places)
            } else {
                Places::Map(places)
            });
            y
        } else {
            pool::max_values(&pooling.shape, &map)
        };
        elementwise::par_activate(&mut y, self.activation);
        y
    }
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        if self.pooling.is_some() { "conv2d_max_pool" } else { "conv2d" }
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.forward(
            cpu::slice(x, x_layout)?,
            cpu::slice(weight, weight_layout)?,
            cpu::slice(bias, bias_layout)?,
        );
        let (oh, ow) = match &self.pooling {
            Some(Pooling { shape, .. }) => (shape.oh, shape.ow),
            None => (self.shape.oh, self.shape.ow),
        };
        Ok((CpuStorage::F32(y), Shape::from((self.shape.batch, self.shape.c_out, oh, ow))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (x_data, weight_data, y_data, grad_data) =
            (cpu::data(x), cpu::data(weight), cpu::data(y), cpu::data(&grad));
        let (x_values, weight_values) = (x_data.slice()?, weight_data.slice()?);
        let (y_values, grad_values) = (y_data.slice()?, grad_data.slice()?);
        let (wants_x, wants_weight) = (x.track_op(), weight.track_op());
        let unpooled = |grad: &[f32], y: &[f32], activation: Activation| {
            let stage = Stage { shape: self.shape, norm: None, activation };
            let parameters = Parameters { weight: weight_values, gamma: &[], beta: &[] };
            let ran = Ran::bare(&stage, parameters, y);
            let grads = ran.backward(
                Source::plain(x_values),
                Flow::Given(Given::Whole(grad)),
                None,
                wants_x.then(|| Buffer::fresh(x_values.len())),
                wants_weight,
            );
            let x = match grads.x {
                Some(Flow::Result(grad)) => Some(grad.into_vec()),
                _ => None,
            };
            Grads { x, weight: grads.weight, bias: grads.beta }
        };
        let grads: Grads = match &self.pooling {
            None => unpooled(grad_values, y_values, self.activation),
            Some(pooling) => match pooling.places.get() {
                Some(Places::Padded(places)) => Backward {
                    shape: &self.shape,
                    pool: &pooling.shape,
                    activation: self.activation,
                    x: x_values,
                    weight: weight_values,
                    y: y_values,
                    grad: grad_values,
                    places,
                }
                .run(wants_x, wants_weight),
                Some(Places::Map(places)) => {
                    let slopes = elementwise::par_activation_grad(grad_values, y_values, self.activation);
                    let grad = pool::max_backward(&pooling.shape, &slopes, places);
                    unpooled(&grad, &grad, Activation::Identity)
                }
                None => candle_core::bail!(
                    "conv2d_max_pool: backward of a result that was made without gradients"
                ),
            },
        };
        grads.tensors(x, weight, bias)
    }
}
