//! Behavior beyond values: ties, threads, errors, what is and is not differentiated.

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, D, DType, Device, Layout, Result, Shape, Tensor, Var};
use firstsight_ops as ops;
use firstsight_ops::optim::{AdamStep, EpsilonPlacement, adam_step};
use firstsight_ops::reference;
use firstsight_ops::{
    Activation, BatchNorm, ChannelScales, Conv2dConfig, ConvBlock, ConvLayer, Error, PadCounting, Padding2d,
    Pool2dConfig, Rounding, RunningVariance,
};

const OVERLAPPING: Pool2dConfig =
    Pool2dConfig { kernel: (3, 3), stride: (2, 2), padding: (1, 1), rounding: Rounding::Floor };
const SAME: Conv2dConfig =
    Conv2dConfig { stride: (1, 1), padding: Padding2d::symmetric(1, 1), dilation: (1, 1), groups: 1 };

fn noise(seed: usize, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| (((i + seed * 7919) as f64 * 0.754_877_666).fract() * 2.0 - 1.0) as f32;
    Tensor::from_iter((0..count).map(value), &Device::Cpu).unwrap().reshape(shape).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// candle's gradient is 0.25 at each maximum, and it refuses overlapping windows:
/// <https://github.com/huggingface/candle/issues/1593>
#[test]
fn candle_1593_max_pool_gradient() {
    let x =
        Var::from_tensor(&Tensor::arange(0f32, 16., &Device::Cpu).unwrap().reshape((1, 1, 4, 4)).unwrap())
            .unwrap();
    let mut expected = [0f32; 16];
    for index in [5, 7, 13, 15] {
        expected[index] = 1.0;
    }
    for pool in [ops::max_pool2d, reference::max_pool2d] {
        let grads = pool(&x, &Pool2dConfig::square(2)).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(flat(grads.get(&x).unwrap()), expected);
    }
    // 15 is the maximum of one window only: with padding 1, windows end at rows 1 and 3.
    for pool in [ops::max_pool2d, reference::max_pool2d] {
        let grads = pool(&x, &OVERLAPPING).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(flat(grads.get(&x).unwrap()), expected);
    }
}

#[test]
fn the_first_of_equal_values_gets_the_gradient() {
    let x = Var::ones((1, 1, 4, 4), DType::F32, &Device::Cpu).unwrap();
    let weight = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu).unwrap();
    let square = Pool2dConfig::square(2);
    let pooled_conv = ConvLayer::new(&weight, Conv2dConfig::default()).max_pool(square);
    let mut expected = [0f32; 16];
    for index in [0, 2, 8, 10] {
        expected[index] = 1.0;
    }
    for y in [
        ops::max_pool2d(&x, &square).unwrap(),
        reference::max_pool2d(&x, &square).unwrap(),
        pooled_conv.forward(&x).unwrap(),
        reference::conv_block(&x, &pooled_conv, false).unwrap(),
    ] {
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(flat(grads.get(&x).unwrap()), expected);
    }
}

#[test]
fn nan_passes_through() {
    let mut values = [1f32; 16];
    values[6] = f32::NAN;
    let x = Tensor::from_slice(&values, (1, 1, 4, 4), &Device::Cpu).unwrap();
    let weight = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu).unwrap();
    let square = Pool2dConfig::square(2);
    let relu_conv = ConvLayer::new(&weight, Conv2dConfig::default()).activation(Activation::Relu);
    for y in [
        ops::max_pool2d(&x, &square).unwrap(),
        reference::max_pool2d(&x, &square).unwrap(),
        relu_conv.max_pool(square).forward(&x).unwrap(),
    ] {
        assert_eq!(flat(&y).iter().map(|v| v.is_nan()).collect::<Vec<_>>(), [false, true, false, false]);
    }
    for f in [Activation::Relu, Activation::Relu6, Activation::Tanh, Activation::LeakyRelu(0.1)] {
        assert!(flat(&ops::activate(&x, f).unwrap())[6].is_nan());
        assert!(flat(&reference::activate(&x, f).unwrap())[6].is_nan());
    }
}

/// An op whose backward pass fails.
struct Fails;

impl CustomOp1 for Fails {
    fn name(&self) -> &'static str {
        "fails"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        candle_core::bail!("no backward pass")
    }
}

