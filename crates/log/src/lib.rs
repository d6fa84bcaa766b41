#![doc = include_str!("../README.md")]

mod error;
mod events;
mod mlflow;
mod target;
mod tensorboard;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
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
    /// The user stopped it.
    Interrupted,
}

/// A place that trainings are logged to.
trait Sink {
    /// The place, for messages.
    fn name(&self) -> String;

    /// Finds what an earlier part of the training has left, or begins anew. `epochs` are finished.
    fn begin(&mut self, settings: &[(String, String)], epochs: usize) -> Result<()>;

    /// Adds points, but for those that are there already.
    fn write(&mut self, points: &[Point]) -> Result<()>;

    /// Says how the training ended. Returns what should be known of it.
    fn end(&mut self, ending: Ending, run: &RunFolder) -> Result<Option<String>>;
}

/// A sink, and what it has.
struct Place {
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
    places: Vec<Place>,
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
                LogTarget::TensorBoard => Box::new(TensorBoard::new(run, resume)),
                LogTarget::Mlflow(server) => Box::new(Mlflow::new(server, run, resume)),
            }
        };
        let place = |sink| Place { sink, has_begun: false, written: 0, failed: None, has_warned: false };
        // One process of several logs.
        let targets = if runtime.is_root() { targets } else { &[] };
        let places = targets.iter().map(sink).map(place).collect();
        Self { places, settings, points: Vec::new(), epochs: 0, run, runtime }
    }

    /// Logs the figures of `metrics.json` where the training is finished, and how it ended.
    pub fn end(mut self, ending: Ending) {
        if ending == Ending::Finished
            && let Ok(metrics) = self.run.read_metrics()
        {
            for split in [Split::Train, Split::Val, Split::Test] {
                let figures = metrics.get(split.name()).and_then(Value::as_object).into_iter().flatten();
                let numbers =
                    figures.filter_map(|(name, value)| Some((format!("final_{name}"), value.as_f64()?)));
                let step = self.epochs as i64;
                self.points.extend(numbers.map(|(name, value)| Point { split, name, step, value }));
            }
        }
        // A training that failed before it began is not logged.
        if self.places.iter().all(|place| !place.has_begun) && ending != Ending::Finished {
            return;
        }
        for place in &mut self.places {
            place.failed = None;
        }
        self.write();
        for place in self.places.iter_mut().filter(|place| place.has_begun) {
            match place.sink.end(ending, self.run) {
                Ok(said) => said.iter().for_each(|text| self.runtime.message(text)),
                Err(error) => self.runtime.message(&format!("{}: {error}", place.sink.name())),
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
        for place in &mut self.places {
            if place.failed.is_some_and(|failed| failed.elapsed() < PAUSE) {
                continue;
            }
            let written = match place.has_begun {
                true => Ok(()),
                false => place.sink.begin(&self.settings, self.epochs),
            };
            place.has_begun |= written.is_ok();
            let written = written.and_then(|()| place.sink.write(&self.points[place.written..]));
            match written {
                Ok(()) => (place.written, place.failed) = (self.points.len(), None),
                Err(error) => {
                    place.failed = Some(Instant::now());
                    if !std::mem::replace(&mut place.has_warned, true) {
                        let name = place.sink.name();
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
