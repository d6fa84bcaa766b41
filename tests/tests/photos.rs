//! Photos as people have them, in every command.

mod common;

use std::path::Path;

use common::{cli, refuses, succeeds, text};
use image::{ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::Value;

/// `n` pictures of noise in each of two classes, 16x16.
fn noise(root: &Path, n: u32) {
    for (class, name) in ["ants", "bees"].iter().enumerate() {
        std::fs::create_dir_all(root.join(name)).unwrap();
        for i in 0..n {
            let of = |x: u32, y: u32, c: u32| (x * 37 + y * 91 + i * 53 + c * 29 + class as u32 * 17) as u8;
            let image = RgbImage::from_fn(16, 16, |x, y| Rgb([of(x, y, 0), of(x, y, 1), of(x, y, 2)]));
            image.save_with_format(root.join(name).join(format!("m{i:04}.png")), ImageFormat::Png).unwrap();
        }
    }
}

fn train<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["train", data, "--model", "logistic", "--input", "16x16x3", "--epochs", "1", "--out", out];
    fixed.into_iter().chain(more.iter().copied()).collect()
}

fn config(run: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(run.join("config.json")).unwrap()).unwrap()
}

#[test]
fn unreadable_files_are_named_at_once_or_left_out_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("sound"), 8);
    succeeds(here, &train("sound", "run", &[]));
    noise(&here.join("bad"), 8);
    std::fs::write(here.join("bad/ants/m0001.png"), "").unwrap();
    std::fs::write(here.join("bad/bees/m0003.png"), "<!DOCTYPE html><html>404").unwrap();

    refuses(
        here,
        &train("bad", "none", &[]),
        &["2 of 16 files", "m0001.png", "m0003.png", "HTML", "--on-error skip"],
    );
    assert!(!here.join("none").exists());
    for (out, flag) in [("skipped", &["--on-error", "skip"][..]), ("old-flag", &["--skip-unreadable"])] {
        let output = cli(here, &train("bad", out, flag));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(
            said.contains("left out") && said.contains("m0001.png") && said.contains("m0003.png"),
            "{said}"
        );
    }

    let output = cli(here, &["evaluate", "run", "bad", "--split", "all", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap();
    assert!(text(&output.stderr).contains("could not be read"), "{}", text(&output.stderr));
    refuses(here, &["evaluate", "run", "bad", "--split", "all", "--on-error", "fail"], &["2 of 16 files"]);

    let tune = ["tune", "bad", "--model", "logistic", "--input", "16x16x3", "--trials", "1", "--epochs", "1"];
    refuses(here, &tune, &["2 of 16 files"]);
    succeeds(here, &[&tune[..], &["--on-error", "skip"]].concat());
}

#[test]
fn a_run_says_how_it_reads_and_predict_follows_it() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("sound"), 6);
    succeeds(here, &train("sound", "viewer", &[]));
    succeeds(here, &train("sound", "pillow", &["--reading", "pillow", "--max-pixels", "1000"]));
    let viewer = serde_json::json!({"exif": "apply", "sixteen_bit": "scale", "alpha": "blend", "damaged": "accept",
        "max_pixels": 250_000_000});
    assert_eq!(config(&here.join("viewer"))["reading"], viewer);
    assert_eq!(config(&here.join("pillow"))["reading"]["alpha"], "drop");

    let half = RgbaImage::from_fn(16, 16, |x, _| Rgba([200, 30, 30, if x < 8 { 0 } else { 255 }]));
    half.save(here.join("half.png")).unwrap();
    RgbImage::from_pixel(40, 40, Rgb([9, 9, 9])).save(here.join("large.png")).unwrap();
    let row = |args: &[&str]| succeeds(here, &[&["predict", "--csv", "--run"], args].concat());
    // The weights are the same; what is seen is not.
    assert_ne!(row(&["viewer", "half.png"]), row(&["pillow", "half.png"]));
    assert_eq!(row(&["viewer", "half.png", "--alpha", "drop"]), row(&["pillow", "half.png"]));
    let refused = cli(here, &["predict", "--csv", "--run", "pillow", "large.png"]);
    assert!(!refused.status.success());
    let said = [text(&refused.stdout), text(&refused.stderr)].concat();
    assert!(said.contains("40x40") && said.contains("--max-pixels"), "{said}");
    row(&["pillow", "large.png", "--max-pixels", "2000"]);

    // A configuration without a word of it is timm's.
    let mut config = config(&here.join("viewer"));
    config.as_object_mut().unwrap().remove("reading");
    std::fs::write(here.join("viewer/config.json"), config.to_string()).unwrap();
    assert_eq!(row(&["viewer", "half.png"]), row(&["pillow", "half.png"]));
}

