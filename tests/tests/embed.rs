//! `embed` and `predict --like`: features in files, and photos that are like others.

mod common;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use firstsight_models::networks::MOBILENET_V2;
use firstsight_models::{ImageClassifier, InputShape, Params};
use image::{Rgb, RgbImage};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;
use serde_json::Value;

use common::{cli, refuses, succeeds, text};

/// A MobileNetV2 of random weights, six photos of which two are nearly the same, and a file that is none.
fn scene(folder: &Path) {
    let run = folder.join("run");
    std::fs::create_dir_all(&run).unwrap();
    let params = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 48, width: 48 };
    ImageClassifier::new(&MOBILENET_V2, input, 3, MOBILENET_V2.init, &params).unwrap();
    params.save(&run.join("model.safetensors")).unwrap();
    let config = serde_json::json!({
        "architecture": "mobilenetv2_100", "label_names": ["ant", "bee", "cat"],
        "pretrained_cfg": {"input_size": [3, 48, 48], "interpolation": "bilinear", "crop_pct": 0.875},
    });
    std::fs::write(run.join("config.json"), config.to_string()).unwrap();
    std::fs::create_dir(folder.join("photos")).unwrap();
    for i in 0..6u32 {
        let k = if i == 5 { 2 } else { i };
        let pixel = |x: u32, y: u32| Rgb([(x * (3 * k + 1)) as u8, (y * (7 + k)) as u8, (x * y + i) as u8]);
        RgbImage::from_fn(60, 60, pixel).save(folder.join(format!("photos/{i}.png"))).unwrap();
    }
    std::fs::write(folder.join("photos/broken.png"), b"\x89PNG\r\n").unwrap();
}

fn features(path: &Path) -> Vec<Vec<f32>> {
    let array = Tensor::read_npy(path).unwrap();
    assert_eq!(array.dtype(), DType::F32);
    array.to_vec2().unwrap()
}

#[test]
fn features_are_written_for_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    // A file that cannot be read is left out, said, and the exit code.
    let output = cli(here, &["embed", "--run", "run", "photos", "--out", "all.npy"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("broken.png"), "{}", text(&output.stderr));
    let rows = features(&here.join("all.npy"));
    assert_eq!((rows.len(), rows[0].len()), (6, 1280));
    let names = std::fs::read_to_string(here.join("all.csv")).unwrap();
    let lines: Vec<&str> = names.lines().collect();
    assert_eq!(lines[0], "image,note");
    assert_eq!(lines.len(), 7);
    assert!(lines[1].contains("0.png") && lines[6].contains("5.png"), "{names}");

    let output = cli(here, &["embed", "--run", "run", "photos", "--out", "all.npy", "--map", "map.html"]);
    assert_eq!(output.status.code(), Some(1));
    let page = std::fs::read_to_string(here.join("map.html")).unwrap();
    assert!(page.contains("6 images") && page.contains("principal components"), "{page}");
    let map = [
        "embed",
        "--run",
        "run",
        "photos/2.png",
        "photos/5.png",
        "--out",
        "two.npy",
        "--map",
        "photos/2.png",
    ];
    refuses(here, &map, &["photos/2.png"]);
    refuses(here, &[&map[..8], &["two.html"]].concat(), &["three or more that differ", "2 images"]);

    let output = cli(here, &["embed", "--run", "run", "photos", "--out", "all.parquet"]);
    assert_eq!(output.status.code(), Some(1));
    let file = std::fs::File::open(here.join("all.parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let found: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(found.len(), 7);
    let mut n = 0;
    for row in &found {
        let Ok(list) = row.get_list(1) else {
            assert!(
                row.get_string(0).unwrap().contains("broken.png") && !row.get_string(2).unwrap().is_empty()
            );
            continue;
        };
        let values: Vec<f32> = list
            .elements()
            .iter()
            .map(|value| match value {
                parquet::record::Field::Float(value) => *value,
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(values, rows[n]);
        n += 1;
    }
    assert_eq!(n, 6);
    // One image alone has the same bits.
    succeeds(here, &["embed", "--run", "run", "photos/3.png", "--out", "one.npy"]);
    assert_eq!(features(&here.join("one.npy")), rows[3..4]);
}

#[test]
fn photos_are_ranked_by_likeness() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    std::fs::remove_file(here.join("photos/broken.png")).unwrap();
    let said = succeeds(
        here,
        &["predict", "--run", "run", "--like", "photos/2.png", "photos", "--top", "3", "--json"],
    );
    let rows: Vec<Value> = serde_json::from_str(&said).unwrap();
    let image = |row: &Value| row["image"].as_str().unwrap().replace('\\', "/");
    let similarity = |row: &Value| row["similarity"].as_f64().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!((image(&rows[0]), image(&rows[1])), ("photos/2.png".to_owned(), "photos/5.png".to_owned()));
    assert!((similarity(&rows[0]) - 1.0).abs() < 1e-6 && similarity(&rows[1]) > similarity(&rows[2]));
    // Of two photos, the nearer counts.
    let both = [
        "predict",
        "--run",
        "run",
        "--like",
        "photos/2.png",
        "--like",
        "photos/0.png",
        "photos",
        "--top",
        "2",
    ];
    let said = succeeds(here, &both);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.starts_with("1.0000  photos")), "{said}");
}

#[test]
fn wrong_arguments_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    refuses(here, &["embed", "--run", "run", "photos", "--out", "all.txt"], &["all.txt", ".npy or .parquet"]);
    refuses(here, &["embed", "photos", "--out", "all.npy"], &["--run"]);
    refuses(here, &["embed", "--run", "run", "photos/broken.png", "--out", "all.npy"], &["none of 1 files"]);
    assert!(!here.join("all.npy").exists() && !here.join("all.csv").exists());
    std::fs::write(here.join("table.csv"), "path,label\nphotos/1.png,ant\n").unwrap();
    refuses(
        here,
        &["embed", "--run", "run", "table.csv", "--out", "table.npy"],
        &["table.csv is read by this command"],
    );
    refuses(
        here,
        &["predict", "--run", "run", "table.csv", "--csv=table.csv"],
        &["table.csv is read by this command"],
    );
    assert!(std::fs::read_to_string(here.join("table.csv")).unwrap().starts_with("path,label"));
    refuses(here, &["predict", "--run", "run", "--like", "photos/broken.png", "photos"], &["broken.png"]);
    refuses(here, &["predict", "--run", "run", "--like", "nowhere.png", "photos"], &["nowhere.png"]);
    refuses(here, &["predict", "--run", "run", "--like", "photos/1.png", "--reject", "photos"], &["--like"]);
}
