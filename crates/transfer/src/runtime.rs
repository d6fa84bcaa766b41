//! Where work runs, how it reports progress, and how it is asked to stop.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use candle_core::Device;
use firstsight_data::CacheFolder;
use firstsight_train::callbacks::Callback;
use firstsight_train::{
    Alone, BatchEnd, Communicator, Epoch, EpochEnd, History, StopReason, TrainBegin, TrainEnd, gather,
};

use crate::{Error, HubProgress, Smaller};

/// A report of long work to whoever shows it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Some of a task's items are finished.
    Count {
        /// The task, such as `training images`.
        task: &'a str,
        /// Items finished.
        done: usize,
        /// Items in all.
        total: usize,
    },
    /// All of a task's items are finished.
    Counted {
        /// The task.
        task: &'a str,
        /// Items in all.
        total: usize,
        /// Seconds that the task took.
        seconds: f64,
    },
    /// Bytes of a download have arrived.
    Download(HubProgress<'a>),
    /// Bytes of an upload are on their way.
    Upload(HubProgress<'a>),
    /// A training begins.
    TrainBegin {
        /// The training.
        task: &'a str,
        /// Maximum number of epochs.
        epochs: usize,
        /// Epochs finished before, when a training is resumed.
        resumed: usize,
    },
    /// A batch of a training is finished.
    BatchEnd {
        /// The training.
        task: &'a str,
        /// The epoch, from 1.
        epoch: usize,
        /// Maximum number of epochs.
        epochs: usize,
        /// Batches of this epoch that are finished.
        batch: usize,
        /// Batches of an epoch.
        n_batches: usize,
        /// Mean loss of this epoch's batches so far.
        loss: f64,
    },
    /// An epoch of a training is finished.
    EpochEnd {
        /// The training.
        task: &'a str,
        /// The epoch, from 1.
        epoch: usize,
        /// Maximum number of epochs.
        epochs: usize,
        /// Loss and metrics of the epoch.
        result: &'a Epoch,
        /// Seconds that the epoch took.
        seconds: f64,
    },
    /// A training is over.
    TrainEnd {
        /// The training.
        task: &'a str,
        /// Its epochs, and why it ended.
        history: &'a History,
    },
    /// A sentence for the user.
    Message(&'a str),
}

/// The function that receives a task's (done, total).
pub type Count<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Where work runs, how it reports progress, and how it is asked to stop.
#[derive(Clone)]
pub struct Runtime {
    /// The device of networks and batches.
    pub device: Device,
    /// The device's name, for reports.
    pub device_name: String,
    /// Where decoded images and features are kept for later runs.
    pub cache: Option<CacheFolder>,
    available: Option<Arc<dyn Fn() -> Option<u64> + Send + Sync>>,
    /// The request to stop.
    pub interrupt: InterruptFlag,
    /// The processes that work together.
    pub communicator: Arc<dyn Communicator>,
    progress: Arc<dyn Fn(&Event<'_>) + Send + Sync>,
}

impl Runtime {
    /// A device without a cache, silent and uninterrupted.
    pub fn new(device: Device) -> Self {
        let device_name = match device {
            Device::Cpu => "CPU",
            Device::Cuda(_) => "CUDA",
            Device::Metal(_) => "Metal",
        };
        let device_name = device_name.to_owned();
        Self {
            device,
            device_name,
            cache: None,
            available: None,
            interrupt: InterruptFlag::default(),
            communicator: Arc::new(Alone),
            progress: Arc::new(|_| ()),
        }
    }

    /// Names the device in reports.
    #[must_use]
    pub fn device_name(mut self, name: impl Into<String>) -> Self {
        self.device_name = name.into();
        self
    }

    /// Keeps decoded images and features in a folder, without a limit. A cache with a limit is a [`CacheFolder`].
    #[must_use]
    pub fn cache(self, folder: impl Into<PathBuf>) -> Self {
        self.cache_folder(CacheFolder::new(folder))
    }

    /// Keeps decoded images and features in a cache.
    #[must_use]
    pub fn cache_folder(mut self, cache: CacheFolder) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Refuses work that needs more memory than `available` returns, in bytes, where it returns something. Without it,
    /// only what the system refuses is refused.
    #[must_use]
    pub fn available_memory(mut self, available: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        self.available = Some(Arc::new(available));
        self
    }

    /// The bytes of memory that are available, where that is known.
    pub fn available(&self) -> Option<u64> {
        self.available.as_ref().and_then(|available| available())
    }

    /// Checks that memory holds `needed` bytes more for `what`.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`], which names what would need less.
    pub fn check_memory(&self, what: &str, needed: u64, smaller: Smaller) -> Result<(), Error> {
        match self.available() {
            Some(available) if needed > available => {
                Err(Error::Memory { what: what.to_owned(), needed, available, smaller })
            }
            _ => Ok(()),
        }
    }

    /// Reports progress to a function.
    #[must_use]
    pub fn progress(mut self, progress: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.progress = Arc::new(progress);
        self
    }

    /// Stops when the flag is raised.
    #[must_use]
    pub fn interrupt(mut self, flag: InterruptFlag) -> Self {
        self.interrupt = flag;
        self
    }

    /// Shares out trainings, evaluations, features and predictions among processes, which all do the same calls. By default one
    /// process works alone.
    #[must_use]
    pub fn communicator(mut self, communicator: Arc<dyn Communicator>) -> Self {
        self.communicator = communicator;
        self
    }

    /// Whether this is the first of the processes: the one that writes run folders.
    pub fn is_root(&self) -> bool {
        self.communicator.rank() == 0
    }

    /// The result, or an error where any of the processes has failed.
    pub(crate) fn agree<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        let (found, own) = match result {
            Ok(found) => (Some(found), Ok(Vec::new())),
            Err(error) => (None, Err(error)),
        };
        gather(&*self.communicator, own)?;
        found.ok_or_else(|| firstsight_train::Error::Communication("a failure got lost".to_owned()).into())
    }

    /// Reports an event.
    pub fn report(&self, event: &Event<'_>) {
        (self.progress)(event);
    }

    /// Reports a sentence.
    pub fn message(&self, text: &str) {
        self.report(&Event::Message(text));
    }

    /// Runs `work`, which is given a function for (done, total), and reports how far it is and how long it took.
    pub fn counted<T, E>(&self, task: &str, work: impl FnOnce(Count<'_>) -> Result<T, E>) -> Result<T, E> {
        let started = Instant::now();
        let all = AtomicUsize::new(0);
        let result = work(&|done, total| {
            all.store(total, Ordering::Relaxed);
            self.report(&Event::Count { task, done, total });
        });
        let total = all.into_inner();
        if result.is_ok() && total > 0 {
            self.report(&Event::Counted { task, total, seconds: started.elapsed().as_secs_f64() });
        }
        result
    }

    /// The callback that reports a training.
    pub fn training(&self, task: &str) -> TrainingProgress<'_> {
        TrainingProgress {
            runtime: self,
            task: task.to_owned(),
            epochs: 0,
            loss_sum: 0.0,
            epoch_started: Instant::now(),
        }
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("device", &self.device)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// A callback that reports a training's batches and epochs.
pub struct TrainingProgress<'a> {
    runtime: &'a Runtime,
    task: String,
    epochs: usize,
    loss_sum: f64,
    epoch_started: Instant,
}

impl Callback for TrainingProgress<'_> {
    fn on_train_begin(
        &mut self,
        begin: &TrainBegin<'_>,
    ) -> firstsight_train::Result<ControlFlow<StopReason>> {
        self.epochs = begin.config.epochs;
        let (task, epochs, resumed) = (&*self.task, self.epochs, begin.history.len());
        self.runtime.report(&Event::TrainBegin { task, epochs, resumed });
        self.epoch_started = Instant::now();
        Ok(ControlFlow::Continue(()))
    }

    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        if end.batch == 0 {
            self.loss_sum = 0.0;
        }
        self.loss_sum += end.loss;
        self.runtime.report(&Event::BatchEnd {
            task: &self.task,
            epoch: end.epoch + 1,
            epochs: self.epochs,
            batch: end.batch + 1,
            n_batches: end.n_batches,
            loss: self.loss_sum / (end.batch + 1) as f64,
        });
        Ok(ControlFlow::Continue(()))
    }

    fn on_epoch_end(&mut self, end: &EpochEnd<'_>) -> firstsight_train::Result<ControlFlow<StopReason>> {
        if let Some(result) = end.history.last() {
            self.runtime.report(&Event::EpochEnd {
                task: &self.task,
                epoch: end.history.len(),
                epochs: self.epochs,
                result,
                seconds: self.epoch_started.elapsed().as_secs_f64(),
            });
        }
        self.epoch_started = Instant::now();
        Ok(ControlFlow::Continue(()))
    }

    fn on_train_end(&mut self, end: &TrainEnd<'_>) -> firstsight_train::Result<()> {
        self.runtime.report(&Event::TrainEnd { task: &self.task, history: end.history });
        Ok(())
    }
}

/// A request to stop, which a training heeds after its batch.
#[derive(Debug, Clone, Default)]
pub struct InterruptFlag {
    raised: Arc<AtomicBool>,
    heeded: Arc<AtomicUsize>,
}

impl InterruptFlag {
    /// Asks the work to stop. Returns whether any work heeds the request at present: if not, the process may end at
    /// once.
    pub fn raise(&self) -> bool {
        self.raised.store(true, Ordering::Relaxed);
        self.heeded.load(Ordering::Relaxed) > 0
    }

    /// Whether the work has been asked to stop.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// Runs work that watches the flag and stops gracefully.
    pub fn with_graceful_interrupt<T>(&self, work: impl FnOnce(Arc<AtomicBool>) -> T) -> T {
        self.heeded.fetch_add(1, Ordering::Relaxed);
        let result = work(self.raised.clone());
        self.heeded.fetch_sub(1, Ordering::Relaxed);
        result
    }
}

/// Work that was interrupted, and what is left of it.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; {0}")]
pub struct Interrupted(pub String);

#[cfg(test)]
mod tests {
    use super::InterruptFlag;

    #[test]
    fn a_request_to_stop_is_seen_and_heeded_where_work_watches_it() {
        let flag = InterruptFlag::default();
        assert!(!flag.is_raised() && !flag.raise() && flag.is_raised());
        assert!(flag.with_graceful_interrupt(|_| flag.raise()));
    }
}
