//! Names of classes and files that strangers have chosen: formulas, markup, and what drives a terminal.
#![cfg(unix)]

mod common;

use std::path::Path;

use image::{Rgb, RgbImage};

use common::{cli, succeeds, text};

const CLASSES: [&str; 3] = ["=1+cmd|x", "\u{1b}[2Jred", "<script>alert(1)<"];

fn scene(folder: &Path) {
    for (k, class) in CLASSES.iter().enumerate() {
        let class = folder.join("photos").join(class);
        std::fs::create_dir_all(&class).unwrap();
        for i in 0..8u8 {
            let color = Rgb([k as u8 * 90, i * 9, 200 - k as u8 * 50]);
            RgbImage::from_pixel(6, 6, color)
                .save(class.join(format!("@{i}\u{1b}]0;title\u{7}.png")))
                .unwrap();
        }
    }
    std::fs::write(folder.join("photos/=1+cmd|x/\u{1b}[2J.png"), b"\x89PNG\r\n\x1a\n").unwrap();
}

#[test]
fn are_text_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    scene(here);
    let train =
        ["train", "photos", "--model", "logistic", "--input", "6x6x3", "--epochs", "1", "--out", "run"];
    let refused = cli(here, &train);
    assert_eq!(refused.status.code(), Some(2));
    let trained = cli(here, &[&train[..], &["--skip-unreadable"]].concat());
    assert!(trained.status.success(), "{}", text(&trained.stderr));
    for said in [text(&refused.stderr), text(&trained.stderr)] {
        assert!(!said.contains('\u{1b}') && said.contains("\\u{1b}[2J.png"), "{said:?}");
    }
    let report = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    assert!(!report.contains("<script>alert") && report.contains("&lt;script&gt;alert(1)&lt;"));

    let rows =
        succeeds(here, &["predict", "--run", "run", "photos/<script>alert(1)<", "--csv", "--top", "3"]);
    succeeds(here, &["evaluate", "run", "photos", "--predictions", "all.csv"]);
    let tables = [rows, std::fs::read_to_string(here.join("all.csv")).unwrap()];
    for table in tables {
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        let cells: Vec<String> = reader
            .records()
            .flat_map(|row| row.unwrap().iter().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert!(cells.iter().any(|cell| cell == "'=1+cmd|x"), "{table}");
        let is_formula =
            |cell: &&String| cell.starts_with(['=', '+', '-', '@']) && cell.parse::<f64>().is_err();
        assert_eq!(cells.iter().find(is_formula), None, "{table}");
    }

    // Rows that were written so are gone on from.
    let here = here.join("photos/=1+cmd|x");
    std::fs::rename(folder.path().join("run"), here.join("run")).unwrap();
    let predict = |more: &[&str]| {
        let args = [
            "predict",
            "--run",
            "run",
            "@0\u{1b}]0;title\u{7}.png",
            "@1\u{1b}]0;title\u{7}.png",
            "--csv=rows.csv",
        ];
        succeeds(&here, &[&args[..], more].concat())
    };
    predict(&[]);
    let whole = std::fs::read(here.join("rows.csv")).unwrap();
    let first = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
    std::fs::write(here.join("rows.csv"), &whole[..first]).unwrap();
    predict(&["--resume"]);
    assert_eq!(text(&std::fs::read(here.join("rows.csv")).unwrap()), text(&whole));
}
