//! The lecture's third section: tables, LeNet-5 on MNIST's files, depth; and what is said of files that are not MNIST's.

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use common::refused;

/// Runs the third section in its quick form in `folder`, where its data sets lie too.
fn section(folder: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firstsight-tests"))
        .current_dir(folder)
        .args(["reproduce-lecture", "--quick", "--section", "networks", "--out", "report"])
        .args(more)
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap()
}

/// An IDX file of bytes.
fn idx(sides: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sides.len() as u8];
    bytes.extend(sides.iter().flat_map(|side| side.to_be_bytes()));
    bytes.extend(values);
    bytes
}

/// Digits that a network can tell apart: `n` bars of ten angles, 28×28, each a little elsewhere.
fn bars(folder: &Path, part: &str, n: u32) {
    std::fs::create_dir_all(folder).unwrap();
    let labels: Vec<u8> = (0..n).map(|i| (i % 10) as u8).collect();
    let mut pixels = Vec::new();
    for (i, &label) in labels.iter().enumerate() {
        let (sin, cos) = (f64::from(label) * std::f64::consts::PI / 10.0).sin_cos();
        let shift = (i / 10 % 7) as f64 - 3.0;
        for y in 0..28 {
            for x in 0..28 {
                let (u, v) = (f64::from(x) - 13.5, f64::from(y) - 13.5);
                let is_ink = (u * sin - v * cos - shift).abs() < 1.5 && u.hypot(v) < 11.0;
                pixels.push(if is_ink { 255 } else { 0 });
            }
        }
    }
    std::fs::write(folder.join(format!("{part}-images-idx3-ubyte")), idx(&[n, 28, 28], &pixels)).unwrap();
    std::fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), idx(&[n], &labels)).unwrap();
}

#[test]
fn the_networks_are_tables_and_read_what_the_folder_holds() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // Where a download would lie.
    bars(&here.join("datasets/mnist"), "train", 300);
    bars(&here.join("datasets/mnist"), "t10k", 50);
    let output = section(here, &["--seed", "5"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let html = std::fs::read_to_string(here.join("report/report.html")).unwrap();
    for said in [
        "LeNet-5, 1998",
        "61,706",
        "60,900",
        "AlexNet, 2012",
        "227\u{a0}×\u{a0}227",
        "62,378,344",
        "is trained on 275 digits for 6 epochs",
        "Depth, and the residual connection",
    ] {
        assert!(html.contains(said), "the report lacks {said}");
    }
    assert!(!html.contains("drawn by this program"), "these digits are not drawn");
    let metrics: Value =
        serde_json::from_str(&std::fs::read_to_string(here.join("report/metrics.json")).unwrap()).unwrap();
    let networks = &metrics["networks"];
    assert_eq!((&networks["digits"], &networks["lenet5"]["params"]), (&"MNIST".into(), &61_706.into()));
    let runs = networks["lenet5"]["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for run in runs {
        assert_eq!((&run["epochs"], &run["test"]["n"]), (&6.into(), &50.into()));
        assert!(run["test"]["accuracy"].as_f64().unwrap() > 0.5, "{run}");
    }
    let depth = networks["depth"]["runs"].as_array().unwrap();
    let kinds: Vec<(u64, bool)> =
        depth.iter().map(|r| (r["layers"].as_u64().unwrap(), r["residual"].as_bool().unwrap())).collect();
    assert!(kinds.len() == 4 && kinds[0].0 < kinds[2].0 && kinds[0].0 == kinds[1].0, "{kinds:?}");
    assert_eq!(depth[2]["params"], depth[3]["params"]);
    // The run is one like any other.
    for file in ["model.safetensors", "config.json", "report.html"] {
        assert!(here.join("report/runs/lenet5-augmented").join(file).is_file(), "{file}");
    }
}

#[test]
fn files_that_are_not_mnists_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    refused(&section(here, &["--mnist", "none"]), &["--mnist none: no such file or folder"]);
    std::fs::create_dir(here.join("empty")).unwrap();
    refused(&section(here, &["--mnist", "empty"]), &["empty", "train-images-idx3-ubyte.gz", "neither"]);
    bars(&here.join("digits"), "train", 40);
    bars(&here.join("digits"), "t10k", 20);
    let labels = here.join("digits/t10k-labels-idx1-ubyte");
    let whole = std::fs::read(&labels).unwrap();
    std::fs::write(&labels, &whole[..whole.len() - 1]).unwrap();
    refused(&section(here, &["--mnist", "digits"]), &["t10k-labels-idx1-ubyte", "20 values", "found 19"]);
    refused(&section(here, &["--mnist", "digits", "--mnist-mirror", "http://x"]), &["--mnist-mirror"]);
}

/// A server that answers each request with `body`.
fn serve(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, &body);
        }
    });
    address
}

fn answer(mut stream: TcpStream, body: &[u8]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

#[test]
fn a_mirror_with_other_bytes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // As long as MNIST's smallest file.
    let mirror = serve(vec![7; 4542]);
    let words = ["MNIST", &*mirror, "t10k-labels-idx1-ubyte.gz", "f7ae60f9", "sha256"];
    refused(&section(here, &["--mnist-mirror", &mirror]), &words);
    let left: Vec<_> =
        std::fs::read_dir(here.join("datasets/mnist")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".lock")), "{left:?}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(&section(here, &["--mnist-mirror", &format!("http://{nobody}")]), &["Connection refused"]);
}
