//! Runs on an MLflow server, by its REST API 2.0.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use firstsight_transfer::{Authorities, RunFolder, Split, files};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::http::header::CONTENT_TYPE;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::{Ending, Error, Place, Point, Result, Sink};

/// The most metrics or parameters that a server takes at once are 1000 and 100.
const AT_ONCE: usize = 100;
/// The longest value of a parameter.
const LONGEST: usize = 6000;
/// The longest answer that is read, in bytes.
const ANSWER: u64 = 1 << 24;

/// An MLflow server, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MlflowServer {
    /// Its address, such as `http://127.0.0.1:5000`.
    pub url: String,
    /// The experiment, which is made where there is none of the name.
    pub experiment: String,
    /// Who logs.
    pub credentials: Option<Credentials>,
    /// A proxy's address.
    pub proxy: Option<String>,
    /// Who may vouch for the server.
    pub authorities: Authorities,
    /// The longest time that a request may take.
    pub timeout: Duration,
}

/// What a server knows a user by.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Password(String, String),
    /// A token.
    Token(String),
}

impl std::fmt::Debug for Credentials {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(..) => "Password",
            Self::Token(_) => "Token",
        })
    }
}

impl MlflowServer {
    /// A server that asks for no name, with the experiment `firstsight`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            experiment: "firstsight".to_owned(),
            credentials: None,
            proxy: None,
            authorities: Authorities::mozilla(),
            timeout: Duration::from_secs(10),
        }
    }
}

/// `mlflow.json` of a run folder: where its training is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    url: String,
    experiment_id: String,
    run_id: String,
}

pub(crate) struct Mlflow {
    server: MlflowServer,
    /// `mlflow.json`.
    path: PathBuf,
    started: i64,
    record: Option<Record>,
    /// Where the server keeps files.
    artifacts: String,
    /// The last step of each metric that the server has.
    last: BTreeMap<String, i64>,
    /// Whether a write failed, so that the server may have more than `last`.
    is_unsure: bool,
}

/// A run, as far as it is read.
#[derive(Deserialize)]
struct Run {
    info: RunInfo,
    #[serde(default)]
    data: RunData,
}

#[derive(Deserialize)]
struct RunInfo {
    run_id: String,
    #[serde(default)]
    artifact_uri: String,
    #[serde(default)]
    lifecycle_stage: String,
}

#[derive(Default, Deserialize)]
struct RunData {
    #[serde(default)]
    metrics: Vec<RunMetric>,
    #[serde(default)]
    params: Vec<RunParam>,
}

impl RunData {
    /// The last step of each metric.
    fn last_steps(&self) -> BTreeMap<String, i64> {
        let step = |step: &Value| step.as_i64().or_else(|| step.as_str()?.parse().ok()).unwrap_or(0);
        self.metrics.iter().map(|metric| (metric.key.clone(), step(&metric.step))).collect()
    }
}

#[derive(Deserialize)]
struct RunMetric {
    key: String,
    #[serde(default)]
    step: Value,
}

#[derive(Deserialize)]
struct RunParam {
    key: String,
    #[serde(default)]
    value: String,
}

impl Mlflow {
    pub(crate) fn new(server: &MlflowServer) -> Self {
        Self {
            server: server.clone(),
            path: PathBuf::new(),
            started: now(),
            record: None,
            artifacts: String::new(),
            last: BTreeMap::new(),
            is_unsure: false,
        }
    }