/// `backward` gives the gradients of candle's backward pass: for variables that one of our ops reads,
/// that several read, that candle's ops read too or alone, and for layers of a block. Candle's pass
/// works before and after.
#[test]
fn backward_gives_the_gradients_of_candle() {
    let var = |seed, dims: &[usize]| Var::from_tensor(&noise(seed, dims)).unwrap();
    let x = var(1, &[2, 3, 6, 5]);
    let (shared, bias) = (var(2, &[3, 3, 3, 3]), var(3, &[3]));
    let (pointwise, gamma, beta) = (var(4, &[4, 3, 1, 1]), var(5, &[4]), var(6, &[4]));
    let (dense, scale) = (var(7, &[5, 4]), var(8, &[1, 5]));
    let loss = || -> Result<Tensor> {
        let y = ops::conv2d(&x, &shared, Some(&bias), &SAME, Activation::Tanh)?;
        let y = ops::conv2d(&y, &shared, Some(&bias), &SAME, Activation::Relu)?;
        let norm = BatchNorm {
            weight: gamma.as_tensor().clone(),
            bias: beta.as_tensor().clone(),
            running_mean: Tensor::zeros(4, DType::F32, &Device::Cpu)?,
            running_var: Tensor::ones(4, DType::F32, &Device::Cpu)?,
            momentum: 0.1,
            epsilon: 1e-5,
            running_variance: RunningVariance::Unbiased,
        };
        let layer = ConvLayer::new(&pointwise, Conv2dConfig::default()).batch_norm(&norm);
        let y = layer.activation(Activation::Relu).forward_t(&y, true)?;
        let y = ops::linear(&ops::global_avg_pool2d(&y)?, &dense, None, Activation::Identity)?;
        let y =
            ops::softmax_cross_entropy(&y.broadcast_mul(&scale)?, &Tensor::new(&[1u32, 4], &Device::Cpu)?)?;
        y + (shared.sqr()?.sum_all()? * 0.1)?
    };
    let vars = [&x, &shared, &bias, &pointwise, &gamma, &beta, &dense, &scale];
    let with = |backward: fn(&Tensor) -> Result<GradStore>| -> Vec<Vec<f32>> {
        let grads = backward(&loss().unwrap()).unwrap();
        vars.iter().map(|var| flat(grads.get(var).unwrap())).collect()
    };
    let expected = with(Tensor::backward);
    for (found, expected) in with(ops::backward).iter().zip(&expected) {
        let size = expected.iter().fold(0f32, |size, value| size.max(value.abs()));
        assert!(size > 0.0);
        assert!(
            found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-6 * size),
            "{found:?} {expected:?}"
        );
    }
    assert_eq!(with(Tensor::backward), expected);
    // Candle's passes do not change a graph; ours frees it.
    let loss_of_all = loss().unwrap();
    for _ in 0..2 {
        loss_of_all.backward().unwrap();
    }
    ops::backward(&loss_of_all).unwrap();
    for again in [ops::backward(&loss_of_all), loss_of_all.backward()] {
        let error = again.unwrap_err().to_string();
        assert!(
            error.starts_with(
                "conv_block: firstsight_ops::backward is the last pass over a graph, since it frees what blocks save; \
                 found another pass after it"
            ),
            "{error}"
        );
    }
    // A failed pass leaves no state behind.
    let bad = dense.apply_op1(Fails).unwrap().sum_all().unwrap();
    assert!(ops::backward(&(loss().unwrap() + bad).unwrap()).is_err());
    assert_eq!(with(Tensor::backward), expected);
}

