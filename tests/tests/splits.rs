//! What is set aside stays set aside: splits of noise, where a leak shows as an accuracy above chance.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use image::RgbImage;
use tempfile::TempDir;

use common::{cli, refuses, succeeds, text};

/// `n` pictures of noise for each class, with nothing to learn.
fn noise(root: &Path, classes: &[(&str, usize)], seed: u64) {
    for (class, n) in classes {
        for i in 0..*n {
            picture(&root.join(class).join(format!("m{i:04}.png")), seed);
        }
    }
}

/// A picture of noise, another for each name and seed.
fn picture(path: &Path, seed: u64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut state = path.to_string_lossy().bytes().fold(seed ^ 0x9e37_79b9_7f4a_7c15, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut byte = || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    RgbImage::from_fn(16, 16, |_, _| image::Rgb([byte(), byte(), byte()])).save(path).unwrap();
}

fn here() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn train<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["train", "--model", "logistic", "--input", "16x16x3", "--epochs", "2", "--batch-size", "16"];
    fixed.into_iter().chain(["--data", data, "--out", out]).chain(more.iter().copied()).collect()
}

/// Rows of `split.csv`: file, sha256, label, split.
fn split_csv(run: &Path) -> Vec<[String; 4]> {
    let text = std::fs::read_to_string(run.join("split.csv")).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("file,sha256,label,split"));
    let row = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    lines.map(row).collect()
}

fn count(rows: &[[String; 4]], label: &str, split: &str) -> usize {
    rows.iter().filter(|row| row[2] == label && row[3] == split).count()
}

fn files(rows: &[[String; 4]], split: &str) -> BTreeSet<String> {
    rows.iter().filter(|row| row[3] == split).map(|row| row[0].clone()).collect()
}

#[test]
fn a_rare_class_is_trained_on_and_validated_with_every_seed() {
    let folder = here();
    let here = folder.path();
    noise(&here.join("rare"), &[("ants", 40), ("bees", 5)], 0);
    noise(&here.join("two"), &[("ants", 20), ("bees", 2)], 0);
    for seed in ["1", "15", "123"] {
        for (data, ants, bees) in [("rare", (32, 8), (4, 1)), ("two", (16, 4), (1, 1))] {
            let run = format!("{data}-{seed}");
            succeeds(here, &train(data, &run, &["--split-seed", seed]));
            let rows = split_csv(&here.join(&run));
            assert_eq!((count(&rows, "ants", "train"), count(&rows, "ants", "val")), ants);
            assert_eq!((count(&rows, "bees", "train"), count(&rows, "bees", "val")), bees);
        }
    }
    assert_ne!(
        files(&split_csv(&here.join("rare-1")), "val"),
        files(&split_csv(&here.join("rare-15")), "val")
    );
    let half = train("rare", "half", &["--validation-share", "0.5"]);
    succeeds(here, &half);
    assert_eq!(count(&split_csv(&here.join("half")), "ants", "val"), 20);
}

#[test]
fn a_share_of_images_that_are_split_already_is_refused() {
    let folder = here();
    let here = folder.path();
    noise(&here.join("split/train"), &[("ants", 4), ("bees", 4)], 0);
    noise(&here.join("split/val"), &[("ants", 2), ("bees", 2)], 1);
    let share = ["--validation-share", "0.5"];
    refuses(here, &train("split", "run", &share), &["split has validation images of its own", "--folds"]);
    let tune = ["tune", "split", "--model", "logistic", "--input", "12x12x1", "--trials", "1"];
    refuses(here, &[&tune[..], &share].concat(), &["validation images of its own"]);
    refuses(here, &train("split", "run", &["--folds", "2", share[0], share[1]]), &["cannot be used with"]);
    assert!(!here.join("run").exists());
}