    /// Sends a request: JSON in, JSON out. `None` for an answer of 404.
    fn ask(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Result<Option<Value>> {
        let MlflowServer { url, authorities, timeout, .. } = &self.server;
        let unreachable = |reason: String| Error::Unreachable { url: url.clone(), reason };
        let proxy = self.server.proxy.as_deref().map(ureq::Proxy::new).transpose();
        let roots = match authorities.der() {
            None => RootCerts::WebPki,
            Some(all) => {
                all.iter().map(|der| Certificate::from_der(der).to_owned()).collect::<Vec<_>>().into()
            }
        };
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("firstsight/", env!("CARGO_PKG_VERSION")))
            .proxy(proxy.map_err(|e| unreachable(e.to_string()))?)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_global(Some(*timeout))
            .build()
            .into();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{url}{path}"));
        match &self.server.credentials {
            Some(Credentials::Token(token)) => {
                request = request.header("Authorization", format!("Bearer {token}"))
            }
            Some(Credentials::Password(name, password)) => {
                let encoded = STANDARD.encode(format!("{name}:{password}"));
                request = request.header("Authorization", format!("Basic {encoded}"));
            }
            None => {}
        }
        let (kind, bytes) = body.unwrap_or(("application/json", &[]));
        let answer = match body {
            Some(_) => request.header(CONTENT_TYPE, kind).body(bytes).map(|request| agent.run(request)),
            None => request.body(()).map(|request| agent.run(request)),
        };
        let answer = answer.map_err(|e| unreachable(e.to_string()))?;
        let mut answer = answer.map_err(|e| unreachable(e.to_string()))?;
        let status = answer.status();
        let text = answer.body_mut().with_config().limit(ANSWER).read_to_string();
        let text = text.map_err(|e| unreachable(e.to_string()))?;
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        match status.as_u16() {
            404 => Ok(None),
            _ if status.is_success() => Ok(Some(document)),
            code => {
                let said = document.get("message").and_then(Value::as_str).unwrap_or(&text);
                Err(Error::Refused {
                    url: url.clone(),
                    what: path.split('?').next().unwrap_or(path).to_owned(),
                    status: code,
                    reason: said.lines().next().unwrap_or_default().chars().take(300).collect(),
                })
            }
        }
    }

    fn get(&self, path: &str) -> Result<Option<Value>> {
        self.ask("GET", &format!("/api/2.0/mlflow/{path}"), None)
    }

    fn post(&self, path: &str, document: &Value) -> Result<Value> {
        let path = format!("/api/2.0/mlflow/{path}");
        let body = document.to_string();
        let answer = self.ask("POST", &path, Some(("application/json", body.as_bytes())))?;
        answer.ok_or_else(|| self.unexpected(&path, "not found"))
    }

    fn unexpected(&self, path: &str, found: &str) -> Error {
        let reason = format!("{path}: expected an answer of MLflow's REST API, found {found}");
        Error::Unreachable { url: self.server.url.clone(), reason }
    }

    fn run_of(&self, answer: &Value) -> Result<Run> {
        Run::deserialize(answer.get("run").unwrap_or(&Value::Null))
            .map_err(|e| self.unexpected("run", &e.to_string()))
    }

    fn experiment(&self) -> Result<String> {
        let id =
            |answer: &Value, place: &str| answer.pointer(place).and_then(Value::as_str).map(str::to_owned);
        let name = &self.server.experiment;
        let found = self.get(&format!("experiments/get-by-name?experiment_name={}", encoded(name)))?;
        if let Some(id) = found.as_ref().and_then(|answer| id(answer, "/experiment/experiment_id")) {
            return Ok(id);
        }
        let made = self.post("experiments/create", &json!({ "name": name }))?;
        id(&made, "/experiment_id").ok_or_else(|| self.unexpected("experiments/create", &made.to_string()))
    }

    /// The run that the folder's earlier training was logged as, if the server still has it.
    fn earlier(&self) -> Result<Option<(Record, Run)>> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let Ok(record) = serde_json::from_str::<Record>(&text) else { return Ok(None) };
        if record.url != self.server.url {
            return Ok(None);
        }
        let Some(answer) = self.get(&format!("runs/get?run_id={}", encoded(&record.run_id)))? else {
            return Ok(None);
        };
        let run = self.run_of(&answer)?;
        Ok((run.info.lifecycle_stage != "deleted").then_some((record, run)))
    }

    fn create(&self, name: &str) -> Result<(Record, Run)> {
        let experiment_id = self.experiment()?;
        let tags = [("mlflow.source.name", "firstsight"), ("mlflow.source.type", "LOCAL")];
        let version = ("firstsight.version", env!("CARGO_PKG_VERSION"));
        let tags: Vec<Value> = tags
            .into_iter()
            .chain([version])
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect();
        let made = self.post(
            "runs/create",
            &json!({
                "experiment_id": experiment_id, "run_name": name, "start_time": self.started, "tags": tags,
            }),
        )?;
        let run = self.run_of(&made)?;
        Ok((Record { url: self.server.url.clone(), experiment_id, run_id: run.info.run_id.clone() }, run))
    }

    fn run_id(&self) -> &str {
        self.record.as_ref().map_or("", |record| &record.run_id)
    }

    /// Settings that the run has not. A server lets none be changed: what a resumption has changed becomes a tag.
    fn write_settings(&self, settings: &[(String, String)], known: &[RunParam]) -> Result<()> {
        let (mut params, mut tags) = (Vec::new(), Vec::new());
        for (name, value) in settings {
            let value: String = value.chars().take(LONGEST).collect();
            match known.iter().find(|param| param.key == *name) {
                None => params.push(json!({"key": name, "value": value})),
                Some(param) if param.value != value => {
                    tags.push(json!({"key": format!("resumed.{name}"), "value": value}));
                }
                Some(_) => {}
            }
        }
        for some in params.chunks(AT_ONCE) {
            self.post("runs/log-batch", &json!({"run_id": self.run_id(), "params": some}))?;
        }
        for some in tags.chunks(AT_ONCE) {
            self.post("runs/log-batch", &json!({"run_id": self.run_id(), "tags": some}))?;
        }
        Ok(())
    }
}

