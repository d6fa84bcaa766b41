//! Runs that are resumed or whose weights are taken, weights without a last layer, and outputs that cannot be written.

mod common;

use std::path::Path;

use candle_core::Device;
use image::{Rgb, RgbImage};
use tempfile::TempDir;

use common::{cli, photos, refuses, succeeds, text, weights};

fn scene() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path(), 10);
    weights(folder.path(), "mobilenetv2_100");
    folder
}

fn fine_tune<'a>(data: &'a str, weights: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["fine-tune", data, "--weights", weights, "--out", out];
    fixed.into_iter().chain(more.iter().copied()).collect()
}

/// Wide photos whose classes differ at the left and right edge alone.
fn wide_photos(folder: &Path) {
    for (class, hue) in [("blue", 2), ("red", 0)] {
        std::fs::create_dir_all(folder.join("wide").join(class)).unwrap();
        for i in 0..10u32 {
            let pixel = |x: u32, y: u32| {
                let mut rgb = [(x * 5 + i * 17) as u8 % 90, (y * 7 + i * 29) as u8 % 90, (x * y) as u8 % 90];
                if !(24..72).contains(&x) {
                    rgb[hue] += 150;
                }
                Rgb(rgb)
            };
            RgbImage::from_fn(96, 32, pixel).save(folder.join(format!("wide/{class}/{i}.png"))).unwrap();
        }
    }
}

#[test]
fn a_quick_run_takes_no_other_trainings_place() {
    let folder = scene();
    let here = folder.path();
    let train =
        ["train", "photos", "--model", "small-cnn", "--input", "16x16x3", "--epochs", "1", "--out", "run"];
    succeeds(here, &train);
    let before = std::fs::read(here.join("run/model.safetensors")).unwrap();
    let quick = |out, more: &[&'static str]| {
        fine_tune("photos", "weights", out, &[&["--preset", "quick", "--crop", "squash"], more].concat())
    };
    let words = ["run was trained with other settings", "network: small-cnn in run, mobilenet-v2 asked for"];
    refuses(here, &quick("run", &["--resume"]), &words);
    assert!(before == std::fs::read(here.join("run/model.safetensors")).unwrap());

    let blocks = ["--crop", "squash", "--unfreeze-from", "conv_head", "--epochs", "1"];
    succeeds(here, &fine_tune("photos", "weights", "blocks", &blocks));
    refuses(here, &quick("blocks", &["--resume"]), &["blocks has trained its blocks"]);

    succeeds(here, &quick("quick", &[]));
    refuses(here, &quick("quick", &["--resume", "--seed", "9"]), &["seed: 123 in quick, 9 asked for"]);
    succeeds(here, &quick("quick", &["--resume"]));
}

