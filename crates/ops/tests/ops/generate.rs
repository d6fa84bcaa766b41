//! Random cases: odd sizes, maps of one pixel, batches of one, strides larger than the kernel,
//! padding up to the kernel − 1, one, some or as many groups as channels, channels that do not fill a
//! vector, and more than 256 channels.

use candle_core::Result;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::cases::{Conv, Function, Generated, Layer, Norm, Op, Placement, Pool, coarse, values};

/// Maximum number of multiply-adds per case.
const MOST_WORK: usize = 4_000_000;

/// The first `count` cases of `strategy`, which are the same in every run.
pub(crate) fn sample<T>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// The cases of every op, by its name.
pub(crate) fn all() -> Vec<(&'static str, BoxedStrategy<Generated>)> {
    vec![
        ("conv2d", conv2d().boxed()),
        ("conv2d_max_pool", conv2d_max_pool().boxed()),
        ("conv2d_avg_pool", conv2d_avg_pool().boxed()),
        ("conv2d_batch_norm", conv2d_batch_norm().boxed()),
        ("conv_block", conv_block().boxed()),
        ("batch_norm", batch_norm().boxed()),
        ("max_pool2d", max_pool2d().boxed()),
        ("avg_pool2d", avg_pool2d().boxed()),
        ("global_avg_pool2d", global_avg_pool2d().boxed()),
        ("activate", activate().boxed()),
        ("linear", linear().boxed()),
        ("feed_forward", feed_forward().boxed()),
        ("layer_norm", layer_norm().boxed()),
        ("layer_norm_2d", layer_norm_2d().boxed()),
        ("global_response_norm", global_response_norm().boxed()),
        ("softmax", softmax().boxed()),
        ("attention", attention().boxed()),
        ("self_attention", self_attention().boxed()),
        ("scales", scales().boxed()),
        ("resize_bicubic", resize_bicubic().boxed()),
        ("softmax_cross_entropy", softmax_cross_entropy().boxed()),
        ("soft_cross_entropy", soft_cross_entropy().boxed()),
        ("adam", adam().boxed()),
        ("sgd", sgd().boxed()),
    ]
}

pub(crate) fn conv2d() -> impl Strategy<Value = Generated> {
    (shape(), function(), any::<u64>()).prop_map(|(Shape { x, weight, conv }, activation, seed)| {
        let shapes: [(&str, &[usize]); 3] = [("x", &x), ("weight", &weight), ("bias", &weight[..1])];
        Generated::new(Op::Conv2d { conv, activation }, &shapes, seed).unwrap()
    })
}

/// Without activations that decrease, since cases at two equal values of those are not redrawn here.
pub(crate) fn conv2d_max_pool() -> impl Strategy<Value = Generated> {
    let function = || proptest::sample::select(Function::MONOTONIC.as_slice());
    let fits = |(shape, pool, activation, seed): (Shape, Pool, Function, u64)| {
        pool.config().output_size(shape.output()).ok()?;
        Some((shape, pool, activation, seed))
    };
    (shape(), pool(), function(), any::<u64>()).prop_filter_map("the pool fits", fits).prop_map(
        |(Shape { x, weight, conv }, pool, activation, seed)| {
            let shapes: [(&str, &[usize]); 3] = [("x", &x), ("weight", &weight), ("bias", &weight[..1])];
            Generated::new(Op::Conv2dMaxPool { conv, activation, pool }, &shapes, seed).unwrap()
        },
    )
}

/// Smooth activations only, since cases at a corner are not redrawn here.
pub(crate) fn conv2d_avg_pool() -> impl Strategy<Value = Generated> {
    let smooth = proptest::sample::select(Function::SMOOTH.as_slice());
    let fits = |(shape, pool, activation, include, seed): (Shape, Pool, Function, bool, u64)| {
        pool.config().output_size(shape.output()).ok()?;
        Some((shape, pool, activation, include, seed))
    };
    (shape(), pool(), smooth, any::<bool>(), any::<u64>()).prop_filter_map("the pool fits", fits).prop_map(
        |(Shape { x, weight, conv }, pool, activation, count_include_pad, seed)| {
            let shapes: [(&str, &[usize]); 3] = [("x", &x), ("weight", &weight), ("bias", &weight[..1])];
            let op = Op::Conv2dAvgPool { conv, activation, pool, count_include_pad };
            Generated::new(op, &shapes, seed).unwrap()
        },
    )
}

