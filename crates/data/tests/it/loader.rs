use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use firstsight_data::{
    Augmentation, Batch, Batches, Error, Fill, ImageDataset, Interpolation, Labels, Loader, LoaderConfig,
    Mix, Normalize, Result, Sampling, TensorBatches,
};

/// `n` images of 2x3 pixels and `channels` channels, in which every byte tells where it lies.
fn images(n: usize, channels: usize) -> ImageDataset {
    let pixels = (0..n * 6 * channels).map(|i| (i % 251) as u8).collect();
    let labels = (0..n).map(|i| (i % 3) as u32).collect();
    ImageDataset::from_pixels(pixels, (2, 3, channels), labels, ["a", "b", "c"].map(String::from).into())
        .unwrap()
}

fn bytes_as_they_are(channels: usize) -> Normalize {
    Normalize { mean: vec![0.0; channels], std: vec![1.0 / 255.0; channels] }
}

fn config(batch_size: usize, sampling: Sampling, prefetch: usize) -> LoaderConfig {
    LoaderConfig { batch_size, sampling, normalize: bytes_as_they_are(1), prefetch }
}

fn loader(n: usize, config: LoaderConfig) -> Loader {
    Loader::new(images(n, 1), config, &Device::Cpu).unwrap()
}

fn values(batches: impl Iterator<Item = Result<Batch>>) -> Values {
    let values = |batch: Batch| {
        let inputs = batch.inputs.flatten_all().unwrap().to_vec1().unwrap();
        (inputs, batch.labels.to_vec1().unwrap())
    };
    batches.map(|batch| values(batch.unwrap())).collect()
}

#[test]
fn a_mean_of_0_and_a_std_of_1_255_leave_all_bytes_as_they_are() {
    let pixels: Vec<u8> = (0..=255).collect();
    let images = ImageDataset::from_pixels(pixels, (16, 16, 1), vec![0], vec!["a".to_owned()]).unwrap();
    let loader = Loader::new(images, config(1, Sampling::Sequential, 0), &Device::Cpu).unwrap();
    let expected: Vec<f32> = (0..=255).map(|byte| byte as f32).collect();
    assert_eq!(values(loader.epoch(0))[0].0, expected);
}

#[test]
fn channels_come_first_and_each_has_its_own_mean_and_std() {
    let (mean, std) = ([0.485f32, 0.456, 0.406], [0.229f32, 0.224, 0.225]);
    let config = LoaderConfig {
        batch_size: 2,
        sampling: Sampling::Sequential,
        normalize: Normalize { mean: mean.into(), std: std.into() },
        prefetch: 0,
    };
    let images = images(3, 3);
    let loader = Loader::new(images.clone(), config, &Device::Cpu).unwrap();
    let last = loader.epoch(0).last().unwrap().unwrap();
    assert_eq!(last.inputs.dims(), [1, 3, 2, 3]);
    let found = last.inputs.to_vec_4();
    for (c, plane) in found.iter().enumerate() {
        for (place, value) in plane.iter().enumerate() {
            // As torchvision's `normalize` computes it, in f32.
            let expected = (f32::from(images.image(2).unwrap()[place * 3 + c]) / 255.0 - mean[c]) / std[c];
            assert!((value - expected).abs() <= 1e-6, "{value} {expected}");
        }
    }
}

trait Planes {
    fn to_vec_4(&self) -> Vec<Vec<f32>>;
}

impl Planes for Tensor {
    /// The channels of the first image.
    fn to_vec_4(&self) -> Vec<Vec<f32>> {
        self.get(0).unwrap().flatten_from(1).unwrap().to_vec2().unwrap()
    }
}

