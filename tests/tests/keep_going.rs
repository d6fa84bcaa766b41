//! Nothing that was done is thrown away: a loss that is NaN, a disk or a cache that fails, more epochs, too little memory.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use common::{cli, command, json, photos, refused, refuses, succeeds, text, weights};

const RUN_FILES: [&str; 5] =
    ["model.safetensors", "config.json", "history.csv", "metrics.json", "report.html"];

fn scene() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path(), 15);
    weights(folder.path(), "mobilenetv2_100");
    folder
}

fn fine_tune<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    last_layer(out, &["--unfreeze-from", "conv_head"]).into_iter().chain(more.iter().copied()).collect()
}

fn last_layer<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed =
        ["fine-tune", "photos", "--backbone", "mobilenet-v2", "--weights", "weights", "--crop", "squash"];
    fixed.into_iter().chain(["--out", out]).chain(more.iter().copied()).collect()
}

fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed =
        ["train", "photos", "--model", "small-cnn", "--input", "16x16x3", "--batch-size", "8", "--out", out];
    fixed.into_iter().chain(more.iter().copied()).collect()
}

/// Asserts that it failed with this exit code, says `words`, and that the run can be used.
fn failed_but_usable(here: &Path, run: &str, output: &Output, code: i32, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "should say {word:?}: {said}");
    }
    for file in RUN_FILES {
        assert!(here.join(run).join(file).is_file(), "{file} is missing: {said}");
    }
    succeeds(here, &["predict", "--run", run, "photos/red/0.png"]);
}

fn epochs(run: &Path) -> usize {
    std::fs::read_to_string(run.join("history.csv")).unwrap().lines().count() - 1
}

#[test]
fn a_nan_while_the_blocks_are_trained_keeps_the_last_layer() {
    let folder = scene();
    let here = folder.path();
    let output = cli(here, &fine_tune("run", &["--epochs", "1", "--learning-rate", "1e30"]));
    let words =
        ["run holds the last layer alone", "--learning-rate", "the validation loss is NaN after epoch 1"];
    failed_but_usable(here, "run", &output, 2, &words);
    let metrics = json(&here.join("run/metrics.json"));
    assert!(metrics["ended_by"].as_str().unwrap().contains("NaN"), "{metrics}");
    assert_eq!((metrics["kept"].as_str(), epochs(&here.join("run"))), (Some("last layer"), 1));
    let report = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    assert!(report.contains("An error ended it: the validation loss is NaN"), "the report says so");
    succeeds(here, &fine_tune("run", &["--epochs", "1", "--learning-rate", "0.001", "--resume"]));
    assert!(json(&here.join("run/metrics.json"))["ended_by"].is_null());
}

#[test]
fn a_disk_that_fails_while_the_blocks_are_trained_keeps_what_was_done() {
    let folder = scene();
    let here = folder.path();
    // A folder in the place of the file stops root too.
    std::fs::create_dir_all(here.join("run/checkpoint/best.safetensors")).unwrap();
    let output = cli(here, &fine_tune("run", &["--epochs", "3"]));
    failed_but_usable(here, "run", &output, 2, &["run holds the", "best.safetensors"]);
}

#[test]
fn a_nan_in_a_later_epoch_of_training_keeps_the_best_and_another_learning_rate_goes_on() {
    let folder = scene();
    let here = folder.path();
    succeeds(here, &train("run", &["--epochs", "2"]));
    let best = std::fs::read(here.join("run/model.safetensors")).unwrap();
    let output = cli(here, &train("run", &["--epochs", "5", "--learning-rate", "1e30", "--resume"]));
    let words = [
        "goes on after epoch 2 from the best weights",
        "learning rate: 0.001 in run",
        "holds the best epoch",
        "NaN",
    ];
    failed_but_usable(here, "run", &output, 2, &words);
    assert!(best == std::fs::read(here.join("run/model.safetensors")).unwrap());
    let metrics = json(&here.join("run/metrics.json"));
    assert_eq!(metrics["epochs"], 2);
    assert!(metrics["ended_by"].as_str().unwrap().contains("NaN"), "{metrics}");
    let report = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    assert!(report.contains("An error ended it") && report.contains("After epoch 2 it went on"));

    let lower = train("run", &["--epochs", "5", "--learning-rate", "0.0005", "--resume"]);
    let output = cli(here, &lower);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr)
            .contains("goes on after epoch 2 from the best weights until then, for at most 3 more")
    );
    assert_eq!(epochs(&here.join("run")), 5);
    // And again: nothing is left to do.
    let finished = std::fs::read(here.join("run/model.safetensors")).unwrap();
    succeeds(here, &lower);
    assert!(finished == std::fs::read(here.join("run/model.safetensors")).unwrap());
}

