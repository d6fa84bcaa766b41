use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use crate::config::{Activation, Conv2dConfig, Divisor, Pool2dConfig};
use crate::cpu::buffer::Buffer;
use crate::cpu::conv_avg::ConvAvg;
use crate::shape::{ConvShape, PoolShape};
use crate::{avg_pool2d, conv2d, cpu, portable};

/// [`crate::conv2d`], then [`crate::avg_pool2d`]; for small maps as one op, which takes some samples at a time through
/// both, so that the map between and its gradient stay in the cache and off the tape. LeNet-5 is made of these.
///
/// # Errors
/// As for [`crate::conv2d`] and [`crate::avg_pool2d`].
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use firstsight_ops::{Activation, Conv2dConfig, Divisor, Pool2dConfig, conv2d_avg_pool};
///
/// let x = Tensor::arange(0f32, 16., &Device::Cpu)?.reshape((1, 1, 4, 4))?;
/// let weight = Var::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
/// let pool = Pool2dConfig::square(2);
/// let (conv, relu) = (Conv2dConfig::PLAIN, Activation::Relu);
/// let y = conv2d_avg_pool(&x, &weight, None, &conv, relu, &pool, Divisor::Valid)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2.5, 4.5, 10.5, 12.5]);
/// let grads = y.sum_all()?.backward()?;
/// assert_eq!(grads.get(&weight).unwrap().flatten_all()?.to_vec1::<f32>()?, [30.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn conv2d_avg_pool(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv2dConfig,
    activation: Activation,
    pool: &Pool2dConfig,
    divisor: Divisor,
) -> Result<Tensor> {
    if !cpu::has_kernels(&[x, weight, bias.unwrap_or(x)]) {
        return portable::conv2d_avg_pool(x, weight, bias, config, activation, pool, divisor);
    }
    activation.check("conv2d_avg_pool")?;
    let conv = ConvShape::new(x, weight, bias, config)?;
    let pool = PoolShape::after(&conv, pool)?;
    let of = ConvAvg { conv, activation, pool, divisor };
    if !of.suits() {
        return avg_pool2d(&conv2d(x, weight, bias, config, activation)?, &pool.config, divisor);
    }
    let bias = cpu::bias(bias, conv.c_out)?;
    let op = Op { of, map: OnceLock::new() };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, op)
}

struct Op {
    of: ConvAvg,
    /// Between convolution and pooling, as [`ConvAvg::forward`] leaves it.
    map: OnceLock<Buffer>,
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "conv2d_avg_pool"
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
        let (x, weight) = (cpu::slice(x, x_layout)?, cpu::slice(weight, weight_layout)?);
        let (y, map) = self.of.forward(x, weight, cpu::slice(bias, bias_layout)?);
        let _ = self.map.set(map);
        let PoolShape { batch, channels, oh, ow, .. } = self.of.pool;
        Ok((CpuStorage::F32(y), Shape::from((batch, channels, oh, ow))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(map) = self.map.get() else {
            candle_core::bail!("conv2d_avg_pool: backward before forward");
        };
        let grad = grad.contiguous()?;
        let (x_data, weight_data, grad_data) = (cpu::data(x), cpu::data(weight), cpu::data(&grad));
        let (x_values, weight_values, grad_values) =
            (x_data.slice()?, weight_data.slice()?, grad_data.slice()?);
        let (wants_x, wants_weight) = (x.track_op(), weight.track_op());
        self.of
            .backward(x_values, weight_values, map, grad_values, wants_x, wants_weight)
            .tensors(x, weight, bias)
    }
}
