//! Augmentation as its users meet it: purity, shapes, labels, refusals.

use candle_core::Device;
use firstsight_data::{
    Augmentation, Augmenter, Batches, Cover, Error, Fill, ImageDataset, Interpolation, Loader, LoaderConfig,
    Mix, Normalize, Sampling, Transform,
};
use proptest::prelude::*;

fn augmentation(transforms: Vec<Transform>) -> Augmentation {
    Augmentation {
        seed: 3,
        transforms,
        interpolation: Interpolation::Bilinear,
        fill: Fill::Edge,
        mix: None,
        label_smoothing: 0.0,
    }
}

/// One of each transform.
fn all() -> Vec<Transform> {
    vec![
        Transform::FlipHorizontal { probability: 0.5 },
        Transform::FlipVertical { probability: 0.5 },
        Transform::Rotate { degrees: (-20.0, 20.0) },
        Transform::Zoom { by: (-0.3, 0.3) },
        Transform::Translate { down: (-0.2, 0.2), right: (-0.2, 0.2) },
        Transform::CropPadded { padding: 2 },
        Transform::CropResized {
            scale: (0.3, 1.0),
            ratio: (0.75, 1.33),
            interpolation: Interpolation::Bilinear,
        },
        Transform::Brightness { factor: (0.5, 1.5) },
        Transform::Contrast { factor: (0.5, 1.5) },
        Transform::ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
        Transform::Erase { probability: 0.5, area: (0.02, 0.3), ratio: (0.3, 3.3), with: Cover::Noise },
    ]
}

fn images(n: usize, (height, width, channels): (usize, usize, usize)) -> ImageDataset {
    let pixels = (0..n * height * width * channels).map(|i| (i * 89 % 251) as u8).collect();
    let labels = (0..n).map(|i| (i % 3) as u32).collect();
    let classes = ["a", "b", "c"].map(String::from).into();
    ImageDataset::from_pixels(pixels, (height, width, channels), labels, classes).unwrap()
}

fn loader(data: ImageDataset, batch_size: usize, prefetch: usize) -> Loader {
    let channels = data.shape().3;
    let normalize = Normalize { mean: vec![0.0; channels], std: vec![1.0 / 255.0; channels] };
    let config = LoaderConfig { batch_size, sampling: Sampling::Shuffled { seed: 4 }, normalize, prefetch };
    Loader::new(data, config, &Device::Cpu).unwrap()
}

/// Inputs of an epoch, and labels as rows.
fn epoch(loader: &Loader, epoch: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut inputs, mut labels) = (Vec::new(), Vec::new());
    for batch in loader.epoch(epoch) {
        let batch = batch.unwrap();
        inputs.extend(batch.inputs.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let rows = batch.labels.to_dtype(candle_core::DType::F32).unwrap().flatten_all().unwrap();
        labels.extend(rows.to_vec1::<f32>().unwrap());
    }
    (inputs, labels)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any order of any changes gives an image of the same size, the same again for the same arguments.
    #[test]
    fn what_becomes_of_an_image_depends_on_seed_epoch_and_index_alone(
        which in proptest::collection::vec(0usize..11, 0..6),
        (height, width) in (1usize..20, 1usize..20),
        colored in any::<bool>(),
        nearest in any::<bool>(),
        fill in 0usize..5,
        (seed, epoch, index) in (any::<u64>(), 0usize..1000, 0usize..100_000),
    ) {
        let shape = (height, width, if colored { 3 } else { 1 });
        let image: Vec<u8> = (0..height * width * shape.2).map(|i| (i * 37 % 256) as u8).collect();
        let augmentation = Augmentation {
            seed,
            interpolation: if nearest { Interpolation::Nearest } else { Interpolation::Bilinear },
            fill: [Fill::Constant(9), Fill::Edge, Fill::Symmetric, Fill::Reflect, Fill::Wrap][fill],
            ..augmentation(which.into_iter().map(|i| all()[i]).collect())
        };
        let found = Augmenter::new(augmentation.clone(), shape).unwrap().apply(&image, epoch, index);
        prop_assert_eq!(found.len(), image.len());
        prop_assert_eq!(found, Augmenter::new(augmentation, shape).unwrap().apply(&image, epoch, index));
    }

    /// Smooth pictures stay within the values that they have, but where brightness or noise changes them.
    #[test]
    fn geometry_makes_no_new_extremes(seed in any::<u64>(), (low, high) in (0u8..100, 100u8..=255)) {
        let image: Vec<u8> = (0..15 * 11).map(|i| if i % 3 == 0 { low } else { high }).collect();
        let augmenter = Augmenter::new(Augmentation { seed, ..augmentation(all()[..6].to_vec()) }, (15, 11, 1)).unwrap();
        for byte in augmenter.apply(&image, 0, 0) {
            // Rounding down may take one off.
            prop_assert!((low.saturating_sub(1)..=high).contains(&byte));
        }
    }
}

