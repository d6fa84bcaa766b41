//! Processes that are killed while they write, and disks that refuse to.
#![cfg(unix)]

mod common;
#[allow(dead_code)]
#[path = "../../crates/transfer/tests/hub/server.rs"]
mod server;

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

fn search<'a>(out: &'a str, storage: &'a str) -> Vec<&'a str> {
    let fixed = ["tune", "photos", "--model", "logistic", "--input", "16x16x3", "--trials", "2"];
    [&fixed[..], &["--epochs", "1", "--heartbeat", "1", "--json", "--out", out, "--storage", storage]]
        .concat()
}

/// A hub with the folder `weights`.
fn hub(here: &Path) -> server::Server {
    let hub = server::Server::start();
    for (file, in_storage) in [("config.json", false), ("model.safetensors", true)] {
        hub.add(file, &std::fs::read(here.join("weights").join(file)).unwrap(), in_storage);
    }
    hub
}

/// Names and bytes of what was downloaded.
fn snapshot(home: &Path) -> Vec<u8> {
    let folder = home.join("hub/models--owner--name/snapshots").join(server::COMMIT);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: std::collections::BTreeMap<_, _> =
        entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    files
        .into_iter()
        .flat_map(|(path, bytes)| [path.into_os_string().into_encoded_bytes(), bytes].concat())
        .collect()
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

/// A command that writes files which grow, and is called again as it was after a fault.
struct Growth<'a> {
    args: &'a [&'a str],
    environment: &'a [(&'a str, String)],
    /// What it leaves, beside which it leaves nothing.
    paths: &'a [&'a str],
    /// One of these is in the error of a full disk.
    named: &'a [&'a str],
}

impl Growth<'_> {
    /// Its exit code, what it says and what it prints.
    fn call(&self, here: &Path, more: &[(&str, String)]) -> (Option<i32>, String, Vec<u8>) {
        let environment = self.environment.iter().chain(more).cloned();
        let output = command(here, self.args).envs(environment).output().unwrap();
        let said = text(&output.stderr);
        assert!(!said.contains("panicked"), "{:?}: {said}", self.args);
        (output.status.code(), said, output.stdout)
    }

    fn is_named(&self, said: &str) -> bool {
        let is_full = ["No space left", "disk is full"].iter().any(|words| said.contains(words));
        is_full && self.named.iter().any(|name| said.contains(name))
    }

    /// Kills the command at every step or at every `stride`-th, before it or in the middle of what it writes, and lets the disk be full
    /// from there on. Each time the next call must end as the undisturbed one, with the same output and `result`.
    fn survives(&self, here: &Path, stride: usize, result: &dyn Fn() -> Vec<u8>) {
        let begin = || {
            for path in self.paths {
                let path = here.join(path);
                let _ =
                    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            }
        };
        let call = |more: &[(&str, String)]| self.call(here, more);
        begin();
        let (code, said, printed) = call(&[]);
        assert_eq!(code, Some(0), "{said}");
        let expected = result();
        let stride = if std::env::var_os("FIRSTSIGHT_EVERY_STEP").is_some() { 1 } else { stride };
        let kill = |n: usize| ("FIRSTSIGHT_TESTS_KILL_AT", n.to_string());
        let fault = |i: usize, n: usize| match i {
            0 => vec![kill(n)],
            1 => vec![kill(n), ("FIRSTSIGHT_TESTS_TORN", "1".to_owned())],
            _ => {
                vec![("FIRSTSIGHT_TESTS_FAIL_AT", n.to_string()), ("FIRSTSIGHT_TESTS_ERROR", "28".to_owned())]
            }
        };
        let faults = ["killed before", "killed in the middle of", "on a disk that is full from"];
        for (i, what) in faults.into_iter().enumerate() {
            for (times, n) in (1 + i % stride..).step_by(stride).enumerate() {
                begin();
                let (code, said, _) = call(&fault(i, n));
                if code == Some(0) {
                    assert!(n > 10, "{n} steps");
                    println!("{what} {times} of {} steps or so", n - 1);
                    break;
                }
                let step = format!("{what} step {n}");
                if i < 2 {
                    assert_eq!(code, None, "{step}: {said}");
                } else {
                    assert!(code == Some(1) && self.is_named(&said), "{step}: {code:?} {said}");
                }
                let (code, said, again) = call(&[]);
                // A new folder had its name before the fault.
                let was_done = code == Some(2) && said.contains("exists already");
                assert!(code == Some(0) || was_done, "{step}: {said}");
                assert!(result() == expected, "{step}: another result");
                assert!(was_done || text(&again) == text(&printed), "{step}: {}", text(&again));
                for path in self.paths.iter().map(|path| here.join(path)).filter(|path| path.is_dir()) {
                    let left: Vec<_> =
                        leftovers(&path).into_iter().filter(|left| !left.ends_with(".locks")).collect();
                    assert!(left.is_empty(), "{step}: {left:?} stay");
                }
            }
        }
    }
}

