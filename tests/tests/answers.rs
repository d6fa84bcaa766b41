//! The answers of `train`, `evaluate` and `predict`: figures that one can use, rows for every file, and 'none of these'.

mod common;

use std::path::Path;

use image::{Rgb, RgbImage};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;

use common::{cli, refuses, succeeds, text};

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

/// Asserts that a document has all fields of another, with the same values.
fn assert_holds(document: &Value, fields: &Value) {
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&document[name], value, "{name}");
    }
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
    assert_holds(&measured, &json(&here.join("run/metrics.json"))["val"]);

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
    let rows = page.matches("class=\"path-cell\"><bdi>ants/").count()
        + page.matches("class=\"path-cell\"><bdi>&lt;b&gt;ees/").count();
    assert_eq!(rows, wrong, "a row for each");
    assert!(page.contains("<details") && !page.contains("<b>ees"));
    assert!(page.matches(" title=\"").count() >= wrong.min(40), "a title for each picture");
}

/// `n` pictures of 16×16 pixels in each class, of the class's color and a little noise.
fn colors(folder: &Path, classes: &[(&str, [u8; 3])], n: u32) {
    for (class, color) in classes {
        let folder = folder.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..n {
            let pixel = |x: u32, y: u32| {
                Rgb(color.map(|value| value.saturating_add(((x * 7 + y * 13 + i * 31) % 60) as u8)))
            };
            RgbImage::from_fn(16, 16, pixel).save(folder.join(format!("{i:03}.png"))).unwrap();
        }
    }
}

/// A run on red and blue pictures, a few of which are under the other's name.
fn red_and_blue(here: &Path) {
    colors(&here.join("photos"), &[("blue", [0, 0, 150]), ("red", [150, 0, 0])], 100);
    for i in 0..8 {
        let picture = here.join(format!("photos/blue/{i:03}.png"));
        std::fs::rename(&picture, here.join(format!("photos/red/blue{i}.png"))).unwrap();
    }
    let args =
        ["train", "photos", "--model", "logistic", "--input", "16x16x3", "--epochs", "20", "--out", "run"];
    succeeds(here, &args);
}

/// The columns' names, then the rows, as a CSV file has them.
fn parquet_rows(path: &Path) -> Vec<Vec<String>> {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let schema = reader.metadata().file_metadata().schema().clone();
    let text = |field: &Field| match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Float(value) => value.to_string(),
        other => panic!("{other}"),
    };
    let names = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        row.get_column_iter().map(|(_, field)| text(field)).collect()
    });
    std::iter::once(names).chain(rows).collect()
}

