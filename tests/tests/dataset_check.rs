//! `dataset check` as its users meet it, on small made-up pictures.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use firstsight_models::networks::MOBILENET_V2;
use firstsight_models::{ImageClassifier, InputShape, Params};
use image::{Rgb, RgbImage, Rgba, RgbaImage, imageops};
use serde_json::Value;
use tempfile::TempDir;

use common::{cli, succeeds, text};

/// A scene of soft spots, another for each seed. `hue` is the channel that is bright, if any.
fn scene(seed: u32, hue: Option<usize>) -> RgbImage {
    let mut state = u64::from(seed) * 2 + 1;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let spots: Vec<[f32; 6]> = (0..20).map(|_| std::array::from_fn(|_| random())).collect();
    RgbImage::from_fn(60, 48, |x, y| {
        let (x, y) = (x as f32 / 60.0, y as f32 / 48.0);
        let mut color = [90.0, 90.0, 90.0];
        if let Some(hue) = hue {
            color[hue] += 90.0;
        }
        for [cx, cy, radius, r, g, b] in &spots {
            let near = (-((x - cx).powi(2) + (y - cy).powi(2)) / (0.003 + 0.03 * radius)).exp();
            for (channel, spot) in color.iter_mut().zip([r, g, b]) {
                *channel += near * (spot * 200.0 - 100.0);
            }
        }
        Rgb(color.map(|value| value.clamp(0.0, 255.0) as u8))
    })
}

fn save(picture: &RgbImage, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

/// `n` scenes of each of two classes, which color alone tells apart.
fn photos(folder: &Path, n: u32) {
    for (class, hue, first) in [("ants", 0, 0), ("bees", 2, 1000)] {
        for i in 0..n {
            save(&scene(first + i, Some(hue)), &folder.join(class).join(format!("{i:02}.png")));
        }
    }
}

/// The rows of a CSV file of findings, by column.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(split);
    let header = lines.next().unwrap();
    lines.map(|cells| header.iter().cloned().zip(cells).collect()).collect()
}

/// The cells of a line of CSV.
fn split(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells.last_mut().unwrap().push(c),
        }
    }
    cells
}

fn of_kind<'a>(rows: &'a [BTreeMap<String, String>], kind: &str) -> Vec<&'a BTreeMap<String, String>> {
    rows.iter().filter(|row| row["kind"] == kind).collect()
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path))
        } else {
            drop(all.insert(path.clone(), fs::read(path).unwrap()))
        }
    }
    all
}

