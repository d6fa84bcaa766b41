//! Output that is full or closed, and what the exit code says.
#![cfg(unix)]

mod common;

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Output, Stdio};

use common::{command, photos, refuses, succeeds, text};

const TRAIN: [&str; 11] = [
    "train",
    "photos",
    "--model",
    "small-cnn",
    "--input",
    "32x32x3",
    "--batch-size",
    "8",
    "--epochs",
    "2",
    "--out",
];

fn run(here: &Path) {
    photos(here, 8);
    succeeds(here, &[&TRAIN[..], &["run"]].concat());
}

/// What a full disk is to a writer.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// The end of a pipe that nobody reads.
fn closed() -> Stdio {
    let mut reader = std::process::Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let pipe = reader.stdin.take().unwrap();
    reader.wait().unwrap();
    pipe.into()
}

fn told(output: &Output) -> String {
    let said = text(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn what_a_command_reads_it_does_not_write_over() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 6);
    succeeds(here, &[&TRAIN[..], &["run"]].concat());
    succeeds(here, &[&TRAIN[..], &["other", "--seed", "4"]].concat());
    let files = ["run/config.json", "run/model.safetensors", "run/predictions.csv", "photos/red/0.png"];
    let before = files.map(|file| std::fs::read(here.join(file)).unwrap());
    let words = ["is read by this command", "name another file"];
    for file in &files[..3] {
        refuses(here, &["evaluate", "run", "photos", "--predictions", file], &words);
        refuses(here, &["compare", "other", "run", "--out", file], &words);
    }
    for file in &files {
        refuses(here, &["predict", "--run", "run", "photos", &format!("--csv={file}")], &words);
    }
    refuses(here, &["dataset", "check", "photos", "--quick", "--csv", "photos/red/0.png"], &words);
    refuses(here, &["embed", "--run", "run", "photos", "--out", "run/predictions.npy"], &words);
    refuses(here, &["evaluate", "run", "photos", "--predictions", "photos/red/0.png"], &words);
    let table = "path,label\nphotos/red/0.png,red\nphotos/blue/0.png,blue\n";
    std::fs::write(here.join("table.csv"), table).unwrap();
    for flag in ["--csv", "--fix-list", "--report", "--probabilities"] {
        refuses(here, &["dataset", "check", "table.csv", flag, "table.csv"], &words);
    }
    let twice = ["dataset", "check", "table.csv", "--quick", "--csv", "found", "--fix-list", "./found"];
    refuses(here, &twice, &["named for two results"]);
    let tune = ["tune", "photos", "--model", "small-cnn", "--trials", "1", "--space"];
    refuses(here, &[&tune[..], &["table.csv", "--report", "table.csv"]].concat(), &words);
    // The names of an .npy file's rows do not take the place of another table.
    refuses(
        here,
        &["embed", "--run", "run", "photos", "--out", "table.npy"],
        &["table.csv is no list of names"],
    );
    for _ in 0..2 {
        succeeds(here, &["embed", "--run", "run", "photos", "--out", "features.npy"]);
    }
    assert_eq!(std::fs::read_to_string(here.join("table.csv")).unwrap(), table);
    assert!(before == files.map(|file| std::fs::read(here.join(file)).unwrap()));
}

