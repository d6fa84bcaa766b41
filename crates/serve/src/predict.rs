//! `POST /predict`.

use bytes::Bytes;
use firstsight_data::{DecodeSettings, Error};
use firstsight_transfer::DecodedFile;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{StatusCode, header};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::batches::Network;
use crate::decoding::Decoding;
use crate::metrics::Metrics;
use crate::multipart;
use crate::reply::{Refusal, Reply, document, json};
use crate::request::{body, header, query};
use crate::{Limits, multipart::Part};

/// Answers requests for predictions.
#[derive(Debug)]
pub(crate) struct Predictor {
    pub(crate) decoding: Decoding,
    pub(crate) network: Network,
    /// Number of classes in an answer that states none.
    pub(crate) top: usize,
    /// The network's name.
    pub(crate) name: String,
    pub(crate) task: String,
    /// The names of its outputs.
    pub(crate) labels: Vec<String>,
}

/// How a body holds images.
enum Kind {
    /// It is one.
    Image,
    /// A form of files, with this boundary.
    Form(String),
}

impl Predictor {
    pub(crate) async fn answer(
        &self,
        parts: &Parts,
        incoming: &mut Incoming,
        (limits, queue, metrics): (&Limits, &Semaphore, &Metrics),
        deadline: Instant,
    ) -> Result<Reply, Refusal> {
        let top = top(parts.uri.query())?.unwrap_or(self.top);
        let kind = kind(header(parts, header::CONTENT_TYPE))?;
        let _turn = queue.try_acquire().map_err(|_| full(limits))?;
        let images = images(&body(incoming, limits.body, deadline).await?, &kind, limits)?;
        timeout_at(deadline, self.rows(images, top, metrics)).await.map_err(|_| late(limits))?
    }

    /// Grad-CAM's map of an image for the class that the query names by its place.
    pub(crate) async fn evidence(
        &self,
        parts: &Parts,
        incoming: &mut Incoming,
        (limits, queue, _): (&Limits, &Semaphore, &Metrics),
        deadline: Instant,
    ) -> Result<Reply, Refusal> {
        let n = self.labels.len();
        let class = query(parts, "class").and_then(|class| class.parse().ok()).filter(|class| *class < n);
        let class = class.ok_or_else(|| {
            let expected = format!("class=0 to class={}", n.saturating_sub(1));
            Refusal::new(StatusCode::BAD_REQUEST, "unknown query", expected, parts.uri.query().unwrap_or(""))
        })?;
        let _turn = queue.try_acquire().map_err(|_| full(limits))?;
        let bytes = body(incoming, limits.body, deadline).await?;
        let map = async {
            let mut decoded = self.decoding.decode(vec![("image".to_owned(), bytes)]).await;
            match decoded.pop() {
                Some((_, Ok(image))) => Ok(self.network.evidence(image, class).await),
                other => Err(none_readable(&Vec::from_iter(other))),
            }
        };
        let map = timeout_at(deadline, map).await.map_err(|_| late(limits))??;
        // What the part of the image that the network saw follows from.
        let DecodeSettings { height, width, resize_mode, crop_pct, .. } = self.decoding.settings();
        let found = map.map(|map| {
            serde_json::json!({
                "map": map, "size": [height, width], "crop_mode": resize_mode, "crop_pct": crop_pct,
            })
        });
        Ok(json(StatusCode::OK, &found))
    }

    async fn rows(
        &self,
        images: Vec<(String, Bytes)>,
        top: usize,
        metrics: &Metrics,
    ) -> Result<Reply, Refusal> {
        let decoded = self.decoding.decode(images).await;
        let unreadable = decoded.iter().filter(|(_, image)| image.is_err()).count();
        metrics.images(decoded.len(), unreadable);
        if unreadable == decoded.len() {
            return Err(none_readable(&decoded));
        }
        match self.network.rows(decoded, top).await {
            Some(rows) => Ok(document(StatusCode::OK, "application/json", format!("[{}]\n", rows.join(",")))),
            None => Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the network failed",
                "numbers",
                "what the log says",
            )),
        }
    }
}

fn full(limits: &Limits) -> Refusal {
    let expected = format!("at most {} requests at a time", limits.queue);
    Refusal::busy("the queue is full", expected, "one more")
}

pub(crate) fn late(limits: &Limits) -> Refusal {
    let expected = format!("an answer within {} seconds", limits.time.as_secs_f64());
    Refusal::busy("the request took too long", expected, "a service with more to do")
}

/// The refusal of a request whose images are all unreadable.
pub(crate) fn none_readable(decoded: &[DecodedFile]) -> Refusal {
    let errors: Vec<&Error> = decoded.iter().filter_map(|(_, image)| image.as_ref().err()).collect();
    let is_large =
        |error: &&Error| matches!(error, Error::TooManyPixels { .. } | Error::DecodingMemory { .. });
    let status = match errors.iter().all(is_large) {
        true => StatusCode::PAYLOAD_TOO_LARGE,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let said: Vec<String> = errors.iter().take(3).map(ToString::to_string).collect();
    Refusal::new(status, "no image could be read", "JPEG, PNG, WebP, TIFF, BMP, GIF or PNM", said.join("; "))
}

fn top(query: Option<&str>) -> Result<Option<usize>, Refusal> {
    let pairs = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    let mut top = None;
    for pair in pairs {
        let value = pair.strip_prefix("top=").and_then(|value| value.parse().ok()).filter(|top| *top > 0);
        let refused = || {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "unknown query",
                "top=K, a number of classes of at least 1",
                pair,
            )
        };
        top = Some(value.ok_or_else(refused)?);
    }
    Ok(top)
}

fn kind(content_type: &str) -> Result<Kind, Refusal> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "multipart/form-data" => match multipart::boundary(content_type) {
            Ok(boundary) => Ok(Kind::Form(boundary.to_owned())),
            Err(found) => Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "the form cannot be read",
                "a boundary of 1 to 70 characters in Content-Type",
                found,
            )),
        },
        "" | "application/octet-stream" => Ok(Kind::Image),
        _ if essence.starts_with("image/") => Ok(Kind::Image),
        _ => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type is no image's",
            "image/*, application/octet-stream or multipart/form-data",
            essence,
        )),
    }
}

/// The images of a body, with their names.
fn images(body: &Bytes, kind: &Kind, limits: &Limits) -> Result<Vec<(String, Bytes)>, Refusal> {
    let form = |found: String| {
        Refusal::new(StatusCode::BAD_REQUEST, "the form cannot be read", "parts between boundaries", found)
    };
    let images = match kind {
        Kind::Image if body.is_empty() => Vec::new(),
        Kind::Image => vec![("image".to_owned(), body.clone())],
        Kind::Form(boundary) => {
            let of_part = |Part { name, content }: Part<'_>| (name, body.slice_ref(content));
            multipart::parts(body, boundary).map_err(form)?.into_iter().map(of_part).collect()
        }
    };
    match images.len() {
        0 => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "the request holds no image",
            "the bytes of an image, or a form of several",
            format!("{} bytes", body.len()),
        )),
        n if n > limits.images => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request holds too many images",
            format!("at most {}", limits.images),
            n.to_string(),
        )),
        _ => Ok(images),
    }
}
