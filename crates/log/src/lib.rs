#![doc = include_str!("../README.md")]

mod error;
mod events;
mod mlflow;
mod target;
mod tensorboard;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use firstsight_train::{Callback, Epoch, EpochEnd, Metrics, StopReason, TrainBegin};
use firstsight_transfer::{RunFolder, Runtime, Split};
use serde_json::Value;

pub use self::error::{Error, Result};
use self::mlflow::Mlflow;
pub use self::mlflow::{Credentials, MlflowServer};
pub use self::target::LogTarget;
use self::tensorboard::TensorBoard;

/// How long a place that failed is left alone while the training goes on.
const PAUSE: Duration = Duration::from_secs(30);

/// A number of a training.
#[derive(Debug, Clone, PartialEq)]
struct Point {
    split: Split,
    /// `loss`, a metric's name, `learning_rate`, or `final_` and a figure of the run.
    name: String,
    /// The number of finished epochs.
    step: i64,
    value: f64,
}

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All was done.
    Finished,
    /// An error ended it.
    Failed,
    /// The user stopped it, or a search pruned it.
    Interrupted,
}

/// What a training is logged as.
struct Place {
    /// The folder of event files, and of what is known of a server's run.
    folder: PathBuf,
    /// What a server's run is called.
    name: String,
    /// Whether an earlier part of the training may be logged already.
    resume: bool,
}

/// A place that trainings are logged to.
trait Sink {
    /// The place, for messages.
    fn name(&self) -> String;

    /// Finds what an earlier part of the training has left, or begins anew. `epochs` are finished.
    fn begin(&mut self, place: &Place, settings: &[(String, String)], epochs: usize) -> Result<()>;

    /// Adds points, but for those that are there already.
    fn write(&mut self, points: &[Point]) -> Result<()>;

    /// Says how the training ended. Returns what should be known of it.
    fn end(&mut self, ending: Ending, run: &RunFolder) -> Result<Option<String>>;
}

/// A sink, and what it has.
struct Target {
    sink: Box<dyn Sink>,
    has_begun: bool,
    /// The number of points that it has.
    written: usize,
    failed: Option<Instant>,
    has_warned: bool,
}

/// An observer of a training that logs it. It never ends a training: a place that fails is warned of once, and gets what it missed
/// when it is back.
pub struct TrainingLog<'a> {
    place: Place,
    targets: Vec<Target>,
    settings: Vec<(String, String)>,
    points: Vec<Point>,
    epochs: usize,
    run: &'a RunFolder,
    runtime: &'a Runtime,
}

impl<'a> TrainingLog<'a> {
    /// A log of the training in a run folder. With `resume` it goes on where the folder's earlier training is logged. `settings` are
    /// names and values of what was chosen. Nothing is written before the training begins or [ends](Self::end).
    pub fn new(
        targets: &[LogTarget],
        (run, resume): (&'a RunFolder, bool),
        settings: Vec<(String, String)>,
        runtime: &'a Runtime,
    ) -> Self {
        let sink = |target: &LogTarget| -> Box<dyn Sink> {
            match target {
                LogTarget::TensorBoard => Box::new(TensorBoard::default()),
                LogTarget::Mlflow(server) => Box::new(Mlflow::new(server)),
            }
        };
        let target = |sink| Target { sink, has_begun: false, written: 0, failed: None, has_warned: false };
        // One process of several logs.
        let targets = if runtime.is_root() { targets } else { &[] };
        let targets = targets.iter().map(sink).map(target).collect();
        let folder = run.path().to_path_buf();
        let path = std::path::absolute(&folder).unwrap_or_else(|_| folder.clone());
        let name = path.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned());
        let place = Place { folder, name, resume };
        Self { place, targets, settings, points: Vec::new(), epochs: 0, run, runtime }
    }

