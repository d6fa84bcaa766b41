//! Weights as people have them, by the commands that take weights.

mod common;
#[allow(dead_code)]
#[path = "../../crates/transfer/tests/hub/server.rs"]
mod server;
#[path = "../../crates/transfer/tests/hub/tls.rs"]
mod tls;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use firstsight_models::networks::MOBILENET_V2;
use firstsight_models::{ImageClassifier, InputShape, Params};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use common::{cli, command, refused, refuses, succeeds, text};

/// A MobileNetV2 with random weights for three classes in `weights`, a photo, and a folder of photos.
fn scene() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir(here.join("weights")).unwrap();
    let params = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    ImageClassifier::new(&MOBILENET_V2, input, 3, MOBILENET_V2.init, &params).unwrap();
    params.save(&here.join("weights/model.safetensors")).unwrap();
    let config = json!({
        "architecture": "mobilenetv2_100", "num_classes": 3, "label_names": ["ant", "bee", "cat"],
        "pretrained_cfg": {"input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 0.875},
    });
    std::fs::write(here.join("weights/config.json"), config.to_string()).unwrap();
    let photo = |seed: u32| {
        RgbImage::from_fn(50, 40, |x, y| Rgb([(x * 5 + seed) as u8, (y * 7) as u8, (x * y + seed) as u8]))
    };
    photo(0).save(here.join("photo.png")).unwrap();
    for (class, shift) in [("ants", 0), ("bees", 120)] {
        std::fs::create_dir_all(here.join("photos").join(class)).unwrap();
        for i in 0..6 {
            photo(shift + i).save(here.join("photos").join(class).join(format!("{i}.png"))).unwrap();
        }
    }
    folder
}

fn tensors(here: &Path) -> BTreeMap<String, Tensor> {
    let tensors = candle_core::safetensors::load(here.join("weights/model.safetensors"), &Device::Cpu);
    tensors.unwrap().into_iter().collect()
}

/// A copy of `weights` with other tensors.
fn write(here: &Path, name: &str, tensors: &BTreeMap<String, Tensor>) {
    std::fs::create_dir_all(here.join(name)).unwrap();
    std::fs::copy(here.join("weights/config.json"), here.join(name).join("config.json")).unwrap();
    let bytes = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(here.join(name).join("model.safetensors"), bytes).unwrap();
}

fn predict(weights: &str) -> [&str; 7] {
    ["predict", "--pretrained", "mobilenet-v2", "--weights", weights, "--json", "photo.png"]
}

#[test]
fn prefixes_and_torchvisions_names_predict_the_same_and_are_said() {
    let folder = scene();
    let here = folder.path();
    let saved = tensors(here);
    let expected = succeeds(here, &predict("weights"));
    let theirs: BTreeMap<String, String> =
        (MOBILENET_V2.other_names[0].layers)().into_iter().map(|(theirs, ours)| (ours, theirs)).collect();
    for (folder, word) in
        [("module", "`module.`"), ("timm_model", "`timm_model.`"), ("torchvision", "torchvision")]
    {
        let rename = |name: &str| {
            let (layer, variable) = name.rsplit_once('.').unwrap();
            match folder {
                "torchvision" => format!("{}.{variable}", theirs[layer]),
                prefix => format!("{prefix}.{name}"),
            }
        };
        write(here, folder, &saved.iter().map(|(name, t)| (rename(name), t.clone())).collect());
        let output = cli(here, &predict(folder));
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), expected, "{folder}");
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
        // As a run, too.
        let output = cli(here, &["predict", "--run", folder, "--json", "photo.png"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    }
}

