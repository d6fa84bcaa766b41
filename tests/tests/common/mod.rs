//! The command line as its users call it. Each test binary uses some of this.
#![allow(dead_code)]

pub(crate) mod browser;
pub(crate) mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::Device;
use firstsight_models::networks::MOBILENET_V2;
use firstsight_models::{ImageClassifier, InputShape, Params};
use image::{Rgb, RgbImage};
use serde_json::Value;

/// The command in `folder`, with its caches there.
pub(crate) fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstsight-tests"));
    command.current_dir(folder).args(args).arg("--cache").arg(folder.join("cache"));
    command.env_remove("RUST_BACKTRACE").env("HF_HOME", folder.join("huggingface"));
    command
}

pub(crate) fn cli(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it prints.
pub(crate) fn succeeds(folder: &Path, args: &[&str]) -> String {
    let output = cli(folder, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Asserts exit code 2, and that the error says each of `words` and is no panic.
pub(crate) fn refused(output: &Output, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("error: ") && !said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "should say {word:?}: {said}");
    }
}

/// Asserts that it is [`refused`].
pub(crate) fn refuses(folder: &Path, args: &[&str], words: &[&str]) {
    refused(&cli(folder, args), words);
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Photos of 40×32 pixels that are mostly red or mostly blue.
pub(crate) fn photos(folder: &Path, per_class: u32) {
    for (class, hue) in [("blue", 2), ("red", 0)] {
        let folder = folder.join("photos").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..per_class {
            let pixel = |x: u32, y: u32| {
                let mut rgb = [(x * 5 + i * 17) as u8 % 90, (y * 7 + i * 29) as u8 % 90, (x * y) as u8 % 90];
                rgb[hue] += 150;
                Rgb(rgb)
            };
            RgbImage::from_fn(40, 32, pixel).save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
}

/// A MobileNetV2 with random weights for a thousand classes, laid out as a hub repository.
pub(crate) fn weights(folder: &Path, architecture: &str) -> PathBuf {
    let folder = folder.join("weights");
    std::fs::create_dir_all(&folder).unwrap();
    let params = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    let kind = &MOBILENET_V2;
    ImageClassifier::new(kind, input, 1000, kind.init, &params).unwrap();
    params.save(&folder.join("model.safetensors")).unwrap();
    let config = serde_json::json!({
        "architecture": architecture, "num_classes": 1000,
        "pretrained_cfg": {"input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 0.875,
            "num_classes": 1000, "first_conv": "conv_stem", "classifier": "classifier"},
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder
}

/// A JSON document without what says when something was done, or how long it took; other bytes as they are.
pub(crate) fn timeless(bytes: &[u8]) -> Vec<u8> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(entries) => {
                let is_time =
                    |key: &str| ["seconds", "datetime", "duration"].iter().any(|time| key.contains(time));
                entries.retain(|key, _| !is_time(key));
                entries.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let Ok(whole) = serde_json::from_slice::<Value>(bytes) else { return bytes.to_vec() };
    let mut stripped = whole.clone();
    strip(&mut stripped);
    if stripped == whole { bytes.to_vec() } else { stripped.to_string().into_bytes() }
}

/// All files below a folder, but those of caches, by their names. Of pages, which state how long the work took, the names alone.
pub(crate) fn timeless_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn add(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() && name != "cache" && name != "huggingface" {
                add(root, &path, found);
            } else if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                let bytes = match name.rsplit_once('.') {
                    Some((_, "html")) => Vec::new(),
                    Some((_, "json")) => timeless(&bytes),
                    _ => bytes,
                };
                found.insert(name, bytes);
            }
        }
    }
    let mut found = BTreeMap::new();
    add(folder, folder, &mut found);
    found
}
