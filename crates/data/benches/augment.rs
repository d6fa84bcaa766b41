//! Batches of 80×60 gray images: plain, and with each augmentation.
//!
//! `cargo bench --package firstsight-data -- rotate` times those whose names contain "rotate".

use std::time::Duration;

use candle_core::Device;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use firstsight_data::{
    Augmentation, Batches as _, Cover, Fill, ImageDataset, Interpolation, Loader, LoaderConfig, Mix,
    Normalize, Sampling, Transform,
};

const IMAGES: usize = 1024;

fn images() -> ImageDataset {
    let pixels = (0..IMAGES * 80 * 60).map(|i| (i * 7919 % 251) as u8).collect();
    let labels = (0..IMAGES).map(|i| (i % 2) as u32).collect();
    ImageDataset::from_pixels(pixels, (80, 60, 1), labels, vec!["a".into(), "b".into()]).unwrap()
}

fn augmentation(transforms: &[Transform], mix: Option<Mix>) -> Option<Augmentation> {
    Some(Augmentation {
        seed: 0,
        transforms: transforms.to_vec(),
        interpolation: Interpolation::Bilinear,
        fill: Fill::Edge,
        mix,
        label_smoothing: 0.0,
    })
}

fn bench(c: &mut Criterion) {
    let images = images();
    let config = LoaderConfig {
        batch_size: 128,
        sampling: Sampling::Shuffled { seed: 0 },
        normalize: Normalize { mean: vec![0.0], std: vec![1.0 / 255.0] },
        prefetch: 0,
    };
    let mut group = c.benchmark_group("an epoch of batches");
    group.throughput(Throughput::Elements(IMAGES as u64)).measurement_time(Duration::from_secs(2));
    let rotate = Transform::Rotate { degrees: (-10.0, 10.0) };
    let zoom = Transform::Zoom { by: (-0.1, 0.1) };
    let translate = Transform::Translate { down: (-0.1, 0.1), right: (-0.1, 0.1) };
    let contrast = Transform::Contrast { factor: (0.7, 1.3) };
    let crop = Transform::CropResized {
        scale: (0.3, 1.0),
        ratio: (0.75, 1.33),
        interpolation: Interpolation::Bilinear,
    };
    let erase =
        Transform::Erase { probability: 1.0, area: (0.02, 0.3), ratio: (0.3, 3.3), with: Cover::Constant(0) };
    for (name, augmentation) in [
        ("plain", None),
        ("flip", augmentation(&[Transform::FlipHorizontal { probability: 0.5 }], None)),
        ("rotate", augmentation(&[rotate], None)),
        ("rotate, zoom, translate", augmentation(&[rotate, zoom, translate], None)),
        ("rotate, zoom, translate, contrast", augmentation(&[rotate, zoom, translate, contrast], None)),
        ("crop, padded", augmentation(&[Transform::CropPadded { padding: 4 }], None)),
        ("crop, resized", augmentation(&[crop], None)),
        ("erase", augmentation(&[erase], None)),
        ("mixup", augmentation(&[], Some(Mix::Mixup(0.2)))),
        ("cutmix", augmentation(&[], Some(Mix::Cutmix(1.0)))),
    ] {
        let mut loader = Loader::new(images.clone(), config.clone(), &Device::Cpu).unwrap();
        if let Some(augmentation) = augmentation {
            loader = loader.augmented(augmentation).unwrap();
        }
        group.bench_function(name, |b| b.iter(|| loader.epoch(0).for_each(|batch| drop(batch.unwrap()))));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
