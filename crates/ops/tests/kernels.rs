//! The kernels against the portable path in float64, on generated shapes.

use candle_core::{DType, Device, Result, Tensor, Var};
use firstsight_ops as ops;
use firstsight_ops::portable;
use firstsight_ops::{Activation, Conv2dConfig, Divisor, Padding2d, Pool2dConfig, Rounding};
use proptest::prelude::*;

/// Largest difference over the largest value, or over 0.05 where all are smaller: float32 has tanh's slope, 1 − y²,
/// to no better than 1e-7.
fn relative(ours: &Tensor, reference: &Tensor) -> Result<f64> {
    let reference = reference.to_dtype(DType::F64)?.flatten_all()?;
    let difference =
        (ours.to_dtype(DType::F64)?.flatten_all()? - &reference)?.abs()?.max(0)?.to_scalar::<f64>()?;
    Ok(difference / reference.abs()?.max(0)?.to_scalar::<f64>()?.max(0.05))
}

/// Values of a normal-like spread, from a seed, on a grid coarse enough for ties if `coarse`.
fn values(seed: u64, shape: &[usize], coarse: bool) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    let count = shape.iter().product();
    let value = |v: f64| if coarse { (v * 2.0).round() } else { v };
    let values: Vec<f32> = (0..count).map(|_| value(next() + next()) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Runs `op` on float32 and `reference` on float64 and compares the result and all gradients, under a gradient
/// of the result that differs everywhere.
fn compare(
    args: &[Tensor],
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
    reference: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let run = |dtype, op: &dyn Fn(&[Tensor]) -> Result<Tensor>| -> Result<Vec<Tensor>> {
        let vars: Vec<Var> =
            args.iter().map(|arg| Var::from_tensor(&arg.to_dtype(dtype)?)).collect::<Result<_>>()?;
        let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let y = op(&inputs)?;
        let weights = values(99, y.dims(), false).to_dtype(dtype)?;
        let grads = (&y * weights)?.sum_all()?.backward()?;
        let mut results = vec![y];
        results.extend(vars.iter().map(|var| grads.get(var).cloned().unwrap()));
        Ok(results)
    };
    for (index, (ours, reference)) in
        run(DType::F32, &op)?.iter().zip(run(DType::F64, &reference)?).enumerate()
    {
        assert_eq!(ours.dims(), reference.dims());
        let error = relative(ours, &reference)?;
        assert!(error < 1e-5, "{} is off by {error}", ["the result", "grad 0", "grad 1", "grad 2"][index]);
    }
    Ok(())
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Identity),
        Just(Activation::Relu),
        Just(Activation::Relu6),
        Just(Activation::Tanh),
        Just(Activation::LeakyRelu(0.2)),
    ]
}

#[derive(Debug, Clone)]
struct ConvCase {
    x: Vec<usize>,
    weight: Vec<usize>,
    config: Conv2dConfig,
    activation: Activation,
}

fn conv_case() -> impl Strategy<Value = ConvCase> {
    let groups =
        prop_oneof![Just((1, 1, 1)), Just((2, 2, 1)), Just((5, 1, 1)), Just((3, 1, 2)), Just((2, 3, 9))];
    let channels = (groups, 1usize..5, 1usize..21);
    let kernel = (1usize..5, 1usize..5, 1usize..4, 1usize..4, 1usize..3, 1usize..3);
    (
        1usize..6,
        channels,
        1usize..14,
        1usize..14,
        kernel,
        (0usize..4, 0usize..4, 0usize..4, 0usize..4),
        activation(),
    )
        .prop_filter_map("the window fits", |(batch, channels, h, w, kernel, pad, activation)| {
            let ((groups, group_in, group_out), more_in, more_out) = channels;
            let (group_in, group_out) = if groups == 1 { (more_in, more_out) } else { (group_in, group_out) };
            let (kh, kw, sh, sw, dh, dw) = kernel;
            let padding = Padding2d {
                top: pad.0.min(kh - 1),
                bottom: pad.1.min(kh - 1),
                left: pad.2.min(kw - 1),
                right: pad.3.min(kw - 1),
            };
            let config = Conv2dConfig { stride: (sh, sw), padding, dilation: (dh, dw), groups };
            config.output_size((h, w), (kh, kw)).ok()?;
            Some(ConvCase {
                x: vec![batch, groups * group_in, h, w],
                weight: vec![groups * group_out, group_in, kh, kw],
                config,
                activation,
            })
        })
}

