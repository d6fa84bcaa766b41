//! `nn` in the place of candle-nn: the same variables and, within rounding, the same results.

use candle_core::{D, DType, Device, Module, ModuleT, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};

/// The outputs of a network over the layers of one crate: after a convolution, after batch norm, and the logits.
macro_rules! outputs {
    ($layers:path, $vb:expr, $xs:expr, $train:expr) => {{
        use $layers as layers;
        let config = layers::Conv2dConfig { padding: 1, stride: 2, ..Default::default() };
        let conv = layers::conv2d(3, 8, 3, config, $vb.pp("conv"))?;
        let depthwise = layers::Conv2dConfig { groups: 8, ..Default::default() };
        let depthwise = layers::conv2d_no_bias(8, 8, 3, depthwise, $vb.pp("depthwise"))?;
        let norm = layers::batch_norm(8, 1e-5, $vb.pp("norm"))?;
        let head = layers::linear(8, 10, $vb.pp("head"))?;
        let maps = conv.forward($xs)?;
        let normalized = norm.forward_t(&depthwise.forward(&maps)?, $train)?;
        let logits = head.forward(&normalized.relu()?.mean(D::Minus1)?.transpose(1, 2)?.contiguous()?)?;
        Ok([maps, normalized, logits])
    }};
}

#[test]
fn results_are_those_of_candle_nn() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let xs = Tensor::randn(0f32, 1., (2, 3, 16, 14), &Device::Cpu)?;
    for train in [true, false] {
        let theirs: Result<[Tensor; 3]> = (|| outputs!(candle_nn, vb, &xs, train))();
        let ours: Result<[Tensor; 3]> = (|| outputs!(firstsight_ops::nn, vb, &xs, train))();
        for (i, (ours, theirs)) in ours?.iter().zip(&theirs?).enumerate() {
            assert_eq!(ours.dims(), theirs.dims());
            let error = (ours - theirs)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(error < 1e-4, "train {train}, output {i}: off by {error}");
        }
        if train {
            let names: Vec<String> = vars.data().lock().unwrap().keys().cloned().collect();
            assert_eq!(names.len(), 9, "{names:?}");
            assert!(names.contains(&"norm.running_mean".to_owned()));
        }
    }
    Ok(())
}

