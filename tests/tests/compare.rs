//! `compare`: several runs beside each other.

mod common;

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use common::{refuses, succeeds};

/// A run whose answers are right where `right` says so.
fn run(folder: &Path, right: &[bool], losses: &[f64]) {
    std::fs::create_dir_all(folder).unwrap();
    let config = json!({"architecture": "mobilenetv2_100", "problem_type": "single_label_classification"});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.join("model.safetensors"), [0; 2000]).unwrap();
    let n = right.len();
    let accuracy = right.iter().filter(|&&right| right).count() as f64 / n as f64;
    let val = json!({"loss": losses.last(), "accuracy": accuracy, "accuracy_interval": [accuracy / 2.0, 1.0], "n": n});
    let metrics = json!({"epochs": losses.len(), "val": val, "test": null});
    std::fs::write(folder.join("metrics.json"), metrics.to_string()).unwrap();
    let mut history = "epoch,loss,val_loss\n".to_owned();
    for (i, loss) in losses.iter().enumerate() {
        writeln!(history, "{},{loss},{}", i + 1, loss + 0.1).unwrap();
    }
    std::fs::write(folder.join("history.csv"), history).unwrap();
    let mut rows = "path,split,truth,prediction,probability,truth_probability,note\n".to_owned();
    for (i, right) in right.iter().enumerate() {
        writeln!(rows, "val/{i}.jpg,val,ant,{},0.9,0.9,", if *right { "ant" } else { "bee" }).unwrap();
    }
    std::fs::write(folder.join("predictions.csv"), rows).unwrap();
}

#[test]
fn runs_on_the_same_images_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // Of 40 images, the second is wrong on 12 of which the first is right on 10.
    let first: Vec<bool> = (0..40).map(|i| i >= 4).collect();
    let second: Vec<bool> = (0..40).map(|i| !(2..14).contains(&i)).collect();
    run(&here.join("a/one"), &first, &[0.5, 0.3, 0.2]);
    run(&here.join("b/two"), &second, &[0.6, 0.4]);
    let said = succeeds(here, &["compare", "a/one", "b/two", "--json"]);
    let document: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&document["split"], &document["same_images"]), (&json!("val"), &json!(true)));
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs[0]["figures"]["accuracy"], 0.9);
    assert_eq!(runs[0]["against_best"], Value::Null);
    let difference = &runs[1]["against_best"];
    assert_eq!((&difference["only_other"], &difference["only_this"]), (&json!(10), &json!(2)));
    // scipy.stats.binomtest(2, 12).pvalue
    assert!((difference["p_value"].as_f64().unwrap() - 0.038_574_218_75).abs() < 1e-12);
    let page = std::fs::read_to_string(here.join("compare.html")).unwrap();
    for part in ["one", "two", "0.9000", "0.0386", "validation loss", "training loss"] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    let said = succeeds(here, &["compare", "a/one", "b/two", "--out", "page.html"]);
    assert!(said.contains("two  accuracy 0.7000") && said.contains("p 0.0386"), "{said}");
}

#[test]
fn files_of_the_same_names_may_hold_other_images() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let record = |name: &str, hash: &str, label: &str| {
        let mut rows = "file,sha256,label,split\n".to_owned();
        for i in 0..10 {
            writeln!(rows, "val/{i}.jpg,{},{label},val", hash.repeat(64)).unwrap();
        }
        std::fs::write(here.join(name).join("split.csv"), rows).unwrap();
    };
    let are_same = || {
        let said = succeeds(here, &["compare", "one", "two", "--json"]);
        serde_json::from_str::<Value>(&said).unwrap()["same_images"] == true
    };
    run(&here.join("one"), &[true; 10], &[0.5]);
    run(&here.join("two"), &[false; 10], &[0.5]);
    record("one", "1", "ant");
    assert!(are_same(), "one run alone has recorded them");
    record("two", "1", "ant");
    assert!(are_same());
    for (hash, label) in [("2", "ant"), ("1", "bee")] {
        record("two", hash, label);
        assert!(!are_same(), "{hash} {label}");
    }
    std::fs::remove_file(here.join("one/split.csv")).unwrap();
    let rows = std::fs::read_to_string(here.join("two/predictions.csv")).unwrap();
    std::fs::write(here.join("two/predictions.csv"), rows.replace(",ant,", ",bee,")).unwrap();
    assert!(!are_same(), "the true classes are others");
}

#[test]
fn runs_on_other_images_are_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(&here.join("one"), &[true; 10], &[0.5]);
    run(&here.join("two"), &[true; 9], &[0.5]);
    let said = succeeds(here, &["compare", "one", "two"]);
    assert!(said.contains("not known to be measured on the same images") && !said.contains(" p "), "{said}");
    refuses(here, &["compare", "one"], &["2"]);
    refuses(here, &["compare", "one", "nowhere"], &["nowhere"]);
    let config = json!({"architecture": "mobilenetv2_100", "problem_type": "regression"});
    std::fs::write(here.join("two/config.json"), config.to_string()).unwrap();
    refuses(here, &["compare", "one", "two"], &["one task", "regression"]);
    std::fs::write(here.join("two/metrics.json"), "{").unwrap();
    refuses(here, &["compare", "one", "two"], &["two/metrics.json"]);
}
