//! `predict --pretrained`: what it says of photos, beside torchvision where the weights are to be had, and what it says
//! to weights that are no weights.

mod common;

use std::path::{Path, PathBuf};

use candle_core::Device;
use firstsight_models::networks::{MOBILENET_V2, XCEPTION};
use firstsight_models::{ImageClassifier, InputShape, Params};
use image::{Rgb, RgbImage};
use serde_json::Value;

use common::{cli, command, photos, refuses, succeeds, text};

/// A MobileNetV2 with random weights for `n_classes` in `folder`/weights, and a photo.
fn scene(folder: &Path, n_classes: usize, config: &Value) {
    let weights = folder.join("weights");
    std::fs::create_dir_all(&weights).unwrap();
    let params = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    let kind = &MOBILENET_V2;
    ImageClassifier::new(kind, input, n_classes, kind.init, &params).unwrap();
    params.save(&weights.join("model.safetensors")).unwrap();
    std::fs::write(weights.join("config.json"), config.to_string()).unwrap();
    let pixel = |x: u32, y: u32| Rgb([(x * 5) as u8, (y * 7) as u8, (x * y) as u8]);
    RgbImage::from_fn(50, 40, pixel).save(folder.join("photo.png")).unwrap();
}

fn config(n_classes: usize, more: &Value) -> Value {
    let mut config = serde_json::json!({
        "architecture": "mobilenetv2_100", "num_classes": n_classes,
        "pretrained_cfg": {"input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 0.875},
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

const PREDICT: [&str; 6] = ["predict", "--pretrained", "mobilenet-v2", "--weights", "weights", "--json"];

fn predict<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&PREDICT, more].concat()
}

/// The labels of the best five.
fn labels(folder: &Path, more: &[&str]) -> Vec<String> {
    let said: Value = serde_json::from_str(&succeeds(folder, &predict(more))).unwrap();
    let [image] = said.as_array().unwrap().as_slice() else { panic!("{said}") };
    assert_eq!(image["image"], "photo.png");
    let guesses = image["predictions"].as_array().unwrap();
    let probability = |g: &Value| g["probability"].as_f64().unwrap();
    assert!(guesses.windows(2).all(|pair| probability(&pair[0]) >= probability(&pair[1])));
    guesses.iter().map(|guess| guess["label"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn classes_are_named_by_the_weights_or_a_file_or_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here, 3, &config(3, &serde_json::json!({"label_names": ["ant", "bee", "cat"]})));
    let mut named = labels(here, &["photo.png"]);
    named.sort();
    assert_eq!(named, ["ant", "bee", "cat"]);
    std::fs::write(here.join("names.txt"), "Ameise\nBiene\nKatze\n").unwrap();
    let mut german = labels(here, &["--labels", "names.txt", "photo.png"]);
    german.sort();
    assert_eq!(german, ["Ameise", "Biene", "Katze"]);
    std::fs::write(here.join("names.txt"), "Ameise\n").unwrap();
    refuses(here, &predict(&["--labels", "names.txt", "photo.png"]), &["names.txt", "1 classes", "3"]);
    std::fs::write(here.join("weights/config.json"), config(3, &serde_json::json!({})).to_string()).unwrap();
    let mut places = labels(here, &["photo.png"]);
    places.sort();
    assert_eq!(places, ["class 0", "class 1", "class 2"]);
    let stated = config(3, &serde_json::json!({"tag": "tv_in1k", "num_classes": null}));
    std::fs::write(here.join("weights/config.json"), stated.to_string()).unwrap();
    assert!(labels(here, &["photo.png"])[0].starts_with("class "), "three classes are not ImageNet's");
}

#[cfg(unix)]
#[test]
fn ctrl_c_closes_the_document() {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::{Command, Stdio};

    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here, 3, &config(3, &serde_json::json!({})));
    let args = [&PREDICT[..], &["photo.png"; 20_000]].concat();
    let mut child = command(here, &args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut document = String::new();
    for _ in 0..3 {
        output.read_line(&mut document).unwrap();
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    output.read_to_string(&mut document).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let rows: Value = serde_json::from_str(&document).unwrap();
    let n = rows.as_array().unwrap().len();
    assert!((1..20_000).contains(&n), "{n}");
}

#[test]
fn a_file_of_rows_is_gone_on_with_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 15);
    let train =
        ["train", "photos", "--model", "small-cnn", "--input", "16x16x3", "--epochs", "1", "--out", "run"];
    succeeds(here, &train);
    std::fs::write(here.join("bad, \"bad\".png"), "text").unwrap();
    // More than two batches of 128.
    let three = ["photos/red/3.png", "photos/blue/7.png", "bad, \"bad\".png"];
    let images: Vec<&str> = (0..300).map(|i| three[i % 7 / 3]).collect();
    let predict =
        |flags: &[&str], images: &[&str]| cli(here, &[&["predict", "--run", "run"], flags, images].concat());
    let refused = |flags: &[&str], images: &[&str], word: &str| {
        let (output, before) = (predict(flags, images), std::fs::read(here.join("rows")).unwrap());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(word) && !said.contains("panicked"), "{word}: {said}");
        assert_eq!(std::fs::read(here.join("rows")).unwrap(), before);
    };
    for flag in ["--csv", "--jsonl"] {
        let file = format!("{flag}=rows");
        let printed = predict(&[flag], &images);
        assert_eq!(printed.status.code(), Some(1), "some cannot be read");
        let whole = printed.stdout;
        let rows = || std::fs::read(here.join("rows")).unwrap();
        assert_eq!(predict(&[&file], &images).status.code(), Some(1));
        assert!(rows() == whole);
        let ends: Vec<usize> = (0..whole.len()).filter(|&i| whole[i] == b'\n').map(|i| i + 1).collect();
        // In the header or first row, within rows and at their ends, at the ends of batches, and when all is there.
        let cuts =
            [0, 7, ends[0], ends[1] + 3, ends[127], ends[128] - 1, ends[128], ends[250] + 20, whole.len()];
        for cut in cuts {
            std::fs::write(here.join("rows"), &whole[..cut]).unwrap();
            let output = predict(&[&file, "--resume"], &images);
            assert_eq!(output.status.code(), Some(1), "{flag} {cut}: {}", text(&output.stderr));
            assert!(rows() == whole, "{flag} {cut}");
        }
        std::fs::remove_file(here.join("rows")).unwrap();
        predict(&[&file, "--resume"], &images);
        assert!(rows() == whole);
        refused(&[&file, "--resume"], &images[1..], "row 3 is of");
        refused(&[&file, "--resume"], &images[..9], "row 10 is of");
        refused(&[&file, "--resume", "--temperature", "3"], &images[..300], "its last row is");
    }
    let csv = ["--csv=rows", "--resume"];
    refused(&csv, &images, "expected the columns image,label_1");
    refused(&["--jsonl", "--resume"], &images, "--csv=FILE or --jsonl=FILE");
    refused(&["--csv"], &["new.csv", three[0]], "--csv=new.csv");
    predict(&["--csv=rows"], &images[..3]);
    refused(
        &[&csv[..], &["--top", "1"]].concat(),
        &images,
        "expected the columns image,label_1,probability_1,error",
    );
}

#[test]
fn imagenets_classes_have_names() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here, 1000, &config(1000, &serde_json::json!({"tag": "ra_in1k"})));
    let said = labels(here, &["--top", "1000", "photo.png"]);
    assert_eq!(said.len(), 1000);
    assert!(
        said.contains(&"tench".to_owned()) && said.contains(&"toilet tissue".to_owned()),
        "{:?}",
        &said[..5]
    );
}

