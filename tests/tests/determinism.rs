//! The same seed gives the same bytes, with any number of threads, for every command.

mod common;

use std::collections::BTreeMap;

use common::{command, photos, text, timeless, timeless_files, weights};

/// Every command that computes something, in an order in which each finds what it needs.
const COMMANDS: [&str; 15] = [
    "dataset make --scale 0.001 --out made",
    "dataset stats photos --json",
    "dataset check photos --json",
    "train photos --model small-cnn --input 16x16x3 --batch-size 8 --epochs 2 --augment photos --out cnn",
    "train photos --model mobilenetv3_small_050 --input 32x32x3 --batch-size 8 --epochs 1 --out net",
    "fine-tune photos --weights weights --preset standard --unfreeze-from conv_head --epochs 2 --out tuned",
    "evaluate tuned photos --split all --json --predictions predictions.csv",
    "predict --run tuned photos --csv=rows.csv --reject",
    "evaluate net photos --split all --json",
    "predict --run net photos --json",
    "embed --run tuned photos --out features.npy",
    "visualize --run cnn --image photos/red/0.png --out pictures",
    "export tuned --onnx tuned.onnx",
    "tune photos --model small-cnn --input 16x16x3 --epochs 1 --trials 2 --json",
    "compare cnn net --json",
];

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
        found.insert(line.to_owned(), timeless(&output.stdout));
    }
    found.extend(timeless_files(here));
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
