//! Chains of convolutions and batch norms: the kernels against the portable path in float64, results, running
//! statistics and all gradients.

use candle_core::{DType, Device, Result, Tensor, Var};
use firstsight_ops::testing::{Instructions, limit_instructions};
use firstsight_ops::{
    Activation, BatchNorm, Conv2dConfig, ConvNormAct, Padding2d, RunningVariance, conv_chain, portable,
};

/// One layer: output channels, kernel, stride, padding, dilation, groups, whether it normalises, what follows.
#[derive(Clone, Copy)]
struct Spec(usize, usize, usize, usize, usize, usize, bool, Activation);

struct Case {
    x: [usize; 4],
    before: Activation,
    layers: Vec<Spec>,
    residual: bool,
}

fn values(seed: usize, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * 7 + seed * 131) as f64 * 0.754_877_666).fract() * 3.0 - 1.4;
    Tensor::from_iter((0..count).map(value), &Device::Cpu).unwrap().reshape(shape).unwrap()
}

type Op = fn(&Tensor, Activation, &[ConvNormAct<'_>], bool, bool) -> Result<Tensor>;

/// The result, the running statistics, and the gradients of x and of all parameters.
fn run(case: &Case, dtype: DType, train: bool, tracked: bool, op: Op) -> Result<Vec<(String, Tensor)>> {
    let var = |seed: usize, shape: &[usize]| Var::from_tensor(&values(seed, shape).to_dtype(dtype)?);
    let x = var(1, &case.x)?;
    let mut vars = vec![("x".to_owned(), x.clone())];
    let mut weights = Vec::new();
    let mut norms = Vec::new();
    let mut channels = case.x[1];
    for (i, &Spec(out, kernel, _, _, _, groups, normalises, _)) in case.layers.iter().enumerate() {
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
    let layers: Vec<ConvNormAct<'_>> = case
        .layers
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
    let y = op(&plain(&x), case.before, &layers, case.residual, train)?;
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
        (
            "pointwise",
            Case {
                x: [2, 5, 7, 6],
                before: Identity,
                layers: vec![Spec(9, 1, 1, 0, 1, 1, true, Relu)],
                residual: false,
            },
        ),
        (
            "one pixel",
            Case {
                x: [3, 4, 1, 1],
                before: Identity,
                layers: vec![Spec(4, 1, 1, 0, 1, 1, true, Identity)],
                residual: true,
            },
        ),
        (
            "depthwise",
            Case {
                x: [3, 6, 9, 8],
                before: Relu,
                layers: vec![Spec(6, 3, 1, 1, 1, 6, true, Relu6)],
                residual: false,
            },
        ),
        (
            "stride 2",
            Case {
                x: [2, 6, 9, 8],
                before: Tanh,
                layers: vec![
                    Spec(6, 3, 2, 1, 1, 6, true, Tanh),
                    Spec(7, 1, 2, 0, 1, 1, true, LeakyRelu(0.1)),
                ],
                residual: false,
            },
        ),
        (
            "stride 3",
            Case {
                x: [2, 3, 11, 13],
                before: Identity,
                layers: vec![Spec(3, 5, 3, 2, 1, 3, true, Relu), Spec(5, 3, 2, 1, 1, 1, true, Relu)],
                residual: false,
            },
        ),
        (
            "dilated",
            Case {
                x: [2, 3, 11, 13],
                before: Identity,
                layers: vec![Spec(3, 3, 1, 2, 2, 3, true, Relu), Spec(4, 3, 1, 2, 2, 1, false, Relu)],
                residual: false,
            },
        ),
        (
            "grouped",
            Case {
                x: [2, 6, 6, 5],
                before: Identity,
                layers: vec![Spec(9, 3, 1, 1, 1, 3, true, Relu), Spec(18, 3, 1, 1, 1, 9, false, Tanh)],
                residual: false,
            },
        ),
        (
            "inverted residual",
            Case {
                x: [2, 10, 14, 14],
                before: Identity,
                layers: vec![
                    Spec(60, 1, 1, 0, 1, 1, true, Relu6),
                    Spec(60, 3, 1, 1, 1, 60, true, Relu6),
                    Spec(10, 1, 1, 0, 1, 1, true, Identity),
                ],
                residual: true,
            },
        ),
        (
            "many channels",
            Case {
                x: [4, 33, 5, 5],
                before: Relu,
                layers: vec![
                    Spec(33, 3, 1, 1, 1, 33, false, Identity),
                    Spec(401, 1, 1, 0, 1, 1, true, Relu),
                    Spec(401, 3, 1, 1, 1, 401, false, Identity),
                    Spec(33, 1, 1, 0, 1, 1, true, Identity),
                ],
                residual: true,
            },
        ),
        (
            "wide",
            Case {
                x: [2, 3, 35, 121],
                before: Identity,
                layers: vec![Spec(8, 3, 2, 0, 1, 1, true, Relu6), Spec(8, 3, 1, 1, 1, 8, true, Relu6)],
                residual: false,
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
