//! Every op through the emulation of a device, against the reference implementations in float64.

pub(crate) mod emulation;
pub(crate) mod process;

#[path = "../../../tests/ops/cases.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod cases;
#[path = "../../../tests/ops/generate.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod generate;

use candle_core::{DType, Device, Tensor, Var};

use self::cases::{Generated, Path, Tensors};
use self::emulation::{emulated, emulated_by, set_order};
use self::process::{Emulator, Order, Process, kernel_names};
use super::ops::loss::with_labels;
use super::program::{ACTIVATION, LAYER_NORM, OPTIM, POOL, PRELUDE, REDUCE, SOFTMAX, SOURCES, Source};
use crate::optim::{AdamStep, AdamUpdate, EpsilonPlacement, SgdStep, SgdUpdate, adam_steps, sgd_steps};
use crate::{Activation, BatchNorm, Conv2dConfig, ConvBlock, ConvLayer, RunningVariance, Shortcut};

const CASES: usize = 24;
/// For ops of which a part has kernels.
const FEW: usize = 8;

fn check(op: &str, cases: &[Generated]) {
    let launches = emulated(Order::Forward, || check_orders(op, cases));
    assert!(launches.is_none_or(|((), launches)| launches > 0), "{op} launches no kernel");
}

/// Runs cases in several orders of threads: the results are near the reference's, and the same bits in each order.
fn check_orders(op: &str, cases: &[Generated]) {
    for (i, case) in cases.iter().enumerate() {
        let what = format!("{op} {i}: {:?}", case.op);
        let run = |order| {
            set_order(order);
            let results = case.op.run(&case.inputs, DType::F32, Path::Dispatched);
            results.unwrap_or_else(|e| panic!("{what}: {e}"))
        };
        let forward = run(Order::Forward);
        case.check_results(&forward, &what);
        for order in [Order::Backward, Order::Shuffled(i as u64)] {
            assert_same(&forward, &run(order), &format!("{what}, {order:?}"));
        }
    }
}

