//! `visualize` and the lecture's section on features: the pictures, the page, and what they say to bad input.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use candle_core::Device;
use firstsight_models::networks::MOBILENET_V2;
use firstsight_models::{ImageClassifier, InputShape, Params};
use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;

use common::{command, refused, succeeds};

/// A MobileNetV2 with random weights for three classes, and a photo.
fn scene(folder: &Path) {
    let weights = folder.join("weights");
    std::fs::create_dir_all(&weights).unwrap();
    let params = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 48, width: 48 };
    let kind = &MOBILENET_V2;
    ImageClassifier::new(kind, input, 3, kind.init, &params).unwrap();
    params.save(&weights.join("model.safetensors")).unwrap();
    let config = serde_json::json!({
        "architecture": "mobilenetv2_100", "label_names": ["ant", "bee", "cat"],
        "pretrained_cfg": {"input_size": [3, 48, 48], "interpolation": "bilinear", "crop_pct": 0.875},
    });
    std::fs::write(weights.join("config.json"), config.to_string()).unwrap();
    let pixel = |x: u32, y: u32| Rgb([(x * 5) as u8, (y * 7) as u8, (x * y) as u8]);
    RgbImage::from_fn(60, 50, pixel).save(folder.join("photo.png")).unwrap();
}

const VISUALIZE: [&str; 5] = ["visualize", "--pretrained", "mobilenet-v2", "--weights", "weights"];

fn visualize<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&VISUALIZE, more].concat()
}

#[test]
fn a_pretrained_networks_pictures_and_page_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    let layers = ["--layer", "blocks.1.0", "--layer", "classifier", "--channel", "0", "--channel", "2"];
    let args = [&layers[..], &["--image", "photo.png", "--steps", "30", "--json", "--out", "seen"]].concat();
    let said: Value = serde_json::from_str(&succeeds(here, &visualize(&args))).unwrap();
    let drawn = said.as_array().unwrap();
    assert_eq!(drawn.len(), 4);
    for picture in drawn {
        let number = |key: &str| picture[key].as_f64().unwrap();
        assert!(number("reached") > number("start"), "{picture}");
        let file = image::open(here.join(picture["file"].as_str().unwrap())).unwrap();
        assert_eq!((file.width(), file.height()), (48, 48));
    }
    assert_eq!(drawn[3]["file"], "seen/classifier-2.png");
    let page = std::fs::read_to_string(here.join("seen/report.html")).unwrap();
    for word in ["blocks.1.0", "kernels of the first convolution", "Grad-CAM", "photo.png", "cat"] {
        assert!(page.contains(word), "the page lacks {word}");
    }
    assert!(std::fs::read_dir(here.join("seen/pictures")).unwrap().count() >= 4);
    // The same seed draws the same bytes.
    let file = |folder: &str| std::fs::read(here.join(folder).join("classifier-2.png")).unwrap();
    let again = [&layers[..], &["--steps", "30", "--out", "again"]].concat();
    succeeds(here, &visualize(&again));
    assert!(file("seen") == file("again"));
    let pixels =
        ["--painting", "pixels", "--total-variation", "1", "--side", "32", "--steps", "5", "--out", "small"];
    succeeds(here, &visualize(&pixels));
    assert_eq!(image::open(here.join("small/bn1-0.png")).unwrap().width(), 32);
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    let run = |more: &[&str]| command(here, &visualize(more)).output().unwrap();
    refused(&run(&["--layer", "blocks.9.0"]), &["blocks.9.0", "bn1", "blocks.6.0", "classifier"]);
    refused(&run(&["--layer", "bn1", "--channel", "32"]), &["bn1", "32", "0 to 31"]);
    refused(&run(&["--side", "5000"]), &["--side", "1024"]);
    refused(&run(&["--total-variation", "-1", "--steps", "1"]), &["total_variation", "-1"]);
    let missing = ["--image", "none.png", "--layer", "bn1", "--steps", "1", "--out", "none"];
    refused(&run(&missing), &["none.png"]);
    assert!(!here.join("none").exists(), "the image is read before anything is drawn");
    refused(&command(here, &["visualize", "--run", "nothing"]).output().unwrap(), &["nothing"]);
}

#[test]
fn activations_that_are_no_numbers_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    let path = here.join("weights/model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    // Features of about one, whose sum overflows.
    for (name, value) in [("bn2.bias", 1.0), ("classifier.weight", 3e38f32)] {
        let shape = tensors[name].shape().clone();
        tensors.insert(name.to_owned(), candle_core::Tensor::full(value, shape, &Device::Cpu).unwrap());
    }
    std::fs::write(path, safetensors::serialize(&tensors, None).unwrap()).unwrap();
    let steps = ["--channel", "0", "--steps", "1"];
    let args = visualize(&[&["--layer", "classifier"], &steps[..]].concat());
    refused(&command(here, &args).output().unwrap(), &["channel 0 of classifier"]);
    let args = visualize(&[&["--layer", "bn1", "--image", "photo.png"], &steps[..]].concat());
    refused(&command(here, &args).output().unwrap(), &["the network says", "photo.png"]);
}

/// Two classes of striped images of another network's size, an own run, the section.
#[test]
fn the_lectures_section_shows_its_cnn_and_a_run_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    for (split, seed) in [("Train", 0), ("Test", 1000)] {
        for (class, down) in [("a", true), ("b", false)] {
            let folder = here.join("stripes").join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..12u32 {
                let gray = |x: u32, y: u32| {
                    let place = if down { y } else { x } + i;
                    let noise = (x * 7 + y * 13 + (i + seed) * 31) % 90;
                    Luma([if place.is_multiple_of(4) { 160 + noise as u8 } else { noise as u8 }])
                };
                GrayImage::from_fn(18, 20, gray).save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    let args = [
        "reproduce-lecture",
        "--quick",
        "--data",
        "stripes",
        "--section",
        "features",
        "--weights",
        "weights",
    ];
    succeeds(here, &args);
    let page = std::fs::read_to_string(here.join("report/report.html")).unwrap();
    for word in [
        "What the layers learn",
        "The CNN of section 8",
        "conv3",
        "A network for photos",
        "MobileNetV2 with the weights of weights",
        "a scene drawn by this program",
    ] {
        assert!(page.contains(word), "the page lacks {word}");
    }
    let args = ["visualize", "--run", "report/runs/small-cnn", "--steps", "10", "--image", "photo.png"];
    succeeds(here, &args);
    assert!(here.join("visualize/conv1-0.png").is_file());
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_the_finished_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    let args = ["--layer", "bn1", "--layer", "bn2", "--channel", "1", "--steps", "100000", "--out", "seen"];
    let quick = ["--layer", "bn1", "--channel", "1", "--steps", "3", "--out", "seen"];
    succeeds(here, &visualize(&quick));
    let finished = std::fs::read(here.join("seen/bn1-1.png")).unwrap();
    let mut child = command(here, &visualize(&args)).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(finished == std::fs::read(here.join("seen/bn1-1.png")).unwrap());
    assert!(here.join("seen/report.html").is_file());
}
