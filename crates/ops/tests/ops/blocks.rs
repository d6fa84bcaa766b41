//! Blocks with biases and average pooling, against the reference implementation in float64.

use candle_core::{DType, Device, Result, Tensor, Var};
use firstsight_ops::{
    Activation, BatchNorm, Conv2dConfig, ConvBlock, ConvLayer, PadCounting, Padding2d, Pool2dConfig,
    RunningVariance, Shortcut, reference,
};

type Op = fn(&Tensor, &ConvBlock<'_>, bool) -> Result<Tensor>;

fn kernels(x: &Tensor, block: &ConvBlock<'_>, train: bool) -> Result<Tensor> {
    block.forward_t(x, train)
}

fn values(seed: usize, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * 7 + seed * 131) as f64 * 0.754_877_666).fract() * 2.0 - 0.9;
    Tensor::from_iter((0..count).map(value), &Device::Cpu).unwrap().reshape(shape).unwrap()
}

#[test]
fn biases_and_average_pooling_are_those_of_single_ops() -> Result<()> {
    let run = |dtype: DType, op: Op, train: bool| -> Result<Vec<Tensor>> {
        let var = |seed: usize, shape: &[usize]| Var::from_tensor(&values(seed, shape).to_dtype(dtype)?);
        let x = var(1, &[2, 5, 8, 6])?;
        let (pointwise, first_bias) = (var(2, &[7, 5, 1, 1])?, var(3, &[7])?);
        let (depthwise, second_bias) = (var(4, &[7, 1, 3, 3])?, var(5, &[7])?);
        let (projection, gamma, beta) = (var(6, &[7, 5, 1, 1])?, var(7, &[7])?, var(8, &[7])?);
        let norm = BatchNorm {
            weight: gamma.as_tensor().clone(),
            bias: beta.as_tensor().clone(),
            running_mean: values(9, &[7]).to_dtype(dtype)?,
            running_var: (values(10, &[7]).abs()? + 0.5)?.to_dtype(dtype)?,
            epsilon: 1e-3,
            momentum: 0.2,
            running_variance: RunningVariance::Unbiased,
        };
        let same = Conv2dConfig { padding: Padding2d::symmetric(1, 1), groups: 7, ..Default::default() };
        let strided = Conv2dConfig { stride: (2, 2), ..Default::default() };
        let layers = ConvLayer::new(&pointwise, Conv2dConfig::default())
            .bias(&first_bias)
            .activation(Activation::Tanh)
            .then(ConvLayer::new(&depthwise, same).bias(&second_bias));
        let block = layers.clone().avg_pool(Pool2dConfig::square(2), PadCounting::Exclude);
        let shortcut = ConvLayer::new(&projection, strided).batch_norm(&norm);
        let block = block.shortcut(Shortcut::Projection(shortcut)).post_activation(Activation::Tanh);
        let (pooled, unpooled) = (op(&x, &block, train)?, op(&x, &layers, train)?);
        let loss = (pooled.sqr()?.sum_all()? + unpooled.sqr()?.sum_all()?)?;
        let grads = loss.backward()?;
        let vars = [&x, &pointwise, &first_bias, &depthwise, &second_bias, &projection, &gamma, &beta];
        Ok([pooled, unpooled].into_iter().chain(vars.map(|var| grads.get(var).unwrap().clone())).collect())
    };
    for train in [true, false] {
        let (ours, reference) =
            (run(DType::F32, kernels, train)?, run(DType::F64, reference::conv_block, train)?);
        for (i, (ours, reference)) in ours.iter().zip(&reference).enumerate() {
            let difference =
                (ours.to_dtype(DType::F64)? - reference)?.abs()?.max_all()?.to_scalar::<f64>()?;
            let error = difference / reference.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(error < 1e-5, "train {train}: tensor {i} is off by {error}");
        }
    }
    Ok(())
}
