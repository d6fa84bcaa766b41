//! Cached features, heads and freezing, on small networks and made-up images.

use std::sync::Arc;

use candle_core::{DType, Device, ModuleT as _, Tensor};
use firstsight_data::{CacheFolder, Groups, ImageDataset, Labels, Normalize, Sampling, TensorBatches};
use firstsight_models::networks::MOBILENET_V2;
use firstsight_models::{ImageClassifier, InputShape, Params, registry};
use firstsight_train::{Accuracy, Alone, CrossEntropy, Schedule};
use firstsight_transfer::{
    BatchNormMode, BlockRates, CrossValidation, Error, FeatureConfig, FeatureView, Features, FineTuneConfig,
    FineTuner, Head, HeadConfig, Preset, features, fingerprint,
};

fn noise(n: usize, seed: u32) -> impl Iterator<Item = f32> {
    let mut state = seed;
    (0..n).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    })
}

/// Features of classes that lie apart by 1 in a third of the axes.
fn clouds(per_class: usize, spread: f32) -> Features {
    let (n, f) = (3 * per_class, 12);
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
    let values: Vec<f32> = noise(n * f, 1)
        .enumerate()
        .map(|(i, noise)| f32::from(u8::from(i % f % 3 == i / f % 3)) + spread * noise + 3.0)
        .collect();
    let rows = Tensor::from_vec(values, (n, f), &Device::Cpu).unwrap();
    Features::new(&rows, Labels::Class(labels), 3).unwrap()
}

/// All rows, in all views.
fn rows(features: &Features) -> Tensor {
    let all: Vec<usize> = (0..features.n_images()).collect();
    features.select(&all, features.n_views()).unwrap().0
}

fn head_config() -> HeadConfig {
    HeadConfig {
        penalties: vec![1e-4, 1e-1, 100.0],
        folds: 5,
        steps: 100,
        batch_size: 64,
        lr: 0.02,
        balanced: false,
        seed: 1,
    }
}

#[test]
fn a_head_learns_and_its_penalty_is_chosen() {
    let features = clouds(30, 1.5);
    let mut told = Vec::new();
    let head = Head::train(&features, &head_config(), &mut |done, of| told.push((done, of))).unwrap();
    assert_eq!(told.last(), Some(&(5, 5)));
    assert_eq!(head.cross_validation.len(), 3);
    assert!(
        head.cross_validation
            .iter()
            .all(|c| c.loss >= head.cross_validation.iter().find(|d| d.penalty == head.penalty).unwrap().loss)
    );
    assert!(head.penalty < 100.0, "a penalty that forbids everything was chosen");
    let logits = head.forward_t(&rows(&features), false).unwrap();
    let found: Vec<u32> = logits.argmax(1).unwrap().to_vec1().unwrap();
    let right = found.iter().zip(features.labels.classes()).filter(|(a, b)| a == b).count();
    assert!(right >= 80, "{right} of 90");
    let again = Head::train(&features, &head_config(), &mut |_, _| ()).unwrap();
    assert_eq!(again.weight.to_vec2::<f32>().unwrap(), head.weight.to_vec2::<f32>().unwrap());
}

/// A layer of many features learns whatever it is told of an image; one that was not trained on it knows better.
#[test]
fn a_wrong_label_is_found_by_a_layer_that_was_not_trained_on_it() {
    let (n, f, wrong) = (40, 300, 7);
    let truth = |i: usize| (i % 2) as u32;
    let labels: Vec<u32> = (0..n).map(|i| if i == wrong { 1 - truth(i) } else { truth(i) }).collect();
    let values: Vec<f32> = noise(n * f, 3)
        .enumerate()
        .map(|(k, noise)| noise + if k % f < 60 { truth(k / f) as f32 } else { 0.0 })
        .collect();
    let rows = Tensor::from_vec(values, (n, f), &Device::Cpu).unwrap();
    let features = Features::new(&rows, Labels::Class(labels.clone()), 2).unwrap();
    let config = HeadConfig { penalties: vec![1e-4], ..head_config() };
    let head = Head::train(&features, &config, &mut |_, _| ()).unwrap();
    let learned: Vec<u32> = head.forward_t(&rows, false).unwrap().argmax(1).unwrap().to_vec1().unwrap();
    assert_eq!(learned, labels);
    let said = Head::out_of_fold(&features, &config).unwrap().unwrap();
    assert_eq!(said.labels, labels);
    let differs: Vec<usize> = (0..n).filter(|&i| said.top(i).0 != labels[i]).collect();
    assert_eq!(differs, [wrong]);
    assert!(said.row(wrong).iter().sum::<f32>() > 0.999);
}

