//! The thread that owns the network and answers requests in batches.

use std::sync::Arc;

use firstsight_transfer::{
    AnswerJson, Classifier, DecodedFile, PredictOptions, Result, Target, TaskAnswerJson,
};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;

/// A request's images.
struct Job {
    images: Vec<DecodedFile>,
    top: usize,
    /// Gets a row of JSON for each image; `None` where the network failed.
    answer: oneshot::Sender<Option<Vec<String>>>,
}

/// Sends images to the thread that owns the network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    jobs: mpsc::UnboundedSender<Job>,
}

impl Network {
    /// Starts the thread, which ends when all senders are gone. It takes the requests that are waiting, up to `batch` images, and
    /// never waits for more.
    pub(crate) fn start(
        classifier: Classifier,
        options: PredictOptions,
        batch: usize,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (jobs, waiting) = mpsc::unbounded_channel();
        let worker = Worker { classifier, options, batch, metrics };
        let thread =
            std::thread::Builder::new().name("network".to_owned()).spawn(move || worker.run(waiting))?;
        Ok((Self { jobs }, thread))
    }

    /// A row of JSON for each image, of the best `top` classes. `None` where the network failed, which is logged.
    pub(crate) async fn rows(&self, images: Vec<DecodedFile>, top: usize) -> Option<Vec<String>> {
        let (answer, rows) = oneshot::channel();
        self.jobs.send(Job { images, top, answer }).ok()?;
        rows.await.ok()?
    }
}

struct Worker {
    classifier: Classifier,
    options: PredictOptions,
    batch: usize,
    metrics: Arc<Metrics>,
}

impl Worker {
    fn run(self, mut waiting: mpsc::UnboundedReceiver<Job>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut n = first.images.len();
            let mut jobs = vec![first];
            while n < self.batch {
                let Ok(job) = waiting.try_recv() else { break };
                n += job.images.len();
                jobs.push(job);
            }
            // Those who ask have left some.
            jobs.retain(|job| !job.answer.is_closed());
            self.answer(jobs);
        }
    }

    fn answer(&self, mut jobs: Vec<Job>) {
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

fn text(row: &impl serde::Serialize) -> String {
    serde_json::to_string(row).unwrap_or_default()
}
