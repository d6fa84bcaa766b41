//! The answers of `train`, `evaluate` and `predict`: figures that one can use, rows for every file, and 'none of these'.

mod common;

use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::Value;

use common::succeeds;

/// `n` pictures of 16×16 pixels in each class that have nothing to do with their class.
fn noise(folder: &Path, classes: &[&str], n: u32, seed: u32) {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    for class in classes {
        let folder = folder.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..n {
            let picture = RgbImage::from_fn(16, 16, |_, _| {
                // xorshift, Marsaglia 2003.
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                let [r, g, b, _] = state.to_le_bytes();
                Rgb([r, g, b])
            });
            picture.save(folder.join(format!("{i:03}.png"))).unwrap();
        }
    }
}

fn train(here: &Path, data: &str, run: &str) {
    let args = ["train", data, "--model", "logistic", "--input", "16x16x3", "--epochs", "3", "--out", run];
    succeeds(here, &args);
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn json(path: &Path) -> Value {
    parse(&std::fs::read_to_string(path).unwrap())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn every_document_has_the_same_figures() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("two"), &["ants", "bees"], 40, 1);
    train(here, "two", "run");
    let measured = parse(&succeeds(here, &["evaluate", "run", "two", "--split", "val", "--json"]));
    assert_eq!(measured, json(&here.join("run/metrics.json"))["val"]);

    let n = number(&measured["n"]);
    let confusion = |i: usize, j: usize| number(&measured["confusion"][i][j]);
    assert_eq!(confusion(0, 0) + confusion(0, 1) + confusion(1, 0) + confusion(1, 1), n);
    assert_eq!(number(&measured["accuracy"]), (confusion(0, 0) + confusion(1, 1)) / n);
    let mut recalls = 0.0;
    for (i, label) in ["ants", "bees"].into_iter().enumerate() {
        let class = &measured["per_class"][i];
        assert_eq!(class["label"], label);
        assert_eq!(number(&class["n"]), confusion(i, 0) + confusion(i, 1));
        let called = confusion(0, i) + confusion(1, i);
        let (precision, recall) = (confusion(i, i) / called.max(1.0), confusion(i, i) / number(&class["n"]));
        assert_eq!(number(&class["precision"]), precision);
        assert_eq!((number(&class["recall"]), number(&class["accuracy"])), (recall, recall));
        let f1 = 2.0 * confusion(i, i) / (called + number(&class["n"]));
        assert!((number(&class["f1"]) - f1).abs() < 1e-12);
        recalls += recall;
    }
    assert!((number(&measured["balanced_accuracy"]) - recalls / 2.0).abs() < 1e-12);
    assert_eq!(measured["macro_recall"], measured["balanced_accuracy"]);
    assert!(number(&measured["macro_precision"]) > 0.0 && number(&measured["macro_f1"]) > 0.0);
    assert!(number(&measured["expected_calibration_error"]) > 0.0);
    let interval = |i: usize| number(&measured["accuracy_interval"][i]);
    assert!(interval(0) < number(&measured["accuracy"]) && number(&measured["accuracy"]) < interval(1));

    let said = succeeds(here, &["evaluate", "run", "two", "--split", "val"]);
    for word in ["95 % interval", "macro F1", "precision"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn top_5_is_a_figure_of_more_than_five_classes() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for (n, stated) in [(5, false), (6, true)] {
        let (data, run) = (format!("data{n}"), format!("run{n}"));
        noise(&here.join(&data), &["a", "b", "c", "d", "e", "f"][..n], 10, 2);
        train(here, &data, &run);
        let measured = parse(&succeeds(here, &["evaluate", &run, &data, "--json"]));
        assert_eq!(measured.get("top5_accuracy").is_some(), stated, "{n} classes");
        assert_eq!(succeeds(here, &["evaluate", &run, &data]).contains("top-5"), stated);
        let history = std::fs::read_to_string(here.join(run).join("history.csv")).unwrap();
        assert_eq!(history.contains("top5"), stated);
    }
}

#[test]
fn the_page_names_every_wrong_photo() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("two"), &["ants", "<b>ees"], 60, 3);
    train(here, "two", "run");
    let page = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    let metrics = json(&here.join("run/metrics.json"));
    let confusion = |i: usize, j: usize| metrics["val"]["confusion"][i][j].as_u64().unwrap() as usize;
    let wrong = confusion(0, 1) + confusion(1, 0);
    assert!(wrong > 0);
    let rows = page.matches("<th scope=\"row\"><bdi>ants/").count()
        + page.matches("<th scope=\"row\"><bdi>&lt;b&gt;ees/").count();
    assert_eq!(rows, wrong, "a row for each");
    assert!(page.contains("<details") && !page.contains("<b>ees"));
    assert!(page.matches(" title=\"").count() >= wrong.min(40), "a title for each picture");
}
