//! Folders as people have them, in every command.

mod common;

use std::path::Path;

use common::{cli, photos, refuses, succeeds, text, weights};
use image::{ImageFormat, Luma};
use serde_json::Value;

/// `n` pictures of noise in each of two classes, 12x12.
fn noise(root: &Path, n: u32) {
    for (class, name) in ["ants", "bees"].iter().enumerate() {
        std::fs::create_dir_all(root.join(name)).unwrap();
        for i in 0..n {
            let of = |x: u32, y: u32| (x * 37 + y * 91 + i * 53 + class as u32 * 17) as u8;
            let image = image::GrayImage::from_fn(12, 12, |x, y| Luma([of(x, y)]));
            image.save_with_format(root.join(name).join(format!("m{i:04}.png")), ImageFormat::Png).unwrap();
        }
    }
}

fn train<'a>(data: &'a str, out: &'a str) -> Vec<&'a str> {
    vec!["train", data, "--model", "logistic", "--input", "12x12x1", "--epochs", "1", "--out", out]
}

fn stats(here: &Path, data: &str) -> Value {
    serde_json::from_str(&succeeds(here, &["dataset", "stats", data, "--json"])).unwrap()
}

#[test]
fn predict_sees_the_same_files_as_training() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("noise"), 6);
    succeeds(here, &train("noise", "run"));
    std::fs::write(here.join("noise/ants/._m0000.png"), b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ").unwrap();
    std::fs::create_dir_all(here.join("noise/__MACOSX/ants")).unwrap();
    for copy in ["ants/.ipynb_checkpoints/m0001-checkpoint.png", "__MACOSX/ants/m0001.png"] {
        let copy = here.join("noise").join(copy);
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(here.join("noise/ants/m0001.png"), copy).unwrap();
    }
    let output = cli(here, &["predict", "--run", "run", "--csv", "noise"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = text(&output.stdout);
    assert_eq!(rows.lines().count(), 1 + 12, "{rows}");
    assert!(!rows.contains("checkpoint") && !rows.contains("MACOSX"), "{rows}");
    let said = text(&output.stderr);
    assert!(
        said.contains("left out 3 of 15 files in noise: 2 hidden (ants), 1 system file (__MACOSX)"),
        "{said}"
    );
    succeeds(here, &train("noise", "again"));
    assert_eq!(stats(here, "noise")["splits"][0]["n"], 12);
}

#[test]
fn images_with_other_names_count_and_other_formats_are_said_once_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("left"), 10);
    let bees = here.join("left/bees");
    let rename = |from: &str, to: &str| std::fs::rename(bees.join(from), bees.join(to)).unwrap();
    for i in 0..7 {
        rename(&format!("m000{i}.png"), &format!("m000{i}.png?width=640"));
    }
    rename("m0007.png", "m0007");
    rename("m0008.png", "m0008.png.1");
    std::fs::write(bees.join("m0009.heic"), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").unwrap();
    std::fs::remove_file(bees.join("m0009.png")).unwrap();
    assert_eq!(stats(here, "left")["splits"][0]["per_class"], serde_json::json!([10, 9]));
    succeeds(here, &train("left", "first"));
    let tune =
        ["tune", "left", "--model", "logistic", "--input", "12x12x1", "--epochs", "1", "--trials", "1"];
    for args in
        [&train("left", "run")[..], &tune, &["evaluate", "first", "left"], &["dataset", "stats", "left"]]
    {
        let said = text(&cli(here, args).stderr);
        let sentence = "left out 1 of 20 files in left: 1 HEIC file (bees/m0009.heic)";
        assert_eq!(said.matches(sentence).count(), 1, "{args:?}: {said}");
    }
    // A photo that can't be read has a row.
    let output = cli(here, &["predict", "--run", "first", "--csv", "left"]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(1), 1 + 20));
    let listed = &stats(here, "left")["splits"][0]["skipped"][0];
    assert!(listed["reason"].as_str().unwrap().contains("HEIC"), "{listed}");
}

