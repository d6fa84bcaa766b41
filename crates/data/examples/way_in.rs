//! Images per second from a folder of photos to augmented batches: `way_in DIR THREADS CROPS [CACHE]`.
//!
//! Photos are decoded once, to a file in CACHE, or without CACHE in each epoch. Batches are crops of 8 to 100 % of the area,
//! resized to 224 × 224, flipped and normalized. With CROPS `reduced` they are cut from the photo at that size, with `full` at twice
//! that size. Prints a line of JSON: seconds, and seconds of processor time, from the start to the end of the first epoch and of
//! the second epoch alone. Linux.

use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use firstsight_data::{
    Augmentation, Batches, CacheFolder, Crops, DecodeOptions, DecodeSettings, ImageDataset, ImageFolder,
    Interpolation, Loader, LoaderConfig, Normalize, Sampling, Transform,
};

const INPUT: usize = 224;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, threads, crops, cache @ ..] = &args[..] else {
        return Err("usage: way_in DIR THREADS CROPS [CACHE]".into());
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let factor = if crops == "full" { Crops::FACTOR } else { 1 };
    let cache = cache.first().map(|path| CacheFolder::new(Path::new(path)));

    let started = Clock::start()?;
    let folder = ImageFolder::scan(Path::new(dir))?;
    let decode = |side| {
        let options = DecodeOptions { cache: cache.as_ref(), in_memory: 0, ..DecodeOptions::default() };
        let interpolation = Interpolation::Bilinear;
        let settings = DecodeSettings { interpolation, ..DecodeSettings::rgb(side, side) };
        ImageDataset::decode_with(&folder, &settings, options)
    };
    let images = decode(INPUT)?;
    let larger = if factor > 1 { decode(factor * INPUT)? } else { images.clone() };
    let crop = Transform::CropResized {
        scale: (0.08, 1.0),
        ratio: (3.0 / 4.0, 4.0 / 3.0),
        interpolation: Interpolation::Bilinear,
    };
    let transforms = vec![crop, Transform::FlipHorizontal { probability: 0.5 }];
    let augmentation = Augmentation { transforms, ..Augmentation::photos(1) };
    let config = LoaderConfig {
        batch_size: 64,
        sampling: Sampling::Shuffled { seed: 1 },
        normalize: Normalize { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] },
        prefetch: 2,
    };
    let loader = Loader::new(images, config, &Device::Cpu)?.augmented_from(larger, augmentation)?;
    loader.epoch(0).try_for_each(|batch| batch.map(drop))?;
    let first = started.since()?;
    let started = Clock::start()?;
    loader.epoch(1).try_for_each(|batch| batch.map(drop))?;
    println!("{{\"images\": {}, \"first\": {first:?}, \"second\": {:?}}}", folder.len(), started.since()?);
    Ok(())
}

/// The time, and the processor time of all threads.
struct Clock(Instant, f64);

impl Clock {
    fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // Fields 14 and 15, of which the first two are gone, in hundredths of a second.
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(Self(Instant::now(), ticks / 100.0))
    }

    fn since(&self) -> Result<[f64; 2], Box<dyn std::error::Error>> {
        let now = Self::start()?;
        Ok([(now.0 - self.0).as_secs_f64(), now.1 - self.1])
    }
}
