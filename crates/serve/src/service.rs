//! Which path answers what.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::access::Access;
use crate::current::Current;
use crate::metrics::Metrics;
use crate::page;
use crate::predict::{Predictor, late};
use crate::reply::{Refusal, Reply, document, json};
use crate::request::discard;
use crate::teach::Teach;
use crate::{Limits, OPENAPI};

/// How long the rest of a refused body is read.
const DISCARDING: Duration = Duration::from_secs(2);

/// Answers requests.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) queue: Semaphore,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) current: Arc<Current>,
    /// What the page teaches, if it does.
    pub(crate) teach: Option<Teach>,
}

impl Service {
    /// The answer to a request. On a connection more than there may be, it is 503.
    pub(crate) async fn respond(&self, request: Request<Incoming>, is_above: bool) -> Reply {
        let started = Instant::now();
        let (parts, mut incoming) = request.into_parts();
        let answered = match is_above {
            false => self.answer(&parts, &mut incoming, started + self.limits.time).await,
            true => {
                let expected = format!("at most {} connections", self.limits.connections);
                Err(Refusal::busy("there are too many connections", expected, "one more"))
            }
        };
        let reply = match answered {
            Ok(reply) => reply,
            Err(refusal) => {
                if refusal.status != StatusCode::REQUEST_TIMEOUT {
                    discard(&parts, &mut incoming, self.limits.body, Instant::now() + DISCARDING).await;
                }
                refusal.reply()
            }
        };
        let known = ["/predict", "/health", "/metrics", "/openapi.json"];
        let path = known.into_iter().find(|path| *path == parts.uri.path()).unwrap_or("other");
        self.metrics.request(path, reply.status().as_u16(), started.elapsed());
        reply
    }

    async fn answer(
        &self,
        parts: &Parts,
        incoming: &mut Incoming,
        deadline: Instant,
    ) -> Result<Reply, Refusal> {
        let (path, method) = (parts.uri.path(), &parts.method);
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        self.access.check_site(&parts.uri, &parts.headers)?;
        // What says nothing of photos: the page's own files, and whether there is a service and what it knows.
        let open = if path == "/health" { Some(self.health()) } else { page::file(path) };
        if let Some(reply) = open {
            return if is_read { Ok(reply) } else { Err(Refusal::method("GET, HEAD", method)) };
        }
        self.access.check_token(&parts.headers)?;
        match path {
            "/predict" | "/api/evidence" if method == Method::POST => {
                let predictor = self.predictor()?;
                let shared = (&self.limits, &self.queue, &*self.metrics);
                match path {
                    "/predict" => predictor.answer(parts, incoming, shared, deadline).await,
                    _ => predictor.evidence(parts, incoming, shared, deadline).await,
                }
            }
            "/predict" | "/api/evidence" => Err(Refusal::method("POST", method)),
            "/metrics" | "/openapi.json" | "/api/state" if is_read => Ok(match path {
                "/metrics" => document(StatusCode::OK, "text/plain; version=0.0.4", self.metrics()),
                "/openapi.json" => document(StatusCode::OK, "application/json", OPENAPI),
                _ => self.state(),
            }),
            "/metrics" | "/openapi.json" | "/api/state" => Err(Refusal::method("GET, HEAD", method)),
            _ => {
                let answered = match &self.teach {
                    Some(teach) if path.starts_with("/api/") => {
                        // A page asks for many things at a time: they wait, so that memory stays within its limit.
                        let turn = timeout_at(deadline, self.queue.acquire()).await;
                        let _turn = turn.map_err(|_| late(&self.limits))?;
                        teach.answer(parts, incoming, &self.limits, deadline).await
                    }
                    _ => None,
                };
                let unknown = || {
                    Refusal::new(
                        StatusCode::NOT_FOUND,
                        "there is no such path",
                        "/, /predict, /health, /metrics or /openapi.json",
                        path.chars().take(100).collect::<String>(),
                    )
                };
                answered.unwrap_or_else(|| Err(unknown()))
            }
        }
    }

    fn predictor(&self) -> Result<Arc<Predictor>, Refusal> {
        let none =
            || Refusal::new(StatusCode::CONFLICT, "there is no network yet", "a training first", "no run");
        self.current.get().ok_or_else(none)
    }

    fn health(&self) -> Reply {
        let version = env!("CARGO_PKG_VERSION");
        let predictor = self.current.get();
        let said = match predictor.as_deref() {
            Some(Predictor { name, task, labels, .. }) => {
                json!({"status": "ok", "version": version, "network": name, "task": task, "labels": labels})
            }
            None => json!({"status": "ok", "version": version, "network": null, "task": null, "labels": []}),
        };
        json(StatusCode::OK, &said)
    }

    /// What the page shows.
    fn state(&self) -> Reply {
        let state = match &self.teach {
            Some(teach) => {
                let (backbone, training, run) = teach.state();
                json!({"teaches": true, "backbone": backbone, "training": training, "run": run})
            }
            None => {
                let predictor = self.current.get();
                let network = predictor.as_ref().map(|predictor| predictor.name.as_str());
                let labels = predictor.as_ref().map(|predictor| predictor.labels.as_slice());
                json!({"teaches": false, "backbone": network, "training": {"state": "idle"}, "run": {"labels": labels}})
            }
        };
        json(StatusCode::OK, &state)
    }

    fn metrics(&self) -> String {
        let taken = |all: usize, semaphore: &Semaphore| all - semaphore.available_permits().min(all);
        let Limits { queue, connections, .. } = self.limits;
        self.metrics.text(&[
            (
                "firstsight_queue",
                "Requests for predictions, or of the page that teaches, that are being answered.",
                taken(queue, &self.queue),
            ),
            ("firstsight_queue_limit", "Requests that may be.", queue),
            ("firstsight_connections", "Open connections.", taken(connections, &self.connections)),
        ])
    }
}