#[test]
fn junk_and_empty_class_folders_do_not_refuse_a_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("data/train"), 6);
    noise(&here.join("data/val"), 2);
    for junk in ["data/__MACOSX", "data/train/@eaDir", "data/train/$RECYCLE.BIN", "data/val/lost+found"] {
        std::fs::create_dir_all(here.join(junk)).unwrap();
    }
    for i in 0..2 {
        std::fs::remove_file(here.join(format!("data/val/bees/m000{i}.png"))).unwrap();
    }
    assert_eq!(stats(here, "data")["splits"][1]["per_class"], serde_json::json!([2, 0]));
    succeeds(here, &train("data", "run"));

    std::fs::create_dir(here.join("data/train/wasps")).unwrap();
    refuses(here, &train("data", "other"), &["wasps", "remove the folder"]);
    assert_eq!(stats(here, "data")["classes"], serde_json::json!(["ants", "bees"]));
}

#[test]
fn an_archive_that_unpacks_into_a_folder_of_its_own_name_is_that_folder() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("photos/photos"), 6);
    std::fs::create_dir(here.join("photos/__MACOSX")).unwrap();
    let output = cli(here, &train("photos", "run"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("photos holds nothing but the folder photos/photos"));
}

#[test]
fn a_test_split_alone_is_measured_but_not_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("noise"), 6);
    noise(&here.join("only/test"), 2);
    succeeds(here, &train("noise", "run"));
    let measured = succeeds(here, &["evaluate", "run", "only", "--split", "test"]);
    assert!(measured.contains("4 images"), "{measured}");
    succeeds(here, &["evaluate", "run", "only"]);
    assert_eq!(stats(here, "only")["splits"][0]["split"], "test");
    refuses(here, &train("only", "other"), &["expected training images in only", "test"]);
}

#[test]
fn every_unreadable_file_is_listed_by_stats() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("bad"), 4);
    std::fs::write(here.join("bad/ants/m0001.png"), "").unwrap();
    std::fs::write(here.join("bad/bees/m0003.png"), "<!DOCTYPE html><html>404").unwrap();
    let output = cli(here, &["dataset", "stats", "bad", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let stats: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    let unreadable = stats["splits"][0]["unreadable"].as_array().unwrap();
    assert_eq!(unreadable.len(), 2, "{stats}");
    assert!(unreadable[0]["reason"].as_str().unwrap().contains("an empty file"));
    assert_eq!(stats["splits"][0]["height"]["min"], 12);
}

#[test]
fn files_that_are_not_read_as_they_are_are_listed_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 15);
    weights(here, "mobilenetv2_100");
    let whole = std::fs::read(here.join("photos/red/3.png")).unwrap();
    for i in 0..12 {
        std::fs::write(here.join(format!("photos/red/{i}.heic")), b"\0\0\0\x18ftypheic\0\0\0\0").unwrap();
    }
    for i in 0..2 {
        std::fs::write(here.join(format!("photos/red/gone-{i}.jpg")), "").unwrap();
    }
    std::fs::write(here.join("photos/red/cut.png"), &whole[..whole.len() - 50]).unwrap();

    let input = ["--input", "32x32x3"];
    let skip = ["--on-error", "skip"];
    let tune = ["tune", "photos", "--model", "logistic", "--trials", "1", "--epochs", "1", "--json"];
    let runs: [&[&str]; 3] = [
        &["train", "photos", "--model", "logistic", "--epochs", "1", "--out", "run"],
        &["fine-tune", "photos", "--weights", "weights", "--preset", "quick", "--out", "tuned"],
        &[&tune[..], &["--report", "search.html"]].concat(),
    ];
    let mut said = String::new();
    for args in runs {
        said = succeeds(here, &[args, &input, &skip].concat());
    }
    for page in ["run/report.html", "tuned/report.html", "search.html"] {
        let page = std::fs::read_to_string(here.join(page)).unwrap().replace("<wbr/>", "");
        assert_eq!(page.matches(">red/").count(), 12 + 2 + 1, "once each");
        for words in
            ["Left out: 12.", "HEIC", "cannot be read: 2.", "an empty file", ">red/cut.png<", "repaired: "]
        {
            assert!(page.contains(words), "{words}");
        }
    }
    let searched: Value = serde_json::from_str(&said).unwrap();
    let measured = cli(here, &["evaluate", "run", "photos", "--split", "all", "--json"]);
    assert_eq!(measured.status.code(), Some(1), "{}", text(&measured.stderr));
    let measured: Value = serde_json::from_slice(&measured.stdout).unwrap();
    assert_eq!((&measured["n"], &measured["n_unreadable"]), (&31.into(), &2.into()));
    for document in [searched, measured] {
        for (key, n, path, reason) in [
            ("skipped", 12, "photos/red/0.heic", "HEIC"),
            ("unreadable", 2, "photos/red/gone-0.jpg", "an empty file"),
            ("repaired", 1, "photos/red/cut.png", "repaired: "),
        ] {
            let files = document[key].as_array().unwrap();
            assert_eq!(files.len(), n, "{key}");
            let file = files.iter().find(|file| file["path"] == path).unwrap();
            assert!(file["reason"].as_str().unwrap().contains(reason), "{file}");
        }
    }
}

