//! Processes that are killed while they write, and disks that refuse to.
#![cfg(unix)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{command, json, photos, refuses, succeeds, text, weights};

fn train(out: &str) -> Vec<&str> {
    let fixed = [
        "train",
        "photos",
        "--model",
        "small-cnn",
        "--input",
        "16x16x3",
        "--batch-size",
        "8",
        "--epochs",
        "2",
    ];
    [&fixed[..], &["--resume", "--out", out]].concat()
}

fn fine_tune<'a>(out: &'a str, preset: &'a str) -> Vec<&'a str> {
    let fixed =
        ["fine-tune", "photos", "--weights", "weights", "--input", "32x32x3", "--resume", "--preset", preset];
    let epochs: &[&str] = if preset == "quick" { &[] } else { &["--epochs", "1"] };
    [&fixed[..], epochs, &["--out", out]].concat()
}

/// The files of a run that are the same bytes however it came about.
fn results(run: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let names =
        ["model.safetensors", "config.json", "history.csv", "split.csv", "predictions.csv", "confusion.csv"];
    let more = ["reject.safetensors", "checkpoint/last.safetensors", "checkpoint/best.safetensors"];
    let paths = names.iter().chain(&more).map(|name| run.join(name));
    paths
        .filter_map(|path| Some((path.strip_prefix(run).unwrap().into(), std::fs::read(&path).ok()?)))
        .collect()
}

/// Calls the command with this environment; its exit code, none after a signal.
fn ends(here: &Path, args: &[&str], environment: &[(&str, String)]) -> (Option<i32>, String) {
    let output = command(here, args).envs(environment.iter().cloned()).output().unwrap();
    let said = text(&output.stderr);
    assert!(!said.contains("panicked"), "{args:?}: {said}");
    (output.status.code(), said)
}

/// Whether every file of a run that is there can be read.
fn check_readable(here: &Path, run: &str) {
    let folder = here.join(run);
    for file in ["config.json", "metrics.json"] {
        if folder.join(file).exists() {
            json(&folder.join(file));
        }
    }
    for file in ["model.safetensors", "checkpoint/last.safetensors", "checkpoint/best.safetensors"] {
        if let Ok(bytes) = std::fs::read(folder.join(file)) {
            safetensors::SafeTensors::deserialize(&bytes).unwrap();
        }
    }
}

/// Kills the command at each step of writing, or at every `stride`-th, and calls it again as it was.
fn survives_kills(here: &Path, args: impl Fn(&str) -> Vec<String>, stride: usize) {
    let whole = args("undisturbed");
    succeeds(here, &whole.iter().map(String::as_str).collect::<Vec<_>>());
    let expected = results(&here.join("undisturbed"));
    assert!(expected.len() > 3);
    let stride = if std::env::var_os("FIRSTSIGHT_EVERY_STEP").is_some() { 1 } else { stride };
    for (kills, n) in (1..).step_by(stride).enumerate() {
        let out = format!("killed-{n}");
        let args = args(&out);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (code, said) = ends(here, &args, &[("FIRSTSIGHT_TESTS_KILL_AT", n.to_string())]);
        if code == Some(0) {
            assert!(n > 10, "it was killed {n} times");
            println!("killed at {kills} of {} steps or so", n - 1);
            break;
        }
        assert_eq!(code, None, "{said}");
        check_readable(here, &out);
        let (code, said) = ends(here, &args, &[]);
        assert_eq!(code, Some(0), "killed at step {n}: {said}");
        let found = results(&here.join(&out));
        assert!(found == expected, "killed at step {n}: other bytes");
        let left = leftovers(&here.join(&out));
        assert!(left.is_empty(), "killed at step {n}: {left:?} stay");
        std::fs::remove_dir_all(here.join(&out)).unwrap();
    }
}

/// Temporary files and locks in a folder and those below.
fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with('.') {
            found.push(path.clone());
        }
        if path.is_dir() {
            found.extend(leftovers(&path));
        }
    }
    found
}

fn owned(args: Vec<&str>) -> Vec<String> {
    args.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_training_killed_at_any_step_goes_on_by_the_same_command() {
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path(), 6);
    survives_kills(folder.path(), |out| owned(train(out)), 1);
}

#[test]
fn a_quick_fine_tuning_killed_at_any_step_goes_on_by_the_same_command() {
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path(), 6);
    weights(folder.path(), "mobilenetv2_100");
    survives_kills(folder.path(), |out| owned(fine_tune(out, "quick")), 4);
}

#[test]
fn a_fine_tuning_killed_at_any_step_goes_on_by_the_same_command() {
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path(), 6);
    weights(folder.path(), "mobilenetv2_100");
    survives_kills(folder.path(), |out| owned(fine_tune(out, "standard")), 9);
}

