//! Chains of convolutions and batch norms: the kernels against the portable path in float64, results, running
//! statistics and all gradients.

use candle_core::{DType, Device, Result, Tensor, Var};
use firstsight_ops::{Instructions, limit_instructions};
use firstsight_ops::{
    Activation, BatchNorm, Conv2dConfig, ConvChain, ConvNormAct, Padding2d, Pool2dConfig, Rounding,
    RunningVariance, Shortcut, conv_chain, portable,
};

/// One layer: output channels, kernel, stride, padding, dilation, groups, whether it normalises, what follows.
#[derive(Clone, Copy)]
struct Spec(usize, usize, usize, usize, usize, usize, bool, Activation);

struct Case {
    x: [usize; 4],
    before: Activation,
    layers: Vec<Spec>,
    pool: Option<Pool2dConfig>,
    beside: Beside,
    after: Activation,
}

#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    Input,
    Layer(Spec),
}

impl Case {
    /// The layers alone.
    fn of(x: [usize; 4], before: Activation, layers: Vec<Spec>) -> Self {
        Self { x, before, layers, pool: None, beside: Beside::Nothing, after: Activation::Identity }
    }

    fn residual(x: [usize; 4], before: Activation, layers: Vec<Spec>) -> Self {
        Self { beside: Beside::Input, ..Self::of(x, before, layers) }
    }
}

fn values(seed: usize, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * 7 + seed * 131) as f64 * 0.754_877_666).fract() * 3.0 - 1.4;
    Tensor::from_iter((0..count).map(value), &Device::Cpu).unwrap().reshape(shape).unwrap()
}