#[test]
fn a_command_ends_with_a_word_where_its_output_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here);
    let commands: &[&[&str]] = &[
        &["summary", "lenet5"],
        &["summary", "lenet5", "--json"],
        &["models"],
        &["models", "--json"],
        &["--help"],
        &["predict", "--help"],
        &["--version"],
        &["man"],
        &["cache"],
        &["dataset", "stats", "photos"],
        &["dataset", "stats", "photos", "--json"],
        &["dataset", "check", "photos", "--quick"],
        &["evaluate", "run", "photos"],
        &["evaluate", "run", "photos", "--json"],
        &["predict", "--run", "run", "photos"],
        &["predict", "--run", "run", "photos", "--csv"],
        &["predict", "--run", "run", "photos", "--jsonl"],
        &["predict", "--run", "run", "photos", "--json"],
        &["predict", "--run", "run", "photos", "--like", "photos/red/0.png"],
        &["compare", "run", "run"],
    ];
    for args in commands {
        let output = command(here, args).stdout(full()).output().unwrap();
        let said = told(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("error: cannot write to standard output: No space left on device"),
            "{args:?}: {said}"
        );

        let output = command(here, args).stdout(closed()).output().unwrap();
        let said = told(&output);
        assert_eq!(output.status.code(), Some(0), "{args:?}, closed: {said}");
        assert!(!said.contains("error"), "{args:?}, closed: {said}");

        // Nor does a full standard error end anything.
        let output = command(here, args).stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?} with a full log");
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_training_goes_on_without_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here);
    let weights = |name: &str| std::fs::read(here.join(name).join("model.safetensors")).unwrap();
    type Spawn = fn(&mut std::process::Command) -> Child;
    let ways: [(&str, Spawn, i32); 4] = [
        ("full", |c| c.stdout(full()).stderr(full()).spawn().unwrap(), 1),
        ("full-log", |c| c.stdout(Stdio::null()).stderr(full()).spawn().unwrap(), 0),
        ("closed", |c| c.stdout(closed()).stderr(closed()).spawn().unwrap(), 0),
        ("full-output", |c| c.stdout(full()).stderr(Stdio::null()).spawn().unwrap(), 1),
    ];
    for (out, spawn, code) in ways {
        let mut command = command(here, &[&TRAIN[..], &[out]].concat());
        let status = spawn(command.env("RUST_LOG", "trace")).wait().unwrap();
        assert_eq!(status.code(), Some(code), "{out}");
        assert!(weights(out) == weights("run"), "{out}");
        assert!(here.join(out).join("report.html").is_file(), "{out}");
    }
    // All folds are trained, though the first has nobody to tell.
    let status = command(here, &[&TRAIN[..], &["folds", "--folds", "2"]].concat())
        .stdout(full())
        .stderr(full())
        .status();
    assert_eq!(status.unwrap().code(), Some(1));
    assert!(here.join("folds/cross-validation.json").is_file());

    let search =
        ["tune", "photos", "--model", "logistic", "--input", "16x16x3", "--trials", "3", "--epochs", "1"];
    let status =
        command(here, &search).args(["--storage", "study.log"]).stdout(full()).stderr(full()).status();
    assert_eq!(status.unwrap().code(), Some(1));
    let said = succeeds(here, &[&search[..], &["--storage", "study.log", "--json"]].concat());
    let study: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(study["trials"].as_array().unwrap().len(), 3);
}

#[test]
fn the_exit_code_says_whose_fault_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here);
    let ends = |args: &[&str], code: i32, words: &[&str]| {
        let output = command(here, args).output().unwrap();
        let said = told(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{args:?} should say {word}: {said}");
        }
    };
    // What is named and not there is a wrong argument.
    ends(&["evaluate", "nowhere", "photos"], 2, &["nowhere"]);
    ends(&["evaluate", "run", "nowhere"], 2, &["nowhere"]);
    ends(&["predict", "--run", "run", "nowhere.png"], 2, &["nowhere.png"]);
    // A folder where a file should be, and a file that is no image.
    std::fs::write(here.join("text.png"), "no image").unwrap();
    ends(&["predict", "--run", "run", "text.png"], 2, &["text.png"]);
    // Nobody listens at the server.
    let search = ["tune", "photos", "--model", "logistic", "--trials", "1", "--storage"];
    ends(&[&search[..], &["postgresql://u:p@127.0.0.1:1/db"]].concat(), 1, &["127.0.0.1"]);
    let hub = ["predict", "--pretrained", "mobilenet-v2", "--weights", "owner/name", "photos"];
    let output = command(here, &hub).env("HF_ENDPOINT", "http://127.0.0.1:1").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));

    // What the machine refuses: no permission.
    let deny = |path: &str, mode: u32| {
        std::fs::set_permissions(here.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let is_root = here.metadata().unwrap().uid() == 0;
    if is_root {
        // The superuser may read all the same.
        deny("", 0o777);
        std::fs::remove_dir_all(here.join("cache")).unwrap();
    }
    let ends = |args: &[&str], code: i32, words: &[&str]| {
        let mut command = command(here, args);
        if is_root {
            command.uid(65534);
        }
        let output = command.output().unwrap();
        let said = told(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{args:?} should say {word}: {said}");
        }
    };
    for file in ["config.json", "model.safetensors", "split.csv"] {
        deny(&format!("run/{file}"), 0);
        ends(&["evaluate", "run", "photos"], 1, &[file, "denied"]);
        deny(&format!("run/{file}"), 0o644);
    }
    deny("photos/red/0.png", 0);
    ends(&["predict", "--run", "run", "photos/red/0.png"], 1, &["none of 1 files"]);
    ends(&["predict", "--run", "run", "photos/red/0.png", "--on-error", "fail"], 1, &["0.png", "denied"]);
    ends(&[&TRAIN[..], &["other", "--split-seed", "5"]].concat(), 1, &["0.png", "denied"]);
}
