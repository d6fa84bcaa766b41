//! Real images, where the machine has them: FIRSTSIGHT_SHARED names a folder with `datasets/` in it, and
//! FIRSTSIGHT_PILLOW what goldens/real.py made of them.

use std::path::PathBuf;
use std::time::Instant;

use candle_core::{Device, Tensor};
use firstsight_data::{
    CacheFolder, ColorMode, DatasetFolder, DecodeOptions, DecodeSettings, Exif, ImageDataset, Interpolation,
    Table, decode_image, idx, train_test_split,
};

use crate::support::settings;

fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).map(PathBuf::from);
    if value.is_none() {
        println!("skipped: {name} is not set");
    }
    value
}

fn datasets() -> Option<PathBuf> {
    Some(variable("FIRSTSIGHT_SHARED")?.join("datasets"))
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
#[ignore = "needs FIRSTSIGHT_SHARED and FIRSTSIGHT_PILLOW"]
fn characters_and_photos_are_pillows_bit_for_bit() {
    let (Some(datasets), Some(goldens)) = (datasets(), variable("FIRSTSIGHT_PILLOW")) else { return };
    let goldens = candle_core::safetensors::load(goldens, &Device::Cpu).unwrap();
    let (mut characters, mut photos) = (0, 0);
    for (key, expected) in &goldens {
        let expected_bytes = bytes(expected);
        if let Some(file) = key.strip_suffix("/L/80x60") {
            let found = decode_image(&datasets.join(file), &settings(80, 60, ColorMode::Gray)).unwrap();
            assert_eq!(found, expected_bytes, "{file}");
            characters += 1;
            continue;
        }
        let key = key.strip_suffix("/224x224").unwrap_or(key);
        let file = key.strip_suffix("/RGB").unwrap();
        let (height, width) = (expected.dims()[0], expected.dims()[1]);
        let settings = DecodeSettings {
            interpolation: Interpolation::Bicubic,
            ..settings(height, width, ColorMode::Rgb)
        };
        assert!(decode_image(&datasets.join(file), &settings).unwrap() == expected_bytes, "{file}");
        photos += 1;
    }
    assert!(characters > 300 && photos > 10, "{characters} {photos}");
}

#[test]
#[ignore = "needs FIRSTSIGHT_SHARED"]
fn all_characters_are_decoded_and_cached() {
    let Some(datasets) = datasets() else { return };
    let start = Instant::now();
    let data = DatasetFolder::scan(&datasets.join("CASIA-Dataset")).unwrap();
    println!("scanned in {:.2?}", start.elapsed());
    let (train, test) = (data.train.unwrap(), data.test.unwrap());
    assert_eq!((train.len(), test.len(), train.classes().len()), (32_176, 7_667, 55));

    let start = Instant::now();
    let sizes = train.dimensions(Exif::Ignore).unwrap();
    println!("read {} headers in {:.2?}", sizes.len(), start.elapsed());
    assert!(sizes.iter().all(|size| (23..=152).contains(&size.0) && (39..=194).contains(&size.1)));

    let folder = tempfile::tempdir().unwrap();
    let cache = CacheFolder::new(folder.path());
    let settings = settings(80, 60, ColorMode::Gray);
    for (name, cache) in
        [("decoded", None), ("decoded and cached", Some(&cache)), ("from the cache", Some(&cache))]
    {
        let start = Instant::now();
        let decoded =
            ImageDataset::decode_with(&train, &settings, DecodeOptions { cache, ..Default::default() })
                .unwrap();
        println!("{name}: {} images in {:.2?}", decoded.len(), start.elapsed());
        assert_eq!(decoded.shape(), (32_176, 80, 60, 1));
    }
    let (train, val) = train.split(0.2, 123).unwrap();
    assert_eq!((train.len(), val.len()), (25_740, 6_436));
}

#[test]
#[ignore = "needs FIRSTSIGHT_SHARED"]
fn mnist_and_california_housing_are_read() {
    let Some(datasets) = datasets() else { return };
    for (name, n) in [("train", 60_000), ("t10k", 10_000)] {
        let images = idx::read_images(&datasets.join(format!("mnist/{name}-images-idx3-ubyte.gz"))).unwrap();
        let labels = idx::read_labels(&datasets.join(format!("mnist/{name}-labels-idx1-ubyte.gz"))).unwrap();
        assert_eq!((images.shape, labels.len()), ((n, 28, 28), n));
        assert!(labels.iter().all(|&label| label < 10));
    }
    let table = Table::read_csv(&datasets.join("california-housing/california-housing.csv")).unwrap();
    assert_eq!((table.n_rows(), table.columns().len()), (20_640, 9));
    let (train, _) = train_test_split(table.n_rows(), 0.2, 1).unwrap();
    let train = table.subset(&train);
    let standardized = train.standardizer().transform(&train).unwrap();
    let again = standardized.standardizer();
    assert!(again.mean.iter().all(|mean| mean.abs() < 1e-10));
    assert!(again.scale.iter().all(|scale| (scale - 1.0).abs() < 1e-10));
}
