//! The settings of a training.

use std::sync::Arc;

use crate::{Alone, Communicator, Loss, Metric, OptimizerConfig, Schedule};

/// The settings of a training: what an experiment chooses in [`FitConfig::new`], all else by further methods.
///
/// ```
/// use firstsight_train::{Accuracy, CrossEntropy, FitConfig, OptimizerConfig, Schedule};
///
/// let config = FitConfig::new(20, CrossEntropy, OptimizerConfig::adamw(1e-3, 0.05))
///     .metric(Accuracy)
///     .schedule(Schedule::WarmupCosine { warmup: 0.1, floor: 0.0 })
///     .clip_norm(1.0);
/// assert_eq!(config.epochs, 20);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FitConfig {
    /// Maximum number of epochs, those before a resumption included.
    pub epochs: usize,
    /// Loss to minimize.
    pub loss: Arc<dyn Loss>,
    /// Metrics to report next to the loss.
    pub metrics: Vec<Arc<dyn Metric>>,
    /// Optimizer and learning rate.
    pub optimizer: OptimizerConfig,
    /// Learning rate schedule over all epochs.
    pub schedule: Schedule,
    /// Largest norm of all gradients together; longer ones are scaled down to it.
    pub clip_norm: Option<f64>,
    /// Number of batches whose gradients are averaged for one optimizer step.
    pub accumulation_steps: usize,
    /// Number of shards that each batch is cut into.
    pub shards: usize,
    /// The processes that share out the shards.
    pub communicator: Arc<dyn Communicator>,
}

impl FitConfig {
    /// Trains for at most `epochs` epochs: without metrics, at a constant learning rate, without clipping, one step per
    /// batch.
    pub fn new(epochs: usize, loss: impl Loss + 'static, optimizer: OptimizerConfig) -> Self {
        Self {
            epochs,
            loss: Arc::new(loss),
            metrics: Vec::new(),
            optimizer,
            schedule: Schedule::Constant,
            clip_norm: None,
            accumulation_steps: 1,
            shards: 1,
            communicator: Arc::new(Alone),
        }
    }

    /// Adds a metric.
    pub fn metric(mut self, metric: impl Metric + 'static) -> Self {
        self.metrics.push(Arc::new(metric));
        self
    }

    /// Sets the learning rate schedule.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Sets the norm that the gradients of a step are scaled down to: a number, or `None` for no clipping.
    pub fn clip_norm(mut self, norm: impl Into<Option<f64>>) -> Self {
        self.clip_norm = norm.into();
        self
    }

    /// Averages the gradients of `steps` batches for each optimizer step by what they [weigh](Loss::weight): the
    /// step that one batch of all these examples would give, up to rounding. The last step of an epoch may average
    /// fewer. Batch norm still sees each batch by itself.
    pub fn accumulation_steps(mut self, steps: usize) -> Self {
        self.accumulation_steps = steps;
        self
    }

    /// Cuts each batch into `shards`, a power of two, which the processes of [`communicator`](Self::communicator) share out. Each
    /// shard goes forward and backward by itself, and their gradients are added up in one order. So the bytes depend on the
    /// number of shards, but not on that of processes. A shard counts by its examples: the step is that of the whole batch up to
    /// rounding, for a loss that is a mean over examples.
    ///
    /// Batch norm sees each shard by itself. Its running statistics are what they would be after each of the shards, averaged by
    /// their examples.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Shares out shards and validation batches among processes, of which each calls [`fit`](crate::fit) with the same arguments.
    /// By default one process trains alone.
    pub fn communicator(mut self, communicator: Arc<dyn Communicator>) -> Self {
        self.communicator = communicator;
        self
    }
}
