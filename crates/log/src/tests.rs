//! Logs as they are read again, with a server that behaves like MLflow's where it is asked, and fails where it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use candle_core::Device;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::events::{Event, SessionLog, events};

fn epoch(loss: f64) -> Epoch {
    let metrics = |loss| Metrics { loss, values: vec![("accuracy".to_owned(), 1.0 - loss)], n: 8 };
    Epoch { train: metrics(loss), val: Some(metrics(loss / 2.0)) }
}

fn settings() -> Vec<(String, String)> {
    vec![("network".to_owned(), "small | cnn".to_owned())]
}

fn runtime() -> (Runtime, Arc<Mutex<Vec<String>>>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = said.clone();
    let runtime = Runtime::new(Device::Cpu).progress(move |event| {
        if let firstsight_transfer::Event::Message(text) = event {
            heard.lock().unwrap().push((*text).to_owned());
        }
    });
    (runtime, said)
}

/// The events of a split in the order in which TensorBoard reads them, with what a START takes away taken away.
fn read(folder: &TempDir, split: &str) -> Vec<Event> {
    let folder = folder.path().join("run/tensorboard").join(split);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut found: Vec<Event> = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let mut all = events(&bytes);
        assert_eq!(all.next().unwrap().file_version.as_deref(), Some("brain.Event:2"));
        for event in all {
            if event.session_log == Some(SessionLog { status: SessionLog::START }) {
                found.retain(|earlier| earlier.step < event.step);
            } else {
                found.push(event);
            }
        }
    }
    found
}

fn scalars(folder: &TempDir, split: &str, tag: &str) -> Vec<(i64, f32)> {
    let all = read(folder, split).into_iter().flat_map(|event| {
        let values = event.summary.into_iter().flat_map(|summary| summary.value);
        values.map(move |value| (event.step, value))
    });
    all.filter(|(_, value)| value.tag == tag)
        .map(|(step, value)| (step, value.simple_value.unwrap()))
        .collect()
}

/// A part of a training: epochs of an earlier part, and those of this one.
fn part(targets: &[LogTarget], folder: &TempDir, (before, losses): (&[f64], &[f64]), ending: Option<Ending>) {
    let run = RunFolder::reopen(&folder.path().join("run"), true).unwrap();
    let (runtime, _) = runtime();
    let mut log = TrainingLog::new(targets, (&run, !before.is_empty()), settings(), &runtime);
    before.iter().for_each(|loss| log.add(&epoch(*loss)));
    log.write();
    for loss in losses {
        log.add(&epoch(*loss));
        log.write();
    }
    if let Some(ending) = ending {
        log.end(ending);
    }
}

#[test]
fn a_resumed_training_goes_on_in_the_same_folder_without_doubled_steps() {
    let folder = tempfile::tempdir().unwrap();
    let targets = [LogTarget::TensorBoard];
    // The third epoch was logged, but the checkpoint is that of the second: it comes again, with another loss.
    part(&targets, &folder, (&[], &[0.5, 0.4, 0.3]), None);
    part(&targets, &folder, (&[0.5, 0.4], &[0.25, 0.2]), None);
    assert_eq!(scalars(&folder, "train", "loss"), [(1, 0.5), (2, 0.4), (3, 0.25), (4, 0.2)]);
    assert_eq!(scalars(&folder, "validation", "accuracy"), [(1, 0.75), (2, 0.8), (3, 0.875), (4, 0.9)]);
    let texts = read(&folder, "train").into_iter().flat_map(|event| event.summary.unwrap().value);
    let text = texts.filter_map(|value| value.tensor).next().unwrap();
    let text = String::from_utf8(text.string_val[0].clone()).unwrap();
    assert!(text.contains(r"| network | small \| cnn |"), "{text}");
    // A training that begins anew has the folder for itself.
    part(&targets, &folder, (&[], &[0.7]), None);
    assert_eq!(scalars(&folder, "train", "loss"), [(1, 0.7)]);
}

