//! Single ops in the sizes of real networks: forward, and forward with backward.
//!
//! `cargo bench -p firstsight-ops -- depthwise` times the ops with that word in their names.

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Result, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use firstsight_ops::optim::{AdamStep, EpsilonPlacement, adam_step};
use firstsight_ops::{
    Activation, BatchNorm, Conv2dConfig, ConvLayer, PadCounting, Padding2d, Pool2dConfig, Rounding,
    RunningVariance, avg_pool2d, batch_norm, conv2d, linear, max_pool2d, softmax_cross_entropy,
};

const OVERLAPPING: Pool2dConfig =
    Pool2dConfig { kernel: (3, 3), stride: (2, 2), padding: (1, 1), rounding: Rounding::Floor };

fn noise(seed: usize, shape: &[usize]) -> Tensor {
    let value = |i: usize| (((i + seed * 7919) as f64 * 0.754_877_666).fract() * 2.0 - 1.0) as f32;
    let values = Tensor::from_iter((0..shape.iter().product()).map(value), &Device::Cpu);
    values.and_then(|values| values.reshape(shape)).unwrap()
}

/// Times `op` on arguments of `shapes` as plain tensors, and with the gradients of all of them.
fn both(c: &mut Criterion, name: &str, shapes: &[&[usize]], op: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let tensors: Vec<Tensor> = shapes.iter().enumerate().map(|(i, shape)| noise(i, shape)).collect();
    c.bench_function(&format!("{name}, forward"), |b| b.iter(|| op(black_box(&tensors)).unwrap()));
    let vars: Vec<Var> = tensors.iter().map(|tensor| Var::from_tensor(tensor).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    c.bench_function(&format!("{name}, forward and backward"), |b| {
        b.iter(|| op(black_box(&tracked)).unwrap().backward().unwrap());
    });
}

/// (batch, c_in, side), (c_out, kernel), stride, groups
type Conv = ((usize, usize, usize), (usize, usize), usize, usize);

fn convolutions(c: &mut Criterion) {
    let convs: [(&str, Conv); 8] = [
        ("conv 1→16, 72×72", ((32, 1, 72), (16, 3), 1, 1)),
        ("conv 3→96, 11×11 stride 4, 227×227", ((4, 3, 227), (96, 11), 4, 1)),
        ("conv 256→384, 13×13", ((16, 256, 13), (384, 3), 1, 1)),
        ("conv 3→32 stride 2, 224×224", ((4, 3, 224), (32, 3), 2, 1)),
        ("pointwise 24→144, 56×56", ((4, 24, 56), (144, 1), 1, 1)),
        ("pointwise 728→728, 10×10", ((16, 728, 10), (728, 1), 1, 1)),
        ("depthwise 144, 56×56", ((4, 144, 56), (144, 3), 1, 144)),
        ("depthwise 96 stride 2, 112×112", ((4, 96, 112), (96, 3), 2, 96)),
    ];
    for (name, ((batch, c_in, side), (c_out, kernel), stride, groups)) in convs {
        let pixels = if kernel > 7 { 0 } else { kernel / 2 };
        let config = Conv2dConfig {
            stride: (stride, stride),
            padding: Padding2d::symmetric(pixels, pixels),
            dilation: (1, 1),
            groups,
        };
        let weight = [c_out, c_in / groups, kernel, kernel];
        let shapes: [&[usize]; 3] = [&[batch, c_in, side, side], &weight, &[c_out]];
        both(c, name, &shapes, |a| conv2d(&a[0], &a[1], Some(&a[2]), &config, Activation::Relu));
        if name.starts_with("pointwise") || name.starts_with("depthwise") {
            let norm = norm(c_out);
            both(c, &format!("{name}, batch norm"), &shapes[..2], |a| {
                let layer = ConvLayer::new(&a[1], config).batch_norm(&norm).activation(Activation::Relu6);
                layer.forward_t(&a[0], true)
            });
        }
    }
    let same = Conv2dConfig { padding: Padding2d::symmetric(1, 1), ..Default::default() };
    let pool = Pool2dConfig::square(2);
    both(c, "conv 16→32 and max pool 2, 40×30", &[&[32, 16, 40, 30], &[32, 16, 3, 3], &[32]], |a| {
        let layer = ConvLayer::new(&a[1], same).bias(&a[2]).activation(Activation::Relu);
        layer.max_pool(pool).forward(&a[0])
    });
}

fn norm(channels: usize) -> BatchNorm {
    let full = |value: f32| Tensor::full(value, channels, &Device::Cpu).unwrap();
    BatchNorm {
        weight: full(1.0),
        bias: full(0.0),
        running_mean: full(0.0),
        running_var: full(1.0),
        epsilon: 1e-5,
        momentum: 0.1,
        running_variance: RunningVariance::Unbiased,
    }
}

fn others(c: &mut Criterion) {
    let maps: [&[usize]; 1] = [&[8, 128, 73, 73]];
    both(c, "max pool 3 stride 2, 73×73", &maps, |a| max_pool2d(&a[0], &OVERLAPPING));
    both(c, "average pool 3 stride 2, 73×73", &maps, |a| {
        avg_pool2d(&a[0], &OVERLAPPING, PadCounting::Exclude)
    });
    let norm = norm(128);
    both(c, "batch norm, 73×73", &maps, |a| batch_norm(&a[0], &norm, Activation::Relu, true));
    both(c, "dense 4800→55", &[&[128, 4800], &[55, 4800], &[55]], |a| {
        linear(&a[0], &a[1], Some(&a[2]), Activation::Identity)
    });
    let labels = Tensor::from_iter((0..128u32).map(|i| i * 7 % 55), &Device::Cpu).unwrap();
    both(c, "softmax cross-entropy 55", &[&[128, 55]], |a| softmax_cross_entropy(&a[0], &labels));

    let param = Var::from_tensor(&noise(1, &[4_000_000])).unwrap();
    let (grad, m, v) = (noise(2, &[4_000_000]), param.zeros_like().unwrap(), param.zeros_like().unwrap());
    let step = AdamStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        epsilon_placement: EpsilonPlacement::PyTorch,
        weight_decay: 0.0,
        step: 1,
    };
    c.bench_function("adam, 4 million", |b| {
        b.iter(|| adam_step(&param, black_box(&grad), &m, &v, &step).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = convolutions, others
}
criterion_main!(benches);