/// Kernels and reference path: output and gradients are those of inference, and the running statistics stay.
#[test]
fn one_value_per_channel_is_normalized_by_the_running_statistics() {
    let var = |seed, dims: &[usize]| Var::from_tensor(&noise(seed, dims)).unwrap();
    let (x, weight) = (var(1, &[1, 3, 3, 3]), var(2, &[4, 3, 3, 3]));
    let (gamma, beta) = (var(3, &[4]), var(4, &[4]));
    let (first, last) = (var(5, &[3]), var(6, &[3]));
    let norm = |gamma: &Var, beta: &Var| {
        let n = gamma.dims()[0];
        BatchNorm {
            weight: gamma.as_tensor().clone(),
            bias: beta.as_tensor().clone(),
            running_mean: noise(7, &[n]),
            running_var: (noise(8, &[n]).sqr().unwrap() + 0.5).unwrap(),
            momentum: 0.1,
            epsilon: 1e-5,
            running_variance: RunningVariance::Unbiased,
        }
    };
    let depthwise = var(9, &[3, 1, 1, 1]);
    let by_channel = Conv2dConfig { groups: 3, ..Conv2dConfig::default() };
    type Run = fn(&Tensor, &ConvBlock<'_>, bool) -> Result<Tensor>;
    let runs: [Run; 2] = [|x, block, train| block.forward_t(x, train), ops::reference::conv_block];
    for run in runs {
        let vars = [&x, &weight, &gamma, &beta];
        let alone = |train| {
            let norm = norm(&gamma, &beta);
            let layer = ConvLayer::new(&weight, Conv2dConfig::default()).batch_norm(&norm);
            let y = run(&x, &ConvBlock::new(layer.activation(Activation::Relu6)), train).unwrap();
            let grads = ops::backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap();
            let grads = vars.map(|var| flat(grads.get(var).unwrap()));
            (flat(&y), grads, flat(&norm.running_mean), flat(&norm.running_var))
        };
        assert_eq!(alone(true), alone(false));
        assert!(alone(true).1[1].iter().any(|grad| *grad != 0.0), "a lone image teaches something");

        // In a block, each layer by its own number of values.
        let (many, one) = (norm(&first, &last), norm(&gamma, &beta));
        let layer = ConvLayer::new(&depthwise, by_channel).batch_norm(&many);
        let block =
            ConvBlock::new(layer).then(ConvLayer::new(&weight, Conv2dConfig::default()).batch_norm(&one));
        let (mean, var) = (flat(&many.running_mean), flat(&one.running_var));
        let y = run(&x, &block, true).unwrap();
        assert!(flat(&y).iter().all(|value| value.is_finite()));
        assert_ne!(flat(&many.running_mean), mean, "nine values have a mean");
        assert_eq!(flat(&one.running_var), var, "one value has no variance");
    }
}

/// One training step of every op, and all bits that it computes.
fn training_step() -> Result<Vec<Vec<u32>>> {
    let x = Var::from_tensor(&noise(1, &[9, 3, 20, 18]))?;
    let shapes: [&[usize]; 6] = [&[20, 3, 3, 3], &[20], &[24, 20, 3, 3], &[24], &[7, 24 * 4 * 3], &[7]];
    let vars: Vec<Var> =
        shapes.iter().zip(2..).map(|(s, seed)| Var::from_tensor(&noise(seed, s))).collect::<Result<_>>()?;
    let layer = ConvLayer::new(&vars[0], SAME).bias(&vars[1]).activation(Activation::Relu);
    let y = layer.max_pool(OVERLAPPING).forward(&x)?;
    let y = ops::conv2d(&y, &vars[2], Some(&vars[3]), &SAME, Activation::Tanh)?;
    let pool = Pool2dConfig { stride: (3, 3), ..OVERLAPPING };
    let y = ops::dropout(&ops::max_pool2d(&y, &pool)?, 0.2, 3)?.flatten_from(1)?;
    let y = ops::linear(&y, &vars[4], Some(&vars[5]), Activation::LeakyRelu(0.1))?;
    let labels = Tensor::from_iter((0..9u32).map(|i| i % 7), &Device::Cpu)?;
    let loss = ops::softmax_cross_entropy(&y, &labels)?;
    let grads = loss.backward()?;
    let step = AdamStep {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        epsilon_placement: EpsilonPlacement::PyTorch,
        weight_decay: 0.1,
        step: 1,
    };
    let mut all = vec![bits(&y), bits(&loss), bits(grads.get(&x).unwrap())];
    for var in &vars {
        let grad = grads.get(var).unwrap();
        let (m, v) = (var.zeros_like()?, var.zeros_like()?);
        adam_step(var, grad, &m, &v, &step)?;
        all.extend([bits(grad), bits(var), bits(&m), bits(&v)]);
    }
    Ok(all)
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| training_step().unwrap())
    };
    let one = with(1);
    assert!(one.iter().flatten().any(|&bits| bits != 0));
    for threads in [2, 3, 4] {
        assert!(with(threads) == one, "{threads} threads give other bits");
    }
}