#[test]
fn changes_that_change_nothing_leave_every_byte() {
    let transforms = vec![
        Transform::FlipHorizontal { probability: 0.0 },
        Transform::Rotate { degrees: (0.0, 0.0) },
        Transform::Zoom { by: (0.0, 0.0) },
        Transform::CropPadded { padding: 0 },
        Transform::CropResized {
            scale: (1.0, 1.0),
            ratio: (0.8, 0.8),
            interpolation: Interpolation::Lanczos,
        },
        Transform::Brightness { factor: (1.0, 1.0) },
        Transform::Contrast { factor: (1.0, 1.0) },
        Transform::Erase { probability: 0.0, area: (0.1, 0.2), ratio: (1.0, 1.0), with: Cover::Noise },
    ];
    let image: Vec<u8> = (0..10 * 8 * 3).map(|i| (i * 7 % 256) as u8).collect();
    assert_eq!(Augmenter::new(augmentation(transforms), (10, 8, 3)).unwrap().apply(&image, 5, 6), image);
}

#[test]
fn every_transform_changes_images() {
    let image: Vec<u8> = (0..10 * 8 * 3).map(|i| (i * 89 % 251) as u8).collect();
    for transform in all() {
        let augmenter = Augmenter::new(augmentation(vec![transform]), (10, 8, 3)).unwrap();
        let changed = (0..20).filter(|&index| augmenter.apply(&image, 0, index) != image).count();
        assert!(changed >= 5, "{transform:?} changed {changed} of 20");
    }
}

#[test]
fn colors_are_jittered_within_their_strengths() {
    let jitter = |pixel: [u8; 3], brightness, saturation, hue| -> Vec<[u8; 3]> {
        let transform = Transform::ColorJitter { brightness, contrast: 0.0, saturation, hue };
        let augmenter = Augmenter::new(augmentation(vec![transform]), (1, 1, 3)).unwrap();
        (0..200).map(|index| augmenter.apply(&pixel, 0, index).try_into().unwrap()).collect()
    };
    let brightest = jitter([100; 3], 0.4, 0.0, 0.0).into_iter().map(|pixel| pixel[0]);
    let (least, most) = (brightest.clone().min().unwrap(), brightest.max().unwrap());
    assert!((60..70).contains(&least) && (130..=140).contains(&most), "{least} to {most}");
    let gray = jitter([100; 3], 0.0, 0.9, 0.1);
    assert!(gray.iter().all(|pixel| *pixel == [100; 3]), "gray has no color");
    // From half of the saturation to one and a half times as much.
    let spread = |pixel: &[u8; 3]| pixel.iter().max().unwrap() - pixel.iter().min().unwrap();
    let spreads: Vec<u8> = jitter([120, 100, 80], 0.0, 0.5, 0.0).iter().map(spread).collect();
    let (least, most) = (*spreads.iter().min().unwrap(), *spreads.iter().max().unwrap());
    assert!((19..25).contains(&least) && (56..=61).contains(&most), "{least} to {most}");
    let turned = jitter([120, 100, 80], 0.0, 0.0, 0.1);
    assert!(turned.iter().all(|pixel| spread(pixel).abs_diff(40) <= 2), "{turned:?}");
    assert!(turned.iter().any(|pixel| pixel[1] > 105) && turned.iter().any(|pixel| pixel[1] < 95));
}

