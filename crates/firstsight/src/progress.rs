//! Progress: a bar on a terminal, plain lines elsewhere, always on standard error.

use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use firstsight_train::callbacks::Callback;
use firstsight_train::{BatchEnd, Epoch, EpochEnd, Monitor, StopReason, TrainBegin};
use firstsight_transfer::{Event, HubProgress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

const BAR: &str = "{prefix} {wide_bar} {pos}/{len} {msg}";
const BYTES_BAR: &str = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";

/// Shows the events of work: one bar at a time, and a line for what is finished.
#[derive(Default)]
pub(crate) struct Terminal(Mutex<Shown>);

#[derive(Default)]
struct Shown {
    /// The task or file that the bar is about.
    task: String,
    bar: Option<ProgressBar>,
}

impl Terminal {
    pub(crate) fn show(&self, event: &Event<'_>) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *event {
            Event::Count { task, done, total } => shown.bar(task, BAR).at(done, total),
            Event::Counted { task, total, seconds } => {
                shown.clear();
                log!("{task}: {total} in {seconds:.1} s");
            }
            Event::Download(HubProgress { file, received, total })
            | Event::Upload(HubProgress { file, received, total }) => {
                if shown.task != file {
                    let verb = if matches!(event, Event::Upload(_)) { "sending" } else { "fetching" };
                    log!("{verb} {file}");
                }
                shown.bar(file, BYTES_BAR).at(received as usize, total.unwrap_or(received) as usize);
            }
            Event::TrainBegin { task, resumed, .. } => {
                shown.clear();
                if resumed > 0 {
                    log!("{task}: resuming after epoch {resumed}");
                }
            }
            Event::BatchEnd { task, epoch, epochs, batch, n_batches, loss } => {
                let bar = shown.bar(task, BAR);
                bar.set_prefix(format!("{task} epoch {epoch}/{epochs}"));
                bar.set_message(format!("loss {loss:.4}"));
                bar.at(batch, n_batches);
            }
            Event::EpochEnd { task, epoch, epochs, result, seconds } => {
                shown.say(&format!("{task} epoch {epoch}/{epochs}: {} ({seconds:.1} s)", figures(result)));
            }
            Event::TrainEnd { task, history } => {
                shown.clear();
                let n = history.epochs.len();
                match &history.stopped {
                    None => {}
                    Some(StopReason::Callback(reason)) => {
                        log!("{task}: stopped after epoch {n}: {reason}");
                    }
                    Some(StopReason::Interrupted) => log!("{task}: interrupted after epoch {n}"),
                }
            }
            Event::Message(text) => shown.say(text),
            _ => {}
        }
    }
}

impl Shown {
    /// The bar of a task, in place of another's.
    fn bar(&mut self, task: &str, template: &str) -> &ProgressBar {
        if self.task != task {
            self.clear();
            task.clone_into(&mut self.task);
        }
        self.bar.get_or_insert_with(|| bar(task, template))
    }

    /// Prints a line above the bar.
    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| log!("{line}")),
            None => log!("{line}"),
        }
    }

    fn clear(&mut self) {
        self.task.clear();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

trait At {
    fn at(&self, done: usize, total: usize);
}

impl At for ProgressBar {
    fn at(&self, done: usize, total: usize) {
        self.set_length(total as u64);
        self.set_position(done as u64);
    }
}

/// Shows a search: a bar of trials, above it one for each trial that runs, and a line for each that is over.
pub(crate) struct SearchProgress {
    bars: MultiProgress,
    trials: ProgressBar,
}

impl SearchProgress {
    /// `done` of `total` trials are over already.
    pub(crate) fn new(done: usize, total: usize) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bars = MultiProgress::with_draw_target(target);
        let trials = bars.add(ProgressBar::new(total as u64).with_style(style(BAR)).with_prefix("trials"));
        trials.set_position(done as u64);
        Self { bars, trials }
    }

    /// The bar of a trial's training.
    pub(crate) fn trial(&self, number: usize, monitor: Monitor) -> TrialProgress {
        let bar = ProgressBar::new(0).with_style(style(BAR)).with_prefix(format!("trial {number}"));
        TrialProgress {
            what: format!("trial {number}"),
            bar: self.bars.insert_before(&self.trials, bar),
            epochs: 0,
            monitor,
        }
    }

    /// Says how a trial went, how many of the study are over, and what the best ones have reached.
    pub(crate) fn finished(&self, line: &str, done: usize, best: Option<String>) {
        self.bars.suspend(|| log!("{line}"));
        self.trials.set_position(done as u64);
        if let Some(best) = best {
            self.trials.set_message(best);
        }
    }
}

impl Drop for SearchProgress {
    fn drop(&mut self) {
        self.trials.finish_and_clear();
    }
}

/// The bar of one of several trainings at a time: its batches, epoch after epoch.
pub(crate) struct TrialProgress {
    what: String,
    bar: ProgressBar,
    epochs: usize,
    monitor: Monitor,
}

impl Callback for TrialProgress {
    fn on_train_begin(
        &mut self,
        begin: &TrainBegin<'_>,
    ) -> firstsight_train::Result<ControlFlow<StopReason>> {
        self.epochs = begin.config.epochs;
        Ok(ControlFlow::Continue(()))
    }

    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        if end.batch == 0 {
            self.bar.set_prefix(format!("{} epoch {}/{}", self.what, end.epoch + 1, self.epochs));
            self.bar.set_length(end.n_batches as u64);
        }
        self.bar.set_position(end.batch as u64 + 1);
        Ok(ControlFlow::Continue(()))
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        if let Some(epoch) = end.history.last() {
            self.bar.set_message(format!("{} {:.4}", self.monitor.name(), self.monitor.value(epoch)));
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Drop for TrialProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn figures(epoch: &Epoch) -> String {
    let side = |prefix: &str, m: &firstsight_train::Metrics| {
        let values: String = m.values.iter().map(|(k, v)| format!(", {prefix}{k} {v:.4}")).collect();
        format!("{prefix}loss {:.4}{values}", m.loss)
    };
    let val = epoch.val.as_ref().map(|val| format!(", {}", side("val_", val)));
    format!("{}{}", side("", &epoch.train), val.unwrap_or_default())
}

fn bar(what: &str, template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::new(0).with_style(style(template)).with_prefix(what.to_owned())
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
