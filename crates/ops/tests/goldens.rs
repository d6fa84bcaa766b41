//! Results and gradients against PyTorch's in float64 (tests/goldens/ops.py makes the file).

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use firstsight_ops as ops;
use firstsight_ops::optim::{AdamStep, EpsilonPlacement, SgdStep, adam_step, sgd_step};
use firstsight_ops::portable;
use firstsight_ops::{Activation, Conv2dConfig, Divisor, Padding2d, Pool2dConfig, Rounding};
use serde::Deserialize;

const GOLDENS: &[u8] = include_bytes!("goldens/ops.safetensors");

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(flatten)]
    op: Op,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Op {
    Conv2d {
        stride: (usize, usize),
        #[serde(flatten)]
        conv: ConvSettings,
    },
    Conv2dMaxPool {
        conv_stride: (usize, usize),
        #[serde(flatten)]
        conv: ConvSettings,
        #[serde(flatten)]
        pool: PoolSettings,
    },
    MaxPool2d {
        #[serde(flatten)]
        pool: PoolSettings,
    },
    AvgPool2d {
        count_include_pad: bool,
        #[serde(flatten)]
        pool: PoolSettings,
    },
    GlobalAvgPool2d,
    Activate {
        activation: String,
    },
    Linear {
        activation: String,
    },
    SoftmaxCrossEntropy {
        labels: Vec<u32>,
    },
    Adam {
        lr: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        placement: String,
        weight_decay: f64,
    },
    Sgd {
        lr: f64,
        momentum: f64,
        nesterov: bool,
        weight_decay: f64,
    },
}

#[derive(Deserialize)]
struct ConvSettings {
    pad: (usize, usize, usize, usize),
    dilation: (usize, usize),
    groups: usize,
    activation: String,
}

impl ConvSettings {
    fn config(&self, stride: (usize, usize)) -> Conv2dConfig {
        let (top, bottom, left, right) = self.pad;
        let padding = Padding2d { top, bottom, left, right };
        Conv2dConfig { stride, padding, dilation: self.dilation, groups: self.groups }
    }
}

#[derive(Deserialize)]
struct PoolSettings {
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: (usize, usize),
    ceil: bool,
}

impl PoolSettings {
    fn config(&self) -> Pool2dConfig {
        let rounding = if self.ceil { Rounding::Ceil } else { Rounding::Floor };
        Pool2dConfig { kernel: self.kernel, stride: self.stride, padding: self.padding, rounding }
    }
}

fn activation(name: &str) -> Activation {
    match name {
        "identity" => Activation::Identity,
        "relu" => Activation::Relu,
        "relu6" => Activation::Relu6,
        "tanh" => Activation::Tanh,
        "leaky_relu" => Activation::LeakyRelu(0.2),
        _ => panic!("unknown activation {name}"),
    }
}

fn cases() -> (Vec<Case>, HashMap<String, Tensor>) {
    let (_, metadata) = safetensors::SafeTensors::read_metadata(GOLDENS).unwrap();
    let cases = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["cases"]).unwrap();
    (cases, candle_core::safetensors::load_buffer(GOLDENS, &Device::Cpu).unwrap())
}

/// Largest difference over the largest value.
fn relative(ours: &Tensor, golden: &Tensor) -> f64 {
    assert_eq!(ours.dims(), golden.dims());
    let largest =
        |x: &Tensor| x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
    let golden = golden.to_dtype(DType::F64).unwrap();
    let difference = (ours.to_dtype(DType::F64).unwrap() - &golden).unwrap();
    largest(&difference) / largest(&golden).max(1e-6)
}

/// A differentiable op on the arguments of a case.
type Run<'a> = Box<dyn Fn(&[Tensor]) -> Result<Tensor> + 'a>;