#[test]
fn probabilities_are_kept() {
    let image = [1, 2];
    let count = |probability| {
        let flip = augmentation(vec![Transform::FlipHorizontal { probability }]);
        let augmenter = Augmenter::new(flip, (1, 2, 1)).unwrap();
        (0..2000).filter(|&i| augmenter.apply(&image, 0, i) == [2, 1]).count()
    };
    assert_eq!((count(0.0), count(1.0)), (0, 2000));
    // Five deviations of the binomial distribution are 112 at a half and 97 at a quarter.
    assert!(count(0.5).abs_diff(1000) < 112 && count(0.25).abs_diff(500) < 97);
}

#[test]
fn batches_do_not_depend_on_threads_batch_size_or_order() {
    let data = images(20, (9, 7, 3));
    let augmenter = Augmenter::new(augmentation(all()), (9, 7, 3)).unwrap();
    let alone = loader(data.clone(), 6, 0).augmented(augmentation(all())).unwrap();
    let (inputs, labels) = epoch(&alone, 2);
    for (batch_size, prefetch) in [(6, 3), (1, 1), (20, 0)] {
        let other = loader(data.clone(), batch_size, prefetch).augmented(augmentation(all())).unwrap();
        assert_eq!(epoch(&other, 2), (inputs.clone(), labels.clone()));
    }
    for (place, &i) in (Sampling::Shuffled { seed: 4 }).indices(20, 2).iter().enumerate() {
        let image = augmenter.apply(&data.image(i).unwrap(), 2, i);
        let plane = 9 * 7;
        let red: Vec<f32> = image.iter().step_by(3).map(|&byte| f32::from(byte)).collect();
        assert_eq!(inputs[place * 3 * plane..][..plane], red[..]);
    }
    assert_ne!(epoch(&alone, 3).0, inputs);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| epoch(&alone, 2)), (inputs, labels));
}

#[test]
fn mixup_blends_an_example_with_the_one_before_it_as_its_label_says() {
    let data = images(7, (4, 5, 1));
    let plain = epoch(&loader(data.clone(), 7, 0), 1);
    let mix = Augmentation { mix: Some(Mix::Mixup(1.0)), ..augmentation(vec![]) };
    let (inputs, shares) = epoch(&loader(data, 7, 2).augmented(mix).unwrap(), 1);
    let (n, k) = (20, 3);
    let mut different = 0;
    for i in 0..7 {
        let before = (i + 6) % 7;
        let (own, other) = (plain.1[i] as usize, plain.1[before] as usize);
        let share = shares[i * k + own];
        assert!((shares[i * k..][..k].iter().sum::<f32>() - 1.0).abs() < 1e-6);
        if own == other {
            assert!((share - 1.0).abs() < 1e-6);
            continue;
        }
        different += 1;
        assert!((shares[i * k + other] - (1.0 - share)).abs() < 1e-6);
        for p in 0..n {
            let expected = share * plain.0[i * n + p] + (1.0 - share) * plain.0[before * n + p];
            assert!((inputs[i * n + p] - expected).abs() < 1e-3);
        }
    }
    assert!(different >= 3, "the order pairs too few different classes to test anything");
}

