//! `fine-tune` as its users meet it, on small made-up photos and a network with random weights; and, where they are to be
//! had, on real photos with real weights, beside timm.

mod common;

use std::path::Path;
use std::process::Command;

use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

use common::{command, json, photos, refused, refuses, succeeds, text, weights};

fn fine_tune<'a>(preset: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["fine-tune", "--data", "photos", "--backbone", "mobilenet-v2", "--weights", "weights"];
    fixed.into_iter().chain(["--preset", preset, "--out", out]).chain(more.iter().copied()).collect()
}

fn scene() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path(), 15);
    weights(folder.path(), "mobilenetv2_100");
    folder
}

/// The Python with timm, where one is named.
fn python() -> Option<String> {
    let python = std::env::var("FIRSTSIGHT_PYTHON").ok();
    if python.is_none() {
        eprintln!("skipped: FIRSTSIGHT_PYTHON names no Python with timm");
    }
    python
}

#[test]
fn the_rate_of_a_range_test_is_that_of_the_run() {
    let folder = scene();
    let here = folder.path();
    let mut found = 0;
    for block in ["classifier", "conv_head", "blocks.0"] {
        let more = ["--unfreeze-from", block, "--epochs", "1", "--learning-rate", "find"];
        let output = command(here, &fine_tune("quick", block, &more)).output().unwrap();
        let said = text(&output.stderr);
        let rate = json(&here.join(block).join("config.json"))["training"]["learning_rate"].as_f64().unwrap();
        let is_found = said.contains(&format!("learning rate: {rate:.2e}, by a range test"));
        let is_usual =
            said.contains("learning rate: 2.00e-4, since the loss fell at no rate of the range test");
        assert!(is_found || (is_usual && rate == 2e-4), "{rate}: {said}");
        found += usize::from(is_found);
        let page = std::fs::read_to_string(here.join(block).join("report.html")).unwrap();
        assert!(page.contains(&format!("AdamW at a rate of {rate:.1e}")));
    }
    assert!(found > 0);
}

#[test]
fn a_refit_layer_has_learned_from_the_validation_images() {
    let folder = scene();
    let here = folder.path();
    succeeds(here, &fine_tune("quick", "plain", &[]));
    succeeds(here, &fine_tune("quick", "refit", &["--refit"]));
    let [plain, refit] = ["plain", "refit"].map(|run| json(&here.join(run).join("metrics.json")));
    assert_eq!((&refit["val"], &refit["train"]), (&plain["val"], &plain["train"]));
    assert_eq!((&refit["head"]["refit"], &plain["head"]["refit"]), (&Value::Bool(true), &Value::Null));
    let weights = |run: &str| std::fs::read(here.join(run).join("model.safetensors")).unwrap();
    assert_ne!(weights("refit"), weights("plain"));
    let page = std::fs::read_to_string(here.join("refit/report.html")).unwrap();
    assert!(page.contains("before the last layer was trained on them too"));
    let said =
        |run: &str| text(&command(here, &["evaluate", run, "photos", "--json"]).output().unwrap().stderr);
    assert!(
        said("refit").contains("6 of 6 images are also among the run's training images"),
        "{}",
        said("refit")
    );
    assert!(!said("plain").contains("training images"));
    // It was trained on them.
    let figure = |run: &str| -> f64 {
        let out = succeeds(here, &["evaluate", run, "photos", "--split", "val", "--json"]);
        serde_json::from_str::<Value>(&out).unwrap()["loss"].as_f64().unwrap()
    };
    assert!(figure("refit") < figure("plain"));
    let before = weights("refit");
    succeeds(here, &fine_tune("quick", "refit", &["--refit", "--resume"]));
    assert_eq!(weights("refit"), before);
    refuses(here, &fine_tune("quick", "folds", &["--refit", "--folds", "3"]), &["--refit", "--folds"]);
}

