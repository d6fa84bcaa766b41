//! Which path answers what.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::access::Access;
use crate::metrics::Metrics;
use crate::predict::Predictor;
use crate::reply::{Refusal, Reply, document, json};
use crate::request::discard;
use crate::{Limits, OPENAPI};

/// How long the rest of a refused body is read.
const DISCARDING: Duration = Duration::from_secs(2);

/// What a service is, in the answer of `GET /health`.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    pub(crate) status: &'static str,
    pub(crate) version: &'static str,
    /// The network's name.
    pub(crate) network: String,
    pub(crate) task: String,
    /// The names of its outputs.
    pub(crate) labels: Vec<String>,
}

/// Answers requests.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) queue: Semaphore,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) predictor: Predictor,
    pub(crate) health: Health,
}

impl Service {
    /// The answer to a request. On a connection more than there may be, it is 503.
    pub(crate) async fn respond(&self, request: Request<Incoming>, is_above: bool) -> Reply {
        let started = Instant::now();
        let (parts, mut incoming) = request.into_parts();
        let known = ["/predict", "/health", "/metrics", "/openapi.json"];
        let path = known.into_iter().find(|path| *path == parts.uri.path()).unwrap_or("other");
        let answered = match is_above {
            false => self.answer(path, &parts, &mut incoming, started + self.limits.time).await,
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
        self.metrics.request(path, reply.status().as_u16(), started.elapsed());
        reply
    }

    async fn answer(
        &self,
        path: &str,
        parts: &Parts,
        incoming: &mut Incoming,
        deadline: Instant,
    ) -> Result<Reply, Refusal> {
        self.access.check_site(&parts.uri, &parts.headers)?;
        if path != "/health" {
            self.access.check_token(&parts.headers)?;
        }
        match (path, &parts.method) {
            ("/predict", &Method::POST) => {
                let shared = (&self.limits, &self.queue, &*self.metrics);
                self.predictor.answer(parts, incoming, shared, deadline).await
            }
            ("/predict", method) => Err(Refusal::method("POST", method)),
            ("other", _) => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "there is no such path",
                "/predict, /health, /metrics or /openapi.json",
                parts.uri.path().chars().take(100).collect::<String>(),
            )),
            (path, &Method::GET | &Method::HEAD) => Ok(match path {
                "/health" => json(StatusCode::OK, &self.health),
                "/metrics" => document(StatusCode::OK, "text/plain; version=0.0.4", self.metrics()),
                _ => document(StatusCode::OK, "application/json", OPENAPI),
            }),
            (_, method) => Err(Refusal::method("GET, HEAD", method)),
        }
    }

    fn metrics(&self) -> String {
        let taken = |all: usize, semaphore: &Semaphore| all - semaphore.available_permits().min(all);
        let Limits { queue, connections, .. } = self.limits;
        self.metrics.text(&[
            (
                "firstsight_queue",
                "Requests for predictions that are being answered.",
                taken(queue, &self.queue),
            ),
            ("firstsight_queue_limit", "Requests that may be.", queue),
            ("firstsight_connections", "Open connections.", taken(connections, &self.connections)),
        ])
    }
}