pub(crate) fn conv2d_batch_norm() -> impl Strategy<Value = Generated> {
    let enough = |(shape, ..): &(Shape, Norm, Function, u64)| {
        let (oh, ow) = shape.output();
        shape.x[0] * oh * ow > 2
    };
    (shape(), norm(), function(), any::<u64>()).prop_filter("a variance says something", enough).prop_map(
        |(Shape { x, weight, conv }, norm, activation, seed)| {
            let channels = &weight[..1];
            let shapes: [(&str, &[usize]); 6] = [
                ("x", &x),
                ("weight", &weight),
                ("gamma", channels),
                ("beta", channels),
                ("running_mean", channels),
                ("running_var", channels),
            ];
            Generated::new(Op::Conv2dBatchNorm { conv, activation, norm }, &shapes, seed).unwrap()
        },
    )
}

/// One to four layers with smooth activations, since inside a block no mask hides corners.
pub(crate) fn conv_block() -> impl Strategy<Value = Generated> {
    let smooth = || proptest::sample::select(Function::SMOOTH.as_slice());
    let layer = || {
        let kernel = prop_oneof![2 => Just(1usize), 2 => Just(3), 1 => Just(5)];
        // The output channels of a layer that is not depthwise.
        (any::<bool>(), 2usize..40, kernel, 1usize..3, 1usize..3, norm(), 0..4, smooth())
    };
    let layers = proptest::collection::vec(layer(), 1..5);
    (
        (2usize..5, 2usize..40, 3usize..16, 3usize..16),
        smooth(),
        layers,
        any::<bool>(),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_filter_map("the windows fit", |(x, before, layers, residual, train, seed)| {
            let (batch, channels, mut h, mut w) = x;
            let mut shapes = vec![("x".to_owned(), vec![batch, channels, h, w])];
            let mut c_in = channels;
            let n = layers.len();
            let mut links = Vec::new();
            for (i, (depthwise, c_out, kernel, stride, dilation, norm, kind, activation)) in
                layers.into_iter().enumerate()
            {
                let last = i + 1 == n;
                let stride = if residual { 1 } else { stride };
                let depthwise = depthwise && !(residual && last);
                let c_out = match (depthwise, residual && last) {
                    (true, _) => c_in,
                    (false, true) => channels,
                    (false, false) => c_out,
                };
                let padding = kernel / 2 * dilation;
                let conv = Conv {
                    stride: (stride, stride),
                    pad: (padding, padding, padding, padding),
                    dilation: (dilation, dilation),
                    groups: if depthwise { c_in } else { 1 },
                };
                (h, w) = conv.config().output_size((h, w), (kernel, kernel)).ok()?;
                let normed = kind > 0 && batch * h * w > 8;
                shapes.push((format!("weight{i}"), vec![c_out, c_in / conv.groups, kernel, kernel]));
                if normed {
                    for name in ["gamma", "beta", "running_mean", "running_var"] {
                        shapes.push((format!("{name}{i}"), vec![c_out]));
                    }
                }
                let activation = if residual && last { Function::Identity } else { activation };
                links.push(Layer { conv, activation, norm: normed.then_some(Norm { train, ..norm }) });
                c_in = c_out;
            }
            let op = Op::ConvBlock { before, layers: links, residual, train };
            let shapes: Vec<(&str, &[usize])> =
                shapes.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
            Some(Generated::new(op, &shapes, seed).unwrap())
        })
}

/// Maps, among them some whose mean is several times their deviation.
pub(crate) fn batch_norm() -> impl Strategy<Value = Generated> {
    (map(), norm(), function(), any::<u64>())
        .prop_filter("a variance says something", |(x, ..)| x[0] * x[2] * x[3] > 2)
        .prop_map(|(x, norm, activation, seed)| {
            let channels = &x[1..2];
            let shapes: [(&str, &[usize]); 5] = [
                ("x", &x),
                ("gamma", channels),
                ("beta", channels),
                ("running_mean", channels),
                ("running_var", channels),
            ];
            let x_offset = if seed % 3 == 0 { 3.0 } else { 0.0 };
            Generated::shifted(Op::BatchNorm { activation, norm }, &shapes, seed, x_offset).unwrap()
        })
}

/// Values, with frequent ties in every other case.
pub(crate) fn max_pool2d() -> impl Strategy<Value = Generated> {
    pooled_map().prop_map(|(x, pool, seed)| {
        let mut case = Generated::new(Op::MaxPool2d { pool }, &[("x", &x)], seed).unwrap();
        if seed % 2 == 0 {
            let x = coarse(&case.inputs["x"]);
            case.inputs.insert("x".to_owned(), x);
        }
        case
    })
}

pub(crate) fn avg_pool2d() -> impl Strategy<Value = Generated> {
    (pooled_map(), any::<bool>()).prop_map(|((x, pool, seed), count_include_pad)| {
        Generated::new(Op::AvgPool2d { pool, count_include_pad }, &[("x", &x)], seed).unwrap()
    })
}

pub(crate) fn global_avg_pool2d() -> impl Strategy<Value = Generated> {
    (map(), any::<u64>())
        .prop_map(|(x, seed)| Generated::new(Op::GlobalAvgPool2d, &[("x", &x)], seed).unwrap())
}

/// Values, some of them coarse: six times those meet ReLU6's corners exactly.
pub(crate) fn activate() -> impl Strategy<Value = Generated> {
    (map(), function(), any::<u64>()).prop_map(|(x, activation, seed)| {
        let mut case = Generated::new(Op::Activate { activation }, &[("x", &x)], seed).unwrap();
        let x = &case.inputs["x"];
        let x = (if seed % 2 == 0 { coarse(x) } else { x.clone() } * 3.0).unwrap();
        case.inputs.insert("x".to_owned(), x);
        case
    })
}

pub(crate) fn linear() -> impl Strategy<Value = Generated> {
    (1usize..40, count(600), count(300), function(), any::<u64>()).prop_map(
        |(batch, n_in, n_out, activation, seed)| {
            let shapes: [(&str, &[usize]); 3] =
                [("x", &[batch, n_in]), ("weight", &[n_out, n_in]), ("bias", &[n_out])];
            Generated::new(Op::Linear { activation }, &shapes, seed).unwrap()
        },
    )
}

/// Smooth activations only, since cases at a corner are not redrawn here.
pub(crate) fn feed_forward() -> impl Strategy<Value = Generated> {
    let smooth = proptest::sample::select(Function::SMOOTH.as_slice());
    (1usize..200, count(400), count(500), count(200), smooth, any::<u64>()).prop_map(
        |(batch, n_in, hidden, n_out, activation, seed)| {
            let shapes: [(&str, &[usize]); 5] = [
                ("x", &[batch, n_in]),
                ("weight", &[hidden, n_in]),
                ("bias", &[hidden]),
                ("weight2", &[n_out, hidden]),
                ("bias2", &[n_out]),
            ];
            Generated::new(Op::FeedForward { activation }, &shapes, seed).unwrap()
        },
    )
}

/// Rows, among them some whose mean is several times their deviation.
pub(crate) fn layer_norm() -> impl Strategy<Value = Generated> {
    (1usize..6, 1usize..40, features(900), 1e-6..1e-2, any::<u64>()).prop_map(|(b, n, c, epsilon, seed)| {
        let shapes: [(&str, &[usize]); 3] = [("x", &[b, n, c]), ("gamma", &[c]), ("beta", &[c])];
        let x_offset = if seed % 3 == 0 { 3.0 } else { 0.0 };
        Generated::shifted(Op::LayerNorm { epsilon }, &shapes, seed, x_offset).unwrap()
    })
}

pub(crate) fn layer_norm_2d() -> impl Strategy<Value = Generated> {
    (1usize..4, features(300), 1usize..20, 1usize..20, 1e-6..1e-2, any::<u64>()).prop_map(
        |(b, c, h, w, epsilon, seed)| {
            let shapes: [(&str, &[usize]); 3] = [("x", &[b, c, h, w]), ("gamma", &[c]), ("beta", &[c])];
            let x_offset = if seed % 3 == 0 { 3.0 } else { 0.0 };
            Generated::shifted(Op::LayerNorm2d { epsilon }, &shapes, seed, x_offset).unwrap()
        },
    )
}

/// Channels first and last.
pub(crate) fn global_response_norm() -> impl Strategy<Value = Generated> {
    (map(), 1e-6..1e-2, any::<u64>()).prop_map(|(x, epsilon, seed)| {
        let (op, c) = if seed % 2 == 0 {
            (Op::GlobalResponseNorm { epsilon }, x[3])
        } else {
            (Op::GlobalResponseNorm2d { epsilon }, x[1])
        };
        let shapes: [(&str, &[usize]); 3] = [("x", &x), ("gamma", &[c]), ("beta", &[c])];
        Generated::new(op, &shapes, seed).unwrap()
    })
}

pub(crate) fn softmax() -> impl Strategy<Value = Generated> {
    (1usize..30, count(1100), any::<u64>()).prop_map(|(rows, size, seed)| {
        let mut case = Generated::new(Op::Softmax, &[("x", &[rows, size])], seed).unwrap();
        let x = (&case.inputs["x"] * 10.0).unwrap();
        case.inputs.insert("x".to_owned(), x);
        case
    })
}

/// Queries and keys of different numbers, heads of odd sizes, and biases of each kind.
pub(crate) fn attention() -> impl Strategy<Value = Generated> {
    let sizes = (1usize..40, 1usize..40, 1usize..70, 1usize..40);
    let bias = (1usize..4, any::<bool>(), any::<bool>());
    (1usize..4, 1usize..4, sizes, 0.05..1.0, bias, any::<u64>()).prop_map(
        |(repeats, heads, (n, m, d, e), scale, (groups, by_head, biased), seed)| {
            let batch = repeats * groups;
            let shapes: [(&str, &[usize]); 4] = [
                ("q", &[batch, heads, n, d]),
                ("k", &[batch, heads, m, d]),
                ("v", &[batch, heads, m, e]),
                ("bias", &[groups, if by_head { heads } else { 1 }, n, m]),
            ];
            let used = if biased { &shapes[..] } else { &shapes[..3] };
            Generated::new(Op::Attention { scale, biased }, used, seed).unwrap()
        },
    )
}

pub(crate) fn self_attention() -> impl Strategy<Value = Generated> {
    (1usize..4, 1usize..4, count(200), 1usize..70, any::<bool>(), any::<u64>()).prop_map(
        |(batch, heads, tokens, dim, biased, seed)| {
            let x = [batch, tokens, 3 * heads * dim];
            let shapes: [(&str, &[usize]); 2] = [("x", &x), ("bias", &[1, heads, tokens, tokens])];
            let used = if biased { &shapes[..] } else { &shapes[..1] };
            Generated::new(Op::SelfAttention { heads, biased }, used, seed).unwrap()
        },
    )
}

/// One factor per channel, or per channel of each sample.
pub(crate) fn scales() -> impl Strategy<Value = Generated> {
    (map(), 0..3, any::<u64>()).prop_map(|(x, kind, seed)| {
        let (op, scales) = match kind {
            0 => (Op::LayerScale, vec![x[3]]),
            1 => (Op::LayerScale2d, vec![x[1]]),
            _ => (Op::ScaleChannels, vec![x[0], x[1], 1, 1]),
        };
        Generated::new(op, &[("x", &x), ("scales", &scales)], seed).unwrap()
    })
}

pub(crate) fn resize_bicubic() -> impl Strategy<Value = Generated> {
    (1usize..3, 1usize..5, 1usize..20, 1usize..20, 1usize..20, 1usize..20, any::<u64>()).prop_map(
        |(b, c, h, w, height, width, seed)| {
            let op = Op::ResizeBicubic { size: (height, width) };
            Generated::new(op, &[("x", &[b, c, h, w])], seed).unwrap()
        },
    )
}

pub(crate) fn softmax_cross_entropy() -> impl Strategy<Value = Generated> {
    (1usize..30, count(1100), any::<u64>()).prop_map(|(batch, classes, seed)| {
        let labels = (0..batch as u64).map(|i| ((i * 31 + seed % 97) % classes as u64) as u32).collect();
        let op = Op::SoftmaxCrossEntropy { labels };
        let mut case = Generated::new(op, &[("x", &[batch, classes])], seed).unwrap();
        let x = (&case.inputs["x"] * 10.0).unwrap();
        case.inputs.insert("x".to_owned(), x);
        case
    })
}

/// Targets with any sum, which the formula allows.
pub(crate) fn soft_cross_entropy() -> impl Strategy<Value = Generated> {
    (1usize..30, count(300), any::<u64>()).prop_map(|(batch, classes, seed)| {
        let targets = values(seed, &[batch, classes]).sqr().unwrap().to_vec2().unwrap();
        let op = Op::SoftCrossEntropy { targets };
        Generated::new(op, &[("x", &[batch, classes])], seed.wrapping_add(1)).unwrap()
    })
}

/// Five optimizer steps.
fn steps(op: Op, n: usize, seed: u64) -> Generated {
    Generated::new(op, &[("start", &[n]), ("grads", &[5, n])], seed).unwrap()
}

pub(crate) fn adam() -> impl Strategy<Value = Generated> {
    let placement = prop_oneof![Just(Placement::Keras), Just(Placement::Pytorch)];
    (count(70_000), 1e-4..0.1, 0.5..0.95, 0.9..0.999, 1e-7..1e-2, placement, 0.0..0.2, any::<u64>()).prop_map(
        |(n, lr, beta1, beta2, epsilon, placement, weight_decay, seed)| {
            let weight_decay = if seed % 2 == 0 { 0.0 } else { weight_decay };
            steps(Op::Adam { lr, beta1, beta2, epsilon, placement, weight_decay }, n, seed)
        },
    )
}

pub(crate) fn sgd() -> impl Strategy<Value = Generated> {
    (count(70_000), 1e-4..0.1, 0.0..0.95, any::<bool>(), 0.0..0.2, any::<u64>()).prop_map(
        |(n, lr, momentum, nesterov, weight_decay, seed)| {
            // PyTorch requires momentum for Nesterov's form.
            let momentum = if seed % 3 == 0 && !nesterov { 0.0 } else { f64::max(momentum, 0.01) };
            steps(Op::Sgd { lr, momentum, nesterov, weight_decay }, n, seed)
        },
    )
}

/// Numbers of features to normalize, of which two or three would have a variance near 0.
fn features(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![3 => 5usize..40, 1 => 5..=most]
}

/// Mostly small numbers, sometimes up to `most`.
fn count(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1usize..40, 1 => 1..=most]
}

