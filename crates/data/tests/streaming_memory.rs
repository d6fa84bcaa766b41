//! Memory does not grow with the number of images, by what Linux counts of it.
#![cfg(target_os = "linux")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use candle_core::Device;
use firstsight_data::{
    Batches, CacheFolder, DecodeOptions, DecodeSettings, ImageDataset, ImageFolder, Loader, LoaderConfig,
    Normalize, Sampling,
};

const IMAGES: usize = 700;
const SIDE: usize = 512;

/// Anonymous memory in bytes: pages of mapped files do not count.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn images_are_decoded_in_constant_memory() {
    let root = tempfile::tempdir().unwrap();
    let picture = image::GrayImage::from_fn(9, 7, |x, y| image::Luma([(29 * x + 31 * y) as u8]));
    for i in 0..IMAGES {
        let path = root.path().join(format!("{}/{i}.png", ["a", "b"][i % 2]));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.save(path).unwrap();
    }
    let folder = ImageFolder::scan(root.path()).unwrap();
    let cache = CacheFolder::new(root.path().join(".cache"));
    let (before, peak) = (anonymous(), AtomicU64::new(0));
    let look = || peak.fetch_max(anonymous(), Relaxed);
    for cache in [Some(&cache), Some(&cache), None] {
        let progress = |_, _| {
            look();
        };
        let options = DecodeOptions { cache, in_memory: 0, progress: Some(&progress) };
        let images = ImageDataset::decode_with(&folder, &DecodeSettings::gray(SIDE, SIDE), options).unwrap();
        let config = LoaderConfig {
            batch_size: 4,
            sampling: Sampling::Shuffled { seed: 0 },
            normalize: Normalize { mean: vec![0.0], std: vec![1.0] },
            prefetch: 2,
        };
        let loader = Loader::new(images, config, &Device::Cpu).unwrap();
        let n = loader.epoch(0).map(|batch| {
            look();
            batch.unwrap().inputs.dims()[0]
        });
        assert_eq!(n.sum::<usize>(), IMAGES);
    }
    // All pixels are 184 MB; 34 MB of them are decoded before they are written, and three batches are 13 MB.
    let grown = peak.into_inner() - before;
    assert!(grown < 100_000_000, "{grown} bytes more");
}