#[test]
fn bad_weights_and_arguments_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here, 3, &config(3, &serde_json::json!({})));
    refuses(here, &predict(&["none.png"]), &["none.png"]);
    refuses(here, &["predict", "photo.png"], &["--run"]);
    refuses(here, &["predict", "--run", "weights", "--weights", "weights", "photo.png"], &["--weights"]);
    refuses(here, &["predict", "--pretrained", "mobilenet", "photo.png"], &["mobilenet-v2"]);
    refuses(here, &["predict", "--pretrained", "lenet5", "photo.png"], &["lenet5", "published"]);
    let xception = ["predict", "--pretrained", "xception", "--weights", "weights", "photo.png"];
    refuses(here, &xception, &["config.json", "mobilenetv2_100", "legacy_xception"]);
    std::fs::remove_file(here.join("weights/config.json")).unwrap();
    refuses(
        here,
        &xception,
        &[
            "model.safetensors",
            "another network's weights",
            "missing (first: block1",
            "unexpected (first: blocks.0",
        ],
    );

    let path = here.join("weights/model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let mut longer = whole.clone();
    longer.push(0);
    let mut lying = whole.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let unsound = "not a sound safetensors file";
    for (bytes, reason) in [
        (whole[..whole.len() / 2].to_vec(), unsound),
        (whole[..100].to_vec(), unsound),
        (longer, unsound),
        (lying, unsound),
        (Vec::new(), "is an empty file"),
        (b"<!doctype html> Not found".to_vec(), "is a web page"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        refuses(here, &predict(&["photo.png"]), &["model.safetensors", reason]);
    }
    std::fs::write(&path, &whole).unwrap();
    let small = serde_json::json!({"architecture": "xception", "pretrained_cfg": {"input_size": [3, 6, 6]}});
    let other = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 96, width: 96 };
    ImageClassifier::new(&XCEPTION, input, 3, XCEPTION.init, &other).unwrap();
    other.save(&path).unwrap();
    std::fs::write(here.join("weights/config.json"), small.to_string()).unwrap();
    let smallest = XCEPTION.smallest_input;
    refuses(here, &xception, &["xception", "6x6", &format!("{smallest}x{smallest}")]);
}