#[test]
fn epochs_from_before_the_first_log_are_logged_and_a_torn_file_is_no_hindrance() {
    let folder = tempfile::tempdir().unwrap();
    let targets = [LogTarget::TensorBoard];
    part(&targets, &folder, (&[0.5, 0.4], &[0.3]), None);
    assert_eq!(scalars(&folder, "train", "loss"), [(1, 0.5), (2, 0.4), (3, 0.3)]);
    let file = std::fs::read_dir(folder.path().join("run/tensorboard/train")).unwrap().next().unwrap();
    let path = file.unwrap().path();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    part(&targets, &folder, (&[0.5, 0.4, 0.3], &[0.2]), None);
    assert_eq!(scalars(&folder, "train", "loss"), [(1, 0.5), (2, 0.4), (3, 0.3), (4, 0.2)]);
}

#[test]
fn the_figures_of_a_finished_run_are_logged_also_without_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::reopen(&folder.path().join("run"), true).unwrap();
    std::fs::write(
        run.metrics(),
        r#"{"epochs": 0, "val": {"accuracy": 0.75, "confusion": [[1]]}, "test": null}"#,
    )
    .unwrap();
    part(&[LogTarget::TensorBoard], &folder, (&[], &[]), Some(Ending::Finished));
    assert_eq!(scalars(&folder, "validation", "final_accuracy"), [(0, 0.75)]);
    // One that failed before it began leaves nothing.
    let other = tempfile::tempdir().unwrap();
    let (run, (runtime, _)) = (RunFolder::reopen(&other.path().join("run"), false).unwrap(), runtime());
    TrainingLog::new(&[LogTarget::TensorBoard], (&run, false), settings(), &runtime).end(Ending::Failed);
    assert!(!other.path().join("run/tensorboard").exists());
}

#[test]
fn event_files_that_cannot_be_written_are_warned_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::reopen(&folder.path().join("run"), true).unwrap();
    let (runtime, said) = runtime();
    let place = run.path().join("tensorboard");
    std::fs::write(&place, "a file").unwrap();
    let mut log = TrainingLog::new(&[LogTarget::TensorBoard], (&run, false), settings(), &runtime);
    for loss in [0.5, 0.4] {
        log.add(&epoch(loss));
        log.write();
    }
    assert_eq!(said.lock().unwrap().len(), 1, "{said:?}");
    assert!(said.lock().unwrap()[0].starts_with("the training goes on without TensorBoard: cannot write"));
    std::fs::remove_file(place).unwrap();
    log.end(Ending::Finished);
    assert_eq!(scalars(&folder, "train", "loss"), [(1, 0.5), (2, 0.4)]);
}

/// What the server knows.
#[derive(Default)]
struct Known {
    fails: bool,
    /// Batches of metrics that are taken before one fails.
    batches: Option<usize>,
    /// Whether the batch that fails is written, and its answer alone is lost.
    loses_answers: bool,
    requests: usize,
    runs: usize,
    statuses: Vec<String>,
    params: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    metrics: Vec<(String, i64, f64)>,
    files: Vec<String>,
    authorization: Option<String>,
}

/// MLflow, as far as it is asked here, with its rule that parameters do not change.
fn server() -> (MlflowServer, Arc<Mutex<Known>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let known = Arc::new(Mutex::new(Known::default()));
    let here = known.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut first, mut length, mut line) = (String::new(), 0, String::new());
            stream.read_line(&mut first).unwrap();
            let mut known = here.lock().unwrap();
            while stream.read_line(&mut line).unwrap() > 2 {
                let (name, value) = line.trim().split_once(": ").unwrap();
                match name.to_lowercase().as_str() {
                    "content-length" => length = value.parse().unwrap(),
                    "authorization" => known.authorization = Some(value.to_owned()),
                    _ => {}
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let path = first.split(' ').nth(1).unwrap();
            let (status, answer) = known.answer(path, &body);
            if status == 0 {
                continue;
            }
            let answer = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            );
            let _ = stream.get_mut().write_all((head + &answer).as_bytes());
        }
    });
    (MlflowServer::new(url), known)
}

