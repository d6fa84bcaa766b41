//! Two hundred random shapes of every op, and sizes of real networks, against PyTorch in float64,
//! given a Python with torch and safetensors:
//!
//! `FIRSTSIGHT_PYTHON=python3 cargo test --release -p firstsight-ops --test ops pytorch`

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use candle_core::{Device, Tensor};
use serde::Serialize;

use crate::cases::{Generated, Op, Tensors};
use crate::generate;

const CASES_PER_OP: usize = 200;

#[derive(Serialize)]
struct Named<'a> {
    name: String,
    #[serde(flatten)]
    op: &'a Op,
}

#[test]
fn two_hundred_shapes_of_every_op() {
    let Some(python) = std::env::var_os("FIRSTSIGHT_PYTHON") else {
        eprintln!("skipped: FIRSTSIGHT_PYTHON names no Python with torch and safetensors");
        return;
    };
    let mut cases = Vec::new();
    for (op, strategy) in generate::all() {
        let drawn = generate::sample(strategy, CASES_PER_OP).into_iter().enumerate();
        cases.extend(drawn.map(|(i, case)| (format!("{op} {i}: {:?}", case.op), case)));
    }
    cases.extend(generate::real_sizes().unwrap());
    // In parts, so that not all tensors are in memory at once.
    for (portion, cases) in cases.chunks(500).enumerate() {
        check(Path::new(&python), portion, cases);
    }
    assert!(cases.len() > 14 * CASES_PER_OP);
}

fn check(python: &Path, portion: usize, cases: &[(String, Generated)]) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(format!("{name}{portion}.safetensors"));
    let named: Vec<Named<'_>> =
        cases.iter().enumerate().map(|(i, (_, case))| Named { name: i.to_string(), op: &case.op }).collect();
    let metadata = HashMap::from([("cases".to_owned(), serde_json::to_string(&named).unwrap())]);
    let tensors: Vec<(String, Tensor)> = cases
        .iter()
        .enumerate()
        .flat_map(|(i, (_, case))| case.inputs.iter().map(move |(key, t)| (format!("{i}.{key}"), t.clone())))
        .collect();
    safetensors::serialize_to_file(tensors, Some(metadata), &file("cases")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("goldens").join("reference.py");
    let run = Command::new(python).arg(script).args([file("cases"), file("results")]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let results = candle_core::safetensors::load(file("results"), &Device::Cpu).unwrap();
    let mut by_case: Vec<Tensors> = vec![Tensors::new(); cases.len()];
    for (key, tensor) in results {
        let (case, name) = key.split_once('.').unwrap();
        by_case[case.parse::<usize>().unwrap()].insert(name.to_owned(), tensor);
    }
    for ((what, case), reference) in cases.iter().zip(&by_case) {
        case.check(reference, 1e-5, what);
    }
}
