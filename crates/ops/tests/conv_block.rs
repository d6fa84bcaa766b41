//! Blocks of convolutions: kernels against the reference implementation in float64 (results, running
//! statistics and all gradients).

use candle_core::{DType, Device, Result, Tensor, Var};
use firstsight_ops::{
    Activation, BatchNorm, Conv2dConfig, ConvBlock, ConvLayer, Instructions, Padding2d, Pool2dConfig,
    Rounding, RunningVariance, Shortcut, limit_instructions, reference,
};

/// A layer, by default normalized, with stride 1 and without padding.
#[derive(Clone, Copy)]
struct Spec {
    out: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    groups: usize,
    normalizes: bool,
    activation: Activation,
}

fn conv(out: usize, kernel: usize, activation: Activation) -> Spec {
    Spec { out, kernel, stride: 1, padding: 0, dilation: 1, groups: 1, normalizes: true, activation }
}

impl Spec {
    fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    fn dilation(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }

    fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    fn without_norm(self) -> Self {
        Self { normalizes: false, ..self }
    }
}

struct Case {
    x: [usize; 4],
    before: Activation,
    layers: Vec<Spec>,
    pool: Option<Pool2dConfig>,
    shortcut: Branch,
    after: Activation,
}

#[derive(Clone, Copy)]
enum Branch {
    None,
    Input,
    Layer(Spec),
}

impl Case {
    /// A block of the layers alone.
    fn of(x: [usize; 4], before: Activation, layers: Vec<Spec>) -> Self {
        Self { x, before, layers, pool: None, shortcut: Branch::None, after: Activation::Identity }
    }

    fn residual(x: [usize; 4], before: Activation, layers: Vec<Spec>) -> Self {
        Self { shortcut: Branch::Input, ..Self::of(x, before, layers) }
    }
}

fn values(seed: usize, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * 7 + seed * 131) as f64 * 0.754_877_666).fract() * 3.0 - 1.4;
    Tensor::from_iter((0..count).map(value), &Device::Cpu).unwrap().reshape(shape).unwrap()
}