#[test]
fn a_linear_layer_reads_views_of_any_rank() -> Result<()> {
    let weight = Tensor::randn(0f32, 1., (10, 8), &Device::Cpu)?;
    let layer = firstsight_ops::nn::Linear::new(weight.clone(), None);
    let xs = Tensor::randn(0f32, 1., (2, 8, 6), &Device::Cpu)?.transpose(1, 2)?;
    let expected = xs.contiguous()?.reshape((12, 8))?.matmul(&weight.t()?)?.reshape((2, 6, 10))?;
    let error = (layer.forward(&xs)? - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(error < 1e-5, "off by {error}");
    Ok(())
}

#[test]
fn without_gradients_nothing_is_recorded_and_results_are_the_same() -> Result<()> {
    use firstsight_ops::nn::{ConvBnAct, batch_norm, conv2d_no_bias, linear};
    use firstsight_ops::{Activation, Pool2dConfig, max_pool2d, no_grad, softmax_cross_entropy};

    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let xs = Tensor::randn(0f32, 1., (2, 3, 16, 14), &Device::Cpu)?;
    let labels = Tensor::new(&[3u32, 7], &Device::Cpu)?;
    let conv = conv2d_no_bias(3, 8, 3, candle_nn::Conv2dConfig::default(), vb.pp("conv"))?;
    let block = ConvBnAct::new(conv, batch_norm(8, 1e-5, vb.pp("norm"))?, Activation::HardSwish);
    let head = linear(8 * 7 * 6, 10, vb.pp("head"))?;
    let outputs = || -> Result<Vec<Tensor>> {
        let maps = block.forward_t(&xs, false)?;
        let pooled = max_pool2d(&maps, &Pool2dConfig::square(2))?;
        let logits = head.forward(&pooled.flatten_from(1)?)?;
        let loss = softmax_cross_entropy(&logits, &labels)?;
        Ok(vec![maps, pooled, logits, loss])
    };
    let (recorded, plain) = (outputs()?, no_grad(outputs)?);
    for (recorded, plain) in recorded.iter().zip(&plain) {
        assert!(recorded.track_op() && !plain.track_op());
        let error = (recorded - plain)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(error < 1e-5, "off by {error}");
    }
    let thrown = std::panic::catch_unwind(|| no_grad(|| assert!(std::hint::black_box(false))));
    assert!(thrown.is_err() && outputs()?.iter().all(Tensor::track_op), "recording goes on after a panic");
    Ok(())
}

#[test]
fn packed_weights_give_the_same_results_at_every_pass() -> Result<()> {
    use firstsight_ops::nn::{ConvBnAct, batch_norm, conv2d_no_bias, linear};
    use firstsight_ops::{Activation, Conv2dConfig, PackedWeights, conv2d, feed_forward, no_grad};

    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let conv = conv2d_no_bias(6, 40, 3, candle_nn::Conv2dConfig::default(), vb.pp("conv"))?;
    let block = ConvBnAct::new(conv, batch_norm(40, 1e-5, vb.pp("norm"))?, Activation::Relu);
    let depthwise = vb.get_with_hints((40, 1, 3, 3), "depthwise", candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
    let head = linear(40, 70, vb.pp("head"))?;
    let (up, down) = (linear(70, 50, vb.pp("up"))?, linear(50, 9, vb.pp("down"))?);
    let network = |xs: &Tensor| {
        let maps = block.forward_t(xs, false)?;
        let config = Conv2dConfig { groups: 40, ..Conv2dConfig::default() };
        let maps = conv2d(&maps, &depthwise, None, &config, Activation::Identity)?;
        let rows = maps.permute((0, 2, 3, 1))?.flatten_to(2)?;
        let rows = head.forward(&rows.contiguous()?)?;
        feed_forward(&rows, (up.weight(), up.bias()), (down.weight(), down.bias()), Activation::Gelu)
    };
    let packed = PackedWeights::default();
    for (batch, side) in [(1, 12), (3, 12), (2, 9)] {
        let xs = Tensor::randn(0f32, 1., (batch, 6, side, side), &Device::Cpu)?;
        let expected = no_grad(|| network(&xs))?;
        let parts = packed.infer_parts(3, |_| network(&xs)).into_iter().collect::<Result<Vec<_>>>()?;
        for found in parts.iter().chain(&[packed.infer(|| network(&xs))?]) {
            assert!(!found.track_op());
            assert_eq!(found.to_vec2::<f32>()?, expected.to_vec2::<f32>()?);
        }
    }
    // Weights that are gone leave nothing to others in their place.
    for value in [1f32, 2., 3.] {
        let weight = Tensor::full(value, (64, 64), &Device::Cpu)?;
        let ones = Tensor::ones((40, 64), DType::F32, &Device::Cpu)?;
        let y = packed.infer(|| firstsight_ops::linear(&ones, &weight, None, Activation::Identity))?;
        assert_eq!(y.get(0)?.to_vec1::<f32>()?[0], 64.0 * value);
    }
    Ok(())
}

#[test]
fn packed_weights_are_those_of_their_shape_and_settings() -> Result<()> {
    use firstsight_ops::nn::BatchNorm;
    use firstsight_ops::{
        Activation, Conv2dConfig, ConvBlock, ConvLayer, PackedWeights, RunningVariance, conv2d, no_grad,
    };

    let xs = Tensor::randn(0f32, 1., (2, 32, 9, 9), &Device::Cpu)?;
    let weight = Tensor::randn(0f32, 1., (64, 32, 3, 3), &Device::Cpu)?;
    let config = Conv2dConfig::default();
    let ones = |n| Tensor::ones(n, DType::F32, &Device::Cpu);
    let (gamma, zeros) = (ones(64)?, Tensor::zeros(64, DType::F32, &Device::Cpu)?);
    // They share all of their tensors.
    let norm = |epsilon| BatchNorm {
        weight: gamma.clone(),
        bias: zeros.clone(),
        running_mean: zeros.clone(),
        running_var: gamma.clone(),
        epsilon,
        momentum: 0.1,
        running_variance: RunningVariance::Unbiased,
    };
    let all = || -> Result<Vec<Tensor>> {
        let mut ys = Vec::new();
        for n_out in [64, 32, 48] {
            ys.push(conv2d(&xs, &weight.narrow(0, 0, n_out)?, None, &config, Activation::Relu)?);
        }
        for epsilon in [1e-5, 1.0, 3.0] {
            let layer = ConvLayer::new(&weight, config);
            ys.push(ConvBlock::new(layer.batch_norm(&norm(epsilon))).forward(&xs)?);
        }
        Ok(ys)
    };
    let (expected, packed) = (no_grad(all)?, PackedWeights::default());
    for pass in 0..2 {
        for (i, (found, expected)) in packed.infer(all)?.iter().zip(&expected).enumerate() {
            let [found, expected] =
                [found, expected].map(|y| y.flatten_all().and_then(|y| y.to_vec1::<f32>()));
            assert!(found? == expected?, "pass {pass}, layer {i}");
        }
    }
    Ok(())
}

#[test]
fn packed_weights_do_not_grow_with_every_pass() -> Result<()> {
    use firstsight_ops::{Activation, PackedWeights, feed_forward, linear};

    let xs = Tensor::randn(0f32, 1., (40, 20), &Device::Cpu)?;
    let (up, down) =
        (Tensor::randn(0f32, 1., (20, 30), &Device::Cpu)?, Tensor::randn(0f32, 1., (30, 8), &Device::Cpu)?);
    let packed = PackedWeights::default();
    let views = (up.t()?, down.t()?);
    for _ in 0..3 {
        packed.infer(|| feed_forward(&xs, (&views.0, None), (&views.1, None), Activation::Gelu))?;
        packed.infer(|| linear(&xs, &views.0, None, Activation::Gelu))?;
    }
    assert!(format!("{packed:?}").contains("layers: 0"), "{packed:?}");
    Ok(())
}

#[test]
fn groups_that_do_not_divide_the_channels_are_refused() {
    use firstsight_ops::nn::{Conv2dConfig, conv2d, conv2d_no_bias};

    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    for groups in [0, 3] {
        let config = Conv2dConfig { groups, ..Default::default() };
        for conv in [conv2d, conv2d_no_bias] {
            let said = conv(8, 12, 3, config, vb.clone()).unwrap_err().to_string();
            assert!(said.contains(&format!("{groups} groups, 8 channels in, 12 out")), "{said}");
        }
    }
    assert!(vars.all_vars().is_empty());
}
