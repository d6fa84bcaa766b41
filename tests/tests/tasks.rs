//! Several labels per image, and numbers, from a table to a prediction, on small made-up pictures.

mod common;

use std::path::Path;

use candle_core::Device;
use firstsight_models::networks::MOBILENET_V2;
use firstsight_models::{ImageClassifier, InputShape, Params};
use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

use common::{refuses, succeeds};

const N: u32 = 120;
const NAMES: [&str; 3] = ["red", "green", "blue"];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn file(path: &Path) -> Value {
    json(&std::fs::read_to_string(path).unwrap())
}

/// Which of the squares picture `i` has, and its brightness.
fn facts(i: u32) -> ([bool; 3], u8) {
    let mixed = i.wrapping_mul(2_654_435_761) >> 8;
    ([mixed & 1 > 0, mixed & 2 > 0, mixed & 4 > 0], (40 + mixed / 8 % 120) as u8)
}

/// Gray pictures of 32x32 pixels, each with a red, a green and a blue square in its place or without them; and tables: of
/// the squares in one column, in a column each, and of a cost that follows from the brightness.
fn scene() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir(here.join("photos")).unwrap();
    let (mut squares, mut columns) = ("path,label\n".to_owned(), "path,red,green,blue\n".to_owned());
    let mut costs = "path,cost,split\n".to_owned();
    for i in 0..N {
        let (has, gray) = facts(i);
        let pixel = |x: u32, y: u32| {
            let square = (0..3).find(|&k| {
                has[k] && (4 + 9 * k as u32..11 + 9 * k as u32).contains(&x) && (8..24).contains(&y)
            });
            let noise = (x * 7 + y * 13 + i * 31) as u8 % 16;
            let mut rgb = [gray + noise; 3];
            if let Some(k) = square {
                rgb = [20; 3];
                rgb[k] = 235;
            }
            Rgb(rgb)
        };
        RgbImage::from_fn(32, 32, pixel).save(here.join(format!("photos/{i}.png"))).unwrap();
        let names: Vec<&str> =
            NAMES.into_iter().zip(has).filter(|(_, has)| *has).map(|(name, _)| name).collect();
        squares += &format!("photos/{i}.png,{}\n", names.join("|"));
        columns += &format!("photos/{i}.png,{}\n", has.map(|has| u8::from(has).to_string()).join(","));
        let split = if i % 4 == 0 { "test" } else { "train" };
        costs += &format!("photos/{i}.png,{},{split}\n", cost(gray));
    }
    std::fs::write(here.join("squares.csv"), squares).unwrap();
    std::fs::write(here.join("columns.csv"), columns).unwrap();
    std::fs::write(here.join("costs.csv"), costs).unwrap();
    folder
}

fn cost(gray: u8) -> f64 {
    500.0 + 25.0 * f64::from(gray)
}

