//! Lists a folder of images, decodes it to 80x60 grey with Lanczos, and times an epoch of batches.
//!
//! `cargo run --release --package firstsight-data --example folder -- DIR [CACHE]`

use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use firstsight_data::{
    Batches, ColorMode, DatasetFolder, DecodeSettings, Decoded, Filter, Fit, Loader, LoaderConfig, Normalize,
    Order, Unreadable,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("expected the folder of images")?;
    let cache = arguments.next();

    let start = Instant::now();
    let folder = DatasetFolder::scan(Path::new(&root))?.train;
    println!(
        "{} images of {} classes, scanned in {:.2?}",
        folder.len(),
        folder.classes().len(),
        start.elapsed()
    );
    for skipped in folder.skipped() {
        println!("skipped {}: {}", skipped.path.display(), skipped.reason);
    }

    let settings = DecodeSettings {
        height: 80,
        width: 60,
        color: ColorMode::Grey,
        filter: Filter::Lanczos,
        fit: Fit::Stretch,
        unreadable: Unreadable::Exclude,
        max_pixels: 100_000_000,
    };
    let start = Instant::now();
    let images = Decoded::decode(&folder, &settings, cache.as_deref().map(Path::new), &|_, _| ())?;
    println!("{} decoded in {:.2?}", images.len(), start.elapsed());
    for (path, reason) in images.excluded() {
        println!("excluded {}: {reason}", path.display());
    }

    let config = LoaderConfig {
        batch_size: 128,
        order: Order::Shuffled { seed: 0 },
        normalize: Normalize { mean: vec![0.0], std: vec![1.0] },
        prefetch: 2,
    };
    let loader = Loader::new(images, config, &Device::Cpu)?;
    for epoch in 0..3 {
        let start = Instant::now();
        for batch in loader.epoch(epoch) {
            batch?;
        }
        println!("epoch {epoch}: {} batches in {:.2?}", loader.n_batches(), start.elapsed());
    }
    Ok(())
}