type Op = fn(&Tensor, &ConvChain<'_>, bool) -> Result<Tensor>;

/// The result, the running statistics, and the gradients of x and of all parameters.
fn run(case: &Case, dtype: DType, train: bool, tracked: bool, op: Op) -> Result<Vec<(String, Tensor)>> {
    let var = |seed: usize, shape: &[usize]| Var::from_tensor(&values(seed, shape).to_dtype(dtype)?);
    let x = var(1, &case.x)?;
    let mut vars = vec![("x".to_owned(), x.clone())];
    let mut weights = Vec::new();
    let mut norms = Vec::new();
    let mut channels = case.x[1];
    let mut specs = case.layers.clone();
    if let Beside::Layer(spec) = case.beside {
        specs.push(spec);
    }
    for (i, &Spec(out, kernel, _, _, _, groups, normalises, _)) in specs.iter().enumerate() {
        if i == case.layers.len() {
            channels = case.x[1];
        }
        let weight = var(10 + i, &[out, channels / groups, kernel, kernel])?;
        vars.push((format!("weight {i}"), weight.clone()));
        weights.push(weight);
        norms.push(if normalises {
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
    let mut layers: Vec<ConvNormAct<'_>> = specs
        .iter()
        .zip(&weights)
        .zip(&norms)
        .map(|((&Spec(_, _, stride, padding, dilation, groups, _, activation), weight), norm)| ConvNormAct {
            weight,
            norm: norm.as_ref(),
            config: Conv2dConfig {
                stride: (stride, stride),
                padding: Padding2d::symmetric(padding, padding),
                dilation: (dilation, dilation),
                groups,
            },
            activation,
        })
        .collect();
    let shortcut = match (case.beside, layers.last()) {
        (Beside::Input, _) => Shortcut::Identity,
        (Beside::Layer(_), Some(&layer)) => Shortcut::Projection(layer),
        _ => Shortcut::None,
    };
    layers.truncate(case.layers.len());
    let &Case { before, pool, after, .. } = case;
    let y = op(&plain(&x), &ConvChain { before, pool, shortcut, after, layers: &layers }, train)?;
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

fn compare(name: &str, case: &Case) -> Result<()> {
    for train in [true, false] {
        for tracked in [true, false] {
            let ours = run(case, DType::F32, train, tracked, conv_chain)?;
            let reference = run(case, DType::F64, train, tracked, portable::conv_chain)?;
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
fn chains_are_their_layers() -> Result<()> {
    use Activation::{Identity, LeakyRelu, Relu, Relu6, Tanh};
    let cases = [
        ("pointwise", Case::of([2, 5, 7, 6], Identity, vec![Spec(9, 1, 1, 0, 1, 1, true, Relu)])),
        ("one pixel", Case::residual([3, 4, 1, 1], Identity, vec![Spec(4, 1, 1, 0, 1, 1, true, Identity)])),
        ("depthwise", Case::of([3, 6, 9, 8], Relu, vec![Spec(6, 3, 1, 1, 1, 6, true, Relu6)])),
        (
            "stride 2",
            Case::of(
                [2, 6, 9, 8],
                Tanh,
                vec![Spec(6, 3, 2, 1, 1, 6, true, Tanh), Spec(7, 1, 2, 0, 1, 1, true, LeakyRelu(0.1))],
            ),
        ),
        (
            "stride 3",
            Case::of(
                [2, 3, 11, 13],
                Identity,
                vec![Spec(3, 5, 3, 2, 1, 3, true, Relu), Spec(5, 3, 2, 1, 1, 1, true, Relu)],
            ),
        ),
        (
            "dilated",
            Case::of(
                [2, 3, 11, 13],
                Identity,
                vec![Spec(3, 3, 1, 2, 2, 3, true, Relu), Spec(4, 3, 1, 2, 2, 1, false, Relu)],
            ),
        ),
        (
            "grouped",
            Case::of(
                [2, 6, 6, 5],
                Identity,
                vec![Spec(9, 3, 1, 1, 1, 3, true, Relu), Spec(18, 3, 1, 1, 1, 9, false, Tanh)],
            ),
        ),
        (
            "inverted residual",
            Case::residual(
                [2, 10, 14, 14],
                Identity,
                vec![
                    Spec(60, 1, 1, 0, 1, 1, true, Relu6),
                    Spec(60, 3, 1, 1, 1, 60, true, Relu6),
                    Spec(10, 1, 1, 0, 1, 1, true, Identity),
                ],
            ),
        ),
        (
            "many channels",
            Case::residual(
                [4, 33, 5, 5],
                Relu,
                vec![
                    Spec(33, 3, 1, 1, 1, 33, false, Identity),
                    Spec(401, 1, 1, 0, 1, 1, true, Relu),
                    Spec(401, 3, 1, 1, 1, 401, false, Identity),
                    Spec(33, 1, 1, 0, 1, 1, true, Identity),
                ],
            ),
        ),
        (
            "wide",
            Case::of(
                [2, 3, 35, 121],
                Identity,
                vec![Spec(8, 3, 2, 0, 1, 1, true, Relu6), Spec(8, 3, 1, 1, 1, 8, true, Relu6)],
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
                beside: Beside::Layer(Spec(20, 1, 2, 0, 1, 1, true, Identity)),
                ..Case::of(
                    [3, 9, 11, 10],
                    Relu,
                    vec![
                        Spec(9, 3, 1, 1, 1, 9, false, Identity),
                        Spec(20, 1, 1, 0, 1, 1, true, Relu),
                        Spec(20, 3, 1, 1, 1, 20, false, Identity),
                        Spec(20, 1, 1, 0, 1, 1, true, Identity),
                    ],
                )
            },
        ),
        (
            "pooled without normalisation, hanging over",
            Case {
                pool: Some(Pool2dConfig {
                    kernel: (2, 3),
                    stride: (2, 2),
                    padding: (0, 1),
                    rounding: Rounding::Ceil,
                }),
                ..Case::of([2, 4, 9, 8], Identity, vec![Spec(5, 3, 1, 1, 1, 1, false, Relu6)])
            },
        ),
        (
            "residual block",
            Case {
                after: Relu,
                ..Case::residual(
                    [2, 20, 8, 9],
                    Identity,
                    vec![Spec(20, 3, 1, 1, 1, 1, true, Relu), Spec(20, 3, 1, 1, 1, 1, true, Identity)],
                )
            },
        ),
        (
            "residual block with a projection",
            Case {
                beside: Beside::Layer(Spec(7, 1, 2, 0, 1, 1, true, Tanh)),
                after: LeakyRelu(0.2),
                ..Case::of(
                    [2, 4, 8, 9],
                    Identity,
                    vec![Spec(7, 3, 2, 1, 1, 1, true, Relu), Spec(7, 3, 1, 1, 1, 1, false, Identity)],
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
    let layer =
        |activation| ConvNormAct { weight: &weight, norm: None, config: Conv2dConfig::PLAIN, activation };
    let (plain, active) = ([layer(Activation::Identity)], [layer(Activation::Relu)]);
    let pooled = ConvChain { pool: Some(Pool2dConfig::square(2)), ..ConvChain::of(&plain) };
    let refused = [
        (ConvChain { shortcut: Shortcut::Identity, ..pooled }, "[1, 2, 3, 3] beside [1, 2, 6, 6]"),
        (
            ConvChain { shortcut: Shortcut::Projection(plain[0]), ..pooled },
            "[1, 2, 3, 3] beside [1, 2, 6, 6]",
        ),
        (ConvChain { shortcut: Shortcut::Identity, ..ConvChain::of(&active) }, "Relu"),
        (ConvChain::of(&[]), "at least one layer"),
        (ConvChain { pool: Some(Pool2dConfig::square(7)), ..pooled }, "does not fit"),
    ];
    for (chain, found) in refused {
        let error = conv_chain(&x, &chain, false).unwrap_err().to_string();
        assert!(error.contains(found), "{error}");
    }
}