/// Squeeze-and-excitation's two layers.
#[derive(Debug)]
struct Squeeze {
    reduce: Tensor,
    expand: Tensor,
}

impl ChannelScales for Squeeze {
    fn scales(&self, means: &Tensor) -> Result<Tensor> {
        let reduced = ops::linear(means, &self.reduce, None, Activation::Relu)?;
        ops::linear(&reduced, &self.expand, None, Activation::Sigmoid)
    }
}

/// Small maps, so that as many samples go through the layers together as the threads leave.
#[test]
fn the_number_of_threads_does_not_change_a_bit_of_excited_channels() {
    let squeeze = Squeeze { reduce: noise(1, &[20, 144]), expand: noise(2, &[144, 20]) };
    let weights = [noise(3, &[144, 24, 1, 1]), noise(4, &[144, 1, 3, 3]), noise(5, &[24, 144, 1, 1])];
    let pointwise = |weight| ConvLayer::new(weight, Conv2dConfig::default());
    let depthwise = ConvLayer::new(&weights[1], Conv2dConfig { groups: 144, ..SAME });
    let block = ConvBlock::new(pointwise(&weights[0]).activation(Activation::Silu))
        .then(depthwise.activation(Activation::Silu))
        .excite(&squeeze)
        .then(pointwise(&weights[2]));
    let x = noise(6, &[40, 24, 4, 4]);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(&ops::no_grad(|| block.forward(&x)).unwrap()))
    };
    let one = with(1);
    for threads in [2, 3, 40] {
        assert!(with(threads) == one, "{threads} threads give other bits");
    }
}

/// A query whose keys are all masked attends to all of them alike.
#[test]
fn the_gradients_of_masked_queries_are_those_of_the_reference() {
    for mask in [-1e6f32, -1e9] {
        let of = |seed, dims: &[usize]| Var::from_tensor(&(noise(seed, dims) * 0.05).unwrap()).unwrap();
        let (q, k, v) = (of(1, &[1, 2, 11, 5]), of(2, &[1, 2, 37, 5]), of(3, &[1, 2, 37, 6]));
        // The first three queries; of the next three every second key.
        let masked = |i: usize| i / 37 < 3 || (i / 37 < 6 && i.is_multiple_of(2));
        let values = (0..11 * 37).map(|i| if masked(i) { mask } else { 0.0 });
        let bias = Tensor::from_iter(values, &Device::Cpu).unwrap().reshape((1, 1, 11, 37)).unwrap();
        let bias = Var::from_tensor(&bias).unwrap();
        let factors = noise(4, &[1, 2, 11, 6]);
        type Run = fn(&Tensor, &Tensor, &Tensor, f64, Option<&Tensor>) -> Result<Tensor>;
        let grads = |run: Run| {
            let y = run(&q, &k, &v, 1.0, Some(&bias)).unwrap();
            let grads = (y * &factors).unwrap().sum_all().unwrap().backward().unwrap();
            [&q, &k, &v, &bias].map(|var| flat(grads.get(var).unwrap()))
        };
        for (found, expected) in grads(ops::attention).iter().zip(&grads(reference::attention)) {
            let size = expected.iter().fold(0f32, |size, value| size.max(value.abs()));
            let off = found.iter().zip(expected).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
            assert!(off <= 1e-4 * size, "{mask}: {off} off of {size}");
        }
    }
}

/// Whatever it is, the result is that of any stride with one output.
#[test]
fn a_stride_beyond_the_input_takes_no_memory() {
    let x = Var::from_tensor(&noise(1, &[2, 4, 6, 5])).unwrap();
    let far = (usize::MAX, 1 << 40);
    let run = |stride| {
        let (dense, depthwise) = (noise(2, &[6, 4, 3, 3]), noise(3, &[4, 1, 3, 3]));
        let config = Conv2dConfig { stride, ..SAME };
        let by_channel = Conv2dConfig { groups: 4, ..config };
        let dilated = Conv2dConfig { dilation: (2, 1), ..by_channel };
        let pool = Pool2dConfig { stride, ..OVERLAPPING };
        let layer = ConvLayer::new(&dense, SAME);
        let outputs = [
            ops::conv2d(&x, &dense, None, &config, Activation::Relu),
            ops::conv2d(&x, &depthwise, None, &by_channel, Activation::Relu),
            ops::conv2d(&x, &depthwise, None, &dilated, Activation::Relu),
            reference::conv2d(&x, &dense, None, &config, Activation::Relu),
            ops::max_pool2d(&x, &pool),
            ops::avg_pool2d(&x, &pool, PadCounting::Include),
            reference::max_pool2d(&x, &pool),
            layer.max_pool(pool).forward(&x),
            layer.avg_pool(pool, PadCounting::Exclude).forward(&x),
        ];
        outputs.map(|y| {
            let y = y.unwrap();
            let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            (y.dims().to_vec(), bits(&y), bits(grads.get(&x).unwrap()))
        })
    };
    // The padded input has 8 rows and 7 columns.
    assert_eq!(run(far), run((8, 7)));
    assert!(run(far).iter().all(|(dims, ..)| dims[2..] == [1, 1]));
}