#[test]
fn the_last_batch_may_be_smaller_and_every_example_comes_once() {
    for (n, batch_size, sizes) in [(7, 3, vec![3, 3, 1]), (6, 3, vec![3, 3]), (2, 5, vec![2])] {
        let loader = loader(n, config(batch_size, Sampling::Shuffled { seed: 1 }, 2));
        let batches = values(loader.epoch(4));
        assert_eq!(batches.iter().map(|(_, labels)| labels.len()).collect::<Vec<_>>(), sizes);
        assert_eq!((loader.n_batches(), loader.n_examples()), (sizes.len(), n));
        let mut first: Vec<f32> =
            batches.iter().flat_map(|(inputs, _)| inputs.chunks(6).map(|image| image[0])).collect();
        first.sort_by(f32::total_cmp);
        assert_eq!(first, (0..n).map(|i| (6 * i) as f32).collect::<Vec<_>>());
    }
}

#[test]
fn prefetching_changes_no_batch() {
    for order in [Sampling::Sequential, Sampling::Shuffled { seed: 5 }] {
        let expected = values(loader(29, config(4, order, 0)).epoch(3));
        for prefetch in [1, 2, 100] {
            assert_eq!(values(loader(29, config(4, order, prefetch)).epoch(3)), expected);
        }
    }
}

#[test]
fn the_order_is_a_function_of_seed_and_epoch() {
    let order = |seed, epoch| Sampling::Shuffled { seed }.indices(1000, epoch);
    assert_eq!(order(1, 2), order(1, 2));
    assert_ne!(order(1, 2), order(1, 3));
    assert_ne!(order(1, 2), order(2, 2));
    let mut sorted = order(1, 2);
    sorted.sort();
    assert_eq!(sorted, Sampling::Sequential.indices(1000, 2));
    // The orders of version 0.1.0: what a seed means must not change unnoticed.
    assert_eq!(Sampling::Shuffled { seed: 0 }.indices(10, 0), [9, 2, 3, 4, 6, 7, 0, 1, 5, 8]);
    assert_eq!(Sampling::Shuffled { seed: 123 }.indices(10, 7), [5, 3, 2, 1, 9, 6, 4, 0, 8, 7]);
}

/// Over 6,000 shuffles of 4 each of the 24 orders is to come 250 times; the chi-squared sum of 23 degrees of
/// freedom is above 60 once in 30,000 such tests, and this seed's is what it is.
#[test]
fn every_order_is_as_likely() {
    let mut counts = std::collections::BTreeMap::<Vec<usize>, usize>::new();
    for epoch in 0..6000 {
        *counts.entry(Sampling::Shuffled { seed: 9 }.indices(4, epoch)).or_default() += 1;
    }
    let chi_squared: f64 = counts.values().map(|&n| (n as f64 - 250.0).powi(2) / 250.0).sum();
    assert_eq!(counts.len(), 24);
    assert!(chi_squared < 60.0, "{chi_squared}");
}

