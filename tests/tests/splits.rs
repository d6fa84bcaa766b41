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
