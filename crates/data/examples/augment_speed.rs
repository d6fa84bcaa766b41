//! Times decoding, plain batches, and batches of changed images.
//!
//! `cargo run --release --package firstsight-data --example augment_speed -- DIR [HxWxC]`

use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use firstsight_data::{
    Augmentation, Batches, ColorMode, Cover, DatasetFolder, DecodeSettings, Decoded, Fill, Filter, Fit,
    Interpolation, Loader, LoaderConfig, Mix, Normalize, Order, Transform, Unreadable,
};

/// Images that are timed.
const IMAGES: usize = 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("expected the folder of images")?;
    let size = arguments.next().unwrap_or("80x60x1".to_owned());
    let sides: Vec<usize> = size.split('x').map(str::parse).collect::<Result<_, _>>()?;
    let [height, width, channels] = sides[..] else { return Err("expected HxWxC".into()) };

    let folder = DatasetFolder::scan(Path::new(&root))?.train;
    let stride = (folder.len() / IMAGES).max(1);
    let folder = folder.subset(&(0..folder.len()).step_by(stride).take(IMAGES).collect::<Vec<_>>());
    let settings = DecodeSettings {
        height,
        width,
        color: if channels == 1 { ColorMode::Grey } else { ColorMode::Rgb },
        filter: Filter::Lanczos,
        fit: Fit::Stretch,
        unreadable: Unreadable::Fail,
        max_pixels: 100_000_000,
    };
    Decoded::decode(&folder, &settings, None, &|_, _| ())?;
    let start = Instant::now();
    let images = Decoded::decode(&folder, &settings, None, &|_, _| ())?;
    let per_image = |seconds: f64| 1e6 * seconds / images.len() as f64;
    let threads = rayon::current_num_threads();
    println!("{} images of {size}, {threads} threads; microseconds an image", images.len());
    println!("{:24} {:6.1}", "decoding from files", per_image(start.elapsed().as_secs_f64()));

    let config = LoaderConfig {
        batch_size: 128,
        order: Order::Shuffled { seed: 0 },
        normalize: Normalize { mean: vec![0.0; channels], std: vec![1.0 / 255.0; channels] },
        prefetch: 0,
    };
    let time = |name: &str, augmentation: Option<Augmentation>| -> Result<(), Box<dyn std::error::Error>> {
        let mut loader = Loader::new(images.clone(), config.clone(), &Device::Cpu)?;
        if let Some(augmentation) = augmentation {
            loader = loader.augmented(augmentation)?;
        }
        let mut seconds = Vec::new();
        for epoch in 0..5 {
            let start = Instant::now();
            for batch in loader.epoch(epoch) {
                batch?;
            }
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        println!("{name:24} {:6.1}", per_image(seconds[2]));
        Ok(())
    };
    let with = |transforms: &[Transform]| {
        Some(Augmentation {
            seed: 0,
            transforms: transforms.to_vec(),
            interpolation: Interpolation::Bilinear,
            fill: Fill::Edge,
            mix: None,
            label_smoothing: 0.0,
        })
    };
    time("batches, no changes", None)?;
    let rotate = Transform::Rotate { degrees: (-10.0, 10.0) };
    let zoom = Transform::Zoom { by: (-0.1, 0.1) };
    let translate = Transform::Translate { down: (-0.1, 0.1), right: (-0.1, 0.1) };
    let contrast = Transform::Contrast { factor: (0.7, 1.3) };
    time("flip", with(&[Transform::FlipHorizontal { probability: 0.5 }]))?;
    time("rotate", with(&[rotate]))?;
    time("rotate, zoom, translate", with(&[rotate, zoom, translate]))?;
    time("  and contrast", with(&[rotate, zoom, translate, contrast]))?;
    time("crop, padded", with(&[Transform::CropPadded { padding: 4 }]))?;
    let crop = Transform::CropResized { scale: (0.3, 1.0), ratio: (0.75, 1.33), filter: Filter::Bilinear };
    time("crop, resized", with(&[crop]))?;
    let jitter = Transform::ColorJitter { brightness: 0.3, contrast: 0.3, saturation: 0.3, hue: 0.05 };
    time("colour jitter", with(&[jitter]))?;
    let erase =
        Transform::Erase { probability: 1.0, area: (0.02, 0.3), ratio: (0.3, 3.3), with: Cover::Constant(0) };
    time("erase", with(&[erase]))?;
    let mixed = |mix| with(&[]).map(|augmentation| Augmentation { mix: Some(mix), ..augmentation });
    time("mixup", mixed(Mix::Mixup { alpha: 0.2 }))?;
    time("cutmix", mixed(Mix::Cutmix { alpha: 1.0 }))?;
    Ok(())
}