#[test]
fn a_quick_run_evaluates_and_predicts() {
    let folder = scene();
    let here = folder.path();
    let output = command(here, &fine_tune("quick", "run", &[])).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("at most about") && said.contains("by cross-validation"), "{said}");
    for file in ["model.safetensors", "config.json", "history.csv", "metrics.json", "report.html"] {
        assert!(here.join("run").join(file).is_file(), "{file} is missing");
    }
    let page = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    assert!(page.contains("The validation images by the two directions"), "the map");
    let metrics = json(&here.join("run/metrics.json"));
    assert!(metrics["val"]["accuracy"].as_f64().unwrap() >= 0.8, "{metrics}");
    assert_eq!(metrics["trained_params"], 2 * 1280 + 2);
    let config = json(&here.join("run/config.json"));
    assert_eq!(config["architecture"], "mobilenetv2_100");
    assert_eq!(config["label_names"], serde_json::json!(["blue", "red"]));
    let evaluation: Value = serde_json::from_str(&succeeds(
        here,
        &["evaluate", "--run", "run", "--data", "photos", "--split", "val", "--json"],
    ))
    .unwrap();
    assert_eq!(evaluation["loss"], metrics["val"]["loss"]);
    assert_eq!((&evaluation["split"], &evaluation["n"]), (&"val".into(), &6.into()));
    // What was set aside stays set aside: with a photo more in each class, first by name, the same ones are measured.
    for class in ["blue", "red"] {
        let photos = here.join("photos").join(class);
        RgbImage::from_pixel(40, 32, Rgb([9, 9, 9])).save(photos.join("-first.png")).unwrap();
    }
    let args = ["evaluate", "run", "photos", "--json"];
    let grown: Value = serde_json::from_str(&succeeds(here, &args)).unwrap();
    assert_eq!((&grown["loss"], &grown["n"]), (&evaluation["loss"], &evaluation["n"]));
    let args = ["predict", "--run", "run", "--json", "photos/red/0.png", "photos/blue/0.png"];
    let predictions: Value = serde_json::from_str(&succeeds(here, &args)).unwrap();
    let labels: Vec<&Value> =
        predictions.as_array().unwrap().iter().map(|p| &p["predictions"][0]["label"]).collect();
    assert_eq!(labels, ["red", "blue"]);
}

#[test]
fn the_same_seed_gives_the_same_run_and_features_are_remembered() {
    let folder = scene();
    let here = folder.path();
    succeeds(here, &fine_tune("quick", "one", &[]));
    let features = || {
        let names = std::fs::read_dir(here.join("cache")).unwrap().map(|e| e.unwrap().path());
        names.filter(|p| p.extension().is_some_and(|e| e == "features")).count()
    };
    assert_eq!(features(), 3, "a file for each crop, and one of mirror images for the chosen crop");
    succeeds(here, &fine_tune("quick", "two", &[]));
    assert_eq!(features(), 3);
    let weights = |run: &str| std::fs::read(here.join(run).join("model.safetensors")).unwrap();
    assert!(weights("one") == weights("two"));
}

/// Of many photos, a sample chooses the crop. What follows is the same as if the crop had been named.
#[test]
fn the_crop_of_many_photos_is_chosen_on_a_sample() {
    let folder = scene();
    let here = folder.path();
    photos(here, 330);
    let standard = ["--unfreeze-from", "conv_head", "--epochs", "1"];
    let sampled = fine_tune("standard", "sampled", &standard);
    let output = command(here, &sampled).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("crop, by cross-validation on 500 of "), "{said}");
    let features = || {
        let names = std::fs::read_dir(here.join("cache")).unwrap().map(|e| e.unwrap().path());
        names.filter(|p| p.extension().is_some_and(|e| e == "features")).count()
    };
    assert_eq!(features(), 4, "of the sample for each crop, of the rest, of mirror images");
    let bytes = |run: &str| std::fs::read(here.join(run).join("model.safetensors")).unwrap();
    let whole = bytes("sampled");
    let crop = &json(&here.join("sampled/config.json"))["pretrained_cfg"]["crop_mode"];
    let named: Vec<&str> = standard.into_iter().chain(["--crop", crop.as_str().unwrap()]).collect();
    succeeds(here, &fine_tune("standard", "named", &named));
    assert!(whole == bytes("named"));
    assert_eq!(features(), 5, "of all images");
    succeeds(here, &sampled.into_iter().chain(["--resume"]).collect::<Vec<_>>());
    assert!(whole == bytes("sampled"));
    succeeds(here, &fine_tune("quick", "other", &["--seed", "2"]));
    assert_eq!(features(), 5, "the sample is that of the split, whatever the seed");

    photos(here, 650);
    succeeds(here, &fine_tune("quick", "many", &[]));
    assert_eq!(features(), 8, "no mirror images of more than a thousand");

    let broken = ["red/a.png", "blue/b.png", "blue/c.png"];
    for name in broken {
        std::fs::write(here.join("photos").join(name), b"\x89PNG\r\n\x1a\nno").unwrap();
    }
    refused(&command(here, &fine_tune("quick", "none", &[])).output().unwrap(), &["a.png", "b.png", "c.png"]);
    succeeds(here, &fine_tune("quick", "some", &["--skip-unreadable"]));
}