type Op = fn(&Tensor, &ConvBlock<'_>, bool) -> Result<Tensor>;

/// The result, the running statistics, and the gradients of x and of all parameters.
fn run(case: &Case, dtype: DType, train: bool, tracked: bool, op: Op) -> Result<Vec<(String, Tensor)>> {
    let var = |seed: usize, shape: &[usize]| Var::from_tensor(&values(seed, shape).to_dtype(dtype)?);
    let x = var(1, &case.x)?;
    let mut vars = vec![("x".to_owned(), x.clone())];
    let mut weights = Vec::new();
    let mut norms = Vec::new();
    let mut channels = case.x[1];
    let mut specs = case.layers.clone();
    if let Branch::Layer(spec) = case.shortcut {
        specs.push(spec);
    }
    for (i, &Spec { out, kernel, groups, normalizes, .. }) in specs.iter().enumerate() {
        if i == case.layers.len() {
            channels = case.x[1];
        }
        let weight = var(10 + i, &[out, channels / groups, kernel, kernel])?;
        vars.push((format!("weight {i}"), weight.clone()));
        weights.push(weight);
        norms.push(if normalizes {
            let (gamma, beta) = (var(20 + i, &[out])?, var(30 + i, &[out])?);
            vars.push((format!("gamma {i}"), gamma.clone()));
            vars.push((format!("beta {i}"), beta.clone()));
            Some(BatchNorm {
                weight: gamma.as_tensor().clone(),
                bias: beta.as_tensor().clone(),
                running_mean: values(40 + i, &[out]).to_dtype(dtype)?,
                running_var: (values(50 + i, &[out]).abs()? + 0.5)?.to_dtype(dtype)?,
                epsilon: 1e-3,
                momentum: 0.2,
                running_variance: if i % 2 == 0 {
                    RunningVariance::Unbiased
                } else {
                    RunningVariance::Biased
                },
            })
        } else {
            None
        });
        channels = out;
    }
    let plain = |tensor: &Var| if tracked { tensor.as_tensor().clone() } else { tensor.as_detached_tensor() };
    if !tracked {
        for norm in norms.iter_mut().flatten() {
            (norm.weight, norm.bias) = (norm.weight.detach(), norm.bias.detach());
        }
    }
    let weights: Vec<Tensor> = weights.iter().map(plain).collect();
    let layers = specs.iter().zip(&weights).zip(&norms).map(|((spec, weight), norm)| {
        let pair = |n| (n, n);
        let config = Conv2dConfig {
            stride: pair(spec.stride),
            padding: Padding2d::symmetric(spec.padding, spec.padding),
            dilation: pair(spec.dilation),
            groups: spec.groups,
        };
        let layer = ConvLayer::new(weight, config).activation(spec.activation);
        norm.as_ref().map_or(layer, |norm| layer.batch_norm(norm))
    });
    let mut layers: Vec<ConvLayer<'_>> = layers.collect();
    let shortcut = match case.shortcut {
        Branch::None => Shortcut::None,
        Branch::Input => Shortcut::Identity,
        Branch::Layer(_) => Shortcut::Projection(layers.pop().unwrap()),
    };
    let rest = layers.split_off(1);
    let mut block = rest.into_iter().fold(ConvBlock::new(layers[0]), ConvBlock::then);
    block = block.pre_activation(case.before).shortcut(shortcut).post_activation(case.after);
    if let Some(pool) = case.pool {
        block = block.max_pool(pool);
    }
    let y = op(&plain(&x), &block, train)?;
    let mut results = vec![("result".to_owned(), y.clone())];
    for (i, norm) in norms.iter().enumerate() {
        if let Some(norm) = norm {
            results.push((format!("running mean {i}"), norm.running_mean.clone()));
            results.push((format!("running variance {i}"), norm.running_var.clone()));
        }
    }
    if tracked {
        let grads = (&y * values(99, y.dims()).to_dtype(dtype)?)?.sum_all()?.backward()?;
        for (name, var) in vars {
            results.push((format!("gradient of {name}"), grads.get(&var).unwrap().clone()));
        }
    }
    Ok(results)
}

fn kernels(x: &Tensor, block: &ConvBlock<'_>, train: bool) -> Result<Tensor> {
    block.forward_t(x, train)
}

fn compare(name: &str, case: &Case) -> Result<()> {
    for train in [true, false] {
        for tracked in [true, false] {
            let ours = run(case, DType::F32, train, tracked, kernels)?;
            let reference = run(case, DType::F64, train, tracked, reference::conv_block)?;
            assert_eq!(ours.len(), reference.len());
            for ((what, ours), (_, reference)) in ours.into_iter().zip(reference) {
                assert_eq!(ours.dims(), reference.dims(), "{name}: {what}");
                let difference = (ours.to_dtype(DType::F64)? - &reference)?.abs()?.max_all()?;
                let error =
                    difference.to_scalar::<f64>()? / reference.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(error < 1e-5, "{name}, train {train}, tracked {tracked}: {what} is off by {error}");
            }
        }
    }
    Ok(())
}

#[test]
fn blocks_are_their_layers() -> Result<()> {
    use Activation::{Identity, LeakyRelu, Relu, Relu6, Tanh};
    let cases = [
        ("pointwise", Case::of([2, 5, 7, 6], Identity, vec![conv(9, 1, Relu)])),
        ("one pixel", Case::residual([3, 4, 1, 1], Identity, vec![conv(4, 1, Identity)])),
        ("depthwise", Case::of([3, 6, 9, 8], Relu, vec![conv(6, 3, Relu6).padding(1).groups(6)])),
        (
            "stride 2",
            Case::of(
                [2, 6, 9, 8],
                Tanh,
                vec![conv(6, 3, Tanh).stride(2).padding(1).groups(6), conv(7, 1, LeakyRelu(0.1)).stride(2)],
            ),
        ),
        (
            "stride 3",
            Case::of(
                [2, 3, 11, 13],
                Identity,
                vec![conv(3, 5, Relu).stride(3).padding(2).groups(3), conv(5, 3, Relu).stride(2).padding(1)],
            ),
        ),
        (
            "dilated",
            Case::of(
                [2, 3, 11, 13],
                Identity,
                vec![
                    conv(3, 3, Relu).padding(2).dilation(2).groups(3),
                    conv(4, 3, Relu).padding(2).dilation(2).without_norm(),
                ],
            ),
        ),
        (
            "grouped",
            Case::of(
                [2, 6, 6, 5],
                Identity,
                vec![
                    conv(9, 3, Relu).padding(1).groups(3),
                    conv(18, 3, Tanh).padding(1).groups(9).without_norm(),
                ],
            ),
        ),
        (
            "inverted residual",
            Case::residual(
                [2, 10, 14, 14],
                Identity,
                vec![conv(60, 1, Relu6), conv(60, 3, Relu6).padding(1).groups(60), conv(10, 1, Identity)],
            ),
        ),
        (
            "many channels",
            Case::residual(
                [4, 33, 5, 5],
                Relu,
                vec![
                    conv(33, 3, Identity).padding(1).groups(33).without_norm(),
                    conv(401, 1, Relu),
                    conv(401, 3, Identity).padding(1).groups(401).without_norm(),
                    conv(33, 1, Identity),
                ],
            ),
        ),
        (
            "wide",
            Case::of(
                [2, 3, 35, 121],
                Identity,
                vec![conv(8, 3, Relu6).stride(2), conv(8, 3, Relu6).padding(1).groups(8)],
            ),
        ),
        (
            "module of Xception",
            Case {
                pool: Some(Pool2dConfig {
                    kernel: (3, 3),
                    stride: (2, 2),
                    padding: (1, 1),
                    rounding: Rounding::Floor,
                }),
                shortcut: Branch::Layer(conv(20, 1, Identity).stride(2)),
                ..Case::of(
                    [3, 9, 11, 10],
                    Relu,
                    vec![
                        conv(9, 3, Identity).padding(1).groups(9).without_norm(),
                        conv(20, 1, Relu),
                        conv(20, 3, Identity).padding(1).groups(20).without_norm(),
                        conv(20, 1, Identity),
                    ],
                )
            },
        ),
        (
            "pooled without normalization, hanging over",
            Case {
                pool: Some(Pool2dConfig {
                    kernel: (2, 3),
                    stride: (2, 2),
                    padding: (0, 1),
                    rounding: Rounding::Ceil,
                }),
                ..Case::of([2, 4, 9, 8], Identity, vec![conv(5, 3, Relu6).padding(1).without_norm()])
            },
        ),
        (
            "residual block",
            Case {
                after: Relu,
                ..Case::residual(
                    [2, 20, 8, 9],
                    Identity,
                    vec![conv(20, 3, Relu).padding(1), conv(20, 3, Identity).padding(1)],
                )
            },
        ),
        (
            "residual block with a projection",
            Case {
                shortcut: Branch::Layer(conv(7, 1, Tanh).stride(2)),
                after: LeakyRelu(0.2),
                ..Case::of(
                    [2, 4, 8, 9],
                    Identity,
                    vec![
                        conv(7, 3, Relu).stride(2).padding(1),
                        conv(7, 3, Identity).padding(1).without_norm(),
                    ],
                )
            },
        ),
    ];
    for most in [Instructions::Avx512, Instructions::Avx2, Instructions::Plain] {
        limit_instructions(most);
        for (name, case) in &cases {
            compare(&format!("{name} with {most:?}"), case)?;
        }
    }
    limit_instructions(Instructions::Avx512);
    Ok(())
}

#[test]
fn shortcuts_that_do_not_fit_are_refused() {
    let x = values(1, &[1, 2, 6, 6]).to_dtype(DType::F32).unwrap();
    let weight = values(2, &[2, 2, 1, 1]).to_dtype(DType::F32).unwrap();
    let layer = ConvLayer::new(&weight, Conv2dConfig::default());
    let pooled = layer.max_pool(Pool2dConfig::square(2));
    let refused = [
        (pooled.clone().shortcut(Shortcut::Identity), "[1, 2, 3, 3] beside [1, 2, 6, 6]"),
        (pooled.clone().shortcut(Shortcut::Projection(layer)), "[1, 2, 3, 3] beside [1, 2, 6, 6]"),
        (ConvBlock::new(layer.activation(Activation::Relu)).shortcut(Shortcut::Identity), "Relu"),
        (pooled.max_pool(Pool2dConfig::square(7)), "does not fit"),
    ];
    for (block, found) in refused {
        let error = block.forward(&x).unwrap_err().to_string();
        assert!(error.contains(found), "{error}");
    }
}

#[test]
fn a_bias_before_batch_norm_is_refused() {
    let ones = Tensor::ones(2, DType::F32, &Device::Cpu).unwrap();
    let norm = BatchNorm {
        weight: ones.clone(),
        bias: ones.clone(),
        running_mean: ones.clone(),
        running_var: ones.clone(),
        epsilon: 1e-3,
        momentum: 0.1,
        running_variance: RunningVariance::Biased,
    };
    let (x, weight) = (values(1, &[1, 2, 4, 4]), values(2, &[2, 2, 1, 1]));
    let [x, weight] = [x, weight].map(|tensor| tensor.to_dtype(DType::F32).unwrap());
    let layer = ConvLayer::new(&weight, Conv2dConfig::default()).bias(&ones).batch_norm(&norm);
    assert!(layer.forward(&x).unwrap_err().to_string().contains("has no bias"));
}
