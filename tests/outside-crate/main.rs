//! A crate outside the workspace with a network of its own, which it trains and fine-tunes. Arguments: a folder of photos of
//! two classes, and a folder to write to.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Module as _, Result, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, conv2d_no_bias};
use firstsight_data::{InputSpec, Sampling, TensorBatches};
use firstsight_models::summary::Trace;
use firstsight_models::{ImageClassifier, InputShape, LayerSpec, ModelInfo, Network, Params, registry};
use firstsight_train::{Accuracy, CrossEntropy, FitConfig, OptimizerConfig, Trainable, evaluate, fit};
use firstsight_transfer::{Classifier, FineTuning, Preset, Pretrained, RunConfig, Runtime, Splits};

const SIDE: usize = 16;

/// Two convolutions and global average pooling.
#[derive(Debug)]
struct Tiny {
    conv1: Conv2d,
    conv2: Conv2d,
}

static TINY: ModelInfo = ModelInfo {
    head: |n_classes| LayerSpec::dense("fc", n_classes),
    first_conv: Some("conv1"),
    usual_input: (3, SIDE, SIDE),
    smallest_input: 5,
    input_spec: InputSpec::minus_one_to_one,
    ..ModelInfo::new("outside-tiny", |args| {
        let conv = |n_in, n_out, name: &str| {
            conv2d_no_bias(n_in, n_out, 3, Conv2dConfig::default(), args.vb.pp(name))
        };
        let (conv1, conv2) = (conv(args.channels()?, 8, "conv1")?, conv(8, 16, "conv2")?);
        Ok(Arc::new(Tiny { conv1, conv2 }))
    })
};

impl Network for Tiny {
    fn n_features(&self) -> usize {
        16
    }

    fn forward_features(&self, xs: &Tensor, _train: bool) -> Result<Tensor> {
        self.conv2.forward(&self.conv1.forward(xs)?.relu()?)?.relu()
    }

    fn pre_logits(&self, features: &Tensor, _train: bool) -> Result<Tensor> {
        features.mean((2, 3))
    }

    fn describe(&self, trace: &mut Trace) -> Result<()> {
        for (name, conv) in [("conv1", &self.conv1), ("conv2", &self.conv2)] {
            trace.conv(name, conv.weight(), None, &Default::default())?;
        }
        trace.global_pool("pool")
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [photos, out] = &arguments[..] else { return Err("expected PHOTOS OUT".into()) };
    let (photos, out) = (Path::new(photos), Path::new(out));
    registry::register(&TINY)?;
    assert!(registry::register(&TINY).is_err());

    // Trains on noise that is brighter in the top or in the bottom half.
    let input = TINY.input_spec(3, SIDE, SIDE);
    let params = Params::seeded(1, &Device::Cpu);
    let network = ImageClassifier::new(&TINY, InputShape::from(&input), 2, TINY.init, &params)?;
    print!("{}", network.summary());
    let value = |i: usize| {
        let (image, channel) = (i / (3 * SIDE * SIDE), i / (SIDE * SIDE) % 3);
        let noise = (i as f32 * 0.618).fract() - 0.5;
        noise + if (image % 2 == 0) == (channel == 0) { 0.5 } else { -0.5 }
    };
    let images = Tensor::from_iter((0..64 * 3 * SIDE * SIDE).map(value), &Device::Cpu)?;
    let images = images.reshape((64, 3, SIDE, SIDE))?;
    let labels = Tensor::from_iter((0..64u32).map(|i| i % 2), &Device::Cpu)?;
    let batches = TensorBatches::new(images, labels, 16, Sampling::Shuffled { seed: 1 })?;
    let config = FitConfig::new(20, CrossEntropy, OptimizerConfig::adam_torch(0.01)).metric(Accuracy);
    let model = Trainable::new(&network, network.named_vars());
    fit(&model, &batches, Some(&batches), &config, &mut [])?;
    let metrics = evaluate(&network, &batches, &CrossEntropy, &[&Accuracy])?;
    println!("trained: accuracy {:?}", metrics.get(&Accuracy));

    // Its weights are a pretrained network, which is fine-tuned on photos.
    let pretrained = out.join("pretrained");
    std::fs::create_dir_all(&pretrained)?;
    network.save(&pretrained.join("model.safetensors"))?;
    let config = RunConfig {
        architecture: TINY.architecture().to_owned(),
        num_classes: 2,
        num_features: network.n_features(),
        label_names: vec!["a".to_owned(), "b".to_owned()],
        named: true,
        target: firstsight_transfer::Target::Class,
        pretrained_cfg: input,
        training: None,
    };
    config.write(&pretrained.join("config.json"))?;
    let runtime = Runtime::new(Device::Cpu).cache(out.join("cache"));
    let splits = Splits::scan(photos, 1)?;
    let tuning = FineTuning { epochs: Some(2), ..FineTuning::preset(Preset::Thorough, 1) };
    let result = tuning.fit(&Pretrained::folder(&pretrained)?, &splits, &runtime)?;
    println!("blocks: {:?}", result.model.blocks().iter().map(|block| &block.name).collect::<Vec<_>>());
    let run = out.join("run");
    result.save(&run)?;
    let classifier = Classifier::open(&run, &Device::Cpu)?;
    for class in splits.train.classes() {
        let best = &classifier.predict(&photos.join(class).join("0.png"))?[0];
        println!("{class}: {}", best.label);
    }
    Ok(())
}
