//! `--log`: what a training leaves for TensorBoard and MLflow; and, where a Python has them, what these read of it.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use common::{cli, photos, refuses, succeeds, text, weights};

const TRAIN: [&str; 12] = [
    "train",
    "photos",
    "--model",
    "small-cnn",
    "--input",
    "32x40x3",
    "--batch-size",
    "8",
    "--out",
    "run",
    "--epochs",
    "2",
];

const TUNE: [&str; 14] = [
    "tune",
    "photos",
    "--model",
    "small-cnn",
    "--input",
    "32x40x3",
    "--trials",
    "2",
    "--epochs",
    "2",
    "--no-pruning",
    "--storage",
    "study.log",
    "--log",
];

fn events(run: &Path, split: &str) -> usize {
    std::fs::read_dir(run.join("tensorboard").join(split)).map_or(0, Iterator::count)
}

#[test]
fn a_training_is_logged_and_goes_on_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 12);
    refuses(here, &[&TRAIN[..], &["--log", "wandb"]].concat(), &["tensorboard or mlflow:URL", "wandb"]);
    assert!(!here.join("run").exists());
    let logs = ["--log", "tensorboard", "--log", "mlflow:http://127.0.0.1:1"];
    let output = cli(here, &[&TRAIN[..], &logs].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("the training goes on without MLflow: http://127.0.0.1:1").count(), 1, "{said}");
    assert_eq!((events(&here.join("run"), "train"), events(&here.join("run"), "validation")), (1, 1));

    // The last layer alone has figures, and no epochs.
    weights(here, "mobilenetv2_100");
    let quick = ["fine-tune", "photos", "--weights", "weights", "--preset", "quick", "--crop", "center"];
    succeeds(here, &[&quick[..], &["--out", "quick", "--log", "tensorboard"]].concat());
    assert_eq!(events(&here.join("quick"), "validation"), 1);
    // Bad input leaves no log.
    let wrong = ["--unfreeze-from", "nothing", "--out", "none", "--log", "tensorboard"];
    refuses(here, &[&quick[..], &wrong].concat(), &["nothing"]);
    assert!(!here.join("none").exists());

    // Of a search each trial is logged.
    let tune = [&TUNE[..], &["tensorboard"]].concat();
    refuses(here, &tune, &["--log needs --out DIR"]);
    succeeds(here, &[&tune[..], &["--out", "search"]].concat());
    for trial in ["search/logs/0", "search/logs/1"] {
        assert_eq!(events(&here.join(trial), "train"), 1);
    }
}

/// An MLflow server of its own.
struct Server(Child, String);

impl Server {
    fn start(python: &str, here: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let store = format!("sqlite:///{}/mlflow.db", here.display());
        let child = Command::new(python)
            .args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--workers", "1", "--backend-store-uri", &store, "--artifacts-destination", "artifacts"])
            // Without the workers of its own jobs, which outlive it.
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .current_dir(here)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(child, format!("http://127.0.0.1:{port}"));
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(120), "the server does not start");
            std::thread::sleep(Duration::from_millis(200));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[test]
fn tensorboard_and_mlflow_read_what_was_logged() {
    let python = std::env::var("FIRSTSIGHT_PYTHON").unwrap_or_default();
    let has = |packages: &str| Command::new(&python).args(["-c", packages]).stderr(Stdio::null()).status();
    if !has("import tensorboard, mlflow").is_ok_and(|status| status.success()) {
        eprintln!("skipped: FIRSTSIGHT_PYTHON names no Python with tensorboard and mlflow");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photos(here, 12);
    let server = Server::start(&python, here);
    let target = format!("mlflow:{}", server.1);
    let logged = [&TRAIN[..], &["--log", "tensorboard", "--log", &target]].concat();
    succeeds(here, &logged);
    let mut longer = logged.clone();
    longer[11] = "4";
    longer.push("--resume");
    succeeds(here, &longer);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/read_logs.py");
    let read = |run: &str| -> Value {
        let mut command = Command::new(&python);
        let output = command.arg(&script).arg(run).arg(&server.1).current_dir(here).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };

    let search = ["tensorboard", "--log", &target, "--out", "search", "--json"];
    let found: Value = serde_json::from_str(&succeeds(here, &[&TUNE[..], &search].concat())).unwrap();
    for trial in found["trials"].as_array().unwrap() {
        let of = read(&format!("search/logs/{}", trial["number"]));
        let (mlflow, value) = (&of["mlflow"], trial["value"].as_f64().unwrap());
        assert_eq!(
            (&mlflow["status"], &mlflow["params"]["study"]),
            (&"FINISHED".into(), &"firstsight".into())
        );
        assert_eq!(mlflow["name"], format!("firstsight-{}", trial["number"]));
        assert_eq!(mlflow["params"]["batch_size"], trial["params"]["batch_size"].to_string());
        assert_eq!(mlflow["metrics"]["val_accuracy"].as_array().unwrap().len(), 2);
        assert_eq!(mlflow["metrics"]["final_val_accuracy"], serde_json::json!([[2, value]]));
        let logged = of["validation"]["scalars"]["final_accuracy"][0][1].as_f64().unwrap();
        assert_eq!(logged as f32, value as f32);
    }

    let read = read("run");

    let history = std::fs::read_to_string(here.join("run/history.csv")).unwrap();
    let columns: Vec<&str> = history.lines().next().unwrap().split(',').collect();
    for (i, column) in columns.iter().enumerate().skip(1) {
        let (split, name) = match column.strip_prefix("val_") {
            Some(name) => ("validation", name),
            None => ("train", *column),
        };
        let rows: Vec<(u64, f64)> = history
            .lines()
            .skip(1)
            .map(|row| row.split(',').collect::<Vec<_>>())
            .map(|cells| (cells[0].parse().unwrap(), cells[i].parse().unwrap()))
            .collect();
        assert_eq!(rows.len(), 4);
        let points = |value: &Value| -> Vec<(u64, f64)> { serde_json::from_value(value.clone()).unwrap() };
        let as_single: Vec<_> = rows.iter().map(|(step, value)| (*step, f64::from(*value as f32))).collect();
        assert_eq!(points(&read[split]["scalars"][name]), as_single, "TensorBoard, {column}");
        assert_eq!(points(&read["mlflow"]["metrics"][column]), rows, "MLflow, {column}");
    }
    let mlflow = &read["mlflow"];
    assert_eq!((&mlflow["status"], &mlflow["runs"]), (&"FINISHED".into(), &3.into()), "{mlflow}");
    assert_eq!((&mlflow["experiment"], &mlflow["name"]), (&"firstsight".into(), &"run".into()));
    assert_eq!(
        (&mlflow["params"]["max_epochs"], &mlflow["tags"]["resumed.max_epochs"]),
        (&"2".into(), &"4".into())
    );
    assert_eq!(mlflow["artifacts"], serde_json::json!(["metrics.json", "report.html"]));
    let final_accuracy = &read["validation"]["scalars"]["final_accuracy"];
    assert_eq!(final_accuracy.as_array().unwrap().len(), 2, "{final_accuracy}");
    assert!(read["train"]["texts"]["settings"][0][1].as_str().unwrap().contains("| network | small-cnn |"));
}