/// The op's arguments in order, its dispatched form and its portable form.
fn differentiable(op: &Op) -> Option<(&'static [&'static str], Run<'_>, Run<'_>)> {
    const CONV: &[&str] = &["x", "weight", "bias"];
    Some(match op {
        Op::Conv2d { stride, conv } => {
            let (config, f) = (conv.config(*stride), activation(&conv.activation));
            (
                CONV,
                Box::new(move |a| ops::conv2d(&a[0], &a[1], Some(&a[2]), &config, f)),
                Box::new(move |a| portable::conv2d(&a[0], &a[1], Some(&a[2]), &config, f)),
            )
        }
        Op::Conv2dMaxPool { conv_stride, conv, pool } => {
            let (config, f, pool) = (conv.config(*conv_stride), activation(&conv.activation), pool.config());
            (
                CONV,
                Box::new(move |a| ops::conv2d_max_pool(&a[0], &a[1], Some(&a[2]), &config, f, &pool)),
                Box::new(move |a| portable::conv2d_max_pool(&a[0], &a[1], Some(&a[2]), &config, f, &pool)),
            )
        }
        Op::MaxPool2d { pool } => {
            let pool = pool.config();
            (
                &["x"],
                Box::new(move |a| ops::max_pool2d(&a[0], &pool)),
                Box::new(move |a| portable::max_pool2d(&a[0], &pool)),
            )
        }
        Op::AvgPool2d { count_include_pad, pool } => {
            let pool = pool.config();
            let divisor = if *count_include_pad { Divisor::CountIncludePad } else { Divisor::Valid };
            (
                &["x"],
                Box::new(move |a| ops::avg_pool2d(&a[0], &pool, divisor)),
                Box::new(move |a| portable::avg_pool2d(&a[0], &pool, divisor)),
            )
        }
        Op::GlobalAvgPool2d => (
            &["x"],
            Box::new(|a| ops::global_avg_pool2d(&a[0])),
            Box::new(|a| portable::global_avg_pool2d(&a[0])),
        ),
        Op::Activate { activation: name } => {
            let f = activation(name);
            (
                &["x"],
                Box::new(move |a| ops::activate(&a[0], f)),
                Box::new(move |a| portable::activate(&a[0], f)),
            )
        }
        Op::Linear { activation: name } => {
            let f = activation(name);
            (
                CONV,
                Box::new(move |a| ops::linear(&a[0], &a[1], Some(&a[2]), f)),
                Box::new(move |a| portable::linear(&a[0], &a[1], Some(&a[2]), f)),
            )
        }
        Op::SoftmaxCrossEntropy { labels } => {
            let labels = Tensor::new(labels.as_slice(), &Device::Cpu).unwrap();
            let same = labels.clone();
            (
                &["x"],
                Box::new(move |a| ops::softmax_cross_entropy(&a[0], &labels)),
                Box::new(move |a| portable::softmax_cross_entropy(&a[0], &same)),
            )
        }
        Op::Adam { .. } | Op::Sgd { .. } => return None,
    })
}

#[test]
fn results_and_gradients_are_pytorch_s() {
    let (cases, tensors) = cases();
    let mut checked = 0;
    for case in &cases {
        let Some((names, kernel, portable)) = differentiable(&case.op) else { continue };
        let get = |name: &str| &tensors[&format!("{}.{name}", case.name)];
        for (dtype, run, tolerance) in [
            (DType::F32, &kernel, 1e-5),
            (DType::F32, &portable, 1e-5),
            (DType::F64, &kernel, 1e-12),
            (DType::F64, &portable, 1e-12),
        ] {
            let vars: Vec<Var> = names
                .iter()
                .map(|name| Var::from_tensor(&get(name).to_dtype(dtype).unwrap()).unwrap())
                .collect();
            let args: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
            let y = run(&args).unwrap();
            let loss = (&y * get("seed").to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap();
            let grads = loss.backward().unwrap();
            let error = relative(&y, get("y"));
            assert!(error < tolerance, "case {}, {dtype:?}: the result is off by {error}", case.name);
            for (name, var) in names.iter().zip(&vars) {
                let error = relative(grads.get(var).unwrap(), get(&format!("grad_{name}")));
                assert!(error < tolerance, "case {}, {dtype:?}: grad_{name} is off by {error}", case.name);
            }
            checked += 1;
        }
    }
    assert!(checked >= 4 * 60, "only {checked} runs");
}

#[test]
fn optimisers_step_as_pytorch_s_and_keras_s() {
    let (cases, tensors) = cases();
    let mut checked = 0;
    for case in &cases {
        let get = |name: &str| &tensors[&format!("{}.{name}", case.name)];
        for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-12)] {
            let steps = |take: &dyn Fn(&Var, &Tensor, &Tensor, &Tensor, u64)| {
                let param = Var::from_tensor(&get("start").to_dtype(dtype).unwrap()).unwrap();
                let (m, v) = (param.zeros_like().unwrap(), param.zeros_like().unwrap());
                for step in 1..=5 {
                    let grad = get("grads").to_dtype(dtype).unwrap().get(step - 1).unwrap();
                    take(&param, &grad, &m, &v, step as u64);
                }
                relative(&param, get("end"))
            };
            let error = match case.op {
                Op::Adam { lr, beta1, beta2, epsilon, ref placement, weight_decay } => {
                    let epsilon_placement = match placement.as_str() {
                        "keras" => EpsilonPlacement::Keras,
                        _ => EpsilonPlacement::PyTorch,
                    };
                    steps(&|param, grad, m, v, step| {
                        let step =
                            AdamStep { lr, beta1, beta2, epsilon, epsilon_placement, weight_decay, step };
                        adam_step(param, grad, m, v, &step).unwrap();
                    })
                }
                Op::Sgd { lr, momentum, nesterov, weight_decay } => steps(&|param, grad, velocity, _, _| {
                    let step = SgdStep { lr, momentum, nesterov, weight_decay };
                    sgd_step(param, grad, velocity, &step).unwrap();
                }),
                _ => continue,
            };
            assert!(error < tolerance, "case {}, {dtype:?}: off by {error}", case.name);
            checked += 1;
        }
    }
    assert_eq!(checked, 12);
}