#[test]
fn views_are_read_by_their_layout() {
    let x = noise(1, &[2, 3, 6, 5]);
    let weight = noise(2, &[4, 3, 3, 3]);
    let y = ops::conv2d(&x, &weight, None, &SAME, Activation::Relu).unwrap();
    let transposed_x = x.transpose(2, 3).unwrap().contiguous().unwrap().transpose(2, 3).unwrap();
    let transposed_weight =
        weight.permute((1, 0, 2, 3)).unwrap().contiguous().unwrap().permute((1, 0, 2, 3)).unwrap();
    assert!(!transposed_x.is_contiguous() && !transposed_weight.is_contiguous());
    let from_views = ops::conv2d(&transposed_x, &transposed_weight, None, &SAME, Activation::Relu).unwrap();
    assert_eq!(bits(&y), bits(&from_views));
    let pooled = ops::max_pool2d(&transposed_x, &OVERLAPPING).unwrap();
    assert_eq!(bits(&pooled), bits(&ops::max_pool2d(&x, &OVERLAPPING).unwrap()));

    // A gradient that is a view: the sum of a transposed result.
    let x = Var::from_tensor(&x).unwrap();
    let y = ops::conv2d(&x, &weight, None, &SAME, Activation::Relu).unwrap();
    let factors = noise(3, &[2, 4, 5, 6]);
    let through_view =
        (y.transpose(2, 3).unwrap() * &factors).unwrap().sum_all().unwrap().backward().unwrap();
    let direct = (&y * factors.transpose(2, 3).unwrap()).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(bits(through_view.get(&x).unwrap()), bits(direct.get(&x).unwrap()));
}

#[test]
fn only_tracked_arguments_get_a_gradient() {
    let x = noise(1, &[2, 1, 6, 6]);
    let weight = Var::from_tensor(&noise(2, &[3, 1, 3, 3])).unwrap();
    let pool = Pool2dConfig::square(2);
    for y in [
        ops::conv2d(&x, &weight, None, &SAME, Activation::Relu).unwrap(),
        ConvLayer::new(&weight, SAME).max_pool(pool).forward(&x).unwrap(),
    ] {
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&weight).is_some() && grads.get(&x).is_none());
    }
    let y = ConvLayer::new(&weight.detach(), SAME).max_pool(pool).forward(&x).unwrap();
    assert!(!y.track_op());
}

#[test]
fn ops_mix_with_those_of_candle() {
    let x = Var::from_tensor(&noise(1, &[2, 2, 6, 6])).unwrap();
    let weight = Var::from_tensor(&noise(2, &[3, 2, 3, 3])).unwrap();
    let run = |conv: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<(Vec<u32>, Tensor, Tensor)> {
        let y = conv(&x.sqr()?)?.exp()?.mean(D::Minus1)?;
        let grads = y.sum_all()?.backward()?;
        Ok((bits(&y), grads.get(&x).unwrap().clone(), grads.get(&weight).unwrap().clone()))
    };
    let ours = run(&|x| ops::conv2d(x, &weight, None, &SAME, Activation::Identity)).unwrap();
    let candle = run(&|x| x.conv2d(&weight, 1, 1, 1, 1)).unwrap();
    for (a, b) in [(&ours.1, &candle.1), (&ours.2, &candle.2)] {
        for (a, b) in flat(a).into_iter().zip(flat(b)) {
            assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{a} for {b}");
        }
    }
}