#[test]
fn cutmix_takes_the_share_of_pixels_that_its_label_says() {
    // Every image of one value, so that each pixel tells whose it is.
    let pixels: Vec<u8> = (0..9u8).flat_map(|i| vec![10 * i; 12 * 10]).collect();
    let classes: Vec<String> = (0..9).map(|i| i.to_string()).collect();
    let data = ImageDataset::from_pixels(pixels, (12, 10, 1), (0..9).collect(), classes).unwrap();
    let mix = Augmentation { mix: Some(Mix::Cutmix(1.0)), ..augmentation(vec![]) };
    let loader = loader(data, 9, 0).augmented(mix).unwrap();
    let (mut mixed, mut total) = (0, 0.0);
    for e in 0..30 {
        let (inputs, shares) = epoch(&loader, e);
        for i in 0..9 {
            let image = &inputs[i * 120..][..120];
            for class in 0..9 {
                let pixels = image.iter().filter(|&&v| v == 10.0 * class as f32).count();
                assert!((shares[i * 9 + class] - pixels as f32 / 120.0).abs() < 1e-6);
            }
            let most = shares[i * 9..][..9].iter().copied().fold(0.0, f32::max);
            mixed += usize::from(most < 0.999);
            total += most;
        }
    }
    assert!(mixed > 150 && total < 260.0, "{mixed} of 270 are mixed");
}

