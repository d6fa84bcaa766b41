//! Teaching: what the page asks for.

mod session;
mod training;

use std::io::{Cursor, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use candle_core::Device;
use firstsight_data::{DecodeSettings, Interpolation, Reading, ResizeMode};
use firstsight_export::{Onnx, OnnxInput, OnnxOutput, OnnxSettings};
use firstsight_report::Image;
use firstsight_transfer::{Preset, Pretrained, RunFolder, Runtime};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use self::session::Refused;
pub use self::session::{Class, Session, safe_name};
use self::training::{RunSummary, Trainer, Training};
use crate::Limits;
use crate::current::Current;
use crate::decoding::Decoding;
use crate::predict::none_readable;
use crate::reply::{Refusal, Reply, document, json as json_reply};
use crate::request::{body, decoded, query};

/// Height and width of a thumbnail.
const THUMBNAIL: usize = 160;
/// Least photos of a class: one to learn from, and one to measure with.
const LEAST: usize = 2;
/// Most bytes of a request that brings no photo.
const SMALL: usize = 10_000;

/// What a page teaches, and where it is kept.
#[derive(Debug)]
pub struct Teaching {
    /// The folder of photos and runs.
    pub session: Session,
    /// The network that is fine-tuned.
    pub pretrained: Pretrained,
    /// The device and the cache of features.
    pub runtime: Runtime,
    /// Seed of the training and of the validation images.
    pub seed: u32,
    /// The run that answers until the first training; the session's last one if there is none.
    pub run: Option<RunFolder>,
}

/// Answers the requests of a page that teaches.
#[derive(Debug)]
pub(crate) struct Teach {
    session: Arc<Session>,
    trainer: Arc<Trainer>,
    thumbnails: Decoding,
}

/// A request with a name.
#[derive(Deserialize)]
struct Named {
    name: String,
}

/// A request for a training.
#[derive(Deserialize)]
struct Asked {
    preset: String,
}

impl Teach {
    /// Answers with the run that is to, or the session's last one, if there is one.
    pub(crate) fn new(teaching: Teaching, current: Arc<Current>, limits: &Limits) -> Self {
        let Teaching { session, pretrained, runtime, seed, run } = teaching;
        let session = Arc::new(session);
        let trainer = Trainer::new(session.clone(), pretrained, runtime, seed, current);
        if let Some(run) = run.or_else(|| session.last_run())
            && let Err(error) = trainer.open(&run)
        {
            tracing::warn!("{} does not answer: {error}", run.path().display());
        }
        let settings = DecodeSettings {
            interpolation: Interpolation::Bilinear,
            resize_mode: ResizeMode::CenterCrop,
            reading: Reading::viewer(),
            ..DecodeSettings::rgb(THUMBNAIL, THUMBNAIL)
        };
        Self { session, trainer, thumbnails: Decoding::new(settings, limits.decoding_memory) }
    }

    /// The network's name, how far a training is, and the run that answers.
    pub(crate) fn state(&self) -> (&'static str, Training, Option<RunSummary>) {
        let (training, run) = self.trainer.now();
        (self.trainer.pretrained.model.name, training, run)
    }

    /// Stops a training and waits for its end.
    pub(crate) fn end(&self) {
        self.trainer.end();
    }

    /// Answers a request below `/api/`. `None` where there is no such path.
    pub(crate) async fn answer(
        &self,
        parts: &Parts,
        incoming: &mut Incoming,
        limits: &Limits,
        deadline: Instant,
    ) -> Option<Result<Reply, Refusal>> {
        let path: Vec<String> = parts.uri.path().split('/').skip(2).map(decoded).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let method = &parts.method;
        let reply = match *path {
            ["classes"] => match *method {
                Method::GET => {
                    Ok(json_reply(StatusCode::OK, &self.blocking(|s| Ok(s.classes())).await.ok()?))
                }
                Method::POST => {
                    self.named(incoming, deadline, |session, name| session.add_class(&name)).await
                }
                _ => Err(Refusal::method("GET, POST", method)),
            },
            ["classes", class] => {
                let class = class.to_owned();
                match *method {
                    Method::PATCH => {
                        let rename =
                            move |session: &Session, name: String| session.rename_class(&class, &name);
                        self.named(incoming, deadline, rename).await
                    }
                    Method::DELETE => done(self.blocking(move |s| s.remove_class(&class)).await),
                    _ => Err(Refusal::method("PATCH, DELETE", method)),
                }
            }
            ["classes", class, "photos"] => match *method {
                Method::POST => self.add_photo(class, parts, incoming, limits, deadline).await,
                _ => Err(Refusal::method("POST", method)),
            },
            ["classes", class, "photos", photo] => {
                let (class, photo) = (class.to_owned(), photo.to_owned());
                match *method {
                    Method::GET => self.thumbnail(class, photo).await,
                    Method::DELETE => done(self.blocking(move |s| s.remove_photo(&class, &photo)).await),
                    _ => Err(Refusal::method("GET, DELETE", method)),
                }
            }
            ["train"] if method == Method::POST => self.train(incoming, deadline).await,
            ["stop"] if method == Method::POST => {
                self.trainer.stop();
                Ok(json_reply(StatusCode::OK, &json!({})))
            }
            ["train" | "stop"] => Err(Refusal::method("POST", method)),
            ["run.zip" | "run.onnx" | "report.html"] if method != Method::GET => {
                Err(Refusal::method("GET", method))
            }
            ["run.zip"] => self.export(zipped).await,
            ["run.onnx"] => self.export(onnx).await,
            ["report.html"] => {
                self.export(|run| Ok(("text/html; charset=utf-8", std::fs::read(run.report())?))).await
            }
            _ => return None,
        };
        Some(reply)
    }

    /// Does work with files beside the answers.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refusal> {
        let session = self.session.clone();
        let done = tokio::task::spawn_blocking(move || work(&session)).await;
        done.map_err(|_| Refused::Io(std::io::ErrorKind::Other)).and_then(|done| done).map_err(refusal)
    }

    async fn named(
        &self,
        incoming: &mut Incoming,
        deadline: Instant,
        work: impl FnOnce(&Session, String) -> Result<String, Refused> + Send + 'static,
    ) -> Result<Reply, Refusal> {
        let Named { name } = document_of(&body(incoming, SMALL, deadline).await?, r#"{"name": "ants"}"#)?;
        let name = self.blocking(move |session| work(session, name)).await?;
        Ok(json_reply(StatusCode::OK, &json!({ "name": name })))
    }

    async fn add_photo(
        &self,
        class: &str,
        parts: &Parts,
        incoming: &mut Incoming,
        limits: &Limits,
        deadline: Instant,
    ) -> Result<Reply, Refusal> {
        let name = query(parts, "name").unwrap_or_else(|| "photo".to_owned());
        let bytes = body(incoming, limits.body, deadline).await?;
        let decoded = self.thumbnails.decode(vec![(name.clone(), bytes.clone())]).await;
        if decoded.iter().all(|(_, image)| image.is_err()) {
            return Err(none_readable(&decoded));
        }
        let class = class.to_owned();
        let photo = self.blocking(move |session| session.add_photo(&class, &name, &bytes)).await?;
        Ok(json_reply(StatusCode::OK, &json!({ "photo": photo })))
    }

    async fn thumbnail(&self, class: String, photo: String) -> Result<Reply, Refusal> {
        let name = photo.clone();
        let bytes = self
            .blocking(move |session| {
                let path = session.photo(&class, &photo)?;
                Ok(Bytes::from(std::fs::read(path)?))
            })
            .await?;
        let decoded = self.thumbnails.decode(vec![(name, bytes)]).await;
        let png = decoded.iter().find_map(|(_, image)| {
            Image::from_pixels(THUMBNAIL, THUMBNAIL, 3, &image.as_ref().ok()?.pixels).ok()
        });
        let png = png.ok_or_else(|| none_readable(&decoded))?;
        let mut reply = document(StatusCode::OK, "image/png", png.png().to_vec());
        reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=600"));
        Ok(reply)
    }

    async fn train(&self, incoming: &mut Incoming, deadline: Instant) -> Result<Reply, Refusal> {
        let expected = r#"{"preset": "quick"}"#;
        let Asked { preset } = document_of(&body(incoming, SMALL, deadline).await?, expected)?;
        let unknown = |found| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "there is no such preset",
                "quick, standard or thorough",
                found,
            )
        };
        let preset: Preset = preset.parse().map_err(unknown)?;
        let classes = self.blocking(|session| Ok(session.classes())).await?;
        let few: Vec<String> = classes
            .iter()
            .filter(|class| class.photos.len() < LEAST)
            .map(|class| format!("{} of {}", class.photos.len(), class.name))
            .collect();
        if classes.len() < 2 || !few.is_empty() {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                "there are too few photos",
                format!("two classes or more, each with {LEAST} photos or more"),
                if classes.len() < 2 { format!("{} classes", classes.len()) } else { few.join(", ") },
            ));
        }
        match self.trainer.start(preset) {
            true => Ok(json_reply(StatusCode::ACCEPTED, &json!({}))),
            false => Err(Refusal::new(StatusCode::CONFLICT, "a training runs already", "none", "one")),
        }
    }

    async fn export(
        &self,
        write: impl FnOnce(&RunFolder) -> Result<(&'static str, Vec<u8>), Refused> + Send + 'static,
    ) -> Result<Reply, Refusal> {
        let (_, run) = self.trainer.now();
        let none = || Refusal::new(StatusCode::NOT_FOUND, "there is no run yet", "a training first", "none");
        let path = run.ok_or_else(none)?.path;
        let read = self.blocking(move |_| {
            let run = RunFolder::open(&path).map_err(|_| Refused::Unknown("run"))?;
            write(&run)
        });
        let (kind, bytes) = read.await?;
        Ok(document(StatusCode::OK, kind, bytes))
    }
}

