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

#[test]
fn are_text_in_tables_of_several_labels_and_of_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let (mut labels, mut costs) = ("path,label\n".to_owned(), "path,cost\n".to_owned());
    for i in 0..12u8 {
        let name = format!("@{i}.png");
        RgbImage::from_pixel(6, 6, Rgb([i * 20, 90, 10])).save(here.join(&name)).unwrap();
        labels += &format!("{name},{}\n", ["=1+cmd|-x", "-x", "=1+cmd"][usize::from(i % 3)]);
        costs += &format!("{name},-{i}.5\n");
    }
    std::fs::write(here.join("@broken.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    std::fs::write(here.join("labels.csv"), labels + "@broken.png,-x\n").unwrap();
    std::fs::write(here.join("costs.csv"), costs + "@broken.png,-1\n").unwrap();
    for (table, task) in
        [("labels.csv", &[][..]), ("costs.csv", &["--label-column", "cost", "--task", "regression"])]
    {
        let run = table.trim_end_matches(".csv");
        let train = ["train", table, "--model", "logistic", "--input", "6x6x3", "--epochs", "1"];
        let more = ["--skip-unreadable", "--out", run];
        let trained = cli(here, &[&train[..], &more, task].concat());
        assert!(trained.status.success(), "{}", text(&trained.stderr));
        cli(here, &["evaluate", run, table, "--split", "all", "--predictions", "all.csv"]);
        let read = |file: &str| -> Vec<csv::StringRecord> {
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(here.join(file)).unwrap();
            reader.records().map(Result::unwrap).collect()
        };
        let (rows, of_run) = (read("all.csv"), read(&format!("{run}/predictions.csv")));
        let is_formula = |cell: &&str| cell.starts_with(['=', '+', '-', '@']) && cell.parse::<f64>().is_err();
        assert_eq!(rows.iter().chain(&of_run).flatten().find(is_formula), None, "{table}");
        assert!(of_run[1..].iter().all(|row| row[0].starts_with("'@")), "{of_run:?}");
        assert_eq!((rows.len(), rows[0].iter().next_back()), (14, Some("note")), "{rows:?}");
        let broken = rows.iter().find(|row| &row[0] == "'@broken.png").unwrap();
        assert!(broken[2].is_empty() && broken[3].is_empty(), "{broken:?}");
        assert!(broken[broken.len() - 1].contains("unexpected end of file"), "{broken:?}");
        match task.is_empty() {
            true => assert!(rows[0].iter().any(|cell| cell == "'=1+cmd"), "{rows:?}"),
            false => assert!(rows.iter().any(|row| &row[2] == "-11.5"), "numbers stay numbers: {rows:?}"),
        }
    }
}