#[test]
fn weights_without_a_configuration_say_what_is_assumed() {
    let folder = scene();
    let here = folder.path();
    std::fs::create_dir(here.join("bare")).unwrap();
    std::fs::copy(here.join("weights/model.safetensors"), here.join("bare/model.safetensors")).unwrap();
    let words = ["there is no config.json", "224x224x3, bicubic, center 0.875, mean [0.485", "std [0.229"];
    let fine_tune = ["fine-tune", "photos", "--backbone", "mobilenet-v2", "--weights", "bare"];
    let quick = ["--preset", "quick", "--input", "32x32x3", "--crop", "squash", "--out", "run"];
    for args in [&predict("bare")[..], &[&fine_tune[..], &quick].concat()] {
        let output = cli(here, args);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(said.contains("its 3 classes have no names"), "{said}");
    }
    assert!(!text(&cli(here, &predict("weights")).stderr).contains("config.json"));
}

#[test]
fn values_that_are_no_numbers_are_refused_by_every_command() {
    let folder = scene();
    let here = folder.path();
    let mut saved = tensors(here);
    let n = saved["conv_head.weight"].elem_count();
    let mut values = vec![0.5f32; n];
    values[5] = f32::NAN;
    let shape = saved["conv_head.weight"].shape().clone();
    saved.insert("conv_head.weight".to_owned(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    write(here, "nan", &saved);
    let words = ["nan/model.safetensors", "conv_head.weight holds 1 NaN"];
    refuses(here, &predict("nan"), &words);
    refuses(here, &["predict", "--run", "nan", "photo.png"], &words);
    refuses(here, &["evaluate", "nan", "photos"], &words);
    let quick = ["fine-tune", "photos", "--weights", "nan", "--preset", "quick", "--out", "run"];
    refuses(here, &quick, &words);
    assert!(!here.join("run").exists());
    refuses(here, &["visualize", "--pretrained", "mobilenet-v2", "--weights", "nan"], &words);
}

#[test]
fn a_checkpoint_with_values_that_are_no_numbers_is_refused() {
    let folder = scene();
    let here = folder.path();
    let train = |more: &[&'static str]| {
        let fixed = ["train", "photos", "--model", "logistic", "--input", "16x16x1", "--batch-size", "4"];
        [&fixed[..], &["--out", "run"], more].concat()
    };
    succeeds(here, &train(&["--epochs", "1"]));
    let path = here.join("run/checkpoint/last.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let entries: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let place = entries["model.dense.bias"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[8 + header + place..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let more = train(&["--epochs", "2", "--resume"]);
    let said = text(&cli(here, &more).stderr);
    // Someone has made the checksum fit.
    let (_, sums) = said.split_once("its checksum is ").unwrap_or_else(|| panic!("{said}"));
    let (found, stated) = (&sums[..8], &sums[sums.find("states ").unwrap() + 7..][..8]);
    let at = bytes.windows(8).position(|digits| digits == stated.as_bytes()).unwrap();
    bytes[at..at + 8].copy_from_slice(found.as_bytes());
    std::fs::write(&path, bytes).unwrap();
    refuses(here, &more, &["last.safetensors", "dense.bias", "NaN"]);
}

#[test]
fn files_that_are_no_weights_are_named_with_the_way_out() {
    let folder = scene();
    let here = folder.path();
    let make = |name: &str, file: &str, bytes: &[u8]| {
        std::fs::create_dir_all(here.join(name)).unwrap();
        std::fs::copy(here.join("weights/config.json"), here.join(name).join("config.json")).unwrap();
        std::fs::write(here.join(name).join(file), bytes).unwrap();
    };
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 14184240\n";
    make("clone", "model.safetensors", lfs);
    make("page", "model.safetensors", b"<!DOCTYPE html><html>404</html>");
    make("binonly", "pytorch_model.bin", b"\x80\x02}q\0.");
    make("keras", "mobilenet.h5", b"\x89HDF\r\n\x1a\n");
    make("other", "mobilenet.safetensors", lfs);
    make("nothing", "README.md", b"# Nothing");
    for (weights, words) in [
        ("clone", &["clone/model.safetensors", "Git LFS pointer", "git lfs pull"][..]),
        ("page", &["page/model.safetensors", "web page"]),
        (
            "binonly",
            &["no model.safetensors", "binonly/pytorch_model.bin", "PyTorch", "python -c", "save_file"],
        ),
        ("binonly/pytorch_model.bin", &["PyTorch", "python -c"]),
        ("keras", &["no model.safetensors", "keras/mobilenet.h5", "Keras"]),
        ("other", &["no model.safetensors", "other/mobilenet.safetensors"]),
        ("nothing", &["no model.safetensors"]),
    ] {
        refuses(here, &predict(weights), words);
    }
}

#[test]
fn color_weights_take_gray_images() {
    let folder = scene();
    let here = folder.path();
    let args = ["fine-tune", "photos", "--weights", "weights", "--preset", "quick", "--crop", "squash"];
    let output = cli(here, &[&args[..], &["--input", "32x32x1", "--out", "gray"]].concat());
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("summed over the colors"), "{said}");
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(here.join("gray/config.json")).unwrap()).unwrap();
    assert_eq!(config["pretrained_cfg"]["input_size"], json!([1, 32, 32]));
    assert_eq!(config["pretrained_cfg"]["mean"].as_array().unwrap().len(), 1);
    succeeds(here, &["predict", "--run", "gray", "photo.png"]);
    // There is no rule for the way back.
    let back = ["fine-tune", "photos", "--weights", "gray", "--preset", "quick", "--input", "32x32x3"];
    refuses(
        here,
        &[&back[..], &["--out", "color"]].concat(),
        &["gray/model.safetensors", "1 channels", "to 3"],
    );
}

#[test]
fn a_hub_behind_a_private_authority_is_reached_where_the_environment_names_it() {
    let folder = scene();
    let here = folder.path();
    let hub = server::Server::start();
    for file in ["config.json", "model.safetensors"] {
        hub.add(file, &std::fs::read(here.join("weights").join(file)).unwrap(), false);
    }
    let endpoint = tls::door(&hub.address, &here.join("ca.pem"));
    let unnamed =
        ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY", "ALL_PROXY"];
    let ask = |variable: Option<(&str, &str)>, home: &str| {
        let mut command = command(here, &predict("owner/name"));
        for name in unnamed {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.env("HF_ENDPOINT", &endpoint).env("HF_HOME", here.join(home));
        if let Some((name, value)) = variable {
            command.env(name, value);
        }
        command.output().unwrap()
    };
    refused(&ask(None, "hub"), &["certificate", "SSL_CERT_FILE"]);
    refused(&ask(Some(("SSL_CERT_FILE", "none.pem")), "hub"), &["none.pem", "SSL_CERT_FILE"]);
    let expected = succeeds(here, &predict("weights"));
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
        let output = ask(Some((name, "ca.pem")), name);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), expected);
    }
}