/// The folder of weights and photos beside the checkout.
fn shared() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf();
    let named = std::env::var_os("FIRSTSIGHT_SHARED").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| root.parent().unwrap().join("shared"));
    let photos = folder.join("weights/imagenet-samples");
    if !photos.is_dir() {
        println!("skipped: {} is not there", photos.display());
        return None;
    }
    Some(folder.join("weights"))
}

#[test]
fn photos_are_what_torchvision_says_they_are() {
    let Some(weights) = shared() else { return };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/imagenet_predictions.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    let golden = golden.as_object().unwrap();
    let folder = weights.join("mobilenetv2_100.tv_in1k");
    let photos: Vec<String> =
        golden.keys().map(|name| weights.join("imagenet-samples").join(name).display().to_string()).collect();
    let fixed = ["predict", "--pretrained", "mobilenet-v2", "--json", "--weights", folder.to_str().unwrap()];
    let fixed = fixed.into_iter().chain(["--reading", "pillow"]);
    let args: Vec<&str> = fixed.chain(photos.iter().map(String::as_str)).collect();
    let elsewhere = tempfile::tempdir().unwrap();
    let said: Value = serde_json::from_str(&succeeds(elsewhere.path(), &args)).unwrap();
    let mut farthest = 0f64;
    for (ours, (name, theirs)) in said.as_array().unwrap().iter().zip(golden) {
        let ours = ours["predictions"].as_array().unwrap();
        let theirs = theirs.as_array().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            assert_eq!(a["index"], b[0], "{name}: {ours:?} against {theirs:?}");
            farthest = farthest.max((a["probability"].as_f64().unwrap() - b[1].as_f64().unwrap()).abs());
        }
    }
    println!("{} photos: probabilities at most {farthest:.1e} off", golden.len());
    assert!(golden.len() == 100 && farthest < 1e-5, "{farthest}");
}