fn function() -> impl Strategy<Value = Function> {
    proptest::sample::select(Function::ALL.as_slice())
}

fn norm() -> impl Strategy<Value = Norm> {
    (1e-5..1e-2, 0.01..1.0, any::<bool>(), any::<bool>())
        .prop_map(|(epsilon, momentum, unbiased, train)| Norm { epsilon, momentum, unbiased, train })
}

/// (B, C, H, W)
fn map() -> impl Strategy<Value = Vec<usize>> {
    let few = (1usize..6, 1usize..40, 1usize..14, 1usize..14);
    let many = (1usize..3, 250usize..300, 1usize..4, 1usize..4);
    prop_oneof![4 => few, 1 => many].prop_map(|(b, c, h, w)| vec![b, c, h, w])
}

fn pool() -> impl Strategy<Value = Pool> {
    (1usize..5, 1usize..5, 1usize..5, 1usize..5, 0usize..4, 0usize..4, any::<bool>()).prop_map(
        |(kh, kw, sh, sw, ph, pw, ceil)| Pool {
            kernel: (kh, kw),
            stride: (sh, sw),
            padding: (ph.min(kh - 1), pw.min(kw - 1)),
            ceil,
        },
    )
}

fn pooled_map() -> impl Strategy<Value = (Vec<usize>, Pool, u64)> {
    (map(), pool(), any::<u64>())
        .prop_filter("the window fits", |(x, pool, _)| pool.config().output_size((x[2], x[3])).is_ok())
}