#[test]
fn smoothing_spreads_epsilon_over_all_classes() {
    let smooth = Augmentation { label_smoothing: 0.3, ..augmentation(vec![]) };
    let (inputs, shares) = epoch(&loader(images(5, (2, 2, 1)), 2, 0).augmented(smooth).unwrap(), 0);
    let plain = epoch(&loader(images(5, (2, 2, 1)), 2, 0), 0);
    assert_eq!(inputs, plain.0);
    for (row, &class) in shares.chunks(3).zip(&plain.1) {
        for (k, share) in row.iter().enumerate() {
            let expected = if k == class as usize { 0.8 } else { 0.1 };
            assert!((share - expected).abs() < 1e-6);
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_with_the_rule() {
    let refused = |augmentation: Augmentation, shape, word: &str| {
        let error = Augmenter::new(augmentation, shape).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    let gray = (4, 4, 1);
    for (transform, word) in [
        (Transform::FlipHorizontal { probability: 1.5 }, "probability"),
        (Transform::Rotate { degrees: (10.0, -10.0) }, "low ≤ high"),
        (Transform::Rotate { degrees: (f64::NAN, 1.0) }, "degrees"),
        (Transform::Zoom { by: (-1.0, 0.0) }, "zoom"),
        (Transform::Translate { down: (0.0, f64::INFINITY), right: (0.0, 0.0) }, "down"),
        (
            Transform::CropResized {
                scale: (0.0, 1.0),
                ratio: (1.0, 1.0),
                interpolation: Interpolation::Bilinear,
            },
            "scale",
        ),
        (
            Transform::CropResized {
                scale: (0.5, 1.5),
                ratio: (1.0, 1.0),
                interpolation: Interpolation::Bilinear,
            },
            "scale",
        ),
        (Transform::Brightness { factor: (-0.1, 1.0) }, "brightness"),
        (Transform::Contrast { factor: (2.0, 1.0) }, "contrast"),
        (Transform::ColorJitter { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.6 }, "hue"),
        (
            Transform::Erase {
                probability: 1.0,
                area: (0.1, 0.2),
                ratio: (0.0, 1.0),
                with: Cover::Constant(0),
            },
            "ratio",
        ),
    ] {
        refused(augmentation(vec![transform]), gray, word);
    }
    refused(Augmentation { label_smoothing: 1.0, ..augmentation(vec![]) }, gray, "label_smoothing");
    refused(Augmentation { mix: Some(Mix::Mixup(0.0)), ..augmentation(vec![]) }, gray, "alpha");
    refused(augmentation(vec![]), (4, 4, 2), "HxWx3");
    refused(augmentation(vec![]), (0, 4, 1), "at least one pixel");
}

/// A crop of a quarter of the area, square.
fn quarter() -> Transform {
    Transform::CropResized { scale: (0.25, 0.25), ratio: (1.0, 1.0), interpolation: Interpolation::Bilinear }
}

/// Columns that are black and white by turns, of `n` images, and the same images at half the size, where they are gray.
fn stripes(n: usize) -> (ImageDataset, ImageDataset) {
    let of_size = |side: usize, byte: fn(usize) -> u8| {
        let pixels = (0..n * side * side).map(byte).collect();
        let labels = (0..n).map(|i| (i % 3) as u32).collect();
        let classes = ["a", "b", "c"].map(String::from).into();
        ImageDataset::from_pixels(pixels, (side, side, 1), labels, classes).unwrap()
    };
    (of_size(32, |i| if i % 2 == 0 { 0 } else { 255 }), of_size(16, |_| 128))
}

#[test]
fn crops_of_larger_images_keep_detail_that_the_reduced_ones_have_lost() {
    let (large, reduced) = stripes(4);
    let of = |images: ImageDataset| {
        let batches =
            loader(reduced.clone(), 4, 0).augmented_from(images, augmentation(vec![quarter()])).unwrap();
        assert_eq!(batches.epoch(0).next().unwrap().unwrap().inputs.dims(), [4, 1, 16, 16]);
        epoch(&batches, 0)
    };
    let (sharp, labels) = of(large);
    let (blurred, same_labels) = of(reduced.clone());
    assert!(blurred.iter().all(|&value| value == 128.0));
    // A window of the larger image, pixel by pixel.
    for row in sharp.chunks(16) {
        assert!(row.windows(2).all(|pair| pair == [0.0, 255.0] || pair == [255.0, 0.0]), "{row:?}");
    }
    assert_eq!(labels, same_labels);
    assert_eq!(labels, epoch(&loader(reduced, 4, 0), 0).1);
}

#[test]
fn crops_of_larger_images_do_not_depend_on_threads_or_batch_size() {
    let (large, reduced) = (images(20, (18, 14, 3)), images(20, (9, 7, 3)));
    let mut transforms = all();
    transforms.rotate_left(6);
    let of = |batch_size, prefetch| {
        let batches = loader(reduced.clone(), batch_size, prefetch);
        batches.augmented_from(large.clone(), augmentation(transforms.clone())).unwrap()
    };
    let first = epoch(&of(6, 0), 2);
    for (batch_size, prefetch) in [(6, 3), (1, 1), (20, 0)] {
        assert_eq!(epoch(&of(batch_size, prefetch), 2), first);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| epoch(&of(6, 0), 2)), first);
    assert_ne!(epoch(&of(6, 0), 3).0, first.0);
    let plain = loader(reduced.clone(), 6, 0).augmented(augmentation(transforms.clone())).unwrap();
    let same =
        loader(reduced.clone(), 6, 0).augmented_from(reduced.clone(), augmentation(transforms)).unwrap();
    assert_eq!(epoch(&plain, 2), epoch(&same, 2));
    assert_ne!(epoch(&plain, 2).0, first.0);
}

#[test]
fn larger_images_must_be_the_same_ones_and_be_cropped_first() {
    let refused = |large, transforms, word: &str| {
        let error = loader(images(4, (9, 7, 3)), 2, 0)
            .augmented_from(large, augmentation(transforms))
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(images(5, (18, 14, 3)), vec![quarter()], "the same 4 images of 3 channels");
    refused(images(4, (18, 14, 1)), vec![quarter()], "the same 4 images of 3 channels");
    let flip = Transform::FlipHorizontal { probability: 0.5 };
    refused(images(4, (18, 14, 3)), vec![flip, quarter()], "a resized crop");
    refused(images(4, (18, 14, 3)), vec![], "no transform");
}

/// The images that a seed gives must not change unnoticed.
#[test]
fn a_seeds_images_are_those_of_version_0_1_0() {
    let image: Vec<u8> = (0..12).map(|i| 20 * i).collect();
    let augmenter = Augmenter::new(augmentation(all()[..6].to_vec()), (3, 4, 1)).unwrap();
    assert_eq!(augmenter.apply(&image, 1, 2), [186, 208, 220, 220, 179, 201, 220, 220, 172, 194, 216, 220]);
}