#[test]
fn a_class_without_validation_or_training_images_is_named() {
    let folder = here();
    let here = folder.path();
    noise(&here.join("one"), &[("ants", 10), ("bees", 1)], 0);
    let said = cli(here, &train("one", "run", &[]));
    assert!(text(&said.stderr).contains("no validation image of class bees"), "{}", text(&said.stderr));
    let tune = [
        "tune", "--data", "one", "--model", "logistic", "--input", "16x16x3", "--trials", "1", "--epochs",
        "1",
    ];
    let said = cli(here, &tune);
    assert!(text(&said.stderr).contains("no validation image of class bees"), "{}", text(&said.stderr));
    noise(&here.join("single"), &[("ants", 10)], 0);
    refuses(here, &train("single", "run2", &[]), &["two class"]);
    assert!(!here.join("run2").exists());
}

#[test]
fn images_in_two_splits_and_with_two_labels_are_named() {
    let folder = here();
    let here = folder.path();
    noise(&here.join("dup/train"), &[("ants", 10), ("bees", 10)], 0);
    noise(&here.join("dup/val"), &[("ants", 5), ("bees", 5)], 1);
    let copy = |from: &str, to: &str| std::fs::copy(here.join(from), here.join(to)).unwrap();
    copy("dup/train/ants/m0005.png", "dup/val/ants/copy.png");
    copy("dup/train/ants/m0006.png", "dup/train/bees/copy.png");
    let said = text(&cli(here, &train("dup", "run", &[])).stderr);
    let across = "1 image of val is also in train (first: val/ants/copy.png is train/ants/m0005.png)";
    let labels = "1 image has two labels (first: train/ants/m0006.png is train/bees/copy.png)";
    let report = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    for sentence in [across, labels] {
        assert_eq!(said.matches(sentence).count(), 1, "{said}");
        assert!(report.contains(sentence));
    }
    let tune = ["tune", "dup", "--model", "logistic", "--input", "12x12x1", "--trials", "1", "--epochs", "1"];
    succeeds(here, &[&tune[..], &["--report", "search.html"]].concat());
    let report = std::fs::read_to_string(here.join("search.html")).unwrap();
    assert!(report.contains(across) && report.contains(labels));
    let stats = succeeds(here, &["dataset", "stats", "dup"]);
    assert!(stats.contains(across) && stats.contains(labels), "{stats}");
}

#[test]
fn equal_images_are_set_aside_together() {
    let folder = here();
    let here = folder.path();
    noise(&here.join("twins"), &[("ants", 20), ("bees", 20)], 0);
    for class in ["ants", "bees"] {
        for i in 0..20 {
            let path = |name: String| here.join("twins").join(class).join(name);
            std::fs::copy(path(format!("m{i:04}.png")), path(format!("twin{i:04}.png"))).unwrap();
        }
    }
    let said = text(&cli(here, &train("twins", "run", &[])).stderr);
    assert!(!said.contains("also in"), "{said}");
    let rows = split_csv(&here.join("run"));
    let hashes = |split: &str| -> BTreeSet<String> {
        rows.iter().filter(|row| row[3] == split).map(|row| row[1].clone()).collect()
    };
    assert!(hashes("train").is_disjoint(&hashes("val")));
    assert_eq!((count(&rows, "ants", "val"), hashes("val").len()), (8, 8));
}

