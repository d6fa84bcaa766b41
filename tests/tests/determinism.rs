//! The same seed gives the same bytes, with any number of threads, for every command.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use common::{command, photos, text, weights};

/// Every command that computes something, in an order in which each finds what it needs.
const COMMANDS: [&str; 14] = [
    "dataset make --scale 0.001 --out made",
    "dataset stats photos --json",
    "dataset check photos --json",
    "train photos --model small-cnn --input 16x16x3 --batch-size 8 --epochs 2 --augment photos --out cnn",
    "train photos --model mobilenet-v2 --input 32x32x3 --batch-size 8 --epochs 1 --out net",
    "fine-tune photos --weights weights --preset standard --unfreeze-from conv_head --epochs 2 --out tuned",
    "evaluate tuned photos --split all --json --predictions predictions.csv",
    "predict --run tuned photos --csv=rows.csv --reject",
    "predict --run net photos --json",
    "embed --run tuned photos --out features.npy",
    "visualize --run cnn --image photos/red/0.png --out pictures",
    "export tuned --onnx tuned.onnx",
    "tune photos --model small-cnn --input 16x16x3 --epochs 1 --trials 2 --json",
    "compare cnn net --json",
];

/// What says when something was done, or how long it took.
fn without_times(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries
                .retain(|key, _| !["seconds", "datetime", "duration"].iter().any(|time| key.contains(time)));
            entries.values_mut().for_each(without_times);
        }
        Value::Array(values) => values.iter_mut().for_each(without_times),
        _ => {}
    }
}

fn document(bytes: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(mut value) => {
            without_times(&mut value);
            value.to_string().into_bytes()
        }
        Err(_) => bytes.to_vec(),
    }
}

/// All files below a folder by their names. Pages also state how long the work took.
fn files(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if path.is_dir() && name != "cache" && name != "huggingface" {
            files(root, &path, found);
        } else if path.is_file() && !name.ends_with(".html") {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(name.clone(), if name.ends_with(".json") { document(&bytes) } else { bytes });
        }
    }
}

/// What all commands print and write with a number of threads.
fn results(threads: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 12);
    weights(here, "mobilenetv2_100");
    let mut found = BTreeMap::new();
    for line in COMMANDS {
        let args: Vec<&str> = line.split(' ').chain(["--threads", threads]).collect();
        let output = command(here, &args).output().unwrap();
        // 1: a check that found something.
        let is_fine = output.status.success() || (line.contains("check") && output.status.code() == Some(1));
        assert!(is_fine, "{line}: {}", text(&output.stderr));
        found.insert(line.to_owned(), document(&output.stdout));
    }
    files(here, here, &mut found);
    found
}

#[test]
fn threads_change_no_byte_of_any_command() {
    let one = results("1");
    assert!(one.len() > 60, "{:?}", one.keys());
    for threads in ["2", "5", "8"] {
        let others = results(threads);
        assert_eq!(one.keys().collect::<Vec<_>>(), others.keys().collect::<Vec<_>>());
        for (name, bytes) in &one {
            assert!(*bytes == others[name], "{name} differs with {threads} threads");
        }
    }
}