#[test]
fn a_run_whose_crop_was_chosen_is_resumed() {
    let folder = scene();
    let here = folder.path();
    wide_photos(here);
    let go = |epochs, more: &[&'static str]| {
        let blocks = ["--unfreeze-from", "conv_head", "--epochs", epochs];
        fine_tune("wide", "weights", "run", &[&blocks, more].concat())
    };
    let output = cli(here, &go("1", &[]));
    assert!(text(&output.stderr).contains("squash crop, by cross-validation"), "{}", text(&output.stderr));
    let output = cli(here, &go("2", &["--resume"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("goes on after epoch 1"), "{}", text(&output.stderr));
    succeeds(here, &go("3", &["--resume", "--crop", "squash"]));
    let words = ["crop: squash in run, center asked for"];
    refuses(here, &go("4", &["--resume", "--crop", "center"]), &words);
}

#[test]
fn images_that_a_run_was_trained_on_are_said_to_be_no_measure_of_its_weights() {
    let folder = scene();
    let here = folder.path();
    let quick = ["--preset", "quick", "--crop", "squash"];
    succeeds(here, &fine_tune("photos", "weights", "first", &quick));
    // The run's training images, of which some are set aside anew.
    let record = std::fs::read_to_string(here.join("first/split.csv")).unwrap();
    for line in record.lines().filter(|line| line.ends_with(",train")) {
        let file = line.split(',').next().unwrap();
        let to = here.join("part").join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(here.join("photos").join(file), to).unwrap();
    }
    let output = cli(here, &fine_tune("part", "first", "second", &quick));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("validation images were trained on by first: their figures are too good"),
        "{said}"
    );
    let page = std::fs::read_to_string(here.join("second/report.html")).unwrap();
    assert!(page.contains("were trained on by first: their figures are too good"), "the page's notes say so");
    assert!(!page.contains("played no part in training"), "the page's lead claims no more");
    // What was set aside then is set aside now.
    let output = cli(here, &fine_tune("photos", "first", "third", &quick));
    assert!(!text(&output.stderr).contains("too good"), "{}", text(&output.stderr));
    // A layer that was trained on them as well, in the end, is kept on their word alone.
    succeeds(here, &fine_tune("photos", "weights", "refit", &[&quick[..], &["--refit"]].concat()));
    let output = cli(here, &fine_tune("photos", "refit", "fourth", &quick));
    let said = text(&output.stderr);
    assert!(said.contains("4 of 4 validation images were trained on by refit"), "{said}");
    let kept = "no better on the validation images, of which 4 were trained on by refit before";
    assert!(said.contains(kept), "{said}");
    let page = std::fs::read_to_string(here.join("fourth/report.html")).unwrap();
    assert!(page.contains(kept) && !page.contains("played no part in training"));
}

/// The accuracy of the last layer's cross-validation with the penalty that was chosen.
fn cross_validated(run: &Path) -> f64 {
    let metrics: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run.join("metrics.json")).unwrap()).unwrap();
    let head = &metrics["head"];
    let mut of_penalties = head["cross_validation"].as_array().unwrap().iter();
    of_penalties.find(|of| of["penalty"] == head["penalty"]).unwrap()["accuracy"].as_f64().unwrap()
}

#[test]
fn the_last_layer_is_cross_validated_on_patients_that_it_does_not_know() {
    let folder = scene();
    let here = folder.path();
    // Each patient has a color, which says nothing of others.
    let colors =
        [[220, 40, 40], [40, 220, 40], [40, 40, 220], [40, 220, 220], [220, 40, 220], [220, 220, 40]];
    let classes = ["a", "b", "b", "a", "a", "b"];
    for (patient, (color, class)) in colors.into_iter().zip(classes).enumerate() {
        for photo in 0..6u8 {
            let place = if photo == 5 { "val" } else { "train" };
            for (data, mark) in [("unlike", photo), ("equal", u8::from(photo == 5))] {
                let to = here.join(data).join(place).join(class);
                std::fs::create_dir_all(&to).unwrap();
                // No patient is in both splits.
                let id = if photo == 5 { patient + 6 } else { patient };
                let mut picture = RgbImage::from_pixel(32, 32, Rgb(color));
                picture.put_pixel(0, 0, Rgb([mark; 3]));
                picture.save(to.join(format!("p{id}_{photo}.png"))).unwrap();
            }
        }
    }
    let quick = ["--preset", "quick", "--crop", "squash"];
    let grouped = [&quick[..], &["--group-by", "^(p[0-9]+)_"]].concat();
    succeeds(here, &fine_tune("unlike", "weights", "plain", &quick));
    succeeds(here, &fine_tune("unlike", "weights", "grouped", &grouped));
    succeeds(here, &fine_tune("equal", "weights", "copies", &quick));
    let found = ["plain", "grouped", "copies"].map(|run| cross_validated(&here.join(run)));
    let [plain, grouped, copies] = found;
    assert!(plain > 0.5 && grouped < 0.3 && copies < 0.3, "{found:?}");
}