#[test]
fn an_epoch_that_is_left_early_ends_at_once() {
    for prefetch in [1, 3, 1000] {
        let loader = loader(5000, config(1, Sampling::Sequential, prefetch));
        let start = Instant::now();
        for taken in [0, 1, 10] {
            assert_eq!(values(loader.epoch(0).take(taken)).len(), taken);
        }
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn what_makes_no_batches_is_refused() {
    let good = config(4, Sampling::Sequential, 0);
    let normalize = |mean: &[f32], std: &[f32]| Normalize { mean: mean.into(), std: std.into() };
    for bad in [
        LoaderConfig { batch_size: 0, ..good.clone() },
        LoaderConfig { normalize: bytes_as_they_are(3), ..good.clone() },
        LoaderConfig { normalize: normalize(&[0.0], &[0.0]), ..good.clone() },
        LoaderConfig { normalize: normalize(&[f32::NAN], &[1.0]), ..good.clone() },
        LoaderConfig { normalize: normalize(&[0.0, 0.0], &[1.0]), ..good.clone() },
    ] {
        let error = Loader::new(images(3, 1), bad, &Device::Cpu).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    let error = Loader::new(images(3, 1).subset(&[]), good, &Device::Cpu).unwrap_err();
    assert!(matches!(error, Error::Invalid { name: "data", .. }), "{error}");
}

#[test]
fn pixels_and_labels_must_agree() {
    let classes = || vec!["a".to_owned(), "b".to_owned()];
    assert!(ImageDataset::from_pixels(vec![0; 11], (2, 3, 1), vec![0, 1], classes()).is_err());
    assert!(ImageDataset::from_pixels(vec![0; 12], (2, 3, 1), vec![0, 2], classes()).is_err());
    assert!(ImageDataset::from_pixels(vec![], (0, 3, 3), vec![0, 1], classes()).is_err());
    assert!(ImageDataset::from_pixels(vec![0; 12], (2, 3, 1), vec![0, 1], classes()).is_ok());
}

#[test]
fn several_labels_and_numbers_become_tensors_of_their_own_kind() {
    let batch = |labels: Labels, classes: &[&str]| {
        let classes = classes.iter().map(|&name| name.to_owned()).collect();
        let images = images(3, 1).with_targets(labels, classes).unwrap();
        let loader = Loader::new(images, config(3, Sampling::Sequential, 0), &Device::Cpu).unwrap();
        loader.epoch(0).next().unwrap().unwrap().labels
    };
    let several = batch(Labels::MultiLabel(vec![vec![0, 2], vec![], vec![1]]), &["a", "b", "c"]);
    assert_eq!(several.to_vec2::<f32>().unwrap(), [[1.0, 0.0, 1.0], [0.0; 3], [0.0, 1.0, 0.0]]);
    let numbers = batch(Labels::Value(vec![2.5, -1.0, 1e6]), &["cost"]);
    assert_eq!(numbers.to_vec1::<f32>().unwrap(), [2.5, -1.0, 1e6]);
    assert!(
        images(3, 1).with_targets(Labels::Value(vec![1.0]), vec!["cost".to_owned()]).is_err(),
        "one for three"
    );
}

fn label_changes(mix: Option<Mix>, label_smoothing: f64) -> Augmentation {
    let (interpolation, fill) = (Interpolation::Nearest, Fill::Edge);
    Augmentation { seed: 1, transforms: Vec::new(), interpolation, fill, mix, label_smoothing }
}

/// Changed labels of three images, flattened, and their first pixels.
fn changed(labels: Labels, augmentation: Augmentation) -> Result<(Vec<f32>, Vec<f32>)> {
    let classes = match &labels {
        Labels::Value(_) => vec!["cost".to_owned()],
        _ => ["a", "b", "c"].map(String::from).into(),
    };
    let images = ImageDataset::from_pixels(vec![0, 100, 200], (1, 1, 1), vec![0; 3], vec!["a".to_owned()])?;
    let images = images.with_targets(labels, classes)?;
    let loader =
        Loader::new(images, config(3, Sampling::Sequential, 0), &Device::Cpu)?.augmented(augmentation)?;
    let batch = loader.epoch(0).next().unwrap()?;
    Ok((batch.labels.flatten_all()?.to_vec1()?, batch.inputs.flatten_all()?.to_vec1()?))
}

#[test]
fn labels_are_smoothed_and_mixed_by_task_or_refused() {
    let several = || Labels::MultiLabel(vec![vec![0, 2], vec![], vec![1]]);
    let (smooth, _) = changed(several(), label_changes(None, 0.1)).unwrap();
    assert_eq!(smooth, [0.95, 0.05, 0.95, 0.05, 0.05, 0.05, 0.05, 0.95, 0.05]);
    for mix in [Mix::Mixup(1.0), Mix::Cutmix(1.0)] {
        let (mixed, _) = changed(several(), label_changes(Some(mix), 0.0)).unwrap();
        // The second has no label, so what it has is of the first alone: its labels in equal shares.
        assert_eq!((mixed[3], mixed[4]), (mixed[5], 0.0), "{mix:?}");
    }
    let numbers = || Labels::Value(vec![0.0, 100.0, 200.0]);
    let (mixed, pixels) = changed(numbers(), label_changes(Some(Mix::Mixup(1.0)), 0.0)).unwrap();
    assert_ne!(mixed, [0.0, 100.0, 200.0]);
    mixed.iter().zip(pixels).for_each(|(y, x)| assert!((y - x).abs() < 1e-3, "{y} and {x} are mixed alike"));
    for (mix, smoothing, word) in [(Some(Mix::Cutmix(1.0)), 0.0, "mix"), (None, 0.1, "label_smoothing")] {
        let error = changed(numbers(), label_changes(mix, smoothing)).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("regression"), "{error}");
    }
}

#[test]
fn tensors_are_batched_in_the_same_order_as_images() {
    let order = Sampling::Shuffled { seed: 3 };
    let inputs = Tensor::arange(0f32, 22., &Device::Cpu).unwrap().reshape((11, 2)).unwrap();
    let labels = Tensor::arange(0f32, 11., &Device::Cpu).unwrap();
    let batches = TensorBatches::new(inputs.clone(), labels.clone(), 4, order).unwrap();
    let found: Vec<f32> =
        batches.epoch(6).flat_map(|batch| batch.unwrap().labels.to_vec1::<f32>().unwrap()).collect();
    let expected: Vec<f32> = order.indices(11, 6).into_iter().map(|i| i as f32).collect();
    assert_eq!(found, expected);
    for batch in batches.epoch(6) {
        let batch = batch.unwrap();
        let doubled: Vec<f32> =
            batch.labels.to_vec1::<f32>().unwrap().iter().map(|label| 2.0 * label).collect();
        assert_eq!(
            batch.inputs.narrow(1, 0, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            doubled
        );
    }
    assert_eq!((batches.n_batches(), batches.n_examples()), (3, 11));

    let short = labels.narrow(0, 0, 10).unwrap();
    assert!(TensorBatches::new(inputs.clone(), short, 4, order).is_err());
    assert!(TensorBatches::new(inputs.clone(), labels.clone(), 0, order).is_err());
    let wide = inputs.to_dtype(candle_core::DType::F64).unwrap();
    assert!(TensorBatches::new(wide, labels, 4, order).is_err());
}

/// Inputs and labels of each batch.
type Values = Vec<(Vec<f32>, Vec<u32>)>;

/// The shards of all batches, put together again batch by batch, and how many examples each has.
fn put_together(batches: &dyn Batches, n: usize) -> (Values, Vec<usize>) {
    let all: Vec<_> =
        batches.shards(1, n, (0..n * batches.n_batches()).collect()).map(|shard| shard.unwrap()).collect();
    let sizes = all.iter().map(|shard| shard.batch.as_ref().map_or(0, |b| b.inputs.dims()[0])).collect();
    let whole = |shards: &[firstsight_data::Shard]| {
        let parts = values(shards.iter().filter_map(|shard| shard.batch.clone()).map(Ok));
        assert!(
            shards
                .iter()
                .all(|shard| shard.of == parts.iter().map(|(_, labels)| labels.len()).sum::<usize>())
        );
        let (inputs, labels): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        (inputs.concat(), labels.concat())
    };
    (all.chunks(n).map(whole).collect(), sizes)
}

#[test]
fn shards_are_the_parts_of_the_batches() {
    let sampling = Sampling::Shuffled { seed: 5 };
    for prefetch in [0, 2] {
        let images = loader(17, config(6, sampling, prefetch));
        let augmented = images.clone().augmented(Augmentation::photos(1)).unwrap();
        let rows = Tensor::arange(0f32, 34.0, &Device::Cpu).unwrap().reshape((17, 2)).unwrap();
        let labels = Tensor::arange(0u32, 17, &Device::Cpu).unwrap();
        let table = TensorBatches::new(rows, labels, 6, sampling).unwrap();
        for batches in [&images as &dyn Batches, &augmented, &table] {
            let (found, sizes) = put_together(batches, 4);
            assert_eq!(found, values(batches.epoch(1)));
            assert_eq!(sizes, [2, 2, 1, 1, 2, 2, 1, 1, 2, 1, 1, 1]);
            assert_eq!(put_together(batches, 8).1[16..], [1, 1, 1, 1, 1, 0, 0, 0]);
            let some: Vec<_> =
                batches.shards(1, 1, vec![0, 2]).map(|shard| Ok(shard?.batch.unwrap())).collect();
            let expected: Vec<_> = values(batches.epoch(1)).into_iter().step_by(2).collect();
            assert_eq!(values(some.into_iter()), expected);
        }
    }
}