impl Known {
    fn answer(&mut self, path: &str, body: &[u8]) -> (u16, Value) {
        self.requests += 1;
        if self.fails {
            return (507, json!({"message": "the disk is full\nat line 3"}));
        }
        if let Some(file) = path.strip_prefix("/api/2.0/mlflow-artifacts/artifacts/") {
            self.files.push(file.to_owned());
            return (200, json!({}));
        }
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        let run = |known: &Self| {
            let mut last: BTreeMap<&str, i64> = BTreeMap::new();
            known.metrics.iter().for_each(|(key, step, _)| {
                last.insert(key, *step);
            });
            let metrics: Vec<Value> =
                last.iter().map(|(key, step)| json!({"key": key, "step": step})).collect();
            let params: Vec<Value> =
                known.params.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
            let info = json!({"run_id": "r", "artifact_uri": "mlflow-artifacts:/7/r/artifacts", "lifecycle_stage": "active"});
            json!({"run": {"info": info, "data": {"metrics": metrics, "params": params}}})
        };
        match path.strip_prefix("/api/2.0/mlflow/").unwrap() {
            "experiments/get-by-name?experiment_name=first%20sight" => {
                (404, json!({"error_code": "RESOURCE_DOES_NOT_EXIST"}))
            }
            "experiments/create" => (200, json!({"experiment_id": "7"})),
            "runs/create" => {
                self.runs += 1;
                assert_eq!(document["experiment_id"], "7");
                (200, run(self))
            }
            "runs/get?run_id=r" => (200, run(self)),
            "runs/update" => {
                self.statuses.push(document["status"].as_str().unwrap().to_owned());
                (200, json!({}))
            }
            "runs/log-batch" => {
                let all = |name: &str| document[name].as_array().cloned().unwrap_or_default();
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let mut status = 200;
                for param in all("params") {
                    if self.params.insert(text(&param["key"]), text(&param["value"])).is_some() {
                        return (400, json!({"message": "a parameter can't change"}));
                    }
                }
                if document["metrics"].is_array()
                    && let Some(left) = &mut self.batches
                {
                    if *left > 0 {
                        *left -= 1;
                    } else if self.loses_answers {
                        status = 0;
                    } else {
                        return (507, json!({"message": "the disk is full"}));
                    }
                }
                self.tags.extend(all("tags").iter().map(|tag| (text(&tag["key"]), text(&tag["value"]))));
                for metric in all("metrics") {
                    let (step, value) = (metric["step"].as_i64().unwrap(), metric["value"].as_f64().unwrap());
                    self.metrics.push((text(&metric["key"]), step, value));
                }
                (status, json!({}))
            }
            other => panic!("{other}"),
        }
    }

    fn of(&self, key: &str) -> Vec<(i64, f64)> {
        self.metrics.iter().filter(|(name, ..)| name == key).map(|(_, step, value)| (*step, *value)).collect()
    }
}

#[test]
fn a_resumed_training_goes_on_in_the_same_run_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, known) = server();
    server.experiment = "first sight".to_owned();
    server.credentials = Some(Credentials::Password("me".to_owned(), "secret".to_owned()));
    let targets = [LogTarget::Mlflow(server)];
    part(&targets, &folder, (&[], &[0.5, f64::NAN, 0.3]), Some(Ending::Interrupted));
    let run = RunFolder::reopen(&folder.path().join("run"), true).unwrap();
    std::fs::write(run.metrics(), r#"{"val": {"accuracy": 0.75}}"#).unwrap();
    std::fs::write(run.report(), "<html>").unwrap();
    part(&targets, &folder, (&[0.5, f64::NAN, 0.3], &[0.25]), Some(Ending::Finished));
    let known = known.lock().unwrap();
    assert_eq!(known.of("loss"), [(1, 0.5), (3, 0.3), (4, 0.25)]);
    assert_eq!(known.of("val_loss"), [(1, 0.25), (3, 0.15), (4, 0.125)]);
    assert_eq!(known.of("final_val_accuracy"), [(4, 0.75)]);
    assert_eq!((known.runs, known.params["network"].as_str()), (1, "small | cnn"));
    assert_eq!(known.statuses, ["KILLED", "RUNNING", "FINISHED"]);
    assert_eq!(known.files, ["7/r/artifacts/report.html", "7/r/artifacts/metrics.json"]);
    assert_eq!(known.authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
    let record = std::fs::read_to_string(folder.path().join("run/mlflow.json")).unwrap();
    assert!(record.contains("\"r\"") && !record.contains("secret"), "{record}");
}

#[test]
fn changed_settings_of_a_resumption_are_tags() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, known) = server();
    server.experiment = "first sight".to_owned();
    let targets = [LogTarget::Mlflow(server)];
    part(&targets, &folder, (&[], &[0.5]), None);
    known.lock().unwrap().params.insert("network".to_owned(), "another".to_owned());
    part(&targets, &folder, (&[0.5], &[0.4]), None);
    let known = known.lock().unwrap();
    assert_eq!((&*known.params["network"], &*known.tags["resumed.network"]), ("another", "small | cnn"));
    assert_eq!(known.of("loss"), [(1, 0.5), (2, 0.4)]);
}