#[test]
fn a_run_among_the_images_is_no_class() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("photos"), 6);
    let photos = here.join("photos");
    let in_place = ["train", ".", "--model", "logistic", "--input", "12x12x1", "--epochs", "1"];
    succeeds(&photos, &in_place);
    std::fs::remove_dir_all(photos.join("cache")).unwrap();
    assert!(photos.join("photos-logistic/config.json").exists());
    assert_eq!(stats(here, "photos")["classes"], serde_json::json!(["ants", "bees"]));
    let output = cli(here, &train("photos", "photos/run"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("files of runs or reports (photos-logistic)"));
    refuses(here, &train("photos", "photos"), &["--out photos is a folder of the images"]);
    refuses(here, &train("photos", "photos/ants"), &["--out photos/ants is a folder of the images"]);
    let inside = "photos/bees/../ants/run";
    refuses(here, &train("photos", inside), &["lies in a folder of the images"]);
    assert!(!here.join(inside).exists());
    assert_eq!(stats(here, "photos")["splits"][0]["n"], 12);
}

#[test]
fn a_folder_that_is_left_out_counts_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("photos"), 6);
    for junk in ["@tmp/a.png", "node_modules/left/pad.png", "#recycle/ants/b.png", ".git/c", ".git/d/e"] {
        let path = here.join("photos").join(junk);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(here.join("photos/ants/m0000.png"), path).unwrap();
    }
    std::fs::create_dir(here.join("photos/@eaDir")).unwrap();
    assert_eq!(stats(here, "photos")["classes"], serde_json::json!(["ants", "bees"]));
    let said = text(&cli(here, &train("photos", "run")).stderr);
    let words = "left out 5 of 17 files in photos: 2 hidden (.git), 3 system files";
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_table_is_named_by_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("noise"), 6);
    let rows: Vec<String> =
        (0..6).flat_map(|i| ["ants", "bees"].map(|class| format!("{class}/m{i:04}.png,{class}"))).collect();
    std::fs::write(here.join("photos.csv"), format!("path,label\n{}\n", rows.join("\n"))).unwrap();
    let images = ["--images", "noise"];
    succeeds(here, &[&train("photos.csv", "run")[..], &images].concat());
    refuses(
        here,
        &[&train("photos.csv", "noise/ants")[..], &images].concat(),
        &["--out noise/ants is a folder of the images"],
    );
    let measured = succeeds(here, &[&["evaluate", "run", "photos.csv"][..], &images].concat());
    assert!(measured.contains("val split of photos.csv"), "{measured}");
}

/// Root opens every folder: then nothing is tested.
#[cfg(unix)]
#[test]
fn a_class_folder_that_cannot_be_opened_is_unreadable() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("data"), 6);
    let wasps = here.join("data/wasps");
    std::fs::create_dir(&wasps).unwrap();
    std::fs::set_permissions(&wasps, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read_dir(&wasps).is_ok() {
        eprintln!("skipped: this user opens every folder");
        return;
    }
    refuses(here, &train("data", "run"), &["data/wasps", "--on-error skip"]);
    succeeds(here, &[&train("data", "run")[..], &["--on-error", "skip"]].concat());
    for args in [
        &["evaluate", "run", "data"][..],
        &["dataset", "stats", "data"],
        &["predict", "--run", "run", "data"],
    ] {
        assert_eq!(cli(here, args).status.code(), Some(1), "{args:?}");
    }
}