#[derive(Debug, Clone)]
struct Shape {
    x: Vec<usize>,
    weight: Vec<usize>,
    conv: Conv,
}

impl Shape {
    fn output(&self) -> (usize, usize) {
        let config = self.conv.config();
        config.output_size((self.x[2], self.x[3]), (self.weight[2], self.weight[3])).unwrap()
    }
}

/// A convolution: dense, over one or few channels, 1×1, depthwise, or grouped.
fn shape() -> impl Strategy<Value = Shape> {
    // (groups, input channels per group, output channels per group)
    let channels = prop_oneof![
        3 => (Just(1usize), 1usize..40, 1usize..40),
        1 => (Just(1usize), 1usize..4, 1usize..70),
        1 => (Just(1usize), 250usize..300, 1usize..20),
        1 => (Just(1usize), 1usize..20, 250usize..300),
        2 => (1usize..40, Just(1usize), 1usize..4),
        1 => (250usize..300, Just(1usize), 1usize..2),
        2 => (2usize..6, 1usize..9, 1usize..9),
    ];
    let kernel = prop_oneof![
        2 => Just((1usize, 1usize)),
        3 => Just((3, 3)),
        3 => (1usize..6, 1usize..6),
        1 => Just((7, 7)),
    ];
    let step = || prop_oneof![3 => Just((1usize, 1usize)), 1 => Just((2, 2)), 2 => (1usize..6, 1usize..6)];
    let dilation = prop_oneof![3 => Just((1usize, 1usize)), 1 => (1usize..4, 1usize..4)];
    let size = prop_oneof![1 => Just((1usize, 1usize)), 5 => (1usize..20, 1usize..20)];
    let padding = prop_oneof![
        1 => Just((0usize, 0usize, 0usize, 0usize)),
        1 => Just((1, 1, 1, 1)),
        2 => (0usize..7, 0usize..7, 0usize..7, 0usize..7),
    ];
    (1usize..6, channels, size, kernel, step(), dilation, padding).prop_filter_map(
        "the window fits, and the work is little",
        |(batch, (groups, group_in, group_out), (h, w), (kh, kw), stride, dilation, pad)| {
            let pad = (pad.0.min(kh - 1), pad.1.min(kh - 1), pad.2.min(kw - 1), pad.3.min(kw - 1));
            let conv = Conv { stride, pad, dilation, groups };
            let shape = Shape {
                x: vec![batch, groups * group_in, h, w],
                weight: vec![groups * group_out, group_in, kh, kw],
                conv,
            };
            let (oh, ow) = conv.config().output_size((h, w), (kh, kw)).ok()?;
            let work = batch * oh * ow * shape.weight.iter().product::<usize>();
            (work <= MOST_WORK).then_some(shape)
        },
    )
}

