//! The thread that owns the network and answers requests in batches.

use std::sync::Arc;

use firstsight_data::DecodedImage;
use firstsight_insight::{grad_cam, layer_for_evidence, layers};
use firstsight_transfer::{
    AnswerJson, Classifier, DecodedFile, PredictOptions, Result, Target, TaskAnswerJson,
};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;

/// What is asked of the network.
enum Job {
    Rows(Images),
    Evidence(Evidence),
}

/// An image of which the evidence for a class is asked for.
struct Evidence {
    image: DecodedImage,
    class: usize,
    /// Gets the map's rows.
    answer: oneshot::Sender<Option<Vec<Vec<f32>>>>,
}

/// A request's images.
struct Images {
    images: Vec<DecodedFile>,
    top: usize,
    /// Gets a row of JSON for each image; `None` where the network failed.
    answer: oneshot::Sender<Option<Vec<String>>>,
}

/// Sends images to the thread that owns the network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    jobs: mpsc::Sender<Job>,
}

impl Network {
    /// Starts the thread, which ends when all senders are gone. It takes the requests that are waiting, up to `batch` images, and
    /// never waits for more. At most `queue` of them wait for it, those whose senders have left among them.
    pub(crate) fn start(
        classifier: Classifier,
        options: PredictOptions,
        (batch, queue): (usize, usize),
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(queue);
        let worker = Worker { classifier, options, batch, metrics };
        std::thread::Builder::new().name("network".to_owned()).spawn(move || worker.run(waiting))?;
        Ok(Self { jobs })
    }

    /// A row of JSON for each image, of the best `top` classes. `None` where the network failed, which is logged.
    pub(crate) async fn rows(&self, images: Vec<DecodedFile>, top: usize) -> Option<Vec<String>> {
        let (answer, rows) = oneshot::channel();
        self.jobs.send(Job::Rows(Images { images, top, answer })).await.ok()?;
        rows.await.ok()?
    }

    /// Grad-CAM's map of the evidence for a class in an image, row by row, the largest value 1. `None` for a network without maps.
    pub(crate) async fn evidence(&self, image: DecodedImage, class: usize) -> Option<Vec<Vec<f32>>> {
        let (answer, map) = oneshot::channel();
        self.jobs.send(Job::Evidence(Evidence { image, class, answer })).await.ok()?;
        map.await.ok()?
    }
}

struct Worker {
    classifier: Classifier,
    options: PredictOptions,
    batch: usize,
    metrics: Arc<Metrics>,
}

impl Worker {
    fn run(self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(first) = waiting.blocking_recv() {
            let (mut jobs, mut n, mut next) = (Vec::new(), 0, Some(first));
            while let Some(job) = next {
                match job {
                    Job::Evidence(asked) => self.answer_evidence(asked),
                    Job::Rows(images) => {
                        n += images.images.len();
                        jobs.push(images);
                    }
                }
                next = if n < self.batch { waiting.try_recv().ok() } else { None };
            }
            // Nobody waits for the answers to some of them any more.
            jobs.retain(|job| !job.answer.is_closed());
            self.answer(jobs);
        }
    }

    fn answer_evidence(&self, Evidence { image, class, answer }: Evidence) {
        if answer.is_closed() {
            return;
        }
        let map = evidence(&self.classifier, &image, class);
        let _ = answer.send(map.inspect_err(|error| tracing::warn!("no evidence: {error}")).ok().flatten());
    }

    fn answer(&self, mut jobs: Vec<Images>) {
        let tops: Vec<usize> =
            jobs.iter().flat_map(|job| std::iter::repeat_n(job.top, job.images.len())).collect();
        let sizes: Vec<usize> = jobs.iter().map(|job| job.images.len()).collect();
        let images: Vec<DecodedFile> =
            jobs.iter_mut().flat_map(|job| std::mem::take(&mut job.images)).collect();
        let mut rows = match self.rows(images, &tops) {
            Ok(rows) => rows.into_iter(),
            Err(error) => {
                tracing::error!("no answer for {} images: {error}", tops.len());
                jobs.into_iter().for_each(|job| drop(job.answer.send(None)));
                return;
            }
        };
        for (job, n) in jobs.into_iter().zip(sizes) {
            // Who has left in the meantime gets nothing.
            let _ = job.answer.send(Some(rows.by_ref().take(n).collect()));
        }
    }

    /// The images' rows, a batch after the other.
    fn rows(&self, images: Vec<DecodedFile>, tops: &[usize]) -> Result<Vec<String>> {
        let mut rows = Vec::with_capacity(images.len());
        let mut images = images.into_iter();
        for tops in tops.chunks(self.batch) {
            let batch: Vec<DecodedFile> = images.by_ref().take(tops.len()).collect();
            self.metrics.batch(batch.iter().filter(|(_, image)| image.is_ok()).count());
            rows.extend(self.batch_rows(batch, tops)?);
        }
        Ok(rows)
    }

    fn batch_rows(&self, batch: Vec<DecodedFile>, tops: &[usize]) -> Result<Vec<String>> {
        if self.classifier.target != Target::Class {
            let rows = self.classifier.predict_decoded_task(batch)?;
            return Ok(rows.iter().map(|row| text(&TaskAnswerJson::from(row))).collect());
        }
        let top = tops.iter().copied().max().unwrap_or(self.options.top);
        let rows = self.classifier.predict_decoded(batch, &PredictOptions { top, ..self.options })?;
        let reject = self.options.reject.is_some();
        let json = |(row, &top)| text(&AnswerJson::new(row, &self.classifier, reject).top(top));
        Ok(rows.iter().zip(tops).map(json).collect())
    }
}

/// Grad-CAM at the layer that `visualize` and the lecture also use.
fn evidence(
    classifier: &Classifier,
    image: &DecodedImage,
    class: usize,
) -> Result<Option<Vec<Vec<f32>>>, firstsight_insight::Error> {
    let network = &classifier.network;
    let xs = classifier.tensor(image).map_err(candle_core::Error::wrap)?;
    let found = layers(network, &xs)?;
    let Some(layer) = layer_for_evidence(network, &found) else { return Ok(None) };
    let map: Vec<Vec<f32>> = grad_cam(network, &xs, &[class], &layer.name)?.get(0)?.to_vec2()?;
    let largest = map.iter().flatten().fold(f32::MIN_POSITIVE, |most, v| most.max(*v));
    Ok(Some(map.into_iter().map(|row| row.into_iter().map(|v| v / largest).collect()).collect()))
}

fn text(row: &impl serde::Serialize) -> String {
    serde_json::to_string(row).unwrap_or_default()
}