#[test]
fn a_finished_fine_tuning_goes_on_for_more_epochs() {
    let folder = scene();
    let here = folder.path();
    succeeds(here, &fine_tune("run", &["--epochs", "1"]));
    let first = std::fs::read_to_string(here.join("run/history.csv")).unwrap();
    let more = fine_tune("run", &["--epochs", "3", "--resume"]);
    let output = cli(here, &more);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let words = "goes on after epoch 1 from the best weights until then, for at most 2 more, with a new schedule (epochs: 1 in run, \
         3 asked for)";
    assert!(said.contains(words), "{said}");
    let history = std::fs::read_to_string(here.join("run/history.csv")).unwrap();
    assert!(history.starts_with(&first) && epochs(&here.join("run")) == 3, "{history}");
    let report = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    assert!(report.contains("After epoch 1 it went on"), "the report says so");
    let finished = std::fs::read(here.join("run/model.safetensors")).unwrap();
    succeeds(here, &more);
    assert!(finished == std::fs::read(here.join("run/model.safetensors")).unwrap());
    refuses(here, &fine_tune("run", &["--epochs", "2", "--resume"]), &["3 behind it", "2 in all"]);
}

#[test]
fn a_quick_run_goes_on_with_its_blocks() {
    let folder = scene();
    let here = folder.path();
    succeeds(here, &last_layer("run", &["--preset", "quick"]));
    let output = cli(here, &fine_tune("run", &["--epochs", "1", "--preset", "standard", "--resume"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let metrics = json(&here.join("run/metrics.json"));
    assert_eq!((metrics["preset"].as_str(), metrics["epochs"].as_u64()), (Some("standard"), Some(1)));
    let thorough = [
        "--epochs",
        "2",
        "--preset",
        "thorough",
        "--unfreeze-from",
        "blocks.6",
        "--resume",
        "--learning-rate",
        "2e-4",
    ];
    let fixed = ["fine-tune", "photos", "--weights", "weights", "--crop", "squash", "--out", "run"];
    let args: Vec<&str> = fixed.into_iter().chain(thorough).collect();
    let output = cli(here, &args);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("first block trained: conv_head in run, blocks.6 asked for"), "{said}");
}

#[test]
fn a_refusal_says_which_setting_differs_before_anything_is_computed() {
    let folder = scene();
    let here = folder.path();
    succeeds(here, &fine_tune("run", &["--epochs", "1"]));
    succeeds(here, &train("trained", &["--epochs", "1"]));
    let refused_early = |args: &[&str], words: &[&str]| {
        let output = cli(here, args);
        refused(&output, words);
        let said = text(&output.stderr);
        assert!(!said.contains("training images") && !said.contains("Config"), "{said}");
    };
    let other = fine_tune("run", &["--epochs", "2", "--batch-size", "8", "--resume"]);
    refused_early(&other, &["batch size: 16 in run, 8 asked for"]);
    let other = train("trained", &["--seed", "7", "--augment", "photos", "--resume"]);
    refused_early(&other, &["seed: 123 in trained, 7 asked for", "augmentation: no changes in trained"]);
    // A run without a checkpoint, and a run of another network.
    std::fs::remove_dir_all(here.join("trained/checkpoint")).unwrap();
    refused_early(
        &train("trained", &["--resume"]),
        &["trained has no checkpoint", "train anew in another folder"],
    );
    refused_early(&fine_tune("trained", &["--epochs", "1", "--resume"]), &["network: small-cnn in trained"]);
    // An input that the network cannot take.
    let small = ["train", "photos", "--model", "lenet5", "--input", "4x4x3", "--out", "small"];
    refused_early(&small, &["lenet5"]);
    assert!(!here.join("small").exists());
}

#[test]
fn weights_of_the_same_classes_keep_their_last_layer() {
    let folder = scene();
    let here = folder.path();
    succeeds(here, &fine_tune("first", &["--epochs", "1"]));
    let args = ["fine-tune", "photos", "--weights", "first", "--preset", "quick", "--out", "second"];
    let output = cli(here, &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("own last layer is kept"), "{}", text(&output.stderr));
    let val = |run: &str| json(&here.join(run).join("metrics.json"))["val"]["loss"].clone();
    assert_eq!(val("first"), val("second"));
}

#[test]
fn validation_and_test_images_are_read_before_features_are_computed() {
    let folder = scene();
    let here = folder.path();
    for split in ["train", "val"] {
        for class in ["red", "blue"] {
            let to = here.join("split").join(split).join(class);
            std::fs::create_dir_all(&to).unwrap();
            for i in 0..5 {
                let name = format!("{i}.png");
                std::fs::copy(here.join("photos").join(class).join(&name), to.join(name)).unwrap();
            }
        }
    }
    std::fs::write(here.join("split/val/red/3.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    let args = ["fine-tune", "split", "--weights", "weights", "--preset", "quick", "--out", "run"];
    let output = cli(here, &args);
    refused(&output, &["3.png"]);
    assert!(!text(&output.stderr).contains("features"), "{}", text(&output.stderr));
}

#[test]
fn a_cache_that_fails_is_a_warning_and_a_full_one_drops_the_oldest() {
    let folder = scene();
    let here = folder.path();
    std::fs::write(here.join("file"), "").unwrap();
    let run = |cache: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstsight-tests"));
        command.current_dir(here).args(args).args(["--cache", cache]).output().unwrap()
    };
    let output = run("file/cache", &fine_tune("run", &["--preset", "quick"]));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("cannot be written").count(), 1, "said once: {said}");
    assert!(said.contains("file/cache") && said.contains("goes on without"), "{said}");

    let limited = |out: &str, size: &str| {
        let args = ["--epochs", "1", "--input", size, "--cache-limit", "60KB"];
        let fixed = ["train", "photos", "--model", "logistic", "--out", out];
        let output = run("small", &[&fixed[..], &args].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    limited("a", "24x24x3");
    limited("b", "25x25x3");
    let shown = text(&run("small", &["cache", "--json"]).stdout);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert!((1..=60_000).contains(&shown["bytes"].as_u64().unwrap()), "{shown}");
    let cleared = text(&run("small", &["cache", "clear"]).stdout);
    assert!(cleared.contains("small"), "{cleared}");
    assert!(text(&run("small", &["cache"]).stdout).contains("small: 0 files"), "it is empty");
    let cleared: serde_json::Value =
        serde_json::from_str(&text(&run("small", &["cache", "--json", "clear"]).stdout)).unwrap();
    assert_eq!(cleared["removed"], 0);
}

#[test]
fn a_run_is_the_same_without_a_cache() {
    let folder = scene();
    let here = folder.path();
    succeeds(here, &train("not", &["--epochs", "2", "--no-cache"]));
    let files = || std::fs::read_dir(here.join("cache")).map_or(0, Iterator::count);
    assert_eq!(files(), 0);
    succeeds(here, &train("kept", &["--epochs", "2"]));
    assert!(files() > 0);
    assert_eq!(json(&here.join("kept/metrics.json")), json(&here.join("not/metrics.json")));
    let model = |run: &str| std::fs::read(here.join(run).join("model.safetensors")).unwrap();
    assert!(model("kept") == model("not"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_batch_that_memory_does_not_hold_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 10);
    let limited = |args: &[&str]| {
        let command = command(here, args);
        let mut shell = Command::new("sh");
        shell
            .current_dir(here)
            .args(["-c", "ulimit -v 2000000; exec \"$0\" \"$@\""])
            .arg(command.get_program());
        shell.args(command.get_args()).output().unwrap()
    };
    let args = ["train", "photos", "--model", "small-cnn", "--input", "2048x2048x3", "--out", "run"];
    refused(
        &limited(&args),
        &["the maps of 16 images in a step of training need", "available", "--batch-size"],
    );
    weights(here, "mobilenetv2_100");
    let fine_tune = fine_tune("run", &["--input", "2048x2048x3"]);
    refused(&limited(&fine_tune), &["the largest maps of 8 images need", "available", "--batch-size"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_photo_that_memory_does_not_hold_is_a_row() {
    let folder = scene();
    let here = folder.path();
    // A header alone: 400 megapixels.
    std::fs::write(here.join("photos/huge.ppm"), "P6 20000 20000 255\n").unwrap();
    let predict = ["predict", "--pretrained", "mobilenet-v2", "--weights", "weights", "--csv"];
    let images = ["--max-pixels", "500000000", "photos/huge.ppm", "photos/red/0.png"];
    let command = command(here, &[&predict[..], &images].concat());
    let mut shell = Command::new("sh");
    shell.current_dir(here).args(["-c", "ulimit -v 2000000; exec \"$0\" \"$@\""]).arg(command.get_program());
    let output = shell.args(command.get_args()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let rows = text(&output.stdout);
    let rows: Vec<&str> = rows.lines().collect();
    assert!(rows[1].contains("decoding photos/huge.ppm needs 6.4 GB of memory"), "{rows:?}");
    assert!(rows[2].starts_with("photos/red/0.png,") && rows.len() == 3, "{rows:?}");
}

#[test]
fn a_run_without_its_checkpoint_says_one_thing() {
    let folder = scene();
    let here = folder.path();
    succeeds(here, &train("run", &["--epochs", "1"]));
    refuses(here, &train("run", &["--epochs", "2"]), &["already holds a run: --resume continues it"]);
    // A disk that was full while the checkpoint was written.
    std::fs::remove_file(here.join("run/checkpoint/last.safetensors")).unwrap();
    let output = cli(here, &train("run", &["--epochs", "2"]));
    refused(&output, &["without a checkpoint to resume: train anew with another --out"]);
    assert!(!text(&output.stderr).contains("--resume"), "{}", text(&output.stderr));
    refuses(here, &train("run", &["--resume"]), &["no checkpoint to resume: train anew in another folder"]);
}

#[test]
fn a_training_that_was_stopped_before_it_saved_anything_starts_when_it_is_resumed() {
    let folder = scene();
    let here = folder.path();
    std::fs::create_dir_all(here.join("run/checkpoint")).unwrap();
    std::fs::create_dir(here.join("tuned")).unwrap();
    for args in [
        train("run", &["--epochs", "1", "--resume"]),
        train("missing", &["--epochs", "1", "--resume"]),
        fine_tune("tuned", &["--epochs", "1", "--resume"]),
    ] {
        let output = cli(here, &args);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("holds nothing to resume: starting anew"), "{said}");
    }
    std::fs::create_dir(here.join("other")).unwrap();
    std::fs::write(here.join("other/notes.txt"), "").unwrap();
    refuses(here, &train("other", &["--resume"]), &["holds no run to resume"]);
}

/// Maps of 1×1 in the last blocks of MobileNetV2 at 32×32.
#[test]
fn a_last_batch_of_one_image_is_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 15);
    let args = ["train", "photos", "--model", "mobilenet-v2", "--input", "32x32x3", "--epochs", "2"];
    // A fifth of 30 is set aside.
    let n = 24;
    let batch = (n - 1).to_string();
    succeeds(here, &[&args[..], &["--batch-size", &batch, "--out", "run"]].concat());
    let metrics = json(&here.join("run/metrics.json"));
    assert_eq!(metrics["train"]["n"], n);
    assert!(metrics["train"]["loss"].as_f64().unwrap().is_finite(), "{metrics}");
}