/// Features that tell patients apart and nothing of their classes.
#[test]
fn a_layer_is_measured_on_groups_that_it_was_not_trained_on() {
    let (patients, photos) = (10, 6);
    let (n, f) = (patients * photos, 64);
    let label = |i: usize| (i / photos % 2) as u32;
    let own: Vec<f32> = noise(patients * f, 5).collect();
    let values: Vec<f32> =
        noise(n * f, 9).enumerate().map(|(k, noise)| own[k / f / photos * f + k % f] + 0.1 * noise).collect();
    let rows = Tensor::from_vec(values, (n, f), &Device::Cpu).unwrap();
    let mut features = Features::new(&rows, Labels::Class((0..n).map(label).collect()), 2).unwrap();
    let config = HeadConfig { penalties: vec![0.01], ..head_config() };
    let accuracy = |features: &Features| {
        let said = Head::out_of_fold(features, &config).unwrap().unwrap();
        let right = (0..n).filter(|&i| said.top(i).0 == label(i)).count() as f64 / n as f64;
        let found = Head::cross_validate(features, &config, &mut |_, _| ()).unwrap()[0].accuracy.unwrap();
        assert!((found - right).abs() < 1e-9, "{found} and {right}");
        right
    };
    assert_eq!(accuracy(&features), 1.0);
    features.groups = Groups::new((0..n).map(|i| i / photos));
    assert!(accuracy(&features) < 0.8, "{}", accuracy(&features));
    // Two groups are two folds; one cannot be divided, and its images are.
    features.groups = Groups::new((0..n).map(|i| i < n / 2));
    let mut folds = Vec::new();
    Head::cross_validate(&features, &config, &mut |_, of| folds.push(of)).unwrap();
    assert_eq!(folds, [2, 2]);
    features.groups = Groups::new(vec![0; n]);
    assert_eq!(accuracy(&features), 1.0);
}

#[test]
fn penalties_that_are_validated_together_are_measured_as_alone() {
    let features = clouds(20, 1.5);
    let together = Head::cross_validate(&features, &head_config(), &mut |_, _| ()).unwrap();
    for (i, penalty) in head_config().penalties.into_iter().enumerate() {
        let config = HeadConfig { penalties: vec![penalty], ..head_config() };
        let alone = Head::cross_validate(&features, &config, &mut |_, _| ()).unwrap();
        assert_eq!((together[i].penalty, together[i].accuracy), (penalty, alone[0].accuracy));
        assert!((together[i].loss - alone[0].loss).abs() < 1e-5 * alone[0].loss, "{together:?} {alone:?}");
    }
    let best = CrossValidation::best(&together).unwrap();
    assert!(together.iter().all(|other| other.loss >= best.loss));
}

#[test]
fn views_that_are_added_belong_to_the_same_images() {
    let features = clouds(5, 1.0);
    let mirrored = Features::new(&rows(&features).neg().unwrap(), features.labels.clone(), 3).unwrap();
    let both = features.clone().with_views(mirrored.clone());
    assert_eq!((both.n_views(), both.n_images()), (2, 15));
    let (found, labels) = both.select(&[7], 2).unwrap();
    let of = |features: &Features| rows(features).get(7).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(found.to_vec2::<f32>().unwrap(), [of(&features), of(&mirrored)]);
    let label = features.labels.classes()[7];
    assert_eq!(labels.classes(), [label, label]);
}

#[test]
fn rare_classes_count_as_much_when_balanced() {
    let mut features = clouds(40, 4.0);
    // One image in eight of class 2 stays.
    let kept: Vec<usize> =
        (0..features.n_images()).filter(|i| features.labels.classes()[*i] != 2 || i % 24 == 2).collect();
    let (some, labels) = features.select(&kept, 1).unwrap();
    features = Features::new(&some, labels, 3).unwrap();
    let recall = |balanced| {
        let config = HeadConfig { penalties: vec![1.0], balanced, ..head_config() };
        let head = Head::train(&features, &config, &mut |_, _| ()).unwrap();
        let all = clouds(40, 4.0);
        let found: Vec<u32> =
            head.forward_t(&rows(&all), false).unwrap().argmax(1).unwrap().to_vec1().unwrap();
        found.iter().zip(all.labels.classes()).filter(|(a, b)| a == b && **b == 2).count()
    };
    let (plain, balanced) = (recall(false), recall(true));
    assert!(balanced > plain, "{balanced} of 40 with balance, {plain} without");
}

