//! The command line as its users meet it: what it writes, what it prints, and what it says to bad input.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image::{GrayImage, Luma};
use serde_json::Value;
use tempfile::TempDir;

use common::{cli, command, refuses, succeeds, text};

/// Two classes of striped 20×18 images that a network tells apart.
fn stripes(root: &Path, per_class: u32) -> PathBuf {
    let data = root.join("stripes");
    for (split, seed) in [("Train", 0), ("Test", 1000)] {
        for (class, down) in [("横", true), ("竖", false)] {
            let folder = data.join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..per_class {
                let gray = |x: u32, y: u32| {
                    let place = if down { y } else { x } + i;
                    let noise = (x * 7 + y * 13 + (i + seed) * 31) % 40;
                    Luma([if place.is_multiple_of(4) { 200 + noise as u8 } else { noise as u8 }])
                };
                GrayImage::from_fn(18, 20, gray).save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    data
}

fn train<'a>(out: &'a str, model: &'a str, epochs: &'a str) -> Vec<&'a str> {
    let fixed =
        ["train", "--data", "stripes", "--input", "20x18x1", "--batch-size", "8", "--patience", "1000"];
    fixed.into_iter().chain(["--model", model, "--epochs", epochs, "--out", out]).collect()
}

fn resumed(mut args: Vec<&str>) -> Vec<&str> {
    args.push("--resume");
    args
}

fn here() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn summary_prints_the_lectures_counts() {
    let folder = here();
    for (model, layers, total) in [("logistic", 3, 264_055), ("small-cnn", 10, 88_375)] {
        let summary = json(&succeeds(folder.path(), &["summary", model, "--json"]));
        assert_eq!(summary["model"], model);
        assert_eq!(summary["input"], serde_json::json!([80, 60, 1]));
        assert_eq!(summary["layers"].as_array().unwrap().len(), layers);
        assert_eq!((&summary["total_params"], &summary["trainable_params"]), (&total.into(), &total.into()));
    }
    assert!(succeeds(folder.path(), &["summary", "small-cnn"]).contains("88,375"));
}

#[test]
fn summary_knows_the_classic_networks_in_three_styles() {
    let folder = here();
    for (model, input, total) in [
        ("lenet5", [32, 32, 1], 61_706),
        ("mobilenet-v2", [224, 224, 3], 3_504_872),
        ("xception", [299, 299, 3], 22_855_952),
    ] {
        let summary = json(&succeeds(folder.path(), &["summary", model, "--json"]));
        assert_eq!(summary["input"], serde_json::json!(input));
        assert_eq!((&summary["total_params"], &summary["trainable_params"]), (&total.into(), &total.into()));
    }
    let keras = ["summary", "mobilenet-v2", "--style", "keras", "--no-head", "--json"];
    let keras = json(&succeeds(folder.path(), &keras));
    assert_eq!(keras["layers"].as_array().unwrap().len(), 155);
    // Keras's ZeroPadding2D puts the odd pixel at the bottom and right.
    assert_eq!(keras["layers"][1]["output_shape"], serde_json::json!([225, 225, 3]));
    let timm = succeeds(folder.path(), &["summary", "mobilenet-v2", "--style", "timm"]);
    assert!(timm.contains("BatchNormAct2d") && timm.contains("GMACs: 0.3"), "{timm}");
    let small = succeeds(folder.path(), &["summary", "mobilenet-v2", "--input", "96x96x1", "--classes", "2"]);
    assert!(small.contains("parameters 2,225,858"), "{small}");
}

#[test]
fn a_run_holds_all_that_its_readers_need() {
    let folder = here();
    let here = folder.path();
    stripes(here, 20);
    let said = succeeds(here, &train("run", "small-cnn", "6"));
    assert!(said.contains("test") && said.contains("run/report.html"), "{said}");
    for file in ["model.safetensors", "config.json", "history.csv", "metrics.json", "report.html"] {
        assert!(here.join("run").join(file).is_file(), "{file} is missing");
    }
    assert!(here.join("run/checkpoint/last.safetensors").is_file());

    let config = json(&std::fs::read_to_string(here.join("run/config.json")).unwrap());
    assert_eq!(config["architecture"], "small-cnn");
    assert_eq!(config["label_names"], serde_json::json!(["横", "竖"]));
    assert_eq!(config["pretrained_cfg"]["input_size"], serde_json::json!([1, 20, 18]));

    let metrics = json(&std::fs::read_to_string(here.join("run/metrics.json")).unwrap());
    let evaluation = json(&succeeds(here, &["evaluate", "--run", "run", "--data", "stripes", "--json"]));
    for figure in ["loss", "accuracy", "top5_accuracy", "n"] {
        assert_eq!(evaluation[figure], metrics["test"][figure], "{figure} of the test split");
    }
    assert_eq!(evaluation["n"], 40);
    assert_eq!(evaluation["per_class"][1]["label"], "竖");
    let validation =
        json(&succeeds(here, &["evaluate", "--run", "run", "--data", "stripes", "--split", "val", "--json"]));
    assert_eq!(validation["loss"], metrics["val"]["loss"]);

    let args =
        ["predict", "--run", "run", "--top", "1", "--json", "stripes/Test/横/0.png", "stripes/Test/竖/3.png"];
    let predictions = json(&succeeds(here, &args));
    assert_eq!(predictions.as_array().unwrap().len(), 2);
    assert_eq!(predictions[0]["image"], "stripes/Test/横/0.png");
    let best = predictions[0]["predictions"].as_array().unwrap();
    assert_eq!(best.len(), 1);
    assert!(best[0]["probability"].as_f64().unwrap() >= 0.5);
    assert_eq!(config["label_names"][best[0]["index"].as_u64().unwrap() as usize], best[0]["label"]);
    let both = json(&succeeds(here, &["predict", "--run", "run", "--json", "stripes/Test/横/0.png"]));
    let sum: f64 =
        both[0]["predictions"].as_array().unwrap().iter().map(|p| p["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}

#[test]
fn each_command_has_a_man_page_and_its_flags_their_headings() {
    let folder = here();
    let page = succeeds(folder.path(), &["man", "dataset", "stats"]);
    assert!(page.contains("dataset-stats\" 1") && page.contains("\\-\\-json"), "{page}");
    refuses(folder.path(), &["man", "sing"], &["no command sing"]);
    let help = succeeds(folder.path(), &["train", "--help"]);
    let (options, labels) = help.split_once("\nLabels:").unwrap();
    assert!(options.contains("--epochs") && options.contains("--resume"), "{help}");
    assert!(labels.contains("--label-from") && labels.contains("--max-pixels"), "{help}");
    assert!(!labels.contains("--epochs") && !labels.contains("--learning-rate"), "{help}");
}

#[test]
fn a_network_and_paths_are_asked_for_before_anything_begins() {
    let folder = here();
    let all = "--run <RUN>|--pretrained <MODEL>|--weights";
    refuses(folder.path(), &["predict", "a.png"], &[all]);
    refuses(
        folder.path(),
        &["tune", "photos", "--trials", "1"],
        &["--model <MODEL>|--backbone <MODEL>|--weights"],
    );
    for flag in ["--data", "--photos", "--housing", "--photo", "--mnist"] {
        let args = ["reproduce-lecture", "--quick", flag, "nosuch", "--out", "report"];
        refuses(folder.path(), &args, &[&format!("{flag} nosuch: no such file or folder")]);
    }
    let typo = ["reproduce-lecture", "--quick", "--weights", "./nosuch", "--out", "report"];
    refuses(folder.path(), &typo, &["./nosuch"]);
    assert!(!folder.path().join("report").exists());
    // Weights before the images, which take longer.
    refuses(folder.path(), &["fine-tune", "nosuch", "--weights", "./typo"], &["./typo"]);
    for args in
        [&["dataset", "check", "photos"][..], &["visualize", "--pretrained", "lenet5", "--out", "seen"]]
    {
        refuses(folder.path(), &[args, &["--on-error", "fail"]].concat(), &["--on-error", "unexpected"]);
    }
    for args in [&["export", "run", "--onnx", "run.onnx"][..], &["export", "--check", "run.onnx"]] {
        let said = ["--reading pillow is for the photos of --calibration"];
        refuses(folder.path(), &[args, &["--reading", "pillow"]].concat(), &said);
    }
    refuses(folder.path(), &["train", "--seed", "-3"], &["'-3' is not a whole number from 0 to"]);
}

#[test]
fn a_run_is_not_overwritten_unasked() {
    let folder = here();
    stripes(folder.path(), 6);
    succeeds(folder.path(), &train("run", "logistic", "1"));
    refuses(folder.path(), &train("run", "logistic", "1"), &["run", "--resume"]);
    // Where nothing was saved yet, resuming is starting.
    succeeds(folder.path(), &resumed(train("other", "logistic", "1")));
    assert!(folder.path().join("other/model.safetensors").is_file());
    std::fs::create_dir(folder.path().join("letters")).unwrap();
    std::fs::write(folder.path().join("letters/to-grandma.txt"), "dear").unwrap();
    refuses(folder.path(), &resumed(train("letters", "logistic", "1")), &["letters", "no run"]);
}

#[test]
fn resuming_equals_running_through() {
    let folder = here();
    let here = folder.path();
    stripes(here, 20);
    succeeds(here, &train("through", "small-cnn", "4"));
    succeeds(here, &train("parts", "small-cnn", "2"));
    succeeds(here, &resumed(train("parts", "small-cnn", "4")));
    for file in ["model.safetensors", "history.csv", "metrics.json", "checkpoint/last.safetensors"] {
        let read = |run: &str| std::fs::read(here.join(run).join(file)).unwrap();
        assert!(read("through") == read("parts"), "{file} differs");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = here();
    let here = folder.path();
    stripes(here, 20);
    for threads in ["1", "3"] {
        let mut command = command(here, &train(threads, "small-cnn", "2"));
        assert!(command.env("RAYON_NUM_THREADS", threads).output().unwrap().status.success());
    }
    let read = |run: &str| std::fs::read(here.join(run).join("model.safetensors")).unwrap();
    assert!(read("1") == read("3"), "one thread and three give other weights");
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_run_to_go_on_with() {
    let folder = here();
    let here = folder.path();
    stripes(here, 20);
    let mut child = command(here, &train("run", "small-cnn", "100000"))
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let last = here.join("run/checkpoint/last.safetensors");
    let started = std::time::Instant::now();
    while !last.exists() {
        assert!(started.elapsed().as_secs() < 120, "no checkpoint in two minutes");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(here.join("run/model.safetensors").is_file() && here.join("run/report.html").is_file());

    let epochs = std::fs::read_to_string(here.join("run/history.csv")).unwrap().lines().count();
    let total = epochs.to_string();
    succeeds(here, &resumed(train("run", "small-cnn", &total)));
    succeeds(here, &train("through", "small-cnn", &total));
    let read = |run: &str| std::fs::read(here.join(run).join("model.safetensors")).unwrap();
    assert!(read("run") == read("through"), "the interrupted run ends elsewhere");
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_checkpoint() {
    let folder = here();
    let here = folder.path();
    stripes(here, 6);
    succeeds(here, &train("run", "logistic", "1"));
    let checkpoint = here.join("run/checkpoint/last.safetensors");
    let before = std::fs::read(&checkpoint).unwrap();
    // No file may grow over 4 KiB: what a write to a full disk meets, without the signal.
    let limited = "trap '' XFSZ; ulimit -f 4; exec \"$@\"";
    let args = resumed(train("run", "logistic", "2"));
    let output = Command::new("bash")
        .args(["-c", limited, "bash", env!("CARGO_BIN_EXE_firstsight-tests")])
        .args(&args)
        .arg("--cache")
        .arg(here.join("cache"))
        .current_dir(here)
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("safetensors") && !said.contains("panicked"), "{said}");
    assert!(std::fs::read(&checkpoint).unwrap() == before, "the old checkpoint changed");
    let left: Vec<_> =
        std::fs::read_dir(here.join("run/checkpoint")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    succeeds(here, &args);
}

#[test]
fn outputs_that_cannot_be_written_are_named() {
    let folder = here();
    stripes(folder.path(), 6);
    std::fs::write(folder.path().join("file"), "in the way").unwrap();
    let output = cli(folder.path(), &train("file/run", "logistic", "1"));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write") && said.contains("file/run"), "{said}");
}

#[test]
fn arguments_that_make_no_sense_are_refused_with_the_rule() {
    let folder = here();
    let here = folder.path();
    refuses(
        here,
        &["models", "efficentnet"],
        &["no model is called 'efficentnet'", "did you mean 'efficientnet_"],
    );
    refuses(here, &["summary", "smal-cnn"], &["smal-cnn", "did you mean 'small-cnn'?"]);
    refuses(here, &["summary", "resnet"], &["logistic, small-cnn"]);
    refuses(here, &["summary", "small-cnn", "--input", "80x60"], &["HxWxC"]);
    refuses(here, &["summary", "small-cnn", "--input", "8x60x1"], &["8x60", "16x16"]);
    refuses(here, &["summary", "small-cnn", "--input", "80x60x2"], &["1 (gray) or 3 (RGB)"]);
    refuses(here, &["summary", "small-cnn", "--classes", "0"], &["at least 1"]);
    for (command, flag, rule) in [
        ("fine-tune", "--lr", "above 0"),
        ("tune", "--epochs", "at least 1"),
        ("predict", "--temperature", "above 0"),
    ] {
        refuses(here, &[command, flag, "-1"], &[rule, "'-1'"]);
    }
    refuses(here, &["summary", "small-cnn", "--device", "tpu"], &["cpu, cuda, metal"]);
    refuses(here, &["trian"], &["train"]);
    refuses(here, &["train", "--data", "nowhere", "--model", "logistic", "--out", "run"], &["nowhere"]);
    refuses(here, &["evaluate", "--run", "nowhere", "--data", "."], &["nowhere is not a run"]);
    refuses(here, &["dataset", "make", "--out", "drawn", "--scale", "2"], &["2"]);
    let mut args = train("run", "logistic", "1");
    args.extend(["--learning-rate", "-1"]);
    refuses(here, &args, &["above 0"]);
    assert!(!here.join("run").exists());
}

#[cfg(not(any(feature = "cuda", feature = "metal")))]
#[test]
fn a_device_that_is_not_built_in_says_how_to_build_it() {
    let folder = here();
    refuses(folder.path(), &["summary", "logistic", "--device", "cuda"], &["cargo xtask-cuda"]);
    refuses(folder.path(), &["summary", "logistic", "--device", "metal"], &["cargo xtask-metal"]);
}

#[test]
fn another_models_checkpoint_and_weights_are_refused() {
    let folder = here();
    let here = folder.path();
    stripes(here, 6);
    succeeds(here, &train("run", "logistic", "1"));
    refuses(
        here,
        &resumed(train("run", "small-cnn", "2")),
        &["network: logistic in run, small-cnn asked for"],
    );
    let config = std::fs::read_to_string(here.join("run/config.json")).unwrap();
    std::fs::write(here.join("run/config.json"), config.replace("logistic", "small-cnn")).unwrap();
    refuses(
        here,
        &["evaluate", "--run", "run", "--data", "stripes"],
        &["another network's weights", "conv1"],
    );
    std::fs::write(here.join("run/config.json"), "{").unwrap();
    refuses(here, &["evaluate", "--run", "run", "--data", "stripes"], &["config.json"]);
}

#[test]
fn a_checkpoint_of_other_images_is_refused() {
    let folder = here();
    let here = folder.path();
    let data = stripes(here, 6);
    succeeds(here, &train("run", "logistic", "1"));
    for split in ["Train", "Test"] {
        std::fs::rename(data.join(split).join("竖"), data.join(split).join("斜")).unwrap();
    }
    refuses(here, &resumed(train("run", "logistic", "2")), &["other images", "12 images moved or renamed"]);
    std::fs::remove_file(here.join("run/checkpoint/last.safetensors")).unwrap();
    refuses(here, &resumed(train("run", "logistic", "2")), &["no checkpoint"]);
}

#[test]
fn errors_say_each_cause_once() {
    let folder = here();
    let said = text(&cli(folder.path(), &["dataset", "stats", "nowhere"]).stderr);
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
}

#[test]
fn a_class_that_the_run_does_not_know_is_named_and_left_out() {
    let folder = here();
    let here = folder.path();
    let data = stripes(here, 6);
    succeeds(here, &train("run", "logistic", "1"));
    for split in ["Train", "Test"] {
        std::fs::rename(data.join(split).join("竖"), data.join(split).join("斜")).unwrap();
    }
    let output = cli(here, &["evaluate", "--run", "run", "--data", "stripes"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("left out 6 images of classes"), "{said}");
    assert!(said.contains("doesn't know: 斜 6"), "{said}");
}

#[test]
fn unsound_image_folders_are_refused_by_name() {
    let folder = here();
    let here = folder.path();
    let data = stripes(here, 6);
    let args = train("run", "logistic", "1");
    let bad = data.join("Train/横/bad.png");

    std::fs::write(&bad, "these are words, not pixels").unwrap();
    refuses(here, &args, &["bad.png"]);
    let whole = std::fs::read(data.join("Train/横/0.png")).unwrap();
    std::fs::write(&bad, &whole[..whole.len() / 2]).unwrap();
    refuses(here, &args, &["bad.png"]);
    std::fs::write(&bad, png_header(60_000, 60_000)).unwrap();
    refuses(here, &args, &["bad.png", "60"]);
    std::fs::remove_file(&bad).unwrap();

    GrayImage::from_pixel(1, 30, Luma([9])).save(data.join("Train/横/narrow.png")).unwrap();
    succeeds(here, &args);

    std::fs::create_dir(data.join("Train/空")).unwrap();
    refuses(here, &train("run2", "logistic", "1"), &["空"]);
    std::fs::remove_dir(data.join("Train/空")).unwrap();

    std::fs::create_dir(here.join("empty")).unwrap();
    refuses(here, &["dataset", "stats", "empty"], &["empty"]);
    std::fs::create_dir_all(here.join("one/only")).unwrap();
    std::fs::copy(data.join("Train/横/0.png"), here.join("one/only/0.png")).unwrap();
    refuses(
        here,
        &["train", "--data", "one", "--model", "logistic", "--input", "20x18x1", "--out", "r"],
        &["one"],
    );
}

#[cfg(unix)]
#[test]
fn a_loop_of_links_is_left_out_and_said() {
    let folder = here();
    let data = stripes(folder.path(), 6);
    std::os::unix::fs::symlink("loop", data.join("Train/loop")).unwrap();
    let output = cli(folder.path(), &train("run", "logistic", "1"));
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("1 broken link (loop)"), "{}", text(&output.stderr));
}

#[test]
fn stats_count_and_measure() {
    let folder = here();
    stripes(folder.path(), 6);
    std::fs::write(folder.path().join("stripes/Train/横/notes.txt"), "no image").unwrap();
    let stats = json(&succeeds(folder.path(), &["dataset", "stats", "stripes", "--json"]));
    assert_eq!(stats["classes"], serde_json::json!(["横", "竖"]));
    assert_eq!(stats["splits"][0]["per_class"], serde_json::json!([6, 6]));
    assert_eq!(stats["splits"][1]["split"], "test");
    assert_eq!(stats["splits"][0]["height"], serde_json::json!({"min": 20, "median": 20, "max": 20}));
    assert_eq!(stats["splits"][0]["width"]["max"], 18);
    assert!(stats["splits"][0]["skipped"][0]["path"].as_str().unwrap().ends_with("notes.txt"));
}

#[test]
fn the_characters_are_drawn_once_and_the_lecture_shows_them() {
    let folder = here();
    let here = folder.path();
    succeeds(here, &["dataset", "make", "--out", "drawn", "--scale", "0.02", "--seed", "5"]);
    let stats = json(&succeeds(here, &["dataset", "stats", "drawn", "--json"]));
    assert_eq!(stats["classes"].as_array().unwrap().len(), 55);
    succeeds(here, &["reproduce-lecture", "--data", "drawn", "--section", "data", "--out", "report"]);
    let report = std::fs::read_to_string(here.join("report/report.html")).unwrap();
    for word in
        ["The character data", "random_state=123", "虎", "<svg", "data:image/png;base64", "@font-face"]
    {
        assert!(report.contains(word), "the report lacks {word}");
    }
    for absent in ["http://", "https://"] {
        let links = report
            .match_indices(absent)
            .filter(|(i, _)| !report[*i..].starts_with("http://www.w3.org/"))
            .count();
        assert_eq!(links, 0, "the report reaches out to {absent}");
    }
    let metrics = json(&std::fs::read_to_string(here.join("report/metrics.json")).unwrap());
    assert_eq!(metrics["data"]["classes"], 55);
    assert_eq!(metrics["search"], Value::Null);
}

#[test]
fn images_and_convolutions_are_shown_without_any_data() {
    let folder = here();
    let here = folder.path();
    let sections = ["--section", "images", "--section", "convolution", "--out", "report"];
    let args = |photo: &[&'static str]| [&["reproduce-lecture"], &sections[..], photo].concat();
    succeeds(here, &args(&[]));
    let html = std::fs::read_to_string(here.join("report/report.html")).unwrap();
    for said in ["(16,\u{a0}16,\u{a0}3)", "0x80", "what conv2d computes", "a scene drawn by this program"] {
        assert!(html.contains(said), "{said}");
    }
    // 256 is 0 as uint8 and 128 is −128 as int8.
    assert!(html.contains(r#"<td class="n">0</td><td class="n">0</td></tr>"#) && html.contains("−128"));
    image::RgbImage::from_pixel(40, 90, image::Rgb([250, 240, 10])).save(here.join("mine.png")).unwrap();
    succeeds(here, &args(&["--photo", "mine.png"]));
    assert!(std::fs::read_to_string(here.join("report/report.html")).unwrap().contains("the photo mine.png"));
    refuses(here, &args(&["--photo", "none.png"]), &["none.png"]);
}

#[test]
fn training_images_are_augmented_as_the_run_says() {
    let folder = here();
    let here = folder.path();
    stripes(here, 12);
    let recipe = ["--augment", "characters", "--mixup", "0.2", "--label-smoothing", "0.1"];
    let with = |args: Vec<&'static str>| args.into_iter().chain(recipe).collect::<Vec<_>>();
    succeeds(here, &with(train("run", "small-cnn", "2")));
    let config = json(&std::fs::read_to_string(here.join("run/config.json")).unwrap());
    let expected =
        serde_json::json!({"changes": "characters", "mix": {"mixup": 0.2}, "label_smoothing": 0.1});
    assert_eq!(config["training"]["augmentation"], expected);
    // It goes on where it stopped, and only with the same changes.
    refuses(
        here,
        &resumed(train("run", "small-cnn", "4")),
        &["augmentation: characters, mixup 0.2", "no changes asked for"],
    );
    succeeds(here, &with(resumed(train("run", "small-cnn", "4"))));
    succeeds(here, &with(train("through", "small-cnn", "4")));
    let weights = |run: &str| std::fs::read(here.join(run).join("model.safetensors")).unwrap();
    assert!(weights("run") == weights("through"), "resuming changed the augmented images");
    let both = ["--mixup", "0.2", "--cutmix", "1"];
    let args: Vec<&str> = train("other", "small-cnn", "1").into_iter().chain(both).collect();
    refuses(here, &args, &["--mixup", "--cutmix"]);
    let args: Vec<&str> =
        train("other", "small-cnn", "1").into_iter().chain(["--label-smoothing", "1"]).collect();
    refuses(here, &args, &["below 1"]);
}

#[test]
fn what_augmentation_does_is_shown_and_measured() {
    let folder = here();
    let here = folder.path();
    stripes(here, 40);
    succeeds(
        here,
        &["reproduce-lecture", "--data", "stripes", "--section", "augmentation", "--out", "report"],
    );
    let html = std::fs::read_to_string(here.join("report/report.html")).unwrap();
    for said in ["crop, resized", "cutmix", "erasing, noise", "of the picture", "as they are"] {
        assert!(html.contains(said), "{said}");
    }
    let metrics = json(&std::fs::read_to_string(here.join("report/metrics.json")).unwrap());
    let figures = &metrics["augmentation"];
    assert_eq!(figures["with"]["epochs"], figures["without"]["epochs"]);
    assert!(figures["with"]["val"]["accuracy"].as_f64().unwrap() > 0.5);
    assert_ne!(figures["with"]["train"]["loss"], figures["without"]["train"]["loss"]);
}

#[test]
fn the_search_proposes_the_lectures_settings_and_rebuilds_its_winner() {
    let folder = here();
    let mut table =
        "MedInc,HouseAge,AveRooms,AveBedrms,Population,AveOccup,Latitude,Longitude,MedHouseVal\n".to_owned();
    for i in 0..300 {
        let v = |k: u32| f64::from(i * k % 97) / 10.0;
        let value = 0.5 + 0.3 * v(3) + 0.1 * v(5);
        table += &format!(
            "{},{},{},{},{},{},{},{},{value}\n",
            v(3),
            v(5),
            v(7),
            v(11),
            v(13),
            v(17),
            v(19),
            v(23)
        );
    }
    std::fs::write(folder.path().join("houses.csv"), &table).unwrap();
    let args = ["reproduce-lecture", "--section", "search", "--housing", "houses.csv"];
    succeeds(folder.path(), &args);
    let metrics = json(&std::fs::read_to_string(folder.path().join("report/metrics.json")).unwrap());
    let random = &metrics["search"]["random"];
    let neurons: Vec<u64> = random["trials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["params"]["neurons"].as_u64().unwrap())
        .collect();
    assert_eq!(neurons, [256, 64, 4, 128, 32, 32, 128, 16, 32, 16]);
    assert_eq!(random["trials"][0]["params"]["activation"], "relu");
    let rate = random["trials"][0]["params"]["lr"].as_f64().unwrap();
    assert!((rate / 0.000_485_686_500_205_128_66 - 1.0).abs() < 1e-14, "{rate}");
    let tpe = &metrics["search"]["tpe"];
    let first: Vec<&Value> = tpe["trials"].as_array().unwrap().iter().take(5).map(|t| &t["params"]).collect();
    assert_eq!(
        *first[0],
        serde_json::json!({"numHiddenLayers": 3, "neurons_0": 64, "neurons_1": 16, "neurons_2": 32})
    );
    assert_eq!(*first[4], serde_json::json!({"numHiddenLayers": 2, "neurons_0": 8, "neurons_1": 16}));
    let html = std::fs::read_to_string(folder.path().join("report/report.html")).unwrap();
    for said in [
        "Parallel coordinates of ",
        "trials over neurons_0, ",
        "Scatter plot of validation loss against neurons",
        "share of the variance for each of 3 parameter",
    ] {
        assert!(html.contains(said), "{said}");
    }
    for search in [random, tpe] {
        assert_eq!(search["rebuilt_value"], search["best_value"]);
    }

    std::fs::write(folder.path().join("houses.csv"), table.replace("AveOccup", "Occupancy")).unwrap();
    refuses(folder.path(), &args, &["houses.csv", "AveOccup"]);
    std::fs::write(folder.path().join("houses.csv"), table.replacen("0.5", "half", 1)).unwrap();
    refuses(folder.path(), &args, &["houses.csv", "half"]);
}

#[test]
fn tuning_finds_a_setting_and_its_journal_goes_on() {
    let folder = here();
    let here = folder.path();
    stripes(here, 12);
    let tune = |trials: &'static str| {
        let fixed = ["tune", "--data", "stripes", "--input", "20x18x1", "--epochs", "2", "--json"];
        let open =
            ["--model", "logistic", "--model", "small-cnn", "--storage", "study.log", "--trials", trials];
        json(&succeeds(here, &[&fixed[..], &open[..]].concat()))
    };
    let first = tune("2");
    assert_eq!(first["trials"].as_array().unwrap().len(), 2);
    let second = tune("4");
    let trials = second["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4);
    assert_eq!(trials[..2], first["trials"].as_array().unwrap()[..]);
    assert!(trials[2]["params"]["learning_rate"] != trials[0]["params"]["learning_rate"]);
    let best = second["best"]["value"].as_f64().unwrap();
    assert!(trials.iter().filter_map(|t| t["value"].as_f64()).all(|value| value <= best));
    let rate = second["best"]["params"]["learning_rate"].as_f64().unwrap();
    assert!((1e-4..=1e-2).contains(&rate));
    let other = ["tune", "--data", "stripes", "--input", "20x18x1", "--epochs", "2", "--model", "logistic"];
    refuses(
        here,
        &[&other[..], &["--storage", "study.log", "--trials", "5"]].concat(),
        &["another search", "small-cnn"],
    );
    for foreign in ["no journal\n", "no journal"] {
        std::fs::write(here.join("study.log"), foreign).unwrap();
        let args =
            ["tune", "--data", "stripes", "--model", "logistic", "--input", "20x18x1", "--trials", "1"];
        refuses(here, &[&args[..], &["--storage", "study.log"]].concat(), &["study.log", "line 1"]);
        assert_eq!(std::fs::read_to_string(here.join("study.log")).unwrap(), foreign);
    }
}

#[test]
fn tuning_by_two_workers_is_shown_as_a_page() {
    let folder = here();
    let here = folder.path();
    stripes(here, 12);
    let args = ["tune", "--data", "stripes", "--model", "logistic", "--input", "20x18x1", "--epochs", "2"];
    let open = ["--trials", "6", "--workers", "2", "--no-pruning", "--report", "search.html"];
    succeeds(here, &[&args[..], &open].concat());
    let html = std::fs::read_to_string(here.join("search.html")).unwrap();
    for said in [
        "6 complete, 0 pruned, 0 failed",
        "Parallel coordinates of 6 trials over batch_size, learning_rate and validation accuracy",
        "Scatter plot of validation accuracy against trial",
        "Scatter plot of validation accuracy against learning_rate",
    ] {
        assert!(html.contains(said), "{said}");
    }
}

/// The start of a PNG file that says it is `width` × `height`.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 0, 0, 0, 0]);
    let mut crc = !0u32;
    for byte in &chunk {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let mut bytes = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d".to_vec();
    bytes.extend(chunk);
    bytes.extend((!crc).to_be_bytes());
    bytes
}