/// A disk in memory at `disk`, mounted while this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(here: &Path, bytes: usize) -> Self {
        let disk = Self(here.join("disk"));
        std::fs::create_dir_all(&disk.0).unwrap();
        disk.mount(&["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]);
        disk
    }

    fn resize(&self, bytes: usize) {
        self.mount(&["-o", &format!("remount,size={bytes}")]);
    }

    fn mount(&self, args: &[&str]) {
        assert!(Command::new("mount").args(args).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

const PAGE: usize = 4096;
const ROOMY: usize = 64 << 20;

impl Growth<'_> {
    /// Calls the command on disks of an eighth, two eighths, … of what it leaves, then on the same disk when it is larger.
    fn fills_disks(&self, here: &Path, result: &dyn Fn() -> Vec<u8>) {
        let disk = SmallDisk::new(here, ROOMY);
        let (code, said, _) = self.call(here, &[]);
        assert_eq!(code, Some(0), "{said}");
        let expected = result();
        let pages = pages(&disk.0);
        drop(disk);
        let mut full = 0;
        for eighths in 1..=8 {
            let size = (pages * eighths / 8).max(1) * PAGE;
            let disk = SmallDisk::new(here, size);
            let (code, said, _) = self.call(here, &[]);
            if code != Some(0) {
                full += 1;
                assert!(code == Some(1) && self.is_named(&said), "{size} bytes: {code:?} {said}");
                check_readable(here, "disk/run");
                disk.resize(ROOMY);
                let (code, said, _) = self.call(here, &[]);
                assert_eq!(code, Some(0), "after {size} bytes: {said}");
            }
            assert!(result() == expected, "{size} bytes: another result");
        }
        println!("{}: full at {full} of 8 sizes up to {pages} pages", self.args[0]);
        assert!(full > 3, "{full} were full");
    }
}

/// What the files in a folder and those below take.
fn pages(folder: &Path) -> usize {
    let of = |path: PathBuf| match path.is_dir() {
        true => pages(&path),
        false => (path.symlink_metadata().unwrap().len() as usize).div_ceil(PAGE),
    };
    std::fs::read_dir(folder).unwrap().map(|entry| of(entry.unwrap().path())).sum()
}

/// Says that the process is in a namespace in which it may mount.
const MAY_MOUNT: &str = "FIRSTSIGHT_TESTS_MAY_MOUNT";

#[test]
fn small_disks_fill_up_and_are_gone_on_with_when_they_are_larger() {
    let folder = tempfile::tempdir().unwrap();
    let within = |flags: &str| {
        let mut command = Command::new("unshare");
        command.arg(flags);
        command
    };
    let may_mount = |flags: &&str| {
        let tried = within(flags).args(["mount", "-t", "tmpfs", "tmpfs"]).arg(folder.path()).output();
        tried.is_ok_and(|output| output.status.success())
    };
    // With a user's namespace, or as root.
    let Some(flags) = ["-rm", "-m"].into_iter().find(may_mount) else {
        println!("skipped: `unshare -rm mount -t tmpfs` is not allowed here");
        return;
    };
    let mut inner = within(flags);
    inner.arg(std::env::current_exe().unwrap());
    let inner = inner.args(["--ignored", "--exact", "--nocapture", "on_small_disks"]).env(MAY_MOUNT, "1");
    assert!(inner.status().unwrap().success());
}

#[test]
#[ignore = "what the test of small disks runs in a namespace of its own"]
fn on_small_disks() {
    if std::env::var_os(MAY_MOUNT).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 6);
    weights(here, "mobilenetv2_100");
    succeeds(here, &train("run"));
    let read = |name: &str| std::fs::read(here.join(name)).unwrap();

    let run = || results(&here.join("disk/run")).into_iter().flat_map(|(_, bytes)| bytes).collect();
    fn plain<'a>(args: &'a [&'a str]) -> Growth<'a> {
        Growth { args, environment: &[], paths: &[], named: &["disk/"] }
    }
    plain(&train("disk/run")).fills_disks(here, &run);

    let images: Vec<String> = (0..1000).map(|i| format!("photos/red/{}.png", i % 6)).collect();
    let rows = ["predict", "--run", "run", "--csv=disk/rows.csv", "--resume"];
    let rows: Vec<&str> = rows.into_iter().chain(images.iter().map(String::as_str)).collect();
    plain(&rows).fills_disks(here, &|| read("disk/rows.csv"));

    let hub = hub(here);
    let download = Growth {
        environment: &[("HF_ENDPOINT", hub.address.clone()), ("HF_HOME", "disk".to_owned())],
        ..plain(&["predict", "--pretrained", "mobilenet-v2", "--weights", "owner/name", "photos/red/0.png"])
    };
    download.fills_disks(here, &|| snapshot(&here.join("disk")));

    for storage in ["disk/study.log", "sqlite:///disk/study.db"] {
        if storage.starts_with("sqlite") && !cfg!(feature = "sqlite") {
            println!("skipped: studies in SQLite, which is not compiled in");
            continue;
        }
        let search = search("disk/out", storage);
        plain(&search).fills_disks(here, &|| read("disk/out/best/model.safetensors"));
    }
}

#[test]
fn rows_of_predict_go_on_after_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 6);
    succeeds(here, &train("run"));
    let growth = Growth {
        args: &["predict", "--run", "run", "photos", "--csv=rows.csv", "--resume"],
        environment: &[],
        paths: &["rows.csv"],
        named: &["rows.csv"],
    };
    growth.survives(here, 2, &|| std::fs::read(here.join("rows.csv")).unwrap());
}