/// Multiplies the tensors of the scene's weights whose names end so.
fn scale(here: &Path, ending: &str, factor: f64) {
    let path = here.join("weights/model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    let scaled = tensors.iter_mut().filter(|(name, _)| name.ends_with(ending));
    scaled.for_each(|(_, tensor)| *tensor = tensor.affine(factor, 0.0).unwrap());
    candle_core::safetensors::save(&tensors, &path).unwrap();
}

/// The figures of a run are those of the weights that it holds. Random weights make features so small that the last layer's are
/// too large for float16, hence the smaller variances.
#[test]
fn weights_of_half_as_many_bytes_are_what_was_measured() {
    let folder = scene();
    let here = folder.path();
    scale(here, "running_var", 0.1);
    let bytes = |run: &str| std::fs::metadata(here.join(run).join("model.safetensors")).unwrap().len();
    succeeds(here, &fine_tune("quick", "whole", &["--crop", "center"]));
    let rows = (0..30).map(|i| {
        format!("photos/{}/{}.png,{}\n", ["red", "blue"][i % 2], i / 2, (i / 2) * (i / 2) % 7 + i % 2 * 4)
    });
    std::fs::write(here.join("costs.csv"), "path,cost\n".to_owned() + &rows.collect::<String>()).unwrap();
    let costs =
        ["fine-tune", "costs.csv", "--label-column", "cost", "--task", "regression", "--weights", "weights"];
    let tuned = ["--unfreeze-from", "classifier", "--epochs", "8", "--learning-rate"];
    let trained = ["train", "photos", "--model", "small-cnn", "--input", "32x40x3", "--epochs", "1", "--out"];
    for (dtype, run) in [("float16", "half"), ("bf16", "brain")] {
        let half = ["--crop", "center", "--save-dtype", dtype];
        succeeds(here, &fine_tune("quick", run, &half));
        assert!(bytes(run) * 2 < bytes("whole") + 50_000, "{} of {}", bytes(run), bytes("whole"));
        let scratch = format!("{run}-trained");
        succeeds(here, &[&trained[..], &[&scratch, "--save-dtype", dtype]].concat());
        let tuned_at = |rate: &'static str| {
            let out = format!("{run}-{rate}");
            succeeds(here, &[&costs[..], &half, &tuned, &[rate, "--out", &out]].concat());
            out
        };
        let blocks = ["1e-6", "1e-4", "1e-2"].map(tuned_at);
        for run in blocks.iter().map(String::as_str).chain([run, &scratch]) {
            let data = if blocks.iter().any(|blocks| blocks == run) { "costs.csv" } else { "photos" };
            let args = ["evaluate", "--run", run, "--data", data, "--split", "val", "--json"];
            let evaluation: Value = serde_json::from_str(&succeeds(here, &args)).unwrap();
            let metrics = json(&here.join(run).join("metrics.json"));
            assert_eq!(evaluation["loss"], metrics["val"]["loss"], "{run}");
        }
        let is_tuned = |run: &String| json(&here.join(run).join("metrics.json"))["kept"] == "fine-tuned";
        assert!(blocks.iter().any(is_tuned), "every run kept its last layer");
        // The checkpoint has every bit.
        let checkpoint = here.join(&blocks[0]).join("checkpoint/last.safetensors");
        assert!(std::fs::metadata(checkpoint).unwrap().len() > 2 * bytes(run));
    }
    refused(
        &command(here, &fine_tune("quick", "x", &["--save-dtype", "int8"])).output().unwrap(),
        &["int8", "bfloat16"],
    );

    // Weights with a tensor that float16 does not hold.
    scale(here, "bn1.running_var", 1e7);
    let settings = ["--crop", "center", "--save-dtype", "float16"];
    let output = command(here, &fine_tune("quick", "large", &settings)).output().unwrap();
    refused(&output, &["bn1.running_var", "1e6", "65504"]);
    assert!(!here.join("large").exists());
    succeeds(here, &fine_tune("quick", "large", &["--crop", "center", "--save-dtype", "bfloat16"]));
}

