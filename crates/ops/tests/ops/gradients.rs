//! Gradients of the reference implementations against central differences in float64.

use candle_core::{DType, Device, Result, Tensor, Var};
use firstsight_ops as ops;
use firstsight_ops::reference;
use firstsight_ops::{
    Activation, BatchNorm, Conv2dConfig, ConvLayer, PadCounting, Padding2d, Pool2dConfig, Rounding,
    RunningVariance,
};

/// Distinct, nonzero values, so that a small step crosses no corner.
fn values(seed: usize, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i + seed) as f64 * 0.754_877_666).fract() * 4.0 - 1.9;
    Tensor::from_iter((0..count).map(value), &Device::Cpu).unwrap().reshape(shape).unwrap()
}

fn check(name: &str, args: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Tensor>) {
    const STEP: f64 = 1e-6;
    let loss = |args: &[Tensor]| -> Result<Tensor> {
        let y = op(args)?;
        (&y * values(1000, y.dims()))?.sum_all()
    };
    let vars: Vec<Var> = args.iter().map(|arg| Var::from_tensor(arg).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let grads = loss(&tracked).unwrap().backward().unwrap();
    for (index, arg) in args.iter().enumerate() {
        let grad = grads.get(&vars[index]).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let base = arg.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for (place, grad) in grad.iter().enumerate() {
            let at = |offset: f64| {
                let mut moved = base.clone();
                moved[place] += offset;
                let mut args = args.to_vec();
                args[index] = Tensor::from_vec(moved, arg.dims(), &Device::Cpu).unwrap();
                loss(&args).unwrap().to_scalar::<f64>().unwrap()
            };
            let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            assert!(
                (slope - grad).abs() < 1e-6 * (1.0 + slope.abs()),
                "{name}, argument {index}: {grad} for {slope}"
            );
        }
    }
}

#[test]
fn every_gradient_is_the_slope() {
    let activations = [
        Activation::Identity,
        Activation::Relu,
        Activation::Relu6,
        Activation::Tanh,
        Activation::LeakyRelu(0.2),
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::Silu,
        Activation::HardSwish,
        Activation::Gelu,
        Activation::GeluTanh,
    ];
    let strided = Conv2dConfig {
        stride: (2, 1),
        padding: Padding2d { top: 1, bottom: 2, left: 0, right: 1 },
        dilation: (1, 2),
        groups: 2,
    };
    let pool = Pool2dConfig { kernel: (3, 2), stride: (2, 1), padding: (1, 0), rounding: Rounding::Ceil };
    for f in activations {
        check("activate", &[(values(3, &[9]) * 4.0).unwrap()], |a| reference::activate(&a[0], f));
        check("linear", &[values(1, &[2, 3]), values(2, &[4, 3]), values(3, &[4])], |a| {
            reference::linear(&a[0], &a[1], Some(&a[2]), f)
        });
        let args = [values(1, &[2, 4, 5, 4]), values(2, &[6, 2, 3, 2]), values(3, &[6])];
        check("conv2d", &args, |a| reference::conv2d(&a[0], &a[1], Some(&a[2]), &strided, f));
        check("depthwise", &[values(1, &[2, 4, 5, 4]), values(2, &[4, 1, 3, 2]), values(3, &[4])], |a| {
            reference::conv2d(&a[0], &a[1], Some(&a[2]), &Conv2dConfig { groups: 4, ..strided }, f)
        });
        check("pointwise", &[values(1, &[2, 4, 3, 2]), values(2, &[3, 4, 1, 1]), values(3, &[3])], |a| {
            reference::conv2d(&a[0], &a[1], Some(&a[2]), &Conv2dConfig::default(), f)
        });
        check("conv2d_max_pool", &args, |a| {
            let layer = ConvLayer::new(&a[1], strided).bias(&a[2]).activation(f);
            reference::conv_block(&a[0], &layer.max_pool(pool), false)
        });
        for counting in [PadCounting::Include, PadCounting::Exclude] {
            check("conv2d_avg_pool", &args, |a| {
                let layer = ConvLayer::new(&a[1], strided).bias(&a[2]).activation(f);
                reference::conv_block(&a[0], &layer.avg_pool(pool, counting), false)
            });
        }
    }
    for f in activations {
        for train in [true, false] {
            // Each run gets new running statistics, since training changes them.
            let norm = |a: &[Tensor], weight: usize| -> Result<BatchNorm> {
                Ok(BatchNorm {
                    weight: a[weight].clone(),
                    bias: a[weight + 1].clone(),
                    running_mean: values(6, &[a[weight].dim(0)?]),
                    running_var: (values(7, &[a[weight].dim(0)?]).sqr()? + 0.5)?,
                    epsilon: 1e-2,
                    momentum: 0.1,
                    running_variance: RunningVariance::Unbiased,
                })
            };
            // The second of each: one value per channel.
            for x in [&[2, 3, 3, 2], &[1, 3, 1, 1]] {
                let args = [values(1, x), values(2, &[3]), values(3, &[3])];
                check("batch_norm", &args, |a| reference::batch_norm(&a[0], &norm(a, 1)?, f, train));
                check("batch_norm", &args, |a| ops::batch_norm(&a[0], &norm(a, 1)?, f, train));
            }
            for x in [&[2, 4, 5, 4], &[1, 4, 1, 2]] {
                let args = [values(1, x), values(2, &[6, 2, 3, 2]), values(3, &[6]), values(4, &[6])];
                check("conv2d_batch_norm", &args, |a| {
                    let norm = norm(a, 2)?;
                    ConvLayer::new(&a[1], strided).batch_norm(&norm).activation(f).forward_t(&a[0], train)
                });
            }
        }
    }
    let maps = [values(5, &[2, 2, 5, 4])];
    check("max_pool2d", &maps, |a| reference::max_pool2d(&a[0], &pool));
    for counting in [PadCounting::Include, PadCounting::Exclude] {
        check("avg_pool2d", &maps, |a| reference::avg_pool2d(&a[0], &pool, counting));
    }
    check("global_avg_pool2d", &maps, |a| reference::global_avg_pool2d(&a[0]));
    check("dropout", &maps, |a| reference::dropout(&a[0], 0.3, 5));
    let labels = Tensor::new(&[2u32, 0, 1], &Device::Cpu).unwrap();
    check("softmax_cross_entropy", &[values(7, &[3, 4])], |a| {
        reference::softmax_cross_entropy(&a[0], &labels)
    });
    let targets = values(9, &[3, 4]).abs().unwrap();
    check("soft_cross_entropy", &[values(7, &[3, 4])], |a| reference::soft_cross_entropy(&a[0], &targets));
}

#[test]
fn every_gradient_of_normalization_and_attention_is_the_slope() {
    let norm = |x: &[usize], c: usize| [values(1, x), values(2, &[c]), values(3, &[c])];
    check("layer_norm", &norm(&[2, 3, 5], 5), |a| reference::layer_norm(&a[0], &a[1], &a[2], 1e-2));
    check("layer_norm_2d", &norm(&[2, 5, 3, 2], 5), |a| reference::layer_norm_2d(&a[0], &a[1], &a[2], 1e-2));
    for x in [&[2, 3, 2, 5][..], &[1, 4, 5], &[2, 5]] {
        check("global_response_norm", &norm(x, 5), |a| {
            reference::global_response_norm(&a[0], &a[1], &a[2], 1e-2)
        });
    }
    check("global_response_norm_2d", &norm(&[2, 5, 3, 2], 5), |a| {
        reference::global_response_norm_2d(&a[0], &a[1], &a[2], 1e-2)
    });
    let layers =
        [values(1, &[2, 3]), values(2, &[4, 3]), values(3, &[4]), values(4, &[2, 4]), values(5, &[2])];
    check("feed_forward", &layers, |a| {
        reference::feed_forward(&a[0], (&a[1], Some(&a[2])), (&a[3], Some(&a[4])), Activation::Gelu)
    });
    check("softmax", &[values(1, &[3, 4])], |a| reference::softmax(&a[0]));
    let args = [values(1, &[4, 2, 3, 5]), values(2, &[4, 2, 6, 5]), values(3, &[4, 2, 6, 7])];
    check("attention", &args, |a| reference::attention(&a[0], &a[1], &a[2], 0.4, None));
    for bias in [[1, 2, 3, 6], [2, 1, 3, 6], [4, 2, 3, 6]] {
        let args = [args.as_slice(), &[values(4, &bias)]].concat();
        check("attention", &args, |a| reference::attention(&a[0], &a[1], &a[2], 0.4, Some(&a[3])));
    }
    check("self_attention", &[values(1, &[2, 3, 18]), values(2, &[1, 2, 3, 3])], |a| {
        reference::self_attention(&a[0], 2, Some(&a[1]))
    });
    let maps = values(1, &[3, 4, 2, 3]);
    check("layer_scale", &[maps.clone(), values(2, &[3])], |a| ops::layer_scale(&a[0], &a[1]));
    check("layer_scale_2d", &[maps.clone(), values(2, &[4])], |a| ops::layer_scale_2d(&a[0], &a[1]));
    check("scale_channels", &[maps.clone(), values(2, &[3, 4, 1, 1])], |a| ops::scale_channels(&a[0], &a[1]));
    check("drop_path", std::slice::from_ref(&maps), |a| ops::drop_path(&a[0], 0.5, 3));
    check("resize_bicubic", &[maps], |a| ops::resize_bicubic(&a[0], (5, 2)));
}

#[test]
fn the_check_sees_a_wrong_gradient() {
    let wrong = |a: &[Tensor]| (a[0].sqr()? + a[0].detach())?.to_dtype(DType::F64);
    let caught = std::panic::catch_unwind(|| check("wrong", &[values(1, &[3])], wrong));
    assert!(caught.is_err());
}