#[test]
fn folds_of_a_fine_tuning_are_resumed_under_the_settings_that_they_were_trained_with() {
    let folder = scene();
    let here = folder.path();
    let folds = |preset, more: &[&'static str]| {
        let fixed = ["--preset", preset, "--crop", "squash", "--folds", "2"];
        fine_tune("photos", "weights", "run", &[&fixed, more].concat())
    };
    let given = ["--unfreeze-from", "conv_head", "--epochs", "1", "--learning-rate", "0.001"];
    succeeds(here, &folds("standard", &given));
    // As it is where the second fold was interrupted.
    let path = here.join("run/cross-validation.json");
    let whole = std::fs::read(&path).unwrap();
    let mut shorter: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    shorter["folds"].as_array_mut().unwrap().pop();
    std::fs::write(&path, shorter.to_string()).unwrap();
    std::fs::remove_dir_all(here.join("run/fold-2")).unwrap();
    // A flag that is left out stands for the preset's setting.
    let words =
        ["run holds folds of other settings", "epochs: 1 in run, 6 asked for", "0.001 in run, 0.0002 asked"];
    refuses(here, &folds("standard", &["--unfreeze-from", "conv_head", "--resume"]), &words);
    refuses(here, &folds("quick", &["--resume"]), &["epochs: 1 in run, none asked for"]);
    let more = |more: &[&'static str]| folds("standard", &[&given, more, &["--resume"]].concat());
    refuses(here, &more(&["--save-dtype", "float16"]), &["float32 in run, float16 asked for"]);
    refuses(here, &more(&["--shards", "2"]), &["batch size: 16 in run, 16 in 2 shards asked for"]);
    succeeds(here, &more(&[]));
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[test]
fn a_damaged_record_of_the_split_is_named() {
    let folder = scene();
    let here = folder.path();
    succeeds(here, &fine_tune("photos", "weights", "run", &["--preset", "quick", "--crop", "squash"]));
    let split = here.join("run/split.csv");
    let whole = std::fs::read_to_string(&split).unwrap();
    let (header, rows) = whole.split_once('\n').unwrap();
    for damaged in ["", header, rows, &whole[..whole.len() - 20]] {
        std::fs::write(&split, damaged).unwrap();
        refuses(here, &["evaluate", "run", "photos", "--split", "new"], &["split.csv"]);
    }
}

#[test]
fn weights_without_a_last_layer_are_fine_tuned_and_tell_no_classes() {
    let folder = scene();
    let here = folder.path();
    let path = here.join("weights/model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    tensors.retain(|name, _| !name.starts_with("classifier."));
    std::fs::write(&path, safetensors::serialize(&tensors, None).unwrap()).unwrap();
    let predict = ["predict", "--pretrained", "mobilenet-v2", "--weights", "weights", "photos/red/0.png"];
    refuses(here, &predict, &["have no last layer"]);
    refuses(here, &["predict", "--run", "weights", "photos/red/0.png"], &["have no last layer"]);
    succeeds(here, &fine_tune("photos", "weights", "run", &["--preset", "quick", "--crop", "squash"]));
    succeeds(here, &["predict", "--run", "run", "photos/red/0.png"]);
    succeeds(here, &["dataset", "check", "photos", "--weights", "weights"]);
    // Without more than that it is another network's file.
    tensors.retain(|name, _| !name.starts_with("conv_head."));
    std::fs::write(&path, safetensors::serialize(&tensors, None).unwrap()).unwrap();
    refuses(here, &fine_tune("photos", "weights", "other", &[]), &["another network's weights"]);
}

#[test]
fn folders_of_outputs_are_made_and_what_cannot_be_written_is_found_before_the_work() {
    let folder = scene();
    let here = folder.path();
    let check = ["dataset", "check", "photos", "--quick", "--csv", "a/b.csv", "--report", "c/d.html"];
    succeeds(here, &check);
    assert!(here.join("a/b.csv").is_file() && here.join("c/d.html").is_file());
    std::fs::write(here.join("file"), "").unwrap();
    let tune = ["tune", "photos", "--model", "small-cnn", "--trials", "1", "--report", "file/x.html"];
    for args in [&tune[..], &["dataset", "check", "photos", "--fix-list", "file/x.csv"]] {
        let output = cli(here, args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot write file") && output.stdout.is_empty(), "{said}");
        assert!(!said.contains("images") && !said.contains("trial 0"), "found before the work: {said}");
    }
}