#[test]
fn a_disk_that_refuses_leaves_what_was_saved_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 6);
    succeeds(here, &[&["train", "photos"], &train("run")[2..]].concat());
    let saved = results(&here.join("run"));
    let more: Vec<&str> = train("run").into_iter().map(|word| if word == "2" { "3" } else { word }).collect();
    // ENOSPC, EROFS, EDQUOT, EIO
    let errors = [(28, "No space left"), (30, "Read-only"), (122, "quota"), (5, "Input/output error")];
    for n in 1.. {
        let (error, words) = errors[n % 4];
        let environment =
            [("FIRSTSIGHT_TESTS_FAIL_AT", n.to_string()), ("FIRSTSIGHT_TESTS_ERROR", error.to_string())];
        let (code, said) = ends(here, &more, &environment);
        if code == Some(0) {
            assert!(n > 10, "{n} steps");
            println!("refused from each of {} steps on", n - 1);
            break;
        }
        assert_eq!(code, Some(1), "step {n}: {said}");
        let names_a_file = said.contains("run/") || said.contains("cannot write");
        assert!(said.contains(words) && names_a_file, "step {n}: {said}");
        check_readable(here, "run");
        // The next one finds the run as it was.
        std::fs::remove_dir_all(here.join("run")).unwrap();
        std::fs::create_dir_all(here.join("run/checkpoint")).unwrap();
        for (name, bytes) in &saved {
            std::fs::write(here.join("run").join(name), bytes).unwrap();
        }
    }
    succeeds(here, &more);
}

/// A training that goes on until it is killed, once it has a checkpoint.
fn endless(here: &Path, out: &str) -> std::process::Child {
    let args: Vec<&str> =
        train(out).into_iter().map(|word| if word == "2" { "100000" } else { word }).collect();
    let args = [&args[..], &["--patience", "100000"]].concat();
    let child = command(here, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !here.join(out).join("checkpoint/last.safetensors").exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn two_processes_do_not_write_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 6);
    let mut first = endless(here, "run");
    refuses(here, &train("run"), &["run is being written by another process", &first.id().to_string()]);
    // Reading is no writing.
    let kill = |signal: &str, id: u32| {
        assert!(Command::new("kill").args([signal, &id.to_string()]).status().unwrap().success());
    };
    kill("-KILL", first.id());
    first.wait().unwrap();
    assert!(here.join("run/.lock").exists(), "the dead process left its lock");
    let epochs = std::fs::read_to_string(here.join("run/history.csv")).unwrap().lines().count();
    let epochs = (epochs + 1).to_string();
    let on: Vec<&str> =
        train("run").into_iter().map(|word| if word == "2" { &epochs } else { word }).collect();
    succeeds(here, &on);
    assert!(leftovers(&here.join("run")).is_empty());
    succeeds(here, &["evaluate", "run", "photos"]);
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 6);
    succeeds(here, &train("run"));
    let path = here.join("run/checkpoint/last.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let on: Vec<&str> = train("run").into_iter().map(|word| if word == "2" { "3" } else { word }).collect();
    for place in [whole.len() / 3, whole.len() / 2, whole.len() - 3] {
        let mut flipped = whole.clone();
        flipped[place] ^= 4;
        std::fs::write(&path, &flipped).unwrap();
        refuses(here, &on, &["last.safetensors"]);
    }
    std::fs::write(&path, &whole).unwrap();
    // Seconds are those of both processes.
    let seconds = |path: &Path| json(path)["seconds"].as_f64().unwrap();
    let before = seconds(&here.join("run/checkpoint/seconds.json"));
    std::fs::write(here.join("run/checkpoint/seconds.json"), "{\"seconds\": 1000.0}").unwrap();
    succeeds(here, &on);
    let after = seconds(&here.join("run/checkpoint/seconds.json"));
    assert!(before < 500.0 && (1000.0..1500.0).contains(&after), "{before} then {after}");
}

#[test]
fn a_cache_that_cannot_be_used_costs_nothing_but_time() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 6);
    weights(here, "mobilenetv2_100");
    std::fs::write(here.join("file"), "in the way").unwrap();
    let with = |cache: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstsight-tests"));
        command.current_dir(here).args(args).args(["--cache", cache]).output().unwrap()
    };
    for (i, cache) in ["file", "file/cache", "/proc/none", "good"].into_iter().enumerate() {
        let [trained, tuned] = ["trained", "tuned"].map(|name| format!("{name}-{i}"));
        let commands: [&[&str]; 5] = [
            &train(&trained),
            &fine_tune(&tuned, "quick"),
            &["evaluate", &trained, "photos"],
            &["dataset", "check", "photos", "--weights", "weights"],
            &["embed", "--run", &tuned, "--out", "features.npy", "photos"],
        ];
        for args in commands {
            let output = with(cache, args);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{cache}, {args:?}: {said}");
            assert!(!said.contains("damaged"), "{cache}, {args:?}: {said}");
        }
        assert!(results(&here.join(&trained)) == results(&here.join("trained-0")), "{cache}");
        assert!(results(&here.join(&tuned)) == results(&here.join("tuned-0")), "{cache}");
    }
    for entry in std::fs::read_dir(here.join("good")).unwrap() {
        let mode = std::os::unix::fs::PermissionsExt::mode(&entry.unwrap().metadata().unwrap().permissions());
        // A new file has the same.
        let of_new = std::fs::metadata(here.join("file")).unwrap().permissions();
        assert_eq!(mode & 0o777, std::os::unix::fs::PermissionsExt::mode(&of_new) & 0o777);
    }
}