/// A MobileNetV2 with random weights, laid out as a hub repository.
fn weights(here: &Path) {
    let folder = here.join("weights");
    std::fs::create_dir(&folder).unwrap();
    let params = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    ImageClassifier::new(&MOBILENET_V2, input, 1000, MOBILENET_V2.init, &params).unwrap();
    params.save(&folder.join("model.safetensors")).unwrap();
    let config = serde_json::json!({
        "architecture": "mobilenetv2_100", "num_classes": 1000,
        "pretrained_cfg": {"input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 0.875,
            "num_classes": 1000, "first_conv": "conv_stem", "classifier": "classifier"},
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

const REGRESSION: [&str; 4] = ["--label-column", "cost", "--task", "regression"];

#[test]
fn several_labels_are_trained_measured_and_predicted() {
    let folder = scene();
    let here = folder.path();
    let train = [
        "train",
        "squares.csv",
        "--model",
        "cnn",
        "--input",
        "32x32x3",
        "--epochs",
        "25",
        "--batch-size",
        "16",
    ];
    let said = succeeds(here, &[&train[..], &["--out", "run"]].concat());
    assert!(said.contains("mAP") && said.contains("macro F1"), "{said}");
    let config = file(&here.join("run/config.json"));
    assert_eq!(config["problem_type"], "multi_label_classification");
    assert_eq!(config["label_names"], serde_json::json!(["blue", "green", "red"]));
    assert_eq!(config["thresholds"].as_array().unwrap().len(), 3);
    let metrics = file(&here.join("run/metrics.json"));
    assert!(metrics["val"]["mean_average_precision"].as_f64().unwrap() > 0.9, "{metrics}");
    assert!(metrics["val"]["macro_f1"].as_f64().unwrap() > 0.8, "{metrics}");
    let page = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    assert!(page.contains("Label by label") && page.contains("threshold"));
    assert!(
        page.contains("<dt>labels</dt><dd><bdi>3</bdi>") && page.contains("20 % of each label set aside")
    );
    assert!(page.contains("the first of the highest validation mean average precision"));
    let f1 = |name: &str| format!("{:.3}", metrics["val"][name].as_f64().unwrap());
    let said = format!("together (micro) is {}, the mean of the labels", f1("micro_f1"));
    assert!(page.contains(&said) && page.contains(&format!("(macro) {}", f1("macro_f1"))), "{said}");
    let rows = std::fs::read_to_string(here.join("run/predictions.csv")).unwrap();
    assert!(rows.starts_with("path,split,truth,prediction,blue,green,red,note\n"), "{rows}");

    let evaluation = json(&succeeds(here, &["evaluate", "run", "squares.csv", "--split", "val", "--json"]));
    assert_eq!(evaluation["loss"], metrics["val"]["loss"]);
    assert_eq!(evaluation["per_label"], metrics["val"]["per_label"]);
    assert_eq!(evaluation["per_label"][0]["label"], "blue");
    let told = succeeds(here, &["evaluate", "run", "squares.csv", "--split", "val"]);
    assert!(told.contains("mAP") && told.contains("threshold"), "{told}");

    let images: Vec<String> = (0..20).map(|i| format!("photos/{i}.png")).collect();
    let mut predict = vec!["predict", "--run", "run", "--json"];
    predict.extend(images.iter().map(String::as_str));
    let predictions = json(&succeeds(here, &predict));
    let mut right = 0;
    for (i, row) in (0..).zip(predictions.as_array().unwrap()) {
        let labels = row["labels"].as_array().unwrap();
        assert_eq!(labels.len(), 3, "every label is told: {row}");
        for label in labels {
            let probability = label["probability"].as_f64().unwrap();
            let place = NAMES.iter().position(|name| label["label"] == *name).unwrap();
            assert_eq!(label["present"], probability >= label["threshold"].as_f64().unwrap());
            right += usize::from(label["present"] == facts(i).0[place]);
        }
    }
    assert!(right >= 50, "{right} of 60 labels are right");
    let csv = succeeds(here, &["predict", "--run", "run", "--csv", "photos/0.png"]);
    assert!(csv.starts_with("image,labels,blue,green,red"), "{csv}");
}

#[test]
fn a_column_for_each_label_is_the_same_as_one_for_all() {
    let folder = scene();
    let here = folder.path();
    let train = |table: &str, more: &[&str], out: &str| {
        let args =
            ["train", table, "--model", "logistic", "--input", "16x16x3", "--epochs", "3", "--out", out];
        succeeds(here, &[&args[..], more].concat());
        file(&here.join(out).join("config.json"))["label_names"].clone()
    };
    assert_eq!(train("squares.csv", &[], "one"), serde_json::json!(["blue", "green", "red"]));
    let columns = ["--label-column", "red,green,blue"];
    assert_eq!(train("columns.csv", &columns, "each"), serde_json::json!(["red", "green", "blue"]));
}

#[test]
fn costs_are_trained_measured_and_predicted_in_their_units() {
    let folder = scene();
    let here = folder.path();
    std::fs::rename(here.join("costs.csv"), here.join("cost-table.csv")).unwrap();
    let train = [
        "train",
        "cost-table.csv",
        "--model",
        "logistic",
        "--input",
        "16x16x3",
        "--epochs",
        "80",
        "--batch-size",
        "16",
    ];
    let said = succeeds(here, &[&train[..], &REGRESSION, &["--lr", "0.003", "--out", "run"]].concat());
    assert!(said.contains("MAE") && said.contains("R²"), "{said}");
    let config = file(&here.join("run/config.json"));
    assert_eq!((&config["problem_type"], &config["num_classes"]), (&"regression".into(), &1.into()));
    assert_eq!(config["label_names"], serde_json::json!(["cost"]));
    assert!((1500.0..4500.0).contains(&config["target_mean"].as_f64().unwrap()), "{config}");
    let metrics = file(&here.join("run/metrics.json"));
    assert!(metrics["test"]["r2"].as_f64().unwrap() > 0.5, "{metrics}");
    let page = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    assert!(page.contains("Scatter plot of predicted cost against true cost"));
    assert!(
        page.contains("<dt>numbers</dt><dd><bdi>cost</bdi>") && page.contains("<bdi>cost-table.csv</bdi>")
    );
    assert!(page.contains("set aside, small and large numbers alike") && !page.contains("of each class"));
    assert!(page.contains("the first of the lowest validation loss"));
    let mae = metrics["test"]["mean_absolute_error"].as_f64().unwrap();
    let stated = page.split("mean absolute error (MAE) is ").nth(1).unwrap().split(' ').next().unwrap();
    assert!((stated.replace(',', "").parse::<f64>().unwrap() - mae).abs() < 0.51, "{stated}: {mae}");
    assert!(page.contains("root mean squared error (RMSE)") && page.contains("of standardized numbers"));
    let told = succeeds(here, &["evaluate", "run", "cost-table.csv", "--label-column", "cost"]);
    assert!(told.contains("(of standardized numbers)"), "{told}");

    // The run knows what it is about: no flag is needed.
    let args = ["evaluate", "run", "cost-table.csv", "--label-column", "cost", "--json"];
    let evaluation = json(&succeeds(here, &args));
    assert_eq!(evaluation["mean_absolute_error"], metrics["test"]["mean_absolute_error"]);
    assert_eq!(evaluation["n"], 30);
    let predictions =
        json(&succeeds(here, &["predict", "--run", "run", "--json", "photos/0.png", "photos/1.png"]));
    let rows = std::fs::read_to_string(here.join("run/predictions.csv")).unwrap();
    assert!(rows.starts_with("path,split,truth,prediction,note\n"), "{rows}");
    // The first is a test image, and the run has kept what it says of it.
    let kept = rows.lines().find(|line| line.contains("photos/0.png")).unwrap();
    let kept: f64 = kept.rsplit(',').nth(1).unwrap().parse().unwrap();
    let first = &predictions[0];
    assert_eq!(first["label"], "cost");
    assert!((first["value"].as_f64().unwrap() / kept - 1.0).abs() < 1e-4, "{first} against {kept}");
    let csv = succeeds(here, &["predict", "--run", "run", "--csv", "photos/0.png"]);
    assert!(csv.starts_with("image,cost"), "{csv}");
}

/// The rows of a file of predictions, without its header.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(|row| row.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn figures_of_several_labels_and_of_numbers_are_pooled_over_folds() {
    let folder = scene();
    let here = folder.path();
    let train = |data: &[&str], epochs: &str, out: &str| {
        let fixed = ["--model", "logistic", "--input", "16x16x3", "--epochs", epochs, "--batch-size", "16"];
        let folds = ["--folds", "3", "--out", out];
        let said = succeeds(here, &[&["train"], data, &fixed[..], &folds].concat());
        let pooled = said.lines().find(|line| line.starts_with("all ")).unwrap().to_owned();
        (
            pooled,
            file(&here.join(out).join("cross-validation.json")),
            rows(&here.join(out).join("predictions.csv")),
        )
    };
    let close = |value: &Value, expected: f64| {
        assert!((value.as_f64().unwrap() / expected - 1.0).abs() < 1e-4, "{value}: {expected}");
    };

    let (said, result, rows) = train(&["squares.csv"], "1", "labels");
    let pooled = &result["pooled"];
    assert_eq!((rows.len(), &pooled["n"]), (N as usize, &N.into()));
    let labels = |cell: &String| cell.split('|').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let pairs: Vec<(Vec<String>, Vec<String>)> =
        rows.iter().map(|row| (labels(&row[3]), labels(&row[4]))).collect();
    // The file is by each run's thresholds, which are the best ones for its own images.
    let both = |(truth, said): &(Vec<String>, Vec<String>)| truth.iter().filter(|n| said.contains(n)).count();
    let sum: usize = pairs.iter().map(|(truth, said)| truth.len() + said.len()).sum();
    let of_file = 2.0 * pairs.iter().map(both).sum::<usize>() as f64 / sum as f64;
    assert!(pooled["micro_f1"].as_f64().unwrap() < of_file, "{pooled}: {of_file}");
    // A fold's page names exactly the images whose labels are not all right.
    let page = std::fs::read_to_string(here.join("labels/fold-1/report.html")).unwrap().replace("<wbr/>", "");
    let of_fold: Vec<_> = rows.iter().filter(|row| row[0] == "fold-1").collect();
    let wrong = of_fold.iter().filter(|row| row[3] != row[4]).count();
    assert!(wrong > 1 && page.contains(&format!("All {wrong} images with wrong labels")), "{wrong}");
    for row in of_fold {
        assert_eq!(page.contains(&format!(">{}<", row[1])), row[3] != row[4], "{row:?}");
    }
    let f1 = format!("micro F1 {:.4}", pooled["micro_f1"].as_f64().unwrap());
    assert!(said.contains(&f1) && said.contains("thresholds that other images chose"), "{said}");

    let (said, result, rows) = train(&[&["costs.csv"], &REGRESSION[..]].concat(), "20", "costs");
    let pooled = &result["pooled"];
    let number = |cell: &String| cell.parse::<f64>().unwrap();
    let pairs: Vec<(f64, f64)> = rows.iter().map(|row| (number(&row[3]), number(&row[4]))).collect();
    let n = pairs.len() as f64;
    assert_eq!(pooled["n"].as_f64(), Some(n));
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / n;
    let (average, squared) = (mean(&|(t, _)| *t), mean(&|(t, p)| (p - t).powi(2)));
    close(&pooled["mean_absolute_error"], mean(&|(t, p)| (p - t).abs()));
    close(&pooled["root_mean_squared_error"], squared.sqrt());
    close(&pooled["r2"], 1.0 - squared / mean(&|(t, _)| (t - average).powi(2)));
    assert!(
        said.contains(&format!("all {n} images")) && said.contains("MAE") && said.contains("R²"),
        "{said}"
    );
}

#[test]
fn fine_tuning_knows_both_tasks() {
    let folder = scene();
    let here = folder.path();
    weights(here);
    let fine_tune = |data: &[&str], preset: &str, out: &str, more: &[&str]| {
        let fixed =
            ["--backbone", "mobilenet-v2", "--weights", "weights", "--crop", "squash", "--preset", preset];
        succeeds(here, &[&["fine-tune"], data, &fixed[..], &["--out", out], more].concat());
        (file(&here.join(out).join("metrics.json")), file(&here.join(out).join("config.json")))
    };
    let (metrics, config) = fine_tune(&["squares.csv"], "quick", "labels", &[]);
    assert!(metrics["val"]["mean_average_precision"].as_f64().unwrap() > 0.6, "{metrics}");
    assert!(metrics["head"]["val"]["mean_average_precision"].is_number(), "{metrics}");
    assert_eq!(config["thresholds"].as_array().unwrap().len(), 3);
    let of_none = serde_json::json!({"changes": "none", "mix": null, "label_smoothing": 0.0});
    assert_eq!(config["training"]["augmentation"], of_none, "quick changes no image");
    let page = std::fs::read_to_string(here.join("labels/report.html")).unwrap();
    assert!(page.contains("the penalty of the lowest loss is chosen"));
    let costs = [&["costs.csv"], &REGRESSION[..]].concat();
    let (metrics, config) = fine_tune(&costs, "quick", "costs", &[]);
    let page = std::fs::read_to_string(here.join("costs/report.html")).unwrap();
    assert!(page.contains("<dt>data</dt><dd><bdi>costs.csv</bdi>") && page.contains(">photos/"), "the table");
    // Random features say little of brightness.
    assert!(metrics["test"]["r2"].is_number() && metrics["head"]["val"]["r2"].is_number(), "{metrics}");
    assert!(config["target_std"].as_f64().unwrap() > 100.0);

    let upper = ["--unfreeze-from", "conv_head", "--epochs", "1", "--learning-rate", "0.001"];
    let (metrics, config) = fine_tune(&["squares.csv"], "standard", "more-labels", &upper);
    assert_eq!(config["training"]["augmentation"]["changes"], "photos");
    assert!(metrics["val"]["micro_f1"].is_number(), "{metrics}");
    let (metrics, _) = fine_tune(&costs, "standard", "more-costs", &upper);
    assert!(metrics["val"]["mean_absolute_error"].is_number(), "{metrics}");
    let predicted = succeeds(here, &["predict", "--run", "more-costs", "photos/3.png"]);
    assert!(predicted.contains("cost"), "{predicted}");
    // What others get answers as the run does.
    for (run, caption) in [("labels", "its most probable labels"), ("costs", "a high number")] {
        succeeds(here, &["export", run, "--hub", "me/x", "--dry-run", "published"]);
        let predict = |network: [&str; 2]| {
            json(&succeeds(here, &[&["predict"], &network[..], &["--json", "photos/3.png"]].concat()))
        };
        let expected = predict(["--run", run]);
        assert_eq!(predict(["--weights", "published"]), expected);
        let look = ["--layer", "bn1", "--channel", "0", "--steps", "1", "--image", "photos/3.png"];
        succeeds(here, &[&["visualize", "--run", run], &look[..], &["--out", "seen"]].concat());
        let page = std::fs::read_to_string(here.join("seen/report.html")).unwrap();
        let most = |labels: &Vec<Value>| {
            labels.iter().map(|label| label["probability"].as_f64().unwrap()).fold(0.0, f64::max)
        };
        let figure = match expected[0]["labels"].as_array() {
            Some(labels) => format!("{:.1} %", 100.0 * most(labels)),
            None => expected[0]["value"].to_string(),
        };
        assert!(page.contains(caption) && page.contains(&figure), "{figure} of {run}");
    }
}

#[test]
fn a_search_maximizes_map_and_minimizes_the_loss_of_numbers() {
    let folder = scene();
    let here = folder.path();
    let tune = |data: &[&str]| {
        let fixed = ["--model", "logistic", "--input", "16x16x3", "--trials", "3", "--epochs", "3", "--json"];
        json(&succeeds(here, &[&["tune"], data, &fixed[..]].concat()))
    };
    let values = |document: &Value| -> Vec<f64> {
        document["trials"].as_array().unwrap().iter().filter_map(|t| t["value"].as_f64()).collect()
    };
    let labels = tune(&["squares.csv"]);
    let best = labels["best"]["value"].as_f64().unwrap();
    assert!(values(&labels).iter().all(|value| *value <= best), "{labels}");
    let costs = tune(&[&["costs.csv"], &REGRESSION[..]].concat());
    let best = costs["best"]["value"].as_f64().unwrap();
    assert!(values(&costs).iter().all(|value| *value >= best), "{costs}");
}

#[test]
fn what_fits_no_task_is_refused_by_name() {
    let folder = scene();
    let here = folder.path();
    let train =
        ["train", "costs.csv", "--model", "logistic", "--input", "16x16x3", "--epochs", "1", "--out", "run"];
    refuses(
        here,
        &[&train[..], &REGRESSION, &["--label-smoothing", "0.1"]].concat(),
        &["label_smoothing", "regression"],
    );
    refuses(here, &[&train[..], &REGRESSION, &["--cutmix", "1"]].concat(), &["mix", "regression"]);
    std::fs::write(here.join("odd.csv"), "path,cost\nphotos/0.png,12\nphotos/1.png,about 3\n").unwrap();
    let odd = [&["train", "odd.csv"], &train[2..], &REGRESSION].concat();
    refuses(here, &odd, &["odd.csv line 3", "cost", "finite number", "about 3"]);
}