/// Shapes of real networks, and similar ones that do not fill vectors. Activations are smooth, since
/// some of so many values lie at a corner; and there is no tanh after long sums, since it hides their
/// rounding but not the reference's scale.
pub(crate) fn real_sizes() -> Result<Vec<(String, Generated)>> {
    let same = |k: usize| (k / 2, k / 2, k / 2, k / 2);
    // (batch, c_in, h, w), (c_out, kernel), stride, pad, groups
    type Row = ((usize, usize, usize, usize), (usize, usize), usize, (usize, usize, usize, usize), usize);
    let rows: [Row; 25] = [
        // The lecture's CNN.
        ((4, 1, 80, 60), (16, 3), 1, same(3), 1),
        ((4, 16, 40, 30), (32, 3), 1, same(3), 1),
        ((4, 32, 20, 15), (64, 3), 1, same(3), 1),
        // LeNet-5.
        ((4, 1, 32, 32), (6, 5), 1, (0, 0, 0, 0), 1),
        ((4, 6, 14, 14), (16, 5), 1, (0, 0, 0, 0), 1),
        ((4, 16, 5, 5), (120, 5), 1, (0, 0, 0, 0), 1),
        // AlexNet.
        ((1, 3, 227, 227), (96, 11), 4, (0, 0, 0, 0), 1),
        ((1, 96, 27, 27), (256, 5), 1, same(5), 1),
        ((1, 256, 13, 13), (384, 3), 1, same(3), 1),
        // MobileNetV2.
        ((1, 3, 224, 224), (32, 3), 2, same(3), 1),
        ((1, 96, 112, 112), (96, 3), 2, same(3), 96),
        ((2, 144, 56, 56), (144, 3), 1, same(3), 144),
        ((2, 24, 56, 56), (144, 1), 1, (0, 0, 0, 0), 1),
        ((2, 960, 7, 7), (960, 3), 1, same(3), 960),
        ((2, 320, 7, 7), (1280, 1), 1, (0, 0, 0, 0), 1),
        // Xception, at 150×150.
        ((1, 32, 74, 74), (64, 3), 1, (0, 0, 0, 0), 1),
        ((1, 728, 10, 10), (728, 3), 1, same(3), 728),
        ((1, 728, 10, 10), (728, 1), 1, (0, 0, 0, 0), 1),
        ((1, 256, 19, 19), (728, 1), 2, (0, 0, 0, 0), 1),
        // Channels that are not a multiple of eight, with TensorFlow's padding.
        ((2, 261, 15, 17), (131, 3), 2, (0, 1, 0, 1), 1),
        // EfficientNet and MobileNetV3, with TensorFlow's padding and without.
        ((2, 40, 56, 56), (40, 5), 2, (1, 2, 1, 2), 40),
        ((1, 75, 33, 29), (75, 5), 2, same(5), 75),
        ((2, 48, 14, 14), (48, 5), 1, same(5), 48),
        ((3, 67, 28, 21), (67, 3), 2, (0, 1, 0, 1), 67),
        // One output more than a tile is wide.
        ((1, 576, 7, 7), (163, 1), 1, (0, 0, 0, 0), 1),
    ];
    let mut cases = Vec::new();
    for (i, &((b, c, h, w), (o, k), stride, pad, groups)) in rows.iter().enumerate() {
        let conv = Conv { stride: (stride, stride), pad, dilation: (1, 1), groups };
        let (x, weight, channels) = ([b, c, h, w], [o, c / groups, k, k], [o]);
        let name = format!("{c}→{o} channels in {groups} groups, {h}×{w} by {k}×{k}, stride {stride}");
        let activation = if groups > 1 { Function::Tanh } else { Function::Identity };
        let shapes: [(&str, &[usize]); 3] = [("x", &x), ("weight", &weight), ("bias", &channels)];
        let plain = Generated::new(Op::Conv2d { conv, activation }, &shapes, i as u64)?;
        cases.push((name.clone(), plain));
        let norm = Norm { epsilon: 1e-5, momentum: 0.1, unbiased: true, train: i % 4 < 3 };
        let shapes: [(&str, &[usize]); 6] = [
            ("x", &x),
            ("weight", &weight),
            ("gamma", &channels),
            ("beta", &channels),
            ("running_mean", &channels),
            ("running_var", &channels),
        ];
        let normed = Generated::new(Op::Conv2dBatchNorm { conv, activation, norm }, &shapes, i as u64)?;
        cases.push((format!("{name}, batch norm"), normed));
        if i < 9 && i != 5 && i != 6 {
            let side = if i < 3 { 2 } else { 3 };
            let pool = Pool { kernel: (side, side), stride: (2, 2), padding: (0, 0), ceil: false };
            let shapes: [(&str, &[usize]); 3] = [("x", &x), ("weight", &weight), ("bias", &channels)];
            let activation = Function::Identity;
            let pooled = Generated::new(Op::Conv2dMaxPool { conv, activation, pool }, &shapes, i as u64)?;
            cases.push((format!("{name}, max pool"), pooled));
        }
        // LeNet-5's convolutions in blocks of samples, the last of which is not full; and a
        // map too large for blocks.
        if let 3 | 4 | 9 = i {
            let pool = Pool { kernel: (2, 2), stride: (2, 2), padding: (0, 0), ceil: false };
            let x = if i == 9 { x } else { [20, c, h, w] };
            let shapes: [(&str, &[usize]); 3] = [("x", &x), ("weight", &weight), ("bias", &channels)];
            let op = Op::Conv2dAvgPool { conv, activation: Function::Tanh, pool, count_include_pad: true };
            cases.push((format!("{name}, mean pool"), Generated::new(op, &shapes, i as u64)?));
        }
    }
    for (batch, n_in, n_out) in [(128, 4800, 55), (128, 960, 64), (16, 9216, 4096), (16, 2048, 1000)] {
        let shapes: [(&str, &[usize]); 3] =
            [("x", &[batch, n_in]), ("weight", &[n_out, n_in]), ("bias", &[n_out])];
        let op = Op::Linear { activation: Function::Identity };
        cases.push((format!("dense {n_in}→{n_out}"), Generated::new(op, &shapes, 1)?));
    }
    Ok(cases)
}
