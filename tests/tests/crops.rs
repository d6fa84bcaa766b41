//! Crops that are cut from the photo at a larger size than the network's input.

mod common;

use std::path::Path;

use candle_core::Device;
use firstsight_data::{AugmentationConfig, AugmentationPreset, Crops, Interpolation, OnError};
use firstsight_models::networks::MOBILENET_V2;
use firstsight_transfer::{DecodedSplits, FineTuning, Preset, Pretrained, Runtime, Splits};
use serde_json::Value;
use tempfile::TempDir;

use common::{cli, json, photos, refused, refuses, succeeds, text, weights};

fn scene() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path(), 15);
    weights(folder.path(), "mobilenetv2_100");
    folder
}

fn fine_tune<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["fine-tune", "photos", "--backbone", "mobilenet-v2", "--weights", "weights", "--crop"];
    let blocks = ["squash", "--unfreeze-from", "conv_head", "--epochs", "1", "--out", out];
    fixed.into_iter().chain(blocks).chain(more.iter().copied()).collect()
}

fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["train", "photos", "--model", "small-cnn", "--input", "16x16x3", "--epochs", "1"];
    let rest = ["--batch-size", "8", "--out", out];
    fixed.into_iter().chain(rest).chain(more.iter().copied()).collect()
}

fn history(here: &Path, run: &str) -> String {
    std::fs::read_to_string(here.join(run).join("history.csv")).unwrap()
}

/// Recorded, resumed as it was, and refused under the other setting before an image is decoded.
fn is_part_of_the_run(here: &Path, of: for<'a> fn(&'a str, &[&'a str]) -> Vec<&'a str>) {
    let full = ["--crops-from", "full"];
    succeeds(here, &of("reduced", &[]));
    succeeds(here, &of("full", &full));
    let crops = |run: &str| {
        let config: Value = json(&here.join(run).join("config.json"));
        let augmentation = &config["training"]["augmentation"];
        assert_eq!(augmentation["changes"], "photos", "{config}");
        augmentation["crops"].clone()
    };
    assert_eq!((crops("full"), crops("reduced")), ("full".into(), Value::Null));
    assert_ne!(history(here, "full"), history(here, "reduced"));
    let again = |run| {
        let weights = std::fs::read(here.join(run).join("model.safetensors")).unwrap();
        (weights, history(here, run))
    };
    let before = again("full");
    succeeds(here, &of("full", &["--crops-from", "full", "--resume"]));
    assert!(before == again("full"));
    for (run, other) in [("full", "reduced"), ("reduced", "full")] {
        let output = cli(here, &of(run, &["--crops-from", other, "--resume"]));
        refused(&output, &["augmentation: photos", ", crops of the larger image", "asked for"]);
        assert!(!text(&output.stderr).contains("training images"), "{}", text(&output.stderr));
    }
}

#[test]
fn what_crops_are_cut_from_is_part_of_a_fine_tuning() {
    let folder = scene();
    is_part_of_the_run(folder.path(), fine_tune);
    // Rare classes that are shown as often as others are so in the larger photos, too.
    std::fs::remove_file(folder.path().join("photos/red/3.png")).unwrap();
    succeeds(folder.path(), &fine_tune("balanced", &["--crops-from", "full", "--class-balanced"]));
}

#[test]
fn what_crops_are_cut_from_is_part_of_a_training() {
    let folder = scene();
    is_part_of_the_run(folder.path(), |out, more| train(out, &[&["--augment", "photos"], more].concat()));
}

#[test]
fn larger_images_are_refused_where_no_crops_are_cut() {
    let folder = scene();
    let full = ["--crops-from", "full", "--augment", "characters"];
    for args in [fine_tune("run", &full), train("run", &full)] {
        refuses(folder.path(), &args, &["cuts no crops", "characters"]);
        assert!(!folder.path().join("run").exists());
    }
}

#[test]
fn larger_photos_are_twice_the_input_and_the_same_photos() {
    let folder = scene();
    let splits = Splits::scan(&folder.path().join("photos"), 1).unwrap();
    let runtime = Runtime::new(Device::Cpu);
    let mut input = MOBILENET_V2.input_spec(3, 16, 12);
    input.interpolation = Interpolation::Bilinear;
    let decoded = |crops| {
        let augmentation =
            AugmentationConfig { preset: AugmentationPreset::Photos, crops, ..Default::default() };
        DecodedSplits::decode(&splits, &input, OnError::Fail, &runtime)
            .unwrap()
            .with_crop_source(&splits, &input, augmentation, OnError::Fail, &runtime)
            .unwrap()
    };
    assert!(decoded(Crops::Reduced).crop_source.is_none());
    let full = decoded(Crops::Full);
    let larger = full.crop_source.unwrap();
    assert_eq!((full.train.shape(), larger.shape()), ((24, 16, 12, 3), (24, 32, 24, 3)));
    assert_eq!(larger.labels(), full.train.labels());
    assert!((0..24).all(|i| larger.path(i).is_some() && larger.path(i) == full.train.path(i)));
}

#[test]
fn memory_is_asked_for_a_step_of_training() {
    let folder = scene();
    let pretrained = Pretrained::folder(&folder.path().join("weights")).unwrap();
    let splits = Splits::scan(&folder.path().join("photos"), 1).unwrap();
    // Three quarters of the largest map, of 96x16x16, are 1.8 MB for 24 images; a step of training keeps the others too.
    let mut settings = FineTuning::preset(Preset::Standard, 1);
    settings.unfreeze_from = Some("stem".to_owned());
    let runtime = Runtime::new(Device::Cpu).available_memory(|| Some(2_500_000));
    let refusal = settings.fit(&pretrained, &splits, &runtime).unwrap_err().to_string();
    assert!(refusal.starts_with("the maps of 16 images in a step of training need"), "{refusal}");
}