#[test]
fn dropout_drops_its_share_and_repeats() {
    let x = Tensor::ones(100_000, DType::F32, &Device::Cpu).unwrap();
    let y = flat(&ops::dropout(&x, 0.3, 11).unwrap());
    let dropped = y.iter().filter(|&&v| v == 0.0).count();
    // Five standard deviations.
    assert!((dropped as f64 - 30_000.0).abs() < 5.0 * (100_000.0f64 * 0.3 * 0.7).sqrt(), "{dropped} dropped");
    assert!(y.iter().all(|&v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
    assert_eq!(y, flat(&ops::dropout(&x, 0.3, 11).unwrap()));
    assert_ne!(y, flat(&ops::dropout(&x, 0.3, 12).unwrap()));
    assert_eq!(flat(&ops::dropout(&x, 0.0, 1).unwrap()), flat(&x));
    assert!(ops::dropout(&x, 1.0, 1).is_err());
}

#[test]
fn refusals_state_the_rule_and_the_values() {
    let x = noise(1, &[2, 3, 6, 5]);
    let conv = |x: &Tensor, weight: &[usize], config: &Conv2dConfig| {
        let error = ops::conv2d(x, &noise(2, weight), None, config, Activation::Relu).unwrap_err();
        let double = ops::conv2d(
            &x.to_dtype(DType::F64).unwrap(),
            &noise(2, weight).to_dtype(DType::F64).unwrap(),
            None,
            config,
            Activation::Relu,
        );
        // Only the first line: a backtrace may follow, if the environment asks for one.
        let [ours, reference_s] =
            [error, double.unwrap_err()].map(|e| e.to_string().lines().next().unwrap().to_owned());
        assert_eq!(ours, reference_s);
        ours
    };
    let grouped = Conv2dConfig { groups: 2, ..SAME };
    assert!(conv(&x, &[4, 3, 3, 3], &grouped).contains("2 groups, 3 channels in, 4 out"));
    assert!(
        conv(&x, &[4, 2, 3, 3], &SAME).contains("weight must have shape [4, 3, 3, 3], found [4, 2, 3, 3]")
    );
    assert!(conv(&x, &[4, 3, 9, 3], &SAME).contains("a window of 9 (dilation included) does not fit into 8"));
    assert!(conv(&noise(1, &[3, 6, 5]), &[4, 3, 3, 3], &SAME).contains("(B, C, H, W)"));
    let huge = Conv2dConfig { padding: Padding2d::symmetric(1 << 40, 1 << 40), ..SAME };
    assert!(conv(&x, &[4, 3, 3, 3], &huge).contains("more elements than memory can hold"));

    let slope = ops::activate(&x, Activation::LeakyRelu(-0.1)).unwrap_err().to_string();
    assert!(slope.contains("at least 0, found -0.1"), "{slope}");
    let pool = Pool2dConfig { padding: (2, 2), ..Pool2dConfig::square(2) };
    assert!(ops::max_pool2d(&x, &pool).unwrap_err().to_string().contains("padding 2, kernel 2"));

    let logits = noise(1, &[2, 3]);
    let labels = Tensor::new(&[0u32, 3], &Device::Cpu).unwrap();
    let error = ops::softmax_cross_entropy(&logits, &labels).unwrap_err();
    let expected = Error::Label { op: "softmax_cross_entropy", label: 3, example: 1, n_classes: 3 };
    assert!(error.to_string().starts_with(&expected.to_string()), "{error}");
    let wide = labels.to_dtype(DType::I64).unwrap();
    assert!(ops::softmax_cross_entropy(&logits, &wide).unwrap_err().to_string().contains("u32, found i64"));
}

/// Views can have more elements than memory: one value, broadcast.
#[test]
fn shapes_that_overflow_are_refused() {
    let huge =
        |dims: &[usize]| Tensor::zeros((), DType::F32, &Device::Cpu).unwrap().broadcast_as(dims).unwrap();
    let refused = |what: &str, result: Result<Tensor>| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("more elements than memory can hold"), "{what}: {error}");
    };
    let (weight, pool) = (noise(1, &[2, 4, 1, 1]), Pool2dConfig::square(2));
    // 2⁶⁴ elements, which wrap around to none; some more, which wrap around to few; and 2⁶²
    // elements, which do not wrap.
    for (batch, side) in [(1 << 42, 1 << 10), ((1 << 42) + 1, 1 << 10), (1 << 40, 1 << 10)] {
        let x = huge(&[batch, 4, side, side]);
        refused("conv2d", ops::conv2d(&x, &weight, None, &Conv2dConfig::default(), Activation::Relu));
        let identity = Activation::Identity;
        let layer = ConvLayer::new(&weight, Conv2dConfig::default());
        refused("conv2d_max_pool", layer.max_pool(pool).forward(&x));
        refused("max_pool2d", ops::max_pool2d(&x, &pool));
        refused("avg_pool2d", ops::avg_pool2d(&x, &pool, ops::PadCounting::Exclude));
        refused("global_avg_pool2d", ops::global_avg_pool2d(&x));
        let ones = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
        let norm = ops::BatchNorm {
            weight: ones.clone(),
            bias: ones.clone(),
            running_mean: ones.clone(),
            running_var: ones,
            epsilon: 1e-3,
            momentum: 0.1,
            running_variance: ops::RunningVariance::Biased,
        };
        for train in [true, false] {
            refused("batch_norm", ops::batch_norm(&x, &norm, identity, train));
            let weight = huge(&[4, 4, 1, 1]);
            let normed =
                ConvLayer::new(&weight, Conv2dConfig::default()).batch_norm(&norm).forward_t(&x, train);
            refused("conv2d_batch_norm", normed);
        }
    }
    for (batch, n_in, n_out) in [(1 << 33, 1, 1 << 31), ((1 << 33) + 1, 1, 1 << 31), (1 << 31, 1 << 31, 1)] {
        let (x, weight) = (huge(&[batch, n_in]), huge(&[n_out, n_in]));
        refused("linear", ops::linear(&x, &weight, None, Activation::Relu));
    }
}

