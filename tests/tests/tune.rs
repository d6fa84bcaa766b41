//! `tune` where a search goes wrong, goes on, or keeps its study elsewhere.

mod common;

use std::path::Path;
use std::process::{Output, Stdio};

use image::{GrayImage, Luma};
use serde_json::Value;

use common::{cli, command, photos, refused, refuses, succeeds, text, weights};

/// Two classes of 8 small images: stripes across and down.
fn scene() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (class, down) in [("across", true), ("down", false)] {
        let class = folder.path().join("data").join(class);
        std::fs::create_dir_all(&class).unwrap();
        for i in 0..8 {
            let place = |x: u32, y: u32| if down { y } else { x } + i;
            let pixel = |x, y| Luma([if place(x, y) % 4 < 2 { 200 } else { (x * y) as u8 }]);
            GrayImage::from_fn(16, 16, pixel).save(class.join(format!("{i}.png"))).unwrap();
        }
    }
    folder
}

fn tune<'a>(model: &'a str, trials: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["tune", "--data", "data", "--input", "16x16x1", "--model", model, "--trials", trials];
    [&fixed[..], if more.contains(&"--epochs") { &[] } else { &["--epochs", "1"] }, more].concat()
}

/// The command that knows a network which cannot be built.
fn hopeless(folder: &Path, trials: &str, more: &[&str]) -> Output {
    let args = tune("unbuildable", trials, more);
    let mut command = command(folder, &args);
    command.env("FIRSTSIGHT_TESTS_UNBUILDABLE", "1").env("RUST_BACKTRACE", "1").output().unwrap()
}

