//! Blocks with biases and average pooling, against the reference implementation in float64.

use candle_core::{DType, Device, Result, Tensor, Var};
use firstsight_ops::{
    Activation, BatchNorm, ChannelScales, Conv2dConfig, ConvBlock, ConvLayer, PadCounting, Padding2d,
    Pool2dConfig, RunningVariance, Shortcut, add, conv2d, linear, no_grad, reference,
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

/// [`values`] as float32.
fn floats(seed: usize, shape: &[usize]) -> Tensor {
    values(seed, shape).to_dtype(DType::F32).unwrap()
}

#[test]
fn strips_of_rows_give_the_bits_of_single_layers() -> Result<()> {
    let no_pad = Padding2d::none();
    // Sizes that leave the cache, (channels between, height, width), kernel, stride, padding.
    let cases = [
        ((96, 112, 112), 3, 2, Padding2d::symmetric(1, 1)),
        ((89, 67, 71), 3, 1, Padding2d::symmetric(1, 1)),
        ((75, 61, 83), 5, 1, Padding2d::symmetric(2, 2)),
        ((90, 58, 64), 5, 2, Padding2d { top: 1, bottom: 2, left: 1, right: 2 }),
        ((300, 40, 30), 3, 1, no_pad),
    ];
    for ((channels, h, w), side, stride, padding) in cases {
        let x = floats(1, &[3, 5, h, w]);
        let (pointwise, bias) = (floats(2, &[channels, 5, 1, 1]), floats(3, &[channels]));
        let (depthwise, gamma) = (floats(4, &[channels, 1, side, side]), floats(5, &[channels]));
        let norm = BatchNorm {
            weight: gamma.clone(),
            bias: gamma,
            running_mean: floats(6, &[channels]),
            running_var: (floats(7, &[channels]).abs()? + 0.5)?,
            epsilon: 1e-3,
            momentum: 0.2,
            running_variance: RunningVariance::Unbiased,
        };
        let config =
            Conv2dConfig { stride: (stride, stride), padding, groups: channels, ..Default::default() };
        let expand = ConvLayer::new(&pointwise, Conv2dConfig::default()).bias(&bias);
        let expand = expand.activation(Activation::Relu6);
        let layer = ConvLayer::new(&depthwise, config).batch_norm(&norm).activation(Activation::Silu);
        let apart = layer.forward_t(&expand.forward(&x)?, false)?;
        let together = expand.then(layer).forward_t(&x, false)?;
        let bits = |y: &Tensor| y.flatten_all()?.to_vec1::<f32>();
        assert!(bits(&apart)? == bits(&together)?, "{channels} channels, kernel {side}, stride {stride}");
    }
    Ok(())
}

fn assert_close(found: &Tensor, expected: &Tensor) {
    let difference = (found - expected).unwrap().abs().unwrap().max_all().unwrap();
    let size = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(difference.to_scalar::<f32>().unwrap() <= 1e-6 * size, "{difference} for values up to {size}");
}

/// Squeeze-and-excitation with one linear layer.
#[derive(Debug)]
struct Scales(Tensor);

impl ChannelScales for Scales {
    fn scales(&self, means: &Tensor) -> Result<Tensor> {
        linear(means, &self.0.to_dtype(means.dtype())?, None, Activation::Sigmoid)
    }
}

#[test]
fn scaled_channels_are_those_of_single_ops() -> Result<()> {
    let scales = Scales(floats(3, &[6, 6]));
    let depthwise = Conv2dConfig { padding: Padding2d::symmetric(1, 1), groups: 6, ..Default::default() };
    let (first, last) = (floats(1, &[6, 1, 3, 3]), floats(2, &[4, 6, 1, 1]));
    // One sample is scaled by the next layer, several before it.
    for batch in [1, 5] {
        let x = floats(batch, &[batch, 6, 7, 9]);
        let layer = ConvLayer::new(&first, depthwise).activation(Activation::Silu);
        let block = ConvBlock::new(layer).excite(&scales);
        let y = block.forward(&x)?;
        let expected = layer.forward(&x)?;
        let factors = scales.scales(&expected.mean((2, 3))?)?;
        let expected = expected.broadcast_mul(&factors.unsqueeze(2)?.unsqueeze(3)?)?;
        assert_close(&y, &expected);

        let block = block.then(ConvLayer::new(&last, Conv2dConfig::default()));
        let expected = conv2d(&expected, &last, None, &Conv2dConfig::default(), Activation::Identity)?;
        assert_close(&block.forward(&x)?, &expected);
        assert_close(&no_grad(|| block.forward(&x))?, &expected);
        assert_close(&reference::conv_block(&x, &block, false)?, &expected);
    }
    Ok(())
}

#[test]
fn scales_of_another_shape_are_refused() -> Result<()> {
    let scales = Scales(floats(3, &[5, 6]));
    let (first, last) = (floats(1, &[6, 3, 1, 1]), floats(2, &[4, 6, 1, 1]));
    let first = ConvLayer::new(&first, Conv2dConfig::default());
    let block = ConvBlock::new(first).excite(&scales).then(ConvLayer::new(&last, Conv2dConfig::default()));
    let x = floats(1, &[2, 3, 4, 4]);
    for found in [block.forward(&x), no_grad(|| block.forward(&x))] {
        let message = found.unwrap_err().to_string();
        assert!(message.contains("scales") && message.contains(", 5"), "{message}");
    }
    Ok(())
}

#[test]
fn both_terms_of_a_sum_get_its_gradient() -> Result<()> {
    let [x, y] = [1, 2].map(|seed| Var::from_tensor(&floats(seed, &[3, 50_000])).unwrap());
    let sum = add(&x, &y)?;
    assert_eq!(sum.to_vec2::<f32>()?, (x.as_tensor() + y.as_tensor())?.to_vec2::<f32>()?);
    let grads = (sum * floats(3, &[3, 50_000]))?.sum_all()?.backward()?;
    for term in [&x, &y] {
        assert_eq!(grads.get(term).unwrap().to_vec2::<f32>()?, floats(3, &[3, 50_000]).to_vec2::<f32>()?);
    }
    assert!(add(&x, &y.narrow(0, 0, 2)?).is_err());
    Ok(())
}
