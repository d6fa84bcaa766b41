//! `export`: the file, its check, and what it says to bad input.

mod common;

use std::path::Path;

use candle_core::Device;
use firstsight_models::networks::MOBILENET_V2;
use firstsight_models::{ImageClassifier, InputShape, Params};
use image::{Rgb, RgbImage};

use common::{cli, command, refused, refuses, succeeds, text};

/// A folder with a MobileNetV2 of random weights for three classes, and photos.
fn scene(folder: &Path) {
    let run = folder.join("run");
    std::fs::create_dir_all(&run).unwrap();
    let params = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 48, width: 40 };
    ImageClassifier::new(&MOBILENET_V2, input, 3, MOBILENET_V2.init, &params).unwrap();
    params.save(&run.join("model.safetensors")).unwrap();
    let config = serde_json::json!({
        "architecture": "mobilenetv2_100", "label_names": ["ant", "bee", "cat"], "temperature": 1.5,
        "pretrained_cfg": {"input_size": [3, 48, 40], "interpolation": "bilinear", "crop_pct": 0.875},
    });
    std::fs::write(run.join("config.json"), config.to_string()).unwrap();
    std::fs::write(run.join("metrics.json"), r#"{"license": "Apache-2.0"}"#).unwrap();
    std::fs::create_dir(folder.join("photos")).unwrap();
    for i in 0..7u32 {
        let photo = RgbImage::from_fn(60, 50, |x, y| Rgb([(x * i) as u8, (y * 7) as u8, (x * y) as u8]));
        photo.save(folder.join(format!("photos/{i}.png"))).unwrap();
    }
    std::fs::write(folder.join("photos/broken.png"), b"\x89PNG\r\n").unwrap();
}