#[test]
fn a_search_whose_trials_all_fail_says_why_once_and_shows_them() {
    let folder = scene();
    let here = folder.path();
    let output = hopeless(here, "10", &["--json", "--report", "page.html"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("3 trials failed for one reason") && said.contains("it is never built"), "{said}");
    assert_eq!(said.matches("it is never built").count(), 4, "each trial's line and the last: {said}");
    assert!(!said.contains("WARN") && !said.contains("   0: "), "{said}");
    let document: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert!(document["best"].is_null());
    let trials = document["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 3);
    for trial in trials {
        assert_eq!(trial["state"], "failed");
        assert!(trial["error"].as_str().unwrap().contains("it is never built"), "{trial}");
    }
    let page = std::fs::read_to_string(here.join("page.html")).unwrap();
    assert!(page.contains("0 complete, 0 pruned, 3 failed") && page.contains("it is never built"));

    let output = hopeless(here, "2", &["--report", "short.html"]);
    refused(&output, &["none of 2 trials has a value", "it is never built"]);
    assert!(here.join("short.html").exists());
}

#[test]
fn what_cannot_be_searched_is_refused_before_images_are_decoded() {
    let folder = scene();
    let here = folder.path();
    std::fs::write(here.join("st.db"), [&b"SQLite format 3\0"[..], &[0; 84]].concat()).unwrap();
    let early = |args: &[&str], words: &[&str]| {
        let output = cli(here, args);
        refused(&output, words);
        assert!(!text(&output.stderr).contains("images:"), "{}", text(&output.stderr));
    };
    early(&tune("alexnet", "2", &[]), &["alexnet", "16x16", "67x67"]);
    early(
        &tune("logistic", "2", &["--storage", "mysql://root:secret@host/db"]),
        &["mysql://root:***@host/db", "PostgreSQL is supported"],
    );
    let output = cli(here, &tune("logistic", "2", &["--storage", "postgresql://me:secret@127.0.0.1:1/db"]));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "a server that does not answer is no wrong argument: {said}");
    for words in ["postgresql://me:***@127.0.0.1:1/db", "connecting", "is the server running"] {
        assert!(said.contains(words) && !said.contains("images:"), "{said}");
    }
    early(&tune("logistic", "2", &["--storage", "sqlite:///:memory:"]), &["memory"]);
    early(&tune("logistic", "2", &["--storage", "sqlite://study.db"]), &["sqlite:///study.db"]);
    early(&tune("logistic", "2", &["--seed", "4294967296", "--storage", "new.log"]), &["2^32"]);
    assert!(!here.join("new.log").exists());
    early(&tune("logistic", "2", &["--from-study", "x"]), &["--storage"]);
    if !cfg!(feature = "sqlite") {
        let words = ["SQLite", "--features sqlite", "journal"];
        early(&tune("logistic", "2", &["--storage", "sqlite:///study.db"]), &words);
        early(&tune("logistic", "2", &["--storage", "st.db"]), &words);
    } else {
        early(&tune("logistic", "2", &["--storage", "st.db"]), &["st.db"]);
    }
    succeeds(here, &tune("logistic", "1", &["--storage", "st.log"]));
    early(&tune("logistic", "2", &["--storage", "st.log", "--epochs", "2"]), &["--epochs was 1 and is 2"]);
}

#[test]
fn a_new_study_takes_over_the_trials_of_an_old_one() {
    let folder = scene();
    let here = folder.path();
    let stored = |more: &[&'static str]| -> Vec<&'static str> {
        [&["--storage", "st.log", "--json"][..], more].concat()
    };
    let json = |args: &[&str]| -> Value { serde_json::from_str(&succeeds(here, args)).unwrap() };
    let old = json(&tune("logistic", "2", &stored(&[])));
    // One model more and more epochs: the old study is not mixed, and the message says what differs and the way on.
    let more = ["--model", "small-cnn", "--epochs", "2"];
    refuses(
        here,
        &tune("logistic", "4", &stored(&more)),
        &[
            "--model was logistic and is logistic or small-cnn",
            "--epochs was 1 and is 2",
            "--from-study firstsight",
        ],
    );
    let further = ["--study", "two", "--from-study", "firstsight"];
    let args = tune("logistic", "4", &stored(&[&more[..], &further].concat()));
    let output = cli(here, &args);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("taken over from firstsight: trials 0, 1; TPE learns from them"), "{said}");
    let new: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    let trials = new["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4);
    for (new, old) in trials.iter().zip(old["trials"].as_array().unwrap()) {
        assert_eq!(new["value"], old["value"]);
        assert_eq!(new["params"]["learning_rate"], old["params"]["learning_rate"]);
        assert_eq!(new["params"]["model"], "logistic");
    }
    assert!(trials[2]["params"]["learning_rate"] != trials[0]["params"]["learning_rate"]);
    // Again: nothing is taken over twice.
    let args = tune("logistic", "5", &stored(&[&more[..], &further].concat()));
    assert_eq!(json(&args)["trials"].as_array().unwrap().len(), 5);
    // Trials of a model that is not searched stay where they are; those of other images cannot be compared.
    let three = ["--study", "three", "--from-study", "two"];
    let output = cli(here, &tune("small-cnn", "1", &stored(&three)));
    assert!(text(&output.stderr).contains("its model logistic is not searched"), "{}", text(&output.stderr));
    refuses(
        here,
        &tune("logistic", "1", &stored(&["--study", "four", "--from-study", "none"])),
        &["no study", "none"],
    );
    std::fs::remove_file(here.join("data/across/0.png")).unwrap();
    refuses(
        here,
        &tune("logistic", "3", &stored(&["--study", "five", "--from-study", "firstsight"])),
        &["cannot be compared", "the images"],
    );
}

#[test]
fn commands_that_share_a_study_run_as_many_trials_as_were_asked_for() {
    let folder = scene();
    let here = folder.path();
    let args = tune("logistic", "7", &["--storage", "st.log", "--json"]);
    let commands: Vec<_> = (0..4)
        .map(|_| command(here, &args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for command in commands {
        let output = command.wait_with_output().unwrap();
        assert!(output.status.success());
        let document: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
        let trials = document["trials"].as_array().unwrap();
        assert_eq!(trials.len(), 7);
        assert!(
            trials.iter().all(|trial| ["complete", "pruned"].contains(&trial["state"].as_str().unwrap()))
        );
    }
}

/// Kills a search that writes to `torn`, in its first trial.
fn kill_after_an_epoch(here: &Path, args: &[&str]) {
    let mut killed = command(here, args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let last = here.join("torn/trials/0/checkpoint/last.safetensors");
    while !last.exists() {
        assert!(killed.try_wait().unwrap().is_none(), "it ended before its first epoch");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    killed.kill().unwrap(); // SIGKILL, where there are signals
    killed.wait().unwrap();
}

#[test]
fn a_killed_commands_trial_is_gone_on_with_to_the_same_bytes() {
    let folder = scene();
    let here = folder.path();
    let epochs = ["--epochs", "150", "--patience", "150", "--heartbeat", "1", "--json"];
    let args = |out: &'static str, study: &'static str| {
        tune("logistic", "2", &[&epochs[..], &["--out", out, "--storage", study]].concat())
    };
    let undisturbed = succeeds(here, &args("whole", "whole.log"));

    kill_after_an_epoch(here, &args("torn", "torn.log"));
    let bytes = |path: &str| std::fs::read(here.join(path)).unwrap();
    assert!(
        bytes("torn/trials/0/checkpoint/last.safetensors")
            != bytes("whole/trials/0/checkpoint/last.safetensors")
    );
    let output = cli(here, &args("torn", "torn.log"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Trial 0 goes on here"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), undisturbed, "the same trials, values and winner");
    for trial in ["trials/0", "trials/1"] {
        for file in ["last.safetensors", "best.safetensors"] {
            let of = |out: &str| bytes(&format!("{out}/{trial}/checkpoint/{file}"));
            assert!(of("torn") == of("whole"), "{trial}/{file}");
        }
    }
    for file in
        ["model.safetensors", "config.json", "split.csv", "history.csv", "metrics.json", "predictions.csv"]
    {
        assert!(bytes(&format!("torn/best/{file}")) == bytes(&format!("whole/best/{file}")), "{file}");
    }
    let said = succeeds(here, &["predict", "--run", "torn/best", "data/across/0.png"]);
    assert!(said.contains("across"), "{said}");
    // The same command again has nothing to do.
    assert_eq!(succeeds(here, &args("torn", "torn.log")), undisturbed);
}

#[cfg(unix)]
#[test]
fn a_command_that_stood_still_leaves_its_trial_to_the_other() {
    let folder = scene();
    let here = folder.path();
    let args = |out: &'static str, study: &'static str| {
        let epochs = ["--epochs", "100", "--patience", "100", "--heartbeat", "1", "--json"];
        tune("logistic", "2", &[&epochs[..], &["--out", out, "--storage", study]].concat())
    };
    let undisturbed = succeeds(here, &args("whole", "whole.log"));
    let mut still = command(here, &args("two", "two.log"));
    let still = still.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !here.join("two/trials/0/checkpoint/last.safetensors").exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let signal = |name: &str| {
        let pid = still.id().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    // One that stands still with the journal's lock is waited for.
    while here.join("two.log.lock").is_symlink() {
        signal("-CONT");
        std::thread::sleep(std::time::Duration::from_millis(1));
        signal("-STOP");
    }
    let other = cli(here, &args("two", "two.log"));
    signal("-CONT");
    assert!(text(&other.stderr).contains("Trial 0 goes on here"), "{}", text(&other.stderr));
    let still = still.wait_with_output().unwrap();
    assert!(text(&still.stderr).contains("taken over by another worker"), "{}", text(&still.stderr));
    for output in [&other, &still] {
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), undisturbed);
    }
    for file in [
        "trials/0/checkpoint/last.safetensors",
        "trials/1/checkpoint/last.safetensors",
        "best/model.safetensors",
    ] {
        let bytes = |out: &str| std::fs::read(here.join(out).join(file)).unwrap();
        assert!(bytes("two") == bytes("whole"), "{file}");
    }
}

#[test]
fn a_pruned_trial_is_taken_up_again() {
    let folder = scene();
    let here = folder.path();
    // Losses of a regression differ between any two settings, so some are worse than the median.
    let rows =
        (0..16).map(|i| format!("data/{}/{}.png,{}\n", if i < 8 { "across" } else { "down" }, i % 8, i));
    std::fs::write(here.join("costs.csv"), format!("path,cost\n{}", rows.collect::<String>())).unwrap();
    let fixed = ["tune", "costs.csv", "--label-column", "cost", "--task", "regression", "--input", "16x16x1"];
    let more = ["--model", "logistic", "--trials", "14", "--epochs", "12", "--patience", "12"];
    let kept = ["--out", "out", "--storage", "st.log", "--json"];
    let args = |more_still: &[&'static str]| [&fixed[..], &more, &kept, more_still].concat();
    let json = |args: &[&str]| -> Value { serde_json::from_str(&succeeds(here, args)).unwrap() };
    let document = json(&args(&[]));
    let trials = document["trials"].as_array().unwrap();
    let pruned = trials.iter().find(|trial| trial["state"] == "pruned").expect("one is pruned");
    let number: &'static str = pruned["number"].to_string().leak();
    let taken_up = args(&["--take-up", number]);
    let document = json(&taken_up);
    let trials = document["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 15);
    assert_eq!((&trials[14]["state"], &trials[14]["params"]), (&Value::from("complete"), &pruned["params"]));
    let epochs = |n: &str| -> usize {
        let history =
            std::fs::read(here.join(format!("out/trials/{n}/checkpoint/last.safetensors"))).unwrap();
        String::from_utf8_lossy(&history).matches("\\\"train\\\":").count()
    };
    assert!(epochs(number) < 12 && epochs("14") == 12, "{} and {}", epochs(number), epochs("14"));
    // Once is enough; a complete one cannot be.
    assert_eq!(json(&taken_up)["trials"].as_array().unwrap().len(), 15);
    refuses(here, &args(&["--take-up", "14"]), &["complete, not pruned"]);
    refuses(here, &args(&["--take-up", "99"]), &["has 15 trials"]);
}

/// `cargo test --release --package firstsight-tests --features sqlite --test tune`.
#[cfg(feature = "sqlite")]
#[test]
fn a_study_lives_in_an_sqlite_file() {
    let folder = scene();
    let here = folder.path();
    let json = |args: &[&str]| -> Value { serde_json::from_str(&succeeds(here, args)).unwrap() };
    let first = json(&tune("logistic", "2", &["--storage", "sqlite:///study.db", "--json"]));
    let again = json(&tune("logistic", "3", &["--storage", "study.db", "--json"]));
    assert_eq!(again["trials"].as_array().unwrap()[..2], first["trials"].as_array().unwrap()[..]);
    let address = format!("sqlite:///{}", here.join("study.db").display());
    assert_eq!(json(&tune("logistic", "3", &["--storage", &address, "--json"])), again);
}

#[test]
fn a_file_states_what_is_searched() {
    let folder = scene();
    let here = folder.path();
    let space = r#"
learning_rate = { low = 1e-3, high = 1e-1, log = true }
optimizer = { choices = ["adam", "adamw", "sgd"] }
momentum = { low = 0.5, high = 0.9, step = 0.1, when = { optimizer = "sgd" } }
weight_decay = { low = 0.0, high = 0.1, when = { optimizer = "adamw" } }
schedule = { choices = ["constant", "cosine"] }
mix = { choices = ["none", "mixup"], when = { model = "small-cnn" } }
batch_size = 8
"#;
    std::fs::write(here.join("space.toml"), space).unwrap();
    let more = ["--space", "space.toml", "--storage", "st.log", "--json", "--sampler", "random"];
    let both = ["--model", "small-cnn"];
    let args = |trials: &'static str, more_still: &[&'static str]| {
        tune("logistic", trials, &[&more[..], &both, more_still].concat())
    };
    let json = |args: &[&str]| -> Value { serde_json::from_str(&succeeds(here, args)).unwrap() };
    let document = json(&args("24", &["--out", "out", "--report", "page.html"]));
    let trials = document["trials"].as_array().unwrap();
    let mut seen = [0; 4];
    for trial in trials {
        assert!(["complete", "pruned"].contains(&trial["state"].as_str().unwrap()), "{trial}");
        let params = &trial["params"];
        let has = |name: &str| params.get(name).is_some();
        assert_eq!(has("momentum"), params["optimizer"] == "sgd", "{params}");
        assert_eq!(has("weight_decay"), params["optimizer"] == "adamw", "{params}");
        assert_eq!(has("mix"), params["model"] == "small-cnn", "{params}");
        assert!(has("schedule") && !has("batch_size"), "{params}");
        let found = [has("momentum"), has("weight_decay"), has("mix"), params["schedule"] == "cosine"];
        found.iter().zip(&mut seen).for_each(|(found, n)| *n += usize::from(*found));
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
    // The winner is a run of these settings.
    assert!(succeeds(here, &["predict", "--run", "out/best", "data/down/3.png"]).contains("down"));
    let config: Value =
        serde_json::from_slice(&std::fs::read(here.join("out/best/config.json")).unwrap()).unwrap();
    assert_eq!(config["training"]["batch_size"], 8);
    assert_eq!(config["training"]["learning_rate"], document["best"]["params"]["learning_rate"]);
    let page = std::fs::read_to_string(here.join("page.html")).unwrap();
    assert!(page.contains("floats from 0.5 to 0.9 by 0.1, where optimizer is"), "the space is stated");

    // A study goes on with another range, and with no other choices.
    let change = |from: &str, to: &str| {
        std::fs::write(here.join("space.toml"), space.replace(from, to)).unwrap();
    };
    change("high = 1e-1", "high = 1e-2");
    assert_eq!(json(&args("25", &[]))["trials"].as_array().unwrap().len(), 25);
    change("\"adam\", \"adamw\"", "\"adamw\", \"adam\"");
    refuses(
        here,
        &args("26", &[]),
        &["is about another search", "keeps its choices", "--from-study firstsight"],
    );
    change("batch_size = 8", "batch_size = 4");
    refuses(here, &args("26", &[]), &["`batch_size`", "8, and now as 4", "fixed value"]);
    let plain = tune("logistic", "26", &[&both[..], &["--storage", "st.log"]].concat());
    refuses(here, &plain, &["it was begun with --space"]);
    // What is wrong with the file is said before an image is read.
    let wrong = [
        (
            "optimizer = \"sgd\" } }\nweight",
            "optimizer = \"rmsprop\" } }\nweight",
            "line 4, `momentum.when.optimizer`: expected a value of `optimizer`",
        ),
        ("mix =", "mixture =", "line 7, `mixture`: expected one of learning_rate, batch_size"),
        ("low = 1e-3", "low = 0.0", "line 2, `learning_rate.low`: expected a number above 0, found 0.0"),
        ("model = \"small-cnn\"", "model = \"lenet5\"", "line 7, `mix.when.model`"),
    ];
    for (from, to, words) in wrong {
        change(from, to);
        let output = cli(here, &args("30", &[]));
        refused(&output, &["space.toml, ", words]);
        assert!(!text(&output.stderr).contains("images"), "{}", text(&output.stderr));
    }
    // What has no meaning for the task is refused too.
    let rows = (0..8).map(|i| format!("data/across/{i}.png,{i}\ndata/down/{i}.png,{i}\n"));
    std::fs::write(here.join("costs.csv"), format!("path,cost\n{}", rows.collect::<String>())).unwrap();
    std::fs::write(here.join("smooth.toml"), "label_smoothing = { low = 0.0, high = 0.2 }").unwrap();
    let costs =
        ["tune", "costs.csv", "--label-column", "cost", "--task", "regression", "--model", "logistic"];
    let smooth = ["--trials", "1", "--space", "smooth.toml"];
    refuses(
        here,
        &[&costs[..], &smooth].concat(),
        &["`label_smoothing` above 0", "no meaning for regression"],
    );
    let said = refused_file(here);
    assert!(said.contains("no-such.toml"), "{said}");
    let help = succeeds(here, &["tune", "--help"]);
    assert!(help.contains("momentum of sgd: a number of at least 0, below 1 [default: 0.9]"), "{help}");
}

fn refused_file(here: &Path) -> String {
    let output = cli(here, &tune("logistic", "2", &["--space", "no-such.toml"]));
    refused(&output, &["reading the search space"]);
    text(&output.stderr)
}

fn tune_photos<'a>(trials: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["tune", "photos", "--weights", "weights", "--trials", trials, "--json"];
    [&fixed[..], more].concat()
}

#[test]
fn fine_tunings_are_searched_and_the_winner_predicts() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 15);
    weights(here, "mobilenetv2_100");
    let space = r#"
blocks = { low = 0, high = 3 }
learning_rate = { low = 1e-4, high = 1e-2, log = true, when = { blocks = [1, 2, 3] } }
block_rate = { low = 0.1, high = 1.0, log = true, each = "blocks" }
weight_decay = { choices = [0.0, 0.05] }
augment = { choices = ["none", "photos"] }
crop = { choices = ["center", "squash"] }
epochs = 2
"#;
    std::fs::write(here.join("space.toml"), space).unwrap();
    let kept = ["--space", "space.toml", "--out", "out", "--storage", "st.log", "--report", "page.html"];
    let json = |args: &[&str]| -> Value { serde_json::from_str(&succeeds(here, args)).unwrap() };
    let document = json(&tune_photos("6", &kept));
    let trials = document["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 6);
    for trial in trials {
        assert!(["complete", "pruned"].contains(&trial["state"].as_str().unwrap()), "{trial}");
        let blocks = trial["params"]["blocks"].as_u64().unwrap();
        let rates = (0..3).filter(|i| trial["params"].get(format!("block_rate_{i}")).is_some()).count();
        assert_eq!(rates as u64, blocks, "{trial}");
        assert_eq!(trial["params"].get("learning_rate").is_some(), blocks > 0, "{trial}");
    }
    assert!(document["best"]["value"].as_f64().unwrap() >= 0.8, "{document}");
    assert!(succeeds(here, &["predict", "--run", "out/best", "photos/red/3.png"]).contains("red"));
    let best = document["best"]["number"].to_string();
    let metrics = |run: &str| common::json(&here.join(run).join("metrics.json"));
    assert_eq!(metrics("out/best")["val"]["accuracy"], document["best"]["value"], "trial {best}");
    let page = std::fs::read_to_string(here.join("page.html")).unwrap();
    assert!(page.contains("fine-tuning, preset standard") && page.contains("for each of blocks"));
    // The same command again has nothing to do, and its run is the same.
    let run = |path: &str| std::fs::read(here.join(path)).unwrap();
    let before = run("out/best/model.safetensors");
    assert_eq!(json(&tune_photos("6", &kept)), document);
    assert!(run("out/best/model.safetensors") == before);

    // What does not fit is said before anything is trained.
    let early = |args: &[&str], words: &[&str]| {
        let output = cli(here, args);
        refused(&output, words);
        assert!(!text(&output.stderr).contains("trial 0"), "{}", text(&output.stderr));
    };
    std::fs::write(here.join("deep.toml"), "blocks = { low = 1, high = 99 }").unwrap();
    early(
        &tune_photos("1", &["--space", "deep.toml"]),
        &["deep.toml, line 1, `blocks.high`: expected a whole number from 0 to ", "found 99"],
    );
    let both = "blocks = 2\nlayer_decay = 0.5\nblock_rate = { low = 0.1, high = 1, each = 'blocks' }";
    std::fs::write(here.join("both.toml"), both).unwrap();
    std::fs::write(here.join("once.toml"), both.replace(", each = 'blocks'", "")).unwrap();
    early(
        &tune_photos("1", &["--space", "once.toml"]),
        &["line 3, `block_rate`: expected each = \"blocks\""],
    );
    early(&tune_photos("1", &["--space", "both.toml"]), &["`block_rate` and `layer_decay`"]);
    std::fs::write(here.join("other.toml"), "optimizer = { choices = ['sgd'] }").unwrap();
    early(
        &tune_photos("1", &["--space", "other.toml"]),
        &["`optimizer`: expected one of blocks, learning_rate"],
    );
    std::fs::write(here.join("epochs.toml"), "learning_rate = { low = 1e-4, high = 1e-3 }\nepochs = 2")
        .unwrap();
    early(
        &tune_photos("1", &["--space", "epochs.toml", "--epochs", "3"]),
        &["epochs.toml has `epochs`, and --epochs"],
    );
    std::fs::write(here.join("results"), "").unwrap();
    early(&tune_photos("1", &["--out", "results"]), &["results: expected a folder"]);
    early(&tune_photos("1", &["--out", "photos"]), &["--out photos is a folder of the images"]);
    early(&tune_photos("1", &["--seed", "4294967296"]), &["less than 2^32, found 4294967296"]);
    early(&tune_photos("1", &["--model", "logistic"]), &["--model", "--weights"]);
    early(&tune_photos("1", &["--patience", "3"]), &["--patience", "--weights"]);
    early(&tune_photos("1", &["--weights", "weights"]), &["named twice"]);
    early(&["tune", "photos", "--trials", "1"], &["--model"]);
    early(&tune_photos("7", &["--storage", "st.log"]), &["it was begun with --space"]);
    early(
        &["tune", "photos", "--model", "logistic", "--trials", "7", "--storage", "st.log"],
        &["fine-tunings, not trainings from scratch"],
    );
}

#[test]
fn a_killed_fine_tuning_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 15);
    weights(here, "mobilenetv2_100");
    // One way to crop, few blocks, and many epochs to be killed in.
    std::fs::write(here.join("space.toml"), "blocks = { low = 2, high = 3 }\ncrop = 'center'\nepochs = 60")
        .unwrap();
    let args = |out: &'static str, study: &'static str| {
        let kept =
            ["--space", "space.toml", "--heartbeat", "1", "--no-pruning", "--out", out, "--storage", study];
        tune_photos("2", &kept)
    };
    let undisturbed = succeeds(here, &args("whole", "whole.log"));
    kill_after_an_epoch(here, &args("torn", "torn.log"));
    let bytes = |path: &str| std::fs::read(here.join(path)).unwrap();
    let (torn, whole) =
        ("torn/trials/0/checkpoint/last.safetensors", "whole/trials/0/checkpoint/last.safetensors");
    assert!(bytes(torn) != bytes(whole), "it was killed before it ended");
    let output = cli(here, &args("torn", "torn.log"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Trial 0 goes on here"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), undisturbed, "the same trials, values and winner");
    assert!(bytes(torn) == bytes(whole));
    for file in ["model.safetensors", "config.json", "split.csv", "history.csv", "predictions.csv"] {
        assert!(bytes(&format!("torn/best/{file}")) == bytes(&format!("whole/best/{file}")), "{file}");
    }
}

#[test]
fn several_objectives_have_a_front_of_runs() {
    let folder = scene();
    let here = folder.path();
    let objectives = ["--objective", "accuracy", "--objective", "parameters"];
    let stored = ["--model", "small-cnn", "--storage", "st.log", "--out", "out", "--report", "page.html"];
    let args = |trials: &'static str, more: &[&'static str]| {
        tune("logistic", trials, &[&objectives[..], &stored, more].concat())
    };
    let document: Value = serde_json::from_str(&succeeds(here, &args("12", &["--json"]))).unwrap();
    assert!(document["best"].is_null());
    assert_eq!(document["objectives"], serde_json::json!(["validation accuracy", "parameters"]));
    let trials = document["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 12);
    let values = |trial: &Value| [0, 1].map(|k| trial["values"][k].as_f64().unwrap());
    for trial in trials {
        assert_eq!(trial["state"], "complete", "nothing is pruned: {trial}");
        if trial["params"]["model"] == "logistic" {
            assert_eq!(values(trial)[1], (16 * 16 * 2 + 2) as f64);
        }
    }
    let front = document["front"].as_array().unwrap();
    for trial in trials {
        let [accuracy, parameters] = values(trial);
        let beats = |other: &Value| {
            let [a, p] = values(other);
            a >= accuracy && p <= parameters && (a, p) != (accuracy, parameters)
        };
        assert_eq!(front.contains(trial), !trials.iter().any(beats), "{trial}");
    }
    let kept = || -> Vec<String> {
        let runs = std::fs::read_dir(here.join("out/front")).unwrap();
        let mut names: Vec<String> =
            runs.map(|run| run.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort_by_key(|name| name.parse::<usize>().unwrap());
        names
    };
    assert_eq!(kept(), front.iter().map(|trial| trial["number"].to_string()).collect::<Vec<_>>());
    for number in kept() {
        let run = format!("out/front/{number}");
        assert_eq!(
            common::json(&here.join(&run).join("metrics.json"))["val"]["accuracy"],
            trials[number.parse::<usize>().unwrap()]["values"][0]
        );
        succeeds(here, &["predict", "--run", &run, "data/down/3.png"]);
    }
    let page = std::fs::read_to_string(here.join("page.html")).unwrap();
    assert!(page.contains("Pareto front") && page.contains("By parameters"), "the page shows the front");

    // More trials may change the front; what is no longer on it goes.
    std::fs::create_dir_all(here.join("out/front/999")).unwrap();
    let said = succeeds(here, &args("13", &[]));
    assert!(!kept().contains(&"999".to_owned()));
    assert!(said.contains(&format!("Pareto front: {} trial", kept().len())), "{said}");
    assert!(said.contains(", 514 parameters (learning_rate "), "{said}");
    assert!(said.contains("to use one: "), "{said}");
    // The objectives are part of a study.
    let others = tune("logistic", "14", &["--model", "small-cnn", "--storage", "st.log"]);
    refuses(here, &others, &["--objective was accuracy, parameters and is accuracy"]);
    let from = ["--study", "new", "--from-study", "firstsight"];
    let others =
        tune("logistic", "14", &[&["--model", "small-cnn", "--storage", "st.log"][..], &from].concat());
    refuses(here, &others, &["cannot be compared", "--objective was"]);
    refuses(here, &tune("logistic", "1", &["--objective", "speed"]), &["speed", "latency"]);
    refuses(here, &tune("logistic", "1", &["--objective", "size", "--objective", "size"]), &["given twice"]);
    // Another sampler breeds its trials.
    let bred = ["--model", "small-cnn", "--sampler", "nsga2", "--json"];
    let bred = succeeds(here, &tune("logistic", "14", &[&objectives[..], &bred].concat()));
    let document: Value = serde_json::from_str(&bred).unwrap();
    assert!(document["trials"].as_array().unwrap().iter().all(|trial| trial["state"] == "complete"));
}

#[test]
fn one_objective_may_be_another_than_accuracy() {
    let folder = scene();
    let here = folder.path();
    let both = ["--model", "small-cnn", "--sampler", "random", "--json"];
    let best = |objective: &'static str| -> Value {
        let args = tune("logistic", "6", &[&both[..], &["--objective", objective]].concat());
        let document: Value = serde_json::from_str(&succeeds(here, &args)).unwrap();
        let values = document["trials"].as_array().unwrap().iter().map(|t| t["value"].as_f64().unwrap());
        assert_eq!(document["best"]["value"].as_f64(), values.reduce(f64::min), "{objective}");
        document["best"].clone()
    };
    let size = best("size");
    assert_eq!(size["params"]["model"], "logistic");
    assert_eq!(size["value"].as_f64().unwrap(), 514.0 * 4.0 / 1e6);
    assert!(best("latency")["value"].as_f64().unwrap() > 0.0);
    assert!(best("loss")["value"].as_f64().unwrap() < 1.0);
}

#[test]
fn fine_tunings_have_several_objectives_too() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 15);
    weights(here, "mobilenetv2_100");
    std::fs::write(
        here.join("space.toml"),
        "blocks = 0\ninput_size = { choices = [32, 64] }\ncrop = 'center'",
    )
    .unwrap();
    let more = ["--space", "space.toml", "--objective", "accuracy", "--objective", "latency", "--out", "out"];
    let document: Value = serde_json::from_str(&succeeds(here, &tune_photos("4", &more))).unwrap();
    let trials = document["trials"].as_array().unwrap();
    assert!(trials.iter().all(|trial| trial["values"][1].as_f64().unwrap() > 0.0), "{document}");
    for trial in document["front"].as_array().unwrap() {
        let run = format!("out/front/{}", trial["number"]);
        let side = &common::json(&here.join(&run).join("config.json"))["pretrained_cfg"]["input_size"][1];
        assert_eq!(side, &trial["params"]["input_size"]);
        assert!(succeeds(here, &["predict", "--run", &run, "photos/red/3.png"]).contains("red"));
    }
}
