//! `nn` in the place of candle-nn: the same variables and, within rounding, the same results.

use candle_core::{D, DType, Device, Module, ModuleT, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};

/// A network over the layers of one crate, and its logits.
macro_rules! logits {
    ($layers:path, $vb:expr, $xs:expr, $train:expr) => {{
        use $layers as layers;
        let config = layers::Conv2dConfig { padding: 1, stride: 2, ..Default::default() };
        let conv = layers::conv2d(3, 8, 3, config, $vb.pp("conv"))?;
        let depthwise = layers::Conv2dConfig { groups: 8, ..Default::default() };
        let depthwise = layers::conv2d_no_bias(8, 8, 3, depthwise, $vb.pp("depthwise"))?;
        let norm = layers::batch_norm(8, 1e-5, $vb.pp("norm"))?;
        let head = layers::linear(8, 10, $vb.pp("head"))?;
        let xs = norm.forward_t(&depthwise.forward(&conv.forward($xs)?)?, $train)?.relu()?;
        head.forward(&xs.mean(D::Minus1)?.transpose(1, 2)?)
    }};
}

#[test]
fn results_are_those_of_candle_nn() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let xs = Tensor::randn(0f32, 1., (2, 3, 16, 14), &Device::Cpu)?;
    for train in [true, false] {
        let theirs: Result<Tensor> = (|| logits!(candle_nn, vb, &xs, train))();
        let ours: Result<Tensor> = (|| logits!(firstsight_ops::nn, vb, &xs, train))();
        let (theirs, ours) = (theirs?, ours?);
        assert_eq!(ours.dims(), [2, 6, 10]);
        assert_eq!(ours.dims(), theirs.dims());
        let error = (ours - theirs)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(error < 1e-5, "train {train}: off by {error}");
        if train {
            let names: Vec<String> = vars.data().lock().unwrap().keys().cloned().collect();
            assert_eq!(names.len(), 9, "{names:?}");
            assert!(names.contains(&"norm.running_mean".to_owned()));
        }
    }
    Ok(())
}