#[test]
fn groups_never_straddle() {
    let folder = here();
    let here = folder.path();
    for (class, first) in [("ants", 0), ("bees", 12)] {
        for patient in first..first + 12 {
            for photo in 0..1 + patient % 4 {
                picture(&here.join(format!("claims/{class}/p{patient:02}_{photo}.png")), 3);
            }
        }
    }
    for seed in ["1", "2", "3"] {
        let run = format!("run{seed}");
        succeeds(here, &train("claims", &run, &["--group-by", "^(p[0-9]+)_", "--split-seed", seed]));
        let rows = split_csv(&here.join(&run));
        let patients = |split: &str| -> BTreeSet<String> {
            files(&rows, split).iter().map(|file| file[5..8].to_owned()).collect()
        };
        assert!(patients("train").is_disjoint(&patients("val")));
        assert_eq!(patients("train").len() + patients("val").len(), 24);
        for class in ["ants", "bees"] {
            assert!((4..=8).contains(&count(&rows, class, "val")), "{}", count(&rows, class, "val"));
        }
    }
    // A column of a table does the same, and every image has a group there.
    let patients = |gap: &str| {
        let row = |file: &String| {
            let patient = if file == gap { "" } else { &file[5..8] };
            format!("{file},{},{patient}\n", &file[..4])
        };
        let rows = split_csv(&here.join("run1"));
        let files: BTreeSet<String> = rows.into_iter().map(|row| row[0].clone()).collect();
        let table: String = files.iter().map(row).collect();
        std::fs::write(here.join("claims.csv"), format!("path,label,patient\n{table}")).unwrap();
    };
    patients("");
    let by_column = ["--images", "claims", "--group-by", "patient", "--split-seed", "1"];
    succeeds(here, &train("claims.csv", "by-column", &by_column));
    let sorted = |run: &str| split_csv(&here.join(run)).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(sorted("by-column"), sorted("run1"));
    patients("bees/p12_0.png");
    let words = ["group by", "\"patient\"", "1 of 60 that are empty (first: bees/p12_0.png)"];
    refuses(here, &train("claims.csv", "other", &by_column), &words);
    // The record is a table too, and says what was set aside.
    succeeds(here, &train("by-column/split.csv", "again", &["--images", "claims"]));
    assert_eq!(sorted("again"), sorted("by-column"));
    let unmatched = train("claims", "other", &["--group-by", "^(q[0-9]+)_"]);
    refuses(here, &unmatched, &["group by", "60 of 60", "ants/p00_0.png"]);
    refuses(
        here,
        &train("claims", "other", &["--group-by", "png"]),
        &["group by", "all 60 images are the group"],
    );
    refuses(here, &train("claims", "other", &["--group-by", "("]), &["group by", "regular expression"]);
    // Given splits are checked.
    noise(&here.join("given/train"), &[("ants", 4), ("bees", 4)], 0);
    noise(&here.join("given/val"), &[("ants", 2), ("bees", 2)], 1);
    let straddling = train("given", "other", &["--group-by", "m([0-9]+)"]);
    refuses(here, &straddling, &["2 that are in both", "0000"]);
    std::fs::rename(here.join("given/val"), here.join("given/test")).unwrap();
    for folds in [&[][..], &["--folds", "2"]] {
        let words = ["groups that are in training or in test", "2 that are in both"];
        refuses(here, &[straddling.clone(), folds.to_vec()].concat(), &words);
    }
}

#[test]
fn resuming_with_other_images_is_refused_with_what_changed() {
    let folder = here();
    let here = folder.path();
    let data = here.join("photos");
    noise(&data, &[("ants", 12), ("bees", 12)], 0);
    succeeds(here, &train("photos", "run", &[]));
    let resumed = train("photos", "run", &["--resume", "--epochs", "3"]);
    let resumed: Vec<&str> = {
        // clap takes one --epochs.
        let at = resumed.iter().position(|arg| *arg == "--epochs").unwrap();
        resumed[..at].iter().chain(&resumed[at + 2..]).copied().collect()
    };
    picture(&data.join("ants/a0000.png"), 9);
    refuses(here, &resumed, &["other images: 1 image added (first: ants/a0000.png)"]);
    std::fs::rename(data.join("ants/a0000.png"), data.join("bees/m0003.png")).unwrap();
    std::fs::remove_file(data.join("bees/m0004.png")).unwrap();
    std::fs::rename(data.join("ants/m0000.png"), data.join("ants/first.png")).unwrap();
    let words = [
        "1 image removed (first: bees/m0004.png)",
        "1 image moved or renamed (first: ants/m0000.png)",
        "1 image changed (first: bees/m0003.png)",
    ];
    refuses(here, &resumed, &words);
    std::fs::remove_dir_all(&data).unwrap();
    noise(&data, &[("ants", 12), ("bees", 12)], 0);
    succeeds(here, &resumed);
    let seed = resumed.iter().copied().chain(["--split-seed", "5"]).collect::<Vec<_>>();
    refuses(here, &seed, &["in another split"]);
}