fn assert_same(a: &Tensors, b: &Tensors, what: &str) {
    for (name, a) in a {
        let bits = |x: &Tensor| {
            let values = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(bits(a), bits(&b[name]), "{what}: {name} depends on the order of threads");
    }
}

macro_rules! emulate {
    ($($op:ident: $count:expr),* $(,)?) => {
        $(#[test]
        fn $op() {
            check(stringify!($op), &generate::sample(generate::$op(), $count));
        })*
    };
}

emulate! {
    activate: CASES,
    adam: CASES,
    attention: FEW,
    avg_pool2d: CASES,
    batch_norm: CASES,
    conv2d: 2 * CASES,
    conv2d_avg_pool: FEW,
    conv2d_batch_norm: FEW,
    conv2d_max_pool: FEW,
    conv_block: FEW,
    feed_forward: FEW,
    global_avg_pool2d: CASES,
    layer_norm: CASES,
    layer_norm_2d: CASES,
    linear: FEW,
    max_pool2d: CASES,
    self_attention: FEW,
    sgd: CASES,
    soft_cross_entropy: CASES,
    softmax: CASES,
    softmax_cross_entropy: CASES,
}

/// What a residual block adds and activates in the pass of its last batch normalization, against the CPU's kernels.
#[test]
fn shortcuts_behind_batch_norm() {
    let run = |activation: Activation, train: bool, projected: bool| {
        let var = |seed, shape: &[usize]| {
            Var::from_tensor(&cases::values(seed, shape).to_dtype(DType::F32).unwrap()).unwrap()
        };
        let vars =
            [var(1, &[3, 5, 6, 7]), var(2, &[5, 5, 1, 1]), var(3, &[5]), var(4, &[5]), var(5, &[5, 5, 1, 1])];
        let running = [Tensor::zeros(5, DType::F32, &Device::Cpu), Tensor::ones(5, DType::F32, &Device::Cpu)];
        let [running_mean, running_var] = running.map(Result::unwrap);
        let norm = BatchNorm {
            weight: vars[2].as_tensor().clone(),
            bias: vars[3].as_tensor().clone(),
            running_mean,
            running_var,
            epsilon: 1e-3,
            momentum: 0.1,
            running_variance: RunningVariance::Unbiased,
        };
        let projection = ConvLayer::new(&vars[4], Conv2dConfig::default());
        let shortcut = if projected { Shortcut::Projection(projection) } else { Shortcut::Identity };
        let layer = ConvLayer::new(&vars[1], Conv2dConfig::default()).batch_norm(&norm);
        let block = ConvBlock::new(layer).shortcut(shortcut).post_activation(activation);
        let y = block.forward_t(&vars[0], train).unwrap();
        let grads = crate::backward(&(&y * &y).unwrap().sum_all().unwrap()).unwrap();
        let grads = vars.iter().filter_map(|var| grads.get(var));
        let results = grads.chain([&y, &norm.running_mean, &norm.running_var]);
        results.map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect::<Vec<_>>()
    };
    for activation in [Activation::Identity, Activation::Tanh, Activation::Silu, Activation::Gelu] {
        for (train, projected) in [(true, false), (true, true), (false, false), (false, true)] {
            let expected = run(activation, train, projected);
            let found = emulated(Order::Shuffled(3), || run(activation, train, projected));
            let Some((found, launches)) = found else { return };
            assert!(launches > 0 && found.len() == expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let scale = expected.iter().fold(1f32, |scale, v| scale.max(v.abs()));
                let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(error < 1e-5 * scale, "{activation:?}, {train}, {projected}: {error} of {scale}");
            }
        }
    }
}

/// Several variables, of one and of several chunks, are one launch.
#[test]
fn optimizer_steps_are_one_launch() {
    let run = || {
        let sizes = [1, 16_384, 3, 40_001];
        let of =
            |seed: u64| sizes.map(|n| cases::values(seed + n as u64, &[n]).to_dtype(DType::F32).unwrap());
        let params = of(1).map(|x| Var::from_tensor(&x).unwrap());
        let (grads, zeros) = (of(2), of(3).map(|x| x.zeros_like().unwrap()));
        let [m, v] = [(); 2].map(|()| zeros.each_ref().map(|x| x.copy().unwrap()));
        let adam = |i: usize| AdamUpdate {
            param: &params[i],
            grad: &grads[i],
            m: &m[i],
            v: &v[i],
            step: AdamStep {
                lr: 0.01 * (i + 1) as f64,
                beta1: 0.9,
                beta2: 0.99,
                epsilon: 1e-5,
                epsilon_placement: EpsilonPlacement::PyTorch,
                weight_decay: 0.1,
                step: 1,
            },
        };
        adam_steps(&[0, 1, 2, 3].map(adam)).unwrap();
        let step = |i| SgdStep { lr: 0.1, momentum: 0.9, nesterov: i % 2 == 0, weight_decay: 0.01 };
        let sgd = |i: usize| SgdUpdate { param: &params[i], grad: &grads[i], velocity: &m[i], step: step(i) };
        sgd_steps(&[0, 1, 2, 3].map(sgd)).unwrap();
        params.map(|param| param.to_vec1::<f32>().unwrap())
    };
    let expected = run();
    let Some((found, launches)) = emulated(Order::Shuffled(1), run) else { return };
    assert_eq!(launches, 2);
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((a - b).abs() < 1e-5, "{a}, {b}");
    }
}

/// The mask is that of the CPU, and so is the gradient's.
#[test]
fn dropout() {
    let run = || {
        [(1, 0.0, 1), (1021, 0.5, 7), (4100, 0.1, u64::MAX), (70_000, 0.999, 3)].map(|(n, rate, seed)| {
            let x = Var::from_tensor(&cases::values(n as u64, &[n]).to_dtype(DType::F32).unwrap()).unwrap();
            let y = crate::dropout(&x, rate, seed).unwrap();
            let grads = (&y * &y).unwrap().sum_all().unwrap().backward().unwrap();
            [y.to_vec1::<f32>().unwrap(), grads.get(&x).unwrap().to_vec1::<f32>().unwrap()]
        })
    };
    let expected = run();
    if let Some((found, launches)) = emulated(Order::Shuffled(1), run) {
        assert_eq!((found, launches), (expected, 8));
    }
}