    /// Logs in another folder than the run's, under another name than that folder's.
    pub fn place(mut self, folder: PathBuf, name: impl Into<String>) -> Self {
        self.place = Place { folder, name: name.into(), ..self.place };
        self
    }

    /// Adds a figure of the finished training beside those of its `metrics.json`.
    pub fn figure(&mut self, split: Split, name: &str, value: f64) {
        let (name, step) = (format!("final_{name}"), self.epochs as i64);
        self.points.push(Point { split, name, step, value });
    }

    /// Logs the figures of `metrics.json` where the training is finished, and how it ended.
    pub fn end(mut self, ending: Ending) {
        if ending == Ending::Finished
            && let Ok(metrics) = self.run.read_metrics()
        {
            for split in [Split::Train, Split::Val, Split::Test] {
                let figures = metrics.get(split.name()).and_then(Value::as_object).into_iter().flatten();
                for (name, value) in figures.filter_map(|(name, value)| Some((name, value.as_f64()?))) {
                    self.figure(split, name, value);
                }
            }
        }
        // A training that failed before it began is not logged.
        if self.targets.iter().all(|target| !target.has_begun) && ending != Ending::Finished {
            return;
        }
        for target in &mut self.targets {
            target.failed = None;
        }
        self.write();
        for target in self.targets.iter_mut().filter(|target| target.has_begun) {
            match target.sink.end(ending, self.run) {
                Ok(said) => said.iter().for_each(|text| self.runtime.message(text)),
                Err(error) => self.runtime.message(&format!("{}: {error}", target.sink.name())),
            }
        }
    }

    /// Adds the points of an epoch, from 1.
    fn add(&mut self, epoch: &Epoch) {
        self.epochs += 1;
        let step = self.epochs as i64;
        let sides = [(Split::Train, Some(&epoch.train)), (Split::Val, epoch.val.as_ref())];
        for (split, metrics) in sides {
            let Some(Metrics { loss, values, .. }) = metrics else { continue };
            let all = std::iter::once(("loss".to_owned(), *loss)).chain(values.iter().cloned());
            self.points.extend(all.map(|(name, value)| Point { split, name, step, value }));
        }
    }

    /// Writes what each place lacks.
    fn write(&mut self) {
        for target in &mut self.targets {
            if target.failed.is_some_and(|failed| failed.elapsed() < PAUSE) {
                continue;
            }
            let written = match target.has_begun {
                true => Ok(()),
                false => target.sink.begin(&self.place, &self.settings, self.epochs),
            };
            target.has_begun |= written.is_ok();
            let written = written.and_then(|()| target.sink.write(&self.points[target.written..]));
            match written {
                Ok(()) => (target.written, target.failed) = (self.points.len(), None),
                Err(error) => {
                    target.failed = Some(Instant::now());
                    if !std::mem::replace(&mut target.has_warned, true) {
                        let name = target.sink.name();
                        self.runtime.message(&format!("the training goes on without {name}: {error}"));
                    }
                }
            }
        }
    }
}

impl Callback for TrainingLog<'_> {
    fn on_train_begin(
        &mut self,
        begin: &TrainBegin<'_>,
    ) -> firstsight_train::Result<ControlFlow<StopReason>> {
        let config = begin.config;
        let more = [
            ("max_epochs", config.epochs.to_string()),
            ("optimizer", format!("{:?}", config.optimizer)),
            ("schedule", format!("{:?}", config.schedule)),
            ("loss", format!("{:?}", config.loss)),
        ];
        self.settings.extend(more.map(|(name, value)| (name.to_owned(), value)));
        begin.history.iter().for_each(|epoch| self.add(epoch));
        self.write();
        Ok(ControlFlow::Continue(()))
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        if let Some(epoch) = end.history.last() {
            self.add(epoch);
            let (name, step) = ("learning_rate".to_owned(), self.epochs as i64);
            self.points.push(Point { split: Split::Train, name, step, value: end.lr });
        }
        self.write();
        Ok(ControlFlow::Continue(()))
    }
}