fn images(n: usize, side: usize, channels: usize) -> ImageDataset {
    let pixels = noise(n * side * side * channels, 5).map(|v| ((v + 0.5) * 255.0) as u8).collect();
    let labels = (0..n as u32).map(|i| i % 2).collect();
    ImageDataset::from_pixels(pixels, (side, side, channels), labels, vec!["a".into(), "b".into()]).unwrap()
}

fn network(params: &Params) -> ImageClassifier {
    let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    ImageClassifier::new(&MOBILENET_V2, input, 2, MOBILENET_V2.init, params).unwrap()
}

#[test]
fn features_are_computed_once_and_anew_when_anything_changes() {
    let folder = tempfile::tempdir().unwrap();
    let params = Params::seeded(3, &Device::Cpu);
    let network = network(&params);
    let images = images(6, 32, 3);
    let views = [FeatureView::Plain, FeatureView::Mirrored];
    let extraction = |identity: &str| FeatureConfig {
        normalize: Normalize { mean: vec![0.5; 3], std: vec![0.5; 3] },
        views: &views,
        batch_size: 4,
        communicator: &Alone,
        identity: identity.to_owned(),
    };
    let cache = CacheFolder::new(folder.path());
    let mut calls = 0;
    let mut extract = |images: &ImageDataset, identity: &str| {
        calls = 0;
        let mut progress = |_, _| calls += 1;
        let found = features(
            network.backbone(),
            images,
            &extraction(identity),
            Some(&cache),
            &Device::Cpu,
            &mut progress,
        );
        (rows(&found.unwrap()).to_vec2::<f32>().unwrap(), calls)
    };
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let (first, batches) = extract(&images, "weights");
    assert_eq!((first.len(), first[0].len(), batches, files()), (12, 1280, 4, 1));
    assert_ne!(first[0], first[6], "the mirrored view has features of its own");
    assert_eq!(extract(&images, "weights"), (first.clone(), 1));
    assert_eq!(extract(&images, "other weights").1, 4);
    assert_eq!(extract(&images.subset(&[1, 0, 2, 3, 4, 5]), "weights").1, 4);
    assert_eq!(files(), 3);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(extract(&images, "weights"), (first.clone(), 4), "a damaged file is computed anew");

    // What a run that was cut short had kept: four of six images, in two views.
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let Ok(file) = safetensors::SafeTensors::deserialize(&bytes) else { continue };
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let part = |name| {
            let view = file.tensor(name).unwrap();
            let rows = Tensor::from_raw_buffer(view.data(), DType::F32, view.shape(), &Device::Cpu);
            (name, rows.unwrap().narrow(0, 0, 4).unwrap())
        };
        let parts = ["plain", "mirrored"].map(part);
        std::fs::write(&path, safetensors::serialize(parts, header.metadata().clone()).unwrap()).unwrap();
    }
    assert_eq!(extract(&images, "weights"), (first.clone(), 2), "the other two, in two views");
    let parts = std::fs::read_dir(folder.path()).unwrap();
    let parts = parts.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().contains("-1."));
    assert_eq!(parts.count(), 1, "the first four stay in their file");
    assert_eq!(extract(&images, "weights"), (first, 1), "both parts are read");
}

#[test]
fn fingerprints_follow_values() {
    let (a, b) = (Params::seeded(1, &Device::Cpu), Params::seeded(2, &Device::Cpu));
    network(&a);
    network(&b);
    let all = |params: &Params| fingerprint(params, |_| true).unwrap();
    assert_ne!(all(&a), all(&b));
    assert_eq!(all(&a), all(&a));
    let norms = |params: &Params| fingerprint(params, |name| name.ends_with("running_mean")).unwrap();
    assert_eq!(norms(&a), norms(&b));
}

fn config(unfreeze_from: &str, batch_norm: BatchNormMode) -> FineTuneConfig {
    FineTuneConfig {
        unfreeze_from: unfreeze_from.to_owned(),
        epochs: 1,
        lr: 1e-3,
        block_rates: BlockRates::Decay(0.5),
        weight_decay: 0.01,
        schedule: Schedule::Constant,
        clip_norm: Some(1.0),
        loss: Arc::new(CrossEntropy),
        metrics: vec![Arc::new(Accuracy)],
        batch_norm,
        shards: 1,
        communicator: Arc::new(Alone),
    }
}