/// Two classes that any eye tells apart.
#[test]
fn gray_of_16_bits_is_seen_unless_it_is_to_be_clipped() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for (class, low, high) in [("dark", 2_000u32, 20_000u32), ("bright", 40_000, 60_000)] {
        std::fs::create_dir_all(here.join("gray").join(class)).unwrap();
        for i in 0..15u32 {
            let value = |x: u32, y: u32| low + (x * 7919 + y * 104_729 + i * 1301) % (high - low);
            let image: ImageBuffer<Luma<u16>, Vec<u16>> =
                ImageBuffer::from_fn(16, 16, |x, y| Luma([value(x, y) as u16]));
            image.save(here.join(format!("gray/{class}/{i}.png"))).unwrap();
        }
    }
    let args = ["train", "gray", "--model", "logistic", "--input", "16x16x1", "--epochs", "1", "--out"];
    succeeds(here, &[&args[..], &["scaled"]].concat());
    let output = cli(here, &[&args[..], &["clipped", "--sixteen-bit", "clip"]].concat());
    assert!(text(&output.stderr).contains("clipped: 16-bit gray"), "{}", text(&output.stderr));
    let row = |run: &str, image: &str| {
        let rows = succeeds(here, &["predict", "--csv", "--run", run, image]);
        rows.lines().nth(1).unwrap().split_once(',').unwrap().1.to_owned()
    };
    assert_ne!(row("scaled", "gray/dark/0.png"), row("scaled", "gray/bright/0.png"));
    assert_eq!(row("clipped", "gray/dark/0.png"), row("clipped", "gray/bright/0.png"), "all is white");
}

#[test]
fn a_sliver_and_a_photo_of_108_megapixels_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("sound"), 6);
    RgbImage::from_pixel(6000, 2, Rgb([9, 9, 9])).save(here.join("sound/ants/thin.png")).unwrap();
    image::GrayImage::from_pixel(12_000, 9_000, Luma([90])).save(here.join("sound/ants/large.png")).unwrap();
    succeeds(here, &train("sound", "run", &[]));
    succeeds(here, &["predict", "--run", "run", "sound/ants/thin.png", "sound/ants/large.png"]);
    let output = cli(here, &train("sound", "little", &["--max-pixels", "100000000"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("12000x9000 (--max-pixels"), "{}", text(&output.stderr));
}

#[test]
fn damaged_photos_are_read_and_said_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    noise(&here.join("sound"), 6);
    succeeds(here, &train("sound", "run", &[]));
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/data/tests/goldens/images/420-q95.jpg");
    let whole = std::fs::read(golden).unwrap();
    std::fs::create_dir_all(here.join("sound/ants")).unwrap();
    std::fs::write(here.join("sound/ants/no_end.jpg"), &whole[..whole.len() - 2]).unwrap();
    std::fs::write(here.join("sound/ants/newline.jpg"), [b"\n", &whole[..]].concat()).unwrap();
    let output = cli(here, &train("sound", "again", &[]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(
        said.contains("repaired: the end marker is missing") || said.contains("repaired: 1 stray bytes"),
        "{said}"
    );
    refuses(
        here,
        &train("sound", "strict", &["--damaged", "refuse"]),
        &["2 of 14 files", "no_end.jpg", "newline.jpg"],
    );
    std::fs::write(here.join("half.jpg"), &whole[..whole.len() / 2]).unwrap();
    assert!(!cli(here, &["predict", "--run", "run", "half.jpg"]).status.success());
}