/// The same bits as on the CPU.
#[test]
fn normalize_bytes() {
    for (batch, h, w, channels) in [(1, 1, 1, 1), (2, 7, 9, 3), (3, 20, 21, 4)] {
        let count = batch * h * w * channels;
        let bytes: Vec<u8> = (0..count).map(|i| (i * 37 % 256) as u8).collect();
        let images = Tensor::from_vec(bytes, (batch, h, w, channels), &Device::Cpu).unwrap();
        let (mean, std) = ([0.485, 0.456, 0.406, 0.5], [0.229, 0.224, 0.225, 0.1]);
        let run = || crate::normalize_bytes(&images, &mean[..channels], &std[..channels]).unwrap();
        let Some((found, launches)) = emulated(Order::Backward, run) else { return };
        let values = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((values(found), launches), (values(run()), 1));
    }
}

/// A label that is no class must not be an address.
#[test]
fn labels_that_are_no_class_give_nan() {
    let run = || {
        let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let labels = Tensor::new(&[1u32, 1 << 30], &Device::Cpu).unwrap();
        with_labels(&logits, &labels, 3).unwrap().to_scalar::<f32>().unwrap()
    };
    assert!(emulated(Order::Forward, run).is_none_or(|(loss, _)| loss.is_nan()));
}

/// Each kernel's program is among those that the other tests run.
#[test]
fn every_kernel_is_launched() {
    let all: Vec<Generated> =
        generate::all().into_iter().flat_map(|(_, strategy)| generate::sample(strategy, 4)).collect();
    let run = || {
        for case in &all {
            case.op.run(&case.inputs, DType::F32, Path::Dispatched).unwrap();
        }
        crate::dropout(&all[0].inputs["x"], 0.5, 1).unwrap();
        let images = Tensor::zeros((1, 2, 2, 1), DType::U8, &Device::Cpu).unwrap();
        crate::normalize_bytes(&images, &[0.0], &[1.0]).unwrap();
        emulation::launched()
    };
    let Some((launched, _)) = emulated(Order::Forward, run) else { return };
    let kernels = SOURCES.iter().flat_map(|source| kernel_names(source.text));
    let missing: Vec<&str> = kernels.filter(|kernel| !launched.contains(kernel)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Kernels with a fault that only a race, an address or a value shows.
#[test]
fn faults_are_found() {
    struct Fault {
        what: &'static str,
        source: Source,
        before: &'static str,
        after: &'static str,
        cases: Vec<Generated>,
    }
    let faults = [
        // The first barrier of row_sum and row_max.
        Fault {
            what: "a race after a read",
            source: SOFTMAX,
            before: "__syncthreads();\n        if (threadIdx.x % 32 == 0)",
            after: "if (threadIdx.x % 32 == 0)",
            cases: generate::sample(generate::softmax(), CASES),
        },
        // The second one.
        Fault {
            what: "a race after a write",
            source: SOFTMAX,
            before: "partial[threadIdx.x / 32] = v;\n        __syncthreads();",
            after: "partial[threadIdx.x / 32] = v;",
            cases: generate::sample(generate::softmax(), CASES),
        },
        Fault {
            what: "a barrier that some threads miss",
            source: LAYER_NORM,
            before: "float mean = sum_over_y(sum, partial) / (float)channels;",
            after: "if (!inside) return;\n    float mean = sum_over_y(sum, partial) / (float)channels;",
            cases: generate::sample(generate::layer_norm_2d(), CASES),
        },
        Fault {
            what: "an address beyond the end",
            source: ACTIVATION,
            before: "if (i + k < count) p[i + k] = v[k];",
            after: "p[i + k] = v[k];",
            cases: generate::sample(generate::activate(), CASES),
        },
        Fault {
            what: "a window that is a column too wide",
            source: POOL,
            before: "window.end = end < size ? end : size;",
            after: "window.end = end < size ? end + 1 : size;",
            cases: generate::sample(generate::max_pool2d(), CASES),
        },
        Fault {
            what: "a formula",
            source: OPTIM,
            before: "param[k] = chunk.decay * param[k] - chunk.alpha",
            after: "param[k] = param[k] - chunk.alpha",
            cases: generate::sample(generate::adam(), CASES),
        },
    ];
    for Fault { what, source, before, after, cases } in faults {
        assert!([PRELUDE, source.text].iter().any(|text| text.contains(before)), "{what}");
        let Some(emulator) = Emulator::compile(&[source, REDUCE], &|text| text.replace(before, after)) else {
            return;
        };
        let run = || {
            emulated_by(Process::of(&emulator), Order::Forward, || check_orders(what, &cases));
        };
        assert!(std::thread::scope(|scope| scope.spawn(run).join().is_err()), "{what} is not found");
    }
}
