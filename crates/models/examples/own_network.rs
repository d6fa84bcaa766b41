//! Adds a network from outside the crate: `cargo run --release -p firstsight-models --example own_network`.

use std::sync::Arc;

use candle_core::{DType, Device, Module as _, ModuleT as _, Result, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, conv2d_no_bias};
use firstsight_models::graph::Op;
use firstsight_models::summary::Trace;
use firstsight_models::{ImageClassifier, InputShape, LayerSpec, ModelInfo, Network, Params, registry};
use firstsight_ops::Activation;

/// One convolution and global average pooling.
#[derive(Debug)]
struct Tiny(Conv2d);

static TINY: ModelInfo = ModelInfo {
    head: |n_classes| LayerSpec::dense("fc", n_classes),
    usual_input: (3, 32, 32),
    ..ModelInfo::new("tiny", |args| {
        let config = Conv2dConfig::default();
        Ok(Arc::new(Tiny(conv2d_no_bias(args.channels()?, 16, 3, config, args.vb.pp("conv"))?)))
    })
};

impl Network for Tiny {
    fn n_features(&self) -> usize {
        16
    }

    fn forward_features(&self, xs: &Tensor, _train: bool) -> Result<Tensor> {
        self.0.forward(xs)?.relu()
    }

    fn pre_logits(&self, features: &Tensor, _train: bool) -> Result<Tensor> {
        features.mean((2, 3))
    }

    fn describe(&self, trace: &mut Trace) -> Result<()> {
        trace.conv("conv", self.0.weight(), None, &Default::default())?;
        trace.apply("relu", Op::Activation(Activation::Relu));
        trace.global_pool("pool")
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    registry::register(&TINY)?;
    let info = registry::find("tiny")?;
    let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    let params = Params::seeded(1, &Device::Cpu);
    let network = ImageClassifier::new(info, input, 10, info.init, &params)?;
    print!("{}", network.summary());
    let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
    assert_eq!(network.forward_t(&images, false)?.dims(), [2, 10]);
    Ok(())
}
