//! Images that tables, Parquet files and archives name, in every command that takes a folder.

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use common::{cli, refuses, succeeds, text};
use image::{ImageFormat, Luma};
use serde_json::Value;

/// `n` dark pictures called `dark_…` and as many light ones, 12x12.
fn pictures(folder: &Path, n: u32) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, base) in [("dark", 10), ("light", 200)] {
        for i in 0..n {
            let image = image::GrayImage::from_fn(12, 12, |x, y| Luma([(base + (x * y + i) % 40) as u8]));
            image.save_with_format(folder.join(format!("{name}_{i}.png")), ImageFormat::Png).unwrap();
        }
    }
}

fn train<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["train", data, "--model", "logistic", "--input", "12x12x1", "--epochs", "1", "--out", out];
    [&args, more].concat()
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/data/tests/goldens/lists")
}

#[test]
fn a_table_is_taken_everywhere_a_folder_is() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    pictures(&here.join("photos"), 8);
    let mut table = "path,label,split,claim\n".to_owned();
    for i in 0..8 {
        let split = ["train", "train", "train", "val", "test"][i % 5];
        for name in ["dark", "light"] {
            writeln!(table, "{name}_{i}.png,{name},{split},{}", i / 2).unwrap();
        }
    }
    std::fs::write(here.join("list.csv"), &table).unwrap();
    let images: &[&str] = &["--images", "photos"];
    succeeds(here, &train("list.csv", "run", images));
    let split = std::fs::read_to_string(here.join("run/split.csv")).unwrap();
    assert!(split.contains("dark_3.png,") && !split.contains("photos/"), "{split}");
    let measured = succeeds(here, &[&["evaluate", "run", "list.csv", "--split", "test"], images].concat());
    assert!(measured.contains("2 images"), "{measured}");
    let rows = succeeds(here, &[&["predict", "--run", "run", "--csv", "list.csv"], images].concat());
    assert_eq!(rows.lines().count(), 1 + 16, "{rows}");
    let stats = succeeds(here, &[&["dataset", "stats", "list.csv", "--json"], images].concat());
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats["classes"], serde_json::json!(["dark", "light"]));
    assert_eq!([&stats["splits"][0]["n"], &stats["splits"][2]["n"]], [12, 2]);
    let tune =
        ["tune", "list.csv", "--model", "logistic", "--input", "12x12x1", "--epochs", "1", "--trials", "1"];
    let said = succeeds(here, &[&tune, images].concat());
    assert!(said.contains("--images \"photos\""), "{said}");

    // The table without its splits, and the claims together.
    let claims =
        table.replace(",train,", ",").replace(",val,", ",").replace(",test,", ",").replace("split,", "");
    std::fs::write(here.join("claims.csv"), claims).unwrap();
    succeeds(here, &train("claims.csv", "grouped", &["--images", "photos", "--group-by", "claim"]));
    let split = std::fs::read_to_string(here.join("grouped/split.csv")).unwrap();
    let side = |file: &str| {
        let row = split.lines().find(|line| line.starts_with(file)).unwrap();
        row.rsplit(',').next().unwrap().to_owned()
    };
    for claim in 0..4 {
        let of = |i: u32| [side(&format!("dark_{i}.png")), side(&format!("light_{i}.png"))];
        let [first, second] = [of(2 * claim), of(2 * claim + 1)];
        assert!(first == second && first[0] == first[1], "{split}");
    }

    refuses(here, &train("list.csv", "other", &[]), &["list.csv", "no file at any of its 16 paths"]);
    std::fs::write(here.join("list.csv"), table.replace("dark_4.png,dark,test", "dark_4.png,dark,later"))
        .unwrap();
    refuses(here, &train("list.csv", "other", images), &["list.csv line 10", "train, val or test", "later"]);
}

