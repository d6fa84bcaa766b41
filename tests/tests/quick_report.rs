//! The numbers of the quick report against those of `goldens/quick-report.json`, by instruction set.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{command, json};
use firstsight_ops::{Instructions, instructions};
use serde_json::Value;

/// Values by their places in `metrics.json`, such as `models/cnn/test/accuracy`.
type Values = BTreeMap<String, Value>;

/// Accuracies of some hundred images with other instructions are up to 0.103 away from each other, losses up to 3.3 times the other
/// (training losses of a last layer that fits nearly all).
const ACCURACY: f64 = 0.15;
const LOSS: f64 = 5.0;

const WRITE: &str = "FIRSTSIGHT_WRITE_GOLDENS";

fn name_of(set: Instructions) -> &'static str {
    match set {
        Instructions::Avx512 => "avx512",
        Instructions::Avx2 => "avx2",
        _ => "plain",
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/quick-report.json")
}

/// All of a report's values but times and what a hub's absence is called.
fn values(report: &Path) -> Values {
    fn add(place: &str, value: &Value, found: &mut Values) {
        let mut child = |key: &str, value: &Value| {
            let place = if place.is_empty() { key.to_owned() } else { format!("{place}/{key}") };
            add(&place, value, found);
        };
        match value {
            Value::Object(object) => object.iter().for_each(|(key, value)| child(key, value)),
            Value::Array(array) => {
                array.iter().enumerate().for_each(|(i, value)| child(&i.to_string(), value));
            }
            value => {
                let last = place.rsplit('/').next().unwrap();
                if !last.starts_with("seconds") && last != "without_hub" {
                    found.insert(place.to_owned(), value.clone());
                }
            }
        }
    }
    let mut found = Values::new();
    add("", &json(&report.join("metrics.json")), &mut found);
    found
}

/// The report of `cargo xtask reproduce-lecture --quick`, which another rounding may have trained: the same settings and sizes, and
/// results as near as those of the instruction sets are to each other.
#[test]
fn the_quick_report_is_near_its_golden() {
    let Some(report) = std::env::var_os("FIRSTSIGHT_QUICK_REPORT").map(PathBuf::from) else {
        println!("skipped: FIRSTSIGHT_QUICK_REPORT names no folder of a quick report");
        return;
    };
    let golden = json(&path());
    let mut golden: Values = serde_json::from_value(golden[name_of(instructions())].clone()).unwrap();
    let mut found = values(&report);
    // With a hub, another network is fine-tuned.
    if json(&report.join("metrics.json"))["transfer"].get("without_hub").is_none() {
        for values in [&mut golden, &mut found] {
            values.retain(|place, _| !place.starts_with("transfer/"));
        }
    }
    // What a search draws follows from the values before.
    for values in [&mut golden, &mut found] {
        values.retain(|place, _| {
            let is_drawn = ["params/", "best_params/"].iter().any(|part| place.contains(part));
            !(place.starts_with("search/") && (is_drawn || place.ends_with("best_trial")))
        });
    }
    let places = |values: &Values| values.keys().cloned().collect::<Vec<_>>();
    assert_eq!(places(&found), places(&golden));
    let mut n_equal = 0;
    for (place, golden) in &golden {
        let value = &found[place];
        n_equal += usize::from(value == golden);
        let of = |word: &str| place.split('/').any(|part| part.contains(word));
        match (value.as_f64(), golden.as_f64()) {
            (Some(value), Some(golden)) if of("accuracy") => {
                assert!((value - golden).abs() <= ACCURACY, "{place}: {value}, the golden has {golden}");
            }
            (Some(value), Some(golden)) if of("loss") || of("value") || of("mean_over_seeds") => {
                let ratio = value / golden;
                assert!((1.0 / LOSS..LOSS).contains(&ratio), "{place}: {value}, the golden has {golden}");
            }
            _ if of("best_epoch") => {}
            _ => assert_eq!(value, golden, "{place}"),
        }
    }
    println!("{n_equal} of {} values are the golden's bit for bit", golden.len());
}

/// The same bits on every run with one instruction set.
#[test]
#[ignore = "three quick reports, minutes each: cargo test --release --workspace --test quick_report -- --ignored"]
fn the_quick_report_is_its_golden_with_each_instruction_set() {
    let folder = tempfile::tempdir().unwrap();
    let mut found: BTreeMap<&str, Values> = BTreeMap::new();
    for set in [Instructions::Avx512, Instructions::Avx2, Instructions::Plain] {
        if set > instructions() {
            println!("skipped: this processor has no {}", name_of(set));
            continue;
        }
        let name = name_of(set);
        let out = folder.path().join(name);
        let args = ["reproduce-lecture", "--quick", "--out", name];
        let mut command = command(folder.path(), &args);
        // No hub: what it has is not in the golden.
        command.env("FIRSTSIGHT_TESTS_INSTRUCTIONS", name).env("HF_ENDPOINT", "http://127.0.0.1:1");
        assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success(), "{name}");
        found.insert(name, values(&out));
    }
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(path(), serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
        return;
    }
    let golden = json(&path());
    for (name, found) in found {
        let golden: Values = serde_json::from_value(golden[name].clone()).unwrap();
        for (place, value) in &golden {
            assert_eq!(found.get(place), Some(value), "{name}, {place} ({WRITE}=1 writes the goldens anew)");
        }
        assert_eq!(found.len(), golden.len(), "{name}");
    }
}