#[test]
fn a_server_that_is_full_is_warned_of_once_and_gets_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, known) = server();
    server.experiment = "first sight".to_owned();
    known.lock().unwrap().fails = true;
    let run = RunFolder::reopen(&folder.path().join("run"), true).unwrap();
    let (runtime, said) = runtime();
    let mut log = TrainingLog::new(&[LogTarget::Mlflow(server)], (&run, false), settings(), &runtime);
    for loss in [0.5, 0.4, 0.3] {
        log.add(&epoch(loss));
        log.write();
    }
    assert_eq!(known.lock().unwrap().requests, 1, "it is left alone for a while");
    let expected = "the training goes on without MLflow";
    assert!(said.lock().unwrap().len() == 1 && said.lock().unwrap()[0].starts_with(expected), "{said:?}");
    assert!(said.lock().unwrap()[0].contains("507") && said.lock().unwrap()[0].ends_with("the disk is full"));
    known.lock().unwrap().fails = false;
    log.end(Ending::Failed);
    assert_eq!(known.lock().unwrap().runs, 0, "nothing had begun");
    let mut server = LogTarget::Mlflow(MlflowServer::new("http://127.0.0.1:1"));
    let mut log = TrainingLog::new(std::slice::from_ref(&server), (&run, false), settings(), &runtime);
    log.add(&epoch(0.5));
    log.write();
    assert!(said.lock().unwrap().last().unwrap().contains("http://127.0.0.1:1 does not answer"), "{said:?}");
    // One that is away in the middle.
    if let LogTarget::Mlflow(address) = &mut server {
        let (back, known) = self::server();
        *address = MlflowServer { experiment: "first sight".to_owned(), ..back };
        let mut log = TrainingLog::new(&[server], (&run, false), settings(), &runtime);
        log.add(&epoch(0.5));
        log.write();
        known.lock().unwrap().fails = true;
        log.add(&epoch(0.4));
        log.write();
        known.lock().unwrap().fails = false;
        log.add(&epoch(0.3));
        log.end(Ending::Interrupted);
        let known = known.lock().unwrap();
        assert_eq!(known.of("loss"), [(1, 0.5), (2, 0.4), (3, 0.3)]);
        assert_eq!(known.statuses, ["KILLED"]);
    }
}

#[test]
fn a_write_that_breaks_off_after_some_batches_doubles_no_step() {
    for loses_answers in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (mut server, known) = server();
        server.experiment = "first sight".to_owned();
        let run = RunFolder::reopen(&folder.path().join("run"), true).unwrap();
        let (runtime, said) = runtime();
        *known.lock().unwrap() = Known { batches: Some(2), loses_answers, ..Known::default() };
        let mut log = TrainingLog::new(&[LogTarget::Mlflow(server)], (&run, true), settings(), &runtime);
        // Four numbers each: more than three batches.
        let losses: Vec<f64> = (1..=80).map(|epoch| 1.0 / f64::from(epoch)).collect();
        losses.iter().for_each(|loss| log.add(&epoch(*loss)));
        log.write();
        let written = known.lock().unwrap().metrics.len();
        assert_eq!(written, if loses_answers { 300 } else { 200 }, "{said:?}");
        known.lock().unwrap().batches = None;
        log.end(Ending::Interrupted);
        let known = known.lock().unwrap();
        let expected: Vec<(i64, f64)> = (1..).zip(losses).collect();
        assert_eq!(known.of("loss"), expected, "answers are lost: {loses_answers}");
        assert_eq!((known.of("val_accuracy").len(), known.metrics.len()), (80, 320));
    }
}