#[test]
fn every_file_has_a_row_in_order_and_unreadable_ones_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("two"), &["ants", "bees"], 10, 1);
    train(here, "two", "run");
    std::fs::write(here.join("two/ants/003.png"), "").unwrap();
    std::fs::write(here.join("two/bees/005.png"), "<!DOCTYPE html>").unwrap();
    let sound = std::fs::read(here.join("two/ants/000.png")).unwrap();
    std::fs::write(here.join("two/bees/009.png"), &sound[..sound.len() / 2]).unwrap();

    let output = cli(here, &["predict", "--run", "run", "--csv", "two", "--damaged", "refuse"]);
    assert_eq!(output.status.code(), Some(1));
    let (rows, said) = (text(&output.stdout), text(&output.stderr));
    let rows: Vec<Vec<&str>> = rows.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["image", "label_1", "probability_1", "label_2", "probability_2", "error", "note"]);
    assert_eq!(rows.len(), 21);
    for (i, row) in rows[1..].iter().enumerate() {
        let name = format!("two/{}/{:03}.png", ["ants", "bees"][i / 10], i % 10);
        assert_eq!(row[0], name);
        let unreadable = [3, 15, 19].contains(&i);
        assert_eq!((row[1].is_empty(), row[2].is_empty()), (unreadable, unreadable), "{row:?}");
        assert_eq!(row[5..].concat().is_empty(), !unreadable, "{row:?}");
        assert_eq!(said.contains(&name), unreadable, "{said}");
    }
    assert!(said.contains("3 of 20"), "{said}");

    let parquet = ["predict", "--run", "run", "--parquet", "rows.parquet", "two"];
    let output = cli(here, &[&parquet[..], &["--damaged", "refuse"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let table = parquet_rows(&here.join("rows.parquet"));
    assert_eq!(table.len(), 21);
    assert_eq!(table[0], rows[0]);
    for (found, expected) in table[1..].iter().zip(&rows[1..]) {
        assert_eq!(found[..5], expected[..5]);
        assert_eq!(found[5].is_empty(), expected[5].is_empty());
    }
    refuses(here, &[&parquet[..], &["--resume"]].concat(), &["--resume", "--csv=FILE", "Parquet"]);

    let output = cli(here, &["predict", "--run", "run", "--json", "two", "--damaged", "refuse"]);
    assert_eq!(output.status.code(), Some(1));
    let rows = parse(&text(&output.stdout));
    assert_eq!(rows.as_array().unwrap().len(), 20);
    assert!(rows[3]["error"].as_str().unwrap().contains("003.png") && rows[3].get("predictions").is_none());
    assert!(rows[4].get("error").is_none() && rows[4]["predictions"].as_array().unwrap().len() == 2);

    let output = cli(here, &["predict", "--run", "run", "two", "--damaged", "refuse"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout).lines().filter(|line| line.starts_with("two/")).count(), 20);
    assert_eq!(text(&output.stdout).matches("  not read: ").count(), 3);

    succeeds(here, &["predict", "--run", "run", "two/ants/001.png"]);
    refuses(
        here,
        &["predict", "--run", "run", "two/ants/003.png", "nowhere.png"],
        &["003.png", "nowhere.png", "none"],
    );
    refuses(
        here,
        &["predict", "--run", "run", "--on-error", "fail", "--csv", "two"],
        &["003.png", "--on-error"],
    );

    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/data/tests/goldens/images");
    let photo = std::fs::read(goldens.join("rgb-q95.jpg")).unwrap();
    std::fs::write(here.join("stray.jpg"), [b"\n", &photo[..]].concat()).unwrap();
    let said = parse(&succeeds(here, &["predict", "--run", "run", "--json", "stray.jpg"]));
    assert!(said[0]["repaired"].as_str().unwrap().starts_with("repaired"), "{said}");
    let said = succeeds(here, &["predict", "--run", "run", "--csv", "stray.jpg"]);
    assert!(said.lines().nth(1).unwrap().contains(",repaired"), "{said}");
}

#[test]
fn more_images_than_a_batch_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("two"), &["ants", "bees"], 150, 1);
    train(here, "two", "run");
    let all = parse(&succeeds(here, &["predict", "--run", "run", "--json", "two"]));
    assert_eq!(all.as_array().unwrap().len(), 300);
    for i in [0, 127, 128, 299] {
        let name = all[i]["image"].as_str().unwrap();
        let alone = parse(&succeeds(here, &["predict", "--run", "run", "--json", name]));
        assert_eq!(alone[0]["predictions"][0]["label"], all[i]["predictions"][0]["label"]);
        let of = |rows: &Value, i: usize| number(&rows[i]["predictions"][0]["probability"]);
        assert!((of(&alone, 0) - of(&all, i)).abs() < 1e-5);
    }
}

#[test]
fn the_run_and_evaluate_list_what_is_said_of_each_image() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("two/train"), &["ants", "bees"], 40, 1);
    noise(&here.join("two/test"), &["ants", "bees"], 10, 7);
    train(here, "two", "run");
    let metrics = json(&here.join("run/metrics.json"));
    let rows = |text: &str| -> Vec<Vec<String>> {
        text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
    };
    let listed = std::fs::read_to_string(here.join("run/predictions.csv")).unwrap();
    let header = "path,split,truth,prediction,probability,truth_probability,note";
    assert_eq!(listed.lines().next(), Some(header));
    let listed = rows(&listed);
    for split in ["val", "test"] {
        let of: Vec<&Vec<String>> = listed.iter().filter(|row| row[1] == split).collect();
        let right = of.iter().filter(|row| row[2] == row[3]).count();
        assert_eq!(of.len() as f64, number(&metrics[split]["n"]));
        assert_eq!(right as f64 / of.len() as f64, number(&metrics[split]["accuracy"]));
        for row in of {
            assert!(here.join("two").join(&row[0]).is_file() && row[0].contains(&row[2]), "{row:?}");
            let (best, truth): (f64, f64) = (row[4].parse().unwrap(), row[5].parse().unwrap());
            assert!(best >= 0.5 && (row[2] != row[3] || best == truth), "{row:?}");
        }
    }
    let confusion = std::fs::read_to_string(here.join("run/confusion.csv")).unwrap();
    assert_eq!(confusion.lines().count(), 3, "{confusion}");

    succeeds(here, &["evaluate", "run", "two", "--split", "test", "--predictions", "test.csv"]);
    let again = rows(&std::fs::read_to_string(here.join("test.csv")).unwrap());
    let test: Vec<Vec<String>> = listed.into_iter().filter(|row| row[1] == "test").collect();
    assert_eq!(again, test);
}