fn done(result: Result<(), Refusal>) -> Result<Reply, Refusal> {
    result.map(|()| json_reply(StatusCode::OK, &json!({})))
}

fn document_of<T: serde::de::DeserializeOwned>(body: &[u8], expected: &str) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, "the document cannot be read", expected, error.to_string())
    })
}

fn refusal(refused: Refused) -> Refusal {
    let (status, expected) = match refused {
        Refused::Unknown(_) => (StatusCode::NOT_FOUND, "a name of GET /api/classes"),
        Refused::Taken => (StatusCode::CONFLICT, "another name"),
        Refused::Name => (StatusCode::BAD_REQUEST, "a name of letters and digits"),
        Refused::Onnx(_) => (StatusCode::UNPROCESSABLE_ENTITY, "a network of layers that ONNX has"),
        Refused::Io(_) => (StatusCode::INSUFFICIENT_STORAGE, "a folder that can be written"),
    };
    Refusal::new(status, "that cannot be done", expected, refused.to_string())
}

/// A run folder without its checkpoint as a zip file, each file as it is.
fn zipped(run: &RunFolder) -> Result<(&'static str, Vec<u8>), Refused> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    let folder = run.path().file_name().map_or_else(|| Path::new("run"), Path::new);
    let mut files: Vec<_> = std::fs::read_dir(run.path())?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    for file in files {
        let name = folder.join(file.file_name().unwrap_or_default());
        zip.start_file(name.to_string_lossy().replace('\\', "/"), stored).map_err(std::io::Error::other)?;
        zip.write_all(&std::fs::read(&file)?)?;
    }
    Ok(("application/zip", zip.finish().map_err(std::io::Error::other)?.into_inner()))
}

/// A run's network as an ONNX file of photos' bytes, which gives the run's answers.
fn onnx(run: &RunFolder) -> Result<(&'static str, Vec<u8>), Refused> {
    let settings = OnnxSettings { input: OnnxInput::BytesLast, output: OnnxOutput::Answers, license: None };
    let (network, config) = run.load(&Device::Cpu).map_err(|_| Refused::Unknown("run"))?;
    match Onnx::new(&network, &config, &settings) {
        Ok(onnx) => Ok(("application/octet-stream", onnx.to_bytes())),
        Err(error) => Err(Refused::Onnx(error.to_string())),
    }
}
