//! Images are the same wherever their pixels are: in memory, in a mapped file, or decoded whenever they are used.

use std::fs;
use std::path::Path;

use candle_core::Device;
use firstsight_data::{
    Augmentation, Batches, CacheFolder, DecodeOptions, DecodeSettings, Error, ImageDataset, ImageFolder,
    Loader, LoaderConfig, Mix, Normalize, OnError, Sampling,
};

use crate::support::write_image;

const IMAGES: usize = 23;

/// Two classes of pictures, and a file that is none.
fn pictures() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for i in 0..IMAGES as u32 {
        let path = root.path().join(format!("{}/{i:02}.png", ["a", "b"][i as usize % 2]));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let color = |x, y| image::Rgb([(7 * i + 9 * x) as u8, (x * y + i) as u8, (11 * y) as u8]);
        image::RgbImage::from_fn(20 + i, 31, color).save(path).unwrap();
    }
    fs::write(root.path().join("a/none.png"), "text").unwrap();
    root
}

fn settings(side: usize) -> DecodeSettings {
    DecodeSettings { on_error: OnError::Skip, ..DecodeSettings::rgb(side, side) }
}

/// The images of a folder in memory, decoded on use, from the file that is written now, and from the file of before.
fn sources(root: &Path, side: usize) -> [ImageDataset; 4] {
    let folder = ImageFolder::scan(root).unwrap();
    let cache = CacheFolder::new(root.join(".cache"));
    let decode = |cache, in_memory| {
        let options = DecodeOptions { cache, in_memory, progress: None };
        ImageDataset::decode_with(&folder, &settings(side), options).unwrap()
    };
    let sources = [decode(None, u64::MAX), decode(None, 0), decode(Some(&cache), 0), decode(Some(&cache), 0)];
    assert_eq!(sources.each_ref().map(ImageDataset::is_decoded_on_use), [false, true, false, false]);
    sources
}

fn bytes(loader: &Loader, epoch: usize) -> Vec<(Vec<u32>, Vec<f32>)> {
    let of = |batch: firstsight_data::Result<firstsight_data::Batch>| {
        let batch = batch.unwrap();
        let values = batch.inputs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let labels = batch.labels.flatten_all().unwrap();
        let labels = labels.to_dtype(candle_core::DType::F32).unwrap().to_vec1().unwrap();
        (values.into_iter().map(f32::to_bits).collect(), labels)
    };
    loader.epoch(epoch).map(of).collect()
}

fn loader(images: &ImageDataset, prefetch: usize) -> Loader {
    let config = LoaderConfig {
        batch_size: 5,
        sampling: Sampling::Shuffled { seed: 3 },
        normalize: Normalize { mean: vec![0.4, 0.5, 0.6], std: vec![0.2; 3] },
        prefetch,
    };
    Loader::new(images.clone(), config, &Device::Cpu).unwrap()
}

#[test]
fn batches_do_not_depend_on_where_the_pixels_are() {
    let root = pictures();
    let (small, large) = (sources(root.path(), 12), sources(root.path(), 24));
    let augmentation = || Augmentation { mix: Some(Mix::Mixup(0.3)), ..Augmentation::photos(5) };
    let all = |small: &ImageDataset, large: &ImageDataset, prefetch| {
        let plain = loader(small, prefetch);
        let augmented = plain.clone().augmented(augmentation()).unwrap();
        let cropped = plain.clone().augmented_from(large.clone(), augmentation()).unwrap();
        [plain, augmented, cropped].map(|loader| [0, 1].map(|epoch| bytes(&loader, epoch)))
    };
    let expected = all(&small[0], &large[0], 0);
    assert_eq!(expected[0][0].len(), IMAGES.div_ceil(5));
    assert_ne!(expected[0][0], expected[0][1]);
    for (small, large) in small.iter().zip(&large) {
        for (threads, prefetch) in [(1, 0), (5, 0), (2, 3)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| all(small, large, prefetch)) == expected);
        }
    }
}

#[test]
fn everything_but_the_pixels_is_the_same_too() {
    let root = pictures();
    let all = sources(root.path(), 12);
    let of = |images: &ImageDataset| {
        let part = images.subset(&[4, 0, 19]);
        let each =
            |i| (part.path(i).unwrap().to_owned(), part.checksum(i), part.image(i).unwrap().into_owned());
        (part.labels().to_vec(), images.excluded().to_vec(), images.len(), [0, 1, 2].map(each))
    };
    let expected = of(&all[0]);
    assert_eq!((expected.1.len(), expected.2), (1, IMAGES));
    for images in &all {
        assert_eq!(of(images), expected);
    }
    let plain = ImageDataset::from_pixels(expected.3[1].2.clone(), (12, 12, 3), vec![0], vec!["a".into()]);
    assert_eq!(plain.unwrap().checksum(0), expected.3[1].1);
}

#[test]
fn a_file_that_changes_later_is_an_error_of_its_batch() {
    let root = pictures();
    let [_, on_use, ..] = sources(root.path(), 12);
    let path = on_use.path(7).unwrap().to_owned();
    write_image(&path, 77);
    assert!(matches!(on_use.image(7), Err(Error::Changed { path: found }) if found == path));
    for prefetch in [0, 2] {
        let batches: Vec<_> = loader(&on_use, prefetch).epoch(0).collect();
        let (last, before) = batches.split_last().unwrap();
        assert!(matches!(last, Err(Error::Changed { .. })) && before.iter().all(Result::is_ok));
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(on_use.image(7), Err(Error::Io { .. })));
}

/// Another run replaces or removes the file that this one has mapped.
#[cfg(unix)]
#[test]
fn a_mapped_file_outlives_its_name() {
    let root = pictures();
    let [memory, .., mapped] = sources(root.path(), 12);
    let cache = CacheFolder::new(root.path().join(".cache"));
    let file = cache.files().unwrap().remove(0).path;
    firstsight_data::files::write_atomically(&file, b"short").unwrap();
    cache.clear().unwrap();
    for i in 0..IMAGES {
        assert_eq!(mapped.image(i).unwrap(), memory.image(i).unwrap());
    }
}