fn pool_config() -> impl Strategy<Value = Pool2dConfig> {
    let rounding = prop_oneof![Just(Rounding::Floor), Just(Rounding::Ceil)];
    (1usize..5, 1usize..5, 1usize..5, 1usize..5, 0usize..3, 0usize..3, rounding).prop_map(
        |(kh, kw, sh, sw, ph, pw, rounding)| Pool2dConfig {
            kernel: (kh, kw),
            stride: (sh, sw),
            padding: (ph.min(kh - 1), pw.min(kw - 1)),
            rounding,
        },
    )
}

fn conv_args(case: &ConvCase, seed: u64) -> Vec<Tensor> {
    vec![
        values(seed, &case.x, false),
        values(seed + 1, &case.weight, false),
        values(seed + 2, &case.weight[..1], false),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conv2d(case in conv_case(), seed in 0u64..1000) {
        let ConvCase { config, activation, .. } = case;
        compare(
            &conv_args(&case, seed),
            |a| ops::conv2d(&a[0], &a[1], Some(&a[2]), &config, activation),
            |a| portable::conv2d(&a[0], &a[1], Some(&a[2]), &config, activation),
        ).unwrap();
    }

    #[test]
    fn conv2d_max_pool(case in conv_case(), pool in pool_config(), seed in 0u64..1000) {
        let ConvCase { config, activation, .. } = case;
        let size = config.output_size((case.x[2], case.x[3]), (case.weight[2], case.weight[3])).unwrap();
        prop_assume!(pool.output_size(size).is_ok());
        compare(
            &conv_args(&case, seed),
            |a| ops::conv2d_max_pool(&a[0], &a[1], Some(&a[2]), &config, activation, &pool),
            |a| portable::conv2d_max_pool(&a[0], &a[1], Some(&a[2]), &config, activation, &pool),
        ).unwrap();
    }

    #[test]
    fn pools(
        size in (1usize..4, 1usize..4, 1usize..12, 1usize..12),
        config in pool_config(),
        seed in 0u64..1000,
        coarse in any::<bool>(),
    ) {
        prop_assume!(config.output_size((size.2, size.3)).is_ok());
        let x = [values(seed, &[size.0, size.1, size.2, size.3], coarse)];
        compare(&x, |a| ops::max_pool2d(&a[0], &config), |a| portable::max_pool2d(&a[0], &config)).unwrap();
        for divisor in [Divisor::CountIncludePad, Divisor::Valid] {
            compare(
                &x,
                |a| ops::avg_pool2d(&a[0], &config, divisor),
                |a| portable::avg_pool2d(&a[0], &config, divisor),
            ).unwrap();
        }
        compare(&x, |a| ops::global_avg_pool2d(&a[0]), |a| portable::global_avg_pool2d(&a[0])).unwrap();
    }

    #[test]
    fn linear(
        (batch, n_in, n_out) in (1usize..40, 1usize..70, 1usize..40),
        activation in activation(),
        seed in 0u64..1000,
    ) {
        let args =
            [values(seed, &[batch, n_in], false), values(seed + 1, &[n_out, n_in], false), values(seed, &[n_out], false)];
        compare(
            &args,
            |a| ops::linear(&a[0], &a[1], Some(&a[2]), activation),
            |a| portable::linear(&a[0], &a[1], Some(&a[2]), activation),
        ).unwrap();
    }

    #[test]
    fn activations(len in 1usize..50, activation in activation(), seed in 0u64..1000, coarse in any::<bool>()) {
        // Six times coarse values meet ReLU6's upper end exactly.
        let x = [(values(seed, &[len], coarse) * 3.0).unwrap()];
        compare(&x, |a| ops::activate(&a[0], activation), |a| portable::activate(&a[0], activation)).unwrap();
    }

    #[test]
    fn cross_entropy((batch, classes) in (1usize..20, 1usize..60), seed in 0u64..1000) {
        let logits = [(values(seed, &[batch, classes], false) * 10.0).unwrap()];
        let labels = Tensor::from_iter((0..batch as u32).map(|i| (i * 31 + 7) % classes as u32), &Device::Cpu).unwrap();
        compare(
            &logits,
            |a| ops::softmax_cross_entropy(&a[0], &labels),
            |a| portable::softmax_cross_entropy(&a[0], &labels),
        ).unwrap();
    }
}