#[test]
fn a_search_on_a_journal_goes_on_after_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 6);
    let fixed =
        ["tune", "photos", "--model", "logistic", "--input", "16x16x3", "--trials", "2", "--epochs", "1"];
    let stored = ["--heartbeat", "1", "--json", "--out", "out", "--storage", "study.log"];
    let growth = Growth {
        args: &[&fixed[..], &stored].concat(),
        environment: &[("FIRSTSIGHT_TESTS_ONLY", "study.log".to_owned())],
        paths: &["out", "study.log", "study.log.lock", "study.log.lock.queue"],
        named: &["study.log"],
    };
    growth.survives(here, 5, &|| std::fs::read(here.join("out/best/model.safetensors")).unwrap());
}

#[test]
fn a_conversion_goes_on_after_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir(here.join("digits")).unwrap();
    for part in ["train", "t10k"] {
        let labels: Vec<u8> = (0..6).map(|i| i % 3).collect();
        let pixels: Vec<u8> = (0..6 * 16).map(|i| i * 2).collect();
        let header = |magic: u8, sides: &[u8]| -> Vec<u8> {
            let sides = sides.iter().flat_map(|&side| [0, 0, 0, side]);
            [0, 0, 8, magic].into_iter().chain(sides).collect()
        };
        let write = |name: &str, bytes: Vec<u8>| {
            std::fs::write(here.join(format!("digits/{part}-{name}-ubyte")), bytes).unwrap();
        };
        write("images-idx3", [header(3, &[6, 4, 4]), pixels].concat());
        write("labels-idx1", [header(1, &[6]), labels].concat());
    }
    let growth = Growth {
        args: &["dataset", "convert", "digits", "--out", "images"],
        environment: &[],
        paths: &["images", "images.partial"],
        named: &["images"],
    };
    let images = || {
        let mut paths: Vec<PathBuf> = files(&here.join("images"));
        paths.sort();
        assert_eq!(paths.len(), 12);
        paths.iter().flat_map(|path| std::fs::read(path).unwrap()).collect()
    };
    growth.survives(here, 2, &images);
}

