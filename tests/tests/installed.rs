//! The installed command: it works from any folder, and writes nothing that was not asked for.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{GrayImage, Luma};

/// The command in a folder without a clone, for a user whose home is empty.
fn firstsight(folder: &Path, home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstsight-installed"));
    command.current_dir(folder).args(args).env_remove("CARGO_MANIFEST_DIR").env_remove("XDG_CACHE_HOME");
    command.env("HOME", home).env("LOCALAPPDATA", home).env("USERPROFILE", home);
    command.output().unwrap()
}

fn succeeds(folder: &Path, home: &Path, args: &[&str]) -> String {
    let output = firstsight(folder, home, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Two classes of ten images.
fn images(root: &Path) -> PathBuf {
    for (class, down) in [("across", false), ("down", true)] {
        let folder = root.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..10 {
            let gray = |x: u32, y: u32| Luma([((if down { y } else { x } + i) % 4 * 60) as u8]);
            GrayImage::from_fn(16, 16, gray).save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    root.to_path_buf()
}

#[test]
fn data_and_runs_are_arguments_and_caches_stay_out_of_the_folder() {
    let (here, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, home) = (here.path(), home.path());
    images(&here.join("lines"));
    let train = ["train", "lines", "--model", "logistic", "--input", "16x16x1", "--epochs", "2"];
    succeeds(here, home, &train);
    assert_eq!(names(here), ["lines", "lines-logistic"]);
    let measured = succeeds(here, home, &["evaluate", "lines-logistic", "lines", "--split", "val"]);
    assert!(measured.contains("4 images"), "{measured}");
    succeeds(here, home, &["predict", "--run", "lines-logistic", "lines/down/0.png"]);
    assert_eq!(names(here), ["lines", "lines-logistic"]);
    assert_eq!(names(home).len(), 1, "the cache is in the user's folder");
}

#[test]
fn a_lecture_section_leaves_its_report_alone() {
    let (here, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let args = ["reproduce-lecture", "--quick", "--section", "images", "--section", "convolution"];
    succeeds(here.path(), home.path(), &args);
    assert_eq!(names(here.path()), ["report"]);
}

#[test]
fn models_are_listed_by_a_part_of_their_name() {
    let (here, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listed = succeeds(here.path(), home.path(), &["models", "lenet5", "--json"]);
    let models: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(models.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!((&models[0]["name"], &models[0]["params"]), (&"lenet5".into(), &61_706.into()));
    let all = succeeds(here.path(), home.path(), &["models"]);
    assert!(all.contains("mobilenet-v2") && all.contains("3,504,872"), "{all}");
}

#[test]
fn completions_and_the_man_page_name_the_commands() {
    let (here, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(succeeds(here.path(), home.path(), &["completions", shell]).contains("fine-tune"));
    }
    assert!(succeeds(here.path(), home.path(), &["man"]).contains("fine"));
    assert!(names(here.path()).is_empty());
}