#[test]
fn a_runs_columns_and_images_need_not_be_named_again() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    pictures(&here.join("photos"), 5);
    let rows = |n: u32| {
        let row = |i: u32| format!("dark_{i}.png,x,night\nlight_{i}.png,y,day\n");
        format!("path,label,time\n{}", (0..n).map(row).collect::<String>())
    };
    std::fs::write(here.join("list.csv"), rows(5)).unwrap();
    let flags: &[&str] = &["--images", "photos", "--label-column", "time"];
    succeeds(here, &train("list.csv", "run", flags));
    let evaluate = ["evaluate", "run", "list.csv", "--split", "all"];
    let measured = succeeds(here, &evaluate);
    assert!(measured.contains("10 images") && measured.contains("night"), "{measured}");
    // Shards have the column, but take no folder of images.
    let mut shards = tar::Builder::new(std::fs::File::create(here.join("more.tar")).unwrap());
    for (name, time) in [("dark_0", "night"), ("light_0", "day")] {
        shards.append_path_with_name(here.join(format!("photos/{name}.png")), format!("{name}.png")).unwrap();
        let json = format!("{{\"time\": \"{time}\"}}");
        let mut header = tar::Header::new_gnu();
        header.set_size(json.len() as u64);
        shards.append_data(&mut header, format!("{name}.json"), json.as_bytes()).unwrap();
    }
    shards.finish().unwrap();
    assert!(succeeds(here, &["evaluate", "run", "more.tar", "--split", "all"]).contains("2 images"));
    // Flags win, and a table beside its images needs no folder.
    std::fs::write(here.join("photos/own.csv"), rows(2).replace("time", "hour")).unwrap();
    let own = ["evaluate", "run", "photos/own.csv", "--split", "all", "--label-column", "hour"];
    assert!(succeeds(here, &own).contains("4 images"));
}

#[test]
fn labels_come_from_file_names() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    pictures(&here.join("photos"), 5);
    let pattern: &[&str] = &["--label-from", "^(.+)_[0-9]+"];
    succeeds(here, &train("photos", "run", pattern));
    let evaluate = ["evaluate", "run", "photos", "--split", "all"];
    let measured = succeeds(here, &[&evaluate, pattern].concat());
    assert!(measured.contains("10 images"), "{measured}");
    // A run knows how its labels were found.
    let output = cli(here, &evaluate);
    assert_eq!((text(&output.stdout), output.status.code()), (measured, Some(0)));
    assert!(text(&output.stderr).contains("as in the run's training: --label-from '^(.+)_[0-9]+'"));
    for i in 0..3 {
        for (class, name) in [("dark", "dark"), ("light", "light")] {
            let to = here.join("folders").join(class);
            std::fs::create_dir_all(&to).unwrap();
            std::fs::copy(here.join(format!("photos/{name}_{i}.png")), to.join(format!("{i}.png"))).unwrap();
        }
    }
    let other = succeeds(here, &["evaluate", "run", "folders", "--split", "all"]);
    assert!(other.contains("6 images"), "names that don't match are no labels: {other}");
    refuses(here, &train("photos", "other", &["--label-from", "^(dark)"]), &["5 of 10", "light_0.png"]);
    refuses(here, &train("photos", "other", &[]), &["expected one folder of images per class", "10 outside"]);
}

#[test]
fn parquet_files_and_shards_are_taken_everywhere_a_folder_is() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for (name, measured, n, first) in [
        ("animals", "2 images", 11, "train-00000-of-00001.parquet/1-0.png"),
        ("shards", ": 1 image\n", 5, "animals-train-000000.tar/a/0000.png"),
    ] {
        let data = goldens().join(name);
        let data = data.to_str().unwrap();
        succeeds(here, &train(data, name, &[]));
        let said = succeeds(here, &["evaluate", name, data]);
        assert!(said.contains(measured), "{said}");
        let rows = succeeds(here, &["predict", "--run", name, "--csv", data]);
        assert_eq!(rows.lines().count(), 1 + n, "{rows}");
        assert!(rows.contains(first), "{rows}");
        let stats = cli(here, &["dataset", "stats", data]);
        assert!(text(&stats.stdout).contains("2 classes"), "{}", text(&stats.stdout));
    }
}