#[test]
fn a_run_is_exported_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    let said = succeeds(
        here,
        &["export", "run", "--onnx", "ants.onnx", "--calibration", "photos", "--calibration-images", "5"],
    );
    for part in [
        "ants.onnx: mobilenetv2_100 of 3 outputs",
        "takes images (batch, 48, 40, 3) uint8, gives probabilities (batch, 3) float32",
        "resized to just cover 54 x 45, bilinear, and cut to 48 x 40 in its center, RGB",
        "ants.calibration.npy: 5 photos",
    ] {
        assert!(said.contains(part), "should say {part:?}: {said}");
    }
    let npy = std::fs::read(here.join("ants.calibration.npy")).unwrap();
    assert!(npy.starts_with(b"\x93NUMPY\x01\x00"));
    let header = String::from_utf8_lossy(&npy[10..npy.len() - 5 * 48 * 40 * 3]).into_owned();
    assert!(
        header.starts_with("{'descr': '|u1', 'fortran_order': False, 'shape': (5, 48, 40, 3), }"),
        "{header}"
    );
    assert!(header.ends_with('\n') && (10 + header.len()).is_multiple_of(64));

    let said = succeeds(here, &["export", "--check", "ants.onnx"]);
    for part in [
        r#"label_names: ["ant","bee","cat"]"#,
        "temperature: 1.5",
        "license: Apache-2.0",
        "ants.onnx: its own images have the outputs",
    ] {
        assert!(said.contains(part), "should say {part:?}: {said}");
    }
    let said = succeeds(
        here,
        &["export", "run", "--onnx", "logits.onnx", "--input", "float32", "--output", "logits"],
    );
    assert!(
        said.contains("takes images (batch, 3, 48, 40) float32, gives logits (batch, 3) float32"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_exported_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    refuses(here, &["export", "nowhere", "--onnx", "x.onnx"], &["nowhere"]);
    refuses(here, &["export", "run"], &["--onnx"]);
    refuses(here, &["export", "--onnx", "x.onnx"], &["RUN"]);
    let weights = std::fs::read(here.join("run/model.safetensors")).unwrap();
    refuses(
        here,
        &["export", "run", "--onnx", "run/model.safetensors"],
        &["run/model.safetensors", "another file"],
    );
    assert_eq!(std::fs::read(here.join("run/model.safetensors")).unwrap(), weights);
    refuses(here, &["export", "run", "--onnx", "photos"], &["photos is no regular file"]);
    refuses(here, &["export", "run", "--onnx", "x.onnx", "--dry-run", "card"], &["--hub"]);
    refuses(here, &["export", "run", "--hub", "me/x y", "--dry-run", "card"], &["owner/name"]);
    let output = cli(here, &["export", "run", "--onnx", "run/config.json/x.onnx"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write run/config.json"));
    refuses(
        here,
        &["export", "--check", "run/model.safetensors"],
        &["run/model.safetensors", "expected an ONNX file"],
    );
    refuses(here, &["export", "--check", "nothing.onnx"], &["cannot read nothing.onnx"]);
    refuses(here, &["export", "run", "--onnx", "x.onnx", "--calibration", "nowhere"], &["nowhere"]);
    refuses(here, &["export", "run", "--onnx", "x.onnx", "--input", "uint7"], &["uint8-nhwc"]);
    // What would be ignored.
    for flag in [["--input", "float32"], ["--output", "logits"]] {
        let args = ["export", "run", "--hub", "me/ants", "--dry-run", "card"];
        refuses(here, &[&args[..], &flag].concat(), &["--onnx"]);
    }
    refuses(here, &["export", "--check", "x.onnx", "--dry-run", "card"], &["--dry-run"]);
    // Both files are tried before the work.
    std::fs::create_dir(here.join("x.calibration.npy")).unwrap();
    let calibration = ["export", "run", "--onnx", "x.onnx", "--calibration", "photos"];
    refuses(here, &calibration, &["x.calibration.npy is no regular file"]);
    std::fs::write(here.join("y.calibration.npy"), "photos").unwrap();
    refuses(
        here,
        &["export", "run", "--onnx", "y.onnx", "--calibration", "y.calibration.npy"],
        &["y.calibration.npy is read by this command"],
    );
    assert!(!here.join("x.onnx").exists() && !here.join("y.onnx").exists() && !here.join("card").exists());
}

#[test]
fn a_run_for_the_hub_is_written_to_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    let config = serde_json::json!({
        "architecture": "mobilenetv2_100", "label_names": ["ant", "bee | <b>", "cat"], "temperature": 1.5,
        "data": {"images": "/home/me/secret"},
        "pretrained_cfg": {"input_size": [3, 48, 40], "interpolation": "bilinear", "crop_pct": 0.875},
    });
    std::fs::write(here.join("run/config.json"), config.to_string()).unwrap();
    let metrics = serde_json::json!({
        "preset": "quick", "weights": "timm/mobilenetv2_100.ra_in1k on the hub", "license": "Apache-2.0", "epochs": 0, "best_epoch": null,
        "kept": "last layer",
        "val": {
            "accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "n": 60, "macro_f1": 0.88,
            "per_class": [{"n": 20, "precision": 0.875, "recall": 1.0}],
        },
        "test": null,
    });
    std::fs::write(here.join("run/metrics.json"), metrics.to_string()).unwrap();
    let args = ["export", "run", "--hub", "me/ants", "--dry-run", "out", "--onnx", "ants.onnx"];
    let said = succeeds(here, &args);
    assert!(
        said.contains(
            "out has what me/ants would get: README.md, config.json, model.safetensors, model.onnx"
        ),
        "{said}"
    );
    let read = |name: &str| std::fs::read(here.join(name)).unwrap();
    assert_eq!(read("out/model.safetensors"), read("run/model.safetensors"));
    assert_eq!(read("out/model.onnx"), read("ants.onnx"));
    let config = String::from_utf8(read("out/config.json")).unwrap();
    assert!(config.contains("label_names") && !config.contains("secret"), "{config}");
    let card = String::from_utf8(read("out/README.md")).unwrap();
    for part in [
        "---\n",
        "library_name: \"timm\"",
        "license: \"apache-2.0\"",
        "base_model: \"timm/mobilenetv2_100.ra_in1k\"",
        "# ants",
        "says which of 3 classes an image shows",
        "| ant | 20 | 0.875 | 1.000 |",
        r"| bee \| &lt;b&gt; | – | – | – |",
        "Measured on 60 validation images, which played no part in training",
        "| accuracy | 0.9000 | 0.8000 to 0.9500 |",
        "softmax(z / 1.5000)",
        "firstsight predict --pretrained me/ants photo.jpg",
        "hf-hub:me/ants",
        "`model.onnx`",
    ] {
        assert!(card.contains(part), "should say {part:?}: {card}");
    }
    let mut metrics = metrics;
    metrics["epochs"] = 6.into();
    metrics["weights"] = "weights/mobilenetv2".into();
    std::fs::write(here.join("run/metrics.json"), metrics.to_string()).unwrap();
    succeeds(here, &["export", "run", "--hub", "me/ants", "--dry-run", "tuned"]);
    let card = std::fs::read_to_string(here.join("tuned/README.md")).unwrap();
    assert!(card.contains("validation images, which chose the epoch that is kept"), "{card}");
    assert!(card.contains("fine-tuned from pretrained weights") && !card.contains("base_model"), "{card}");
    assert!(!card.contains("weights/mobilenetv2"), "the name of a folder here: {card}");
    for (fields, sentences) in [
        (
            serde_json::json!({"problem_type": "multi_label_classification", "thresholds": [0.25, 0.5, 0.75]}),
            &[
                "says which of 3 labels an image has",
                "| label | validation images |",
                "| ant | 20 | 0.875 | 1.000 |",
                "They chose the labels' thresholds",
                "outputs.sigmoid()",
            ][..],
        ),
        (
            serde_json::json!({
                "problem_type": "regression", "num_classes": 1, "label_names": ["cost"], "target_mean": 2.5, "target_std": 0.125,
            }),
            &["estimates a number", "print(outputs.item() * 0.125 + 2.5)"],
        ),
    ] {
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        for (key, value) in fields.as_object().unwrap() {
            config[key] = value.clone();
        }
        let mut metrics = metrics.clone();
        metrics["epochs"] = 0.into();
        metrics["val"] = serde_json::json!({
            "exact_match": 0.5, "n": 60, "per_label": [{"n": 20, "precision": 0.875, "recall": 1.0}],
        });
        config.as_object_mut().unwrap().remove("temperature");
        if config["num_classes"] == 1 {
            let params = Params::seeded(5, &Device::Cpu);
            let input = InputShape::Map { channels: 3, height: 48, width: 40 };
            ImageClassifier::new(&MOBILENET_V2, input, 1, MOBILENET_V2.init, &params).unwrap();
            params.save(&here.join("run/model.safetensors")).unwrap();
        }
        std::fs::write(here.join("run/config.json"), config.to_string()).unwrap();
        std::fs::write(here.join("run/metrics.json"), metrics.to_string()).unwrap();
        succeeds(here, &["export", "run", "--hub", "me/ants", "--dry-run", "task"]);
        let card = std::fs::read_to_string(here.join("task/README.md")).unwrap();
        for part in sentences {
            assert!(card.contains(part), "should say {part:?}: {card}");
        }
        assert!(!card.contains("softmax") && !card.contains("temperature"), "{card}");
    }
    let output =
        command(here, &["export", "run", "--hub", "me/ants"]).env_remove("HF_TOKEN").output().unwrap();
    refused(&output, &["me/ants", "HF_TOKEN"]);
    refuses(here, &["export", "run", "--hub", "ants"], &["owner/name"]);
}