fn evaluate(here: &Path, run: &str, data: &str, more: &[&str]) -> (serde_json::Value, String) {
    let args: Vec<&str> = ["evaluate", run, data, "--json"].into_iter().chain(more.iter().copied()).collect();
    let output = cli(here, &args);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

#[test]
fn evaluating_measures_what_was_set_aside_whatever_became_of_the_folder() {
    let folder = here();
    let here = folder.path();
    noise(&here.join("photos"), &[("ants", 100), ("bees", 100)], 0);
    succeeds(here, &train("photos", "run", &[]));
    let (held_out, said) = evaluate(here, "run", "photos", &[]);
    assert_eq!((&held_out["split"], &held_out["n"]), (&"val".into(), &40.into()));
    assert!(!said.contains("new image") && !said.contains("missing"), "{said}");
    // Noise has no two sets of images with the same loss.
    let loss = held_out["loss"].as_f64().unwrap();
    let validation = files(&split_csv(&here.join("run")), "val");
    let photos = here.join("photos");
    let measures = |n: usize, words: &[&str]| {
        let (found, said) = evaluate(here, "run", "photos", &[]);
        assert_eq!((&found["split"], &found["n"]), (&"val".into(), &n.into()), "{said}");
        for word in words {
            assert!(said.contains(word), "should say {word:?}: {said}");
        }
        found
    };
    // One image more in each class, first by name.
    for class in ["ants", "bees"] {
        picture(&photos.join(class).join("a0000.png"), 99);
    }
    let grown = measures(40, &["2 new images are not measured: --split new"]);
    assert_eq!((grown["loss"].as_f64().unwrap(), &grown["new"]), (loss, &2.into()));
    // Everything has another name now.
    for class in ["ants", "bees"] {
        for i in 0..100 {
            let path = |name: String| photos.join(class).join(name);
            std::fs::rename(path(format!("m{i:04}.png")), path(format!("r{:04}.png", 99 - i))).unwrap();
        }
    }
    let renamed = measures(40, &[]);
    assert!((renamed["loss"].as_f64().unwrap() - loss).abs() < 1e-6, "{renamed}");
    let (new, _) = evaluate(here, "run", "photos", &["--split", "new"]);
    assert_eq!(new["n"], 2);
    let (all, said) = evaluate(here, "run", "photos", &["--split", "all"]);
    assert_eq!(all["n"], 202);
    assert!(said.contains("160 of 202 images are also among the run's training images"), "{said}");
    // Two validation images are gone, and one has been edited.
    for class in ["ants", "bees"] {
        for i in 0..100 {
            let path = |name: String| photos.join(class).join(name);
            std::fs::rename(path(format!("r{:04}.png", 99 - i)), path(format!("m{i:04}.png"))).unwrap();
        }
    }
    let mut lost = validation.iter();
    std::fs::remove_file(photos.join(lost.next().unwrap())).unwrap();
    std::fs::remove_file(photos.join(lost.next().unwrap())).unwrap();
    picture(&photos.join(lost.next().unwrap()), 5);
    let shrunk = measures(38, &["2 of 40 validation images are missing", "1 image has other contents"]);
    assert_eq!(shrunk["missing"], 2);
}

#[test]
fn a_folder_that_the_run_was_not_trained_on_is_measured_whole() {
    let folder = here();
    let here = folder.path();
    noise(&here.join("photos"), &[("ants", 20), ("bees", 20)], 0);
    noise(&here.join("fresh"), &[("ants", 10), ("bees", 10)], 7);
    succeeds(here, &train("photos", "run", &[]));
    let (found, _) = evaluate(here, "run", "fresh", &[]);
    assert_eq!((&found["split"], &found["n"]), (&"all".into(), &20.into()));
    let said = succeeds(here, &["evaluate", "run", "fresh"]);
    assert!(said.starts_with("all of fresh: 20 images"), "{said}");
    refuses(here, &["evaluate", "run", "fresh", "--split", "test"], &["fresh has no test split"]);

    // Only a test folder.
    std::fs::create_dir(here.join("only")).unwrap();
    std::fs::rename(here.join("fresh"), here.join("only/test")).unwrap();
    for more in [&[][..], &["--split", "test"], &["--split", "all"]] {
        assert_eq!(evaluate(here, "run", "only", more).0["n"], 20);
    }
    // One class alone, a class that the run doesn't know, and nothing else.
    noise(&here.join("mixed"), &[("bees", 6), ("wasps", 4)], 7);
    let (found, said) = evaluate(here, "run", "mixed", &[]);
    assert_eq!(
        (&found["n"], &found["left_out"]),
        (&6.into(), &serde_json::json!([{"label": "wasps", "n": 4}]))
    );
    assert!(said.contains("left out 4 images of classes that the run doesn't know: wasps 4"), "{said}");
    assert_eq!((&found["per_class"][0]["n"], &found["per_class"][1]["n"]), (&0.into(), &6.into()));
    noise(&here.join("others"), &[("cats", 6), ("wasps", 4)], 7);
    refuses(here, &["evaluate", "run", "others"], &["expected ants, bees, found cats, wasps"]);
    // Three training images among new ones are said.
    noise(&here.join("tainted"), &[("ants", 10), ("bees", 10)], 8);
    let rows = split_csv(&here.join("run"));
    for (i, file) in files(&rows, "train").iter().take(3).enumerate() {
        std::fs::copy(here.join("photos").join(file), here.join(format!("tainted/ants/t{i}.png"))).unwrap();
    }
    let (found, said) = evaluate(here, "run", "tainted", &[]);
    assert_eq!(found["n"], 23);
    assert!(said.contains("3 of 23 images are also among the run's training images"), "{said}");
    assert_eq!(evaluate(here, "run", "tainted", &["--split", "new"]).0["n"], 20);
}

#[test]
fn given_splits_are_measured_as_they_were_and_a_later_test_folder_is_one() {
    let folder = here();
    let here = folder.path();
    noise(&here.join("photos/train"), &[("ants", 20), ("bees", 20)], 0);
    noise(&here.join("photos/val"), &[("ants", 5), ("bees", 5)], 1);
    succeeds(here, &train("photos", "run", &[]));
    assert_eq!(evaluate(here, "run", "photos", &[]).0["split"], "val");
    // The folder of the split alone.
    assert_eq!(evaluate(here, "run", "photos/val", &[]).0["n"], 10);
    refuses(
        here,
        &["evaluate", "run", "photos/train"],
        &["none of the run's 10 validation images", "40 training images"],
    );
    noise(&here.join("photos/test"), &[("ants", 7), ("bees", 7)], 2);
    let (found, _) = evaluate(here, "run", "photos", &[]);
    assert_eq!((&found["split"], &found["n"]), (&"test".into(), &14.into()));
    // Test images of another class are left out.
    noise(&here.join("photos/test"), &[("wasps", 3)], 2);
    let (found, said) = evaluate(here, "run", "photos", &[]);
    assert_eq!(
        (&found["n"], &found["left_out"]),
        (&14.into(), &serde_json::json!([{"label": "wasps", "n": 3}]))
    );
    assert!(said.contains("wasps 3"), "{said}");
    std::fs::remove_dir_all(here.join("photos/test/wasps")).unwrap();
    picture(&here.join("photos/val/ants/later.png"), 3);
    let (found, said) = evaluate(here, "run", "photos", &["--split", "val"]);
    assert_eq!((&found["n"], &found["new"]), (&10.into(), &15.into()));
    assert!(said.contains("--split new"), "{said}");
}

#[test]
fn a_run_without_a_record_says_that_it_does_not_know() {
    let folder = here();
    let here = folder.path();
    noise(&here.join("photos"), &[("ants", 20), ("bees", 20)], 0);
    succeeds(here, &train("photos", "run", &[]));
    std::fs::remove_file(here.join("run/split.csv")).unwrap();
    let (found, said) = evaluate(here, "run", "photos", &[]);
    assert_eq!((&found["split"], &found["n"]), (&"all".into(), &40.into()));
    assert!(said.contains("no split.csv: which of these images were set aside"), "{said}");
    refuses(here, &["evaluate", "run", "photos", "--split", "val"], &["isn't known", "--split all"]);
    assert_eq!(evaluate(here, "run", "photos", &["--split", "all"]).0["n"], 40);
    refuses(here, &["evaluate", "run", "photos", "--split", "new"], &["no split.csv"]);
}

#[test]
fn folds_partition_the_images_and_no_run_has_seen_its_own() {
    let folder = here();
    let here = folder.path();
    noise(&here.join("photos"), &[("ants", 30), ("bees", 30)], 0);
    let folds = train("photos", "run", &["--folds", "3"]);
    let said = succeeds(here, &folds);
    assert!(said.contains("3 folds, mean and standard deviation:"), "{said}");
    assert!(said.contains("all 60 images, each by the run that was not trained on it"), "{said}");
    let mut held_out = BTreeSet::new();
    for fold in 1..=3 {
        let rows = split_csv(&here.join(format!("run/fold-{fold}")));
        assert_eq!((count(&rows, "ants", "val"), count(&rows, "bees", "val"), rows.len()), (10, 10, 60));
        held_out.extend(files(&rows, "val"));
    }
    assert_eq!(held_out.len(), 60);
    let json = |file: &str| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(here.join(file)).unwrap()).unwrap()
    };
    let result = json("run/cross-validation.json");
    let accuracies: Vec<f64> =
        (0..3).map(|i| result["folds"][i]["figures"]["accuracy"].as_f64().unwrap()).collect();
    let mean = accuracies.iter().sum::<f64>() / 3.0;
    let deviation = (accuracies.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    assert!((result["figures"]["accuracy"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    let found = result["figures"]["accuracy"]["standard_deviation"].as_f64().unwrap();
    assert!((found - deviation).abs() < 1e-12);
    assert_eq!(result["pooled"]["n"], 60);
    assert!((result["pooled"]["accuracy"].as_f64().unwrap() - mean).abs() < 1e-12);
    let predictions = std::fs::read_to_string(here.join("run/predictions.csv")).unwrap();
    assert!(predictions.starts_with("run,path,split,"), "{predictions}");
    assert_eq!(predictions.lines().count(), 61);

    // A fold of the run is a run like any other.
    assert_eq!(evaluate(here, "run/fold-2", "photos", &[]).0["n"], 20);
    refuses(here, &["evaluate", "run", "photos"], &["cross-validation", "run/fold-1"]);
    refuses(here, &folds, &["run already holds a run", "--resume"]);
    // Folds of other settings are not of one cross-validation.
    let other = train("photos", "run", &["--folds", "3", "--resume", "--learning-rate", "0.5"]);
    refuses(
        here,
        &other,
        &["run holds folds of other settings", "learning_rate: 0.001 in run, 0.5 asked for"],
    );
    // Only what is missing is trained when it is resumed.
    std::fs::remove_dir_all(here.join("run/fold-3")).unwrap();
    let mut shorter = result.clone();
    shorter["folds"].as_array_mut().unwrap().pop();
    std::fs::write(here.join("run/cross-validation.json"), shorter.to_string()).unwrap();
    let first = std::fs::metadata(here.join("run/fold-1/model.safetensors")).unwrap().modified().unwrap();
    let resumed: Vec<&str> = folds.iter().copied().chain(["--resume"]).collect();
    succeeds(here, &resumed);
    assert_eq!(json("run/cross-validation.json"), result);
    assert_eq!(
        first,
        std::fs::metadata(here.join("run/fold-1/model.safetensors")).unwrap().modified().unwrap()
    );
    refuses(here, &train("photos", "other", &["--folds", "1"]), &["at least 2"]);
    refuses(here, &train("photos", "other", &["--folds", "61"]), &["folds: expected"]);
}

#[test]
fn folds_keep_groups_together() {
    let folder = here();
    let here = folder.path();
    for (class, first) in [("ants", 0), ("bees", 9)] {
        for patient in first..first + 9 {
            for photo in 0..1 + patient % 3 {
                picture(&here.join(format!("claims/{class}/p{patient:02}_{photo}.png")), 3);
            }
        }
    }
    succeeds(here, &train("claims", "run", &["--folds", "3", "--group-by", "^(p[0-9]+)_"]));
    let mut seen = BTreeSet::new();
    for fold in 1..=3 {
        let rows = split_csv(&here.join(format!("run/fold-{fold}")));
        let held_out = files(&rows, "val").iter().map(|file| file[5..8].to_owned()).collect::<BTreeSet<_>>();
        let n = files(&rows, "val").len();
        assert!((10..=14).contains(&n), "{n}");
        assert!(held_out.into_iter().all(|patient| seen.insert(patient)));
    }
    assert_eq!(seen.len(), 18);
}