#[test]
fn all_broken_files_are_listed_in_one_pass_and_nothing_is_changed() {
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    let data = here.join("photos");
    photos(&data, 6);
    fs::write(data.join("ants/00.png"), []).unwrap();
    fs::write(data.join("bees/03.png"), "<!DOCTYPE html><html>404").unwrap();
    let whole = fs::read(data.join("ants/02.png")).unwrap();
    fs::write(data.join("ants/02.png"), &whole[..whole.len() / 20]).unwrap();
    fs::write(data.join("ants/notes.txt"), "seen in June").unwrap();
    let before = files(&data);

    let output = cli(
        here,
        &[
            "dataset",
            "check",
            "photos",
            "--quick",
            "--csv",
            "c.csv",
            "--fix-list",
            "f.csv",
            "--report",
            "r.html",
        ],
    );
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", text(&output.stderr));
    let broken = ["photos/ants/00.png", "photos/ants/02.png", "photos/bees/03.png"];
    for name in broken {
        assert!(said.contains(name), "{name}: {said}");
    }
    assert!(said.contains("3 broken") && said.contains("notes.txt"), "{said}");
    let found = rows(&here.join("c.csv"));
    let named: Vec<&str> = of_kind(&found, "broken").iter().map(|row| row["path"].as_str()).collect();
    assert_eq!(named, broken);
    assert!(
        of_kind(&found, "broken")
            .iter()
            .all(|row| row["suggestion"] == "remove" && !row["reason"].is_empty())
    );
    let fixes = rows(&here.join("f.csv"));
    assert_eq!(fixes.iter().filter(|row| row["action"] == "remove").count(), 3);
    let page = fs::read_to_string(here.join("r.html")).unwrap();
    assert!(
        page.contains("3 files cannot be read")
            && page.contains("Found: files and folders that are not used (1)")
    );
    assert!(page.contains(r#"class="path-cell"><bdi>ants/<wbr/>02.png"#), "a long path may break");
    assert_eq!(files(&data), before, "nothing is changed");

    for name in broken {
        fs::remove_file(here.join(name)).unwrap();
    }
    assert!(succeeds(here, &["dataset", "check", "photos", "--quick"]).contains("notes.txt"));
}

#[test]
fn copies_across_splits_and_the_same_picture_under_two_labels_are_found() {
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    photos(&here.join("d/train"), 12);
    for (class, hue, first) in [("ants", 0, 500), ("bees", 2, 1500)] {
        for i in 0..4 {
            save(&scene(first + i, Some(hue)), &here.join(format!("d/val/{class}/{i}.png")));
        }
    }
    let copy = |from: &str, to: &str| {
        fs::copy(here.join("d").join(from), here.join("d").join(to)).unwrap();
    };
    copy("train/ants/05.png", "val/ants/copy.png");
    copy("train/ants/06.png", "train/bees/copy.png");
    // Another size.
    let near = image::open(here.join("d/train/bees/07.png")).unwrap().into_rgb8();
    let near = imageops::resize(&near, 90, 70, imageops::FilterType::Triangle);
    save(&near, &here.join("d/val/bees/near.png"));

    let said = succeeds(
        here,
        &["dataset", "check", "d", "--quick", "--csv", "c.csv", "--fix-list", "f.csv", "--report", "r.html"],
    );
    assert!(said.contains("1 exact-duplicate") && said.contains("1 near-duplicate"), "{said}");
    assert!(said.contains("1 across splits"), "{said}");
    let found = rows(&here.join("c.csv"));
    let exact = of_kind(&found, "exact-duplicate");
    assert_eq!(exact.len(), 1);
    // What is measured stays: the copy for training goes.
    assert_eq!((&*exact[0]["path"], &*exact[0]["other"]), ("d/train/ants/05.png", "d/val/ants/copy.png"));
    assert_eq!((&*exact[0]["split"], &*exact[0]["other_split"]), ("train", "val"));
    assert_eq!(exact[0]["suggestion"], "remove");
    let near = of_kind(&found, "near-duplicate");
    assert_eq!(near.len(), 1, "{found:?}");
    assert_eq!((&*near[0]["path"], &*near[0]["other"]), ("d/train/bees/07.png", "d/val/bees/near.png"));
    let conflicts = of_kind(&found, "conflicting-labels");
    let named: Vec<(&str, &str)> = conflicts.iter().map(|row| (&*row["path"], &*row["class"])).collect();
    assert_eq!(named, [("d/train/ants/06.png", "ants"), ("d/train/bees/copy.png", "bees")]);
    let fixes = rows(&here.join("f.csv"));
    let actions: Vec<(&str, &str)> = fixes.iter().map(|row| (&*row["action"], &*row["file"])).collect();
    assert_eq!(
        actions,
        [
            ("look", "d/train/ants/06.png"),
            ("look", "d/train/bees/copy.png"),
            ("remove", "d/train/ants/05.png"),
            ("remove", "d/train/bees/07.png"),
        ]
    );
    let page = fs::read_to_string(here.join("r.html")).unwrap();
    assert!(page.contains("2 images of one split are also in another"), "the lead says so");
}

#[test]
fn what_gives_a_class_away_without_looking_at_the_picture_is_a_sentence() {
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    for i in 0..20 {
        let path = here.join(format!("d/ants/{i}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let picture = scene(i, None);
        RgbaImage::from_fn(60, 48, |x, y| {
            let Rgb([r, g, b]) = *picture.get_pixel(x, y);
            Rgba([r, g, b, if x < 10 { 0 } else { 255 }])
        })
        .save(path)
        .unwrap();
        let large = imageops::resize(&scene(100 + i, None), 120, 96, imageops::FilterType::Triangle);
        save(&large, &here.join(format!("d/bees/{i}.png")));
        save(&scene(200 + i, None), &here.join(format!("d/wasps/{i}.png")));
    }
    let said = succeeds(here, &["dataset", "check", "d", "--quick", "--report", "r.html"]);
    for sentence in [
        "exactly the images of class ants have transparency (20)",
        "exactly the images of class bees are of 120×96 pixels (20)",
        "20 transparent",
    ] {
        assert!(said.contains(sentence), "{sentence}: {said}");
    }
    assert!(
        fs::read_to_string(here.join("r.html"))
            .unwrap()
            .contains("A leak: exactly the images of class ants have transparency")
    );

    // The same sizes and formats for all are no leak.
    let even = here.join("even");
    photos(&even, 20);
    assert!(!succeeds(here, &["dataset", "check", "even", "--quick"]).contains("leak"));
}

/// MobileNetV2 with random weights: its features still tell colors apart.
fn weights(folder: &Path) {
    let folder = folder.join("weights");
    fs::create_dir_all(&folder).unwrap();
    let params = Params::seeded(5, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    ImageClassifier::new(&MOBILENET_V2, input, 10, MOBILENET_V2.init, &params).unwrap();
    params.save(&folder.join("model.safetensors")).unwrap();
    let config = serde_json::json!({
        "architecture": "mobilenetv2_100", "num_classes": 10,
        "pretrained_cfg": {"input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "squash"},
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

/// Photos of which some are in the wrong class.
fn swapped(here: &Path, n: u32) -> Vec<String> {
    photos(&here.join("photos"), n);
    for (from, to) in
        [("ants/01.png", "bees/a.png"), ("ants/09.png", "bees/b.png"), ("bees/05.png", "ants/c.png")]
    {
        fs::rename(here.join("photos").join(from), here.join("photos").join(to)).unwrap();
    }
    ["photos/ants/c.png", "photos/bees/a.png", "photos/bees/b.png"].map(str::to_owned).to_vec()
}

#[test]
fn swapped_labels_are_suspected_by_features_and_by_the_small_network() {
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    let wrong = swapped(here, 40);
    weights(here);
    for network in [&["--weights", "weights"][..], &[]] {
        let fixed = [
            "dataset",
            "check",
            "photos",
            "--csv",
            "c.csv",
            "--fix-list",
            "f.csv",
            "--probabilities",
            "p.csv",
            "--json",
        ];
        let document: Value = serde_json::from_str(&succeeds(here, &[&fixed[..], network].concat())).unwrap();
        let found = rows(&here.join("c.csv"));
        let mut named: Vec<&str> =
            of_kind(&found, "suspected-label").iter().map(|row| row["path"].as_str()).collect();
        named.sort_unstable();
        assert_eq!(named, wrong, "{network:?} {document}");
        assert_eq!(document["counts"]["suspected-label"], 3, "{document}");
        assert!(document["labels"]["accuracy"].as_f64().unwrap() >= 0.85, "{document}");
        let fixes = rows(&here.join("f.csv"));
        let c = fixes.iter().find(|row| row["file"] == "photos/ants/c.png").unwrap();
        assert_eq!((&*c["action"], &*c["class"]), ("move", "bees"));
        let probabilities = fs::read_to_string(here.join("p.csv")).unwrap();
        assert!(probabilities.starts_with("path,label,ants,bees\n"), "{probabilities}");
        assert_eq!(probabilities.lines().count(), 81);
    }
}

#[test]
fn a_second_check_reuses_the_features_of_files_that_are_still_there() {
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    photos(&here.join("photos"), 10);
    weights(here);
    let check = || {
        let output = cli(here, &["dataset", "check", "photos", "--weights", "weights", "--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let (first, said) = check();
    assert!(said.contains("features: 20"), "{said}");
    let (second, said) = check();
    assert!(!said.contains("features: "), "{said}");
    assert_eq!(first, second);
    save(&scene(77, Some(0)), &here.join("photos/ants/new.png"));
    let (_, said) = check();
    assert!(said.contains("features: 1 "), "{said}");
}

#[test]
fn noise_is_not_said_to_have_wrong_labels() {
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    for i in 0..60 {
        let class = if i % 2 == 0 { "ants" } else { "bees" };
        save(&scene(i, None), &here.join(format!("noise/{class}/{i}.png")));
    }
    let said = succeeds(here, &["dataset", "check", "noise"]);
    assert!(!said.contains("suspected-label"), "{said}");
    assert!(said.contains("That is too few to name labels"), "{said}");
}

#[test]
fn small_classes_and_odd_files_are_named() {
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    photos(&here.join("d"), 40);
    save(&scene(3000, None), &here.join("d/wasps/1.png"));
    save(&RgbImage::from_pixel(60, 48, Rgb([7, 7, 7])), &here.join("d/ants/blank.png"));
    save(
        &imageops::resize(&scene(4000, None), 900, 60, imageops::FilterType::Triangle),
        &here.join("d/bees/long.png"),
    );
    let document = succeeds(here, &["dataset", "check", "d", "--quick", "--json"]);
    let document: Value = serde_json::from_str(&document).unwrap();
    let findings = document["findings"].as_array().unwrap();
    let reason = |kind: &str| {
        let found = findings.iter().find(|finding| finding["kind"] == kind);
        found.unwrap_or_else(|| panic!("{kind}: {document}"))["reason"].as_str().unwrap().to_owned()
    };
    assert!(reason("small-class").contains("wasps has one image in train"));
    assert!(reason("imbalance").ends_with("and 1 of wasps"), "{}", reason("imbalance"));
    assert_eq!(reason("blank"), "is of one color");
    assert!(reason("odd-size").starts_with("900×60"));
}

/// A PNG file with EXIF data of this orientation after its header.
fn turn(path: &Path, orientation: u8) {
    let mut chunk = b"eXIfMM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    chunk.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let mut crc = u32::MAX;
    for byte in &chunk {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let mut file = fs::read(path).unwrap();
    let length = (chunk.len() as u32 - 4).to_be_bytes();
    file.splice(33..33, length.into_iter().chain(chunk).chain((!crc).to_be_bytes()));
    fs::write(path, file).unwrap();
}

#[test]
fn stats_count_rotations_transparency_and_16_bit_gray_and_check_on_request() {
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    let data = here.join("d");
    photos(&data, 10);
    turn(&data.join("ants/00.png"), 6);
    turn(&data.join("ants/01.png"), 3);
    RgbaImage::from_pixel(20, 20, Rgba([9, 9, 9, 100])).save(data.join("bees/clear.png")).unwrap();
    image::ImageBuffer::from_fn(20, 20, |x, y| image::Luma([(x * y * 100) as u16]))
        .save(data.join("bees/deep.png"))
        .unwrap();
    let said = succeeds(here, &["dataset", "stats", "d"]);
    for words in [
        "2 of 22 images carry an EXIF rotation",
        "1 of 22 images have transparency",
        "1 of 22 images are gray of 16 bits",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }

    // A cut file has a sound header: `stats` alone does not decode it.
    let whole = fs::read(data.join("ants/02.png")).unwrap();
    fs::write(data.join("ants/02.png"), &whole[..whole.len() / 20]).unwrap();
    let output = cli(here, &["dataset", "stats", "d", "--check"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("1 broken") && said.contains("2 turned") && said.contains("1 transparent"),
        "{said}"
    );
    fs::write(data.join("ants/02.png"), []).unwrap();
    let output = cli(here, &["dataset", "stats", "d"]);
    assert_eq!(output.status.code(), Some(1), "an empty file has no header");
    assert!(text(&output.stdout).contains("02.png"));
}

/// A table of eight pictures, with the cells of this label column.
fn table(here: &Path, name: &str, column: &str, cell: impl Fn(u32) -> String) {
    let mut table = format!("path,{column}\n");
    for i in 0..8 {
        save(&scene(i, None), &here.join(format!("{i}.png")));
        table.push_str(&format!("{i}.png,{}\n", cell(i)));
    }
    fs::write(here.join(name), table).unwrap();
}

#[test]
fn numbers_have_no_class_findings_but_a_minimum_median_and_maximum() {
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    table(here, "claims.csv", "cost", |i| (10 * i).to_string());
    fs::copy(here.join("2.png"), here.join("3.png")).unwrap();
    let numbers = ["claims.csv", "--label-column", "cost", "--task", "regression"];
    let check = ["dataset", "check", "--quick", "--report", "r.html"];
    let said = succeeds(here, &[&check, &numbers[..]].concat());
    assert!(
        said.contains("claims.csv: 8 train images, numbers: cost") && said.contains("conflicting-labels"),
        "{said}"
    );
    assert!(!said.contains("small-class") && !said.contains("imbalance"), "{said}");
    let page = fs::read_to_string(here.join("r.html")).unwrap();
    assert!(page.contains("<dt>numbers</dt><dd><bdi>cost</bdi>") && page.contains(">number</th>"), "{page}");
    assert!(!page.contains("<dt>classes") && !page.contains("single class"), "{page}");
    let stats = [&["dataset", "stats"], &numbers[..]].concat();
    let said = succeeds(here, &stats);
    assert!(said.contains("numbers, cost") && said.contains("train\t8\t0\t35\t70"), "{said}");
    let document: Value = serde_json::from_str(&succeeds(here, &[&stats[..], &["--json"]].concat())).unwrap();
    let train = &document["splits"][0];
    assert_eq!(train["values"], serde_json::json!({"n": 8, "min": 0.0, "median": 35.0, "max": 70.0}));
    assert!(train.get("per_class").is_none(), "{train}");
}

#[test]
fn the_images_of_a_label_are_counted_where_images_have_several() {
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    table(here, "tags.csv", "label", |i| if i == 0 { "dent|rust".to_owned() } else { "dent".to_owned() });
    let said = succeeds(here, &["dataset", "check", "--quick", "tags.csv"]);
    assert!(said.contains("2 labels") && !said.contains("has no image"), "{said}");
    assert!(said.contains("dent has 8 images in train") && said.contains("rust has one image"), "{said}");
    let said = succeeds(here, &["dataset", "stats", "tags.csv"]);
    assert!(said.contains("tags.csv: 2 labels") && said.contains("label\ttrain\ndent\t8\nrust\t1"), "{said}");
}

#[test]
fn classes_that_training_refuses_are_findings_and_an_exit_code() {
    let folder = TempDir::new().unwrap();
    let here = folder.path();
    photos(&here.join("two"), 12);
    fs::create_dir(here.join("two/wasps")).unwrap();
    photos(&here.join("alike"), 12);
    fs::rename(here.join("alike/bees"), here.join("alike/Ants ")).unwrap();
    photos(&here.join("one"), 12);
    fs::remove_dir_all(here.join("one/bees")).unwrap();
    let train = |data: &str| {
        cli(
            here,
            &["train", data, "--model", "logistic", "--input", "16x16x3", "--epochs", "1", "--out", "run"],
        )
    };
    for (data, reason) in [
        ("two", "wasps has no image in two/wasps"),
        ("alike", "'Ants ' and 'ants' differ in letter case or blanks alone"),
        ("one", "ants is the only class"),
    ] {
        for command in [&["dataset", "check", "--quick", data][..], &["dataset", "stats", "--check", data]] {
            let output = cli(here, command);
            let said = text(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("1 unfit-class") && said.contains(reason), "{reason}: {said}");
            assert!(text(&output.stderr).contains(&format!("no training takes these classes: {reason}")));
        }
        assert_eq!(train(data).status.code(), Some(2), "{data}: training refuses them");
    }
    succeeds(here, &["dataset", "stats", "one"]);
    // Everything else is done before.
    cli(here, &["dataset", "check", "one", "--csv", "c.csv", "--report", "r.html"]);
    assert_eq!(of_kind(&rows(&here.join("c.csv")), "unfit-class").len(), 1);
    assert!(fs::read_to_string(here.join("r.html")).unwrap().contains("ants is the only class"));
}
