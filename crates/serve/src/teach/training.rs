//! Training in the background, and what a run is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use firstsight_data::{DatasetFolder, OnError};
use firstsight_transfer::{
    COVERAGE, Classifier, Event, FineTuneResult, FineTuning, InterruptFlag, PredictOptions, Preset,
    Pretrained, RunFolder, Runtime, SplitConfig, Splits,
};
use serde::Serialize;
use serde_json::Value;

use super::session::Session;
use crate::current::Current;

/// Why a training or opening a run failed.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Photos that are listed as suspicious, at most.
const SUSPICIOUS: usize = 24;

/// Where a training is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(crate) enum Training {
    /// None was asked for.
    Idle,
    Running {
        /// What it does, in words.
        task: String,
        done: usize,
        total: usize,
    },
    Failed {
        reason: String,
    },
    Done {
        seconds: f64,
    },
}

/// What the page shows of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunSummary {
    /// Its folder's name.
    name: String,
    labels: Vec<String>,
    /// Of the images that it was not trained on: accuracy, its 95 % interval, their number, and confusions (true class, said class).
    accuracy: Value,
    accuracy_interval: Value,
    n: Value,
    confusion: Value,
    /// Whether probabilities are calibrated by a temperature.
    calibrated: bool,
    /// The share of images of the classes that is accepted, where it may say 'none of these'.
    coverage: Option<f64>,
    /// Photos that look like another class's, the most suspicious first.
    suspicious: Vec<Suspicious>,
    #[serde(skip)]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Suspicious {
    class: String,
    photo: String,
    /// The class that it is taken for.
    taken_for: String,
    /// The probability of its own class.
    probability: f32,
}

