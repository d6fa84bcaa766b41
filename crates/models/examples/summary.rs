//! Builds a network, prints its layers and runs it: `cargo run --release -p firstsight-models --example summary`.

use candle_core::{DType, Device, ModuleT as _, Tensor};
use firstsight_models::{ImageClassifier, InputShape, Params, registry};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for info in registry::all() {
        println!("{}: {}", info.name, info.paper);
    }

    let info = registry::find("small-cnn")?;
    let input = InputShape::Map { channels: 1, height: 80, width: 60 };
    let params = Params::seeded(123, &Device::Cpu);
    let mut network = ImageClassifier::new(info, input, 55, info.init, &params)?;
    print!("{}", network.summary());
    assert_eq!(network.summary().total_params(), 88_375);

    let images = Tensor::zeros((2, 1, 80, 60), DType::F32, &Device::Cpu)?;
    println!("logits: {:?}", network.forward_t(&images, false)?.shape());
    println!("features: {:?}", network.backbone().forward_t(&images, false)?.shape());

    // A new last layer for ten classes.
    network.reset_classifier(10)?;
    println!("logits: {:?}", network.forward_t(&images, false)?.shape());
    Ok(())
}