#[test]
fn a_standard_run_is_resumed_exactly() {
    let folder = scene();
    let here = folder.path();
    let settings =
        ["--unfreeze-from", "conv_head", "--epochs", "2", "--crop", "center", "--learning-rate", "0.001"];
    succeeds(here, &fine_tune("standard", "run", &settings));
    let metrics = json(&here.join("run/metrics.json"));
    assert_eq!(metrics["epochs"], 2);
    // conv_head's 320 × 1280 weights, its norm, and the last layer.
    assert_eq!(metrics["trained_params"], 320 * 1280 + 2 * 1280 + 2 * 1280 + 2);
    let before = std::fs::read(here.join("run/model.safetensors")).unwrap();
    let resumed: Vec<&str> =
        fine_tune("standard", "run", &settings).into_iter().chain(["--resume"]).collect();
    succeeds(here, &resumed);
    assert!(before == std::fs::read(here.join("run/model.safetensors")).unwrap());
}

/// The last layer alone has no epochs: what only the training of blocks has is refused, or trains them.
#[test]
fn quick_takes_no_settings_of_blocks_unless_they_are_named() {
    let folder = scene();
    let here = folder.path();
    for (flags, named) in [
        (&["--epochs", "2"][..], "epochs"),
        (&["--lr", "1e-3"], "a learning rate"),
        (&["--batch-size", "8"], "a batch size"),
        (&["--shards", "2"], "shards"),
        (&["--augment", "none"], "augmentation"),
        (&["--crops-from", "full"], "augmentation"),
        (&["--label-smoothing", "0.2"], "label smoothing"),
        (&["--update-statistics"], "batch norm"),
    ] {
        refuses(here, &fine_tune("quick", "run", flags), &["standard or thorough", named, "quick"]);
        assert!(!here.join("run").exists());
    }
    let args =
        fine_tune("quick", "run", &["--unfreeze-from", "classifier", "--epochs", "2", "--crop", "center"]);
    succeeds(here, &args);
    assert_eq!(json(&here.join("run/metrics.json"))["epochs"], 2);
}

