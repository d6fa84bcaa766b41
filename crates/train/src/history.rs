//! The course of a training, and how to compare epochs.

use std::sync::Arc;

use crate::{Metric, Metrics};

/// The course of a training.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// The finished epochs, in order.
    pub epochs: Vec<Epoch>,
    /// Why the training stopped before its last epoch; `None` if it ran for all of them.
    pub stopped: Option<StopReason>,
}

impl History {
    /// Whether the user interrupted the training.
    pub fn interrupted(&self) -> bool {
        self.stopped == Some(StopReason::Interrupted)
    }
}

/// The figures of a finished epoch.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Epoch {
    /// Means over the epoch's training batches, each measured before its step.
    pub train: Metrics,
    /// Figures on the validation data after the epoch; `None` without validation data.
    pub val: Option<Metrics>,
}

/// Why a training stopped before its last epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// A callback ended it; its reason, such as "no better val_accuracy in 15 epochs".
    Callback(String),
    /// The user interrupted it. The unfinished epoch is not in the history.
    Interrupted,
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Callback(reason) => f.write_str(reason),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// The figure that tells better epochs from worse ones.
#[derive(Debug, Clone)]
pub struct Monitor {
    split: Split,
    metric: Option<Arc<dyn Metric>>,
}

#[derive(Debug, Clone, Copy)]
enum Split {
    Train,
    Val,
}

impl Monitor {
    /// The validation loss; lower is better.
    pub fn val_loss() -> Self {
        Self { split: Split::Val, metric: None }
    }

    /// A metric on the validation data, better in the [direction](Metric::maximize) of the metric.
    pub fn val(metric: impl Metric + 'static) -> Self {
        Self { split: Split::Val, metric: Some(Arc::new(metric)) }
    }

    /// The training loss; lower is better.
    pub fn train_loss() -> Self {
        Self { split: Split::Train, metric: None }
    }

    /// A metric on the training data, better in the [direction](Metric::maximize) of the metric.
    pub fn train(metric: impl Metric + 'static) -> Self {
        Self { split: Split::Train, metric: Some(Arc::new(metric)) }
    }

    /// The figure's name, as in the header of a history file: `val_accuracy`, `loss`.
    pub fn name(&self) -> String {
        let prefix = match self.split {
            Split::Train => "",
            Split::Val => "val_",
        };
        format!("{prefix}{}", self.metric.as_ref().map_or_else(|| "loss".to_owned(), |metric| metric.name()))
    }

    /// The figure's value in `epoch`. NaN, which is never better, where the epoch does not have it.
    pub fn value(&self, epoch: &Epoch) -> f64 {
        let metrics = match self.split {
            Split::Train => Some(&epoch.train),
            Split::Val => epoch.val.as_ref(),
        };
        let value = metrics.and_then(|metrics| match &self.metric {
            None => Some(metrics.loss),
            Some(metric) => metrics.get(metric),
        });
        value.unwrap_or(f64::NAN)
    }

    /// Whether higher values are better.
    pub fn maximize(&self) -> bool {
        self.metric.as_ref().is_some_and(|metric| metric.maximize())
    }

    /// Whether `value` is strictly better than another. NaN never is.
    pub fn better(&self, value: f64, than: f64) -> bool {
        if self.maximize() { value > than } else { value < than }
    }

    /// The index of the best epoch: strictly better than all before it.
    pub fn best(&self, epochs: &[Epoch]) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (i, epoch) in epochs.iter().enumerate() {
            let value = self.value(epoch);
            if !value.is_nan() && best.is_none_or(|(_, than)| self.better(value, than)) {
                best = Some((i, value));
            }
        }
        best.map(|(i, _)| i)
    }
}
