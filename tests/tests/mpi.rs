//! Several processes of `mpirun`: the bytes of one, and what happens when a process dies. Without mpirun nothing is tested.
#![cfg(all(feature = "mpi", target_os = "linux"))]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use common::{json, photos, text, timeless_files, weights};

fn is_there() -> bool {
    let found = Command::new("mpirun").arg("--version").output().is_ok_and(|found| found.status.success());
    if !found {
        eprintln!("mpirun is not installed: several processes are not tested");
    }
    found
}

/// The command in `n` processes of one thread, with a cache of its own.
fn mpirun(folder: &Path, n: usize, args: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command.current_dir(folder).args(["-n", &n.to_string(), env!("CARGO_BIN_EXE_firstsight-tests")]);
    command.args(args).args(["--threads", "1", "--cache", &format!("cache-of-{n}")]);
    // Open MPI 4 and 5 refuse root, and more processes than cores, unless they are told.
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    command
        .envs([("OMPI_MCA_rmaps_base_oversubscribe", "1"), ("OMPI_MCA_hwloc_base_binding_policy", "none")]);
    command.env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe");
    command.env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

fn succeeds(folder: &Path, n: usize, args: &[&str]) -> String {
    let output = mpirun(folder, n, args).output().unwrap();
    assert!(output.status.success(), "{n} {args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn files(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = timeless_files(run);
    assert!(files.contains_key("model.safetensors") && files.contains_key("checkpoint/last.safetensors"));
    files
}

fn same_files(here: &Path, one: &str, other: &str) {
    let (one, other) = (files(&here.join(one)), files(&here.join(other)));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(bytes == &other[name], "{name} differs");
    }
}

fn scene() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path(), 18);
    folder
}

fn train<'a>(out: &'a str, model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["train", "photos", "--model", model, "--input", "32x32x3", "--batch-size", "8"];
    fixed.into_iter().chain(["--shards", "2", "--out", out]).chain(more.iter().copied()).collect()
}

#[test]
fn training_evaluation_and_predictions_are_the_same_in_two_processes() {
    if !is_there() {
        return;
    }
    let folder = scene();
    let here = folder.path();
    let more = ["--epochs", "2", "--augment", "photos"];
    let said = [1, 2].map(|n| {
        let run = format!("run-{n}");
        let trained = succeeds(here, n, &train(&run, "mobilenet-v2", &more));
        let measured = succeeds(here, n, &["evaluate", "run-1", "photos", "--split", "all", "--json"]);
        let rows = format!("--csv=rows-{n}.csv");
        succeeds(here, n, &["predict", "--run", "run-1", "--reject", &rows, "photos"]);
        let rows = std::fs::read(here.join(format!("rows-{n}.csv"))).unwrap();
        (trained.replace(&run, "run"), measured, rows)
    });
    assert!(said[0] == said[1], "{} {}\n{} {}", said[0].0, said[0].1, said[1].0, said[1].1);
    assert_eq!(json(&here.join("run-2/config.json"))["training"]["shards"], 2);
    same_files(here, "run-1", "run-2");
}

#[test]
fn fine_tuning_is_the_same_in_two_processes() {
    if !is_there() {
        return;
    }
    let folder = scene();
    let here = folder.path();
    weights(here, "mobilenetv2_100");
    for (n, out) in [(1, "run-1"), (2, "run-2")] {
        let fixed =
            ["fine-tune", "photos", "--backbone", "mobilenet-v2", "--weights", "weights", "--epochs", "2"];
        let more = ["--batch-size", "6", "--shards", "2", "--out", out];
        succeeds(here, n, &fixed.into_iter().chain(more).collect::<Vec<_>>());
    }
    same_files(here, "run-1", "run-2");
}

#[test]
fn what_the_processes_cannot_do_is_refused_before_there_is_a_run() {
    if !is_there() {
        return;
    }
    let folder = scene();
    let here = folder.path();
    for (n, args, words) in [
        (2, ["train", "photos", "--model", "small-cnn"].as_slice(), "found 1 shards for 2 processes"),
        (2, &["summary", "small-cnn"], "this command runs in one"),
        (2, &["train", "nowhere", "--model", "small-cnn", "--shards", "2"], "nowhere"),
    ] {
        let output = mpirun(here, n, args).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "should say {words:?}: {said}");
    }
    assert!(!here.join("photos-small-cnn").exists());
}

/// The processes that mpirun has started.
fn ranks(mpirun: &Child) -> Vec<String> {
    let path = format!("/proc/{0}/task/{0}/children", mpirun.id());
    std::fs::read_to_string(path).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_process_that_dies_ends_the_others_and_the_run_goes_on_in_another_number_of_processes() {
    if !is_there() {
        return;
    }
    let folder = scene();
    let here = folder.path();
    let more = ["--epochs", "250", "--patience", "250"];
    let whole = train("whole", "small-cnn", &more);
    succeeds(here, 1, &whole);

    let mut job = mpirun(here, 2, &train("cut", "small-cnn", &more)).stderr(Stdio::null()).spawn().unwrap();
    let history = here.join("cut/history.csv");
    let begun = Instant::now();
    let epochs =
        || std::fs::read_to_string(&history).map_or(0, |text| text.lines().count().saturating_sub(1));
    while epochs() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(120) && job.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    let victim = ranks(&job).pop().unwrap();
    assert!(Command::new("kill").args(["-9", &victim]).status().unwrap().success());
    let died = Instant::now();
    assert!(!job.wait().unwrap().success());
    assert!(died.elapsed() < Duration::from_secs(30), "it took {:?}", died.elapsed());
    let done = epochs();
    assert!(done < 250 && !here.join("cut/model.safetensors").exists(), "it ended before it was killed");

    let resumed = train("cut", "small-cnn", &more).into_iter().chain(["--resume"]).collect::<Vec<_>>();
    succeeds(here, 1, &resumed);
    same_files(here, "whole", "cut");
}