#[test]
fn bad_input_is_named_and_leaves_nothing() {
    let folder = scene();
    let here = folder.path();
    let run = |args: &[&str]| command(here, args).output().unwrap();
    let wrong_block = fine_tune("standard", "a", &["--unfreeze-from", "blocks.9", "--crop", "center"]);
    refused(&run(&wrong_block), &["blocks.9", "blocks.6", "classifier"]);
    let mut wrong_source = fine_tune("quick", "b", &[]);
    wrong_source[6] = "no-such-thing";
    refused(&run(&wrong_source), &["no-such-thing", "hub repository"]);
    wrong_source[6] = "owner/name";
    let offline =
        command(here, &wrong_source).env("HF_HUB_OFFLINE", "1").env("HF_HOME", here).output().unwrap();
    refused(&offline, &["owner/name", "HF_HUB_OFFLINE"]);
    std::fs::write(here.join("photos/red/broken.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    refused(&run(&fine_tune("quick", "c", &[])), &["broken.png"]);
    succeeds(here, &fine_tune("quick", "d", &["--skip-unreadable", "--crop", "center"]));
    std::fs::remove_file(here.join("photos/red/broken.png")).unwrap();
    std::fs::create_dir(here.join("photos/Red")).unwrap();
    std::fs::copy(here.join("photos/red/0.png"), here.join("photos/Red/0.png")).unwrap();
    refused(&run(&fine_tune("quick", "e", &[])), &["Red", "red", "letter case"]);
    std::fs::remove_dir_all(here.join("photos/Red")).unwrap();
    std::fs::remove_dir_all(here.join("photos/red")).unwrap();
    refused(&run(&fine_tune("quick", "f", &[])), &["blue"]);
    for out in ["a", "b", "c", "e", "f"] {
        assert!(!here.join(out).exists(), "{out} was left behind");
    }
    photos(here, 15);
    weights(here, "mobilenetv2_140");
    refused(&run(&fine_tune("quick", "g", &[])), &["config.json", "mobilenetv2_140", "mobilenetv2_100"]);
}

#[test]
fn three_images_are_refused_by_name_or_handled() {
    let folder = scene();
    let here = folder.path();
    for class in ["red", "blue"] {
        for i in 0..15 {
            if i > 1 || (class == "red" && i == 1) {
                std::fs::remove_file(here.join(format!("photos/{class}/{i}.png"))).unwrap();
            }
        }
    }
    let output = command(here, &fine_tune("quick", "run", &[])).output().unwrap();
    let said = text(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    match output.status.code() {
        Some(0) => assert!(here.join("run/report.html").is_file()),
        _ => refused(&output, &["photos", "class"]),
    }
}

/// JPEG with four inks, 16 bits a channel, and a photo whose EXIF says that it lies on its side.
#[test]
fn unusual_photos_are_read_as_pillow_reads_them() {
    let folder = scene();
    let here = folder.path();
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/data/tests/goldens/images");
    for (name, class) in [("cmyk-q95.jpg", "red"), ("rgb16.png", "blue"), ("grey16-alpha.png", "blue")] {
        std::fs::copy(goldens.join(name), here.join("photos").join(class).join(name)).unwrap();
    }
    // An APP1 segment after the start of the image: big-endian TIFF, one entry, orientation 6.
    let upright = std::fs::read(goldens.join("rgb-q95.jpg")).unwrap();
    let tiff = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let length = (tiff.len() as u16 + 2).to_be_bytes();
    let turned = [&upright[..2], &[0xff, 0xe1], &length, tiff, &upright[2..]].concat();
    std::fs::write(here.join("photos/red/upright.jpg"), &upright).unwrap();
    std::fs::write(here.join("photos/red/turned.jpg"), turned).unwrap();
    succeeds(here, &fine_tune("quick", "run", &["--crop", "squash", "--reading", "pillow"]));
    let listed = succeeds(here, &["predict", "--run", "run", "--csv", "--top", "1", "photos"]);
    let row = |name: &str| {
        let row =
            listed.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name}: {listed}"));
        row.split_once(',').unwrap().1.to_owned()
    };
    assert_eq!(row("upright.jpg"), row("turned.jpg"), "orientation is left alone, as Pillow and timm do");
    assert_eq!(listed.lines().count(), 1 + 30 + 5, "a header and a row a photo");
    for name in ["cmyk-q95.jpg", "rgb16.png", "grey16-alpha.png"] {
        assert!(row(name).starts_with("blue,") || row(name).starts_with("red,"), "{}", row(name));
    }
}

/// Ctrl-C in an epoch of fine-tuning ends it after the batch; what there is can be used.
#[cfg(unix)]
#[test]
fn an_interrupted_run_can_be_used() {
    use std::io::{BufRead as _, BufReader};
    let folder = scene();
    let here = folder.path();
    let settings = ["--unfreeze-from", "stem", "--epochs", "500", "--crop", "squash"];
    let mut child = command(here, &fine_tune("standard", "run", &settings))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("epoch 1/500")), "it ended before its first epoch");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("--resume")), "{rest:?}");
    for file in ["model.safetensors", "config.json", "history.csv", "metrics.json", "report.html"] {
        assert!(here.join("run").join(file).is_file(), "{file} is missing");
    }
    succeeds(here, &["predict", "--run", "run", "photos/red/0.png"]);
}

/// timm's own reading of the run, as (class, probabilities) of each photo.
const TIMM: &str = r"
import json, sys
import torch, timm
from PIL import Image
from timm.data import create_transform
run, backbone, images = sys.argv[1], sys.argv[2], sys.argv[3:]
config = json.load(open(run + '/config.json'))
cfg = config['pretrained_cfg']
transform = create_transform(input_size=tuple(cfg['input_size']), interpolation=cfg['interpolation'],
    mean=tuple(cfg['mean']), std=tuple(cfg['std']), crop_pct=cfg['crop_pct'], crop_mode=cfg['crop_mode'])
by_path = timm.create_model(config['architecture'], num_classes=config['num_classes'],
    checkpoint_path=run + '/model.safetensors').eval()
by_config = timm.create_model('local-dir:' + run, pretrained=True).eval()
rows = []
for path in images:
    x = transform(Image.open(path).convert('RGB'))[None]
    with torch.no_grad():
        a, b = by_path(x).softmax(1), by_config(x).softmax(1)
    assert torch.equal(a, b)
    rows.append(a[0].tolist())
