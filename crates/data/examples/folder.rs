//! Scans a folder of images, decodes it, and prints the shapes of its batches.
//!
//! `cargo run --release --package firstsight-data --example folder -- DIR`

use std::path::PathBuf;

use candle_core::Device;
use firstsight_data::{
    Batches, DatasetFolder, DecodeSettings, ImageDataset, Loader, LoaderConfig, Normalize, Sampling,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::args().nth(1).ok_or("usage: folder DIR")?);

    // root/{train,val,test}/<class>/<image>, or root/<class>/<image>. Names and labels, no pixels yet.
    let data = DatasetFolder::scan(&root)?;
    // The split of scikit-learn's train_test_split(test_size=0.2, random_state=123), index for index.
    let (train, val) = data.train.ok_or("no training images")?.split(0.2, 123)?;
    println!("{} training and {} validation images", train.len(), val.len());

    // All images in parallel, one gray channel of 80x60.
    let images = ImageDataset::decode(&train, &DecodeSettings::gray(80, 60))?;

    let config = LoaderConfig {
        batch_size: 128,
        sampling: Sampling::Shuffled { seed: 0 },
        normalize: Normalize { mean: vec![0.0], std: vec![1.0] },
        prefetch: 2,
    };
    let loader = Loader::new(images, config, &Device::Cpu)?;
    for batch in loader.epoch(0) {
        let batch = batch?;
        // (B, 1, 80, 60) f32 and (B,) u32
        println!("{:?} {:?}", batch.inputs.shape(), batch.labels.shape());
    }
    Ok(())
}
