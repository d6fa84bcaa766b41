//! Visualizes channels of a small network: `cargo run --release -p firstsight-insight --example visualize`.

use candle_core::{DType, Device, Tensor};
use firstsight_insight::{
    FeatureVisConfig, InputFormat, Parametrization, grad_cam, layers, visualize_features,
};
use firstsight_models::networks::SMALL_CNN;
use firstsight_models::{ImageClassifier, InputShape, Params};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Random weights; `params.load(path)` reads trained ones. Frozen weights get no gradient.
    let params = Params::seeded(1, &Device::Cpu).frozen(|_| true);
    let input = InputShape::Map { channels: 1, height: 32, width: 32 };
    let network = ImageClassifier::new(&SMALL_CNN, input, 10, SMALL_CNN.init, &params)?;
    let images = Tensor::ones((2, 1, 32, 32), DType::F32, &Device::Cpu)?;
    for layer in layers(&network, &images)? {
        println!("{}: {} channels", layer.name, layer.n_channels());
    }

    let config = FeatureVisConfig {
        steps: 20,
        lr: 0.05,
        parametrization: Parametrization::Fourier { decay: 1.0 },
        jitter: 2.0,
        zoom: (0.9, 1.1),
        total_variation: 0.0,
        noise: 0.5,
        seed: 1,
    };
    // The network takes bytes.
    let format =
        InputFormat { height: 32, width: 32, mean: vec![0.], std: vec![1. / 255.], device: Device::Cpu };
    for found in visualize_features(&network, &format, "dense_2", &[0, 5], &config, &mut |_, _| true)? {
        println!("channel {}: {:.2} to {:.2}", found.channel, found.initial_activation, found.activation);
    }
    println!("{:?}", grad_cam(&network, &images, &[3, 7], "conv3")?.shape());
    Ok(())
}
