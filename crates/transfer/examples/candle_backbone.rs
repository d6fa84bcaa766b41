//! A last layer for one's own photos on a frozen network of candle-transformers.
//!
//! `cargo run --release --features candle-transformers --example candle_backbone -- NAME WEIGHTS DIR`: NAME is timm's, as
//! `mobilenetv4_conv_small`; WEIGHTS a `model.safetensors` of timm's; DIR holds `train` and `val` of class folders.

use candle_core::{Device, ModuleT as _};
use firstsight_data::{DatasetFolder, ImageDataset, ImageFolder};
use firstsight_train::Alone;
use firstsight_transfer::candle_models::{CandleBackbone, CandleModel};
use firstsight_transfer::{FeatureConfig, FeatureView, Features, Head, HeadConfig, features, fingerprint};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, weights, folder] = arguments.as_slice() else {
        return Err("expected NAME WEIGHTS DIR".into());
    };
    let device = Device::Cpu;
    let model: CandleModel = name.parse()?;
    let (backbone, params) = CandleBackbone::load(model, weights.as_ref(), &device)?;
    let input = model.input();
    let extraction = FeatureConfig {
        normalize: input.normalize(),
        views: &[FeatureView::Plain],
        batch_size: 16,
        communicator: &Alone,
        identity: fingerprint(&params, |_| true)?,
    };
    let of = |folder: &ImageFolder| -> Result<Features, Box<dyn std::error::Error>> {
        let images = ImageDataset::decode(folder, &input.decode_settings())?;
        Ok(features(&backbone, &images, &extraction, None, &device, &mut |done, of| {
            eprint!("\r{done}/{of} ")
        })?)
    };
    let data = DatasetFolder::scan(folder.as_ref())?;
    let train = data.train.ok_or("no training images")?;
    let (train, val) = match data.val {
        Some(val) => (train, val),
        None => train.split(0.2, 123)?,
    };
    let (train, val) = (of(&train)?, of(&val)?);
    let config = HeadConfig {
        penalties: vec![1e-4, 1e-3, 1e-2, 1e-1, 1.0],
        folds: 5,
        steps: 200,
        batch_size: 256,
        lr: 0.01,
        balanced: false,
        seed: 1,
    };
    let head = Head::train(&train, &config, &mut |_, _| ())?;
    let all: Vec<usize> = (0..val.n_images()).collect();
    let (rows, labels) = val.select(&all, 1)?;
    let found: Vec<u32> = head.forward_t(&rows, false)?.argmax(1)?.to_vec1()?;
    let right = found.iter().zip(labels.classes()).filter(|(a, b)| a == b).count();
    println!("{model}: {right} of {} validation images", val.labels.len());
    Ok(())
}