/// The files in a folder and those below.
fn files(folder: &Path) -> Vec<PathBuf> {
    let of = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    std::fs::read_dir(folder).unwrap().flat_map(|entry| of(entry.unwrap().path())).collect()
}

/// The events of a run's values, by split and step, as TensorBoard reads them: whole records, of which a later file takes back
/// those from the step on that it begins with.
fn values(run: &Path) -> Vec<(PathBuf, u8, String)> {
    let mut found: Vec<(PathBuf, u8, String)> = Vec::new();
    let mut paths = files(&run.join("tensorboard"));
    paths.sort();
    for path in paths {
        let split: PathBuf = path.parent().unwrap().file_name().unwrap().into();
        let bytes = std::fs::read(&path).unwrap();
        let mut rest = &bytes[..];
        while let Some((head, more)) = rest.split_first_chunk::<12>() {
            let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
            let Some(record) = more.get(..length) else { break };
            // After the time (a tag and a double) there may be a step (0x10), then a summary (0x2a) or the begin of a session (0x3a).
            let (step, event) = match &record[9..] {
                [0x10, step, event @ ..] => (*step, event),
                event => (0, event),
            };
            match event.first() {
                Some(0x2a) => found.push((split.clone(), step, event.escape_ascii().to_string())),
                Some(0x3a) => found.retain(|(of, at, _)| *of != split || *at < step),
                _ => {}
            }
            rest = more.get(length + 4..).unwrap_or_default();
        }
    }
    found.retain(|(_, _, event)| !event.contains("settings"));
    found.sort();
    found
}

#[test]
fn event_files_have_every_step_once_after_any_fault() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 6);
    let args = |out: &'static str| [&train(out)[..], &["--log", "tensorboard"]].concat();
    succeeds(here, &args("undisturbed"));
    let expected = values(&here.join("undisturbed"));
    assert!(expected.len() > 4, "{} events", expected.len());
    let kill = |n: usize| ("FIRSTSIGHT_TESTS_KILL_AT", n.to_string());
    let torn = ("FIRSTSIGHT_TESTS_TORN", "1".to_owned());
    let full = |n: usize| ("FIRSTSIGHT_TESTS_FAIL_AT", n.to_string());
    let no_space = ("FIRSTSIGHT_TESTS_ERROR", "28".to_owned());
    for (i, what) in ["killed before", "killed in the middle of", "full from"].into_iter().enumerate() {
        for n in 1.. {
            let _ = std::fs::remove_dir_all(here.join("run"));
            let fault = match i {
                0 => vec![kill(n)],
                1 => vec![kill(n), torn.clone()],
                _ => vec![full(n), no_space.clone()],
            };
            let only = ("FIRSTSIGHT_TESTS_ONLY", "tfevents".to_owned());
            let (code, said) = ends(here, &args("run"), &[&fault[..], &[only]].concat());
            let warned = said.contains("goes on without TensorBoard");
            if code == Some(0) && !warned {
                assert!(n > 6, "{n} steps");
                println!("{what} {} steps", n - 1);
                break;
            }
            // A log never ends a training.
            assert_eq!(code, if i < 2 { None } else { Some(0) }, "{what} step {n}: {said}");
            let (code, said) = ends(here, &args("run"), &[]);
            assert_eq!(code, Some(0), "{what} step {n}: {said}");
            let (mut found, mut expected) = (values(&here.join("run")), expected.clone());
            // The history, from which a later call logs what a full disk did not take, has no learning rates.
            if i == 2 {
                for events in [&mut found, &mut expected] {
                    events.retain(|(_, _, event)| !event.contains("learning_rate"));
                }
            }
            assert_eq!(found, expected, "{what} step {n}");
        }
    }
}

#[test]
fn a_download_goes_on_after_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 1);
    weights(here, "mobilenetv2_100");
    let hub = hub(here);
    let growth = Growth {
        args: &["predict", "--pretrained", "mobilenet-v2", "--weights", "owner/name", "photos/red/0.png"],
        environment: &[("HF_ENDPOINT", hub.address.clone())],
        paths: &["huggingface"],
        named: &["huggingface"],
    };
    growth.survives(here, 61, &|| snapshot(&here.join("huggingface")));
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
            let warned = said.contains("cannot be written: ");
            assert!(args[0] != "train" || warned == (cache != "good"), "{cache}, {args:?}: {said}");
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