/// The names of the variables that one epoch of fine-tuning changes.
fn changed(unfreeze_from: &str, batch_norm: BatchNormMode) -> Vec<String> {
    let params = Params::seeded(3, &Device::Cpu);
    let network = network(&params);
    let before: Vec<Tensor> = params.named().iter().map(|(_, var)| var.copy().unwrap()).collect();
    let config = config(unfreeze_from, batch_norm);
    let tuned = FineTuner::new(&network, &config).unwrap();
    let values: Vec<f32> = noise(4 * 3 * 32 * 32, 9).collect();
    let inputs = Tensor::from_vec(values, (4, 3, 32, 32), &Device::Cpu).unwrap();
    let labels = Tensor::new(&[0u32, 1, 0, 1], &Device::Cpu).unwrap();
    let batches = TensorBatches::new(inputs, labels, 4, Sampling::Sequential).unwrap();
    tuned.fit(&batches, Some(&batches), &config, &mut []).unwrap();
    let named = params.named();
    let differs = |(i, (_, var)): &(usize, &(String, candle_core::Var))| {
        let difference = (var.as_tensor() - &before[*i]).unwrap().abs().unwrap().sum_all().unwrap();
        difference.to_dtype(DType::F32).unwrap().to_scalar::<f32>().unwrap() > 0.0
    };
    named.iter().enumerate().filter(differs).map(|(_, (name, _))| name.clone()).collect()
}

#[test]
fn frozen_blocks_and_statistics_stay_as_they_were() {
    let kept = changed("blocks.6", BatchNormMode::Eval);
    let allowed = ["blocks.6.", "conv_head.", "bn2.", "classifier."];
    assert!(kept.iter().all(|name| allowed.iter().any(|a| name.starts_with(a))), "{kept:?}");
    assert!(!kept.iter().any(|name| name.contains("running")), "{kept:?}");
    for name in ["blocks.6.0.conv_dw.weight", "blocks.6.0.bn3.bias", "bn2.weight", "classifier.weight"] {
        assert!(kept.iter().any(|n| n == name), "{name} did not change: {kept:?}");
    }
    let updated = changed("blocks.6", BatchNormMode::Train);
    assert!(updated.iter().any(|name| name == "bn2.running_mean"));
}

#[test]
fn counts_and_the_summary_tell_trained_from_frozen() {
    let params = Params::seeded(3, &Device::Cpu);
    let network = network(&params);
    let total = network.summary().total_params();
    let of = |from: &str| {
        let config = config(from, BatchNormMode::Eval);
        FineTuner::new(&network, &config).unwrap()
    };
    assert_eq!(of("classifier").counts(), (2 * 1280 + 2, total - 2562));
    assert_eq!(of("stem").counts(), (total, 0));
    let (summary, trained) = of("conv_head").summary();
    let counted: usize =
        summary.rows.iter().zip(&trained).filter(|(_, trained)| **trained).map(|(row, _)| row.params).sum();
    assert_eq!(counted, of("conv_head").counts().0);
    let error = FineTuner::new(&network, &config("blocks.9", BatchNormMode::Eval));
    let Err(Error::Setting { expected, .. }) = error else { panic!("no such block") };
    assert!(expected.contains("blocks.6") && expected.contains("classifier"));
}

#[test]
fn blocks_hold_every_variable_once() {
    for model in registry::all() {
        let params = Params::zeros(&Device::Cpu);
        let (c, h, w) = model.usual_input;
        let input = InputShape::Map { channels: c, height: h, width: w };
        let network = ImageClassifier::new(model, input, 3, model.init, &params).unwrap();
        let parts = network.blocks();
        for name in params.names() {
            let holders = parts.iter().filter(|block| block.holds(&name)).count();
            assert_eq!(holders, 1, "{model}: {name}");
        }
        assert_eq!(parts.last().unwrap().name, model.head_name());
        let recipe = Preset::Standard.recipe(&parts, 1);
        let cost = recipe.cost(&parts, 100, 0, 10);
        assert_eq!((cost.forward, cost.trained), (210 + 60, 600));
        assert!(cost.seconds(0.01) > Preset::Quick.recipe(&parts, 1).cost(&parts, 100, 0, 10).seconds(0.01));
    }
}