/// What is trained on what, and how far it is.
#[derive(Debug)]
pub(crate) struct Trainer {
    pub(crate) session: Arc<Session>,
    pub(crate) pretrained: Pretrained,
    pub(crate) runtime: Runtime,
    pub(crate) seed: u32,
    pub(crate) current: Arc<Current>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    training: Training,
    run: Option<RunSummary>,
    /// Of the training that runs.
    interrupt: InterruptFlag,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Trainer {
    pub(crate) fn new(
        session: Arc<Session>,
        pretrained: Pretrained,
        runtime: Runtime,
        seed: u32,
        current: Arc<Current>,
    ) -> Arc<Self> {
        let state =
            State { training: Training::Idle, run: None, interrupt: InterruptFlag::default(), thread: None };
        Arc::new(Self { session, pretrained, runtime, seed, current, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> (Training, Option<RunSummary>) {
        let state = self.state();
        (state.training.clone(), state.run.clone())
    }

    /// Answers with a run from now on.
    pub(crate) fn open(&self, run: &RunFolder) -> Result<(), Failed> {
        self.answer_with(run, Vec::new())
    }

    fn answer_with(&self, run: &RunFolder, suspicious: Vec<Suspicious>) -> Result<(), Failed> {
        let classifier = Classifier::open(run.path(), &self.runtime.device)?;
        let reject = classifier.reject.as_ref().map(|reject| reject.thresholds(COVERAGE)).transpose()?;
        let figures = std::fs::read_to_string(run.metrics()).unwrap_or_default();
        let figures: Value = serde_json::from_str(&figures).unwrap_or_default();
        let val = |name: &str| figures["val"][name].clone();
        let summary = RunSummary {
            name: run.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            labels: classifier.label_names.clone(),
            accuracy: val("accuracy"),
            accuracy_interval: val("accuracy_interval"),
            n: val("n"),
            confusion: val("confusion"),
            calibrated: classifier.temperature.is_some(),
            coverage: reject.map(|thresholds| thresholds.coverage),
            suspicious,
            path: run.path().to_path_buf(),
        };
        let options = PredictOptions { top: classifier.label_names.len(), reject };
        self.current.put(classifier, options)?;
        self.state().run = Some(summary);
        Ok(())
    }

    /// Starts a training, unless one runs. Returns whether it did.
    pub(crate) fn start(self: &Arc<Self>, preset: Preset) -> bool {
        let mut state = self.state();
        if matches!(state.training, Training::Running { .. }) {
            return false;
        }
        state.training = Training::Running { task: "photos".to_owned(), done: 0, total: 0 };
        state.interrupt = InterruptFlag::default();
        let (trainer, interrupt) = (self.clone(), state.interrupt.clone());
        let work = move || {
            let started = Instant::now();
            let ended = match trainer.train(preset, interrupt) {
                Ok(()) => Training::Done { seconds: started.elapsed().as_secs_f64() },
                Err(error) => Training::Failed { reason: trainer.session.without_paths(&error.to_string()) },
            };
            trainer.state().training = ended;
        };
        match std::thread::Builder::new().name("training".to_owned()).spawn(work) {
            Ok(thread) => state.thread = Some(thread),
            Err(error) => state.training = Training::Failed { reason: error.to_string() },
        }
        true
    }

    /// Asks the training to stop. The last layer is trained to its end; of the blocks, the best epoch so far is kept.
    pub(crate) fn stop(&self) {
        self.state().interrupt.raise();
    }

    /// Stops the training and waits for its end.
    pub(crate) fn end(&self) {
        self.stop();
        let thread = self.state().thread.take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn train(self: &Arc<Self>, preset: Preset, interrupt: InterruptFlag) -> Result<(), Failed> {
        let shown = self.clone();
        let runtime = self.runtime.clone().interrupt(interrupt).progress(move |event| shown.show(event));
        let photos = self.session.photos();
        let dataset = DatasetFolder::scan(photos)?;
        let splits = Splits::new(photos, dataset, SplitConfig::stratified(self.seed), &runtime)?;
        let run = RunFolder::create(&self.session.next_run(), false)?;
        let settings = FineTuning {
            on_error: OnError::Skip,
            out_of_fold: true,
            ..FineTuning::preset(preset, self.seed.into())
        };
        let result = settings
            .fit_in(&run, false, &self.pretrained, &splits, &runtime)
            .and_then(|result| result.save_to(&run).map(|()| result))
            .inspect_err(|_| run.remove_if_empty())?;
        self.answer_with(&run, self.suspicious(&result))
    }

    fn show(&self, event: &Event<'_>) {
        let (task, done, total) = match *event {
            Event::Count { task, done, total } => (task.to_owned(), done, total),
            Event::BatchEnd { task, epoch, epochs, batch, n_batches, .. } => {
                let task = format!("{task}, epoch {epoch} of {epochs}");
                (task, (epoch - 1) * n_batches + batch, epochs * n_batches)
            }
            _ => return,
        };
        self.state().training = Training::Running { task, done, total };
    }

    /// Photos that are taken for another class by a network that was not trained on them, those of which it is surest first: training
    /// photos by the cross-validation of the last layer, since a network learns what it is told of them.
    fn suspicious(&self, result: &FineTuneResult) -> Vec<Suspicious> {
        let mut found = Vec::new();
        let val = (&result.val.images, &result.val.predictions);
        let train = result.out_of_fold.as_ref().map(|(images, said)| (images, said));
        for (images, said) in std::iter::once(val).chain(train) {
            let (classes, calibrated) = (images.classes(), said.calibrated(result.val.temperature));
            for i in 0..said.len() {
                let label = said.labels[i] as usize;
                let Some((best, _)) = said.ranked(i, 1).first().copied() else { continue };
                let path = images.path(i);
                let photo = path.as_ref().and_then(|path| {
                    let inner = path.strip_prefix(self.session.photos().join(&classes[label])).ok()?;
                    Some(inner.to_string_lossy().replace('\\', "/"))
                });
                if let Some(photo) = photo.filter(|_| best != label) {
                    found.push(Suspicious {
                        class: classes[label].clone(),
                        photo,
                        taken_for: classes[best].clone(),
                        probability: calibrated.row(i)[label],
                    });
                }
            }
        }
        found.sort_by(|a, b| a.probability.total_cmp(&b.probability));
        found.truncate(SUSPICIOUS);
        found
    }
}
