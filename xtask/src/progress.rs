//! Progress: a bar on a terminal, plain lines elsewhere, always on standard error.

use std::io::IsTerminal as _;
use std::time::Instant;

use firstsight_train::callbacks::Callback;
use firstsight_train::{BatchEnd, Ended, Epoch, EpochEnd, Flow, History, TrainBegin};
use firstsight_transfer::HubProgress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::training::MONITOR;

const BAR: &str = "{prefix} {wide_bar} {pos}/{len} {msg}";
const BYTES_BAR: &str = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";

/// Runs `work`, which reports (done, total), under a bar called `what`; says how long it took.
pub(crate) fn counted<T, E>(
    what: &str,
    work: impl FnOnce(&(dyn Fn(usize, usize) + Sync)) -> Result<T, E>,
) -> Result<T, E> {
    let bar = bar(what);
    let started = Instant::now();
    let result = work(&|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    if result.is_ok() && bar.length().is_some_and(|n| n > 0) {
        eprintln!("{what}: {} in {:.1} s", bar.length().unwrap_or(0), started.elapsed().as_secs_f64());
    }
    result
}

/// Runs `work`, which reports (done, total) to one place only, under a bar called `what`; says how long it took.
pub(crate) fn stepped<T, E>(
    what: &str,
    work: impl FnOnce(&mut dyn FnMut(usize, usize)) -> Result<T, E>,
) -> Result<T, E> {
    counted(what, |report| work(&mut |done, total| report(done, total)))
}

/// Shows a training: a bar of batches in each epoch, a line after it.
pub(crate) struct TrainingProgress {
    what: String,
    bar: ProgressBar,
    epochs: usize,
    epoch_started: Instant,
    loss_sum: f64,
}

impl TrainingProgress {
    pub(crate) fn new(what: &str) -> Self {
        Self {
            what: what.to_owned(),
            bar: bar(what),
            epochs: 0,
            epoch_started: Instant::now(),
            loss_sum: 0.0,
        }
    }
}

impl Callback for TrainingProgress {
    fn on_train_begin(&mut self, begin: &TrainBegin<'_>) -> firstsight_train::Result<Flow> {
        self.epochs = begin.config.epochs;
        if !begin.history.is_empty() {
            eprintln!("{}: going on after epoch {}", self.what, begin.history.len());
        }
        self.epoch_started = Instant::now();
        Ok(Flow::Continue)
    }

    fn on_batch_end(&mut self, end: &BatchEnd) -> firstsight_train::Result<Flow> {
        if end.batch == 0 {
            self.loss_sum = 0.0;
            self.bar.set_prefix(format!("{} epoch {}/{}", self.what, end.epoch + 1, self.epochs));
            self.bar.set_length(end.n_batches as u64);
        }
        self.loss_sum += end.loss;
        self.bar.set_position(end.batch as u64 + 1);
        self.bar.set_message(format!("loss {:.4}", self.loss_sum / (end.batch + 1) as f64));
        Ok(Flow::Continue)
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> firstsight_train::Result<Flow> {
        if let Some(epoch) = end.history.last() {
            let seconds = self.epoch_started.elapsed().as_secs_f64();
            let line = format!(
                "{} epoch {}/{}: {} ({seconds:.1} s)",
                self.what,
                end.history.len(),
                self.epochs,
                figures(epoch)
            );
            self.bar.suspend(|| eprintln!("{line}"));
        }
        self.epoch_started = Instant::now();
        Ok(Flow::Continue)
    }

    fn on_train_end(&mut self, history: &History) -> firstsight_train::Result<()> {
        self.bar.finish_and_clear();
        let n = history.epochs.len();
        match history.ended {
            Ended::AllEpochs => {}
            Ended::EarlyStopped => eprintln!("{}: stopped after epoch {n}, no longer improving", self.what),
            Ended::Interrupted => eprintln!("{}: interrupted after epoch {n}", self.what),
        }
        Ok(())
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
        let trials = bars.add(ProgressBar::new(total as u64).with_style(style()).with_prefix("trials"));
        trials.set_position(done as u64);
        Self { bars, trials }
    }

    /// The bar of a trial's training.
    pub(crate) fn trial(&self, number: usize) -> TrialProgress {
        let bar = ProgressBar::new(0).with_style(style()).with_prefix(format!("trial {number}"));
        TrialProgress {
            what: format!("trial {number}"),
            bar: self.bars.insert_before(&self.trials, bar),
            epochs: 0,
        }
    }

    /// Says how a trial went, and what the best one has reached.
    pub(crate) fn finished(&self, line: &str, best: Option<f64>) {
        self.bars.suspend(|| eprintln!("{line}"));
        self.trials.inc(1);
        if let Some(best) = best {
            self.trials.set_message(format!("best {best:.4}"));
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
}

impl Callback for TrialProgress {
    fn on_train_begin(&mut self, begin: &TrainBegin<'_>) -> firstsight_train::Result<Flow> {
        self.epochs = begin.config.epochs;
        Ok(Flow::Continue)
    }

    fn on_batch_end(&mut self, end: &BatchEnd) -> firstsight_train::Result<Flow> {
        if end.batch == 0 {
            self.bar.set_prefix(format!("{} epoch {}/{}", self.what, end.epoch + 1, self.epochs));
            self.bar.set_length(end.n_batches as u64);
        }
        self.bar.set_position(end.batch as u64 + 1);
        Ok(Flow::Continue)
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> firstsight_train::Result<Flow> {
        if let Some(epoch) = end.history.last() {
            self.bar.set_message(format!("validation accuracy {:.4}", MONITOR.value(epoch)));
        }
        Ok(Flow::Continue)
    }
}

impl Drop for TrialProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn figures(epoch: &Epoch) -> String {
    let side = |prefix: &str, m: &firstsight_train::Metrics| {
        let values: String = m.values.iter().map(|(k, v)| format!(", {prefix}{} {v:.4}", k.name())).collect();
        format!("{prefix}loss {:.4}{values}", m.loss)
    };
    format!("{}, {}", side("", &epoch.train), side("val_", &epoch.val))
}

fn bar(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::new(0).with_style(style()).with_prefix(what.to_owned())
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Runs `work`, which fetches files, under a bar of bytes; says what was fetched.
pub(crate) fn bytes<T, E>(
    work: impl FnOnce(&mut dyn FnMut(HubProgress<'_>)) -> Result<T, E>,
) -> Result<T, E> {
    let bar = bar("");
    let style = ProgressStyle::with_template(BYTES_BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    let mut file = String::new();
    let result = work(&mut |progress| {
        if file != progress.file {
            progress.file.clone_into(&mut file);
            eprintln!("fetching {file}");
            bar.set_prefix(file.clone());
        }
        bar.set_length(progress.total.unwrap_or(progress.received));
        bar.set_position(progress.received);
    });
    bar.finish_and_clear();
    result
}