#[test]
fn a_repository_of_the_hub_is_a_network_by_itself() {
    let folder = scene();
    let here = folder.path();
    let hub = server::Server::start();
    hub.add("model.safetensors", &std::fs::read(here.join("weights/model.safetensors")).unwrap(), false);
    let config = std::fs::read_to_string(here.join("weights/config.json")).unwrap();
    let ask = |home: &str, args: &[&str]| {
        let mut command = command(here, args);
        command.env("HF_ENDPOINT", &hub.address).env("HF_HOME", here.join(home)).output().unwrap()
    };
    let predict_from = |home| ask(home, &["predict", "--pretrained", "owner/name", "--json", "photo.png"]);
    hub.add("config.json", config.replace("mobilenetv2_100", "vgg16_bn").as_bytes(), false);
    refused(&predict_from("other"), &["vgg16_bn", "mobilenet-v2", "MobileNetV3", "ResNet", "ConvNeXt"]);

    hub.add("config.json", config.as_bytes(), false);
    let output = predict_from("hub");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), succeeds(here, &predict("weights")));
    let tuning = ["fine-tune", "photos", "--preset", "quick", "--crop", "squash", "--out", "run"];
    let output = ask("hub", &[&tuning[..], &["--backbone", "owner/name"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let two = ["fine-tune", "photos", "--backbone", "owner/name", "--weights", "weights"];
    refuses(here, &two, &["owner/name", "both name weights"]);
}