#[test]
fn arguments_of_an_optimizer_must_not_share_memory() {
    let param = Var::ones(4, DType::F32, &Device::Cpu).unwrap();
    let grad = param.ones_like().unwrap();
    let moment = param.zeros_like().unwrap();
    let step = AdamStep {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        epsilon_placement: EpsilonPlacement::Keras,
        weight_decay: 0.0,
        step: 1,
    };
    let error = adam_step(&param, &grad, &moment, &moment, &step).unwrap_err().to_string();
    assert!(error.contains("m and v must not share memory"), "{error}");
    let unstarted = AdamStep { step: 0, ..step };
    assert!(adam_step(&param, &grad, &moment, &grad, &unstarted).is_err());
    assert_eq!(flat(&param), [1.0; 4]);
}

/// The kernel against the reference implementation in float64, result and gradient, with targets that
/// do not sum to 1.
#[test]
fn soft_cross_entropy_equals_its_reference() -> candle_core::Result<()> {
    let values = |seed: f64, n: usize| {
        candle_core::Tensor::from_iter(
            (0..n).map(move |i| ((i as f64 + seed) * 0.754_877_666).fract()),
            &candle_core::Device::Cpu,
        )
    };
    for (batch, classes) in [(1, 1), (1, 7), (5, 55), (19, 10)] {
        let logits = (values(3.0, batch * classes)?.reshape((batch, classes))? * 12.0)?;
        let targets = values(11.0, batch * classes)?.reshape((batch, classes))?;
        let run = |dtype| -> candle_core::Result<(f64, Vec<f64>)> {
            let logits = candle_core::Var::from_tensor(&logits.to_dtype(dtype)?)?;
            let loss = firstsight_ops::soft_cross_entropy(&logits, &targets.to_dtype(dtype)?)?;
            let grads = loss.backward()?;
            let grad = grads.get(&logits).unwrap().to_dtype(candle_core::DType::F64)?;
            Ok((loss.to_dtype(candle_core::DType::F64)?.to_scalar()?, grad.flatten_all()?.to_vec1()?))
        };
        let (ours, reference) = (run(candle_core::DType::F32)?, run(candle_core::DType::F64)?);
        assert!((ours.0 - reference.0).abs() <= 1e-5 * (1.0 + reference.0), "{} for {}", ours.0, reference.0);
        for (ours, reference) in ours.1.iter().zip(&reference.1) {
            assert!((ours - reference).abs() < 1e-6, "{ours} for {reference}");
        }
    }
    Ok(())
}