print(json.dumps(rows))
";

#[test]
fn timm_reads_a_run_and_agrees() {
    let Some(python) = python() else { return };
    let folder = scene();
    let here = folder.path();
    scale(here, "running_var", 0.1);
    for dtype in ["float32", "float16", "bfloat16"] {
        let settings =
            ["--unfreeze-from", "conv_head", "--epochs", "1", "--crop", "squash", "--save-dtype", dtype];
        succeeds(here, &fine_tune("standard", dtype, &settings));
        let photos = ["photos/red/3.png", "photos/blue/4.png"];
        let args: Vec<&str> = ["predict", "--run", dtype, "--json"].into_iter().chain(photos).collect();
        let ours: Value = serde_json::from_str(&succeeds(here, &args)).unwrap();
        let output = Command::new(&python)
            .current_dir(here)
            .args(["-c", TIMM, dtype, "mobilenetv2_100"])
            .args(photos)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        let theirs: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        for (ours, theirs) in ours.as_array().unwrap().iter().zip(theirs.as_array().unwrap()) {
            for guess in ours["predictions"].as_array().unwrap() {
                let index = guess["index"].as_u64().unwrap() as usize;
                let (a, b) = (guess["probability"].as_f64().unwrap(), theirs[index].as_f64().unwrap());
                assert!((a - b).abs() < 1e-4, "{dtype}, {}: {a} against timm's {b}", ours["image"]);
            }
        }
    }
}

/// Trains timm's network on the photos for a few steps, saves it as timm does, and prints its probabilities.
const TIMM_TRAINS: &str = r"
import json, sys
import torch, timm
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf
weights, out, names, images = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
torch.manual_seed(0)
model = timm.create_model('local-dir:' + weights, pretrained=True, num_classes=2)
transform = create_transform(**resolve_data_config({}, model=model))
x = torch.stack([transform(Image.open(path).convert('RGB')) for path in images])
y = torch.tensor([int('red' in path) for path in images])
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(5):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model.train()(x), y).backward()
    optimizer.step()
config = {'label_names': ['blue', 'red']} if names == 'named' else {}
save_for_hf(model, out, model_config=config, safe_serialization=True)
with torch.no_grad():
    print(json.dumps(model.eval()(x).softmax(1).tolist()))
";

#[test]
fn what_timm_fine_tuned_predicts_the_same_here() {
    let Some(python) = python() else { return };
    let folder = scene();
    let here = folder.path();
    let photos = ["photos/red/3.png", "photos/blue/4.png", "photos/red/5.png", "photos/blue/6.png"];
    for (names, labels) in [("named", ["blue", "red"]), ("unnamed", ["class 0", "class 1"])] {
        let output = Command::new(&python)
            .current_dir(here)
            .args(["-c", TIMM_TRAINS, "weights", names, names])
            .args(photos)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        let theirs: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        let args: Vec<&str> = ["predict", "--run", names, "--json"].into_iter().chain(photos).collect();
        let ours: Value = serde_json::from_str(&succeeds(here, &args)).unwrap();
        assert_eq!(ours.as_array().unwrap().len(), 4);
        for (ours, theirs) in ours.as_array().unwrap().iter().zip(theirs.as_array().unwrap()) {
            for guess in ours["predictions"].as_array().unwrap() {
                let index = guess["index"].as_u64().unwrap() as usize;
                assert_eq!(guess["label"], labels[index]);
                let (a, b) = (guess["probability"].as_f64().unwrap(), theirs[index].as_f64().unwrap());
                assert!((a - b).abs() < 1e-4, "{}: {a} against timm's {b}", ours["image"]);
            }
        }
        let evaluation = succeeds(here, &["evaluate", "--run", names, "--data", "photos", "--json"]);
        let evaluation: Value = serde_json::from_str(&evaluation).unwrap();
        assert_eq!(evaluation["per_class"][1]["label"], "red", "the folder's names where timm wrote none");
    }
    // What timm trained also serves as weights to go on from.
    let mut again = fine_tune("quick", "again", &["--crop", "center"]);
    again[6] = "named";
    succeeds(here, &again);
    assert_eq!(json(&here.join("again/config.json"))["label_names"], serde_json::json!(["blue", "red"]));
}