#[test]
fn probabilities_are_calibrated_on_the_validation_images_and_both_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    red_and_blue(here);
    let page = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    let temperature = json(&here.join("run/config.json"))["temperature"].as_f64();
    let val = &json(&here.join("run/metrics.json"))["val"];
    let Some(temperature) = temperature else {
        assert!(
            val.get("calibrated").is_none() && page.contains("There is no temperature: it would not help")
        );
        return;
    };
    assert_eq!(number(&val["calibrated"]["temperature"]), temperature);
    assert!(number(&val["calibrated"]["loss"]) <= number(&val["loss"]) + 1e-9);
    assert_holds(&parse(&succeeds(here, &["evaluate", "run", "photos", "--split", "val", "--json"])), val);

    let predict = |more: &[&str]| {
        let args = ["predict", "--run", "run", "--json", "photos/red/050.png"];
        parse(&succeeds(here, &[&args[..], more].concat()))[0]["predictions"][0].clone()
    };
    let (own, at_one) = (predict(&[]), predict(&["--temperature", "1"]));
    let logit = |p: f64| (p / (1.0 - p)).ln();
    let (p, q) = (number(&own["probability"]), number(&own["uncalibrated_probability"]));
    assert!((logit(q) / temperature - logit(p)).abs() < 1e-2, "{p} {q} {temperature}");
    assert!((number(&at_one["probability"]) - q).abs() < 1e-6);
    refuses(here, &["predict", "--run", "run", "--temperature", "0", "photos"], &["above 0"]);
    assert!(std::fs::read_to_string(here.join("run/report.html")).unwrap().contains("temperature"));
}

#[test]
fn an_image_of_no_class_is_none_of_these() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    red_and_blue(here);
    colors(&here.join("others"), &[("green", [0, 150, 0])], 5);
    let config = json(&here.join("run/config.json"));
    assert!(number(&config["reject"]["largest_distance"]) > 0.0, "{config}");
    assert_eq!(
        number(&config["reject"]["images"]),
        number(&json(&here.join("run/metrics.json"))["val"]["n"])
    );

    let predict = |args: &[&str]| {
        let fixed = ["predict", "--run", "run", "--json"];
        parse(&succeeds(here, &[&fixed[..], args].concat())).as_array().unwrap().clone()
    };
    for row in predict(&["--reject", "others"]) {
        assert_eq!(row["rejected"], true, "{row}");
        assert!(row["reason"].as_str().unwrap().contains("far"), "{row}");
    }
    let known = predict(&["--reject=0.8", "photos"]);
    let accepted = known.iter().filter(|row| row["rejected"] == false).count();
    assert!(accepted as f64 >= 0.75 * known.len() as f64, "{accepted} of {}", known.len());
    assert!(known.iter().any(|row| row["set"].as_array().unwrap().len() == 1));
    assert!(predict(&["photos"])[0].get("rejected").is_none());
    // The run's folder as weights is the same network.
    let as_weights = succeeds(here, &["predict", "--weights", "run", "--json", "--reject=0.8", "photos"]);
    assert_eq!(parse(&as_weights).as_array(), Some(&known));
    let at_another = ["predict", "--run", "run", "--reject", "--temperature", "1", "photos"];
    refuses(here, &at_another, &["--reject", "--temperature", "cannot be used with"]);

    let said = succeeds(here, &["predict", "--run", "run", "--reject", "others/green/000.png"]);
    assert!(said.contains("none of these: far from all classes") && !said.contains("blue"), "{said}");
    let said = succeeds(here, &["predict", "--run", "run", "--reject", "--csv", "others/green/000.png"]);
    assert!(said.lines().nth(1).unwrap().contains("far from all classes"), "{said}");
    let output = cli(here, &["predict", "--run", "run", "--reject=0.999", "others/green/000.png"]);
    let n = number(&json(&here.join("run/metrics.json"))["val"]["n"]);
    let said = text(&output.stderr);
    let most = (n / (n + 1.0) * 1e4).floor() / 1e4;
    assert!(
        said.contains(&format!("{n} validation images support a coverage of at most {most:.4}, not 0.999")),
        "{said}"
    );
    let least = format!(" {:.1} to ", 100.0 * 0.025f64.powf(1.0 / n));
    assert!(said.contains(&least) && said.contains("95 % interval"), "{least}: {said}");
    let below = format!("--reject={}", most - 0.001);
    let output = cli(here, &["predict", "--run", "run", &below, "others/green/000.png"]);
    assert!(!text(&output.stderr).contains("support a coverage of"), "{}", text(&output.stderr));
    refuses(here, &["predict", "--run", "run", "--reject", "0.9", "photos"], &["--reject=0.9"]);
    refuses(here, &["predict", "--run", "run", "--reject=2", "photos"], &["between 0 and 1"]);
    std::fs::remove_file(here.join("run/reject.safetensors")).unwrap();
    refuses(here, &["predict", "--run", "run", "--reject", "photos"], &["reject.safetensors"]);
    let page = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    assert!(page.contains("None of these"));
}