impl Sink for Mlflow {
    fn name(&self) -> String {
        "MLflow".to_owned()
    }

    fn begin(&mut self, place: &Place, settings: &[(String, String)], _epochs: usize) -> Result<()> {
        self.path = place.folder.join("mlflow.json");
        // What this part of the training has made, in an attempt that failed later, is its own.
        let is_known = place.resume || self.record.is_some();
        let found = if is_known { self.earlier()? } else { None };
        let (record, run) = match found {
            Some((record, run)) => {
                self.post("runs/update", &json!({"run_id": record.run_id, "status": "RUNNING"}))?;
                (record, run)
            }
            None => self.create(&place.name)?,
        };
        std::fs::create_dir_all(&place.folder).map_err(|source| Error::Io {
            action: "write",
            path: place.folder.clone(),
            source,
        })?;
        files::write_json(&self.path, &record)?;
        self.record = Some(record);
        self.artifacts = run.info.artifact_uri;
        self.last = run.data.last_steps();
        self.write_settings(settings, &run.data.params)
    }

    fn write(&mut self, points: &[Point]) -> Result<()> {
        if self.is_unsure {
            if let Some((_, run)) = self.earlier()? {
                self.last = run.data.last_steps();
            }
            self.is_unsure = false;
        }
        let timestamp = now();
        let mut metrics = Vec::new();
        let mut last = self.last.clone();
        for Point { split, name, step, value } in points {
            let key = match (name.strip_prefix("final_"), split) {
                (Some(figure), split) => format!("final_{}_{figure}", split.name()),
                (None, Split::Train) => name.clone(),
                (None, split) => format!("{}_{name}", split.name()),
            };
            // JSON has no NaN.
            if value.is_finite() && last.get(&key).is_none_or(|last| last < step) {
                last.insert(key.clone(), *step);
                let metric = json!({"key": key, "value": value, "timestamp": timestamp, "step": step});
                metrics.push((metric, key, *step));
            }
        }
        for some in metrics.chunks(AT_ONCE) {
            let sent: Vec<&Value> = some.iter().map(|(metric, ..)| metric).collect();
            let written = self.post("runs/log-batch", &json!({"run_id": self.run_id(), "metrics": sent}));
            // The answer alone may be lost, and a server may have written a part before it failed.
            self.is_unsure = written.is_err();
            written?;
            self.last.extend(some.iter().map(|(_, key, step)| (key.clone(), *step)));
        }
        Ok(())
    }

    fn end(&mut self, ending: Ending, run: &RunFolder) -> Result<Option<String>> {
        let status = match ending {
            Ending::Finished => "FINISHED",
            Ending::Failed => "FAILED",
            Ending::Interrupted => "KILLED",
        };
        self.post("runs/update", &json!({"run_id": self.run_id(), "status": status, "end_time": now()}))?;
        let report = run.report();
        if ending != Ending::Finished || !report.is_file() {
            return Ok(None);
        }
        // Only a server that stands before its store takes files; others tell clients to write there themselves.
        let Some(folder) = self.artifacts.strip_prefix("mlflow-artifacts:") else {
            return Ok(Some(format!(
                "{} stays here: MLflow keeps files in {}, not through the server",
                report.display(),
                self.artifacts
            )));
        };
        let folder = folder.trim_start_matches('/');
        for (path, kind) in [(report, "text/html"), (run.metrics(), "application/json")] {
            let failed = |source| Error::Io { action: "read", path: path.clone(), source };
            let bytes = std::fs::read(&path).map_err(failed)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let place = format!("/api/2.0/mlflow-artifacts/artifacts/{folder}/{name}");
            let answer = self.ask("PUT", &place, Some((kind, &bytes)))?;
            answer.ok_or_else(|| self.unexpected(&place, "not found"))?;
        }
        Ok(None)
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// Text within a query.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}
